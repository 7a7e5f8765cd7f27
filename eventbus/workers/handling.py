"""Handling: what one process of a worker does with the events of one handler."""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, cast

from eventbus.bus import Bus
from eventbus.core.reader import LABEL_LIMIT
from eventbus.errors import EventBusError, SegmentError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.request import Request

DONE = 0
RETIRED = 75  # the exit status of a process that has had its max_events

_log = logging.getLogger("eventbus.worker")


class Handling(NamedTuple):
    """A handler with all that a process needs to run it."""

    bus: Bus
    function: Callable[[Event], Any]
    name: str
    system: tuple[str, ...]
    kind: tuple[str, ...] | None
    group: str
    prefetch: int
    max_events: int | None

    @property
    def over(self) -> bool:
        """Whether there is nothing to do any more: the bus has closed, or the group was removed."""
        return self.bus.closed or all(group.name != self.group for group in self.bus.stats().groups)

    def work(self, listening: Callable[[], object], began: Callable[[], None]) -> int:
        """Handles events until SIGTERM, the end of the bus or of the group, or ``max_events``.

        Args:
            listening: called once a SIGTERM lets it finish; until then it must be blocked.
            began: called before the first event is handled.

        Returns:
            The process's exit status.
        """
        label = f"{self.name}@{os.getpid()}".encode()[-LABEL_LIMIT:].decode(errors="ignore")
        joined = self.bus.subscribe(self.system, self.kind, group=self.group, prefetch=self.prefetch, name=label)
        member = cast("Member", joined)
        with member, Loop() as loop:
            signal.signal(signal.SIGTERM, lambda *_: member.stop())
            listening()
            handled = 0
            while (event := self._next(member)) is not None:
                if handled == 0:
                    began()
                self._handle(member, event, loop)
                handled += 1
                if handled == self.max_events:
                    return RETIRED
        return DONE

    def _next(self, member: Member) -> Event | None:
        """The next event that can be read; what cannot be is a dead letter by the time that this is known."""
        while True:
            try:
                return member.receive()
            except SegmentError as error:
                if "sequence" not in error.details:
                    raise
                _log.error("%s: %s", self.name, error.message)

    def _handle(self, member: Member, event: Event, loop: Loop) -> None:
        try:
            result = self.function(event)
            if isinstance(result, Awaitable):
                result = loop.wait(result)
            if isinstance(event, Request) and not event.answered:
                event.reply(result)
        except Exception as error:
            self._failed(member, event, error)

    def _failed(self, member: Member, event: Event, error: Exception) -> None:
        """Once more, or never again: then the traceback is kept in the dead letter, and who asked is told."""
        limit = member.max_deliveries
        where = f"{event.system} {event.kind} {event.path} (event {event.sequence})"
        _log.warning("%s failed on %s, delivery %d of %d", self.name, where, event.deliveries, limit, exc_info=error)
        if event.deliveries < limit:
            member.reject(event)
            return
        member.bury(event, traceback="".join(traceback.format_exception(error)))
        if isinstance(event, Request) and not event.answered:
            try:
                event.fail(type(error).__name__, str(error))
            except EventBusError as unsent:
                _log.error("whoever asked cannot be told: %s", unsent.message)


class Loop:
    """The event loop of a process, made when the first handler needs it."""

    def __init__(self) -> None:
        self._loop: Any = None

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """Runs until the awaitable is done; its result."""
        if self._loop is None:
            import asyncio  # takes longer to import than all of eventbus, and few need it

            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(awaitable)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
