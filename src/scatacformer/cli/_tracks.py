"""``scatacformer tracks``: from a genome and the coverage of groups to a trained Epiformer."""

from __future__ import annotations

import argparse
from typing import Any

from ._errors import InputError, as_input_error
from ._messages import logger
from ._paths import check_model_folder
from ._signals import ctrl_c_stops


def run(args: argparse.Namespace) -> None:
    """Check, read the signal, train, save; with --bigwig, write the predictions of the model."""
    if bool(args.tracks) == bool(args.fragments):
        raise InputError("pass either bigWig files, or --fragments with --groups; found both or neither.")
    if args.fragments and args.groups is None:
        raise InputError("--fragments needs --groups, a table of barcode and group.")
    if args.resume and args.checkpoint_dir is None:
        raise InputError("--resume needs --checkpoint-dir, the folder of the training that was stopped.")
    check_model_folder(args.output, args.overwrite)
    composition = _composition(args.composition)

    import scatacformer as sf

    with as_input_error():
        tracks = _read(args)
        sf.Epiformer.setup_anndata(tracks)
        model = sf.Epiformer(tracks, args.size, composition=composition, seed=args.seed)
    said = tracks.uns["sequence_windows"]
    logger.info(
        "%d tracks, %d windows; dropped: %s", tracks.n_obs, len(said["windows"]), dict(said["dropped"]) or "none"
    )
    settings: dict[str, Any] = {} if args.max_epochs is None else {"max_epochs": args.max_epochs}
    if args.batch_size is not None:
        settings["batch_size"] = args.batch_size
    with as_input_error(), ctrl_c_stops("scatacformer tracks --resume"):  # errors in training are of other types
        model.train(
            holdout_chromosomes=args.holdout,
            validation_chromosomes=args.validation,
            accelerator=args.accelerator,
            enable_progress_bar=not args.quiet,
            checkpoint_dir=args.checkpoint_dir,
            resume=args.resume,
            **settings,
        )
    model.save(args.output, overwrite=args.overwrite)
    logger.info("%s", model)
    written = [str(args.output)]
    if args.bigwig is not None:
        written += [str(path) for path in model.to_bigwig(args.bigwig)]
    best = model.history_["validation_loss"]["validation_loss"].idxmin()
    pearson = float(model.history_["validation_pearson"]["validation_pearson"].loc[best])
    named = ", ".join(model.training_["chromosomes"]["validation"])
    print(f"validation on {named}: Pearson's r of log2(x + 1) {pearson:.3f}, epoch {best + 1}")
    print(f"written: {', '.join(written)}")


def _composition(named: str | None) -> Any:
    """What ``Epiformer(composition=...)`` is given: motifs, ``"kmers"`` or None."""
    from scatacformer.sequence import Motifs

    if named is None or named == "kmers":
        return named
    with as_input_error():
        return Motifs.from_jaspar() if named == "jaspar" else Motifs.from_file(named)


def _read(args: argparse.Namespace) -> Any:
    import pandas as pd
    from anndata import AnnData

    import scatacformer as sf

    geometry = {"seq_len": args.seq_len, "bin_size": args.bin_size, "crop": args.crop}
    common = {"conservation": args.conservation, "blacklist": args.blacklist, "regions": args.regions, **geometry}
    if not args.fragments:
        return sf.pp.sequence_windows([str(path) for path in args.tracks], args.fasta, **common)
    table = pd.read_csv(args.groups, sep=None, engine="python", header=None, dtype=str, comment="#")
    if table.shape[1] < 2:
        raise InputError(f"{args.groups} has one column; expected barcode and group, by tabs or commas.")
    if str(table.iloc[0, 0]).lower() in ("barcode", "barcodes", "cell", "cell_id"):
        table = table.iloc[1:]
    cells = AnnData(obs=pd.DataFrame({"group": pd.Categorical(table[1])}, index=pd.Index(table[0].astype(str))))
    return sf.pp.sequence_windows(cells, args.fasta, groupby="group", fragments=args.fragments, **common)
