"""How much of a prediction is the network: seconds a picture of `predict` against bare passes of the same network.

A generator of published width with seeded weights, pictures of 512 px, on the CPU. Both ways take turns, and each
number is the best of its rounds. What a picture of 1024 px costs besides, in CPU seconds, says how many pictures a
second a core can feed to a GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import torch

from prep.build.run import build
from prep.build.runner import Processes
from prep.tiles.discovery import Data
from store.reader import TILE, Store
from store.run_files import PredictionFolder, RunFolder
from store.schema import Split, Stain
from tests.bench.pipeline import settings, write_pairs
from tests.support.records import write_facts
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.predict import predict
from train.run.generator_file import FORMAT, GeneratorHeader, load_generator, save_generator
from train.run.inference import Levels, translate
from train.run.picture_set import write_picture
from train.runtime.device import resolve
from train.settings import Precision

PAIRS, ROUNDS = 8, 2
VIEW = "x1"
REPEATS = 8  # of what a picture costs besides the network


@contextmanager
def prepared(pairs: int) -> Iterator[tuple[RunFolder, Store]]:
    """A run that learned nothing, and a store with as many test pairs, of real tissue where there is any."""
    with tempfile.TemporaryDirectory() as temporary, redirect_stderr(StringIO()):
        folder = Path(temporary)
        write_pairs(folder / "tiles", pairs + 1, held_out=pairs)
        data = Data(he=folder / "tiles", ihc=folder / "tiles")
        build(
            settings(),
            data,
            folder / "store.zarr",
            skip_bad=False,
            processes=Processes(threads=len(os.sched_getaffinity(0))),
        )
        store, run = Store.open(folder / "store.zarr"), RunFolder(folder / "run")
        write_facts(run, store, pairs_seen=1)
        recipe = load_recipe([], ["method=attention_gan"])
        header = GeneratorHeader(
            version=FORMAT, method=recipe.method, settings=recipe, seal=store.manifest.seal, step=1, pairs_seen=1
        )
        save_generator(run.generator, build_method(recipe).generator, header)
        yield run, store


class Cost(NamedTuple):
    """Seconds that something took, and CPU seconds of all threads of this process."""

    seconds: float
    cpu: float


def clock(call: Callable[[], object]) -> Cost:
    """What a call costs."""
    start, cpu = time.perf_counter(), time.process_time()
    call()
    return Cost(time.perf_counter() - start, time.process_time() - cpu)


def bare(run: RunFolder, store: Store) -> Cost:
    """The passes of every picture, one after the other, with nothing around them."""
    compute = resolve("cpu", Precision.FP32)
    generator = compute.place(load_generator(run.generator).generator)
    pictures = [store.picture(Split.TEST, VIEW, Stain.HE, row) for row in range(len(store.pairs(Split.TEST)))]
    return clock(lambda: [translate(generator, he, compute.device) for he in pictures])


def whole(run: RunFolder, store: Store) -> Cost:
    """`predict` of a set that is not there."""
    shutil.rmtree(run.path / "predictions", ignore_errors=True)
    with redirect_stderr(StringIO()):
        return clock(lambda: predict(run, store, Split.TEST, VIEW, "cpu"))


def besides(store: Store, folder: Path) -> float:
    """CPU seconds of a picture of 1024 px besides the network: read, round, encode, digest and write."""
    place = PredictionFolder(folder / "besides")
    he = store.picture(Split.TEST, TILE, Stain.HE, 0)
    signed = torch.from_numpy(he).float() / 127.6 - 1  # levels with fractions
    start = time.process_time()
    for _ in range(REPEATS):
        store.picture(Split.TEST, TILE, Stain.HE, 0)
        write_picture(place, "a.png", Levels.of(signed))
    return (time.process_time() - start) / REPEATS


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="How much of a prediction is the network.")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    costs: dict[str, list[Cost]] = {"bare network": [], "predict": []}
    with prepared(asked.pairs) as (run, store):
        for _ in range(asked.rounds):
            costs["bare network"].append(bare(run, store))
            costs["predict"].append(whole(run, store))
        each, side = besides(store, run.path), store.side(VIEW)
        large = store.side(TILE)
    best = {
        way: Cost(*(min(column) / asked.pairs for column in zip(*each, strict=True))) for way, each in costs.items()
    }
    machine = f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"
    print(f"{asked.pairs} pictures of {side} px, attention_gan, fp32, {machine}\n")
    print("| way | s a picture | CPU s a picture |\n|---|--:|--:|")
    for way, cost in best.items():
        print(f"| {way} | {cost.seconds:.2f} | {cost.cpu:.2f} |")
    network, all_of_it = best["bare network"], best["predict"]
    rest = 1 - network.seconds / all_of_it.seconds, 1 - network.cpu / all_of_it.cpu
    print(f"\nEverything but the network: {rest[0]:.1%} of the time of `predict`, {rest[1]:.1%} of its CPU time.")
    print(
        f"A picture of {large} px costs {each * 1000:.0f} ms of CPU besides: {1 / each:.0f} pictures/s for each core."
    )


if __name__ == "__main__":
    main()
