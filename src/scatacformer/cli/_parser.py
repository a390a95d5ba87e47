"""The parser of the command line, with the texts of ``--help``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from scatacformer import __version__

_INPUT = """\
INPUT is recognised by its name:
  fragments.tsv.gz  fragments: chromosome, start, end, barcode, count (also .tsv, .bed, .bed.gz); needs --genome or
                    --chrom-sizes
  cells.h5ad        AnnData of cells x regions, raw counts; .var has chrom, start, end, or regions are named
                    chr1:0-5000, chr1-0-5000 or chr1_0_5000
  cells.h5mu        MuData; its modality --modality is read
  matrix.h5         peaks of Cell Ranger ATAC or ARC (filtered_feature_bc_matrix.h5); genes in it are ignored
  cells.zarr        AnnData as a zarr folder
"""

_EMBED = """\
examples:
  scatacformer embed fragments.tsv.gz --genome hg38 -o cells.h5ad --plot umap.png
  scatacformer embed fragments.tsv.gz --genome hg38 --barcodes cells.txt --labels types.tsv -o cells.h5ad
  scatacformer embed peaks.h5ad --batch-key sample --labels cell_type -o embedded.h5ad
  scatacformer embed multiome.h5mu --layer counts --model-dir model/ -o embedded.h5ad
  scatacformer embed new.h5ad --pretrained model/ -o new_embedded.h5ad

output:
  the cells with their embedding in .obsm["X_scatacformer"], neighbours, .obs["leiden"] and .obsm["X_umap"]. The
  embedding takes seconds; the network that predicts accessibility is trained only if it is needed (--train). With
  --labels a table of how well clusters and labels agree. Labels are used only for comparison, never for training. Files are written
  under a temporary name and then renamed, so a run that fails or is stopped leaves no incomplete files.

exit codes:
  0 success; 1 unexpected error; 2 invalid usage or input; 130 stopped by Ctrl-C;
  143 ended by SIGTERM
"""

_DEMO = """\
examples:
  scatacformer demo
  scatacformer demo --data cells.h5ad --output try/

output:
  cells.h5ad and umap.png in the folder --output (demo/), and a table on stdout. Files of an earlier demo are replaced.
"""

_QC = """\
examples:
  scatacformer qc fragments.tsv.gz --genome hg38 --plot tokens.png
  scatacformer qc cells.h5ad
"""

_CORPUS = """\
examples:
  scatacformer corpus build corpus/ a.h5ad b.h5ad c.tsv.gz --genome hg38 --bin-size 5000
  scatacformer corpus build corpus/ runs/ --layout 10x --genome hg38
  scatacformer corpus build corpus.toml
  scatacformer corpus validate corpus/
  scatacformer corpus show corpus/

the same command resumes a build that was stopped; data sets that are complete are kept.
"""

_PRETRAIN = """\
examples:
  scatacformer pretrain config.toml
  scatacformer pretrain config.toml --resume
  torchrun --nproc-per-node=8 -m scatacformer pretrain config.toml

config.toml contains at least the cells and the folder of the model (paths are relative to the file):
  data = "corpus"        # folder of a corpus, or an .h5ad
  output = "pretrained"
  batch_size = 256
  [model]
  size = "base"
Every key is explained in the user guide, page Pretraining.

output:
  the model in the folder output, which ScAtacFormer.load and load_query_data read; metrics and checkpoints in
  output/training. With --resume, a run that was stopped continues as if it had not been interrupted.
"""


_TRACKS = """\
examples:
  scatacformer tracks T.bw B.bw Mono.bw --fasta hg38.fa -o model/ --holdout chr8 --validation chr10
  scatacformer tracks --fragments fragments.tsv.gz --groups clusters.tsv --fasta hg38.fa -o model/ --bigwig predicted/

output:
  a trained Epiformer in the folder model/, which 'scatacformer variants' and Epiformer.load read; with --bigwig, the
  signal that it predicts over the whole genome. clusters.tsv has a barcode and its group on each line.
"""

_VARIANTS = """\
examples:
  scatacformer variants model/ variants.vcf --fasta hg38.fa -o scores.tsv
  scatacformer variants model/ variants.vcf.gz --fasta hg38.fa -o scores.tsv --vcf scores.vcf --tracks T B

