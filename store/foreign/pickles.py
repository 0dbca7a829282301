"""Which code the pickle in a weight file asks for, read from its instructions, none of which is executed."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

INSTRUCTIONS = 1_000_000  # that are read, at most
PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
GETS = ("GET", "BINGET", "LONG_BINGET")
PLAIN = re.compile(  # what tensors are made of
    r"torch\.(_utils\._rebuild\w+|_tensor\._rebuild\w+|\w+Storage|storage\.\w+|Size|device|nn\.parameter\.Parameter"
    r"|b?float\d+|u?int\d+|bool|complex\d+)|collections\.OrderedDict|_codecs\.encode"
)


def code_asked_for(file: BinaryIO) -> list[str]:
    """The dotted names in a PyTorch file's pickle that plain tensors do not need, each once; none if it is damaged."""
    try:
        return [*dict.fromkeys(name for name in _names(_pickle_of(file)) if not PLAIN.fullmatch(name))]
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError):
        return []


def _pickle_of(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    if file.read(2) != b"PK":
        file.seek(0)
        return file
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        return io.BytesIO(archive.read(names[0]) if names else b"")


def _names(file: BinaryIO) -> Iterator[str]:
    """What a pickle imports; of several pickles one after the other, those of all until one is damaged."""
    words, memo, top = list[str](), dict[object, str](), ""  # the last two texts, what is memoised, the text on top
    left = INSTRUCTIONS
    try:
        while left > 0:
            for instruction, argument, _ in pickletools.genops(file):
                left -= 1
                name = instruction.name
                if name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif name == "STACK_GLOBAL" and len(words) > 1:
                    yield f"{words[-2]}.{words[-1]}"
                if name in PUTS:
                    memo[len(memo) if argument is None else argument] = top
                elif name != "FRAME":
                    top = memo.get(argument, "") if name in GETS else argument if isinstance(argument, str) else ""
                    words = [*words[-1:], top] if top else words
                if left == 0:
                    return
    except (ValueError, EOFError):  # the end, or damage
        return
