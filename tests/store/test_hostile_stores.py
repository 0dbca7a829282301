"""Stores that were made to harm their reader, under digests and a seal that are right: a message, at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

from store.format.codec import MISSING, decode_planes, encode_picture, frame_size, unpack_text, with_checksum
from store.format.jpegxl import pack
from store.reader import Store
from store.schema import Codec, Split, Stain, StoreError
from store.verify import verify
from tests.support.forgery import forge, overwrite
from tests.support.places import ROOT

SIDE = 64
SHARD = "train/x1/he/c/0/0/0/0/0"
BOUNDED = """
import resource, sys, time
from store.reader import Store, plan_targets
from store.schema import MagstainError, Split, Stain
from store.overview import describe
from store.verify import verify

def use(path):
    store = Store.open(path)
    describe(store)
    for split in store.manifest.counts:
        for target in plan_targets(store, split, "x1"):
            store.box(split, "x1", target.pair, target.index)
            store.picture(split, "x1", Stain.HE, target.pair, target.index)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

use(sys.argv[1])
verify(sys.argv[1])
start = peak()
for path in sys.argv[2:]:
    for what in (use, verify):
        began = time.process_time()
        try:
            what(path)
            said = "nothing"
        except MagstainError as error:
            said = "refused" if len(str(error)) < 1000 else "at length"
        seconds, grown = round(time.process_time() - began, 3), round(peak() - start)
        print(path.rpartition("/")[2], what.__name__, said, seconds, grown)
"""


def in_bounds(sound: Path, paths: list[Path]) -> dict[tuple[str, str], str]:
    """What came of using and verifying each store in a process of its own; each in a second, all of them in 200 MB."""
    command = [sys.executable, "-W", "error", "-c", BOUNDED, str(sound), *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        name, what, said, seconds, grown = line.rsplit(" ", 4)
        assert float(seconds) < 1, line
        assert int(grown) < 200, line
        found[name, what] = said
    return found


def number(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.update({name: value})


NUMBERS: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"{name} {value}": number(name, value)
       for name in ("tile_side", "view_side", "unit", "margin", "skipped") for value in (-1, 10**9, 10**30)},
    "counts": lambda m: m["counts"].update(train=10**12),
    "counts of units": lambda m: m.update(unit=1, counts={"train": 9_999_999, "test": 1}),
    "counts negative": lambda m: m["counts"].update(train=-(10**12)),
    "zoom": lambda m: m["views"][1].update(zoom=10**6),
    "boxes": lambda m: m["views"][1].update(count=10**9),
    "boxes of units": lambda m: (m["views"][1].update(count=4096), m.update(unit=60_000)),
    "views": lambda m: m.update(views=[{"zoom": n + 1, "source": "field", "count": 1} for n in range(50)]),
    "mpp": number("mpp", {"tile": 1e300}),
    "digits": number("seed", 10**300),
    "name": number("name", "\x1b]0;owned\x07"),
    "long name": number("name", "x" * 100_000),
    "software": number("software", {"numpy": "1\x1b[2J"}),
    "format": number("format", "9" * 100_000),
}  # fmt: skip


DOCUMENTS = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"attributes":' * 100_000,
    "nested and closed": b'{"attributes": {"manifest": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "digits": b'{"attributes": ' + b"9" * 1_000_000 + b"}",
    "list": b"[]",
    "number": b"1e400",
    "null": b"null",
    "twice": b'{"attributes": {}, "attributes": {}}',
    "not utf-8": b"\xff\xfe{",
    "empty": b"",
    "blank": b" " * 10_000_000,
}


METADATA: dict[str, dict[str, Any]] = {
    "long": {"shape": [10**12]},
    "negative": {"shape": [-1]},
    "of no axis": {"shape": []},
    "text": {"shape": "x"},
    "other kind": {"data_type": "float64"},
    "other codec": {"codecs": [{"name": "vlen-utf8"}, {"name": "gzip", "configuration": {"level": 1}}]},
    "no codec": {"codecs": []},
    "other keys": {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    "wide": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**12]}}},
    "narrow": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0]}}},
    "no grid": {"chunk_grid": None},
}


def zstd(data: bytes) -> bytes:
    return bytes(numcodecs.zstd.compress(data, 19))


TEXTS = b"\4\0\0\0" + b"".join(len(t).to_bytes(4, "little") + t for t in (b"a", b"b", b"c", b"d"))
BODIES = {
    "bomb": zstd(bytes(1 << 28)),
    "empty": b"",
    "no frame": b"\0" * 40,
    "no size": b"\x28\xb5\x2f\xfd\0" + bytes(40),
    "cut": zstd(b"x" * 300)[:-3],
    "beyond": zstd(TEXTS[:-5] + (1 << 31).to_bytes(4, "little") + b"d"),
    "fewer": zstd(TEXTS[:-5]),
    "more": zstd(TEXTS + b"\0\0\0\0"),
    "not utf-8": zstd(TEXTS[:-1] + b"\xff"),
}
TABLES = {"test/pair/id": "", "train/pair/he_digest": "/0", "test/x1/box": "/0/0"}  # and the end of the name of a file


def asking_for_memory(tree: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The metadata of a table with one thing that this program does not write, by name."""
    for name, change in METADATA.items():
        wider = {"shape": [*change["shape"], *tree["shape"][1:]]} if isinstance(change.get("shape"), list) else {}
        yield name, json.dumps(tree | change | wider).encode()


