"""CPU time of single steps in one thread: what else the machine does is not in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

_ROUNDS = 20
_HELD = 20_000
_HELD_EVERY = 50


def each(step: Callable[[], object], times: int) -> float:
    """Return nanoseconds per call, without those of an empty call."""
    return _loop(step, times) - _loop(_nothing, times)


def in_turns(steps: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return what `each` gives for every step: the median of rounds in which they take turns, fit to be subtracted."""
    rounds = [{name: each(step, max(times // _ROUNDS, 1)) for name, step in steps.items()} for _ in range(_ROUNDS)]
    return {name: median(one[name] for one in rounds) for name in steps}


@contextmanager
def timed() -> Iterator[list[float]]:
    """Yield a list whose only item is the nanoseconds of the block, once it has ended."""
    spent = [0.0]
    start = time.thread_time_ns()
    yield spent
    spent[0] = time.thread_time_ns() - start - _CLOCK


def held_memory() -> list[Any]:
    """Return objects strewn over memory: as long as they live, Python gives no memory back to the kernel.

    Otherwise it is chance whether a step that makes and drops many objects fits into what Python has, or asks the
    kernel for memory each time: the same step was seen to take 0.4 and 3.5 µs an event.
    """
    return [{"held": number} for number in range(_HELD)][::_HELD_EVERY]


def _loop(step: Callable[[], object], times: int) -> float:
    start = time.thread_time_ns()
    for _ in range(times):
        step()
    return (time.thread_time_ns() - start) / times


def _nothing() -> None:
    return None


def _clock_cost() -> float:
    readings = [time.thread_time_ns() for _ in range(1000)]
    return median(later - earlier for earlier, later in pairwise(readings))


_CLOCK = _clock_cost()
"""What reading the thread's clock twice adds to a measurement; it is a system call."""
