"""redis streams: XADD to a stream per system, which every subscriber reads in batches with XREAD.

Workers who share the events are consumers of one group: they acknowledge and ask for the next in one round trip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from redis import Redis

from benchmarks.peer import Subscriber, Topology, decoded
from benchmarks.peers.redis_server import RedisMedium, RedisPublisher

_BATCH = 256
_FIELD = b"body"
_GROUP = "workers"


class StreamPublisher(RedisPublisher):
    def __init__(self, topology: Topology, client: Redis) -> None:
        super().__init__(topology, client)
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self._client.xadd(system, {_FIELD: self._encode((system, kind, path, data))})


class StreamSubscriber(Subscriber):
    def __init__(self, topology: Topology, system: str, client: Redis) -> None:
        self._topology = topology
        self._system = system
        self._client = client

    def received(self) -> Iterator[Any]:
        return decoded(self._bodies(), self._topology.raw)

    def _bodies(self) -> Iterator[Any]:
        last: Any = "0"
        while True:
            ((_, entries),) = self._client.xread({self._system: last}, count=_BATCH, block=0)
            last = entries[-1][0]
            for _, fields in entries:
                yield fields[_FIELD]

    def close(self) -> None:
        self._client.close()


class Consumer(StreamSubscriber):
    def __init__(self, topology: Topology, index: int, client: Redis) -> None:
        super().__init__(topology, topology.systems[0], client)
        self._name = f"worker-{index}"

    def _bodies(self) -> Iterator[Any]:
        done: list[Any] = []
        while True:
            entries = self._exchange(done)
            for _, fields in entries:
                yield fields[_FIELD]
            done = [identity for identity, _ in entries]

    def _exchange(self, done: list[Any]) -> list[tuple[Any, dict[bytes, bytes]]]:
        with self._client.pipeline(transaction=False) as pipe:
            if done:
                pipe.xack(self._system, _GROUP, *done)
            pipe.xreadgroup(_GROUP, self._name, {self._system: ">"}, count=self._topology.prefetch, block=0)
            ((_, entries),) = pipe.execute()[-1]
        return list(entries)


class StreamMedium(RedisMedium):
    def publisher(self, _index: int, /) -> StreamPublisher:
        return StreamPublisher(self.topology, self.client())

    def subscriber(self, index: int, /) -> StreamSubscriber:
        return StreamSubscriber(self.topology, self.topology.systems[index], self.client())


class ConsumerMedium(StreamMedium):
    def open(self, leftovers: ExitStack) -> None:
        super().open(leftovers)
        client = self.client()
        client.xgroup_create(self.topology.systems[0], _GROUP, mkstream=True)
        client.close()

    def subscriber(self, index: int, /) -> Consumer:
        return Consumer(self.topology, index, self.client())


connect = StreamMedium
share = ConsumerMedium
