"""TIFF files in parts: every kind that is read equals what was written; every other kind says what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from store.images import load_picture
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.kinds import is_slide
from store.slides.reading.open import open_source
from store.slides.reading.tiff.pictures import PLAIN
from tests.support.slides import MEMORY, draw, farthest, refusal, whole, write_ome_tiff, write_pyramid, write_tiff

PIXELS = draw(151, 205)
GREY = PIXELS[..., 0]
OPAQUE = np.dstack([PIXELS, np.full(GREY.shape, 255, np.uint8)])
COLOURS = np.random.default_rng(1).integers(0, 1 << 16, (3, 256)).astype(np.uint16)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize(
    "packing",
    [
        {},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "deflate"},
        {"compression": "deflate", "predictor": True},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"compression": "jpeg2000"},
    ],
    ids=lambda packing: "-".join(map(str, packing.values())) or "raw",
)
def test_what_is_packed_without_loss_is_what_was_written(
    tmp_path: Path, packing: dict[str, Any], planes: bool, bigtiff: bool, byteorder: Any
) -> None:
    own = {**packing, **({"planarconfig": "separate"} if planes else {})}
    pixels = PIXELS.transpose(2, 0, 1) if planes else PIXELS
    file = write_tiff(tmp_path / "a.tif", (pixels, own), bigtiff=bigtiff, byteorder=byteorder)
    with closing(open_source(file, MEMORY)) as source:
        assert (source.height, source.width, source.is_slide, source.notes) == (151, 205, True, ())
        assert (whole(source) == PIXELS).all()
        assert (source.read(Rect(top=60, left=90, height=70, width=110)) == PIXELS[60:130, 90:200]).all()


@pytest.mark.parametrize(
    "arguments", [{"outcolorspace": "rgb"}, *({"subsampling": n} for n in ((1, 1), (2, 1), (2, 2)))]
)
def test_jpeg_tiles_are_those_that_libtiff_decodes(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """RGB in a JPEG is Aperio's; libtiff, which Pillow reads with, is another decoder."""
    own = {"compression": "jpeg", "compressionargs": {"level": 92, **arguments}}
    file = write_tiff(tmp_path / "a.tif", (PIXELS, own))
    with tifffile.TiffFile(file) as opened:
        assert opened.pages.first.photometric == (2 if "outcolorspace" in arguments else 6)
    with closing(open_source(file, MEMORY)) as source:
        assert farthest(whole(source), load_picture(file, region=True).pixels) == 0
        assert farthest(whole(source), PIXELS) < 40


@pytest.mark.parametrize(
    ("description", "compression", "photometric", "is_ycbcr"),
    [
        ("Aperio |MPP = 0.4990|AppMag = 20", 33003, "rgb", True),
        ("Aperio |MPP = 0.4990|AppMag = 20", 33005, "rgb", False),
        ("of Bio-Formats", 33003, "rgb", False),
        ("of another", 34712, "ycbcr", True),
    ],
)
def test_jpeg_2000_in_ycbcr(
    tmp_path: Path, description: str, compression: int, photometric: str, is_ycbcr: bool
) -> None:
    """Aperio keeps the bands of YCbCr in a codestream, and a TIFF, that do not say so."""
    tiles: list[bytes] = []
    for row in range(0, 151, 64):
        for column in range(0, 205, 64):
            tile = np.zeros((64, 64, 3), np.uint8)
            part = PIXELS[row : row + 64, column : column + 64]
            tile[: part.shape[0], : part.shape[1]] = part
            bands = _ycbcr(tile) if is_ycbcr else tile
            tiles.append(bytes(imagecodecs.jpeg2k_encode(bands, codecformat="j2k", level=0, mct=False)))
    packed: dict[str, Any] = {"tile": (64, 64), "compression": compression, "photometric": photometric}
    own = {"shape": PIXELS.shape, "dtype": np.uint8, **packed}
    if photometric == "ycbcr":
        own["extratags"] = [(530, 3, 2, (1, 1), True)]
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(iter(tiles), description=description, metadata=None, **own)
    with closing(open_source(tmp_path / "a.svs", MEMORY)) as source:
        assert farthest(whole(source), PIXELS) <= (2 if is_ycbcr else 0)  # rounded twice


def _ycbcr(rgb: Any) -> Any:
    red, green, blue = np.moveaxis(rgb.astype(float), 2, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        np.stack([y, (blue - y) / 1.772 + 128, (red - y) / 1.402 + 128], axis=2).round().clip(0, 255).astype(np.uint8)
    )


