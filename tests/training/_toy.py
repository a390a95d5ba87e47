"""A small network and its plan: a noisy line, learned by a perceptron with dropout."""

from __future__ import annotations

import torch
from torch import nn

from scatacformer.training import FitOptions, Losses, TrainingPlan, fit, schedule


class Loader:
    """Minibatches of rows, in an order of the epoch; can be resumed within an epoch."""

    def __init__(self, rows, batch_size=8, shuffle=True):
        self.rows, self.batch_size, self.shuffle = rows, batch_size, shuffle
        self.epoch, self.start, self.done = 0, 0, 0

    def set_epoch(self, epoch):
        if epoch != self.epoch:
            self.epoch, self.start, self.done = epoch, 0, 0

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.done}

    def load_state_dict(self, state):
        self.epoch, self.start, self.done = state["epoch"], state["batch"], state["batch"]

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        order = torch.arange(len(self.rows))
        if self.shuffle:
            order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self.epoch))
        start, self.start = self.start, 0
        for part in list(order.split(self.batch_size))[start:]:
            self.done += 1
            rows = self.rows[part]
            x = torch.stack([rows.float(), rows.float() % 7], 1) / 50
            yield {"rows": rows, "x": x, "y": x.sum(1, keepdim=True)}


class Plan(TrainingPlan):
    """Squared error; ``wrong_after``: from this step on the loss is not a number."""

    def __init__(self, module, lr=1e-2, wrong_after=None):
        super().__init__(module)
        self.lr, self.wrong_after = lr, wrong_after
        self.rates = []

    def losses(self, batch):
        error = ((self.module(batch["x"]) - batch["y"]) ** 2).mean()
        if self.wrong_after is not None and self.global_step >= self.wrong_after:
            error = error * torch.nan
        return Losses(error, {"train_loss": error}, len(batch["rows"]))

    def validation_losses(self, batch):
        error = ((self.module(batch["x"]) - batch["y"]) ** 2).mean()
        return Losses(error, {"validation_loss": error}, len(batch["rows"]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.module.parameters())

    def learning_rates(self):
        self.rates.append(self.lr * schedule(self.global_step, self.n_steps, 3))
        return [self.rates[-1]]

    def describe(self, batch):
        return f"rows: {batch['rows'].tolist()}"


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def loaders():
    return Loader(torch.arange(40)), Loader(torch.arange(40, 50), shuffle=False)


def train(module=None, data=None, plan=None, **options):
    """The module, and the outcome."""
    module = network() if module is None else module
    plan = Plan(module) if plan is None else plan
    settings = {"max_epochs": 4, "accelerator": "cpu", "progress": False} | options
    return module, fit(plan, loaders() if data is None else data, FitOptions(**settings))
