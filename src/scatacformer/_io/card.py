"""The model card: what a model is, what it was trained on, how good it is, and how it is used."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TAGS = ("scverse", "single-cell", "scatac-seq", "epigenomics", "transformer")
NOT_SAID = "Not said by those who made it."


def model_card(
    model: Any, description: str | None, data: str | None, license: str | None, metrics: Mapping[str, float] | None
) -> str:
    """Markdown with the front matter that the hub reads.

    Raises ValueError for a metric that is not a finite number.
    """
    for name, value in (metrics or {}).items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"metrics are finite numbers by name, found {name!r}: {value!r}")
    c, vocabulary = model.config_, model.vocabulary_
    # quoted as JSON, which is YAML: what a user writes cannot become another field
    front = ["---", "library_name: scatacformer", f"tags: {json.dumps(list(TAGS))}"]
    front += [f"license: {json.dumps(license)}"] if license else []
    sizes = [
        ("regions", f"{vocabulary.n_bins:,}" + (f" of {vocabulary.bin_size:,} bp" if vocabulary.bin_size else "")),
        ("assembly", vocabulary.assembly or "not said"),
        ("chromosomes", f"{vocabulary.n_chroms}"),
        ("encoder", f"{c.n_layers} layers, {c.d_model} wide, {c.n_heads} heads"),
        ("decoder", c.decoder),
        ("dimensions of the embedding", f"at most {c.d_embed}"),
        ("batches", f"{c.n_batch}"),
        ("parameters", f"{sum(p.numel() for p in model.module.parameters()) / 1e6:.1f} million"),
    ]
    sizes += [("predicts", f"{n} {task}") for task, n in c.tasks.items() if task in model.labels_fitted_]
    sizes += [("RNA", "paired: expression and one space for both")] if model.module.paired is not None else []
    parts = [
        *front, "---", "", f"# {type(model).__name__}", "",
        description or "A transformer for single-cell ATAC-seq: embeddings of cells and the accessibility of regions.", "",
        "## Use", "", "```python", "import scatacformer as sf", "",
        'model = sf.ScAtacFormer.from_pretrained("FOLDER OR OWNER/NAME")',
        "query = sf.ScAtacFormer.load_query_data(adata, model)  # cells x the model's regions",
        'adata.obsm["X_scatacformer"] = query.get_latent_representation()', "```", "",
        "## The network", "", *_table(sizes),
        "## Data", "", data or NOT_SAID, *_of_corpus(model), "",
        "## Licence", "", license or NOT_SAID, "",
        "## Metrics", "", *(_table([(k, f"{v:.4g}") for k, v in metrics.items()]) if metrics else [NOT_SAID, ""]),
        *_losses(model),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def _of_corpus(model: Any) -> list[str]:
    """What a pretraining has noted of its cells."""
    notes = getattr(model, "pretrained_on_", None) or {}
    card = notes.get("card")
    if not isinstance(card, dict):
        return []
    known = [(k, v) for k, v in card.items() if isinstance(v, str | int | float) and not isinstance(v, bool)]
    rows = [(k, f"{v:,}" if isinstance(v, int) else str(v)) for k, v in known]
    return ["", "Pretrained on a corpus:", "", *_table([*rows, ("steps", f"{notes.get('steps', 0):,}")])]


def _losses(model: Any) -> list[str]:
    """The removed-bin loss of the cells that were held out of the training; early stopping has looked at it."""
    history = getattr(model, "history_", None) or {}
    if "validation_loss" not in history or not len(history["validation_loss"]):
        return []
    losses = history["validation_loss"]["validation_loss"]
    return [
        f"Removed-bin loss of held-out cells, by which the epoch was chosen: {losses.min():.5g} (first epoch: "
        f"{losses.iloc[0]:.5g}).", "",
    ]  # fmt: skip


def _table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
