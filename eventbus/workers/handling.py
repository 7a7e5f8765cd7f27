"""Handling: what one process of a worker does with the events of one handler."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple, NoReturn, Protocol, cast

from eventbus.bus import Bus
from eventbus.core.reader import LABEL_LIMIT
from eventbus.errors import ClosedError, EventBusError, SegmentError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.request import Request
from eventbus.workers.failures import Discard, Failures, Retry, message, traced, where
from eventbus.workers.loop import Loop
from eventbus.workers.schedule import Schedule
from eventbus.workers.signals import Handled
from eventbus.workers.ticks import Ticks

DONE = 0
RETIRED = 75  # the exit status of a process that has had its max_events, or outgrown its max_memory

LONGEST_PAUSE = 60.0  # seconds between two tries

Hook = Callable[[], Any]

_log = logging.getLogger("eventbus.worker")


class Watcher(Protocol):
    """Who is told how far a process has come."""

    def ready(self) -> None:
        """It asks for events from now on."""

    def began(self) -> None:
        """It has its first event."""

    def handles(self, sequence: int) -> None:
        """It handles this event from now on."""

    def handled(self) -> None:
        """Not any more."""


class Limits(NamedTuple):
    """When a process leaves for another to take its place, and what an event is granted; None for no limit.

    Attributes:
        events: how many it handles.
        memory: bytes of its own.
        timeout: seconds for one event, after which its parent ends it.
    """

    events: int | None
    memory: int | None
    timeout: float | None


class Hooks(NamedTuple):
    """What each process runs before its first event, and when it leaves."""

    on_start: tuple[Hook, ...]
    on_stop: tuple[Hook, ...]


class Handling(NamedTuple):
    """A handler with all that a process needs to run it."""

    bus: Bus
    function: Callable[[Event], Any]
    name: str
    system: tuple[str, ...]
    kind: tuple[str, ...] | None
    group: str
    prefetch: int
    retry_delay: float
    limits: Limits
    hooks: Hooks
    schedule: Schedule | None
    failures: Failures

    @property
    def over(self) -> bool:
        """Whether there is nothing to do any more: the bus has closed, or the group was removed."""
        return self.bus.closed or all(group.name != self.group for group in self.bus.stats().groups)

    def work(self, told: Told, watcher: Watcher) -> int:
        """Handles events until it is told to leave, the end of the bus or of the group, or a limit.

        Args:
            told: handles the process's signals.
            watcher: told how far it is.

        Returns:
            The process's exit status.
        """
        with Loop() as loop, ExitStack() as leaving:
            for hook in self.hooks.on_start:
                loop.done(hook())
            for hook in self.hooks.on_stop:
                leaving.callback(self._stop, hook, loop)
            return self._serve(told, loop, watcher)

    def _stop(self, hook: Hook, loop: Loop) -> None:
        """Whatever becomes of one, the others run, too."""
        try:
            loop.done(hook())
        except Exception:
            _log.exception("%s: %r of process %d failed", self.name, hook, os.getpid())

    def _serve(self, told: Told, loop: Loop, watcher: Watcher) -> int:
        if self.schedule is not None:
            watcher.ready()  # for the place of the one that is there
        label = f"{self.name}@{os.getpid()}".encode()[-LABEL_LIMIT:].decode(errors="ignore")
        ticks = None if self.schedule is None else Ticks(self.bus, self.group, self.schedule)
        try:
            member = ticks.join(label, told) if ticks else self._join(label)
        except ClosedError:  # while it started, or stood by
            return DONE
        if member is None:
            return DONE
        with member:
            told.watch(member)
            watcher.ready()
            handled = 0
            events, memory, timeout = self.limits
            following = ticks.next if ticks else self._next
            while (event := following(member)) is not None:
                if handled == 0:
                    watcher.began()
                if timeout is not None:
                    watcher.handles(event.sequence)
                self._handle(member, event, loop, told)
                if timeout is not None:
                    watcher.handled()
                handled += 1
                if handled == events or (memory is not None and self._has_outgrown(handled, memory)):
                    return RETIRED
        return DONE

    def _join(self, label: str) -> Member:
        joined = self.bus.subscribe(self.system, self.kind, group=self.group, prefetch=self.prefetch, name=label)
        return cast("Member", joined)

    def _next(self, member: Member) -> Event | None:
        """The next event that can be read; what cannot be is a dead letter by the time that this is known."""
        while True:
            try:
                return member.receive()
            except SegmentError as error:
                if "sequence" not in error.details:
                    raise
                _log.error("%s: %s", self.name, error.message)

    def _has_outgrown(self, handled: int, memory: int) -> bool:
        if (own := own_memory()) <= memory:
            return False
        early = ", with its first event: see that max_memory is no less than it needs" if handled == 1 else ""
        what = f"process {os.getpid()} of {self.name} has {own} bytes of its own"
        _log.warning("%s, more than %d%s; another takes its place", what, memory, early)
        return True

    def _handle(self, member: Member, event: Event, loop: Loop, told: Told) -> None:
        begun = time.monotonic()
        try:
            result = self.function(event)
            if result is not None:
                result = loop.done(result)
        except BaseException as error:  # also of a handler that exits, or whose coroutine was cancelled
            if told.forked:
                _end_child(error)
            if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
                raise
            limit = member.max_deliveries
            self.failures.tell(event, error, limit, time.monotonic() - begun)
            self._failed(member, event, error, limit)
            return
        if told.forked:
            _end_child(SystemExit())
        if isinstance(event, Request) and not event.answered:
            self._reply(event, result)

    def _reply(self, event: Request, result: object) -> None:
        """What cannot be sent is told whoever asked, and the log: the event was handled."""
        try:
            event.reply(result)
        except EventBusError as error:
            _log.error("the reply to %s cannot be sent: %s", where(event), error.message)
            _tell(event, error)

    def _failed(self, member: Member, event: Event, error: BaseException, limit: int) -> None:
        """Once more, or never again: then the traceback is kept in the dead letter, and who asked is told."""
        if event.deliveries < limit and not isinstance(error, Discard):
            member.reject(event, delay=self._pause(event, error))
            return
        more = {"reason": error.reason} if isinstance(error, Discard) else {"traceback": traced(error)}
        member.bury(event, **more)
        if isinstance(event, Request) and not event.answered:
            _tell(event, error)

    def _pause(self, event: Event, error: BaseException) -> float:
        """Seconds until the next try."""
        if isinstance(error, Retry) and error.delay is not None:
            return error.delay
        pause = min(LONGEST_PAUSE, self.retry_delay * 2.0 ** min(event.deliveries - 1, 64))
        return pause * random.uniform(0.9, 1.1)


class Told(Handled):
    """Whether the process was told to leave. Ctrl-C and the end of a terminal are its parent's business."""

    def __init__(self) -> None:
        others = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
        super().__init__({signal.SIGTERM: self._leave, **dict.fromkeys(others, _ignore)})
        self.to_leave = False
        self._member: Member | None = None

    def watch(self, member: Member) -> None:
        """The member stops waiting when the process is told."""
        self._member = member
        if self.to_leave:
            member.stop()

    def _leave(self, *_: object) -> None:
        self.to_leave = True
        if self._member is not None:
            self._member.stop()


