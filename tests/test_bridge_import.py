"""The way in: events of other origins on this bus, in their order and once, with what they were sent with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import eventbus
from bridges import Bridge, configured, connected, exports, imports, numbers, take_all
from eventbus import Bus
from eventbus.bridge import position
from eventbus.bridge.inbound import Inbound
from loops import run
from nats_server import NatsServer

STREAM = "EB-main-h1"
LARGE = "x" * 1000


@pytest.fixture
def far(name: str) -> Any:
    """The bus of another host."""
    with eventbus.open(f"{name}-far", capacity=1 << 20) as opened:
        yield opened


@contextlib.asynccontextmanager
async def exporting(far: Bus, nats: NatsServer, *systems: str, **terms: Any) -> AsyncIterator[Bridge]:
    """A bridge of the other host, which runs."""
    async with Bridge(far, configured(far, nats, **exports(*(systems or ("**",))), **terms)) as bridge:
        await bridge.running()
        yield bridge


def send(bus: Bus, *numbers: int, system: str = "a") -> None:
    """Sends so many events."""
    bus.send_many([(system, "k", f"/{number}", number) for number in numbers])


async def exported(far: Bus, nats: NatsServer, *numbers: int) -> None:
    """Has a stream with these events, and its bridge ended."""
    async with exporting(far, nats) as out:
        send(far, *numbers)
        await out.until(lambda: out.health.out.events == len(numbers), "the events to go out")


def test_an_event_comes_as_it_was_sent(bus: Bus, far: Bus, each_nats: NatsServer) -> None:
    """With its names, path, data, headers, time and sender, and where it came from; its sequence is this bus's."""

    async def scenario() -> None:
        async with exporting(far, each_nats):
            with far.subscribe("a.**") as there, bus.subscribe("a.**") as here:
                async with Bridge(bus, configured(bus, each_nats, "h2", **imports("a.**"))):
                    far.send("a.ä", "k.x", "/ö\n", {"n": [1, None, 2.5]}, headers={"trace id": "ä: x\r\n", "b": ""})
                    far.send("a", "k", "/raw", b"\x00\xff")
                    far.send("a", "k", "/none")
                    sent, came = there.receive_many(3, 0), await take_all(here, 3)
            assert [one._replace(sequence=0, origin="") for one in came] == [one._replace(sequence=0) for one in sent]
            assert [one.origin for one in came] == ["h1"] * 3
            assert [one.sequence for one in came] == list(range(came[0].sequence, came[0].sequence + 3))

    run(scenario())


