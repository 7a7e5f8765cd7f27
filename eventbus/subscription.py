"""Subscription and Channel: the receive flow."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any, NoReturn

from eventbus import _ring
from eventbus._reader import (
    BATCH_LIMIT,
    LABEL_LIMIT,
    LARGE,
    LATEST,
    OLDEST,
    UNDECIDED,
    Beside,
    SubscriptionHandle,
    receive_batch,
)
from eventbus.errors import ClosedError, InvalidError, SegmentError
from eventbus.event import Event, decode
from eventbus.request import MARK, Answer, opened

_new_event = tuple.__new__  # what Event._make does, without a Python frame for each event


class Subscription:
    """What one subscriber hears, in the order of ``sequence``. Made by ``Bus.subscribe``.

    A context manager and an iterator, which ends when the subscription or the bus closes. Several threads may receive
    and share the events.
    """

    def __init__(
        self, handle: SubscriptionHandle, name: str, hears: Callable[[str, str], bool], answer: Answer
    ) -> None:
        self._handle: SubscriptionHandle | None = handle
        self._name = name
        self._hears = hears
        self._answer = answer
        self._ready: deque[Event] = deque()
        self._receiving = threading.RLock()
        self._systems: dict[int, str] = {}
        self._kinds: dict[int, str] = {}
        self._asked: dict[int, str] = {}  # the marked kinds of requests, which are never in _kinds
        self._ended = False
        self._inherited = False
        self._lost = 0
        self._channel = Channel(self)

    @property
    def name(self) -> str:
        """As shown to people."""
        return self._name

    @property
    def lost(self) -> int:
        """Events lost to lapping so far, those included that it would not have heard."""
        handle = self._live_handle()
        return self._lost if handle is None else handle.lost

    @property
    def backlog(self) -> int:
        """Events that it hears and that were sent but not yet received."""
        handle = self._live_handle()
        return 0 if handle is None else len(self._ready) + handle.backlog(self._verdict)

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more: closed here, or the bus is shut down and drained."""
        handle = self._handle
        if handle is None or self._ended:
            return True
        return handle.bus.closed and not self._ready and handle.backlog(self._verdict) == 0

    def receive(self, timeout: float | None = None) -> Event | None:
        """The next event.

        Args:
            timeout: seconds; None waits for ever, 0 does not wait.

        Returns:
            The event; None when the time is up or the subscription has ended (``closed`` tells which).

        Raises:
            ClosedError: in a process that was forked from the subscriber's.
            SegmentError: the shared memory is damaged.
        """
        if self._ready:
            try:
                return self._ready.popleft()
            except IndexError:  # another thread was faster
                pass
        return self._next(_ring.FOREVER if timeout is None else _ring.deadline_after(timeout))

    def receive_many(self, limit: int, timeout: float | None = None) -> list[Event]:
        """The next 1 to ``limit`` events, without waiting for more than the first; [] as ``receive`` gives None."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidError(f"limit must be an int of at least 1, not {limit!r}", limit=limit)
        first = self.receive(timeout)
        if first is None:
            return []
        events, take = [first], self._ready.popleft
        while len(events) < limit:
            try:
                events.append(take())
            except IndexError:
                if (event := self.receive(0)) is None:
                    break
                events.append(event)
        return events

    def ack(self) -> None:
        """Acknowledges the event in hand at once, without asking for the next one.

        Raises:
            InvalidError: the subscription is not a member of a group.
        """
        raise self._no_member()

    def reject(self) -> None:
        """Gives the event in hand back at once; it is delivered again, counted, to whoever asks first.

        Raises:
            InvalidError: the subscription is not a member of a group.
        """
        raise self._no_member()

    def _no_member(self) -> InvalidError:
        return InvalidError(f"{self._name!r} is not a member of a group: subscribe with group=")

    def channel(self) -> Channel:
        """The channel form of this subscription, the same object each time."""
        return self._channel

    def close(self) -> None:
        """Gives the slot back; what was not received is dropped. A receiver in another thread returns at once."""
        handle = self._handle
        if handle is None:
            return
        self._ended = True
        handle.interrupt()
        with self._receiving:
            if self._handle is not None:
                self._lost = handle.lost
                self._handle = None
                self._ready.clear()
                handle.leave()

    def leave(self, handled: bool) -> None:
        """Closes; ``handled`` is for members of groups: whether what they have in hand is done."""
        self.close()

    def disown(self) -> None:
        """In a forked child: the slot stays the parent's, this object is of no use any more."""
        handle, self._handle = self._handle, None
        self._inherited = handle is not None or self._inherited
        self._ready.clear()
        self._receiving = threading.RLock()  # the old one may be held by a thread that this process does not have
        if handle is not None:
            handle.abandon()

    def __iter__(self) -> Iterator[Event]:
        ready = self._ready
        while (event := self.receive()) is not None:
            yield event
            while ready:
                try:
                    event = ready.popleft()
                except IndexError:  # another thread was faster
                    break
                yield event

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.leave(error is None)

    def __repr__(self) -> str:
        return f"<Subscription {self._name!r}{' closed' if self._handle is None else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Subscription cannot be pickled: pass the Bus, and subscribe in the other process")

    def _live_handle(self) -> SubscriptionHandle | None:
        if self._inherited:
            raise ClosedError(
                f"the subscription {self._name!r} belongs to the process that this one was forked from; "
                "call bus.subscribe() here for one of your own"
            )
        return self._handle

    def receive_until(self, deadline: int) -> Event | None:
        """``receive`` with an absolute deadline, as ``deadline_after`` makes it."""
        return self._ready.popleft() if self._ready else self._next(deadline)

    def _next(self, deadline: int) -> Event | None:
        lock = self._receiving
        if not lock.acquire(False) and not lock.acquire(timeout=_ring.seconds_left(deadline)):
            return None
        try:
            while True:
                if self._ready:
                    return self._ready.popleft()
                handle = self._handle or self._live_handle()
                if handle is None or self._ended:
                    return None
                count = receive_batch(handle.pointer, BATCH_LIMIT, deadline)
                if count == 1 and (event := self._single(handle)) is not None:
                    return event
                if count > 0:
                    self._ready.extend(self._events(handle, count))
                elif not self._settle(handle, count):
                    return None
        finally:
            lock.release()

    def _settle(self, handle: SubscriptionHandle, status: int) -> bool:
        """Does what C needs to go on; False when the time is up or the end has come."""
        if status == UNDECIDED:
            topic, names = handle.undecided()
            handle.decide(topic, self._verdict(topic, *names))
        elif status == LARGE:
            handle.reserve()
        elif status == _ring.CLOSED:
            self._ended = True
        elif status not in (_ring.NOTHING, _ring.INTERRUPTED):
            _ring.fail(status, handle.bus.what)
        return status not in (_ring.NOTHING, _ring.CLOSED)

    def _verdict(self, topic: int, system: str, kind: str) -> bool:
        """Whether it hears the topic, whose names it remembers if so."""
        heard = self._hears(system, kind.removesuffix(MARK))
        if heard and topic != _ring.INLINE:
            kinds = self._asked if kind.endswith(MARK) else self._kinds
            self._systems[topic], kinds[topic] = system, kind
        return heard

    def _single(self, handle: SubscriptionHandle) -> Event | None:
        """A batch of one, which is what a dialogue is made of; None where it needs more care."""
        numbers = handle.single()
        if numbers is None:
            return None
        sequence, time, sender, topic = numbers
        values = decode(handle.json())
        if len(values) != 2:
            raise _misfit(len(values), 1)
        try:
            row = (self._systems[topic], self._kinds[topic], values[0], values[1], sequence, time, sender, 1)
        except KeyError:  # a request
            return None
        return _new_event(Event, row)

    def _events(self, handle: SubscriptionHandle, count: int) -> Iterable[Event]:
        sequences, times = handle.numbers(count)
        values = decode(handle.json())
        origin = handle.origin()
        systems: Iterable[str]
        kinds: Iterable[str]
        senders: Iterable[int]
        plain = origin is not None and origin[0] in self._kinds
        if origin is not None and plain:
            topic, sender = origin
            systems, kinds, senders = repeat(self._systems[topic]), repeat(self._kinds[topic]), repeat(sender)
            paths, datas = values[::2], values[1::2]
        else:
            topics, senders = handle.origins(count)
            beside = handle.beside()
            plain = not self._asked and not beside
            systems, kinds, paths, datas = self._merge(topics, values, beside)
        if not len(paths) == len(datas) == count:
            raise _misfit(len(values), count)
        rows = zip(systems, kinds, paths, datas, sequences, times, senders, repeat(1))
        events = map(_new_event, repeat(Event), rows)
        return events if plain else [opened(event, self._answer) for event in events]

    def _merge(
        self, topics: list[int], values: list[Any], beside: list[Beside]
    ) -> tuple[list[str], list[str], list[str], list[Any]]:
        """The columns of a batch of several topics, with raw data or names of its own."""
        known = {**self._kinds, **self._asked} if self._asked else self._kinds
        if not beside:
            systems = [self._systems[topic] for topic in topics]
            return systems, [known[topic] for topic in topics], values[::2], values[1::2]
        rows = {row.event: row for row in beside}
        decoded = iter(values)
        names: list[tuple[str, str]] = []
        contents: list[tuple[str, Any]] = []
        for index, topic in enumerate(topics):
            row = rows.get(index)
            if row is not None and row.names is not None:
                names.append(row.names)
            else:
                names.append((self._systems[topic], known[topic]))
            if row is not None and row.path:
                contents.append((row.path, row.data))
            else:
                contents.append((next(decoded, ""), next(decoded, None)))
        return (
            [system for system, _ in names],
            [kind for _, kind in names],
            [path for path, _ in contents],
            [data for _, data in contents],
        )


def _misfit(values: int, events: int) -> SegmentError:
    return SegmentError(f"{values} values came with {events} events: the ring does not hold what was sent")


class Channel:
    """A subscription in the form ``(event, ok)``."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def receive(self, timeout: float | None = None) -> tuple[Event | None, bool]:
        """The next event.

        Returns:
            ``(event, True)``; ``(None, True)`` when the time is up; ``(None, False)`` once closed and drained.

        Raises:
            As ``Subscription.receive``.
        """
        event = self._subscription.receive(timeout)
        return event, event is not None or not self._subscription.closed

    def close(self) -> None:
        """Closes the subscription."""
        self._subscription.close()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._subscription)


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
    if not isinstance(name, str) or not name or len(name.encode(errors="replace")) > LABEL_LIMIT or "\0" in name:
        raise InvalidError(f"name must be a str of 1 to {LABEL_LIMIT} bytes, not {name!r}", name=name)
    return name
