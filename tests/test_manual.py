"""Members that finish each event by themselves: in any order, later, from any thread, and what deaths leave of that."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time

import pytest

import eventbus
from eventbus import Bus, ClosedError, Event, InvalidError
from harness import DEADLINE, Fork, Line, patiently, take
from jobs import again, has, holders, join, manual, numbers, send

# --- in any order ---


@pytest.mark.parametrize("order", [list(range(10)), list(range(9, -1, -1)), [5, 1, 9, 0, 3, 2, 8, 7, 4, 6]])
def test_in_any_order(bus: Bus, order: list[int]) -> None:
    """Asking for more acknowledges nothing; what is acknowledged, in whatever order, does not come again."""
    member = manual(bus)
    send(bus, 10)
    events = has(member, 10)
    assert [event.data for event in events] == list(range(10))
    assert member.receive(0) is None
    for left, number in enumerate(order[:7], 1):
        member.ack(events[number])
        assert holders(bus) == [(10 - left, 1)]
    member.close()
    successor = join(bus)
    assert sorted(numbers(successor)) == sorted(order[7:])
    assert bus.stats().groups[0].redelivered == 3


def test_no_more_in_hand_than_asked_for(bus: Bus) -> None:
    """With ``prefetch`` in hand ``receive`` waits; each that is finished makes room for one."""
    member = manual(bus, 3)
    send(bus, 6)
    first, second, third = has(member, 3)
    assert member.receive(0) is None
    assert member.receive(0.01) is None
    member.ack(second)
    assert take(member).data == 3
    assert member.receive(0) is None
    member.reject(third)
    member.ack(first)
    assert [again(event) for event in has(member, 2)] == [(2, 2), (4, 1)]


def test_whoever_waits_with_full_hands_is_woken(bus: Bus) -> None:
    """A thread that receives waits for another one to finish an event, and for no clock."""
    member = manual(bus, 1)
    send(bus, 2)
    (event,) = has(member, 1)
    got: list[Event | None] = []
    thread = threading.Thread(target=lambda: got.append(member.receive(DEADLINE)))
    thread.start()
    member.ack(event)
    thread.join()
    assert [again(event) for event in got] == [(1, 1)]


def test_acknowledged_beside_a_waiting_receiver(bus: Bus) -> None:
    """Another thread finishes events while one waits for the next; what it waits for comes."""
    member = manual(bus)
    send(bus, 2)
    one, two = has(member, 2)
    got: list[Event | None] = []
    thread = threading.Thread(target=lambda: got.append(member.receive(DEADLINE)))
    thread.start()
    member.ack(one)
    member.ack(two)
    assert holders(bus) == []
    send(bus, 1, 2)
    thread.join()
    assert [again(event) for event in got] == [(2, 1)]


def test_several_threads_finish(bus: Bus) -> None:
    """Eight threads acknowledge what one receives: each event once."""
    member, lock = manual(bus, 64), threading.Lock()
    waiting: list[Event] = []
    done: list[int] = []
    over = threading.Event()

    def finish() -> None:
        while not over.is_set() or waiting:
            with lock:
                event = waiting.pop(random.randrange(len(waiting))) if waiting else None
            if event is None:
                time.sleep(0.0005)
                continue
            member.ack(event)
            done.append(event.data)

    threads = [threading.Thread(target=finish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for first in range(0, 3000, 300):
        send(bus, 300, first)
        for _ in range(300):
            event = take(member)
            with lock:
                waiting.append(event)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(3000))
    assert holders(bus) == []
    assert bus.stats().groups[0].redelivered == 0


def test_a_batch_at_once(bus: Bus) -> None:
    """``receive_many`` hands out what was taken at once, each to be finished by itself."""
    member = manual(bus, 8)
    send(bus, 12)
    first = member.receive_many(5, 0)
    second = member.receive_many(5, 0)
    assert [event.data for event in (*first, *second)] == list(range(8))
    assert member.receive_many(5, 0) == []
    member.ack(second[0])
    member.ack(first[4])
    assert [event.data for event in member.receive_many(5, 0)] == [8, 9]


def test_automatic_members_may_name_an_event(bus: Bus) -> None:
    """Of several in hand one is finished or given back by itself; the others go when the next is asked for."""
    member = join(bus, 4)
    send(bus, 5)
    events = member.receive_many(4, 0)
    member.reject(events[1])
    member.ack(events[3])
    assert again(member.receive(0)) == (1, 2)
    assert again(member.receive(0)) == (4, 1)
    assert member.receive(0) is None
    assert bus.stats().groups[0].redelivered == 1


# --- what is not in hand ---


def test_what_is_not_in_hand(bus: Bus) -> None:
    """An event that is done, or another's, is an error that names it, and changes nothing."""
    one, two = manual(bus), manual(bus)
    send(bus, 2)
    mine, its = take(one), take(one)
    one.ack(mine)
    for sub, event in ((one, mine), (two, its)):
        for refuse in (sub.ack, sub.reject):
            with pytest.raises(InvalidError, match=f"event {event.sequence} is not in hand"):
                refuse(event)
    assert holders(bus) == [(1, 1)]
    with pytest.raises(InvalidError, match="say which event is done"):
        one.ack()
    one.close()
    with pytest.raises(ClosedError, match="given back"):
        one.ack(its)
    assert again(two.receive(0)) == (1, 2)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, 10**400, "1", None, True])
