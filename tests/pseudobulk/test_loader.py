from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import sparse

from scatacformer.genome import Vocabulary
from scatacformer.pseudobulk import RegionData, Stretches, WindowLoader

N_GROUPS, N_MOTIFS = 3, 5


def data_of(n_regions=300, seed=0, n_groups=N_GROUPS, n_motifs=N_MOTIFS, kind=np.asarray):
    rng = np.random.default_rng(seed)
    motif = rng.gamma(1, 2, (n_regions, n_motifs)).astype(np.float32)
    accessibility = (rng.random((n_groups, n_regions)) * (rng.random((n_groups, n_regions)) > 0.2)).astype(np.float32)
    expression = [rng.random((n_groups, n_regions)) * (rng.random(n_regions) < 0.1) for _ in range(2)]
    tss = np.stack([layer.any(0) for layer in expression], axis=1)
    layers = tuple(kind(layer.astype(np.float32)) for layer in expression)
    scale = motif.max(0)
    data = RegionData(kind(motif), kind(accessibility), layers, tss, scale)
    chrom = np.sort(rng.integers(0, 3, n_regions))
    start = np.arange(n_regions) * 1000
    regions = Vocabulary(("chr1", "chr2", "chr3"), chrom, start, start + 500)
    return data, Stretches.of(regions, [f"group {n}" for n in range(n_groups)])


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_a_minibatch_holds_what_the_matrices_say(kind):
    data, stretches = data_of(kind=kind)
    dense, _ = data_of()
    for batch in WindowLoader(data, stretches, n_regions=16, batch_size=4):
        assert batch["features"].shape[1:] == (16, N_MOTIFS + 1)
        assert batch["features"].dtype == batch["targets"].dtype == torch.float32
        for row in range(len(batch["group"])):
            group = int(batch["group"][row])
            for place in range(16):
                region = int(batch["regions"][row, place])
                found, targets = batch["features"][row, place].numpy(), batch["targets"][row, place].numpy()
                if region < 0:
                    assert not found.any()
                    assert not targets.any()
                    assert not batch["valid"][row, place]
                    assert not batch["scored"][row, place]
                    assert not batch["tss"][row, place].any()
                    continue
                np.testing.assert_allclose(found[:-1], dense.motif[region] / dense.motif_scale, rtol=1e-6)
                assert found[-1] == dense.accessibility[group, region]
                assert targets.tolist() == [layer[group, region] for layer in dense.expression]
                assert batch["tss"][row, place].tolist() == dense.tss[region].tolist()


def test_each_region_is_scored_once_a_pass_and_cuts_change_with_the_epoch():
    data, stretches = data_of()
    loader = WindowLoader(data, stretches, n_regions=16, batch_size=4, shuffle=True, seed=3)
    seen = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader)
        groups = np.concatenate([batch["group"] for batch in batches])
        regions = np.concatenate([batch["regions"] for batch in batches])
        scored = np.concatenate([batch["scored"] for batch in batches])
        pairs = np.stack([np.broadcast_to(groups[:, None], regions.shape)[scored], regions[scored]])
        assert np.unique(pairs, axis=1).shape == pairs.shape  # none twice
        assert pairs.shape[1] > 0.85 * 300 * N_GROUPS
        seen.append(regions)
    assert not np.array_equal(seen[0], seen[1])
    in_order = WindowLoader(data, stretches, n_regions=16, batch_size=4)
    scored = np.concatenate([batch["scored"] for batch in in_order])
    assert scored.sum() == 300 * N_GROUPS


def test_the_seed_and_the_epoch_decide_alone():
    data, stretches = data_of()
    first = WindowLoader(data, stretches, n_regions=16, batch_size=4, shuffle=True, seed=5)
    list(first)
    first.set_epoch(4)
    again = WindowLoader(data, stretches, n_regions=16, batch_size=4, shuffle=True, seed=5)
    again.set_epoch(4)
    other = WindowLoader(data, stretches, n_regions=16, batch_size=4, shuffle=True, seed=6)
    other.set_epoch(4)
    a, b, c = (torch.cat([batch["regions"] for batch in loader]) for loader in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_processes_together_read_what_one_reads():
    data, stretches = data_of()
    options = {"n_regions": 16, "batch_size": 7, "shuffle": True}
    whole = list(WindowLoader(data, stretches, **options))
    parts = [list(WindowLoader(data, stretches, **options, rank=rank, world_size=3)) for rank in range(3)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sum(int(share["scored"].sum()) for share in shares) == int(batch["scored"].sum())
        together = torch.cat([share["regions"][share["scored"]] for share in shares])
        assert sorted(together.tolist()) == sorted(batch["regions"][batch["scored"]].tolist())


def test_what_predicts_accessibility_does_not_see_it():
    data, stretches = data_of()
    options = {"n_regions": 16, "target": "accessibility"}
    for batch in WindowLoader(data, stretches, accessibility="ones", **options):
        assert (batch["features"][..., -1][batch["valid"]] == 1).all()
        assert batch["targets"].shape[-1] == 1
        group, region = int(batch["group"][0]), int(batch["regions"][0, 0])
        assert batch["targets"][0, 0, 0] == data.accessibility[group, region]
    binary = next(iter(WindowLoader(data, stretches, accessibility="binary", **options)))
    assert set(binary["features"][..., -1].unique().tolist()) == {0, 1}
    assert torch.equal(binary["features"][..., -1] > 0, binary["targets"][..., 0] > 0)


def test_memory_does_not_grow_with_the_number_of_windows():
    peak = {}
    for n_regions in (2_000, 20_000):
        data, stretches = data_of(n_regions, n_motifs=200)
        loader = WindowLoader(data, stretches, n_regions=200, batch_size=4)
        iterator = iter(loader)
        next(iterator)
        tracemalloc.start()
        for _ in iterator:
            pass
        peak[n_regions] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak[20_000] < 1.5 * peak[2_000]
    assert peak[20_000] < 0.3 * 20_000 * 200 * 4  # a copy of the motifs alone is more


def test_bad_values_are_refused_before_work_starts():
    data, stretches = data_of()
    motif, accessibility = data.motif.copy(), data.accessibility.copy()
    motif[3, 1] = np.nan
    with pytest.raises(ValueError, match="motif scores must be finite and 0 or more; found 1 other"):
        RegionData(motif, accessibility)
    accessibility[1] = 0
    with pytest.raises(ValueError, match=r"all zero in 1 of 3 groups \(first: row 1\)"):
        RegionData(data.motif, accessibility)
    accessibility[1] = -1
    with pytest.raises(ValueError, match="accessibility must be finite"):
        RegionData(data.motif, accessibility)
    with pytest.raises(ValueError, match="a row for each of 300 regions; found 299"):
        RegionData(data.motif[1:], data.accessibility)
    with pytest.raises(ValueError, match="groups × 300 regions"):
        RegionData(data.motif, data.accessibility, (data.expression[0][:2], data.expression[1]))
    without = RegionData(data.motif, data.accessibility)
    with pytest.raises(ValueError, match="map_expression"):
        WindowLoader(without, stretches, n_regions=16)
    with pytest.raises(ValueError, match="n_regions is needed"):
        WindowLoader(data, stretches)
    with pytest.raises(ValueError, match="no regions; expected at least one to make windows of"):
        WindowLoader(data, stretches.select(np.zeros(0, dtype=int)), n_regions=16)
