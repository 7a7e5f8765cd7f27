"""A SOCK_SEQPACKET socket pair per subscriber: the kernel keeps the bounds of messages and blocks a fast sender."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.peer import Medium, Publisher, Subscriber, Topology, decoded, encoder

_PACKET_OVERHEAD = 32
_NUMBERS = 256
"""Numbers in an event grow while it is sent: so many bytes more than its size it may have."""


class PacketPublisher(Publisher):
    def __init__(self, topology: Topology, outlets: list[socket.socket]) -> None:
        self._encode = encoder(topology.raw)
        self._sends = {
            system: [outlets[index].send for index in topology.listeners(system)] for system in topology.topics
        }
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        body = self._encode((system, kind, path, data))
        for send in self._sends[system]:
            send(body)


class PacketSubscriber(Subscriber):
    def __init__(self, topology: Topology, inlet: socket.socket) -> None:
        self._topology = topology
        self._inlet = inlet

    def received(self) -> Iterator[Any]:
        return decoded(self._bodies(), self._topology.raw)

    def _bodies(self) -> Iterator[Any]:
        buffer = bytearray(self._topology.size + _NUMBERS)
        view = memoryview(buffer)
        receive = self._inlet.recv_into
        if self._topology.raw:
            while True:
                yield bytes(view[: receive(buffer)])
        while True:
            yield view[: receive(buffer)]


class PacketMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in self.topology.systems]
        for outlet, inlet in self._pairs:
            leftovers.enter_context(outlet)
            leftovers.enter_context(inlet)

    def publisher(self, _index: int, /) -> PacketPublisher:
        return PacketPublisher(self.topology, [outlet for outlet, _ in self._pairs])

    def subscriber(self, index: int, /) -> PacketSubscriber:
        return PacketSubscriber(self.topology, self._pairs[index][1])


def refuses(topology: Topology) -> str | None:
    """The kernel takes no packet that is larger than the sender's buffer."""
    outlet, inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with outlet, inlet:
        limit = outlet.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _PACKET_OVERHEAD
    return f"a packet of this socket has at most {limit} bytes" if topology.size + _NUMBERS > limit else None


connect = PacketMedium
