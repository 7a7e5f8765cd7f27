"""Groups among living processes: each event to one member, in order, acknowledged, given back, counted, told."""

from __future__ import annotations

import os

import pytest

import eventbus
from eventbus import Bus, Subscription
from harness import DEADLINE, Fork, Line
from jobs import bury_without_room, fill, has, holders, join, numbers, send

JOBS = 40_000
MEMBERS = 4


# --- one event, one member ---


def work_until_end(line: Line, name: str, prefetch: int) -> list[int]:
    """A member until the bus is shut down: what it got."""
    with eventbus.open(name) as bus, join(bus, prefetch) as member:
        line.say("joined")
        line.hear()
        first = member.receive(DEADLINE)
        assert first is not None
        line.say("has one")
        line.hear()
        return [first.data, *(event.data for event in member)]


@pytest.mark.parametrize("prefetch", [1, 16])
def test_every_job_once_and_every_member_works(fork: Fork, name: str, prefetch: int) -> None:
    """40,000 jobs over four members: each exactly once, in each member in order, and every member has worked."""
    with eventbus.open(name, capacity=1 << 20, send_timeout=DEADLINE) as bus:
        bus.group("g", "jobs.**")
        members = [fork(work_until_end, name, prefetch) for _ in range(MEMBERS)]
        send(bus, MEMBERS * prefetch)
        for step in ("joined", "has one"):
            for member in members:
                assert member.hear() == step
            for member in members:
                member.say("go on")
        for first in range(MEMBERS * prefetch, JOBS, 500):
            send(bus, min(500, JOBS - first), first)
        bus.shutdown()
        worked = [member.result() for member in members]
        assert sorted(number for one in worked for number in one) == list(range(JOBS))
        assert all(one == sorted(one) and len(one) >= prefetch for one in worked)
        (group,) = bus.stats().groups
        assert (group.redelivered, group.dead, group.backlog, group.members) == (0, 0, 0, ())


def test_several_groups_and_plain_subscribers(bus: Bus) -> None:
    """Each group gets every event once, and so does each plain subscriber beside them."""
    plain = bus.subscribe("**")
    first = [join(bus) for _ in range(2)]
    other = bus.subscribe("jobs", group="other")
    send(bus, 10)
    assert [one.receive(0).data for one in first * 5] == list(range(10))  # type: ignore[union-attr]
    assert numbers(other) == numbers(plain) == list(range(10))


def test_order_within_a_group_is_the_order_of_claims(bus: Bus) -> None:
    """Whoever asks first has the earlier event, whatever was prefetched by whom."""
    one, two = join(bus, prefetch=3), join(bus, prefetch=2)
    send(bus, 7)
    asked = [two, one, two, one, one, two, two]
    assert [member.receive(0).data for member in asked] == [0, 2, 1, 3, 4, 5, 6]  # type: ignore[union-attr]


def test_a_group_made_before_its_members_misses_nothing(bus: Bus) -> None:
    """What is sent between ``bus.group`` and the first member waits for it; "oldest" and a sequence reach back."""
    send(bus, 3)
    bus.group("g", "jobs.**")
    bus.group("g", "jobs.**")
    bus.group("old", "jobs.**", start="oldest")
    bus.group("from two", "jobs.**", start=2)
    send(bus, 2, 3)
    assert numbers(join(bus)) == [3, 4]
    assert numbers(bus.subscribe("jobs.**", group="old", prefetch=9)) == [0, 1, 2, 3, 4]
    assert numbers(bus.subscribe("jobs.**", group="from two")) == [1, 2, 3, 4]


def test_what_the_group_does_not_hear_is_skipped(bus: Bus) -> None:
    """Events of other systems and kinds among those heard are never handed out, and hold nobody up."""
    member = bus.subscribe("jobs.**", "job.*", group="g", prefetch=4)
    for number in range(2000):  # several rings full
        bus.send("other", "job.new", "/", -1, timeout=0)
        bus.send("jobs.eu", "note", "/", -1, timeout=0)
        if number % 10 == 0:
            bus.send("jobs.eu", "job.new", "/", number, timeout=0)
            assert numbers(member) == [number]


def test_raw_data_and_large_events(bus: Bus) -> None:
    """Raw data and events larger than what was met before arrive as they were sent, with any prefetch."""
    member = join(bus, prefetch=8)
    sent = [b"raw", {"a": 1}, b"x" * 9000, "y" * 9000, b""]
    for data in sent:
        bus.send("jobs", "job", "/ä", data)
    assert [member.receive(0).data for _ in sent] == sent  # type: ignore[union-attr]


# --- acknowledge, give back ---


def test_asking_acknowledges(bus: Bus) -> None:
    """An event is held until its member asks for the next one, whether there is one or not."""
    member = join(bus)
    send(bus, 2)
    member.receive(0)
    assert holders(bus) == [(1, 1)]
    assert member.receive(0) is not None
    assert holders(bus) == [(1, 1)]
    assert member.receive(0) is None
    assert holders(bus) == []


