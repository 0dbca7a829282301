"""Pictures that are decoded as a whole, and whatever else a path may be."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from store.images import load_picture, stored_size
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.kinds import is_slide
from store.slides.reading.open import open_source
from store.slides.reading.whole import BYTES
from tests.support.slides import MEMORY, draw, refusal, whole

PIXELS = draw(33, 57)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def head_of_png(width: int, height: int) -> bytes:
    """A PNG of any size, whose pixels are not there."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(33, 57), (1, 1), (1, 300), (257, 2)])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_any_size_and_shape(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    pixels = draw(*size)
    file = save(tmp_path / f"a.{suffix}", Image.fromarray(pixels))
    with closing(open_source(file, MEMORY)) as source:
        loaded = load_picture(file)
        assert (source.height, source.width, source.is_slide, source.path) == (*size, False, file)
        assert (whole(source) == loaded.pixels).all()
        assert suffix == "jpg" or (whole(source) == pixels).all()
        assert source.digest() == loaded.digest
        bottom = Rect(top=size[0] // 2, left=size[1] // 3, height=(size[0] + 1) // 2, width=(size[1] + 1) // 2)
        assert (source.read(bottom) == loaded.pixels[bottom.top : bottom.bottom, bottom.left : bottom.right]).all()


def test_it_is_upright_and_says_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the first row is on the right
    file = save(tmp_path / "a.png", Image.fromarray(PIXELS), exif=exif, dpi=(50800, 50800))
    with closing(open_source(file, MEMORY)) as source:
        assert (source.height, source.width) == (57, 33)
        assert (whole(source) == np.rot90(PIXELS, -1)).all()
        assert source.notes == ("rotated as its EXIF orientation says",)
        assert (source.mpp, source.mpp_from) == (0.5, "resolution tags")


def test_the_overview_is_a_mean_of_areas(tmp_path: Path) -> None:
    pixels = draw(64, 96)
    with closing(open_source(save(tmp_path / "a.png", Image.fromarray(pixels)), MEMORY)) as source:
        means = pixels.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
        assert np.abs(source.overview(24) - means).max() <= 0.5 + 1e-3
        assert source.overview(10).shape == (7, 10, 3)
        assert source.overview(1).shape == (1, 1, 3)
        assert (source.overview(1000) == pixels).all()


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (100_000, 3_000), (3_000, 100_000)])
def test_a_huge_picture_is_refused_at_once_with_both_numbers(tmp_path: Path, width: int, height: int) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(head_of_png(width, height))
    start = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(PictureError) as caught:
        open_source(file, 4 << 30)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert time.perf_counter() - start < 1
    needed = width * height * BYTES / 2**30
    assert str(caught.value) == (
        f"{file}: {width:,} x {height:,} px take {needed:,.1f} GiB to decode, more than the 4.0 GiB allowed: "
        "convert it to a tiled TIFF, which is read in parts, e.g. `vips tiffsave IN OUT.tif --tile --pyramid`, "
        "or allow more: --set memory=GIB"
    )


def test_more_pixels_than_are_decoded_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(head_of_png(30_000, 30_000))
    assert stored_size(tmp_path / "a.png") == (30_000, 30_000)
    with pytest.raises(
        PictureError, match=r"30,000 x 30,000 px are more than the 400,000,000 that are decoded at once: co"
    ):
        open_source(tmp_path / "a.png", 1 << 40)


def test_decoding_keeps_to_what_is_counted(tmp_path: Path) -> None:
    """One byte less than a picture is counted with is refused; numpy's share of that is below."""
    file = save(tmp_path / "a.png", Image.fromarray(draw(300, 400)))
    with pytest.raises(PictureError, match="to decode, more than the"):
        open_source(file, 300 * 400 * BYTES - 1)
    tracemalloc.start()
    open_source(file, 300 * 400 * BYTES)
    assert tracemalloc.get_traced_memory()[1] < 300 * 400 * BYTES
    tracemalloc.stop()


def test_a_large_file_that_is_no_picture_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with file.open("wb") as hole:
        hole.truncate(8 << 30)
    with pytest.raises(
        PictureError, match=r"the file has 8.0 GiB, more than the 4.0 GiB allowed; if it is a picture, "
    ):
        open_source(file, 4 << 30)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.png", b"", "the file is empty (0 bytes)"),
        ("a.tif", b"", "the file is empty (0 bytes)"),
        ("a.mrxs", b"", "the file is empty (0 bytes)"),
        ("a.txt", b"a list", "is no picture, whatever its name says: it begins with b'a list'"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "holds WebP, which is not read here"),
        ("a.gif", b"GIF89a", "holds GIF, which is not read here"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "holds JPEG 2000, which is not read here"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "truncated PNG, it breaks off after 16 bytes"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10", "truncated JPEG, it breaks off after 6 bytes"),
        ("a.tif", b"II*\0\x08\0\0\0", "truncated TIFF, it breaks off after 8 bytes"),
        ("a.tif", b"II*\0", "truncated TIFF, it breaks off after 4 bytes"),
        ("a.tif", b"II*\0\0\0\0\0", "damaged TIFF, it has no directory"),
        ("a.tif", b"MM\0*\0\0\0\x08\0\0", "damaged TIFF, its directory at byte 8 has 0 entries"),
        ("a.bmp", b"BM", "cannot be decoded whole"),
    ],
)
def test_what_is_no_picture_says_so(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert refusal(tmp_path / name).startswith(words)


def test_kinds_of_pictures_that_are_not_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    several: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    assert refusal(save(tmp_path / "a.tif", frames[0], **several)).startswith("holds 2 pictures; save the one")
    assert refusal(save(tmp_path / "a.png", frames[0], **several)).startswith("holds 2 pictures; save the one")
    assert refusal(save(tmp_path / "c.tif", frames[0].convert("CMYK"))).startswith("is CMYK, a printer's colours")
    assert refusal(save(tmp_path / "c.jpg", frames[0].convert("CMYK"))).startswith("is CMYK, a printer's colours")
    assert refusal(save(tmp_path / "d.png", deep)).startswith("has 16 bits per channel")
    assert refusal(save(tmp_path / "d.tif", deep)).startswith("has 16 bits per channel")


def test_places_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    assert not is_slide(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png") == "is no ordinary file; name a picture file"
    assert refusal(tmp_path / "link.png").startswith("no such file; check the path, or whether a link points nowhere")
    assert refusal(tmp_path / "none.svs").startswith("no such file")
    assert refusal(tmp_path / "folder.png") == "is a folder, not a picture; name a file"
    assert refusal(save(tmp_path / "a.png", Image.fromarray(PIXELS)) / "b").startswith(
        "cannot be read (Not a directory)"
    )


def test_a_name_of_another_kind_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "a.png", Image.fromarray(PIXELS))
    for name in ("a.svs", "a.tif", "a", "a.unknown"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
        with closing(open_source(tmp_path / name, MEMORY)) as source:
            assert (whole(source) == PIXELS).all()
