"""What one writes by hand for large data: slots in a `multiprocessing.shared_memory` segment, and two semaphores.

One publisher, one subscriber, which looks at a slot where it lies until it asks for the next.
"""

from __future__ import annotations

import multiprocessing
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.shared_memory import SharedMemory
from typing import Any, cast

from benchmarks.peer import Medium, Publisher, Subscriber, Topology

_BYTES = 16 * 2**20
_FEWEST = 8
_LENGTH = struct.Struct("<q")


class SlotPublisher(Publisher):
    def __init__(self, medium: SlotMedium) -> None:
        self._medium = medium
        self._place = 0
        self.send = self._send

    def _send(self, _system: str, _kind: str, _path: str, data: Any) -> None:
        medium, place = self._medium, self._place
        medium.free.acquire()
        begin = place * medium.room
        _LENGTH.pack_into(medium.memory, begin, len(data))
        medium.memory[begin + _LENGTH.size : begin + _LENGTH.size + len(data)] = data
        self._place = (place + 1) % medium.slots
        medium.filled.release()


class SlotSubscriber(Subscriber):
    def __init__(self, medium: SlotMedium) -> None:
        self._medium = medium

    def received(self) -> Iterator[Any]:
        medium, place = self._medium, 0
        while True:
            medium.filled.acquire()
            begin = place * medium.room
            (length,) = _LENGTH.unpack_from(medium.memory, begin)
            yield medium.memory[begin + _LENGTH.size : begin + _LENGTH.size + length].toreadonly()
            place = (place + 1) % medium.slots
            medium.free.release()


class SlotMedium(Medium):
    memory: memoryview

    def open(self, leftovers: ExitStack) -> None:
        self.room = -(-(self.topology.size + _LENGTH.size) // 64) * 64
        self.slots = max(_BYTES // self.room, _FEWEST)
        shared = SharedMemory(create=True, size=self.room * self.slots)
        leftovers.callback(_remove, shared, self)
        self.memory = cast(memoryview, shared.buf)
        context = multiprocessing.get_context("fork")
        self.free, self.filled = context.Semaphore(self.slots), context.Semaphore(0)

    def publisher(self, _index: int, /) -> SlotPublisher:
        return SlotPublisher(self)

    def subscriber(self, _index: int, /) -> SlotSubscriber:
        return SlotSubscriber(self)


def _remove(shared: SharedMemory, medium: SlotMedium) -> None:
    medium.memory = memoryview(b"")
    shared.close()
    shared.unlink()


def refuses(topology: Topology) -> str | None:
    """It has one writer and one reader, and bytes."""
    one = topology.raw and topology.publishers == 1 and len(topology.systems) == 1
    return None if one else "slots by hand have one publisher and one subscriber"


connect = SlotMedium
