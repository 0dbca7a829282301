from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from store.images import SUFFIXES, load_picture, picture_size, read_picture, write_png
from store.schema import PictureError, StoreError
from store.untrusted.tiff import count_pictures

GENERATOR = np.random.default_rng(7)
COARSE = GENERATOR.integers(0, 256, (6, 6, 3), dtype=np.uint8)
TILE = np.asarray(cv2.resize(COARSE, (48, 32), interpolation=cv2.INTER_CUBIC), np.uint8)
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 90}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "bmp": ("BMP", {}),
}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def encoded(name: str) -> bytes:
    kind, options = ENCODINGS[name]
    return encode(Image.fromarray(TILE), kind, **options)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PictureError) as caught:
        load_picture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", [name for name in ENCODINGS if "jpg" not in name])
def test_lossless_files_come_back_exactly_with_the_digest_of_their_bytes(tmp_path: Path, name: str) -> None:
    picture = load_picture(put(tmp_path, name, encoded(name)))
    np.testing.assert_array_equal(picture.pixels, TILE)
    assert picture.pixels.dtype == np.uint8
    assert picture.notes == ()
    assert picture.digest == hashlib.sha256(encoded(name)).hexdigest()


@pytest.mark.parametrize("name", ["jpg", "progressive.jpg"])
def test_a_jpeg_is_decoded_as_pillow_does_and_in_rgb_order(tmp_path: Path, name: str) -> None:
    data = encoded(name)
    path = put(tmp_path, name, data)
    np.testing.assert_array_equal(read_picture(path), np.array(Image.open(io.BytesIO(data))))
    assert np.abs(read_picture(path).astype(int) - TILE).mean() < 10  # of 255; with red and blue swapped it is over 30
    assert np.abs(read_picture(path)[..., ::-1].astype(int) - TILE).mean() > 30


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    data = encoded(name)
    for cut in sorted({1, 2, 3, 4, 8, 12, 16, 40, *range(5, len(data), len(data) // 25)}):
        message = refusal(put(tmp_path, name, data[:-cut]))
        assert "truncated" in message or "is no picture" in message, (cut, message)
        assert "fetch or export it again" in message or "leave it out" in message


def test_a_jpeg_that_lacks_only_its_end_marker_is_refused_and_one_with_padding_is_not(tmp_path: Path) -> None:
    data = encoded("jpg")
    assert data[-2:] == b"\xff\xd9"
    assert refusal(put(tmp_path, "a.jpg", data[:-2])) == (
        f"truncated JPEG, it breaks off after {len(data) - 2} bytes; fetch or export it again"
    )
    # a download that stopped often leaves zeros up to the full length
    assert refusal(put(tmp_path, "a.jpg", data[:-40] + bytes(40))).startswith("truncated JPEG")
    padded = load_picture(put(tmp_path, "a.jpg", data + bytes(512)))
    np.testing.assert_array_equal(padded.pixels, read_picture(put(tmp_path, "b.jpg", data)))


def test_a_jpeg_with_a_thumbnail_that_ends_is_still_truncated(tmp_path: Path) -> None:
    thumbnail = encode(Image.fromarray(TILE).resize((8, 8)), "JPEG")  # has an end marker of its own
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = encoded("jpg")
    whole = data[:2] + segment + data[2:]
    assert read_picture(put(tmp_path, "a.jpg", whole)).shape == TILE.shape
    assert refusal(put(tmp_path, "a.jpg", whole[:-2])).startswith("truncated JPEG")


def test_a_changed_byte_in_a_png_is_found_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(encoded("png"))
    data[len(data) // 2] ^= 1
    assert refusal(put(tmp_path, "a.png", bytes(data))).startswith("damaged PNG, wrong checksum at byte")


@pytest.mark.parametrize("name", ["jpg", "png", "tif", "bmp"])
def test_damage_raises_a_picture_error_or_nothing(tmp_path: Path, name: str) -> None:
    data = encoded(name)
    for seed in range(150):
        draw = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(3):
            damaged[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        path = put(tmp_path, name, bytes(damaged))
        with contextlib.suppress(PictureError):
            assert load_picture(path).pixels.shape[2] == 3


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    assert refusal(put(tmp_path, "a.png", b"")) == "the file is empty (0 bytes); fetch or export it again"
    text = refusal(put(tmp_path, "b.png", b"slide,row,column\n1,2,3\n"))
    assert text == (
        "is no picture, whatever its name says: it begins with b'slide,ro'; give JPEG, PNG, TIFF or BMP files, "
        "or leave it out"
    )
    assert "cannot be decoded whole" in refusal(put(tmp_path, "c.bmp", b"BM is how this text begins"))
    assert refusal(tmp_path) == "is a folder, not a picture; name a file"
    assert refusal(tmp_path / "missing.png").startswith("no such file")


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png") == "is no ordinary file; name a picture file"
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert refusal(tmp_path / "loop.png").startswith("cannot be read (Too many levels of symbolic links)")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "link points nowhere" in refusal(tmp_path / "gone.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files without permission")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    locked = put(tmp_path, "locked.png", encoded("png"))
    locked.chmod(0)
    assert refusal(locked).startswith("cannot be read (Permission denied)")


def cv2_file(suffix: str, pixels: NDArray[np.integer | np.floating]) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    ("suffix", "kind", "channels", "bits"),
    [
        (".png", np.uint16, 1, 16),
        (".png", np.uint16, 3, 16),  # Pillow opens this one as 8-bit RGB
        (".png", np.uint16, 4, 16),
        (".tif", np.uint16, 1, 16),
        (".tif", np.uint16, 3, 16),  # and this one
        (".tif", np.float32, 1, 32),
        (".tif", np.float32, 3, 32),  # which Pillow does not know at all
    ],
)
def test_pictures_of_more_than_8_bits_are_refused(
    tmp_path: Path, suffix: str, kind: type[np.generic], channels: int, bits: int
) -> None:
    pixels = GENERATOR.integers(0, 256, (16, 16, channels)).astype(kind)
    assert refusal(put(tmp_path, f"deep{suffix}", cv2_file(suffix, pixels))) == (
        f"has {bits} bits per channel, more than a store keeps; scale it to 8-bit RGB yourself"
    )


def test_big_tiff_is_read_and_its_bits_are_seen(tmp_path: Path) -> None:
    image = Image.fromarray(TILE)
    big = encode(image, "TIFF", big_tiff=True)
    assert big[2] == 43
    np.testing.assert_array_equal(read_picture(put(tmp_path, "big.tif", big)), TILE)
    deep = encode(Image.fromarray(TILE[..., 0].astype(np.uint16) * 200), "TIFF", big_tiff=True)
    assert refusal(put(tmp_path, "deep.tif", deep)).startswith("has 16 bits per channel")


@pytest.mark.parametrize(
    ("mode", "kind", "message"),
    [
        ("CMYK", "JPEG", "is CMYK, a printer's colours; convert it to RGB yourself"),
        ("CMYK", "TIFF", "is CMYK, a printer's colours; convert it to RGB yourself"),
        ("LAB", "TIFF", "is L*a*b*; convert it to 8-bit RGB yourself"),
        ("YCbCr", "TIFF", "is stored as plain YCbCr; convert it to 8-bit RGB yourself"),
    ],
)
def test_other_colours_are_refused_with_what_to_do(tmp_path: Path, mode: str, kind: str, message: str) -> None:
    assert refusal(put(tmp_path, "tile", encode(Image.new(mode, (16, 16)), kind))).startswith(message)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_grey_becomes_rgb_and_says_so(tmp_path: Path, kind: str) -> None:
    data = encode(Image.fromarray(TILE[..., 0]), kind)
    picture = load_picture(put(tmp_path, f"a.{kind.lower()}", data))
    np.testing.assert_array_equal(picture.pixels, np.dstack([np.array(Image.open(io.BytesIO(data)))] * 3))
    assert picture.notes == ("grey to RGB",)


def test_palette_and_black_and_white_become_rgb_exactly(tmp_path: Path) -> None:
    palette = Image.fromarray(TILE).quantize(16)
    picture = load_picture(put(tmp_path, "p.png", encode(palette, "PNG")))
    np.testing.assert_array_equal(picture.pixels, np.array(palette.convert("RGB")))
    assert picture.notes == ("palette to RGB",)
    mask = Image.fromarray(TILE[..., 0] > 128)
    picture = load_picture(put(tmp_path, "m.png", encode(mask, "PNG")))
    np.testing.assert_array_equal(picture.pixels[..., 1], np.where(TILE[..., 0] > 128, 255, 0))
    assert picture.notes == ("black and white to RGB",)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_is_dropped_only_where_it_hides_nothing(tmp_path: Path, kind: str, grey: bool) -> None:
    colours = TILE[..., :1] if grey else TILE
    opaque = np.dstack([colours, np.full(TILE.shape[:2], 255, np.uint8)])
    picture = load_picture(put(tmp_path, f"a.{kind.lower()}", encode(Image.fromarray(opaque), kind)))
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(colours, TILE.shape))
    assert picture.notes == ("dropped an alpha channel that is opaque everywhere",)
    seen_through = opaque.copy()
    seen_through[5, 7, -1] = 254
    message = refusal(put(tmp_path, f"b.{kind.lower()}", encode(Image.fromarray(seen_through), kind)))
    assert message == ("has transparent pixels, and what is behind them is unknown; flatten it onto white yourself")


def test_a_transparent_colour_counts_as_alpha(tmp_path: Path) -> None:
    used = tuple(int(value) for value in TILE[0, 0])
    path = put(tmp_path, "a.png", encode(Image.fromarray(TILE), "PNG", transparency=used))
    assert "flatten it onto white" in refusal(path)
    path = put(tmp_path, "b.png", encode(Image.fromarray(TILE).quantize(8), "PNG", transparency=0))
    assert "flatten it onto white" in refusal(path)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    flat = load_picture(put(tmp_path, f"a.{kind.lower()}", encode(Image.fromarray(TILE), kind))).pixels
    turned = load_picture(put(tmp_path, f"b.{kind.lower()}", encode(Image.fromarray(TILE), kind, exif=exif)))
    upright = {  # EXIF 2.3, tag 274
        1: flat,
        2: flat[:, ::-1],
        3: flat[::-1, ::-1],
        4: flat[::-1],
        5: flat.transpose(1, 0, 2),
        6: np.rot90(flat, -1),
        7: flat[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(flat, 1),
    }
    np.testing.assert_array_equal(turned.pixels, upright[orientation])
    assert turned.notes == (() if orientation == 1 else ("rotated as its EXIF orientation says",))


def test_several_pictures_in_one_file_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(TILE), Image.fromarray(TILE[::-1].copy())]
    for name, kind in (("pages.tif", "TIFF"), ("moving.png", "PNG")):
        data = encode(pages[0], kind, save_all=True, append_images=pages[1:])
        assert refusal(put(tmp_path, name, data)) == (
            "holds 2 pictures; save the one that is meant as a file of its own"
        )


def test_a_suffix_that_does_not_agree_is_noted(tmp_path: Path) -> None:
    picture = load_picture(put(tmp_path, "a.png", encoded("jpg")))
    assert picture.notes == ("named .png but holds JPEG",)
    assert load_picture(put(tmp_path, "a.JPEG", encoded("jpg"))).notes == ()


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    assert refusal(put(tmp_path, "huge.png", data)).endswith("cut it into square tiles first")
    assert "89,478,485 px" in refusal(tmp_path / "huge.png")


def test_threads_read_what_one_reader_reads(tmp_path: Path) -> None:
    paths = [put(tmp_path, f"{i}.{name}", encoded(name)) for i in range(8) for name in ENCODINGS]
    alone = [load_picture(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(load_picture, paths))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.digest == other.digest


def test_a_png_is_written_exactly_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    names = [
        "plain.png",
        "deep/er/tile.png",
        "sp ace 'quoted' \"x\".png",
        "ünïcode-é.png",
        "a..b.png",
        "n" * 251 + ".png",
    ]
    for name in names:
        write_png(tmp_path / name, TILE)
        write_png(tmp_path / name, TILE)
        np.testing.assert_array_equal(read_picture(tmp_path / name), TILE)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(names)


def test_a_png_that_cannot_be_written_names_file_and_reason(tmp_path: Path) -> None:
    blocker = put(tmp_path, "file", b"x")
    with pytest.raises(StoreError, match=r"file/tile\.png: cannot be written \((Not a directory|File exists)\)"):
        write_png(blocker / "tile.png", TILE)
    (tmp_path / "tile.png").mkdir()
    with pytest.raises(StoreError, match=r"tile\.png: cannot be written \(Is a directory\)"):
        write_png(tmp_path / "tile.png", TILE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tile.png"]


@pytest.fixture(params=["size=64k", "ro"])
def bad_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder on a disk of 64 KiB, or on one that is read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs more rights")
    yield folder, "No space left on device" if request.param != "ro" else "Read-only file system"
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_or_read_only_disk_is_left_as_it_was(bad_disk: tuple[Path, str]) -> None:
    folder, reason = bad_disk
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)  # 190 kB as PNG
    with pytest.raises(StoreError) as caught:
        write_png(folder / "tile.png", noise)
    assert str(caught.value) == (
        f"{folder / 'tile.png'}: cannot be written ({reason}); free space, allow writing there or choose another folder"
    )
    assert list(folder.iterdir()) == []


def test_suffixes_are_those_of_the_four_kinds() -> None:
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"} == SUFFIXES


def tiff_of(pictures: int, order: str = "<", *, back: bool = False) -> bytes:
    """A TIFF header and a chain of empty directories, whose last one may lead back to the first."""
    directories = [struct.pack(f"{order}HI", 0, 8 + 6 * (n + 1)) for n in range(pictures)]
    directories[-1] = struct.pack(f"{order}HI", 0, 8 if back else 0)
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8) + b"".join(directories)


def big_tiff_of(pictures: int) -> bytes:
    """The same with numbers of 64 bits."""
    directories = [struct.pack("<QQ", 0, 16 + 16 * (n + 1)) for n in range(pictures - 1)]
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + b"".join(directories) + struct.pack("<QQ", 0, 0)


@pytest.mark.parametrize(
    "data", [tiff_of(200_000), tiff_of(200_000, ">"), big_tiff_of(200_000)], ids=["II", "MM", "II+"]
)
def test_a_tiff_of_many_directories_is_refused_at_once(tmp_path: Path, data: bytes) -> None:
    """Pillow reads each directory from the first one on: 20,000 took 18 s."""
    start = time.process_time()
    assert refusal(put(tmp_path, "a.tif", data)) == (
        "holds more than 1,000 pictures; save the one that is meant as a file of its own"
    )
    assert time.process_time() - start < 1


@pytest.mark.parametrize("pictures", [1, 2, 7, 1000])
def test_directories_are_counted_to_the_end_of_their_chain(pictures: int) -> None:
    for data in (tiff_of(pictures), tiff_of(pictures, ">"), tiff_of(pictures, back=True), big_tiff_of(pictures)):
        assert count_pictures(data, 2000) == pictures
        assert count_pictures(data + b"\xff" * 9, 3) == min(pictures, 3)
        assert all(count_pictures(data[:cut], 2000) <= pictures for cut in range(0, len(data), 7))


@pytest.mark.parametrize("lack", [MemoryError(), OSError("out of memory error when reading image file")])
@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
def test_a_lack_of_memory_is_not_a_damaged_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lack: Exception
) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (8, 8), (200, 100, 50)).save(path)

    def load(*_: object) -> None:
        raise lack

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", load)
    with pytest.raises(MemoryError, match=rf"{path} cannot be decoded"):
        load_picture(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_size_of_a_picture_is_in_its_head(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    file = put(tmp_path, f"a.{kind.lower()}", encode(Image.new("RGB", (30, 20)), kind, exif=exif))
    assert picture_size(file) == load_picture(file).pixels.shape[:2]
    assert [picture_size(place) for place in (tmp_path, tmp_path / "none.png", put(tmp_path, "b.png", b"x"))] == [
        None
    ] * 3
