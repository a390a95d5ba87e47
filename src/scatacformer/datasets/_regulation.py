"""The rules of the simulated regulation: motifs of regions, accessibility in groups, expression of genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ._planted_motifs import Roles

DOMAIN = 12
"""Regions from one promoter to the next. A window of this size, centred on a promoter, contains all regions that act on its genes."""
REACH = 3
"""Regions on either side of a promoter that act on its genes."""
BASAL, SPAN = 0.3, 2.3
"""log10(TPM + 1) of a gene that is not activated, and the largest increase by activation."""
# shares of the regions near a promoter, or of the promoters, that hold each motif
_ACTIVATOR, _REPRESSOR, _PROMOTER, _DECOY, _PIONEER = 0.25, 0.12, 0.6, 0.15, 0.85


@dataclass(frozen=True)
class Landscape:
    """Regions and their motifs, for all chromosomes one after the other."""

    chrom: np.ndarray
    """(n_regions,) int64."""
    promoter: np.ndarray
    """(n_regions,) bool."""
    near: np.ndarray
    """(n_regions,) int64: the promoter whose genes a region can act on (its own for a promoter); -1 for none."""
    strands: np.ndarray
    """(n_regions, 2) bool: has a gene on +, on -."""
    holds: np.ndarray
    """(n_regions, n_motifs) bool."""
    pioneers_of_group: np.ndarray
    """(n_groups, n_pioneers) bool."""
    is_open: np.ndarray
    """(n_groups, n_regions) bool."""
    openness: np.ndarray
    """(n_groups, n_regions) float64: about 1 where open, 0.03 where closed."""


def random_landscape(
    n_chroms: int, n_promoters: int, n_groups: int, names: tuple[str, ...], roles: Roles, rng: np.random.Generator
) -> Landscape:
    """Random motifs in regions, and accessibility by the pioneers of each group."""
    n = n_chroms * n_promoters * DOMAIN
    place = np.tile(np.arange(DOMAIN), n // DOMAIN)
    centre = DOMAIN // 2
    promoter = place == centre
    near = np.where(np.abs(place - centre) <= REACH, np.arange(n) - place + centre, -1)
    at = {name: number for number, name in enumerate(names)}
    holds = np.zeros((n, len(names)), dtype=bool)

    kind = rng.random(n)
    strands = np.stack([promoter & (kind < 0.7), promoter & (kind >= 0.3)], axis=1)  # 40 % have a gene on both
    for strand, name in enumerate((roles.promoter_pos, roles.promoter_neg)):
        holds[:, at[name]] = strands[:, strand] & (rng.random(n) < _PROMOTER)
    holds[:, at[roles.core]] = promoter
    acts = near >= 0
    for name in (roles.activator_pos, roles.activator_neg):
        holds[:, at[name]] = acts & (rng.random(n) < _ACTIVATOR)
    holds[:, at[roles.repressor]] = acts & (rng.random(n) < _REPRESSOR)
    for name in roles.decoys:
        holds[:, at[name]] = rng.random(n) < _DECOY
    pioneer = np.where(rng.random(n) < _PIONEER, rng.integers(len(roles.pioneers), size=n), -1)
    pioneer[promoter] = -1
    for number, name in enumerate(roles.pioneers):
        holds[:, at[name]] = pioneer == number

    has = _sets_of_pioneers(n_groups, len(roles.pioneers), rng)
    is_open = promoter | ((pioneer >= 0) & has[:, pioneer])
    level = np.where(is_open, rng.lognormal(0, 0.25, (n_groups, n)), 0.03)
    # some regions have more fragments than others in all groups
    openness = level * rng.lognormal(0, 0.2, n)
    chrom = np.repeat(np.arange(n_chroms), n_promoters * DOMAIN)
    return Landscape(chrom, promoter, near, strands, holds, has, is_open, openness)


def expression(landscape: Landscape, names: tuple[str, ...], roles: Roles) -> np.ndarray:
    """log10(TPM + 1) of the gene of each region and strand without noise, (n_groups, n_regions, 2); NaN without a gene.

    BASAL + SPAN × (1 - exp(-1.5 × activators)) × exp(-1.5 × repressors), where the promoter lets activators act; else
    BASAL. Activators and repressors: how many open regions within reach hold the motif.
    """
    activators, repressors = _actors(landscape, names, roles)
    return _law(landscape, names, roles, activators, repressors)


def effects(landscape: Landscape, names: tuple[str, ...], roles: Roles) -> pd.DataFrame:
    """Effect of closing a region on a gene in a group: a row for each gene, region within reach and group.

    Columns: ``promoter``, ``strand`` (0: +, 1: -), ``region``, ``group`` (indices) and ``effect``, the change of
    log10(TPM + 1).
    """
    activators, repressors = _actors(landscape, names, roles)
    before = _law(landscape, names, roles, activators, repressors)
    region = np.flatnonzero((landscape.near >= 0) & ~landscape.promoter)
    target = landscape.near[region]
    is_open = landscape.is_open[:, region]  # (n_groups, n)
    at = {name: number for number, name in enumerate(names)}
    tables = []
    for strand, activator in enumerate((roles.activator_pos, roles.activator_neg)):
        fewer = activators[:, target, strand] - (is_open & landscape.holds[region, at[activator]])
        less = repressors[:, target] - (is_open & landscape.holds[region, at[roles.repressor]])
        after = _level(fewer, less, landscape.holds[target, at[(roles.promoter_pos, roles.promoter_neg)[strand]]])
        group, row = np.nonzero(np.broadcast_to(landscape.strands[target, strand], is_open.shape))
        change = after[group, row] - before[group, target[row], strand]
        tables.append(
            pd.DataFrame(
                {"promoter": target[row], "strand": strand, "region": region[row], "group": group, "effect": change}
            )
        )
    return pd.concat(tables, ignore_index=True)


def _actors(landscape: Landscape, names: tuple[str, ...], roles: Roles) -> tuple[np.ndarray, np.ndarray]:
    """Open activators (n_groups, n_regions, 2) and repressors (n_groups, n_regions), counted at the promoter."""
    at = {name: number for number, name in enumerate(names)}
    acts = landscape.near >= 0
    is_open = landscape.is_open[:, acts]
    counted = []
    for name in (roles.activator_pos, roles.activator_neg, roles.repressor):
        total = np.zeros(landscape.is_open.shape)
        for group in range(len(total)):
            np.add.at(total[group], landscape.near[acts], is_open[group] & landscape.holds[acts, at[name]])
        counted.append(total)
    return np.stack(counted[:2], axis=-1), counted[2]


def _law(
    landscape: Landscape, names: tuple[str, ...], roles: Roles, activators: np.ndarray, repressors: np.ndarray
) -> np.ndarray:
    at = {name: number for number, name in enumerate(names)}
    allows = landscape.holds[:, [at[roles.promoter_pos], at[roles.promoter_neg]]]
    level = _level(activators, repressors[..., None], allows)
    return np.where(landscape.strands, level, np.nan)


def _level(activators: np.ndarray, repressors: np.ndarray, allows: np.ndarray) -> np.ndarray:
    return BASAL + SPAN * allows * (1 - np.exp(-1.5 * activators)) * np.exp(-1.5 * repressors)


def _sets_of_pioneers(n_groups: int, n_pioneers: int, rng: np.random.Generator) -> np.ndarray:
    """Half of the pioneers for each group, no two groups alike while there are sets left, (n_groups, n_pioneers)."""
    from itertools import combinations

    sets = list(combinations(range(n_pioneers), n_pioneers // 2))
    chosen = [sets[number % len(sets)] for number in rng.permutation(max(n_groups, len(sets)))[:n_groups]]
    has = np.zeros((n_groups, n_pioneers), dtype=bool)
    for group, some in enumerate(chosen):
        has[group, list(some)] = True
    return has
