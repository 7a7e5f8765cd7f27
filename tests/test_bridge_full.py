"""A ring that is full of what is to go out, or was lapped; and the end of the bus while a bridge runs."""

from __future__ import annotations

import orjson
import pytest

from bridges import Bridge, configured, exports, send, sent, texts
from eventbus import Bus, ClosedError, FullError
from loops import run
from nats_server import NatsServer

LARGE = "x" * 1000


def test_block_holds_publishers_up(bus: Bus, nats: NatsServer) -> None:
    """While there is no server a full ring names the bridge, and nothing is lost."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            nats.kill()
            count, why = 0, ""
            while not why:
                try:
                    count += bus.send("a", "k", "/", LARGE, timeout=0)
                except FullError as error:
                    why = error.message
            assert "'bridge.h1'" in why
            nats.start()
            await sent(bridge, count)
            assert bridge.health.out.lost == 0

    run(scenario())


def test_drop_holds_nobody_up(bus: Bus, nats: NatsServer) -> None:
    """What the ring had to let go of meanwhile is lost, and counted to the one; also what a bridge that ended lost."""

    async def scenario() -> None:
        terms = configured(bus, nats, when_full="drop", **exports("a"))
        with bus.subscribe("eventbus.bridge", "gap") as gaps:
            async with Bridge(bus, terms) as bridge:
                await bridge.running()
                send(bus, 0)
                await sent(bridge, 1)
                nats.kill()
                await bridge.until(lambda: bridge.health.state == "degraded", "the bridge to miss the server")
                for _ in range(300):
                    bus.send("a", "k", "/", LARGE, timeout=0)
                nats.start()
                await bridge.until(lambda: bridge.health.out.lost > 0, "events to be lost")
                await bridge.until(lambda: bridge.export and bridge.export._done == bus.stats().sent, "all to go out")
                done, lost, went = bus.stats().sent, bridge.health.out.lost, bridge.health.out.events
                assert lost + went == 301
                bridge.health.beat()
                gap = gaps.receive(0)
                assert gap is not None
                assert gap.data == {"way": "export", "origin": "h1", "events": lost}
        for _ in range(300):
            bus.send("a", "k", "/", LARGE, timeout=0)
        missed = bus.stats().sent - done
        async with Bridge(bus, terms) as bridge:
            await bridge.until(lambda: bridge.health.out.events + bridge.health.out.lost >= missed, "all to go out")
            assert bridge.health.out.events + bridge.health.out.lost == missed

    run(scenario())


def test_drop_passes_what_is_not_its_own(bus: Bus, nats: NatsServer) -> None:
    """What it does not hear is no loss, however much of it there was while it waited."""

    async def scenario() -> None:
        terms = configured(bus, nats, when_full="drop", **exports("a"))
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            send(bus, 0)
            await sent(bridge, 1)
            for _ in range(10):
                for _ in range(20):
                    bus.send("other", "k", "/", LARGE, timeout=0)
                send(bus, 1)
                await bridge.until(lambda: bridge.export and bridge.export._done == bus.stats().sent, "it to go out")
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            send(bus, 2)
            await sent(bridge, 1)
            assert bridge.health.out.lost == 0

    run(scenario())


def test_it_leaves_a_group_of_before(bus: Bus, nats: NatsServer) -> None:
    """A bridge that is to drop now holds nobody up by the group that it had."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
        async with Bridge(bus, configured(bus, nats, when_full="drop", **exports("a"))) as bridge:
            await bridge.running()
            assert [*bus.stats().groups] == []

    run(scenario())


def test_an_event_that_cannot_be_read(bus: Bus, nats: NatsServer) -> None:
    """It is refused and counted, its neighbours go."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            bus.send_many([("a", "k", "/", 1), ("a", "k", "/", orjson.Fragment(b"{")), ("a", "k", "/", 2)])
            await sent(bridge, 2)
            assert bridge.health.out.refused == {"unreadable": 1}
        assert await texts(nats) == [1, 2]

    run(scenario())


@pytest.mark.parametrize("how", ["shutdown", "remove_group"])
def test_a_bus_that_ends(bus: Bus, nats: NatsServer, how: str) -> None:
    """The bridge ends with a sentence."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            bus.shutdown() if how == "shutdown" else bus.remove_group("bridge.h1")
            error = await bridge.ended()
            assert isinstance(error, ClosedError)
            assert "start it again" in error.message

    run(scenario())
