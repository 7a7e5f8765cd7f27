"""Groups: make one, be a member of one, bury what nobody could handle."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from eventbus import _ring
from eventbus._reader import BATCH_LIMIT, EXHAUSTED, SubscriptionHandle, receive_batch
from eventbus.errors import InvalidError, SubscribersFullError
from eventbus.event import Event
from eventbus.subscription import Subscription

MAX_DELIVERIES = 5
DEAD_SYSTEM, DEAD_KIND = "eventbus.dead", "exhausted"


def make_group(bus: _ring.BusHandle, name: str, system: str, kind: str, start: int, max_deliveries: int | None) -> int:
    """The number of the group, made if there is none of the name; ``max_deliveries`` None takes it as it is.

    Raises:
        InvalidError: there is one with other patterns or another limit.
        SubscribersFullError: no slot or no group is left.
    """
    number = bus.group_create(name, system, kind, start, max_deliveries or 0)
    if number == _ring.CONFLICT:
        there = next(group for group in bus.groups() if group.name == name)
        raise InvalidError(
            f"the group {name!r} hears system {there.system!r} and kind {there.kind!r} and delivers at most "
            f"{there.max_deliveries} times; {system!r}, {kind!r} and {max_deliveries} were asked for: use the same, or "
            "another name",
            existing=(there.system, there.kind, there.max_deliveries),
            requested=(system, kind, max_deliveries),
        )
    if number in (_ring.NO_SLOT, _ring.TABLE_FULL):
        raise SubscribersFullError(
            f"{bus.what} has no room for the group {name!r}: it takes one of its {bus.stats().max_subscribers} "
            f"subscriber slots, and there are at most {_ring.GROUPS} groups",
            limit=_ring.GROUPS,
        )
    return _ring.checked(number, bus.what)


class Member(Subscription):
    """A subscription that shares its group's events with the other members.

    Asking for the next event acknowledges the one before. Only one thread at a time may work with it.
    """

    def __init__(
        self,
        handle: SubscriptionHandle,
        name: str,
        hears: Callable[[str, str], bool],
        *,
        group: str,
        prefetch: int,
        bury: Callable[[str, dict[str, Any]], object],
    ) -> None:
        super().__init__(handle, name, hears)
        self._group = group
        self._prefetch = min(prefetch, BATCH_LIMIT)
        self._bury = bury
        self._in_hand = False

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group

    def receive(self, timeout: float | None = None) -> Event | None:
        """The next event, after acknowledging the one before; else as ``Subscription.receive``."""
        deadline = _ring.FOREVER if timeout is None else _ring.deadline_after(timeout)
        lock = self._receiving
        if not lock.acquire(False) and not lock.acquire(timeout=_ring.seconds_left(deadline)):
            return None
        try:
            handle = self._handle or self._live_handle()
            if self._ready and handle is not None:
                if self._in_hand:
                    handle.acknowledge()
                self._in_hand = True
                return self._ready.popleft()
            self._in_hand = False
            event = self._claim(deadline)
            self._in_hand = event is not None
            return event
        finally:
            lock.release()

    def _claim(self, deadline: int) -> Event | None:
        """The first event of the next claim; the rest of it waits in ``_ready``."""
        while True:
            handle = self._handle or self._live_handle()
            if handle is None or self._ended:
                return None
            count = receive_batch(handle.pointer, self._prefetch, deadline)
            if count == EXHAUSTED:
                self._dead_letter(handle)
            elif count > 0:
                event = self._single(handle) if count == 1 else None
                if event is None:
                    self._ready.extend(self._events(handle, count))
                    event = self._ready.popleft()
                deliveries = handle.deliveries
                return event if deliveries == 1 else event._replace(deliveries=deliveries)
            elif not self._settle(handle, count):
                return None

    def _dead_letter(self, handle: SubscriptionHandle) -> None:
        """Sends the exhausted event on as dead. Until that is done it stays the group's."""
        try:
            (event,) = self._events(handle, 1)
            if event.system != DEAD_SYSTEM:
                self._bury(event.path, _letter(event, self._group, handle.deliveries - 1))
        except BaseException:
            handle.give_back(True)
            raise
        handle.acknowledge()
        handle.count_dead()

    def ack(self) -> None:
        """Acknowledges the event in hand at once; nothing when there is none."""
        with self._receiving:
            handle = self._live_handle()
            if self._in_hand and handle is not None:
                self._in_hand = False
                handle.acknowledge()

    def reject(self) -> None:
        """Gives the event in hand back, with what was fetched after it; nothing when there is none."""
        with self._receiving:
            handle = self._live_handle()
            if self._in_hand and handle is not None:
                self._in_hand = False
                self._ready.clear()
                handle.give_back(True)

    def close(self) -> None:
        """Acknowledges the event in hand, gives back what was fetched after it, and leaves."""
        handle = self._handle
        if handle is not None:
            self._ended = True
            handle.interrupt()
            if not self._inherited:
                self.ack()
        super().close()

    def __iter__(self) -> Iterator[Event]:
        while (event := self.receive()) is not None:
            yield event


def _letter(event: Event, group: str, deliveries: int) -> dict[str, Any]:
    """What is told of an event that nobody could handle; raw data is in base64."""
    raw = isinstance(event.data, bytes)
    return {
        "group": group,
        "deliveries": deliveries,
        "system": event.system,
        "kind": event.kind,
        "path": event.path,
        "data": {"base64": base64.b64encode(event.data).decode()} if raw else event.data,
        "sequence": event.sequence,
        "time": event.time,
        "sender": event.sender,
    }
