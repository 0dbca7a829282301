"""Whether the memory of a build depends on the data set: peak memory for few and for many pairs, a process each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

COUNTS = (100, 1000, 10_000)
SIDE = 64  # px: small tiles, so that what grows with their number is not hidden by one unit of large ones
SETTINGS = ("upscaler=lanczos", "view_side=32", "margin=4")

BUILD = """
import resource, sys
from prep.__main__ import app
from store.cli import run_app
try:
    run_app(app)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_pairs(folder: Path, count: int) -> None:
    """Pairs of noise in MIST layout, one in ten held out."""
    generator = np.random.default_rng(0)
    files = [bytes(cv2.imencode(".png", generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8))[1]) for _ in range(64)]
    for part, first, last in (("train", 0, count - count // 10), ("val", count - count // 10, count)):
        for shift, stain in enumerate("AB"):
            (folder / f"{part}{stain}").mkdir(parents=True)
            for index in range(first, last):
                data = files[(index + shift) % len(files)]
                (folder / f"{part}{stain}" / f"slide{index % 97}_{index}_0.png").write_bytes(data)


def build(data: Path, store: Path) -> tuple[float, float]:
    """Seconds and peak MB of a build in a process of its own."""
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["build", "--data", str(data), "--store", str(store), *sets]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", BUILD, *words], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print the table."""
    print("| pairs | peak memory, MB | seconds |\n|--:|--:|--:|")
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as scratch:
            write_pairs(Path(scratch) / "tiles", count)
            seconds, peak = build(Path(scratch) / "tiles", Path(scratch) / "s.zarr")
        print(f"| {count:,} | {peak:.0f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
