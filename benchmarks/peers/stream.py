"""A SOCK_STREAM socket pair per subscriber, with the length before each event: what carries more than a packet may."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.peer import Medium, Publisher, Subscriber, Topology

_LENGTH = struct.Struct("<q")


class StreamPublisher(Publisher):
    def __init__(self, outlets: list[socket.socket]) -> None:
        self._outlets = outlets
        self.send = self._send

    def _send(self, _system: str, _kind: str, _path: str, data: Any) -> None:
        for outlet in self._outlets:
            outlet.sendall(_LENGTH.pack(len(data)))
            outlet.sendall(data)


class StreamSubscriber(Subscriber):
    def __init__(self, topology: Topology, inlet: socket.socket) -> None:
        self._inlet = inlet
        self._buffer = bytearray(topology.size)

    def received(self) -> Iterator[Any]:
        view, length = memoryview(self._buffer), bytearray(_LENGTH.size)
        while True:
            self._fill(memoryview(length))
            data = view[: _LENGTH.unpack(length)[0]]
            self._fill(data)
            yield data

    def _fill(self, view: memoryview) -> None:
        receive = self._inlet.recv_into
        while len(view):
            view = view[receive(view) :]


class StreamMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        self._pairs = [socket.socketpair() for _ in self.topology.systems]
        for outlet, inlet in self._pairs:
            leftovers.enter_context(outlet)
            leftovers.enter_context(inlet)

    def publisher(self, _index: int, /) -> StreamPublisher:
        return StreamPublisher([outlet for outlet, _ in self._pairs])

    def subscriber(self, index: int, /) -> StreamSubscriber:
        return StreamSubscriber(self.topology, self._pairs[index][1])


def refuses(topology: Topology) -> str | None:
    """It is there for large bytes."""
    return None if topology.raw and len(topology.topics) == 1 else "this stream carries bytes of one topic"


connect = StreamMedium
