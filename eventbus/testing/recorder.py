"""Recorder: the events that a test waits for and looks at."""

from __future__ import annotations

import time
from typing import NoReturn

import pytest

from eventbus.bus import Bus
from eventbus.event import Event
from eventbus.patterns import Wanted

SECONDS = 5.0
SHOWN = 10


class Recorder:
    """Records what is sent from now on, in its order, without a thread: it receives when it is asked.

    It is a lossless subscription. A test that sends more than fits into the ring, and never asks, finds it full.
    """

    def __init__(self, bus: Bus, system: Wanted, kind: Wanted | None) -> None:
        self._events: list[Event] = []
        self._subscription = bus.subscribe(system, kind, name="eventbus_recorder")

    @property
    def events(self) -> list[Event]:
        """All that came so far."""
        if not self._subscription.closed:
            while came := self._subscription.receive_many(1024, 0):
                self._events += came
        return list(self._events)

    def wait_for(self, count: int, timeout: float | None = SECONDS) -> list[Event]:
        """Waits until at least so many have come since it was made; all of them. The test fails if they do not come.

        Args:
            timeout: seconds; None for ever.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while len(self.events) < count:
            event = self._subscription.receive(_left(end))
            if event is None:
                self._fail(count, timeout)
            self._events.append(event)
        return list(self._events)

    async def await_for(self, count: int, timeout: float | None = SECONDS) -> list[Event]:
        """``wait_for`` in an event loop."""
        end = None if timeout is None else time.monotonic() + timeout
        while len(self.events) < count:
            event = await self._subscription.areceive(_left(end))
            if event is None:
                self._fail(count, timeout)
            self._events.append(event)
        return list(self._events)

    def close(self) -> None:
        """Records no more."""
        self._subscription.close()

    def _fail(self, count: int, timeout: float | None) -> NoReturn:
        __tracebackhide__ = True
        came = self.events
        names = [f"{event.system} {event.kind} {event.path}" for event in came[:SHOWN]]
        more = [f"and {len(came) - SHOWN} more"] if len(came) > SHOWN else []
        why = "before the bus was shut down" if self._subscription.closed else f"within {timeout} s"
        said = f"{len(came)} of {count} events came {why}"
        pytest.fail(": ".join([said, *[", ".join([*names, *more])] * bool(names)]))


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())
