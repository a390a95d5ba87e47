"""From data sets to a corpus, one after another; what is finished stays finished."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scatacformer._io import (
    alone,
    holds_nothing,
    partial_of,
    put_in_place,
    remove,
    remove_dead_partials,
    sync_folder,
    tqdm,
    whole_file,
)
from scatacformer.genome import Vocabulary

from ._card import markdown, summary, versions
from ._cell_table import CellTable
from ._cells_on_disk import iter_cells, open_cells
from ._descriptions import (
    CORPUS,
    DATASETS,
    DESCRIPTION,
    FORMAT,
    README,
    VOCABULARY,
    content_named,
    plain_name,
    read_card,
    read_description,
    write_json,
)
from ._entry import CorpusEntry, as_entries
from ._fingerprint import has_changed, sha256, stamp
from ._map_bins import BinMap, check_assembly_of, regions_of_var
from ._shard import DTYPES, ShardWriter, open_array

logger = logging.getLogger("scatacformer")


def build(
    folder: Path,
    sources: Iterable[str | Path | Mapping[str, Any] | CorpusEntry],
    vocabulary: Vocabulary,
    min_bins: int,
    max_bins: int | None,
) -> None:
    """Build what is missing of a corpus, and describe the whole. See :meth:`Corpus.build`.

    A data set that is rebuilt is stored next to the earlier one until the card lists it: an earlier corpus is whole,
    and can be read, until the new one is."""
    entries = [_with_limits(entry, min_bins, max_bins) for entry in as_entries(sources)]
    for entry in entries:
        check_assembly_of(entry.assembly, vocabulary, str(entry.path))
    checksums = _of_same_size(entries)
    _refuse_twins(checksums)
    _refuse_another(folder, vocabulary)
    if not folder.exists():
        _refuse_unknown(entries)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "building the corpus in") as locked:
        for place in (folder, folder / DATASETS):
            remove_dead_partials(place, alone=locked)
        put_plain(folder)
        found = {entry: _finished(folder, entry, vocabulary) for entry in entries}
        _refuse_unknown([entry for entry, there in found.items() if there is None])
        _refuse_strangers(folder, entries)
        (folder / DATASETS).mkdir(exist_ok=True)
        if not (folder / VOCABULARY).exists() or not _data_sets_in(folder / DATASETS):
            vocabulary.to_bed(folder / VOCABULARY)
        descriptions = []
        for number, (entry, kept) in enumerate(found.items(), 1):
            state = "is kept" if kept else "is being built"
            logger.info("data set %s of %s: %s %s", number, len(entries), entry.name, state)
            descriptions.append(kept or _build_one(folder, entry, vocabulary, checksums.get(entry)))
        _refuse_same_cells(descriptions)
        corpus = {"format": FORMAT, **summary(vocabulary, descriptions), "versions": versions()}
        sync_folder(folder)
        write_json(folder / CORPUS, corpus)  # with this it is the new corpus
        put_plain(folder)
        with whole_file(folder / README) as partial:
            partial.write_text(markdown(corpus), encoding="utf-8")
        sync_folder(folder)


def put_plain(folder: Path) -> None:
    """Data sets that the card lists get their plain names, and those that it no longer lists are removed."""
    if not (folder / CORPUS).exists():
        return
    try:
        card = read_card(folder)
    except ValueError as error:
        logger.warning("%s; it is written again", str(error).rstrip("."))
        return
    datasets = folder / DATASETS
    for data_set in card["datasets"]:
        plain = datasets / data_set["name"]
        between = content_named(plain, data_set)
        if between.exists():
            remove(plain)
            os.replace(between, plain)
            for earlier in datasets.glob(f"{data_set['name']}~*"):
                remove(earlier)
    sync_folder(datasets)


def _with_limits(entry: CorpusEntry, min_bins: int, max_bins: int | None) -> CorpusEntry:
    from dataclasses import replace

    least = min_bins if entry.min_bins is None else entry.min_bins
    most = max_bins if entry.max_bins is None else entry.max_bins
    if least < 1 or (most is not None and most < least):
        raise ValueError(
            f"{entry.name}: min_bins is {least} and max_bins is {most}; expected 1 <= min_bins <= max_bins."
        )
    return replace(entry, min_bins=int(least), max_bins=None if most is None else int(most))


def _refuse_another(folder: Path, vocabulary: Vocabulary) -> None:
    """Make sure that the folder is one of this vocabulary, or holds nothing."""
    bed, datasets = folder / VOCABULARY, folder / DATASETS
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Choose a folder that is empty or not there.")
    if bed.exists():
        if not _data_sets_in(datasets):  # a build that did not come to its first one
            return
        before = Vocabulary.from_bed(bed)
        if before != vocabulary or before.assembly != vocabulary.assembly:
            raise ValueError(
                f"{folder} was begun with another vocabulary ({before}); found {vocabulary}. "
                "Choose another folder, or the vocabulary of this one (vocabulary=None takes it)."
            )
    elif not holds_nothing(folder):
        raise ValueError(f"{folder} holds something else than a corpus. Choose a folder that is empty or not there.")


def _data_sets_in(datasets: Path) -> list[Path]:
    """Folders of data sets that were finished."""
    there = datasets.iterdir() if datasets.is_dir() else ()
    return [path for path in there if path.is_dir() and not path.name.startswith(".")]


def _refuse_unknown(entries: list[CorpusEntry]) -> None:
    for entry in entries:
        entry.kind  # noqa: B018 is it there, and a kind of file that is known


def _refuse_strangers(folder: Path, entries: list[CorpusEntry]) -> None:
    names = {entry.name for entry in entries}
    others = sorted({plain_name(path) for path in _data_sets_in(folder / DATASETS)} - names)
    if others:
        raise ValueError(
            f"{folder} holds data sets that are not among the sources: {', '.join(others[:5])}. "
            f"List them too, or remove their folders in {folder / DATASETS}."
        )


def _of_same_size(entries: list[CorpusEntry]) -> dict[CorpusEntry, str]:
    """Checksums of the sources that could be copies of one another: those with as many bytes as another has."""
    sizes: dict[int, list[CorpusEntry]] = {}
    for entry in (entry for entry in entries if Path(entry.path).exists()):
        sizes.setdefault(stamp(Path(entry.path))["size"], []).append(entry)
    alike = [entry for group in sizes.values() if len({entry.path for entry in group}) > 1 for entry in group]
    of_path = {path: sha256(Path(path)) for path in {entry.path for entry in alike}}
    return {entry: of_path[entry.path] for entry in alike}


def _refuse_twins(found: dict[CorpusEntry, str]) -> None:
    first: dict[str, CorpusEntry] = {}
    for entry, checksum in found.items():
        other = first.setdefault(checksum, entry)
        if other.path != entry.path:
            raise ValueError(
                f"{other.path} and {entry.path} are copies of each other (SHA-256 {checksum[:12]}...). Their cells "
                "would count twice: leave one out."
            )


def _finished(folder: Path, entry: CorpusEntry, vocabulary: Vocabulary) -> dict[str, Any] | None:
    """The description of a data set that was built before, from the same file and with the same settings; else None.

    It has its plain name, or a temporary one if a build was killed after finishing it.
    """
    plain = folder / DATASETS / str(entry.name)
    there = [path for path in [plain, *sorted(plain.parent.glob(f"{entry.name}~*"))] if (path / DESCRIPTION).exists()]
    for number, path in enumerate(there, 1):
        if (description := _same(path, entry, vocabulary, is_last=number == len(there))) is not None:
            if path != plain and path != content_named(plain, description):
                continue  # not the file that its name refers to
            return description
    return None


def _same(path: Path, entry: CorpusEntry, vocabulary: Vocabulary, is_last: bool) -> dict[str, Any] | None:
    """The description of the data set in a folder, if it is what the entry would give.

    A source that no longer exists does not count as changed. Files that are missing, or have another dtype or size, are
    rebuilt; ``Corpus.validate`` checks the content of the others.
    """
    say = logger.info if is_last else logger.debug
    description = read_description(path)
    try:
        for name in DTYPES:
            open_array(path, name, description, vocabulary.n_bins)
    except (ValueError, FileNotFoundError) as error:
        logger.warning("%s is rebuilt: %s", entry.name, error)
        return None
    if description["entry"] != entry.settings():
        say("%s is rebuilt: its settings have changed", entry.name)
        return None
    for what in ("source", "table"):
        before = description[what]
        if before is not None and Path(before["path"]).exists() and has_changed(Path(before["path"]), before):
            say("%s is rebuilt: %s has changed", entry.name, before["path"])
            return None
    return description


def _build_one(folder: Path, entry: CorpusEntry, vocabulary: Vocabulary, checksum: str | None) -> dict[str, Any]:
    """Write a data set under another name, and rename it when all of it is on the disk."""
    plain = folder / DATASETS / str(entry.name)
    partial = partial_of(plain)
    partial.mkdir()
    try:
        before = {what: _stamped(path) for what, path in (("source", entry.path), ("table", entry.barcodes))}
        description = {"format": FORMAT, "name": entry.name, "entry": entry.settings(), **before}
        description |= _write_cells(partial, entry, vocabulary)
        for what, taken in before.items():
            if taken is not None:
                path = Path(taken["path"])
                known = checksum if what == "source" else None
                description[what] = {**taken, "sha256": known or sha256(path)}
                if _stamped(path) != taken:
                    raise ValueError(f"{path} changed while it was read. Build again when it is complete.")
        description["versions"] = versions()
        write_json(partial / DESCRIPTION, description)
        final = content_named(plain, description) if plain.exists() else plain
        remove(final)
        put_in_place(partial, final)
        sync_folder(final.parent)
    except BaseException:
        remove(partial)
        raise
    return description


def _stamped(path: str | Path | None) -> dict[str, Any] | None:
    return None if path is None else {"path": str(path), **stamp(Path(path))}


def _write_cells(folder: Path, entry: CorpusEntry, vocabulary: Vocabulary) -> dict[str, Any]:
    what = str(entry.path)
    least, most = int(entry.min_bins or 1), entry.max_bins
    table = None if entry.barcodes is None else CellTable(entry)
    n_seen = n_listed = n_few = n_many = n_open = n_outside = 0
    shown = folder.with_name(str(entry.name))
    with open_cells(entry, vocabulary, least, table) as cells, ShardWriter(folder, shown) as writer:
        assembly = entry.assembly or cells.assembly
        regions = regions_of_var(cells.var, vocabulary, assembly, what)
        to_bins = BinMap(regions, vocabulary, what)
        bar = tqdm(total=cells.n_cells, unit="cell", desc=str(entry.name), delay=1, disable=None)
        with bar:
            for some in iter_cells(cells, entry, table):
                indptr, bins, outside = to_bins(some.indptr, some.regions)
                n_per_cell = np.diff(indptr)
                few = n_per_cell < least
                many = np.zeros(len(few), bool) if most is None else n_per_cell > most
                kept = some.is_cell & ~few & ~many
                n_seen += len(kept)
                n_listed += int(some.is_cell.sum())
                n_few += int((some.is_cell & few).sum())
                n_many += int((some.is_cell & many).sum())
                n_open += len(some.regions)
                n_outside += outside
                columns = {name: values[kept] for name, values in some.columns.items()}
                kept_indptr = np.concatenate([[0], np.cumsum(n_per_cell[kept])])
                writer.append(kept_indptr, bins[np.repeat(kept, n_per_cell)], some.barcodes[kept], columns)
                bar.update(len(kept))
        written = writer.close(what)
    if writer.n_cells == 0:
        raise ValueError(
            f"No cell of {what} is left: of {n_seen:,}, {n_seen - n_listed:,} are not listed in its table of cells, "
            f"{n_few:,} have fewer than {least:,} open bins"
            + (f", {n_many:,} more than {most:,}" if most is not None else "")
            + ". Lower min_bins, or compare the barcodes."
        )
    if n_outside > 0.05 * n_open:
        warnings.warn(
            f"{what}: {n_outside / n_open:.1%} of its open entries are outside the vocabulary and left out.",
            UserWarning,
            stacklevel=4,
        )
    if n_few > 0.5 * n_listed:
        warnings.warn(
            f"{what}: {n_few:,} of {n_listed:,} cells have fewer than {least:,} open bins and are left out.",
            UserWarning,
            stacklevel=4,
        )
    return {
        **written,
        "assembly_stated": assembly,
        "vocabulary": vocabulary.checksum,
        "n_cells_read": n_seen,
        "n_cells_unlisted": n_seen - n_listed,
        "n_cells_few": n_few,
        "n_cells_many": n_many,
        "n_regions": regions.n_bins,
        "n_regions_exact": to_bins.n_exact,
        "n_regions_over_several_bins": to_bins.n_over_several,
        "n_regions_outside": to_bins.n_outside,
        "share_open_outside": n_outside / max(n_open, 1),
    }


def _refuse_same_cells(descriptions: list[dict[str, Any]]) -> None:
    first: dict[str, str] = {}
    for description in descriptions:
        other = first.setdefault(description["checksums"]["bins.npy"], description["name"])
        if other != description["name"]:
            raise ValueError(
                f"The data sets {other} and {description['name']} hold the same cells, though their files differ. "
                "They would count twice: leave one out, and remove its folder of the corpus."
            )
