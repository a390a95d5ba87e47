"""``scatacformer embed``: embed cells, after checking all options and inputs."""

from __future__ import annotations

import argparse
import time

from ._errors import InputError
from ._labels import put_labels, read_labels
from ._paths import PICTURES, check_model_folder, check_output
from ._read import check_accelerator, check_input, read_cells


def run(args: argparse.Namespace) -> None:
    """Check, read, train, embed, cluster, write, and print the table."""
    started = time.monotonic()
    kind = check_input(args, args.input)
    check_accelerator(args)
    if kind == "fragments" and args.batch_key is not None:
        raise InputError(
            f"--batch-key {args.batch_key} needs an AnnData; a fragments file has no columns of cells. Leave it out."
        )
    if args.pretrained is not None and args.max_epochs is not None:
        raise InputError("--max-epochs has no effect with --pretrained, which does not train. Leave one of them out.")
    if args.pretrained is not None and args.train:
        raise InputError("--train has no effect with --pretrained, which does not train. Leave one of them out.")
    check_output(args.output, (".h5ad",), args.overwrite)
    if args.plot is not None:
        check_output(args.plot, PICTURES, args.overwrite)
    if args.model_dir is not None:
        check_model_folder(args.model_dir, args.overwrite)
    labels = read_labels(args.labels)

    adata = read_cells(args, args.input, kind)
    labels_key = put_labels(adata, args.labels, labels)

    from ._pipeline import embed_cells
    from ._pretrained import embed_with_pretrained
    from ._report import plot_cells, print_table, write_cells

    if args.pretrained is not None:
        adata, model = embed_with_pretrained(adata, args)
    else:
        model = embed_cells(adata, args)
    if args.model_dir is not None:
        model.save(args.model_dir, overwrite=args.overwrite)
    if args.plot is not None:
        plot_cells(adata, args.plot, list(dict.fromkeys(filter(None, ["leiden", labels_key, args.batch_key]))))
    write_cells(adata, args.output)
    print_table(adata, labels_key, time.monotonic() - started)
    print(f"\nwritten: {', '.join(str(path) for path in (args.output, args.plot, args.model_dir) if path is not None)}")
