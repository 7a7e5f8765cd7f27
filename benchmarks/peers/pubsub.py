"""pyzmq PUB/SUB over unix sockets, without high-water marks, so that it loses nothing once connected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from benchmarks.peer import Medium, Publisher, Subscriber, Topology, decoded, encoder


class PubPublisher(Publisher):
    def __init__(self, topology: Topology, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.set_hwm(0)
        self._socket.bind(address)
        self._encode = encoder(topology.raw)
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self._socket.send(self._encode((system, kind, path, data)))

    def close(self) -> None:
        self._context.destroy(linger=0)


class SubSubscriber(Subscriber):
    def __init__(self, topology: Topology, system: str, addresses: list[str]) -> None:
        self._topology = topology
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set_hwm(0)
        # A body begins with its system, so the prefix that PUB filters by needs no frame of its own.
        self._socket.subscribe(b"" if topology.raw else f'["{system}",'.encode())
        for address in addresses:
            self._socket.connect(address)

    def received(self) -> Iterator[Any]:
        return decoded(iter(self._socket.recv, None), self._topology.raw)

    def close(self) -> None:
        self._context.destroy(linger=0)


class PubSubMedium(Medium):
    def publisher(self, index: int, /) -> PubPublisher:
        return PubPublisher(self.topology, _address(self.files, index))

    def subscriber(self, index: int, /) -> SubSubscriber:
        addresses = [_address(self.files, publisher) for publisher in range(self.topology.publishers)]
        return SubSubscriber(self.topology, self.topology.systems[index], addresses)


def _address(files: Path, publisher: int) -> str:
    return f"ipc://{files}/publisher-{publisher}"


connect = PubSubMedium
