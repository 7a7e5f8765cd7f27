"""What a process of Celery has read on the bus of results: what came of tasks, and which tasks of chords have ended."""

from __future__ import annotations

import json
import os
import select
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from celery import states

import eventbus

RESULTS = "celery.result"
CHORDS = "celery.chord"
HEADER, SIZE, MORE, ENDED, OVER = "header", "size", "more", "ended", "over"
"""The kinds of events of a chord."""

_BATCH = 256


class Log:
    """What one process has read of a system of the bus, from the oldest event that this keeps.

    Attributes:
        values: what was sent last by path; the bytes of all together are no more than the ring's.
    """

    def __init__(self, bus: eventbus.Bus, system: str) -> None:
        self._subscription = bus.subscribe(system, overflow="drop", start="oldest", name=system)
        self.process = os.getpid()
        self._limit = bus.stats().capacity
        self._bytes = 0
        self.values: OrderedDict[str, Any] = OrderedDict()
        self.lock = threading.RLock()

    def read(self) -> None:
        """Takes what there is by now."""
        with self.lock:
            while events := self._subscription.receive_many(_BATCH, 0):
                for event in events:
                    self._take(event)

    def _take(self, event: eventbus.Event) -> None:
        raise NotImplementedError

    def _drop(self, path: str) -> None:
        gone = self.values.pop(path, None)
        if gone is not None:
            self._bytes -= self._weight(gone)

    def _weight(self, value: Any) -> int:
        return len(value.data)

    def wait(self, seconds: float | None) -> bool:
        """Whether something came in time."""
        if not self._subscription.arm():
            return True
        poll = select.poll()
        poll.register(self._subscription.fileno(), select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def close(self) -> None:
        """Hears nothing any more."""
        self._subscription.close()


class Results(Log):
    """The results that there are; of a task that has succeeded none is taken any more, as everywhere in Celery.

    Args:
        heard: called with each event that is read.
    """

    def __init__(self, bus: eventbus.Bus, heard: Callable[[eventbus.Event], None]) -> None:
        super().__init__(bus, RESULTS)
        self._heard = heard

    def _take(self, event: eventbus.Event) -> None:
        before = self.values.get(event.path)
        if event.data is None:
            self._drop(event.path)
        elif before is None or before.kind != states.SUCCESS:
            self._drop(event.path)
            self.values[event.path] = event
            self._bytes += len(event.data)
            while self._bytes > self._limit:
                self._drop(next(iter(self.values)))
        self._heard(event)


class Chord:
    """What has been told of one chord.

    Attributes:
        header: its results as they are nested, encoded; None where they are a plain list.
        bytes: of all that was told.
    """

    def __init__(self) -> None:
        self.header: bytes | None = None
        self.bytes = 0
        self._size: int | None = None
        self._more = 0
        self._ended: dict[str, tuple[int, float, bytes]] = {}

    def take(self, kind: str, data: Any) -> None:
        """One more event of it."""
        if kind == HEADER:
            self.header = data
        elif kind == SIZE:
            self._size = data
        elif kind == MORE:
            self._more += data
        elif kind == ENDED:
            head, _, value = data.partition(b"\n")
            task, index = json.loads(head)
            place, *_ = self._ended.get(task, (len(self._ended) + 1,))
            self._ended[task] = place, float("inf") if index is None else index, value
        self.bytes += len(data) if isinstance(data, bytes) else 0

    def is_over_with(self, task: str) -> bool:
        """Whether the task was the last of all to end, in the order of the bus, that is the same for all; one that ran
        twice, as a process was killed, counts once."""
        return self._size is not None and self._ended[task][0] == self._size + self._more

    def values(self) -> list[tuple[str, bytes]]:
        """Each task and what it returned, encoded, in the order of the group."""
        return [(task, value) for task, (_, _, value) in sorted(self._ended.items(), key=lambda item: item[1][1])]


class Chords(Log):
    """The chords that are not over yet."""

    def __init__(self, bus: eventbus.Bus) -> None:
        super().__init__(bus, CHORDS)

    def _take(self, event: eventbus.Event) -> None:
        if event.kind == OVER:
            self._drop(event.path)
            return
        chord = self.values.setdefault(event.path, Chord())
        before = chord.bytes
        chord.take(event.kind, event.data)
        self._bytes += chord.bytes - before
        while self._bytes > self._limit:
            self._drop(next(iter(self.values)))

    def _weight(self, value: Any) -> int:
        return int(value.bytes)


def ended(task: str, index: int | None, value: str | bytes) -> bytes:
    """What is told of a task of a chord that has ended: ``index`` is its place in the group, ``value`` encoded."""
    encoded = value.encode() if isinstance(value, str) else bytes(value)
    return json.dumps([task, index]).encode() + b"\n" + encoded
