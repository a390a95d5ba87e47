"""Token ids after those of the regions: in the order of gtars, or in that of our own models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary

Layout = Literal["gtars", "scatacformer"]
LAYOUTS: tuple[Layout, ...] = ("gtars", "scatacformer")
ROLES = ("unk", "pad", "mask", "cls", "eos", "bos", "sep")  # the order in which gtars numbers them


@dataclass(frozen=True)
class SpecialTokens:
    """Names and ids of the special tokens of a vocabulary.

    ``"gtars"``: ``<unk>``, ``<pad>``, ``<mask>``, ``<cls>``, ``<eos>``, ``<bos>``, ``<sep>`` = n_bins … n_bins + 6.
    ``"scatacformer"``: ``<cls>`` = n_bins, ``<pad>`` = n_bins + 1, ``<eos_chr1>``, … = n_bins + 2 + code of the
    chromosome, as in :class:`Vocabulary`; the other roles do not exist. A model whose ``<eos>`` stand for
    classes of regions has ``<eos_promoter>``, … in their place."""

    layout: Layout
    ids: Mapping[str, int]  # token -> id, ascending
    of_role: Mapping[str, str]  # role -> token

    @classmethod
    def of(cls, vocabulary: Vocabulary, layout: Layout, eos_names: Sequence[str] | None = None) -> SpecialTokens:
        """Those of a vocabulary; ``eos_names`` are its chromosomes by default. Raises ValueError for an unknown
        layout."""
        if eos_names is not None and (layout != "scatacformer" or len(set(eos_names)) < len(eos_names)):
            raise ValueError(f"eos_names are for special_tokens='scatacformer', each once; found {list(eos_names)}.")
        if layout == "gtars":
            of_role = {role: f"<{role}>" for role in ROLES}
            names = list(of_role.values())
        elif layout == "scatacformer":
            of_role = {"cls": "<cls>", "pad": "<pad>"}
            stand_for = vocabulary.chrom_names if eos_names is None else eos_names
            names = ["<cls>", "<pad>", *(f"<eos_{name}>" for name in stand_for)]
        else:
            raise ValueError(f"special_tokens is {layout!r}; expected 'gtars' or 'scatacformer'.")
        ids = {name: vocabulary.n_bins + number for number, name in enumerate(names)}
        return cls(layout, ids, of_role)

    def token(self, role: str) -> str | None:
        """The token of a role such as ``"pad"``; None where the layout has none."""
        return self.of_role.get(role)

    def token_id(self, role: str) -> int | None:
        """The token id of a role; None where the layout has none."""
        token = self.token(role)
        return None if token is None else self.ids[token]

    @property
    def eos_names(self) -> list[str]:
        """Meaning of the ``<eos>`` of ScAtacFormer's models; none for gtars'."""
        return [name.removeprefix("<eos_").removesuffix(">") for name in self.ids if name.startswith("<eos_")]

    @property
    def as_map(self) -> dict[str, str | list[str]]:
        """``{"pad_token": "<pad>", …}``; tokens without a role under ``"additional_special_tokens"``."""
        found: dict[str, str | list[str]] = {f"{role}_token": token for role, token in self.of_role.items()}
        others = [token for token in self.ids if token not in self.of_role.values()]
        return found | ({"additional_special_tokens": others} if others else {})
