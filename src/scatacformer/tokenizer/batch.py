"""Output of a tokenizer: token ids with their attention mask, as lists or padded arrays."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from typing import Self


class TokenBatch(UserDict):
    """Mapping with ``"input_ids"`` and ``"attention_mask"`` (1: token, 0: padding); ``model(**batch)`` works.

    Lists of int for one list of regions, lists of lists for several, arrays or tensors (n_lists, length) if requested.
    """

    @property
    def input_ids(self) -> Any:
        """Token ids."""
        return self.data["input_ids"]

    @property
    def attention_mask(self) -> Any:
        """1 where a token is, 0 where padding."""
        return self.data["attention_mask"]

    def to(self, device: Any) -> Self:
        """Move tensors to a device, in place, as in torch and transformers. ValueError if they are not tensors."""
        if not all(hasattr(value, "to") for value in self.data.values()):
            raise ValueError("Only tensors move to a device: tokenize with return_tensors='pt'.")
        self.data = {name: value.to(device) for name, value in self.data.items()}
        return self


def make_batch(
    ids: list[np.ndarray],
    *,
    single: bool,
    pad_id: int | None,
    padding: bool | Literal["longest", "max_length", "do_not_pad"],
    truncation: bool,
    max_length: int | None,
    return_tensors: Literal["pt", "np"] | None,
) -> TokenBatch:
    """Token ids of each list of regions, truncated and padded at the end as requested."""
    check_batch_options(padding, truncation, max_length, return_tensors)
    if truncation:
        ids = [one[:max_length] for one in ids]
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    if padding in (False, "do_not_pad"):
        if return_tensors is not None and len(set(lengths.tolist())) > 1:
            raise ValueError(
                f"The lists have {lengths.min():,} to {lengths.max():,} tokens, and an array needs one length: pass "
                "padding=True, and truncation=True with max_length= if they are long."
            )
        if return_tensors is None:
            rows = [one.tolist() for one in ids]
            masks = [[1] * len(row) for row in rows]
            return TokenBatch(input_ids=rows[0] if single else rows, attention_mask=masks[0] if single else masks)
    width = int(lengths.max(initial=0))
    if padding == "max_length":
        assert max_length is not None
        width = max(width, max_length)  # what is longer stays whole without truncation
    mask = np.arange(width) < lengths[:, None]  # (n_lists, width)
    if not mask.all() and pad_id is None:
        raise ValueError("This tokenizer has no <pad> token; pass padding=False.")
    padded = np.full(mask.shape, pad_id if pad_id is not None else 0, dtype=np.int64)
    padded[mask] = np.concatenate(ids) if ids else []
    values = {"input_ids": padded, "attention_mask": mask.astype(np.int64)}
    if return_tensors == "pt":
        import torch

        return TokenBatch({name: torch.from_numpy(value) for name, value in values.items()})
    if return_tensors == "np":
        return TokenBatch(values)
    return TokenBatch({name: value[0].tolist() if single else value.tolist() for name, value in values.items()})


def pad_features(
    features: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]],
    *,
    pad_id: int | None,
    padding: bool | Literal["longest", "max_length", "do_not_pad"],
    max_length: int | None,
    pad_to_multiple_of: int | None,
    return_tensors: Literal["pt", "np"] | None,
) -> TokenBatch:
    """Examples that were tokenized one by one, padded to one length; what else they hold (``"labels"``) goes along."""
    if isinstance(features, Mapping):
        columns = {name: list(values) for name, values in features.items()}
    else:
        columns = {name: [one[name] for one in features] for name in (features[0] if len(features) else ())}
    if "input_ids" not in columns:
        raise ValueError(f"Expected examples with 'input_ids'; found {sorted(columns) or 'none'}.")
    ids = [np.asarray(one, dtype=np.int64) for one in columns.pop("input_ids")]
    if any(one.ndim != 1 for one in ids):
        raise ValueError("Expected one list of token ids an example; tokenize each without return_tensors.")
    columns.pop("attention_mask", None)  # all ones before padding
    if pad_to_multiple_of and padding not in (False, "do_not_pad"):
        width = max([max_length or 0] * (padding == "max_length") + [len(one) for one in ids], default=0)
        padding, max_length = "max_length", max(-(-width // pad_to_multiple_of), 1) * pad_to_multiple_of
    max_length = max_length if padding == "max_length" else None  # collators pass it in any case
    batch = make_batch(
        ids, single=False, pad_id=pad_id, padding=padding, truncation=False, max_length=max_length,
        return_tensors=return_tensors,
    )  # fmt: skip
    for name, values in columns.items():
        batch[name] = values
        if return_tensors is not None:
            array = np.asarray(values)
            batch[name] = array
            if return_tensors == "pt":
                import torch

                batch[name] = torch.from_numpy(array)
    return batch


def check_batch_options(padding: Any, truncation: Any, max_length: Any, return_tensors: Any) -> None:
    """Raise ValueError for options that do not exist or do not go together."""
    if padding not in (False, True, "longest", "max_length", "do_not_pad"):
        raise ValueError(f"padding is {padding!r}; expected False, True, 'longest' or 'max_length'.")
    if truncation not in (False, True):
        raise ValueError(f"truncation is {truncation!r}; expected False or True.")
    if return_tensors not in (None, "pt", "np"):
        raise ValueError(f"return_tensors is {return_tensors!r}; expected None, 'pt' or 'np'.")
    if max_length is not None and (max_length != int(max_length) or max_length < 1):
        raise ValueError(f"max_length is {max_length!r}; expected a positive number of tokens.")
    if max_length is None and (truncation or padding == "max_length"):
        raise ValueError("truncation=True and padding='max_length' need max_length=, the number of tokens.")
    if max_length is not None and not truncation and padding != "max_length":
        raise ValueError("max_length does nothing without truncation=True or padding='max_length'.")
