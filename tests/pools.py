"""A worker with its processes, as the tests of workers run it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventbus import Bus, Event, Subscription, Worker
from eventbus.member import Member
from eventbus.workers.loop import Loop
from eventbus.workers.process import Progress
from eventbus.workers.schedule import Schedule
from eventbus.workers.ticks import Ticks
from eventbus.workers.ways import InCalls
from harness import Child, Fork, Line, take


def run_worker(line: Line, worker: Worker, options: dict[str, Any], log: Path) -> None:
    """Runs the worker in a process of its own, as a program does, with what it logs in a file."""
    logging.basicConfig(filename=log, level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    line.say(os.getpid())
    worker.run(**options)


class Gates:
    """Handlers of a worker wait in here until the test opens theirs, with an event of the system ``go``.

    A task of each process listens for these, which its ``on_start`` makes.
    """

    def __init__(self, bus: Bus, worker: Worker) -> None:
        self._bus = bus
        self._gates: defaultdict[object, asyncio.Event] = defaultdict(asyncio.Event)
        self._listener: asyncio.Task[None] | None = None
        worker.on_start(self._start)

    async def _start(self) -> None:
        go = self._bus.subscribe("go")
        self._listener = asyncio.create_task(self._listen(go))

    async def _listen(self, go: Subscription) -> None:
        async with go:
            async for event in go:
                self._gates[event.data].set()

    async def passed(self, which: object) -> None:
        """In a handler: waits until this one is opened."""
        await self._gates[which].wait()

    def open(self, *which: object) -> None:
        """In the test: opens these, in all processes that there are."""
        for one in which:
            self._bus.send("go", "on", "/", one)


def gated(bus: Bus, worker: Worker, **terms: Any) -> Gates:
    """Gives the worker the handler ``work``, which says that it has begun, waits at its gate, and says its end."""
    gates = Gates(bus, worker)

    @worker.on("jobs", **terms)
    async def work(event: Event) -> None:
        await bus.asend("done", "begun", "/", [event.data, event.deliveries, os.getpid()])
        await gates.passed(event.data)
        await bus.asend("done", "ended", "/", event.data)

    return gates


def begun(done: Subscription, count: int) -> dict[int, int]:
    """The deliveries of the next events that begin, by their numbers, which must be as many, in one process."""
    came = [take(done) for _ in range(count)]
    assert {event.kind for event in came} == {"begun"}
    assert len({event.data[2] for event in came}) == 1
    return {event.data[0]: event.data[1] for event in came}


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
