"""What processes of a pretraining do, apart from pytest: run by name, by python or by torchrun."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

import scatacformer as sf
from model._cells import SIZES, planted, quiet, weights
from scatacformer.model.pretraining import run as running
from scatacformer.model.pretraining.files import StepCheckpoint

SETTINGS = {
    "model": SIZES, "batch_key": "sample", "batch_size": 8, "n_closed": 128, "max_epochs": 2, "validation": 0.1,
    "accelerator": "cpu", "devices": 1, "progress": False, "embedding_lr": 1e-3, "decoder_steps": 3, "start_cells": 60,
    "timeout": 20, "log_every_n_steps": 5,
}  # fmt: skip
REPOSITORY = Path(__file__).parents[2]


def pretrained(output, resume=False, cells=None, **changes):
    with quiet():
        return sf.pretrain(planted() if cells is None else cells, output, resume=resume, **(SETTINGS | changes))


def run(what: str, *arguments: object, torchrun: int = 0, limit: float = 120) -> subprocess.CompletedProcess:
    """``what(*arguments)`` of this module, in a process of its own, or in those that torchrun starts."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
    command = [sys.executable, *launcher, str(Path(__file__)), what, *map(str, arguments)]
    paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)


def forked(what: str, *arguments: str) -> None:
    """Two processes as torchrun would start them, with one import for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    child = os.fork()
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(int(child == 0))
    globals()[what](*arguments)
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def together(folder: str, cases: str) -> None:
    """Pretrains once for each of the cases (settings as JSON); ``N.npz`` has the last weights, by rank 0."""
    import torch.distributed as dist

    for number, changes in enumerate(json.loads(cases)):
        n_cells = changes.pop("n_cells", 90)
        output = Path(folder) / str(number)
        pretrained(output, cells=planted(n_cells), devices=2, **changes)
        if dist.get_rank() == 0:
            last = sf.ScAtacFormer.load(output / "last", adata=False)
            np.savez(Path(folder) / f"{number}.npz", **weights(last))
    dist.barrier()


class AfterStep(StepCheckpoint):
    """Does something after a step of the optimizer, once the checkpoint of that step is written."""

    step, action = 0, None

    @classmethod
    def of(cls, step, action):
        return type("AfterThis", (cls,), {"step": step, "action": staticmethod(action)})

    def on_train_batch_end(self, trainer, *arguments):
        super().on_train_batch_end(trainer, *arguments)
        if trainer.global_step == self.step:
            self.action()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # nothing is flushed, no handler runs


def until_killed(folder: str, step: str, rank: str = "0") -> None:
    """Pretrains until one of the processes is killed."""
    if os.environ.get("RANK", "0") == rank:
        running.StepCheckpoint = AfterStep.of(int(step), kill)
    pretrained(folder, devices=int(os.environ.get("WORLD_SIZE", "1")), every_n_steps=2)


def until_killed_alone(folder: str) -> None:
    """Pretrains until rank 1 is killed, and prints what the other one is told."""
    try:
        until_killed(folder, "5", rank="1")
    except RuntimeError as error:
        print(error, flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
