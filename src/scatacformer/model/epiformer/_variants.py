"""Effects of variants on the predicted signal of each track."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scatacformer._io import alone, sha256, whole_file, writing
from scatacformer.sequence import VariantReader, allele_codes, flanks, one_hot, reverse_complement
from scatacformer.tracks import conservation_factor

from ._predict import Predictor, View

if TYPE_CHECKING:
    import pandas as pd

    from scatacformer.nn import EpiformerConfig
    from scatacformer.sequence import Variant

    from ._setup import Genome

FIGURES = ("reference", "alternative", "change", "log2_fold_change", "spread")
COLUMNS = ("chrom", "pos", "id", "ref", "alt", "track", *FIGURES)
_AT_ONCE = 32  # variants between two writes


class Effects(NamedTuple):
    """Signal of both alleles, summed over the bins around the variant; each ``(n_variants, n_tracks, n_views)``."""

    reference: np.ndarray
    alternative: np.ndarray


def score_table(
    predictor: Predictor,
    genome: Genome,
    reader: VariantReader,
    names: Sequence[str],
    views: Sequence[View],
    window: int,
    out: Path | None,
    resume: bool,
    progress: bool = True,
) -> pd.DataFrame | Path:
    """Score all variants of ``reader``: a table in memory, or a file of tab-separated values that is written piece by
    piece.

    An incomplete file is next to ``out`` with the suffix ``.partial``, with its settings in the first line; ``resume``
    continues at its end. Raises ValueError if that line differs or ``out`` is not the name of a file, and RuntimeError if
    another process is writing it.
    """
    import pandas as pd

    if out is None:
        tables = list(_tables(predictor, genome, iter(reader), names, views, window, progress))
        if not tables:
            raise ValueError(f"no variant is left to score; skipped: {reader.skipped or 'none'}.")
        return pd.concat(tables, ignore_index=True)
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"out is {out}; expected the name of a file in a folder that exists.")
    said = _said(predictor, genome, reader, names, views, window)
    partial = out.with_name(f"{out.name}.partial")
    with alone(out), writing(out, f"The scores so far are in {partial}; resume=True continues them"):
        n_done = _begin(partial, said, len(names), resume)
        with partial.open("a", encoding="utf-8", newline="") as file:
            todo = itertools.islice(iter(reader), n_done, None)
            for table in _tables(predictor, genome, todo, names, views, window, progress):
                table.to_csv(file, sep="\t", header=False, index=False, float_format="%.6g")
                file.flush()
        with whole_file(out) as whole:
            _copy_without_first_line(partial, whole)
        partial.unlink()  # not earlier: whenever this process is killed, either file has all scores
    return out


def allele_tracks(
    predictor: Predictor, genome: Genome, variant: Variant, views: Sequence[View]
) -> tuple[np.ndarray, np.ndarray]:
    """Signal along the windows of both alleles, ``(2, n_tracks, n_outputs)``, and the middle of each bin in bp from the
    variant."""
    config = predictor.config

    def sequences(shift: int, reverse: bool) -> np.ndarray:
        return np.stack(_alleles(genome, variant, config.seq_len, shift, reverse))

    offset = (np.arange(config.n_outputs) - config.n_outputs / 2 + 0.5) * config.bin_size
    return predictor.mean(sequences, views), offset


def parse_variant(text: str, genome: Genome) -> Variant:
    """``"chr2:127135234 C>T"``, 1-based. ValueError for another form, or a reference that the genome does not have."""
    import re

    import pandas as pd

    found = re.fullmatch(r"(\S+):([\d,]+)\s+([ACGTN]+)>([ACGTN]+)", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"a variant is written 'chr2:127135234 C>T', found {text!r}.")
    table = pd.DataFrame(
        {"chrom": [found[1]], "pos": [int(found[2].replace(",", ""))], "ref": [found[3]], "alt": [found[4]]}
    )
    return next(iter(VariantReader(table, genome.fasta)))


def score_variants(
    predictor: Predictor, genome: Genome, variants: Sequence[Variant], views: Sequence[View], window: int
) -> Effects:
    """Signal of both alleles of each variant in each view, summed over the middle ``window`` bp."""
    config = predictor.config
    middle = config.n_outputs // 2
    half = window // config.bin_size // 2
    keep = slice(middle - half, middle + half)
    sums = np.empty((2, len(variants), len(predictor.rows), len(views)), dtype=np.float64)
    for rows, width in _by_width(variants):
        for number, (shift, reverse) in enumerate(views):
            pairs = [_alleles(genome, variants[row], config.seq_len, shift, reverse) for row in rows]
            first, second = (np.stack(some) for some in zip(*pairs, strict=True))
            if width is None:
                predicted = predictor(np.concatenate([first, second])).reshape(2, len(rows), *sums.shape[2:3], -1)
            else:
                start = (config.seq_len - width) // 2 - shift
                start = config.seq_len - start - width if reverse else start
                predicted = predictor.pairs(first, second, start, start + width)
            sums[..., number][:, rows] = predicted[..., keep].sum(-1)
    return Effects(*sums)


def _by_width(variants: Sequence[Variant]) -> Iterator[tuple[list[int], int | None]]:
    """Rows of the variants whose alleles have the same length, by that length; and of all others, with None."""
    found: dict[int | None, list[int]] = {}
    for row, variant in enumerate(variants):
        found.setdefault(len(variant.ref) if len(variant.ref) == len(variant.alt) else None, []).append(row)
    for width, rows in found.items():
        yield rows, width


def _alleles(genome: Genome, variant: Variant, length: int, shift: int, reverse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both alleles as one-hot × exp(conservation), each ``(4, length)``."""
    out = []
    codes = allele_codes(genome.fasta, variant, length, shift)
    for allele, bases in zip((variant.ref, variant.alt), codes, strict=True):
        factor = _factor(genome, variant, len(allele), length, shift)
        encoded = one_hot(reverse_complement(bases) if reverse else bases)
        if factor is not None:
            encoded *= factor[::-1] if reverse else factor
        out.append(encoded)
    return out[0], out[1]


