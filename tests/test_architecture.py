"""The arrows between the rooms and the doors of the libraries, as the source says them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("prep", "store", "train", "evaluate")
ARROWS = {"prep": {"store"}, "train": {"store"}, "evaluate": {"store"}, "store": set[str]()}
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
LIMIT = 260  # lines: a file is one idea

TORCH_ROOMS = {
    file.relative_to(ROOT).as_posix() for room in ("train", "evaluate") for file in (ROOT / room).glob("*.py")
}
DOORS = {  # a library, and the only files that import it; numpy and the standard library go anywhere
    "basicsr": {"prep/superres.py"},
    "cv2": {
        "store/images.py",
        "store/sheet.py",
        "prep/views.py",
        "prep/upscale.py",
        "prep/demo.py",
        "prep/staining.py",
        "prep/tissue.py",
        "train/gates.py",
    },
    "dask": {"prep/cluster.py"},
    "distributed": {"prep/cluster.py"},
    "google_crc32c": {"store/codec.py"},
    "imagecodecs": {"store/jpegxl.py"},
    "jinja2": {"evaluate/report.py"},
    "lpips": {"evaluate/paired.py"},
    "matplotlib": {"evaluate/figures.py"},
    "numcodecs": {"store/codec.py"},
    "obstore": {"store/bucket.py"},
    "PIL": {"store/images.py"},
    "pydantic": {"store/settings.py"},
    "safetensors": {"train/checkpoint.py"},
    "scipy": {"evaluate/distribution.py", "evaluate/statistics.py", "prep/fidelity.py"},
    "skimage": {"evaluate/paired.py", "evaluate/stain.py", "prep/fidelity.py", "train/validate.py"},
    "torch": TORCH_ROOMS | {"prep/superres.py"},
    "torch_fidelity": {"evaluate/features.py"},
    "torchvision": {"prep/superres.py", "evaluate/features.py"},
    "tqdm": {
        "prep/build.py",
        "prep/fidelity_run.py",
        "train/loop.py",
        "train/tell.py",
        "train/predict.py",
        "train/gates.py",
        "evaluate/deep.py",
        "evaluate/judge.py",
        "store/__main__.py",
    },
    "typer": {f"{room}/__main__.py" for room in ROOMS} | {"store/cli.py"},
    "zarr": {
        "store/bucket.py",
        "store/codec.py",
        "store/jpegxl.py",
        "store/location.py",
        "store/shards.py",
        "store/tables.py",
    },
}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.relative_to(ROOT)}: imports are absolute"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_arrows_and_doors(file: Path) -> None:
    name, room = file.relative_to(ROOT).as_posix(), file.relative_to(ROOT).parts[0]
    for library in set(imported(file)):
        if library in ROOMS:
            assert library == room or library in ARROWS[room], f"{name} must not import {library}"
        elif library not in sys.stdlib_module_names and library != "numpy":
            assert name in DOORS.get(library, set()), f"{name} is no door for {library}"


def test_every_door_is_used() -> None:
    used = {(library, file.relative_to(ROOT).as_posix()) for file in FILES for library in imported(file)}
    doors = {(library, name) for library, names in DOORS.items() if library != "torch" for name in names}
    assert doors <= used


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_file_is_one_idea_and_says_which(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module opens with one sentence"
    assert len(text.splitlines()) <= LIMIT


def test_the_top_level_is_the_house() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders == {*ROOMS, "tests"}
