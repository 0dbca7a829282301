"""The data card of a built store: what it says, that it is the same after a stop, checked and repaired."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image, ImageCms

from prep.build import run as building
from prep.build.run import repair
from prep.build.runner import Processes
from prep.facts.terms import find_terms_files
from store.card.measured import Named
from store.card.record import CARD, read_measured
from store.format.manifest import COPY, ROOT
from store.images import read_picture, write_png
from store.location.local import Folder
from store.location.open import locate
from store.overview import read_card
from store.reader import Store
from store.schema import Interrupted, Split, Stain, StoreError
from store.verify import verify
from store.writing.writer import StoreWriter
from tests.support.command_line import CommandLine
from tests.support.damage import alter, cut, empty
from tests.support.disks import contents
from tests.support.stores import draw_tile
from tests.support.tiles import lanczos, run, single

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pairs of three slides: one is glass, one claims a profile, one of test is mirrored from train; and terms."""
    folder = tmp_path / "tiles"
    for part, names in {"train": ["s1_0_0", "s1_1_0", "s2_0_0", "s2_1_0"], "val": ["s3_0_0", "s3_1_0"]}.items():
        for key, stain in enumerate("AB"):
            for row, name in enumerate(names):
                write_png(folder / f"{part}{stain}" / f"{name}.png", draw_tile(128, key, row, part == "val"))
    write_png(folder / "trainA/s1_1_0.png", np.full((128, 128, 3), 255, np.uint8))
    mirrored = read_picture(folder / "trainA/s1_0_0.png")[:, ::-1]
    write_png(folder / "valA/s3_0_0.png", np.ascontiguousarray(mirrored))
    tile = Image.open(folder / "trainA/s2_0_0.png")
    tile.save(folder / "trainA/s2_0_0.png", icc_profile=PROFILE, dpi=(50800, 50800))
    (folder / "LICENSE.md").write_text("\n# Terms of these tiles\nask first\n")
    return folder


