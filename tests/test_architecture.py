"""The architecture, read from the source: who imports whom, which file imports a library, how long files are."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.slow import SLOW

PACKAGES = {"prep": {"store"}, "train": {"store"}, "evaluate": {"store"}, "store": set[str]()}  # and what each imports
LAYERS = {  # of each package from the top down; a root module or sub-package imports from the layers below its own
    "store": (
        {"__main__"},
        {"writing", "contact_sheet", "records", "doctor"},
        {"overview"},
        {"reader", "verify"},
        {"format", "card", "slides"},
        {"location", "weights"},
        {"foreign"},
        {"disk", "cluster"},
        {"images", "stain", "files", "cli", "process", "run_files"},
        {"settings", "pairs", "machine", "pictures"},
        {"schema"},
        {"untrusted"},
    ),
    "prep": (
        {"__main__"},
        {"options"},
        {"cutting", "alignment"},
        {"build", "fidelity"},
        {"demo", "tiles", "upscaling"},
        {"views", "refusals", "registration", "facts"},
        {"settings"},
    ),
    "train": (
        {"__main__"},
        {"options"},
        {"attention_maps", "describe"},
        {"predict", "export"},
        {"importing", "loop", "translate"},
        {"run"},
        {"methods"},
        {"networks", "losses"},
        {"kernels"},
        {"data"},
        {"runtime"},
        {"settings"},
    ),
    "evaluate": (
        {"__main__"},
        {"seams"},
        {"scoring", "report"},
        {"metrics", "scored_set"},
        {"features", "scores_file"},
        {"inputs"},
        {"protocol", "columns", "parallel"},
    ),
}
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
NAMES = [file.relative_to(ROOT).as_posix() for file in FILES]
MODULES = {name.removesuffix(".py").replace("/", ".") for name in NAMES}
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES = 260  # of a file, except the pages of settings
FUNCTION_LINES = 60
FOLDER = 13  # modules
BUILT_NAMES = {"eval", "exec", "import_module", "__import__"}  # calls that hide what is imported or run

WITH_TORCH = {name for name in NAMES if name.startswith(("train/", "evaluate/"))}
DOORS = {  # each library, and the only files that import it; numpy and the standard library may be imported anywhere
    "basicsr": {"prep/upscaling/bsrgan.py"},
    "cv2": {
        "evaluate/metrics/ssim.py",
        "store/format/codec.py",
        "store/images.py",
        "store/contact_sheet.py",
        "store/slides/tissue.py",
        "prep/views.py",
        "prep/registration/estimate.py",
        "prep/tiles/leakage.py",
        "prep/facts/picture.py",
        "prep/upscaling/upscale.py",
        "prep/build/pipeline.py",
        "prep/demo/draw.py",
        "prep/demo/staining.py",
        "prep/demo/tissue.py",
        "train/attention_maps.py",
        "train/data/loader.py",
    },
    "dask": {"store/cluster/client.py"},
    "distributed": {"store/cluster/client.py", "store/cluster/tasks.py"},
    "google_crc32c": {
        "store/format/codec.py",
        "store/slides/reading/zarr_chunks.py",
        "store/slides/writing/ome_zarr.py",
    },
    "imagecodecs": {
        "store/format/jpegxl.py",
        "store/slides/reading/zarr_chunks.py",
        "store/slides/writing/packing.py",
    },
    "jinja2": {"evaluate/report/templates.py"},
    "lpips": {"evaluate/features/lpips.py"},
    "matplotlib": {"evaluate/report/html_images.py"},
    "numcodecs": {"store/format/codec.py"},
    "obstore": {"store/location/s3.py", "store/location/s3_client.py"},
    "onnx": {"train/export/onnx_file.py"},
    "onnxruntime": {"train/export/parity.py"},
    "openslide": {"store/slides/reading/by_openslide.py"},
    "PIL": {"store/images.py", "store/pictures/containers.py", "store/pictures/unreadable.py"},
    "pydantic": {"store/settings.py"},
    "safetensors": {"prep/upscaling/files/spandrel_network.py", "train/run/generator_file.py"},
    "scipy": {
        "evaluate/metrics/agreement.py",
        "evaluate/metrics/fid_kid.py",
        "evaluate/metrics/statistics.py",
        "prep/fidelity/measures.py",
        "prep/registration/correlation.py",
    },
    "skimage": {
        "prep/fidelity/measures.py",
        "prep/registration/density.py",
        "store/stain/dab.py",
        "store/stain/mixture.py",
        "train/run/snapshots.py",
    },
    "spandrel": {"prep/upscaling/files/spandrel_network.py"},
    "tensorboard": {"train/run/event_files.py"},
    "tifffile": {
        "store/slides/reading/tiff/page.py",
        "store/slides/reading/tiff/pictures.py",
        "store/slides/writing/flat.py",
        "store/slides/writing/ome_tiff.py",
    },
    "torch": WITH_TORCH
    | {"store/doctor/torch_facts.py"}  # a program of its own, which nothing imports
    | {name for name in NAMES if name.startswith("prep/upscaling/")}
    - {
        f"prep/upscaling/{name}.py"
        for name in ("__init__", "choosing", "upscale", "files/__init__", "files/given", "files/licences")
    },
    "torch_fidelity": {"evaluate/features/networks.py"},
    "torchvision": {"prep/upscaling/bsrgan.py", "evaluate/features/networks.py", "store/doctor/torch_facts.py"},
    "tqdm": {
        "store/cli.py",
    },
    "triton": {name for name in NAMES if name.startswith("train/kernels/")}
    - {f"train/kernels/{name}.py" for name in ("__init__", "launching", "patches/__init__")}
    | {"prep/upscaling/dense_kernels.py"},
    "typer": {f"{package}/__main__.py" for package in PACKAGES}
    | {"prep/options.py", "train/options.py", "store/cli.py"},
    "zarr": {
        "store/format/codec.py",
        "store/format/jpegxl.py",
        "store/format/shards.py",
        "store/format/tables.py",
    },
}


Import = ast.Import | ast.ImportFrom


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """The dotted names that a file imports, and whether a running program imports them (not only a type checker)."""
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
    """The top-level packages that a file imports."""
    return {name.partition(".")[0] for name, _ in imports(file)}


def module_of(name: str) -> str:
    """The dotted name of a file."""
    return name.removesuffix(".py").replace("/", ".")


def part(module: str) -> str:
    """The root module or the sub-package of a dotted module name: `location` of `store.location.s3`."""
    return module.split(".")[1] if "." in module else ""


def layer(package: str, name: str) -> int:
    """The layer of a root module or sub-package, counted from the top."""
    (found,) = (number for number, parts in enumerate(LAYERS[package]) if name in parts)
    return found


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_packages_and_libraries_are_imported_only_where_they_may_be(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    package = name.partition("/")[0]
    for library in libraries(file):
        if library in PACKAGES:
            assert library == package or library in PACKAGES[package], f"{name} must not import {library}"
        elif library not in sys.stdlib_module_names and library != "numpy":
            assert name in DOORS.get(library, set()), f"{name} must not import {library}; see DOORS"


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_arrows_point_down(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    package, own = name.partition("/")[0], part(module_of(name))
    if own == "__init__":
        return
    for module, _ in imports(file):
        if module in MODULES and module.startswith(f"{package}.") and part(module) != own:
            below = layer(package, own) < layer(package, part(module))
            assert below, f"{name} must not import {module}, which is in the same layer or above; see LAYERS"


def test_every_part_is_in_one_layer() -> None:
    parts = {package: {part(name) for name in MODULES if name.startswith(f"{package}.")} for package in PACKAGES}
    assert {package: names - {"__init__"} for package, names in parts.items()} == {
        package: set().union(*layers) for package, layers in LAYERS.items()
    }
    assert all(sum(map(len, layers)) == len(set().union(*layers)) for layers in LAYERS.values())


def test_there_is_no_circle() -> None:
    """Also not within a sub-package; imports for the type checker alone do not count."""
    arrows = {
        module_of(name): {target for target, runs in imports(file) if runs and target in MODULES} - {module_of(name)}
        for file, name in zip(FILES, NAMES, strict=True)
    }
    while leaves := {module for module, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {module: targets for module, targets in arrows.items() if module not in leaves}
    assert not arrows, f"these modules import each other, directly or not: {', '.join(sorted(arrows))}"


def test_translating_a_picture_imports_neither_zarr_nor_dask() -> None:
    """They take a tenth of the time to the first picture; what is imported in a function is not counted."""
    seen, ahead = set[str](), {"train.translate.command", "train.translate.names", "train.run.folder"}
    while ahead:
        module = ahead.pop()
        seen.add(module)
        if module in MODULES:
            file = ROOT / f"{module.replace('.', '/')}.py"
            found = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, Import)]
            names = {alias.name for node in found for alias in node.names if isinstance(node, ast.Import)}
            names |= {
                name
                for node in found
                if isinstance(node, ast.ImportFrom)
                for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
            }
            ahead |= names - seen
    assert "torch" in seen
    assert not seen & {"zarr", "dask", "distributed"}


def test_every_door_is_used() -> None:
    used = {(library, name) for file, name in zip(FILES, NAMES, strict=True) for library in libraries(file)}
    doors = {(library, name) for library, names in DOORS.items() if library != "torch" for name in names}
    assert doors <= used


def test_no_folder_has_too_many_modules() -> None:
    counts = Counter(file.parent.relative_to(ROOT).as_posix() for file in FILES if file.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > FOLDER} == {}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_files_and_functions_are_short_and_a_module_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module begins with a docstring"
    assert file.name == "settings.py" or len(text.splitlines()) <= LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{node.name} has more than {FUNCTION_LINES} lines"
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            assert called not in BUILT_NAMES or ast.unparse(node).endswith(".eval()"), (
                "no import or call by a built name"
            )


def test_no_test_module_imports_another() -> None:
    modules = {
        module_of(file.relative_to(ROOT).as_posix()) for file in TESTS if file.name.startswith(("test_", "conftest"))
    }
    for file in TESTS:
        assert not {name for name, _ in imports(file)} & modules, f"{file.relative_to(ROOT)}: share it in tests/support"


def test_the_table_of_slow_tests_names_tests_that_exist() -> None:
    names = {
        f"{file.relative_to(ROOT).as_posix()}::{node.name}"
        for file in TESTS
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert [start for start in SLOW if not any(name.startswith(start) for name in names)] == []


def test_the_top_level_has_four_packages_and_the_tests() -> None:
    folders = {folder.name for folder in ROOT.iterdir() if folder.is_dir() and (folder / "__init__.py").exists()}
    assert folders == {*PACKAGES, "tests"}
