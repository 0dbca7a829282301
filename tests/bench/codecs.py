"""Codec chains for the picture arrays of a store, measured on real tiles: size, and milliseconds to write and to read.

Run as `python -m tests.bench.codecs [FOLDER]` from the project root; prints the table of `store/README.md`. Times are
processor time per picture of 512 px on one thread with the files in the page cache: the median over rounds, in each of
which every chain has its turn, so that what else runs on the machine meets all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numcodecs
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, TransposeCodec
from zarr.codecs.numcodecs import Delta

from store.format.codec import CHECKSUM, checked, encoding
from store.format.layout import ArrayPlan
from store.schema import Codec
from tests.bench.chains import CHAINS, Chain
from tests.bench.pictures import COUNT, SIDE, Pixels, Sets, find_sets

ROUNDS = 9
WRITES = 3  # rounds of writing, which is slower
ORDERS = {"HWC": (0, 1, 2), "CHW": (2, 0, 1), "CWH": (2, 1, 0), "HCW": (0, 2, 1)}  # the stored axes among y, x, rgb
CHW = ORDERS["CHW"]
WARNING = "Numcodecs codecs are not in the Zarr version 3 spec"
PICTURE = (1, 1, SIDE, SIDE, 3)
TILES = (COUNT, 1, SIDE, SIDE, 3)
AXES = ("pair", "view", "y", "x", "rgb")
PLAN = ArrayPlan(path="", dtype="uint8", shape=TILES, chunk=PICTURE, shard=TILES, dimensions=AXES, rows=COUNT)
OURS = {codec: encoding(PLAN, codec) for codec in Codec}
TIMES = ("write", "ours, one", "ours, all", "zarr, one", "zarr, all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the table: bytes by set, what is timed by column, and the milliseconds of every round."""

    name: str
    stored: dict[str, int]
    calls: dict[str, Callable[[], object]]
    rounds: dict[str, list[float]] = field(default_factory=dict)


