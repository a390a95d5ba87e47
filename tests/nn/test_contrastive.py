"""NT-Xent is the loss that its formula says: a cell's partner against all other cells of both modalities."""

from __future__ import annotations

import math

import pytest
import torch

from scatacformer.nn import nt_xent


def draw(n: int, k: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator), torch.randn(n, k, generator=generator)


def slow(a: torch.Tensor, b: torch.Tensor, temperature: float) -> float:
    """The formula, term by term."""
    n, rows = len(a), [*a.tolist(), *b.tolist()]

    def cosine(x, y):
        return sum(i * j for i, j in zip(x, y, strict=True)) / math.sqrt(sum(i * i for i in x) * sum(j * j for j in y))

    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        terms = [math.exp(cosine(rows[i], rows[j]) / temperature) for j in range(2 * n) if j != i]
        assert len(terms) == 2 * n - 1
        total -= cosine(rows[i], rows[partner]) / temperature - math.log(sum(terms))
    return total / n


@pytest.mark.parametrize("n", [2, 8, 128])
def test_of_cells_that_are_all_alike_it_is_chance(n):
    same = torch.ones(n, 5)
    loss = float(nt_xent(same, same))
    assert loss == pytest.approx(2 * math.log(2 * n - 1), abs=1e-4)
    if n == 128:  # as the reference implementation has it
        assert loss == pytest.approx(11.08253, abs=1e-4)


@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_it_is_the_sum_over_all_other_cells(n, temperature):
    a, b = draw(n)
    assert float(nt_xent(a, b, temperature)) == pytest.approx(slow(a, b, temperature), rel=1e-5)


def test_lengths_and_the_order_of_cells_do_not_matter():
    a, b = draw(9)
    loss, order = nt_xent(a, b), torch.randperm(9, generator=torch.Generator().manual_seed(3))
    scales = torch.linspace(0.1, 30, 9)[:, None]
    torch.testing.assert_close(nt_xent(a * scales, b * scales.flip(0)), loss)
    torch.testing.assert_close(nt_xent(a[order], b[order]), loss)
    torch.testing.assert_close(nt_xent(b, a), loss)
    assert abs(nt_xent(a[order], b) - loss) > 0.1


def test_matched_cells_lose_less_than_others_and_the_gradient_matches_them():
    a, _ = draw(16)
    b = (a + 0.05 * draw(16, seed=1)[0]).requires_grad_(True)
    assert nt_xent(a, b) < nt_xent(a, b.roll(1, 0)) - 1
    far = draw(16, seed=2)[0].requires_grad_(True)
    for _ in range(50):
        (step,) = torch.autograd.grad(nt_xent(a, far), far)
        far = (far - 0.3 * step).detach().requires_grad_(True)
    cosine = torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(far, dim=1).T
    assert (cosine.argmax(1) == torch.arange(16)).all()


def test_what_is_no_set_of_pairs_is_refused():
    a, b = draw(5)
    with pytest.raises(ValueError, match=r"shape \(5, 6\) and b \(4, 6\); expected the same two or more cells"):
        nt_xent(a, b[:4])
    with pytest.raises(ValueError, match="two or more cells"):
        nt_xent(a[:1], b[:1])
