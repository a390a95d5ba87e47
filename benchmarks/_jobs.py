"""The jobs that are killed, that find the disk full, and that meet another process in their folder."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _kinds import PRETRAINING, SIZES, cells, trained, weights_of
from _sequence_jobs import sequence_jobs


@dataclass(frozen=True)
class Job:
    """What is attacked. `prepare` fills a folder; `run` writes in it; `state` says what it holds, or raises.

    What `prepare` has left is whole until the new result is.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    state: Callable[[Path], str]
    again: Callable[[Path], None]  # the command that the user gives after it was killed
    other: Callable[[Path], None] | None = None  # what a second process writes to the same folder


def make_jobs(folder: Path, names: Sequence[str] | None = None) -> list[Job]:
    """All jobs, or those of the given names, on small cells and models that are written to ``folder``."""
    import scatacformer as sf
    from scatacformer._io import listed_file
    from scatacformer.cli import main as command

    folder.mkdir(parents=True)
    adata = cells()
    adata.write_h5ad(folder / "a.h5ad")
    one, two, three = (trained(adata, seed) for seed in (0, 1, 2))
    source = folder / "a.h5ad"

    def nothing(at: Path) -> None:
        pass

    def loaded(at: Path) -> str:
        return weights_of(sf.ScAtacFormer.load(at / "m", adata=False))

    def shared(at: Path) -> str:
        found = weights_of(sf.ScAtacFormer.from_pretrained(at / "m"))
        sums = json.loads((at / "m" / "config.json").read_text())["sha256"]
        if sums["model.safetensors"] not in listed_file(at / "m", "README.md", sums).read_text():
            raise ValueError(f"{at / 'm' / 'README.md'} is the card of another model")
        return found

    def build(at: Path, least: int) -> None:
        sf.Corpus.build(at / "c", [source], genome=SIZES, min_bins=least)

    def corpus(at: Path) -> str:
        found = sf.Corpus(at / "c")
        found.validate()
        return str(found.n_cells)

    def embed(at: Path, epochs: int) -> None:
        options = ["--max-epochs", str(epochs), "--accelerator", "cpu", "--overwrite", "--quiet"]
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            status = command(["embed", str(source), "-o", str(at / "o.h5ad"), *options])
        if status:
            raise RuntimeError(f"status {status}: {printed.getvalue()}")

    def embedded(at: Path) -> str:
        import anndata

        return str(float(np.abs(anndata.read_h5ad(at / "o.h5ad").obsm["X_scatacformer"]).sum().round(2)))

    def annotate(at: Path) -> None:
        if not (at / "z.zarr").exists():
            one.annotate(adata.copy(), store=at / "z.zarr", batch_size=16)

    def annotated(at: Path) -> str:
        import zarr

        left = [path.name for path in at.iterdir() if path.name != "z.zarr"]
        values = zarr.open(at / "z.zarr", mode="r")[:] if (at / "z.zarr").exists() else np.zeros(0)
        return f"{values.shape} {values.sum():.2f} {left if values.size else ''}"

    def train(at: Path) -> None:
        resume = (at / "ck" / "last.ckpt").exists()
        model = trained(adata, max_epochs=6, batch_size=16, checkpoint_dir=at / "ck", resume=resume)
        (at / "result").write_text(weights_of(model))

    def pretrain(at: Path) -> None:
        sf.pretrain(str(source), at / "o", resume=True, **PRETRAINING)

    def result(at: Path) -> str:
        return (at / "result").read_text()

    def pretrained(at: Path) -> str:
        return weights_of(sf.ScAtacFormer.load(at / "o", adata=False))

    def save(model: Any) -> Callable[[Path], None]:
        return lambda at: model.save(at / "m", overwrite=True)

    def share(model: Any) -> Callable[[Path], None]:
        return lambda at: model.save_pretrained(at / "m", overwrite=True)

    if names is None or "embed" in names:
        # the functions of UMAP take a minute to compile, once: the processes that are attacked are copies of this one
        warm = folder / "warm"
        warm.mkdir()
        embed(warm, 1)
    limit = int(np.median(np.diff(adata.X.indptr)))
    jobs = [
        Job("train", nothing, train, result, train),
        Job("pretrain", nothing, pretrain, pretrained, pretrain),
        Job("corpus", lambda at: build(at, 20), lambda at: build(at, limit), corpus, lambda at: build(at, limit),
            lambda at: build(at, limit + 20)),
        Job("save", save(one), save(two), loaded, save(two), save(three)),
        Job("save_pretrained", share(one), share(two), shared, share(two), share(three)),
        Job("annotate", nothing, annotate, annotated, annotate),
        Job("embed", lambda at: embed(at, 1), lambda at: embed(at, 2), embedded, lambda at: embed(at, 2)),
    ]  # fmt: skip
    if names is None or {"tracks", "variants", "GET"} & set(names):
        jobs += sequence_jobs(folder / "sequence", Job)
    return [job for job in jobs if names is None or job.name in names]
