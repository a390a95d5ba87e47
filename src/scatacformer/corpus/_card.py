"""Description of a corpus: as a dict and as a page of Markdown."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scatacformer.genome import Vocabulary


def versions() -> dict[str, str]:
    """Settings with which a corpus was built."""
    found = {"python": platform.python_version()}
    for name in ("scatacformer", "anndata", "numpy", "snapatac2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # snapatac2 is needed for fragments only
            continue
    return found


def summary(vocabulary: Vocabulary, descriptions: list[dict[str, Any]]) -> dict[str, Any]:
    """The card of a corpus of these data sets, in their order."""
    organs: dict[str, int] = {}
    batches = 0
    for data_set in descriptions:
        batches += max(len(data_set["names"]["batch"]), 1)
        for organ in data_set["names"]["organ"]:
            organs[organ] = organs.get(organ, 0) + 1
    return {
        "n_cells": sum(data_set["n_cells"] for data_set in descriptions),
        "n_tokens": sum(data_set["n_tokens"] for data_set in descriptions),
        "n_cells_read": sum(data_set["n_cells_read"] for data_set in descriptions),
        "n_batches": batches,
        "n_labels": len({label for data_set in descriptions for label in data_set["names"]["label"]}),
        "organs": dict(sorted(organs.items())),  # organ -> its data sets
        "assembly": vocabulary.assembly,
        "n_bins": vocabulary.n_bins,
        "vocabulary": vocabulary.checksum,
        "datasets": descriptions,
    }


def markdown(card: dict[str, Any]) -> str:
    """The card as a page of Markdown. It contains the names of files, but not their folders."""
    lines = [
        "# Corpus of cell sentences",
        "",
        f"{card['n_cells']:,} cells, {card['n_tokens']:,} tokens (open bins), {len(card['datasets']):,} data sets, "
        f"{card['n_batches']:,} batches, {card['n_labels']:,} labels. Of {card['n_cells_read']:,} cells read, "
        f"{card['n_cells_read'] - card['n_cells']:,} were left out.",
        "",
        f"Vocabulary: {card['n_bins']:,} bins, assembly {card['assembly'] or 'not named'}, "
        f"SHA-256 `{card['vocabulary'][:16]}`.",
        "",
        "| data set | file | organ | cells | left out | median open bins | open entries outside | SHA-256 |",
        "| --- | --- | --- | --: | --: | --: | --: | --- |",
    ]
    for data_set in card["datasets"]:
        organs = data_set["names"]["organ"]
        organ = ", ".join(organs[:3]) + (", ..." if len(organs) > 3 else "")
        cells = [
            data_set["name"],
            f"`{Path(data_set['source']['path']).name}`",
            organ or "–",
            f"{data_set['n_cells']:,}",
            f"{data_set['n_cells_read'] - data_set['n_cells']:,}",
            f"{data_set['open_bins']['median']:,.0f}",
            f"{data_set['share_open_outside']:.1%}",
            f"`{data_set['source']['sha256'][:12]}`",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if unstated := [data_set["name"] for data_set in card["datasets"] if data_set["assembly_stated"] is None]:
        lines += [
            "",
            f"The assembly was not stated, and taken to be that of the vocabulary, for: {', '.join(unstated)}.",
        ]
    built = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    return "\n".join([*lines, "", f"Built with {built}.", ""])