def test_both_ways(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """Two buses hear each other, and nothing goes round."""

    async def scenario() -> None:
        ends = [(far, "h1"), (bus, "h2")]
        with far.subscribe("a") as there, bus.subscribe("a") as here:
            async with contextlib.AsyncExitStack() as both:
                for one, origin in ends:
                    bridge = Bridge(one, configured(one, nats, origin, **exports("a"), **imports("a")))
                    await both.enter_async_context(bridge)
                    await bridge.running()
                for number in range(5):
                    send(far, number)
                    send(bus, 10 + number)
                for sub in (here, there):
                    events = await take_all(sub, 10)
                    assert sorted(numbers(events)) == [*range(5), *range(10, 15)]
                    assert sub.receive(0) is None

    run(scenario())


@pytest.mark.parametrize("start", ["oldest", "latest"])
def test_where_it_begins(bus: Bus, far: Bus, nats: NatsServer, start: str) -> None:
    """With the oldest of each stream or with what comes from now on; a stream that comes later from its beginning; and
    once there is a position, behind it."""

    async def scenario() -> None:
        await exported(far, nats, 1, 2)
        terms = configured(bus, nats, "h2", **imports("a", start=start))
        with bus.subscribe("a") as here:
            async with Bridge(bus, terms) as bridge:
                await bridge.until(lambda: bus._noted(position.import_note("main", "h1")), "a position")
                await exported(far, nats, 3)
                expected = [1, 2, 3] if start == "oldest" else [3]
                assert numbers(await take_all(here, len(expected))) == expected
                with eventbus.open(f"{bus.name}-3") as third:
                    async with Bridge(third, configured(third, nats, "h3", **exports("a"))) as out:
                        await out.running()
                        send(third, 4)
                        assert numbers(await take_all(here, 1)) == [4]
            await exported(far, nats, 5)
            async with Bridge(bus, terms):
                assert numbers(await take_all(here, 1)) == [5]

    run(scenario())


def test_only_from_those_that_are_named(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """Each table of the configuration has its origins, and one origin what all of them say of it."""

    async def scenario() -> None:
        async with exporting(far, nats):
            with eventbus.open(f"{bus.name}-3") as third, bus.subscribe("**") as here:
                async with Bridge(third, configured(third, nats, "h3", **exports("**"))) as out:
                    await out.running()
                    tables = [imports("a", **{"from": ["h1"]}), imports("b", **{"from": ["h1", "h3"]})]
                    terms = {"import": [table["import"][0] for table in tables]}
                    async with Bridge(bus, configured(bus, nats, "h2", **terms)):
                        for one in (far, third):
                            for number, system in enumerate("abc"):
                                send(one, number, system=system)
                            send(one, 9, system="b")
                        events = [one for one in await take_all(here, 5) if one.system != "eventbus.bridge"]
                        found = {(one.origin, one.system, one.data) for one in events}
        assert found == {("h1", "a", 0), ("h1", "b", 1), ("h1", "b", 9), ("h3", "b", 1), ("h3", "b", 9)}

    run(scenario())


def test_what_filters_admit_in_vain(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """Where a server's filter is wider than the patterns, the rest is dropped here and counted."""

    async def scenario() -> None:
        async with exporting(far, nats):
            with bus.subscribe("**") as here:
                async with Bridge(bus, configured(bus, nats, "h2", **imports("a.(b|c).d", "x"))) as bridge:
                    for system in ("a.e.d", "a.b.d", "y", "x", "eventbus.dead"):
                        send(far, 1, system=system)
                    assert [one.system for one in await take_all(here, 2)] == ["a.b.d", "x"]
                    assert bridge.health.inward("h1").vain == 2

    run(scenario())


def test_dead_letters_that_are_named(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """They come in where their system is named."""

    async def scenario() -> None:
        async with exporting(far, nats, "eventbus.dead", "a"):
            with bus.subscribe("**") as here:
                async with Bridge(bus, configured(bus, nats, "h2", **imports("eventbus.dead"))):
                    send(far, 1, system="eventbus.dead")
                    send(far, 2, system="a")
                    send(far, 3, system="eventbus.dead")
                    assert numbers(await take_all(here, 2)) == [1, 3]

    run(scenario())


# --- faults ---


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_bridge_that_ends_in_a_batch(
    bus: Bus, far: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch, moment: str, passes: int
) -> None:
    """Ended before or after what it commits: the next one brings the rest, and nothing twice."""
    commit, left = Inbound._commit, passes

    async def ending(inbound: Inbound, origin: str, some: Any, *more: Any) -> None:
        nonlocal left
        left -= bool(some)
        if left == 0 and moment == "before":
            raise Killed
        await commit(inbound, origin, some, *more)
        if left == 0:
            raise Killed

    async def scenario() -> None:
        terms = configured(bus, nats, "h2", window=4, **imports("a"))
        await exported(far, nats, *range(20))
        with bus.subscribe("a") as here:
            with monkeypatch.context() as patched:
                patched.setattr(Inbound, "_commit", ending)
                async with Bridge(bus, terms) as bridge:
                    assert isinstance(await bridge.ended(), Killed)
            async with Bridge(bus, terms):
                assert numbers(await take_all(here, 20)) == list(range(20))
                assert here.receive(0) is None

    run(scenario())


class Killed(Exception):
    """In the middle."""


def test_a_server_that_is_killed(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """Both bridges go on once it is back: all comes in its order, and nothing twice."""

    async def scenario() -> None:
        with bus.subscribe("a") as here:
            async with (
                exporting(far, nats, window=16),
                Bridge(bus, configured(bus, nats, "h2", window=16, **imports("a"))),
            ):
                for round_ in range(3):
                    send(far, *range(100 * round_, 100 * round_ + 50))
                    first = await take_all(here, 1)
                    nats.kill()
                    send(far, *range(100 * round_ + 50, 100 * round_ + 100))
                    nats.start()
                    rest = await take_all(here, 99)
                    assert numbers(first + rest) == list(range(100 * round_, 100 * round_ + 100))

    run(scenario())


def test_a_consumer_that_is_gone(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """It is made anew, and nothing is missed."""

    async def scenario() -> None:
        with bus.subscribe("a") as here:
            async with exporting(far, nats), Bridge(bus, configured(bus, nats, "h2", **imports("a"))):
                for number in range(3):
                    send(far, number)
                    assert numbers(await take_all(here, 1)) == [number]
                    async with connected(nats) as link:
                        for one in await link.call(link.manager.consumers_info(STREAM)):
                            await link.call(link.manager.delete_consumer(STREAM, one.name))

    run(scenario())


def test_a_stream_that_was_deleted(bus: Bus, far: Bus, nats: NatsServer) -> None:
    """Made again by its exporter, it is read from its beginning; what came before is known, and dropped."""

    async def scenario() -> None:
        with bus.subscribe("a") as here:
            async with exporting(far, nats), Bridge(bus, configured(bus, nats, "h2", **imports("a"))) as bridge:
                send(far, 1, 2)
                assert numbers(await take_all(here, 2)) == [1, 2]
                async with connected(nats) as link:
                    await link.call(link.manager.delete_stream(STREAM))
                send(far, 3)
                assert numbers(await take_all(here, 1)) == [3]
                assert bridge.health.inward("h1").duplicates == 2
                assert bridge.health.inward("h1").gaps == 0

    run(scenario())


@pytest.mark.parametrize("more", [0, 30])
def test_a_server_that_was_set_back(bus: Bus, far: Bus, nats: NatsServer, tmp_path: Path, more: int) -> None:
    """What the exporter sends again is dropped, and what has taken the place of lost messages comes, however many."""

    async def scenario() -> None:
        terms = configured(bus, nats, "h2", **imports("a"))
        with bus.subscribe("a") as here:
            async with exporting(far, nats) as out:
                async with Bridge(bus, terms):
                    send(far, *range(10))
                    await take_all(here, 10)
                    nats.save(tmp_path / "saved")
                    send(far, *range(10, 20))
                    await take_all(here, 10)
                for _ in range(1500):
                    await far.asend("b", "k", "/", LARGE)  # until the ring has nothing of it
                await out.until(lambda: out.export and out.export._done == far.stats().sent, "all to go out")
                nats.kill()
            nats.start()
            nats.restore(tmp_path / "saved")
            async with exporting(far, nats) as out:
                assert out.health.out.lost > 0
                send(far, *range(20, 25 + more))
                async with Bridge(bus, terms):
                    assert numbers(await take_all(here, 5 + more)) == list(range(20, 25 + more))
                    assert here.receive(0) is None

    run(scenario())


@pytest.mark.parametrize("system", ["**", "a"])
def test_what_a_stream_let_go_of(bus: Bus, far: Bus, nats: NatsServer, system: str) -> None:
    """It is counted to the one, and told."""

    async def scenario() -> None:
        terms = configured(bus, nats, "h2", **imports(system))
        with bus.subscribe("a") as here, bus.subscribe("eventbus.bridge", "gap") as gaps:
            await exported(far, nats, 0, 1)
            async with Bridge(bus, terms):
                await take_all(here, 2)
            await exported(far, nats, *range(2, 10))
            async with connected(nats) as link:
                await link.call(link.manager.purge_stream(STREAM, keep=3))
            async with Bridge(bus, terms) as bridge:
                assert numbers(await take_all(here, 3)) == [7, 8, 9]
                assert bridge.health.inward("h1").gaps == 5
                bridge.health.beat()
                gap = gaps.receive(0)
                assert gap is not None
                assert gap.data == {"way": "import", "origin": "h1", "events": 5}

    run(scenario())


def test_what_is_let_go_of_while_it_reads(
    bus: Bus, far: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that is slower than the stream is trimmed counts what it missed to the one."""
    bring, held = Inbound.bring, asyncio.Event()

    async def slow(inbound: Inbound, arrived: Any) -> None:
        await bring(inbound, arrived[:0] if held.is_set() else arrived)
        if arrived:
            await held.wait()

    async def scenario() -> None:
        monkeypatch.setattr(Inbound, "bring", slow)
        with bus.subscribe("**") as here:
            terms = configured(bus, nats, "h2", window=4, **imports("**"))
            async with exporting(far, nats) as out, Bridge(bus, terms) as bridge:
                send(far, 0)
                assert numbers(await take_all(here, 1)) == [0]
                send(far, *range(1, 50))
                await out.until(lambda: out.health.out.events == 50, "the events to go out")
                async with connected(nats) as link:
                    await link.call(link.manager.purge_stream(STREAM, keep=10))
                monkeypatch.setattr(Inbound, "bring", bring)
                held.set()
                came = numbers(await take_all(here, 1))
                while came[-1] != 49:
                    came += numbers(await take_all(here, 1))
                assert bridge.health.inward("h1").gaps + len(came) == 49
                assert came == sorted(came)

    run(scenario())