@pytest.mark.parametrize(
    ("pixels", "own", "note"),
    [
        (GREY, {"photometric": "minisblack"}, "grey to RGB"),
        (GREY, {"photometric": "miniswhite"}, "grey to RGB"),
        (GREY > 128, {"photometric": "minisblack"}, "black and white to RGB"),
        (GREY, {"photometric": "palette", "colormap": COLOURS}, "palette to RGB"),
        (OPAQUE, {"extrasamples": ["unassalpha"]}, "drops an alpha channel, which must be opaque everywhere"),
        (OPAQUE, {"extrasamples": ["assocalpha"]}, "drops an alpha channel, which must be opaque everywhere"),
        (
            np.dstack([PIXELS, GREY]),
            {"extrasamples": ["unspecified"]},
            "dropped band 4, which the file calls neither a colour nor alpha",
        ),
    ],
)
def test_other_kinds_become_rgb_as_those_that_are_decoded_whole(
    tmp_path: Path, pixels: Any, own: dict[str, Any], note: str
) -> None:
    tiled = write_tiff(tmp_path / "tiled.tif", (pixels, own))
    plain = write_tiff(tmp_path / "plain.tif", (pixels, {**own, "tile": None}))
    with closing(open_source(tiled, MEMORY)) as one, closing(open_source(plain, MEMORY)) as other:
        assert (one.is_slide, other.is_slide) == (is_slide(tiled), is_slide(plain)) == (True, False)
        assert one.notes == (note,)
        assert (whole(one) == whole(other)).all()


def test_grey_with_opaque_alpha(tmp_path: Path) -> None:
    two = np.dstack([GREY, np.full_like(GREY, 255)])
    file = write_tiff(tmp_path / "a.tif", (two, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}))
    with closing(open_source(file, MEMORY)) as source:
        assert (whole(source) == np.repeat(GREY[..., None], 3, axis=2)).all()


@pytest.mark.parametrize("write", [write_pyramid, write_ome_tiff])
def test_levels_are_found_wherever_they_are_kept(tmp_path: Path, write: Callable[..., Path]) -> None:
    file = write(tmp_path / "a.tif", PIXELS, compression="deflate")
    with closing(open_source(file, MEMORY)) as source:
        assert [(level.height, level.width) for level in source.levels] == [(151, 205), (76, 103), (38, 52)]
        for step, level in zip((1, 2, 4), source.levels, strict=True):
            assert (whole(level) == PIXELS[::step, ::step]).all()
        assert (source.overview(52) == PIXELS[::4, ::4]).all()


def test_strips_of_a_pyramid_are_read_too(tmp_path: Path) -> None:
    file = write_pyramid(tmp_path / "a.tif", PIXELS, tile=None, rowsperstrip=7)
    with closing(open_source(file, MEMORY)) as source:
        assert (whole(source) == PIXELS).all()


def test_strips_of_a_large_picture_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {"tile": None, "rowsperstrip": 11, "compression": "lzw"}))
    monkeypatch.setattr("store.slides.reading.tiff.pictures.PLAIN", PIXELS.shape[0] * PIXELS.shape[1] - 1)
    with closing(open_source(file, MEMORY)) as source:
        assert source.is_slide
        assert (whole(source) == PIXELS).all()
    assert PLAIN > 5000**2


