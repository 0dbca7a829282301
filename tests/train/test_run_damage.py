"""Each file of a run deleted, emptied, cut or flipped, and the same command again: it says so, with the same result."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from store.reader import Store
from store.records.facts import read_facts
from store.run_files import RunFolder
from store.schema import RunError, Split
from tests.support.damage import alter
from tests.support.disks import contents
from tests.support.runs import assert_equal, state
from tests.support.stores import IDS, Ids, build_small_store
from tests.support.tiny_run import NARROW
from train.loop.fit import fit
from train.methods.recipes import load_recipe
from train.run.folder import claim
from train.run.generator_file import load_generator, save_generator
from train.run.metrics import keep_lines

WITH_VAL: Ids = {**IDS, Split.VAL: [f"s4_{t}_0" for t in range(3)]}
SHORT = load_recipe(
    [],
    [
        *NARROW,
        *("method=pix2pix", "generator.depth=5", "optimiser.constant_epochs=4", "optimiser.decay_epochs=0"),
        *("data.views=['x1']", "checkpoint_every=4", "keep_every=8", "sample_every=8", "validate_every=4"),
    ],
)  # 32 steps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_small_store(tmp_path_factory.mktemp("store") / "s.zarr", tile_side=128, view_side=64, ids=WITH_VAL)


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    fit(folder, store, SHORT)
    return folder


@pytest.fixture(scope="module")
def half(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run as it was after step 28, when it had one line of metrics and seven of validation."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "half")
    shutil.copytree(finished.path, folder.path)
    for path in (folder.generator, folder.model_card, max(folder.checkpoints.iterdir())):
        path.unlink()
    for file in (folder.metrics, folder.validation):
        keep_lines(file, 28, None)
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "cut": cut,
    "flipped": alter,
}
NOTHING, LINES = "", r"{} is damaged: lines up to step \d+ are missing or changed"
FILES = {  # what is said when it is damaged, of a finished run and of one that goes on
    "generator.safetensors": (r"generator.safetensors.* written again from the last checkpoint", NOTHING),
    "metrics.jsonl": (LINES.format("metrics.jsonl"),) * 2,
    "validation.jsonl": (LINES.format("validation.jsonl"),) * 2,
    "settings.toml": (r"settings.toml is .* written again, with the settings of this command\n",) * 2,
    "MODEL_CARD.md": (NOTHING, NOTHING),
    "tensorboard/*": (NOTHING, NOTHING),
    "samples/000016.png": (NOTHING, NOTHING),
    "checkpoints/00000028-*": (NOTHING, r"00000028-\w+.pt is damaged.*\n.*resuming after step 24"),
    "checkpoints/00000032-*": (r"00000032-\w+.pt is damaged", NOTHING),
}
ABSENT = {  # a file that was deleted is not missed, or missed otherwise
    "generator.safetensors": "resuming after step 32",
    "checkpoints/00000032-*": NOTHING,
}
CASES = [(name, how) for name in FILES for how in DAMAGE]


def damage(folder: RunFolder, name: str, how: str) -> None:
    (file,) = folder.path.glob(name)
    DAMAGE[how](file)


def check_result(folder: RunFolder, finished: RunFolder) -> None:
    """The result and the last checkpoint are those of the run that nothing happened to, and no partial file is left."""
    left, whole = (load_generator(run.generator) for run in (folder, finished))
    assert_equal(dict(left.generator.state_dict()), dict(whole.generator.state_dict()))
    assert left.header == whole.header
    assert not list(folder.path.rglob("*.partial"))


@pytest.mark.parametrize(("name", "how"), CASES)
def test_a_finished_run_with_a_damaged_file_says_so_and_has_its_result(
    finished: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    damage(folder, name, how)
    fit(folder, store, SHORT)
    said = capsys.readouterr().err
    expected = ABSENT.get(name, FILES[name][0]) if how == "deleted" else FILES[name][0]
    assert re.search(expected, said), said
    assert (expected == NOTHING and name != "MODEL_CARD.md") <= ("warning" not in said)
    check_result(folder, finished)
    assert folder.model_card.stat().st_size
    if name.startswith("checkpoints/"):  # one before the end does not know the lines after it
        assert folder.metrics.read_bytes() == finished.metrics.read_bytes()
        assert folder.validation.read_bytes() == finished.validation.read_bytes()
    fit(folder, store, SHORT)
    assert "is finished (32 steps)" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["cut", "flipped"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "validation.jsonl", "settings.toml", "checkpoints/00000028-*"])
def test_a_run_that_goes_on_with_a_damaged_file_says_so_and_comes_to_the_same_result(
    half: RunFolder,
    finished: RunFolder,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    how: str,
) -> None:
    folder = RunFolder(Path(shutil.copytree(half.path, tmp_path / "run")))
    damage(folder, name, how)
    fit(folder, store, SHORT)
    said = capsys.readouterr().err
    assert re.search(FILES[name][1], said), said
    check_result(folder, finished)
    assert_equal(state(folder), state(finished))
    fit(folder, store, SHORT)
    assert "warning" not in capsys.readouterr().err


def test_lines_after_a_damaged_one_are_kept_and_the_damaged_file_too(
    half: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(Path(shutil.copytree(half.path, tmp_path / "run")))
    before = folder.validation.read_bytes()
    lines = before.splitlines(keepends=True)
    folder.validation.write_bytes(b"".join([lines[0], lines[1][:9], b"\n", b"[]\n", b'{"stop": 3}\n', *lines[2:]]))
    damaged = folder.validation.read_bytes()
    fit(folder, store, SHORT)
    assert "the 6 readable ones are kept" in capsys.readouterr().err
    assert folder.validation.read_bytes().startswith(b"".join([lines[0], *lines[2:]]))
    assert (folder.path / "validation.jsonl.damaged").read_bytes() == damaged


def test_a_changed_setting_in_the_record_is_not_taken_for_the_runs(
    half: RunFolder, store: Store, tmp_path: Path
) -> None:
    """Else the advice would be to give the changed one, and the run would go on with it."""
    folder = RunFolder(Path(shutil.copytree(half.path, tmp_path / "run")))
    folder.settings.write_text(folder.settings.read_text().replace("seed = 0", "seed = 1"))
    with pytest.raises(RunError, match=r"was damaged or edited; bring back a copy, or run again with those settings"):
        fit(folder, store, replace(SHORT, seed=1))


def test_a_damaged_result_without_a_checkpoint_is_kept_and_refused(
    finished: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    shutil.rmtree(folder.checkpoints)
    alter(folder.generator)
    before = contents(folder.path)
    with pytest.raises(RunError, match=r"no checkpoint to write it from: bring back a copy, or delete it to train"):
        fit(folder, store, SHORT)
    assert contents(folder.path) == before


def test_the_result_of_another_run_is_not_this_ones(
    finished: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An intact file, which only the checkpoint contradicts."""
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    trained = load_generator(folder.generator)
    with torch.no_grad():
        next(trained.generator.parameters()).add_(1)
    save_generator(folder.generator, trained.generator, trained.header)
    fit(folder, store, SHORT)
    assert "is not that of the last checkpoint; renamed to generator.damaged" in capsys.readouterr().err
    check_result(folder, finished)


