"""A simulated genome with known regulation: DNA, regions, groups, accessibility, expression and regulatory links."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from scatacformer.pseudobulk import acpm, log_tpm
from scatacformer.sequence import Motifs

from ._planted_dna import planted_dna, variants_in_sites, write_fasta, write_fragments, write_gtf, write_meme
from ._planted_motifs import Roles, planted_motifs
from ._regulation import DOMAIN, Landscape, effects, expression, random_landscape

if TYPE_CHECKING:
    from anndata import AnnData


class SimulatedRegulation(NamedTuple):
    """Result of :func:`simulated_regulation`."""

    regions: AnnData
    """Groups × regions: ``.X`` and ``.layers["counts"]``, ``.layers["acpm"]``; ``.var`` has ``chrom``, ``start``,
    ``end`` and ``promoter``; ``.obsm["pioneers"]``, which pioneers each group has."""
    rna: AnnData
    """Groups × genes: counts, and ``.layers["log_tpm"]``; ``.layers["without_noise"]``, the expected values. The last
    column is the rest of the transcriptome, which is not in the annotation."""
    links: pd.DataFrame
    """Effect of closing a region on a gene in a group: ``gene``, ``strand``, ``region``, ``group``, ``distance`` (bp) and
    ``effect``, the change of log10(TPM + 1), for all regions within reach of the gene."""
    holds: pd.DataFrame
    """Regions × motifs, bool: in which regions sites of a motif were planted."""
    variants: pd.DataFrame
    """Single-base changes within sites of pioneer motifs (``disrupts``) and beside them: ``chrom``, ``pos`` (bp, 0-based),
    ``ref``, ``alt``, ``region``, ``motif``."""
    motifs: Motifs
    """The motifs that were planted."""
    roles: Roles
    """Role of each motif."""
    fasta: Path
    """The genome."""
    gtf: Path
    """The genes."""
    meme: Path
    """The motifs as a file."""
    fragments: Path | None
    """A fragments file of cells, sorted and gzip; None if none was asked for."""
    labels: pd.Series | None
    """Group of each cell, by barcode; None without fragments."""


def simulated_regulation(
    folder: str | Path,
    *,
    n_chroms: int = 8,
    n_promoters: int = 60,
    n_groups: int = 8,
    motifs: Motifs | str = "consensus",
    noise: float = 0.1,
    depth: int = 300_000,
    n_cells: int = 0,
    spacing: int = 1000,
    seed: int = 0,
) -> SimulatedRegulation:
    """Simulate a genome with known regulation. Needs no network and takes seconds.

    There is a promoter in every 12 regions, with a gene on +, on -, or on both; the three regions on either side and the
    promoter itself can act on its genes. Open regions with the motif ``activator_pos`` activate the gene on +, but only
    if its promoter contains ``promoter_pos``; likewise ``activator_neg`` and ``promoter_neg`` for the gene on -. Open
    regions with the ``repressor`` lower both. A region is open in the groups that have its pioneer; promoters are open
    in all groups. Decoys are: activators whose promoter lacks the partner motif, promoters with the partner but no
    activator, closed activators, and motifs without a function. The expression of a gene can therefore not be predicted
    from any single region. Motifs with a function have no chance sites (p <= 1e-4) in regions, except where another
    motif's site resembles them.

    Distance within reach, the number of sites in a region and the promoter's own accessibility have no effect. A model
    that knows no distances should see windows of 12 regions (``sf.GET(regions, n_regions=12)``): wider ones contain
    regions that act on other genes.

    Parameters
    ----------
    folder
        Where ``genome.fa``, ``genes.gtf``, ``motifs.meme`` and ``fragments.tsv.gz`` are written; created if needed.
        Existing files of these names are replaced.
    n_chroms
        Number of chromosomes, ``chr1`` ..., all of the same size.
    n_promoters
        Promoters of a chromosome, 12 regions for each.
    n_groups
        Number of groups (cell types). Each has a different half of the six pioneers (20 combinations, then repeated).
    motifs
        ``"consensus"``: textbook consensus sequences; ``"jaspar"``: JASPAR's matrices of the same factors (extra
        ``motif``); or at least 14 motifs, which take the roles in the order of the fields of ``roles``.
    noise
        Standard deviation of the noise that is added to log10(TPM + 1).
    depth
        Mean number of fragments of a group in its regions.
    n_cells
        Cells per group in the fragments file; 0 writes no such file.
    spacing
        bp from one region to the next, at least 700. Regions are 300 to 500 bp wide.
    seed
        The same seed gives the same files and tables.

    Returns
    -------
    SimulatedRegulation

    Raises
    ------
    ValueError
        A number is too small, or the motifs are too few or too wide for a region.

    Examples
    --------
    >>> sim = sf.datasets.simulated_regulation("simulated")  # doctest: +SKIP
    >>> sf.pp.scan_motifs(sim.regions, sim.fasta, sim.motifs)  # doctest: +SKIP
    >>> sf.pp.map_expression(sim.regions, sim.rna, sim.gtf)  # doctest: +SKIP
    """
    _check({"n_chroms": (n_chroms, 1), "n_promoters": (n_promoters, 1), "n_groups": (n_groups, 1), "depth": (depth, 1)})
    _check({"n_cells": (n_cells, 0), "spacing": (spacing, 700)})
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise is {noise!r}; expected 0 or more.")
    chosen, roles = planted_motifs(motifs)
    # one generator for each step, so that the noise of one does not change with the numbers of another
    layout_rng, dna_rng, count_rng, rna_rng, variant_rng, fragment_rng = (
        np.random.default_rng([seed, step]) for step in range(6)
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fasta, gtf, meme = (folder / name for name in ("genome.fa", "genes.gtf", "motifs.meme"))

    landscape = random_landscape(n_chroms, n_promoters, n_groups, chosen.names, roles, layout_rng)
    names = [f"chr{number + 1}" for number in range(n_chroms)]
    size = (n_promoters * DOMAIN + 1) * spacing
    width = layout_rng.integers(300, 501, len(landscape.chrom))
    middle = np.tile((np.arange(n_promoters * DOMAIN) + 1) * spacing, n_chroms)
    start = middle - width // 2
    end = start + width
    acting = [*roles[:5], *roles.pioneers]
    dna, sites = planted_dna([size] * n_chroms, landscape.chrom, start, end, landscape.holds, chosen, acting, dna_rng)
    write_fasta(fasta, names, dna)
    write_meme(meme, chosen)

    regions = _regions(landscape, names, start, end, roles, depth, count_rng)
    genes = _genes(landscape, names, middle)
    write_gtf(gtf, genes)
    rna = _rna(landscape, genes, list(regions.obs_names), chosen.names, roles, noise, rna_rng)
    pioneer_sites = np.flatnonzero(np.isin(sites.motif, [chosen.names.index(name) for name in roles.pioneers]))
    some = np.sort(variant_rng.choice(pioneer_sites, min(400, len(pioneer_sites)), replace=False))
    variants = variants_in_sites(dna, sites, chosen, some, variant_rng)
    variants["chrom"] = np.array(names)[variants["chrom"]]
    variants["region"] = np.asarray(regions.var_names)[variants["region"]]
    variants["motif"] = np.array(chosen.names)[variants["motif"]]

    fragments, labels = None, None
    if n_cells:
        fragments = folder / "fragments.tsv.gz"
        barcodes = [[f"{group}_cell{n:05d}" for n in range(n_cells)] for group in regions.obs_names]
        sizes = dict.fromkeys(names, size)
        counts = regions.layers["counts"]
        write_fragments(fragments, counts, regions.var, sizes, barcodes, 0.1, fragment_rng)
        of_group = np.repeat(np.asarray(regions.obs_names), n_cells)
        labels = pd.Series(of_group, index=[name for one in barcodes for name in one], name="group", dtype="category")
    return SimulatedRegulation(
        regions,
        rna,
        _links(landscape, genes, regions, middle, chosen.names, roles),
        pd.DataFrame(landscape.holds, index=regions.var_names, columns=list(chosen.names)),
        variants,
        chosen,
        roles,
        fasta,
        gtf,
        meme,
        fragments,
        labels,
    )


def _check(least: dict[str, tuple[int, int]]) -> None:
    for name, (value, smallest) in least.items():
        if value != int(value) or value < smallest:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least {smallest}.")


def _regions(
    landscape: Landscape,
    names: list[str],
    start: np.ndarray,
    end: np.ndarray,
    roles: Roles,
    depth: int,
    rng: np.random.Generator,
) -> AnnData:
    from anndata import AnnData

    rate = landscape.openness / landscape.openness.sum(axis=1, keepdims=True) * depth
    counts = rng.poisson(rate).astype(np.float32)
    chrom = np.array(names)[landscape.chrom]
    var = pd.DataFrame(
        {
            "chrom": pd.Categorical(chrom, categories=names),
            "start": start,
            "end": end,
            "promoter": landscape.promoter,
        },
        index=[f"{name}:{a}-{b}" for name, a, b in zip(chrom, start, end, strict=True)],
    )
    obs = pd.DataFrame(index=[f"type{number + 1}" for number in range(len(counts))])
    obs["n_fragments"] = counts.sum(axis=1).astype(np.int64)
    out = AnnData(counts, obs=obs, var=var, layers={"counts": counts, "acpm": acpm(counts)})
    out.obsm["pioneers"] = pd.DataFrame(
        landscape.pioneers_of_group, index=obs.index, columns=[str(name) for name in roles.pioneers]
    )
    return out


def _genes(landscape: Landscape, names: list[str], middle: np.ndarray) -> pd.DataFrame:
    """A row for each gene: ``name``, ``chrom``, ``strand``, ``tss``, ``end``, ``promoter`` and ``side``, 0 for +."""
    promoter, side = np.nonzero(landscape.strands)
    sign = 1 - 2 * side
    tss = middle[promoter] + 60 * sign
    return pd.DataFrame(
        {
            "name": [f"GENE{row:04d}{'PN'[strand]}" for row, strand in zip(promoter // DOMAIN, side, strict=True)],
            "chrom": np.array(names)[landscape.chrom[promoter]],
            "strand": np.array(["+", "-"])[side],
            "tss": tss,
            "end": tss + 400 * sign,
            "promoter": promoter,
            "side": side,
        }
    )


def _rna(
    landscape: Landscape,
    genes: pd.DataFrame,
    groups: list[str],
    names: tuple[str, ...],
    roles: Roles,
    noise: float,
    rng: np.random.Generator,
) -> AnnData:
    from anndata import AnnData

    law = expression(landscape, names, roles)[:, genes["promoter"].to_numpy(), genes["side"].to_numpy()]
    tpm = 10 ** np.maximum(law + rng.normal(0, noise, law.shape), 0) - 1
    rest = np.maximum(1e6 - tpm.sum(axis=1, keepdims=True), 0)
    counts = rng.poisson(np.concatenate([tpm, rest], axis=1) * 5).astype(np.float32)
    var = genes[["chrom", "strand", "tss"]].set_axis(genes["name"].tolist())
    var = pd.concat([var, pd.DataFrame({"chrom": "", "strand": ".", "tss": -1}, index=["rest of the transcriptome"])])
    without = np.concatenate([law, np.log10(rest + 1)], axis=1).astype(np.float32)
    layers = {"counts": counts, "log_tpm": log_tpm(counts), "without_noise": without}
    return AnnData(counts, obs=pd.DataFrame(index=groups), var=var, layers=layers)


def _links(
    landscape: Landscape,
    genes: pd.DataFrame,
    regions: AnnData,
    middle: np.ndarray,
    names: tuple[str, ...],
    roles: Roles,
) -> pd.DataFrame:
    table = effects(landscape, names, roles)
    key = pd.MultiIndex.from_frame(genes[["promoter", "side"]])
    row = key.get_indexer(pd.MultiIndex.from_arrays([table["promoter"], table["strand"]]))
    region = table["region"].to_numpy()
    return pd.DataFrame(
        {
            "gene": genes["name"].to_numpy()[row],
            "strand": genes["strand"].to_numpy()[row],
            "region": np.asarray(regions.var_names)[region],
            "group": np.asarray(regions.obs_names)[table["group"]],
            "distance": np.abs(middle[region] - genes["tss"].to_numpy()[row]),
            "effect": table["effect"].to_numpy(),
        }
    )
