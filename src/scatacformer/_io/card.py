"""The model card: what a model is, what it was trained on, how good it is, and how it is used."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAGS = ("scverse", "single-cell")
NOT_SAID = "Not stated by its authors."


@dataclass(frozen=True)
class CardFacts:
    """Facts about a model that its author need not write.

    ``title``; ``summary``, one sentence for readers where the author gives no description; ``example``, lines of
    Python; ``rows``, name and value of each line of the table; ``trained_on`` and ``losses``, lines of Markdown after
    the author's text on data and metrics; ``tags`` for the Hub, in addition to those of all models."""

    title: str
    summary: str
    example: Sequence[str]
    rows: Sequence[tuple[str, str]]
    trained_on: Sequence[str] = ()
    losses: Sequence[str] = ()
    tags: Sequence[str] = ()


def model_card(
    facts: CardFacts,
    description: str | None,
    data: str | None,
    license: str | None,
    metrics: Mapping[str, float] | None,
) -> str:
    """Markdown with the front matter that the hub reads.

    Raises ValueError for a metric that is not a finite number.
    """
    for name, value in (metrics or {}).items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"metrics are finite numbers by name, found {name!r}: {value!r}.")
    # quoted as JSON, which is YAML: text of the user cannot become another field
    front = ["---", "library_name: scatacformer", f"tags: {json.dumps([*TAGS, *facts.tags])}"]
    front += [f"license: {json.dumps(license)}"] if license else []
    parts = [
        *front, "---", "", f"# {facts.title}", "", description or facts.summary, "",
        "## Use", "", "```python", *facts.example, "```", "",
        "## The network", "", *table(facts.rows),
        "## Data", "", data or NOT_SAID, *facts.trained_on, "",
        "## Licence", "", license or NOT_SAID, "",
        "## Metrics", "", *(table([(k, f"{v:.4g}") for k, v in metrics.items()]) if metrics else [NOT_SAID, ""]),
        *facts.losses,
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of a Markdown table without a header."""
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
