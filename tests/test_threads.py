"""Threads of this process as workers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from lossops.config import ClusterConfig
from lossops.engine.threads import Threads, threads_of
from lossops.errors import InputError, RunError


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[Threads]:
    with threads_of(ClusterConfig(threads=request.param)) as found:
        yield found


def add(one: int, two: int) -> int:
    return one + two


def test_every_call_comes_back_with_its_result(threads: Threads) -> None:
    found = dict(threads.map(add, (threads.share(100),), ((number,) for number in range(50))))
    assert found == {(number,): 100 + number for number in range(50)}
    assert threads.call(add, 1, 2) == 3


def test_calls_wait_for_what_they_are_given(threads: Threads) -> None:
    """The one that they wait for takes a thread of its own, also where there is no other."""
    late = threading.Event()
    slow = threads.submit(lambda: late.wait(60) and 5)
    found = threads.map(add, (slow,), ((number,) for number in range(9)))
    late.set()
    assert sorted(result for _, result in found) == list(range(5, 14))


def test_few_calls_are_begun_ahead(threads: Threads) -> None:
    taken: list[int] = []

    def calls() -> Iterator[tuple[int]]:
        for number in range(100):
            taken.append(number)
            yield (number,)

    results = threads.map(add, (0,), calls())
    next(results)
    assert len(taken) <= 9
    results.close()  # type: ignore[attr-defined]


def refuse(number: int) -> int:
    if number == 2:
        raise InputError("number: 2; allowed: others")
    return number


def test_what_a_call_refuses_ends_the_others(threads: Threads) -> None:
    begun: list[int] = []

    def noted(number: int) -> int:
        begun.append(number)
        return refuse(number)

    with pytest.raises(InputError, match="number: 2; allowed: others"):
        list(threads.map(noted, (), ((number,) for number in range(1000))))
    assert len(begun) < 20


def test_what_was_refused_is_refused_to_all_who_wait_for_it(threads: Threads) -> None:
    with pytest.raises(InputError, match="number: 2"):
        threads.call(add, threads.submit(refuse, 2), 1)


def test_errors_that_nobody_foresaw_are_told_by_name(threads: Threads) -> None:
    with pytest.raises(RunError, match="a partition failed: ZeroDivisionError: integer division"):
        threads.call(lambda: 1 // 0)


def test_dask_is_not_imported_for_them() -> None:
    code = "import sys, lossops.evaluation, flows.launch; print(sorted({'dask', 'distributed'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
