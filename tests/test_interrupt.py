"""Signal handlers that raise in the middle of a receive: what C had read by then is not lost."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, SegmentError, Subscription
from eventbus.core.native import lib
from eventbus.core.reader import SubscriptionHandle
from harness import DEADLINE, Fork, Line, arm, take

EVENTS = 5

Way = Callable[[Subscription], list[Event]]


class Boom(Exception):
    """What the handler raises."""


@pytest.fixture(autouse=True)
def raising() -> Iterator[None]:
    """SIGUSR1 raises Boom as soon as Python looks, which is when C returns."""

    def raise_boom(*_: object) -> None:
        raise Boom

    before = signal.signal(signal.SIGUSR1, raise_boom)
    yield
    signal.signal(signal.SIGUSR1, before)


def one_by_one(sub: Subscription) -> list[Event]:
    """By ``receive``."""
    return [take(sub) for _ in range(EVENTS)]


def together(sub: Subscription) -> list[Event]:
    """By ``receive_many``."""
    return sub.receive_many(EVENTS, DEADLINE)


def in_a_loop(sub: Subscription) -> list[Event]:
    """By iteration."""
    return [event for _, event in zip(range(EVENTS), sub, strict=False)]


def send_all(bus: Bus) -> list[int]:
    """Sends the events; their data."""
    for number in range(EVENTS):
        bus.send("jobs", "job", "/", number)
    return list(range(EVENTS))


@pytest.mark.parametrize("overflow", ["block", "drop"])
@pytest.mark.parametrize("way", [one_by_one, together, in_a_loop])
def test_a_batch_that_was_read_is_not_lost(bus: Bus, way: Way, overflow: str) -> None:
    """Interrupted after C has moved the cursor, a subscription goes on with the event that it would have got."""
    sub = bus.subscribe("jobs", overflow=overflow)  # type: ignore[arg-type]
    sent = send_all(bus)
    arm("receive_copied", signal.SIGUSR1)
    with pytest.raises(Boom):
        way(sub)
    assert [event.data for event in way(sub)] == sent
    assert sub.receive(0) is None


@pytest.mark.parametrize("way", [one_by_one, in_a_loop])
def test_a_claim_that_was_read_is_not_lost(bus: Bus, way: Way) -> None:
    """Interrupted after C has claimed, a member goes on with its claim, and nothing of it counts as done."""
    sub = bus.subscribe("jobs", group="workers", prefetch=EVENTS)
    sent = send_all(bus)
    arm("claim_cursor", signal.SIGUSR1)
    with pytest.raises(Boom):
        way(sub)
    heard = way(sub)
    assert [event.data for event in heard] == sent
    assert {event.deliveries for event in heard} == {1}


def test_an_interrupted_member_gives_its_claim_back(bus: Bus) -> None:
    """Left by the exception, a member has handled nothing: another one gets all of it, as never delivered."""
    sub = bus.subscribe("jobs", group="workers", prefetch=EVENTS)
    sent = send_all(bus)
    arm("claim_cursor", signal.SIGUSR1)
    with pytest.raises(Boom), sub:
        sub.receive(DEADLINE)
    other = bus.subscribe("jobs", group="workers")
    assert [(event.data, event.deliveries) for event in one_by_one(other)] == [(number, 1) for number in sent]


def test_an_exhausted_event_is_buried_once(bus: Bus) -> None:
    """Interrupted before it has sent the dead letter, a member sends it when it is asked again."""
    dead = bus.subscribe("eventbus.dead")
    bus.group("workers", "jobs", max_deliveries=1)
    sub = bus.subscribe("jobs", group="workers")
    bus.send("jobs", "job", "/", "poison")
    take(sub)
    sub.reject()
    arm("claim_counted", signal.SIGUSR1)
    with pytest.raises(Boom):
        sub.receive(0)
    assert sub.receive(0) is None
    assert take(dead).data["data"] == "poison"
    assert dead.receive(0) is None


@pytest.mark.parametrize("point", ["claim_finished"])
def test_an_interrupted_acknowledgement_counts_once(bus: Bus, point: str) -> None:
    """Interrupted while it acknowledges an event, a member goes on with the next one, which is not done yet."""
    sub = bus.subscribe("jobs", group="workers", prefetch=EVENTS)
    first, second, *rest = send_all(bus)
    assert take(sub).data == first
    arm(point, signal.SIGUSR1)
    with pytest.raises(Boom):
        sub.receive(DEADLINE)
    assert take(sub).data == second
    sub.reject()
    other = bus.subscribe("jobs", group="workers")
    again = [take(other) for _ in (second, *rest)]
    assert [event.data for event in again] == [second, *rest]
    assert [event.deliveries for event in again] == [2, *[1] * len(rest)]


def storm(enough: Callable[[], object], seconds: float = 0.5) -> Iterator[None]:
    """So long, and until it is enough, SIGALRM comes every few moments, and raises Boom wherever eventbus is at work in
    Python; a step each."""

    def raise_boom(_: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_globals["__name__"].startswith("eventbus."):
            raise Boom

    before = signal.signal(signal.SIGALRM, raise_boom)
    end = time.monotonic() + seconds
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.00013)
    try:
        while time.monotonic() < end or not enough():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Step = Callable[[Subscription], list[Event]]


def one(sub: Subscription) -> list[Event]:
    """The next event, by ``receive``; nothing is called after it, so nothing can be interrupted."""
    event = sub.receive(0)
    return [event] if event else []


def some(sub: Subscription) -> list[Event]:
    """The next two, by ``receive_many``."""
    return sub.receive_many(2, 0)


def looped(sub: Subscription) -> list[Event]:
    """The next one, by iteration."""
    for event in sub:
        return [event]
    return []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 looks for signals between any two steps")
@pytest.mark.parametrize("step", [one, some, looped])
@pytest.mark.parametrize("group", [None, "workers"])
@pytest.mark.parametrize("data", [{"text": 1}, b"raw"], ids=["text", "raw"])
def test_a_storm_of_signals_loses_no_event(bus: Bus, group: str | None, step: Step, data: object) -> None:
    """However often it is interrupted, whoever receives gets each event, once and in order."""
    sub = bus.subscribe("jobs", group=group, prefetch=EVENTS)
    got: list[int] = []
    interrupted = 0
    for _ in storm(lambda: interrupted):  # noqa: B023  as it is by then
        with contextlib.suppress(Boom):
            bus.send("jobs", "job", "/", data)
        try:
            got += [event.sequence for event in step(sub)]
        except Boom:
            interrupted += 1
    while events := sub.receive_many(EVENTS, 0):
        got += [event.sequence for event in events]
    assert got == list(range(1, bus.stats().sent + 1))
    assert interrupted > 0


@pytest.mark.parametrize("group", [None, "workers"])
def test_a_storm_of_signals_leaves_no_lock_taken(bus: Bus, group: str | None) -> None:
    """However often it is interrupted, a subscription can be closed by another thread."""
    sub = bus.subscribe("jobs", group=group)
    interrupted = 0
    for _ in storm(lambda: interrupted):  # noqa: B023  as it is by then
        try:
            sub.receive(0)
        except Boom:
            interrupted += 1
    assert interrupted > 0
    closing = threading.Thread(target=sub.close, daemon=True)
    closing.start()
    closing.join(DEADLINE)
    assert not closing.is_alive()


@pytest.mark.parametrize("error", [InvalidError, ValueError, KeyError])
def test_what_a_handler_raises_is_not_taken_for_damage(bus: Bus, fork: Fork, error: type[Exception]) -> None:
    """Where Python has a part in unpacking, as of requests, a handler may raise there what damage raises elsewhere."""

    def handler(*_: object) -> None:
        raise error("of the handler")

    sub = bus.subscribe("jobs")
    asker = fork(ask, bus.name)
    request = take(sub)
    request.reply(1)
    asker.result()
    sent = send_all(bus)
    signal.signal(signal.SIGUSR1, handler)
    arm("receive_copied", signal.SIGUSR1)
    with pytest.raises(error, match="of the handler"):
        sub.receive(0)
    assert [event.data for event in sub.receive_many(EVENTS, 0)] == sent


def ask(_: Line, name: str) -> None:
    """A request, which must be answered."""
    with eventbus.open(name) as bus:
        bus.request("jobs", "job", "/", 0)


def test_an_interruption_is_not_lost_beside_damage(bus: Bus) -> None:
    """What the handler raises comes first, the damage with the next call."""
    sub = bus.subscribe("jobs")
    bus.send("jobs", "job", "/", 0)
    take(sub)
    assert lib.eb_send(bus._routes["jobs"]["job"], b'["/",1,]') == 0
    arm("receive_copied", signal.SIGUSR1)
    with pytest.raises(Boom):
        sub.receive(0)
    with pytest.raises(SegmentError, match="the event 2 "):
        sub.receive(0)
    assert sub.receive(0) is None


def test_a_topic_that_was_decided_has_its_names(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted right after C was told that a topic past the table is heard, it is heard all the same."""
    sub = bus.subscribe("**")
    for number in range(lib.EB_TOPICS + 1):
        bus.send(f"s{number}", "k", "/")
        take(sub)
    bus.send("past", "k", "/", "data")
    decide = SubscriptionHandle.decide

    def decide_and_raise(*arguments: Any) -> None:
        decide(*arguments)
        raise Boom

    with monkeypatch.context() as patched:
        patched.setattr(SubscriptionHandle, "decide", decide_and_raise)
        with pytest.raises(Boom):
            sub.receive(0)
    event = sub.receive(0)
    assert event is not None
    assert event[:4] == ("past", "k", "/", "data")


class Full(dict[int, tuple[str, ...]]):
    """Has no memory for its first entry."""

    refused = False

    def __setitem__(self, number: int, names: tuple[str, ...]) -> None:
        """Refuses once."""
        if not self.refused:
            self.refused = True
            raise MemoryError
        super().__setitem__(number, names)


def test_a_topic_whose_names_found_no_memory_is_asked_about_again(bus: Bus) -> None:
    """C is not told that it is heard before there are names to hear it by."""
    sub = bus.subscribe("jobs")
    sub._names = Full()
    sent = send_all(bus)
    with pytest.raises(MemoryError):
        sub.receive(0)
    assert [event.data for event in sub.receive_many(EVENTS, 0)] == sent
