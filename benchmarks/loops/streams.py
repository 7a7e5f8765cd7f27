"""asyncio's own streams over unix sockets: a line of JSON per event, request and answer; a connection per task."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import orjson

from benchmarks.load import KIND, PATH, SYSTEM
from benchmarks.loops.ends import Answerer, Ask, Asker, Listener, LoopAnswerer, LoopAsker, LoopListener
from benchmarks.peer import Medium, Publisher, encoder

_MOST_ASKERS = 128

_encode = encoder(raw=False)


def data_of(line: bytes) -> Any:
    return orjson.loads(line)[3]


class LinePublisher(Publisher):
    """Writes without a loop: the kernel makes it wait where the reader is slower."""

    def __init__(self, outlet: socket.socket) -> None:
        self._outlet = outlet
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self._outlet.sendall(_encode((system, kind, path, data)) + b"\n")


class LineListener(LoopListener):
    data_of = staticmethod(data_of)

    def __init__(self, inlet: socket.socket) -> None:
        self._inlet = inlet
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self.messages, self._writer = await asyncio.open_unix_connection(sock=self._inlet)

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


class LineAnswerer(LoopAnswerer):
    def __init__(self, entrance: socket.socket) -> None:
        self._entrance = entrance
        self._left = 0
        self._done = asyncio.Event()
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self._server = await asyncio.start_unix_server(self._handle, sock=self._entrance)

    async def answer(self, requests: int) -> None:
        self._left += requests
        self._done.clear()
        await self._done.wait()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(orjson.dumps(data_of(line)) + b"\n")
            await writer.drain()
            self._left -= 1
            if not self._left:
                self._done.set()
        writer.close()

    async def leave(self) -> None:
        self._server.close()


class LineAsker(LoopAsker):
    def __init__(self, path: str) -> None:
        self._path = path
        self._writers: list[asyncio.StreamWriter] = []
        super().__init__(asyncio.new_event_loop())

    async def line(self) -> Ask:
        reader, writer = await asyncio.open_unix_connection(self._path)
        self._writers.append(writer)

        async def ask(data: Any) -> Any:
            writer.write(_encode((SYSTEM, KIND, PATH, data)) + b"\n")
            await writer.drain()
            return orjson.loads(await reader.readline())

        return ask

    async def leave(self) -> None:
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()


class StreamMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        self._outlet, self._inlet = map(leftovers.enter_context, socket.socketpair())

    def publisher(self, _index: int, /) -> LinePublisher:
        return LinePublisher(self._outlet)

    def listener(self) -> Listener:
        return LineListener(self._inlet)


class RequestMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        self._path = f"{self.files}/server"
        self._entrance = leftovers.enter_context(socket.socket(socket.AF_UNIX))
        self._entrance.bind(self._path)
        self._entrance.listen(_MOST_ASKERS)

    def asker(self) -> Asker:
        return LineAsker(self._path)

    def answerer(self) -> Answerer:
        return LineAnswerer(self._entrance)


connect = StreamMedium
connect_requests = RequestMedium