def test_ack_at_once(bus: Bus) -> None:
    """``ack`` needs no next one, and is nothing when there is nothing in hand."""
    member = join(bus, prefetch=3)
    member.ack()
    send(bus, 3)
    member.receive(0)
    member.ack()
    member.ack()
    assert holders(bus) == [(2, 1)]
    member.receive(0)
    member.receive(0)
    member.ack()
    assert holders(bus) == []


def test_rejected_at_once(bus: Bus) -> None:
    """A rejected event goes, counted, to whoever asks first, with what was fetched behind it, before later ones."""
    one, two = join(bus, prefetch=3), join(bus, prefetch=3)
    one.reject()
    send(bus, 6)
    assert [one.receive(0).data for _ in range(2)] == [0, 1]  # type: ignore[union-attr]
    one.reject()
    again = [two.receive(0) for _ in range(5)]
    assert [(event.data, event.deliveries) for event in again if event] == [(1, 2), (2, 1), (3, 1), (4, 1), (5, 1)]
    assert bus.stats().groups[0].redelivered == 1
    assert one.receive(0) is None


def test_leaving_acknowledges_and_gives_back(bus: Bus) -> None:
    """A member that closes has done with the event in hand; what it fetched behind it counts as not delivered."""
    member = join(bus, prefetch=4)
    send(bus, 4)
    member.receive(0)
    member.receive(0)
    member.close()
    rest = join(bus).receive_many(9, timeout=0)
    assert [(event.data, event.deliveries) for event in rest] == [(2, 1)]


def test_an_exception_gives_back(bus: Bus) -> None:
    """A member or a bus that is left by an exception has not done with the event in hand."""

    def fail_with(member: Subscription) -> None:
        assert member.receive(0) is not None
        raise RuntimeError

    bus.group("g", "jobs.**")
    send(bus, 1)
    with pytest.raises(RuntimeError), join(bus) as member:
        fail_with(member)
    with pytest.raises(RuntimeError), eventbus.open(bus.name) as other:
        fail_with(join(other))
    event = join(bus).receive(0)
    assert event is not None
    assert event.deliveries == 3


def end_with_a_job(line: Line, name: str) -> None:
    """Ends as a program does that was left by an exception: by its exit hooks."""
    member = join(eventbus.open(name))
    assert member.receive(DEADLINE) is not None
    eventbus.core.lifetime.leave_all()
    line.say("left")


def test_a_process_that_ends_gives_back(fork: Fork, bus: Bus) -> None:
    """What a process has in hand when it ends without closing is delivered again."""
    member = join(bus)
    send(bus, 1)
    fork(end_with_a_job, bus.name).hear()
    event = member.receive(DEADLINE)
    assert event is not None
    assert event.deliveries == 2


def test_a_batch_is_in_hand_together(bus: Bus) -> None:
    """``receive_many`` hands out at most what was claimed at once, unacknowledged until the next call; each counts for
    itself, and what was not handed out was not delivered."""
    member = join(bus, prefetch=3)
    send(bus, 5)
    assert [event.data for event in member.receive_many(2, 0)] == [0, 1]
    assert holders(bus) == [(3, 1)]
    member.reject()
    assert [(event.data, event.deliveries) for event in member.receive_many(9, 0)] == [(0, 2), (1, 2), (2, 1)]
    assert [event.data for event in member.receive_many(9, 0)] == [3, 4]
    assert member.receive_many(9, 0) == []
    assert holders(bus) == []


def test_a_member_that_is_stopped_gets_nothing_more_of_what_it_fetched(bus: Bus) -> None:
    """Neither by ``receive`` nor by a loop that is under way; the others get what it was not handed, as if for the
    first time."""
    member = join(bus, prefetch=3)
    send(bus, 3)
    got = []
    for event in member:
        got.append(event.data)
        member.stop()
    assert got == [0]
    assert member.receive(0) is None
    member.close()
    other = join(bus)
    assert [(event.data, event.deliveries) for event in has(other, 2)] == [(1, 1), (2, 1)]
    assert other.receive(0) is None


# --- dead letters ---


def test_dead_after_max_deliveries(bus: Bus) -> None:
    """Handed out as often as allowed, an event is sent as dead with all there is to know, and the next one comes."""
    grave = bus.subscribe("eventbus.dead", "exhausted")
    bus.group("g", "jobs.**", max_deliveries=2)
    member = join(bus)
    bus.send("jobs.eu", "job.new", "/poison", b"\xff")
    send(bus, 1)
    for deliveries in (1, 2):
        event = member.receive(0)
        assert event is not None
        assert (event.path, event.deliveries) == ("/poison", deliveries)
        member.reject()
    assert numbers(member) == [0]
    dead = grave.receive(0)
    assert dead is not None
    assert dead.path == "/poison"
    assert dead.data == {
        "group": "g",
        "deliveries": 2,
        "system": "jobs.eu",
        "kind": "job.new",
        "path": "/poison",
        "data": {"base64": "/w=="},
        "sequence": event.sequence,  # type: ignore[union-attr]
        "time": event.time,  # type: ignore[union-attr]
        "sender": os.getpid(),
    }
    (group,) = bus.stats().groups
    assert (group.dead, group.redelivered, group.max_deliveries) == (1, 2, 2)


