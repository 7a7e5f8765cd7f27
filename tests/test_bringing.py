"""Bringing in an event loop: events keep when and by whom they were sent, and the note is there with them or not."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

import eventbus
from eventbus import Bus, FullError, InvalidError, PolicyDeniedError, SegmentError
from eventbus.core.native import INLINE, lib
from eventbus.event import HEADERS_LIMIT, Brought
from harness import take
from loops import run, waiting

TIME, SENDER = 1_700_000_000_000_000_001, 4_000_000_000
NOTE = ("note", b"1")


def brought(number: int, data: Any = None, headers: dict[str, str] | None = None, system: str = "a") -> Brought:
    """An event of another bus."""
    given = number if data is None else data
    return Brought(system, "k", f"/{number}", given, headers or {}, TIME + number, SENDER + number)


async def bring(bus: Bus, *events: Brought, note: tuple[str, bytes] = NOTE, timeout: float | None = 0) -> int:
    """Brings them from the bus "far"."""
    return await bus._abring("far", events, note, timeout)


@pytest.mark.parametrize("headers", [{}, {"n": "v", "empty": ""}])
@pytest.mark.parametrize("data", [1, b"raw", b"", "x" * 900_000])
def test_what_is_brought(name: str, data: Any, headers: dict[str, str]) -> None:
    """It says where it came from, and when and by whom it was sent there; its neighbours are not touched by that."""
    with eventbus.open(name, capacity=1 << 23) as bus, bus.subscribe("a") as sub:
        bus.send("a", "k", "/", 0)
        assert run(bring(bus, brought(1, data, headers), brought(2, data, headers))) == 2
        bus.send("a", "k", "/", 3, headers={"h": "v"})
        first, *here, last = sub.receive_many(9, 0)
        assert [event[:4] for event in here] == [("a", "k", f"/{number}", data) for number in (1, 2)]
        assert [event[4:] for event in here] == [
            (number + 1, TIME + number, SENDER + number, 1, headers, "far") for number in (1, 2)
        ]
        assert (first.origin, last.origin, last.headers) == ("", "", {"h": "v"})
        assert first.time <= last.time
        assert first.sender == last.sender != SENDER
        assert bus._noted("note") == b"1"


def test_past_the_table(name: str) -> None:
    """The same where records carry their names; the sequence of the first is told."""
    with eventbus.open(name) as bus:
        bus.send_many([("a", f"k{number}", "/") for number in range(lib.EB_TOPICS)])
        with bus.subscribe("b") as sub:
            assert (
                run(bring(bus, brought(1, system="b"), brought(2, b"raw", {"n": "v"}, system="b"))) == lib.EB_TOPICS + 1
            )
            assert [(one.data, one.time, one.sender) for one in sub.receive_many(9, 0)] == [
                (1, TIME + 1, SENDER + 1),
                (b"raw", TIME + 2, SENDER + 2),
            ]


def test_delivered_again(bus: Bus) -> None:
    """A member has the same each time, and so has the dead letter."""
    bus.group("g", "a", max_deliveries=1)
    grave = bus.subscribe("eventbus.dead")
    run(bring(bus, brought(1)))
    with bus.subscribe("a", group="g") as member:
        event = take(member)
        assert (event.time, event.sender, event.origin) == (TIME + 1, SENDER + 1, "far")
        member.reject()
        assert member.receive(0) is None
    letter = take(grave).data
    assert (letter["time"], letter["sender"], letter["origin"]) == (TIME + 1, SENDER + 1, "far")


@pytest.mark.parametrize(
    "bytes_",
    [
        *(
            b"far\xfe",
            b"far\xfe1",
            b"far\xfe1 ",
            b"far\xfe 1",
            b"far\xfeg 1",
            b"far\xfe1 g",
            b"far\xfe1  1",
            b"far\xfe-1 1",
        ),
        *(
            b"far\xfe" + b"1" * 17 + b" 1",
            b"far\xfe1 " + b"1" * 9,
            b"far\xfe1 1\xffname",
            b"\xc3\xfe1 1",
            b"far\xfe1\xff 1",
        ),
    ],
)
@pytest.mark.parametrize("topic", [None, INLINE])
def test_what_is_no_time_and_no_sender(bus: Bus, bytes_: bytes, topic: int | None) -> None:
    """Bytes that do not say both are an error of whoever reads them."""
    handle = bus._open_handle()
    number, names = (handle.topic(b"a", b"k", 0), b"") if topic is None else (topic, b"ak")
    lengths = (number, len(names) // 2, len(names) // 2, len(bytes_), 0, 5)
    with bus.subscribe("a") as sub:
        assert handle.send_batch(struct.pack("=6I", *lengths), 1, names + bytes_ + b"[1,2]", 0) == 0
        with pytest.raises(SegmentError, match="its headers are not what was sent"):
            sub.receive(0)
        run(bring(bus, brought(1, headers={"n": "v"})))
        assert take(sub).time == TIME + 1


def test_a_full_ring(name: str) -> None:
    """What finds no room is not there, nor is its note; it waits as long as it may, and the loop goes on."""

    async def scenario() -> None:
        with eventbus.open(name, capacity=8192) as bus, bus.subscribe("a") as sub:
            number = await fill(bus)
            assert bus._noted("note") == b"%d" % (number - 1)
            task = await waiting(bring(bus, brought(number), note=("note", b"last"), timeout=None))
            events = sub.receive_many(1000, 0)
            await task
            events += sub.receive_many(1000, 0)
            assert [event.data for event in events] == list(range(number + 1))
            assert bus._noted("note") == b"last"

    run(scenario())


async def fill(bus: Bus) -> int:
    """Brings events, each with its number as the note, until one finds no room: its number."""
    for number in range(1000):
        try:
            await bring(bus, brought(number), note=("note", b"%d" % number))
        except FullError:
            return number
    pytest.fail("a small ring is never full")


def test_a_note_needs_no_room(name: str) -> None:
    """In a ring that is full to the last byte a note alone is written."""
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("a"), bus.subscribe("none", group="g"):
        run(fill(bus))
        sent = bus.stats().sent
        for number in range(3):
            bus._bring("", [], ("note", b"%d" % number), timeout=0)
            assert bus._noted("note") == b"%d" % number
        assert bus.stats().sent == sent
        with eventbus.open(name) as other:
            assert other._noted("note") == b"2"


def test_cancelled(name: str) -> None:
    """Cancelled while it waits, it has brought nothing, and noted nothing."""

    async def scenario() -> None:
        with eventbus.open(name, capacity=4096) as bus, bus.subscribe("a") as sub:
            number = await fill(bus)
            task = await waiting(bring(bus, brought(1), timeout=None))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(sub.receive_many(1000, 0)) == number
            assert sub.receive(0) is None
            assert bus._noted("note") == b"%d" % (number - 1)

    run(scenario())


def test_what_cannot_be_brought(name: str) -> None:
    """Names, headers and sizes are checked, and the policy is asked; of several events all come, or none."""
    with eventbus.open(name, policy=lambda actor, action, system: system != "b", capacity=8192) as bus:
        for error, bad in (
            (InvalidError, brought(1)._replace(system="a.*")),
            (InvalidError, brought(1)._replace(kind="")),
            (InvalidError, brought(1)._replace(headers={"n": "x" * (HEADERS_LIMIT + 1)})),
            (InvalidError, brought(1, "x" * 4096)),
            (PolicyDeniedError, brought(1, system="b")),
        ):
            with pytest.raises(error):
                run(bring(bus, brought(0), bad))
        assert bus.stats().sent == 0
        assert bus._noted("note") is None
        with eventbus.open(name, role="subscriber") as reader, pytest.raises(InvalidError, match="role='subscriber'"):
            run(bring(reader, brought(1)))
