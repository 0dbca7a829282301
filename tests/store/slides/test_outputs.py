"""Files of every kind, of odd shapes, read by others: Pillow, tifffile, libvips, zarr, OpenSlide, and by ourselves."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from store.images import PictureU8, load_picture
from store.schema import SchemaError
from store.slides.geometry import Rect
from store.slides.reading.open import open_source
from store.slides.writing import ome_tiff as ome_tiff_module
from store.slides.writing.finish import finish
from store.slides.writing.flat import check_flat
from store.slides.writing.plan import OutputKind, plan_spool
from store.slides.writing.spool import Spool
from tests.support.spools import MPP, SHAPES, blurred, drawn, files_below, plain_halves, written

TIMES = 1e-4  # relative: resolutions are fractions of 32-bit numbers, PNG has whole pixels per metre
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def vips_pixels(file: Path, **words: int) -> PictureU8:
    pyvips = pytest.importorskip("pyvips")
    return np.asarray(pyvips.Image.new_from_file(str(file), **words).numpy())


def vips_mpp(file: Path, **words: int) -> float:
    """Libvips counts pixels per mm."""
    pyvips = pytest.importorskip("pyvips")
    return float(1000 / pyvips.Image.new_from_file(str(file), **words).xres)


@shapes
@pytest.mark.parametrize("kind", [OutputKind.PNG, OutputKind.TIFF])
def test_png_and_tiff_hold_the_pixels_and_the_scale(tmp_path: Path, shape: tuple[int, int], kind: OutputKind) -> None:
    picture = drawn(*shape)
    written(tmp_path / "a", picture, kind)
    read = load_picture(tmp_path / "a")
    assert np.array_equal(read.pixels, picture)
    assert read.claims.mpp == pytest.approx(MPP, rel=TIMES)
    assert np.array_equal(vips_pixels(tmp_path / "a"), picture)
    with Image.open(tmp_path / "a") as opened:
        text = opened.info["Description"] if kind is OutputKind.PNG else opened.getexif()[270]
    assert text == "a drawn picture Not for clinical use."


@shapes
def test_the_parts_of_a_png_are_one_zlib_stream(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Whose checksum Pillow does not read."""
    written(tmp_path / "a", drawn(*shape), OutputKind.PNG)
    data, place, packed = (tmp_path / "a").read_bytes(), 8, b""
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += 12 + length
    assert len(zlib.decompress(packed)) == shape[0] * (3 * shape[1] + 1)


