"""Translations that other processes share: the same bytes, whoever does them and whatever happens to them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np
import psutil
import pytest
import tifffile
from distributed import Client, Scheduler, SpecCluster, Worker

from store.cluster.workers import Workers
from store.disk.locks import locked
from store.files import digest_file
from store.images import PictureU8, write_png
from store.process import Stop
from store.schema import PictureError, RunError, StoreError
from store.slides.writing.plan import OutputKind, Unit
from store.slides.writing.spool import Spool
from tests.support.command_line import Outcome
from tests.support.stores import draw_tile
from train.translate.cluster import worker
from train.translate.cluster.coordinator import Desk
from train.translate.cluster.tasks import Begun, Order, Result, Step, Task
from train.translate.job import Done, draw
from train.translate.model import Model
from train.translate.names import Item
from train.translate.picture import Picture, Request
from train.translate.settings import NormStatistics, TranslateSettings

Translate: TypeAlias = Callable[..., Outcome]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers, which are threads of this process."""
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    workers = {name: {"cls": Worker, "options": {"nthreads": 1}} for name in ("one", "two")}
    with SpecCluster(scheduler=scheduler, workers=workers) as cluster:
        yield cluster.scheduler_address
    worker._loaded.cache_clear()


def lay_slide(name: str, height: int, width: int, key: int) -> None:
    """A drawn slide with glass around it, in tiles that are read in parts."""
    pixels = np.full((height, width, 3), 243, np.uint8)
    tissue = draw_tile(max(height, width), key)[: height - 70, : width - 70]
    pixels[70:, 70:] = np.minimum(tissue, 200)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(name, pixels, tile=(64, 64))


def tree(folder: str) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


MODES = (NormStatistics.GLOBAL, NormStatistics.LOCAL)
"""With a sample of the slide, and with statistics of each tile; the others go the same ways."""


@pytest.mark.parametrize("mode", NormStatistics)
def test_workers_of_a_scheduler_make_the_same_files(mode: NormStatistics, translate: Translate, address: str) -> None:
    lay_slide("in/a.tif", 200, 200, 1)
    write_png(Path("in/deep/c.png"), draw_tile(100, 3))
    if mode in MODES:
        lay_slide("in/deep/b.tif", 150, 130, 2)
    here = translate("in", "--out", "here", "--norm-statistics", mode)
    there = translate("in", "--out", "there", "--norm-statistics", mode, "--scheduler", address)
    assert (here.code, there.code) == (0, 0), here.err + there.err
    assert tree("there") == tree("here")
    assert f"{len(tree('here')) // 2} of {len(tree('here')) // 2} pictures are translated in there" in there.err
    assert "measuring" not in there.err  # workers tell nothing themselves


def test_what_was_finished_is_kept_whoever_goes_on(
    translate: Translate, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_slide("a.tif", 250, 150, 1)
    assert translate("a.tif", "--out", "here").code == 0
    drawn = list[str]()

    def put(spool: Spool, unit: Unit, cores: Sequence[PictureU8 | None]) -> None:
        if len(drawn) == 2:
            raise StoreError("the file server was gone")
        drawn.append(unit.name)
        spool.base.put(unit, cores)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "put", put)
        for more in ((), ("--scheduler", address)):
            broken = translate("a.tif", "--out", "there", *more)
            assert (broken.code, "the file server was gone" in broken.err) == (2, True), broken.err
    assert len(drawn) == 2
    again = list[str]()

    def count(spool: Spool, unit: Unit, cores: Sequence[PictureU8 | None]) -> None:
        again.append(unit.name)
        spool.base.put(unit, cores)

    monkeypatch.setattr(Spool, "put", count)
    assert translate("a.tif", "--out", "there", "--scheduler", address).code == 0
    assert sorted(drawn + again) == sorted(set(drawn + again))
    assert tree("there") == tree("here")
    kept = translate("a.tif", "--out", "there", "--scheduler", address)
    assert "already exists: the same translation, kept" in kept.err


