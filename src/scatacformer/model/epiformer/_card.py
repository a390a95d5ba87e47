"""What a model's card says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scatacformer._io import CardFacts

if TYPE_CHECKING:
    from ._model import Epiformer


def card_facts(model: Epiformer) -> CardFacts:
    """Tracks, windows, size, and the chromosomes of the training."""
    c, said = model.config_, model.training_.get("chromosomes", {})
    rows = [
        ("tracks", f"{c.n_tracks}: {', '.join(model.track_names_[:8])}"),
        ("window", f"{c.seq_len:,} bp, {c.n_outputs} bins of {c.bin_size} bp predicted"),
        ("parameters", f"{sum(p.numel() for p in model.module.parameters()):,}"),
    ]
    trained_on = [f"- {part}: {', '.join(names) or 'none'}" for part, names in said.items()]
    return CardFacts(
        title="Epiformer",
        summary="Accessibility of groups of cells from DNA, and the effect of variants on it.",
        example=[
            "import scatacformer as sf",
            'model = sf.Epiformer.from_pretrained("owner/name")',
            'model.set_genome("genome.fa")',
            'effects = model.predict_variants("variants.vcf")',
        ],
        rows=rows,
        trained_on=["", *trained_on] if trained_on else [],
        tags=["epiformer", "sequence-to-function"],
    )
