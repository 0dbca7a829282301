"""Work for threads: results in order, few items taken ahead, errors of the work."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from store.machine import threads
from store.machine.threads import in_order


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_results_are_in_order_and_few_items_are_taken_ahead(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count_cores", lambda: cores)
    taken, given = list[int](), list[int]()

    def items() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number

    for number in in_order(work, items()):
        given.append(number)
        assert len(taken) - len(given) <= min(cores, 4)
    assert given == taken == list(range(40))


def test_an_error_of_the_work_ends_it() -> None:
    taken, given = list[int](), list[int]()

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with pytest.raises(ZeroDivisionError):
        given.extend(in_order(lambda number: 60 // (5 - number), items()))
    assert len(taken) < 20


def test_what_has_not_begun_when_the_caller_stops_never_does() -> None:
    begun = list[int]()

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.1)
        return number

    results = in_order(work, range(100), threads=1, ahead=9)
    assert next(results) == 0
    results.close()
    assert len(begun) < 9
