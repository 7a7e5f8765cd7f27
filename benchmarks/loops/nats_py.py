"""nats-py and a nats-server of its own for each medium, which listens where no other host can reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import nats
import orjson

from benchmarks.load import KIND, PATH, SYSTEM
from benchmarks.loops.ends import Answerer, Ask, Asker, Listener, LoopAnswerer, LoopAsker, Looped, LoopListener
from benchmarks.peer import Medium, Publisher, encoder, paced
from benchmarks.servers import Server, program

_PROGRAM = program("nats-server")
_READY = "server is ready"
_LISTENS = "Listening for client connections on "
# It knows no unix sockets: a port that is free, on the loopback. Without the limits on what may wait for a subscriber,
# here and in the client, a burst is lost.
_CONFIGURATION = """
listen: "127.0.0.1:-1"
max_pending: 1GB
write_deadline: "60s"
"""
_PENDING_EVENTS, _PENDING_BYTES = 2**22, 2**30
_TIMEOUT = 60

_encode = encoder(raw=False)


def data_of(message: Any) -> Any:
    return orjson.loads(message.data)[3]


class _Connected(Looped):
    def __init__(self, url: str) -> None:
        self._url = url
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self.client = await nats.connect(self._url)

    async def leave(self) -> None:
        await self.client.close()


class _Subscribed(_Connected):
    async def enter(self) -> None:
        await super().enter()
        subscription = await self.client.subscribe(
            SYSTEM, pending_msgs_limit=_PENDING_EVENTS, pending_bytes_limit=_PENDING_BYTES
        )
        self.messages = subscription.messages
        await self.client.flush(_TIMEOUT)


class NatsPublisher(_Connected, Publisher):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        self.run(self._send_now(system, _encode((system, kind, path, data))))

    async def _send_now(self, system: str, body: bytes) -> None:
        await self.client.publish(system, body)
        await self.client.flush(_TIMEOUT)

    def send_all(self, events: Iterable[Any]) -> None:
        self.run(self._send_all(events))

    async def _send_all(self, events: Iterable[Any]) -> None:
        publish = self.client.publish
        for data in events:
            await publish(SYSTEM, _encode((SYSTEM, KIND, PATH, data)))
        await self.client.flush(_TIMEOUT)

    def send_paced(self, events: Iterable[dict[str, Any]], every: float) -> None:
        self.run(self._send_paced(events, every))

    async def _send_paced(self, events: Iterable[dict[str, Any]], every: float) -> None:
        # The loop may stand still between events: what was sent is with the server by then.
        now = asyncio.get_running_loop().time
        for data in paced(events, every):
            data["sent"] = round(now() * 1e9)
            await self._send_now(SYSTEM, _encode((SYSTEM, KIND, PATH, data)))


class NatsListener(_Subscribed, LoopListener):
    data_of = staticmethod(data_of)


class NatsAnswerer(_Subscribed, LoopAnswerer):
    async def answer(self, requests: int) -> None:
        left = requests
        async for message in self.messages:
            await message.respond(orjson.dumps(data_of(message)))
            left -= 1
            if not left:
                break
        await self.client.flush(_TIMEOUT)


class NatsAsker(_Connected, LoopAsker):
    async def line(self) -> Ask:
        return self._ask

    async def _ask(self, data: Any) -> Any:
        answer = await self.client.request(SYSTEM, _encode((SYSTEM, KIND, PATH, data)), timeout=_TIMEOUT)
        return orjson.loads(answer.data)


class NatsMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        configuration = self.files / "nats.conf"
        configuration.write_text(_CONFIGURATION)
        self._server = Server([_PROGRAM, "--config", str(configuration)], _READY, leftovers)
        address = next(line for line in self._server.said if _LISTENS in line).rpartition(" ")[2].strip()
        self._url = f"nats://{address}"

    def server_seconds(self) -> float:
        return self._server.cpu_seconds()

    def publisher(self, _index: int, /) -> NatsPublisher:
        return NatsPublisher(self._url)

    def listener(self) -> Listener:
        return NatsListener(self._url)

    def asker(self) -> Asker:
        return NatsAsker(self._url)

    def answerer(self) -> Answerer:
        return NatsAnswerer(self._url)


connect = NatsMedium
