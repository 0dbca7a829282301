"""Units in one process: as many threads as are given, few units at once, errors and stops in every stage, the limit."""

from __future__ import annotations

import errno
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prep.build.pipeline as room
import prep.build.units as units_of_work
from prep.__main__ import THREADS, app
from prep.build.run import build
from prep.build.runner import Clock, Processes, Stage
from store.format.manifest import journal_of
from store.location.local import Folder
from store.machine.cores import count_cores
from store.schema import StoreError
from store.writing.journal import Journal
from store.writing.writer import StoreWriter
from tests.support.command_line import CommandLine
from tests.support.disks import contents
from tests.support.tiles import TILES, lanczos, run, single

WORDS = ("--set", "upscaler=lanczos", "--set", "view_side=64", "--set", "unit=1", "--set", "margin=4")
PAIRS = 9
FIFTH: dict[str, tuple[object, str, Callable[..., bool]]] = {  # a function of each stage: is it called for unit 4?
    "reading": (units_of_work, "read_pair", lambda sources, pair, decoded: pair.id == TILES[4]),
    "enlarging": (room, "enlarge_unit", lambda loaded, upscaler: loaded.unit.index == 4),
    "packing": (units_of_work, "_pack_view", lambda windows, codec, place: TILES[4] in windows.names[place]),
    "writing": (Journal, "commit", lambda journal, unit, digests: unit.index == 4),
}
ERRORS: dict[str, tuple[BaseException, str]] = {
    "reading": (StoreError("the file server is away"), "the file server is away"),
    "enlarging": (StoreError("the device is away"), "the device is away"),
    "packing": (MemoryError("no room to pack"), "not enough memory: no room to pack"),
    "writing": (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: free some space and run"),
}


@pytest.fixture
def prep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("prep", app, monkeypatch, capsys)


@pytest.fixture
def whole(mist: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a store that was built without a break, a pair in each unit."""
    build(lanczos(unit=1), single(mist), tmp_path / "whole.zarr", skip_bad=False, processes=Processes(threads=1))
    return contents(tmp_path / "whole.zarr")


def disturb(patch: pytest.MonkeyPatch, stage: str, what: Callable[[], None]) -> None:
    """Let something happen in a stage when it comes to the fifth pair."""
    owner, name, is_fifth = FIFTH[stage]
    original = getattr(owner, name)

    def call(*args: Any) -> Any:
        if is_fifth(*args):
            what()
        return original(*args)

    patch.setattr(owner, name, call)


def entries(store: Path) -> int:
    return len(list(journal_of(store).glob("*.json")))


@pytest.mark.parametrize("unit", [1, 2, 16])
def test_the_number_of_threads_does_not_show(unit: int, mist: Path, tmp_path: Path) -> None:
    stores = []
    for threads in (1, 2, 5):
        place = tmp_path / f"{threads}" / "s.zarr"
        build(lanczos(unit=unit, boxes=2), single(mist), place, skip_bad=False, processes=Processes(threads=threads))
        stores.append(contents(place))
    assert stores[0] == stores[1] == stores[2]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stage", FIFTH)
def test_an_error_in_a_stage_is_one_line_and_loses_nothing(
    stage: str, threads: int, mist: Path, whole: dict[str, bytes], prep: CommandLine
) -> None:
    """What was enlarged before it is committed, in order; the same command ends in the same store."""
    store = mist.parent / "s.zarr"
    error, said = ERRORS[stage]

    def fail() -> None:
        raise error

    words = ("build", "--data", mist, "--store", store, *WORDS, "--threads", threads)
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, stage, fail)
        failed = prep(*words)
    assert failed.code == 2
    (line,) = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in failed.err
    assert sorted(path.stem for path in journal_of(store).glob("*.json")) == [f"train-{n:06d}" for n in range(4)]
    assert prep(*words).code == 0
    assert contents(store) == whole


@pytest.mark.parametrize("stage", FIFTH)
def test_a_stop_in_a_stage_keeps_what_is_enlarged(
    stage: str, mist: Path, whole: dict[str, bytes], prep: CommandLine
) -> None:
    store = mist.parent / "s.zarr"
    words = ("build", "--data", mist, "--store", store, *WORDS, "--threads", 2)

    def ask() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(0.05)  # the main thread hears of it

    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, stage, ask)
        stopped = prep(*words)
    assert stopped.code == 3
    left = PAIRS - entries(store)
    assert 0 < left < PAIRS
    assert f"stopped: {left} of 9 units" in stopped.err
    assert prep(*words).code == 0
    assert contents(store) == whole


class InFlight:
    """How many units were begun and not committed, at most; one stage is slow."""

    def __init__(self, slow: str) -> None:
        self._slow, self._lock, self._now, self.most = slow, threading.Lock(), 0, 0

    def add(self, units: int) -> None:
        with self._lock:
            self._now += units
            self.most = max(self.most, self._now)

    def watch(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The function of a stage, counted."""

        def call(*args: Any, **options: Any) -> Any:
            self.add(stage == "reading")
            time.sleep(0.2 if stage == self._slow else 0)
            result = function(*args, **options)
            self.add(-(stage == "writing"))
            return result

        return call


@pytest.mark.parametrize(("slow", "fewest"), [("reading", 3), ("enlarging", 4), ("writing", 5)])
def test_the_stage_that_limits_is_named_and_few_units_are_in_flight(
    slow: str,
    fewest: int,
    mist: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However slow a stage is, the others run ahead of it, and only by a few units."""
    flight = InFlight(slow)
    monkeypatch.setattr(room, "read_unit", flight.watch(units_of_work.read_unit, "reading"))
    monkeypatch.setattr(room, "enlarge_unit", flight.watch(units_of_work.enlarge_unit, "enlarging"))
    monkeypatch.setattr(StoreWriter, "commit", flight.watch(StoreWriter.commit, "writing"))
    run(lanczos(unit=1), mist, tmp_path / "s.zarr")
    ahead = 1 + 2  # one, and one more for each of two threads, as a unit has one pair
    assert fewest <= flight.most <= ahead + 1 + room.BEHIND
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("limited by ")]
    assert re.fullmatch(rf"limited by {slow}: the device waited \d+% of \d+ s; \d+\.\d pairs/s", line)
    waited = int(re.findall(r"(\d+)%", line)[0])
    assert waited > 50 if slow != "enlarging" else waited <= 10


def test_what_limits_is_what_the_device_waits_for() -> None:
    """A device that waits a third of the time is not the limit, although it works most of the time."""
    seconds = {Stage.READING: 30.0, Stage.ENLARGING: 65.0, Stage.WRITING: 5.0}
    clock = Clock(seconds=seconds)
    assert (clock.awaited, clock.slowest) == (Stage.READING, Stage.ENLARGING)
    limits = []
    for stage, more in ((Stage.ENLARGING, 1000.0), (Stage.WRITING, 500.0)):
        clock.add({stage: more})
        limits.append(clock.awaited)
    assert limits == [Stage.ENLARGING, Stage.WRITING]
    assert Clock().share(Stage.READING) == 0


def test_threads_are_as_many_as_the_cores_of_the_process() -> None:
    assert count_cores() == THREADS


def test_what_is_written_and_read_back_does_not_stay_in_memory(
    mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back comes from the disk then, and a large store does not drive other programs' files out."""
    order: list[str] = []

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(folder: Folder, what: Any, *parts: Any) -> Any:
            order.extend(f"{name} {one}" for one in ([what] if isinstance(what, str) else what) if "/c/" in one)
            return function(folder, what, *parts)

        return call

    for name in ("write", "forget", "digest"):
        monkeypatch.setattr(Folder, name, note(name, getattr(Folder, name)))
    run(lanczos(unit=16), mist, tmp_path / "s.zarr")
    shard = "train/x2/he/c/0/0/0/0/0"
    steps = [step.split()[0] for step in order if step.endswith(shard)]
    assert steps == ["write", "forget", "digest", "forget"]
    Folder(tmp_path / "s.zarr").forget(["nothing/there", shard])  # a missing file is no error