@pytest.mark.parametrize(
    ("options", "mpp", "where"),
    [
        ({"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}, 0.25, "resolution tags"),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5, "resolution tags"),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None, ""),
        ({"resolution": (40000, 20000), "resolutionunit": "CENTIMETER"}, None, ""),
        ({"resolution": (40000, 40000), "resolutionunit": "NONE"}, None, ""),
        ({"description": "Aperio |AppMag = 40|MPP = 0.2525", "metadata": None}, 0.2525, "description, MPP"),
        ({"description": "Aperio |MPP = 0.2.5", "metadata": None}, None, ""),
        ({}, None, ""),
    ],
)
def test_the_scale_is_where_scanners_write_it(
    tmp_path: Path, options: dict[str, Any], mpp: float | None, where: str
) -> None:
    with closing(open_source(write_tiff(tmp_path / "a.tif", (PIXELS, options)), MEMORY)) as source:
        assert (source.mpp, source.mpp_from) == (mpp, where)


@pytest.mark.parametrize(("stated", "read"), [(0.25, 0.25), (0.0001, None), (90.0, None)])
def test_the_scale_in_ome_xml_if_some_microscope_has_it(tmp_path: Path, stated: float, read: float | None) -> None:
    with closing(open_source(write_ome_tiff(tmp_path / "a.ome.tif", PIXELS, stated), MEMORY)) as source:
        assert (source.mpp, source.mpp_from) == (read, "OME-XML" if read else "")


def test_two_scales_of_two_directions_are_none(tmp_path: Path) -> None:
    sizes = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.26}
    file = write_tiff(tmp_path / "a.ome.tif", (PIXELS, {"metadata": sizes}), ome=True)
    with closing(open_source(file, MEMORY)) as source:
        assert source.mpp is None


def test_what_is_beside_a_slide_is_left_out_and_said(tmp_path: Path) -> None:
    """Aperio's order: the slide, a thumbnail in strips, levels in tiles, label and macro in strips."""
    plain: dict[str, Any] = {"tile": None, "metadata": None}
    file = write_tiff(
        tmp_path / "a.svs",
        (PIXELS, {"description": "Aperio |MPP = 0.5", "metadata": None}),
        (PIXELS[::3, ::3], plain),
        (PIXELS[::2, ::2], {"metadata": None}),
        (draw(40, 30), {**plain, "subfiletype": 1}),
        (draw(30, 90), {**plain, "subfiletype": 9}),
    )
    with closing(open_source(file, MEMORY)) as source:
        assert [level.height for level in source.levels] == [151, 76]
        assert source.notes == ("3 more pictures in the file, such as a label, are left out",)


def test_tiles_that_a_file_leaves_out_are_white(tmp_path: Path) -> None:
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {"compression": "deflate"}))
    with tifffile.TiffFile(file, mode="r+") as opened:
        tag = opened.pages.first.tags["TileByteCounts"]
        tag.overwrite([0 if n == 4 else count for n, count in enumerate(tag.value)])
    expected = PIXELS.copy()
    expected[64:128, 96:192] = 255
    with closing(open_source(file, MEMORY)) as source:
        assert source.notes == ("1 of 9 tiles are not in the file, and become white",)
        assert (whole(source) == expected).all()


FLOAT = PIXELS.astype(np.float32)
HOLE = OPAQUE.copy()
HOLE[140, 200, 3] = 254


@pytest.mark.parametrize(
    ("pixels", "own", "words"),
    [
        (PIXELS.astype(np.uint16), {}, "has 16 bits per channel"),
        (PIXELS.astype(np.uint32), {}, "has 32 bits per channel"),
        (FLOAT, {}, "holds floating point numbers"),
        (PIXELS.astype(np.int8), {}, "is a TIFF of signed integers"),
        (OPAQUE, {"photometric": "separated"}, "is CMYK"),
        (PIXELS, {"photometric": "cielab"}, "is L*a*b*"),
        (PIXELS, {"photometric": "ycbcr", "extratags": [(530, 3, 2, (1, 1), True)]}, "is stored as plain YCbCr"),
        (
            PIXELS.transpose(2, 0, 1),
            {"photometric": "ycbcr", "planarconfig": "separate"},
            "has YCbCr in planes",
        ),
        (PIXELS, {"photometric": "icclab"}, "is L*a*b*"),
        (np.dstack([PIXELS, PIXELS]), {"extrasamples": ["unspecified"] * 3}, "is a TIFF of 6 bands"),
        (PIXELS[..., :2], {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, "the part at 0 px from the"),
        (PIXELS, {"compression": "webp"}, "is compressed with method 50001, which is not read here"),
        (PIXELS, {"extratags": [(274, 3, 1, 6, True)]}, "is stored turned or mirrored (TIFF Orientation 6)"),
        (np.stack([PIXELS] * 4), {"volumetric": True, "tile": (4, 64, 64)}, "holds a volume of 4 depths"),
        (HOLE, {}, "the part at 128 px from the top and 192 px from the left has transparent pixels"),
    ],
)
def test_what_is_no_rgb_of_8_bits_says_what_it_is(tmp_path: Path, pixels: Any, own: dict[str, Any], words: str) -> None:
    assert refusal(write_tiff(tmp_path / "a.tif", (pixels, own))).startswith(words)


@pytest.mark.parametrize(
    ("pixels", "axes", "words"),
    [
        (np.moveaxis(PIXELS, 2, 0), "CYX", "3 channels in planes of their own; if they are red, green and blue, save"),
        (
            np.moveaxis(PIXELS[..., :2], 2, 0),
            "CYX",
            "2 channels, 1 in a plane, and not of red, green and blue; save it",
        ),
        (np.stack([PIXELS] * 2), "ZYXS", "several pictures (2 in depth, 1 in time); save the one that is meant"),
        (np.stack([PIXELS] * 2), "TYXS", "several pictures (1 in depth, 2 in time); save the one that is meant"),
    ],
)
def test_several_planes_of_ome_are_counted(tmp_path: Path, pixels: Any, axes: str, words: str) -> None:
    own = {"metadata": {"axes": axes}, "photometric": "minisblack" if axes == "CYX" else "rgb"}
    for options in ({}, {"tile": None}):
        file = write_tiff(tmp_path / "a.ome.tif", (pixels, {**own, **options}), ome=True)
        assert refusal(file).startswith(f"is an OME-TIFF of {words}")


def test_further_pictures_of_ome_are_left_out_and_said(tmp_path: Path) -> None:
    file = write_tiff(tmp_path / "a.ome.tif", (PIXELS, {}), (draw(64, 96), {}), ome=True)
    with closing(open_source(file, MEMORY)) as source:
        assert source.notes == ("1 more pictures in the file, such as a label, are left out",)
        assert (whole(source) == PIXELS).all()


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<OME", "its OME-XML cannot be read"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>', "its OME-XML is no plain one"),
        (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly/>',
            "its OME-XML lists no picture",
        ),
    ],
)
def test_ome_xml_is_not_believed(tmp_path: Path, xml: str, words: str) -> None:
    own = {"description": f"{xml}</OME>", "metadata": None}
    assert refusal(write_tiff(tmp_path / "a.tif", (PIXELS, own))).startswith(words)


