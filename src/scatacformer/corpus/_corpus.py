"""Many data sets on disk as one: opened in a moment, read in stretches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scatacformer._io import html_table, read_whole
from scatacformer.cells import RowSource
from scatacformer.genome import Vocabulary

from ._card import markdown
from ._descriptions import CORPUS, VOCABULARY, data_set_folder, read_card, read_vocabulary
from ._shard import BarcodeFile, open_array

if TYPE_CHECKING:
    import pandas as pd

    from ._entry import CorpusEntry


class Corpus:
    """Cells of many data sets in one vocabulary, on disk; :meth:`build` makes one, ``Corpus(folder)`` opens it.

    Cells are numbered through all data sets, in the order of the sources, and within each as in its file. A cell is
    the sorted token ids of its open bins; counts are not kept. Nothing is read when a corpus is opened but where cells
    begin: 8 bytes for each. It is pickled as the place of its folder.

    Parameters
    ----------
    folder
        Folder that :meth:`build` wrote.

    Raises
    ------
    FileNotFoundError
        There is no corpus, or its build is incomplete.
    ValueError
        A file of the corpus is damaged; :meth:`validate`, and ``scatacformer corpus validate``, name all that are.
    OSError
        When cells are read: the corpus was rebuilt since it was opened.

    Examples
    --------
    >>> corpus = sf.Corpus.build("corpus/", ["a.h5ad", "b.h5ad"], genome="hg38")  # doctest: +SKIP
    >>> loader = sf.cells.SentenceLoader(corpus.source, shuffle=True, num_workers=2)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        if not (self.folder / CORPUS).exists():
            begun = (self.folder / VOCABULARY).exists()
            raise FileNotFoundError(
                f"The corpus in {self.folder} is incomplete. Call Corpus.build again to resume the build."
                if begun
                else f"There is no corpus in {self.folder}. Build one: sf.Corpus.build(folder, sources, genome=...)."
            )
        read_whole(self.folder / CORPUS, self._open)

    def _open(self) -> None:
        self._card = read_card(self.folder)
        data_sets = self._card["datasets"]
        self._folders = [data_set_folder(self.folder, data_set) for data_set in data_sets]
        self._stamps = [self._stamp(folder) for folder in self._folders]
        sizes = [(data_set["n_cells"], data_set["n_tokens"]) for data_set in data_sets]
        self.source: RowSource = RowSource.from_shards(self._folders, self._card["n_bins"], sizes)
        if (self.source.n_cells, self.source.nnz) != (self._card["n_cells"], self._card["n_tokens"]):
            raise ValueError(
                f"{self.folder} contains {self.source.n_cells:,} cells with {self.source.nnz:,} tokens, but its card lists "
                f"{self._card['n_cells']:,} with {self._card['n_tokens']:,}: files were changed. Build it again."
            )

    @classmethod
    def build(
        cls,
        folder: str | Path,
        sources: Iterable[str | Path | Mapping[str, Any] | CorpusEntry],
        vocabulary: Vocabulary | str | Path | Any | None = None,
        *,
        genome: str | Path | Mapping[str, int] | None = None,
        bin_size: int = 5000,
        min_bins: int = 100,
        max_bins: int | None = None,
    ) -> Corpus:
        """Write the cells of all sources into a folder; what an earlier call finished there is kept.

        Parameters
        ----------
        folder
            Empty or not there yet; or one in which a build was begun, is done, or lacks some of the sources.
        sources
            Paths of ``.h5ad``, ``.h5mu``, zarr stores and fragments files, or :class:`CorpusEntry` (or mappings of its
            fields) that say more of each.
        vocabulary
            A :class:`scatacformer.genome.Vocabulary`, a BED file of one, or a model, which has one. Default: bins of
            ``bin_size`` bp over ``genome``; or that of the folder, if it has one.
        genome, bin_size
            As for :meth:`scatacformer.genome.Vocabulary.from_chrom_sizes`.
        min_bins, max_bins
            Cells with fewer, or more, open bins of the vocabulary are left out, and counted in the card.

        Returns
        -------
        Corpus
            The corpus, opened.

        Raises
        ------
        FileNotFoundError, ValueError
            Before anything is written: a source that is not there or of no known kind, names or files that come twice
            (also under other names), a vocabulary other than the folder's. When its turn comes: a data set of another
            assembly, without raw counts, without cells, or with barcodes that come twice. Those before it are kept.
        RuntimeError
            Another process is building in this folder.

        Notes
        -----
        Regions that are a bin of the vocabulary become it; others open every bin that they overlap. Fragments are
        counted in bins as :func:`scatacformer.pp.bin_fragments` does. Each data set is written under another name, and
        renamed when it is whole; ``corpus.json`` comes last. A source that changed since is read again. An earlier
        corpus in the folder is whole until this one is: a build that is killed, or finds the disk full, changes nothing
        of it.

        Memory: the columns (``.var``) of one data set, some million entries of it, and some 50 bytes for each of its
        cells; nothing grows with the corpus. For fragments also a counter for each barcode in the file."""
        from ._build import build

        if (vocabulary is None) + (genome is None) == 0:
            raise ValueError("Give vocabulary or genome, not both.")
        folder = Path(folder).absolute()
        if genome is not None:
            vocabulary = Vocabulary.from_chrom_sizes(genome, bin_size)
        elif vocabulary is None:
            if not (folder / VOCABULARY).exists():
                raise ValueError(f"Say which bins the cells of {folder} are to have: genome='hg38', or vocabulary=...")
            vocabulary = folder / VOCABULARY
        if isinstance(vocabulary, str | Path):
            vocabulary = Vocabulary.from_bed(vocabulary)
        vocabulary = vocabulary if isinstance(vocabulary, Vocabulary) else getattr(vocabulary, "vocabulary", None)
        if not isinstance(vocabulary, Vocabulary):
            raise ValueError("vocabulary must be a Vocabulary, a BED file, or a model that has one.")
        build(folder, sources, vocabulary, min_bins, max_bins)
        return cls(folder)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bins of the token ids. Raises ValueError if their file has changed."""
        return read_vocabulary(self.folder, self._card)

    @property
    def n_cells(self) -> int:
        """Cells of all data sets."""
        return self.source.n_cells

    @property
    def n_tokens(self) -> int:
        """Open bins of all cells."""
        return self.source.nnz

    @property
    def card(self) -> dict[str, Any]:
        """Content of the corpus: cells, tokens, organs, assembly, versions, and for each data set its file and
        checksum."""
        return self._card

    @property
    def dataset_names(self) -> list[str]:
        """Names of the data sets, in their order."""
        return [data_set["name"] for data_set in self._card["datasets"]]

    @cached_property
    def dataset_offsets(self) -> np.ndarray:
        """First cell of each data set, and the number of cells, (n_datasets + 1,) int64."""
        return np.concatenate([[0], np.cumsum([data_set["n_cells"] for data_set in self._card["datasets"]])])

    @cached_property
    def batch_names(self) -> tuple[str, ...]:
        """Names of the batches: ``dataset:sample``; ``dataset`` where no column of samples was named."""
        return tuple(name for names in self._batches for name in names)

    @property
    def batch_codes(self) -> np.ndarray:
        """Batch of each cell, an index into :attr:`batch_names`, (n_cells,) int64; read from disk on demand."""
        codes = np.zeros(self.n_cells, np.int64)
        base = 0
        for names, part, here in zip(self._batches, self._columns("batch"), self._parts(), strict=True):
            # a cell without a sample is in the data set's own batch, which is its last
            codes[here] = base + np.where(part < 0, len(names) - 1, part)
            base += len(names)
        return codes

    @property
    def obs(self) -> pd.DataFrame:
        """``dataset``, ``batch``, ``organ``, ``label`` of each cell, categorical; read from disk on demand."""
        import pandas as pd

        numbers = np.repeat(np.arange(len(self._folders)), np.diff(self.dataset_offsets))
        columns = {
            "dataset": pd.Categorical.from_codes(numbers, self.dataset_names),
            "batch": pd.Categorical.from_codes(self.batch_codes, list(self.batch_names)),
        }
        for name in ("organ", "label"):
            codes = np.full(self.n_cells, -1, np.int32)
            number_of: dict[str, int] = {}
            for data_set, part, here in zip(self._card["datasets"], self._columns(name), self._parts(), strict=True):
                known = [number_of.setdefault(text, len(number_of)) for text in data_set["names"][name]]
                codes[here] = np.array([*known, -1], np.int32)[part]
            columns[name] = pd.Categorical.from_codes(codes, list(number_of))
        return pd.DataFrame(columns)

    def cell_names(self, cells: np.ndarray) -> list[str]:
        """``dataset:barcode`` of these cells (row numbers)."""
        cells = self.source.row_numbers(cells)
        of = np.searchsorted(self.dataset_offsets, cells, side="right") - 1
        files = {number: BarcodeFile(self._folder(number)) for number in np.unique(of).tolist()}
        at = cells - self.dataset_offsets[of]
        names = self.dataset_names
        return [f"{names[number]}:{files[number][cell]}" for number, cell in zip(of.tolist(), at.tolist(), strict=True)]

    def validate(self, deep: bool = False) -> dict[str, Any]:
        """Check every file of the corpus, and whether its sources are still what they were.

        Reads all of the corpus once: checksums; bins in range, sorted, each once in a cell; barcodes unique within
        their data set; types and ranges of all arrays; the assembly; sizes and times of the sources, and with ``deep``
        their bytes.

        Returns
        -------
        dict
            ``n_cells``, ``n_tokens``, ``sources_missing`` (source files that no longer exist, which is not an error).

        Raises
        ------
        ValueError
            Names all files that are not what they were, what was found in each, and what to do.
        """
        from ._validate import validate

        return validate(self.folder, deep)

    def to_markdown(self) -> str:
        """The card as a page, as in the folder's README.md."""
        return markdown(self._card)

    @cached_property
    def _batches(self) -> list[list[str]]:
        """Names of the batches of each data set; the data set's own comes last, where there is a cell without
        sample."""
        batches = []
        for data_set, codes in zip(self._card["datasets"], self._columns("batch"), strict=True):
            name = data_set["name"]
            own = [name] if (codes < 0).any() else []
            batches.append([f"{name}:{sample}" for sample in data_set["names"]["batch"]] + own)
        return batches

    def _columns(self, name: str) -> Iterable[np.ndarray]:
        for number, data_set in enumerate(self._card["datasets"]):
            yield open_array(self._folder(number), name, data_set, self._card["n_bins"])[:]

    def _folder(self, number: int) -> Path:
        """The folder of a data set. OSError where it is another than the one that was opened."""
        folder = self._folders[number]
        if self._stamp(folder) != self._stamps[number]:
            raise OSError(f"{folder} was replaced since the corpus was opened. Open it again.")
        return folder

    @staticmethod
    def _stamp(folder: Path) -> tuple[int, int, int] | None:
        """Which data set this is: those of a folder are replaced as a whole."""
        try:
            found = (folder / "bins.npy").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _parts(self) -> list[slice]:
        offsets = self.dataset_offsets.tolist()
        return [slice(a, b) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]

    def __len__(self) -> int:
        return self.n_cells

    def __repr__(self) -> str:
        return (
            f"Corpus({self.n_cells:,} cells, {self.n_tokens:,} tokens, {len(self._folders):,} data sets, "
            f"{self._card['n_bins']:,} bins, assembly {self._card['assembly'] or 'not named'})"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("folder", str(self.folder)),
            ("cells", f"{self.n_cells:,}"),
            ("tokens (open bins)", f"{self.n_tokens:,}"),
            ("data sets", f"{len(self._folders):,}"),
            ("bins", f"{self._card['n_bins']:,}"),
            ("assembly", self._card["assembly"] or "not named"),
        ]
        return html_table("Corpus", rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "identity": self._identity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]
        if self._identity != state["identity"]:
            raise ValueError(f"The corpus in {self.folder} was rebuilt since it was opened. Open it again.")

    @property
    def _identity(self) -> str:
        """One for each content, whenever and wherever it was built."""
        sums = [data_set["checksums"] for data_set in self._card["datasets"]]
        return hashlib.sha256(json.dumps([self._card["vocabulary"], sums], sort_keys=True).encode()).hexdigest()
