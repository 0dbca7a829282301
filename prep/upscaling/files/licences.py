"""The terms of a network's weights, as far as a text beside the file says them; nothing is guessed beyond its words."""

from __future__ import annotations

import re
from pathlib import Path

UNKNOWN = "unknown"
NAMES = re.compile(r"(LICEN[CS]E|COPYING|UNLICENSE)([-_.].*)?", re.IGNORECASE)
HEAD = 8192  # bytes of a text that are read
SHOWN = 80  # signs of a first line that is no known licence
KNOWN = {  # words of a text, and its SPDX identifier; the first that fits
    "attribution-noncommercial-sharealike 4.0": "CC-BY-NC-SA-4.0",
    "attribution-noncommercial 4.0": "CC-BY-NC-4.0",
    "attribution-sharealike 4.0": "CC-BY-SA-4.0",
    "attribution 4.0 international": "CC-BY-4.0",
    "cc0 1.0": "CC0-1.0",
    "gnu affero general public license version 3": "AGPL-3.0",
    "gnu lesser general public license version 3": "LGPL-3.0",
    "gnu general public license version 3": "GPL-3.0",
    "gnu general public license version 2": "GPL-2.0",
    "mozilla public license version 2.0": "MPL-2.0",
    "apache license version 2.0": "Apache-2.0",
    "neither the name of": "BSD-3-Clause",
    "redistribution and use in source and binary forms": "BSD-2-Clause",
    "permission is hereby granted, free of charge": "MIT",
    "this is free and unencumbered software": "Unlicense",
}


def licence_beside(file: Path) -> str:
    """The licence whose text is in the folder of a file: its SPDX identifier, else its first line; else "unknown"."""
    try:
        texts = sorted(path for path in file.parent.iterdir() if NAMES.fullmatch(path.name) and path.is_file())
        for path in texts:
            with path.open("rb") as opened:
                return name_of(opened.read(HEAD).decode(errors="replace"))
    except OSError:
        return UNKNOWN  # a folder that cannot be listed
    return UNKNOWN


def name_of(text: str) -> str:
    r"""The SPDX identifier of a licence's text, else its first line, else "unknown".

    >>> name_of("                 Apache License\n           Version 2.0, January 2004")
    'Apache-2.0'
    >>> name_of("Weights for research only.\nAsk us for more.")
    'Weights for research only.'
    """
    words = re.sub(r"\s+", " ", text.lower()).replace("license, version", "license version")
    words = words.replace("licence", "license")
    for part, name in KNOWN.items():
        if part in words:
            return name
    return printable(next((line for line in text.splitlines() if line.strip()), ""))


def printable(text: str) -> str:
    """A foreign text in one short line of signs that can be printed, or "unknown"."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return (line if len(line) <= SHOWN else f"{line[:SHOWN]}…") or UNKNOWN
