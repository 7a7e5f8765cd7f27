"""The job in eventbus: an event that a `Worker` handles."""

from __future__ import annotations

from collections.abc import Callable

import eventbus
from benchmarks.frameworks import place
from benchmarks.load import KIND, PATH, SYSTEM

run = place.job()
worker = eventbus.Worker(group="workers")


@worker.on(SYSTEM)
def job(event: eventbus.Event) -> None:
    run(*event.data)


def sender() -> Callable[[int, bool], object]:
    """Return what sends a job. The group is there from now on: it keeps what is sent before it has members."""
    bus = eventbus.default_bus()
    bus.group("workers.job", SYSTEM)
    send = bus.send
    return lambda number, held: send(SYSTEM, KIND, PATH, (number, held))