def test_the_dead_of_a_full_ring(bus: Bus) -> None:
    """A ring that is full because of the very event that is to be sent as dead comes free, and the letter arrives."""
    grave = bus.subscribe("eventbus.dead", overflow="drop")
    bus.group("g", "jobs.**", max_deliveries=1)
    member = join(bus)
    send(bus, 1)
    member.receive(0)
    member.reject()
    error, sent = fill(bus)
    assert error.details["group"] == "g"
    assert len(numbers(member)) == sent
    dead = grave.receive(0)
    assert dead is not None
    assert dead.data["data"] == 0


def test_a_dead_letter_that_is_too_large_goes_without_data(bus: Bus) -> None:
    """An event that nearly fills what an event may have is sent as dead without its data rather than not at all."""
    grave = bus.subscribe("eventbus.dead")
    bus.group("g", "jobs.**", max_deliveries=1)
    member = join(bus)
    bus.send("jobs", "job", "/large", "x" * (bus.stats().capacity // 4 - 100))
    member.receive(0)
    member.reject()
    assert member.receive(0) is None
    dead = grave.receive(0)
    assert dead is not None
    assert dead.path == "/large"
    assert "data" not in dead.data


def test_a_dead_letter_that_waits_is_sent_when_the_bus_is_left(bus: Bus, name: str) -> None:
    """A letter for which there was no room goes out with its member, also when that is closed with its bus."""
    grave = bus.subscribe("eventbus.dead")
    with eventbus.open(name) as own:
        _, sent = bury_without_room(own, bus)
        assert grave.receive(0) is None
        assert len(numbers(join(bus))) == sent
    dead = grave.receive(0)
    assert dead is not None
    assert dead.data["data"] == 0


@pytest.mark.parametrize("many", [False, True])
def test_a_dead_letter_that_waits_is_sent_when_there_is_room(bus: Bus, name: str, many: bool) -> None:
    """A letter for which there was no room goes out when its member asks for events again, one or several."""
    grave = bus.subscribe("eventbus.dead")
    with eventbus.open(name) as own:
        member, sent = bury_without_room(own, bus)
        assert grave.receive(0) is None
        assert len(numbers(join(bus))) == sent
        assert not (member.receive_many(9, 0) if many else member.receive(0))
        assert grave.receive(0) is not None


def test_a_dead_letter_that_waits_is_sent_between_two_events_in_hand(bus: Bus, name: str) -> None:
    """A letter that found no room goes out before the next event, also where that was fetched before there was any."""
    grave = bus.subscribe("eventbus.dead")
    with eventbus.open(name) as own:
        member, sent = bury_without_room(own, bus)
        member.claim_at_most(3)
        assert member.receive_many(1, 0)
        assert grave.receive(0) is None
        assert len(numbers(join(bus))) == sent - 3
        assert member.receive(0) is not None
        assert grave.receive(0) is not None


def close_inherited(_: Line, member: Subscription) -> None:
    """Closes what its parent has."""
    member.close()


def test_a_dead_letter_that_waits_is_not_sent_by_a_child(fork: Fork, bus: Bus, name: str) -> None:
    """A letter waits in one process: a child forked meanwhile, which closes what it inherited, sends none."""
    grave = bus.subscribe("eventbus.dead")
    with eventbus.open(name) as own:
        member, _ = bury_without_room(own, bus)
        assert grave.receive(0) is None
        numbers(join(bus))
        fork(close_inherited, member).result()
        assert grave.receive(0) is None
    assert grave.receive(0) is not None
    assert grave.receive(0) is None


def test_what_a_group_skips_is_no_backlog(bus: Bus) -> None:
    """Sequences before the group's start wait for no member."""
    send(bus, 2)
    bus.group("g", "jobs.**", start=3)
    member = join(bus)
    bus.group("old", "jobs.**", start=2)
    send(bus, 1, 2)
    assert member.backlog == 1
    with bus.subscribe("jobs.**", group="old") as other:
        assert other.backlog == 2
    assert numbers(member) == [2]


def test_a_dead_letter_does_not_die_again(bus: Bus) -> None:
    """A group over the dead letters drops what it cannot handle, instead of writing letters about letters for ever."""
    bus.group("undertakers", "eventbus.**", max_deliveries=1)
    member = bus.subscribe("eventbus.**", group="undertakers")
    bus.send("eventbus.dead", "exhausted", "/", {"fake": 1})
    assert member.receive(0) is not None
    member.reject()
    assert member.receive(0) is None
    assert bus.stats().sent == 1
    assert bus.stats().groups[0].dead == 1