def _factor(genome: Genome, variant: Variant, n: int, length: int, shift: int) -> np.ndarray | None:
    """exp(conservation) of a haplotype: bases that are inserted have the factor 1."""
    if genome.conservation is None:
        return None
    first, last = flanks(variant, n, length, shift)
    stop = variant.start + len(variant.ref)
    left, own, right = (
        conservation_factor(genome.conservation, variant.chrom, a, b)
        for a, b in ((first, variant.start), (variant.start, stop), (stop, last))
    )
    assert left is not None and own is not None and right is not None
    allele = np.ones(n, dtype=np.float32)
    allele[: min(n, len(own))] = own[: min(n, len(own))]
    return np.concatenate([left, allele, right])


def _tables(
    predictor: Predictor,
    genome: Genome,
    variants: Iterator[Variant],
    names: Sequence[str],
    views: Sequence[View],
    window: int,
    progress: bool,
) -> Iterator[pd.DataFrame]:
    import pandas as pd

    from scatacformer._io import tqdm

    with tqdm(desc="scoring variants", unit="variant", delay=2, disable=None if progress else True) as bar:
        while some := list(itertools.islice(variants, _AT_ONCE)):
            effects = score_variants(predictor, genome, some, views, window)
            n = len(names)
            table: dict[str, Any] = {
                "chrom": np.repeat([v.chrom for v in some], n),
                "pos": np.repeat([v.start + 1 for v in some], n),
                "id": np.repeat([v.id for v in some], n),
                "ref": np.repeat([v.ref for v in some], n),
                "alt": np.repeat([v.alt for v in some], n),
                "track": np.tile(names, len(some)),
            }
            reference, alternative = effects.reference.mean(-1), effects.alternative.mean(-1)
            ratio = np.log2((effects.alternative + 1e-6) / (effects.reference + 1e-6))
            for name, values in zip(
                FIGURES,
                (reference, alternative, alternative - reference, ratio.mean(-1), ratio.std(-1)),
                strict=True,
            ):
                table[name] = values.ravel()
            bar.update(len(some))
            yield pd.DataFrame(table, columns=list(COLUMNS))


def check_window(window: int | None, config: EpiformerConfig) -> int:
    """The width in bp, by default 1,024 or the predicted part of a window.

    Raises ValueError for a width that is not an even number of bins, or wider than the predicted part.
    """
    two, widest = 2 * config.bin_size, config.n_outputs // 2 * 2 * config.bin_size
    if window is None:
        return max(two, min(1024 // two * two, widest))
    if window < two or window % two or window > widest:
        raise ValueError(
            f"window is {window}; expected a multiple of {two} bp (two bins) up to the {widest:,} bp that are predicted."
        )
    return window


def _said(
    predictor: Predictor,
    genome: Genome,
    reader: VariantReader,
    names: Sequence[str],
    views: Sequence[View],
    window: int,
) -> dict[str, Any]:
    """Settings of the scores; files of scores with the same settings can be concatenated."""
    digest = hashlib.sha256()
    for name, tensor in sorted(predictor.module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    sizes = json.dumps([*genome.fasta.sizes.items(), genome.conservation is not None])
    return {
        "weights": digest.hexdigest()[:16],
        "variants": _content(reader.source)[:16],
        "genome": hashlib.sha256(sizes.encode()).hexdigest()[:16],
        "tracks": list(names),
        "views": [list(view) for view in views],
        "window": window,
        "mismatch": reader.mismatch,
    }


def _content(source: Any) -> str:
    """SHA-256 of a file of variants, or of a table of them."""
    if not hasattr(source, "columns"):
        return sha256(Path(source))
    return hashlib.sha256(source.to_csv(index=False).encode()).hexdigest()


def _begin(partial: Path, said: dict[str, Any], n_tracks: int, resume: bool) -> int:
    """Number of variants that are in the unfinished file, which is created if there is none to continue."""
    header = f"#{json.dumps(said)}\n" + "\t".join(COLUMNS) + "\n"
    if not resume or not _has_begun(partial):
        with whole_file(partial) as new:
            new.write_text(header, encoding="utf-8")
        return 0
    with partial.open("rb") as file:
        first = file.readline().decode()
        if first != header.splitlines(keepends=True)[0]:
            raise ValueError(
                f"{partial} was made with another model, other variants or other arguments: {first[:200].strip()}; "
                f"expected {header[:200]}. Use the same, or resume=False to begin again."
            )
        body_start = file.tell() + len(file.readline())
    with partial.open("rb+") as file:  # lines that are whole, of variants that have all their tracks
        file.seek(body_start)
        n_lines, kept, position, ends = 0, 0, body_start, body_start
        for line in file:
            position += len(line)
            if not line.endswith(b"\n"):
                break
            n_lines += 1
            if n_lines % n_tracks == 0:
                kept, ends = n_lines, position
        file.truncate(ends)
    return kept // n_tracks


def _has_begun(partial: Path) -> bool:
    """Whether there is a file with both of its first lines."""
    if not partial.exists():
        return False
    with partial.open("rb") as file:
        return all(file.readline().endswith(b"\n") for _ in range(2))


def _copy_without_first_line(path: Path, to: Path) -> None:
    """Without the line of the settings, a megabyte at a time."""
    with path.open("rb") as source, to.open("wb") as target:
        source.readline()
        shutil.copyfileobj(source, target, 1 << 20)