def create(path: Path, chain: Chain, pictures: Pixels) -> Any:
    """An array of one shard that holds `pictures` [N,S,S,3]; a chunk is one picture, as in a store."""
    order = ORDERS[chain.order]
    filters: list[Any] = [] if chain.order == "HWC" else [TransposeCodec(order=(0, 1, *(2 + axis for axis in order)))]
    shape = (len(pictures), 1, *pictures.shape[1:])
    array = zarr.create_array(
        path,
        shape=shape,
        chunks=(1, *shape[1:]),
        shards=shape,
        dtype="uint8",
        filters=[*filters, Delta(dtype="|u1")] if chain.delta else filters,
        serializer=chain.serializer,
        compressors=[*chain.compressors, Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[:, 0] = pictures
    return array


def read_index(shard: Path, chunks: int) -> list[tuple[int, int]]:
    """Offset and length of each chunk; they stand at the shard's end."""
    index = np.frombuffer(checked(shard.read_bytes()[-(16 * chunks + CHECKSUM) :]), "<u8")
    return [(int(offset), int(length)) for offset, length in index.reshape(chunks, 2)]


def read_planes(shard: Path, place: tuple[int, int], chain: Chain, out: Pixels) -> None:
    """One picture into `out` [3,S,S] the way `store/reader.py` does it, for any chain."""
    handle = os.open(shard, os.O_RDONLY)
    try:
        packed = checked(os.pread(handle, place[1], place[0]))
    finally:
        os.close(handle)
    if chain.order == "CHW" and not chain.delta:
        chain.decode(packed, out)
        return
    order = ORDERS[chain.order]
    stored = np.empty([(SIDE, SIDE, 3)[axis] for axis in order], np.uint8)
    chain.decode(packed, stored)
    if chain.delta:
        stored = np.cumsum(stored, dtype=np.uint8).reshape(stored.shape)  # what numcodecs' delta does
    out[...] = stored.transpose([order.index(axis) for axis in CHW])


def prepare(chain: Chain, sets: Sets, folder: Path) -> Entry:
    """Write every set with a chain, see that every way of reading gives the tiles back, and say what to time."""
    stored = {name: _stored(create(folder / name, chain, pictures), folder / name) for name, pictures in _all(sets)}
    path = folder / "tiles"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        array: Any = zarr.open(path, mode="r+")
    shard = path / "c/0/0/0/0/0"
    places, mixed = read_index(shard, COUNT), np.random.default_rng(0).permutation(COUNT).tolist()
    batch, one = np.zeros((COUNT, 3, SIDE, SIDE), np.uint8), np.empty((3, SIDE, SIDE), np.uint8)

    def ours(out: Iterable[Pixels], order: Iterable[int]) -> None:
        for planes, n in zip(out, order, strict=False):
            read_planes(shard, places[n], chain, planes)

    def plain(order: Iterable[int]) -> None:
        for n in order:
            one[...] = array[n, 0].transpose(CHW)

    calls: dict[str, Callable[[], object]] = {
        "write": lambda: array.__setitem__((slice(None), 0), sets.tiles),
        "ours, one": lambda: ours(repeat(one), mixed),
        "ours, all": lambda: ours(batch, range(COUNT)),
        "zarr, one": lambda: plain(mixed),
        "zarr, all": lambda: batch.__setitem__(..., array[:, 0].transpose(0, 3, 1, 2)),
    }
    for column in ("ours, all", "zarr, all"):
        batch[...] = 0
        calls[column]()
        assert (batch == sets.tiles.transpose(0, 3, 1, 2)).all(), f"{chain}: {column} does not give the tiles back"
    name = _name(chain)
    return Entry(name=f"{name} (zarr warns: out)" if caught else name, stored=stored, calls=calls)


def _name(chain: Chain) -> str:
    """What a chain is called; a store's own chain with the value of the setting `codec`."""
    name = f"{chain.order}, {chain.name}"
    for codec, ours in OURS.items():
        packers = ("CHW" if ours["filters"] else "HWC", ours.get("serializer", "auto"), *ours["compressors"])
        if (chain.order, chain.serializer, *chain.compressors, Crc32cCodec()) == packers:
            return f"**{name}** ({codec})"
    return name


def prepare_png(sets: Sets, folder: Path) -> Entry:
    """One PNG a picture, at cv2's default level."""
    stored = {name: sum(len(_png(picture)) for picture in pictures) for name, pictures in _all(sets)}
    folder.mkdir()
    files = [folder / f"{n}.png" for n in range(COUNT)]
    for file, picture in zip(files, sets.tiles, strict=True):
        file.write_bytes(_png(picture))
    batch = np.zeros((COUNT, 3, SIDE, SIDE), np.uint8)

    def read() -> None:
        for planes, file in zip(batch, files, strict=True):
            planes[...] = np.asarray(cv2.imread(str(file)))[..., ::-1].transpose(CHW)

    calls: dict[str, Callable[[], object]] = {
        "write": lambda: [file.write_bytes(_png(picture)) for file, picture in zip(files, sets.tiles, strict=True)],
        "ours, all": read,
    }
    return Entry(name="PNG files, cv2", stored=stored, calls=calls)


def _png(picture: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1])


def _all(sets: Sets) -> list[tuple[str, Pixels]]:
    return [("tiles", sets.tiles), *sets.others.items()]


def _stored(array: Any, path: Path) -> int:
    return int((path / "c" / "/".join("0" * array.ndim)).stat().st_size)


def run_round(entries: list[Entry], columns: tuple[str, ...]) -> None:
    """Give every chain its turn at every column, and note milliseconds per picture."""
    for entry in entries:
        for column in columns:
            if column in entry.calls:
                start = time.process_time()
                entry.calls[column]()
                entry.rounds.setdefault(column, []).append((time.process_time() - start) * 1e3 / COUNT)


def line(entry: Entry, sets: Sets, png: Entry) -> str:
    """One row of the table."""
    ratios = [f"{pictures.nbytes / entry.stored[name]:.3f}" for name, pictures in _all(sets)]
    times = [f"{np.median(entry.rounds[column]):.2f}" if column in entry.rounds else "" for column in TIMES]
    size = f"{entry.stored['tiles'] / COUNT / 1e3:.0f}"
    against = f"{entry.stored['tiles'] / png.stored['tiles']:.2f}"
    return f"| {' | '.join([entry.name, size, ratios[0], against, *ratios[1:], *times])} |"


def main() -> None:
    """Measure every chain and print the table."""
    parser = argparse.ArgumentParser(description="Measure codec chains on real tiles and print a Markdown table.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help=f"pictures of at least {SIDE} px")
    sets = find_sets(parser.parse_args().folder)
    cv2.setNumThreads(1)
    numcodecs.blosc.set_nthreads(1)
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    warnings.filterwarnings("ignore", message=WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        png = prepare_png(sets, Path(scratch) / "png")
        entries = [png, *(prepare(chain, sets, Path(scratch) / str(n)) for n, chain in enumerate(CHAINS))]
        for number in range(ROUNDS):
            run_round(entries, TIMES[0 if number < WRITES else 1 :])
    print(f"{COUNT} pictures of {sets.source}; zarr {zarr.__version__}, Python {platform.python_version()}\n")
    columns = ["chain", "kB", "ratio", "of PNG", *(f"ratio, {name}" for name in sets.others), *TIMES]
    print(f"| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    for entry in entries:
        print(line(entry, sets, png))


if __name__ == "__main__":
    main()
