"""Views of members of groups, in the ring: held by the member until its event is done, whoever else takes or dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import Bus, FullError, Subscription
from harness import DEADLINE, Fork, Line, take, until
from viewing import CAPACITY, LARGE, is_released, look, payload, put, seen


@pytest.fixture
def roomy(name: str) -> Iterator[Bus]:
    with eventbus.open(name, capacity=CAPACITY, send_timeout=DEADLINE) as opened:
        yield opened


def viewed(bus: Bus, member: Subscription) -> int:
    """How many bytes of the ring it looks at."""
    return next(one.viewed for one in bus.stats().subscribers if one.name == member.name)


def fill(bus: Bus, other: Subscription | None = None) -> None:
    """More than there is room for, which another member takes."""
    for number in range(40):
        bus.send("a", "raw", "/x", payload(number), timeout=0)
        if other is not None:
            take(other)


def go_round(bus: Bus, other: Subscription, events: int = 40) -> None:
    """More than a ring of events, which another member takes."""
    for number in range(events):
        put(bus, 1000 + number)
        assert bytes(take(other).data) == payload(1000 + number)


def test_it_lies_in_the_ring(roomy: Bus) -> None:
    """Each in hand is held where it is, and let go of with its event."""
    with roomy.subscribe("a", group="g", prefetch=3, name="one", view=True) as sub:
        put(roomy, *range(5))
        for number in range(5):
            assert look(sub) == payload(number)
            left = 3 - number % 3 if number < 3 else 5 - number
            assert LARGE * left < viewed(roomy, sub) < (LARGE + 99) * left
        sub.ack()
        assert viewed(roomy, sub) == 0


def test_publishers_wait_for_it_and_say_so(roomy: Bus) -> None:
    """A job that takes long holds the ring with what it looks at, and what others send waits for that."""
    with (
        roomy.subscribe("a", group="g", name="one", view=True) as sub,
        roomy.subscribe("a", group="g", name="two") as other,
    ):
        put(roomy, 1)
        view = look(sub)
        with pytest.raises(FullError, match="let it finish the events that it has in hand") as caught:
            fill(roomy, other)
        assert caught.value.details["name"] == "one"
        assert LARGE < caught.value.details["viewed"] < LARGE + 99
        assert view == payload(1)
        sub.ack()
        assert is_released(view)
        fill(roomy, other)


def test_others_go_on_once_it_is_done(roomy: Bus) -> None:
    """In any order, with more than a ring in between; what an array was made of stays what it was."""
    with (
        roomy.subscribe("a", group="g", prefetch=4, ack="manual", name="one", view=True) as sub,
        roomy.subscribe("a", group="g", name="two", view=True) as other,
    ):
        put(roomy, *range(4))
        events = [take(sub) for _ in range(4)]
        parts = [seen(event)[7:] for event in events]
        for number in (2, 0, 3):
            sub.ack(events[number])
        assert LARGE < viewed(roomy, sub) < 3 * (LARGE + 99)
        sub.reject(events[1])
        assert viewed(roomy, sub) == 0
        again = take(other)
        assert (bytes(seen(again)), again.deliveries) == (payload(1), 2)
        go_round(roomy, other)
        assert [bytes(part) for part in parts] == [payload(number)[7:] for number in range(4)]


def test_kept_while_it_waits_for_more(roomy: Bus) -> None:
    """Who sleeps holds nobody up: what it keeps is a copy by then."""
    with (
        roomy.subscribe("a", group="g", name="one", view=True) as sub,
        roomy.subscribe("a", group="g", name="two") as other,
    ):
        put(roomy, 1)
        part = look(sub)[:]
        assert sub.receive(0.01) is None
        assert viewed(roomy, sub) == 0
        for number in range(40):
            put(roomy, number)
            took = take(other) if number % 2 else (other.receive(0) or take(sub))
            assert bytes(took.data) == payload(number)
        assert part == payload(1)


def test_as_its_group_is_removed(roomy: Bus) -> None:
    """What it looks at is good until it is told, and an array of it after that."""
    with roomy.subscribe("a", group="g", name="one", view=True) as sub:
        put(roomy, 1)
        view = look(sub)
        part = view[3:]
        roomy.remove_group("g")
        with pytest.raises(FullError):
            fill(roomy)
        assert view == payload(1)
        assert sub.receive(0) is None
        assert is_released(view)
        put(roomy, *range(40))
        assert part == payload(1)[3:]


def test_results_find_room_beside_what_is_looked_at(roomy: Bus, fork: Fork) -> None:
    """Others have filled the ring up to what a member looks at; what it sends of it goes nevertheless."""
    with roomy.subscribe("a", group="g", name="one", view=True) as sub:
        put(roomy, 1)
        view = look(sub)

        def fill_all(line: Line) -> None:
            with eventbus.open(roomy.name) as mine:
                sent = 0
                try:
                    while sent < 1000:
                        mine.send("a", "raw", "/x", b"x" * 2000, timeout=0)
                        sent += 1
                except FullError:
                    line.say(sent)

        assert 0 < fork(fill_all).hear() < 1000
        roomy.send("result", "of", "/1", [view[0]], timeout=0)
        assert view == payload(1)


def test_one_that_is_killed_holds_nobody_up(roomy: Bus, fork: Fork) -> None:
    """Its event comes to another member, from where it lies; then the ring goes round."""

    def hold(line: Line) -> None:
        with eventbus.open(roomy.name) as mine, mine.subscribe("a", group="g", name="one", view=True) as sub:
            line.say("there")
            assert look(sub) == payload(1)
            line.say("looks")
            signal.pause()

    holder = fork(hold)
    assert holder.hear() == "there"
    put(roomy, 1)
    assert holder.hear() == "looks"
    with roomy.subscribe("a", group="g", name="two", view=True) as other:
        os.kill(holder.pid, signal.SIGKILL)
        event = take(other)
        assert (bytes(seen(event)), event.deliveries) == (payload(1), 2)
        go_round(roomy, other)
        until(lambda: all(one.name != "one" for one in roomy.stats().subscribers), "the dead to be gone")
