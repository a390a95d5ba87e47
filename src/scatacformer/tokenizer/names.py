"""Token ids as tokens, that is as strings, and tokens as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .regions import as_regions, codes_in

if TYPE_CHECKING:
    from scatacformer.genome import OverlapIndex, Vocabulary

    from .special_tokens import SpecialTokens


def tokens_of(ids: np.ndarray, vocabulary: Vocabulary, special: SpecialTokens) -> list[str]:
    """The token of each id, ``"chr1:0-5000"`` or a special one. ValueError for ids that do not exist."""
    n_ids = vocabulary.n_bins + len(special.ids)
    if ids.size and not (0 <= ids.min() and ids.max() < n_ids):
        wrong = ids[(ids < 0) | (ids >= n_ids)][0]
        raise ValueError(f"{wrong} is not a token id of this tokenizer; expected 0 … {n_ids - 1:,}.")
    token_of, names = {number: token for token, number in special.ids.items()}, vocabulary.chrom_names
    return [
        token_of[token]
        if token >= vocabulary.n_bins
        else f"{names[vocabulary.chrom[token]]}:{vocabulary.start[token]}-{vocabulary.end[token]}"
        for token in ids.tolist()
    ]


def ids_of(tokens: list[str], vocabulary: Vocabulary, special: SpecialTokens, index: OverlapIndex) -> list[int | None]:
    """The id of each token, which must be a special token or exactly a region of the vocabulary.

    Others have the id of ``<unk>``, or None where there is none. ``index``: that of the vocabulary.
    """
    ids: list[int | None] = [special.ids.get(token, special.token_id("unk")) for token in tokens]
    names = [number for number, token in enumerate(tokens) if token not in special.ids]
    try:
        regions = as_regions([tokens[number] for number in names])
    except ValueError:  # one of them is not a region: parse each by itself
        if len(names) == 1:
            return ids
        for number in names:
            ids[number] = ids_of([tokens[number]], vocabulary, special, index)[0]
        return ids
    queries, hits = index.hits(codes_in(vocabulary, regions), regions.start, regions.end)
    same = (vocabulary.start[hits] == regions.start[queries]) & (vocabulary.end[hits] == regions.end[queries])
    for query, hit in zip(queries[same].tolist(), hits[same].tolist(), strict=True):
        ids[names[query]] = hit
    return ids


def as_ids(token_ids: Any) -> np.ndarray:
    """Token ids as an int64 array, () or (n,)."""
    ids = np.asarray(token_ids if not hasattr(token_ids, "detach") else token_ids.detach().cpu())
    if ids.size == 0:
        return np.zeros(ids.shape, dtype=np.int64)
    if ids.dtype.kind not in "iu" or ids.ndim > 1:
        hint = " Several lists: batch_decode." if ids.ndim > 1 else ""
        raise ValueError(f"Expected token ids, an int or a list of int; found {ids.dtype} of shape {ids.shape}.{hint}")
    return ids.astype(np.int64)
