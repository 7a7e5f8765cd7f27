"""What comes in and is not as it should be: of nobody, twice, in a loop, forbidden; and rings without room for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import eventbus
from bridges import Bridge, configured, connected, exports, imports, numbers, take_all
from eventbus import Bus, InvalidError
from eventbus.bridge import inbound, messages
from eventbus.bridge.link import Link
from loops import run
from nats_server import NatsServer

STREAM = "EB-main-h1"
EPOCH, OTHER = "1" * 32, "2" * 32
LARGE = "x" * 1000


@contextlib.asynccontextmanager
async def stream(nats: NatsServer) -> AsyncIterator[Link]:
    """A stream as of the origin h1, and a connection to it."""
    async with connected(nats) as link:
        await link.call(link.manager.add_stream(name=STREAM, subjects=["eb.main.h1.>"]))
        yield link


def marked(sequence: int, *, epoch: str = EPOCH, run: int = 5, hops: str = "h1", form: str = "j") -> dict[str, str]:
    """The headers of a message."""
    return {"Eb": f"{epoch} {sequence} 1000 7 {form} {run} {hops}", "Eb-Path": "/p"}


async def put(link: Link, sequence: int, data: int, **terms: Any) -> None:
    """A message as a bridge would write it."""
    await link.publish("eb.main.h1.a.k", b"%d" % data, marked(sequence, **terms))


BAD: dict[str, tuple[str, tuple[str, bytes, dict[str, str]]]] = {
    "no headers": ("foreign", ("eb.main.h1.a.k", b"1", {})),
    "headers of others": ("foreign", ("eb.main.h1.a.k", b"1", {"Nats-Msg-Id": "1", "Eb-Path": "/p"})),
    "a short one": ("foreign", ("eb.main.h1.a.k", b"1", {"Eb": f"{EPOCH} 1 1 1 j 1"})),
    "a number that is none": ("foreign", ("eb.main.h1.a.k", b"1", {"Eb": f"{EPOCH} x 1 1 j 1 h1"})),
    "a form that is none": ("foreign", ("eb.main.h1.a.k", b"1", {"Eb": f"{EPOCH} 1 1 1 x 1 h1"})),
    "no path": ("event", ("eb.main.h1.a.k", b"1", {"Eb": f"{EPOCH} 1 1 1 j 1 h1"})),
    "too long a path": ("event", ("eb.main.h1.a.k", b"1", marked(1) | {"Eb-Path": "/" * 4097})),
    "a path that is no text": ("encoding", ("eb.main.h1.a.k", b"1", marked(1) | {"Eb-Path": "%FF"})),
    "a header that is no text": ("encoding", ("eb.main.h1.a.k", b"1", marked(1) | {"Eb-H-a": "%FF", "x": ""})),
    "a header without a name": ("event", ("eb.main.h1.a.k", b"1", marked(1) | {"Eb-H-": "1", "x": ""})),
    "too many headers": ("event", ("eb.main.h1.a.k", b"1", marked(1) | {"Eb-H-a": "x" * 4096, "x": ""})),
    "no JSON": ("json", ("eb.main.h1.a.k", b"{", marked(1))),
    "nothing as JSON": ("json", ("eb.main.h1.a.k", b"", marked(1))),
    "text that is no UTF-8": ("json", ("eb.main.h1.a.k", b'"\xff"', marked(1))),
    "a subject without a kind": ("subject", ("eb.main.h1.a", b"1", marked(1))),
    "a subject that no bridge spells": ("subject", ("eb.main.h1.%61.k", b"1", marked(1))),
    "a subject of a pattern": ("subject", ("eb.main.h1.%2A.k", b"1", marked(1))),
    "hops of another": ("hops", ("eb.main.h1.a.k", b"1", marked(1, hops="h9"))),
    "too many hops": ("hops", ("eb.main.h1.a.k", b"1", marked(1, hops=",".join(["h0"] * 8 + ["h1"])))),
    "a loop": ("loop", ("eb.main.h1.a.k", b"1", marked(2, hops="h2,h1"))),
}


def test_what_is_no_event(bus: Bus, nats: NatsServer) -> None:
    """Each is counted by its reason, and none stands in the way of the next."""

    async def scenario() -> None:
        async with stream(nats) as link:
            await put(link, 1, 1)
            for _, message in BAD.values():
                await link.publish(*message)
            await put(link, 3, 2)
            with bus.subscribe("a") as here:
                async with Bridge(bus, configured(bus, nats, "h2", **imports("**"))) as bridge:
                    assert numbers(await take_all(here, 2)) == [1, 2]
                    reasons = [reason for reason, _ in BAD.values()]
                    assert bridge.health.inward("h1").rejected == {reason: reasons.count(reason) for reason in reasons}
                    await bridge.running()

    run(scenario())


@pytest.mark.parametrize("bad", sorted(BAD.keys() - {"a loop"}))
def test_each_that_is_no_event(bad: str) -> None:
    """Its reason is what it is counted by."""
    reason, (subject, payload, headers) = BAD[bad]
    with pytest.raises(InvalidError) as caught:
        messages.read(subject, headers, payload)
    assert caught.value.details["reason"] == reason


def test_what_was_there_before(bus: Bus, nats: NatsServer) -> None:
    """An event at or before the position is dropped; a bus that was made anew is told by its epoch and its run."""

    async def scenario() -> None:
        async with stream(nats) as link:
            await put(link, 1, 1)
            await put(link, 5, 2)
            await put(link, 5, 0)
            await put(link, 3, 0)
            await put(link, 6, 3, run=9)
            await put(link, 6, 0, run=10)
            await put(link, 1, 4, epoch=OTHER, run=11)
            await put(link, 9, 0, run=9)
            await put(link, 2, 5, epoch=OTHER, run=11)
            with bus.subscribe("a") as here:
                async with Bridge(bus, configured(bus, nats, "h2", **imports("**"))) as bridge:
                    assert numbers(await take_all(here, 5)) == [1, 2, 3, 4, 5]
                    assert bridge.health.inward("h1").duplicates == 4
                    assert here.receive(0) is None

    run(scenario())


def test_what_a_policy_forbids(name: str, nats: NatsServer) -> None:
    """The bridge is the actor ``bridge:`` and its origin; what it may not send is rejected, the rest comes."""
    rule = {"effect": "deny", "actions": ["events.send"], "resources": ["b"], "actors": ["bridge:h2"]}

    async def scenario() -> None:
        policy = {"default": "allow", "rule": [rule]}
        with eventbus.open(name, policy=policy, actor="bridge:h2") as bus, bus.subscribe("**") as here:
            async with stream(nats) as link:
                for sequence, system in enumerate("abab", 1):
                    await link.publish(f"eb.main.h1.{system}.k", b"%d" % sequence, marked(sequence))
                async with Bridge(bus, configured(bus, nats, "h2", **imports("**"))) as bridge:
                    assert numbers(await take_all(here, 2)) == [1, 3]
                    await bridge.until(
                        lambda: bridge.health.inward("h1").rejected == {"policy": 2}, "two to be rejected"
                    )

    run(scenario())


def test_a_ring_that_is_full(bus: Bus, nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge says who holds it, asks for no more, loses nothing, and goes on once there is room."""
    monkeypatch.setattr(inbound, "ROOM_SECONDS", 0.05)

    async def scenario() -> None:
        async with stream(nats) as link:
            for sequence in range(1, 201):
                await link.publish("eb.main.h1.a.k", b'"%s"' % LARGE.encode(), marked(sequence))
            with bus.subscribe("a", name="slow") as here:
                async with Bridge(bus, configured(bus, nats, "h2", **imports("**"))) as bridge:
                    await bridge.until(lambda: bridge.health.state == "degraded", "the ring to be full")
                    assert "'slow'" in bridge.health.why
                    (one,) = await link.call(link.manager.consumers_info(STREAM))
                    assert one.delivered is not None
                    assert one.delivered.stream_seq <= 256
                    events = await take_all(here, 200)
                    assert [event.data for event in events] == [LARGE] * 200
                    await bridge.running()

    run(scenario())


