"""What a run meets in a week: kills, dying readers, an exchanged store; and what it keeps and tells meanwhile."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from store.images import read_picture
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, SettingsError, Split, Stain, StoreError
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.runs import assert_equal, newest, state
from tests.support.stores import IDS, Ids, build_small_store
from tests.support.tiny_run import TINY
from train.__main__ import app
from train.data.loader import read_batches
from train.data.sampling import plan_order
from train.loop.ema import Ema
from train.loop.fit import fit
from train.loop.step import OptimisationStep, average_and_clip
from train.run.generator_file import load_generator
from train.run.inference import rounded, translate, translation_mode
from train.run.metrics import Terms
from train.run.snapshots import choose_examples, validation_scores
from train.runtime.device import resolve
from train.runtime.distributed import Ranks
from train.settings import AtTest, DataSettings, OptimiserSettings, Precision

WITH_VAL: Ids = {**IDS, Split.VAL: [f"s4_{t}_0" for t in range(3)]}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_small_store(tmp_path_factory.mktemp("store") / "s.zarr", tile_side=128, view_side=64, ids=WITH_VAL)


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of 32 steps that nothing disturbed; checkpoints every 10."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    fit(folder, store, replace(TINY, validate_every=16, sample_every=16))
    return folder


def lines(file: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from tests.support.tiny_run import TINY
from store.reader import Store
from train.run import checkpoint
from store.run_files import RunFolder
from train.loop.fit import fit
import torch

torch.set_num_threads(1)
write = checkpoint.write_whole

def torn(path, data):
    if path.name.startswith("00000020"):
        where = path.with_name(path.name + ".partial") if sys.argv[3] == "beside" else path
        where.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)

checkpoint.write_whole = torn
fit(RunFolder(Path(sys.argv[2])), Store.open(sys.argv[1]), TINY)
"""


@pytest.mark.parametrize(("where", "step"), [("beside", 10), ("in place", 10)])
def test_kill_9_while_a_checkpoint_is_written_costs_at_most_the_steps_since_the_one_before(
    finished: RunFolder, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, step: int
) -> None:
    """Half a file beside its place, as ours would be left, and half a file in its place, as a disk may."""
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, store.path, run, where], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = RunFolder(run)
    fit(folder, store, TINY)
    said = capsys.readouterr().err
    assert f"resuming after step {step}" in said
    assert ("warning: " in said and ".pt is damaged: " in said) == (where == "in place")
    assert_equal(state(folder), state(finished))
    left, whole = (load_generator(run.generator).generator.state_dict() for run in (folder, finished))
    assert_equal(dict(left), dict(whole))


