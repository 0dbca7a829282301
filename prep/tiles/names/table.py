"""A table of pairs in place of folders that are read: columns he, ihc, and if there are such slide, split, id.

Names are relative to the data folder; those of a row that lie elsewhere are refused. Rows are counted as a spreadsheet
counts them, the header being row 1.
"""

from __future__ import annotations

import codecs
import csv
import io
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from prep.settings import how_to_set
from prep.tiles.folders.words import SPLITS, plain_word
from store.images import SUFFIXES
from store.schema import PairingError, Split
from store.untrusted.names import PICTURE, name_fault, text_fault

NEEDED = ("he", "ihc")
OPTIONAL = ("slide", "split", "id")
SQUARE = ("top", "left", "side")  # columns of a table of squares, as `prep register` writes it
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
WORKBOOKS = (".xlsx", ".xls", ".ods")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pair of a table; `slide` is empty if the table has no such column, `split` then is train.

    `he` and `ihc` are relative to their folders, in POSIX form.
    """

    number: int
    id: str
    he: str
    ihc: str
    slide: str
    split: Split


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTable:
    """A table that was read: its rows in their order, which columns it has, and those that are not read."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    unread: tuple[str, ...]


def read_table(table: Path, he_root: Path, ihc_root: Path, *, joined: bool = False) -> PairTable:
    """The pairs of a table whose names are relative to these folders; `joined` if a file holds both stains.

    Raises PairingError that names the row.
    """
    lines = _lines(table)
    header, separator = _header(table, lines)
    columns = tuple(name for name in (*NEEDED, *OPTIONAL) if name in header)
    roots = [(name, root, _starts(root)) for name, root in zip(NEEDED, (he_root, ihc_root), strict=True)]
    rows: list[Row] = []
    for number, cells in _cells(table, lines, separator, len(header)):
        where = f"{table}, row {number}"
        values = {name: cells[header.index(name)].strip() for name in columns}
        for name in columns:
            if not values[name]:
                raise PairingError(f"{where}: {name} is empty; every row needs one, or leave the column away")
        he, ihc = (_name(where, values[name], root, starts) for name, root, starts in roots)
        _check_files(where, he, ihc, joined=joined, one_root=he_root == ihc_root)
        rows.append(
            Row(
                number=number,
                id=_check_id(where, values.get("id", he.removesuffix(PurePosixPath(he).suffix))),
                he=he,
                ihc=ihc,
                slide=_check_slide(where, values.get("slide", "")),
                split=_split(where, values.get("split", Split.TRAIN)),
            )
        )
    if not rows:
        raise PairingError(f"{table}: has a header and no row; write one row for each pair")
    _refuse_twice(table, rows)
    if he_root == ihc_root and not joined:
        _refuse_swapped(table, rows)
    return PairTable(rows=tuple(rows), columns=columns, unread=tuple(name for name in header if name not in columns))


def _lines(table: Path) -> list[str]:
    """The lines of a table, which is text in UTF-8, or in UTF-16 if it says so."""
    if table.suffix.lower() in WORKBOOKS:
        raise PairingError(f"{table}: is a workbook; save its sheet as CSV in UTF-8 and give that to --pairs-from")
    try:
        content = table.read_bytes()
    except OSError as error:
        raise PairingError(
            f"{table}: cannot be read ({error.strerror}); check the path of the table (--pairs-from; make: PAIRS=)"
        ) from error
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise PairingError(f"{table}: is not text in UTF-8 (byte {error.start:,}); save it as CSV in UTF-8") from error
    if "\0" in text:
        raise PairingError(f"{table}: is not text, it holds a byte of value 0; give a CSV file in UTF-8")
    return list(io.StringIO(text, newline=""))


def _header(table: Path, lines: Sequence[str]) -> tuple[list[str], str]:
    """The names of the columns, and the sign between them: the one that gives the columns that are needed."""
    first = lines[0].rstrip("\r\n") if lines else ""
    for separator in SEPARATORS:
        names = [name.strip().casefold() for name in next(csv.reader([first], delimiter=separator), [])]
        if all(name in names for name in NEEDED):
            if twice := [name for name in (*NEEDED, *OPTIONAL) if names.count(name) > 1]:
                raise PairingError(f"{table}, row 1: has two columns {twice[0]!r}; keep one of them")
            if all(name in names for name in SQUARE):
                raise PairingError(
                    f"{table}: is a table of squares (columns {', '.join(SQUARE)}), and a row here is a pair of files; "
                    f"name each pair of files once, and let {how_to_set('tile_side=512')} cut the squares"
                )
            return names, separator
    raise PairingError(
        f"{table}, row 1: is {first[:80]!r} and must name the columns he and ihc, and may name {', '.join(OPTIONAL)}, "
        f"separated by {', '.join([*SEPARATORS.values()][:-1])} or {[*SEPARATORS.values()][-1]}"
    )


