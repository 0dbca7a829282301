"""`python -O`: no assert has an effect, ours or one of a library that we call."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from store.reader import Store
from tests.support.disks import contents
from tests.support.places import ROOT

FILES = sorted(file for package in ("store", "prep", "train", "evaluate") for file in (ROOT / package).rglob("*.py"))
PURE = {"isinstance", "len", "all", "any", "zip", "prod", "min", "max", "set", "sorted", "np.dtype", "np.shares_memory"}
BUILD = """
import sys
from pathlib import Path
from store.verify import verify
from tests.support.stores import build_small_store
assert False, "asserts are left out"
sys.exit(not verify(build_small_store(Path(sys.argv[1])).path).intact)
"""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_asserts_only_look(file: Path) -> None:
    """An assert that takes, changes or names something would leave it undone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                assert not isinstance(part, ast.NamedExpr | ast.Await), f"{file}:{node.lineno}"
                called = ast.unparse(part.func) if isinstance(part, ast.Call) else "len"
                assert called in PURE | {"plan.held", "os.environ.get"}, f"{file}:{node.lineno}: {called}"


def test_a_store_is_the_same_without_asserts(small_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    done = subprocess.run(
        [sys.executable, "-O", "-c", BUILD, path], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert contents(path) == contents(small_store.path)
