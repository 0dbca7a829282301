"""The floors of the house and the doors of the libraries, as the source says them."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"prep": {"store"}, "train": {"store"}, "evaluate": {"store"}, "store": set[str]()}
FLOORS = {  # of each package from the roof down; a module imports from floors below its own, and from its sub-package
    "store": (
        {"__main__"},
        {"writing", "contact_sheet", "run_files"},
        {"overview"},
        {"reader", "verify"},
        {"format"},
        {"location", "weights"},
        {"images", "stain", "settings", "files", "cli", "process"},
        {"schema"},
    ),
    "prep": (
        {"__main__"},
        {"build", "fidelity"},
        {"demo", "tiles", "upscaling"},
        {"views"},
        {"settings"},
    ),
    "train": (
        {"__main__"},
        {"attention_maps", "describe"},
        {"predict", "import_asp", "loop"},
        {"run"},
        {"methods"},
        {"networks", "losses"},
        {"data"},
        {"runtime"},
        {"settings"},
    ),
    "evaluate": (
        {"__main__"},
        {"scoring", "report"},
        {"metrics"},
        {"features", "scores_file"},
        {"inputs"},
        {"protocol", "columns"},
    ),
}
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
NAMES = [file.relative_to(ROOT).as_posix() for file in FILES]
LIMIT = 260  # lines: a file is one idea; the pages of settings are exempt
MODULES = 13  # of a folder

WITH_TORCH = {name for name in NAMES if name.startswith(("train/", "evaluate/"))}
DOORS = {  # a library, and the only files that import it; numpy and the standard library go anywhere
    "basicsr": {"prep/upscaling/bsrgan.py"},
    "cv2": {
        "store/images.py",
        "store/contact_sheet.py",
        "prep/views.py",
        "prep/upscaling/upscale.py",
        "prep/demo/draw.py",
        "prep/demo/staining.py",
        "prep/demo/tissue.py",
        "train/attention_maps.py",
    },
    "dask": {"prep/build/cluster.py"},
    "distributed": {"prep/build/cluster.py"},
    "google_crc32c": {"store/format/codec.py"},
    "imagecodecs": {"store/format/jpegxl.py"},
    "jinja2": {"evaluate/report/html_page.py"},
    "lpips": {"evaluate/features/lpips.py"},
    "matplotlib": {"evaluate/report/html_images.py"},
    "numcodecs": {"store/format/codec.py"},
    "obstore": {"store/location/s3.py", "store/location/s3_client.py"},
    "PIL": {"store/images.py"},
    "pydantic": {"store/settings.py"},
    "safetensors": {"train/run/checkpoint.py"},
    "scipy": {
        "evaluate/metrics/agreement.py",
        "evaluate/metrics/fid_kid.py",
        "evaluate/metrics/statistics.py",
        "prep/fidelity/measures.py",
    },
    "skimage": {
        "evaluate/metrics/paired.py",
        "prep/fidelity/measures.py",
        "store/stain/dab.py",
        "train/run/snapshots.py",
    },
    "torch": WITH_TORCH | {"prep/upscaling/bsrgan.py"},
    "torch_fidelity": {"evaluate/features/networks.py"},
    "torchvision": {"prep/upscaling/bsrgan.py", "evaluate/features/networks.py"},
    "tqdm": {
        "store/cli.py",
        "prep/build/run.py",
        "prep/fidelity/run.py",
        "train/loop/fit.py",
        "train/run/reporting.py",
        "train/predict.py",
        "train/attention_maps.py",
    },
    "typer": {f"{package}/__main__.py" for package in PACKAGES} | {"store/cli.py"},
    "zarr": {
        "store/location/local.py",
        "store/location/s3.py",
        "store/format/codec.py",
        "store/format/jpegxl.py",
        "store/format/shards.py",
        "store/format/tables.py",
    },
}


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """The dotted names that a file imports, and whether it does when it is itself imported by a running program."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in tree.body
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.relative_to(ROOT)}: imports are absolute"
            yield str(node.module), id(node) not in typing_only
            yield from ((f"{node.module}.{alias.name}", id(node) not in typing_only) for alias in node.names)


def libraries(file: Path) -> set[str]:
    return {name.partition(".")[0] for name, _ in imports(file)}


def room(module: str) -> str:
    """The root module or the sub-package that a dotted module name belongs to."""
    return module.split(".")[1] if "." in module else ""


def floor(package: str, name: str) -> int:
    """Counted from the roof, which is 0."""
    (found,) = (n for n, rooms in enumerate(FLOORS[package]) if name in rooms)
    return found


MODULE_NAMES = {name.removesuffix(".py").replace("/", ".") for name in NAMES}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_arrows_between_packages_and_doors(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    package = name.partition("/")[0]
    for library in libraries(file):
        if library in PACKAGES:
            assert library == package or library in PACKAGES[package], f"{name} must not import {library}"
        elif library not in sys.stdlib_module_names and library != "numpy":
            assert name in DOORS.get(library, set()), f"{name} is no door for {library}"


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_arrows_point_down(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    package, own = name.partition("/")[0], room(name.removesuffix(".py").replace("/", "."))
    if own == "__init__":
        return
    for module, _ in imports(file):
        if module in MODULE_NAMES and module.startswith(f"{package}.") and room(module) != own:
            below = floor(package, own) < floor(package, room(module))
            assert below, f"{name} must not import {module}: it is on the same floor or above"


def test_every_room_has_a_floor() -> None:
    rooms = {package: {room(name) for name in MODULE_NAMES if name.startswith(f"{package}.")} for package in PACKAGES}
    assert {package: names - {"__init__"} for package, names in rooms.items()} == {
        package: set().union(*floors) for package, floors in FLOORS.items()
    }
    assert all(sum(map(len, floors)) == len(set().union(*floors)) for floors in FLOORS.values())


def test_there_is_no_circle() -> None:
    arrows = {
        module: {name for name, runs in imports(file) if runs and name in MODULE_NAMES and name != module}
        for file, module in (
            (file, name.removesuffix(".py").replace("/", ".")) for file, name in zip(FILES, NAMES, strict=True)
        )
    }
    while leaves := {module for module, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {module: targets for module, targets in arrows.items() if module not in leaves}
    assert not arrows, f"these import each other, or what does: {', '.join(sorted(arrows))}"


def test_no_folder_is_crowded() -> None:
    counts = Counter(file.parent.relative_to(ROOT).as_posix() for file in FILES if file.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MODULES} == {}


def test_every_door_is_used() -> None:
    used = {(library, name) for file, name in zip(FILES, NAMES, strict=True) for library in libraries(file)}
    doors = {(library, name) for library, names in DOORS.items() if library != "torch" for name in names}
    assert doors <= used


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_file_is_one_idea_and_says_which(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module opens with one sentence"
    assert file.name == "settings.py" or len(text.splitlines()) <= LIMIT


def test_the_top_level_is_the_house() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders == {*PACKAGES, "tests"}
