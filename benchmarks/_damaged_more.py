"""More files for ``_damaged``: folders of the other models, a pretraining, DNA, signal, variants, and what the shell reads."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _kinds import PRETRAINING, Kind, result_of, weights_of


def other_models(folder: Path, adata: Any) -> Iterator[Kind]:
    """Atacformer, GET, Epiformer, and a pretraining that is resumed."""
    import scatacformer as sf
    from scatacformer.nn import AtacformerConfig

    folder.mkdir()
    few = adata[:40].copy()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sf.Atacformer.setup_anndata(few)
    atacformer = sf.Atacformer(few, config=AtacformerConfig(few.n_vars + 7, **sizes))
    atacformer.save(folder / "atacformer")
    regions = _regions()
    sf.GET.setup_anndata(regions)
    get = sf.GET(regions, n_regions=12, d_model=16, n_layers=1, n_heads=2)
    get.train(max_epochs=1, holdout_groups="g1", enable_progress_bar=False, accelerator="cpu")
    get.save(folder / "get")
    tracks = _tracks(folder)
    sf.Epiformer.setup_anndata(tracks)
    epiformer = sf.Epiformer(tracks, d_stem=8, d_model=8, n_layers=1, n_heads=2, d_feedforward=8)
    epiformer.save(folder / "epiformer")
    for name, model in (("atacformer", sf.Atacformer), ("get", sf.GET), ("epiformer", sf.Epiformer)):
        for path in sorted((folder / name).iterdir()):
            yield Kind(
                f"{model.__name__}: {path.name}", folder / name, path.name,
                lambda at, model=model: weights_of(model.load(at, adata=False)), True,  # type: ignore[misc]
            )  # fmt: skip
    yield from _single_files(folder / "single", get, epiformer)
    adata.write_h5ad(folder / "a.h5ad")
    sf.pretrain(str(folder / "a.h5ad"), folder / "o", **PRETRAINING)
    shutil.rmtree(folder / "whole", ignore_errors=True)
    (folder / "whole" / "training").mkdir(parents=True)
    for path in (folder / "o" / "training").iterdir():
        if path.is_file():
            shutil.copy(path, folder / "whole" / "training")

    def resumed(at: Path) -> str:
        sf.pretrain(str(folder / "a.h5ad"), at, resume=True, **PRETRAINING)
        return weights_of(sf.ScAtacFormer.load(at, adata=False))

    for path in sorted((folder / "whole" / "training").iterdir()):
        # of the history only the numbers would be others
        yield Kind(
            f"pretraining: {path.name}", folder / "whole", f"training/{path.name}", resumed,
            path.suffix in (".ckpt", ".safetensors", ".json"),
        )  # fmt: skip


def _single_files(folder: Path, get: Any, epiformer: Any) -> Iterator[Kind]:
    """Checkpoints of the authors' code, an adapter, and a map of contacts that was learned."""
    import scatacformer as sf
    from scatacformer.nn import ContactNetwork

    names = ("get.pth", "epiformer.pth.tar", "adapter.safetensors", "contacts.safetensors")
    for name in names:
        (folder / name).mkdir(parents=True)
    get.save_published(folder / "get.pth" / "get.pth")
    torch.save({"state_dict": epiformer.module.state_dict()}, folder / "epiformer.pth.tar" / "epiformer.pth.tar")
    tuned = sf.GET.load_query_data(get.adata, get)
    tuned.train(max_epochs=1, lora=2, holdout_groups="g1", enable_progress_bar=False, accelerator="cpu")
    tuned.save_adapter(folder / "adapter.safetensors" / "adapter.safetensors")
    sf.model.DistanceContactMap(ContactNetwork(8, 0), scores={"network": 0.5}).save(
        folder / "contacts.safetensors" / "contacts.safetensors"
    )

    def with_adapter(at: Path) -> str:
        model = sf.GET.load_query_data(get.adata, get)
        model.load_adapter(at / "adapter.safetensors")
        return weights_of(model)

    readers: dict[str, Callable[[Path], Any]] = {
        "get.pth": lambda at: weights_of(sf.GET.load_published(at / "get.pth", get.adata, n_heads=2, n_regions=12)),
        "epiformer.pth.tar": lambda at: weights_of(sf.Epiformer.load_published(at / "epiformer.pth.tar", crop=4)),
        "adapter.safetensors": with_adapter,
        "contacts.safetensors": lambda at: result_of(
            sf.model.DistanceContactMap.load(at / "contacts.safetensors").contacts([0, 10_000, 500_000])
        ),
    }
    for name in names:
        yield Kind(f"single file: {name}", folder / name, name, readers[name], True)


