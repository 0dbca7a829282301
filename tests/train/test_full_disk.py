"""A disk that is full while a run writes: a sentence, exit code 2, and the same command goes on when there is space."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.reader import Store
from store.run_files import RunFolder
from store.schema import StoreError
from tests.support.command_line import CommandLine
from tests.support.disks import fill, full, mounted
from tests.support.tiny_run import NARROW
from train.__main__ import app
from train.run.event_files import EventFiles
from train.run.generator_file import load_generator

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = [*NARROW, "method=pix2pix", "generator.depth=5", "optimiser.constant_epochs=2", "optimiser.decay_epochs=2"]
SHORT += ["data.views=['x1']", "checkpoint_every=10"]  # 32 steps


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 24 MiB."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as place:
        yield place


@pytest.mark.parametrize(
    ("step", "sample_every", "file"),
    [(1, 6, "(000006.png|tensorboard)"), (1, 99, "checkpoints"), (25, 99, "metrics.jsonl")],
)
def test_a_run_on_a_full_disk_ends_with_2_and_goes_on_when_there_is_space(
    step: int,
    sample_every: int,
    file: str,
    disk: Path,
    store: Store,
    at_step: Callable[[int, Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is written next: a contact sheet, in its thread; a checkpoint; a line."""
    run = CommandLine("train", app, monkeypatch, capsys)
    words = (
        "fit",
        "--store",
        store.path,
        "--run",
        disk / "run",
        *(w for s in [*SHORT, f"sample_every={sample_every}"] for w in ("--set", s)),
    )
    at_step(step, lambda: fill(disk / "filler"))
    stopped = run(*words)
    assert stopped.code == 2, stopped.err
    assert "Traceback" not in stopped.err
    assert re.match(rf"error: .*{file}.* free (some )?space", stopped.err.splitlines()[-1]), stopped.err
    (disk / "filler").unlink()
    at_step(0, lambda: None)
    again = run(*words)
    assert again.code == 0, again.err
    load_generator(RunFolder(disk / "run").generator)
    assert not list((disk / "run").rglob("*.partial"))


def test_event_files_on_a_full_disk_say_so_where_they_are_flushed(small_disk: Path) -> None:
    """In the thread that asked for it: a thread of TensorBoard's would print a trace."""
    before = threading.active_count()
    files = EventFiles(small_disk / "events", done=0, wanted=True)
    assert threading.active_count() == before
    with full(small_disk):
        with pytest.raises(StoreError, match=r"cannot write .*events: .*the disk is full: free some space"):
            report_for_long(files)
        with pytest.raises(StoreError, match="the disk is full"):
            files.close()
    files.close()


def report_for_long(files: EventFiles) -> None:
    for step in range(1000):
        files.scalars("train", {"loss": 1.0}, step)
        files.flush()
