"""The weight files that magstain knows: what they are, where they live, how they are fetched and checked.

A file has its name in the cache folder only after its size and digest were found right. The folder is
`$MAGSTAIN_WEIGHTS`, else `magstain/weights` in `$XDG_CACHE_HOME` or `~/.cache`.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from store.files import PARTIAL, digest_file, disk_errors, sync
from store.schema import WeightsError

FOLDER_VARIABLE = "MAGSTAIN_WEIGHTS"
PIECE = 1 << 20  # bytes that are copied at a time
TIMEOUT = 30  # seconds without a byte before a download is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of weights, its size in bytes and the sha256 that it must have."""

    name: str
    size: int
    sha256: str
    address: str
    what: str


KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"

BSRGAN_FILES = {
    4: WeightFile(
        name="BSRGAN.pth",
        size=67_046_751,
        sha256="5d505a0766160921e0388d76e1ddf08cb114303990f9080432bf2b1c988b1c54",
        address=f"{KAIR}/BSRGAN.pth",
        what="BSRGAN x4, Apache-2.0 (KAIR v1.0)",
    ),
    2: WeightFile(
        name="BSRGANx2.pth",
        size=66_894_171,
        sha256="614f68bcafcf123a1ea51cc75ae5741640a8b1d49dd75757ad3ad531f772c736",
        address=f"{KAIR}/BSRGANx2.pth",
        what="BSRGAN x2, Apache-2.0 (KAIR v1.0)",
    ),
}
WEIGHT_FILES = {weight.name: weight for weight in BSRGAN_FILES.values()}


def weights_folder() -> Path:
    """The one cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "magstain" / "weights"


def locate(weight: WeightFile, folder: Path) -> Path:
    """The file of `weight` in `folder`, its bytes checked. Raises WeightsError if it is missing or another file."""
    file = folder / weight.name
    if not file.is_file():
        raise WeightsError(
            f"{weight.name} ({weight.what}) is not in {folder}; fetch it with `make weights` "
            f"({weight.address}, {weight.size:,} bytes), or put it there by hand"
        )
    _check(file, weight)
    return file


def fetch(weight: WeightFile, folder: Path, source: str = "", watch: Callable[[int], None] = lambda _: None) -> Path:
    """Bring `weight` into `folder` from its address, or from `source`: a file, a folder or the address of a mirror.

    A broken download goes on where it stopped. `watch` is told the number of bytes of each piece. Raises WeightsError
    with the address, size, digest and place when it cannot be had or is not the right file.
    """
    file = folder / weight.name
    if file.is_file():
        return locate(weight, folder)
    address = _address(weight, source)
    partial = file.with_name(file.name + PARTIAL)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        _copy(address, partial, watch)
    except OSError as error:
        raise WeightsError(
            f"cannot fetch {address}: {error}; on a machine without internet put the file ({weight.size:,} bytes, "
            f"sha256 {weight.sha256}) into {folder} by hand, or name a copy with --from"
        ) from error
    try:
        _check(partial, weight)
    except WeightsError:
        partial.unlink()
        raise
    partial.replace(file)
    sync(folder)
    return file


def _address(weight: WeightFile, source: str) -> str:
    if not source:
        return weight.address
    if "://" in source:
        return source if source.endswith(weight.name) else f"{source.rstrip('/')}/{weight.name}"
    path = Path(source)
    path = path / weight.name if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(
            f"no file {path}; give --from a file {weight.name}, a folder that holds it, or a mirror's address"
        )
    return path.resolve().as_uri()


def _copy(address: str, partial: Path, watch: Callable[[int], None]) -> None:
    """Append what is missing of `address` to `partial`; a server that cannot resume starts it anew."""
    begun = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        response: BinaryIO = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range begins behind the end: nothing is missing, the digest will tell
            raise
        return
    with response, partial.open("ab" if getattr(response, "status", None) == 206 else "wb") as file:
        watch(file.tell())
        while piece := response.read(PIECE):
            file.write(piece)
            watch(len(piece))


def _check(file: Path, weight: WeightFile) -> None:
    size = file.stat().st_size
    digest = digest_file(file) if size == weight.size else ""
    if digest != weight.sha256:
        found = f"sha256 {digest}" if digest else f"{size:,} bytes"
        raise WeightsError(
            f"{file} is not {weight.what}: it has {found}, the right file has {weight.size:,} bytes and sha256 "
            f"{weight.sha256}; remove it and fetch it from {weight.address}"
        )
