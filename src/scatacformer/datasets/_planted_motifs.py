"""The motifs of the simulated regulation, and their roles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scatacformer.sequence import Motifs

# Textbook consensus sequences: a base where it is nearly always the same, N where it is any.
_CONSENSUS = {
    "NFKB1": "GGGAATTTCC",
    "NRF1": "TGCGCATGCGCA",
    "SRF": "CCATATTAGGCA",
    "E2F1": "TTTGGCGCGAAA",
    "REST": "TTCAGCACCATGGACAGCGCC",
    "SP1": "GGGGGCGGGGC",
    "SPI1": "AAAGAGGAAGTG",
    "CEBPA": "ATTGCGCAAT",
    "IRF1": "GAAACTGAAACT",
    "MEF2A": "CTATTTTTAGA",
    "HNF4A": "AGGTCAAAGTCCA",
    "STAT3": "CTTCTGGGAAA",
    "CTCF": "CCACTAGGGGGCGC",
    "YY1": "CAAGATGGCGGCC",
    "PAX6": "TTCACGCATGAGTT",
    "HSF1": "TTCTAGAACGTTC",
    "POU2F2": "ATTTGCATAACA",
    "FOS::JUN": "GATGACTCATC",
    "RUNX1": "TTTGTGGTTAG",
    "FOXA1": "TGTTTACTTAGG",
}
_PIONEERS = ("SPI1", "CEBPA", "IRF1", "MEF2A", "HNF4A", "STAT3")


class Roles(NamedTuple):
    """Roles of the motifs, by name."""

    activator_pos: str
    """In an open region near a promoter: raises the gene on +, if the promoter has `promoter_pos`."""
    promoter_pos: str
    """In a promoter: lets `activator_pos` act."""
    activator_neg: str
    """As `activator_pos`, of the gene on -."""
    promoter_neg: str
    """As `promoter_pos`, for `activator_neg`."""
    repressor: str
    """In an open region near a promoter: lowers the genes on both strands."""
    core: str
    """In all promoters."""
    pioneers: tuple[str, ...]
    """Make the regions that contain them accessible in the groups that have the pioneer."""
    decoys: tuple[str, ...]
    """Without effect."""


def planted_motifs(motifs: Motifs | str) -> tuple[Motifs, Roles]:
    """The motifs to plant: ``"consensus"``, made of consensus sequences; ``"jaspar"``, those of JASPAR by their factors.

    Or any 14 or more motifs, which take the roles in order. Raises ValueError for fewer.
    """
    if isinstance(motifs, str):
        if motifs not in ("consensus", "jaspar"):
            raise ValueError(f"motifs is {motifs!r}; expected 'consensus', 'jaspar' or Motifs.")
        chosen = _of_consensus() if motifs == "consensus" else _of_jaspar()
    else:
        chosen = motifs
    n_decoys = len(chosen) - 6 - len(_PIONEERS)
    if n_decoys < 2:
        raise ValueError(f"The simulation plants at least {8 + len(_PIONEERS)} motifs; found {len(chosen)}.")
    pos, with_pos, neg, with_neg, repressor, core = chosen.names[:6]
    others = chosen.names[6:]
    roles = Roles(pos, with_pos, neg, with_neg, repressor, core, others[: len(_PIONEERS)], others[len(_PIONEERS) :])
    return chosen, roles


def _of_consensus() -> Motifs:
    matrices = []
    for consensus in _CONSENSUS.values():
        matrix = np.full((4, len(consensus)), 0.03)
        matrix[["ACGT".index(base) for base in consensus], np.arange(len(consensus))] = 0.91
        matrices.append(matrix)
    return Motifs(tuple(_CONSENSUS), tuple(matrices), np.full(len(matrices), 100.0), None, "consensus sequences")


def _of_jaspar() -> Motifs:
    every = Motifs.from_jaspar()
    chosen = []
    for factor in _CONSENSUS:
        # the widest that a region can hold several of: short ones occur by chance in every tenth region
        found = [
            (int(width), name)
            for name, width in zip(every.names, every.widths, strict=True)
            if name.rsplit("_", 1)[0].upper() == factor and width <= 25
        ]
        if not found:
            raise ValueError(f"{every.source} has no motif of {factor}. Use motifs='consensus', or choose motifs.")
        chosen.append(max(found)[1])
    return every.select(chosen)
