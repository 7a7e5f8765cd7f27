"""Where the way out goes on: servers that forgot, streams of others, two bridges of an origin, a ring that is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import eventbus
from bridges import Bridge, configured, connected, exports, send, sent, texts
from eventbus import Bus, UnavailableError
from eventbus.bridge import export, fence
from eventbus.bridge.fence import FencedError
from eventbus.bridge.link import Link
from loops import run
from nats_server import NatsServer

STREAM = "EB-main-h1"
LARGE = "x" * 1000


def test_a_server_that_forgot(bus: Bus, nats: NatsServer, tmp_path: Path) -> None:
    """Set back to an older store, it gets again what it had acknowledged: the ring still has it."""

    async def scenario() -> None:
        terms = configured(bus, nats, window=8, **exports("a"))
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            send(bus, *range(10))
            await sent(bridge, 10)
            nats.save(tmp_path / "saved")
            await bridge.until(lambda: bridge.health.state == "running", "the bridge to run again")
            send(bus, *range(10, 30))
            await sent(bridge, 30)
            nats.restore(tmp_path / "saved")
            send(bus, *range(30, 35))
            await sent(bridge, 55)
            assert bridge.health.out.lost == 0
        assert await texts(nats) == list(range(35))

    run(scenario())


@pytest.mark.parametrize("again", ["the same", "another"])
def test_a_server_that_forgot_and_a_ring_too(bus: Bus, nats: NatsServer, tmp_path: Path, again: str) -> None:
    """What the ring has not any more is lost, counted to the one, and told; whether the bridge was killed meanwhile."""

    async def scenario() -> None:
        terms = configured(bus, nats, window=8, **exports("a"))
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            send(bus, *range(10))
            await sent(bridge, 10)
            nats.save(tmp_path / "saved")
            await bridge.until(lambda: bridge.health.state == "running", "the bridge to run again")
            send(bus, *range(10, 30))
            await sent(bridge, 30)
            for _ in range(100):
                bus.send("other", "k", "/", LARGE)
            if again == "the same":
                nats.restore(tmp_path / "saved")
                await bridge.until(lambda: bridge.health.out.lost == 20, "20 events to be lost")
                return
            nats.kill()
        nats.start()
        nats.restore(tmp_path / "saved")
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            assert bridge.health.out.lost == 20
            send(bus, 30)
            await sent(bridge, 1)
        assert await texts(nats) == [*range(10), 30]
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            assert bridge.health.out.lost == 0

    run(scenario())


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_a_bridge_that_ends_while_it_sends_again(
    bus: Bus, nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """The next one begins where it was, and what is lost is still counted to the one."""
    left, write = passes, Link.write

    async def ending(link: Link, blocks: Any) -> None:
        nonlocal left
        await write(link, blocks)
        left -= 1
        if left == 0:
            raise Killed

    async def scenario() -> None:
        terms = configured(bus, nats, window=8, **exports("a"))
        async with Bridge(bus, terms) as bridge:
            await bridge.running()
            send(bus, 0)
            await sent(bridge, 1)
            nats.save(tmp_path / "saved")
            await bridge.until(lambda: bridge.health.state == "running", "the bridge to run again")
            send(bus, *range(1, 11))
            await sent(bridge, 11)
            for _ in range(100):
                bus.send("other", "k", "/", LARGE)
            send(bus, *range(11, 31))
            await sent(bridge, 31)
        nats.restore(tmp_path / "saved")
        with monkeypatch.context() as patched:
            patched.setattr(Link, "write", ending)
            async with Bridge(bus, terms) as bridge:
                send(bus, 31)
                if passes < 4:
                    assert isinstance(await bridge.ended(), Killed)
                    assert bridge.health.out.lost == 0
                else:
                    await bridge.ended()
        async with Bridge(bus, terms) as next_one:
            await next_one.until(lambda: next_one.export and next_one.export._done == bus.stats().sent, "the rest")
            assert next_one.health.out.lost + bridge.health.out.lost == 10
        assert await texts(nats) == [0, *range(11, 32)]

    run(scenario())


class Killed(Exception):
    """In the middle."""


def test_a_stream_that_was_deleted(bus: Bus, nats: NatsServer) -> None:
    """It is made again, with what the ring still has."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            send(bus, 1, 2)
            await sent(bridge, 2)
            async with connected(nats) as link:
                await link.call(link.manager.delete_stream(STREAM))
            send(bus, 3)
            await sent(bridge, 5)
            assert bridge.health.out.lost == 0
        assert await texts(nats) == [1, 2, 3]

    run(scenario())


