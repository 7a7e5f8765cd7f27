"""Subscription and Channel: the receive flow."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from operator import length_hint
from typing import Any, NoReturn

from eventbus import _fast
from eventbus.awaiting import Awaiting, check_limit
from eventbus.core import native
from eventbus.core.reader import (
    BATCH_LIMIT,
    LABEL_LIMIT,
    LARGE,
    LATEST,
    OLDEST,
    UNDECIDED,
    SubscriptionHandle,
)
from eventbus.errors import EventBusError, InvalidError, SegmentError, UnavailableError
from eventbus.event import Event, Headers, Unreadable, loads
from eventbus.request import MARK, Answering, Request, received

_fast.bind_receive(
    native.address_of("eb_receive"),
    native.address_of("eb_ack"),
    native.address_of("eb_bury"),
    native.address_of("eb_return"),
    native.address_of("eb_reject_event"),
    native.generation_word(),
    loads,
    Event,
    Request,
    Headers,
)
_fast.bind_views(
    native.address_of("eb_view_hold"),
    native.address_of("eb_view_release"),
    native.address_of("eb_view_export"),
    native.address_of("eb_view_exported"),
    native.address_of("eb_views_lend"),
    native.address_of("eb_views_asked"),
)


_UNUSABLE = re.compile("[\0\ud800-\udfff]")  # in a name: what ends a text in C, and what UTF-8 has not


class Subscription(Awaiting):
    """What one subscriber hears, in the order of ``sequence``. Made by ``Bus.subscribe``.

    A context manager and an iterator, which ends when the subscription or the bus closes. Several threads may receive
    and share the events.
    """

    _in_group = False

    def __init__(
        self,
        handle: SubscriptionHandle,
        name: str,
        hears: Callable[[str, str], bool],
        bus: Answering | None,
        views: bool = False,
    ) -> None:
        self._lent = []
        self._views = views
        self._begin(handle)
        self._subscription = handle
        self._name = name
        self._hears = hears
        self._limit = BATCH_LIMIT
        self._receiving = threading.RLock()
        self._names = {}
        self._bus = bus
        self._channel: Channel | None = None

    @property
    def name(self) -> str:
        """As shown to people."""
        return self._name

    @property
    def lost(self) -> int:
        """Events lost to lapping so far, those included that it would not have heard."""
        self._live_handle()
        return self._subscription.lost

    @property
    def backlog(self) -> int:
        """Events that it hears and that were sent but not yet received."""
        handle = self._live_handle()
        return 0 if handle is None else length_hint(self._ready) + handle.backlog(self._heard, self._names)

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more: closed here, or the bus is shut down and drained."""
        handle = self._handle if self._join is None else self._live_handle()
        if handle is None or self._ended or handle.inherited:
            return True
        return handle.bus.closed and not length_hint(self._ready) and handle.backlog(self._heard, self._names) == 0

    def receive(self, timeout: float | None = None) -> Event | None:
        """The next event.

        Args:
            timeout: seconds; None waits for ever, 0 does not wait.

        Returns:
            The event; None when the time is up or the subscription has ended (``closed`` tells which).

        Raises:
            ClosedError: in a process that was forked from the subscriber's.
            SegmentError: the next event cannot be read: then ``details["sequence"]`` says which, and what comes after
                it is next; or the shared memory is damaged.
        """
        for event in self._ready:
            return event  # not by next(): its event would be lost where a signal handler raises as the call returns
        return self._next(native.FOREVER if timeout is None else native.deadline_after(timeout))

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        """The next 1 to ``limit`` events, without waiting for more than the first; [] as ``receive`` gives None.

        What comes before an event that cannot be read is returned; the next call raises.
        """
        check_limit(limit)
        events: list[Event] = []
        deadline = native.deadline_after(timeout)
        try:
            while True:
                self._ready.take(limit - len(events), events)  # each is in hand or in the list
                if len(events) >= limit or (events and self._ready.unreadable):
                    return events
                if not self._fill(native.POLL if events else deadline):
                    return events
        except BaseException:  # of a signal handler, or damage: what was taken so far comes first next time
            self._ready.put_back(events)
            raise

    def ack(self, event: Event | None = None) -> None:
        """Acknowledges at once, without asking for the next one, what is in hand, or this event of it.

        Raises:
            InvalidError: the subscription is not a member of a group; the event is not in hand.
        """
        raise self._no_member()

    def reject(self, event: Event | None = None, delay: float = 0.0) -> None:
        """Gives what is in hand, or this event of it, back: it is delivered again, counted, to whoever asks first.

        Args:
            event: one that is in hand; all that is if left out.
            delay: seconds before which it is not delivered again, whoever dies meanwhile.

        Raises:
            InvalidError: the subscription is not a member of a group; the event is not in hand; no such delay.
        """
        raise self._no_member()

    def _no_member(self) -> InvalidError:
        return InvalidError(f"{self._name!r} is not a member of a group: subscribe with group=")

    def channel(self) -> Channel:
        """The channel form of this subscription, the same object each time."""
        if self._channel is None:
            self._channel = Channel(self)
        return self._channel

    def close(self) -> None:
        """Gives the slot back; what was not received is dropped. A receiver in another thread returns at once."""
        self._ended = True
        self._join = None
        self._release(0)
        self._subscription.leave()
        self._handle = None
        self._ready.drop()
        if (doorbell := self._doorbell) is not None:
            self._doorbell = None  # its descriptor stays as long as somebody has it
            doorbell.next(self._subscription, last=True)
        _fast.check_signals()

    def leave(self, handled: bool) -> None:
        """Closes; ``handled`` is for members of groups: whether what they have in hand is done."""
        self.close()

    def process_ends(self) -> None:
        """Called before the end of the process."""

    def __iter__(self) -> Iterator[Event]:
        return chain.from_iterable(self._batches())

    def _batches(self) -> Iterator[Iterator[Event]]:
        more: Iterator[Event] | None = self._ready
        while more is not None:
            yield more
            try:
                more = self._ready if self._begins() and self._fill(native.FOREVER) else None
            except EventBusError as error:  # raised here it would end the iterator, and that of one event ends nothing
                more = map(_raise, (error.with_traceback(None),))

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.leave(error is None)

    async def aclose(self) -> None:
        """``close`` in an event loop."""
        await self._aleave(True)

    async def _aleave(self, handled: bool) -> None:
        self.leave(handled)

    async def __aenter__(self) -> Subscription:
        await self._joined()
        return self

    async def __aexit__(self, error: object, *_: object) -> None:
        await self._aleave(error is None)

    def __repr__(self) -> str:
        return f"<Subscription {self._name!r}{' closed' if self._handle is None else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Subscription cannot be pickled: pass the Bus, and subscribe in the other process")

    def begin(self, join: Callable[[], object]) -> None:
        """Joins; in an event loop, where a lock would have to be waited for, when it is entered or first used."""
        self._handle, self._join = None, join
        try:
            self._join_now()
        except UnavailableError as error:
            if not native.put_off(error):
                raise

    def _join_now(self) -> None:
        with self._receiving:
            if self._join is not None:
                self._join()
                self._handle, self._join = self._subscription, None

    def _live_handle(self) -> SubscriptionHandle | None:
        """None when it is closed here.

        Raises:
            ClosedError: it is another process's, or its descriptors were closed underneath.
            UnavailableError: it has yet to join, and somebody keeps a lock.
        """
        if self._join is not None:
            with native.patient():
                self._join_now()
        self._subscription.check(f"the subscription {self._name!r}")
        return self._handle

    def receive_until(self, deadline: int) -> Event | None:
        """``receive`` with an absolute deadline, as ``deadline_after`` makes it."""
        for event in self._ready:
            return event
        return self._next(deadline)

    def _next(self, deadline: int) -> Event | None:
        while self._begins() and self._fill(deadline):
            for event in self._ready:  # empty where another thread was faster
                return event
        return None

    def _await_turn(self, lock: threading.RLock, deadline: int) -> bool:
        """Waits for the lock that another thread has. A loop takes the result from C and stores it in one step: a
        signal handler that raises as a call returns would leave the lock taken, and nobody to know."""
        for taken in map(lock.acquire, (True,), (native.seconds_left(deadline),)):
            return taken
        return False

    def _opened(self, handle: SubscriptionHandle, rows: list[tuple[Any, ...]]) -> list[Event | Unreadable]:
        """The events of a batch that is not what was sent, or may have requests, from their fields."""
        return [received(row, self._bus) for row in rows]

    def _refused(self, handle: SubscriptionHandle, unreadable: Unreadable) -> SegmentError:
        """What is raised in place of what cannot be read; whoever asked it is told."""
        event, why = unreadable
        names = {"system": event.system, "kind": event.kind, "path": event.path}
        which = f"the event {event.sequence} {' '.join(map(repr, names.values()))} of {handle.bus.what}"
        error = SegmentError(f"{which} cannot be read: {why}", sequence=event.sequence, **names)
        if isinstance(event, Request):
            self._tell(event, type(error).__name__, error.message, patient=False)
        return error

    def _tell(self, request: Request, kind: str, message: str, patient: bool = True) -> None:
        """Answers with an error, if that can be: without ``patient`` only if there is room at once."""
        try:
            request.fail(kind, message, patient)
        except EventBusError as error:
            import logging  # not above: few need it

            logging.getLogger("eventbus").error("whoever asked cannot be told: %s", error.message)

    def _settle(self, handle: SubscriptionHandle, status: int) -> bool:
        """Does what C needs to go on; False when the end has come. Interrupted, it is here that signals are handled."""
        if status == UNDECIDED:
            topic, names = handle.undecided()
            heard = self._heard(*names)
            handle.decide(topic, heard or names, heard is not None, self._names)
        elif status == LARGE:
            handle.reserve()
        elif status == native.CLOSED:
            self._ended = True
        elif status != native.INTERRUPTED:
            handle.checked(status)
        return status != native.CLOSED

    def _heard(self, system: str, kind: str) -> tuple[str, ...] | None:
        """The names of a topic if it hears it; of one of requests those that were asked, and the kind as it is sent."""
        asked = kind.removesuffix(MARK)
        if not self._hears(system, asked):
            return None
        return (system, kind) if asked == kind else (system, asked, kind)


