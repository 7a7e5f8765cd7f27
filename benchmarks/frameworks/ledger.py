"""The ledger of a repetition: which jobs were handled, when and how often, in memory that all processes share."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

MOST_JOBS = 2**22
"""Numbers of jobs are below this."""

_FIELDS = 8  # bytes
_HELD_SECONDS = 0.001


class Ledger:
    """A file that the harness and every process of a framework map.

    A job that ran twice in the same microsecond could be counted once; a repetition comes milliseconds later or more.
    """

    def __init__(self, files: Path) -> None:
        """Map the ledger in the directory ``files``, where it is made if it is not there."""
        file = os.open(files / "ledger", os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(file, MOST_JOBS * (1 + 2 * _FIELDS) + 1)
            self._counts = mmap.mmap(file, 0)
        finally:
            os.close(file)
        numbers = memoryview(self._counts)[MOST_JOBS:-1].cast("q")
        self._moments, self._pids = numbers[:MOST_JOBS], numbers[MOST_JOBS:]

    # --- what jobs do ---

    def job(self) -> Callable[[int, bool], None]:
        """Return what every job does: note that it ran; a held one then waits, the first time, until `release`."""
        moments, pids, counts, now = self._moments, self._pids, memoryview(self._counts), time.monotonic_ns

        def run(number: int, held: bool) -> None:
            moments[number] = now()
            if held:
                pids[number] = os.getpid()
            counts[number] += 1
            waits = held and counts[number] == 1
            while waits and not counts[-1]:
                time.sleep(_HELD_SECONDS)

        return run

    # --- what the harness asks ---

    def release(self) -> None:
        """Let held jobs return."""
        self._counts[-1] = 1

    def moment(self, number: int) -> int:
        """Return when it began last, in nanoseconds of the monotonic clock."""
        return self._moments[number]

    def pid(self, number: int) -> int:
        """Return which process began it last; told of held jobs only."""
        return self._pids[number]

    def missing(self, numbers: range) -> range:
        """Return consecutive numbers without those at their beginning whose jobs have begun."""
        first = self._counts.find(b"\0", numbers.start, numbers.stop)
        return range(first if first >= 0 else numbers.stop, numbers.stop)

    def last(self, numbers: range) -> int:
        """Return when the last of consecutive numbers began."""
        return max(self._moments[numbers.start : numbers.stop])

    def runs(self, numbers: range) -> int:
        """Return how often jobs of consecutive numbers have begun, all together."""
        return sum(self._counts[numbers.start : numbers.stop])

    def begun(self, numbers: range) -> int:
        """Return how many jobs of consecutive numbers have begun."""
        return len(numbers) - self._counts[numbers.start : numbers.stop].count(0)
