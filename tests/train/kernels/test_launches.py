"""How many kernels a step launches, counted without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.places import ROOT

pytest.importorskip("triton", reason="Triton is on Linux only")

MOST = 1100  # of a step of the paper's method; 4,486 before there were fused kernels
PLAIN = ("reflection_pad2d", "avg_pool2d", "upsample", "native_group_norm", "var_mean")  # what has a fused kernel
UNDO = "where.self_out"  # on a GPU that is one kernel for all tensors


def test_a_step_launches_few_kernels_none_that_has_a_fused_twin_and_no_new_variant_after_the_first_step() -> None:
    """A variant of a kernel is what Triton compiles for the types of arguments, ones among them, and what 16 divides.

    It would be compiled, and loaded, within the capture of a later step, which CUDA does not permit.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.count_launches", "attention_gan"],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts: dict[str, int] = json.loads(done.stdout)
    assert [name for name in counts if name.startswith(PLAIN)] == []
    assert counts.get("zeros.default", 0) == 0  # gradients that nobody asks for
    assert sum(count for name, count in counts.items() if name != UNDO) <= MOST
