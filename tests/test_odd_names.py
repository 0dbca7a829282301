"""Names with signs that shells, patterns and formats read: from tiles to scores through the four command lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluate.__main__ import app as evaluate_app
from prep.__main__ import app as prep_app
from store.__main__ import app as store_app
from store.reader import Store
from store.schema import Split
from tests.support.command_line import CommandLine
from tests.support.tiles import write_tiles
from tests.support.untrained_run import make_run
from train.__main__ import app as train_app

NAMES = ["s[1],a+b (x)_0_0", "it's 100% %d {y}_0_0", "a#b;c=d&e$HOME ~!@^`_0_0", "{0}Größe-ß_0_0", "*?x_0_0"]


def test_odd_names_go_from_tiles_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, place, run = tmp_path / "ti les [1]+%s", tmp_path / "s,t'ore {1}.zarr", tmp_path / "r%n [2]"
    for key, (stain, suffix) in enumerate((("A", " (HE)"), ("B", " (PD-L1+)"))):
        for part, count in (("train", 2), ("val", len(NAMES))):
            write_tiles(data / f"{part}{stain}", [f"{name}{suffix}" for name in NAMES[:count]], 10 * count + key)
    sets = ("upscaler=lanczos", "view_side=64", "he_name={} (HE)", "ihc_name={} (PD-L1+)", "slide_pattern=^(.+)_0_0")
    words = [word for setting in sets for word in ("--set", setting)]
    line = CommandLine("prep", prep_app, monkeypatch, capsys)
    done = line("build", "--data", data, "--store", place, *words)
    assert done.code == 0, done.err
    assert CommandLine("store", store_app, monkeypatch, capsys)("verify", place).code == 0
    store = Store.open(place)
    assert sorted(pair.id for pair in store.pairs(Split.TEST)) == sorted(NAMES)
    make_run(run, store)
    monkeypatch.setenv("MAGSTAIN_FEATURES", str(tmp_path / "features"))
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path / "none"))
    done = CommandLine("train", train_app, monkeypatch, capsys)("predict", "--run", run, "--store", place)
    assert done.code == 0, done.err
    assert {file.stem for file in (run / "predictions" / "test" / "tile" / "fake").glob("*.png")} == set(NAMES)
    done = CommandLine("evaluate", evaluate_app, monkeypatch, capsys)("score", "--run", run, "--store", place)
    assert done.code == 0, done.err
