"""The history of a training: the mean of each metric by epoch, over all cells or other units of the minibatches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

Sums = dict[str, list[float]]


class History:
    """``record[name][epoch]``: the value of a metric in an epoch."""

    def __init__(self, record: Mapping[str, Mapping[int, float]] | None = None) -> None:
        self.record: dict[str, dict[int, float]] = {name: dict(values) for name, values in (record or {}).items()}

    def keep(self, name: str, epoch: int, value: float) -> None:
        """Add a value, or replace that of the same epoch."""
        self.record.setdefault(name, {})[epoch] = value

    def frames(self) -> dict[str, pd.DataFrame]:
        """A data frame for each metric, with one column of its name and the epoch as index, as scvi-tools returns
        it."""
        import pandas as pd

        return {
            name: pd.DataFrame({name: list(values.values())}, index=pd.Index(list(values), name="epoch"))
            for name, values in self.record.items()
        }


class Outcome(NamedTuple):
    """Result of a training, besides the weights."""

    history: History
    """The metrics by epoch; ``history.frames()`` returns them as in scvi-tools."""
    stopped: bool
    """Whether Ctrl-C ended it early."""


class Means:
    """Weighted means of metrics, accumulated over minibatches.

    Every minibatch of all processes must have the same names, in the same order; n is 0 for one without weight.
    """

    def __init__(self) -> None:
        self.sums: Sums = {}  # by name: sum of value * n, sum of n

    def add(self, values: Mapping[str, float], n: float) -> None:
        """Add the means of a minibatch, which were taken over ``n`` things."""
        for name, value in values.items():
            pair = self.sums.setdefault(name, [0.0, 0.0])
            if n:  # 0 * nan is nan
                pair[0] += value * n
                pair[1] += n

    def total(self, over_processes: Callable[[list[float]], list[float]] = list) -> Sums:
        """The sums over all processes; ``over_processes`` sums a list of numbers over them."""
        flat = over_processes([number for pair in self.sums.values() for number in pair])
        return {name: flat[2 * i : 2 * i + 2] for i, name in enumerate(self.sums)}

    def values(self, over_processes: Callable[[list[float]], list[float]] = list) -> dict[str, float]:
        """The means so far, over all processes; 0 for a metric without weight."""
        return {name: total / n if n else 0.0 for name, (total, n) in self.total(over_processes).items()}

    def take(self, over_processes: Callable[[list[float]], list[float]] = list) -> dict[str, float]:
        """The means so far; counting starts again afterwards."""
        values = self.values(over_processes)
        self.sums = {}
        return values
