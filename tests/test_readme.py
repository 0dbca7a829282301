"""What the README tells a newcomer to type."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from store.reader import Store
from store.schema import Split, Stain
from tests.support.stores import build_small_store

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path, str]:
    """The README's program, run beside a store by a Python that turns warnings into errors."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    store = build_small_store(folder / "data" / "demo.zarr")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program()], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return store, folder, done.stdout


def program() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def test_the_store_opens_with_zarr_and_numpy_alone() -> None:
    tree = ast.parse(program())
    imports = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert imports == ["numpy", "zarr"]
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


def test_the_store_lists_itself(opened: tuple[Store, Path, str]) -> None:
    store, _, printed = opened
    assert "small test lanczos {'train': 8, 'test': 4}" in printed
    assert "train/x4/ihc (8, 1, 64, 64, 3) uint8" in printed
    assert "test/tile/he (4, 128, 128, 3) uint8" in printed
    assert "s3_3_0 from slide s3" in printed
    box = store.box(Split.TEST, "x4", 3)
    assert f"x4 (64, 64, 3) the box of 32 px at row {box.top}, column {box.left}" in printed


def test_the_picture_shows_the_pair_at_every_zoom(opened: tuple[Store, Path, str]) -> None:
    store, folder, _ = opened
    sheet = np.frombuffer((folder / "pair.ppm").read_bytes().split(b"\n", 1)[1], np.uint8).reshape(192, 128, 3)
    rows = [
        np.hstack([store.picture(Split.TEST, zoom, stain, 3) for stain in (Stain.HE, Stain.IHC)])
        for zoom in ("x1", "x2", "x4")
    ]
    np.testing.assert_array_equal(sheet, np.vstack(rows))


def test_the_files_and_targets_it_names_exist() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (README.parent / target).exists(), target
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z]+)", text.split("## Rooms")[0])) - {"alone"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def stub(env: Path, *codes: int) -> None:
    """An environment whose `python` notes its words and ends with these codes, one after the other."""
    (env / "bin").mkdir(parents=True)
    python = env / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {env}/calls\n'
        f"n=$(wc -l < {env}/calls)\nexit $(echo {' '.join(map(str, codes))} | cut -d' ' -f$n)\n"
    )
    python.chmod(0o755)


@pytest.mark.parametrize("codes", [(0,), (3, 3, 0), (3, 2), (1,)])
def test_the_loop_runs_again_after_3_and_passes_other_codes_on(tmp_path: Path, codes: tuple[int, ...]) -> None:
    (loop,) = re.findall(r"```bash\n(\s+until.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    stub(tmp_path / ".venv", *codes)
    done = subprocess.run(["bash", "-c", loop], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == codes[-1], done.stderr
    calls = (tmp_path / ".venv" / "calls").read_text().splitlines()
    assert calls == ["-m train fit --store data/HER2.zarr --run runs/HER2"] * len(codes)


@pytest.mark.parametrize("code", [2, 3])
@pytest.mark.parametrize("target", ["train", "prepare"])
def test_make_prints_the_exit_code(tmp_path: Path, target: str, code: int) -> None:
    stub(tmp_path / "env", code)
    key = subprocess.run(
        "cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1",
        shell=True, cwd=README.parent, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (tmp_path / "env" / f"made-{key}").touch()
    words = ["make", target, f"ENV={tmp_path}/env", "DATA=none", f"STORE={tmp_path}/none.zarr", "PROCESSES=2"]
    done = subprocess.run(words, cwd=README.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"Error {code}" in done.stderr
    calls = (tmp_path / "env" / "calls").read_text()
    assert ("train fit --processes 2 --store" if target == "train" else "prep build --data none") in calls
