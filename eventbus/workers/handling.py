"""Handling: what one process of a worker does with the events of one handler."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple, NoReturn, cast

from eventbus.bus import Bus
from eventbus.core.reader import LABEL_LIMIT
from eventbus.errors import ClosedError, SegmentError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.request import Request
from eventbus.workers.loop import Loop
from eventbus.workers.outcomes import Outcomes
from eventbus.workers.schedule import Schedule
from eventbus.workers.signals import Told
from eventbus.workers.ticks import Ticks
from eventbus.workers.ways import InCalls, Watcher, Way

DONE = 0
RETIRED = 75  # the exit status of a process that has had its max_events, or outgrown its max_memory

GRACE = 10.0  # seconds that an event may go on for after it was cancelled

Hook = Callable[[], Any]

_log = logging.getLogger("eventbus.worker")


class Limits(NamedTuple):
    """When a process leaves for another to take its place, and what an event is granted; None for no limit.

    Attributes:
        events: how many it handles.
        memory: bytes of its own.
        timeout: seconds for one event, after which it is cancelled, or else its process ended by its parent.
        shutdown: seconds for what is under way when no further events are taken, if it can be cancelled.
    """

    events: int | None
    memory: int | None
    timeout: float | None
    shutdown: float | None


class Hooks(NamedTuple):
    """What each process runs before its first event, and when it leaves."""

    on_start: tuple[Hook, ...]
    on_stop: tuple[Hook, ...]


class Handling(NamedTuple):
    """A handler with all that a process needs to run it.

    Attributes:
        concurrency: how many events are under way at once in a process; None for a function that is no ``async def``.
    """

    bus: Bus
    function: Callable[[Event], Any]
    name: str
    system: tuple[str, ...]
    kind: tuple[str, ...] | None
    group: str
    prefetch: int
    concurrency: int | None
    limits: Limits
    hooks: Hooks
    schedule: Schedule | None
    outcomes: Outcomes

    @property
    def over(self) -> bool:
        """Whether there is nothing to do any more: the bus has closed, or the group was removed."""
        return self.bus.closed or all(group.name != self.group for group in self.bus.stats().groups)

    @property
    def patience(self) -> float | None:
        """Seconds for one event after which its parent ends the process; None for any time."""
        timeout = self.limits.timeout
        return timeout if timeout is None or self.concurrency is None else timeout + GRACE

    def work(self, told: Told, watcher: Watcher) -> int:
        """Handles events until it is told to leave, the end of the bus or of the group, or a limit.

        Args:
            told: handles the process's signals.
            watcher: told how far it is.

        Returns:
            The process's exit status.
        """
        with Loop() as loop, ExitStack() as leaving:
            leaving.callback(watcher.leaves)
            for hook in self.hooks.on_start:
                loop.done(hook())
            for hook in self.hooks.on_stop:
                leaving.callback(self._stop, hook, loop)
            way = self._way(loop, watcher)
            return way.drive(_Flow(self, way, told, watcher).serve())

    def _stop(self, hook: Hook, loop: Loop) -> None:
        """Whatever becomes of one, the others run, too."""
        try:
            loop.done(hook())
        except Exception:
            _log.exception("%s: %r of process %d failed", self.name, hook, os.getpid())

    def _way(self, loop: Loop, watcher: Watcher) -> Way:
        if self.concurrency is None:
            return InCalls(loop, watcher, self.limits.timeout)
        from eventbus.workers.abreast import InLoop  # asyncio takes longer to import than all of eventbus

        return InLoop(loop, watcher, self.concurrency, self.limits.timeout, self.limits.shutdown)


class _Flow:
    """From the first event of a process to its last: taken, handled, and done with, or failed."""

    def __init__(self, handling: Handling, way: Way, told: Told, watcher: Watcher) -> None:
        self._handling = handling
        self._function = handling.function
        self._memory = handling.limits.memory
        self._way = way
        self._manual = way.ack == "manual"
        self._told = told
        self._watcher = watcher
        self._taken = 0
        self._outgrown = False

    async def serve(self) -> int:
        """Joins the group, and leaves it with what is given back; the process's exit status."""
        handling = self._handling
        if handling.schedule is not None:
            self._watcher.ready()  # for the place of the one that is there
        label = f"{handling.name}@{os.getpid()}".encode()[-LABEL_LIMIT:].decode(errors="ignore")
        ticks = Ticks(handling.bus, handling.group, handling.schedule, self._way) if handling.schedule else None
        try:
            member = await ticks.join(label, self._told) if ticks else await self._join(label)
        except ClosedError:  # while it started, or stood by
            return DONE
        if member is None:
            return DONE
        with member:
            self._member = member
            self._function = handling.bus._handler(handling.function, member)
            self._way.begin(member)
            with self._told.leaving(self._way.stop):
                self._watcher.ready()
                await self._handle_all(ticks.next if ticks else self._way.take)
                await self._way.finish()
        return RETIRED if self._outgrown or self._taken == handling.limits.events else DONE

    async def _join(self, label: str) -> Member:
        handling = self._handling
        prefetch = max(handling.prefetch, self._way.concurrency)
        member = handling.bus.subscribe(
            handling.system, handling.kind, group=handling.group, prefetch=prefetch, ack=self._way.ack, name=label
        )
        await member._joined()
        return cast("Member", member)

    async def _handle_all(self, take: Callable[[int], Awaitable[Iterable[Event]]]) -> None:
        """Until the end has come, or the limit; what cannot be read is a dead letter by the time that this is known."""
        run = self._way.runner(self._handle)
        limit, taken = self._handling.limits.events or sys.maxsize, -1
        while taken < self._taken < limit:
            taken = self._taken
            try:
                for event in await take(limit - taken):
                    if self._taken == 0:
                        self._watcher.began()
                    self._taken += 1
                    await run(event)
            except SegmentError as error:
                if "sequence" not in error.details:
                    raise
                _log.error("%s: %s", self._handling.name, error.message)
                taken = -1

    async def _handle(self, event: Event) -> None:
        begun = time.monotonic()
        try:
            result = self._function(event)
            if result is not None:
                result = await self._way.result(event, result)
        except BaseException as error:  # also of a handler that exits, or whose coroutine was cancelled
            if self._told.forked:
                _end_child(error)
            if isinstance(error, (KeyboardInterrupt, GeneratorExit)) or self._way.gave_up(error):
                raise
            took = time.monotonic() - begun
            await self._handling.outcomes.failed(self._member, event, error, took, self._way)
        else:
            if self._told.forked:
                _end_child(SystemExit())
            if isinstance(event, Request) and not event.answered:
                await self._handling.outcomes.answered(event, result, self._way)
            if self._manual:
                self._member.ack(event)
        if self._memory is not None:
            self._look_at_memory(self._memory)

    def _look_at_memory(self, limit: int) -> None:
        if self._outgrown or (own := own_memory()) <= limit:
            return
        self._outgrown = True
        self._way.stop()
        early = ", with its first event: see that max_memory is no less than it needs" if self._taken == 1 else ""
        what = f"process {os.getpid()} of {self._handling.name} has {own} bytes of its own"
        _log.warning("%s, more than %d%s; another takes its place", what, limit, early)


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
