"""CPU time of a training pair: from the store as `train` reads it, against the published way from JPEG tiles.

Both end with a batch of one pair, float32 in [-1, 1], both read without workers, and all threads of the process count.
The published way decodes two JPEG tiles whole, crops the same random window of both, mirrors half of them, and scales:
data/aligned_dataset.py of the ASP repository with torchvision's transforms. Each way has a process of its own with one
thread of torch, as a worker has; each number is the best of its rounds over all pairs.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from prep.build.run import build
from prep.build.runner import Processes
from prep.tiles.discovery import Data
from store.process import keep_freed_memory
from store.reader import Store
from tests.bench.pipeline import THREADS, VIEW, settings, write_pairs
from train.data.batch import Batch
from train.data.loader import read_batches, to_batch
from train.data.sampling import plan_order
from train.methods.recipes import load_recipe

ROUNDS = 5
PAIRS, TEST = 40, 8  # drawn pairs, those of them that are held out
TILES, STORE = "tiles", "s.zarr"  # in the folder of a measurement
PUBLISHED = "JPEG tiles, as published"
MODES: dict[str, tuple[str, ...]] = {
    "store, x1 x2 x4 in random order": (),
    "store, x1 x2 x4 in blocks of 16": ("data.block=16",),
    "store, random crops of tiles": ('data.views=["tile"]',),
}
"""Ways to read the store: what is set besides the defaults."""
BYTES = ", as bytes"  # what a GPU is handed: it flips and scales itself


class JpegPairs(Dataset[dict[str, Tensor]]):
    """The published data set: any index draws a pair, and one seed serves both pictures."""

    def __init__(self, folder: Path) -> None:
        self.he, self.ihc = (sorted((folder / part).glob("*.jpg")) for part in ("trainA", "trainB"))
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(VIEW),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.he)

    def __getitem__(self, _: int) -> dict[str, Tensor]:
        row, seed = random.randrange(len(self)), random.randrange(2**31)
        return {"he": self._picture(self.he[row], seed), "ihc": self._picture(self.ihc[row], seed)}

    def _picture(self, file: Path, seed: int) -> Tensor:
        """A picture, signed [3,S,S]; the transforms draw from torch's global generator."""
        torch.manual_seed(seed)
        with Image.open(file) as picture:
            return cast(Tensor, self.transform(picture.convert("RGB")))


def from_jpegs(folder: Path) -> Iterator[Batch]:
    """An epoch of the published way."""
    loader: DataLoader[Any] = DataLoader(JpegPairs(folder), batch_size=1, shuffle=True, num_workers=0)
    for drawn in loader:
        yield Batch(he=drawn["he"], ihc=drawn["ihc"])


def from_store(store: Store, overrides: Sequence[str], *, scaled: bool) -> Iterator[Batch]:
    """An epoch as `train` reads it, up to floats or to the bytes that go to a GPU."""
    asked = load_recipe([], ["method=attention_gan", *overrides])
    order = plan_order(store, asked.data, seed=0, epochs=1)
    for reading in read_batches(store, order, done=0, workers=0, pin=False):
        yield to_batch(reading, torch.device("cpu")) if scaled else Batch(*reading.pixels.permute(0, 1, 4, 2, 3))


def cpu_milliseconds(batches: Iterator[Batch]) -> float:
    """Process time per pair of all threads."""
    start, count = time.process_time(), 0
    for batch in batches:
        assert batch.he.shape == batch.ihc.shape == (1, 3, VIEW, VIEW)
        count += 1
    return 1000 * (time.process_time() - start) / count


def prepare(folder: Path, pairs: int) -> None:
    """JPEG tiles of 1024 px and a store of them, with a plain filter as the upscaler."""
    tiles = folder / TILES
    write_pairs(tiles, pairs, held_out=TEST)
    with redirect_stderr(StringIO()):
        processes = Processes(threads=THREADS)
        build(settings(), Data(he=tiles, ihc=tiles), folder / STORE, skip_bad=False, processes=processes)


def measure(way: str, folder: Path, rounds: int) -> float:
    """Milliseconds per pair of a way; one more round warms up."""
    torch.set_num_threads(1)  # as in a worker of a loader
    if way == PUBLISHED:
        epoch: Callable[[], Iterator[Batch]] = partial(from_jpegs, folder / TILES)
    else:
        keep_freed_memory()  # as the command does
        mode = MODES[way.removesuffix(BYTES)]
        epoch = partial(from_store, Store.open(folder / STORE), mode, scaled=not way.endswith(BYTES))
    return min([cpu_milliseconds(epoch()) for _ in range(rounds + 1)][1:])


def measure_elsewhere(way: str, folder: Path, rounds: int) -> float:
    """The same in a process of its own."""
    words = [sys.executable, "-m", "tests.bench.loader", "--way", way, "--folder", str(folder), "--rounds", str(rounds)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print the table, or the number of one way."""
    parser = argparse.ArgumentParser(description="CPU time of a training pair.")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--way", help="one of the ways alone, from what lies in --folder")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.way:
        print(measure(asked.way, asked.folder, asked.rounds))
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), asked.pairs)
        ways = [PUBLISHED, *(mode + how for mode in MODES for how in ("", BYTES))]
        best = {way: measure_elsewhere(way, Path(name), asked.rounds) for way in ways}
    print(f"{asked.pairs - TEST} train pairs of 1024 px, batch 1, views of {VIEW} px, no workers\n")
    print("| way | CPU ms per pair | published / this |\n|---|--:|--:|")
    for way, spent in best.items():
        print(f"| {way} | {spent:.1f} | {best[PUBLISHED] / spent:.2f} |")


if __name__ == "__main__":
    main()