def test_stacks_are_refused_with_their_number(tmp_path: Path) -> None:
    two = write_tiff(tmp_path / "two.tif", (PIXELS, {}), (PIXELS, {}))
    many = write_tiff(tmp_path / "many.tif", *[(PIXELS[:64, :96], {})] * 70)
    depths = {"description": "Aperio", "metadata": None}
    focal = write_tiff(tmp_path / "focal.svs", (PIXELS, depths), (PIXELS, depths))
    imagej = tmp_path / "imagej.tif"
    tifffile.imwrite(imagej, np.stack([PIXELS] * 3), imagej=True)
    assert [refusal(file).partition(";")[0] for file in (two, many, focal)] == [
        f"holds {n} pictures" for n in (2, 70, 2)
    ]
    assert refusal(imagej).startswith("is an ImageJ stack of 3 pictures")
    own = {"description": "ImageJ=1.54f\nimages=5\n", "metadata": None}
    for options in ({}, {"tile": None}):  # beyond 4 GB ImageJ writes one directory for all
        single = write_tiff(tmp_path / "single.tif", (PIXELS, {**own, **options}))
        assert refusal(single).startswith("is an ImageJ stack of 5 pictures")


def test_a_missing_level_is_damage(tmp_path: Path) -> None:
    file = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS)
    with tifffile.TiffFile(file, mode="r+") as opened:
        tag = opened.pages.first.tags["SubIFDs"]
        tag.overwrite([tag.value[0], 1 << 40])
    assert refusal(file).startswith("truncated TIFF")


def test_threads_read_what_one_reads(tmp_path: Path) -> None:
    """With room for two tiles, so that they are dropped and decoded again."""
    file = write_pyramid(tmp_path / "a.tif", PIXELS, compression="deflate")
    rects = [Rect(top=top, left=left, height=50, width=60) for top in range(0, 100, 9) for left in range(0, 140, 11)]
    with closing(open_source(file, 64 * 96 * 6 + 1)) as source, ThreadPoolExecutor(8) as pool:
        for rect, read in zip(rects, pool.map(source.read, rects), strict=True):
            assert (read == PIXELS[rect.top : rect.bottom, rect.left : rect.right]).all()


def test_a_closed_file_says_so(tmp_path: Path) -> None:
    source = open_source(write_tiff(tmp_path / "a.tif", (PIXELS, {})), MEMORY)
    source.close()
    with pytest.raises(PictureError, match=r"a\.tif: cannot be read at byte"):
        whole(source)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {}))
    with closing(open_source(file, MEMORY)) as source:
        assert source.digest() == hashlib.sha256(file.read_bytes()).hexdigest()
