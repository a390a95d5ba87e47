"""Several ``<eos>`` may read a bin: its logits are the mean of theirs, and it counts once."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import NetworkConfig, ScAtacNetwork, state_logits
from scatacformer.nn.scatac.losses import kept_loss, sampled_open_loss

from ._networks import CHROM, N_BINS, N_CHROMS, network, packed, sentences

LENGTHS = (20, 3, 33, 7)
N_CELLS = len(LENGTHS)
N_CLASSES = 4
# groups of bins: in one class, in two, in three of four
MEMBERS = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]])
READERS = MEMBERS / MEMBERS.sum(1, keepdim=True)
GROUP = (torch.arange(N_BINS) * 7) % len(MEMBERS)  # the order of the bins is not that of the groups
OPTIONS = [
    {"decoder": "bilinear"},
    {"decoder": "mlp"},
    {"decoder": "cross_attention"},
    {"decoder": "mlp", "embedding": "full", "decoder_input": "full"},
    {"decoder": "bilinear", "cls_token": False, "decoder_input": "full"},
]


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return request.param


@pytest.fixture
def batch():
    """Cells, with every third open bin removed and some bins sampled, one of them twice."""
    out = packed(sentences(LENGTHS), batch=[0, 1, 1, 0])
    cell = torch.repeat_interleave(torch.arange(N_CELLS), torch.tensor(LENGTHS))
    opened = torch.zeros(N_CELLS, N_BINS, dtype=torch.bool)
    opened[cell, out["bins"]] = True
    out |= {"target_bins": out["bins"][::3], "target_cell": cell[::3], "log_rate": torch.linspace(-2, -0.5, N_CELLS)}
    out |= {"open_cell": cell, "open_bins": out["bins"]}
    out |= {"state_bins": out["bins"], "state_cell": cell, "state_kept": torch.arange(len(cell)) % 3 > 0}
    return out, opened


def sampled(batch, opened, group):
    bins = torch.tensor([3, 3, *range(5, 90, 2)])
    bins = bins[torch.argsort(group[bins], stable=True)]
    return batch | {"sampled": bins, "closed": ~opened[:, bins]}


def by_hand(module, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """``open`` and ``kept`` logits (n_cells, n_bins): of each class alone at all bins, then the mean over a bin's own."""
    single = {name: value for name, value in module.state_dict().items() if name not in ("group", "decoder.readers")}
    bins = torch.arange(N_BINS)
    logits = []
    for c in range(N_CLASSES):
        one = ScAtacNetwork(module.config, torch.full((N_BINS,), c))  # class c reads every bin
        one.load_state_dict(single)
        context = one.context(one.encode(batch), batch["depth"], batch["batch"])
        rows = one.embedding.decoder_rows(bins)
        block = (one.decoder.block(context, rows, bins, one.group), one.decoder.kept_block(context, rows, one.group))
        logits.append(torch.stack(block))
    means = [torch.stack(logits)[MEMBERS[GROUP[b]].bool(), :, :, b].mean(0) for b in range(N_BINS)]
    return tuple(torch.stack(means, -1).detach())


def test_a_bins_logits_are_the_mean_over_its_classes(options, batch):
    batch, _ = batch
    module = network(group=GROUP, readers=READERS, **options)
    opened, kept = by_hand(module, batch)
    context = module.context(module.encode(batch), batch["depth"], batch["batch"])
    cell, bins = torch.arange(N_CELLS).repeat_interleave(N_BINS), torch.arange(N_BINS).repeat(N_CELLS)
    rows = module.embedding.decoder_rows(bins)
    close = {"atol": 2e-5, "rtol": 1e-5}
    pairs = module.decoder.pairs(context, rows, bins, cell, GROUP[bins])
    torch.testing.assert_close(pairs.view(N_CELLS, -1), opened, **close)
    pairs = module.decoder.kept_pairs(context, rows, cell, GROUP[bins])
    torch.testing.assert_close(pairs.view(N_CELLS, -1), kept, **close)
    some = torch.tensor([70, 3, 3, 119, 0, 41])
    torch.testing.assert_close(module.accessibility(context, some), torch.sigmoid(opened[:, some]), **close)
    states = torch.softmax(state_logits(opened, kept), -1)
    torch.testing.assert_close(module.states(context, some), states[:, some], **close)
    # it matters who reads
    other = network(group=GROUP.roll(1), readers=READERS, **options)
    context = other.context(other.encode(batch), batch["depth"], batch["batch"])
    assert (other.accessibility(context, some) - torch.sigmoid(opened[:, some])).abs().max() > 1e-3


