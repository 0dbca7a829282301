"""The convolutions of a dense block compile to machine code for NVIDIA cards, which needs no card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT

pytest.importorskip("triton", reason="Triton is on Linux only")

SHARED = 99 * 1024  # bytes for a program on cards for players: sm_86, sm_89, sm_120
SHAPES = [[64, 32, 0], [96, 32, 0], [128, 32, 0], [160, 32, 0], [192, 64, 1], [192, 64, 2]]  # inputs, outputs, sums


@pytest.mark.parametrize(("capability", "dtype"), [(80, "bf16"), (90, "fp16")])
def test_every_convolution_uses_tensor_cores_and_reads_ahead(capability: int, dtype: str, tmp_path: Path) -> None:
    """Nothing goes through the stack, and the next tiles are copied, 16 bytes at once, while one is multiplied."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.compile_dense_kernels", str(capability), dtype],
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert [shape for shape, _ in made] == SHAPES
    for _, one in made:
        assert one["products"] > 0
        assert one["copies"] > 0
        assert one["stack"] == 0
        assert one["shared"] <= SHARED
