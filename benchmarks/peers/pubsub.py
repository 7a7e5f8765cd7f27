"""pyzmq PUB/SUB over unix sockets, without high-water marks, so that it loses nothing once connected.

As the ZeroMQ guide has it, the first frame is the topic that PUB filters by and the second the body ("pub-sub message
envelopes"). The variant with one frame saves the envelope: it works only for filters that are a prefix of the JSON.
"""

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
        self._socket.send_multipart((system.encode(), self._encode((system, kind, path, data))))

    def close(self) -> None:
        self._context.destroy(linger=0)


class OneFramePublisher(PubPublisher):
    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self._socket.send(self._encode((system, kind, path, data)))


class SubSubscriber(Subscriber):
    def __init__(self, topology: Topology, prefix: bytes, addresses: list[str]) -> None:
        self._topology = topology
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set_hwm(0)
        self._socket.subscribe(prefix)
        for address in addresses:
            self._socket.connect(address)

    def received(self) -> Iterator[Any]:
        frames = iter(self._socket.recv_multipart, None)
        return decoded((body for _, body in frames), self._topology.raw)

    def close(self) -> None:
        self._context.destroy(linger=0)


class OneFrameSubscriber(SubSubscriber):
    def received(self) -> Iterator[Any]:
        return decoded(iter(self._socket.recv, None), self._topology.raw)


class PubSubMedium(Medium):
    def publisher(self, index: int, /) -> PubPublisher:
        return PubPublisher(self.topology, _address(self.files, index))

    def subscriber(self, index: int, /) -> SubSubscriber:
        return SubSubscriber(self.topology, self.topology.systems[index].encode(), self.addresses())

    def addresses(self) -> list[str]:
        """Where the publishers are."""
        return [_address(self.files, publisher) for publisher in range(self.topology.publishers)]


class OneFrameMedium(PubSubMedium):
    def publisher(self, index: int, /) -> PubPublisher:
        return OneFramePublisher(self.topology, _address(self.files, index))

    def subscriber(self, index: int, /) -> SubSubscriber:
        prefix = b"" if self.topology.raw else f'["{self.topology.systems[index]}",'.encode()
        return OneFrameSubscriber(self.topology, prefix, self.addresses())


def _address(files: Path, publisher: int) -> str:
    return f"ipc://{files}/publisher-{publisher}"


connect = PubSubMedium
connect_one_frame = OneFrameMedium
