"""Members with much in hand, for long, and killed with it: what holds nobody up, and comes again."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, Event
from harness import DEADLINE, Fork, Line, take, until
from jobs import again, has, holders, join, manual, send

MEMBERS, PREFETCH, JOBS = 64, 256, 20_000


def finish_at_random(line: Line, name: str, log: Path, seed: int, doomed: bool) -> None:
    """Fills its hands, then finishes at random; writes down what it got, and each event before and after it is done.
    Who is to be killed keeps one event in hand, so that its death always leaves one, however late it comes."""
    drawn = random.Random(seed)
    book = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    with eventbus.open(name) as bus, manual(bus, PREFETCH) as member:
        line.say("joined")
        line.hear()
        hand = member.receive_many(PREFETCH, DEADLINE)
        note(book, "got", hand)
        line.say("full")
        line.hear()
        line.say("works")
        kept = [hand.pop()] if doomed else []
        while hand or kept:
            drawn.shuffle(hand)
            done, hand = hand[: 1 + len(hand) // 3], hand[1 + len(hand) // 3 :]
            for event in done:
                note(book, "begun", [event])
                member.ack(event)
                note(book, "done", [event])
            more = member.receive_many(PREFETCH, 0 if hand else None)
            note(book, "got", more)
            hand += more


def note(book: int, what: str, events: list[Event]) -> None:
    """Written at once, so that it outlives a kill."""
    os.write(book, "".join(f"{what} {event.data} {event.deliveries}\n" for event in events).encode())


def has_acknowledged(log: Path) -> bool:
    """Whether it wrote down that something is done."""
    return "done" in log.read_text()


def test_64_members_finish_at_random_and_die(fork: Fork, name: str, tmp_path: Path) -> None:
    """256 events in hand of each, acknowledged in random order; half of them are killed in the middle: each event is
    done, and none that was acknowledged comes again."""
    logs = [tmp_path / str(number) for number in range(MEMBERS)]
    with eventbus.open(name, max_subscribers=MEMBERS + 4, send_timeout=DEADLINE) as bus:
        bus.group("g", "jobs.**", max_deliveries=1000)
        members = [fork(finish_at_random, name, log, seed, seed % 2 == 0) for seed, log in enumerate(logs)]
        for member in members:
            assert member.hear() == "joined"
        for first in range(0, JOBS, 500):
            send(bus, 500, first)
        for member in members:
            member.say("go on")
        for word in ("full", "works"):
            for member in members:
                assert member.hear() == word
            for member in members:
                member.say("go on")
        for member, log in zip(members[::2], logs[::2], strict=True):
            until(partial(has_acknowledged, log), "it has acknowledged")
            member.kill()
        bus.shutdown()
        for member in members[1::2]:
            member.result()
    check_books(logs)


def check_books(logs: list[Path]) -> None:
    """Each job was done once, or was being done at a death; and none that was done came again."""
    done, begun, got = Counter[int](), set[int](), set[tuple[int, int]]()
    for number, log in enumerate(logs):
        mine: dict[str, set[int]] = {"got": set(), "begun": set(), "done": set()}
        for what, job, deliveries in (line.split() for line in log.read_text().splitlines()):
            mine[what].add(int(job))
            if what == "got":
                assert (int(job), int(deliveries)) not in got
                got.add((int(job), int(deliveries)))
        assert mine["done"] <= mine["begun"] <= mine["got"]
        assert number % 2 == 0 or mine["done"] == mine["got"]
        done.update(mine["done"])
        begun |= mine["begun"] - mine["done"]
    assert set(done) | begun == set(range(JOBS))
    assert max(done.values()) == 1
    assert sum(deliveries > 1 for _, deliveries in got) >= MEMBERS // 2


def pass_by(bus: Bus, rings: int) -> None:
    """Sends so many rings of events that no member hears, and waits for nobody."""
    for _ in range(rings * bus.stats().capacity // 1000):
        bus.send("metrics", "tick", "/host", b"x" * 1000, timeout=0)


def hold_one(line: Line, name: str) -> None:
    """Keeps the first event that it gets in hand."""
    with eventbus.open(name) as bus:
        member = manual(bus)
        line.say(again(take(member)))
        line.hear()


def test_a_held_event_holds_nobody_up(fork: Fork, name: str) -> None:
    """Many rings of other events pass while one is in hand; its holder is killed: it comes again, whole."""
    with eventbus.open(name, capacity=1 << 20) as bus:
        bus.group("g", "jobs.**")
        send(bus, 1, 7)
        holder = fork(hold_one, name)
        assert holder.hear() == (7, 1)
        worker = manual(bus)
        for number in range(20_000):
            bus.send("metrics", "tick", "/host", {"number": number, "load": "x" * 200}, timeout=0)
            if number % 100 == 0:
                bus.send("jobs", "job.new", "/more", number + 1000, timeout=0)
                worker.ack(take(worker))
        assert bus.stats().groups[0].parked > 0
        holder.kill()
        assert again(worker.receive(DEADLINE)) == (7, 2)


def test_what_was_parked_makes_room(bus: Bus) -> None:
    """Acknowledged, an event leaves the parking: as much again can be parked, for ever."""
    member = manual(bus, 4)
    size = bus.stats().capacity // 16
    for _ in range(10):
        bus.send_many([("jobs", "job.new", f"/{number}", b"x" * (size - 200)) for number in range(4)])
        events = has(member, 4)
        pass_by(bus, 3)
        assert bus.stats().groups[0].parked > 3 * (size - 200)
        for event in events:
            assert event.data == b"x" * (size - 200)
            member.ack(event)
    assert holders(bus) == []
    assert bus.stats().groups[0].parked == 0


def test_the_parking_is_full(bus: Bus) -> None:
    """More in hand than a quarter of the ring: who sends waits, and is told which member has had what for how long."""
    member = manual(bus, 256)
    size = bus.stats().capacity // 16
    bus.send_many([("jobs", "job.new", f"/{number}", b"x" * (size - 200)) for number in range(8)])
    events = has(member, 8)
    with pytest.raises(eventbus.FullError, match=r"has had event \d+ in hand for \d+ s, beside \d+ bytes") as caught:
        pass_by(bus, 3)
    details = caught.value.details
    assert (details["name"], details["pid"], details["group"]) == (member.name, events[0].sender, "g")
    assert details["sequence"] in {event.sequence for event in events}
    for event in events:
        member.ack(event)
    bus.send("metrics", "tick", "/host", b"x" * 1000, timeout=0)


def die_of_poison(line: Line, name: str, ack: str) -> None:
    """Works until it gets what kills it, with more fetched behind that."""
    with eventbus.open(name) as bus, join(bus, 8, ack=ack) as member:
        line.say("joined")
        while (event := member.receive(DEADLINE)) is not None:
            if event.data == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            member.ack(event)


@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_what_was_only_fetched_dies_of_nothing(fork: Fork, bus: Bus, ack: str) -> None:
    """An event that kills whoever gets it becomes a dead letter; those that were fetched with it were not delivered."""
    bus.group("g", "jobs.**", max_deliveries=2)
    dead = bus.subscribe("eventbus.dead")
    send(bus, 8)
    for _ in range(2):
        doomed = fork(die_of_poison, bus.name, ack)
        assert doomed.hear() == "joined"
        doomed.killed()
    member = manual(bus)
    assert [again(event) for event in has(member, 5)] == [(number, 1) for number in (3, 4, 5, 6, 7)]
    assert member.receive(0) is None
    assert [letter.data["data"] for letter in dead.receive_many(9, 0)] == [2]
