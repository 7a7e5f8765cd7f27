"""Bridges of a test: the ways of one in the test's own event loop, and the stream as it stands at the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from eventbus import Bus, Event, Subscription
from eventbus.bridge import config, subjects
from eventbus.bridge.config import Config
from eventbus.bridge.export import Export
from eventbus.bridge.flow import Flow, States
from eventbus.bridge.health import Health
from eventbus.bridge.imports import Import
from eventbus.bridge.link import Link, linked
from eventbus.bridge.notify import Notifier
from eventbus.bridge.waiting import cancel
from harness import DEADLINE
from nats_server import NatsServer

SECONDS = 2.0  # that an answer may take
INBOX = subjects.inbox_prefix("main", "test")  # where a connection without a bridge hears answers


def configured(bus: Bus, server: NatsServer, origin: str = "h1", **terms: Any) -> Config:
    """A configuration as a file has it."""
    table = {"bus": bus.name, "origin": origin, "ack_timeout": SECONDS, "nats": {"servers": [server.url]}}
    return config.from_dict(table | terms, "a test")


def exports(*systems: str) -> dict[str, Any]:
    """What goes out."""
    return {"export": [{"systems": list(systems)}]}


def imports(*systems: str, **terms: Any) -> dict[str, Any]:
    """What comes in, from the beginning of each stream unless it is said otherwise."""
    return {"import": [{"systems": list(systems), "start": "oldest"} | terms]}


class Bridge:
    """The ways of one bridge, which run until the block ends.

    Attributes:
        health: its figures.
        ways: what runs.
    """

    def __init__(self, bus: Bus, terms: Config, *, take_over: bool = False, run: int | None = None) -> None:
        self.health = Health(bus, terms, 0, notifier=Notifier())
        states, nearby = States(self.health), set[str]()
        began = time.time_ns() if run is None else run
        self.ways: list[Flow] = []
        self.export = Export(bus, terms, states, began, nearby, take_over) if terms.exports else None
        if self.export is not None:
            self.ways.append(self.export)
        if terms.imports:
            self.ways.append(Import(bus, terms, states, began, nearby))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Bridge:
        self._tasks = [asyncio.ensure_future(way.run()) for way in self.ways]
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel(self._tasks)
        if self.export is not None:
            self.export.close()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for a condition; fails with what a way ended with."""
        end = time.monotonic() + DEADLINE
        while not condition():
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > end:
                pytest.fail(f"waited {DEADLINE} s for {what}: {self.health.snapshot()}")
            await asyncio.sleep(0.002)

    async def running(self) -> None:
        """Waits until all ways run."""
        await self.until(lambda: self.health.state == "running", "the bridge to run")

    async def ended(self) -> BaseException:
        """What the first way that ends has ended with."""
        done, _ = await asyncio.wait(self._tasks, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        assert done, f"no way of the bridge ended: {self.health.snapshot()}"
        error = done.pop().exception()
        assert error is not None
        return error


@contextlib.asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Link]:
    """A connection of the test's own."""
    async with linked(configured_nats(server), "test", DEADLINE, INBOX) as link:
        yield link


def configured_nats(server: NatsServer) -> config.NatsConfig:
    """Where the server is."""
    return config.NatsConfig((server.url,))


async def stored(server: NatsServer, origin: str = "h1") -> list[RawStreamMsg]:
    """The messages of an origin's stream."""
    name = subjects.stream_name(config.DOMAIN, origin)
    async with connected(server) as link:
        try:
            state = (await link.call(link.manager.stream_info(name))).state
        except NotFoundError:
            return []
        if state.messages == 0:
            return []
        numbers = range(state.first_seq, state.last_seq + 1)
        return [await link.call(link.manager.get_msg(name, number)) for number in numbers]


async def take_all(sub: Subscription, count: int) -> list[Event]:
    """So many events, which must come."""
    events: list[Event] = []
    while len(events) < count:
        some = await sub.areceive_many(count - len(events), DEADLINE)
        assert some, f"{len(events)} of {count} events came"
        events += some
    return events


def numbers(events: list[Event]) -> list[Any]:
    """Their data."""
    return [event.data for event in events]


async def texts(nats: NatsServer) -> list[Any]:
    """The data of all messages of the stream."""
    return [json.loads(one.data or b"null") for one in await stored(nats)]


async def sent(bridge: Bridge, count: int) -> None:
    """Waits until so many went out."""
    await bridge.until(lambda: bridge.health.out.events == count, f"{count} events to go out")


def send(bus: Bus, *numbers: int) -> None:
    """Sends so many events."""
    bus.send_many([("a", "k", f"/{number}", number) for number in numbers])
