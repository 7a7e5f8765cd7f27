"""Groups that are removed: their members, wherever they are, see the end, and nothing of it is left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

import pytest

import eventbus
from eventbus import Bus, InvalidError, PolicyDeniedError, Subscription
from eventbus.member import Member
from harness import DEADLINE, Fork, Line, arm, until
from jobs import fill, join, numbers, send

MEMBERS = 3
ROUNDS = 100


def work_to_the_end(line: Line, name: str) -> tuple[list[int], bool, int, tuple[object, bool]]:
    """A member that sleeps and works until its end: its jobs, and what it sees from then on."""
    with eventbus.open(name) as bus, join(bus, name="asleep", spin=0) as member:
        line.say("joined")
        got = [event.data for event in member]
        return got, member.closed, member.backlog, member.channel().receive(0)


def test_members_in_other_processes_see_the_end(fork: Fork, bus: Bus) -> None:
    """Those asleep are woken, all of them, and each loop over events ends."""
    members = [fork(work_to_the_end, bus.name) for _ in range(MEMBERS)]
    for member in members:
        assert member.hear() == "joined"
    send(bus, MEMBERS)
    until(
        lambda: sum(one.sleeping for one in bus.stats().subscribers) == MEMBERS and not bus.stats().groups[0].backlog,
        "the members to sleep",
    )
    bus.remove_group("g")
    results = [member.result() for member in members]
    assert sorted(number for got, *_ in results for number in got) == list(range(MEMBERS))
    assert [seen for _, *seen in results] == [[True, 0, (None, False)]] * MEMBERS
    assert bus.stats().groups == ()


@pytest.mark.parametrize("prefetch", [1, 4])
def test_a_member_with_events_in_hand_sees_the_end(bus: Bus, prefetch: int) -> None:
    """What it has in hand it can neither acknowledge nor give back, and nothing comes after it, fetched or not."""
    asks: list[Callable[[Subscription], object]] = [
        lambda one: one.receive(0),
        lambda one: one.receive_many(9, 0),
        lambda one: list(one),
    ]
    for ask in asks:
        with join(bus, prefetch=prefetch) as member:
            send(bus, 6)
            assert member.receive(0) is not None
            bus.remove_group("g")
            assert member.closed
            assert not ask(member)
            member.ack()
            member.reject()
            assert (member.receive(), member.receive_many(3), list(member)) == (None, [], [])
            bus.group("g", "jobs.**")
            with join(bus) as other:
                send(bus, 2)
                assert numbers(other) == [0, 1]
            bus.remove_group("g")
    assert bus.stats().groups == ()


@pytest.mark.parametrize("finish", [Member.ack, Member.reject, Member.close])
def test_what_the_old_member_does_is_nothing_to_the_new_group(bus: Bus, finish: Callable[[Member], None]) -> None:
    """A group of the same name begins anew, with other patterns if one likes, beside members of the one before."""
    old = join(bus)
    send(bus, 3)
    assert old.receive(0) is not None
    bus.remove_group("g")
    bus.group("g", "jobs", "job.*", max_deliveries=2)
    new = bus.subscribe("jobs", "job.*", group="g")
    send(bus, 2)
    event = new.receive(0)
    assert event is not None
    finish(old)
    (group,) = bus.stats().groups
    assert [(one.name, one.events) for one in group.members] == [(new.name, 1)]
    assert (group.backlog, group.redelivered, group.returned, group.max_deliveries) == (1, 0, 0, 2)
    assert numbers(new) == [1]
    old.close()


def test_a_publisher_that_waits_for_the_groups_room_gets_it(bus: Bus) -> None:
    """Who sends into a ring that the group fills goes on as soon as it is removed, with members or without."""
    for member in (None, join(bus)):
        bus.group("g", "jobs.**")
        send(bus, 1)
        fill(bus)
        waits = threading.Thread(target=bus.send, args=("other", "topic", "/"), kwargs={"timeout": DEADLINE})
        waits.start()
        bus.remove_group("g")
        waits.join(DEADLINE)
        assert not waits.is_alive()
        assert member is None or member.receive() is None


def test_there_must_be_one(bus: Bus) -> None:
    """A name that no group has, or can have, is an error."""
    bus.group("other", "jobs")
    for name, says in (("g", "has no group 'g'"), ("", "name must be"), ("x" * 64, "name must be")):
        with pytest.raises(InvalidError, match=says):
            bus.remove_group(name)
    bus.remove_group("other")
    with pytest.raises(InvalidError, match="has no group 'other'"):
        bus.remove_group("other")


def test_who_may_remove_it(bus: Bus, name: str) -> None:
    """As making one, it needs the whole of the group's patterns allowed, and a member of the bus."""
    bus.group("g", ["jobs.eu", "jobs.us"])
    only = {"default": "deny", "rule": [{"effect": "allow", "actions": ["*"], "resources": ["jobs.eu"]}]}
    with eventbus.open(name, policy=only) as other, pytest.raises(PolicyDeniedError, match=r"jobs\.us"):
        other.remove_group("g")
    with eventbus.open(name, role="subscriber") as reader, pytest.raises(InvalidError, match="role='member'"):
        reader.remove_group("g")
    assert len(bus.stats().groups) == 1
    only["rule"][0]["resources"] = ["jobs.*"]  # type: ignore[index]
    with eventbus.open(name, policy=only) as other:
        other.remove_group("g")
    assert bus.stats().groups == ()


