"""Sequences of an assembly with their lengths and other names, from bioframe, without a network."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

# bioframe 0.8's `assembly_info` has the sequences of danRer10 for danRer11, and fails for the sequences of mm9 and dm3
# that have no other names. Their tables lie beside the others.
_READ_DIRECTLY = ("danRer11", "mm9", "dm3")


class Sequence(NamedTuple):
    """A chromosome or scaffold."""

    name: str
    length: int
    """In bp."""
    aliases: tuple[str, ...]
    """Ensembl's name and the accessions of GenBank and RefSeq."""


@functools.cache
def sequences_of(assembly: str) -> tuple[Sequence, ...]:
    """All sequences of a known assembly (UCSC's name), scaffolds too, chromosomes first."""
    table = _table(assembly)
    table = table.iloc[(table["role"] != "assembled").argsort(kind="stable")]
    aliases = table["aliases"].fillna("").astype(str)
    return tuple(
        Sequence(str(name), int(length), tuple(filter(None, others.split(","))))
        for name, length, others in zip(table["name"], table["length"], aliases, strict=True)
    )


def _table(assembly: str) -> Any:
    if assembly not in _READ_DIRECTLY:
        from bioframe import assembly_info

        return assembly_info(f"ucsc.{assembly}", roles="all", units="all").seqinfo
    import pandas as pd
    from bioframe.io.assembly import ASSEMBLY_METADATA_ROOT

    return pd.read_table(ASSEMBLY_METADATA_ROOT / f"{assembly}.seqinfo.tsv")
