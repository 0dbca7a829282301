"""The weight files that magstain uses: what they are, where they are kept, how they are downloaded and checked.

A file gets its name in the cache folder only after its size and sha256 were found correct. The folder is the one given
(`store weights --folder`, `prep build --weights`), otherwise `$MAGSTAIN_WEIGHTS`, otherwise `magstain/weights` in
`$XDG_CACHE_HOME` or `~/.cache`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from store.disk.home import cache_folder
from store.files import PARTIAL, digest_file, disk_errors, sync
from store.foreign.download import Broken, Refused, alone, download, sweep
from store.foreign.kinds import HEAD, not_weights
from store.schema import WeightsError

FOLDER_VARIABLE = "MAGSTAIN_WEIGHTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One weight file: its size in bytes and its sha256 in hex, where it comes from, and the package that uses it."""

    name: str
    size: int
    sha256: str
    address: str
    what: str
    package: str = "prep"


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


FEATURE_FILES = tuple(  # of the feature networks of evaluation; eight digits in a name are the start of its sha256
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
    """The cache folder of weight files."""
    return cache_folder(FOLDER_VARIABLE, "weights")


def use_weights_folder(folder: Path) -> None:
    """Make `folder` the cache folder of this process and of the processes that it starts."""
    os.environ[FOLDER_VARIABLE] = str(folder.absolute())


def locate(weight: WeightFile, folder: Path) -> Path:
    """The file of `weight` in `folder`, after a check of its bytes. Raises WeightsError if it is missing or wrong."""
    file = folder / weight.name
    if not file.is_file():
        raise WeightsError(
            f"{weight.name} ({weight.what}) is not in {folder}; fetch it with `{_command(weight)}` "
            f"({weight.address}, {weight.size:,} bytes, sha256 {weight.sha256}), or put it there by hand"
        )
    _check(file, weight, place=str(file), remedy=f"remove it and fetch the right one from {weight.address}")
    return file


def fetch(
    weight: WeightFile,
    folder: Path,
    source: str = "",
    watch: Callable[[int], object] = lambda _: None,
    tell: Callable[[str], object] = lambda _: None,
) -> Path:
    """Download `weight` into `folder`, or copy it from `source`: a file, a folder or the address of a mirror.

    An interrupted download resumes; of two processes one waits for the other, and `tell` gets a sentence that says so.
    `watch` receives the number of bytes of each piece. Never writes more than the expected size. Raises WeightsError
    with the address, size, sha256 and folder if the file cannot be downloaded or is wrong.
    """
    file = folder / weight.name
    partial = file.with_name(file.name + PARTIAL)
    if file.is_file():
        located = locate(weight, folder)
        sweep(partial)
        return located
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone(partial, lambda: tell(f"{weight.name} is being fetched by another process; waiting for it")):
        if file.is_file():  # that process has finished it
            return locate(weight, folder)
        place = _fill(weight, partial, source, watch)
        with _removed_on_error(partial):
            _check(partial, weight, place=place, remedy=_by_hand(folder))
        with disk_errors(folder):
            sync(partial)
            partial.replace(file)
            sync(folder)
    return file


def choose(names: Sequence[str], source: str) -> list[WeightFile]:
    """The weight files of these names or packages; without names the file that `source` names, or those of prep."""
    for name in names:
        if name not in WEIGHT_FILES and name not in PACKAGES:
            known = ", ".join((*WEIGHT_FILES, *PACKAGES))
            raise WeightsError(f"there is no weight file {name!r}; give one of {known}")
    if not names and (named := _file_name(source)) in WEIGHT_FILES:
        return [WEIGHT_FILES[named]]
    wanted = names or PACKAGES[:1]
    return [weight for weight in WEIGHT_FILES.values() if weight.name in wanted or weight.package in wanted]


def describe(weight: WeightFile, folder: Path) -> str:
    """What a weight file is, whether it is in the folder, and where it comes from; a line of its own for each fact."""
    try:
        state = f"in {locate(weight, folder).parent}"
    except WeightsError:
        wrong = (folder / weight.name).exists()
        state = f"wrong file in {folder}; remove it" if wrong else f"not in {folder}"
    facts = (f"{weight.what}, {weight.size:,} bytes", state, weight.address, f"sha256 {weight.sha256}")
    return "\n  ".join((weight.name, *facts))


def _command(weight: WeightFile) -> str:
    """The `make` command that downloads a weight file."""
    return "make weights" if weight.package == PACKAGES[0] else f"make weights NAMES={weight.package}"


def _by_hand(folder: Path) -> str:
    return f"nothing was kept; put the right file into {folder} by hand, or give a copy with --from"


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
def _removed_on_error(partial: Path) -> Iterator[None]:
    """Remove `partial` if the block raises."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _fill(weight: WeightFile, partial: Path, source: str, watch: Callable[[int], object]) -> str:
    """Copy or download a weight file to `partial`; returns where it came from."""
    if source and "://" not in source:
        origin = _local_copy(weight, Path(source))
        _check(origin, weight, place=str(origin), remedy=f"the right one is at {weight.address}")
        with disk_errors(partial.parent), _removed_on_error(partial):
            shutil.copyfile(origin, partial)
            watch(weight.size)
        return str(origin)
    address = _address(weight, source)
    try:
        download(address, weight.size, partial, watch)
    except Refused as refused:
        partial.unlink()
        raise WeightsError(_wrong(weight, address, f"{refused},", _by_hand(partial.parent))) from refused
    except Broken as broken:
        raise WeightsError(
            f"{broken}. Without internet put the file ({weight.size:,} bytes, sha256 {weight.sha256}) into "
            f"{partial.parent} by hand, or give a copy with --from"
        ) from broken
    return address


def _check(file: Path, weight: WeightFile, *, place: str, remedy: str) -> None:
    size = file.stat().st_size
    digest = digest_file(file) if size == weight.size else ""
    if digest != weight.sha256:
        with file.open("rb") as opened:
            known = not_weights(opened.read(HEAD)) if size else "is empty"
        found = f"it has {f'sha256 {digest}' if digest else f'{size:,} bytes'}{f' and {known};' if known else ','}"
        raise WeightsError(_wrong(weight, place, found, remedy))


def _wrong(weight: WeightFile, place: str, found: str, remedy: str) -> str:
    return (
        f"{place} is not {weight.what}: {found} the right file has {weight.size:,} bytes and sha256 {weight.sha256}; "
        f"{remedy}"
    )
