"""Picture files to and from `u8 [H,W,3]` RGB; the only module that handles BGR, alpha, EXIF and 16 bits.

Reading is strict, because a wrongly read picture cannot be recognised in a store: cv2 reads a truncated JPEG with grey
rows, Pillow opens a 16-bit RGB PNG as 8-bit RGB and accepts a PNG without its end. So the bytes are read once, the
container is checked to its end (`store/pictures`), and Pillow decodes all of it. Lossless conversions are done and
noted (grey, palette, opaque alpha, bands that are no colour, EXIF orientation); anything else is refused. Changed bytes
in the scan of a JPEG cannot be detected. What a file claims about its colours and its scale is kept, never applied.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from store.pictures.claims import NOTHING, Claims, gamma_of, profile_name, scale_of
from store.pictures.containers import HEADER_LOCK, Container, check_container, too_many_bits
from store.pictures.ordinary import read_bytes
from store.pictures.unreadable import TiffKind, jpeg_refusal, tiff_refusal
from store.schema import LargePictureError, PictureError, StoreError

PictureU8 = NDArray[np.uint8]  # [H,W,3] RGB
REGION_PIXELS = 400_000_000  # 1.2 GB
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})

_FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
LOSSLESS = {"L": "grey", "1": "black and white", "P": "palette"}
REFUSED = {  # a store keeps why a pair was skipped: every text of a PictureError is part of its seal, do not reword it
    "CMYK": "is CMYK, a printer's colours; convert it to RGB yourself, with the colour profile that is right for it",
    "LAB": "is L*a*b*; convert it to 8-bit RGB yourself",
    "YCbCr": "is stored as plain YCbCr; convert it to 8-bit RGB yourself",
    "F": "holds floating point numbers; scale it to 8-bit RGB yourself",
    "I": "holds 32-bit integers; scale it to 8-bit RGB yourself",
}
TRANSPARENT = "has transparent pixels, and what is behind them is unknown; flatten it onto white yourself"
_ORIENTATION_TAG = 274  # TIFF 6.0, section 8; EXIF has the same number


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded file: u8 [H,W,3] RGB, the conversions that were done, the sha256 of the bytes of the file in hex.

    `claims` is what the file says about its colours and its scale.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...]
    digest: str
    claims: Claims = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    """A picture as Pillow decoded it, whether it was rotated as EXIF says, and what its file claims."""

    image: Image.Image
    turned: bool
    claims: Claims


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture in a file, u8 [H,W,3] RGB. Raises PictureError if it is damaged or cannot be read without loss."""
    return load_picture(path).pixels.copy()


def load_picture(path: Path, *, region: bool = False) -> Picture:
    """The picture, which is read-only, the conversions, and the digest of exactly the bytes that were decoded.

    A `region`, of which tiles are cut, may have `REGION_PIXELS`.
    """
    data = read_bytes(path)
    container = check_container(path, data)
    decoded = _decode(path, container, region=region)
    image, notes = _to_rgb(path, decoded.image)
    notes = (*notes, *_dropped(container.tiff))
    if decoded.turned:
        notes = (*notes, "rotated as its EXIF orientation says")
    if _FORMAT_OF.get(path.suffix.lower(), container.kind) != container.kind:
        notes = (*notes, f"named {path.suffix} but holds {container.kind}")
    digest = hashlib.sha256(data).hexdigest()
    return Picture(pixels=np.asarray(image, dtype=np.uint8), notes=notes, digest=digest, claims=decoded.claims)


def picture_size(path: Path) -> tuple[int, int] | None:
    """Height and width in px of the upright picture as the head of a file says; None if that cannot be read."""
    with contextlib.suppress(Exception), _head(path, REGION_PIXELS) as opened:
        on_its_side = opened.getexif().get(_ORIENTATION_TAG, 1) in range(5, 9)
        turned = on_its_side and opened.format != "TIFF"  # of which Pillow says the upright size
        return (opened.width, opened.height) if turned else (opened.height, opened.width)
    return None


def stored_size(path: Path) -> tuple[int, int] | None:
    """Height and width in px, however large, of a picture that may be on its side; decodes nothing, None as above."""
    with contextlib.suppress(Exception), _head(path, None) as opened:
        return opened.height, opened.width
    return None


@contextlib.contextmanager
def _head(path: Path, most: int | None) -> Iterator[Image.Image]:
    with HEADER_LOCK, _most_pixels(most), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=("JPEG", "PNG", "TIFF", "BMP")) as opened:
            yield opened


def digest_picture(path: Path) -> str:
    """The sha256 of the bytes of a picture's file in hex; decodes nothing. Raises PictureError if it cannot be read."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write u8 [H,W,3] RGB as PNG under another name, then rename it; creates folders. Raises StoreError."""
    _write(path, pixels, ".png", ())


