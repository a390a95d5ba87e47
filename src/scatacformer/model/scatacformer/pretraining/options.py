"""Network options of a pretraining: one frozen record, checked when created."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from scatacformer.genome import RegionClasses

OF_CLASSES = ("gtf", "homer", "bed", "promoter", "min_share", "threshold")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Arguments of :class:`~scatacformer.ScAtacFormer` for the network, under the same names.

    Parameters
    ----------
    size, d_model, n_layers, n_heads, d_embed, max_tokens, decoder, removed_share, attention, cls_token, embedding
        See :class:`~scatacformer.ScAtacFormer`.
    decoder_input, eos
        The same.
    region_classes
        For ``eos="region_class"``: a :class:`~scatacformer.genome.RegionClasses`, or the arguments of
        :func:`~scatacformer.pp.annotate_bins` with its files (``{"gtf": ..., "bed": {"enhancer": ...}}``).
    dna
        Path of a table (``.npy``): every process maps the same file.

    Raises
    ------
    TypeError
        ``dna`` or ``region_classes`` of another type, or an unknown key of ``region_classes``.
    ValueError
        A value is invalid for the network.
    """

    size: Literal["small", "base"] = "small"
    d_model: int | None = None
    n_layers: int | None = None
    n_heads: int | None = None
    d_embed: int | None = None
    max_tokens: int | None = None
    decoder: Literal["bilinear", "mlp", "cross_attention"] = "bilinear"
    removed_share: float = 0.5
    attention: str = "auto"
    cls_token: bool = True
    embedding: Literal["factorised", "full"] = "factorised"
    decoder_input: Literal["small", "full"] = "small"
    eos: Literal["chromosome", "region_class"] = "chromosome"
    region_classes: RegionClasses | Mapping[str, Any] | None = None
    dna: str | os.PathLike | None = None

    def __post_init__(self) -> None:
        for name in ("size", "decoder", "embedding", "decoder_input", "eos"):
            choices, value = get_args(get_type_hints(type(self))[name]), getattr(self, name)
            if value not in choices:
                raise ValueError(f"[model]: {name} is {value!r}; expected one of {', '.join(choices)}.")
        if self.dna is not None and not isinstance(self.dna, str | os.PathLike):
            raise TypeError(f"[model]: dna is {type(self.dna).__name__}; expected the path of a .npy file.")
        classes = self.region_classes
        if classes is None:
            return
        if self.eos != "region_class":
            raise ValueError(
                "[model]: region_classes are used only with eos = 'region_class'. Set it, or leave them out."
            )
        if isinstance(classes, Mapping):
            check_keys(classes, OF_CLASSES, "[model] region_classes")
        elif not isinstance(classes, RegionClasses):
            raise TypeError(
                "[model]: region_classes are a RegionClasses, or name the files, as in {gtf = 'gencode.gtf.gz'}; found "
                f"{classes!r:.80}."
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> NetworkOptions:
        """The record of the table ``[model]``; TypeError for an unknown key, with the nearest that there is."""
        if settings.get("supervised"):
            raise ValueError(
                "pretraining knows no labels: train on them afterwards, ScAtacFormer.for_fine_tuning(...)."
            )
        check_keys(settings, [field.name for field in fields(cls)], "[model]")
        return cls(**settings)

    def arguments(self) -> dict[str, Any]:
        """For :class:`~scatacformer.ScAtacFormer`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Values that differ from the defaults, for JSON; region classes as their names and a checksum."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.dna is not None:
            plain["dna"] = str(self.dna)
        classes = self.region_classes
        if isinstance(classes, RegionClasses):
            digest = hashlib.sha256(classes.matrix.indptr.tobytes() + classes.matrix.indices.tobytes()).hexdigest()
            plain["region_classes"] = {"names": list(classes.names), "sha256": digest}
        return plain


def check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """TypeError that lists each unknown key and the most similar known one."""
    known = list(known)
    if unknown := [key for key in found if key not in known]:
        near = [(key, difflib.get_close_matches(key, known, 1, 0.5)) for key in unknown]
        named = ", ".join(f"{key!r}" + (f" (did you mean {match[0]!r}?)" if match else "") for key, match in near)
        raise TypeError(f"{where}: there is no key {named}. The keys are {', '.join(known)}.")
