"""Compact stores: JPEG-XL inside Zarr, lossless, the same bytes everywhere; errors where it is not installed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.registry import get_codec_class

from prep.build.manifest import plan_manifest
from prep.build.plan import make_plan
from prep.settings import Enlarger, PrepSettings
from prep.views import plan_geometries
from store.format.codec import decode_planes, encode_picture, encoding, require, with_checksum
from store.format.jpegxl import EFFORT, NAME, JpegXl, pack, unpack
from store.format.layout import ArrayPlan
from store.format.manifest import read_root
from store.reader import Store
from store.schema import Codec, Manifest, SchemaError, Split, Stain, StoreError
from store.settings import plain, validate
from store.verify import verify
from store.writing.writer import open_writer
from tests.support.disks import contents
from tests.support.places import ROOT
from tests.support.stores import draw_tile, small_blocks, small_manifest, small_table
from tests.support.tiles import lanczos, single

imagecodecs = pytest.importorskip("imagecodecs", reason="needs the extra compact")

SIDE = 64
AXES = ("pair", "view", "y", "x", "rgb")
INSTALL = r"needs an extra: run `make setup`, or pip install '.\[compact\]'"


def plan(pairs: int, side: int = SIDE, unit: int = 1) -> ArrayPlan:
    return ArrayPlan(
        path="he",
        rows=pairs,
        dtype="uint8",
        shape=(pairs, 1, side, side, 3),
        chunk=(1, 1, side, side, 3),
        shard=(unit, 1, side, side, 3),
        dimensions=AXES,
    )


def create(place: Any, array: ArrayPlan, pictures: NDArray[np.uint8], *, sharded: bool = True) -> None:
    """The array as a store holds it, or with its chunks as files of their own; pictures [N,S,S,3]."""
    created = zarr.create_array(
        place,
        shape=array.shape,
        chunks=array.chunk,
        shards=array.shard if sharded else None,
        dtype="uint8",
        fill_value=0,
        dimension_names=array.dimensions,
        config={"write_empty_chunks": True},
        **encoding(array, Codec.COMPACT),
    )
    created[:, 0] = pictures


def build(path: Path, codec: Codec) -> Store:
    manifest = replace(small_manifest(), codec=codec)
    with open_writer(path, manifest, small_table()) as writer:
        for unit in writer.pending():
            writer.write(unit, small_blocks(manifest, unit))
        writer.seal()
    return Store.open(path)


@pytest.fixture(scope="module")
def compact_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small store, packed as JPEG-XL; read-only."""
    return build(tmp_path_factory.mktemp("compact") / "small.zarr", Codec.COMPACT)


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)


def odd_pictures() -> dict[str, NDArray[np.uint8]]:
    """Pictures that a codec might treat specially: flat, grey, of few colours, noise, of odd sides."""
    noise = np.random.default_rng(0).integers(0, 256, (257, 257, 3), dtype=np.uint8)
    ramp = np.arange(SIDE * SIDE * 3, dtype=np.uint32).reshape(SIDE, SIDE, 3)
    return {
        "black": np.zeros((SIDE, SIDE, 3), np.uint8),
        "white": np.full((SIDE, SIDE, 3), 255, np.uint8),
        "one colour": np.broadcast_to(np.array([3, 200, 77], np.uint8), (SIDE, SIDE, 3)).copy(),
        "grey": np.repeat(draw_tile(SIDE, 1)[..., :1], 3, axis=2),
        "two values": (noise[:SIDE, :SIDE] > 127).astype(np.uint8) * 255,
        "every step": (ramp % 256).astype(np.uint8),
        "noise over two groups": noise,
        "smallest view": noise[:16, :16],
        "tissue": draw_tile(200, 2),
    }


@pytest.mark.parametrize("name", odd_pictures())
def test_every_picture_comes_back_exactly(name: str) -> None:
    picture = odd_pictures()[name]
    back = np.full(picture.shape, 99, np.uint8)
    for effort in (1, 2, 3):
        unpack(pack(picture, effort), back)
        assert (back == picture).all()


def test_a_store_of_either_codec_holds_the_same_pictures(small_store: Store, compact_store: Store) -> None:
    assert compact_store.manifest.codec is Codec.COMPACT
    assert small_store.manifest.codec is Codec.PORTABLE
    group: Any = zarr.open(compact_store.path, mode="r")
    for split, pairs in small_store.manifest.counts.items():
        for view in small_store.views(split):
            for stain in Stain:
                for pair in range(pairs):
                    expected = small_store.picture(split, view, stain, pair)
                    assert (compact_store.picture(split, view, stain, pair) == expected).all()
                    assert (np.squeeze(group[f"{split}/{view}/{stain}"][pair]) == expected).all()
                assert compact_store.box(split, view, 0) == small_store.box(split, view, 0)
    assert verify(compact_store.path).intact