def test_the_loss_counts_a_bin_once_however_many_classes_it_is_in(options, batch):
    batch, is_open = batch
    module = network(group=GROUP, readers=READERS, **options)
    opened, kept = by_hand(module, batch)
    cell, target = batch["target_cell"], batch["target_bins"]
    drawn = sampled(batch, is_open, GROUP)
    log_g = module.log_frequency + torch.log(torch.tensor(float(len(drawn["sampled"]))))
    expected = sampled_open_loss(
        opened[cell, target], batch["log_rate"][cell] - log_g[target],
        opened[:, drawn["sampled"]], batch["log_rate"][:, None] - log_g[drawn["sampled"]], drawn["closed"],
    )  # fmt: skip
    found = module.loss(drawn)
    torch.testing.assert_close(found["open"], expected, atol=1e-5, rtol=1e-5)
    expected = kept_loss(kept[batch["state_cell"], batch["state_bins"]], batch["state_kept"])
    torch.testing.assert_close(found["kept"], expected, atol=1e-5, rtol=1e-5)
    # and over all closed bins
    weight = torch.exp(-batch["log_rate"])[cell]
    closed = torch.nn.functional.softplus(opened)[~is_open].sum()
    expected = (torch.nn.functional.softplus(-opened[cell, target]) @ weight + closed) / weight.sum()
    torch.testing.assert_close(module.loss(batch)["open"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decoder_only", [False, True])
def test_with_a_class_for_each_chromosome_nothing_changes_to_the_bit(options, batch, decoder_only):
    batch, is_open = batch
    for inputs in (batch, sampled(batch, is_open, CHROM)):
        results = []
        for readers in (None, torch.eye(N_CHROMS)):
            module = network(readers=readers, **options)
            loss = module.loss(inputs, decoder_only=decoder_only)
            loss["loss"].backward()
            grads = {k: p.grad for k, p in module.named_parameters() if p.grad is not None}
            results.append((loss, {k: g.to_dense() if g.is_sparse else g for k, g in grads.items()}))
        (loss, grads), (of_classes, grads_of_classes) = results
        assert loss.keys() == of_classes.keys()
        assert all(torch.equal(loss[name], of_classes[name]) for name in loss)
        assert grads.keys() == grads_of_classes.keys()
        for name in grads:
            assert torch.equal(grads[name], grads_of_classes[name]), name
        assert sum(g.abs().sum() for g in grads.values()) > 0.1


def test_an_eos_has_its_share_of_the_gradient():
    module, batch = network("mlp", group=GROUP, readers=READERS), packed(sentences(LENGTHS))
    cells = module.encode(batch)
    eos = cells.eos.detach().requires_grad_()
    context = module.context(cells._replace(eos=eos), batch["depth"], batch["batch"])
    bins = torch.nonzero(GROUP == 2).squeeze(1)  # in classes 0, 2 and 3
    rows = module.embedding.decoder_rows(bins)
    module.decoder.block(context, rows, bins, GROUP[bins]).sum().backward()
    assert not eos.grad[:, 1].any()
    assert (eos.grad[:, [0, 2, 3]].abs().amax((0, 2)) > 0).all()


def test_half_precision_is_taken(options, batch):
    batch, is_open = batch
    module = network(group=GROUP, readers=READERS, **options)
    drawn = sampled(batch, is_open, GROUP)
    with torch.autocast("cpu", torch.bfloat16):
        found = module.loss(drawn)["loss"]
    found.backward()
    torch.testing.assert_close(found.float(), module.loss(drawn)["loss"], atol=0.02, rtol=0.02)


def test_who_reads_what_is_saved_where_no_vocabulary_says_it():
    assert {"group", "decoder.readers"} <= network(group=GROUP, readers=READERS).state_dict().keys()
    assert not {"group", "decoder.readers"} & network().state_dict().keys()


@pytest.mark.parametrize(
    ("group", "readers", "message"),
    [
        ([0, 1, 3], None, r"group has values from 0 to 3; expected 0 ... 1"),
        ([0, 1, -1], None, r"group has values from -1 to 1"),
        ([0, 1], None, "group has 2 entries; expected one for each of 3 bins"),
        ([0, 1, 2], torch.eye(2), r"group has values from 0 to 2; expected 0 ... 1"),
        ([0, 1, 1], torch.eye(3), r"readers has shape \(3, 3\); expected \(n_groups, 2\)"),
        ([0, 1, 1], torch.tensor([[1.0, 1.0], [0.0, 1.0]]), "readers has .* rows that do not sum to 1"),
        ([0, 1, 1], torch.tensor([[2.0, -1.0], [0.0, 1.0]]), "readers has negative values"),
    ],
)
def test_bins_that_nobody_reads_are_refused(group, readers, message):
    with pytest.raises(ValueError, match=message):
        ScAtacNetwork(NetworkConfig(3, 2, d_model=8, n_heads=2), torch.tensor(group), readers=readers)
