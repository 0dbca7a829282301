"""Small slides of every kind, written by the libraries that others write them with, and what they must read as."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from store.images import PictureU8
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.open import open_source
from store.slides.source import Level

MEMORY = 1 << 28
TILES: dict[str, Any] = {"tile": (64, 96), "photometric": "rgb"}


def draw(height: int, width: int, seed: int = 0) -> PictureU8:
    """A picture u8 [H,W,3] that JPEG keeps well, with some noise."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = [110 * np.sin(rows / 23 + columns / (17 + band)) + 128 for band in range(3)]
    noise = np.random.default_rng(seed).integers(-4, 5, (height, width, 3))
    drawn: PictureU8 = (np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)
    return drawn


def whole(level: Level) -> PictureU8:
    """All pixels of a level or source."""
    return level.read(Rect(top=0, left=0, height=level.height, width=level.width))


def farthest(one: NDArray[Any], other: NDArray[Any]) -> int:
    """The largest difference of two pictures, grey levels."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(np.int16) - other).max())


def refusal(path: Path) -> str:
    """The one line that a file is refused with, without its name."""
    with pytest.raises(PictureError) as caught, closing(open_source(path, MEMORY)) as source:
        whole(source)
    name, text = str(caught.value).split(": ", 1)
    assert name == str(path)
    assert "\n" not in text
    return text


def write_tiff(path: Path, *pictures: tuple[NDArray[Any], dict[str, Any]], **options: Any) -> Path:
    """A TIFF of pictures, each with options of `TiffWriter.write`, in tiles unless these say otherwise."""
    with tifffile.TiffWriter(path, **options) as file:
        for pixels, own in pictures:
            file.write(pixels, **{**TILES, **own})
    return path


def write_pyramid(path: Path, pixels: PictureU8, levels: int = 3, **options: Any) -> Path:
    """A pyramid as libvips writes it: every second pixel, one directory after the other."""
    smaller = [(pixels[:: 2**n, :: 2**n], {"subfiletype": 1, **options}) for n in range(1, levels)]
    return write_tiff(path, (pixels, options), *smaller)


def write_ome_tiff(path: Path, pixels: PictureU8, mpp: float = 0.25, **options: Any) -> Path:
    """An OME-TIFF of three levels as QuPath and Bio-Formats write it: in SubIFDs."""
    sizes = {f"PhysicalSize{axis}{word}": value for axis in "XY" for word, value in (("", mpp), ("Unit", "µm"))}
    first = (pixels, {"subifds": 2, "metadata": {"axes": "YXS", **sizes}, **options})
    smaller = [(pixels[::n, ::n], {"subfiletype": 1, **options}) for n in (2, 4)]
    return write_tiff(path, first, *smaller, ome=True, bigtiff=True)


def describe_zarr(axes: str, levels: int, mpp: float = 0.25, unit: str = "micrometer") -> dict[str, Any]:
    """The `multiscales` of OME-Zarr for axes named by letters."""
    named = [{"name": axis, "type": "space", "unit": unit} if axis in "zyx" else {"name": axis} for axis in axes]
    scales = [[mpp * 2**level if axis in "yx" else 1.0 for axis in axes] for level in range(levels)]
    sets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for level, scale in enumerate(scales)
    ]
    return {"multiscales": [{"version": "0.4", "axes": named, "datasets": sets}]}


def write_zarr(
    path: Path,
    pixels: PictureU8,
    axes: str = "cyx",
    *,
    version: int = 3,
    levels: int = 2,
    mpp: float = 0.25,
    **array: Any,
) -> Path:
    """An OME-Zarr 0.4 (version 2 of Zarr) or 0.5 (version 3); `array` are options of `create_array`."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == 2 else 3)
    for level in range(levels):
        data = _with_axes(pixels[:: 2**level, :: 2**level], axes)
        chunks = tuple(64 if axis in "yx" else size for axis, size in zip(axes, data.shape, strict=True))
        shards = {"shards": tuple(size * (axis in "yx") + size for axis, size in zip(axes, chunks, strict=True))}
        more = {**array, **(shards if array.get("shards") else {})}
        names = {} if version == 3 else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        stored = group.create_array(str(level), shape=data.shape, dtype="u1", **{"chunks": chunks, **names, **more})
        stored[...] = data
    said = describe_zarr(axes, levels)
    group.attrs.update(said if version == 2 else {"ome": {"version": "0.5", **said}})
    return path


def _with_axes(pixels: PictureU8, axes: str) -> NDArray[np.uint8]:
    """A picture with these of the axes t, c, z, y, x; its red alone without c."""
    order = ["tczyx".index(axis) for axis in axes]
    others = [place for place in range(5) if place not in order]
    moved = pixels.transpose(2, 0, 1)[None, :, None].transpose(others + order)
    data: NDArray[np.uint8] = moved[(0,) * len(others)]
    return data
