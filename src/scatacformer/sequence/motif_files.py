"""Motifs out of files: MEME, JASPAR and HOMER; tables of clusters; the data of pyjaspar."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scatacformer._io import read_unpacked

_MEME_MATRIX = re.compile(r"letter-probability matrix:(.*)", re.IGNORECASE)
_MEME_ALPHABET = re.compile(r"ALPHABET\s*=?\s*(.*)", re.IGNORECASE)
_SITES = re.compile(r"nsites\s*=\s*([0-9.eE+]+)")
_WIDTH = re.compile(r"(?<![A-Za-z])w\s*=\s*(\d+)")
_JASPAR_ROW = re.compile(r"\s*([ACGTacgt])?\s*\[?([^\]]*)\]?\s*$")
_WANTED = (
    "Expected a MEME file ('MEME version 4'), a JASPAR file ('>MA0004.1 Arnt' and a row of counts each for A, C, G and "
    "T) or a HOMER file ('>consensus<tab>name<tab>threshold' and a row of four probabilities for each position)."
)


class Record(NamedTuple):
    """A motif as stored in a file."""

    name: str
    matrix: np.ndarray
    """(4, width), rows A, C, G, T: probabilities or counts."""
    is_counts: bool
    n_sites: float | None = None


def read_motif_file(path: Path) -> list[Record]:
    """The motifs of a file, whose format is detected from its content.

    Raises
    ------
    ValueError
        It is in none of the formats, or a motif is truncated.
    FileNotFoundError
    """
    text = _text(path)
    lines = text.splitlines()
    filled = [line for line in lines if line.strip() and not line.startswith("#")]
    if not filled:
        raise ValueError(f"{path} is empty and contains no motifs. {_WANTED}")
    if filled[0].lstrip().lower().startswith("meme version"):
        return _read_meme(path, lines)
    if filled[0].startswith(">"):
        is_homer = len(filled) > 1 and len(filled[0].split("\t")) >= 3 and "[" not in filled[1]
        return _read_blocks(path, filled, homer=is_homer)
    raise ValueError(f"{path} is not a file of motifs: its first line is {filled[0][:60]!r}. {_WANTED}")


def read_cluster_table(path: Path) -> dict[str, str]:
    """Motif -> cluster of a table of two columns separated by tabs, below a header line.

    Raises ValueError for a table of another shape or a motif in two clusters, and FileNotFoundError.
    """
    rows = [line.split("\t") for line in _text(path).splitlines() if line.strip()]
    if len(rows) < 2 or any(len(row) < 2 for row in rows):
        short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), len(rows))
        raise ValueError(
            f"{path} is not a table of clusters: line {short} has no two columns separated by a tab. Expected a header "
            "line, then a motif and its cluster in each line."
        )
    table: dict[str, str] = {}
    for motif, cluster in (row[:2] for row in rows[1:]):
        if table.setdefault(motif.strip(), cluster.strip()) != cluster.strip():
            raise ValueError(f"{path}: motif {motif!r} is in two clusters, {table[motif]} and {cluster}.")
    return table


def read_jaspar_release(release: str | None, tax_groups: list[str]) -> tuple[list[Record], str]:
    """The newest version of each CORE motif in the data of pyjaspar, and the name of the release.

    Raises ImportError without pyjaspar, and ValueError for an unknown release or taxonomic group.
    """
    try:
        from pyjaspar import jaspardb
    except ImportError:
        raise ImportError(
            "JASPAR's motifs come with pyjaspar, which is not installed: pip install 'scatacformer[motif]'. Or pass the "
            "path of a MEME, JASPAR or HOMER file."
        ) from None
    releases = sorted(jaspardb().get_releases())
    chosen = releases[-1] if release is None else release
    if chosen not in releases:
        raise ValueError(f"pyjaspar has no release {release!r}. It has: {', '.join(releases)}.")
    database = jaspardb(release=chosen)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Zero motifs returned")  # reported below
        found = database.fetch_motifs(collection="CORE", tax_group=tax_groups)
    if not found:
        raise ValueError(f"{chosen} has no CORE motifs of {', '.join(tax_groups)}. Try 'vertebrates' or 'plants'.")
    records = [
        Record(_called(str(motif.matrix_id), str(motif.name)), np.array([motif.counts[base] for base in "ACGT"]), True)
        for motif in found
    ]
    return sorted(records, key=lambda record: record.name), f"{chosen} CORE {', '.join(tax_groups)}"


def _called(identifier: str, name: str) -> str:
    """One name of an identifier and a name; white space would break tables of them."""
    name = re.sub(r"\s+", "", name)
    return identifier if not name or name == identifier else f"{name}_{identifier}"


def _read_meme(path: Path, lines: list[str]) -> list[Record]:
    records = []
    name: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        if (alphabet := _MEME_ALPHABET.match(line)) and alphabet[1].strip().upper() not in ("ACGT", "DNA", ""):
            raise ValueError(f"{path} has motifs of the alphabet {alphabet[1].strip()[:40]!r}. Expected DNA, ACGT.")
        if line.upper().startswith("MOTIF"):
            if name is not None:
                raise ValueError(f"{path}: motif {name!r} has no letter-probability matrix.")
            words = line.split()[1:]
            if not words:
                raise ValueError(f"{path}: line {number} begins a motif without a name.")
            name = _called(words[0], words[1] if len(words) > 1 else "")
        elif (header := _MEME_MATRIX.match(line)) and name is not None:
            rows, number = _numbers_below(path, lines, number, name)
            width = _WIDTH.search(header[1])
            if width and int(width[1]) != len(rows):
                raise ValueError(
                    f"{path}: motif {name!r} has {len(rows)} rows of four numbers; its header says w= {width[1]}. Is the "
                    "file cut short?"
                )
            sites = _SITES.search(header[1])
            n_sites = float(sites[1]) if sites and float(sites[1]) > 0 else None
            records.append(Record(name, np.array(rows).reshape(-1, 4).T, False, n_sites))
            name = None
    if name is not None:
        raise ValueError(f"{path}: motif {name!r} has no letter-probability matrix. Is the file cut short?")
    if not records:
        raise ValueError(f"{path} is a MEME file without a motif.")
    return records


def _numbers_below(path: Path, lines: list[str], number: int, name: str) -> tuple[list[list[float]], int]:
    """The rows of four numbers from a line on, and the number of the line after them."""
    rows: list[list[float]] = []
    while number < len(lines):
        words = lines[number].split()
        if not words and not rows:  # between the header and the matrix
            number += 1
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            break
        if not values:
            break
        if len(values) != 4:
            raise ValueError(
                f"{path}: line {number + 1}, of motif {name!r}, has {len(values)} numbers. Expected four, of A, C, G, T."
            )
        rows.append(values)
        number += 1
    if not rows:
        raise ValueError(f"{path}: motif {name!r} is empty; expected rows of numbers below its header.")
    return rows, number


def _read_blocks(path: Path, lines: list[str], homer: bool) -> list[Record]:
    """Blocks below lines that begin with ``>``: positions × 4 probabilities of HOMER, or 4 × positions counts."""
    starts = [number for number, line in enumerate(lines) if line.startswith(">")]
    records = []
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        header, rows = lines[start][1:].strip(), lines[start + 1 : stop]
        if homer:
            name = re.sub(r"\s+", "", header.split("\t")[1]) or header.split("\t")[0]
        else:
            words = header.split()
            name = _called(words[0], "".join(words[1:])) if words else ""
        if not name or not rows:
            raise ValueError(f"{path}: the motif {header[:60]!r} {'is empty' if name else 'has no name'}.")
        try:
            table = [[float(word) for word in (row if homer else _letters(row)).split()] for row in rows]
            matrix = np.array(table, dtype=np.float64)
        except ValueError:
            raise ValueError(f"{path}: motif {name!r} is not a table of numbers. {_WANTED}") from None
        if homer:
            matrix = matrix.T
        else:
            letters = [letter for row in rows if (letter := _JASPAR_ROW.match(row)[1])]  # type: ignore[index]
            if letters and "".join(letters).upper() != "ACGT":
                raise ValueError(f"{path}: the rows of motif {name!r} are {', '.join(letters)}. Expected A, C, G, T.")
        if matrix.ndim != 2 or matrix.shape[0] != 4:
            raise ValueError(f"{path}: motif {name!r} has {matrix.shape} numbers. {_WANTED}")
        is_counts = not homer and not np.allclose(matrix.sum(axis=0), 1, atol=0.01)
        records.append(Record(name, matrix, is_counts))
    return records


def _letters(row: str) -> str:
    found = _JASPAR_ROW.match(row)
    return found[2] if found else row


def _text(path: Path) -> str:
    try:
        return read_unpacked(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file. {_WANTED}") from None
