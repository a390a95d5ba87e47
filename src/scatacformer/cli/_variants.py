"""``scatacformer variants``: effects of the variants of a VCF file on the tracks of an Epiformer."""

from __future__ import annotations

import argparse

from ._errors import InputError, as_input_error
from ._messages import logger
from ._paths import check_output


def run(args: argparse.Namespace) -> None:
    """Check, load the model, score, write."""
    unfinished = args.output.with_name(f"{args.output.name}.partial")
    check_output(args.output, (".tsv", ".txt"), args.overwrite or (args.resume and unfinished.exists()))
    if args.vcf is not None:
        check_output(args.vcf, (".vcf", ".gz", ".bcf"), args.overwrite)
    if not args.variants.is_file():
        raise InputError(f"the file {args.variants} does not exist. Check the path.")

    import pandas as pd

    import scatacformer as sf

    with as_input_error():
        model = sf.Epiformer.load(args.model, adata=False, accelerator=args.accelerator)
        model.set_genome(args.fasta, args.conservation)
        logger.info("%s", model)
        model.predict_variants(
            args.variants,
            args.tracks,
            window=args.window,
            mismatch="skip" if args.skip_mismatches else "raise",
            out=args.output,
            resume=args.resume,
            progress=not args.quiet,
        )
    if args.vcf is not None:
        model.write_vcf(pd.read_csv(args.output, sep="\t", dtype={"chrom": str, "id": str}), args.vcf)
    written = [str(path) for path in (args.output, args.vcf) if path is not None]
    print(f"written: {', '.join(written)}")
