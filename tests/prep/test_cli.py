"""The commands as they are typed: tiles that are named wrongly, presets by name, help that fits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prep.options import PRESETS, name_data
from store.schema import SettingsError
from tests.support.places import ROOT
from tests.support.tiles import command

LANCZOS = ("--set", "upscaler=lanczos", "--set", "view_side=64")


@pytest.mark.parametrize(
    ("data", "he", "ihc", "message"),
    [
        ("", "a", "", "--he is given without --ihc; name the folder of the IHC tiles as well (make: IHC=DIR)"),
        ("", "", "b", "--ihc is given without --he; name the folder of the H&E tiles as well (make: HE=DIR)"),
        ("d", "a", "b", "--data and --he/--ihc exclude each other; name the tiles with one of them (make: DATA=)"),
        ("", "", "", "no tiles are named; give --data DIR (make: DATA=DIR), or --he DIR and --ihc DIR (make: HE=DIR "),
    ],
)
def test_tiles_that_are_named_wrongly(data: str, he: str, ihc: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        name_data(data, he, ihc)
    assert str(caught.value).startswith(message)


def test_an_empty_folder_name_is_none(tmp_path: Path) -> None:
    """make passes `--ihc ''` where HE= is given without IHC=."""
    done = command("build", "--store", "s.zarr", "--he", "a", "--ihc", "", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --he is given without --ihc; ")
    assert [*tmp_path.iterdir()] == []


def test_a_missing_data_folder_is_reported_before_missing_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path / "none"))
    options = ("--set", "device=cpu", "--set", "precision=fp32")
    done = command("build", "--data", "nowhere", "--store", "s.zarr", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "error: nowhere: no such folder; check the path of the tiles" in done.stderr
    assert "weights" not in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_preset_is_named_without_its_path(mist: Path, tmp_path: Path) -> None:
    by_name, by_path = (
        command("plan", "--data", mist, "--config", config, "--set", "view_side=64", cwd=tmp_path)
        for config in ("demo", PRESETS / "demo.toml")
    )
    assert by_name.returncode == 0, by_name.stderr
    assert by_name.stdout == by_path.stdout
    assert by_name.stdout.startswith("demo: H&E to membrane IHC")
    done = command("plan", "--data", mist, "--config", "other", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("the path of a TOML file or the name of a preset: demo\n")


def test_a_plan_with_a_bad_pair_says_so_and_exits_with_0(mist: Path, tmp_path: Path) -> None:
    (mist / "trainB" / "s1_0_0.png").unlink()
    done = command("plan", "--data", mist, *LANCZOS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 bad pair: build stops at it; --skip-bad (make: SKIP_BAD=1) skips and lists it" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_without_a_terminal_progress_is_lines(mist: Path, tmp_path: Path) -> None:
    done = command("build", "--data", mist, "--store", "s.zarr", *LANCZOS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr
    assert "checking: 9 of 9 pairs, 100 %" in done.stderr
    assert "building: 9 of 9 pairs, 100 %" in done.stderr
    assert "limited by " in done.stderr
    assert done.stderr.endswith("finished: the store is s.zarr\n")


@pytest.mark.parametrize("verb", ["demo", "plan", "build", "fidelity"])
def test_help_is_at_hand_without_heavy_imports(verb: str) -> None:
    script = (
        "import sys\n"
        "from prep.__main__ import app\n"
        f"sys.argv = ['prep', '{verb}', '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'cv2', 'dask', 'zarr', 'skimage'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    *text, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert max(map(len, text)) <= 100
