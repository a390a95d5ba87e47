"""What processes of a pretraining do, apart from pytest: run by name, by python or by torchrun."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import numpy as np

import scatacformer as sf
from model._cells import SIZES, planted, quiet, weights
from scatacformer.nn.optim import clip_gradients
from scatacformer.training import run as running
from scatacformer.training.callbacks import StepCheckpoint
from scatacformer.training.sharding import ShardedEncoder

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
    """Pretrains once for each of the cases (settings as JSON); ``N.npz`` has the last weights, ``N-R.npz`` the model's."""
    import torch.distributed as dist

    for number, changes in enumerate(json.loads(cases)):
        n_cells = changes.pop("n_cells", 90)
        output = Path(folder) / str(number)
        ShardedEncoder.on_train_end = partialmethod(keep_sizes, f"{output}-{os.environ['RANK']}.json")
        model = pretrained(output, cells=planted(n_cells), devices=2, **changes)
        np.savez(Path(folder) / f"{number}-{os.environ['RANK']}.npz", **weights(model))
        if dist.get_rank() == 0:
            last = sf.ScAtacFormer.load(output / "last", adata=False)
            np.savez(Path(folder) / f"{number}.npz", **weights(last))
    clip_divided()
    dist.barrier()


def clip_divided() -> None:
    """Gradients in two parts are clipped as they are in one."""
    import torch

    torch.manual_seed(0)
    whole, divided, beside = torch.nn.Linear(6, 3), torch.nn.Linear(6, 3), torch.nn.Linear(6, 1)
    divided.load_state_dict(whole.state_dict())
    torch.distributed.fsdp.fully_shard(divided, mesh=torch.distributed.init_device_mesh("cpu", (2,)))
    x = torch.randn(4, 6)
    for layer in (whole, divided, beside):
        layer(x).square().sum().backward()
    both, expected = ([*layer.parameters(), *beside.parameters()] for layer in (divided, whole))
    grads = [p.grad.clone() for p in beside.parameters()]
    norm = clip_gradients(both, 0.1)
    for p, grad in zip(beside.parameters(), grads, strict=True):
        p.grad = grad
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(expected, 0.1))
    for p, q in zip(divided.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(p.grad.full_tensor(), q.grad)


def keep_sizes(strategy, path: str) -> None:
    """Writes how many numbers of the encoder, and of its moments, this process holds, and how many there are."""
    parameters = list(strategy.lightning_module.module.encoder.parameters())
    state = strategy.optimizers[0].state
    kinds = [parameters, *([state[p][name] for p in parameters] for name in ("mean", "square"))]
    held = [sum(getattr(v, "_local_tensor", v).numel() for v in values) for values in kinds]
    Path(path).write_text(json.dumps({"held": held, "all": sum(p.numel() for p in parameters)}))


class Stopped(Exception):
    """What a test stops a run with."""


def stop() -> None:
    raise Stopped


def stopped(output, **changes) -> None:
    """A run that stops after its ninth step, and has a checkpoint of the eighth; the encoder learns from the fifth."""
    running.StepCheckpoint = AfterStep.of(9, stop)
    try:
        pretrained(output, every_n_steps=2, **changes)
    except Stopped:
        return
    finally:
        running.StepCheckpoint = StepCheckpoint
    raise AssertionError("the run was not stopped")


def handed_over(folder: str, changes: str) -> None:
    """Two processes that divide the encoder stop in ``two``; go on in a copy of it, and in ``one``, begun by another."""
    import torch.distributed as dist

    settings = {"devices": 2, "strategy": "fsdp", **json.loads(changes)}
    stopped(Path(folder) / "two", **settings)
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.copytree(Path(folder) / "two", Path(folder) / "two_to_two")
    dist.barrier()
    for output in ("two_to_two", "one"):
        pretrained(Path(folder) / output, resume=True, every_n_steps=2, **settings)
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


def until_killed(folder: str, step: str, rank: str = "0", strategy: str = "auto") -> None:
    """Pretrains until one of the processes is killed."""
    if os.environ.get("RANK", "0") == rank:
        running.StepCheckpoint = AfterStep.of(int(step), kill)
    pretrained(folder, devices=int(os.environ.get("WORLD_SIZE", "1")), every_n_steps=2, strategy=strategy)


def until_killed_alone(folder: str, strategy: str) -> None:
    """Pretrains until rank 1 is killed, and prints what the other one is told."""
    try:
        until_killed(folder, "5", "1", strategy)
    except RuntimeError as error:
        print(error, flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