@pytest.fixture(scope="module")
def outcomes(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What came of using and of verifying each store, all in one process."""
    folder, paths = tmp_path_factory.mktemp("hostile"), list[Path]()
    for name, change in NUMBERS.items():
        paths.append(forge(small_store, folder / f"number {name}", change=change))
    for name, data in DOCUMENTS.items():
        paths.append(forge(small_store, folder / f"root {name}"))
        overwrite(paths[-1] / "zarr.json", data)
    for table, end in TABLES.items():
        documents = {} if end else DOCUMENTS
        metadata = json.loads((small_store.path / table / "zarr.json").read_bytes())
        said = {f"{table}/zarr.json {name}": data for name, data in (*documents.items(), *asking_for_memory(metadata))}
        said |= {f"{table}/c/0{end} {name}": with_checksum(body) for name, body in BODIES.items()}
        for key, data in said.items():
            file, _, name = key.partition(" ")
            path = folder / f"table {file.replace('/', '-')} {name}"
            paths.append(forge(small_store, path, files={file: data}))
    return in_bounds(small_store.path, paths)


def test_numbers_words_and_documents_of_a_root_are_refused_at_once(outcomes: dict[tuple[str, str], str]) -> None:
    names = [*(f"number {name}" for name in NUMBERS), *(f"root {name}" for name in DOCUMENTS)]
    assert {key: said for key, said in outcomes.items() if key[0].startswith(("number", "root"))} == {
        (name, what): "refused" for name in names for what in ("use", "verify")
    }


def test_tables_that_ask_for_memory_are_refused_at_once(outcomes: dict[tuple[str, str], str]) -> None:
    found = {name: said for (name, what), said in outcomes.items() if name.startswith("table") and what == "use"}
    assert len(found) == len(TABLES) * (len(METADATA) + len(BODIES)) + len(DOCUMENTS)
    assert {name: said for name, said in found.items() if said != "refused"} == {}


def test_texts_and_sizes_of_frames_are_those_that_were_written() -> None:
    assert unpack_text(zstd(TEXTS), 4) == ["a", "b", "c", "d"]
    assert [frame_size(zstd(bytes(n))) for n in (0, 100, 300, 70_000, 1 << 28)] == [0, 100, 300, 70_000, 1 << 28]


def chunk(**change: int) -> bytes:
    """A chunk of one picture with other numbers in the header of blosc, and a checksum that is right."""
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    body = bytearray(encode_picture(picture)[:-4])
    for place, value in (("unpacked", 4), ("block", 8), ("packed", 12)):
        if place in change:
            body[value : value + 4] = change[place].to_bytes(4, "little")
    body[0] = change.get("version", body[0])
    return with_checksum(bytes(body[: change.get("length", len(body))]))


@pytest.mark.parametrize("side", [16, SIDE, 512, 4096])
def test_a_chunk_that_says_it_is_longer_is_never_read_beyond_its_end(side: int) -> None:
    """28 bytes with a right checksum: stored, not packed, as long as a picture; blosc copies what lies behind."""
    nbytes = 3 * side * side
    for flags in (0x02, 0x82, 0x84, 0x94):  # copied, zstd
        header = bytes([2, 1, flags, 1]) + b"".join(n.to_bytes(4, "little") for n in (nbytes, nbytes, nbytes + 16))
        with pytest.raises(StoreError, match="its bytes are not a blosc chunk of 24 bytes"):
            decode_planes(with_checksum(header + bytes(8)), np.empty((3, side, side), np.uint8))


@pytest.mark.parametrize(
    "change",
    [{"packed": 0}, {"packed": 28}, {"packed": 2**31 - 1}, {"packed": 2**32 - 1}, {"unpacked": 0}, {"unpacked": 2**31},
     {"unpacked": 3 * SIDE * SIDE + 1}, {"block": 0}, {"block": 2**31 - 1}, {"version": 0}, {"version": 9},
     {"length": 15}, {"length": 16}, {"length": 100}, {"length": 0}],
    ids=str,
)  # fmt: skip
def test_every_length_in_a_header_is_compared(change: dict[str, int]) -> None:
    out = np.empty((3, SIDE, SIDE), np.uint8)
    decode_planes(chunk(), out)
    with pytest.raises(StoreError):
        decode_planes(chunk(**change), out)


@pytest.mark.parametrize("shape", [(32, 32, 3), (128, 128, 3), (64, 128, 3), (1, 1, 3), (8192, 8192, 3)])
def test_a_jpegxl_picture_of_another_side_is_refused(shape: tuple[int, int, int]) -> None:
    pytest.importorskip("imagecodecs")
    out = np.empty((3, SIDE, SIDE), np.uint8)
    with pytest.raises(StoreError, match="JPEG-XL"):
        decode_planes(with_checksum(pack(np.zeros(shape, np.uint8), 1)), out, Codec.COMPACT)


def test_ten_thousand_changed_chunks_are_pictures_or_errors_and_nothing_else() -> None:
    """Bytes behind a header that is right are blosc's own to check; a picture that comes out is the same each time."""
    generator, whole = np.random.default_rng(0), chunk()[:-4]
    smooth = encode_picture(np.zeros((SIDE, SIDE, 3), np.uint8))[:-4]
    outcomes = {"picture": 0, "error": 0}
    for trial in range(10_000):
        body = bytearray(smooth if trial % 2 else whole[: int(generator.integers(17, 400))])
        body[12:16] = len(body).to_bytes(4, "little")
        for place in generator.integers(0 if trial % 3 else 16, len(body), int(generator.integers(1, 5))):
            body[place] = int(generator.integers(256))
        outs = [np.full((3, SIDE, SIDE), fill, np.uint8) for fill in (1, 254)]
        try:
            for out in outs:
                decode_planes(with_checksum(bytes(body)), out)
            outcomes["picture"] += 1
            assert (outs[0] == outs[1]).all()
        except StoreError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 100


def index_of(shard: bytes, chunks: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.frombuffer(shard[-4 - 16 * chunks : -4], "<u8").reshape(chunks, 2).copy()


@pytest.mark.parametrize(
    ("slot", "offset", "length", "said"),
    [
        (0, None, 2**63, "no picture takes"), (0, None, 2**40, "no picture takes"),
        (1, 2**62, None, "no picture takes"),
        (0, 2**63 + 5, None, "no picture takes"), (0, 10**9, None, "too short"), (1, 0, None, "the same bytes"),
        (1, None, 2, "checksum is wrong"), (1, None, 0, "checksum is wrong"),
        (0, int(MISSING), int(MISSING), "never written"),
        (1, int(MISSING), int(MISSING), "never written"),
    ],
)  # fmt: skip
def test_an_index_is_believed_only_as_far_as_it_can_be_true(
    small_store: Store, tmp_path: Path, slot: int, offset: int | None, length: int | None, said: str
) -> None:
    shard = (small_store.path / SHARD).read_bytes()
    index = index_of(shard, 3)
    index[slot] = [index[slot, 0] if offset is None else offset, index[slot, 1] if length is None else length]
    data = shard[: -4 - index.nbytes] + with_checksum(index.tobytes())
    store = Store.open(forge(small_store, tmp_path / "s.zarr", files={SHARD: data}))
    outs = [np.empty((3, SIDE, SIDE), np.uint8) for _ in range(3)]
    with pytest.raises(StoreError, match=said):
        store.many_planes(Split.TRAIN, "x1", Stain.HE, [(0, 0), (1, 0), (2, 0)], outs)
    with pytest.raises(StoreError, match=said):
        store.planes(Split.TRAIN, "x1", Stain.HE, slot)


def test_pictures_that_lie_in_another_order_are_read_as_they_are(small_store: Store, tmp_path: Path) -> None:
    """Zarr may write the chunks of a shard in any order."""
    shard = (small_store.path / SHARD).read_bytes()
    index = index_of(shard, 3)
    parts = [shard[int(offset) : int(offset + length)] for offset, length in index]
    moved = np.array([[sum(map(len, parts[n + 1 :])), len(parts[n])] for n in range(3)], "<u8")  # the last one first
    data = b"".join(parts[::-1]) + with_checksum(moved.tobytes())
    store = Store.open(forge(small_store, tmp_path / "s.zarr", files={SHARD: data}))
    outs = [np.empty((3, SIDE, SIDE), np.uint8) for _ in range(3)]
    store.many_planes(Split.TRAIN, "x1", Stain.HE, [(0, 0), (1, 0), (2, 0)], outs)
    for row, out in enumerate(outs):
        np.testing.assert_array_equal(out, small_store.planes(Split.TRAIN, "x1", Stain.HE, row))


def test_files_outside_a_store_are_not_read_for_it(small_store: Store, tmp_path: Path) -> None:
    path = forge(small_store, tmp_path / "s.zarr")
    for name in ("train/unit/digest/../../../../../dev/zero", "/dev/zero", "train/unit/digest/x\n"):
        tree = json.loads((path / "zarr.json").read_bytes())
        tree["attributes"]["files"][name] = "00" * 32
        (path / "zarr.json").write_text(json.dumps(tree, indent=2))
        with pytest.raises(StoreError, match="does not fit format 1"):
            verify(path)