@pytest.mark.parametrize("shape", [*SHAPES, (700, 33)], ids=str)
def test_a_jpeg_has_the_pixels_of_one_that_is_packed_at_once(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = drawn(*shape)
    written(tmp_path / "a", picture, OutputKind.JPEG, side=80)
    once = imagecodecs.jpeg8_encode(picture, 90, colorspace="RGB", outcolorspace="YCBCR", subsampling="420")
    read = load_picture(tmp_path / "a")
    assert np.array_equal(read.pixels, np.asarray(Image.open(io.BytesIO(once))))
    assert read.claims.mpp == pytest.approx(MPP, rel=TIMES)
    for decoded in (imagecodecs.jpeg8_decode((tmp_path / "a").read_bytes()), vips_pixels(tmp_path / "a")):
        assert np.abs(decoded.astype(int) - read.pixels).max() <= 1
    with Image.open(tmp_path / "a") as opened:
        assert opened.info["comment"] == b"a drawn picture Not for clinical use."


@shapes
@pytest.mark.parametrize("lossy", [False, True])
def test_an_ome_tiff_has_its_levels_and_their_scale_for_two_readers(
    tmp_path: Path, shape: tuple[int, int], lossy: bool
) -> None:
    picture = blurred(*shape) if lossy else drawn(*shape)
    file = tmp_path / "a & é.ome.tif"
    written(file, picture, OutputKind.OME_TIFF, lossy=lossy)
    with tifffile.TiffFile(file) as tiff:
        assert tiff.is_ome
        assert not tiff.is_bigtiff
        (series,) = tiff.series
        read = [level.asarray() for level in series.levels]
        across = [level.keyframe.get_resolution("MICROMETER")[0] for level in series.levels]
        described = tifffile.xml2dict(str(tiff.ome_metadata))["OME"]["Image"]
        assert tiff.pages.first.software == "magstain"
        assert "DateTime" not in tiff.pages.first.tags
    assert (series.axes, series.name) == ("YXS", "a & é.ome.tif")
    sizes = {name: described["Pixels"][name] for name in ("SizeX", "SizeY", "SizeC", "PhysicalSizeX", "PhysicalSizeY")}
    expected = {"SizeX": shape[1], "SizeY": shape[0], "SizeC": 3, "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    assert sizes == expected
    assert described["Description"] == "a drawn picture Not for clinical use."
    for level, pixels in enumerate(plain_halves(picture, len(read) - 1)):
        if level < 3 or not lossy:  # of smaller ones JPEG loses more
            assert np.abs(read[level].astype(int) - pixels).mean() <= (4 if lossy else 0)
        assert 1 / across[level] == pytest.approx(MPP * 2**level, rel=TIMES)
        seen = vips_pixels(file, subifd=level - 1)
        assert vips_mpp(file, subifd=level - 1) == pytest.approx(MPP * 2**level, rel=TIMES)
        assert np.abs(seen.astype(int) - read[level]).max() <= (2 if lossy else 0)


@pytest.mark.parametrize("shape", [*SHAPES, (150, 4300)], ids=str)
def test_an_ome_zarr_has_its_levels_and_their_scale(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = drawn(*shape)
    written(tmp_path / "a.zarr", picture, OutputKind.OME_ZARR)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    ome: Any = group.attrs["ome"]
    (multiscale,) = ome["multiscales"]
    assert (ome["version"], multiscale["name"]) == ("0.5", "a.zarr")
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, "micrometer", "micrometer"]
    halves = plain_halves(picture, len(multiscale["datasets"]) - 1)
    for level, (dataset, pixels) in enumerate(zip(multiscale["datasets"], halves, strict=True)):
        array: Any = group[dataset["path"]]
        assert array.metadata.dimension_names == ("c", "y", "x")
        assert np.array_equal(np.asarray(array[:]).transpose(1, 2, 0), pixels)
        (transformation,) = dataset["coordinateTransformations"]
        assert transformation == {"type": "scale", "scale": [1.0, MPP * 2**level, MPP * 2**level]}
    shards = len(list((tmp_path / "a.zarr" / "0" / "c" / "0").rglob("*/*")))
    assert shards == -(-shape[0] // 2048) * -(-shape[1] // 2048)


@pytest.mark.parametrize("kind", list(OutputKind))
def test_nothing_is_said_of_a_scale_that_is_unknown(tmp_path: Path, kind: OutputKind) -> None:
    file = tmp_path / ("a.zarr" if kind is OutputKind.OME_ZARR else "a.tif")
    written(file, drawn(70, 90), kind, mpp=None)
    if kind is OutputKind.OME_ZARR:
        text = (file / "zarr.json").read_text()
        assert "micrometer" not in text
        assert text.count('"scale"') == 4
        return
    assert load_picture(file).claims.mpp == 0 if not kind.has_levels else b"PhysicalSize" not in file.read_bytes()


@pytest.mark.parametrize("shape", [(300, 517), (1, 1000), (700, 1), (2, 300)], ids=str)
@pytest.mark.parametrize("kind", [OutputKind.PNG, OutputKind.TIFF, OutputKind.OME_TIFF, OutputKind.OME_ZARR])
def test_what_is_written_is_a_source(tmp_path: Path, kind: OutputKind, shape: tuple[int, int]) -> None:
    picture = drawn(*shape)
    written(tmp_path / "a.tif", picture, kind)
    source = open_source(tmp_path / "a.tif", 1 << 24)
    try:
        assert np.array_equal(source.read(Rect(top=0, left=0, height=shape[0], width=shape[1])), picture)
        assert source.mpp == pytest.approx(MPP, rel=TIMES)
        levels = [(level.height, level.width) for level in source.levels]
        assert len(levels) > 2 or not kind.has_levels
        assert all(max(one) == -(-max(shape) // 2**number) for number, one in enumerate(levels))
    finally:
        source.close()


def test_openslide_reads_an_ome_tiff(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    picture = drawn(300, 517)
    written(tmp_path / "a.tif", picture, OutputKind.OME_TIFF)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.dimensions == (517, 300)
        assert np.array_equal(np.asarray(slide.read_region((0, 0), 0, (517, 300)))[..., :3], picture)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP, rel=TIMES)


def test_a_large_file_has_offsets_of_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ome_tiff_module, "CLASSIC_BYTES", 100_000)
    for side, big in ((100, False), (300, True)):
        written(tmp_path / f"{side}", drawn(side, side), OutputKind.OME_TIFF)
        with tifffile.TiffFile(tmp_path / f"{side}") as tiff:
            assert tiff.is_bigtiff == big
            levels = [level.asarray() for level in tiff.series[0].levels]
        assert all(
            np.array_equal(one, two) for one, two in zip(levels, plain_halves(drawn(side, side), 3), strict=False)
        )


@pytest.mark.parametrize("kind", list(OutputKind))
def test_the_bytes_depend_on_nothing_else(tmp_path: Path, kind: OutputKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the place, nor on the time or the number of threads."""
    picture = drawn(300, 517)
    (tmp_path / "elsewhere").mkdir()
    one, two = tmp_path / "a", tmp_path / "elsewhere" / "a"
    first = written(one, picture, kind)
    monkeypatch.setattr("time.time", lambda: 1.0)
    monkeypatch.setattr("store.machine.threads.count_cores", lambda: 1)
    assert written(two, picture, kind) == first
    assert files_below(one) == files_below(two)
    assert str(tmp_path).encode() not in b"".join(files_below(one).values())


@pytest.mark.parametrize("kind", list(OutputKind))
def test_memory_does_not_grow_with_the_area(tmp_path: Path, kind: OutputKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat file needs some rows; a pyramid, where its tiles lie. How far threads are ahead would blur both."""
    monkeypatch.setattr("store.machine.threads.count_cores", lambda: 1)
    monkeypatch.setattr("store.slides.writing.plan.LEVEL_SIDE", 64)
    monkeypatch.setattr("store.slides.writing.spool.LEVEL_PIXELS", 1 << 14)
    monkeypatch.setattr("store.slides.writing.flat.PART_BYTES", 1 << 16)
    peaks = list[int]()
    for side in (768, 1536):
        spool = Spool.open(tmp_path / "a.partial", plan_spool(kind, side, side, 64, ""))
        for unit in spool.pending():
            spool.put(unit, [None if column % 4 else drawn(64, 64) for column in range(unit.count)])
        with traced() as peak:
            finish(spool, tmp_path / str(side), kind, MPP, "")
        peaks += peak
    assert peaks[1] - peaks[0] < 0.1 * 3 * (1536**2 - 768**2)


@contextmanager
def traced() -> Iterator[list[int]]:
    """The most bytes that Python and numpy hold at once meanwhile, when it is over."""
    peak = list[int]()
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", list(OutputKind))
@pytest.mark.parametrize(
    ("name", "shown"),
    [("\udcff\x01 <&>", "?? <&>"), ("]]>'\" 😀", "]]>'\" 😀"), ("\ufffe\uffff\u202e", "???")],
    ids=["bytes", "signs", "unseen"],
)
def test_a_name_of_any_bytes_is_written(tmp_path: Path, kind: OutputKind, name: str, shown: str) -> None:
    file = tmp_path / name
    assert written(file, drawn(70, 90), kind).name == shown
    if kind is OutputKind.OME_TIFF:
        with tifffile.TiffFile(file) as tiff:
            assert ElementTree.fromstring(str(tiff.ome_metadata))[0].get("Name") == shown
    elif kind is OutputKind.OME_ZARR:
        ome: Any = zarr.open_group(file, mode="r").attrs["ome"]
        assert ome["multiscales"][0]["name"] == shown
    else:
        assert load_picture(file).pixels.shape == (70, 90, 3)


def test_a_picture_that_jpeg_does_not_hold_is_refused() -> None:
    check_flat(OutputKind.JPEG, 65_500, 65_500)
    check_flat(OutputKind.PNG, 1, 65_501)
    with pytest.raises(SchemaError, match=r"1 x 65,501 px as JPEG: it has at most 65,500 px .*write it as ome-tiff"):
        check_flat(OutputKind.JPEG, 1, 65_501)


def test_parts_of_a_wide_picture_are_low(tmp_path: Path) -> None:
    """So that memory is bounded: 1 MiB of 12,000 px are 29 rows, and 16 divide a tile."""
    picture = blurred(70, 12_000)
    written(tmp_path / "a.tif", picture, OutputKind.TIFF)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages.first.rowsperstrip == 16
    assert np.array_equal(load_picture(tmp_path / "a.tif").pixels, picture)
