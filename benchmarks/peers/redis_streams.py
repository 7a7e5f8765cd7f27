"""redis streams: XADD to a stream per system, which every subscriber reads in batches with XREAD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis import Redis

from benchmarks.peer import Subscriber, Topology, decoded
from benchmarks.peers.redis_server import RedisMedium, RedisPublisher

_BATCH = 256
_FIELD = b"body"


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


class StreamMedium(RedisMedium):
    def publisher(self, _index: int, /) -> StreamPublisher:
        return StreamPublisher(self.topology, self.client())

    def subscriber(self, index: int, /) -> StreamSubscriber:
        return StreamSubscriber(self.topology, self.topology.systems[index], self.client())


connect = StreamMedium