def _ignore(*_: object) -> None:
    """A handler, and not ``SIG_IGN``, which what the process executes would inherit, as it does under nohup."""


def status_of(end: SystemExit) -> int:
    """The exit status that it asks for, 0 to 255."""
    return end.code & 0xFF if isinstance(end.code, int) else int(end.code is not None)


def _end_child(error: BaseException) -> NoReturn:
    """A child that the handler forked, and that comes back from it: the event, the loop and the hooks are its
    parent's. It ends as ``os._exit`` does, with what it has printed."""
    status = 1
    try:
        if isinstance(error, SystemExit):
            status = status_of(error)
        else:
            _log.error("process %d, which a handler forked, failed", os.getpid(), exc_info=error)
        flush()
    finally:
        os._exit(status)


def flush() -> None:
    """What was printed is written, unless there is no place for it: whoever prints more is told that."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # closed, or none; a full disk, a broken pipe
            stream.flush()


def own_memory() -> int:
    """Resident bytes that this process shares with no file, nor with the bus (statm of proc(5))."""
    with open("/proc/self/statm", "rb") as file:
        pages = [int(one) for one in file.read().split()[1:3]]
    return (pages[0] - pages[1]) * os.sysconf("SC_PAGE_SIZE")


def _tell(event: Request, error: BaseException) -> None:
    try:
        event.fail(type(error).__name__, message(error))
    except EventBusError as unsent:
        _log.error("whoever asked cannot be told: %s", unsent.message)
