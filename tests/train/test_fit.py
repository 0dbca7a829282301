"""Training as a whole: steps against a plain version, and a run that may be cut off, damaged, broken or changed."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from store.images import read_picture
from store.reader import Store
from store.records.facts import read_facts
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, SettingsError
from tests.support.runs import assert_equal, newest, state
from tests.support.stores import build_small_store
from tests.support.tiny_run import TINY
from train.data.batch import Batch, RawBatch
from train.data.loader import to_batch
from train.loop import captured
from train.loop import fit as loop
from train.loop.fit import fit
from train.loop.schedule import set_learning_rate
from train.run.generator_file import load_generator, settled
from train.run.metrics import Terms, TermWindow, keep_lines
from train.runtime.device import resolve
from train.settings import (
    DataSettings,
    DiscriminatorSettings,
    OptimiserSettings,
    Precision,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_small_store(tmp_path_factory.mktemp("store") / "s.zarr", tile_side=128, view_side=64)


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    fit(folder, store, TINY)
    return folder


def metrics(folder: RunFolder) -> list[dict[str, float]]:
    return [json.loads(line) | {"seconds": 0.0} for line in folder.metrics.read_text().splitlines()]


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_finished_run_says_what_it_is(finished: RunFolder, store: Store) -> None:
    lines = metrics(finished)
    assert [(line["step"], line["epoch"]) for line in lines] == [(25, 4), (32, 4)]
    assert lines[0]["learning_rate"] == pytest.approx(2e-4 / 2)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert [file.name[:8] for file in sorted(finished.checkpoints.iterdir())] == ["00000030", "00000032"]
    facts = read_facts(finished)
    assert (facts.seal, facts.pairs, facts.pairs_seen, facts.precision) == (store.manifest.seal, 8, 32, "fp32")
    trained = load_generator(finished.generator)
    assert (trained.header.step, trained.header.pairs_seen, trained.header.settings) == (32, 32, settled(TINY))
    assert_equal(dict(trained.generator.state_dict()), dict(state(finished)["modules"]["generator"]))
    sheet = read_picture(finished.samples / "000032.png")
    assert sheet.shape[1] > 3 * 256
    assert sheet.std() > 10


@pytest.mark.parametrize("at", [10, 27])
def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(
    finished: RunFolder, store: Store, tmp_path: Path, signal_at: Callable[[int], None], at: int
) -> None:
    folder = RunFolder(tmp_path / "run")
    signal_at(at)
    with pytest.raises(Interrupted, match=f"saved after step {at} of 32; run the same command to resume"):
        fit(folder, store, TINY)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal_at(0)
    fit(folder, store, TINY)
    assert_equal(state(folder), state(finished))
    assert metrics(folder) == metrics(finished)
    assert folder.generator.read_bytes() == finished.generator.read_bytes()


def test_a_time_limit_saves_and_exits_and_the_limit_may_change(
    finished: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Interrupted, match="saved after step 1 of 32; run the same command to resume"):
        fit(folder, store, replace(TINY, time_limit=1e-6))
    with pytest.raises(Interrupted, match="saved after step 2 of 32"):  # of this start, not of the whole run
        fit(folder, store, replace(TINY, time_limit=1e-6))
    fit(folder, store, replace(TINY, time_limit=60.0))
    assert_equal(state(folder), state(finished))
    assert metrics(folder) == metrics(finished)


@pytest.mark.gpu
def test_a_run_on_this_device_is_stopped_and_resumed(
    store: Store, tmp_path: Path, signal_at: Callable[[int], None], device: torch.device
) -> None:
    """In the precision that the device gets by itself."""
    folder, settings = RunFolder(tmp_path / "run"), replace(TINY, device=device.type, precision=Precision.AUTO)
    signal_at(10)
    with pytest.raises(Interrupted, match="saved after step 10 of 32; run the same command to resume"):
        fit(folder, store, settings)
    before = state(folder)["modules"]
    signal_at(0)
    fit(folder, store, settings)
    assert (str(read_facts(folder).device).partition(":")[0], state(folder)["step"]) == (device.type, 32)
    for name, module in state(folder)["modules"].items():
        moved = [not torch.equal(value, before[name][key]) for key, value in module.items()]
        assert any(moved), name
        assert all(value.isfinite().all() for value in module.values()), name


def test_a_run_that_was_killed_between_checkpoints_repeats_the_steps_and_their_lines(
    finished: RunFolder, store: Store, tmp_path: Path, at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    folder = RunFolder(tmp_path / "run")
    at_step(28, die)
    with pytest.raises(Killed):
        fit(folder, store, TINY)
    assert [line["step"] for line in metrics(folder)] == [25]
    with folder.metrics.open("a") as file:
        file.write('{"step": 26, "ep')
    at_step(0, die)
    fit(folder, store, TINY)
    assert metrics(folder) == metrics(finished)
    assert_equal(state(folder), state(finished))


def test_how_often_a_run_is_saved_and_who_reads_may_change_and_its_numbers_do_not(
    finished: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    fit(folder, store, replace(TINY, checkpoint_every=7, sample_every=13, data=DataSettings(workers=1)))
    assert metrics(folder) == metrics(finished)
    assert_equal(state(folder), state(finished))
    assert [file.name for file in sorted(folder.samples.iterdir())] == ["000013.png", "000026.png", "000032.png"]


def test_a_finished_run_is_not_changed(finished: RunFolder, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(finished.path)
    fit(finished, store, TINY)
    assert "is finished (32 steps)" in capsys.readouterr().err
    assert listing(finished.path) == before


def test_a_checkpoint_that_a_killed_start_did_not_remove_is_removed(
    finished: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    folder.generator.unlink()
    data = b"of an earlier step"
    (folder.checkpoints / f"00000001-{hashlib.sha256(data).hexdigest()[:16]}.pt").write_bytes(data)
    fit(folder, store, TINY)
    assert [file.name[:8] for file in sorted(folder.checkpoints.iterdir())] == ["00000030", "00000032"]


def test_a_damaged_checkpoint_is_skipped_and_the_one_before_is_resumed(
    finished: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    folder.generator.unlink()
    last = newest(folder)
    last.write_bytes(last.read_bytes()[:-100])
    fit(folder, store, TINY)
    said = capsys.readouterr().err
    assert f"warning: {last} is damaged" in said
    assert "resuming after step 30" in said
    assert folder.generator.read_bytes() == finished.generator.read_bytes()
    assert metrics(folder) == metrics(finished)
    assert last.with_suffix(".damaged").exists()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_again(
    finished: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    folder.generator.unlink()
    for file in folder.checkpoints.iterdir():
        file.write_bytes(b"")
    before = listing(folder.path)
    for _ in range(2):
        with pytest.raises(RunError, match=r"no checkpoint of .* is intact.*bring back a copy, or delete"):
            fit(folder, store, TINY)
        assert listing(folder.path) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, r"was started with seed = 0 \(now 1\)"),
        ({"precision": Precision.BF16}, r'precision = "fp32" \(now "bf16"\)'),
        ({"data": DataSettings(views=("x1",))}, r'data.views = \["x1", "x2", "x4"\] \(now \["x1"\]\)'),
    ],
)
def test_other_settings_are_refused_with_both_values(
    finished: RunFolder, store: Store, changed: dict[str, Any], message: str
) -> None:
    before = listing(finished.path)
    with pytest.raises(RunError, match=message):
        fit(finished, store, replace(TINY, **changed))
    assert listing(finished.path) == before


def test_another_store_is_refused_with_both_seals(finished: RunFolder, store: Store) -> None:
    other = Store(Path("other.zarr"), replace(store.manifest, seal="ab" * 32))
    with pytest.raises(
        RunError, match=rf"\(seal {store.manifest.seal[:12]}\), but other.zarr .* \(seal abababababab\)"
    ):
        fit(finished, other, TINY)


def test_a_folder_that_is_no_run_is_refused_and_kept(store: Store, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"is not a run and not empty \(it has thesis.tex\)"):
        fit(RunFolder(tmp_path), store, TINY)
    assert listing(tmp_path) == {"thesis.tex": b"mine"}


def test_views_too_small_for_the_discriminator_are_refused_before_anything_is_written(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"pictures of 64 px.*nearest side that works is 96 px"):
        fit(RunFolder(tmp_path / "run"), store, replace(TINY, discriminator=DiscriminatorSettings(base=4, layers=5)))
    assert list(tmp_path.iterdir()) == []


def test_a_term_that_is_not_finite_stops_a_run_that_bears_none_and_is_not_saved(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(reading: RawBatch, device: torch.device) -> Batch:
        batch = to_batch(reading, device)
        poisoned_steps.append(len(poisoned_steps) + 1)
        return Batch(he=batch.he, ihc=batch.ihc * math.nan) if poisoned_steps[-1] == 13 else batch

    poisoned_steps: list[int] = []
    monkeypatch.setattr(captured, "to_batch", poisoned)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match=r"step 13: discriminator_real is nan, .*; nothing was saved of it"):
        fit(folder, store, replace(TINY, optimiser=replace(TINY.optimiser, stop_after_skips=1)))
    assert newest(folder).name.startswith("00000010")
    assert not folder.generator.exists()


def test_parameters_that_the_last_step_broke_are_not_saved(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(optimisers: dict[str, Any], settings: OptimiserSettings, epoch: int) -> float:
        first = set_learning_rate(optimisers, settings, epoch)
        optimisers["generator"].param_groups[0]["lr"] = math.inf
        return first

    monkeypatch.setattr(loop, "set_learning_rate", explode)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match=r"of the generator is not finite after step 1; nothing was saved"):
        fit(folder, store, replace(TINY, checkpoint_every=1))
    assert not folder.checkpoints.exists()


def test_a_window_gives_means_and_is_resumed() -> None:
    whole, cut = TermWindow(), TermWindow()
    for step in range(1, 5):
        terms = Terms.of({"a": torch.tensor(float(step)), "b": torch.tensor(0.1)})
        whole.add(step, terms)
        cut.add(step, terms)
        assert cut.fetch() == []
        cut = TermWindow(fetched=json.loads(json.dumps(cut.fetched)), skips=cut.skips)
    assert whole.fetch() == []
    assert cut.take() == whole.take() == {"skipped": 0, "a": 2.5, "b": pytest.approx(0.1)}
    assert whole.fetched == []


def test_lines_after_the_checkpoint_and_torn_ones_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 5}\n{"step": 10}\n{"step": 15}\n\0\0')
    assert keep_lines(file, 10, None) == []
    assert file.read_bytes() == b'{"step": 5}\n{"step": 10}\n'
    assert keep_lines(file, 7, None) == []
    assert file.read_bytes() == b'{"step": 5}\n'


def test_auto_is_resolved_and_stored(store: Store, tmp_path: Path, signal_at: Callable[[int], None]) -> None:
    folder = RunFolder(tmp_path / "run")
    signal_at(1)
    with pytest.raises(Interrupted):
        fit(folder, store, replace(TINY, precision=Precision.AUTO))
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert resolve("cpu", Precision.AUTO).precision == read_facts(folder).precision == ("bf16" if native else "fp32")
    assert f'precision = "{read_facts(folder).precision}"' in folder.settings.read_text()
