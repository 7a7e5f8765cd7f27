"""Fanout: one subscription for any number of listeners in an event loop, each with a queue of its own."""

from __future__ import annotations

import contextvars
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NoReturn

from eventbus.awaiting import Turn, check_limit
from eventbus.bus import Bus
from eventbus.core.reader import BATCH_LIMIT
from eventbus.errors import ClosedError, InvalidError, SegmentError
from eventbus.event import Event
from eventbus.hearing import hearing
from eventbus.patterns import Wanted
from eventbus.subscription import Subscription, checked_name

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task

Entry = Event | SegmentError  # what is heard, or why it cannot be read

_OVERFLOWS = ("drop", "close")


class Fanout:
    """One subscription of a bus for any number of listeners in an event loop, such as web sockets.

    It takes a subscriber slot while somebody listens, and always drains it: a listener that is slow holds up neither
    publishers nor other listeners. One event loop at a time may listen, its thread alone; any thread may ``close``. A
    context manager, with ``async`` too.
    """

    def __init__(
        self,
        bus: Bus,
        system: Wanted,
        kind: Wanted | None = None,
        *,
        limit: int = 1000,
        overflow: Literal["drop", "close"] = "drop",
    ) -> None:
        """Needs no running event loop.

        Args:
            bus: where it subscribes when the first listener comes.
            system, kind: as in ``Bus.subscribe``.
            limit: how many events wait for one listener at most.
            overflow: a listener for whom one more comes loses its oldest ("drop"), or gets those and then the end
                ("close").

        Raises:
            InvalidError: a bad pattern or argument.
            PolicyDeniedError: the policy does not allow the whole of the pattern.
        """
        check_limit(limit)
        if overflow not in _OVERFLOWS:
            raise InvalidError(f"overflow must be 'drop' or 'close', not {overflow!r}", overflow=overflow)
        hears = hearing(system, kind, bus._guard)
        hears.check_allowed()
        self._bus = bus
        self._wanted = (system, kind)
        self._text = hears.system.text
        self._limit = limit
        self._strict = overflow == "close"
        self._pump: _Pump | None = None
        self._closed = False

    def listen(self) -> Listener:
        """Hears what is sent from now on, in the running event loop.

        Returns:
            A context manager, with ``async`` too, and an asynchronous iterator, which ends when the bus or the fan-out
            closes. One that nobody refers to any more is closed.

        Raises:
            ClosedError: the fan-out or the bus is closed.
            InvalidError: another event loop listens.
            RuntimeError: no event loop runs in this thread.
            SubscribersFullError, OSError: as ``Bus.subscribe``, for the first listener.
        """
        from asyncio import get_running_loop  # takes longer to import than all of eventbus

        loop = get_running_loop()
        if self._closed:
            raise ClosedError(f"the fan-out of {self._text!r} is closed")
        if self._pump is None or self._pump.is_over:
            name = checked_name(None, f"fanout:{self._text}")
            self._pump = _Pump(self._bus, self._bus.subscribe(*self._wanted, name=name), loop)
        elif self._pump.loop is not loop:
            raise InvalidError(
                f"the fan-out of {self._text!r} has listeners in another event loop: make one for each event loop"
            )
        return self._heard_by(self._pump)

    def _heard_by(self, pump: _Pump) -> Listener:
        try:
            return Listener(pump, _Inbox(self._limit, self._strict, pump.sent))
        finally:
            pump.stop_if_alone()  # where it was not to be

    def close(self) -> None:
        """Ends it: each listener gets what waits for it, then the end."""
        self._closed = True
        if self._pump is not None:
            self._pump.stop()

    async def aclose(self) -> None:
        """``close`` in an event loop."""
        self.close()

    def __enter__(self) -> Fanout:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Fanout:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Fanout {self._text!r}{' closed' if self._closed else ''}>"


