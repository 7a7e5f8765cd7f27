"""Handling: what one process of a worker does with the events of one handler."""

from __future__ import annotations

import logging
import os
import random
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, cast

from eventbus.bus import Bus
from eventbus.core.reader import LABEL_LIMIT
from eventbus.delays import checked_delay
from eventbus.errors import EventBusError, SegmentError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.request import Request

DONE = 0
RETIRED = 75  # the exit status of a process that has had its max_events

LONGEST_PAUSE = 60.0  # seconds between two tries

_log = logging.getLogger("eventbus.worker")


class Retry(Exception):
    """Raised by a handler: the event is to be tried again, ``delay`` seconds later, or as after any other failure."""

    def __init__(self, delay: float | None = None) -> None:
        super().__init__("to be tried again" if delay is None else f"to be tried again in {delay} s")
        self.delay = None if delay is None else checked_delay(delay)


class Discard(Exception):
    """Raised by a handler: no further try would help; the event is sent as a dead letter now, with the reason."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


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
    retry_delay: float

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
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # also of a handler that exits, or whose coroutine was cancelled
            self._failed(member, event, error)
            return
        if isinstance(event, Request) and not event.answered:
            self._reply(event, result)

    def _reply(self, event: Request, result: object) -> None:
        """What cannot be sent is told whoever asked, and the log: the event was handled."""
        try:
            event.reply(result)
        except EventBusError as error:
            _log.error("the reply to %s cannot be sent: %s", _where(event), error.message)
            _tell(event, error)

    def _failed(self, member: Member, event: Event, error: BaseException) -> None:
        """Once more, or never again: then the traceback is kept in the dead letter, and who asked is told."""
        limit, discarded = member.max_deliveries, isinstance(error, Discard)
        said = isinstance(error, (Retry, Discard))
        what = f"{self.name} {'said of' if said else 'failed on'} {_where(event)}"
        why = f": {str(error) or 'discarded'}" if said else ""
        _log.warning("%s, delivery %d of %d%s", what, event.deliveries, limit, why, exc_info=None if said else error)
        if event.deliveries < limit and not discarded:
            member.reject(event, delay=self._pause(event, error))
            return
        more = {"reason": error.reason} if isinstance(error, Discard) else {"traceback": _traced(error)}
        member.bury(event, **more)
        if isinstance(event, Request) and not event.answered:
            _tell(event, error)

    def _pause(self, event: Event, error: BaseException) -> float:
        """Seconds until the next try."""
        if isinstance(error, Retry) and error.delay is not None:
            return error.delay
        pause = min(LONGEST_PAUSE, self.retry_delay * 2.0 ** min(event.deliveries - 1, 64))
        return pause * random.uniform(0.9, 1.1)


def _where(event: Event) -> str:
    return f"{event.system} {event.kind} {event.path} (event {event.sequence})"


def _traced(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _tell(event: Request, error: BaseException) -> None:
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
