"""OME-Zarr: what Zarr's own library writes is read, and nothing in a folder is believed before it is checked."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.open import open_source
from tests.support.slides import MEMORY, draw, refusal, whole, write_zarr

PIXELS = draw(151, 205)
GREY = np.repeat(PIXELS[..., :1], 3, axis=2)
Edit = Callable[[dict[str, Any]], object]


def edit(file: Path, change: Edit) -> None:
    """Change a JSON file."""
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))


def digest(path: Path) -> str:
    with closing(open_source(path, MEMORY)) as source:
        return source.digest()


@pytest.mark.parametrize("axes", ["cyx", "tczyx", "czyx", "yxc", "tcyx"])
@pytest.mark.parametrize(
    ("version", "array"),
    [
        (2, {"compressors": None}),
        (2, {"compressors": numcodecs.Blosc("lz4"), "order": "F"}),
        (2, {"compressors": numcodecs.Zlib()}),
        (2, {"compressors": numcodecs.GZip()}),
        (2, {"compressors": numcodecs.Zstd(), "chunk_key_encoding": {"name": "v2", "separator": "."}}),
        (3, {"compressors": None}),
        (3, {"compressors": BloscCodec(cname="zstd", shuffle="bitshuffle")}),
        (3, {"compressors": [GzipCodec(), Crc32cCodec()]}),
        (3, {"compressors": ZstdCodec(), "chunk_key_encoding": {"name": "v2", "separator": "."}}),
        (3, {"compressors": ZstdCodec(), "chunk_key_encoding": {"name": "default", "separator": "."}}),
        (3, {"compressors": BloscCodec(cname="lz4"), "shards": True}),
    ],
    ids=lambda one: one if isinstance(one, int) else "-".join(map(str, one)),
)
def test_what_zarr_writes_is_read(tmp_path: Path, version: int, array: dict[str, Any], axes: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS, axes, version=version, **array)
    with closing(open_source(path, MEMORY)) as source:
        assert (source.mpp, source.mpp_from, source.notes, source.is_slide) == (0.25, "OME-Zarr", (), True)
        assert (whole(source) == PIXELS).all()
        assert (whole(source.levels[1]) == PIXELS[::2, ::2]).all()
        assert (source.read(Rect(top=60, left=90, height=70, width=110)) == PIXELS[60:130, 90:200]).all()


def test_axes_in_another_order_of_the_bytes(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS, filters=[TransposeCodec(order=(2, 0, 1))], compressors=ZstdCodec())
    with closing(open_source(path, MEMORY)) as source:
        assert (whole(source) == PIXELS).all()


def test_channels_in_chunks_of_their_own_and_a_last_chunk_of_two(tmp_path: Path) -> None:
    for bands in (1, 2):
        path = write_zarr(tmp_path / f"{bands}.zarr", PIXELS, chunks=(bands, 50, 60))
        with closing(open_source(path, MEMORY)) as source:
            assert (whole(source) == PIXELS).all()


@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_grey(tmp_path: Path, axes: str) -> None:
    with closing(open_source(write_zarr(tmp_path / "a.zarr", PIXELS, axes), MEMORY)) as source:
        assert source.notes == ("grey to RGB",)
        assert (whole(source) == GREY).all()


@pytest.mark.parametrize(
    ("unit", "factor"), [("nanometer", 1e-3), ("micrometer", 1), ("millimeter", 1e3), ("meter", 1e6), ("", None)]
)
def test_the_scale_has_a_unit_and_two_transformations(tmp_path: Path, unit: str, factor: float | None) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS)

    def change(tree: dict[str, Any]) -> None:
        (picture,) = tree["attributes"]["ome"]["multiscales"]
        for axis in picture["axes"][1:]:
            axis["unit"] = unit
        picture["coordinateTransformations"] = [
            {"type": "scale", "scale": [1, *[2 / (factor or 1)] * 2]},
            {"type": "translation", "translation": [0, 1, 1]},
        ]

    edit(path / "zarr.json", change)
    with closing(open_source(path, MEMORY)) as source:
        assert source.mpp == (0.5 if factor else None)


def test_chunks_that_are_not_there_have_the_fill_value_and_are_counted(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS, fill_value=254)
    shutil.rmtree(path / "0" / "c" / "0" / "1")
    expected = PIXELS.copy()
    expected[64:128] = 254
    with closing(open_source(path, MEMORY)) as source:
        assert source.notes == ("4 of 12 chunks are not on disk, and have the value 254",)
        assert (whole(source) == expected).all()
    shutil.rmtree(path / "0" / "c")
    assert refusal(path).startswith("has none of its 12 chunks")


def test_the_digest_is_of_all_files_and_their_names(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS)
    extra = path / "0" / "c" / "9"
    digests = [digest(path)]
    extra.write_bytes(b"x")
    digests.append(digest(path))
    extra.rename(path / "8")
    digests.append(digest(path))
    shutil.copytree(path, tmp_path / "b.zarr")
    assert len({*digests}) == 3
    assert digest(tmp_path / "b.zarr") == digests[-1]


@pytest.mark.parametrize("compressors", [ZstdCodec(checksum=True), BloscCodec(), GzipCodec(), [Crc32cCodec()]])
@pytest.mark.parametrize("shards", [{}, {"shards": True}], ids=["chunks", "shards"])
def test_a_chunk_that_was_cut_is_named(tmp_path: Path, compressors: Any, shards: dict[str, Any]) -> None:
    """Of blosc numcodecs makes a picture, from whatever is in memory behind the chunk."""
    path = write_zarr(tmp_path / "a.zarr", PIXELS, compressors=compressors, **shards)
    file = path / "0" / "c" / "0" / "1" / "1"
    data = file.read_bytes()
    for length in (0, 1, 15, 16, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with closing(open_source(path, MEMORY)) as source:
            source.read(Rect(top=0, left=0, height=64, width=205))
            with pytest.raises(
                PictureError, match=r"a.zarr: the part at \d+ px from the top and \d+ px from the left is"
            ):
                whole(source)


def test_a_chunk_may_not_claim_to_be_larger(tmp_path: Path) -> None:
    """The decoder of blosc allocates what the head of a chunk says."""
    path = write_zarr(tmp_path / "a.zarr", PIXELS, compressors=BloscCodec())
    file = path / "0" / "c" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[4:8] = (1 << 30).to_bytes(4, "little")
    file.write_bytes(data)
    assert refusal(path).endswith("is damaged (its header does not fit its bytes); copy or export the folder again")


def test_an_index_that_names_bytes_outside_is_damage(tmp_path: Path) -> None:
    """Each of the 64 bytes of offsets and lengths, and of the checksum."""
    path = write_zarr(tmp_path / "a.zarr", PIXELS, compressors=ZstdCodec(checksum=True), shards=True)
    file = path / "0" / "c" / "0" / "0" / "0"
    data = file.read_bytes()
    for place in range(1, 69):
        changed = bytearray(data)
        changed[-place] ^= 0x41
        file.write_bytes(changed)
        with closing(open_source(path, MEMORY)) as source, pytest.raises(PictureError, match="is damaged"):
            source.read(Rect(top=0, left=0, height=128, width=128))


class Harm:
    """A value whose unpickling creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def change(values: dict[str, Any], tree: dict[str, Any]) -> None:
    tree.update(values)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS, version=2)
    for filters, dtype in (([{"id": "pickle"}], "|u1"), ([{"id": "pickle"}], "|O"), (None, "|O")):
        edit(path / "0" / ".zarray", partial(change, {"filters": filters, "dtype": dtype}))
        for file in (path / "0").rglob("*/*"):
            if file.is_file():
                file.write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
        with pytest.raises(PictureError, match=r"\.zarray: is not read as a picture: it"):
            open_source(path, MEMORY)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_type": "uint16"}, "it is an array of uint16, not an array of uint8"),
        ({"shape": [3, 151, -1]}, "a shape [3, 151, -1] has a side outside"),
        ({"shape": [3, 151, 1 << 40]}, "has a side outside"),
        ({"shape": [3, 151, True]}, "is no list of whole numbers"),
        ({"shape": [151, 205]}, "do not belong together"),
        ({"fill_value": 256}, "its fill value is 256"),
        ({"codecs": [{"name": "bytes"}, {"name": "lzma"}]}, "'lzma' is not a valid Packing"),
        ({"codecs": []}, "it has no codecs"),
        ({"chunk_grid": {"name": "rectilinear"}}, "it has no regular grid"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 0, 64]}}}, "has a side outside"),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}}, "have names with '../'"),
        ({"chunk_grid": {"name": "regular"}}, "has no 'configuration'"),
        ({"codecs": "bytes"}, "is not read as a picture"),
        ({"shape": [3, 1 << 20, 1 << 20]}, "it has more than 4,194,304 chunks"),
    ],
)
def test_an_array_of_another_kind_says_what_it_is(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS)
    edit(path / "0" / "zarr.json", lambda tree: tree.update(change))
    with pytest.raises(PictureError) as caught:
        open_source(path, MEMORY)
    assert words in str(caught.value)
    assert str(path / "0" / "zarr.json") in str(caught.value)


