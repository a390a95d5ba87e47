"""``descend``: gradient steps on data that are in memory, for small models that are fitted after a network (pairs,
links, heads)."""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .history import History, Means, Outcome
from .interrupt import interruptible, terminate

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DescendOptions:
    """Options for fitting a small model.

    Parameters
    ----------
    what
        What is fitted, for the progress bar and for messages: ``"pairs"``.
    max_epochs
        Passes over the data; 0: none.
    patience
        Keep the weights of the lowest ``monitor``, those before the first step included, and stop when it has not
        fallen for this many epochs. None: the last weights are kept.
    monitor
        Name of the metric that ``validate`` returns.
    seed
        Seed of dropout; torch's global generator is restored afterwards. None: seeded by the caller.
    progress
        Whether to show a progress bar, on a terminal or in a notebook.
    advice
        Advice in the error about a loss that is not finite.
    if_interrupted
        What has not been done after an interruption, for the warning.
    """

    what: str
    max_epochs: int
    patience: int | None = None
    monitor: str = "validation_loss"
    seed: int | None = None
    progress: bool = True
    advice: str = "Lower lr"
    if_interrupted: str = ""


def descend(
    loss: Callable[[T], Tensor],
    minibatches: Callable[[int], Iterable[T]],
    optimizer: torch.optim.Optimizer,
    options: DescendOptions,
    *,
    describe: Callable[[T], str],
    count: Callable[[T], float] = lambda minibatch: 1.0,
    validate: Callable[[], Mapping[str, float]] | None = None,
    modules: Sequence[torch.nn.Module] = (),
    scheduler: Any = None,
) -> Outcome:
    """Fit the parameters of ``optimizer`` in place.

    Parameters
    ----------
    loss
        Mean loss of a minibatch, ().
    minibatches
        The minibatches of an epoch, by its number, in the order given by the caller.
    optimizer
        Optimizer of all trained parameters.
    options
        See :class:`DescendOptions`.
    describe
        Description of a minibatch, for the error about its loss: ``"cells (row numbers): [3, 17, 5]"``.
    count
        Weight of a minibatch in the mean loss of an epoch. Default: equal weights.
    validate
        Metrics of held-out data after an epoch; needed for ``patience``. It runs in evaluation mode, without gradients.
    modules
        Modules that are set to training mode for steps, and to evaluation mode for ``validate`` and at the end.
    scheduler
        A scheduler of torch, stepped after each step of the optimizer.

    Returns
    -------
    Outcome
        History (``train_loss`` and what ``validate`` returns), and whether Ctrl-C ended the fit.

    Raises
    ------
    FloatingPointError, KeyboardInterrupt, SystemExit
        As :func:`~scatacformer.training.fit`.

    Warns
    -----
    UserWarning
        Ctrl-C ended the fit; the best weights so far are kept.
    """
    if options.patience is not None and validate is None:
        raise ValueError(
            "patience is given without validate; expected both, because the best weights are those for held-out data."
        )
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    best = _Best(learned, options.patience)
    history = History()

    def measure() -> dict[str, float]:
        for module in modules:
            module.eval()
        with torch.no_grad():
            return dict(validate()) if validate is not None else {}

    if options.patience is not None:
        best.look_at(measure()[options.monitor])
    devices = range(torch.cuda.device_count())
    with interruptible() as interrupt, torch.random.fork_rng(devices, enabled=options.seed is not None):
        if options.seed is not None:
            torch.manual_seed(options.seed)
        interrupt.stepping = True
        for epoch in _bar(options):
            for module in modules:
                module.train()
            means = Means()
            try:
                for minibatch in minibatches(epoch):
                    value = _step(loss, minibatch, optimizer, options, describe, epoch)
                    means.add({"train_loss": value}, count(minibatch))
                    if scheduler is not None:
                        scheduler.step()
                    if interrupt.asked:
                        break
            except KeyboardInterrupt:  # if another handler of Ctrl-C is active
                interrupt.asked = signal.SIGINT
            found = means.take() | measure()
            for name, value in found.items():
                history.keep(name, epoch, value)
            if interrupt.asked or (options.patience is not None and best.look_at(found[options.monitor])):
                break
    best.restore()
    for module in modules:
        module.eval()
    if interrupt.asked == signal.SIGTERM:
        terminate(f"the training of {options.what} was ended by SIGTERM")
    if interrupt.asked:
        rest = f"; {options.if_interrupted}" if options.if_interrupted else ""
        warnings.warn(
            f"the training of {options.what} was stopped by Ctrl-C; the best weights so far are kept{rest}",
            UserWarning,
            stacklevel=3,
        )
    return Outcome(history, bool(interrupt.asked))


def _step(
    loss: Callable[[T], Tensor],
    minibatch: T,
    optimizer: torch.optim.Optimizer,
    options: DescendOptions,
    describe: Callable[[T], str],
    epoch: int,
) -> float:
    value = loss(minibatch)
    number = float(value.detach())
    if not math.isfinite(number):
        raise FloatingPointError(
            f"the loss of {options.what} is {number} in epoch {epoch}; {describe(minibatch)}. {options.advice}"
        )
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return number


class _Best:
    """The trained values at the lowest monitored metric."""

    def __init__(self, learned: list[Tensor], patience: int | None) -> None:
        self.learned, self.patience = learned, patience
        self.value, self.waited = float("inf"), 0
        self.kept: list[Tensor] | None = None

    def look_at(self, value: float) -> bool:
        """Whether the metric has not decreased within the patience."""
        if self.kept is None or value < self.value:
            self.value, self.waited = value, 0
            self.kept = [tensor.detach().clone() for tensor in self.learned]
            return False
        self.waited += 1
        return self.patience is not None and self.waited >= self.patience

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, kept in zip(self.learned, self.kept or self.learned, strict=True):
            tensor.copy_(kept)


def _bar(options: DescendOptions) -> Iterable[int]:
    from scatacformer._io import tqdm

    return tqdm(
        range(options.max_epochs),
        desc=options.what,
        unit="epoch",
        leave=False,
        disable=None if options.progress else True,
    )
