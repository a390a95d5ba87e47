"""Genomic regions to token ids and back, in the manner of Hugging Face tokenizers."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer._io import html_table
from scatacformer.genome import DEFAULT_EXCLUDED, OverlapIndex, Vocabulary, overlaps_allowed

from .batch import TokenBatch, check_batch_options, make_batch, pad_features
from .cells import tokenize_anndata, tokenize_fragments
from .files import read_tokenizer, read_universe, write_tokenizer
from .names import as_ids, ids_of, tokens_of
from .regions import Regions, as_regions, codes_in, is_batch
from .special_tokens import Layout, SpecialTokens

if TYPE_CHECKING:
    from anndata import AnnData

    from .tokenized_cells import TokenizedCells


def _token(role: str) -> property:
    def get(self: Tokenizer) -> str | None:
        return self._special.token(role)

    return property(get, doc=f"`<{role}>`; None where the special tokens have none.")


def _token_id(role: str) -> property:
    def get(self: Tokenizer) -> int | None:
        return self._special.token_id(role)

    return property(get, doc=f"Token id of `<{role}>`; None where the special tokens have none.")


class Tokenizer:
    """Genomic regions to the token ids of the regions of a vocabulary that they overlap.

    A query hits every region that shares a bp with it (half-open: neighbours do not), and gives their token ids by
    start and end; queries keep their order, and repeats stay. A list of queries that hits nothing gives ``<unk>``,
    if there is one; other queries without an overlap are counted in a warning. No special token is added otherwise.
    All as gtars does it, and with the same ids.

    Parameters
    ----------
    vocabulary
        The regions: token id = place in it, never sorted. They may overlap one another.
    special_tokens
        ``"gtars"``: ``<unk>``, ``<pad>``, ``<mask>``, ``<cls>``, ``<eos>``, ``<bos>``, ``<sep>`` after the regions, as
        gtars and databio's models have it. ``"scatacformer"``: ``<cls>``, ``<pad>`` and one ``<eos>`` per chromosome,
        as :class:`~scatacformer.ScAtacFormer` has it: ``<unk>`` is not among them, so that what hits nothing gives
        nothing.
    eos_names
        Meaning of each ``<eos>`` in a model with ``eos="region_class"``; the chromosomes by default.

    Raises
    ------
    ValueError
        No :class:`Vocabulary`, unknown special tokens, or ``eos_names`` of those of gtars.
    """

    padding_side = "right"
    model_input_names = ("input_ids", "attention_mask")

    def __init__(
        self, vocabulary: Vocabulary, special_tokens: Layout = "gtars", eos_names: Sequence[str] | None = None
    ) -> None:
        if not isinstance(vocabulary, Vocabulary):
            raise ValueError(
                f"Expected a Vocabulary; found {type(vocabulary).__name__}. Others are made by Tokenizer.from_bed, "
                "from_anndata, from_chrom_sizes and from_pretrained."
            )
        self.vocabulary = vocabulary
        self._special = SpecialTokens.of(vocabulary, special_tokens, eos_names)

    # ── made from ──────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary | Any, special_tokens: Layout = "gtars") -> Tokenizer:
        """The regions of a :class:`Vocabulary`, or of a model that has one (``model.vocabulary``)."""
        found = vocabulary if isinstance(vocabulary, Vocabulary) else getattr(vocabulary, "vocabulary", vocabulary)
        eos_names = getattr(vocabulary, "eos_names_", None) if special_tokens == "scatacformer" else None
        return cls(found, special_tokens, eos_names)

    @classmethod
    def from_chrom_sizes(
        cls,
        genome: str | Path | Mapping[str, int],
        bin_size: int = 5000,
        *,
        exclude: Collection[str] = DEFAULT_EXCLUDED,
        special_tokens: Layout = "gtars",
    ) -> Tokenizer:
        """Bins side by side over an assembly (``"hg38"``), a file or a dict of sizes:
        :meth:`Vocabulary.from_chrom_sizes`."""
        return cls(Vocabulary.from_chrom_sizes(genome, bin_size, exclude=exclude), special_tokens)

    @classmethod
    def from_bed(cls, path: str | Path, assembly: str | None = None, special_tokens: Layout = "gtars") -> Tokenizer:
        """The intervals of a BED file, plain or gzip (a "universe"): token id = number of the interval in the file.

        Further columns, header lines before the first interval and blank lines are left out of account; order and
        overlaps are as they are. Raises FileNotFoundError, and ValueError, with the number of the line, for repeated
        intervals, negative or reversed ones, spaces instead of tabs, positions that are not numbers; and for an empty
        or truncated file."""
        return cls(read_universe(path, assembly), special_tokens)

    @classmethod
    def from_anndata(cls, adata: AnnData, special_tokens: Layout = "gtars") -> Tokenizer:
        """The regions of ``adata.var``, in its order: see :meth:`Vocabulary.from_var`."""
        with overlaps_allowed():
            return cls(Vocabulary.from_var(adata.var, adata.uns.get("assembly")), special_tokens)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Tokenizer:
        """A tokenizer from a folder, or from a repository of the Hugging Face hub (extra ``hub``).

        Reads what :meth:`save_pretrained` wrote (``tokenizer_config.json``, ``vocabulary.bed.gz``), databio's layout
        (``universe.bed.gz``), and the folder of a saved model (``vocabulary.bed.gz``, whose special tokens are then
        ``"scatacformer"``). Nothing in it is executed.

        Parameters
        ----------
        name_or_folder
            A folder that exists, else the name of a repository (``"databio/atacformer-base-hg38"``).
        revision
            Branch, tag or commit of the repository.
        cache_dir
            Where downloads are kept; huggingface_hub's own place by default.
        token
            Key to repositories that are not public.
        local_files_only
            Use only cached files, without a request to the Hub.

        Raises
        ------
        ValueError
            No tokenizer there; a file is truncated, or is not what the configuration names; no such repository; a
            revision of a folder.
        OSError
            The hub cannot be reached and the files are not in the cache.
        ImportError
            huggingface_hub is not there.
        """
        found = read_tokenizer(
            name_or_folder,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        return cls(*found)

    def save_pretrained(self, folder: str | Path, *, for_gtars: bool = False) -> None:
        """Write ``tokenizer_config.json`` and ``vocabulary.bed.gz``; with ``for_gtars`` also ``universe.bed.gz``.

        The last is what ``gtars.tokenizers.Tokenizer.from_pretrained`` reads. The folder is made if need be, and at
        every moment holds the earlier tokenizer or this one; other files in it stay.

        Raises ValueError for a file in its place, for a folder with a model of other regions, and for ``for_gtars``
        with other special tokens than those of gtars; RuntimeError where another process is writing it; OSError for a
        disk that is full."""
        write_tokenizer(Path(folder), self.vocabulary, self._special, for_gtars)

    # ── regions to tokens ──────────────────────────────────────────────────────────────────────────────────────────

    def __call__(
        self,
        regions: Any,
        *,
        padding: bool | Literal["longest", "max_length", "do_not_pad"] = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: Literal["pt", "np"] | None = None,
    ) -> TokenBatch:
        """Token ids and attention mask of regions, or of each of several lists of regions.

        Parameters
        ----------
        regions
            Regions, 0-based and half-open, in any of these shapes: ``"chr1:0-5000"`` (or ``"chr1:12,000-18,000"``, the
            numbers as they stand), ``("chr1", 0, 5000)``, an object with ``chr``, ``start`` and ``end``; a list or
            other iterable of them (gtars' RegionSet); a DataFrame with the columns ``chrom, start, end`` or
            ``Chromosome, Start, End`` (bioframe, pyranges); the path of a BED file; a :class:`Vocabulary`. Or a list of
            several of these: a batch.
        padding
            True or ``"longest"``: to the longest of the batch; ``"max_length"``: to ``max_length``. At the end, by
            ``<pad>``.
        truncation
            Whether to keep the first ``max_length`` tokens only.
        max_length
            Number of tokens.
        return_tensors
            ``"pt"`` or ``"np"``: int64, (n_lists, length), for a single list (1, length). Default: lists of int.

        Raises
        ------
        ValueError
            Input that is not a region; negative positions; an end before its start; options that cannot be combined.
        FileNotFoundError
            No such BED file.
        """
        check_batch_options(padding, truncation, max_length, return_tensors)
        single = not is_batch(regions)
        lists = [as_regions(one) for one in ([regions] if single else regions)]
        ids = self._ids(lists)
        return make_batch(
            ids,
            single=single,
            pad_id=self.pad_token_id,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )

    def encode(self, regions: Any, **options: Any) -> Any:
        """``tokenizer(regions, ...)["input_ids"]``."""
        return self(regions, **options)["input_ids"]

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | Literal["longest", "max_length", "do_not_pad"] = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: Literal["pt", "np"] | None = None,
    ) -> TokenBatch:
        """Combine separately tokenized examples into one batch; called by collators such as those of transformers.

        ``encoded_inputs``: a list of mappings with ``"input_ids"``, or one mapping of lists; what else is in them, such
        as ``"labels"``, goes along. ValueError for examples without token ids, and for options that do not go together.
        """
        return pad_features(
            encoded_inputs,
            pad_id=self.pad_token_id,
            padding=padding,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            return_tensors=return_tensors,
        )

    def tokenize(self, regions: Any) -> list[str]:
        """The tokens of a list of regions, as strings: ``["chr1:0-5000", ...]``."""
        return self.convert_ids_to_tokens(self._ids([as_regions(regions)])[0])

    def tokenize_fragments(
        self, path: str | Path, barcodes: str | Path | Iterable[str] | None = None
    ) -> TokenizedCells:
        """Token ids of each cell of a fragments file: the regions that its fragments overlap.

        Parameters
        ----------
        path
            Fragments file: chromosome, start, end, barcode, …; tab-separated, plain, gzip or bgzip, in any order.
        barcodes
            Cells to keep, in this order, or a file with one in the first column of each line. Default: every barcode
            of the file, sorted by name.

        Returns
        -------
        TokenizedCells
            ``.X`` (n_cells, n_regions), CSR: how many fragments of the cell overlap the region (a fragment over two
            counts in both; the file's count column is not used). ``.n_unknown``: fragments that overlap none.

        Raises
        ------
        FileNotFoundError
            No such file.
        ValueError
            The file is truncated, or has lines that are not fragments; none of its chromosomes is in the vocabulary;
            fragments end beyond the chromosomes of the vocabulary's assembly; none of the barcodes is there.

        Notes
        -----
        One pass. Memory: some 30 bytes for each overlap of a fragment with a region. For cells × bins with the file
        checked before, see :func:`scatacformer.pp.bin_fragments`.
        """
        return tokenize_fragments(Path(path), barcodes, self.vocabulary, self._index)

    def tokenize_anndata(self, adata: AnnData, *, layer: str | None = None) -> TokenizedCells:
        """The token ids of each cell of an AnnData: the tokens of the regions that are open (not 0) in it.

        ``adata`` may be in memory or backed; ``layer`` names the counts, ``.X`` by default. ``.X`` of the result has
        the counts summed over the regions that overlap a token, ``.n_unknown`` the open regions that overlap none.
        Raises ValueError if no region overlaps the vocabulary, assemblies differ, or ``.var`` does not contain the
        positions of the regions."""
        return tokenize_anndata(adata, layer, self.vocabulary, self._index)

    # ── tokens and ids ─────────────────────────────────────────────────────────────────────────────────────────────

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> list[str]:
        """The tokens of token ids, one or several; optionally without special tokens. ValueError for unknown ids."""
        tokens = self._tokens(np.atleast_1d(as_ids(token_ids)))
        return [token for token in tokens if not (skip_special_tokens and token in self._special.ids)]

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False) -> list[list[str]]:
        """:meth:`decode` of each of several lists, or of the rows of an array or tensor."""
        return [self.decode(one, skip_special_tokens) for one in sequences]

    def convert_ids_to_tokens(self, token_ids: Any) -> Any:
        """The token of an id, or the list of those of several. ValueError for ids that are not in the vocabulary."""
        ids = as_ids(token_ids)
        return self._tokens(ids) if ids.ndim else self._tokens(ids[None])[0]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a token, or the list of those of several; that of ``<unk>`` for others (None where there is none).

        A token must have exactly this interval; for regions that only overlap, call the tokenizer.
        """
        several = [tokens] if isinstance(tokens, str) else [str(token) for token in tokens]
        ids = ids_of(several, self.vocabulary, self._special, self._index)
        return ids[0] if isinstance(tokens, str) else ids

    def get_special_tokens_mask(self, tokens: Iterable[Any], already_has_special_tokens: bool = True) -> list[int]:
        """1 for each token or token id that is special, 0 for regions.

        Nothing is ever added to a list, so that ``already_has_special_tokens`` changes nothing.
        """
        if hasattr(tokens, "tolist"):
            tokens = tokens.tolist()
        return [int(t in self._special.ids if isinstance(t, str) else t >= self.vocabulary.n_bins) for t in tokens]

    def get_vocab(self) -> dict[str, int]:
        """Token -> token id, of all."""
        return dict(zip(self.vocabulary.names.tolist(), range(self.vocabulary.n_bins), strict=True)) | dict(
            self._special.ids
        )

    @property
    def vocab_size(self) -> int:
        """Number of token ids: regions and special tokens."""
        return self.vocabulary.n_bins + len(self._special.ids)

    @property
    def special_tokens(self) -> Layout:
        """The order of the special tokens: ``"gtars"`` or ``"scatacformer"``."""
        return self._special.layout

    @property
    def special_tokens_map(self) -> dict[str, str | list[str]]:
        """``{"unk_token": "<unk>", "pad_token": "<pad>", …}``."""
        return self._special.as_map

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, in the order of their ids."""
        return list(self._special.ids)

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens, ascending."""
        return list(self._special.ids.values())

    unk_token, unk_token_id = _token("unk"), _token_id("unk")
    pad_token, pad_token_id = _token("pad"), _token_id("pad")
    mask_token, mask_token_id = _token("mask"), _token_id("mask")
    cls_token, cls_token_id = _token("cls"), _token_id("cls")
    eos_token, eos_token_id = _token("eos"), _token_id("eos")
    bos_token, bos_token_id = _token("bos"), _token_id("bos")
    sep_token, sep_token_id = _token("sep"), _token_id("sep")

    # ── as an object ───────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return self.vocab_size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self._special == other._special and self.vocabulary == other.vocabulary

    def __hash__(self) -> int:
        return hash((*self._special.ids, self.vocabulary))

    def __repr__(self) -> str:
        return "Tokenizer: " + "; ".join(f"{name}: {value}" for name, value in self._summary())

    def _repr_html_(self) -> str:
        return html_table("Tokenizer", self._summary())

    def _summary(self) -> list[tuple[str, str]]:
        n_special = self.vocab_size - self.vocabulary.n_bins
        special = f"{n_special}, as of {self.special_tokens!r}"
        return [("tokens", f"{self.vocab_size:,}"), ("special tokens", special), ("regions", repr(self.vocabulary))]

    def __getstate__(self) -> dict[str, Any]:
        # without the sorted arrays: they are made again in a tenth of a second, and 20 MB need not travel
        return {"vocabulary": self.vocabulary, "_special": self._special}

    @cached_property
    def _index(self) -> OverlapIndex:
        return OverlapIndex.of(self.vocabulary)

    def _tokens(self, ids: np.ndarray) -> list[str]:
        return tokens_of(ids, self.vocabulary, self._special)

    def _ids(self, lists: list[Regions]) -> list[np.ndarray]:
        """Token ids of each list of regions. One UserWarning where regions of them leave no token, not even
        ``<unk>``."""
        ids = []
        n_lost, first = 0, ""
        for regions in lists:
            queries, found = self._index.hits(codes_in(self.vocabulary, regions), regions.start, regions.end)
            if not len(found) and self.unk_token_id is not None:
                found = np.array([self.unk_token_id])
            elif len(lost := np.setdiff1d(np.arange(len(regions.start)), queries)):
                at = int(lost[0])
                first = first or f"{regions.chrom_names[regions.chrom[at]]}:{regions.start[at]}-{regions.end[at]}"
                n_lost += len(lost)
            ids.append(found)
        if n_lost:
            n_all = sum(len(regions.start) for regions in lists)
            warnings.warn(
                f"{n_lost:,} of {n_all:,} regions overlap no region of the vocabulary and have no token (first: {first}). "
                "Where these are many, compare the assembly and the names of the chromosomes "
                f"({', '.join(self.vocabulary.chrom_names[:3])}, ...).",
                UserWarning,
                stacklevel=3,
            )
        return ids
