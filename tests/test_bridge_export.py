"""The way out: an origin's events in its stream, in their order and once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import eventbus
from bridges import Bridge, configured, connected, exports, stored
from eventbus import Bus
from eventbus.bridge import messages
from eventbus.bridge.export import Export
from eventbus.bridge.link import Link
from loops import run
from nats_server import NatsServer

STREAM = "EB-main-h1"


async def sequences(nats: NatsServer) -> list[int]:
    """What the messages of the stream say that their events' sequences are."""
    return [messages.place_of(one.headers).sequence for one in await stored(nats)]


async def texts(nats: NatsServer) -> list[Any]:
    """The data of all messages of the stream."""
    return [json.loads(one.data or b"null") for one in await stored(nats)]


def send(bus: Bus, *numbers: int, system: str = "a") -> None:
    """Sends so many events."""
    bus.send_many([(system, "k", f"/{number}", number) for number in numbers])


def test_what_stands_in_the_stream(bus: Bus, each_nats: NatsServer) -> None:
    """A message has its event's subject, path, headers, time and sender; JSON as text, bytes as they are."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, each_nats, **exports("a.**"))) as bridge:
            await bridge.running()
            with bus.subscribe("a.**") as sub:
                bus.send("a.ä b", "k.x", "/ö %\n", {"n": 1}, headers={"trace id": "ä\r\n: x", "b": ""})
                bus.send("a", "k", "/raw", b"\x00\xff")
                events = sub.receive_many(2, 0)
            await bridge.until(lambda: bridge.health.out.events == 2, "two events to go out")
        found = await stored(each_nats)
        assert [one.subject for one in found] == ["eb.main.h1.a.%C3%A4%20b.k%2Ex", "eb.main.h1.a.k"]
        for one, event in zip(found, events, strict=True):
            read = messages.read(one.subject or "", one.headers, one.data or b"")
            assert read.place[0] == bus.identity
            assert (read.place.sequence, read.hops, read.origin) == (event.sequence, ("h1",), "h1")
            assert read.event == (*event[:4], event.headers, event.time, event.sender)
        assert [one.data for one in found] == [b'{"n":1}', b"\x00\xff"]

    run(scenario())


def test_what_travels(bus: Bus, nats: NatsServer) -> None:
    """Nothing but what is exported: no other system, no request, nothing of the bus's own, nothing that was brought."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("**"))) as bridge:
            await bridge.running()
            with bus.subscribe("ask") as asked:
                waiting = asyncio.ensure_future(bus.arequest("ask", "k", "/", 1))
                request = await asked.areceive()
                assert request is not None
                await request.areply(2)
                assert await waiting == 2
            bus.send("eventbus.dead", "exhausted", "/", 3)
            bus._bring("far", [("a", "k", "/", 4)], None)
            bus.send("eventbus2", "k", "/", 5)
            await bridge.until(lambda: bridge.health.out.events == 1, "an event to go out")
        assert await texts(nats) == [5]

    run(scenario())


def test_dead_letters_that_are_named(bus: Bus, nats: NatsServer) -> None:
    """Dead letters go out where their system is named, and nothing else of the bus's own."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("eventbus.**", "eventbus.dead"))) as bridge:
            await bridge.running()
            bus.send("eventbus.bridge", "up", "/", 1)
            bus.send("eventbus.dead", "exhausted", "/", 2)
            await bridge.until(lambda: bridge.health.out.events == 1, "an event to go out")
        assert await texts(nats) == [2]

    run(scenario())


def test_a_batch_is_a_chain(bus: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message names the one before it, and only the last of a window asks for an acknowledgement."""
    written: list[bytes] = []
    write = Link.write

    async def writing(link: Link, blocks: Any) -> None:
        written.extend(blocks)
        await write(link, blocks)

    async def scenario() -> None:
        send(bus, 0)
        async with Bridge(bus, configured(bus, nats, window=8, **exports("a"))) as bridge:
            await bridge.running()
            monkeypatch.setattr(Link, "write", writing)
            send(bus, *range(20))
            await bridge.until(lambda: bridge.health.out.events == 20, "the events to go out")
        lines = [block.split(b"\r\n")[0].split() for block in written]
        assert [len(line) for line in lines] == [5] + [4] * 6 + [5] + [4] * 7 + [5] + [4] * 3 + [5]
        expected = [one.headers["Nats-Expected-Last-Sequence"] for one in await stored(nats) if one.headers]
        assert expected == [str(number) for number in range(20)]

    run(scenario())


def test_where_a_stream_begins(bus: Bus, nats: NatsServer) -> None:
    """A new stream begins with what is sent once there is a bridge, be there a server or not; of a bus that was made
    anew, whose origin has a stream, all that the ring has goes out."""

    async def scenario() -> None:
        terms = exports("a")
        send(bus, 1)
        nats.end()
        async with Bridge(bus, configured(bus, nats, **terms)) as bridge:
            await bridge.until(lambda: bridge.health.state == "degraded", "the bridge to miss the server")
            send(bus, 2, 3)
            nats.start()
            await bridge.until(lambda: bridge.health.out.events == 2, "the events to go out")
        assert await texts(nats) == [2, 3]
        with eventbus.open(f"{bus.name}-anew") as anew:
            send(anew, 4, 5)
            async with Bridge(anew, configured(bus, nats, **terms)) as bridge:
                await bridge.until(lambda: bridge.health.out.events == 2, "the events to go out")
        assert await texts(nats) == [2, 3, 4, 5]

    run(scenario())


