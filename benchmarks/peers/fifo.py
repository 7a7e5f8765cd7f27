"""faster-fifo, one queue in shared memory per subscriber, drained in batches, carrying bodies encoded with orjson.

Workers who share the events have one queue together and take no more than they may fetch at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from faster_fifo import Queue

from benchmarks.crew import DEADLINE_SECONDS
from benchmarks.peer import Medium, Publisher, Subscriber, Topology, decoded, encoder

_QUEUE_BYTES = 16 * 2**20
"""As much as a ring of eventbus holds by default."""


class FifoPublisher(Publisher):
    def __init__(self, topology: Topology, queues: list[Any]) -> None:
        self._encode = encoder(topology.raw)
        self._puts = {system: [queues[index].put for index in topology.listeners(system)] for system in topology.topics}
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        body = self._encode((system, kind, path, data))
        for put in self._puts[system]:
            put(body, timeout=DEADLINE_SECONDS)


class FifoSubscriber(Subscriber):
    def __init__(self, topology: Topology, queue: Any, **limits: int) -> None:
        self._topology = topology
        self._queue = queue
        self._limits = limits

    def received(self) -> Iterator[Any]:
        return decoded(self._bodies(), self._topology.raw)

    def _bodies(self) -> Iterator[Any]:
        while True:
            yield from self._queue.get_many(timeout=DEADLINE_SECONDS, **self._limits)


class FifoMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        # Bodies are bytes already: the queue's own pickling is switched off.
        self._queues = [Queue(_QUEUE_BYTES, loads=bytes, dumps=bytes) for _ in self.topology.systems]
        for queue in self._queues:
            leftovers.callback(queue.close)

    def publisher(self, _index: int, /) -> FifoPublisher:
        return FifoPublisher(self.topology, self._queues)

    def subscriber(self, index: int, /) -> FifoSubscriber:
        return FifoSubscriber(self.topology, self._queues[index])


class SharedFifoMedium(FifoMedium):
    def subscriber(self, _index: int, /) -> FifoSubscriber:
        return FifoSubscriber(self.topology, self._queues[0], max_messages_to_get=self.topology.prefetch)


connect = FifoMedium
share = SharedFifoMedium