def test_a_reader_that_dies_stops_the_run_where_it_was_and_says_why(
    finished: RunFolder, store: Store, tmp_path: Path, at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    folder, settings = RunFolder(tmp_path / "run"), replace(TINY, data=DataSettings(workers=1))

    def kill_reader() -> None:
        reader = [c for c in psutil.Process().children(recursive=True) if "forkserver" in " ".join(c.cmdline())]
        leaves = [process for process in reader if not process.children()]
        max(leaves, key=lambda process: process.memory_info().rss).kill()

    at_step(13, kill_reader)
    with pytest.raises(RunError, match=r"a process that reads .* died .*/dev/shm.*fewer data.workers"):
        fit(folder, store, settings)
    saved = state(folder)["step"]
    assert 13 <= saved < 32  # what had been read already was still used
    at_step(0, lambda: None)
    fit(folder, store, settings)
    assert_equal(state(folder), state(finished))


def test_a_picture_that_is_damaged_under_a_run_stops_it_where_it_was(store: Store, tmp_path: Path) -> None:
    damaged = Store.open(shutil.copytree(store.path, tmp_path / "damaged.zarr"))
    folder, settings = RunFolder(tmp_path / "run"), replace(TINY, checkpoint_every=100)
    drawn = list(plan_order(damaged, TINY.data, seed=0, epochs=4).batches(0))
    (draw,) = drawn[5]
    shard = next(damaged.path.glob(f"train/{draw.he.view}/he/c/{draw.he.pair // 3}/**/0/0/0/0"))
    first = next(n for n, (d,) in enumerate(drawn) if (d.he.view, d.he.pair // 3) == (draw.he.view, draw.he.pair // 3))
    shard.chmod(0o644)
    whole = shard.read_bytes()
    shard.write_bytes(bytes(len(whole) - 200) + whole[-200:])
    with pytest.raises(StoreError, match="cannot be read"):
        fit(folder, damaged, settings)
    if first:
        assert state(folder)["step"] == first
    shard.write_bytes(whole)
    fit(folder, damaged, settings)
    assert state(folder)["step"] == 32


def test_a_store_that_becomes_another_under_a_run_is_noticed_before_anything_of_it_is_saved(
    store: Store, tmp_path: Path, at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(store.path, path)
    folder = RunFolder(tmp_path / "run")

    def exchange() -> None:
        path.rename(tmp_path / "away.zarr")
        build_small_store(path, tile_side=192, view_side=96, unit=4, ids=WITH_VAL)

    at_step(13, exchange)
    with pytest.raises(
        RunError, match=r"was replaced by another store .* \(seal .*, now .*\); the steps after step 10 are not"
    ):
        fit(folder, Store.open(path), TINY)
    assert newest(folder).name.startswith("00000010")
    with pytest.raises(RunError, match=r"was started on .* but .* is another store"):
        fit(folder, Store.open(path), TINY)


def test_decoding_in_the_parent_first_does_not_hang_the_readers(store: Store) -> None:
    """Locks and threads of a decoder must not be carried into another process: they come from a clean server."""
    for row in range(3):
        store.picture(Split.VAL, "tile", Stain.HE, row)
    torch.rand(256, 256) @ torch.rand(256, 256)
    read: list[int] = []

    def read_all() -> None:
        order = plan_order(store, DataSettings(batch=2), seed=0, epochs=2)
        read.extend(len(reading.flips) for reading in read_batches(store, order, done=0, workers=2, pin=False))

    thread = Thread(target=read_all, daemon=True)
    thread.start()
    thread.join(timeout=120)
    assert read == [2] * 8


def test_checkpoints_of_round_steps_are_kept(store: Store, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    fit(folder, store, replace(TINY, checkpoint_every=4, keep_every=8))
    kept = [int(file.name.partition("-")[0]) for file in sorted(folder.checkpoints.iterdir())]
    assert kept == [8, 16, 24, 28, 32]


def test_an_ema_averages_parameters_and_copies_buffers() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    average = Ema(network, 0.9)
    expected: list[torch.Tensor] = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.rand(4, 3))
        average.update(network, torch.tensor(False))
        expected = [0.9 * own + 0.1 * p.detach() for own, p in zip(expected, network.parameters(), strict=True)]
    for own, value in zip(average.network.parameters(), expected, strict=True):
        torch.testing.assert_close(own, value)
        assert not own.requires_grad
    for kept, buffer in zip(average.network.buffers(), network.buffers(), strict=True):
        assert torch.equal(kept, buffer)


def test_the_ema_is_the_saved_generator_and_resumes_bit_for_bit(
    store: Store, tmp_path: Path, at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    settings = replace(TINY, ema=0.9)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    fit(whole, store, settings)
    at_step(13, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        fit(cut, store, settings)
    at_step(0, lambda: None)
    fit(cut, store, settings)
    assert_equal(state(cut), state(whole))
    left = load_generator(whole.generator).generator.state_dict()
    assert_equal(dict(left), dict(state(whole)["modules"]["average0"]))
    assert any(not torch.equal(left[key], value) for key, value in state(whole)["modules"]["generator"].items())
    with pytest.raises(SettingsError, match=r"ema = 1\.0.*the decay in \[0, 1\)"):
        replace(TINY, ema=1.0)


def test_a_gradient_that_is_too_long_is_shortened_and_a_short_one_is_not() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    optimiser = torch.optim.Adam(weights)
    for clip, length in ((0.0, 10.0), (20.0, 10.0), (5.0, 5.0)):
        gradients = torch.tensor([6.0, 0.0, 0.0]), torch.tensor([[0.0, 8.0], [0.0, 0.0]])
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        assert average_and_clip(optimiser, clip).item() == pytest.approx(10.0)
        assert math.hypot(gradients[0][0].item(), gradients[1][0, 1].item()) == pytest.approx(length)
    with pytest.raises(SettingsError, match=r"optimiser.clip = -1\.0"):
        OptimiserSettings(clip=-1.0)


def test_a_run_that_diverges_names_the_checkpoint_to_rely_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def poisoned(step: OptimisationStep, *parts: Any) -> Terms:
        made = call(step, *parts)
        steps.append(len(steps) + 1)
        terms = made.by_name()
        return Terms.of(terms | {"nce": terms["nce"] * math.nan}) if steps[-1] == 14 else made

    call = OptimisationStep.__call__
    monkeypatch.setattr(OptimisationStep, "__call__", poisoned)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match=r"step 14: nce is nan .*the last good checkpoint is .*00000010-\w+\.pt"):
        fit(folder, store, replace(TINY, optimiser=replace(TINY.optimiser, stop_after_skips=1)))


def test_val_is_scored_as_evaluate_does_and_reported_as_lines_and_events(finished: RunFolder, store: Store) -> None:
    from evaluate.metrics.paired import psnr, ssim

    told = lines(finished.validation)
    assert [line["step"] for line in told] == [16, 32]
    generator = load_generator(finished.generator).generator
    scores = []
    with translation_mode(generator, AtTest.EVALUATION):
        for pair, view in enumerate(("x1", "x2", "x4")):
            he, ihc = (store.picture(Split.VAL, view, stain, pair) for stain in Stain)
            fake = rounded(translate(generator.to(memory_format=torch.channels_last), he, torch.device("cpu")))
            scores.append((ssim(fake, ihc), psnr(fake, ihc)))
    assert told[-1]["pictures"] == 3
    assert (told[-1]["ssim"], told[-1]["psnr"]) == pytest.approx(np.mean(scores, axis=0), abs=1e-3)
    board = EventAccumulator(str(finished.tensorboard))
    board.Reload()
    assert [e.step for e in board.Scalars("train/nce")] == [25, 32]
    assert [e.value for e in board.Scalars("validation/ssim")] == pytest.approx([line["ssim"] for line in told])
    assert [e.step for e in board.Images("samples")] == [16, 32]


def test_validation_is_one_number_for_perfect_pictures(store: Store) -> None:
    examples = choose_examples(store, ("x1",))
    assert [example.pair for example in examples] == [0, 1, 2]
    noisy = [np.clip(e.ihc.astype(int) + 10, 0, 255).astype(np.uint8) for e in examples]
    assert validation_scores([e.ihc for e in examples[:1]], examples[:1])["ssim"] == pytest.approx(1.0)
    assert 20 < validation_scores(noisy, examples)["psnr"] < 40


def test_what_was_reported_after_the_checkpoint_is_reported_once(
    finished: RunFolder, store: Store, tmp_path: Path, at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    """A kill between two checkpoints, after a validation and a line: both come again, and the curves do not fork."""

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    folder, settings = RunFolder(tmp_path / "run"), replace(TINY, validate_every=16, sample_every=16)
    at_step(29, die)
    with pytest.raises(Killed):
        fit(folder, store, replace(settings, checkpoint_every=12))
    assert newest(folder).name.startswith("00000024")
    at_step(0, lambda: None)
    fit(folder, store, settings)
    assert lines(folder.validation) == lines(finished.validation)
    board = EventAccumulator(str(folder.tensorboard))
    board.Reload()
    assert [e.step for e in board.Scalars("train/nce")] == [25, 32]


def test_a_model_card_says_what_the_generator_is_and_is_not_for(finished: RunFolder, store: Store) -> None:
    card = finished.model_card.read_text(encoding="utf-8")
    for said in (
        "H&E to test by attention_gan",
        "Not for clinical use",
        "SYNTHETIC DATA: the pictures are drawn, not tissue",
        store.manifest.seal,
        "8 train pairs, views x1, x2, x4 at 64 px",
        "32 steps, 32 pairs seen",
        "On 3 pictures of val",
        'method = "attention_gan"',
    ):
        assert said in card


def test_events_are_json_lines_and_nothing_else_is_on_stdout(store: Store, tmp_path: Path) -> None:
    words = ["fit", "--store", store.path, "--run", tmp_path / "run", "--json"]
    tiny = ["precision=fp32", "device=cpu", "data.workers=0", "generator.base=4", "discriminator.base=4"]
    tiny += ["discriminator.layers=3", "contrast.patches=16", "contrast.width=8"]
    tiny += ["optimiser.constant_epochs=1", "optimiser.decay_epochs=0"]
    tiny += ["checkpoint_every=4", "validate_every=8", "tensorboard=false"]
    done = subprocess.run(
        [sys.executable, "-m", "train", *map(str, words), *(w for s in tiny for w in ("--set", s))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events] == ["started", "saved", "metrics", "validation", "saved", "finished"]
    assert (events[0]["steps"], events[2]["step"], events[3]["pictures"]) == (8, 8, 3)
    assert Path(events[4]["file"]).is_file()
    assert not re.search(r"steps?/s", done.stderr)
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_generator_file_needs_no_run_to_translate(
    finished: RunFolder,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = Path(shutil.copy(finished.generator, tmp_path / "mine.safetensors"))
    line = CommandLine("train", app, monkeypatch, capsys)
    done = line("predict", "--checkpoint", file, "--store", store.path)
    assert done.code == 0, done.err
    pictures = sorted((tmp_path / "mine" / "predictions" / "test" / "tile" / "fake").iterdir())
    assert len(pictures) == 4
    generator = load_generator(finished.generator).generator.to(memory_format=torch.channels_last)
    he = store.picture(Split.TEST, "tile", Stain.HE, 0)
    with translation_mode(generator, AtTest.EVALUATION):
        expected = rounded(translate(generator, he, torch.device("cpu")))
    assert np.abs(read_picture(pictures[0]).astype(int) - expected).max() <= 1
    assert "name the store with --store" in line("predict", "--checkpoint", file).err
    assert "not both" in line("predict", "--checkpoint", file, "--run", finished.path).err
    resume = line("predict", "--checkpoint", newest(finished), "--store", store.path)
    assert resume.code == 2
    assert "is a checkpoint, from which a run resumes, not a generator" in resume.err


def test_a_run_on_a_cpu_may_be_asked_to_be_deterministic_and_is_the_same(
    finished: RunFolder, store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    try:
        fit(folder, store, replace(TINY, deterministic=True))
        assert torch.are_deterministic_algorithms_enabled()
        assert not vars(torch.utils)["deterministic"].fill_uninitialized_memory  # a launch for each result
    finally:
        torch.use_deterministic_algorithms(False)
    assert_equal(state(folder), state(finished))


def test_tf32_and_a_numbered_gpu_are_refused_where_they_cannot_be() -> None:
    with pytest.raises(SettingsError, match=r"precision = tf32 on cpu.*from Ampere on"):
        resolve("cpu", Precision.TF32)
    with pytest.raises(SettingsError, match=r"device = 'cuda:1' for 4 processes: each needs its own GPU"):
        resolve("cuda:1", Precision.FP32, Ranks(rank=1, count=4, local=1))


def test_accumulated_batches_are_one_longer_step(store: Store, tmp_path: Path) -> None:
    """As many steps as a batch of that size has, on the same draws in the same order."""
    settings = replace(TINY, data=replace(TINY.data, accumulate=2, batch=2))
    order, longer = (plan_order(store, data, seed=0, epochs=4) for data in (settings.data, replace(TINY.data, batch=4)))
    assert order.steps == longer.steps == 8
    parts = list(order.batches(0))
    assert [[*a, *b] for a, b in zip(parts[::2], parts[1::2], strict=True)] == list(longer.batches(0))
    folder = RunFolder(tmp_path / "run")
    fit(folder, store, settings)
    assert (state(folder)["step"], load_generator(folder.generator).header.pairs_seen) == (8, 32)
