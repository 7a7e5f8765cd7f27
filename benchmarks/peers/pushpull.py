"""pyzmq PUSH/PULL over unix sockets: each subscriber binds a PULL, each publisher has one PUSH per subscriber.

Workers who share the events connect their PULLs to the only PUSH instead, which deals the events out in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from benchmarks.peer import Medium, Publisher, Subscriber, Topology, decoded, encoder


class PushPublisher(Publisher):
    def __init__(self, topology: Topology, files: Path) -> None:
        self._context = zmq.Context()
        self._encode = encoder(topology.raw)
        pushes = [self._push(address(files, index)) for index in range(len(topology.systems))]
        self._sends = {
            system: [pushes[index].send for index in topology.listeners(system)] for system in topology.topics
        }
        self.send = self._send

    def _push(self, address: str) -> zmq.Socket:
        push = self._context.socket(zmq.PUSH)
        push.set_hwm(0)
        push.connect(address)
        return push

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        body = self._encode((system, kind, path, data))
        for send in self._sends[system]:
            send(body)

    def close(self) -> None:
        self._context.destroy(linger=0)


class PullSubscriber(Subscriber):
    def __init__(self, topology: Topology, address: str) -> None:
        self._topology = topology
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.set_hwm(0)
        self._attach(address)

    def _attach(self, address: str) -> None:
        self._socket.bind(address)

    def received(self) -> Iterator[Any]:
        return decoded(iter(self._socket.recv, None), self._topology.raw)

    def close(self) -> None:
        self._context.destroy(linger=0)


class PushPullMedium(Medium):
    def publisher(self, _index: int, /) -> PushPublisher:
        return PushPublisher(self.topology, self.files)

    def subscriber(self, index: int, /) -> PullSubscriber:
        return PullSubscriber(self.topology, address(self.files, index))


class DealingPublisher(Publisher):
    def __init__(self, topology: Topology, address: str) -> None:
        self._context = zmq.Context()
        self._encode = encoder(topology.raw)
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.set_hwm(0)
        self._socket.bind(address)
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self._socket.send(self._encode((system, kind, path, data)))

    def close(self) -> None:
        self._context.destroy(linger=0)


class Worker(PullSubscriber):
    def _attach(self, address: str) -> None:
        self._socket.connect(address)


class DealingMedium(Medium):
    def publisher(self, _index: int, /) -> DealingPublisher:
        return DealingPublisher(self.topology, address(self.files, 0))

    def subscriber(self, _index: int, /) -> Worker:
        return Worker(self.topology, address(self.files, 0))


def address(files: Path, subscriber: int) -> str:
    return f"ipc://{files}/subscriber-{subscriber}"


connect = PushPullMedium
share = DealingMedium