def test_no_such_delay(bus: Bus, delay: object) -> None:
    """A delay is seconds from 0 to a year."""
    member = manual(bus)
    send(bus, 1)
    event = take(member)
    with pytest.raises(InvalidError, match="delay must be seconds"):
        member.reject(event, delay=delay)  # type: ignore[arg-type]
    assert holders(bus) == [(1, 1)]


def test_only_members_finish(bus: Bus) -> None:
    """``ack`` has two values, "manual" is for members."""
    with pytest.raises(InvalidError, match="ack must be"):
        bus.subscribe("a", ack="manual")
    with pytest.raises(InvalidError, match="ack must be"):
        bus.subscribe("a", group="g", ack="never")  # type: ignore[arg-type]
    assert bus.stats().groups == ()
    for refuse in (bus.subscribe("a").ack, bus.subscribe("a").reject):
        with pytest.raises(InvalidError, match="not a member"):
            refuse()


# --- later ---


# An attempt was in time if nothing was due before it should be: of what is due, the oldest comes first.


def test_a_delay(bus: Bus) -> None:
    """What is given back for later comes again then, counted, though nothing is sent; others come meanwhile."""
    member = manual(bus)

    def attempt(delay: float) -> bool:
        send(bus, 2)
        late, begun = take(member), time.monotonic()
        member.reject(late, delay=delay)
        other, nothing = take(member), member.receive(0)
        in_time = time.monotonic() < begun + delay
        last = nothing or take(member)
        if in_time:
            assert (again(other), nothing, again(last)) == ((1, 1), None, (0, 2))
            assert time.monotonic() - begun >= delay
        member.ack(other)
        member.ack(last)
        return in_time

    patiently(attempt, 0.1)


def test_delays_come_in_their_order(bus: Bus) -> None:
    """The one that is due first comes first, whatever its sequence."""
    member = manual(bus)

    def attempt(delay: float) -> bool:
        send(bus, 3)
        begun = time.monotonic()
        for event, times in zip(has(member, 3), (3, 1, 2), strict=True):
            member.reject(event, delay=times * delay)
        came = has(member, 2)
        in_time = time.monotonic() < begun + 3 * delay
        came += has(member, 1)
        if in_time:
            assert [again(event) for event in came] == [(1, 2), (2, 2), (0, 2)]
        for event in came:
            member.ack(event)
        return in_time

    patiently(attempt, 0.1)


