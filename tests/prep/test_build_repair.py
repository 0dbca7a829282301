"""`prep build --repair` and `--dry-run`, as they are typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prep.build.run import repair
from prep.build.runner import Processes
from prep.settings import Recipe
from store.format.manifest import COPY, ROOT, journal_of
from store.schema import StoreError
from store.verify import verify
from tests.support.damage import alter
from tests.support.disks import contents
from tests.support.tiles import TILES, command, digest, lanczos, run, single, write_tiles

ONE_THREAD = Processes(threads=1)


@pytest.fixture
def built(mist: Path, tmp_path: Path) -> Path:
    """A store of `mist`, not to be changed."""
    run(lanczos(), mist, tmp_path / "built" / "s.zarr")
    return tmp_path / "built" / "s.zarr"


def test_damage_is_built_again_and_nothing_else(mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(), mist, store)
    before, stamps = contents(store), {f: f.stat().st_mtime_ns for f in store.rglob("*/c/*/*") if f.is_file()}
    for name in ("train/x4/he/c/1/0/0/0/0", "train/pair/id/c/0", "test/x2/ihc/zarr.json"):
        alter(store / name)
    (store / "test/tile/he/c/0/0/0/0").unlink()
    done = command("build", "--repair", "--store", store, "--data", mist, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 unit(s) to build again: train-000001, test-000000; 2 file(s) to write again" in done.stderr
    assert contents(store) == before
    assert verify(store).intact
    assert not journal_of(store).exists()
    same = [f for f, stamp in stamps.items() if f.stat().st_mtime_ns == stamp]
    assert len(same) > len(stamps) / 2


def test_the_command_that_verify_names_repairs(mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(seed=3), mist, store)
    before = contents(store)
    alter(store / "train/x1/he/c/0/0/0/0/0")
    from store.verify import describe

    (line, *_) = describe(store, verify(store)).splitlines()
    words = line.partition("python -m prep ")[2].partition("`")[0]
    done = command(*(word.strip("'").replace("DIR", str(mist)) for word in words.split()), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(store) == before  # with the settings that the store holds, seed 3 among them


OTHER: dict[str, dict[str, object]] = {
    "view_side: 64 -> 32": {"view_side": 32, "margin": 2},
    "stain": {"stain": "ER"},
    "mpp": {"mpp": 0.5},
    "name": {"name": "other"},
    "margin": {"margin": 2},
    "seed": {"seed": 1},
    "recipe": {"recipe": Recipe.NATIVE},
    "keep_tiles: true -> ": {"keep_tiles": False},
    "unit: 2 -> 3": {"unit": 3},
    "batch": {"batch": 2},
}
PROVEN = {
    "view_side: 64 -> 32",
    "margin",
    "seed",
    "recipe",
    "keep_tiles: true -> ",
    "unit: 2 -> 3",
}  # by what is left of a store


def test_a_lost_root_comes_back_from_its_copy(mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(seed=3, stain="HER2"), mist, store)
    before = contents(store)
    (store / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"s\.zarr has lost its zarr\.json; to repair .* with --repair"):
        run(lanczos(seed=3, stain="HER2"), mist, store)
    repair(None, single(mist), store, processes=ONE_THREAD)
    assert contents(store) == before


@pytest.mark.parametrize("copy", ["intact", "lost"])
def test_a_lost_root_is_not_repaired_with_foreign_settings(built: Path, mist: Path, tmp_path: Path, copy: str) -> None:
    store = tmp_path / "s.zarr"
    shutil.copytree(built, store)
    for name in (ROOT, COPY) if copy == "lost" else (ROOT,):
        (store / name).unlink()
    before = contents(tmp_path)
    for words, changes in OTHER.items():
        expected = (
            f"settings or .*{words}" if copy == "intact" else words if "->" in words else "other bytes|trust-sett"
        )
        with pytest.raises(StoreError, match=expected):
            repair(lanczos(**changes), single(mist), store, processes=ONE_THREAD)
        if copy == "intact" or words in PROVEN:
            with pytest.raises(StoreError):
                repair(lanczos(**changes), single(mist), store, processes=ONE_THREAD, trust_settings=True)
        assert contents(tmp_path) == before, words


def test_a_lost_root_without_a_copy_needs_settings_and_a_word(built: Path, mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    shutil.copytree(built, store)
    before = contents(store)
    for name in (ROOT, COPY, "train/x4/he/c/1/0/0/0/0"):
        (store / name).unlink()
    with pytest.raises(StoreError, match="missing or damaged, so it does not say what it was made with; give"):
        repair(None, single(mist), store, processes=ONE_THREAD)
    with pytest.raises(
        StoreError,
        match=r'does not say whether the store had name "tiles", stain "IHC", mpp {}, split .*--trust-',
    ):
        repair(lanczos(), single(mist), store, processes=ONE_THREAD)
    repair(lanczos(), single(mist), store, processes=ONE_THREAD, trust_settings=True)
    assert contents(store) == before


def test_a_damaged_root_that_holds_its_seal_needs_no_word(built: Path, mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    shutil.copytree(built, store)
    before = contents(store)
    (store / COPY).unlink()
    (store / ROOT).write_bytes(before[ROOT].replace(b"{", b"[", 1))
    with pytest.raises(StoreError, match="trust-settings"):
        repair(lanczos(stain="ER"), single(mist), store, processes=ONE_THREAD)
    repair(lanczos(), single(mist), store, processes=ONE_THREAD)
    assert contents(store) == before


def test_other_tiles_cannot_repair(mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(), mist, store)
    alter(store / "train/x4/he/c/1/0/0/0/0")
    before = digest(store)
    for key, stain in enumerate("AB"):
        (mist / f"train{stain}" / f"{TILES[0]}.png").unlink()
        write_tiles(mist / "new" / stain, [TILES[0]], 70 + key)
        (mist / "new" / stain / f"{TILES[0]}.png").rename(mist / f"train{stain}" / f"{TILES[0]}.png")
    with pytest.raises(StoreError, match=r"given tiles are not those that .* was made from"):
        repair(None, single(mist), store, processes=ONE_THREAD)
    assert digest(store) == before


def test_an_intact_store_stays_as_it_is(mist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(), mist, store)
    before, stamps = contents(store), {file: file.stat().st_mtime_ns for file in store.rglob("*")}
    repair(None, single(mist), store, processes=ONE_THREAD)
    assert contents(store) == before
    assert {file: file.stat().st_mtime_ns for file in store.rglob("*")} == stamps
    assert not journal_of(store).exists()
    assert "s.zarr is intact, there is nothing to repair" in capsys.readouterr().err


def test_files_of_an_interrupted_write_are_removed(mist: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(), mist, store)
    before = contents(store)
    (store / "train" / ".1-aa.partial").write_bytes(b"half")
    assert verify(store).extra == ("train/.1-aa.partial",)
    repair(None, single(mist), store, processes=ONE_THREAD)
    assert contents(store) == before


def test_a_dry_run_says_what_is_left_and_writes_nothing(mist: Path, tmp_path: Path) -> None:
    words: list[str | Path] = ["build", "--data", mist, "--store", "s.zarr", "--dry-run"]
    words += ["--set", "upscaler=lanczos", "--set", "view_side=64", "--set", "unit=2", "--set", "margin=4"]
    before = contents(tmp_path)
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "  left      5 of 5 units; nothing was written"
    assert contents(tmp_path) == before
    run(lanczos(), mist, tmp_path / "s.zarr")
    assert "0 of 5 units" in command(*words, cwd=tmp_path).stdout
    done = command(*words, "--repair", cwd=tmp_path)
    assert done.returncode == 2
    assert "--repair and --dry-run exclude each other" in done.stderr
    done = command(*words[:5], "--workers", "2", "--scheduler", "tcp://x:1", cwd=tmp_path)
    assert done.returncode == 2
    assert "give one of them" in done.stderr