def change_picture(**values: Any) -> Edit:
    return lambda tree: tree["attributes"]["ome"]["multiscales"][0].update(values)


def change_ome(**values: Any) -> Edit:
    return lambda tree: tree["attributes"]["ome"].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_ome(multiscales=[]), "lists 0 pictures"),
        (change_ome(multiscales=[{}, {}]), "lists 2 pictures"),
        (change_ome(multiscales=[{}]), "no 'axes'"),
        (change_ome(multiscales=7), "what it says of itself as OME-Zarr is not read"),
        (change_picture(datasets=[]), "it lists 0 levels"),
        (change_picture(datasets=[{"path": "../a.zarr/0"}]), "which leads out of its folder"),
        (change_picture(datasets=[{"path": "7"}]), "a level of the picture is missing"),
        (change_picture(datasets=[{"path": "0"}, {"path": "0"}]), "level 1 of 205 x 151 px is not level 0 in small"),
        (change_picture(axes=[{"name": "c"}, {"name": "y"}]), "its axes are c, y"),
        (change_picture(axes=[{"name": "q"}, {"name": "y"}, {"name": "x"}]), "its axes are q, y, x"),
        (change_picture(axes=[{"name": "y"}, {"name": "x"}]), "its axes are y, x"),
        (change_picture(axes=[{"name": name} for name in "tyx"]), "has 1 channels, 1 depths and 3 times"),
        (change_picture(axes=[{"name": name} for name in "zyx"]), "has 1 channels, 3 depths and 1 times"),
        (change_ome(plate={}), "is a `plate` of OME-Zarr"),
        (change_ome(**{"image-label": {}}), "is a `image-label` of OME-Zarr"),
        (lambda tree: tree.update(attributes={}), "no 'multiscales'"),
        (lambda tree: tree.update(attributes=[]), "no 'multiscales'"),
        (lambda tree: tree.update(attributes={"manifest": {}}), "is a magstain store, not a picture: `python -m train"),
        (lambda tree: tree.update(node_type="array"), "is one array of a Zarr; give the folder around it"),
    ],
)
def test_a_folder_of_another_kind_says_what_it_is(tmp_path: Path, change: Edit, words: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS)
    edit(path / "zarr.json", change)
    with pytest.raises(PictureError) as caught:
        open_source(path, MEMORY)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_four_channels_are_counted(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", np.concatenate([PIXELS, PIXELS[..., :1]], axis=2))
    assert refusal(path).startswith("has 4 channels, 1 depths and 1 times; a picture has red, green and blue, or grey")


def test_the_single_picture_of_bioformats2raw_is_taken(tmp_path: Path) -> None:
    outer = tmp_path / "a.zarr"
    write_zarr(outer / "0", PIXELS, version=2)
    (outer / "OME").mkdir()
    (outer / ".zgroup").write_text('{"zarr_format": 2}')
    (outer / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    with closing(open_source(outer, MEMORY)) as source:
        assert (whole(source) == PIXELS).all()
    shutil.copytree(outer / "0", outer / "1")
    assert refusal(outer).startswith(f"holds 2 pictures; give the folder of one, such as {outer / '0'}")


def test_an_array_a_store_and_an_empty_folder(tmp_path: Path, copied: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS, version=2)
    assert refusal(path / "0").startswith("is one array of a Zarr; give the folder around it")
    assert refusal(copied).startswith("is a magstain store, not a picture")
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == "is a folder, not a picture; name a file"


def test_chunks_that_do_not_fit_are_refused_with_both_numbers(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS)
    with pytest.raises(PictureError, match=r"chunks of \[3, 64, 64\], which take 0.0 GiB .* --set memory=GIB"):
        open_source(path, 6 * 3 * 64 * 64 - 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"a": 1, "a": 2}', "[" * 100_000])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", PIXELS)
    for file in (path / "0" / "zarr.json", path / "zarr.json"):
        file.write_text(text)
        with pytest.raises(PictureError, match=r"zarr.json: cannot be read"):
            open_source(path, MEMORY)
