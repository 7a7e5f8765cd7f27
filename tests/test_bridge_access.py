"""Who may do what at the servers: what the guide gives a host is enough, and no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from nats.aio.client import Client

import eventbus
from eventbus import Bus
from eventbus.bridge import imports
from eventbus.bridge.config import from_dict, from_options
from eventbus.bridge.names import SYSTEM
from eventbus.bridge.process import serve
from harness import DEADLINE
from nats_server import NatsServer

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "many-hosts.md").read_text()
PASSWORDS = {"h1": "change-me-1", "h2": "change-me-2"}


def permissions(number: int = 0) -> str:
    """Those that the guide shows: of hosts, then more to publish, and to subscribe, for other routes."""
    found: list[str] = re.findall(r"^```conf\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return found[number]


@asynccontextmanager
async def bridging(bus: Bus, origin: str, url: str, directory: Path, exports: str, imports: str) -> AsyncIterator[None]:
    """A bridge in this loop."""
    secret = directory / origin
    secret.write_text(f"{PASSWORDS[origin]}\n")
    who = {"origin": origin, "user": origin, "password_file": str(secret)}
    config = from_options(bus.name, servers=[url], exports=[exports], imports=[imports], **who)
    running = asyncio.create_task(serve(config))
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def told(bus: Bus, state: str) -> str:
    """Waits until the bus's bridge is in the state; why it is."""
    with bus.subscribe(SYSTEM, "status", start="oldest") as heard:
        return await asyncio.wait_for(_heard(heard, state), DEADLINE)


async def _heard(heard: eventbus.Subscription, state: str) -> str:
    async for event in heard:
        if event.data["state"] == state:
            return str(event.data["why"])
    raise AssertionError(f"the bus ended before its bridge was {state}")


@pytest.fixture
def other(name: str) -> Iterator[Bus]:
    """The bus of another host."""
    with eventbus.open(f"{name}-2") as made:
        yield made


