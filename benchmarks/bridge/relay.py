"""What people write instead of a bridge: `python -m benchmarks.bridge.relay export BUS URL` and `import`.

An event has an acknowledgement of its own from JetStream before it is acknowledged to the bus, and is in the other bus
before it is acknowledged to JetStream. It is at least once: whoever dies sends again what was not acknowledged, and a
connection that comes back may change the order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NothingCame
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import BadRequestError

from benchmarks.load import SYSTEM
from eventbus import Event
from eventbus import open as open_bus

_BATCH = 256
_STREAM = "relay"
_SUBJECT = f"relay.{SYSTEM}"
_PENDING_EVENTS, _PENDING_BYTES = 2**22, 2**30


async def export(name: str, url: str) -> None:
    """From a bus to JetStream, with `publish_async`."""
    async with _connected(url) as client, open_bus(name) as bus:
        stream = await _stream(client)
        async with bus.subscribe(SYSTEM, group="relay", ack="manual", prefetch=_BATCH) as events:
            while batch := await events.areceive_many(_BATCH):
                await asyncio.gather(*[await stream.publish_async(_SUBJECT, _encode(event)) for event in batch])
                for event in batch:
                    events.ack(event)


async def bring(name: str, url: str) -> None:
    """From JetStream to a bus."""
    async with _connected(url) as client, open_bus(name) as bus:
        stream = await _stream(client)
        terms = ConsumerConfig(ack_policy=AckPolicy.ALL)
        consumer = await stream.pull_subscribe(_SUBJECT, durable="relay", stream=_STREAM, config=terms)
        while True:
            try:
                batch = await consumer.fetch(_BATCH, timeout=1)
            except (NothingCame, asyncio.TimeoutError):  # which of them depends on who gives up first
                continue
            await bus.asend_many(map(_decode, batch))
            await batch[-1].ack()


async def export_core(name: str, url: str) -> None:
    """From a bus to core NATS, which keeps nothing and acknowledges nothing."""
    async with _connected(url) as client, open_bus(name) as bus, bus.subscribe(SYSTEM, group="relay") as events:
        while batch := await events.areceive_many(_BATCH):
            for event in batch:
                await client.publish(_SUBJECT, _encode(event))
            await client.flush()


async def bring_core(name: str, url: str) -> None:
    """From core NATS to a bus, an event at a time, as they come."""
    limits: dict[str, Any] = {"pending_msgs_limit": _PENDING_EVENTS, "pending_bytes_limit": _PENDING_BYTES}
    async with _connected(url) as client, open_bus(name) as bus:
        subscription = await client.subscribe(_SUBJECT, **limits)
        async for message in subscription.messages:
            await bus.asend(*_decode(message))


async def _stream(client: Client) -> JetStreamContext:
    """Both ends make it, and a server may take the one amid the other for another one that overlaps."""
    stream = client.jetstream()
    try:
        await stream.add_stream(name=_STREAM, subjects=[_SUBJECT])
    except BadRequestError:
        await stream.add_stream(name=_STREAM, subjects=[_SUBJECT])
    return stream


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


def _encode(event: Event) -> bytes:
    return orjson.dumps((event.system, event.kind, event.path, event.data))


def _decode(message: Msg) -> tuple[Any, ...]:
    return tuple(orjson.loads(message.data))


_PARTS = {"export": export, "import": bring, "export-core": export_core, "import-core": bring_core}

if __name__ == "__main__":
    asyncio.run(_PARTS[sys.argv[1]](*sys.argv[2:]))
