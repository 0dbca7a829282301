"""How much of the machine a build uses: pairs per second against the bare calls that it cannot do without.

The floor is what decoding, resizing, packing and writing cost with nothing around them: no checks, no digests, no
journal, no syncing. It is measured in the same run, on one thread and on as many as the build has; builds and floors
take turns, and each number is the best of its rounds.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import cv2
import numcodecs
import numpy as np

from prep.build.run import build
from prep.build.runner import Processes
from prep.settings import Enlarger, PrepSettings
from prep.tiles.discovery import Data
from store.process import keep_freed_memory
from tests.bench.pictures import Pixels, find_sets

ROUNDS = 3
PAIRS = 96
TEST = 16  # of them held out
TILE, VIEW, MARGIN = 1024, 512, 16  # px
QUALITY = 95  # of the JPEG tiles, as MIST's are near that
THREADS = os.cpu_count() or 1


def write_pairs(folder: Path, pairs: int, side: int = TILE, held_out: int = TEST) -> None:
    """Pairs in MIST layout: each tile is put together from four pictures of real tissue where there are any."""
    tiles = find_sets(None).tiles
    for part, first, last in (("train", 0, pairs - held_out), ("val", pairs - held_out, pairs)):
        for stain in "AB":
            (folder / f"{part}{stain}").mkdir(parents=True)
        for index in range(first, last):
            for shift, stain in enumerate("AB"):
                tile = mosaic(tiles, index + 7 * shift)[:side, :side]
                file = folder / f"{part}{stain}" / f"slide{index % 9}_{index}_0.jpg"
                cv2.imwrite(str(file), tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def mosaic(tiles: Pixels, index: int) -> Pixels:
    """A tile of 1024 px, u8 [T,T,3]."""
    a, b, c, d = (np.roll(tiles[(index + n) % len(tiles)], 13 * index, axis=n % 2) for n in range(4))
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def settings(**changes: object) -> PrepSettings:
    """Recipe `paper` as it is by default, enlarged by a plain filter."""
    return PrepSettings(**{"upscaler": Enlarger.LANCZOS, "view_side": VIEW, "margin": MARGIN, **changes})  # type: ignore[arg-type]


def bare_pair(he: Path, ihc: Path, out: Path) -> None:
    """The calls that a pair cannot do without: 2 decoded, 6 resized, 8 packed and written."""
    blosc = numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=3 * TILE * TILE)
    packed: list[bytes] = []
    for file in (he, ihc):
        decoded = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None, file
        tile = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        field = cv2.resize(tile, (VIEW, VIEW), interpolation=cv2.INTER_AREA)
        pictures = [tile, field]
        for zoom in (2, 4):
            patch = field[: VIEW // zoom + 2 * MARGIN, : VIEW // zoom + 2 * MARGIN]
            side = zoom * patch.shape[0]
            window = cv2.resize(patch, (side, side), interpolation=cv2.INTER_LANCZOS4)
            pictures.append(window[:VIEW, :VIEW])
        packed += [blosc.encode(np.ascontiguousarray(picture.transpose(2, 0, 1))) for picture in pictures]
    with out.open("wb") as stream:
        for data in packed:
            stream.write(data)


def floor(data: Path, out: Path, threads: int) -> float:
    """Seconds for all pairs with nothing but the bare calls."""
    pairs = [(he, Path(str(he).replace("A/", "B/"))) for he in sorted(data.glob("*A/*.jpg"))]
    cv2.setNumThreads(1)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda n: bare_pair(*pairs[n], out / f"{n}.bin"), range(len(pairs))))
    seconds = time.perf_counter() - start
    cv2.setNumThreads(-1)
    return seconds


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for one round."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def time_build(data: Path, out: Path, **changes: object) -> float:
    """Seconds of a whole build: check, plan, units, seal."""
    start = time.perf_counter()
    with redirect_stderr(StringIO()):
        processes = Processes(threads=THREADS)
        build(settings(**changes), Data(he=data, ihc=data), out / "s.zarr", skip_bad=False, processes=processes)
    return time.perf_counter() - start


def best(rounds: list[dict[str, float]], name: str) -> float:
    """The shortest time of a column."""
    return min(times[name] for times in rounds)


def main() -> None:
    """Measure and print the table."""
    keep_freed_memory()  # as the command does
    parser = argparse.ArgumentParser(description="Pairs per second of a build without super-resolution.")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "tiles"
        write_pairs(data, pairs)
        calls: dict[str, Callable[[Path], float]] = {
            "bare calls, 1 thread": lambda out: floor(data, out, 1),
            f"bare calls, {THREADS} threads": lambda out: floor(data, out, THREADS),
            f"prep build, {THREADS} threads": lambda out: time_build(data, out),
        }
        rounds: list[dict[str, float]] = []
        for _ in range(ROUNDS):
            rounds.append({})
            for name_, call in calls.items():
                with scratch(Path(name)) as out:
                    rounds[-1][name_] = call(out)
    one, all_, ours = calls
    print(f"{pairs} pairs of {TILE} px JPEG, recipe paper, Lanczos, one process, {THREADS} cores\n")
    print("| | pairs/s | of the bare calls on 1 thread | on all threads |\n|---|--:|--:|--:|")
    for name_ in calls:
        seconds = best(rounds, name_)
        shares = " | ".join(f"{best(rounds, floor_) / seconds:.0%}" for floor_ in (one, all_))
        print(f"| {name_} | {pairs / seconds:.2f} | {shares} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of the process {peak:.0f} MB; {ours} is the whole command after its imports", file=sys.stdout)


if __name__ == "__main__":
    main()
