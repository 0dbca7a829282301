"""How much of the machine a build uses, with an upscaler that costs nothing: pairs per second, and CPU time a pair.

The bare calls are what cannot be left out: every source is decoded, every picture of the store packed, the bytes of
both digested, on one thread with the pictures in memory. Build and bare calls take turns in one process for each number
of cores; each number is the best of its rounds. Reading the store back before it is sealed is counted for itself.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import prep.build.pipeline as room
from prep.build.run import build
from prep.build.runner import Processes
from prep.settings import Enlarger, PrepSettings
from prep.tiles.discovery import Data
from store.format.codec import encode_picture
from store.images import PictureU8
from store.location.base import Location
from store.machine.cores import count_cores
from store.process import keep_freed_memory
from store.reader import Store
from store.schema import Stain
from tests.bench.pictures import Pixels, find_sets

ROUNDS = 3
PAIRS = 96
TEST = 16  # of them held out
TILE, VIEW, MARGIN = 1024, 512, 16  # px
QUALITY = 95  # of the JPEG tiles, as MIST's are near that
THREADS = count_cores()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of wall time, seconds of CPU time of all threads, and the most memory that the process had, bytes."""

    wall: float
    cpu: float
    peak: int = 0


def write_pairs(folder: Path, pairs: int, side: int = TILE, held_out: int = TEST) -> None:
    """Pairs in MIST layout: each tile is put together from four pictures of real tissue where there are any."""
    tiles = find_sets(None).tiles
    for part, first, last in (("train", 0, pairs - held_out), ("val", pairs - held_out, pairs)):
        for stain in "AB":
            (folder / f"{part}{stain}").mkdir(parents=True)
        for index in range(first, last):
            for shift, stain in enumerate("AB"):
                tile = mosaic(tiles, index + 7 * shift)[:side, :side]
                tile = tile.transpose(1, 0, 2) if part == "val" else tile  # no copy of a tile of train
                file = folder / f"{part}{stain}" / f"slide{index % 9}_{index}_0.jpg"
                cv2.imwrite(str(file), tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def mosaic(tiles: Pixels, index: int) -> Pixels:
    """A tile of 1024 px, u8 [T,T,3]."""
    a, b, c, d = (np.roll(tiles[(index + n) % len(tiles)], 13 * index, axis=n % 2) for n in range(4))
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def settings(**changes: object) -> PrepSettings:
    """Recipe `paper` as it is by default, enlarged by a plain filter."""
    return PrepSettings(**{"upscaler": Enlarger.LANCZOS, "view_side": VIEW, "margin": MARGIN, **changes})  # type: ignore[arg-type]


class Repeat:
    """An upscaler that costs nothing."""

    def enlarge(self, pictures: PictureU8, factor: int, names: Sequence[str] = ()) -> PictureU8:
        """Each pixel, repeated."""
        count, height, width, _ = pictures.shape
        enlarged = np.empty((count, factor * height, factor * width, 3), np.uint8)
        for picture, out in zip(pictures, enlarged, strict=True):
            cv2.resize(picture, out.shape[1::-1], dst=out, interpolation=cv2.INTER_NEAREST)
        return enlarged


def timed(work: Callable[[], object]) -> Cost:
    """What some work takes, all threads of this process together."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


def build_store(data: Path, out: Path, **changes: object) -> None:
    """A whole build: check, plan, units, seal."""
    processes = Processes(threads=THREADS)
    build(settings(**changes), Data(he=data, ihc=data), out, skip_bad=False, processes=processes)


def read_back(location: Location, names: Sequence[str]) -> None:
    """What a build does before it seals a store."""
    location.forget(names)
    for name in names:
        location.digest(name)
        location.forget([name])


def bare_calls(store: Store, data: Path) -> Callable[[], None]:
    """What nothing can do without: decode every source, pack every picture of the store, digest both."""
    units = [(split, row) for split, count in store.manifest.counts.items() for row in range(count)]
    views = ["tile", *(view.name for view in store.manifest.views)]
    pictures = {
        (split, row): [
            store.picture(split, view, stain, row)
            for view in views
            if view != "tile" or store.manifest.has_tiles(split)
            for stain in Stain
        ]
        for split, row in units
    }
    sources = {(split, row): store.pairs(split)[row] for split, row in units}

    def call() -> None:
        for key, stored in pictures.items():
            for name in (sources[key].he, sources[key].ihc):
                source = (data / name).read_bytes()
                hashlib.sha256(source).digest()
                with Image.open(io.BytesIO(source)) as image:
                    np.asarray(image)
            for picture in stored:
                hashlib.sha256(encode_picture(picture)).digest()

    return call


def measure(data: Path, scratch: Path) -> dict[str, Cost]:
    """The costs on the cores of this process: build, reading back, bare calls, each the best of some rounds."""
    keep_freed_memory()  # as the command does
    room.make_upscaler = lambda _: Repeat()  # type: ignore[assignment, attr-defined, unused-ignore] # costs nothing
    cv2.setNumThreads(1)
    rounds: list[dict[str, Cost]] = []
    for number in range(ROUNDS):
        out = scratch / f"{number}.zarr"
        with redirect_stderr(StringIO()):
            costs = {"build": timed(lambda out=out: build_store(data, out))}  # type: ignore[misc]
        store = Store.open(out)
        names = list(store.location.names())
        costs["reading back"] = timed(lambda: read_back(store.location, names))  # noqa: B023 # called at once
        costs["bare calls"] = timed(bare_calls(store, data))
        rounds.append(costs)
        shutil.rmtree(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    best = {what: min((costs[what] for costs in rounds), key=lambda cost: cost.cpu) for what in rounds[0]}
    return best | {"build": Cost(wall=min(costs["build"].wall for costs in rounds), cpu=best["build"].cpu, peak=peak)}


def on_cores(cores: int, data: Path, scratch: Path) -> dict[str, Cost]:
    """The costs in a process that may use so many cores."""
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    words = [sys.executable, "-m", "tests.bench.pipeline", "--data", str(data), "--scratch", str(scratch)]
    done = subprocess.run(["taskset", "-c", chosen, *words], check=True, stdout=subprocess.PIPE)
    return {what: Cost(**cost) for what, cost in json.loads(done.stdout).items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="A build whose upscaler costs nothing against what it must do.")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--data", type=Path, help="measure with these tiles, on the cores of this process, as JSON")
    parser.add_argument("--scratch", type=Path)
    given = parser.parse_args()
    if given.data:
        print(json.dumps({what: asdict(cost) for what, cost in measure(given.data, given.scratch).items()}))
        return
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "tiles"
        write_pairs(data, given.pairs)
        on = {cores: on_cores(cores, data, Path(name)) for cores in sorted({1, min(2, THREADS), THREADS})}
    print(f"{given.pairs} pairs of {TILE} px JPEG, recipe paper, an upscaler that repeats pixels\n")
    print("| cores | pairs/s | of one core | ms of CPU a pair | of the bare calls | reading back, ms | peak memory |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for cores, costs in on.items():
        whole, back, bare = costs["build"], costs["reading back"], costs["bare calls"]
        ms = [1000 * seconds / given.pairs for seconds in (whole.cpu - back.cpu, back.cpu, bare.cpu)]
        print(
            f"| {cores} | {given.pairs / whole.wall:.1f} | x {on[1]['build'].wall / whole.wall:.2f} | {ms[0]:.1f} | "
            f"x {ms[0] / ms[2]:.2f} of {ms[2]:.1f} | {ms[1]:.1f} | {whole.peak / 1e9:.2f} GB |"
        )


if __name__ == "__main__":
    main()
