"""Pictures that no decoder here reads are named, not called damaged; colours and scale of the others are read."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from store.images import load_picture
from store.pictures.claims import SRGB_RED_GREEN_BLUE, Claims, gamma_of, is_srgb, profile_name
from store.schema import PictureError

TILE = np.random.default_rng(3).integers(0, 256, (16, 24, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))  # Display P3, XYZ under D50
SIZES = {"H": 3, "I": 4, "B": 1}  # types of TIFF by their letter in `struct`


def tiff(tags: dict[int, tuple[str, tuple[int, ...]]], pixels: bytes) -> bytes:
    """A little-endian TIFF of one strip, uncompressed unless the tags say otherwise."""
    entries, extra = b"", b""
    tags = tags | {273: ("I", (0,)), 279: ("I", (len(pixels),))}
    end = 8 + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{kind}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", end + len(extra)), extra + packed
        entries += struct.pack("<HHI", tag, SIZES[kind], len(values)) + packed.ljust(4, b"\0")
    place = struct.pack("<HHII", 273, 4, 1, end + len(extra))
    entries = entries.replace(struct.pack("<HHII", 273, 4, 1, 0), place)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + extra + pixels


def tiff_of(pixels: np.ndarray[Any, Any], *, colour: int = 2, compression: int = 1, **tags: Any) -> bytes:
    bands = pixels.shape[2]
    facts: dict[int, tuple[str, tuple[int, ...]]] = {
        256: ("I", (pixels.shape[1],)),
        257: ("I", (pixels.shape[0],)),
        258: ("H", (8,) * bands),
        259: ("H", (compression,)),
        262: ("H", (colour,)),
        277: ("H", (bands,)),
    }
    if "extra" in tags:
        facts[338] = ("H", tags["extra"])
    if "numbers" in tags:
        facts[339] = ("H", (tags["numbers"],) * bands)
    return tiff(facts, pixels.tobytes())


def encode(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(TILE).save(stream, kind, **options)
    return stream.getvalue()


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PictureError) as caught:
        load_picture(path)
    return str(caught.value).removeprefix(f"{path}: ")


def claims(folder: Path, data: bytes, name: str = "a.png") -> Claims:
    """What a picture claims, after it was decoded to exactly the tile; a JPEG has its own pixels."""
    picture = load_picture(put(folder, name, data))
    if not name.endswith("jpg"):
        np.testing.assert_array_equal(picture.pixels, TILE)
    return picture.claims


def with_colorants(colours: tuple[tuple[float, float, float], ...]) -> bytes:
    """The profile of sRGB with other red, green and blue."""
    profile = SRGB
    for tag, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True):
        entry = profile.find(tag)
        place = int.from_bytes(profile[entry + 4 : entry + 8]) + 8
        profile = profile[:place] + struct.pack(">iii", *(round(c * 65536) for c in colour)) + profile[place + 12 :]
    return profile


def with_chunk(name: bytes, content: bytes) -> bytes:
    """The tile as PNG with one more chunk behind its header."""
    data = encode("PNG")
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xff\x0a\xfa\x7f\x01", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x20ftypheic", "HEIC"),
        (b"GIF89a", "GIF"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
)
def test_other_kinds_of_pictures_are_named(tmp_path: Path, start: bytes, name: str) -> None:
    for suffix in ("png", "jpg", "tif"):
        text = refusal(put(tmp_path, f"a.{suffix}", start + bytes(300)))
        assert (
            text == f"holds {name}, which is not read here: convert it to PNG, for example with `vips copy` or QuPath"
        )


def test_pictures_that_pillow_writes_in_other_kinds_are_named(tmp_path: Path) -> None:
    assert "holds WebP" in refusal(put(tmp_path, "a.png", encode("WEBP")))
    assert "holds JPEG 2000" in refusal(put(tmp_path, "a.png", encode("JPEG2000")))


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (34712, "JPEG 2000"),
        (33003, "JPEG 2000"),
        (33005, "JPEG 2000"),
        (50002, "JPEG XL"),
        (34887, "LERC"),
        (34933, "PNG"),
        (34934, "JPEG XR"),
        (34676, "SGI Log"),
        (65000, "method 65000"),
    ],
)
def test_compressions_of_tiff_that_pillow_lacks_are_named(tmp_path: Path, number: int, name: str) -> None:
    text = refusal(put(tmp_path, "a.tif", tiff_of(TILE, compression=number)))
    assert text == (
        f"is a TIFF compressed with {name}, which Pillow here cannot read: convert it to PNG or to a TIFF compressed "
        "with deflate or LZW, for example with `vips copy` or QuPath"
    )


@pytest.mark.parametrize(("number", "name"), [(50001, "webp"), (50000, "zstd"), (34925, "lzma")])
def test_compressions_that_a_libtiff_may_lack_are_named_exactly_if_it_does(
    tmp_path: Path, number: int, name: str
) -> None:
    try:
        data = encode("TIFF", compression=name)
    except OSError:
        assert "which Pillow here cannot read" in refusal(put(tmp_path, "a.tif", tiff_of(TILE, compression=number)))
    else:
        assert load_picture(put(tmp_path, "a.tif", data)).notes == ()
        assert "damaged" in refusal(put(tmp_path, "a.tif", tiff_of(TILE, compression=number)))


def bands(number: int) -> np.ndarray[Any, Any]:
    return np.concatenate([TILE, *[TILE[..., :1]] * (number - 3)], axis=2)


@pytest.mark.parametrize(
    ("data", "dropped"),
    [
        (tiff_of(TILE), ""),
        (tiff_of(bands(4), extra=(0,)), "4"),
        (tiff_of(bands(5), extra=(0, 0)), "4 and 5"),
        (tiff_of(np.concatenate([TILE, np.full_like(TILE[..., :1], 255), TILE[..., :1]], axis=2), extra=(2, 0)), "5"),
    ],
)
def test_bands_beyond_the_colours_are_dropped_with_a_note(tmp_path: Path, data: bytes, dropped: str) -> None:
    picture = load_picture(put(tmp_path, "a.tif", data))
    np.testing.assert_array_equal(picture.pixels, TILE)
    said = [note for note in picture.notes if "which the file calls" in note]
    assert said == ([f"dropped band {dropped}, which the file calls neither a colour nor alpha"] if dropped else [])


def test_more_bands_and_signed_numbers_are_named(tmp_path: Path) -> None:
    assert "is a TIFF of 8 bands" in refusal(put(tmp_path, "a.tif", tiff_of(bands(8), extra=(0,) * 5)))
    assert "signed integers" in refusal(put(tmp_path, "a.tif", tiff_of(TILE, numbers=2)))


def test_an_mpo_is_named_with_the_way_to_its_first_picture(tmp_path: Path) -> None:
    data = encode("MPO", save_all=True, append_images=[Image.fromarray(TILE)])
    text = refusal(put(tmp_path, "a.jpg", data))
    assert text.startswith("is an MPO, a JPEG of 2 pictures as cameras write it; save its first picture")


@pytest.mark.parametrize(("marker", "name"), [(0xC3, "a lossless JPEG"), (0xC9, "an arithmetically coded JPEG")])
def test_jpegs_without_a_decoder_are_named(tmp_path: Path, marker: int, name: str) -> None:
    frame = struct.pack(">BHBHHB", marker, 17, 8, 16, 24, 3) + bytes((1, 17, 0, 2, 17, 0, 3, 17, 0))
    data = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff" + frame + b"\xff\xd9"
    assert f"is {name}, which Pillow here cannot read" in refusal(put(tmp_path, "a.jpg", data))


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_a_profile_is_read_from_every_container(tmp_path: Path, kind: str) -> None:
    container = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}[kind]
    plain = claims(tmp_path, encode(container), f"a.{kind}").profile
    srgb = claims(tmp_path, encode(container, icc_profile=SRGB), f"a.{kind}").profile
    wide = claims(tmp_path, encode(container, icc_profile=with_colorants(P3)), f"a.{kind}").profile
    assert (plain, srgb, wide) == ("", "sRGB built-in", "sRGB built-in (wider than sRGB)")
    assert is_srgb(srgb)
    assert not is_srgb(wide)


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        (P3, " (wider than sRGB)"),
        (((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), " (wider than sRGB)"),  # Adobe
        (((0.6097, 0.3111, 0.0195), *SRGB_RED_GREEN_BLUE[1:]), " (wider than sRGB)"),  # a brighter red of the same hue
        (((0.3, 0.2, 0.1), *SRGB_RED_GREEN_BLUE[1:]), " (other colours than sRGB)"),
        (SRGB_RED_GREEN_BLUE, ""),
    ],
)
def test_a_profile_is_told_by_its_colours_whatever_its_name(colours: Any, said: str) -> None:
    name = profile_name(with_colorants(colours))
    assert name == f"sRGB built-in{said}"
    assert is_srgb(name) == (not said)


def test_a_profile_of_version_4_has_its_name_in_utf_16() -> None:
    text = "Größer P3".encode("utf-16-be")
    body = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"de", b"DE", len(text), 28) + text
    profile = bytes(128) + struct.pack(">I4sII", 1, b"desc", 144, len(body)) + body
    assert profile_name(profile) == "Größer P3"


@pytest.mark.parametrize(
    "chunk",
    [b"", b"name", b"name\0\0no zlib", b"name\0\x05" + zlib.compress(SRGB), b"n\0\0" + zlib.compress(bytes(3 << 20))],
)
def test_a_damaged_profile_never_stops_a_picture(tmp_path: Path, chunk: bytes) -> None:
    assert claims(tmp_path, with_chunk(b"iCCP", chunk)).profile in {
        "",
        "a profile that cannot be read",
        "a profile without a name",
        "sRGB built-in",
    }


def test_several_profiles_in_a_png_stop_nothing(tmp_path: Path) -> None:
    one, two = with_chunk(b"iCCP", b"broken"), with_chunk(b"iCCP", b"n\0\x07" + zlib.compress(SRGB))
    second = two[33 : two.index(b"IDAT") - 4]
    assert claims(tmp_path, one[:33] + second + one[33:]).profile == "sRGB built-in"
    assert claims(tmp_path, two[:33] + one[33 : one.index(b"IDAT") - 4] + two[33:]).profile.startswith("a profile that")


def test_a_profile_of_any_bytes_has_a_name_in_one_line() -> None:
    draw = random.Random(5)
    for _ in range(500):
        profile = bytearray(SRGB[: draw.randrange(len(SRGB))])
        for _ in range(min(len(profile), 12)):
            profile[draw.randrange(min(len(profile), 260))] = draw.randrange(256)
        name = profile_name(bytes(profile))
        assert name.isprintable()
        assert 0 < len(name) < 100


def test_gamma_is_read_from_png_and_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA500] = 2.2
    adobe = Image.Exif()
    adobe.get_ifd(0x8769)[0xA001] = 2
    assert claims(tmp_path, with_chunk(b"sRGB", b"\0")).gamma == "sRGB"
    assert claims(tmp_path, with_chunk(b"gAMA", struct.pack(">I", 100000))).gamma == "gAMA 1"
    assert claims(tmp_path, with_chunk(b"cHRM", struct.pack(">8I", *range(1, 9)))).gamma == "cHRM"
    assert claims(tmp_path, encode("JPEG", exif=exif), "a.jpg").gamma == "EXIF gamma 2.2"
    assert claims(tmp_path, encode("JPEG", exif=adobe), "a.jpg").gamma == "EXIF Adobe RGB"
    assert claims(tmp_path, encode("PNG")).gamma == ""
    assert claims(tmp_path, with_chunk(b"cICP", bytes((12, 13, 0, 1)))).gamma == "cICP 12 13 0 1"


def test_colours_are_usual_where_all_that_is_said_means_srgb() -> None:
    points = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    usual = [
        Claims(),
        Claims(profile="sRGB IEC61966-2.1"),
        Claims(gamma="sRGB, gAMA 0.45455"),
        Claims(gamma="cICP 1 13 0 1"),
    ]
    other = [
        Claims(profile="Display P3"),
        Claims(gamma="gAMA 1"),
        Claims(gamma="cHRM"),
        Claims(gamma="sRGB, EXIF gamma 1.8"),
    ]
    assert [one.is_usual for one in usual + other] == [True] * 4 + [False] * 4
    stream = io.BytesIO(with_chunk(b"cHRM", points))
    assert gamma_of(Image.open(stream).info, Image.Exif()) == "cHRM of sRGB"


OME = '<OME><Pixels PhysicalSizeX="0.25" PhysicalSizeY="0.25"/></OME>'
NANO = '<OME><Pixels PhysicalSizeX="250" PhysicalSizeXUnit="nm"/></OME>'
APERIO = "Aperio Image Library v11.2.1 |AppMag = 20|MPP = 0.4990|Left = 25"


@pytest.mark.parametrize(
    ("options", "mpp", "where"),
    [
        ({"dpi": (50800, 50800)}, 0.5, "resolution tags"),
        ({"description": OME}, 0.25, "OME-XML"),
        ({"description": NANO}, 0.25, "OME-XML"),
        ({"description": APERIO}, 0.499, "description, MPP"),
        ({"description": "ImageJ=1.53\nunit=micron", "x_resolution": 4}, 0.25, "ImageJ description"),
        ({"description": "MPP = 1.2.3"}, 0, ""),
        ({"dpi": (72, 72)}, 0, ""),
        ({"dpi": (50800, 25400)}, 0, ""),
        ({}, 0, ""),
    ],
)
def test_the_scale_is_read_where_a_tiff_has_one(
    tmp_path: Path, options: dict[str, Any], mpp: float, where: str
) -> None:
    found = claims(tmp_path, encode("TIFF", **options), "a.tif")
    assert found.mpp == pytest.approx(mpp, rel=1e-3)
    assert found.mpp_from == where


def test_the_scale_is_read_from_png_and_jpeg(tmp_path: Path) -> None:
    assert claims(tmp_path, encode("PNG", dpi=(50800, 50800))).mpp == 0.5
    assert claims(tmp_path, encode("JPEG", dpi=(50800, 50800)), "a.jpg").mpp == 0.5
    assert claims(tmp_path, encode("JPEG", dpi=(300, 300)), "a.jpg").mpp == 0
