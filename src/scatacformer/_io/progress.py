"""Progress bars, which ``sf.settings.progress = False`` hides."""

from __future__ import annotations

from typing import Any

from scatacformer._settings import settings


def tqdm(*args: Any, **kwargs: Any) -> Any:
    """A bar of ``tqdm.auto``, with its arguments; hidden by ``sf.settings.progress = False``."""
    from tqdm.auto import tqdm as bar

    if not settings.progress:
        kwargs["disable"] = True
    return bar(*args, **kwargs)
