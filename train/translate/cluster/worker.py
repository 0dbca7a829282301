"""What a worker does of translations. Between tasks it keeps the generator, and the slides that it opened last."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from store.cli import silent
from store.machine.memory import spare_memory
from store.process import Stop, device_memory
from store.schema import PictureError, RunError, SchemaError, SettingsError
from store.slides.writing.spool import Spool
from train.run.generator_file import load_generator
from train.runtime.memory import smaller_tiles
from train.translate.cluster.tasks import Begun, Order, Result, Step, Task
from train.translate.engine import prepared
from train.translate.job import (
    Done,
    begin,
    complete,
    draw,
    find_done,
    measuring,
    open_spool,
    translate_picture,
)
from train.translate.model import Model
from train.translate.names import Item
from train.translate.picture import Picture, opened
from train.translate.run import GIB, USUAL_MEMORY, windows_of
from train.translate.settings import TranslateSettings
from train.translate.statistics import is_measured, left_to_measure, measure, measure_units

OPEN = 2  # slides
LATE, POLL = 90.0, 1.0  # s
_COMPUTING = threading.Lock()  # a generator has the statistics of one picture at a time
_SHELF: OrderedDict[tuple[Order, Item], tuple[ExitStack, Picture]] = OrderedDict()


def settle(order: Order) -> Order:
    """The order with settings and a device that hold for all workers: those of this one."""
    with silent(), _COMPUTING:
        model = _model(order)
    settings = replace(model.settings, memory=order.settings.memory)
    return replace(order, settings=settings, device=model.network.compute.device.type)


def work(task: Task) -> Result:
    """Do a task; what is wrong with the picture is the result, what is wrong with anything else is raised."""
    settings = task.order.settings
    try:
        with silent(), device_memory(windows_of(settings), smaller_tiles(settings.tile, settings.batch)):
            if task.step is Step.FINISH:
                return _finish(task)
            with _COMPUTING:
                return _COMPUTED[task.step](task, _model(task.order))
    except (PictureError, SchemaError, SettingsError) as error:
        return error


def _whole(task: Task, model: Model) -> Result:
    order = task.order
    return translate_picture(task.item, model, order.request, _memory(order), overwrite=order.overwrite)


def _begin(task: Task, model: Model) -> Result:
    order, picture = task.order, _picture(task, model)
    begun = begin(task.item, picture, model, order.request, overwrite=order.overwrite)
    if isinstance(begun, Done):
        return begun
    spool = open_spool(task.item, begun, model.settings)
    work = measuring(picture, model, spool, task.item.source.name)
    drawn = spool.pending()
    steps = (
        (Step.MEASURE, tuple(left_to_measure(work)) if drawn else ()),
        (Step.GATHER, () if is_measured(work) or not drawn else (None,)),
        (Step.DRAW, tuple(drawn)),
        (Step.FINISH, (None,)),
    )
    return Begun(record=begun, steps=tuple((step, units) for step, units in steps if units))


def _measure(task: Task, model: Model) -> None:
    assert task.unit is not None
    measure_units(measuring(_picture(task, model), model, _spool(task), task.item.source.name), [task.unit])


def _gather(task: Task, model: Model) -> None:
    work = measuring(_picture(task, model), model, _spool(task), task.item.source.name)
    await_others(lambda: not left_to_measure(work))
    measure(work)


def _draw(task: Task, model: Model) -> None:
    assert task.unit is not None
    spool, picture, name = _spool(task), _picture(task, model), task.item.source.name
    if not spool.base.has(task.unit):  # a worker that died, or seemed to, may have drawn it
        await_others(lambda: is_measured(measuring(picture, model, spool, name)))
        draw(picture, model, spool, name, [task.unit])


_COMPUTED = {
    Step.WHOLE: _whole,
    Step.BEGIN: _begin,
    Step.MEASURE: _measure,
    Step.GATHER: _gather,
    Step.DRAW: _draw,
}


def _finish(task: Task) -> Result:
    assert task.record is not None
    item, record, order = task.item, task.record, task.order
    done = find_done(item, record, order.settings, overwrite=order.overwrite)  # by a worker that died, or seemed to
    if done:
        return done
    spool = _spool(task)
    await_others(lambda: all((spool.base.folder / unit.name).exists() for unit in spool.base.units))
    return complete(item, spool, record, overwrite=order.overwrite)


def await_others(shows: Callable[[], bool]) -> None:
    """Wait until the disk shows what other workers wrote: NFS tells another machine up to a minute late."""
    until = time.monotonic() + LATE
    while not shows() and time.monotonic() < until:
        time.sleep(POLL)


def _spool(task: Task) -> Spool:
    """The spool that `BEGIN` opened."""
    assert task.record is not None
    return open_spool(task.item, task.record, task.order.settings)


def _picture(task: Task, model: Model) -> Picture:
    """The slide of a task, opened and its tissue found once."""
    key = (task.order, task.item)
    if key not in _SHELF:
        while len(_SHELF) >= OPEN:
            _SHELF.popitem(last=False)[1][0].close()
        stack, order = ExitStack(), task.order
        picture = stack.enter_context(
            opened(
                task.item.source, order.request, model.trained.header.mpp, order.settings.tile, _memory(order) // OPEN
            )
        )
        _SHELF[key] = stack, picture
    _SHELF.move_to_end(key)
    return _SHELF[key][1]


def _memory(order: Order) -> int:
    """Bytes for pictures that this worker reads."""
    return (round(order.settings.memory * GIB) or spare_memory() // 4 or USUAL_MEMORY) // max(1, order.workers.count)


def _model(order: Order) -> Model:
    """The generator of an order, loaded once."""
    return _loaded(order.generator, order.digest, order.device, order.settings)[0]


@lru_cache(maxsize=1)
def _loaded(generator: Path, digest: str, device: str, settings: TranslateSettings) -> tuple[Model, ExitStack]:
    """A model, and what keeps it ready."""
    if settings.threads:  # those of the command: with others its bytes would differ
        torch.set_num_threads(settings.threads)
    trained = load_generator(generator)
    if trained.digest != digest:
        raise RunError(
            f"{generator} has the sha256 {trained.digest} for a worker and {digest} for the command; give a path under "
            "which all see the same file"
        )
    stack = ExitStack()
    network = stack.enter_context(prepared(trained, device, settings.precision, Stop()))
    return Model.of(trained, network, settings), stack
