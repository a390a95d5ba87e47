"""Arguments that a method does not have: an error that names the closest one that it has."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# arguments of scvi-tools' models that have another name or no counterpart here -> what to do
INSTEAD = {
    "categorical_covariate_keys": "The decoder has one categorical covariate, batch_key. For several, make a column of "
    "their combinations: adata.obs['batch'] = adata.obs['donor'].astype(str) + '_' + adata.obs['site'].astype(str).",
    "continuous_covariate_keys": "The decoder has no continuous covariates; the depth of a cell is accounted for. Divide "
    "the covariate into classes and use them as batch_key, or regress it out of the embedding.",
    "size_factor_key": "The depth of a cell is taken from its counts.",
    "use_gpu": "Use accelerator='gpu' or accelerator='cpu'.",
    "check_val_every_n_epoch": "Held-out cells are evaluated after each epoch.",
}


def trainer_arguments() -> list[str]:
    """The names of the arguments of Lightning's trainer."""
    from lightning.pytorch import Trainer

    return [*inspect.signature(Trainer).parameters]


def known_arguments(
    more: Collection[str] | Callable[[], Collection[str]] = (),
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a method: an argument that it does not have is a TypeError that names the closest one.

    ``more`` are the names that its ``**kwargs`` may have; without ``**kwargs`` there are none.
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(method).parameters
        own = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        shown = [name for name in own if name not in ("self", "cls")]

        @functools.wraps(method)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            unknown = [name for name in kwargs if name not in own]
            if unknown:
                allowed = more() if callable(more) else more
                unknown = [name for name in unknown if name not in allowed]
                if unknown:
                    raise TypeError(_message(method.__name__, unknown[0], shown, allowed, INSTEAD))
            return method(*args, **kwargs)

        return checked

    return decorate


def _message(method: str, name: str, own: Collection[str], allowed: Collection[str], instead: Mapping[str, str]) -> str:
    found = f"{method}() has no argument {name!r}"
    if name in instead:
        return f"{found}. {instead[name]}"
    close = difflib.get_close_matches(name, own, 1, 0.6) or difflib.get_close_matches(name, allowed, 1, 0.7)
    if close:
        return f"{found}; did you mean {close[0]!r}?"
    return f"{found}. It has {', '.join(own)}."
