"""The network does not see order, neighbours in the minibatch or padding; its decoders are what they say."""

from __future__ import annotations

import pytest
import torch

from scatacformer.nn import Context, NetworkConfig, ScAtacNetwork

N_BINS, N_CHROMS = 60, 3


def network(decoder: str = "bilinear", n_batch: int = 2, attention: str = "auto", noise: float = 0.3) -> ScAtacNetwork:
    config = NetworkConfig(
        N_BINS, N_CHROMS, n_batch, d_model=16, n_layers=2, n_heads=2, d_embed=8, d_decoder=8, decoder=decoder,
        attention=attention,
    )  # fmt: skip
    chrom = torch.arange(N_BINS) % N_CHROMS  # not sorted by chromosome
    net = ScAtacNetwork(config, chrom, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # what starts at zero would hide a mistake
        for p in net.parameters():
            p.add_(noise * torch.randn(p.shape, generator=generator))
        net.embedding.pool_weight.uniform_(0.5, 2, generator=generator)
        net.embedding.eigenvalue.uniform_(0.1, 1, generator=generator)
    return net


def read(cells: list[list[int]]) -> dict[str, torch.Tensor]:
    bins = torch.tensor([b for cell in cells for b in cell])
    cu = torch.tensor([0, *map(len, cells)]).cumsum(0).to(torch.int32)
    batch = torch.zeros(len(cells), dtype=torch.int64)
    return {"bins": bins, "cu_seqlens": cu, "tokens": bins, "token_cu_seqlens": cu, "batch": batch}


CELLS = [[3, 1, 59, 20], [7], [0, 2, 4, 6, 8, 10, 12], [30, 31]]


def context_of(net: ScAtacNetwork, cells=CELLS) -> Context:
    depth = torch.tensor([float(len(c)) for c in cells])
    return net.context(net.encode(read(cells)), depth, torch.arange(len(cells)) % 2)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_embedding_ignores_order_and_the_batch_around_a_cell(attention):
    net = network(attention=attention)
    z = net.encode(read(CELLS)).z
    shuffled = net.encode(read([c[::-1] for c in CELLS])).z
    alone = torch.cat([net.encode(read([c])).z for c in CELLS])
    assert z.std() > 0.01
    torch.testing.assert_close(shuffled, z, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, z, atol=1e-5, rtol=0)


@pytest.mark.parametrize("decoder", ["bilinear", "mlp"])
def test_states_are_probabilities_and_accessibility_is_kept_plus_removed(decoder):
    net, bins = network(decoder), torch.tensor([5, 59, 0, 33])
    context = context_of(net)
    states = net.states(context, bins)
    assert states.shape == (4, 4, 3)
    torch.testing.assert_close(states.sum(-1), torch.ones(4, 4))
    torch.testing.assert_close(states[..., 1:].sum(-1), net.accessibility(context, bins), atol=1e-6, rtol=0)
    assert states.std() > 0.01


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b = (ScAtacNetwork(NetworkConfig(5, 1, d_model=8, n_heads=2), torch.zeros(5), seed=4) for _ in range(2))
    c = ScAtacNetwork(NetworkConfig(5, 1, d_model=8, n_heads=2), torch.zeros(5), seed=5)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name])
    assert not torch.equal(a.embedding.table.weight, c.embedding.table.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 10, "n_heads": 4}, "multiple of n_heads"),
        ({"decoder": "linear"}, "decoder is .*; expected one of"),
        ({"removed_share": 0.95}, "removed_share is .*; expected"),
        ({"n_layers": 0}, "n_layers is .*; expected at least 1"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(5, 1, **change)


def test_the_embedding_alone_is_that_of_the_whole_network():
    net, batch = network(), read(CELLS)
    torch.testing.assert_close(net.embed(batch), net.encode(batch).z, atol=0, rtol=0)
    assert (net.embed(batch) - net.encode(batch, decoder_only=True).z).abs().max() > 0.01
    with torch.no_grad():
        net.to_latent.weight.zero_()
    net.encoder.forward = None  # not called: it would add nothing
    torch.testing.assert_close(net.embed(batch), net.encode(batch, decoder_only=True).z, atol=0, rtol=0)


def test_a_batch_is_brought_to_where_the_others_are_and_a_cell_of_no_bins_stays():
    net, cells = network(), [*CELLS, []]
    first = read(cells)
    second = first | {"batch": torch.ones(5, dtype=torch.int64)}
    with torch.no_grad():
        net.to_latent.weight.zero_()
        net.batch_shift[1] = torch.arange(8.0)
    difference = net.encode(first, decoder_only=True).z - net.encode(second, decoder_only=True).z
    expected = net.batch_shift[1] * net.latent_weight
    torch.testing.assert_close(difference[:4], expected.expand(4, 8))
    assert not difference[4].any()
    # around the centres another way is taken out, in shares that fall with the distance of the embedding as users get it
    with torch.no_grad():
        net.batch_shift.zero_()
        net.shift_centres.copy_(torch.randn(net.shift_centres.shape, generator=torch.Generator().manual_seed(0)))
        net.shift_width.fill_(0.7)
        net.local_shift[1] = torch.randn(net.local_shift[1].shape, generator=torch.Generator().manual_seed(1))
    here, there = net.encode(first, decoder_only=True).z, net.encode(second, decoder_only=True).z
    z = here / here.norm(dim=1, keepdim=True) ** 0.75
    for i in range(4):
        near = torch.exp(-((z[i] - net.shift_centres) ** 2).sum(1) / 0.7)
        expected = (near / near.sum()) @ net.local_shift[1] * net.latent_weight
        torch.testing.assert_close(here[i] - there[i], expected, atol=1e-5, rtol=1e-4)
    assert not there[4].any()
    # the cell that is predicted may be of another batch than the one that is read
    own = net.encode(second | {"own_batch": torch.zeros(5, dtype=torch.int64)}, decoder_only=True).z
    torch.testing.assert_close(own, net.encode(first, decoder_only=True).z, atol=0, rtol=0)
