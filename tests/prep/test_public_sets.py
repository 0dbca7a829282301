"""Public data sets: a small tree of the shape of each, built by the command that prep/README.md prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prep.__main__ import app
from store.images import PictureU8, write_jpeg, write_png
from store.reader import Store
from store.schema import Split
from tests.support.command_line import CommandLine
from tests.support.places import ROOT

README = (ROOT / "prep" / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Public data sets") : README.index("## Pictures of any size")]
COMMANDS = {Path(line.split("--data ")[1].split()[0]).name: line for line in re.findall(r"^    (.+)$", SECTION, re.M)}
PARTS = ("train", "val", "test")


def picture(side: int, *key: int) -> PictureU8:
    """Coarse noise, u8 [side,side,3]: quick to draw and to pack."""
    coarse = np.random.default_rng(key).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return coarse.repeat(side // 8, axis=0).repeat(side // 8, axis=1)


def write_mist(data: Path) -> None:
    for n, (part, name) in enumerate((("train", "7M1_1_1"), ("train", "8M1_1_2"), ("val", "9M1_3_1"))):
        for key, stain in enumerate("AB"):
            write_jpeg(data / "TrainValAB" / f"{part}{stain}" / f"{name}.jpg", picture(1024, n, key))


def write_bci(data: Path) -> None:
    for n, (part, name) in enumerate(
        (("train", "00000_train_1+"), ("train", "00001_train_0"), ("test", "00000_test_3+"))
    ):
        for key, stain in enumerate(("HE", "IHC")):
            write_png(data / stain / part / f"{name}.png", picture(1024, n, key))


def write_her2match(data: Path) -> None:
    for n, part in enumerate(PARTS):
        for key, stain in enumerate(("HE_20x", "IHC_20x")):
            write_png(data / stain / part / f"{n}_12_3.png", picture(1024, n, key))


def write_hemit(data: Path) -> None:
    for n, part in enumerate(PARTS):
        for key, stain in enumerate(("input", "label")):
            write_png(data / part / stain / f"[79{n}1,48408]_patch_0_{n}.png", picture(1024, n, key))


def write_ihc4bc(data: Path) -> None:
    for n, (patient, row) in enumerate(((1010, 1), (1010, 2), (1011, 1))):
        for key, stain in enumerate(("HandE", "IHC")):
            for marker, side in (("ER", 3000), ("Ki67", 8)):
                region = data / "Images" / stain / marker / f"Patient_0_{patient}" / "Subregion_11"
                write_jpeg(region / f"0_{patient}_11_{row}_2.jpg", picture(side, n, key))
    (data / "Labels").mkdir()
    (data / "Labels" / "ER.csv").write_text("name,a,7\n")


SETS: dict[str, tuple[Callable[[Path], None], str, dict[Split, int], set[str]]] = {
    "HER2": (write_mist, "read as:  MIST, 2 train + 1 test pairs", {Split.TRAIN: 2, Split.TEST: 1}, {"7M1", "8M1"}),
    "BCI_dataset": (
        write_bci, "read as:  BCI, 2 train + 1 test pairs", {Split.TRAIN: 2, Split.TEST: 1},
        {"train/00000_train_1+", "train/00001_train_0"},
    ),
    "HER2match": (
        write_her2match, "read as:  bci, 1 train + 1 val + 1 test pairs",
        {Split.TRAIN: 1, Split.VAL: 1, Split.TEST: 1}, {"0"},
    ),
    "HEMIT": (
        write_hemit, "read as:  split-first, 1 train + 1 val + 1 test pairs",
        {Split.TRAIN: 1, Split.VAL: 1, Split.TEST: 1}, {"[7901,48408]_patch"},
    ),
    "IHC4BC_Compressed": (
        write_ihc4bc, "read as:  folders, 3 pairs, in Images/HandE/ER Images/IHC/ER",
        {Split.TRAIN: 18, Split.TEST: 9}, {"0_1010"},
    ),
}  # fmt: skip


def test_every_set_that_is_shown_is_tried() -> None:
    assert COMMANDS.keys() == SETS.keys()


@pytest.mark.parametrize("name", SETS)
def test_the_command_that_is_shown_builds_a_store(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With interpolation in place of the super-resolution network, whose weights a test does not have."""
    write, read_as, counts, slides = SETS[name]
    write(tmp_path / "tiles" / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    words = shlex.split(COMMANDS[name])
    assert words[:3] == ["python", "-m", "prep"]
    done = CommandLine("prep", app, monkeypatch, capsys)(*words[3:], "--set", "upscaler=lanczos", "--set", "seed=1")
    assert done.code == 0, done.err
    assert read_as in done.err
    store = Store.open(tmp_path / words[words.index("--store") + 1])
    assert store.manifest.counts == counts
    assert {pair.slide for pair in store.pairs(Split.TRAIN)} == slides
