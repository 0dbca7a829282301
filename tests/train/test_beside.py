"""Reading ahead and writing behind: in order, in bounded queues, at the same time as what is between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from train.runtime import beside
from train.runtime.beside import read_ahead, write_behind

PATIENCE = 20  # s, after which something that must happen does not


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


def waiting_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "it never came"


def test_the_next_is_read_while_one_is_used_and_the_order_stays() -> None:
    begun = [threading.Event() for _ in range(9)]

    def read(item: int) -> int:
        begun[item].set()
        if item == 3:
            waiting_for(begun[4])  # in another thread: it overtakes
        return item * item

    with closing(read_ahead(range(9), read)) as items:
        assert next(items) == (0, 0)
        waiting_for(begun[1])
        assert list(items) == [(item, item * item) for item in range(1, 9)]


def test_no_more_is_read_ahead_than_threads_need() -> None:
    taken = list[int]()

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    with closing(read_ahead(items(), int.bit_length)) as found:
        next(found)
        assert len(taken) == 2 * beside.WAITING + 1
    assert len(taken) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading")]


def test_an_error_of_reading_comes_where_its_item_would() -> None:
    def read(item: int) -> int:
        if item == 2:
            raise OSError("gone")
        return item

    with closing(read_ahead(range(9), read)) as items:
        assert [next(items)[0], next(items)[0]] == [0, 1]
        with pytest.raises(OSError, match="gone"):
            next(items)


def test_writing_goes_on_beside_and_is_told_in_order() -> None:
    free, told = threading.Event(), list[int]()

    def write(item: int) -> int:
        if item == 0:
            waiting_for(free)
        return item

    with write_behind(told.append) as behind:
        for item in range(3):  # the first of them waits, and nobody waits for it
            behind.submit(partial(write, item))
        assert told == []
        free.set()
        for item in range(3, 20):
            behind.submit(partial(write, item))
        assert len(told) >= 20 - 2 * beside.WAITING
        assert threading.current_thread() is threading.main_thread()
    assert told == list(range(20))


def test_a_full_queue_waits() -> None:
    free, submitted = threading.Event(), list[int]()
    with write_behind(list[None]().append) as behind:

        def fill() -> None:
            for item in range(50):
                behind.submit(lambda: waiting_for(free))
                submitted.append(item)

        filling = threading.Thread(target=fill)
        filling.start()
        filling.join(0.2)
        assert len(submitted) == 2 * beside.WAITING
        free.set()
        filling.join()
    assert len(submitted) == 50


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_after_an_error_what_was_submitted_is_written_and_told(raised: type[BaseException]) -> None:
    told = list[int]()

    def write() -> None:
        with write_behind(told.append) as behind:
            for item in range(3):
                behind.submit(partial(int, item))
            raise raised

    with pytest.raises(raised):
        write()
    assert told == [0, 1, 2]


def test_an_error_of_writing_is_raised_and_nothing_after_it_is_told() -> None:
    told = list[int]()

    def failing() -> int:
        raise OSError("full")

    def write() -> None:
        with write_behind(told.append) as behind:
            for one in (partial(int, 1), failing, partial(int, 3)):
                behind.submit(one)

    with pytest.raises(OSError, match="full"):
        write()
    assert told == [1]
