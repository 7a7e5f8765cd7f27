"""Subscription and Channel: the receive flow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any, NoReturn

from eventbus import _ring
from eventbus.errors import ClosedError, InvalidError, SegmentError
from eventbus.event import Event, decode

_new_event = tuple.__new__  # what Event._make does, without a Python frame for each event


class Subscription:
    """What one subscriber hears, in the order of ``sequence``. Made by ``Bus.subscribe``.

    A context manager and an iterator, which ends when the subscription or the bus closes. Several threads may receive
    and share the events.
    """

    def __init__(self, handle: _ring.SubscriptionHandle, name: str, hears: Callable[[str, str], bool]) -> None:
        self._handle: _ring.SubscriptionHandle | None = handle
        self._name = name
        self._hears = hears
        self._ready: deque[Event] = deque()
        self._receiving = threading.RLock()
        self._systems: dict[int, str] = {}
        self._kinds: dict[int, str] = {}
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
        try:
            return self._ready.popleft()
        except IndexError:  # contextlib.suppress costs three times the rest of this
            pass
        return self._next(_ring.deadline_after(timeout))

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

    def disown(self) -> None:
        """In a forked child: the slot stays the parent's, this object is of no use any more."""
        handle, self._handle = self._handle, None
        self._inherited = handle is not None or self._inherited
        self._ready.clear()
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Subscription {self._name!r}{' closed' if self._handle is None else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Subscription cannot be pickled: pass the Bus, and subscribe in the other process")

    def _live_handle(self) -> _ring.SubscriptionHandle | None:
        if self._inherited:
            raise ClosedError(
                f"the subscription {self._name!r} belongs to the process that this one was forked from; "
                "call bus.subscribe() here for one of your own"
            )
        return self._handle

    def _next(self, deadline: int) -> Event | None:
        if not self._receiving.acquire(timeout=_ring.seconds_left(deadline)):
            return None
        try:
            while True:
                if self._ready:
                    return self._ready.popleft()
                if not self._fill(deadline):
                    return None
        finally:
            self._receiving.release()

    def _fill(self, deadline: int) -> bool:
        """Reads the next batch; False when the time is up or the end has come."""
        while True:
            handle = self._live_handle()
            if handle is None or self._ended:
                return False
            count = handle.receive(_ring.BATCH_LIMIT, deadline)
            if count > 0:
                self._ready.extend(self._events(handle, count))
                return True
            if count == _ring.UNDECIDED:
                topic, names = handle.undecided()
                handle.decide(topic, self._verdict(topic, *names))
            elif count == _ring.LARGE:
                handle.reserve()
            elif count == _ring.NOTHING:
                return False
            elif count == _ring.CLOSED:
                self._ended = True
                return False
            elif count != _ring.INTERRUPTED:
                _ring.fail(count, handle.bus.what)

    def _verdict(self, topic: int, system: str, kind: str) -> bool:
        """Whether it hears the topic, whose names it remembers if so."""
        heard = self._hears(system, kind)
        if heard and topic != _ring.INLINE:
            self._systems[topic], self._kinds[topic] = system, kind
        return heard

    def _events(self, handle: _ring.SubscriptionHandle, count: int) -> Iterator[Event]:
        sequences, times = handle.numbers(count)
        values = decode(handle.json())
        beside, origin = handle.beside(), handle.origin()
        systems: Iterable[str]
        kinds: Iterable[str]
        senders: Iterable[int]
        if origin is not None and not beside:
            topic, sender = origin
            systems, kinds, senders = repeat(self._systems[topic]), repeat(self._kinds[topic]), repeat(sender)
            paths, datas = values[::2], values[1::2]
        else:
            topics, senders = handle.origins(count)
            systems, kinds, paths, datas = self._merge(topics, values, beside)
        if not len(paths) == len(datas) == count:
            raise SegmentError(f"{len(values)} values came with {count} events: the ring does not hold what was sent")
        rows = zip(systems, kinds, paths, datas, sequences, times, senders, repeat(1))
        return map(_new_event, repeat(Event), rows)

    def _merge(
        self, topics: list[int], values: list[Any], beside: list[_ring.Beside]
    ) -> tuple[list[str], list[str], list[str], list[Any]]:
        """The columns of a batch of several topics, with raw data or names of its own."""
        if not beside:
            systems = [self._systems[topic] for topic in topics]
            return systems, [self._kinds[topic] for topic in topics], values[::2], values[1::2]
        rows = {row.event: row for row in beside}
        decoded = iter(values)
        names: list[tuple[str, str]] = []
        contents: list[tuple[str, Any]] = []
        for index, topic in enumerate(topics):
            row = rows.get(index)
            if row is not None and row.names is not None:
                names.append(row.names)
            else:
                names.append((self._systems[topic], self._kinds[topic]))
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