def test_messages_of_somebody_else_in_the_stream(bus: Bus, nats: NatsServer) -> None:
    """The chain goes on behind them."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            send(bus, 1)
            await sent(bridge, 1)
            async with connected(nats) as link:
                for _ in range(3):
                    await link.publish("eb.main.h1.a.k", b"0")
                await link.call(link.manager.account_info())
            send(bus, 2, 3)
            await sent(bridge, 3)
        assert await texts(nats) == [1, 0, 0, 0, 2, 3]

    run(scenario())


def test_a_stream_that_takes_no_more(bus: Bus, nats: NatsServer) -> None:
    """While the server refuses, the bridge says why, the events wait, and go out once it takes them."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            async with connected(nats) as link:
                (info,) = await link.call(link.manager.streams_info())
                await link.call(link.manager.update_stream(info.config.evolve(max_msgs=2, discard="new")))
                send(bus, 1, 2, 3, 4)
                await bridge.until(lambda: "maximum messages exceeded" in bridge.health.why, "the bridge to say so")
                assert bridge.health.state == "degraded"
                await link.call(link.manager.update_stream(info.config.evolve(max_msgs=-1)))
            await bridge.until(lambda: bridge.export and bridge.export._done == bus.stats().sent, "all to go out")
        assert await texts(nats) == [1, 2, 3, 4]

    run(scenario())


# --- whose it is ---


def test_a_stream_of_another_bus(bus: Bus, nats: NatsServer) -> None:
    """It is left alone, until it is taken over: then the other bridge is fenced off with its next event."""

    async def scenario() -> None:
        with eventbus.open(f"{bus.name}-2") as second:
            async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
                await bridge.running()
                send(bus, 1)
                await sent(bridge, 1)
                async with Bridge(second, configured(second, nats, **exports("a"))) as other:
                    error = await other.ended()
                    assert isinstance(error, FencedError)
                    assert repr(fence.owner_of(bus.name)) in error.message
                    assert "--take-over" in error.message
                async with Bridge(second, configured(second, nats, **exports("a")), take_over=True) as other:
                    await other.running()
                    send(second, 2)
                    await sent(other, 2 - 1)
                    send(bus, 3)
                    error = await bridge.ended()
                    assert isinstance(error, FencedError)
        assert await texts(nats) == [1, 2]

    run(scenario())


def test_a_bridge_that_began_later(bus: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two believe that they are the same, the one that began last goes on; its clock may be set back."""

    async def scenario() -> None:
        monkeypatch.setattr(fence, "owner_of", lambda bus: "the same")
        with eventbus.open(f"{bus.name}-2") as second:
            async with Bridge(bus, configured(bus, nats, **exports("a")), run=1000) as first:
                await first.running()
                send(bus, 1)
                await sent(first, 1)
                async with Bridge(second, configured(second, nats, **exports("a")), run=10) as last:
                    await last.running()
                    send(second, 2)
                    await sent(last, 1)
                    send(bus, 3)
                    assert "which began later" in str(await first.ended())
                    send(second, 4)
                    await sent(last, 2)
        assert await texts(nats) == [1, 2, 4]

    run(scenario())


def test_two_bridges_of_one_origin_on_one_bus(bus: Bus, nats: NatsServer) -> None:
    """The second is told who the first is, also if it is to export something else."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            for systems in (["a"], ["b"]):
                with pytest.raises(UnavailableError, match=r"'bridge\.h1'|bridge of 'h1'"):
                    Bridge(bus, configured(bus, nats, **exports(*systems)))

    run(scenario())


def test_other_systems_than_before(bus: Bus, nats: NatsServer) -> None:
    """A bridge that comes back with others begins with them behind the last event that went out."""

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            bus.send("b", "k", "/", 1)
            bus.send("a", "k", "/", 2)
            await sent(bridge, 1)
        bus.send("b", "k", "/", 3)
        bus.send("a", "k", "/", 4)
        async with Bridge(bus, configured(bus, nats, **exports("b"))) as bridge:
            await sent(bridge, 1)
            bus.send("a", "k", "/", 5)
            bus.send("b", "k", "/", 6)
            await sent(bridge, 2)
        assert await texts(nats) == [2, 3, 6]

    run(scenario())


def test_a_stream_that_is_taken_while_nothing_is_sent(
    bus: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that has nothing to send sees by itself that another bus has its stream, or that it is gone."""
    monkeypatch.setattr(export, "LOOK_SECONDS", 0.05)

    async def scenario() -> None:
        async with Bridge(bus, configured(bus, nats, **exports("a"))) as bridge:
            await bridge.running()
            send(bus, 1)
            await sent(bridge, 1)
            async with connected(nats) as link:
                await link.call(link.manager.delete_stream(STREAM))
            await sent(bridge, 2)
            with eventbus.open(f"{bus.name}-2") as second:
                async with Bridge(second, configured(second, nats, **exports("a")), take_over=True) as other:
                    await other.running()
                    assert isinstance(await bridge.ended(), FencedError)
        assert await texts(nats) == [1]

    run(scenario())
