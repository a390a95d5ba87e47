"""The main analysis of ``embed`` and ``demo``: cells × regions → embedding, clusters, UMAP."""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from scatacformer import __version__

from ._errors import InputError, as_input_error
from ._messages import libraries_silent, logger
from ._signals import ctrl_c_stops

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "X_scatacformer"


def embed_cells(adata: AnnData, args: argparse.Namespace) -> Any:
    """Fit or train a model on ``adata``, and write the embedding, ``.obs["leiden"]`` and ``.obsm["X_umap"]`` into it.

    Returns the model.
    """
    logger.info("%s cells x %s regions; loading the model", f"{adata.n_obs:,}", f"{adata.n_vars:,}")
    from scatacformer.model import ScAtacFormer

    if args.batch_key is not None and args.batch_key not in adata.obs:
        raise InputError(
            f"--batch-key {args.batch_key} is not a column of .obs; the columns are "
            f"{', '.join(map(str, adata.obs.columns)) or 'none'}."
        )
    with libraries_silent():
        with as_input_error(f"{args.input}: " if getattr(args, "input", None) else ""):
            ScAtacFormer.setup_anndata(adata, layer=args.layer, batch_key=args.batch_key)
        model = ScAtacFormer(adata, size=args.size, seed=args.seed)
        if trains(args):
            _train(model, args)
        else:
            logger.info("fitting the embedding")
            with as_input_error():
                model.train(embedding_only=True)
        logger.info("embedding")
        model.annotate(adata, accessibility=getattr(args, "accessibility", False))
    leave_a_note(adata, args, size=args.size)
    cluster(adata, args)
    return model


def trains(args: argparse.Namespace) -> bool:
    """Whether the network is trained too: on request, and where its predictions or epochs are asked for."""
    return getattr(args, "train", True) or getattr(args, "accessibility", False) or args.max_epochs is not None


def leave_a_note(adata: AnnData, args: argparse.Namespace, **said: str) -> None:
    """``.uns["scatacformer"]["embed"]``: how the embedding was made."""
    note = {"version": __version__, "seed": args.seed, "resolution": args.resolution, **said}
    adata.uns["scatacformer"] = {**adata.uns.get("scatacformer", {}), "embed": note}


def _train(model: Any, args: argparse.Namespace) -> None:
    logger.info("training")
    # scvi-tools prints the reason for stopping, but stdout is reserved for the result
    with redirect_stdout(io.StringIO()) as printed, ctrl_c_stops():
        model.train(
            max_epochs=args.max_epochs,
            accelerator=args.accelerator,
            enable_progress_bar=not args.quiet,
            enable_model_summary=False,
            logger=False,
        )
    for line in printed.getvalue().splitlines():
        logger.info("%s", line)


def cluster(adata: AnnData, args: argparse.Namespace) -> None:
    """Neighbours, Leiden and UMAP of the embedding."""
    logger.info("neighbours, Leiden, UMAP")
    import scanpy as sc

    from scatacformer.model import leiden_resolution

    sc.pp.neighbors(adata, use_rep=KEY, n_neighbors=min(15, adata.n_obs - 1), random_state=args.seed)
    sc.tl.leiden(
        adata,
        resolution=args.resolution or leiden_resolution(adata.obsm[KEY].shape[1]),
        flavor="igraph",
        n_iterations=2,
        directed=False,
        random_state=args.seed,
    )
    # the spectral layout needs more cells than dimensions, and is slow and pointless for a handful
    sc.tl.umap(adata, init_pos="spectral" if adata.n_obs > 50 else "random", random_state=args.seed)
