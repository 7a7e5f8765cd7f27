"""What is sent later: when it is due, once; cancelled, refused, listed."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from eventbus._eventbus import lib

import eventbus
from eventbus import Bus, FullError, InvalidError, PolicyDeniedError
from harness import DEADLINE, Fork, Line, take
from jobs import fill, has, manual

DAY = 86400.0
SOON = 0.05  # seconds


def numbers(bus: Bus) -> list[int]:
    """Of what is to be sent, the next one first."""
    return [one.number for one in bus.stats().scheduled]


def test_it_is_sent_when_it_is_due(bus: Bus) -> None:
    """Events come as they were put down, each once and not before it is due, with the time at which they were sent."""
    with bus.subscribe("**") as sub:
        begun = time.time()
        data: list[Any] = [{"n": 1}, b"raw", None]
        for index, one in enumerate(data):
            bus.send_later("a.b", "c", f"/{index}", one, delay=SOON * (3 - index), headers={"trace": str(index)})
        for event in sorted((take(sub) for _ in data), key=lambda event: event.path):
            index = int(event.path[1:])
            assert (event.system, event.kind, event.data) == ("a.b", "c", data.pop(0))
            assert dict(event.headers) == {"trace": str(index)}
            assert event.time / 1e9 >= begun + SOON * (3 - index) - 0.001
        assert data == []
        assert bus.stats().scheduled == ()
        assert bus.stats().sent == 3


@pytest.mark.parametrize(
    "moment",
    [
        lambda: time.time() + SOON,
        lambda: round(time.time()) - 10,
        lambda: 0,
        lambda: -1e300,
        lambda: datetime.now() + timedelta(seconds=SOON),
        lambda: datetime.now(timezone(timedelta(hours=-7))) + timedelta(seconds=SOON),
        lambda: datetime(1971, 1, 1),
    ],
)
def test_at_a_time(bus: Bus, moment: Callable[[], float | datetime]) -> None:
    """A time is a number of seconds since 1970, or a datetime, naive or not; what is past is due at once."""
    with bus.subscribe("a") as sub:
        at = moment()
        assert bus.send_later("a", "b", "/", at=at) == 1
        seconds = at.timestamp() if isinstance(at, datetime) else at
        assert take(sub).time / 1e9 >= seconds - 0.001


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"delay": 1.0, "at": 1.0},
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"delay": 400 * DAY},
        {"delay": 10**400},
        {"delay": True},
        {"delay": "1"},
        {"at": math.nan},
        {"at": math.inf},
        {"at": 10**400},
        {"at": 4e9 * DAY},
        {"at": True},
        {"at": "tomorrow"},
        {"at": datetime.max},
        {"at": datetime.max.replace(tzinfo=timezone.utc)},
        {"at": timedelta(1)},
    ],
)
def test_no_time_that_can_be(bus: Bus, when: dict[str, Any]) -> None:
    """One of delay= and at=, which must be one that comes within a year; else nothing is put down."""
    with pytest.raises(InvalidError, match=r"^say when|^delay must|^at "):
        bus.send_later("a", "b", "/", **when)
    assert bus.stats().scheduled == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("a..b", "c", "/"), InvalidError),
        (("a", "", "/"), InvalidError),
        (("a", "b", ""), InvalidError),
        (("a", "b", "/", object()), InvalidError),
        (("a", "b", "/", b"x" * 8192), InvalidError),
        (("secret", "b", "/"), PolicyDeniedError),
    ],
)
def test_what_cannot_be_sent(name: str, arguments: tuple[Any, ...], error: type[Exception]) -> None:
    """It is refused at once, as by send: by its names, its data, its size, or the policy."""
    with eventbus.open(name, capacity=64 * 1024, policy=lambda _, action, system: system != "secret") as bus:
        with pytest.raises(error):
            bus.send_later(*arguments, delay=DAY)
        with pytest.raises(InvalidError, match="the header"):
            bus.send_later("a", "b", "/", delay=DAY, headers={"a": 1})  # type: ignore[dict-item]
        assert bus.stats().scheduled == ()


def test_who_may_only_subscribe(bus: Bus) -> None:
    """Neither puts down nor cancels, but lists."""
    number = bus.send_later("a", "b", "/", delay=DAY)
    with eventbus.open(bus.name, role="subscriber") as reader:
        assert numbers(reader) == [number]
        with pytest.raises(InvalidError, match="role='subscriber'"):
            reader.send_later("a", "b", "/", delay=1)
        with pytest.raises(InvalidError, match="role='subscriber'"):
            reader.cancel(number)


# --- cancel ---


def test_cancelled(bus: Bus) -> None:
    """What was cancelled never comes; a number that is none, or is over, is no error."""
    with bus.subscribe("a") as sub:
        first, second = (bus.send_later("a", "b", "/", n, delay=delay) for n, delay in enumerate((DAY, SOON)))
        assert (bus.cancel(first), bus.cancel(first)) == (True, False)
        assert take(sub).data == 1
        assert [bus.cancel(number) for number in (second, 0, -1, 3, 1 << 63, 1 << 100)] == [False] * 6
        assert sub.receive(2 * SOON) is None
    for number in ("1", None, 1.0, True):
        with pytest.raises(InvalidError, match="send_later"):
            bus.cancel(number)  # type: ignore[arg-type]


def cancel_all(line: Line, name: str, first: int, count: int, seed: int) -> list[int]:
    """Cancels them in a random order; those that it was in time for."""
    order = [*range(first, first + count)]
    random.Random(seed).shuffle(order)
    with eventbus.open(name) as bus:
        line.say("ready")
        line.hear()
        return [number for number in order if bus.cancel(number)]


def test_cancelled_or_sent(fork: Fork, name: str) -> None:
    """While two processes cancel what two others send, each event is either sent or cancelled, once."""
    count = 400
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("a") as sub:
        numbers = [bus.send_later("a", "b", "/", n, delay=0.2 + n * 1e-4) for n in range(count)]
        assert numbers == [*range(1, count + 1)]
        cancelling = [fork(cancel_all, name, 1, count, seed) for seed in range(2)]
        for child in cancelling:
            assert child.hear() == "ready"
        heard = [take(sub).data]
        for child in cancelling:
            child.say("go")
        while bus.stats().scheduled:
            heard += [event.data for event in sub.receive_many(count, SOON)]
        cancelled = [number - 1 for child in cancelling for number in child.result()]
        heard += [event.data for event in sub.receive_many(count, 0)]
    assert sorted(heard + cancelled) == [*range(count)]
    assert heard == sorted(heard)


# --- how much ---


@pytest.mark.parametrize("size", [1, 1000])
def test_no_room_for_more(bus: Bus, size: int) -> None:
    """Half of the parking, and a number of entries: then an error says how many there are; one less, and one more."""
    there: list[int] = []

    def until_there_is_none() -> None:
        while True:
            there.append(bus.send_later("a", "b", "/", b"x" * size, delay=DAY))

    with pytest.raises(FullError, match="events scheduled") as caught:
        until_there_is_none()
    assert caught.value.retryable
    assert caught.value.details["scheduled"] == len(there) == len(bus.stats().scheduled)
    assert caught.value.details["bytes"] == sum(one.bytes for one in bus.stats().scheduled)
    assert bus.cancel(there[len(there) // 2])
    bus.send_later("a", "b", "/", b"x" * size, delay=DAY)
    with pytest.raises(FullError):
        bus.send_later("a", "b", "/", b"x" * size, delay=DAY)


def test_beside_what_members_have_in_hand(bus: Bus) -> None:
    """Where both together are more than the parking holds, the error says so; with both gone there is room."""
    with manual(bus) as member:
        there = [bus.send_later("a", "b", "/", b"x" * 1000, delay=DAY) for _ in range(7)]
        bus.send_many([("jobs", "job", "/", b"x" * 1000)] * 12)
        held = has(member, 12)
        error, _ = fill(bus)
        assert "bytes to be sent later, and there is room for a quarter of the ring" in str(error)
        assert error.details["scheduled"] == sum(one.bytes for one in bus.stats().scheduled)
        assert all(map(bus.cancel, there))
        for event in held:
            member.ack(event)
        bus.send("jobs", "job", "/", timeout=DEADLINE)


def test_the_largest(bus: Bus) -> None:
    """An event of just the limit comes whole; one byte more is an error with both."""
    with pytest.raises(InvalidError, match="sent later") as caught:
        bus.send_later("a", "b", "/", b"x" * 16000, delay=0)
    limit = caught.value.details["limit"]
    most = limit - 32 - 1
    with bus.subscribe("a") as sub:
        bus.send_later("a", "b", "/", b"x" * most, delay=0)
        assert take(sub).data == b"x" * most
        with pytest.raises(InvalidError, match=str(limit)):
            bus.send_later("a", "b", "/", b"x" * (most + 1), delay=0)


def test_topics_past_the_table(bus: Bus) -> None:
    """An event whose topic found the table full carries its names, and is listed by them."""
    for number in range(lib.EB_TOPICS):
        bus.send("filler", f"kind{number}", "/")
    bus.send_later("late.one", "inline", "/path", {"n": 1}, delay=DAY)
    bus.send_later("late.two", "inline", "/raw", b"raw", delay=SOON)
    assert [(one.system, one.kind, one.path) for one in bus.stats().scheduled] == [
        ("late.two", "inline", "/raw"),
        ("late.one", "inline", "/path"),
    ]
    with bus.subscribe("late.*") as sub:
        assert take(sub).data == b"raw"


# --- listed ---


def test_listed(name: str) -> None:
    """The next one first, with number, names, path, seconds until it is due, and bytes."""
    with eventbus.open(name, capacity=1 << 20) as bus:
        put_down_and_list(bus)


def put_down_and_list(bus: Bus) -> None:
    """Three, of which one has the longest path that there is."""
    path = '/"quoted"\\\n' + "é" * 100
    late = bus.send_later("a", "b", path, {"n": 1}, delay=2 * DAY)
    soon = bus.send_later("c", "d", "/raw", b"xyz", delay=DAY)
    escaped = bus.send_later("e", "f", "\x01" * 4096, None, delay=3 * DAY)
    first, second, third = bus.stats().scheduled
    assert (first.number, first.system, first.kind, first.path, first.bytes) == (soon, "c", "d", "/raw", 40)
    assert (second.number, second.path) == (late, path)
    assert (third.number, third.path) == (escaped, "\x01" * 4096)
    assert DAY - 60 < first.due <= DAY
    assert 2 * DAY - 60 < second.due <= 2 * DAY