def test_as_many_as_ever(bus: Bus) -> None:
    """A group that was removed takes neither an entry nor a slot: there is no end to making and removing them."""
    for number in range(200):
        bus.group(f"g{number}", "jobs")
        with bus.subscribe("jobs", group=f"g{number}") as member:
            send(bus, 1)
            assert numbers(member) == [0]
            bus.remove_group(f"g{number}")
            assert member.receive() is None


def join_and_remove(name: str) -> None:
    """Joins the group, works for it and removes it, again and again."""
    with eventbus.open(name) as bus:
        for _ in range(ROUNDS):
            with join(bus, start="oldest") as member:
                send(bus, 1)
                while member.receive(0) is not None:
                    pass
                with contextlib.suppress(InvalidError):  # somebody else was faster
                    bus.remove_group("g")
                while not member.closed:
                    member.receive(DEADLINE)


def test_processes_that_join_and_remove_the_same_group(fork: Fork, bus: Bus) -> None:
    """Whoever joins is a member of a group that there is, and sees its end, whatever others do at the same time."""
    crowd = [fork(lambda _, name: join_and_remove(name), bus.name) for _ in range(MEMBERS)]
    for one in crowd:
        one.result()
    assert (bus.stats().subscribers, bus.stats().groups) == ((), ())


def die_in_removal(_: Line, name: str, point: str) -> None:
    """Has a bus with a group, on which nobody else is, and dies as it removes it."""
    bus = eventbus.open(name, capacity=8192, persist=True)
    member = join(bus)
    send(bus, 3)
    assert member.receive(0) is not None
    arm(point, signal.SIGKILL, 1)
    bus.remove_group("g")


@pytest.mark.parametrize("point", ["group_removed", "gate_withdrawn", "members_woken"])
def test_a_persistent_bus_whose_group_was_being_removed(fork: Fork, name: str, point: str) -> None:
    """It is gone when the bus is opened again, and holds nobody up; its name can be used."""
    fork(die_in_removal, name, point).killed()
    with eventbus.open(name) as bus:
        assert (bus.stats().groups, bus.stats().subscribers) == ((), ())
        for number in range(1000):
            bus.send("jobs", "job", "/", number, timeout=0)
        with join(bus) as member:
            send(bus, 1)
            assert numbers(member) == [0]
    eventbus.unlink(name)


def run_worker(_: Line, name: str) -> None:
    """A pool of two handlers."""
    worker = eventbus.Worker(name)

    @worker.on("one")
    def first(event: eventbus.Event) -> None:
        pass

    @worker.on(["two", "three"])
    def second(event: eventbus.Event) -> None:
        pass

    worker.run(2)


def test_a_pool_ends_with_its_groups(fork: Fork, bus: Bus) -> None:
    """Processes whose group was removed are not replaced, which would make it anew; without any the pool ends."""
    pool = fork(run_worker, bus.name)
    assert bus.wait_for_subscribers(4, timeout=DEADLINE)
    assert {group.system for group in bus.stats().groups} == {"one", "three|two"}
    bus.remove_group("workers.first")
    until(lambda: {one.system for one in bus.stats().subscribers} == {"three|two"}, "its processes to leave")
    bus.remove_group("workers.second")
    pool.result()
    assert bus.stats().groups == ()
