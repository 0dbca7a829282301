"""Every fused kernel compiles to machine code for NVIDIA cards, which needs no card."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import ROOT

pytest.importorskip("triton", reason="Triton is on Linux only")

FOLDER = ROOT / "train" / "kernels"
TARGETS = [(80, "bf16"), (90, "fp32")]  # A100 and H100; others read the same PTX
LAYERS = {"_sum_down", "_sum_across", "_scale", "_dot", "_differentiate"}  # sizes from a table: nothing divides them
PICTURES = {"_level", "_level_backward", "_add_up"}  # of 3 channels; and their partial sums
PATCHES = {"_gather", "_scatter"}  # a pixel each
ADDRESSES = {"_copy_words_if"}  # from a table
NARROW = LAYERS | PICTURES | PATCHES | ADDRESSES  # kernels that never read 16 bytes at once
SHARED = 99 * 1024  # bytes for a program on cards for players: sm_86, sm_89, sm_120


def launched() -> set[tuple[str, str]]:
    """Module and name of every kernel that is launched somewhere: `name[grid](...)`."""
    found = set()
    for file in FOLDER.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        kernels = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(d) for d in node.decorator_list)
        }
        found |= {
            (".".join(file.relative_to(ROOT).with_suffix("").parts), node.func.value.id)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)
            if isinstance(node.func.value, ast.Name) and node.func.value.id in kernels
        }
    return found


@pytest.mark.parametrize(("capability", "dtype"), TARGETS)
def test_every_kernel_compiles_fits_and_reads_wide(capability: int, dtype: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.support.compile_kernels", str(capability), dtype]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(one["module"], one["kernel"]) for one in made} == launched()
    assert [one for one in made if one["stack"] or one["shared"] > SHARED] == []
    wide = {one["kernel"] for one in made if one["widest"] == 16}
    assert {one["kernel"] for one in made} - wide == NARROW