def _regions() -> Any:
    import anndata
    import pandas as pd

    rng = np.random.default_rng(0)
    n = 96
    var = pd.DataFrame({"chrom": np.repeat(["chr1", "chr2", "chr3"], n // 3), "start": np.arange(n) * 2000})
    var["end"] = var["start"] + 500
    var.index = [f"{c}:{s}-{e}" for c, s, e in var.itertuples(index=False)]
    regions = anndata.AnnData(np.zeros((3, n), np.float32), obs=pd.DataFrame(index=["g0", "g1", "g2"]), var=var)
    for name in ("acpm", "exp_pos", "exp_neg"):
        regions.layers[name] = rng.random((3, n)).astype(np.float32)
    regions.varm["motif"] = rng.random((n, 3)).astype(np.float32)
    regions.varm["tss"] = np.ones((n, 2), bool)
    regions.uns["motif"] = {"names": ["A", "B", "C"]}
    regions.uns["gene_tss"] = pd.DataFrame({"gene": var.index, "region": var.index, "strand": "+", "tss": var["start"]})
    return regions


def _tracks(folder: Path) -> Any:
    import scatacformer as sf

    rng = np.random.default_rng(0)
    fasta = folder / "genome.fa"
    fasta.write_text("".join(f">chr{i}\n{''.join(rng.choice(list('ACGT'), 36000))}\n" for i in range(1, 5)))
    regions = [f"chr{1 + i % 4}:{3840 * (i // 4)}-{3840 * (i // 4) + 4096}" for i in range(28)]
    signal = rng.random((2, len(regions), 32)).astype(np.float32)
    geometry = {"seq_len": 4096, "bin_size": 128, "crop": 4}  # the bins of the published network
    return sf.pp.sequence_windows(signal, fasta, regions=regions, names=["T", "B"], **geometry)


def dna(folder: Path) -> Iterator[Kind]:
    """A FASTA file compressed by bgzip, bigWig, bigBed, VCF, motifs in two more formats, clusters of motifs, contacts."""
    import pybigtools
    import pysam

    import scatacformer as sf
    from scatacformer.genome import BigWig, Vocabulary, region_classes, write_bigwig
    from scatacformer.sequence import Fasta, VariantReader
    from scatacformer.sequence.motif_files import read_cluster_table, read_motif_file

    folder.mkdir()
    rng = np.random.default_rng(0)
    letters = {name: "".join(rng.choice(list("ACGT"), 900)) for name in ("chr1", "chr2")}
    whole = "".join(f">{name}\n{text}\n" for name, text in letters.items())
    at = [(name, place) for name in letters for place in range(10, 800, 20)]
    other = dict(zip("ACGT", "CGTA", strict=True))
    vcf = (
        "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n##contig=<ID=chr2>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    vcf += "".join(
        f"{name}\t{place + 1}\trs{place}\t{letters[name][place]}\t{other[letters[name][place]]}\t.\t.\t.\n"
        for name, place in at
    )
    texts = {
        "motifs.jaspar": "".join(
            f">MA{n}.1 N{n}\n" + "".join(f"{base} [ 1 2 3 {n} ]\n" for base in "ACGT") for n in range(5)
        ),
        "motifs.homer": "".join(f">ACGT\tname{n}\t5.0\n" + "0.7\t0.1\t0.1\t0.1\n" * 5 for n in range(5)),
        "clusters.txt": "motif\tcluster\n" + "".join(f"M{n}\tC{n % 3}\n" for n in range(20)),
        "variants.vcf": vcf,
        "genome.fa.bgz": whole,
    }
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / name).write_text(text)
    (folder / "variants.vcf" / "genome.fa").write_text(whole)
    shutil.copytree(folder / "variants.vcf", folder / "variants.vcf.gz")
    for name, plain in (("genome.fa.bgz", "genome.fa.bgz"), ("variants.vcf.gz", "variants.vcf")):
        pysam.tabix_compress(str(folder / name / plain), str(folder / "packed"), force=True)
        (folder / name / plain).unlink()
        shutil.move(folder / "packed", folder / name / name)
    (folder / "signal.bw").mkdir()
    values = [(name, 10 * n, 10 * n + 5, float(n)) for name in letters for n in range(90)]
    write_bigwig(folder / "signal.bw" / "signal.bw", dict.fromkeys(letters, 900), values)

    def variants(at: Path, name: str) -> str:
        return str(list(VariantReader(at / name, Fasta(at / "genome.fa"))))

    def signal(at: Path) -> str:
        file = BigWig(at / "signal.bw")
        return result_of(np.concatenate([file.values(chrom, 0, 900) for chrom in ("chr1", "chr2")]))

    spans = {name: [(10 * n, 10 * n + 8) for n in range(60)] for name in letters}
    (folder / "regions.bb").mkdir()
    writer = pybigtools.open(str(folder / "regions.bb" / "regions.bb"), "w")
    writer.write(dict.fromkeys(letters, 900), ((name, *span, "x") for name in letters for span in spans[name]))
    bins = Vocabulary.from_chrom_sizes(dict.fromkeys(letters, 900), 50)
    (folder / "map.cool").mkdir()
    _contacts(folder / "map.cool" / "map.cool")

    def contacts(at: Path) -> str:
        size = {"n_bins": 8, "n_windows": 8, "max_epochs": 1, "width": 4, "span": 400_000}
        return result_of(sf.model.DistanceContactMap.fit(at / "map.cool", **size).contacts([0, 50_000]))

    readers: dict[str, Callable[[Path], Any]] = {
        "regions.bb": lambda at: result_of(region_classes(bins, bed={"a": at / "regions.bb"}).matrix.toarray()),
        "map.cool": contacts,
        "motifs.jaspar": lambda at: result_of([r.matrix.tobytes() for r in read_motif_file(at / "motifs.jaspar")]),
        "motifs.homer": lambda at: result_of([r.matrix.tobytes() for r in read_motif_file(at / "motifs.homer")]),
        "clusters.txt": lambda at: str(read_cluster_table(at / "clusters.txt")),
        "genome.fa.bgz": lambda at: Fasta(at / "genome.fa.bgz").sequence("chr2", 3, 800),
        "variants.vcf": lambda at: variants(at, "variants.vcf"),
        "variants.vcf.gz": lambda at: variants(at, "variants.vcf.gz"),
        "signal.bw": signal,
    }
    for name, read in readers.items():
        yield Kind(name, folder / name, name, read)


def _contacts(path: Path) -> None:
    import cooler
    import pandas as pd

    rng, n = np.random.default_rng(0), 40
    bins = pd.DataFrame({"chrom": "chr1", "start": np.arange(n) * 20_000, "end": np.arange(1, n + 1) * 20_000})
    i, j = np.triu_indices(n)
    cooler.create_cooler(str(path), bins, pd.DataFrame({"bin1_id": i, "bin2_id": j, "count": rng.poisson(9, len(i))}))


def of_the_shell(folder: Path, adata: Any) -> Iterator[Kind]:
    """What ``scatacformer qc`` reads; its error is what it prints."""
    import h5py
    import mudata

    from scatacformer.cli import main as command

    folder.mkdir()
    few = adata[:30].copy()
    few.obs = few.obs[[]]
    for name in ("cells.h5ad", "cells.h5mu", "matrix.h5", "barcodes.txt"):
        (folder / name).mkdir()
    few.write_h5ad(folder / "cells.h5ad" / "cells.h5ad")
    few.write_h5ad(folder / "barcodes.txt" / "cells.h5ad")
    mudata.MuData({"atac": few.copy()}).write(folder / "cells.h5mu" / "cells.h5mu")
    (folder / "barcodes.txt" / "barcodes.txt").write_text("\n".join(few.obs_names[:20]) + "\n")
    matrix = few.X.tocsr().T.tocsc()
    with h5py.File(folder / "matrix.h5" / "matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"], group["shape"] = np.array(list(few.obs_names), "S"), np.array(matrix.shape, np.int32)
        group["data"] = matrix.data.astype(np.int32)
        group["indices"], group["indptr"] = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(list(few.var_names), "S")
        features["feature_type"] = np.array(["Peaks"] * few.n_vars, "S")
        features["genome"] = np.array(["made"] * few.n_vars, "S")
        features["_all_tag_keys"] = np.array(["genome"], "S")

    def said(*arguments: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as result, contextlib.redirect_stderr(io.StringIO()) as problem:
            status = command(["qc", *arguments, "--quiet"])
        if status == 2 and "Traceback" not in problem.getvalue():
            raise ValueError(problem.getvalue())
        if status:
            raise AssertionError(f"status {status}: {problem.getvalue()}")
        return result.getvalue()

    for name in ("cells.h5ad", "cells.h5mu", "matrix.h5"):
        yield Kind(f"shell: {name}", folder / name, name, lambda at, name=name: said(str(at / name)))  # type: ignore[misc]
    yield Kind(
        "shell: barcodes.txt",
        folder / "barcodes.txt",
        "barcodes.txt",
        lambda at: said(str(at / "cells.h5ad"), "--barcodes", str(at / "barcodes.txt")),
    )
