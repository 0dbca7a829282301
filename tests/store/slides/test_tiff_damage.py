"""TIFF files that are cut, changed or made to harm: one line each, in little memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.kinds import is_slide
from store.slides.reading.open import open_source
from store.slides.reading.tiff.encoded import jpeg_2000_size, jpeg_size
from tests.support.slides import MEMORY, draw, farthest, refusal, whole, write_ome_tiff, write_pyramid, write_tiff

PIXELS = draw(151, 205)


@pytest.mark.parametrize("write", [write_pyramid, write_ome_tiff])
def test_a_file_that_breaks_off_is_refused_when_it_is_opened(tmp_path: Path, write: Callable[..., Path]) -> None:
    data = write(tmp_path / "a.tif", PIXELS[:100, :110], compression="jpeg").read_bytes()
    cut = tmp_path / "cut.tif"
    for length in range(4, len(data) - 8, 97):
        cut.write_bytes(data[:length])
        with pytest.raises(PictureError, match=r"truncated TIFF, it breaks off after|damaged TIFF"):
            open_source(cut, MEMORY)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "deflate", "lzw"])
def test_a_damaged_tile_is_named(tmp_path: Path, compression: str) -> None:
    """Bytes that are missing from the end of a tile; the others are read."""
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {"compression": compression}))
    with tifffile.TiffFile(file, mode="r+") as opened:
        tag = opened.pages.first.tags["TileByteCounts"]
        tag.overwrite([count - 20 * (n == 5) for n, count in enumerate(tag.value)])
    with closing(open_source(file, MEMORY)) as source:
        source.read(Rect(top=0, left=0, height=64, width=205))
        with pytest.raises(PictureError, match=r"a\.tif: the part at 64 px from the top and 192 px "):
            source.read(Rect(top=0, left=0, height=65, width=205))


@pytest.mark.parametrize(
    ("compression", "marker", "behind", "size"),
    [("jpeg", b"\xff\xc0", 5, b"\xff\xf0" * 2), ("jpeg2000", b"\xff\x4f\xff\x51", 8, b"\0\1\0\0" * 2)],
)
def test_a_tile_may_not_claim_to_be_larger(
    tmp_path: Path, compression: str, marker: bytes, behind: int, size: bytes
) -> None:
    """The decoders allocate what the head of a tile says before they find that the rest is not there."""
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {"compression": compression}))
    data = bytearray(file.read_bytes())
    place = data.index(marker) + behind
    data[place : place + len(size)] = size
    file.write_bytes(data)
    assert refusal(file).endswith("is damaged (it breaks off, or has another size); fetch or export the file again")


@pytest.mark.parametrize(("tag", "value"), [("TileOffsets", 1 << 31), ("TileByteCounts", 60_000), ("TileOffsets", -7)])
def test_a_tile_beyond_the_end_is_found_when_the_file_is_opened(tmp_path: Path, tag: str, value: int) -> None:
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {}))
    size = file.stat().st_size
    with tifffile.TiffFile(file, mode="r+") as opened:
        found = opened.pages.first.tags[tag]
        found.overwrite([*found.value[:-1], value if value > 0 else size + value])
    with pytest.raises(PictureError, match=f"truncated TIFF, it breaks off after {size} bytes"):
        open_source(file, MEMORY)


def test_the_heads_of_packed_tiles() -> None:
    jpeg = bytes(imagecodecs.jpeg8_encode(PIXELS[:40, :30]))
    stream, boxed = (bytes(imagecodecs.jpeg2k_encode(PIXELS[:40, :30], codecformat=kind)) for kind in ("j2k", "jp2"))
    assert jpeg_size(jpeg) == (40, 30)
    assert jpeg_2000_size(stream) == jpeg_2000_size(boxed) == (40, 30)
    ends = (jpeg[:-2], jpeg[:20], b"", b"\xff\xd8\xff\xd9", jpeg[:-2] + jpeg[2:])
    assert [*map(jpeg_size, ends)] == [None] * 5
    assert [*map(jpeg_2000_size, (b"", stream[:20], jpeg))] == [None] * 3


def test_a_large_slide_is_read_in_little_memory(tmp_path: Path) -> None:
    """12,000 x 12,000 px take 432 MB; numpy tells tracemalloc what it allocates."""
    side, tile = 12_000, 1024
    packed = bytes(imagecodecs.zlib_encode(np.full((tile, tile, 3), 200, np.uint8).tobytes()))
    count = (-(-side // tile)) ** 2
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        own: dict[str, Any] = {"shape": (side, side, 3), "dtype": np.uint8, "tile": (tile, tile), "photometric": "rgb"}
        writer.write((packed for _ in range(count)), compression="deflate", **own)
    memory = 40 << 20
    with closing(open_source(tmp_path / "a.tif", memory)) as source:
        tracemalloc.start()
        part = source.read(Rect(top=side - 1500, left=7000, height=1500, width=1500))
        assert part.shape == (1500, 1500, 3)
        assert (source.overview(300) == 200).all()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert memory < peak < 3 * memory


def test_segments_that_do_not_fit_are_refused_with_both_numbers(tmp_path: Path) -> None:
    file = write_pyramid(tmp_path / "a.tif", PIXELS, tile=None, rowsperstrip=151, compression="deflate")
    with pytest.raises(PictureError, match=r"strips or tiles of 205 x 151 px, which take .* GiB .* --set memory=GIB"):
        open_source(file, 151 * 205 * 6 - 1)


def outcome(file: Path, pixels: Any) -> str:
    """What reading a file comes to; anything but a picture or one line is an error."""
    is_slide(file)
    try:
        with closing(open_source(file, MEMORY)) as source:
            if (source.height, source.width) != pixels.shape[:2]:
                return "other"
            return "equal" if farthest(whole(source), pixels) < 40 else "other"
    except PictureError as error:
        return "refused" if "\n" not in str(error) else "several lines"


def _bytes_of(page: Any) -> Any:
    """Where the tiles of a picture are in its file."""
    spans = zip(page.dataoffsets, page.databytecounts, strict=True)
    return np.concatenate([np.arange(start, start + size) for start, size in spans])


@pytest.mark.parametrize("compression", [None, "deflate", "jpeg", "jpeg2000"])
def test_changed_bytes_are_refused_or_read(tmp_path: Path, compression: str | None) -> None:
    """In directories and in tiles: the sums of deflate and the codes of JPEG find some of the latter."""
    pixels = PIXELS[:70, :100]
    file = write_ome_tiff(tmp_path / "a.tif", pixels, compression=compression)
    data = np.frombuffer(file.read_bytes(), np.uint8)
    with tifffile.TiffFile(file) as opened:
        first, smaller = opened.pages.first, opened.pages.first.pages
        assert smaller is not None
        inside, levels = _bytes_of(first), [_bytes_of(page) for page in smaller]
    outside = np.setdiff1d(np.arange(len(data)), np.concatenate([inside, *levels]))
    random = np.random.default_rng(len(data))
    counts: Counter[str] = Counter()
    for trial in range(120):
        changed = data.copy()
        places = random.choice(outside if trial % 3 else inside, trial % 4 + 1)
        changed[places] = random.integers(0, 256, len(places))
        file.write_bytes(changed.tobytes())
        counts[outcome(file, pixels)] += 1
    assert counts.keys() <= {"refused", "equal", "other"}
    assert min(counts["refused"], counts["equal"]) > 15
