"""The weight files that magstain knows: what they are, where they live, how they are fetched and checked.

A file has its name in the cache folder only after its size and digest were found right. The folder is what a command is
told (`--folder`, `prep build --weights`), else `$MAGSTAIN_WEIGHTS`, else `magstain/weights` in `$XDG_CACHE_HOME` or
`~/.cache`.
"""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import PARTIAL_CONTENT, REQUESTED_RANGE_NOT_SATISFIABLE, HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError

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
    package: str = "prep"  # that uses it


KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"
TORCHVISION = "https://download.pytorch.org/models"
PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"

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


FEATURE_FILES = tuple(  # whose features evaluation compares; the eight digits in a name begin the digest
    WeightFile(name=name, size=size, sha256=sha256, address=f"{folder}/{name}", what=what, package="evaluate")
    for folder, name, size, what, sha256 in (
        (TORCHVISION, "alexnet-owt-7be5be79.pth", 244_408_911, "AlexNet for LPIPS (torchvision, ImageNet V1)",
         "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"),
        (TORCHVISION, "vgg16-397923af.pth", 553_433_881, "VGG-16 for LPIPS (torchvision, ImageNet V1)",
         "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
        (TORCHVISION, "resnet50-0676ba61.pth", 102_530_333, "ResNet-50 for PHV (torchvision, ImageNet V1)",
         "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
        (TORCHVISION, "inception_v3_google-0cc3c7bd.pth", 108_949_747, "Inception v3 for KID (torchvision, ImageNet)",
         "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef"),
        (PYTORCH_FID, "pt_inception-2015-12-05-6726825d.pth", 95_628_359, "Inception for FID (pytorch-fid)",
         "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"),
    )
)  # fmt: skip
WEIGHT_FILES = {weight.name: weight for weight in (*BSRGAN_FILES.values(), *FEATURE_FILES)}
PACKAGES = ("prep", "evaluate")


def weights_folder() -> Path:
    """The one cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "magstain" / "weights"


def use_weights_folder(folder: Path) -> None:
    """Make `folder` the cache folder of this process and of those that it starts."""
    os.environ[FOLDER_VARIABLE] = str(folder.absolute())


def locate(weight: WeightFile, folder: Path) -> Path:
    """The file of `weight` in `folder`, its bytes checked. Raises WeightsError if it is missing or another file."""
    file = folder / weight.name
    if not file.is_file():
        raise WeightsError(
            f"{weight.name} ({weight.what}) is not in {folder}; fetch it with `make weights` "
            f"({weight.address}, {weight.size:,} bytes, sha256 {weight.sha256}), or put it there by hand"
        )
    _check(file, weight, place=str(file), remedy=f"remove it and fetch the right one from {weight.address}")
    return file


def fetch(weight: WeightFile, folder: Path, source: str = "", watch: Callable[[int], object] = lambda _: None) -> Path:
    """Bring `weight` into `folder` from its address, or from `source`: a file, a folder or the address of a mirror.

    A broken download resumes. `watch` receives the number of bytes of each piece. Raises WeightsError
    with the address, size, digest and place when it cannot be had or is not the right file.
    """
    file = folder / weight.name
    if file.is_file():
        return locate(weight, folder)
    partial = file.with_name(file.name + PARTIAL)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if source and "://" not in source:
        origin = _local_copy(weight, Path(source))
        _check(origin, weight, place=str(origin), remedy=f"the right one is at {weight.address}")
        with disk_errors(folder), _thrown_away(partial):
            shutil.copyfile(origin, partial)
            watch(weight.size)
    else:
        address = _address(weight, source)
        _download(weight, address, partial, watch)
        with _thrown_away(partial):
            _check(partial, weight, place=address, remedy=_elsewhere(folder))
    with disk_errors(folder):
        sync(partial)
        partial.replace(file)
        sync(folder)
    return file


def choose(names: Sequence[str], source: str) -> list[WeightFile]:
    """The weight files of these names or packages; without any the one that `source` is called, else those of prep."""
    for name in names:
        if name not in WEIGHT_FILES and name not in PACKAGES:
            known = ", ".join((*WEIGHT_FILES, *PACKAGES))
            raise WeightsError(f"no weight file {name!r} is known; there are {known}")
    if not names and (named := _file_name(source)) in WEIGHT_FILES:
        return [WEIGHT_FILES[named]]
    wanted = names or PACKAGES[:1]
    return [weight for weight in WEIGHT_FILES.values() if weight.name in wanted or weight.package in wanted]


def describe(weight: WeightFile, folder: Path) -> str:
    """What a weight file is, where it comes from, where it belongs and whether it is there."""
    try:
        state = f"is in {locate(weight, folder).parent}"
    except WeightsError:
        state = "is present, but is another file" if (folder / weight.name).exists() else f"belongs into {folder}"
    return f"{weight.name}  {weight.what}, {weight.size:,} bytes, sha256 {weight.sha256}, {weight.address}; {state}"


def _elsewhere(folder: Path) -> str:
    return f"nothing was kept of it; put the right file into {folder} by hand, or name a copy with --from"


def _file_name(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2]


def _address(weight: WeightFile, source: str) -> str:
    if not source:
        return weight.address
    return source if _file_name(source) == weight.name else f"{source.rstrip('/')}/{weight.name}"


def _local_copy(weight: WeightFile, source: Path) -> Path:
    file = source / weight.name if source.is_dir() else source
    if not file.is_file():
        raise WeightsError(
            f"no file {file}; give --from a file {weight.name}, a folder that holds it, or a mirror's address"
        )
    return file


@contextmanager
def _thrown_away(partial: Path) -> Iterator[None]:
    """Remove `partial` if what is done with it fails."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _download(weight: WeightFile, address: str, partial: Path, watch: Callable[[int], object]) -> None:
    """Append what is missing of `address` to `partial`; a server that cannot resume starts it anew."""
    begun = partial.stat().st_size if partial.exists() else 0
    if begun > weight.size:
        begun = 0
    if begun == weight.size:
        return
    try:
        request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            begun = begun if response.status == PARTIAL_CONTENT else 0
            offered = begun + int(response.headers.get("Content-Length") or weight.size - begun)
            if offered != weight.size:
                raise WeightsError(_wrong(weight, address, f"{offered:,} bytes", _elsewhere(partial.parent)))
            _append(response, partial, begun, watch)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: no address at all
        if isinstance(error, HTTPError) and error.code == REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
        raise WeightsError(
            f"cannot fetch {address}: {error}; run the same command again to resume. On a machine "
            f"without internet put the file ({weight.size:,} bytes, sha256 {weight.sha256}) into {partial.parent} by "
            "hand, or name a copy with --from"
        ) from error
    if (got := partial.stat().st_size) < weight.size:
        raise WeightsError(
            f"{address} broke off after {got:,} of {weight.size:,} bytes, which are kept in {partial}: "
            "run the same command again to resume"
        )


def _append(response: BinaryIO, partial: Path, begun: int, watch: Callable[[int], object]) -> None:
    """Copy a response behind the first `begun` bytes of `partial`. What a full disk cuts off is kept."""
    with disk_errors(partial):
        file = partial.open("r+b" if begun else "wb")
    with file:
        watch(file.seek(begun))
        while piece := response.read(PIECE):
            with disk_errors(partial):
                file.write(piece)
                file.flush()
            watch(len(piece))


def _check(file: Path, weight: WeightFile, *, place: str, remedy: str) -> None:
    size = file.stat().st_size
    digest = digest_file(file) if size == weight.size else ""
    if digest != weight.sha256:
        raise WeightsError(_wrong(weight, place, f"sha256 {digest}" if digest else f"{size:,} bytes", remedy))


def _wrong(weight: WeightFile, place: str, found: str, remedy: str) -> str:
    return (
        f"{place} is not {weight.what}: it has {found}, the right file has {weight.size:,} bytes and sha256 "
        f"{weight.sha256}; {remedy}"
    )