def test_checkpoints_that_are_gone_are_missed(
    half: RunFolder, finished: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run may have been killed before its first one, or somebody removed them."""
    folder = RunFolder(Path(shutil.copytree(half.path, tmp_path / "run")))
    shutil.rmtree(folder.checkpoints)
    fit(folder, store, SHORT)
    assert "checkpoints has no checkpoint: all steps and their lines are made again" in capsys.readouterr().err
    check_result(folder, finished)


def test_partial_files_of_a_killed_start_are_removed_and_files_of_others_stay(
    half: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(Path(shutil.copytree(half.path, tmp_path / "run")))
    partial = [
        folder.checkpoints / "00000032-0123456789abcdef.pt.partial",
        folder.path / "generator.safetensors.partial",
        folder.samples / ".12-34.partial",
    ]
    mine = folder.checkpoints / "best-of-all.pt"
    for file in [*partial, mine]:
        file.write_bytes(b"half")
    fit(folder, store, SHORT)
    assert not any(file.exists() for file in partial)
    assert mine.read_bytes() == b"half"


def test_a_damaged_run_record_is_written_again_or_refused_and_never_costs_a_checkpoint(
    half: RunFolder, finished: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(half.path, folder.path)
    data = folder.facts.read_bytes()
    facts, before = read_facts(folder), contents(folder.checkpoints)
    for mark in (b'"synthetic"', b'"parameters"', b'"device"', b'"sha256": "'):
        place = data.index(mark) + len(mark) - 2
        folder.facts.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert claim(folder, SHORT, facts)[0].startswith(f"{folder.facts} ")
        assert folder.facts.read_bytes() == data
    for mark in (b'"seal": "', b'"settings": "', b'"processes": '):
        place = data.index(mark) + len(mark)
        folder.facts.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(RunError, match=r"run\.json .*restore the file from a copy.*keep the checkpoints") as told:
            fit(folder, store, SHORT)
        assert "delete" not in str(told.value)
        assert contents(folder.checkpoints) == before
    place = data.index(b'"device"') + 1
    folder.facts.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    fit(folder, store, SHORT)
    assert "it is written again: store, processes and settings" in capsys.readouterr().err
    check_result(folder, finished)
