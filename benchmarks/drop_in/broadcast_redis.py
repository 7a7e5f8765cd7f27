"""redis.asyncio between web workers: PUBLISH, and a subscription for each page, as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from benchmarks.drop_in.hub import App, Hub, Message
from benchmarks.load import SYSTEM
from benchmarks.peers.redis_server import RedisMedium


class RedisHub(Hub):
    def __init__(self, socket: str) -> None:
        self._socket = socket

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._client = Redis(unix_socket_path=self._socket, protocol=2)
        async with self._client:
            yield

    async def send(self, data: dict[str, Any]) -> None:
        await self._client.publish(SYSTEM, orjson.dumps(data))

    async def hear(self) -> AsyncGenerator[Message, None]:
        async for body in self._bodies():
            yield orjson.loads(body)

    async def _bodies(self) -> AsyncGenerator[bytes, None]:
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(SYSTEM)
            async for message in channel.listen():
                if message is not None:
                    yield message["data"]

    def app(self) -> App:
        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with self.running():
                yield

        return Starlette(routes=[Route("/events", self._events)], lifespan=lifespan)

    async def _events(self, _: Request) -> StreamingResponse:
        return StreamingResponse(self._lines(), media_type="text/event-stream")

    async def _lines(self) -> AsyncIterator[str]:
        async for body in self._bodies():
            yield f"data: {body.decode()}\n\n"


class PubSubMedium(RedisMedium):
    def hub(self) -> RedisHub:
        """Return what one worker has."""
        return RedisHub(self.socket)


connect = PubSubMedium
