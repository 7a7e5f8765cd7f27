"""What a bridge sees of the group that does a queue's work: who waits, what waits, and what is done."""

from __future__ import annotations

import asyncio
import mmap
import random

from eventbus import Bus, Event
from eventbus.bridge.pool import Pool
from eventbus.event import NO_HEADERS, Brought
from harness import Child, Fork, Line, take, until

GROUP = "workers"


def joined(bus: Bus) -> Pool:
    """The bridge's membership."""
    return Pool(bus, GROUP, ["jobs.**"], 16, "bridge queue q", alone=False)


def bring(bus: Bus, path: str) -> int:
    """Brings one event; its sequence."""
    event = Brought("jobs", "new", path, None, NO_HEADERS, 1, 1)
    return asyncio.run(bus._abring("far", [event], None, 0))


def hold(line: Line, name: str) -> None:
    """Takes an event, says so, and does with it what it is told."""
    with Bus(name) as bus, bus.subscribe("jobs.**", group=GROUP, name="worker") as jobs:
        for event in jobs:
            line.say(event.sequence)
            if line.hear() == "reject":
                jobs.reject(delay=3600.0)


def member(bus: Bus, fork: Fork) -> Child:
    """A member that waits for an event."""
    made = fork(hold, bus.name)
    until(lambda: any(one.sleeping for one in bus.stats().subscribers if one.pid == made.pid), "a member to wait")
    return made


def test_what_is_brought_is_known_by_its_sequence(bus: Bus) -> None:
    """The sequence is that of the first event that was brought, whoever sends beside it."""
    with bus.subscribe("**") as sub:
        bus.send("other", "k", "/")
        first = bring(bus, "/a")
        bus.send("other", "k", "/")
        events = [Brought("jobs", "new", f"/{number}", None, NO_HEADERS, 1, 1) for number in range(3)]
        second = asyncio.run(bus._abring("far", events, ("note", b""), 0))
        came = {event.path: event.sequence for event in sub.receive_many(99, 0) if event.system == "jobs"}
    assert (first, second) == (came["/a"], came["/0"])


def test_the_life_of_an_event(bus: Bus, fork: Fork) -> None:
    """It waits, is held, and is done once its member asks for the next; the bridge counts itself for nobody."""
    pool = joined(bus)
    assert pool.look()[2:5] == (0, 0, 0)
    one = member(bus, fork)
    assert pool.look()[2:5] == (1, 1, 0)
    sequence = bring(bus, "/a")
    assert one.hear() == sequence
    seen = pool.look()
    assert (seen[2:5], seen.has_done(sequence)) == ((1, 0, 0), False)
    other = bring(bus, "/b")
    assert (pool.look().waiting, pool.look().has_done(other)) == (1, False)
    one.say("ack")
    assert one.hear() == other
    assert (pool.look().has_done(sequence), pool.look().has_done(other)) == (True, False)
    one.say("ack")
    until(lambda: pool.look().has_done(other), "the second one to be done")
    pool.leave()


def test_what_is_given_back_or_left_by_the_dead_is_not_done(bus: Bus, fork: Fork) -> None:
    """What was given back for later is held; what only the dead have waits, and is handed out again."""
    pool = joined(bus)
    one = member(bus, fork)
    later, dead = bring(bus, "/later"), bring(bus, "/dead")
    assert one.hear() == later
    one.say("reject")
    assert one.hear() == dead
    seen = pool.look()
    assert (seen.held, seen.waiting) == (frozenset({later, dead}), 0)
    one.kill()
    seen = pool.look()
    assert (seen.members, seen.held, seen.waiting) == (0, frozenset({later, dead}), 1)
    event = take(pool.member)
    assert (event.sequence, event.deliveries) == (dead, 2)
    pool.member.ack(event)
    assert (pool.look().has_done(dead), pool.look().has_done(later)) == (True, False)
    pool.leave()


def test_what_the_group_does_not_hear_is_passed_over(bus: Bus) -> None:
    """Events of others are nothing that waits."""
    pool = joined(bus)
    bus.send("other", "k", "/")
    sequence = bring(bus, "/a")
    assert (pool.hears("jobs.a", "k"), pool.hears("other", "k"), pool.look().waiting) == (True, False, 1)
    event = take(pool.member)
    assert event.sequence == sequence
    assert pool.look().next == sequence + 1
    pool.leave()


EVENTS = 3000


def finish(line: Line, name: str, finished: mmap.mmap, seed: int) -> None:
    """Marks each event before it has done with it, but gives some back."""
    dice = random.Random(seed)
    with Bus(name) as bus, bus.subscribe("jobs.**", group=GROUP, prefetch=4, ack="manual") as jobs:
        line.say()
        while not jobs.closed:
            held: list[Event] = jobs.receive_many(4, 1.0)
            for event in held:
                if dice.random() < 0.3:
                    jobs.reject(event)
                else:
                    finished[event.sequence] = 1
                    jobs.ack(event)


def test_nothing_is_done_before_it_is(name: str, fork: Fork) -> None:
    """Looked at all the time, while events change hands: what seems done was done."""
    finished = mmap.mmap(-1, EVENTS + 1)
    with Bus(name, capacity=1 << 22) as bus:
        bus.group(GROUP, "jobs.**", max_deliveries=1000)
        pool = joined(bus)
        members = [fork(finish, name, finished, seed) for seed in range(2)]
        for one in members:
            one.hear()
        bus.send_many([("jobs", "new", "/")] * EVENTS)
        done: set[int] = set()
        while len(done) < EVENTS:
            seen = pool.look()
            news = {sequence for sequence in range(1, EVENTS + 1) if sequence not in done and seen.has_done(sequence)}
            assert all(finished[sequence] for sequence in news)
            done |= news
        pool.leave()
        bus.shutdown()
        for one in members:
            one.result()
    finished.close()
