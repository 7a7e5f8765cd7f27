"""The clock that handlers with a schedule run by: set back, set forward, and without room for a tick."""

from __future__ import annotations

import contextlib
import time

import pytest

import eventbus
from eventbus import Bus, FullError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.workers import ticks
from eventbus.workers.schedule import parse
from jobs import fill
from pools import Clocked


class Clock:
    """The time of day, a bit later whenever somebody asks, and the true one of what cannot be set."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        """POSIX seconds."""
        self.now += 0.25
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of ticks; it is looked at at once."""
    clock = Clock(1000.0)
    monkeypatch.setattr(ticks, "time", clock)
    monkeypatch.setattr(ticks, "LOOK", 0.001)
    return clock


def joined(bus: Bus) -> tuple[Clocked, Member]:
    """The ticks of each ten seconds, and their member."""
    bus.group("g", ticks.TICK_SYSTEM, "g")
    mine = Clocked(bus, parse(10))
    return mine, mine.join()


def told(event: Event) -> float:
    """The time that an event tells."""
    assert isinstance(event.data, float)
    return event.data


def test_a_clock_that_is_set(bus: Bus, clock: Clock) -> None:
    """Set back, the times are those of the new clock, however far off the next one was; set forward, one is made up."""
    mine, member = joined(bus)
    assert [told(mine.next()) for _ in range(2)] == [1010, 1020]
    clock.now = 500.0
    assert [told(mine.next()) for _ in range(2)] == [510, 520]
    clock.now = 9001.0
    assert [told(mine.next()) for _ in range(2)] == [530, 9010]
    member.close()


def test_a_tick_without_room(name: str, bus: Bus, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that finds the ring full is sent later, and tells the time that it was due."""
    monkeypatch.setattr(ticks, "FULL", 0.01)
    said: list[str] = []

    def make_room(text: str, *_: object) -> None:
        said.append(text)
        if len(said) == 2:
            bus.remove_group("reader")

    monkeypatch.setattr(ticks._log, "error", make_room)
    bus.group("reader", "jobs")
    with eventbus.open(name, send_timeout=0) as hasty:
        mine, member = joined(hasty)
        fill(hasty)
        with contextlib.suppress(FullError):
            while True:
                hasty.send("jobs", "j", "/")
        assert [told(mine.next()), len(said)] == [1010, 2]
        member.close()