output:
  a line for each allele and track: the signal around the variant with the reference and with the alternative allele,
  their difference, its log2 fold change, and how much that varies between strands and shifts. With --resume a run that
  was stopped is continued.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line; each command's function is in ``args.run``."""
    parser = argparse.ArgumentParser(
        prog="scatacformer",
        description="A transformer for single-cell ATAC-seq: from fragments or counts to an embedding of the cells.",
        epilog="'scatacformer COMMAND --help' has examples. Try 'scatacformer demo' first: it needs no data.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scatacformer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_embed(commands)
    _add_qc(commands)
    _add_demo(commands)
    _add_corpus(commands)
    _add_pretrain(commands)
    _add_tracks(commands)
    _add_variants(commands)
    return parser


def _add_embed(commands: argparse._SubParsersAction) -> None:
    embed = _command(commands, "embed", "embed, cluster and plot cells", f"{_INPUT}\n{_EMBED}")
    embed.add_argument("input", metavar="INPUT", type=Path, help="fragments file, .h5ad, .h5mu, .h5 or zarr folder")
    embed.add_argument("-o", "--output", metavar="OUT.h5ad", type=Path, required=True, help="file to write")
    _add_input(embed)
    _add_result(embed)
    model = _add_training(embed)
    model.add_argument(
        "--train",
        action="store_true",
        help="also train the network that predicts accessibility, which leaves the embedding unchanged (default: only "
        "with --accessibility or --max-epochs)",
    )
    model.add_argument(
        "--pretrained",
        metavar="M",
        help="use a trained model, from a folder or as owner/name on the Hugging Face Hub, instead of training one; the "
        "regions of INPUT are mapped to those of the model by overlap",
    )


def _add_qc(commands: argparse._SubParsersAction) -> None:
    qc = _command(commands, "qc", "report on the open bins per cell, without training", f"{_INPUT}\n{_QC}")
    qc.add_argument("input", metavar="INPUT", type=Path, help="fragments file, .h5ad, .h5mu, .h5 or zarr folder")
    _add_input(qc)
    qc.add_argument("--min-tokens", metavar="N", type=_at_least(0), default=100, help="too short below (default: 100)")
    qc.add_argument("--max-tokens", metavar="N", type=_at_least(1), default=6800, help="cut above (default: 6800)")
    qc.add_argument("--plot", metavar="F.png", type=Path, help="also write a histogram (.png, .pdf or .svg)")
    qc.add_argument("--overwrite", action="store_true", help="replace a picture that exists")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = _command(commands, "demo", "embed simulated cells (or your own file) in a few minutes", _DEMO)
    demo.add_argument(
        "--data", metavar="INPUT", type=Path, help="your own cells: any INPUT of 'embed' (default: simulated)"
    )
    demo.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("demo"), help="folder (default: demo)")
    demo.add_argument(
        "--cells", metavar="N", type=_at_least(20), default=2000, help="cells to simulate (default: 2000)"
    )
    _add_input(demo)
    demo.add_argument("--batch-key", metavar="K", help="column of .obs with the batch")
    demo.add_argument("--labels", metavar="L", help="as in 'embed' (default: the column cell_type, if there is one)")
    _add_training(demo)


