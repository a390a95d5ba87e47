"""``scatacformer corpus``: build, validate and show corpora."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ._errors import InputError, as_input_error


def run(args: argparse.Namespace) -> None:
    """One of the three."""
    {"build": _build, "validate": _validate, "show": _show}[args.action](args)


def _build(args: argparse.Namespace) -> None:
    with as_input_error():
        from scatacformer.corpus import Corpus

        arguments = _arguments(args)
        corpus = Corpus.build(arguments.pop("folder"), arguments.pop("sources"), **arguments)
    print(corpus.to_markdown())
    print(f"written: {corpus.folder}")


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of :meth:`Corpus.build`, from the config file or from the options."""
    from scatacformer.corpus import read_config

    of_all = {"batch_key": args.batch_key, "labels_key": args.labels_key, "organ": args.organ, "layer": args.layer}
    of_all = {name: value for name, value in of_all.items() if value is not None}
    options = {"genome": args.genome or args.chrom_sizes, "bin_size": args.bin_size, "vocabulary": args.vocabulary}
    options |= {"min_bins": args.min_bins, "max_bins": args.max_bins}
    options = {name: value for name, value in options.items() if value is not None}
    folder, *inputs = args.paths
    if folder.suffix == ".toml":
        if inputs or options or of_all or args.layout:
            raise InputError(f"options and inputs cannot be combined with a config file. Put them into {folder}.")
        return read_config(folder)
    if not inputs:
        raise InputError(
            f"there are no inputs for the corpus in {folder}. List them after the folder, or pass a config file (.toml)."
        )
    if args.layout is None:
        return options | {"folder": folder, "sources": [{"path": path, **of_all} for path in inputs]}
    from scatacformer.corpus import LAYOUTS

    sources = [entry for path in inputs for entry in LAYOUTS[args.layout](path, **of_all)]
    return options | {"folder": folder, "sources": sources}


def _validate(args: argparse.Namespace) -> None:
    from scatacformer.corpus import validate

    with as_input_error():
        report = validate(args.folder, args.deep)
    print(f"{report['n_cells']:,} cells, {report['n_tokens']:,} tokens: as they were built")
    for path in report["sources_missing"]:
        print(f"source no longer exists (not an error): {path}")


def _show(args: argparse.Namespace) -> None:
    with as_input_error():
        print(_open(args.folder).to_markdown())


def _open(folder: Path) -> Any:
    from scatacformer.corpus import Corpus

    return Corpus(folder)
