"""Files of every kind that the package opens, how each is read, and how bytes of them are damaged.

``kinds(folder)`` writes a whole file of each kind. A kind whose content is under a checksum (``sealed``) must be refused
where it is damaged or give the very same result; any other may give another result, as another file would.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _damaged_more import dna, of_the_shell, other_models
from _kinds import NETWORK, SIZES, Kind, cells, result_of, trained, weights_of

# ── the kinds ──────────────────────────────────────────────────────────────────────────────────────────────────────


def kinds(folder: Path) -> list[Kind]:
    """A whole file of each kind, in folders of their own."""
    adata = cells()
    found = [
        *_models(folder / "model", adata),
        *_corpora(folder / "corpus", adata),
        *_settings(folder / "settings", adata),
    ]
    found += [*other_models(folder / "others", adata), *_annotation(folder / "annotation"), *dna(folder / "dna")]
    return [*found, *_tables(folder / "tables", adata), *of_the_shell(folder / "shell", adata)]


def _models(folder: Path, adata: Any) -> Iterator[Kind]:
    import scatacformer as sf

    model = trained(adata)
    model.save(folder / "m", save_anndata=True)
    for name in ("config.json", "model.safetensors", "vocabulary.bed.gz"):
        yield Kind(
            f"model: {name}", folder / "m", name, lambda at: weights_of(sf.ScAtacFormer.load(at, adata=False)), True
        )
    yield Kind("model: adata.h5ad", folder / "m", "adata.h5ad", lambda at: weights_of(sf.ScAtacFormer.load(at)), True)
    sf.Tokenizer.from_vocabulary(model.vocabulary).save_pretrained(folder / "t")
    for name in ("tokenizer_config.json", "vocabulary.bed.gz"):
        yield Kind(f"tokenizer: {name}", folder / "t", name, lambda at: hash(sf.Tokenizer.from_pretrained(at)), True)
    trained(adata, max_epochs=2, checkpoint_dir=folder / "ck")
    yield Kind(
        "checkpoint: last.ckpt", folder / "ck", "last.ckpt",
        lambda at: weights_of(trained(adata, max_epochs=3, checkpoint_dir=at, resume=True)), True,
    )  # fmt: skip


def _corpora(folder: Path, adata: Any) -> Iterator[Kind]:
    import scatacformer as sf

    folder.mkdir()
    adata.write_h5ad(folder / "a.h5ad")
    sf.Corpus.build(folder / "c", [{"path": folder / "a.h5ad", "batch_key": "batch"}], genome=SIZES, min_bins=20)

    def read(at: Path) -> str:
        corpus = sf.Corpus(at)
        corpus.validate()
        rows, names = corpus.source.rows(np.arange(corpus.n_cells)), corpus.cell_names(np.arange(corpus.n_cells))
        return result_of(
            (rows.bins.tobytes(), rows.indptr.tobytes(), corpus.obs.astype(str).to_numpy().tolist(), names)
        )

    for name in ("corpus.json", "vocabulary.bed.gz"):
        yield Kind(f"corpus: {name}", folder / "c", name, read, name != "corpus.json")
    for name in ("bins", "indptr", "barcodes", "barcodes_indptr", "batch", "label", "organ"):
        yield Kind(f"corpus: {name}.npy", folder / "c", f"datasets/a/{name}.npy", read, True)
    source = folder / "source"
    source.mkdir()
    shutil.copy(folder / "a.h5ad", source)

    def build(at: Path) -> str:
        corpus = sf.Corpus.build(at / "built", [at / "a.h5ad"], genome=SIZES, min_bins=20)
        return result_of(corpus.source.rows(np.arange(corpus.n_cells)).bins)

    yield Kind("source of a corpus: .h5ad", source, "a.h5ad", build)


def _settings(folder: Path, adata: Any) -> Iterator[Kind]:
    from scatacformer.corpus import read_config
    from scatacformer.model import read_config as read_pretraining

    folder.mkdir()
    (folder / "corpus.toml").write_text(
        'folder = "c"\ngenome = "hg38"\nmin_bins = 10\n\n[[source]]\npath = "a.h5ad"\norgan = "lung"\n\n'
        '[[source]]\npath = "b.h5ad"\nlabels_key = "type"\nmax_bins = 500\n'
    )
    yield Kind("corpus.toml", folder, "corpus.toml", lambda at: str(read_config(at / "corpus.toml")))
    (folder / "pretrain.toml").write_text(
        'data = "a.h5ad"\noutput = "o"\nbatch_key = "batch"\nmax_epochs = 5\nlr = 1e-3\nprogress = false\n\n[model]\n'
        + "".join(f"{name} = {value}\n" for name, value in NETWORK.items())
    )
    yield Kind("pretrain.toml", folder, "pretrain.toml", lambda at: str(read_pretraining(at / "pretrain.toml")))


def _annotation(folder: Path) -> Iterator[Kind]:
    from scatacformer.genome import Genes, Vocabulary, chrom_sizes, region_classes
    from scatacformer.genome.formats.chain import read_chains
    from scatacformer.sequence import Fasta
    from scatacformer.sequence.motif_files import read_motif_file

    folder.mkdir()
    bins = Vocabulary.from_chrom_sizes(SIZES, 50_000)
    starts = range(10_000, 3_000_000, 100_000)
    gene = 'chr1\tX\t%s\t%d\t%d\t.\t+\t.\tgene_id "G%d"; gene_name "N%d"; transcript_id "T%d";\n'
    gtf = "".join(gene % (kind, s, s + 9000, s, s, s) for s in starts for kind in ("gene", "transcript", "exon"))
    homer = "PeakID\tChr\tStart\tEnd\tAnnotation\n" + "".join(
        f"p{n}\tchr1\t{n * 50_000 + 1}\t{(n + 1) * 50_000}\tIntergenic\n" for n in range(60)
    )
    chain = "".join(
        f"chain 900 chr1 4000000 + {s} {s + 200} chr1 4000000 + {s} {s + 200} {s}\n100 10 10\n90\n\n" for s in starts
    )
    motif = "MEME version 4\n\nALPHABET= ACGT\n\n" + "".join(
        f"MOTIF M{n} name{n}\nletter-probability matrix: alength= 4 w= 6 nsites= 20 E= 0\n" + "0.7 0.1 0.1 0.1\n" * 6
        for n in range(5)
    )
    rng = np.random.default_rng(0)
    dna = "".join(f">{name}\n" + "".join(rng.choice(list("ACGT"), 600)) + "\n" for name in ("chr1", "chr2"))
    readers: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "regions.bed": ("".join(f"chr1\t{s}\t{s + 500}\n" for s in starts), lambda p: Vocabulary.from_bed(p).checksum),
        "genes.gtf": (gtf, lambda p: result_of(Genes.from_gtf(p).tss)),
        "parts.gtf": (gtf, lambda p: result_of(region_classes(bins, gtf=p).matrix.toarray())),
        "peaks.homer.txt": (homer, lambda p: result_of(region_classes(bins, homer=p).matrix.toarray())),
        "over.chain": (chain, lambda p: result_of(read_chains(p).target_start)),
        "chrom.sizes": ("".join(f"{k}\t{v}\n" for k, v in SIZES.items()), lambda p: str(chrom_sizes(p))),
        "motifs.meme": (motif, lambda p: result_of([r.matrix.tobytes() for r in read_motif_file(p)])),
        "genome.fa": (dna, lambda p: Fasta(p).sequence("chr2", 3, 500)),
    }
    for name, (text, read) in readers.items():
        packed = name not in ("chrom.sizes", "genome.fa")
        for file in [name, *([f"{name}.gz"] if packed else [])]:
            at = folder / file
            at.mkdir()
            (at / file).write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
            yield Kind(file, at, file, lambda at, file=file, read=read: read(at / file))  # type: ignore[misc]


def _tables(folder: Path, adata: Any) -> Iterator[Kind]:
    import scatacformer as sf
    from scatacformer.cli._labels import read_labels
    from scatacformer.sequence import DnaTableWriter, read_dna_table

    folder.mkdir()
    (folder / "dna").mkdir()
    table = DnaTableWriter(folder / "dna" / "dna.npy", (50, 4), "float16", {"n_bins": 50, "settings": {"a": 1}})
    table.append(np.random.default_rng(0).normal(size=(50, 4)))
    table.finish()
    for name in ("dna.npy", "dna.npy.json"):
        yield Kind(
            f"DNA table: {name}",
            folder / "dna",
            name,
            lambda at: result_of(np.array(read_dna_table(at / "dna.npy")[0])),
            name == "dna.npy",
        )
    for name in ("fragments.tsv", "fragments.tsv.gz"):
        (folder / name).mkdir()
        path = folder / name / name
        sf.datasets.simulated_fragments(folder / "fragments.tsv.gz.whole.tsv.gz", adata[:20].copy())
        content = (folder / "fragments.tsv.gz.whole.tsv.gz").read_bytes()
        path.write_bytes(content if name.endswith(".gz") else gzip.decompress(content))
        yield Kind(
            name, folder / name, name,
            lambda at, name=name: result_of(sf.pp.bin_fragments(at / name, SIZES, min_fragments=1).X.toarray()),  # type: ignore[misc]
        )  # fmt: skip
    (folder / "labels").mkdir()
    (folder / "labels" / "labels.tsv").write_text("barcode\ttype\n" + "".join(f"{b}\tA\n" for b in adata.obs_names))
    yield Kind("labels.tsv", folder / "labels", "labels.tsv", lambda at: str(read_labels(str(at / "labels.tsv"))))


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with something done to them: of a JSON or TOML file often one value, of others some bytes."""
    if content[:1] == b"{" and rng.random() < 0.5:
        return _another_value(content, rng)
    out = bytearray(content)
    at = int(rng.integers(len(out)))
    how = int(rng.integers(7))
    if how == 0:
        out[at] = int(rng.integers(256))
    elif how == 1:
        del out[at:]
    elif how == 2:
        del out[at : at + int(rng.integers(1, 60))]
    elif how == 3:
        out[at:at] = rng.integers(256, size=40, dtype=np.uint8).tobytes()
    elif how == 4:
        digits = [i for i, byte in enumerate(out) if 48 <= byte <= 57]
        at = digits[int(rng.integers(len(digits)))] if digits else at
        out[at : at + 1] = [b"-1", b"9" * 25, b"1e400", b"0.5", b"nan"][int(rng.integers(5))]
    elif how == 5:
        out[at : at + 8] = b"\xff" * 8
    else:
        lines = bytes(out).split(b"\n")
        line = int(rng.integers(len(lines)))
        out = bytearray(b"\n".join([*lines[:line], lines[int(rng.integers(len(lines)))], *lines[line:]]))
    return bytes(out)


def _another_value(content: bytes, rng: np.random.Generator) -> bytes:
    """A JSON file with another value at one of its places."""
    try:
        root = json.loads(content)
    except ValueError:
        return content[:-1]
    places: list[tuple[Any, Any]] = []
    stack = [root]
    while stack:
        here = stack.pop()
        items = here.items() if isinstance(here, dict) else enumerate(here)
        for key, value in items:
            places.append((here, key))
            if isinstance(value, dict | list):
                stack.append(value)
    here, key = places[int(rng.integers(len(places)))]
    values: list[Any] = [None, -1, 10**9, 1e308, "x" * 50, "../../etc/passwd", [], {}, [[[]]], True, 0.5]
    here[key] = values[int(rng.integers(len(values)))]
    return json.dumps(root).encode()
