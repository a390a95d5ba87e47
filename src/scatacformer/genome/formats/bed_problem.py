"""Diagnosis of an invalid BED file: used only after reading it has failed."""

from __future__ import annotations

HEADERS = (b"#", b"track", b"browser")


def bed_problem(content: bytes) -> str | None:
    """The first line of a BED file that is not an interval or is a duplicate; None if all are valid."""
    seen: dict[tuple[bytes, int, int], int] = {}
    again: list[tuple[int, int, bytes]] = []
    in_head = True
    for number, raw in enumerate(content.splitlines(), 1):
        line = raw.rstrip()
        if not line or (in_head and line.startswith(HEADERS)):
            continue
        columns = line.split(b"\t")
        shown = line[:60].decode(errors="replace")
        if line.startswith(HEADERS):
            return f"line {number:,} ({shown!r}): a header after the first interval; remove the line"
        if len(columns) < 3:
            spaces = len(line.split()) >= 3
            why = "its columns are separated by spaces" if spaces else f"it has {len(columns)} column(s)"
            return f"line {number:,} ({shown!r}): {why}; expected chromosome, start and end, separated by tabs"
        try:
            start, end = int(columns[1]), int(columns[2])
        except ValueError:
            header = "; a line of column names must begin with '#'" if in_head else ""
            return f"line {number:,} ({shown!r}): start and end are not integers{header}"
        in_head = False
        if not columns[0].strip():
            return f"line {number:,} ({shown!r}): it has no chromosome"
        if max(start, end) > 2**31 - 1:
            return f"line {number:,} ({shown!r}): a position beyond 2,147,483,647"
        if start < 0:
            return f"line {number:,} ({shown!r}): the start is negative"
        if end <= start:
            return f"line {number:,} ({shown!r}): it ends at or before its start; expected 0-based half-open intervals"
        first = seen.setdefault((columns[0], start, end), number)
        if first != number:
            again.append((number, first, line))
    if not again:
        return None
    number, first, line = again[0]
    many = f"{len(again):,} lines are duplicates" if len(again) > 1 else "1 line is a duplicate"
    shown = line[:60].decode(errors="replace")
    return (
        f"line {number:,} repeats line {first:,} ({shown!r}); in all {many} of another "
        f"(line{'s' if len(again) > 1 else ''} {', '.join(str(at) for at, _, _ in again[:10])}{', …' if len(again) > 10 else ''}). "
        "Token ids are line numbers: keep one line of each, and renumber what was trained on the file"
    )
