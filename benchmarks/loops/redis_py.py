"""redis.asyncio: PUBLISH and SUBSCRIBE; requests wait in one list, the answers to each task in a list of its own."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import orjson
from redis.asyncio import Redis

from benchmarks.load import KIND, PATH, SYSTEM
from benchmarks.loops.ends import Answerer, Ask, Asker, Listener, LoopAnswerer, LoopAsker, Looped, LoopListener
from benchmarks.peers.redis_pubsub import ChannelMedium


def data_of(message: Any) -> Any:
    return orjson.loads(message["data"])[3]


class _Connected(Looped):
    def __init__(self, socket: str) -> None:
        self._socket = socket
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self.client = Redis(unix_socket_path=self._socket, protocol=2)

    async def leave(self) -> None:
        await self.client.aclose()


class ChannelListener(_Connected, LoopListener):
    data_of = staticmethod(data_of)

    async def enter(self) -> None:
        await super().enter()
        self._channel = self.client.pubsub(ignore_subscribe_messages=True)
        await self._channel.subscribe(SYSTEM)
        self.messages = self._channel.listen()

    async def leave(self) -> None:
        await self._channel.aclose()
        await super().leave()


class ListAnswerer(_Connected, LoopAnswerer):
    async def answer(self, requests: int) -> None:
        for _ in range(requests):
            _, body = await self.client.blpop([SYSTEM])
            *_, data, answers = orjson.loads(body)
            await self.client.rpush(answers, orjson.dumps(data))


class ListAsker(_Connected, LoopAsker):
    def __init__(self, socket: str) -> None:
        self._numbers = count(1)
        super().__init__(socket)

    async def line(self) -> Ask:
        answers = f"answers-{next(self._numbers)}"

        async def ask(data: Any) -> Any:
            await self.client.rpush(SYSTEM, orjson.dumps((SYSTEM, KIND, PATH, data, answers)))
            _, body = await self.client.blpop([answers])
            return orjson.loads(body)

        return ask


class AsyncRedisMedium(ChannelMedium):
    def listener(self) -> Listener:
        return ChannelListener(self.socket)

    def asker(self) -> Asker:
        return ListAsker(self.socket)

    def answerer(self) -> Answerer:
        return ListAnswerer(self.socket)


connect = AsyncRedisMedium
