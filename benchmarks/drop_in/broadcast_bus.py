"""The subject between web workers: its `Broadcast`, as docs/web-servers.md has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.routing import Route

from benchmarks.drop_in.hub import App, Hub, Message
from benchmarks.load import KIND, PATH, SYSTEM
from benchmarks.peers.bus import BusMedium
from eventbus import Event
from eventbus.integrations.starlette import Broadcast


class BusHub(Hub):
    def __init__(self, name: str) -> None:
        self._broadcast = Broadcast(name, SYSTEM, text=_text)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._broadcast.lifespan():
            yield

    async def send(self, data: dict[str, Any]) -> None:
        await self._broadcast.bus.asend(SYSTEM, KIND, PATH, data)

    async def hear(self) -> AsyncGenerator[Message, None]:
        async for event in self._broadcast.hear():
            if isinstance(event, Event):
                yield event.data

    def app(self) -> App:
        return Starlette(routes=[Route("/events", self._broadcast.events)], lifespan=self._broadcast.lifespan)


def _text(event: Event, _name: str) -> str:
    return orjson.dumps(event.data).decode()


class BroadcastMedium(BusMedium):
    def hub(self) -> BusHub:
        """Return what one worker has."""
        return BusHub(self._name)


connect = BroadcastMedium
