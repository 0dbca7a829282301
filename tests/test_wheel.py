"""The wheel and the sdist, installed where there is no checkout: every stage runs, presets and page are inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "prep", "store", "train", "evaluate")
DEMO = """
slides = 3
held_out = 1
rows = 1
columns = 2
tile_side = 192
"""
TWO_STEPS = ("optimiser.constant_epochs=1", "optimiser.decay_epochs=0", "data.batch=2", "data.workers=0", "device=cpu")
SMALL = ("generator.base=4", "discriminator.base=4", "contrast.width=8", "contrast.patches=16", "tensorboard=false")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is packaged of the checkout, as a clone has it."""
    folder = tmp_path_factory.mktemp("source")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def quiet(*words: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run([*words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the sdist: so both hold everything."""
    out = tmp_path_factory.mktemp("dist")
    make = f"from setuptools.build_meta import build_sdist; build_sdist({str(out)!r})"
    quiet(sys.executable, "-c", make, cwd=source)
    (sdist,) = out.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    quiet(*pip, "--wheel-dir", str(out), str(sdist), cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel in a new environment, and the libraries of this one, but not the checkout."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    made = environment / "bin" / "python"
    (packages,) = (environment / "lib").glob("*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not followed
    pip = (sys.executable, "-m", "pip", "--python", str(made), "install", "--quiet", "--no-deps", "--no-index")
    quiet(*pip, "--ignore-installed", str(wheel), cwd=environment)
    return made


def test_presets_and_page_are_inside(wheel: Path) -> None:
    listed = quiet(sys.executable, "-m", "zipfile", "-l", str(wheel), cwd=wheel.parent)
    shipped = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("*/presets/*.toml")]
    assert len(shipped) > 20
    templates = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("evaluate/report/*.html")]
    for name in (*shipped, *templates, "store/format/layout.py"):
        assert name in listed, name
    assert "tests/" not in listed


def test_every_stage_runs_away_from_the_checkout(python: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "MAGSTAIN_FEATURES": str(tmp_path / "features")}
    environment |= {"MAGSTAIN_WEIGHTS": str(tmp_path / "no-weights")}

    def run(*words: str) -> str:
        return quiet(python, "-m", *words, cwd=tmp_path, **environment)

    def sets(*settings: str) -> list[str]:
        return [word for setting in settings for word in ("--set", setting)]

    place = quiet(python, "-c", "import store; print(store.__file__)", cwd=tmp_path, **environment)
    assert Path(place.strip()).is_relative_to(python.parents[1])
    (tmp_path / "draw.toml").write_text(DEMO)
    run("prep", "demo", "--out", "tiles", "--config", "draw.toml")
    run("prep", "build", "--data", "tiles", "--store", "demo.zarr", "--config", "demo", *sets("view_side=96"))
    settings = sets("method=asp", *TWO_STEPS, *SMALL)
    run("train", "fit", "--store", "demo.zarr", "--run", "run", "--config", "asp_matched", *settings)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1
    run("train", "predict", "--run", "run")
    run("evaluate", "score", "--run", "run")
    run("evaluate", "report", "--run", "run")
    page = tmp_path / "run" / "predictions" / "test" / "tile" / "report.html"
    assert "data:image/png;base64" in page.read_text()
