"""`python -m tests.bench`: every measurement that a README states, one after the other; or those that are named."""

from __future__ import annotations

import subprocess
import sys

PARTS = {
    "codecs": "size and speed of codec chains",
    "network": "super-resolution: precision, batches, the published script's way",
    "step": "a training step: operations, kept bytes, seconds, as published and with shared passes",
    "footprint": "the memory of a training step on a GPU, computed: by method, side and precision",
    "fast": "a step of ASP against the same written plainly",
    "loader": "CPU time of a pair from the store against decoding and cropping JPEGs",
    "start": "from the command to the first step on the demo",
    "precisions": "loss curves of 200 demo steps in bf16 and fp32",
    "predicting": "a prediction against bare passes of its network, and what a picture costs besides",
    "scoring": "scoring a run with every feature network, against one picture and one network at a time",
    "pixels": "scoring a run without networks, against scikit-image and one set at a time",
    "pipeline": "a whole build without super-resolution against the bare calls",
    "enlarging": "a whole build with super-resolution against the network alone",
    "workers": "two Dask workers against one",
    "opening": "opening a store of a million pairs",
    "gpu": "everything that a GPU does, in six minutes; nothing where there is none",
    "memory": "peak memory of small and large builds",
}


def main() -> None:
    """Run each part in a process of its own, so that none sees what another left."""
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        sys.exit(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    for name in chosen:
        print(f"\n## {name}: {PARTS[name]}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=True)


if __name__ == "__main__":
    main()
