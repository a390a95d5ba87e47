"""What the next call of ``train`` changes: decided once, by how the model was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from scatacformer.nn import LoraOptions

Tune = Literal["all", "lora", "heads"]
TUNED = get_args(Tune)
Stage = Literal["untrained", "trained", "query", "fine-tuning"]


@dataclass(frozen=True)
class Trainable:
    """Where training stands, and what learns next.

    Parameters
    ----------
    stage
        ``"untrained"``: the next training begins with the start of the weights. ``"trained"``: it continues from the
        weights that are there. ``"query"``: the weights are those of a frozen reference, and only the biases of new
        batches learn. ``"fine-tuning"``: the weights are those of a pretrained model, and ``tune`` says what learns.
    tune
        ``"all"``; ``"lora"``: low-rank changes of the encoder, and the biases of the decoder; ``"heads"``: the heads
        that predict labels.
    lora
        Rank, scale and place of the low-rank changes.
    new_batches
        Codes of a query's batches that the reference does not have.
    """

    stage: Stage = "untrained"
    tune: Tune = "all"
    lora: LoraOptions | None = None
    new_batches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.stage not in get_args(Stage) or self.tune not in TUNED:
            raise ValueError(f"expected a stage of {get_args(Stage)} and tune of {TUNED}, found {self}.")
        if (self.tune != "all" and self.stage != "fine-tuning") or (self.lora is None) != (self.tune != "lora"):
            raise ValueError(f"tune is {self}; expected for stage='fine-tuning', and lora for tune='lora'.")
        if self.new_batches and self.stage != "query":
            raise ValueError(f"new_batches are for stage='query', found {self}.")

    @property
    def frozen(self) -> bool:
        """Whether the reference's weights stay as they are."""
        return self.stage == "query"

    @property
    def parts(self) -> Literal["all", "lora", "heads", "new batches"]:
        """What learns."""
        return "new batches" if self.frozen else self.tune

    def check_query(self) -> None:
        """Raise ValueError for a query that has nothing to learn."""
        if self.frozen and not self.new_batches:
            raise ValueError(
                "nothing to train: adata has no batch that is new to the frozen reference. The model embeds without "
                "training; to train everything, load_query_data(..., unfrozen=True)."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain strings, numbers, lists and a dict, for JSON."""
        return asdict(self) | {
            "lora": None if self.lora is None else self.lora.to_dict(), "new_batches": list(self.new_batches),
        }  # fmt: skip

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Trainable:
        """The record that :meth:`to_dict` wrote."""
        lora = plain["lora"]
        return cls(
            plain["stage"], plain["tune"], None if lora is None else LoraOptions.of(lora), tuple(plain["new_batches"])
        )
