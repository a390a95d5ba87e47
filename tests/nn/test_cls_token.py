"""A network without ``<cls>``: a sentence of ``<eos>`` and bins, or of bins alone."""

from __future__ import annotations

import pytest
import torch

from ._networks import embed, network, packed, sentences

LENGTHS = (20, 3, 0, 12)


@pytest.fixture(params=["bilinear", "cross_attention"])
def module(request):
    return network(request.param, cls_token=False, n_labels=3)


def test_the_sentence_has_no_cls_and_the_cell_is_the_pool(module):
    batch = packed(sentences(LENGTHS))
    pooled = module.embedding.pool(batch["bins"], batch["cu_seqlens"])
    x, boundaries = module.embedding.sentences(pooled, batch["tokens"], batch["token_cu_seqlens"])
    special = 3 if module.cross is None else 0
    assert (boundaries[1:] - boundaries[:-1]).tolist() == [n + special for n in LENGTHS]
    cells = module.encode(batch)
    assert cells.cls is None
    assert cells.eos.shape == (4, 3, 16)
    assert torch.equal(cells.z, pooled)
    assert torch.equal(module.embed(batch), pooled)
    assert module.heads["labels"](module.head_inputs(cells)).shape == (4, 3)


def test_order_and_company_do_not_matter(module):
    cells = sentences(LENGTHS)
    expected = embed(module, packed(cells))
    alone = [embed(module, packed([c.flip(0)])) for c in cells]  # one of them has no token at all
    for found, e in zip(zip(*alone, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.cat(found), e, atol=1e-5, rtol=1e-5)
    assert expected[1].std() > 0.01


def test_every_chromosome_has_an_eos_of_its_own(module):
    eos = module.encode(packed(sentences(LENGTHS))).eos
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (eos[:, a] - eos[:, b]).abs().max() > 0.01
