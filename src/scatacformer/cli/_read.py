"""Reading of any input as cells × regions in memory, CSR."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ._errors import InputError, as_input_error
from ._messages import logger
from ._paths import kind_of

if TYPE_CHECKING:
    from anndata import AnnData


def check_accelerator(args: argparse.Namespace) -> None:
    """Raise InputError for an accelerator that is not available, before anything is read."""
    if args.accelerator not in ("gpu", "mps"):
        return
    import torch

    if not (torch.backends.mps.is_available() or (args.accelerator == "gpu" and torch.cuda.is_available())):
        raise InputError(
            f"--accelerator {args.accelerator}: no such device is available to torch {torch.__version__}. Leave out the "
            "option, or install torch for your device."
        )


def check_input(args: argparse.Namespace, path: Path) -> str:
    """The kind of the input; raises InputError for options that do not apply to it, before anything is read."""
    kind = kind_of(path)
    if kind == "fragments":
        if args.genome is None and args.chrom_sizes is None:
            raise InputError(
                f"{path} is a fragments file. Give the assembly that it was aligned to with --genome (hg38, mm10, ...) or "
                "--chrom-sizes FILE."
            )
        if args.layer is not None:
            raise InputError(
                f"--layer {args.layer} needs an AnnData; {path} is a fragments file, which has no layers. Leave it out."
            )
    for file in (args.chrom_sizes, args.barcodes):
        if file is not None and not file.is_file():
            raise InputError(f"the file {file} does not exist. Check the path.")
    if args.genome is not None or args.chrom_sizes is not None:
        from scatacformer.genome import chrom_sizes

        with as_input_error():
            chrom_sizes(args.genome or args.chrom_sizes)
    return kind


def read_cells(args: argparse.Namespace, path: Path, kind: str) -> AnnData:
    """Cells × regions in memory, with ``.X`` (or the layer) as CSR, according to the options."""
    logger.info("reading %s", path)
    if kind == "fragments":
        from scatacformer.pp import bin_fragments

        with as_input_error():
            return bin_fragments(
                path,
                args.genome or args.chrom_sizes,
                args.bin_size or 5000,
                barcodes=args.barcodes,
                min_fragments=args.min_fragments,
            )
    adata = _read_anndata(path, kind, args.modality)
    if args.layer is not None and args.layer not in adata.layers:
        raise InputError(
            f"{path} has no layer {args.layer!r}; it has {', '.join(filter(None, adata.layers)) or 'none'}."
        )
    with as_input_error(f"{path}: "):
        _set_assembly(adata, args.genome or args.chrom_sizes)
        _to_csr(adata, args.layer)
        adata = _choose_cells(adata, args.barcodes, args.min_fragments, args.layer)
        if args.bin_size is not None:
            adata = _to_bins(adata, args)
    return adata


def _read_anndata(path: Path, kind: str, modality: str) -> AnnData:
    import anndata

    from scatacformer._io import check_hdf5

    prefix = f"cannot read {path} as {kind}; check that it is complete and of the type given by its name: "
    if kind != "zarr":
        with as_input_error():
            check_hdf5(path)
    with as_input_error(prefix, any_kind=True):
        if kind == "h5ad":
            return anndata.read_h5ad(path)
        if kind == "zarr":
            return anndata.read_zarr(path)
        if kind == "10x":
            return _read_10x(path)
        import h5py
        import mudata

        with h5py.File(path) as file:
            modalities = list(file.get("mod", ()))
        if modality not in modalities:
            raise InputError(
                f"{path} has no modality {modality!r}; it has {', '.join(modalities) or 'none'}. Pass its name with --modality M."
            )
        return mudata.read_h5ad(path, mod=modality)


def _read_10x(path: Path) -> AnnData:
    """The peaks of a matrix of Cell Ranger, with their assembly if it is a known one."""
    import scanpy as sc

    from scatacformer.genome import assembly_name

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")  # names of genes
        adata = sc.read_10x_h5(path, gex_only=False)
    is_peak = (adata.var["feature_types"] == "Peaks").to_numpy()
    if not is_peak.any():
        found = ", ".join(sorted(set(adata.var["feature_types"].astype(str)))[:5]) or "nothing"
        raise InputError(f"{path} contains {found}, but no peaks; expected a matrix of Cell Ranger ATAC or ARC.")
    if not is_peak.all():
        logger.info("%s of %s features are peaks; the others are ignored", f"{is_peak.sum():,}", f"{adata.n_vars:,}")
        adata = adata[:, is_peak].copy()
    genomes = set(adata.var["genome"].astype(str)) if "genome" in adata.var else set()
    if len(genomes) == 1 and (assembly := assembly_name(genomes.pop())) is not None:
        adata.uns["assembly"] = assembly
    return adata


def _set_assembly(adata: AnnData, genome: str | Path | None) -> None:
    """Check that the genome given by the user matches the file and the positions of its regions."""
    if genome is None:
        return
    from scatacformer.genome import Vocabulary, assembly_name

    named, said = assembly_name(genome), adata.uns.get("assembly")
    if named and said is not None and (assembly_name(said) or said) != named:
        raise ValueError(
            f"its .uns['assembly'] is {said!r}, and --genome is {genome}; leave out --genome, or correct it."
        )
    Vocabulary.from_var(adata.var).validate_assembly(genome)
    if named:
        adata.uns["assembly"] = named


def _to_csr(adata: AnnData, layer: str | None) -> None:
    from scipy import sparse

    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        raise ValueError("it has no .X. Pass the layer with the counts: --layer L.")
    if isinstance(X, sparse.csr_matrix | sparse.csr_array):
        return
    logger.info("its counts are stored as %s and are converted to CSR", type(X).__name__)
    # they fit into memory in the form in which they were stored
    rows = X.tocsr() if sparse.issparse(X) else sparse.csr_matrix(X)
    if layer is None:
        adata.X = rows
    else:
        adata.layers[layer] = rows


def _choose_cells(adata: AnnData, barcodes: Path | None, least: int | None, layer: str | None) -> AnnData:
    import numpy as np

    from scatacformer.cells.fragments import read_barcodes

    kept = np.arange(adata.n_obs)
    if barcodes is not None:
        wanted = read_barcodes(barcodes)
        at = adata.obs_names.get_indexer(wanted)
        if (at < 0).all():
            raise ValueError(
                f"none of the {len(wanted):,} barcodes of {barcodes} is a cell of the input (first: {', '.join(wanted[:3])}); "
                f"expected names like {', '.join(adata.obs_names[:3])}."
            )
        if (at < 0).any():
            logger.warning(
                "warning: %s of %s barcodes are not among the cells", f"{(at < 0).sum():,}", f"{len(wanted):,}"
            )
        kept = at[at >= 0]
    if least:
        depth = np.asarray((adata.X if layer is None else adata.layers[layer]).sum(1)).ravel()[kept]
        if not (depth >= least).any():
            raise ValueError(f"no cell has {least:,} counts (maximum: {depth.max():,.0f}). Lower --min-fragments.")
        if (depth < least).any():
            logger.info(
                "%s of %s cells have fewer than %s counts", f"{(depth < least).sum():,}", f"{len(kept):,}", least
            )
        kept = kept[depth >= least]
    return adata if len(kept) == adata.n_obs and barcodes is None else adata[kept].copy()


def _to_bins(adata: AnnData, args: argparse.Namespace) -> AnnData:
    from scatacformer.genome import Vocabulary
    from scatacformer.pp import match_vocabulary

    genome = args.genome or args.chrom_sizes or adata.uns.get("assembly")
    if genome is None:
        raise ValueError("--bin-size needs the genome. Pass --genome or --chrom-sizes.")
    logger.info("mapping %s regions onto bins of %s bp", f"{adata.n_vars:,}", f"{args.bin_size:,}")
    matched = match_vocabulary(adata, Vocabulary.from_chrom_sizes(genome, args.bin_size), layer=args.layer)
    if args.layer is not None:
        matched.layers[args.layer] = matched.X
    return matched
