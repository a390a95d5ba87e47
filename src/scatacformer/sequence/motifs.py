"""Motifs of transcription factors: position probability matrices, by name, with the cluster of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .motif_files import Record, read_cluster_table, read_jaspar_release, read_motif_file

# MEME's default number of sites of a motif
_DEFAULT_SITES = 20.0


@dataclass(frozen=True, eq=False, repr=False)
class Motifs:
    """Position probability matrices, with the columns that their scores are combined into.

    Parameters
    ----------
    names
        Name of each motif, each once.
    matrices
        Of each motif: probability of A, C, G, T (rows) at each position, (4, width) float64; columns sum to 1.
    n_sites
        (n_motifs,), number of binding sites that each matrix was built from; sets the weight of a pseudocount.
    clusters
        (n_motifs,), label of the cluster of each, or None, where each motif has its own column.
    source
        Source of the motifs, shown in errors.

    Raises
    ------
    ValueError
        There are no motifs; a name occurs twice; a matrix is empty, has negative or NaN values, or a position that does
        not sum to 1 or carries no information (all four bases equally likely).
    """

    names: tuple[str, ...]
    matrices: tuple[np.ndarray, ...]
    n_sites: np.ndarray
    clusters: tuple[str, ...] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        matrices = tuple(np.array(matrix, dtype=np.float64) for matrix in self.matrices)
        object.__setattr__(self, "matrices", matrices)
        object.__setattr__(self, "n_sites", np.array(self.n_sites, dtype=np.float64))
        where = f"{self.source}: " if self.source else ""
        if not self.names:
            raise ValueError(f"{where}there are no motifs; expected at least one.")
        if not len(self.names) == len(matrices) == len(self.n_sites):
            raise ValueError(
                f"{where}each motif needs one name, matrix and number of sites; found {len(self.names)}, "
                f"{len(matrices)} and {len(self.n_sites)}."
            )
        seen: set[str] = set()
        twice = [name for name in self.names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        if twice:
            raise ValueError(
                f"{where}{len(twice)} of {len(self.names)} motifs share a name with another (first: {twice[0]!r}). "
                "Rename them, or keep one of each."
            )
        for name, matrix in zip(self.names, matrices, strict=True):
            _check_matrix(name, matrix, where)
            matrix.flags.writeable = False
        if self.clusters is not None:
            if len(self.clusters) != len(self.names):
                raise ValueError(f"{where}{len(self.names)} motifs and {len(self.clusters)} labels of clusters.")
            object.__setattr__(self, "clusters", tuple(str(label) for label in self.clusters))

    # ── made from ──────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_file(cls, *paths: str | Path) -> Motifs:
        """The motifs of one or more MEME, JASPAR or HOMER files; the format is detected from the content.

        Where a motif has both an identifier and a name, as in JASPAR's files, the two are combined:
        ``MA0004.1 Arnt`` becomes ``Arnt_MA0004.1``. Counts become probabilities.

        Parameters
        ----------
        paths
            Text files, plain or gzip.

        Raises
        ------
        ValueError
            A file is in none of these formats, is empty or truncated; and what :class:`Motifs` raises.
        FileNotFoundError
            The file does not exist.
        """
        records = [record for path in paths for record in read_motif_file(Path(path))]
        return cls._of(records, ", ".join(Path(path).name for path in paths))

    @classmethod
    def from_jaspar(cls, release: str | None = None, tax_group: str | Sequence[str] = "vertebrates") -> Motifs:
        """The non-redundant CORE motifs of JASPAR, from the data of the installed pyjaspar; no network is used.

        Parameters
        ----------
        release
            Such as ``"JASPAR2024"``; the newest that pyjaspar has by default.
        tax_group
            Such as ``"vertebrates"``, ``"plants"``, ``"insects"``, or several.

        Raises
        ------
        ImportError
            pyjaspar is not installed.
        ValueError
            Unknown release or taxonomic group.
        """
        records, name = read_jaspar_release(release, [tax_group] if isinstance(tax_group, str) else list(tax_group))
        return cls._of(records, name)

    @classmethod
    def _of(cls, records: Sequence[Record], source: str) -> Motifs:
        for record in records:
            total = record.matrix.sum(axis=0) if record.matrix.ndim == 2 else np.zeros(1)
            if record.is_counts and not (total > 0).all():
                raise ValueError(
                    f"{source}: motif {record.name!r} has no count at position {int(np.argmin(total)) + 1}. Drop it, or "
                    "copy the file again."
                )
        matrices = [r.matrix / r.matrix.sum(axis=0) if r.is_counts else r.matrix for r in records]
        n_sites = [
            r.n_sites or (float(r.matrix.sum(axis=0).mean()) if r.is_counts else _DEFAULT_SITES) for r in records
        ]
        return cls(tuple(r.name for r in records), tuple(matrices), np.array(n_sites), None, source)

    def with_clusters(self, clusters: str | Path | Mapping[str, Any]) -> Motifs:
        """The same motifs, with a cluster label each.

        Parameters
        ----------
        clusters
            Tab-separated table of two columns, motif and cluster, with a header line; or a mapping. Entries for other
            motifs are ignored.

        Raises
        ------
        ValueError
            A motif has no cluster.
        FileNotFoundError
            The file does not exist.
        """
        table = {str(k): str(v) for k, v in clusters.items()} if isinstance(clusters, Mapping) else None
        what = "the mapping of clusters" if table is not None else str(clusters)
        if table is None:
            table = read_cluster_table(Path(clusters))  # type: ignore[arg-type]
        if missing := [name for name in self.names if name not in table]:
            raise ValueError(
                f"{len(missing):,} of {len(self.names):,} motifs are not in {what} (first: {missing[0]!r}; the table has "
                f"{', '.join(list(table)[:2])}, ...). Use the table of these motifs, or "
                "motifs.select([name for name in motifs.names if name in table])."
            )
        labels = tuple(table[name] for name in self.names)
        return Motifs(self.names, self.matrices, self.n_sites, labels, self.source)

    def select(self, names: Sequence[str]) -> Motifs:
        """Some of the motifs, in the order given. Raises ValueError for a name that is not here."""
        at = {name: number for number, name in enumerate(self.names)}
        if unknown := [name for name in names if name not in at]:
            raise ValueError(f"{len(unknown)} names are of no motif (first: {unknown[0]!r}).")
        rows = [at[name] for name in names]
        clusters = None if self.clusters is None else tuple(self.clusters[row] for row in rows)
        return Motifs(
            tuple(names), tuple(self.matrices[row] for row in rows), self.n_sites[rows], clusters, self.source
        )

    # ── asked ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def widths(self) -> np.ndarray:
        """Number of positions of each motif, (n_motifs,), int64."""
        return np.array([matrix.shape[1] for matrix in self.matrices], dtype=np.int64)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the score columns: the clusters (in numerical order if all labels are numbers), or the motifs."""
        if self.clusters is None:
            return self.names
        labels = dict.fromkeys(self.clusters)
        return tuple(sorted(labels, key=int) if all(label.isdecimal() for label in labels) else labels)

    @cached_property
    def column_of(self) -> np.ndarray:
        """Column of each motif, (n_motifs,), int64."""
        at = {name: number for number, name in enumerate(self.columns)}
        return np.array([at[label] for label in (self.clusters or self.names)], dtype=np.int64)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of names, matrices and clusters, as 64 hexadecimal digits."""
        digest = hashlib.sha256("\t".join([*self.names, "", *(self.clusters or ())]).encode())
        for matrix in self.matrices:
            digest.update(np.round(matrix, 9).astype("<f8").tobytes() + b"\n")
        digest.update(self.n_sites.astype("<f8").tobytes())
        return digest.hexdigest()

    def log_odds(self, pseudocount: float = 0.1) -> list[np.ndarray]:
        """log2(probability / 0.25) at each position, in bits, (4, width) each.

        A probability p of a motif made of n sites is taken as (n p + pseudocount / 4) / (n + pseudocount).

        Raises ValueError where ``pseudocount`` is below 0, or 0 while a matrix holds a probability of 0.
        """
        if not 0 <= pseudocount < np.inf:
            raise ValueError(f"pseudocount is {pseudocount!r}; expected 0 or more.")
        if pseudocount == 0 and (zeros := [n for n, m in zip(self.names, self.matrices, strict=True) if not m.all()]):
            raise ValueError(
                f"{len(zeros):,} of {len(self.names):,} motifs hold a probability of 0 (first: {zeros[0]!r}), which has "
                "no logarithm. Set pseudocount above 0."
            )
        pairs = zip(self.matrices, self.n_sites.tolist(), strict=True)
        return [np.log2((n * matrix + pseudocount / 4) / (n + pseudocount) / 0.25) for matrix, n in pairs]

    # ── kept beside the scores ─────────────────────────────────────────────────────────────────────────────────────

    def to_dict(self) -> dict[str, Any]:
        """Arrays and strings that ``.uns`` and files can hold; :meth:`from_dict` reads them."""
        content = {
            "names": np.array(self.names, dtype=object),
            "widths": self.widths,
            "matrices": np.concatenate(self.matrices, axis=1),
            "n_sites": self.n_sites,
            "source": self.source,
        }
        return content | ({} if self.clusters is None else {"clusters": np.array(self.clusters, dtype=object)})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Motifs:
        """The motifs from the output of :meth:`to_dict`. Raises ValueError for anything else."""
        if missing := {"names", "widths", "matrices", "n_sites"} - set(content):
            raise ValueError(f"This is not a record of motifs: it lacks {', '.join(sorted(missing))}.")
        stops = np.cumsum(np.asarray(content["widths"], dtype=np.int64))
        matrices = tuple(np.split(np.asarray(content["matrices"], dtype=np.float64), stops[:-1], axis=1))
        clusters = content.get("clusters")
        return cls(
            tuple(content["names"]),
            matrices,
            np.asarray(content["n_sites"]),
            None if clusters is None else tuple(clusters),
            str(content.get("source", "")),
        )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        clusters = "" if self.clusters is None else f" in {len(self.columns):,} clusters"
        return f"{len(self.names):,} motifs{clusters}{f' of {self.source}' if self.source else ''}"


def _check_matrix(name: str, matrix: np.ndarray, where: str) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != 4 or not matrix.shape[1]:
        raise ValueError(f"{where}motif {name!r} is {matrix.shape}; expected 4 bases × at least 1 position.")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ValueError(f"{where}motif {name!r} holds a probability that is NaN, infinite or negative.")
    total = matrix.sum(axis=0)
    if (off := np.abs(total - 1) > 0.01).any():
        first = int(np.argmax(off))
        raise ValueError(
            f"{where}position {first + 1} of motif {name!r} sums to {total[first]:.4g}; the probabilities of A, C, G "
            "and T sum to 1. Is it a matrix of counts or of scores? Counts are read from JASPAR files."
        )
    matrix /= total
    if (flat := np.abs(matrix - 0.25).max(axis=0) < 1e-6).any():
        first = int(np.argmax(flat))
        raise ValueError(
            f"{where}position {first + 1} of motif {name!r} carries no information: all bases have probability 0.25 "
            f"({int(flat.sum())} of {matrix.shape[1]} positions). Trim such positions, or remove the motif."
        )
