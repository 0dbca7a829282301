"""All that stops a build is said at once: a person corrects it in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from prep.build.plan import make_plan
from prep.build.run import build
from prep.build.runner import Processes
from prep.refusals import Refusals
from prep.settings import PrepSettings
from store.schema import MagstainError, PairingError, SettingsError
from tests.support.tile_folders import write_pair
from tests.support.tiles import lanczos, single, write_tiles


def two_folders(root: Path) -> Path:
    """Tiles of 32 px in HE and IHC, without a test set."""
    for number in range(3):
        write_pair(root, f"s{number}_0_0", number)
    return root


def refused_by_plan(data: Path, settings: PrepSettings) -> str:
    with pytest.raises(MagstainError) as caught:
        make_plan(settings, single(data), threads=1)
    return str(caught.value)


def test_one_refusal_is_itself_and_several_are_numbered() -> None:
    one = Refusals()
    with one.collect():
        raise SettingsError("a")
    with pytest.raises(SettingsError, match=r"^a$"):
        one.raise_all()
    with one.collect():
        raise PairingError("b")
    with pytest.raises(PairingError, match=r"^2 things to correct: \(1\) a; \(2\) b$"):
        one.raise_all()


def test_a_bug_is_not_collected() -> None:
    with pytest.raises(ZeroDivisionError), Refusals().collect():
        raise ZeroDivisionError


def test_own_tiles_without_a_test_set_and_too_small_hear_both_at_once(tmp_path: Path) -> None:
    text = refused_by_plan(two_folders(tmp_path), lanczos(view_side=512))
    assert text.startswith("2 things to correct: (1) ")
    assert "set split=by-slide" in text
    assert "(2) HE/s0_0_0.png: tile side 32 px is smaller than view_side 512 px" in text


def test_bad_pairs_are_said_beside_other_refusals(tmp_path: Path) -> None:
    data = two_folders(tmp_path)
    (data / "IHC/s2_0_0.png").write_bytes(b"")
    text = refused_by_plan(data, lanczos())
    assert "set split=by-slide" in text
    assert "1 bad pair: 1 not usable: 's2_0_0' (IHC/s2_0_0.png: the file is empty" in text


def test_pictures_in_two_splits_are_said_beside_other_refusals(tmp_path: Path) -> None:
    for part, name in (("train", "a_0_0"), ("val", "b_0_0")):
        for key, stain in enumerate("AB"):
            write_tiles(tmp_path / f"{part}{stain}", [name], key)
    text = refused_by_plan(tmp_path, lanczos(view_side=512))
    assert text.startswith("2 things to correct: (1) ")
    assert "is smaller than view_side 512 px" in text
    assert "are also in train (leakage)" in text


def test_a_build_says_the_same_before_it_reads_every_picture(tmp_path: Path) -> None:
    data = two_folders(tmp_path / "data")
    (data / "IHC/s2_0_0.png").write_bytes(b"")  # not the first pair: a build does not wait for it
    with pytest.raises(PairingError) as caught:
        build(lanczos(view_side=512), single(data), tmp_path / "x.zarr", skip_bad=False, processes=Processes(threads=1))
    assert "set split=by-slide" in str(caught.value)
    assert "is smaller than view_side 512 px" in str(caught.value)
    assert "bad pair" not in str(caught.value)
    assert not (tmp_path / "x.zarr").exists()


def test_a_plan_that_can_be_made_refuses_bad_pairs_and_copies_together(tmp_path: Path) -> None:
    for part, names in (("train", ["a_0_0", "c_0_0"]), ("val", ["b_0_0"])):
        for key, stain in enumerate("AB"):
            write_tiles(tmp_path / f"{part}{stain}", names, key)
    (tmp_path / "trainB/c_0_0.png").unlink()
    plan = make_plan(lanczos(), single(tmp_path), threads=1)
    with pytest.raises(PairingError, match=r"2 things to correct: \(1\) 1 bad pair: .*\(2\) .*are also in train"):
        plan.refuse(skip_bad=False)
    with pytest.raises(PairingError, match=r"^1 of 1 H&E tiles of test are also in train"):
        plan.refuse(skip_bad=True)