def test_a_compact_store_is_built_twice_with_the_same_bytes(compact_store: Store, tmp_path: Path) -> None:
    with zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1}):
        again = build(tmp_path / "small.zarr", Codec.COMPACT)
    assert contents(again.path) == contents(compact_store.path)


def test_the_metadata_say_that_a_chunk_is_one_jpeg_xl_picture_with_a_checksum(compact_store: Store) -> None:
    for array, side in (("train/x4/ihc", 64), ("test/tile/he", 128)):
        document = json.loads((compact_store.path / array / "zarr.json").read_bytes())
        (sharding,) = document["codecs"]
        assert sharding["name"] == "sharding_indexed"
        assert [n for n in sharding["configuration"]["chunk_shape"] if n > 1] == [side, side, 3]
        assert sharding["configuration"]["codecs"] == [
            {"name": NAME, "configuration": {"effort": EFFORT}},
            {"name": "crc32c"},
        ]
    boxes = json.loads((compact_store.path / "train/x4/box/zarr.json").read_bytes())
    assert NAME not in json.dumps(boxes)


def test_a_chunk_is_a_bare_codestream_that_any_decoder_opens(tmp_path: Path) -> None:
    picture = draw_tile(SIDE, 3)
    create(tmp_path / "he.zarr", plan(1), picture[None], sharded=False)
    chunk = (tmp_path / "he.zarr/c/0/0/0/0/0").read_bytes()
    assert chunk[:2] == b"\xff\x0a"  # how a JPEG-XL codestream begins
    assert chunk == with_checksum(pack(picture)) == encode_picture(picture, Codec.COMPACT)
    assert (imagecodecs.imread(chunk[:-4], codec="jpegxl") == picture).all()


@pytest.mark.parametrize("sharded", [False, True])
def test_zarr_reads_and_writes_parts_of_it(tmp_path: Path, sharded: bool) -> None:
    pictures = np.stack([draw_tile(SIDE, 4, n) for n in range(5)])
    create(tmp_path / "he.zarr", plan(5, unit=5), pictures, sharded=sharded)
    array: Any = zarr.open_array(tmp_path / "he.zarr", mode="r+")
    assert (array[:, 0] == pictures).all()
    assert (array[1:4, 0, 5:9, 7, 2] == pictures[1:4, 5:9, 7, 2]).all()
    array[2, 0, 10:20] = 7
    pictures[2, 10:20] = 7
    assert np.array_equal(np.asarray(zarr.open_array(tmp_path / "he.zarr", mode="r")[:, 0]), pictures)