@pytest.fixture
def built(data: Path, tmp_path: Path) -> Path:
    """A store of `data`."""
    run(lanczos(), data, tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def mend(store: Path, data: Path) -> None:
    repair(None, single(data), store, processes=Processes(threads=1))


def test_a_build_notes_glass_colours_and_mirrored_tiles(data: Path, tmp_path: Path, capsys: Any) -> None:
    run(lanczos(), data, tmp_path / "s.zarr")
    said = " ".join(capsys.readouterr().err.split())
    assert "1 picture(s) of train have one colour" in said
    assert "'trainA/s1_1_0.png'" in said
    assert "1 pair(s) claim two ways to show colours, H&E profile 'XYZ" in said
    assert "1 H&E tile(s) of test look like one of a split before it" in said
    assert "the pictures state 0.5 um/px (resolution tags), and mpp is not set" in said


def test_the_card_says_what_the_tiles_are(built: Path, data: Path) -> None:
    card, fault = read_card(Store.open(built))
    assert fault == ""
    measured = card.measured
    assert measured is not None
    assert {split: part.tiles_of[Stain.HE] for split, part in card.parts.items()} == {
        Split.TRAIN: {"s1": 2, "s2": 2},
        Split.TEST: {"s3": 2},
    }
    assert measured.sources == {Stain.HE: {"128 x 128": 6}, Stain.IHC: {"128 x 128": 6}}
    assert measured.glass[Split.TRAIN][Stain.HE].one_colour.names == ("s1_1_0",)
    assert [(one.name, one.original, one.turned) for one in measured.copies_named] == [("s3_0_0", "s1_0_0", True)]
    assert [(one.differ, one.pairs) for one in measured.colours] == [(True, Named(count=1, names=("train s2_0_0",)))]
    assert (card.mpp_from, {(s.stain, s.mpp) for s in measured.scales if s.mpp}) == ("pictures", {(Stain.HE, 0.5)})
    digest = hashlib.sha256((data / "LICENSE.md").read_bytes()).hexdigest()
    assert card.terms.source == "file"
    assert card.terms.text == f"LICENSE.md: Terms of these tiles (sha256 {digest})"
    assert "MIST" in measured.read_as


def test_info_and_card_show_it(built: Path, tmp_path: Path, line: CommandLine) -> None:
    page = line("info", built).out
    for text in ("H&E 1 tiles of one colour", "1 H&E tiles of test look like", "shifts    not measured"):
        assert text in page
    markdown = line("info", built, "--card").out
    assert markdown.startswith("# Data card: tiles, H&E to IHC\n")
    assert "| train | H&E | 1 | 0 |" in markdown
    assert "test H&E s3_0_0 is like train s1_0_0 (0 bits, turned or mirrored)" in markdown
    assert json.loads(line("info", built, "--json").out)["card"]["schema"] == 1
    outcome = line("card", built, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert (tmp_path / "out/card.md").read_text(encoding="utf-8") == markdown
    tree = json.loads((tmp_path / "out/card.json").read_text(encoding="utf-8"))
    assert tree["measured"]["glass"]["train"]["he"]["one_colour"] == {"count": 1, "names": ["s1_1_0"]}


def test_terms_that_are_set_come_first_and_are_recorded(data: Path, tmp_path: Path) -> None:
    run(lanczos(terms="for the course only"), data, tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    assert store.manifest.settings["terms"] == "for the course only"
    assert read_card(store)[0].terms.text == "for the course only"


def test_a_card_changes_neither_the_seal_nor_what_zarr_sees(data: Path, built: Path, tmp_path: Path) -> None:
    before = Store.open(built).manifest
    (built / CARD).unlink()
    assert verify(built).intact  # as stores of earlier versions
    card, fault = read_card(Store.open(built))
    assert (card.measured, fault, Store.open(built).manifest) == (None, "", before)
    run(lanczos(), data, tmp_path / "again.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group: Any = zarr.open(tmp_path / "again.zarr", mode="r")
        assert sorted(group.keys()) == ["skipped", "test", "train"]
        assert sorted(group["skipped"].keys()) == ["he", "id", "ihc", "reason", "split"]
        group.members(max_depth=None)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_build_that_was_stopped_leaves_the_same_card(
    data: Path, built: Path, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, done = StoreWriter.commit, []

    def stop(writer: StoreWriter, *args: Any) -> None:
        commit(writer, *args)
        done.append(args)
        raise Interrupted("stopped")

    processes = Processes(threads=threads)
    monkeypatch.setattr(StoreWriter, "commit", stop)
    with pytest.raises(Interrupted):
        building.build(lanczos(), single(data), tmp_path / "t.zarr", skip_bad=False, processes=processes)
    assert not (tmp_path / "t.zarr" / CARD).exists()
    monkeypatch.setattr(StoreWriter, "commit", commit)
    building.build(lanczos(), single(data), tmp_path / "t.zarr", skip_bad=False, processes=processes)
    assert done
    assert contents(tmp_path / "t.zarr") == contents(built)


@pytest.mark.parametrize("damage", [alter, cut, empty, Path.unlink])
def test_a_damaged_card_is_named_and_repaired(built: Path, data: Path, line: CommandLine, damage: Any) -> None:
    before = contents(built)
    damage(built / CARD)
    if (built / CARD).exists():
        assert verify(built).altered == (CARD,)
        assert CARD in line("verify", built).err
        outcome = line("info", built)
        assert outcome.code == 0
        assert f"{CARD} of {built} is damaged" in outcome.err
        with pytest.raises(StoreError, match="prep build --repair"):
            read_measured(Folder(built), Store.open(built).manifest.seal)
    mend(built, data)
    assert contents(built) == before


def test_the_card_of_another_store_is_named(built: Path, data: Path, tmp_path: Path) -> None:
    run(lanczos(seed=3), data, tmp_path / "other.zarr")
    (built / CARD).chmod(0o644)
    shutil.copyfile(tmp_path / "other.zarr" / CARD, built / CARD)
    assert verify(built).altered == (CARD,)
    assert "another seal" in read_card(Store.open(built))[1]


def test_a_root_that_is_lost_with_the_card_comes_back_with_it(built: Path, data: Path) -> None:
    before = contents(built)
    alter(built / CARD)
    for name in (ROOT, COPY):
        (built / name).unlink()
    repair(lanczos(), single(data), built, processes=Processes(threads=1), trust_settings=True)
    assert contents(built) == before


def test_a_bucket_holds_the_same_card(built: Path, data: Path, bucket: str) -> None:
    run(lanczos(), data, f"{bucket}/s.zarr")
    assert locate(f"{bucket}/s.zarr").read(CARD) == (built / CARD).read_bytes()
    assert verify(f"{bucket}/s.zarr").intact


def test_terms_are_found_in_both_folders(data: Path, tmp_path: Path) -> None:
    (data / "trainB/TERMS_OF_USE.txt").write_bytes(b"\xff\xfe of use")
    (data / "trainA/copying").write_text("")
    (data / "trainA/licensed_tile.png").touch()
    (data / "trainA/LICENCE").mkdir()
    found = find_terms_files((data / "trainA", data / "trainB", tmp_path / "missing"))
    assert [(one.name, one.line) for one in found] == [
        ("TERMS_OF_USE.txt", "\ufffd\ufffd of use"),
        ("copying", "empty"),
    ]
