"""Pictures of a store, single pictures and windows of slides on their one way through a generator.

What the generator will need is read ahead in threads; what it makes is left on the device, and who writes it waits for
it. So nothing waits for the device in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Generic, TypeVar

from torch import nn

from store.cli import say, track
from store.process import Stop, stop_requests
from store.schema import Interrupted
from train.kernels.launching import switch
from train.run.generator_file import Trained
from train.run.inference import translation_mode
from train.runtime.beside import MOST, read_ahead
from train.runtime.device import Compute, idle_gpu, resolve
from train.settings import Precision

T = TypeVar("T")
Read = TypeVar("Read")
Drawn = TypeVar("Drawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Generic[T, Read, Drawn]):
    """How items are read, and how up to `batch` neighbours that are `alike` are drawn; requests to stop."""

    read: Callable[[T], Read]
    draw: Callable[[list[tuple[T, Read]]], Sequence[Drawn]]
    batch: int
    stop: Stop
    kept: str
    """What is kept of the work when it is stopped, for the message."""
    alike: Callable[[tuple[T, Read]], Hashable] = lambda _: None
    ahead: int = MOST
    """How many items are read ahead at most."""

    def each(
        self, items: Sequence[T], what: str, unit: str, done: int = 0, *, hidden: bool = False
    ) -> Generator[tuple[T, Drawn]]:
        """The items with what is drawn of them, with progress (unless `hidden`) after the `done` ones.

        The next ones are read meanwhile. Raises Interrupted after the first batch that a signal came with.
        """
        with (
            closing(read_ahead(items, self.read, self.ahead)) as ahead,
            closing(track(ahead, what=what, unit=unit, total=done + len(items), done=done, hidden=hidden)) as tracked,
        ):
            for group in batches(tracked, self.batch, self.alike):
                for (item, _), drawn in zip(group, self.draw(group), strict=True):
                    yield item, drawn
                if self.stop.requested:
                    raise Interrupted(f"{self.kept}; run the same command to resume")


def batches(items: Iterable[T], size: int, alike: Callable[[T], Hashable]) -> Iterator[list[T]]:
    """Lists of up to `size` neighbours that are alike.

    >>> [*batches([1, 1, 1, 2, 2, 1], 2, alike=lambda item: item)]
    [[1, 1], [1], [2, 2], [1]]
    """
    for _, neighbours in groupby(items, alike):
        while batch := list(islice(neighbours, size)):
            yield batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A generator on its device, in the mode in which it translates, and requests to stop."""

    generator: nn.Module
    compute: Compute
    stop: Stop


@contextmanager
def ready(trained: Trained, device: str, precision: Precision, *, search: bool = False) -> Iterator[Network]:
    """The generator on the device named `device`, ready to translate; signals are requests to stop for a block.

    `search` lets cuDNN time its algorithms, which pays for many pictures of one size. Raises SettingsError.
    """
    if why := idle_gpu(device):
        say(f"warning: {why}. Pictures are translated on the CPU; --device cpu says that they should be")
    with stop_requests(say) as stop, prepared(trained, device, precision, stop, search=search) as network:
        yield network


@contextmanager
def prepared(
    trained: Trained, device: str, precision: Precision, stop: Stop, *, search: bool = False
) -> Iterator[Network]:
    """The same for a process, or a thread, that hears no signals."""
    compute = resolve(device, precision)
    compute.configure(search=search)
    switch(fused=False)  # pictures do not depend on whether Triton runs here
    generator = compute.place(trained.generator)
    with translation_mode(generator, trained.header.settings.generator.at_test):
        yield Network(generator=generator, compute=compute, stop=stop)
