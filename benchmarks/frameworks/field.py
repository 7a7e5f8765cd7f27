"""A framework at work: its processes, one producer, and the ledger that tells what was handled."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.crew import Control, Crew, CrewError, cpu_seconds
from benchmarks.frameworks.ledger import Ledger
from benchmarks.frameworks.place import environment
from benchmarks.frameworks.pool import Pool
from benchmarks.frameworks.registry import SETTINGS
from benchmarks.load import SYSTEM
from benchmarks.peer import Medium, Peer, Topology

_CREW_SECONDS = 300.0
_WAIT_SECONDS = 60.0
"""No sum of jobs that is sent at once takes longer."""

_LOOK_SECONDS = 0.005
_HOLD_SECONDS = 0.25
"""So long one job is waited for before another is sent: a process with full hands may have fetched it ahead."""


@dataclass(frozen=True)
class Order:
    """What the producer sends: jobs of these numbers, at once or ``every`` so many seconds."""

    numbers: range
    held: bool = False
    every: float = 0.0


@dataclass(frozen=True)
class Sent:
    """When the first job was sent, or each of those that are paced, in nanoseconds; CPU seconds of the producer."""

    moments: array[int]
    cpu: float


class Field:
    """Where one repetition takes place."""

    def __init__(self, hands: int, medium: Medium, ledger: Ledger, pool: Pool, crew: Crew) -> None:
        self.ledger = ledger
        self.pool = pool
        self._hands = hands
        self._medium = medium
        self._crew = crew
        self._next = 0

    def numbers(self, jobs: int) -> range:
        """Return numbers that no job has yet."""
        numbers = range(self._next, self._next + jobs)
        self._next = numbers.stop
        return numbers

    def send(self, order: Order) -> Sent:
        """Have the producer send, and wait until it has."""
        self._crew.meet("ready", order)
        (sent,) = self._crew.gather("sent")
        return Sent(*sent)

    def await_all(self, numbers: range) -> None:
        """Wait until each of these jobs has begun.

        Raises:
            CrewError: it takes too long, or the framework has ended.
        """
        missing, end = self.ledger.missing(numbers), time.monotonic() + _WAIT_SECONDS
        while missing:
            self.pool.check()
            if time.monotonic() > end:
                raise CrewError(f"job {missing[0]} of {numbers} is not run in {_WAIT_SECONDS:g} s: {self.pool.said()}")
            time.sleep(_LOOK_SECONDS)
            missing = self.ledger.missing(missing)

    def hold(self) -> range:
        """Send one job that is held; returns its number."""
        numbers = self.numbers(1)
        self.send(Order(numbers, held=True))
        return numbers

    def occupy(self) -> None:
        """Have every hand hold a job."""
        first = self._next
        while self.ledger.runs(range(first, self._next)) < self._hands:
            numbers, end = self.hold(), time.monotonic() + _HOLD_SECONDS
            while self.ledger.missing(numbers) and time.monotonic() < end:
                self.pool.check()
                time.sleep(_LOOK_SECONDS)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far of the framework's processes and of the server, if there is one."""
        return self.pool.cpu_seconds() + self._medium.server_seconds()


@contextmanager
def working(framework: Peer) -> Iterator[Field]:
    """Start a framework and its producer; a first job has been handled when this yields."""
    setting = SETTINGS[framework.name]
    with framework.connect(Topology(1, (SYSTEM,), 0)) as medium, Crew(_CREW_SECONDS) as crew:
        ledger = Ledger(medium.files)
        crew.start(f"{framework.name} producer", _produce, environment(medium.files), setting.jobs)
        crew.meet("connected")
        with Pool(setting, medium.files) as pool:
            field = Field(setting.hands, medium, ledger, pool, crew)
            first = field.numbers(1)
            field.send(Order(first))
            field.await_all(first)
            yield field
            crew.meet("ready", None)
            crew.results()


def _produce(control: Control, place: dict[str, str], jobs: str) -> None:
    os.environ.update(place)
    send = import_module(f"benchmarks.frameworks.{jobs}").sender()
    control.meet("connected")
    while (order := control.meet("ready")) is not None:
        before = cpu_seconds()
        moments = _paced(send, order) if order.every else _at_once(send, order)
        control.post("sent", (moments, cpu_seconds() - before))


def _at_once(send: Any, order: Order) -> array[int]:
    first, held = time.monotonic_ns(), order.held
    for number in order.numbers:
        send(number, held)
    return array("q", [first])


def _paced(send: Any, order: Order) -> array[int]:
    moments, every, now = array("q"), order.every * 1e9, time.monotonic_ns
    start = now()
    for place, number in enumerate(order.numbers):
        early = start + place * every - now()
        if early > 0:
            time.sleep(early / 1e9)
        moments.append(now())
        send(number, order.held)
    return moments
