"""``scatacformer qc``: lengths of the cells' sentences."""

from __future__ import annotations

import argparse

from ._errors import as_input_error
from ._paths import PICTURES, check_output
from ._read import check_input, read_cells


def run(args: argparse.Namespace) -> None:
    """Read the cells, print the report, plot the histogram."""
    kind = check_input(args, args.input)
    if args.plot is not None:
        check_output(args.plot, PICTURES, args.overwrite)
    adata = read_cells(args, args.input, kind)

    from scatacformer.pp import qc_sentences

    with as_input_error(f"{args.input}: "):
        report = qc_sentences(adata, min_tokens=args.min_tokens, max_tokens=args.max_tokens, layer=args.layer)
    for name, value in report.items():
        whole = isinstance(value, int) or float(value).is_integer()
        print(f"{name:<20} {value:>12,.0f}" if whole else f"{name:<20} {value:>12,.4f}")
    if args.plot is not None:
        import matplotlib as mpl

        mpl.use("Agg")
        from scatacformer import pl

        pl.qc_sentences(adata, min_tokens=args.min_tokens, max_tokens=args.max_tokens, save=args.plot, show=False)
        print(f"\nwritten: {args.plot}")
