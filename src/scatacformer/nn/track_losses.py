"""Errors of predicted tracks: their sum over what is measured, and how many values that are."""

from __future__ import annotations

import torch
from torch import Tensor


def poisson_error(predicted: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of predicted - measured · log(predicted) over what is measured (not NaN), and how many values that are."""
    known = ~measured.isnan()
    rate, count = predicted[known], measured[known]
    return (rate - count * (rate + 1e-8).log()).sum(), known.sum()


def log_error(predicted: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the squared differences of log2(x + 1) over what is measured (not NaN), and how many values that are."""
    return squared_error(torch.log2(predicted + 1), torch.log2(measured + 1))


def squared_error(predicted: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the squared differences over what is measured (not NaN), and how many values that are."""
    known = ~measured.isnan()
    return (predicted[known] - measured[known]).square().sum(), known.sum()
