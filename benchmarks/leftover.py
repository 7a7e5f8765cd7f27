"""What a large event leaves behind in the memory of whoever sent it, and of whoever received it."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.crew import Control, Crew
from benchmarks.load import KIND, PATH, SYSTEM

SENDER, RECEIVER = "its sender", "its receiver"
_DEADLINE = 30
_MEGABYTE = 10**6


def run(size: int) -> dict[str, float]:
    """Return megabytes of memory of its own that each process has more than before, once it has dropped the event.

    Args:
        size: bytes of the event, which is one string of JSON.
    """
    name = f"benchmark-leftover-{os.getpid()}"
    from eventbus import open as open_bus
    from eventbus import unlink

    try:
        with open_bus(name, capacity=5 * size), Crew() as crew:
            crew.start(RECEIVER, _receive, name)
            crew.start(SENDER, _send, name, size)
            crew.meet("subscribed")
            kept, left = crew.results()
    finally:
        with suppress(FileNotFoundError):
            unlink(name)
    return {SENDER: left, RECEIVER: kept}


def _own() -> float:
    """The megabytes that this process shares with no other, and could give back."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024 / _MEGABYTE


def _send(control: Control, name: str, size: int) -> float:
    from eventbus import open as open_bus

    with open_bus(name) as bus:
        bus.send(SYSTEM, KIND, PATH, "small")
        control.meet("subscribed")
        before = _own()
        bus.send(SYSTEM, KIND, PATH, "x" * size)
        return _own() - before


def _receive(control: Control, name: str) -> float:
    from eventbus import open as open_bus

    with open_bus(name) as bus, bus.subscribe(SYSTEM, start="oldest") as subscription:
        control.meet("subscribed")
        before, event = _own(), None
        while event is None or event.data == "small":
            event = _expected(subscription.receive(_DEADLINE))
        del event
        subscription.receive(0)
        gc.collect()
        return _own() - before


def _expected(event: Any) -> Any:
    if event is None:
        raise AssertionError(f"no event came within {_DEADLINE} s: look for a loss in the bus")
    return event
