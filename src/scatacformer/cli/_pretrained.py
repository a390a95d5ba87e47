"""``embed --pretrained``: embed cells with a trained model, without training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ._errors import InputError, as_input_error
from ._messages import libraries_silent, logger
from ._pipeline import KEY, cluster, leave_a_note

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def embed_with_pretrained(adata: AnnData, args: argparse.Namespace) -> tuple[AnnData, Any]:
    """The cells over the model's regions, embedded and clustered, and the query model."""
    logger.info("%s cells x %s regions; loading %s", f"{adata.n_obs:,}", f"{adata.n_vars:,}", args.pretrained)
    from anndata import AnnData

    from scatacformer.model import ScAtacFormer, setup_arguments
    from scatacformer.pp import match_vocabulary

    with libraries_silent():
        with as_input_error():
            known = ScAtacFormer.from_pretrained(args.pretrained, accelerator="cpu")
            setup = setup_arguments(known.registry_)
            cells = match_vocabulary(adata, known, layer=args.layer)
            # only the columns that the model uses: a column of labels may have other labels
            bare = AnnData(cells.X, obs=_batch(cells.obs, setup["batch_key"], args.batch_key), var=cells.var)
            if setup["layer"] is not None:
                bare.layers[setup["layer"]] = bare.X
            model = ScAtacFormer.load_query_data(bare, known, accelerator=args.accelerator)
        logger.info("embedding")
        model.annotate(bare, accessibility=args.accessibility)
    cells.obsm[KEY] = bare.obsm[KEY]
    for name in ("n_tokens", "n_tokens_cut"):
        cells.obs[name] = bare.obs[name]
    for name in bare.layers:
        if name is not None and name != setup["layer"]:
            cells.layers[name] = bare.layers[name]
    cells.uns["scatacformer"] = {**cells.uns["scatacformer"], **bare.uns.get("scatacformer", {})}
    leave_a_note(cells, args, pretrained=str(args.pretrained))
    cluster(cells, args)
    return cells, model


def _batch(obs: pd.DataFrame, of_model: str | None, named: str | None) -> pd.DataFrame:
    """The batch column of the model: the one given by the user, or one with its name, or a single new batch."""
    if named is not None and named not in obs:
        raise InputError(
            f"--batch-key {named} is not a column of .obs; the columns are {', '.join(map(str, obs.columns)) or 'none'}."
        )
    only = obs[[]].copy()
    if of_model is not None:
        column = named or (of_model if of_model in obs else None)
        only[of_model] = "new cells" if column is None else obs[column].astype(str).to_numpy()
    return only