def test_zarr_finds_the_codec_by_its_entry_point_and_says_nothing(compact_store: Store) -> None:
    program = (
        "import sys, zarr; group = zarr.open(sys.argv[1], mode='r'); assert 'store.format.jpegxl' not in sys.modules\n"
        "assert sorted(group['train'].keys()) == ['pair', 'tile', 'unit', 'x1', 'x2', 'x4']\n"
        "print(group['train/x4/he'][0, 0].sum(), 'numcodecs.zarr3' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(compact_store.path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split()[0] == str(compact_store.picture(Split.TRAIN, "x4", Stain.HE, 0).sum())


def test_the_bytes_do_not_depend_on_threads() -> None:
    large = draw_tile(600, 6)  # 3 x 3 groups of JPEG-XL
    options: dict[str, Any] = {"lossless": True, "effort": EFFORT}
    packed = {bytes(imagecodecs.jpegxl_encode(large, numthreads=n, **options)) for n in (None, 0, 1, 2, 5)}
    assert packed == {pack(large)} == {pack(large)}

    files: set[tuple[tuple[str, bytes], ...]] = set()
    pictures = np.stack([draw_tile(300, 7, n) for n in range(6)])
    for workers in (1, 2, 6):
        with zarr.config.set({"threading.max_workers": workers, "async.concurrency": workers}):
            held: dict[str, Any] = {}
            create(zarr.storage.MemoryStore(held), plan(6, side=300, unit=3), pictures)
            files.add(tuple((name, held[name].to_bytes()) for name in sorted(held)))
    assert len(files) == 1


def test_pictures_are_packed_and_unpacked_in_many_threads_at_once() -> None:
    pictures = [draw_tile(150, 8, n) for n in range(8)]
    expected = [pack(picture) for picture in pictures]
    wrong: list[int] = []

    def work(n: int) -> None:
        back = np.empty_like(pictures[n])
        for _ in range(10):
            unpack(expected[n], back)
            if pack(pictures[n]) != expected[n] or (back != pictures[n]).any():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_processors_of_every_kind_write_the_same_bytes() -> None:
    """Effort 1 fails here: of this very picture it makes other bytes where the processor has AVX-512 than elsewhere."""
    if not imagecodecs.jpegxl_version().startswith("libjxl 0.11."):
        pytest.skip("the digest is that of libjxl 0.11.0 to 0.11.2")
    y, x, colour = np.ogrid[:300, :300, :3]
    waves = (x * x // 50 + y * (colour + 1) + x * y // 90) % 160 + 40
    grain = np.random.default_rng(9).integers(0, 12, (300, 300, 3))
    picture = (waves + grain).astype(np.uint8)
    picture[100:, 150:] = 240
    digest = hashlib.sha256(pack(picture)).hexdigest()
    assert digest[:16] == "cf24f826368d6c79"  # made with AVX-512 (AMD Zen 4); the same with AVX2 and SSE4, emulated


@pytest.fixture
def chunk() -> bytes:
    return with_checksum(pack(draw_tile(SIDE, 5)))


def test_planes_of_a_chunk_are_the_picture_transposed(chunk: bytes) -> None:
    planes = np.zeros((3, SIDE, SIDE), np.uint8)
    decode_planes(chunk, planes, Codec.COMPACT)
    assert (planes == draw_tile(SIDE, 5).transpose(2, 0, 1)).all()
    assert not (planes == draw_tile(SIDE, 5).transpose(2, 1, 0)).all()


def test_every_flipped_bit_is_noticed(chunk: bytes) -> None:
    planes = np.empty((3, SIDE, SIDE), np.uint8)
    for bit in np.random.default_rng(0).choice(8 * len(chunk), 300, replace=False):
        altered = bytearray(chunk)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreError, match="checksum is wrong"):
            decode_planes(bytes(altered), planes, Codec.COMPACT)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda packed: b"", id="empty"),
        pytest.param(lambda packed: packed[: len(packed) // 2], id="cut"),
        pytest.param(lambda packed: packed[:40] + bytes(200) + packed[240:], id="overwritten"),
        pytest.param(lambda packed: bytes(1000), id="zeros"),
        pytest.param(lambda packed: pack(draw_tile(SIDE + 1, 5)), id="another side"),
        pytest.param(
            lambda packed: imagecodecs.jpegxl_encode(draw_tile(SIDE, 5)[..., 0], lossless=True), id="no colours"
        ),
        pytest.param(
            lambda packed: imagecodecs.jpegxl_encode(draw_tile(SIDE, 5).astype(np.uint16), lossless=True), id="16 bit"
        ),
    ],
)
def test_a_chunk_with_a_fitting_checksum_but_without_our_picture_is_an_error(tmp_path: Path, body: Any) -> None:
    chunk = with_checksum(bytes(body(pack(draw_tile(SIDE, 5)))))
    with pytest.raises(StoreError, match=r"not a JPEG-XL picture u8 \[64, 64, 3\]|checksum is wrong"):
        decode_planes(chunk, np.empty((3, SIDE, SIDE), np.uint8), Codec.COMPACT)
    create(tmp_path / "he.zarr", plan(1), draw_tile(SIDE, 5)[None], sharded=False)
    (tmp_path / "he.zarr/c/0/0/0/0/0").write_bytes(chunk)
    with pytest.raises(StoreError, match=r"not a JPEG-XL picture u8 \[64, 64, 3\]"):
        zarr.open_array(tmp_path / "he.zarr", mode="r")[0, 0]


def test_zarr_itself_notices_a_flipped_bit(tmp_path: Path) -> None:
    create(tmp_path / "he.zarr", plan(1), draw_tile(SIDE, 5)[None], sharded=False)
    file = tmp_path / "he.zarr/c/0/0/0/0/0"
    data = file.read_bytes()
    file.write_bytes(data[:500] + bytes([data[500] ^ 16]) + data[501:])
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(tmp_path / "he.zarr", mode="r")[0, 0]


