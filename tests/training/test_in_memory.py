"""Small loops in memory: the best weights, the same check of the loss, the same meaning of Ctrl-C."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from scatacformer.training import DescendOptions, descend

from ._toy import network

X = torch.linspace(-1, 1, 40)[:, None] * torch.tensor([[1.0, 0.5]])
Y = X.sum(1, keepdim=True)


def run(module=None, lr=1e-2, action=None, wrong=None, **options):
    module = network() if module is None else module
    calls = []

    def loss(rows):
        calls.append(rows)
        if action is not None and len(calls) == 12:
            action()
        error = ((module(X[rows]) - Y[rows]) ** 2).mean()
        return error * (torch.nan if wrong is not None and len(calls) > wrong else 1.0)

    def validate():
        assert not module.training
        return {"validation_loss": float(((module(X[30:]) - Y[30:]) ** 2).mean())}

    def minibatches(epoch):
        return torch.randperm(30, generator=torch.Generator().manual_seed(epoch)).split(6)

    settings = {"what": "lines", "max_epochs": 20, "seed": 0, "progress": False} | options
    outcome = descend(
        loss, minibatches, torch.optim.Adam(module.parameters(), lr=lr), DescendOptions(**settings),
        describe=lambda rows: f"rows: {rows.tolist()}", validate=validate, modules=[module],
    )  # fmt: skip
    return module, outcome, len(calls)


def test_it_learns_and_leaves_the_global_generator():
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    module, outcome, _ = run()
    assert torch.rand(1) == expected
    record = outcome.history.record
    assert list(record["train_loss"]) == list(record["validation_loss"]) == list(range(20))
    assert record["validation_loss"][19] < 0.5 * record["validation_loss"][0]
    assert not module.training and not outcome.stopped


def test_with_patience_the_best_weights_are_kept_those_of_the_start_too():
    module, outcome, _ = run(patience=3)
    best = min(outcome.history.record["validation_loss"].values())
    assert float(((module(X[30:]) - Y[30:]) ** 2).mean()) == pytest.approx(best)
    module, outcome, _ = run(lr=30.0, patience=2)  # every step makes it worse
    assert len(outcome.history.record["train_loss"]) == 2
    for found, expected in zip(module.parameters(), network().parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_loss_that_is_not_finite_names_what_the_minibatch_was_made_of():
    with pytest.raises(FloatingPointError, match=r"the loss of lines is nan in epoch 1; rows: \[\d+, .*\]. Lower lr"):
        run(wrong=6)


def test_ctrl_c_ends_the_fit_and_a_second_one_is_keyboard_interrupt():
    before = signal.getsignal(signal.SIGINT)

    def once():
        os.kill(os.getpid(), signal.SIGINT)

    def twice():
        once()
        once()

    with pytest.warns(UserWarning, match="the training of lines was stopped by Ctrl-C; .* are kept; nothing else"):
        module, outcome, n_steps = run(action=once, if_interrupted="nothing else", patience=5)
    assert outcome.stopped and n_steps == 12 and not module.training
    assert len(outcome.history.record["train_loss"]) == 3
    with pytest.raises(KeyboardInterrupt):
        run(action=twice)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_the_process_with_status_143(capsys):
    with pytest.raises(SystemExit) as end:
        run(action=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert end.value.code == 143
    assert "the training of lines was ended by SIGTERM" in capsys.readouterr().err


def test_without_epochs_nothing_changes():
    module, outcome, _ = run(max_epochs=0, patience=1)
    assert outcome.history.record == {}
    for found, expected in zip(module.parameters(), network().parameters(), strict=True):
        assert torch.equal(found, expected)
