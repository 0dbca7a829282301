"""Two Dask workers against one, each on one thread: whole builds with super-resolution on processes that are warm.

Start-up is excluded: the workers stand, and have the networks loaded, before the clock starts. What it measures begins
with the check of the tiles and ends with the seal.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster

from prep.build.cluster import _load
from prep.build.plan import make_plan
from prep.build.run import build
from prep.build.runner import Processes
from prep.settings import Enlarger
from prep.tiles.discovery import Data
from prep.upscaling.choosing import choose
from store.cluster.client import LOOPBACK, PRE_SPAWN
from store.cluster.workers import Workers
from store.process import KEEPING
from store.weights import FOLDER_VARIABLE
from tests.bench.networks import PUBLISHED, installed
from tests.bench.pipeline import settings, write_pairs

PAIRS = 6
COUNTS = (1, 2)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")

PRELOAD = """
from pathlib import Path
import cv2, torch
torch.set_num_threads(1)
cv2.setNumThreads(1)
if {seeded}:
    from tests.bench.networks import know
    know(Path({folder!r}))
"""


@contextmanager
def cluster(workers: int, preload: str) -> Iterator[SpecCluster]:
    """Workers of one thread each, on this machine."""
    options = {"nthreads": 1, "preload": [preload], "silence_logs": logging.ERROR}
    dask.config.set({PRE_SPAWN: KEEPING | ONE_THREAD})
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": LOOPBACK, "port": 0}}
    with SpecCluster(
        scheduler=scheduler,
        workers={n: {"cls": Nanny, "options": options} for n in range(workers)},
        silence_logs=logging.ERROR,
    ) as made:
        yield made


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Two Dask workers against one, a thread each.")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    pairs = parser.parse_args().pairs
    seconds: dict[int, float] = {}
    with installed() as weights, tempfile.TemporaryDirectory() as name, redirect_stderr(StringIO()):
        data = Data(he=Path(name) / "tiles", ihc=Path(name) / "tiles")
        write_pairs(data.he, pairs, held_out=1)
        chosen = replace(choose(settings(upscaler=Enlarger.BSRGAN, unit=1)), name="tiles")
        plan = make_plan(chosen, data, threads=1)
        preload = PRELOAD.format(seeded=weights is not PUBLISHED, folder=os.environ.get(FOLDER_VARIABLE, ""))
        for workers in COUNTS:
            with cluster(workers, preload) as made:
                with Client(made) as client:
                    client.wait_for_workers(workers)
                    client.run(_load, plan.work.upscaler)
                start = time.perf_counter()
                processes = Processes(threads=1, workers=Workers(scheduler=made.scheduler_address))
                build(chosen, data, Path(name) / f"{workers}.zarr", skip_bad=False, processes=processes)
                seconds[workers] = time.perf_counter() - start
        one, two = (Path(name) / f"{workers}.zarr" for workers in COUNTS)
        same = (one / "zarr.json").read_bytes() == (two / "zarr.json").read_bytes()
        shutil.rmtree(one)
    tflop = plan.flop / 1e12
    print(f"{weights}; {chosen.precision} on {chosen.device}; {pairs} pairs, {tflop:.0f} TFLOP of super-resolution\n")
    print("| workers, one thread each | seconds | pairs/minute | of one worker |\n|--:|--:|--:|--:|")
    for workers, took in seconds.items():
        print(f"| {workers} | {took:.1f} | {60 * pairs / took:.2f} | {seconds[1] / took:.2f} |")
    print(f"\nthe two stores have {'the same seal' if same else 'DIFFERENT SEALS'}", file=sys.stdout)


if __name__ == "__main__":
    main()
