"""``scatacformer pretrain``: the settings are in a file, so that every process of a run reads the same."""

from __future__ import annotations

import argparse

from ._errors import InputError, as_input_error
from ._messages import logger
from ._signals import ctrl_c_stops


def run(args: argparse.Namespace) -> None:
    """Read the settings, pretrain, and print the folder of the model."""
    if not args.config.is_file():
        raise InputError(f"the file {args.config} does not exist. Check the path.")
    from scatacformer.model import pretrain, read_config

    with as_input_error():
        data, output, settings = read_config(args.config)
        if args.quiet:
            settings["progress"] = False
    try:
        with ctrl_c_stops("scatacformer pretrain --resume"):
            model = pretrain(data, output, resume=args.resume, **settings)
    except (ValueError, TypeError, ImportError, FileNotFoundError) as error:
        # errors before the first step; errors in training are of other types
        raise InputError(str(error).replace("resume=True", "--resume")) from error
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) == 0:  # only one of several processes prints
        logger.info("%s", model)
        print(f"written: {output}")
