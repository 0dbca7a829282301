"""Shares out the translations of a command among other processes, and tells what becomes of them.

A slide that is read in parts goes through rounds of tasks, most of which are a unit of it; a picture that is decoded as
a whole is one task. Results are in files that all processes see. This process holds the locks of slides, hands out
tasks and reads no picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch

from store.cli import progress, say
from store.cluster.client import await_workers, gpu_share, open_client
from store.cluster.tasks import Job, result_of, run_tasks
from store.process import stop_requests
from store.schema import Interrupted, MagstainError
from store.slides.reading.kinds import is_slide
from train.translate.cluster.tasks import Begun, Order, Result, Step, Task
from train.translate.cluster.worker import settle, work
from train.translate.job import Done, held
from train.translate.many.telling import Telling, telling
from train.translate.names import Item
from train.translate.run import Outcome, check_free

KEPT = "what is finished of each picture is kept; run the same command to resume"
REMEDY = "what is finished of it is kept: give the workers more memory, or a smaller tile= or memory="


def share_out(items: Sequence[Item], order: Order) -> Outcome:
    """Translate pictures in other processes; a bad one among several does not stop the others.

    Raises the error of a single picture, StoreError where nothing can be written or workers die, SettingsError where
    they cannot translate, and Interrupted when it was stopped.
    """
    items, order = [_anywhere(item) for item in items], order.anywhere()
    check_free(items, overwrite=order.overwrite)
    with (
        stop_requests(say) as stop,
        open_client(order.workers, lambda: _count_gpus(order.device)) as client,
        ExitStack() as locks,
        telling() as told,
    ):
        say(f"dashboard of the cluster: {client.dashboard_link}")
        await_workers(client, stop)
        if stop.requested:
            raise Interrupted(KEPT)
        share = None if order.device == "cpu" else gpu_share(client)
        loading = client.submit(settle, order, resources=share, pure=False)
        desk = Desk(
            order=result_of(loading, "loading the generator", REMEDY), waiting=deque(items), locks=locks, told=told
        )
        job = Job(call=work, name=str, remedy=REMEDY, resources=share)
        known = len(items)
        with progress(total=known, what="translating", unit="part") as bar:
            for task, result in run_tasks(client, desk.following, job, stop):
                desk.take(task, result)
                known += result.tasks if isinstance(result, Begun) else 0
                bar.total = known
                bar.update()
        if len(desk.done) + len(desk.bad) < len(items):
            raise Interrupted(KEPT)
    if desk.bad and len(items) == 1:
        raise next(iter(desk.bad.values()))
    return Outcome(done=tuple(desk.done), bad=tuple(str(desk.bad[item]) for item in items if item in desk.bad))


@dataclass(slots=True, kw_only=True)
class Desk:
    """Which tasks follow from what is done. Those of the slide that was begun first go first."""

    order: Order
    waiting: deque[Item]
    locks: ExitStack
    slides: dict[Item, Slide] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    bad: dict[Item, MagstainError] = field(default_factory=dict)
    told: Telling = field(default_factory=Telling)

    def following(self) -> Task | None:
        """The next task; None while there is none."""
        for slide in self.slides.values():
            if slide.ready:
                return slide.ready.popleft()
        if not self.waiting:
            return None
        item = self.waiting.popleft()
        if not is_slide(item.source):
            return Task(order=self.order, item=item, step=Step.WHOLE)
        self.slides[item] = Slide(lock=_lock(item))
        self.locks.callback(self.slides[item].lock.close)
        return Task(order=self.order, item=item, step=Step.BEGIN)

    def take(self, task: Task, result: Result) -> None:
        """Note what came of a task; of a slide that is bad no other task starts, and those that run are waited for."""
        slide = self.slides.get(task.item)
        if isinstance(result, Done):
            self.done.append(result)
            self.told.take(result)
        elif isinstance(result, MagstainError):
            self.bad.setdefault(task.item, result)
        if slide is None:  # the picture was one task
            return
        if isinstance(result, Begun):
            slide.rounds.extend(rounds_of(task, result))
        elif isinstance(result, MagstainError):
            slide.give_up()
        slide.go_on()
        if not slide.left:
            self.slides.pop(task.item).lock.close()


@dataclass(slots=True, kw_only=True)
class Slide:
    """A slide that is being translated: its lock, tasks that may start, how many are not done, and later rounds."""

    lock: ExitStack
    ready: deque[Task] = field(default_factory=deque)
    left: int = 1
    rounds: deque[list[Task]] = field(default_factory=deque)

    def go_on(self) -> None:
        """One task is done; after the last one of a round the next round may start."""
        self.left -= 1
        if not self.left and self.rounds:
            self.ready.extend(self.rounds.popleft())
            self.left = len(self.ready)

    def give_up(self) -> None:
        """Start no other task."""
        self.left -= len(self.ready)
        self.ready.clear()
        self.rounds.clear()


def rounds_of(task: Task, begun: Begun) -> Iterator[list[Task]]:
    """The rounds of a slide that is begun, none of them empty: each needs what those before it wrote."""
    for step, units in begun.steps:
        yield [replace(task, step=step, unit=unit, record=begun.record) for unit in units]


def _anywhere(item: Item) -> Item:
    """The same with paths that do not depend on the folder in which a worker was started."""
    return replace(item, source=item.source.absolute(), output=item.output.absolute())


def _count_gpus(device: str) -> int:
    """The GPUs of this machine that workers should have."""
    return 0 if device == "cpu" else torch.cuda.device_count()


def _lock(item: Item) -> ExitStack:
    """The lock of an output, until it is closed."""
    stack = ExitStack()
    stack.enter_context(held(item))
    return stack
