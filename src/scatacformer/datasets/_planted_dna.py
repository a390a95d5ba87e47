"""DNA with sites of motifs, and the files of a simulated genome: FASTA, GTF, fragments, variants."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from scatacformer._io import whole_file
from scatacformer.sequence import Motifs, scan_sequences

from ._simulated_fragments import fragment_lengths

_SHARES = [0.28, 0.22, 0.22, 0.28]
_BASES = np.frombuffer(b"ACGT", dtype=np.uint8)


class Sites(NamedTuple):
    """Where sites were planted. All (n_sites,)."""

    region: np.ndarray
    motif: np.ndarray
    chrom: np.ndarray
    start: np.ndarray
    """bp, 0-based."""
    reverse: np.ndarray
    """bool: on the - strand."""


def planted_dna(
    sizes: list[int],
    chrom: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    holds: np.ndarray,
    motifs: Motifs,
    acting: list[str],
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], Sites]:
    """Random DNA of each chromosome, codes 0-3, with one to three sites of each motif that a region holds.

    Sites are sampled from the matrix, those that score less than four fifths of the best are sampled again, either
    strand, none on another, and as near to the middle of the region as the others leave room. The bases
    between the sites of a region are sampled again, up to 20 times, while they contain a chance site of one of the
    ``acting`` motifs.
    """
    dna = [rng.choice(4, size, p=_SHARES).astype(np.uint8) for size in sizes]
    weights = motifs.log_odds()
    rows: list[tuple[int, int, int, int, bool]] = []
    planted = [np.zeros(size, dtype=bool) for size in sizes]
    for region in np.flatnonzero(holds.any(axis=1)).tolist():
        taken = np.zeros(end[region] - start[region], dtype=bool)
        wanted = np.repeat(np.flatnonzero(holds[region]), rng.integers(1, 4, int(holds[region].sum())))
        # one of each first, so that none is left without a place
        _, first_of = np.unique(wanted, return_index=True)
        rest = np.setdiff1d(np.arange(len(wanted)), first_of)
        for number, motif in enumerate(wanted[np.concatenate([first_of, rest])].tolist()):
            site = _sampled_site(motifs.matrices[motif], weights[motif], rng)
            reverse = bool(rng.random() < 0.5)
            if reverse:
                site = 3 - site[::-1]
            place = _free_place(taken, len(site), rng)
            if place < 0:
                if number < len(first_of):
                    raise ValueError(
                        f"A region of {len(taken)} bp has no room for one site of each of {len(first_of)} motifs. Make "
                        "regions wider."
                    )
                continue
            taken[place : place + len(site)] = True
            at = int(start[region]) + place
            dna[chrom[region]][at : at + len(site)] = site
            planted[chrom[region]][at : at + len(site)] = True
            rows.append((region, motif, int(chrom[region]), at, reverse))
    spans = list(zip(chrom.tolist(), start.tolist(), end.tolist(), strict=True))
    some = motifs.select(acting)
    wanted_here = holds[:, [motifs.names.index(name) for name in acting]]
    left = np.arange(len(spans))
    for _ in range(20):
        found = scan_sequences([dna[c][a:b] for c, a, b in (spans[region] for region in left)], some) > 0
        left = left[(found & ~wanted_here[left]).any(axis=1)]
        if not len(left):
            break
        for c, a, b in (spans[region] for region in left):
            free = a + np.flatnonzero(~planted[c][a:b])
            dna[c][free] = rng.choice(4, len(free), p=_SHARES)
    columns = zip(*rows, strict=True)
    return dna, Sites(*(np.array(column) for column in columns))


def _sampled_site(matrix: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    best = weights.max(axis=0).sum()
    below = np.cumsum(matrix, axis=0)
    for _ in range(20):
        site = (rng.random(matrix.shape[1]) * below[-1] >= below[:-1]).sum(axis=0)
        if weights[site, np.arange(len(site))].sum() >= 0.8 * best:
            return site
    return matrix.argmax(axis=0)


def _free_place(taken: np.ndarray, width: int, rng: np.random.Generator) -> int:
    """A place for a site, near the middle; -1 where there is none."""
    busy = np.concatenate([[0], np.cumsum(taken)])
    free = np.flatnonzero(busy[width:] == busy[:-width]) if len(taken) >= width else np.zeros(0, dtype=np.int64)
    if not len(free):
        return -1
    distance = np.abs(free + width / 2 - len(taken) / 2) + rng.normal(0, 25, len(free))
    return int(free[distance.argmin()])


def write_fasta(path: Path, names: list[str], dna: list[np.ndarray]) -> None:
    """Lines of 80 bases; whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        for name, codes in zip(names, dna, strict=True):
            file.write(f">{name}\n".encode())
            text = _BASES[codes]
            n_whole = len(text) // 80 * 80
            lines = np.full((n_whole // 80, 81), ord("\n"), dtype=np.uint8)
            lines[:, :80] = text[:n_whole].reshape(-1, 80)
            file.write(lines.tobytes())
            if n_whole < len(text):
                file.write(text[n_whole:].tobytes() + b"\n")


def write_gtf(path: Path, genes: pd.DataFrame) -> None:
    """A gene and its transcript for each row of ``name``, ``chrom``, ``strand``, ``tss``, ``end``."""
    lines = []
    for gene in genes.itertuples(index=False):
        first, last = sorted((gene.tss, gene.end))
        attributes = f'gene_id "{gene.name}"; gene_type "protein_coding"; gene_name "{gene.name}";'
        for kind, more in (("gene", ""), ("transcript", f' transcript_id "{gene.name}.1";')):
            lines.append(
                f"{gene.chrom}\tsimulated\t{kind}\t{first + 1}\t{last + 1}\t.\t{gene.strand}\t.\t{attributes}{more}\n"
            )
    with whole_file(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def write_meme(path: Path, motifs: Motifs) -> None:
    """The motifs as a MEME file."""
    text = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n"
    for name, matrix, n_sites in zip(motifs.names, motifs.matrices, motifs.n_sites.tolist(), strict=True):
        text += f"\nMOTIF {name}\nletter-probability matrix: alength= 4 w= {matrix.shape[1]} nsites= {n_sites:g} E= 0\n"
        text += "".join(" ".join(f"{value:.6f}" for value in column) + "\n" for column in matrix.T)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_fragments(
    path: Path,
    counts: np.ndarray,
    regions: pd.DataFrame,
    sizes: dict[str, int],
    barcodes: list[list[str]],
    background: float,
    rng: np.random.Generator,
) -> None:
    """A fragments file of groups: fragments around the middle of each region, and a share of them anywhere.

    Each goes to a random cell of its group. Sorted by position, gzip; whole or not at all.
    """
    chrom_names = list(sizes)
    code = pd.Categorical(regions["chrom"], categories=chrom_names).codes.astype(np.int64)
    size = np.array(list(sizes.values()), dtype=np.int64)
    parts = []
    offset = 0
    for group, row in enumerate(counts):
        n = row.astype(np.int64)
        of = np.repeat(np.arange(len(n)), n)
        n_background = int(rng.poisson(background * len(of)))
        middle = (regions["start"].to_numpy()[of] + regions["end"].to_numpy()[of]) / 2 + rng.normal(0, 60, len(of))
        everywhere = rng.choice(len(size), n_background, p=size / size.sum())
        chrom = np.concatenate([code[of], everywhere])
        middle = np.concatenate([middle, rng.random(n_background) * size[everywhere]])
        length = fragment_lengths(len(chrom), rng)
        start = np.clip(np.rint(middle - length / 2).astype(np.int64), 0, size[chrom] - length)
        cell = offset + rng.integers(len(barcodes[group]), size=len(chrom))
        offset += len(barcodes[group])
        parts.append(np.stack([chrom, start, start + length, cell]))
    chrom, start, end, cell = np.concatenate(parts, axis=1)
    order = np.lexsort((end, start, chrom))
    lines = pd.DataFrame(
        {
            "chrom": pd.Categorical.from_codes(chrom[order], chrom_names),
            "start": start[order],
            "end": end[order],
            "barcode": pd.Categorical.from_codes(cell[order], [name for names in barcodes for name in names]),
            "count": 1,
        }
    )
    with whole_file(path) as partial, partial.open("wb") as raw:
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as out:
            lines.to_csv(out, sep="\t", header=False, index=False, lineterminator="\n")


def variants_in_sites(
    dna: list[np.ndarray], sites: Sites, motifs: Motifs, chosen: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """For each chosen site, a change of its most telling base, and of a base 20 to 60 bp away, within no site.

    Columns: ``chrom`` (index), ``pos`` (bp, 0-based), ``ref``, ``alt``, ``region``, ``motif`` (index), ``disrupts``.
    """
    covered = [np.zeros(len(codes), dtype=bool) for codes in dna]
    for motif, chrom, start in zip(sites.motif.tolist(), sites.chrom.tolist(), sites.start.tolist(), strict=True):
        covered[chrom][start : start + motifs.matrices[motif].shape[1]] = True
    rows = []
    of_motif = motifs.log_odds()
    for number in chosen.tolist():
        motif, chrom, start = int(sites.motif[number]), int(sites.chrom[number]), int(sites.start[number])
        weights = of_motif[motif][::-1, ::-1] if sites.reverse[number] else of_motif[motif]
        site = dna[chrom][start : start + weights.shape[1]]
        loss = weights[site, np.arange(len(site))] - weights.min(axis=0)
        place = int(loss.argmax())
        rows.append((chrom, start + place, int(site[place]), int(weights[:, place].argmin()), number, True))
        around = np.concatenate([np.arange(start - 60, start - 20), np.arange(start + 40, start + 80)])
        around = around[(around >= 0) & (around < len(dna[chrom]))]
        if len(free := around[~covered[chrom][around]]):
            at = int(rng.choice(free))
            ref = int(dna[chrom][at])
            rows.append((chrom, at, ref, (ref + int(rng.integers(1, 4))) % 4, number, False))
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "site", "disrupts"])
    table["region"], table["motif"] = sites.region[table["site"]], sites.motif[table["site"]]
    for column in ("ref", "alt"):
        table[column] = [("A", "C", "G", "T")[code] for code in table[column]]
    return table.drop(columns="site")