@pytest.mark.parametrize("when_full", ["block", "drop"])
def test_it_goes_on_behind_the_end(bus: Bus, nats: NatsServer, when_full: str) -> None:
    """Whatever was sent while there was no bridge goes out once there is, and nothing twice; also where the stream has
    none of it any more."""

    async def scenario() -> None:
        terms = configured(bus, nats, when_full=when_full, **exports("a"))
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            send(bus, 0, 1)
            await bridge.until(lambda: bridge.health.out.events == 2, "the events to go out")
        send(bus, 2, 3)
        async with Bridge(bus, terms) as bridge:
            await bridge.until(lambda: bridge.health.out.events == 2, "the events to go out")
        assert await texts(nats) == [0, 1, 2, 3]
        async with connected(nats) as link:
            await link.call(link.manager.purge_stream(STREAM))
        async with Bridge(bus, terms) as bridge:
            send(bus, 4)
            await bridge.until(lambda: bridge.health.out.events == 1, "an event to go out")
            assert bridge.health.out.lost == 0
        assert await texts(nats) == [4]

    run(scenario())


def test_an_event_too_large_for_the_server(bus: Bus, nats: NatsServer) -> None:
    """It is refused and counted, the others go."""
    nats.reconfigure("max_payload: 2000\n")

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            for number, data in enumerate(["x", "x" * 2500, b"x" * 2500, "y"]):
                bus.send("a", "k", f"/{number}", data)
            await bridge.until(lambda: bridge.health.out.events == 2, "two events to go out")
            assert bridge.health.out.refused == {"large": 2}
            bus.send("a", "k", "/last", b"x" * 2500)
            await bridge.until(lambda: bridge.health.out.refused["large"] == 3, "an event to be refused")
            await bridge.running()
        assert await texts(nats) == ["x", "y"]

    run(scenario())


def test_the_largest_that_the_server_takes(bus: Bus, nats: NatsServer) -> None:
    """What fits to the byte goes; one byte more does not."""
    nats.reconfigure("max_payload: 2000\n")

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            bus.send("a", "k", "/", b"")
            await bridge.until(lambda: bridge.health.out.events == 1, "an event to go out")
            (one,) = await stored(nats)
            own = sum(len(f"{name}: {value}\r\n") for name, value in (one.headers or {}).items())
            room = 2000 - own - len("NATS/1.0\r\n\r\n")
            bus.send("a", "k", "/", b"x" * (room + 1))
            bus.send("a", "k", "/", b"x" * room)
            await bridge.until(lambda: bridge.health.out.events == 2, "another to go out")
            assert bridge.health.out.refused == {"large": 1}

    run(scenario())


# --- faults ---


def test_a_server_that_is_killed(bus: Bus, nats: NatsServer) -> None:
    """Events that are sent while it is gone wait in the ring, and go out in their order once it is back."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, window=16, **exports("a"))) as bridge:
            await bridge.running()
            for round_ in range(3):
                send(bus, *range(100 * round_, 100 * round_ + 50))
                await bridge.until(lambda: bridge.health.out.events > 100 * round_, "the events to go out")  # noqa: B023
                nats.kill()
                send(bus, *range(100 * round_ + 50, 100 * round_ + 100))
                await bridge.until(lambda: bridge.health.state == "degraded", "the bridge to miss the server")
                nats.start()
            await bridge.until(lambda: bridge.export and bridge.export._done == bus.stats().sent, "all to go out")
            assert bridge.health.out.lost == 0
        assert await texts(nats) == list(range(300))

    run(scenario())


@pytest.mark.parametrize("passes", [1, 2, 3, 5])
@pytest.mark.parametrize("moment", ["written", "proved", "noted"])
def test_a_bridge_that_ends_in_a_batch(
    bus: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch, moment: str, passes: int
) -> None:
    """Ended between writing, acknowledgement and note: what the next one sends is the rest, and nothing twice."""
    where = {"written": (Link, "write"), "proved": (Export, "_prove"), "noted": (Export, "_noted")}[moment]
    original = getattr(*where)
    left = passes

    async def ending(*arguments: Any) -> None:
        nonlocal left
        await original(*arguments)
        left -= 1
        if left == 0:
            raise Killed

    def ending_now(*arguments: Any) -> None:
        nonlocal left
        original(*arguments)
        left -= 1
        if left == 0:
            raise Killed

    async def scenario() -> None:
        terms = configured(bus, nats, window=4, **exports("a"))
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
        send(bus, *range(30))
        with monkeypatch.context() as patched:
            patched.setattr(*where, ending_now if moment == "noted" else ending)
            async with Bridge(bus, terms) as bridge:
                assert isinstance(await bridge.ended(), Killed)
        async with Bridge(bus, terms) as bridge:
            await bridge.until(lambda: bridge.export and bridge.export._done == bus.stats().sent, "all to go out")
        assert await texts(nats) == list(range(30))

    run(scenario())


class Killed(Exception):
    """In the middle."""
