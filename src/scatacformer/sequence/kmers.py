"""How often each short word occurs in a sequence, on either strand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .fasta import N_CODE

LONGEST = 6  # 2,080 columns


def kmer_names(k: int) -> list[str]:
    """Names of the columns of :func:`count_kmers`: a k-mer and its reverse complement, as in ``AACGT/ACGTT``.

    Raises ValueError if ``k`` is not 1 ... 6.
    """
    kinds, _ = _columns(k)

    def word(code: int) -> str:
        return "".join("ACGT"[code // 4**i % 4] for i in range(k - 1, -1, -1))

    names = []
    for code in kinds.tolist():
        first, second = word(code), word(int(_reverse(k)[code]))
        names.append(first if first == second else f"{first}/{second}")
    return names


def count_kmers(sequences: Iterable[np.ndarray], k: int) -> np.ndarray:
    """Counts of k-mers, each together with its reverse complement, (n_sequences, n_kmers) float32.

    A k-mer that contains an N is not counted.

    Parameters
    ----------
    sequences
        Codes 0-3 for A, C, G, T and 4 for N.
    k
        Length of the words, 1 to 6.

    Raises
    ------
    ValueError
        ``k`` is not 1 ... 6.
    """
    kinds, column = _columns(k)
    rows = []
    for codes in sequences:
        n = max(0, len(codes) - k + 1)
        word, whole = np.zeros(n, np.int64), np.ones(n, bool)
        for i in range(k):
            part = codes[i : i + n]
            word, whole = word * 4 + part, whole & (part != N_CODE)
        rows.append(np.bincount(column[word[whole]], minlength=len(kinds)))
    return np.array(rows, dtype=np.float32).reshape(-1, len(kinds))


def _columns(k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k-mer of each column, as a number to the base of 4, and the column of each k-mer."""
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= LONGEST:
        raise ValueError(f"the length of k-mers is {k!r}; expected a whole number from 1 to {LONGEST}.")
    kinds, column = np.unique(np.minimum(np.arange(4**k), _reverse(k)), return_inverse=True)
    return kinds, column


def _reverse(k: int) -> np.ndarray:
    """The reverse complement of each k-mer."""
    rest = np.arange(4**k)
    found = np.zeros_like(rest)
    for _ in range(k):
        found, rest = found * 4 + 3 - rest % 4, rest // 4
    return found
