"""Schedule of the learning rate: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math


def schedule(step: int, n_steps: int, n_warmup: int = 0) -> float:
    """Share of the peak learning rate at a step, counted from 0.

    It rises in a line over ``n_warmup`` steps, the last of which is made at the peak, and then falls as a half cosine
    that would reach zero at step ``n_steps`` (Loshchilov & Hutter 2017, without restarts)."""
    if step < n_warmup:
        return warm_cosine((step + 1) / n_warmup, 0.0)
    return warm_cosine(1.0, (step - n_warmup) / max(n_steps - n_warmup, 1))


def warm_cosine(warmed: float, done: float) -> float:
    """The same from shares: ``warmed`` of the warm-up, ``done`` of what follows it. Shares above 1 count as 1."""
    return min(warmed, 1.0) * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
