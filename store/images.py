"""Picture files to and from `u8 [H,W,3]` RGB; the only module that handles BGR, alpha, EXIF and 16 bits.

Reading is strict, because a wrongly read picture cannot be recognised in a store: cv2 reads a truncated JPEG with grey
rows, Pillow opens a 16-bit RGB PNG as 8-bit RGB and accepts a PNG without its end. So the bytes are read once, the
container is checked to its end here, and Pillow decodes all of it. Lossless conversions are done and noted (grey,
palette, opaque alpha, EXIF orientation); anything else is refused. Changed bytes in the scan of a JPEG cannot be
detected.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import threading
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from store.schema import PictureError, StoreError
from store.untrusted.tiff import count_pictures

PictureU8 = NDArray[np.uint8]  # [H,W,3] RGB
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
_LOSSLESS = {"L": "grey", "1": "black and white", "P": "palette"}
_REFUSED = {  # a store keeps why a pair was skipped: every text of a PictureError is part of its seal, do not reword it
    "CMYK": "is CMYK, a printer's colours; convert it to RGB yourself, with the colour profile that is right for it",
    "LAB": "is L*a*b*; convert it to 8-bit RGB yourself",
    "YCbCr": "is stored as plain YCbCr; convert it to 8-bit RGB yourself",
    "F": "holds floating point numbers; scale it to 8-bit RGB yourself",
    "I": "holds 32-bit integers; scale it to 8-bit RGB yourself",
}
_BITS_TAG, _ORIENTATION_TAG = 258, 274  # TIFF 6.0, section 8; EXIF has the same numbers
_MOST_PICTURES = 1000  # that are counted in a file
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in JPEG scans FF00 is a stuffed byte, FFD0 to FFD7 are restarts
_HEADER_LOCK = threading.Lock()  # warnings.catch_warnings is not thread-safe


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded file: u8 [H,W,3] RGB, the conversions that were done, the sha256 of the bytes of the file in hex."""

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...]
    digest: str


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture in a file, u8 [H,W,3] RGB. Raises PictureError if it is damaged or cannot be read without loss."""
    return load_picture(path).pixels.copy()


def load_picture(path: Path) -> Picture:
    """The picture, which is read-only, the conversions, and the digest of exactly the bytes that were decoded."""
    image, notes, digest = _load(path)
    return Picture(pixels=np.asarray(image, dtype=np.uint8), notes=notes, digest=digest)


def digest_picture(path: Path) -> str:
    """The sha256 of the bytes of a picture's file in hex; decodes nothing. Raises PictureError if it cannot be read."""
    return hashlib.sha256(_read_bytes(path)).hexdigest()


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


def _load(path: Path) -> tuple[Image.Image, tuple[str, ...], str]:
    """The picture as RGB, the conversions that were done, the sha256 of the bytes of the file in hex."""
    data = _read_bytes(path)
    kind = _check_container(path, data)
    image, turned = _decode(path, data)
    image, notes = _to_rgb(path, image)
    if turned:
        notes = (*notes, "rotated as its EXIF orientation says")
    if _FORMAT_OF.get(path.suffix.lower(), kind) != kind:
        notes = (*notes, f"named {path.suffix} but holds {kind}")
    return image, notes, hashlib.sha256(data).hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise PictureError(f"{path}: is a folder, not a picture; name a file")
        if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
            raise PictureError(f"{path}: is no ordinary file; name a picture file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such file; check the path, or whether a link points nowhere") from error
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); mend that or leave the file out") from error
    if not data:
        raise PictureError(f"{path}: the file is empty (0 bytes); fetch or export it again")
    return data


def _check_container(path: Path, data: bytes) -> str:
    """The kind of file, after checks that Pillow does not make: missing ends, checksums, bits per channel."""
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), "")
    if kind == "PNG":
        _check_png(path, data)
    elif kind == "JPEG":
        _check_jpeg(path, data)
    elif kind == "TIFF":
        _check_tiff(path, data)
    elif not kind:
        raise PictureError(
            f"{path}: is no picture, whatever its name says: it begins with {data[:8]!r}; "
            "give JPEG, PNG, TIFF or BMP files, or leave it out"
        )
    return kind