def _add_corpus(commands: argparse._SubParsersAction) -> None:
    corpus = commands.add_parser(
        "corpus",
        help="combine many data sets on disk for pretraining",
        description="Combine many data sets on disk for pretraining.",
        epilog=_CORPUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = corpus.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = _command(actions, "build", "write the cells of all inputs into a folder", _CORPUS, of="corpus")
    build.add_argument(
        "paths", metavar="FOLDER INPUT", type=Path, nargs="+", help="folder to write, then inputs; or one config.toml"
    )
    genome = build.add_mutually_exclusive_group()
    genome.add_argument("--genome", metavar="G", help="assembly: hg38, hg19, mm10, ... (no network is used)")
    genome.add_argument("--chrom-sizes", metavar="F", type=Path, help="instead: a chrom.sizes or .fai file")
    genome.add_argument("--vocabulary", metavar="F", type=Path, help="instead: a BED file of the bins")
    build.add_argument("--bin-size", metavar="BP", type=_at_least(1), help="width of a bin (default: 5000)")
    build.add_argument(
        "--min-bins", metavar="N", type=_at_least(1), help="minimum number of open bins per cell (default: 100)"
    )
    build.add_argument(
        "--max-bins", metavar="N", type=_at_least(1), help="maximum number of open bins per cell (default: none)"
    )
    build.add_argument(
        "--layout", choices=["hubmap", "catlas", "10x"], help="inputs are folders from this public source"
    )
    build.add_argument("--batch-key", metavar="K", help="column of .obs with the sample, in all inputs")
    build.add_argument("--labels-key", metavar="K", help="column of .obs with the cell type, in all inputs")
    build.add_argument("--organ", metavar="O", help="organ of all inputs")
    build.add_argument("--layer", metavar="L", help="layer with the raw counts, in all inputs (default: X)")
    validate = _command(actions, "validate", "check all files of a corpus, and its sources", _CORPUS, of="corpus")
    validate.add_argument("folder", metavar="FOLDER", type=Path, help="folder of the corpus")
    validate.add_argument("--deep", action="store_true", help="read all bytes of the sources too")
    show = _command(actions, "show", "print the content of a corpus", _CORPUS, of="corpus")
    show.add_argument("folder", metavar="FOLDER", type=Path, help="folder of the corpus")


def _add_pretrain(commands: argparse._SubParsersAction) -> None:
    pretrain = _command(commands, "pretrain", "pretrain a model on a corpus, on one device or many", _PRETRAIN)
    pretrain.add_argument("config", metavar="CONFIG.toml", type=Path, help="cells, output and settings")
    pretrain.add_argument("--resume", action="store_true", help="resume from the last checkpoint, if there is one")


def _add_tracks(commands: argparse._SubParsersAction) -> None:
    tracks = _command(commands, "tracks", "train a model that predicts the signal of groups from DNA", _TRACKS)
    tracks.add_argument("tracks", metavar="TRACK.bw", type=Path, nargs="*", help="a bigWig file for each group")
    tracks.add_argument("--fragments", metavar="F.tsv.gz", type=Path, help="instead: a fragments file, with --groups")
    tracks.add_argument("--groups", metavar="F.tsv", type=Path, help="barcode and group of each cell")
    tracks.add_argument("--fasta", metavar="F.fa", type=Path, required=True, help="the genome, plain or bgzip")
    tracks.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the model")
    tracks.add_argument("--conservation", metavar="F.bw", type=Path, help="bigWig file of phastCons")
    tracks.add_argument("--blacklist", metavar="F.bed", type=Path, help="no window lies on these regions")
    tracks.add_argument(
        "--regions", metavar="F.bed", type=Path, help="windows around these (default: the whole genome)"
    )
    tracks.add_argument("--holdout", metavar="CHR", nargs="+", help="chromosomes that are not trained on")
    tracks.add_argument("--validation", metavar="CHR", nargs="+", help="chromosomes that tell when to stop")
    tracks.add_argument("--size", choices=["small", "base"], default="small", help="of the network (default: small)")
    tracks.add_argument(
        "--composition",
        metavar="MOTIFS",
        help="count motifs and k-mers in each bin, for a few megabases of DNA: a file of motifs (MEME, JASPAR or HOMER), "
        "'jaspar' (the vertebrate motifs of the installed pyjaspar) or 'kmers'",
    )
    tracks.add_argument("--seq-len", metavar="BP", type=_at_least(2), default=98_304, help="window (default: 98304)")
    tracks.add_argument("--bin-size", metavar="BP", type=_at_least(2), default=128, help="output bin (default: 128)")
    tracks.add_argument(
        "--crop", metavar="N", type=_at_least(0), default=64, help="bins cut on each side (default: 64)"
    )
    tracks.add_argument("--max-epochs", metavar="N", type=_at_least(1), help="passes over the windows (default: 100)")
    tracks.add_argument("--batch-size", metavar="N", type=_at_least(1), help="windows in a minibatch (default: 4)")
    tracks.add_argument("--accelerator", metavar="A", default="auto", help="auto, cpu or gpu (default: auto)")
    tracks.add_argument("--seed", metavar="N", type=_at_least(0), default=0, help="of all that is sampled (default: 0)")
    tracks.add_argument("--checkpoint-dir", metavar="DIR", type=Path, help="write a checkpoint after each epoch there")
    tracks.add_argument("--resume", action="store_true", help="resume from the checkpoint in --checkpoint-dir")
    tracks.add_argument("--bigwig", metavar="DIR", type=Path, help="also write the predicted signal, a file a track")
    tracks.add_argument("--overwrite", action="store_true", help="replace a model that exists")


def _add_variants(commands: argparse._SubParsersAction) -> None:
    variants = _command(commands, "variants", "score the variants of a VCF file", _VARIANTS)
    variants.add_argument("model", metavar="MODEL", type=Path, help="folder of an Epiformer")
    variants.add_argument("variants", metavar="VARIANTS.vcf", type=Path, help="VCF or BCF file, plain or bgzip")
    variants.add_argument("--fasta", metavar="F.fa", type=Path, required=True, help="the genome of the variants")
    variants.add_argument("--conservation", metavar="F.bw", type=Path, help="as in training")
    variants.add_argument("-o", "--output", metavar="OUT.tsv", type=Path, required=True, help="file to write")
    variants.add_argument("--vcf", metavar="OUT.vcf", type=Path, help="also write the scores as a VCF file")
    variants.add_argument("--tracks", metavar="T", nargs="+", help="tracks to score (default: all)")
    variants.add_argument("--window", metavar="BP", type=_at_least(1), help="over which the signal is summed (1024)")
    variants.add_argument("--skip-mismatches", action="store_true", help="skip variants that do not fit the genome")
    variants.add_argument("--accelerator", metavar="A", default="auto", help="auto, cpu or gpu (default: auto)")
    variants.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    variants.add_argument("--overwrite", action="store_true", help="replace files that exist")


def _command(
    commands: argparse._SubParsersAction, name: str, summary: str, epilog: str, of: str | None = None
) -> argparse.ArgumentParser:
    """A command, or an action ``of`` one."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--quiet", action="store_true", help="say nothing but warnings, errors and the result")
    command.set_defaults(run=_later(of or name))
    return command


def _later(name: str) -> Callable[[argparse.Namespace], None]:
    """The command's function, imported when it is run: --help and wrong usage answer at once."""

    def run(args: argparse.Namespace) -> None:
        importlib.import_module(f"scatacformer.cli._{name}").run(args)

    return run


def _add_input(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("input")
    genome = group.add_mutually_exclusive_group()
    genome.add_argument("--genome", metavar="G", help="assembly: hg38, hg19, mm10, ... (no network is used)")
    genome.add_argument("--chrom-sizes", metavar="F", type=Path, help="instead: a chrom.sizes or .fai file")
    group.add_argument(
        "--bin-size",
        metavar="BP",
        type=_at_least(1),
        help="width of a bin. Fragments: default 5000. Other input keeps its regions, unless this is given: then they "
        "are mapped onto bins of this width by overlap",
    )
    group.add_argument("--barcodes", metavar="F", type=Path, help="cells to keep: one barcode in each line")
    group.add_argument(
        "--min-fragments",
        metavar="N",
        type=_at_least(0),
        help="leave out cells with fewer fragments (default: 200 in a fragments file without --barcodes, else none); "
        "in other input, with a smaller sum of counts",
    )
    group.add_argument("--layer", metavar="L", help="layer of the AnnData with the raw counts (default: X)")
    group.add_argument("--modality", metavar="M", default="atac", help="modality of a .h5mu (default: atac)")


def _add_result(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("result")
    group.add_argument(
        "--labels",
        metavar="L",
        help="known types to compare with: a column of .obs, or a file with a barcode and a label in each line "
        "(.tsv or .csv, may have a header)",
    )
    group.add_argument("--batch-key", metavar="K", help="column of .obs with the batch, which the decoder is told")
    group.add_argument("--plot", metavar="F.png", type=Path, help="also write the UMAP as a picture (.png, .pdf, .svg)")
    group.add_argument("--model-dir", metavar="DIR", type=Path, help="also save the model in this folder")
    group.add_argument("--accessibility", action="store_true", help="also write predicted accessibility as a layer")
    group.add_argument("--overwrite", action="store_true", help="replace files that exist")


def _add_training(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = command.add_argument_group("model")
    group.add_argument("--size", choices=["small", "base"], default="small", help="default: small; base wants a GPU")
    group.add_argument(
        "--max-epochs", metavar="N", type=_at_least(1), help="of training (default: by the number of cells)"
    )
    group.add_argument("--accelerator", choices=["auto", "cpu", "gpu", "mps"], default="auto", help="default: auto")
    group.add_argument("--seed", metavar="N", type=_at_least(0), default=0, help="of all that is drawn (default: 0)")
    group.add_argument(
        "--resolution",
        metavar="R",
        type=_positive,
        help="of Leiden (default: 1, less where cells differ in few dimensions)",
    )
    return group


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        try:
            value = int(text.replace(",", "").replace("_", ""))
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found {text!r}.")
        return value

    return whole_number


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}.")
    return value
