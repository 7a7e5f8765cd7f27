"""zmq.asyncio over unix sockets: PULL behind the PUSH of a publisher, and REQ, one per task, to the REP of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import zmq.asyncio

from benchmarks.load import KIND, PATH, SYSTEM
from benchmarks.loops.ends import Answerer, Ask, Asker, Listener, LoopAnswerer, LoopAsker, LoopListener
from benchmarks.peer import Medium, encoder
from benchmarks.peers.pushpull import PushPullMedium, address

_encode = encoder(raw=False)


def data_of(body: bytes) -> Any:
    return orjson.loads(body)[3]


class PullListener(LoopListener):
    data_of = staticmethod(data_of)

    def __init__(self, files: Path) -> None:
        self._address = address(files, 0)
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.PULL)
        socket.set_hwm(0)
        socket.bind(self._address)
        self.messages = _received(socket)

    async def leave(self) -> None:
        self._context.destroy(linger=0)


async def _received(socket: zmq.asyncio.Socket) -> AsyncIterator[Any]:
    while True:
        yield await socket.recv()


class RepAnswerer(LoopAnswerer):
    def __init__(self, files: Path) -> None:
        self._address = _server(files)
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.bind(self._address)

    async def answer(self, requests: int) -> None:
        for _ in range(requests):
            data = data_of(await self._socket.recv())
            await self._socket.send(orjson.dumps(data))

    async def leave(self) -> None:
        self._context.destroy()


class ReqAsker(LoopAsker):
    def __init__(self, files: Path) -> None:
        self._address = _server(files)
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self._context = zmq.asyncio.Context()

    async def line(self) -> Ask:
        socket = self._context.socket(zmq.REQ)
        socket.connect(self._address)

        async def ask(data: Any) -> Any:
            await socket.send(_encode((SYSTEM, KIND, PATH, data)))
            return orjson.loads(await socket.recv())

        return ask

    async def leave(self) -> None:
        self._context.destroy(linger=0)


class StreamMedium(PushPullMedium):
    def listener(self) -> Listener:
        return PullListener(self.files)


class RequestMedium(Medium):
    def asker(self) -> Asker:
        return ReqAsker(self.files)

    def answerer(self) -> Answerer:
        return RepAnswerer(self.files)


def _server(files: Path) -> str:
    return f"ipc://{files}/server"


connect = StreamMedium
connect_requests = RequestMedium
