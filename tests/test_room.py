"""Room in a full ring: in turn, and the last of it for those who drain it."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from eventbus._eventbus import lib

import eventbus
from eventbus import Bus, FullError
from harness import Child, Fork, Line, arm, points, until

CAPACITY = 1 << 16
SMALL = b"x" * 160
JOBS = 2000


def fill(bus: Bus, system: str = "jobs", data: bytes = SMALL) -> int:
    """Sends until there is no room for one more; how many went in."""
    for number in range(CAPACITY):
        try:
            bus.send(system, "job", f"/{number}", data, timeout=0)
        except FullError:
            return number
    raise AssertionError("the ring is never full")


def fill_from_outside(_: Line, name: str) -> int:
    """As a process that takes nothing from the bus."""
    with eventbus.open(name) as bus:
        return fill(bus)


def test_the_last_eighth_is_for_those_who_drain(fork: Fork, name: str) -> None:
    """Who takes nothing from the ring fills seven eighths; whoever holds it back may use what is left of it."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("jobs") as sub:
        outside = fork(fill_from_outside, name).result()
        used = bus.stats().used
        assert CAPACITY * 3 // 4 < used <= CAPACITY - CAPACITY // 8
        assert fill(bus) > outside // 16
        assert bus.stats().used > CAPACITY - CAPACITY // 16
        assert len(sub.receive_many(CAPACITY, 0)) == bus.stats().sent


def test_another_attachment_of_the_process_counts(name: str) -> None:
    """A process that subscribes through one bus object and sends through another drains the ring all the same."""
    with eventbus.open(name, capacity=CAPACITY) as one, eventbus.open(name) as other, one.subscribe("jobs"):
        fill(other)
        assert one.stats().used > CAPACITY - CAPACITY // 16


def test_an_empty_ring_is_anybodys(fork: Fork, name: str) -> None:
    """A batch that takes all of it goes in where nobody has anything to take."""
    batch = [("jobs", "job", "/", b"x" * 4000)] * 15

    def send(_: Line) -> int:
        with eventbus.open(name) as bus:
            return bus.send_many(batch, timeout=0)

    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("jobs") as sub:
        assert fork(send).result() == len(batch)
        assert len(sub.receive_many(99, 0)) == len(batch)


def answer(_: Line, name: str, prefetch: int) -> None:
    """A worker whose results go to the bus that its jobs come from."""
    with eventbus.open(name, send_timeout=None) as bus, bus.subscribe("jobs", group="g", prefetch=prefetch) as member:
        for job in member:
            bus.send("results", "result", job.path, job.data)


def produce(_: Line, name: str) -> None:
    """Sends jobs as fast as there is room."""
    with eventbus.open(name, send_timeout=None) as bus:
        for number in range(JOBS):
            bus.send("jobs", "job", f"/{number}", "x" * 200)


@pytest.mark.parametrize("prefetch", [1, 64, 256])
def test_results_on_the_bus_of_their_jobs(fork: Fork, name: str, prefetch: int) -> None:
    """Two workers answer though the producer is faster than they are: all results come, and no dead letter."""
    with eventbus.open(name, capacity=CAPACITY) as bus:
        bus.group("g", "jobs")
        results, dead = bus.subscribe("results"), bus.subscribe("eventbus.dead", overflow="drop")
        workers = [fork(answer, name, prefetch) for _ in range(2)]
        assert bus.wait_for_subscribers(4, timeout=30)
        producer = fork(produce, name)
        paths: list[str] = []
        while len(paths) < JOBS and (event := results.receive(30)) is not None:
            paths.append(event.path)
        assert sorted(paths) == sorted(f"/{number}" for number in range(JOBS))
        assert dead.receive(0) is None
        producer.result()
        for worker in workers:
            worker.kill()


def push(line: Line, name: str) -> None:
    """Sends small events for as long as the bus is there."""
    with eventbus.open(name, send_timeout=None) as bus:
        line.say()
        try:
            while True:
                bus.send("small", "k", "/", SMALL)
        except eventbus.ClosedError:
            return


def test_a_large_batch_is_not_starved(fork: Fork, name: str) -> None:
    """It gets its turn beside publishers of small events that take all the room there is."""
    large = [("large", "k", "/", b"x" * 4000)] * 12

    def send_large(_: Line) -> int:
        with eventbus.open(name) as bus:
            return bus.send_many(large, timeout=30)

    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("**") as sub:
        pushers = [fork(push, name) for _ in range(3)]
        for pusher in pushers:
            pusher.hear()
        until(lambda: bus.stats().used > CAPACITY // 2, "the ring to be full")
        sender = fork(send_large)
        heard = Counter[str]()
        while heard["large"] < len(large):
            heard.update(event.system for event in sub.receive_many(20, 30))
        assert sender.result() == len(large)
        bus.shutdown()
        while sub.receive(0) is not None:
            pass
        for pusher in pushers:
            pusher.result()


def test_a_place_in_turn_goes_with_whoever_had_it(fork: Fork, name: str) -> None:
    """A publisher that is killed while it waits for room keeps the others waiting for a moment, not for ever."""

    def send_large(line: Line) -> None:
        with eventbus.open(name) as bus:
            arm("turn_taken", passes=1)
            bus.send_many([("large", "k", "/", b"x" * 4000)] * 14, timeout=None)

    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("**") as sub:
        fill(bus)
        fork(send_large).killed()
        assert sub.receive(0) is not None
        assert bus.send("small", "k", "/", b"", timeout=30)


def test_sixteen_publishers_take_turns(fork: Fork, name: str) -> None:
    """On a ring that is always full, each of them gets its share of events in."""

    def send(line: Line, number: int) -> None:
        with eventbus.open(name, send_timeout=None) as bus:
            line.say()
            line.hear()
            try:
                while True:
                    bus.send(f"p{number}", "k", "/", SMALL)
            except eventbus.ClosedError:
                return

    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("**") as sub:
        publishers: list[Child] = [fork(send, number) for number in range(16)]
        for publisher in publishers:
            publisher.hear()
        for publisher in publishers:
            publisher.say()
        heard = Counter[str]()
        while min(heard[f"p{number}"] for number in range(16)) < 20:
            heard.update(event.system for event in sub.receive_many(50, 30))
        bus.shutdown()
        while sub.receive(0) is not None:
            pass
        for publisher in publishers:
            publisher.result()


def test_a_poll_of_a_full_ring_looks_at_one_lock(name: str) -> None:
    """Whoever polls does not look for the dead among all subscribers, each time: the slowest one lives."""
    with eventbus.open(name, capacity=CAPACITY) as bus:
        subs = [bus.subscribe("jobs") for _ in range(30)]
        fill(bus)
        arm("roster_locked", 0, 0)
        for _ in range(100):
            with pytest.raises(FullError):
                bus.send("jobs", "job", "/", SMALL, timeout=0)
        assert lib.eb_test_passed(points()["roster_locked"]) == 0
        assert len(subs) == 30


def test_a_thread_that_gives_up_gives_up_its_place(name: str) -> None:
    """When its time is up the others have the room that was kept for it."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("jobs") as sub:
        fill(bus)
        outcome: list[str] = []

        def wait() -> None:
            try:
                bus.send_many([("large", "k", "/", b"x" * 4000)] * 15, timeout=0.2)
            except FullError as error:
                outcome.append(type(error).__name__)

        waiter = threading.Thread(target=wait)
        waiter.start()
        waiter.join()
        assert outcome == ["FullError"]
        assert sub.receive(0) is not None
        assert bus.send("jobs", "job", "/", b"", timeout=0)