def give_back_and_die(line: Line, name: str, delay: float) -> None:
    """Gives one event back for later, and waits for its end."""
    with eventbus.open(name) as bus:
        member = manual(bus)
        late, held = take(member), take(member)
        line.say((late.data, held.data, time.monotonic()))
        member.reject(late, delay=delay)
        line.say("given back")
        line.hear()


def test_a_delay_survives_a_death(fork: Fork, name: str) -> None:
    """What the dead had in hand comes at once; what it gave back for later not before that."""
    with eventbus.open(name) as bus:
        bus.group("g", "jobs.**")

        def attempt(delay: float) -> bool:
            send(bus, 2)
            dying = fork(give_back_and_die, name, delay)
            late, held, begun = dying.hear()
            assert dying.hear() == "given back"
            dying.kill()
            with manual(bus) as member:
                came = has(member, 1)
                in_time: bool = time.monotonic() < begun + delay
                came += has(member, 1)
                if in_time:
                    assert [again(event) for event in came] == [(held, 2), (late, 2)]
                    assert time.monotonic() - begun >= delay
                for event in came:
                    member.ack(event)
            return in_time

        patiently(attempt, 0.1)


def test_a_delay_without_members(bus: Bus) -> None:
    """It waits for a member that joins later; a new one finds it when it is due."""
    member = manual(bus)
    send(bus, 1)
    begun = time.monotonic()
    member.reject(take(member), delay=0.2)
    member.close()
    assert again(join(bus).receive(DEADLINE)) == (0, 2)
    assert time.monotonic() - begun >= 0.2


def test_all_that_is_in_hand_for_later(bus: Bus) -> None:
    """Without an event ``reject`` gives all of it back; what was only fetched comes at once, uncounted."""
    member = join(bus, 4)

    def attempt(delay: float) -> bool:
        send(bus, 4)
        member.receive_many(2, 0)
        begun = time.monotonic()
        member.reject(delay=delay)
        came = has(member, 2)
        in_time = time.monotonic() < begun + delay
        came += has(member, 2)
        if in_time:
            assert [again(event) for event in came] == [(2, 1), (3, 1), (0, 2), (1, 2)]
        member.ack()
        return in_time

    patiently(attempt, 0.1)


# --- too often, unreadable, the end ---


def test_exhausted_among_others(bus: Bus) -> None:
    """One that was delivered too often becomes a dead letter; what else is in hand stays there."""
    bus.group("g", "jobs.**", max_deliveries=2)
    dead = bus.subscribe("eventbus.dead")
    member = manual(bus)
    send(bus, 3)
    bad, good, other = has(member, 3)
    member.reject(bad)
    bad = take(member)
    assert again(bad) == (0, 2)
    member.reject(bad)
    assert member.receive(0) is None
    letter = take(dead)
    assert (letter.data["data"], letter.data["deliveries"]) == (0, 2)
    member.ack(good)
    member.ack(other)
    assert holders(bus) == []
    assert bus.stats().groups[0].dead == 1


def test_the_end_of_the_bus(bus: Bus) -> None:
    """After a shutdown a member with events in hand sees the end, and may still finish them."""
    member, other = manual(bus, 1), manual(bus, 2)
    send(bus, 2)
    one, two = take(member), take(other)
    bus.shutdown()
    assert member.receive() is None
    assert other.receive() is None
    assert member.closed
    member.ack(one)
    other.ack(two)
    assert holders(bus) == []


def test_a_block_that_fails(bus: Bus) -> None:
    """Left by an exception, and left normally: what was not acknowledged is given back."""
    send(bus, 0)
    bus.group("g", "jobs.**")
    send(bus, 3)
    with contextlib.suppress(ZeroDivisionError), manual(bus) as member:
        member.ack(take(member))
        take(member)
        raise ZeroDivisionError
    with manual(bus) as member:
        assert [again(event) for event in has(member, 2)] == [(1, 2), (2, 1)]
    assert [again(event) for event in has(join(bus), 2)] == [(1, 3), (2, 2)]