def test_the_permissions_of_the_guide_are_enough(
    each_nats: NatsServer, bus: Bus, other: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them, two hosts export and import both ways."""
    monkeypatch.setattr(imports, "LOOK_SECONDS", 0.02)
    each_nats.reconfigure(permissions())

    async def scenario() -> list[tuple[str, str]]:
        url = each_nats.url
        with bus.subscribe("users") as here, other.subscribe("orders") as there:
            async with (
                bridging(bus, "h1", url, tmp_path, "orders.**", "users"),
                bridging(other, "h2", url, tmp_path, "users", "orders.**"),
            ):
                await told(bus, "running")
                await told(other, "running")
                await bus.asend("orders", "k", "/1")
                await other.asend("users", "k", "/2")
                heard = [await sub.areceive(DEADLINE) for sub in (there, here)]
                return [(event.path, event.origin) for event in heard if event is not None]

    assert asyncio.run(scenario()) == [("/1", "h1"), ("/2", "h2")]


def test_they_are_no_more_than_that(nats: NatsServer, tmp_path: Path) -> None:
    """One host cannot write another's events, change, empty or remove its stream, or hear what it is answered."""
    nats.reconfigure(permissions())
    streams = [f"$JS.API.STREAM.{verb}.EB-main-h2" for verb in ("CREATE", "UPDATE", "PURGE", "DELETE")]
    inboxes = "_INBOX.main.h2.>"
    forbidden = ["eb.main.h2.orders.k", "$JS.API.STREAM.DELETE.EB-main-h1", *streams]

    async def scenario() -> list[str]:
        refused: asyncio.Queue[str] = asyncio.Queue()

        async def note(error: Exception) -> None:
            refused.put_nowait(str(error).lower())

        client = Client()
        await client.connect(nats.url, user="h1", password=PASSWORDS["h1"], error_cb=note, allow_reconnect=False)
        for subject in forbidden:
            await client.publish(subject, b"")
        await client.subscribe(inboxes)
        said = [await asyncio.wait_for(refused.get(), DEADLINE) for _ in (*forbidden, inboxes)]
        await client.close()
        return said

    said = asyncio.run(scenario())
    wanted = [f'publish to "{subject}"' for subject in forbidden] + [f'subscription to "{inboxes}"']
    for what in wanted:
        assert sum(f"permissions violation for {what}".lower() in text for text in said) == 1


@pytest.mark.parametrize(
    "line",
    ['"eb.main.h1.>"', '"$JS.API.STREAM.CREATE.EB-main-h1"', '"$JS.API.STREAM.LIST"', '"$JS.API.CONSUMER.CREATE.*.>"'],
)
def test_a_permission_that_is_missing_is_named(nats: NatsServer, bus: Bus, tmp_path: Path, line: str) -> None:
    """The bridge is degraded, and says what it may not do."""
    nats.reconfigure(permissions().replace(line, '"nothing"'))
    subject = line.strip('"').removesuffix(".>").removesuffix(".*")
    if "CONSUMER" in line:
        asyncio.run(make_stream(nats, "h2"))

    async def scenario() -> str:
        async with bridging(bus, "h1", nats.url, tmp_path, "orders", "users"):
            await bus.asend("orders", "k", "/1")
            if line == '"eb.main.h1.>"':  # it is told when there is something to publish
                await told(bus, "running")
                await bus.asend("orders", "k", "/2")
            return await told(bus, "degraded")

    why = asyncio.run(scenario())
    assert "permissions violation for publish" in why.lower()
    assert subject.lower() in why.lower()


async def make_stream(nats: NatsServer, origin: str) -> None:
    """The stream of another host, as its bridge would make it."""
    client = Client()
    prefix = f"_INBOX.main.{origin}"
    await client.connect(nats.url, user=origin, password=PASSWORDS[origin], inbox_prefix=prefix, allow_reconnect=False)
    await client.jetstream().add_stream(name=f"EB-main-{origin}", subjects=[f"eb.main.{origin}.>"])
    await client.close()


def table(bus: Bus, nats: NatsServer, origin: str, secret: Path, **routes: object) -> dict[str, object]:
    """The configuration of a host with the password."""
    secret.write_text(PASSWORDS[origin])
    who = {"servers": [nats.url], "user": origin, "password_file": str(secret)}
    return {"bus": bus.name, "origin": origin, "nats": who, **routes}


def test_queues_and_requests_need_more(each_nats: NatsServer, bus: Bus, other: Bus, tmp_path: Path) -> None:
    """With what the guide adds for them, one host's work and questions reach the other."""
    publish, subscribe = permissions(1), permissions(2)
    settings = permissions().replace("subscribe: [", f"subscribe: [\n{subscribe}")
    first_user, middle, second_user = settings.partition("{ user: h2")
    first_user = first_user.replace("publish: [", f"publish: [\n{publish}")
    second_user = second_user.replace("publish: [", f"publish: [\n{publish.replace('h1', 'h2')}")
    each_nats.reconfigure(first_user + middle + second_user)
    queue = {"name": "invoices", "systems": ["invoices.**"]}
    first = {"queue": [queue], "ask": [{"systems": ["prices"]}]}
    second = {"queue": [{**queue, "serve": "printers"}], "ask": [{"systems": ["prices"], "serve": True}]}

    async def answer(prices: eventbus.Subscription) -> None:
        event = await prices.areceive(DEADLINE)
        assert event is not None
        await event.areply(event.data * 2)

    async def scenario() -> tuple[str, int]:
        asking = serve(from_dict(table(bus, each_nats, "h1", tmp_path / "h1", **first), "x"))
        serving = serve(from_dict(table(other, each_nats, "h2", tmp_path / "h2", **second), "x"))
        with other.subscribe("invoices.**", group="printers") as printer, other.subscribe("prices") as prices:
            tasks = [asyncio.create_task(one) for one in (asking, serving, answer(prices))]
            try:
                await told(bus, "running")
                await told(other, "running")
                await bus.asend("invoices", "k", "/1")
                event = await printer.areceive(DEADLINE)
                assert event is not None
                return event.path, await bus.arequest("prices", "of", "/apple", 21, timeout=DEADLINE)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(scenario()) == ("/1", 42)