def _check_png(path: Path, data: bytes) -> None:
    """Walk the chunks: length, type, content, CRC-32 of type and content (PNG specification, section 5.3)."""
    place, name = 8, b""
    while name != b"IEND":
        length, name = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            raise _truncated(path, "PNG", len(data))
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise PictureError(f"{path}: damaged PNG, wrong checksum at byte {place}; fetch or export it again")
        depth = data[place + 16 : place + 17]
        if name == b"IHDR" and depth > b"\x08":
            raise _too_many_bits(path, depth[0])
        place = end


def _check_jpeg(path: Path, data: bytes) -> None:
    """Walk the segments up to the end marker (FFD9); bytes after it, such as padding, are ignored."""
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.end() - 1], found.end()
        if marker == 0xD9:
            return
        if marker != 0x01:  # the one marker without a length
            place += int.from_bytes(data[place : place + 2])
    raise _truncated(path, "JPEG", len(data))


def _check_tiff(path: Path, data: bytes) -> None:
    """Bits per channel of the first page: Pillow reads 16-bit RGB as 8-bit and does not support 32-bit RGB."""
    if count_pictures(data, _MOST_PICTURES + 1) > _MOST_PICTURES:
        raise PictureError(
            f"{path}: holds more than {_MOST_PICTURES:,} pictures; save the one that is meant as a file of its own"
        )
    try:
        with _HEADER_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            big = data[2:3] == b"+" or data[3:4] == b"+"
            directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
            stream = io.BytesIO(data)
            stream.seek(directory.next)
            directory.load(stream)
            bits = max(directory.get(_BITS_TAG, (1,)))
    except MemoryError:  # of this machine, not of the file
        raise
    except Exception as error:  # a damaged file makes Pillow raise anything from OSError to TypeError
        raise _truncated(path, "TIFF", len(data)) from error
    if bits > 8:
        raise _too_many_bits(path, bits)


def _decode(path: Path, data: bytes) -> tuple[Image.Image, bool]:
    """The decoded picture, upright, and whether it was rotated as EXIF says."""
    try:
        with _HEADER_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unusual metadata do not matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF", "BMP"))
            turned = opened.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)
            frames = getattr(opened, "n_frames", 1)
        if frames == 1:
            opened.load()
            return ImageOps.exif_transpose(opened) if turned else opened, turned  # it copies where nothing is turned
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(
            f"{path}: is larger than {Image.MAX_IMAGE_PIXELS:,} px, no tile; cut it into square tiles first"
        ) from error
    except Exception as error:  # a damaged file makes Pillow raise anything from OSError to TypeError
        if isinstance(error, MemoryError) or str(error).startswith("out of memory"):  # of this machine, not of the file
            raise MemoryError(f"{path} cannot be decoded") from error
        reason = "no decoder knows its layout" if isinstance(error, UnidentifiedImageError) else str(error)
        raise PictureError(
            f"{path}: cannot be decoded whole ({reason}); it is truncated or damaged: fetch or export it again"
        ) from error
    raise PictureError(f"{path}: holds {frames} pictures; save the one that is meant as a file of its own")


def _to_rgb(path: Path, image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture as RGB and the conversions, all of them lossless."""
    notes: tuple[str, ...] = ()
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        if np.array(with_alpha)[..., 3].min() < 255:
            hidden = "has transparent pixels, and what is behind them is unknown; flatten it onto white yourself"
            raise PictureError(f"{path}: {hidden}")
        image, notes = with_alpha.convert("RGB"), ("dropped an alpha channel that is opaque everywhere",)
    elif image.mode in _LOSSLESS:
        image, notes = image.convert("RGB"), (f"{_LOSSLESS[image.mode]} to RGB",)
    elif image.mode.startswith("I;"):
        raise _too_many_bits(path, 16)
    elif image.mode != "RGB":
        reason = _REFUSED.get(image.mode, f"has pixels of kind {image.mode}; convert it to 8-bit RGB yourself")
        raise PictureError(f"{path}: {reason}")
    return image, notes


def _truncated(path: Path, kind: str, size: int) -> PictureError:
    return PictureError(f"{path}: truncated {kind}, it breaks off after {size} bytes; fetch or export it again")


def _too_many_bits(path: Path, bits: int) -> PictureError:
    return PictureError(f"{path}: has {bits} bits per channel, more than a store keeps; scale it to 8-bit RGB yourself")