def test_an_event_too_large_for_the_ring(name: str, nats: NatsServer) -> None:
    """It is rejected and counted, its neighbours come."""

    async def scenario() -> None:
        with eventbus.open(name, capacity=8192) as small, small.subscribe("a") as here:
            async with stream(nats) as link:
                for sequence, data in enumerate([b"1", b'"%s"' % (LARGE * 3).encode(), b"2"], 1):
                    await link.publish("eb.main.h1.a.k", data, marked(sequence))
                async with Bridge(small, configured(small, nats, "h2", **imports("**"))) as bridge:
                    assert numbers(await take_all(here, 2)) == [1, 2]
                    assert bridge.health.inward("h1").rejected == {"large": 1}

    run(scenario())


def test_more_origins_than_a_bus_has_notes_for(bus: Bus, nats: NatsServer) -> None:
    """The bridge says so, and the others go on."""
    for number in range(64):
        bus._bring("", [], (f"note {number}", b""))

    async def scenario() -> None:
        async with stream(nats), Bridge(bus, configured(bus, nats, "h2", **imports("**"))) as bridge:
            await bridge.until(lambda: "notes of 64 names" in bridge.health.why, "the bridge to say so")

    run(scenario())


# --- relays ---


def test_a_relay(bus: Bus, name: str, nats: NatsServer) -> None:
    """What came in by one domain goes out by another, once, with all that it passed; what came by its own does not."""

    async def scenario() -> None:
        with (
            eventbus.open(f"{name}-1") as first,
            eventbus.open(f"{name}-3") as third,
            third.subscribe("a") as there,
            first.subscribe("a") as back,
            contextlib.ExitStack() as _,
        ):
            both = {**exports("a"), **imports("a")}
            async with contextlib.AsyncExitStack() as stack:
                for one, origin, terms in (
                    (first, "h1", both),
                    (third, "h3", both | {"domain": "west"}),
                    (bus, "hub", both | {"relay": True}),
                    (bus, "bub", both | {"relay": True, "domain": "west"}),
                ):
                    bridge = await stack.enter_async_context(Bridge(one, configured(one, nats, origin, **terms)))
                    await bridge.running()
                first.send("a", "k", "/", 1, headers={"h": "v"})
                bus.send("a", "k", "/", 2)
                third.send("a", "k", "/", 3)
                events = sorted(await take_all(there, 3), key=lambda event: event.data)
                assert [event.origin for event in events] == ["h1/bub", "bub", ""]
                assert events[0].headers == {"h": "v"}
                events = sorted(await take_all(back, 3), key=lambda event: event.data)
                assert [event.origin for event in events] == ["", "hub", "h3/hub"]
                for sub, one in ((there, third), (back, first)):
                    one.send("a", "last", "/", 9)
                    assert numbers(await take_all(sub, 1)) == [9]

    run(scenario())


def test_hops_are_at_most_eight(bus: Bus, nats: NatsServer) -> None:
    """What has passed eight goes no further."""

    async def scenario() -> None:
        async with stream(nats) as link:
            await link.call(link.manager.update_stream(name=STREAM, subjects=["eb.main.h1.>"]))
            async with (
                Bridge(bus, configured(bus, nats, "h2", **imports("**"))) as bridge,
                Bridge(bus, configured(bus, nats, "h3", domain="west", relay=True, **exports("**"))) as relay,
            ):
                await relay.running()
                await put(link, 1, 1, hops=",".join(["h0"] * 7 + ["h1"]))
                await put(link, 2, 2, hops=",".join(["h0"] * 6 + ["h1"]))
                await bridge.until(lambda: bridge.health.inward("h1").events == 2, "both to come")
                await relay.until(lambda: relay.export and relay.export._done == bus.stats().sent, "them to go on")
                assert relay.health.out.events == 1

    run(scenario())
