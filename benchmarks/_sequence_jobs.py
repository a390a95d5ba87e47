"""Further jobs that are attacked: ``scatacformer tracks`` and ``variants``, and the training and saving of a GET."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from _kinds import weights_of

LENGTH = 1024 + 768 * 12  # bp of a chromosome: 13 windows
SMALL = ["--seq-len", "1024", "--bin-size", "32", "--crop", "4", "--accelerator", "cpu", "--quiet", "--overwrite"]


def write_inputs(folder: Path) -> None:
    """A genome of random letters, fragments of two groups, their groups, and 64 variants."""
    rng = np.random.default_rng(0)
    sequences = {f"chr{i}": "".join(rng.choice(list("ACGT"), LENGTH)) for i in (1, 2, 3)}
    (folder / "g.fa").write_text("".join(f">{name}\n{letters}\n" for name, letters in sequences.items()))
    lines = [
        f"chr{rng.integers(1, 4)}\t{start}\t{start + 100}\tcell{rng.integers(6)}\t1\n"
        for start in rng.integers(0, LENGTH - 200, 6000).tolist()
    ]
    (folder / "f.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "groups.tsv").write_text("".join(f"cell{i}\t{'AB'[i % 2]}\n" for i in range(6)))
    places = np.sort(rng.choice(np.arange(600, LENGTH - 600), 24, replace=False)).tolist()
    rows = [
        f"chr3\t{p}\t.\t{sequences['chr3'][p - 1]}\t{'A' if sequences['chr3'][p - 1] != 'A' else 'C'}" for p in places
    ]
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "v.vcf").write_text(header + "".join(f"{row}\t.\t.\t.\n" for row in rows))


def shell(*arguments: object) -> None:
    """The command line; RuntimeError with its message where it fails."""
    from scatacformer.cli import main as command

    with contextlib.redirect_stderr(io.StringIO()) as printed, contextlib.redirect_stdout(io.StringIO()):
        status = command([str(one) for one in arguments])
    if status:
        raise RuntimeError(f"status {status}: {printed.getvalue()}")


def sequence_jobs(folder: Path, make_job: Any) -> list[Any]:
    """The jobs, made by ``make_job`` (:class:`Job`)."""
    import scatacformer as sf
    from scatacformer.model.epiformer import _variants

    folder.mkdir()
    write_inputs(folder)
    _variants._AT_ONCE = 2  # variants between two writes: twelve moments to be killed at

    def tracks(at: Path, seed: int = 0, epochs: int = 6) -> None:
        kept = ["--checkpoint-dir", at / "ck", *(["--resume"] if (at / "ck" / "last.ckpt").exists() else [])]
        shell("tracks", "--fragments", folder / "f.tsv.gz", "--groups", folder / "groups.tsv", "--fasta", folder / "g.fa",
              "-o", at / "m", "--holdout", "chr3", "--validation", "chr2", "--max-epochs", epochs, "--seed", seed,
              *(kept if seed == 0 else []), *SMALL)  # fmt: skip

    def trained(at: Path) -> str:
        return weights_of(sf.Epiformer.load(at / "m", adata=False))

    tracks(folder, seed=1, epochs=1)

    def variants(at: Path, window: int = 512) -> None:
        resume = ["--resume"] if (at / "s.tsv.partial").exists() else []
        shell("variants", folder / "m", folder / "v.vcf", "--fasta", folder / "g.fa", "-o", at / "s.tsv", "--window", window,
              "--accelerator", "cpu", "--quiet", "--overwrite", *resume)  # fmt: skip

    def scored(at: Path) -> str:
        return hashlib.sha256((at / "s.tsv").read_bytes()).hexdigest()

    def get(at: Path) -> None:
        model = new_get()
        resume = (at / "ck" / "last.ckpt").exists()
        model.train(6, holdout_chromosomes="chr2", batch_size=4, enable_progress_bar=False, accelerator="cpu",
                    checkpoint_dir=at / "ck", resume=resume)  # fmt: skip
        model.save(at / "m", overwrite=True)

    def get_trained(at: Path) -> str:
        return weights_of(sf.GET.load(at / "m", adata=False))

    def nothing(at: Path) -> None:
        pass

    return [
        make_job("tracks", lambda at: tracks(at, 1, 1), tracks, trained, tracks, lambda at: tracks(at, 2, 3)),
        make_job("variants", nothing, variants, scored, variants, variants),
        make_job("GET", nothing, get, get_trained, get),
    ]


def new_get() -> Any:
    """A small GET over 120 made-up regions of three groups."""
    import anndata as ad
    import pandas as pd

    import scatacformer as sf

    rng = np.random.default_rng(0)
    place = np.arange(120) % 60
    var = pd.DataFrame({"chrom": np.repeat(["chr1", "chr2"], 60), "start": 2_000 * place, "end": 2_000 * place + 500})
    var.index = var["chrom"] + ":" + var["start"].astype(str) + "-" + var["end"].astype(str)
    regions = ad.AnnData(np.zeros((3, 120), np.float32), obs=pd.DataFrame(index=["a", "b", "c"]), var=var)
    regions.layers["acpm"] = rng.random((3, 120)).astype(np.float32)
    promoter = place % 6 == 3
    for name in ("exp_pos", "exp_neg"):
        regions.layers[name] = (rng.random((3, 120)) * promoter).astype(np.float32)
    regions.varm["motif"] = rng.random((120, 4)).astype(np.float32)
    regions.varm["tss"] = np.stack([promoter, promoter], 1)
    regions.uns["motif"] = {"names": ["A", "B", "C", "D"]}
    sf.GET.setup_anndata(regions)
    return sf.GET(regions, d_model=16, n_layers=1, n_heads=2, n_regions=12, seed=0)
