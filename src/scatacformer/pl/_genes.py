"""Genes below the tracks of a region, and the axis of the genome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_ROWS = 4  # of genes; those in a crowd beyond it are left out and counted


def gene_table(genes: pd.DataFrame | str | Path) -> pd.DataFrame:
    """The table itself, or that of a GTF file. KeyError for a column that is missing."""
    if isinstance(genes, str | Path):
        from scatacformer.genome import read_gene_table

        return read_gene_table(genes)
    lacks = [name for name in ("chrom", "start", "end", "strand", "name") if name not in genes]
    if lacks:
        raise KeyError(
            f"genes lacks the columns {', '.join(lacks)}. Pass a GTF file, or sf.genome.read_gene_table(gtf)."
        )
    return genes


def draw_genes(ax: Axes, genes: pd.DataFrame, chrom: str, start: int, end: int, per_unit: float = 1e6) -> None:
    """Genes of a region as arrows in the direction of their strand, in rows where they overlap.

    ``per_unit``: bp per unit of the axis."""
    inside = genes[(genes["chrom"].astype(str) == chrom) & (genes["end"] > start) & (genes["start"] < end)]
    ends: list[float] = []  # of the last gene, or its name, in each row
    left_out = 0
    # a letter of the name takes about 1/90 of the width
    for gene in inside.sort_values("start").itertuples():
        low, high = max(gene.start, start), min(gene.end, end)
        half = len(str(gene.name)) * (end - start) / 180
        reach = min(low, (low + high) / 2 - half), max(high, (low + high) / 2 + half)
        row = next((r for r, last in enumerate(ends) if reach[0] > last), len(ends))
        if row == MAX_ROWS:
            left_out += 1
            continue
        ends[row : row + 1] = [reach[1]]
        tip, tail = (low, high) if str(gene.strand) == "-" else (high, low)
        ax.plot([low / per_unit, high / per_unit], [-row, -row], color="0.2", linewidth=1.5, solid_capstyle="butt")
        if gene.strand in ("+", "-"):
            way = 1 if gene.strand == "+" else -1
            ax.annotate(
                "", (tip / per_unit, -row), (tip / per_unit - way * (end - start) / 100 / per_unit, -row),
                arrowprops={"arrowstyle": "-|>", "color": "0.2", "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
        ax.text(
            (low + high) / 2 / per_unit, -row + 0.15, str(gene.name),
            ha="center", va="bottom", fontsize="x-small", style="italic", clip_on=True,
        )  # fmt: skip
    ax.set_ylim(-max(len(ends), 1) + 0.4, 0.9)
    ax.set_yticks([])
    if left_out:
        ax.set_ylabel(f"{left_out} more", fontsize="x-small", rotation=0, ha="right", va="center")
    ax.spines[["top", "right", "left"]].set_visible(False)


def n_gene_rows(genes: pd.DataFrame, chrom: str, start: int, end: int) -> int:
    """At least as many rows as :func:`draw_genes` needs, at most its limit."""
    inside = genes[(genes["chrom"].astype(str) == chrom) & (genes["end"] > start) & (genes["start"] < end)]
    return max(1, min(MAX_ROWS, len(inside)))


def genome_axis(ax: Axes, chrom: str, start: int, end: int, per_unit: float = 1e6) -> None:
    """Limits, ticks and label of an axis of ``chrom``: shown in bp below 20 kb, in kb below 2 Mb, otherwise in Mb.

    ``per_unit``: bp per unit of the data on the axis."""
    width = end - start
    unit, size, digits = ("bp", 1, 0) if width < 20_000 else ("kb", 1e3, 0) if width < 2_000_000 else ("Mb", 1e6, 1)
    scale = per_unit / size
    ax.set_xlim(start / per_unit, end / per_unit)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=False, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * scale:,.{digits}f}"))
    ax.set_xlabel(f"{chrom}, {unit}")