def test_a_chunk_of_two_pictures_or_of_other_numbers_is_refused() -> None:
    two = replace(plan(2), chunk=(2, 1, SIDE, SIDE, 3), shard=(2, 1, SIDE, SIDE, 3))
    with pytest.raises(SchemaError, match=r"a chunk is one picture \[1,…,H,W,3\], not \[2, 1, 64, 64, 3\]"):
        create(zarr.storage.MemoryStore(), two, np.zeros((2, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(SchemaError, match=r"u8 \[H,W,3\], not uint16 \[4, 4, 3\]"):
        pack(np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(SchemaError, match=r"u8 \[H,W,3\], not uint8 \[4, 4, 4\]"):
        pack(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(SchemaError, match=r"effort 12 of codec magstain\.jpegxl: must be 1 to 9"):
        JpegXl(effort=12)


def test_without_the_extra_pictures_say_which_and_all_else_is_read(
    compact_store: Store, without_the_extra: None
) -> None:
    store = Store.open(compact_store.path)
    assert read_root(compact_store.path).manifest.codec is Codec.COMPACT
    assert [pair.id for pair in store.pairs(Split.TEST)] == [f"s3_{n}_0" for n in range(4)]
    assert store.box(Split.TRAIN, "x4", 7).side == 32
    assert verify(compact_store.path).intact
    group: Any = zarr.open(compact_store.path, mode="r")
    assert group["train/x4/box"].shape == (8, 1, 3)
    assert group["train/x4/he"].shape == (8, 1, 64, 64, 3)
    for read in (
        lambda: store.picture(Split.TRAIN, "x4", Stain.HE, 0),
        lambda: group["train/x4/he"][0, 0],
        lambda: require(Codec.COMPACT),
    ):
        with pytest.raises(StoreError, match=INSTALL) as caught:
            read()
        assert "\n" not in str(caught.value)
    require(Codec.PORTABLE)


def test_a_build_of_imagecodecs_without_jpeg_xl_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagecodecs.JPEGXL, "available", False)
    with pytest.raises(StoreError, match=INSTALL):
        pack(np.zeros((16, 16, 3), np.uint8))


def test_bare_zarr_without_magstain_names_the_codec_and_reads_the_rest(compact_store: Store) -> None:
    """A process that finds zarr but no entry point of magstain."""
    program = f"""
import importlib.metadata, sys
points = [point for package in importlib.metadata.distributions() for point in package.entry_points]
others = importlib.metadata.EntryPoints(point for point in points if point.name != {NAME!r})
importlib.metadata.entry_points = lambda: others
import zarr
group = zarr.open(sys.argv[1], mode="r")
assert group.attrs["manifest"]["codec"] == "compact"
assert group["train/x4/box"][:].shape == (8, 1, 3) and group["train/pair/id"][0] == "s1_0_0"
try:
    group["train/x4/he"]
except zarr.errors.UnknownCodecError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(compact_store.path)],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=compact_store.path.parent,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"Unknown codec: {NAME!r}\n"


def test_a_portable_store_never_imports_the_extra(small_store: Store) -> None:
    program = (
        "import sys; from store.reader import Store; from store.schema import Split, Stain\n"
        "Store.open(sys.argv[1]).picture(Split.TRAIN, 'x4', Stain.HE, 0); print('imagecodecs' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(small_store.path)]
    assert subprocess.check_output(command, text=True, cwd=ROOT) == "False\n"


def test_the_codec_is_found_under_its_name() -> None:
    assert get_codec_class(NAME) is JpegXl
    assert JpegXl.from_dict(JpegXl(effort=3).to_dict()) == JpegXl(effort=3) != JpegXl()


def test_a_manifest_from_before_there_was_a_choice_is_portable() -> None:
    tree = plain(small_manifest())
    assert tree.pop("codec") == "portable"
    assert validate(Manifest, tree) == small_manifest()


@pytest.mark.parametrize(("codec", "packers"), [(Codec.PORTABLE, set()), (Codec.COMPACT, {"imagecodecs"})])
def test_the_setting_reaches_the_manifest_with_the_version_of_what_packs(codec: Codec, packers: set[str]) -> None:
    settings = PrepSettings(codec=codec, upscaler=Enlarger.LANCZOS, view_side=64)
    manifest = plan_manifest(settings, small_table(), plan_geometries(settings, 128), synthetic=True)
    assert manifest.codec is codec
    assert manifest.settings["codec"] == codec
    assert {"imagecodecs"} & set(manifest.software) == packers


def test_a_compact_store_is_not_planned_without_the_extra(mist: Path, without_the_extra: None) -> None:
    """Before a picture is read, which takes hours for a large data set."""
    next(mist.rglob("*.png")).write_bytes(b"bad")
    with pytest.raises(StoreError, match=INSTALL):
        make_plan(lanczos(codec=Codec.COMPACT), single(mist), threads=1)
