"""Pairs that a table names, in place of those that are found in folders."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

from prep.settings import Layout
from prep.tiles.folders.tree import check_folder
from prep.tiles.layouts import Sources
from prep.tiles.names.table import PairTable, Row, read_table
from prep.tiles.pairs import Candidate, Discovery
from store.pairs.table import Skipped
from store.schema import Split


def pair_rows(table: Path, he: Path, ihc: Path, layout: Layout) -> Discovery:
    """The candidates of a table whose names are relative to these folders; rows whose files are missing are unpaired.

    With `layout` side-by-side one file holds both stains. Raises PairingError that names the row.
    """
    for folder in dict.fromkeys((he, ihc)):
        check_folder(folder)
    joined = layout is Layout.SIDE_BY_SIDE
    pairs = read_table(table, he, ihc, joined=joined)
    rows = [replace(row, he=_on_disk(he, row.he), ihc=_on_disk(ihc, row.ihc)) for row in pairs.rows]
    missing = {row: name for row in rows if (name := _missing(row, he, ihc))}
    candidates = [
        Candidate(id=row.id, split=row.split, slide=row.slide, he=row.he, ihc=row.ihc)
        for row in rows
        if row not in missing
    ]
    return Discovery(
        layout=Layout.TABLE,
        sources=Sources(he=he, ihc=ihc, joined=joined).absolute(),
        published="split" in pairs.columns and any(row.split is Split.TEST for row in pairs.rows),
        candidates=tuple(sorted(candidates, key=lambda candidate: candidate.rank)),
        unpaired=tuple(_unpaired(table, row, name) for row, name in missing.items()),
        notes=_unread_note(table, pairs),
        read_as=_read_as(table, pairs, candidates),
        slides_named="slide" in pairs.columns,
    )


def _on_disk(root: Path, name: str) -> str:
    """The name of a file in the form of Unicode that the disk has, which may be another than the table's."""
    forms = dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
    return next((form for form in forms if (root / form).is_file()), name)


def _missing(row: Row, he: Path, ihc: Path) -> str:
    """The first of the two files of a row that is not there; empty if both are."""
    return next((name for root, name in ((he, row.he), (ihc, row.ihc)) if not (root / name).is_file()), "")


def _unpaired(table: Path, row: Row, name: str) -> Skipped:
    reason = f"row {row.number} of {table.name} names {name!r}, and there is no such file"
    return Skipped(id=row.id, split=row.split, he=row.he, ihc=row.ihc, reason=reason)


def _unread_note(table: Path, pairs: PairTable) -> tuple[str, ...]:
    """A note on columns that are not read, if there are any."""
    names = [repr(name) for name in pairs.unread]
    return (f"{table.name}: the column(s) {', '.join(names)} are not read",) if names else ()


def _read_as(table: Path, pairs: PairTable, candidates: list[Candidate]) -> str:
    """The table and the pairs of each split, for a person."""
    if "split" not in pairs.columns:
        return f"table {table.name}, {len(candidates)} pairs"
    counts = {split: sum(one.split is split for one in candidates) for split in Split}
    return f"table {table.name}, {' + '.join(f'{n} {split}' for split, n in counts.items() if n)} pairs"
