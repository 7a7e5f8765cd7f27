"""What one process has of a queue beside its bus: its end as one of the getters, and locks of its threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import eventbus
from eventbus import Event

ITEMS = "item"
GETTERS = "getters"
MOST_AT_ONCE = 256  # events in one claim


class Ends:
    """Of the process that made it."""

    def __init__(self, bus: eventbus.Bus, joinable: bool) -> None:
        self.pid = os.getpid()
        most, ack = (MOST_AT_ONCE, "manual") if joinable else (1, "auto")
        self.member: Any = bus.subscribe(ITEMS, group=GETTERS, start="oldest", prefetch=most, ack=ack)  # type: ignore[arg-type]
        self.getting = threading.RLock()
        self.putting = threading.RLock()
        self.coming: list[Event] = []  # what a get of a joinable queue is at
        self.taken: deque[Event] = deque()  # what it has returned, and is not done
        self.kept: deque[Any] = deque()  # items of gets that did not return
        self.room: eventbus.Subscription | None = None

    def again(self) -> Iterable[list[Any]]:
        """An item of a get that did not return, if there is one: it comes next."""
        try:
            for item in map(deque.popleft, (self.kept,)):
                yield [item]
        except IndexError:
            return
