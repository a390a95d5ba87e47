"""RowAdamW is AdamW on dense parameters, lazy Adam on rows, and leaves all other rows alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scatacformer.nn import RowAdamW


def test_dense_parameters_follow_adamw():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, generator=generator)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.03, "betas": (0.8, 0.95), "weight_decay": 0.1}
    a, b = RowAdamW([ours], **options), torch.optim.AdamW([theirs], **options)
    for _ in range(20):
        grad = torch.randn(5, 3, generator=generator)
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert (ours - start).abs().max() > 0.1


def sparse_gradient(rows, generator, n_rows=8, dim=3):
    values = torch.randn(len(rows), dim, generator=generator)
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, (n_rows, dim), check_invariants=True)


def test_rows_follow_sparse_adam():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(8, 3, generator=generator)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.03, "betas": (0.8, 0.95)}
    a, b = RowAdamW([ours], **options), torch.optim.SparseAdam([theirs], **options)
    for rows in ([0, 2, 2, 5], [5], [1, 0], [2, 7, 5, 5]) * 3:  # rows may repeat: their gradients add up
        grad = sparse_gradient(rows, generator)
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_rows_without_gradient_keep_every_bit():
    generator = torch.Generator().manual_seed(0)
    table = nn.Parameter(torch.randn(8, 3, generator=generator))
    optimizer = RowAdamW([table], lr=0.1, weight_decay=0.5)
    before = table.detach().clone()
    for rows in ([1, 4], [4], [1]):
        table.grad = sparse_gradient(rows, generator)
        optimizer.step()
    untouched = torch.tensor([0, 2, 3, 5, 6, 7])
    assert torch.equal(table[untouched], before[untouched])
    assert (table[[1, 4]] != before[[1, 4]]).all()
    assert optimizer.state[table]["mean"][untouched].abs().max() == 0


def test_a_parameter_without_gradient_is_left_alone():
    p = nn.Parameter(torch.ones(3))
    RowAdamW([p], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(p, torch.ones(3))


def test_state_that_is_saved_goes_on_where_it_was():
    def run(interrupted):
        generator = torch.Generator().manual_seed(0)
        p, table = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(8, 3))
        optimizer = RowAdamW([p, table], lr=0.1)
        for step in range(6):
            if interrupted and step == 3:
                state = optimizer.state_dict()
                optimizer = RowAdamW([p, table], lr=0.5)
                optimizer.load_state_dict(state)
            p.grad = torch.randn(3, generator=generator)
            table.grad = sparse_gradient([step, 0], generator)
            optimizer.step()
        return p.detach(), table.detach()

    for whole, resumed in zip(run(False), run(True), strict=True):
        assert torch.equal(whole, resumed)


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match="lr is -1; expected 0 or more"):
        RowAdamW([nn.Parameter(torch.ones(1))], lr=-1)
