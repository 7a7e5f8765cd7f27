"""A worker with its processes, as the tests of workers run it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventbus import Bus, Event, Worker
from eventbus.member import Member
from eventbus.workers.loop import Loop
from eventbus.workers.process import Progress
from eventbus.workers.schedule import Schedule
from eventbus.workers.ticks import Ticks
from eventbus.workers.ways import InCalls
from harness import Child, Fork, Line


def run_worker(line: Line, worker: Worker, options: dict[str, Any], log: Path) -> None:
    """Runs the worker in a process of its own, as a program does, with what it logs in a file."""
    logging.basicConfig(filename=log, level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    line.say(os.getpid())
    worker.run(**options)


class Stays:
    """A process that is not told to leave."""

    to_leave = False


class Clocked:
    """The ticks of the group ``g`` in calls, which has to be there, as the flow of a process asks for them."""

    def __init__(self, bus: Bus, schedule: Schedule) -> None:
        self._way = InCalls(Loop(), Progress(lambda: None), None)
        self.ticks = Ticks(bus, "g", schedule, self._way)

    def join(self) -> Member:
        """Becomes the one member."""
        member = self._way.drive(self.ticks.join("label", Stays()))
        assert member is not None
        self._way.begin(member)
        return member

    def next(self) -> Event:
        """The next one, which must come."""
        (event,) = self._way.drive(self.ticks.next())
        return event


@contextmanager
def running(fork: Fork, worker: Worker, log: Path, **options: Any) -> Iterator[Child]:
    """The worker's parent, until it is stopped here by SIGTERM."""
    parent = fork(run_worker, worker, options, log)
    parent.hear()
    yield parent
    parent.kill(signal.SIGTERM)
    parent.result()