def _cells(table: Path, lines: Sequence[str], separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """The cells of every row that has any, with its number."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, start=1):
            if number == 1 or not any(cell.strip() for cell in cells):
                continue
            if len(cells) != width:
                raise PairingError(
                    f"{table}, row {number}: has {len(cells)} cells, and the header has {width}; write names that hold "
                    f"the separator {separator!r} in double quotes"
                )
            yield number, cells
    except csv.Error as error:
        raise PairingError(f"{table}, row {number + 1}: cannot be read ({error}); correct its quotes") from error


def _starts(root: Path) -> list[str]:
    """What the absolute names below a folder begin with, as it was given and without links."""
    return [f"{folder.as_posix().rstrip('/')}/" for folder in (root.absolute(), root.resolve())]


def _name(where: str, name: str, root: Path, starts: Sequence[str]) -> str:
    """A name relative to its folder. Windows writes backslashes, which no name in a store can hold."""
    name = name.replace("\\", "/")
    for start in starts:
        name = name.removeprefix(start)
    plain = posixpath.normpath(name)
    if plain.startswith(("../", "/")) or plain == "..":
        raise PairingError(
            f"{where}: {name!r} lies outside of {root}; give the folder around all tiles with --data (make: DATA=)"
        )
    if fault := name_fault(plain):
        raise PairingError(f"{where}: the file name {plain!r} {fault}; rename the file")
    return plain


def _check_files(where: str, he: str, ihc: str, *, joined: bool, one_root: bool) -> None:
    """Raise PairingError for files that are no pictures, and for one file in both columns unless it holds both."""
    for name in (he, ihc):
        if PurePosixPath(name).suffix.lower() not in SUFFIXES:
            raise PairingError(f"{where}: {name!r} is no picture ({', '.join(sorted(SUFFIXES))})")
    if one_root and (he == ihc) != joined:
        told = "each row must name one file twice" if joined else "two files are needed"
        raise PairingError(
            f"{where}: he is {he!r} and ihc is {ihc!r}, and {told}: with layout=side-by-side a file holds both stains, "
            "else one"
        )


def _check_id(where: str, pair: str) -> str:
    if fault := name_fault(pair, PICTURE):
        raise PairingError(f"{where}: the id {pair!r} {fault}; give the pair another one in a column id")
    return pair


def _check_slide(where: str, slide: str) -> str:
    if slide and (fault := text_fault(slide)):
        raise PairingError(f"{where}: the slide {slide!r} {fault}; use a word")
    return slide


def _split(where: str, word: str) -> Split:
    split = SPLITS.get(plain_word(word))
    if split is None:
        raise PairingError(f"{where}: split is {word!r}, and must be {', '.join(Split)}")
    return split


def _refuse_twice(table: Path, rows: Sequence[Row]) -> None:
    """Raise PairingError if a pair or an id is in two rows."""
    pairs: dict[tuple[str, str], Row] = {}
    ids: dict[tuple[Split, str], Row] = {}
    for row in rows:
        if (other := pairs.setdefault((row.he, row.ihc), row)) is not row:
            raise PairingError(f"{table}, rows {other.number} and {row.number}: are the same pair; keep one of them")
        if (other := ids.setdefault((row.split, row.id), row)) is not row:
            raise PairingError(
                f"{table}, rows {other.number} and {row.number}: both have the id {row.id!r}, which is the name of the "
                "H&E without suffix unless a column id gives another; give each an id"
            )


def _refuse_swapped(table: Path, rows: Sequence[Row]) -> None:
    """Raise PairingError if one picture is the H&E of a row and the IHC of another."""
    ihc = {row.ihc: row for row in rows}
    for row in rows:
        if other := ihc.get(row.he):
            raise PairingError(
                f"{table}, rows {row.number} and {other.number}: {row.he!r} is H&E in one and IHC in the other; a "
                "picture is of one stain: correct the row in which they are swapped"
            )
