"""What a group agrees on: patterns that stay, a limit that may change, and whether a member bears others beside it."""

from __future__ import annotations

import inspect
import os
import signal
from typing import Any

import pytest

import eventbus
from eventbus import Bus, InvalidError, UnavailableError
from eventbus.core.attachment import Attachment
from harness import DEADLINE, Fork, Line, arm
from jobs import join, numbers, send

WORKERS = 6


def not_now(*_: object) -> None:
    raise AssertionError("this is not to be asked for")


def limit_of(bus: Bus) -> int:
    """How often the only group hands an event out."""
    (group,) = bus.stats().groups
    return group.max_deliveries


# --- how often ---


def test_the_limit_is_read_by_itself(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it after each event that failed need not read what thousands of tries wait for."""
    member = join(bus)
    bus.group("g", "jobs.**", max_deliveries=7)
    monkeypatch.setattr(Attachment, "_claims", not_now)
    assert member.max_deliveries == 7


def test_the_limit_changes_when_another_is_asked_for(bus: Bus) -> None:
    """The last one that was given holds; who leaves it out, makes the group, joins it or runs workers, changes none."""
    bus.group("g", "jobs.**")
    assert limit_of(bus) == 5
    steps: list[tuple[dict[str, Any], int]] = [
        ({"max_deliveries": 9}, 9),
        ({}, 9),
        ({"max_deliveries": 5}, 5),
        ({"max_deliveries": 2}, 2),
    ]
    for given, holds in steps:
        bus.group("g", "jobs.**", **given)
        assert limit_of(bus) == holds
    join(bus).close()
    assert limit_of(bus) == 2


def test_what_is_left_out_is_shown_as_what_it_is() -> None:
    """The default that says nothing about a group that is there is, for whoever looks at the signature, the usual 5."""
    for call in (Bus.group, eventbus.Worker.__init__):
        default = inspect.signature(call).parameters["max_deliveries"].default
        assert (default, str(default), isinstance(default, int)) == (5, "5", True)


def test_a_lower_limit_holds_for_what_was_delivered_before(bus: Bus) -> None:
    """An event that was handed out as often as is allowed from now on is dead the next time, not handed out again."""
    grave = bus.subscribe("eventbus.dead")
    member = join(bus)
    send(bus, 1)
    for _ in range(2):
        assert member.receive(0) is not None
        member.reject()
    bus.group("g", "jobs.**", max_deliveries=2)
    assert member.receive(0) is None
    assert [letter.data["deliveries"] for letter in grave.receive_many(9, 0)] == [2]


def test_a_higher_limit_holds_for_what_comes_again(bus: Bus) -> None:
    """An event that would be dead the next time is handed out once the group delivers more often."""
    bus.group("g", "jobs.**", max_deliveries=1)
    member = join(bus)
    send(bus, 1)
    assert member.receive(0) is not None
    member.reject()
    bus.group("g", "jobs.**", max_deliveries=2)
    event = member.receive(0)
    assert event is not None
    assert event.deliveries == 2


def fail_twice(line: Line, name: str) -> None:
    """A worker that leaves the limit out, whose handler fails."""
    worker = eventbus.Worker(name, retry_delay=0)

    @worker.on("jobs", group="workers")
    def fail(event: eventbus.Event) -> None:
        line.say(event.deliveries)
        raise ValueError

    worker.run()


def test_a_worker_that_leaves_it_out_goes_by_the_groups(fork: Fork, bus: Bus) -> None:
    """Its handler is tried as often as the group says, also once that is changed while it runs."""
    grave = bus.subscribe("eventbus.dead")
    bus.group("workers", "jobs", max_deliveries=2)
    worker = fork(fail_twice, bus.name)
    for limit in (2, 3):
        bus.group("workers", "jobs", max_deliveries=limit)
        bus.send("jobs", "job", "/")
        assert [worker.hear() for _ in range(limit)] == list(range(1, limit + 1))
        letter = grave.receive(DEADLINE)
        assert letter is not None
        assert letter.data["deliveries"] == limit
    worker.kill(signal.SIGTERM)
    worker.result()


def make_with(line: Line, name: str, limit: int) -> int:
    """Makes the group, as one of several that start at the same time; what it delivers then."""
    with eventbus.open(name) as bus:
        line.say("there")
        line.hear()
        for _ in range(50):
            bus.group("g", ["jobs.b", "jobs.a"][:: 1 if limit % 2 else -1], max_deliveries=limit)
        return limit_of(bus)


def test_workers_that_start_at_the_same_time(fork: Fork, bus: Bus) -> None:
    """Whoever comes first makes it, and each of the limits that they ask for may be the last."""
    limits = range(1, WORKERS + 1)
    started = [fork(make_with, bus.name, limit) for limit in limits]
    for one in started:
        assert one.hear() == "there"
    for one in started:
        one.say("go")
    assert {one.result() for one in started} <= {*limits}
    assert limit_of(bus) in limits


# --- one member only ---


def refused(bus: Bus, **options: Any) -> UnavailableError:
    """The error of whoever may not join."""
    with pytest.raises(UnavailableError) as caught:
        join(bus, **options)
    return caught.value


def test_an_exclusive_member_is_the_only_one(bus: Bus) -> None:
    """Whoever joins beside it is told who is there; when it has left, the next one may."""
    for exclusive in (True, False):
        with join(bus, exclusive=True, name="first"):
            error = refused(bus, exclusive=exclusive)
            assert (error.details["name"], error.details["pid"], error.details["group"]) == ("first", os.getpid(), "g")
            assert "'first'" in error.message
            assert str(os.getpid()) in error.message
            assert error.retryable
            assert [(one.name, one.exclusive) for one in bus.stats().groups[0].members] == [("first", True)]
        join(bus, exclusive=exclusive).close()
    assert bus.stats().subscribers == ()


def test_an_exclusive_member_bears_no_others(bus: Bus) -> None:
    """Where others are members already, it is told of one of them, and takes nothing; other groups do not count."""
    bus.subscribe("jobs.**", group="other").close()
    elsewhere = bus.subscribe("jobs.**", group="other")
    with join(bus, name="one"), join(bus, name="two"):
        assert refused(bus, exclusive=True).details["name"] == "one"
        assert len(bus.stats().subscribers) == 3
    with join(bus, exclusive=True) as member:
        send(bus, 2)
        assert numbers(member) == numbers(elsewhere) == [0, 1]


def hold_alone(line: Line, name: str) -> None:
    """An exclusive member with an event in hand."""
    member = join(eventbus.open(name), exclusive=True, name="first")
    event = member.receive(DEADLINE)
    assert event is not None
    line.say(event.data)
    line.hear()


def test_a_killed_exclusive_member_makes_room_at_once(fork: Fork, bus: Bus) -> None:
    """Whether it lives the kernel says: stopped it is there, killed it is not, and what it had in hand comes again."""
    bus.group("g", "jobs.**")
    send(bus, 1)
    first = fork(hold_alone, bus.name)
    assert first.hear() == 0
    first.stop()
    assert refused(bus).details["pid"] == first.pid
    first.kill()
    with join(bus, exclusive=True) as member:
        event = member.receive(DEADLINE)
        assert event is not None
        assert (event.data, event.deliveries) == (0, 2)


def die_as_it_joins(_: Line, name: str, point: str) -> None:
    """An exclusive member that is killed while it joins."""
    bus = eventbus.open(name)
    arm(point)
    join(bus, exclusive=True)


@pytest.mark.parametrize("point", ["slot_claimed", "slot_cursor", "slot_open", "slot_placed", "roster_unlocked"])
def test_whoever_dies_joining_keeps_nobody_out(fork: Fork, bus: Bus, point: str) -> None:
    """Half a member is none."""
    bus.group("g", "jobs.**")
    fork(die_as_it_joins, bus.name, point).killed()
    join(bus, exclusive=True).close()


def take_alone(line: Line, name: str) -> None:
    """Says whether it became the only member, which it stays until it is told to leave."""
    with eventbus.open(name) as bus:
        try:
            member = join(bus, exclusive=True)
        except UnavailableError:
            line.say(False)
        else:
            line.say(True)
            line.hear()
            member.close()


def test_of_several_that_want_to_be_alone_one_is(fork: Fork, bus: Bus) -> None:
    """Of those who ask at the same time, making the group as they do, exactly one is let in."""
    crowd = [fork(take_alone, bus.name) for _ in range(WORKERS)]
    alone = [one for one in crowd if one.hear()]
    assert len(alone) == 1
    assert refused(bus).details["pid"] == alone[0].pid
    alone[0].say("leave")
    for one in crowd:
        one.result()
    join(bus, exclusive=True).close()


def test_exclusive_of_what(bus: Bus) -> None:
    """Without a group there is nobody to be excluded."""
    with pytest.raises(InvalidError, match="group="):
        bus.subscribe("jobs", exclusive=True)
    assert bus.stats().subscribers == ()


# --- several patterns ---


def test_a_group_of_several_patterns(bus: Bus) -> None:
    """The same patterns in whatever order, and however often, are the same group, shown in one way."""
    bus.group("g", ["jobs.us", "jobs.eu"], ["job.new", "job.(old|odd)"])
    members = [
        bus.subscribe(system, kind, group="g")
        for system, kind in (
            (["jobs.eu", "jobs.us", "jobs.eu"], ("job.(old|odd)", "job.new")),
            (("jobs.us", "jobs.eu"), ["job.new", "job.(old|odd)"]),
        )
    ]
    (group,) = bus.stats().groups
    assert (group.system, group.kind) == ("jobs.eu|jobs.us", "job.(old|odd)|job.new")
    assert {(one.system, one.kind) for one in bus.stats().subscribers} == {(group.system, group.kind)}
    rows = (("jobs.eu", "job.new"), ("jobs.us", "job.old"), ("jobs.us", "job.bad"), ("jobs.cn", "job.new"))
    bus.send_many([(system, kind, "/", number) for number, (system, kind) in enumerate(rows)])
    assert [numbers(one) for one in members] == [[0, 1], []]
    with pytest.raises(InvalidError, match=r"'jobs\.eu\|jobs\.us'.*'jobs\.eu'"):
        bus.subscribe("jobs.eu", ["job.new", "job.(old|odd)"], group="g")
