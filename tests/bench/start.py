"""From the command to the end of the first step on the demo, without compilation, and the checkpoint of that step."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

STORE, CONFIG = Path("data/demo.zarr"), Path("train/presets/demo.toml")
ROUNDS = 3


def main() -> None:
    """The best of some starts that are told to leave at once: they take one step, save and exit with 3."""
    if not STORE.exists():
        sys.exit(f"no {STORE}: run `make demo` or `make prepare` first")
    seconds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            words = ["fit", "--store", STORE, "--run", Path(folder) / "run", "--config", CONFIG]
            start = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "train", *map(str, words), "--set", "time_limit=1e-6"],
                check=False,
                capture_output=True,
                text=True,
            )
            seconds.append(time.monotonic() - start)
            assert done.returncode == 3, done.stderr
    print(f"start, one step, checkpoint: {min(seconds):.1f} s (best of {ROUNDS}; all {[round(s, 1) for s in seconds]})")


if __name__ == "__main__":
    main()
