"""DNA embedding of each bin by a DNA language model, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scatacformer.genome import Vocabulary
from scatacformer.sequence import BinDna, DnaTableWriter

if TYPE_CHECKING:
    from anndata import AnnData

POOLING = "mean of the last hidden states over the tokens of A, C, G, T of the bin"


def dna_embeddings(
    adata: AnnData | Vocabulary | Any,
    fasta: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    batch_size: int = 8,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    dtype: Literal["float16", "float32"] = "float16",
    overwrite: bool = False,
) -> np.ndarray:
    """Embed the DNA of each bin with a DNA language model, such as the Nucleotide Transformer.

    The bin's DNA is cut into tokens, read in windows of equal length that fit the model's context (one window for 5,000
    bp and 1,000 6-mers), and the last hidden states of all its tokens are averaged, except special tokens and N.
    A bin that contains only N is zero.

    It takes hours on a GPU for a human genome. After an interruption, the same call resumes: at most ten seconds of
    work are lost, or ``4 * batch_size`` bins if these take longer.

    Parameters
    ----------
    adata
        Cells × bins, with the positions of the bins in ``.var``; a :class:`scatacformer.genome.Vocabulary`; or a model.
    fasta
        FASTA file of the assembly, see :class:`scatacformer.sequence.BinDna`.
    model
        A folder, or a name on the Hugging Face hub, that transformers' ``AutoTokenizer`` and ``AutoModel`` can load.
        Its tokens must be bases or non-overlapping k-mers. Weights are read only from safetensors, and code that comes
        with the checkpoint is never run.
    out
        The ``.npy`` file to write. A description of its inputs is written next to it, as ``<out>.json``.
    batch_size
        Number of windows per minibatch. It affects the result only by rounding.
    device
        ``"auto"``: the GPU if there is one; ``"cpu"``; ``"cuda"``, ``"cuda:1"``, ...
    precision
        Precision of the network. ``"bfloat16"`` is faster on a GPU.
    dtype
        Data type of the table. :class:`~scatacformer.model.ScAtacFormer` holds it as float16 in any case.
    overwrite
        Whether to replace a complete or incomplete table at ``out`` that was computed from other bins, DNA, model or
        settings. A table with the same inputs is completed, or returned immediately.

    Returns
    -------
    numpy.memmap
        (n_bins, d), read only, in the order of the bins. :class:`~scatacformer.model.ScAtacFormer` takes it, or its
        path, as ``dna``.

    Raises
    ------
    FileNotFoundError
        The FASTA file, or the folder of ``out``, does not exist.
    ValueError
        The FASTA file lacks a chromosome of the bins or is from another assembly; the checkpoint is damaged, not in
        safetensors format, or requires its own code; the tokenizer is not for DNA; ``out`` has other inputs; hidden
        states are not finite. All but the last are checked before any work.
    ImportError
        transformers is not installed; install it with ``pip install 'scatacformer[dna]'``.

    Examples
    --------
    >>> sf.pp.dna_embeddings(adata, "hg38.fa", model="nucleotide-transformer", out="dna.npy")  # doctest: +SKIP
    >>> model = sf.ScAtacFormer(adata, dna="dna.npy")  # doctest: +SKIP
    """
    from scatacformer._io import tqdm
    from scatacformer.sequence import DnaCheckpoint

    out = Path(out)
    _check_arguments(out, batch_size, precision, dtype)
    dna = BinDna(fasta, _vocabulary_of(adata))
    checkpoint = DnaCheckpoint(str(model), device, precision)
    made_of = {
        "n_bins": len(dna),
        "d": checkpoint.d,
        "fasta": dna.path.name,
        "model": checkpoint.name,
        "context_bp": checkpoint.context,
        "settings": {
            "vocabulary": dna.vocabulary.checksum,
            "fasta": dna.checksum,
            "model": checkpoint.checksum,
            "pooling": POOLING,
            "precision": precision,
            "dtype": dtype,
        },
    }
    table = DnaTableWriter(out, (len(dna), checkpoint.d), dtype, made_of, overwrite)
    at_once = 4 * batch_size  # so that windows of the same length can be combined
    try:
        with tqdm(
            total=len(dna), initial=table.n_done, unit="bin", desc="DNA embeddings", delay=1, disable=None
        ) as bar:
            for first in range(table.n_done, len(dna), at_once):
                bins = range(first, min(first + at_once, len(dna)))
                rows = checkpoint.embed([dna[bin] for bin in bins], batch_size)
                table.append(_in_range(rows, dtype, dna.vocabulary.names[first]))
                bar.update(len(rows))
        return table.finish()
    finally:
        table.close()
        dna.close()


def _in_range(rows: np.ndarray, dtype: str, where: str) -> np.ndarray:
    largest = float(np.abs(rows).max(initial=0.0))
    if not largest <= np.finfo(dtype).max:  # NaN too
        raise ValueError(
            f"hidden states of the bins from {where} on reach {largest:g}, "
            + (
                "too large for float16: dtype='float32'"
                if np.isfinite(largest)
                else "which is not finite: precision='float32'"
            )
        )
    return rows.astype(dtype)


def _check_arguments(out: Path, batch_size: int, precision: str, dtype: str) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    for name, value, known in (
        ("precision", precision, ("float32", "bfloat16")),
        ("dtype", dtype, ("float16", "float32")),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; expected one of {known}.")
    if out.suffix != ".npy":
        raise ValueError(f"out is {str(out)!r}; expected the name of a .npy file.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder {out.parent} of {out.name} does not exist. Create it first.")


def _vocabulary_of(adata: Any) -> Vocabulary:
    if isinstance(adata, Vocabulary):
        return adata
    if isinstance(getattr(adata, "vocabulary", None), Vocabulary):
        return adata.vocabulary
    if not hasattr(adata, "var"):
        raise ValueError(f"adata is {type(adata).__name__}; expected an AnnData, a Vocabulary or a model.")
    return Vocabulary.from_var(adata.var, assembly=adata.uns.get("assembly"))