class Listener(AsyncIterator[Event]):
    """What one listener hears, in the order of ``sequence``. Made by ``Fanout.listen``.

    Cancelled while it waits, it has taken nothing. An event that cannot be read is a ``SegmentError`` in its place, as
    of a subscription, and ends nothing; any other error is that of the subscription, after what was heard before it.
    """

    def __init__(self, pump: _Pump, inbox: _Inbox) -> None:
        self._pump, self._inbox = pump, inbox
        self._in_a_row = 0  # events that were had without waiting
        pump.join(inbox)

    @property
    def lost(self) -> int:
        """Events that it was too slow for; with ``overflow="close"`` 1, for the event that ended it."""
        return self._inbox.lost

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more."""
        return self._inbox.over and not self._inbox.entries

    async def __anext__(self) -> Event:
        inbox = self._inbox
        if self._in_a_row >= BATCH_LIMIT:
            self._in_a_row = 0
            await Turn()
        while not inbox.entries:
            inbox.check()
            self._in_a_row = 0
            await inbox.news(self._pump.loop)
        self._in_a_row += 1
        entry = inbox.entries.popleft()
        if isinstance(entry, SegmentError):
            _raise(entry, None)
        return entry

    def close(self) -> None:
        """Hears no more; what waits for it is dropped, and whoever waits for that sees the end."""
        self._inbox.entries.clear()
        self._inbox.end()
        self._pump.leave(self._inbox)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Listener:
        await self._pump.joined()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._pump.forget(self._inbox)


class _Inbox:
    """What waits for one listener, and who waits for it to come."""

    def __init__(self, limit: int, strict: bool, after: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=limit)
        self.lost = 0
        self.over = False
        self._limit = limit
        self._strict = strict
        self._after = after  # the last sequence before it listened
        self._failure: Exception | None = None
        self._traceback: TracebackType | None = None  # as it failed, before any listener raised it
        self._waiters: set[Future[None]] = set()

    def put(self, entries: Sequence[Entry]) -> None:
        """Takes what comes next, as far as there is room."""
        if _sequence(entries[0]) <= self._after:
            entries = [entry for entry in entries if _sequence(entry) > self._after]
        missing = len(self.entries) + len(entries) - self._limit
        if missing > 0 and self._strict:
            entries, self.lost, self.over = entries[:-missing], 1, True
        elif missing > 0:
            self.lost += missing
        self.entries.extend(entries)
        self._wake()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more comes, because of a failure, if it is one."""
        if not self.over and failure is not None:
            self._failure, self._traceback = failure, failure.__traceback__
        self.over = True
        self._wake()

    def check(self) -> None:
        """Raises the end, if this is it."""
        if self._failure is not None:
            _raise(self._failure, self._traceback)
        if self.over:
            raise StopAsyncIteration

    async def news(self, loop: AbstractEventLoop) -> None:
        """Waits until something was put in, or it has ended."""
        waiter: Future[None] = loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():  # cancelled, and not gone yet
                waiter.set_result(None)


class _Pump:
    """A subscription that a task drains into inboxes, while there are any. The task refers to it, so to all of them."""

    def __init__(self, bus: Bus, subscription: Subscription, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self._bus = bus
        self._subscription = subscription
        self._inboxes: set[_Inbox] = set()
        self._pid = os.getpid()
        self._over = False
        self._task: Task[None] | None = None  # the event loop itself keeps none

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more: closed, or of an event loop or a process that is not there any more."""
        if self.loop.is_closed() or self._pid != os.getpid():
            self.stop()
        return self._over

    @property
    def sent(self) -> int:
        """The last sequence so far."""
        return self._bus._open_handle().stats().sent if self._inboxes else 0  # the first begins with the subscription

    async def _run(self) -> None:
        failure: Exception | None = None
        try:
            while entries := await self._next():
                for inbox in list(self._inboxes):
                    inbox.put(entries)
                    if inbox.over:
                        self.leave(inbox)
        except Exception as error:  # which each listener raises
            failure = error
        finally:
            self._end(failure)

    async def _next(self) -> Sequence[Entry]:
        """What was heard next; nothing at the end."""
        try:
            return await self._subscription.areceive_many(BATCH_LIMIT)
        except SegmentError as error:
            if "sequence" not in error.details:
                raise
            return [error]

    def _end(self, failure: Exception | None) -> None:
        self.stop()
        self._task = None  # which keeps what it ends with
        for inbox in list(self._inboxes):
            inbox.end(failure)

    def stop(self) -> None:
        """Hears no more; by any thread. The task then ends the inboxes."""
        self._over = True
        self._subscription.close()

    async def joined(self) -> None:
        """Once it is subscribed: where somebody keeps a lock, that is not so yet."""
        await self._subscription._joined()

    def join(self, inbox: _Inbox) -> None:
        """Fills this one, too."""
        self._inboxes.add(inbox)
        if self._task is None:
            # In a context of its own: it outlives the listener that came first, and keeps nothing of what that one set.
            self._task = contextvars.Context().run(self._start)

    def _start(self) -> Task[None]:
        return self.loop.create_task(self._run(), name=self._subscription.name)

    def leave(self, inbox: _Inbox) -> None:
        """Fills it no more."""
        self._inboxes.discard(inbox)
        self.stop_if_alone()

    def forget(self, inbox: _Inbox) -> None:
        """``leave`` by whatever thread collects the listener."""
        self._inboxes.discard(inbox)
        if not self._inboxes and not self.is_over:
            self.loop.call_soon_threadsafe(self.stop_if_alone)

    def stop_if_alone(self) -> None:
        """With nobody to hear it for, it hears no more."""
        if not self._inboxes:
            self.stop()


def _sequence(entry: Entry) -> int:
    found = entry.details["sequence"] if isinstance(entry, SegmentError) else entry.sequence
    return int(found)


def _raise(error: Exception, traceback: TracebackType | None) -> NoReturn:
    """In each of those who share it, as if it was raised there for the first time."""
    try:
        raise error.with_traceback(traceback)
    finally:
        del error  # which refers to this frame by now
