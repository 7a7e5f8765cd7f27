"""Ticks: events of the clock, sent and handled by the one member of a group that lives, whichever it is by then."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterable
from typing import Protocol, cast

from eventbus import patterns
from eventbus.bus import Bus
from eventbus.errors import SubscribersFullError, UnavailableError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.workers.schedule import Schedule
from eventbus.workers.ways import Way

TICK_SYSTEM = "eventbus.every"
STANDBY = 0.25  # seconds between two tries to be the one
FULL = 1.0  # seconds until a tick that found no room is tried again
LOOK = 30.0  # seconds after which the clock is read anew: somebody may have set it
_TIME = struct.Struct("<d")

_log = logging.getLogger("eventbus.worker")


class Leaver(Protocol):
    """Who knows whether the process is to leave."""

    to_leave: bool


def check_group(group: str) -> None:
    """A group of ticks is named in their kind.

    Raises:
        InvalidError: it can be no kind.
    """
    patterns.check_name(group, "the group of a handler with a schedule")


class Ticks:
    """The times of one handler, as events of the kind that its group is named.

    Each goes with a note of its time, in one step: whoever comes after a death knows which was the last one.
    """

    def __init__(self, bus: Bus, group: str, schedule: Schedule, way: Way) -> None:
        self._bus = bus
        self._group = group
        self._schedule = schedule
        self._way = way
        self._due = 0.0  # POSIX seconds
        self._full_until = 0.0  # on time.monotonic
        self._note = f"every {group}"

    async def join(self, label: str, leaver: Leaver) -> Member | None:
        """Waits until no other one lives, and becomes the one; None when it is to leave."""
        stands_by = False
        while not leaver.to_leave and any(one.name == self._group for one in self._bus.stats().groups):
            try:
                member = self._bus.subscribe(
                    TICK_SYSTEM, self._group, group=self._group, name=label, exclusive=True, ack=self._way.ack
                )
                await member._joined()
            except SubscribersFullError:
                raise
            except UnavailableError as error:
                if not stands_by:
                    _log.debug("%s stands by: %s", label, error.message)
                stands_by = True
                await self._way.pause(STANDBY)
                continue
            self._due = self._first()
            self._member = cast("Member", member)
            return self._member
        return None

    def _first(self) -> float:
        """The next time; now, if one went by since the last that there was."""
        now, noted = time.time(), self._bus._noted(self._note)
        following = self._schedule(now)
        if noted is None or len(noted) != _TIME.size:
            return following
        (last,) = _TIME.unpack(noted)
        return min(following, max(now, self._schedule(last))) if last <= now else following

    async def next(self, limit: int = 1) -> Iterable[Event]:
        """The next event: one that is there already, else that of the next time. None once the end has come."""
        await self._way.wait_for_turn()
        while not self._member.closed:
            left = min(LOOK, max(0.0, self._due - time.time(), self._full_until - time.monotonic()))
            if events := await self._way.take(limit, left):
                return events
            now = time.time()
            if now < self._due:
                self._due = min(self._due, self._schedule(now))  # somebody may have set the clock back
            elif time.monotonic() >= self._full_until and not self._member.closed:
                await self._tick()
        return ()

    async def _tick(self) -> None:
        tick, noted = (TICK_SYSTEM, self._group, "/", self._due), (self._note, _TIME.pack(self._due))
        try:
            await self._way.call(self._bus._bring, "", [tick], noted)
            self._due = self._schedule(max(self._due, time.time()))
        except UnavailableError as error:  # of a full ring, after as long as the bus waits for room
            _log.error("a tick of %s is late: %s", self._group, error.message)
            self._full_until = time.monotonic() + FULL
