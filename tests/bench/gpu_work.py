"""What a GPU does beside training: a build, translating; and scoring, which needs none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

from store.reader import TILE, Store
from store.run_files import RunFolder
from store.schema import Split, Stain
from tests.bench.gpu_machine import Machine, table
from tests.support.stores import build_small_store
from tests.support.untrained_run import make_run
from train import predict as predicting
from train.run.generator_file import load_generator
from train.run.inference import translate
from train.runtime.device import resolve
from train.settings import Precision

TRANSLATED, SCORED = 24, 6  # pictures


@contextmanager
def prepared(machine: Machine, pictures: int) -> Iterator[tuple[RunFolder, Store, float]]:
    """A run that learned nothing, a store, and the seconds of its build without super-resolution."""
    with tempfile.TemporaryDirectory() as temporary, redirect_stderr(StringIO()):
        folder = Path(temporary)
        if machine.dry:
            start = time.perf_counter()
            store = build_small_store(folder / "store.zarr")
            yield make_run(folder / "run", store), store, time.perf_counter() - start
            return
        from tests.bench.predicting import prepared as prepare

        start = time.perf_counter()
        with prepare(pictures) as (run, store):
            yield run, store, time.perf_counter() - start


def measure_build(machine: Machine) -> None:
    """A whole build with super-resolution against the network alone."""
    if machine.dry:
        with prepared(machine, SCORED) as (_, store, seconds):
            print(f"{sum(store.manifest.counts.values()) / seconds:.1f} pairs/s, enlarged by a plain filter")
        return
    words = [sys.executable, "-m", "tests.bench.enlarging", "--pairs", "12"]
    left = max(1, machine.until - time.time())
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=left)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    print(done.stdout)


def measure_predict(machine: Machine) -> None:
    """Pictures a second of `predict`: at its first start, then warm, without and with a search; the network alone."""
    with prepared(machine, TRANSLATED) as (run, store, _):
        count, side = len(store.pairs(Split.TEST)), store.side(TILE)
        print(f"{count} pictures of {side} px, fp32.\n")
        table(["", "pictures/s"])

        def whole() -> list[str]:
            shutil.rmtree(run.path / "predictions", ignore_errors=True)
            seconds = machine.seconds(lambda: predicting.predict(run, store, Split.TEST, TILE, str(machine.device)))
            return [f"{count / seconds:.1f}"]

        machine.row(["predict, first"], whole)
        machine.row(["predict, again"], whole)
        before, predicting.SEARCHED = predicting.SEARCHED, 1
        machine.row(["predict, first with a search, as of 100 pictures on"], whole)
        machine.row(["predict, again with one"], whole)
        predicting.SEARCHED = before
        compute = resolve(str(machine.device), Precision.FP32)
        generator = compute.place(load_generator(run.generator).generator)
        he = store.picture(Split.TEST, TILE, Stain.HE, 0)
        each = machine.median(lambda: translate(generator, he, compute.device))
        print(f"| the network alone | {1 / each:.1f} |", flush=True)


def measure_score(machine: Machine) -> None:
    """Seconds a picture of a scoring without networks, at first and with the baselines' numbers in the cache."""
    from tests.support.predictions import fabricate, scored_run

    with prepared(machine, SCORED) as (run, store, _):
        fabricate(run.path, store)
        count = len(store.pairs(Split.TEST))
        table(["", "s a picture"])
        for what in ("score, first", "score, again"):
            seconds = machine.seconds(lambda: scored_run(run.path, store))
            print(f"| {what} | {seconds / count:.2f} |", flush=True)
