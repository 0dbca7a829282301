"""Files of a data folder that hold terms of use: their names, first lines and digests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from store.card.measured import TermsFile
from store.files import digest_bytes
from store.untrusted.documents import shorten
from store.untrusted.text import printable

NAMES = re.compile(r"(.*[_-])?(licen[cs]e|copying|terms([_ -]of[_ -]use)?|data[_ -]use.*)(\.(txt|md|rst|html))?", re.I)
MOST_BYTES, MOST_FILES, LINE = 1 << 20, 5, 120  # of a file; in a folder; characters


def find_terms_files(folders: Iterable[Path]) -> tuple[TermsFile, ...]:
    """The files beside the tiles whose names are those of a licence, by name; what cannot be read is left out."""
    found: dict[str, TermsFile] = {}
    for folder in dict.fromkeys(folders):
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if NAMES.fullmatch(file.name) and file.is_file() and (one := _read(file)):
                found.setdefault(one.name, one)
    return tuple(found[name] for name in sorted(found)[:MOST_FILES])


def _read(file: Path) -> TermsFile | None:
    try:
        if file.stat().st_size > MOST_BYTES:
            return None
        data = file.read_bytes()
    except OSError:
        return None
    lines = (line.strip(" \t#=*-<>!") for line in data.decode(errors="replace").splitlines())
    line = next((line for line in lines if re.search(r"\w", line)), "empty")
    name = printable(file.name)
    return TermsFile(name=name, line=shorten(printable(line), LINE), sha256=digest_bytes(data))
