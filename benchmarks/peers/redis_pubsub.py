"""redis PUBLISH and SUBSCRIBE, a channel per system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis import Redis

from benchmarks.peer import Subscriber, Topology, decoded
from benchmarks.peers.redis_server import RedisMedium, RedisPublisher


class ChannelPublisher(RedisPublisher):
    def __init__(self, topology: Topology, client: Redis) -> None:
        super().__init__(topology, client)
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self._client.publish(system, self._encode((system, kind, path, data)))


class ChannelSubscriber(Subscriber):
    def __init__(self, topology: Topology, system: str, client: Redis) -> None:
        self._topology = topology
        self._client = client
        self._channel = client.pubsub(ignore_subscribe_messages=True)
        self._channel.subscribe(system)

    def received(self) -> Iterator[Any]:
        return decoded(self._bodies(), self._topology.raw)

    def _bodies(self) -> Iterator[Any]:
        for message in self._channel.listen():
            if message is not None:
                yield message["data"]

    def close(self) -> None:
        self._channel.close()
        self._client.close()


class ChannelMedium(RedisMedium):
    def publisher(self, _index: int, /) -> ChannelPublisher:
        return ChannelPublisher(self.topology, self.client())

    def subscriber(self, index: int, /) -> ChannelSubscriber:
        return ChannelSubscriber(self.topology, self.topology.systems[index], self.client())


connect = ChannelMedium
