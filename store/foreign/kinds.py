"""What a file is that should hold weights, told from its bytes: nothing in it is unpickled or run."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from store.foreign.pickles import code_asked_for
from store.schema import MagstainError

HEAD = 4096  # bytes that are looked at
SHOWN = 60  # characters of a foreign file that a message repeats
UNPACKED = 10  # times its own size that an archive may unpack to; PyTorch does not compress at all
JSON_HEADER = 100_000_000  # bytes of the header of a safetensors file, at most
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "RAR",
}
MODULES = "torch.nn.modules."  # classes of layers, which a whole network is pickled with
OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"GGUF": "a GGUF file",
}


class Format(StrEnum):
    """The formats of weights that are read."""

    TORCH = "a PyTorch file"
    SAFETENSORS = "a safetensors file"


def read_plain(
    source: Path | bytes, name: object, load: Callable[[BinaryIO], object], error: type[MagstainError], remedy: str
) -> object:
    """What `load`, which reads a PyTorch file without running code in it, makes of a file or of its bytes.

    Raises `error` with the name, what the file is instead or what is wrong in it, and the remedy. The words of `load`
    are never repeated: PyTorch's advise to run what is in the file.
    """
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            problem = what_is_wrong(file, Format.TORCH)
            if not problem:
                file.seek(0)
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # of a pickle that PyTorch did not write
                        return load(file)
                except Exception as failure:  # damage raises anything from EOFError to KeyError
                    problem = _why_unreadable(file, failure)
    except OSError as failure:
        problem = f"cannot be read ({failure.strerror or type(failure).__name__})"
    raise error(f"{name} {problem}; {remedy}")


def wrong_file(path: Path, wanted: Format) -> str:
    """What is wrong with a file, as `what_is_wrong` says it; a file that cannot be opened is left to its reader."""
    try:
        with path.open("rb") as file:
            return what_is_wrong(file, wanted)
    except OSError:
        return ""


def what_is_wrong(file: BinaryIO, wanted: Format) -> str:
    """Why the bytes of a file are not of the wanted format, to follow its name: "is empty (0 bytes): …"; else ""."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        return "is empty (0 bytes): its download or copy failed"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= JSON_HEADER:  # first: a length may look like "PK"
        found, problem = Format.SAFETENSORS, ""
    elif problem := not_weights(head):
        return problem
    elif head.startswith(b"PK"):
        found, problem = Format.TORCH, _zip_problem(file, size)
    elif head[:1] == b"\x80":  # a pickle, as PyTorch wrote it before 1.6
        found, problem = Format.TORCH, ""
    else:
        return f"is neither {Format.TORCH} nor {Format.SAFETENSORS}: it begins with the bytes {head[:8].hex(' ')}"
    return problem or ("" if found is wanted else f"is {found}, where {wanted} is needed")


def not_weights(head: bytes) -> str:
    """What the first bytes of a file or of a server's answer show that is no weights, as `what_is_wrong` says it."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"version https://git-lfs"):
        size = re.search(rb"\nsize (\d{1,18})\b", text)
        real = f" of {int(size[1]):,} bytes" if size else ""
        return f"is a Git LFS pointer, which only names the real file{real}: fetch that with `git lfs pull`"
    if b"annex/objects/" in text[:HEAD] and len(text) < HEAD:
        return "is a git-annex pointer, which only names the real file: fetch that with `git annex get`"
    if text[:1] == b"<":
        return (
            f"is a web page ({_shown(_title(text))}), which the server sent in place of the file: open its address in "
            "a browser, confirm what it asks, and save the file itself"
        )
    for magic, name in ARCHIVES.items():
        if head.startswith(magic):
            return f"is a {name} archive: unpack it and give the weight file in it"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it and give the weight file in it"
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            return f"is {name}, not weights"
    if len(head) > 8 and not any(head):
        return "begins with nothing but zero bytes: room was made for it, and its download never finished"
    if head[:1] == b"\x08" and head[1:2] <= b"\x20" and head[2:3] == b"\x12":  # version, then the name of the producer
        return "is an ONNX model, which has no names of layers to load: give the weights that it was made from"
    if text and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return f"is a text ({_shown(text)}), not weights"
    return ""


def _zip_problem(file: BinaryIO, size: int) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    # zipfile has no one error for bytes that are no archive: an unknown version is NotImplementedError, for example
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OverflowError):
        return f"is cut off after {size:,} bytes: the end of {Format.TORCH}, its table of contents, is missing"
    names = [member.filename for member in members]
    folders = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] == "data.pkl"}
    if any(f"{folder}/constants.pkl" in names for folder in folders):
        return "is a TorchScript program, not plain weights: give the file that was saved from a state dict"
    if not folders:
        held = ", ".join(map(_shown, names[:2])) or "nothing"
        return (
            f"is a zip archive that PyTorch did not write (it holds {held}): unpack it and give the weight file in it"
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > UNPACKED * size:
        return f"is a compressed archive that unpacks to {unpacked:,} bytes from {size:,}, which weights do not"
    return ""


def _why_unreadable(file: BinaryIO, failure: Exception) -> str:
    if names := code_asked_for(file):
        if any(name.startswith(MODULES) for name in names):
            return (
                f"asks for code ({', '.join(map(_shown, names[:3]))}), which was not run: it is a whole network, "
                "pickled with its classes, so save its tensors alone where those are, with "
                "torch.save(network.state_dict(), FILE)"
            )
        return (
            f"asks for code ({', '.join(map(_shown, names[:3]))}), which was not run: weights need none, so take only "
            "the tensors (a state dict) from someone you trust"
        )
    return f"is damaged or cut off ({type(failure).__name__})"


def _title(page: bytes) -> bytes:
    title = re.search(rb"<title[^>]*>([^<]{1,200})", page, re.IGNORECASE)
    return title[1].strip() if title else page


def _shown(text: bytes | str) -> str:
    """The beginning of a foreign text, quoted, with everything escaped that could steer a terminal."""
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    short = " ".join(words.split())
    return ascii(short if len(short) <= SHOWN else f"{short[:SHOWN]}...")
