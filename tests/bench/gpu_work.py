"""What a GPU does beside training: a build, translating; and scoring, which needs none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from store.reader import TILE, Store
from store.run_files import RunFolder
from store.schema import Interrupted, Split, Stain
from tests.bench.gpu_machine import Machine, table
from tests.bench.gpu_steps import FIRST
from tests.support.stores import build_small_store
from tests.support.tiny_run import NARROW
from tests.support.untrained_run import make_run
from train import predict as predicting
from train.methods.recipes import load_recipe
from train.run.generator_file import load_generator
from train.run.inference import translate
from train.runtime.device import resolve
from train.settings import Precision

TRANSLATED, SCORED = 24, 6  # pictures
LOADERS = 6  # processes
BUILT = ("--pairs", "48", "--unit", "8")  # 16 windows of each view in a unit: a whole batch
ENDING = 10  # s in which a run begins and ends


@contextmanager
def prepared(machine: Machine, pictures: int) -> Iterator[tuple[RunFolder, Store, float]]:
    """A run that learned nothing, a store, and the seconds of its build without super-resolution."""
    with TemporaryDirectory() as temporary, redirect_stderr(StringIO()):
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
    words = [sys.executable, "-m", "tests.bench.enlarging", *BUILT]
    left = max(1, machine.until - time.time())
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=left)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    print(done.stdout)


def measure_fit(machine: Machine) -> None:
    """Steps a second of `train fit` from the store, with its loader and reports, after the first two reports."""
    from train.loop.fit import fit  # TensorBoard's package is needed for nothing else

    with prepared(machine, SCORED) as (_run, store, _), TemporaryDirectory() as folder:
        method = "pix2pix" if machine.dry else FIRST[1]
        minutes = max(5.0, machine.until - time.time() - ENDING) / 60
        words = [f"method={method}", "precision=bf16", "optimiser.constant_epochs=5000", f"time_limit={minutes:.3f}"]
        words += ["checkpoint_every=1000000", "sample_every=1000000", "validate_every=0", f"device={machine.device}"]
        tiny = [*NARROW, "generator.depth=5", "optimiser.constant_epochs=7", "optimiser.decay_epochs=0"]
        settings = load_recipe([], [*words, f"data.workers={LOADERS}", *tiny * machine.dry])
        trained = RunFolder(Path(folder) / "run")
        with suppress(Interrupted), redirect_stderr(StringIO()):
            fit(trained, store, settings)
        lines = [json.loads(line) for line in trained.metrics.read_text().splitlines()]
        first, last = lines[min(1, len(lines) - 2)], lines[-1]
        rate = (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
        kind = "bf16" if machine.cuda else "fp32"
        print(f"{method}, {store.side('x1')} px, batch 1, {kind}: {rate:.1f} steps/s, {1000 / rate:.1f} ms a step")


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
