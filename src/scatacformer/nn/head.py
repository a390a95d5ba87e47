"""A linear map plus a perceptron that is initialised to zero."""

from __future__ import annotations

from torch import Tensor, nn


class Head(nn.Module):
    """A linear map plus a perceptron whose last layer is initialised to zero.  (n, d_in) -> (n, d_out)

    Before training it *is* the linear map, so ``linear`` can be initialised with a closed-form solution.

    Parameters
    ----------
    d_in, d_out
        Columns of the input and of the output.
    d_hidden
        Width of the perceptron's hidden layer.
    dropout
        Share of the hidden units that are dropped in training.
    """

    def __init__(self, d_in: int, d_out: int, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        first, last = nn.Linear(d_in, d_hidden), nn.Linear(d_hidden, d_out, bias=False)
        self.mlp = nn.Sequential(first, nn.GELU(), nn.Dropout(dropout), last)
        nn.init.zeros_(self.linear.bias)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.mlp(x)
