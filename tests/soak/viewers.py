"""Who looks at raw data where they lie, and keeps parts of some for long: all of it must stay what it was, from the
beginning to the end of each look."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from eventbus import Event
from eventbus._fast import Fields
from soak.actors import Part
from soak.ledger import Kind, entry
from soak.message import message, number_of

Kept = tuple[int, memoryview, int]
"""A sequence, a part of what it brought, and the checksum of that."""


def with_data(event: Event, data: Any) -> Event:
    """The event with these data; no Python of the bus runs, as the constructor's, where the storm may interrupt it."""
    return Fields.__new__(Event, event.system, event.kind, event.path, data, *event[4:])


def _is_in_place(view: memoryview) -> bool:
    try:
        return not isinstance(view.obj, bytes)
    except ValueError:  # another thread has closed
        return False


class Album:
    """What one subscription looks at, and what it has kept of that.

    Args:
        views: whether it looks; else nothing is kept, and raw data must be bytes.
        most: how many parts it keeps.
        closing: whether another thread closes it, which releases what this one looks at.
    """

    def __init__(
        self, part: Part, who: int, views: bool, most: int, closing: Callable[[], bool] = lambda: False
    ) -> None:
        self._part = part
        self._who = who
        self._views = views
        self._most = most
        self._closing = closing
        self._open: dict[int, tuple[memoryview, bytes]] = {}  # by sequence: the look, and what was seen as it began
        self._kept: list[Kept] = []
        self._lock = threading.Lock()

    def looked(self, events: list[Event]) -> list[Event]:
        """The events as they would be without views; some of what they look at is kept from now on."""
        looks = [event.data for event in events if isinstance(event.data, memoryview)]
        if in_place := sum(map(_is_in_place, looks)):
            self._part.ledger.write(entry(Kind.VIEWED, self._who, in_place))
        return [self._looked(event) for event in events]

    def over(self, sequences: Iterable[int]) -> None:
        """Before whoever has these says that it is done with them: it still sees what it saw at first."""
        for sequence in sequences:
            with self._lock:
                view, data = self._open.pop(sequence, (None, b""))
            try:
                changed = view is not None and bytes(view) != data
            except ValueError:
                if not self._closing():
                    raise
                continue
            if changed:
                self._part.ledger.fault(f"{self._who}: what it looked at of sequence {sequence} has changed")

    def _looked(self, event: Event) -> Event:
        view = event.data
        if isinstance(view, bytes if self._views else memoryview):
            self._part.ledger.fault(f"{self._who} got sequence {event.sequence} as {type(view).__name__}")
        if not isinstance(view, memoryview):
            return event
        try:
            return self._copied(event, view)
        except ValueError:
            if not self._closing():
                raise
            traffic = self._part.plan.traffic
            return with_data(event, message(traffic, *(number_of(traffic, event.path) or (0, 0))).data)

    def _copied(self, event: Event, view: memoryview) -> Event:
        data = bytes(view)
        with self._lock:
            self._open[event.sequence] = view, data
            if self._most and self._part.dice.random() < 0.5:
                self._keep(event.sequence, view[len(view) // 3 :])
        return with_data(event, data)

    def _keep(self, sequence: int, view: memoryview) -> None:
        self._kept.append((sequence, view, zlib.crc32(view)))
        while len(self._kept) > self._most:
            self._check(self._kept.pop(self._part.dice.randrange(len(self._kept))))

    def _check(self, kept: Kept) -> None:
        sequence, view, checksum = kept
        if zlib.crc32(view) != checksum:
            self._part.ledger.fault(f"{self._who}: what it kept of sequence {sequence} has changed")

    def close(self) -> None:
        """After the end of the subscription: all that is kept is looked at once more."""
        with self._lock:
            self._open.clear()
            while self._kept:
                self._check(self._kept.pop())
