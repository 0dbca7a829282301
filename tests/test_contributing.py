"""The three recipes of CONTRIBUTING.md, applied to a copy of the repository, and what they add, used."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluate.protocol import FAKE
from store.reader import Store
from store.schema import Split
from tests.support.places import ROOT
from tests.support.predictions import fabricate
from tests.support.tiles import TILES, write_tiles
from tests.support.tiny_run import NARROW, ONE_EPOCH

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SHORT = ("method=regression", *(word for word in NARROW if not word.startswith("discriminator")), *ONE_EPOCH)


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a kind (`diff`, or none for commands) without their indentation."""
    fenced = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [_dedent(body, len(indent)) for indent, its, body in fenced if its == kind]


def _dedent(body: str, columns: int) -> str:
    return "".join(line[columns:] if line.strip() else "\n" for line in body.splitlines(keepends=True))


def apply(diff: str, folder: Path) -> None:
    """Apply a diff without line numbers: the old lines of each part must occur exactly once in the file."""
    for name, parts in re.findall(r"^--- .*\n\+\+\+ b/(.*)\n((?:(?!--- ).*\n?)*)", diff, re.MULTILINE):
        file = folder / name
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        for part in re.split(r"^@@\n", parts, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            old = "".join(line[1:] or "\n" for line in lines if not line.startswith("+"))
            new = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
            assert text.count(old) == 1 or not text, f"{name} does not hold once:\n{old}"
            text = text.replace(old, new) if text else new
        file.write_text(text, encoding="utf-8")


def follow(title: str, copy: Path, *more: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Take the steps of a recipe in a copy of the repository: its changes, its commands, then some more."""
    for name in ("prep", "store", "train", "evaluate", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, copy / file)
    text = section(title)
    diffs = blocks(text, "diff")
    assert diffs
    for diff in diffs:
        apply(diff, copy)
    (command,) = (line for block in blocks(text, "") for line in block.splitlines())
    words = shlex.split(command)
    settings = dict(word.split("=") for word in words if re.match("[A-Z_]+=", word))
    assert words[len(settings) : len(settings) + 3] == [".venv/bin/python", "-m", "pytest"]
    done = run(copy, words[len(settings) + 2 :], *more, **settings)
    assert " passed" in done.stdout, done.stdout[-3000:]
    return done


COMMANDS = """
import json, runpy, sys
for words in json.loads(sys.stdin.read()):
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        if leaving.code:
            raise
"""
"""Each of some commands in one process, which imports libraries once."""


def run(copy: Path, *commands: Sequence[str | Path], **settings: str) -> subprocess.CompletedProcess[str]:
    """`python -m <words>` for each command, in a copy of the repository, whose packages it imports."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | settings
    environment |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "MAGSTAIN_FEATURES": str(copy / "features")}
    environment |= {"MAGSTAIN_WEIGHTS": str(copy / "no weights")}
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], input=words, cwd=copy, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def test_a_method_is_added_trained_and_scored(small_store: Store, tmp_path: Path) -> None:
    """Its tests in the copy, which the recipe runs, stop and resume it too."""
    sets = [word for setting in SHORT for word in ("--set", setting)]
    fit: list[str | Path] = ["train", "fit", "--store", small_store.path, "--run", "runs/r", *sets]
    predict, score = ("train", "predict", "--run", "runs/r"), ("evaluate", "score", "--run", "runs/r")
    done = follow("Add a method", tmp_path, fit, predict, score)
    assert "regression: L1 regression" in done.stderr
    scores = json.loads((tmp_path / "runs/r/predictions/test/tile/scores.json").read_text())
    assert scores["method"] == "regression"


def test_a_metric_is_added_and_printed(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "runs" / "r", small_store)
    printed = follow("Add a metric", tmp_path, ("evaluate", "score", "--run", "runs/r")).stdout
    assert re.search(r"^row .* MAE", printed, re.MULTILINE)
    rows = json.loads((folder / "scores.json").read_text())["rows"]["corrected"]
    assert 5 < rows[FAKE]["cells"]["mae"]["value"] < 8  # 6.4: the mean of |noise| of 8 grey levels


def test_a_layout_is_added_and_built(tmp_path: Path) -> None:
    for number, (split, stain) in enumerate((s, t) for s in ("train", "test") for t in ("HES", "DAB")):
        write_tiles(tmp_path / "tiles" / split / stain, TILES[:3] if split == "train" else TILES[3:6], number)
    sets = ("--set", "upscaler=lanczos", "--set", "view_side=64")
    build = ("prep", "build", "--data", tmp_path / "tiles", "--store", tmp_path / "s.zarr", *sets)
    done = follow("Add a data-set layout", tmp_path / "copy", build, ("store", "verify", tmp_path / "s.zarr"))
    assert re.search(r"read as: +split-first, 3 train \+ 3 test pairs", done.stderr)
    assert Store.open(tmp_path / "s.zarr").manifest.counts == {Split.TRAIN: 3, Split.TEST: 3}
