"""The table that HOMER's annotatePeaks.pl prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scatacformer._io import open_unpacked, reading
from scatacformer.genome.chrom_sizes import assembly_name
from scatacformer.genome.classes.gene_classes import Intervals

_COLUMNS = ("Chr", "Start", "End", "Annotation")
_WHAT = f"a table of HOMER's annotatePeaks.pl (tab-separated, with the columns PeakID, {', '.join(_COLUMNS)})"
_CLASSES = {
    "promoter-tss": "promoter",
    "promoter": "promoter",
    "exon": "exon",
    "intron": "intron",
    "5' utr": "5' UTR",
    "5utr": "5' UTR",
    "3' utr": "3' UTR",
    "3utr": "3' UTR",
    "tts": "TTS",
    "non-coding": "ncRNA",
    "intergenic": "intergenic",
}


class HomerTable(NamedTuple):
    """Regions and the class of each."""

    chrom_names: list[str]
    regions: Intervals
    """0-based, half-open; chrom is an index into `chrom_names`."""
    class_names: list[str]
    code: np.ndarray
    """(n_regions,), index into `class_names`; -1: HOMER has none for it."""
    assembly: str | None
    """The genome on the command line that the table starts with, if it is a known one."""


def read_homer(path: str | Path) -> HomerTable:
    """Regions of annotatePeaks.pl with the class before the brackets in the column ``Annotation``.

    ``"promoter-TSS (NM_1)"`` becomes promoter, ``"non-coding (NR_1, exon 2 of 3)"`` and the kinds of RNA become ncRNA;
    classes of one's own annotation file keep their name. Starts are 1-based in the file. Raises ValueError for a file
    that is not such a table, and FileNotFoundError.
    """
    import pandas as pd

    path = Path(path)
    with reading(path, _WHAT):
        with open_unpacked(path) as file:
            header = pd.read_csv(file, sep="\t", nrows=0, quoting=3).columns
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise ValueError(f"it has no column {', '.join(missing)}.")
        with open_unpacked(path) as file:
            table = pd.read_csv(
                file,
                sep="\t",
                usecols=list(_COLUMNS),
                dtype={"Chr": "category", "Start": np.int64, "End": np.int64, "Annotation": "category"},
                quoting=3,
                na_values={"Annotation": ["NA", ""]},
                keep_default_na=False,
            )
    start, end = table["Start"].to_numpy() - 1, table["End"].to_numpy()
    if not len(table) or (bad := (start < 0) | (end <= start) | (end > 2**31 - 1)).any():
        what = f"region {int(np.argmax(bad)):,} does not have 1 <= Start <= End" if len(table) else "it has no region"
        raise ValueError(f"{path}: {what}. Expected the table as annotatePeaks.pl prints it, with 1-based starts.")
    annotation = table["Annotation"].cat
    if not len(annotation.categories):
        raise ValueError(f"{path}: no region has an Annotation. Was annotatePeaks.pl run with -noann?")
    names = [_class(text) for text in annotation.categories]
    class_names = list(dict.fromkeys(names))
    code_of = {name: code for code, name in enumerate(class_names)}
    code = np.append(np.array([code_of[name] for name in names], dtype=np.int64), -1)[annotation.codes]
    chrom = table["Chr"].cat
    genome = next((known for word in re.split(r"[\s()]+", str(header[0])) if (known := assembly_name(word))), None)
    regions = Intervals(chrom.codes.to_numpy().astype(np.int64), start, end)
    return HomerTable([str(name) for name in chrom.categories], regions, class_names, code, genome)


def _class(annotation: str) -> str:
    name = annotation.split(" (", 1)[0].strip()
    return _CLASSES.get(name.lower(), "ncRNA" if name.lower().endswith("rna") else name)