def test_a_stop_lets_workers_finish_what_they_do_and_the_same_command_resumes(
    translate: Translate, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_slide("a.tif", 500, 100, 1)
    assert translate("a.tif", "--out", "here").code == 0
    draw, drawn = worker._COMPUTED[Step.DRAW], list[Task]()

    def stopping(task: Task, model: Model) -> Result:
        drawn.append(task)
        if len(drawn) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # it is heard before the result is
        return draw(task, model)

    monkeypatch.setitem(worker._COMPUTED, Step.DRAW, stopping)
    stopped = translate("a.tif", "--out", "there", "--scheduler", address)
    assert stopped.code == 3, stopped.err
    assert "run the same command to resume" in stopped.err.splitlines()[-1]
    assert {Path(name).parts[0] for name in tree("there")} == {"a.ome.tiff.partial"}  # and no lock
    first = len(drawn)
    assert translate("a.tif", "--out", "there", "--scheduler", address).code == 0
    assert 0 < first < len(drawn) == len({task.unit for task in drawn}), "no unit is drawn twice"
    assert tree("there") == tree("here")


def test_a_stop_while_no_worker_has_come_is_heard(
    translate: Translate, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(client: Client, stop: Stop) -> None:
        stop.requested = True

    lay_slide("a.tif", 100, 100, 1)
    monkeypatch.setattr("train.translate.cluster.coordinator.await_workers", stopped)
    done = translate("a.tif", "--out", "there", "--scheduler", address)
    assert (done.code, "run the same command to resume" in done.err) == (3, True)
    assert not Path("there").exists()


def test_a_bad_picture_is_told_and_does_not_stop_the_others(translate: Translate, address: str) -> None:
    lay_slide("in/a.tif", 150, 150, 1)
    lay_slide("in/b.tif", 150, 150, 2)
    cut = Path("in/b.tif").read_bytes()
    Path("in/b.tif").write_bytes(cut[: len(cut) // 2])
    Path("in/c.png").write_bytes(b"")
    here = translate("in", "--out", "here")
    there = translate("in", "--out", "there", "--scheduler", address)
    assert (here.code, there.code) == (2, 2)
    assert tree("there") == tree("here")
    assert "2 of 3 pictures are not translated" in there.err
    assert "c.png: the file is empty" in there.err
    alone = translate("in/c.png", "--out", "alone", "--scheduler", address)
    assert (alone.code, "not translated" in alone.err, "c.png: the file is empty" in alone.err) == (2, False, True)


def test_tasks_of_a_bad_slide_that_run_already_are_waited_for(translate: Translate, generator_file: Path) -> None:
    """Two units run when one of them finds the slide damaged: the third never starts, and then the lock is free."""
    lay_slide("a.tif", 150, 100, 1)
    item = Item(source=Path("a.tif"), output=Path("a.ome.tiff"), kind=OutputKind.OME_TIFF)
    order = worker.settle(order_of(generator_file, digest_file(generator_file)))
    with ExitStack() as locks:
        desk = Desk(order=order, waiting=deque([item]), locks=locks)
        for step in (Step.BEGIN, Step.GATHER):
            task = desk.following()
            assert task is not None
            assert task.step is step
            desk.take(task, worker.work(task))
        first, second = desk.following(), desk.following()
        assert first is not None
        assert second is not None
        desk.take(first, PictureError("it is damaged"))
        assert desk.following() is None
        with pytest.raises(StoreError, match=r"a\.ome\.tiff"), locked(item.lock, "the translation a.ome.tiff"):
            pass
        desk.take(second, None)
        with locked(item.lock, "the translation a.ome.tiff"):
            assert (desk.following(), desk.slides, list(desk.bad)) == (None, {}, [item])


def test_an_output_that_another_process_writes_is_refused(translate: Translate, address: str) -> None:
    lay_slide("a.tif", 150, 150, 1)
    Path("out").mkdir()
    with locked(Path("out/a.ome.tiff.lock"), "the translation"):
        refused = translate("a.tif", "--out", "out/a.ome.tiff", "--scheduler", address)
    assert refused.code == 2
    assert "out/a.ome.tiff" in refused.err
    assert tree("out") == {}


def test_a_finished_slide_whose_worker_died_is_not_made_again(
    translate: Translate, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step may run twice: once all is in its place, the spool is gone."""
    lay_slide("a.tif", 150, 150, 1)
    assert translate("a.tif", "--out", "here").code == 0
    whole, results = worker._finish, list[Result]()

    def twice(task: Task) -> Result:
        results.extend(whole(task) for _ in range(2))
        return results[-1]

    monkeypatch.setattr(worker, "_finish", twice)
    assert translate("a.tif", "--out", "there", "--scheduler", address).code == 0
    assert [isinstance(result, Done) and result.kept for result in results] == [False, True]
    assert tree("there") == tree("here")


def test_a_unit_that_is_there_is_not_drawn_again(
    translate: Translate, generator_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_slide("a.tif", 150, 100, 1)
    item = Item(source=Path("a.tif"), output=Path("a.ome.tiff"), kind=OutputKind.OME_TIFF)
    order = worker.settle(order_of(generator_file, digest_file(generator_file)))
    begun = worker.work(Task(order=order, item=item, step=Step.BEGIN))
    assert isinstance(begun, Begun)
    assert [step for step, _ in begun.steps] == [Step.GATHER, Step.DRAW, Step.FINISH]
    assert begun.tasks == 1 + 3 + 1
    tasks = [
        Task(order=order, item=item, step=s, unit=unit, record=begun.record) for s, all in begun.steps for unit in all
    ]
    drawn = list[Unit]()

    def count(picture: Picture, model: Model, spool: Spool, name: str, units: Sequence[Unit]) -> None:
        drawn.extend(units)
        draw(picture, model, spool, name, units)

    monkeypatch.setattr(worker, "draw", count)
    for task in [*tasks[:-1], *tasks[:-1]]:
        assert worker.work(task) is None
    assert len(drawn) == len(set(drawn)) == 3
    assert isinstance(worker.work(tasks[-1]), Done)


def test_a_worker_waits_for_what_the_disk_does_not_show_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL", 0.001)
    answers = [False, False, True, False]
    worker.await_others(lambda: answers.pop(0))
    assert answers == [False]
    monkeypatch.setattr(worker, "LATE", 0.01)
    worker.await_others(lambda: False)  # then it does the work itself, or says what is missing


def test_a_slide_that_changed_since_the_last_command_is_opened_anew(translate: Translate, address: str) -> None:
    for key in (1, 2):
        lay_slide("a.tif", 150, 100, key)
        assert translate("a.tif", "--out", f"here{key}").code == 0
        done = translate("a.tif", "--out", "there", "--scheduler", address)
        assert done.code == 0, done.err
        assert tree("there") == tree(f"here{key}")
        shutil.rmtree("there")


def order_of(generator: Path, digest: str) -> Order:
    """An order for translations in tiles of 64 px."""
    return Order(
        generator=generator,
        digest=digest,
        settings=TranslateSettings(tile=64, overlap=16),
        request=Request(),
        device="cpu",
        workers=Workers(),
        overwrite=False,
    )


def test_a_generator_that_is_another_file_for_a_worker_is_refused(generator_file: Path) -> None:
    order = order_of(generator_file, "0" * 64)
    with pytest.raises(RunError, match=r"for a worker and 0{64} for the command; give a path under which all see"):
        worker.settle(order)


def test_the_paths_of_an_order_do_not_depend_on_where_a_worker_was_started(
    translate: Translate, address: str, generator_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lay_slide("a.tif", 150, 150, 1)
    write_png(Path("mask.png"), np.full((150, 150, 3), 255, np.uint8))
    settled = worker.settle

    def elsewhere(order: Order) -> Order:
        monkeypatch.chdir("/")  # workers are threads of this process
        return settled(order)

    words = ("a.tif", "--mask", "mask.png")
    assert translate(*words, "--out", "here").code == 0
    monkeypatch.setattr("train.translate.cluster.coordinator.settle", elsewhere)
    done = translate(*words, "--out", "there", "--scheduler", address)
    monkeypatch.chdir(tmp_path)
    assert done.code == 0, done.err
    assert tree("there") == tree("here")


def test_processes_of_this_machine_or_of_a_scheduler(translate: Translate) -> None:
    both = translate("a.tif", "--out", "out", "--workers", 2, "--scheduler", "tcp://127.0.0.1:9")
    assert (both.code, "give one of them" in both.err) == (2, True)


def start(generator: Path, out: str, cwd: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "train", "translate", "in", "--out", out, "--checkpoint", str(generator)]
    command += ["--set", "tile=64", "--set", "overlap=16", "--device", "cpu", "--norm-statistics", "local", *words]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True)


def test_a_worker_that_is_killed_takes_nothing_with_it(
    generator_file: Path, tmp_path: Path, translate: Translate
) -> None:
    """Two processes of this machine, one of which is killed when a unit of the second pass is there."""
    lay_slide("in/a.tif", 260, 450, 1)
    assert translate("in", "--out", "here", "--norm-statistics", "local").code == 0
    process = start(generator_file, "there", tmp_path, "--workers", "2")
    spool = tmp_path / "there" / "a.ome.tiff.partial" / "level-0"
    while process.poll() is None and not (spool.is_dir() and any(spool.glob("*.unit"))):
        time.sleep(0.01)
    started = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in started if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) >= 2
    workers[0].kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert tree("there") == tree("here")
    assert psutil.wait_procs(started, timeout=60)[1] == []