class Channel:
    """A subscription in the form ``(event, ok)``."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def receive(self, timeout: float | None = None) -> tuple[Event | None, bool]:
        """The next event.

        Returns:
            ``(event, True)``; ``(None, True)`` when the time is up; ``(None, False)`` once closed and drained.

        Raises:
            EventBusError: as ``Subscription.receive``.
        """
        event = self._subscription.receive(timeout)
        return event, event is not None or not self._subscription.closed

    async def areceive(self, timeout: float | None = None) -> tuple[Event | None, bool]:
        """``receive`` in an event loop."""
        event = await self._subscription.areceive(timeout)
        return event, event is not None or not self._subscription.closed

    def close(self) -> None:
        """Closes the subscription."""
        self._subscription.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._subscription.leave(error is None)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._subscription)


def _raise(error: EventBusError) -> NoReturn:
    try:
        raise error
    finally:
        del error  # which refers to this frame by now


def checked_start(start: object) -> int:
    """``start`` as C has it."""
    if start == "latest":
        return LATEST
    if start == "oldest":
        return OLDEST
    if isinstance(start, bool) or not isinstance(start, int) or not 1 <= start < 1 << 63:
        raise InvalidError(f"start must be 'latest', 'oldest' or a sequence from 1, not {start!r}", start=start)
    return start


def checked_spin(spin: float | None) -> float | None:
    """``spin`` if it can be one."""
    if spin is not None and (isinstance(spin, bool) or not isinstance(spin, (int, float)) or not 0 <= spin <= 1):
        raise InvalidError(f"spin must be None or 0 to 1 seconds, not {spin!r}", spin=spin)
    return spin


def checked_name(name: object, system: str) -> str:
    """``name`` if it can be one; if None, one made of the pattern and the pid."""
    if name is None:
        return f"{system}@{os.getpid()}".encode()[-LABEL_LIMIT:].decode(errors="ignore")
    size = len(name.encode(errors="surrogatepass")) if isinstance(name, str) else 0
    if not isinstance(name, str) or not 1 <= size <= LABEL_LIMIT or _UNUSABLE.search(name):
        raise InvalidError(f"name must be a str of 1 to {LABEL_LIMIT} bytes, not {name!r}", name=name)
    return name