def write_jpeg(path: Path, pixels: NDArray[np.uint8], quality: int = 88) -> None:
    """Write u8 [H,W,3] RGB as JPEG for a page or a README, never as data: JPEG loses pixels. Otherwise as PNG."""
    _write(path, pixels, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, quality))


def _write(path: Path, pixels: NDArray[np.uint8], kind: str, options: Sequence[int]) -> None:
    assert (pixels.dtype, pixels.shape[2:]) == (np.dtype(np.uint8), (3,)), (pixels.dtype, pixels.shape)
    _, encoded = cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    partial = path.parent / f".{os.getpid()}-{threading.get_ident()}.partial"  # short: `path.name` may have 255 bytes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free space, allow writing there or choose another folder"
        ) from error


@contextlib.contextmanager
def _most_pixels(most: int | None) -> Iterator[None]:
    """Let Pillow open pictures of so many pixels, or of any; under the lock: the bound is one for all threads."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = most
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _decode(path: Path, container: Container, *, region: bool) -> _Decoded:
    """The decoded picture, upright."""
    try:
        most = REGION_PIXELS if region else None
        with HEADER_LOCK, _most_pixels(most or Image.MAX_IMAGE_PIXELS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unusual metadata do not matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(container.data), formats=("JPEG", "PNG", "TIFF", "BMP"))
            turned = opened.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)
            frames = getattr(opened, "n_frames", 1)
            claims = _claims(opened, container)
        if frames == 1:
            opened.load()
            upright = ImageOps.exif_transpose(opened) if turned else opened  # it copies where nothing is turned
            return _Decoded(image=upright, turned=turned, claims=claims)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        if region:
            raise PictureError(f"{path}: is larger than {REGION_PIXELS:,} px; cut it into smaller regions") from error
        raise LargePictureError(
            f"{path}: is larger than {Image.MAX_IMAGE_PIXELS:,} px, no tile; cut it into square tiles first"
        ) from error
    except Exception as error:  # a damaged file makes Pillow raise anything from OSError to TypeError
        if isinstance(error, MemoryError) or str(error).startswith("out of memory"):  # of this machine, not of the file
            raise MemoryError(f"{path} cannot be decoded") from error
        if refusal := _refusal(container):
            raise PictureError(f"{path}: {refusal}") from error
        reason = "no decoder knows its layout" if isinstance(error, UnidentifiedImageError) else str(error)
        raise PictureError(
            f"{path}: cannot be decoded whole ({reason}); it is truncated or damaged: fetch or export it again"
        ) from error
    if container.kind == "JPEG":
        raise PictureError(
            f"{path}: is an MPO, a JPEG of {frames} pictures as cameras write it; save its first picture as a file of "
            "its own, for example with Pillow: Image.open(…).convert('RGB').save('….png')"
        )
    raise PictureError(f"{path}: holds {frames} pictures; save the one that is meant as a file of its own")


def _refusal(container: Container) -> str:
    """Why a whole file has no decoder here; empty if its kind does not explain it."""
    return jpeg_refusal(container.data) if container.kind == "JPEG" else tiff_refusal(container.tiff)


def _claims(opened: Image.Image, container: Container) -> Claims:
    """What the file says about its colours and its scale; what cannot be read is never an error."""
    profile, gamma, mpp, where = "", "", 0.0, ""
    with contextlib.suppress(Exception):  # damaged metadata make Pillow raise anything
        if found := container.profile or opened.info.get("icc_profile"):
            profile = profile_name(found)
    with contextlib.suppress(Exception):
        gamma = gamma_of(opened.info, opened.getexif(), container.code_points)
    with contextlib.suppress(Exception):
        mpp, where = scale_of(opened.info, getattr(opened, "tag_v2", {}))
    return Claims(profile=profile, gamma=gamma, mpp=mpp, mpp_from=where)


def _dropped(kind: TiffKind) -> tuple[str, ...]:
    """The note on bands of a TIFF that are neither colour nor alpha, if it has some."""
    bands = " and ".join(map(str, kind.dropped))
    return (f"dropped band {bands}, which the file calls neither a colour nor alpha",) if bands else ()


def _to_rgb(path: Path, image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture as RGB and the conversions, all of them lossless."""
    notes: tuple[str, ...] = ()
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise PictureError(f"{path}: {TRANSPARENT}")
        image, notes = with_alpha.convert("RGB"), ("dropped an alpha channel that is opaque everywhere",)
    elif image.mode in LOSSLESS:
        image, notes = image.convert("RGB"), (f"{LOSSLESS[image.mode]} to RGB",)
    elif image.mode.startswith("I;"):
        raise too_many_bits(path, 16)
    elif image.mode != "RGB":
        reason = REFUSED.get(image.mode, f"has pixels of kind {image.mode}; convert it to 8-bit RGB yourself")
        raise PictureError(f"{path}: {reason}")
    return image, notes
