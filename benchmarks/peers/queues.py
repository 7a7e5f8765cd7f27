"""`multiprocessing.Queue`, one per subscriber, or one that workers share, carrying bodies encoded with orjson."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.queues import Queue
from typing import Any

from benchmarks.peer import Medium, Publisher, Subscriber, Topology, decoded, encoder


class QueuePublisher(Publisher):
    def __init__(self, topology: Topology, queues: list[Queue[Any]]) -> None:
        self._encode = encoder(topology.raw)
        self._queues = queues
        self._puts = {system: [queues[index].put for index in topology.listeners(system)] for system in topology.topics}
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        body = self._encode((system, kind, path, data))
        for put in self._puts[system]:
            put(body)

    def close(self) -> None:
        for queue in self._queues:
            queue.close()
            queue.join_thread()


class QueueSubscriber(Subscriber):
    def __init__(self, topology: Topology, queue: Queue[Any]) -> None:
        self._topology = topology
        self._queue = queue

    def received(self) -> Iterator[Any]:
        return decoded(iter(self._queue.get, None), self._topology.raw)


class QueueMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        context = multiprocessing.get_context("fork")
        self._queues: list[Queue[Any]] = [context.Queue() for _ in self.topology.systems]
        for queue in self._queues:
            leftovers.callback(queue.close)

    def publisher(self, _index: int, /) -> QueuePublisher:
        return QueuePublisher(self.topology, self._queues)

    def subscriber(self, index: int, /) -> QueueSubscriber:
        return QueueSubscriber(self.topology, self._queues[index])


class SharedQueueMedium(QueueMedium):
    def subscriber(self, _index: int, /) -> QueueSubscriber:
        return super().subscriber(0)


def refuses(topology: Topology) -> str | None:
    """There is no way to take several at once."""
    return "it hands out one event at a time" if topology.prefetch > 1 else None


connect = QueueMedium
share = SharedQueueMedium
