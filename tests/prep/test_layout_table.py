"""Every row of the layout table of prep/README.md: a store is built from a small tree of that shape."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prep.build.run import build
from prep.build.runner import Processes
from prep.settings import PrepSettings
from prep.tiles.discovery import Data
from store.images import write_png
from store.reader import Store
from store.schema import Split
from store.settings import load
from tests.support.places import ROOT
from tests.support.tile_folders import tile

README = (ROOT / "prep" / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Layouts") : README.index("### Names")]
ROWS = list(re.findall(r"^\| `(.+?)` \| `(.+?)` \| (?:`(.+?)` )?\|", SECTION, re.MULTILINE))
SMALL = ("upscaler=lanczos", "view_side=16", "margin=2", "unit=2")
HELD_OUT = {"val": Split.VAL, "test": Split.TEST}


def settings_of(row: str) -> PrepSettings:
    return load(PrepSettings, None, [*SMALL, *row.split()])


def names_of(folder: str, settings: PrepSettings) -> list[str]:
    """The files of a folder: three tiles of three slides in train, one in another split, for both stains if by name."""
    split = re.search(r"(train|val|test)[AB]?(/|$)", folder.replace("TrainValAB", ""))
    ids = [f"{split[1]}_0_0"] if split and split[1] != "train" else [f"s{n}_0_0" for n in range(3)]
    if settings.he_name:
        return [name.replace("{}", one) for one in ids for name in (settings.he_name, settings.ihc_name)]
    return ids


def test_the_table_is_read() -> None:
    layouts = {layout for layout, _, _ in ROWS}
    assert layouts == {"mist", "bci", "split-first", "folders", "side-by-side", "by-name"}
    assert len(ROWS) == SECTION.count("\n| `")


@pytest.mark.parametrize(("layout", "folders", "changes"), ROWS, ids=[f"{row[1]} {row[2]}".strip() for row in ROWS])
def test_a_store_is_built_from_each_row(layout: str, folders: str, changes: str, tmp_path: Path) -> None:
    settings, data = settings_of(changes), tmp_path / "data"
    for number, folder in enumerate(folders.split()):
        for place, name in enumerate(names_of(folder, settings)):
            picture = tile(100 * number + place, 64)[: 32 if layout == "side-by-side" else 64]
            write_png(data / folder / f"{name}.png", picture[:, : 64 if layout == "side-by-side" else 32][:32])
    where = Data(he=data, ihc=data)
    build(settings, where, tmp_path / "s.zarr", skip_bad=False, processes=Processes(threads=1))
    store = Store.open(tmp_path / "s.zarr")
    splits = [word for word in ("val", "test") if re.search(rf"{word}([AB]?(/| |$))", folders)]
    published = {Split.TRAIN: 3, **{HELD_OUT[word]: 1 for word in splits}}
    if len(splits) == 1:
        published = {Split.TRAIN: 3, Split.TEST: 1}  # of val or test alone, that is the published test set
    drawn = {Split.TRAIN: 2, Split.TEST: 1}
    assert store.manifest.counts == (drawn if "by-slide" in changes else published)
