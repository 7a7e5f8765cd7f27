"""Workers with several events of an ``async def`` under way: killed, hanging, told to leave, at the end of the bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers import handling, process
from harness import DEADLINE, Fork, Line, arm, patiently, take, until
from jobs import holders, send
from pools import Gates, begun, gated, run_worker, running


def test_a_killed_process_repeats_what_was_not_done(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """With several under way: those that were acknowledged do not come again, the others do, once, and counted."""
    worker = Worker(bus)
    gates = gated(bus, worker, concurrency=4)
    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        send(bus, 4)
        came = [take(done).data for _ in range(4)]
        assert sorted(number for number, _, _ in came) == [0, 1, 2, 3]
        gates.open(1, 3)
        assert sorted(take(done).data for _ in range(2)) == [1, 3]
        until(lambda: holders(bus) == [(2, 1)], "two to be acknowledged")
        os.kill(came[0][2], signal.SIGKILL)
        assert begun(done, 2) == {0: 2, 2: 2}
        gates.open(0, 2)
        assert sorted(take(done).data for _ in range(2)) == [0, 2]
        until(lambda: holders(bus) == [], "all to be acknowledged")
        assert done.receive(0) is None
        assert bus.stats().groups[0].redelivered == 2


def test_an_event_that_takes_too_long(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It is cancelled, and tried again in the same process; for the last time it is a dead letter that says where."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus, concurrency=2, retry_delay=0, max_deliveries=2)

    @worker.on("jobs", timeout=0.1)
    async def work(event: Event) -> None:
        try:
            if event.data == "hang":
                await asyncio.sleep(2 * DEADLINE)
        except asyncio.CancelledError:
            await bus.asend("done", "cancelled", "/", [event.deliveries, os.getpid()])
            raise
        await bus.asend("done", "fine", "/", [event.deliveries, os.getpid()])

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for data in ("hang", "fine"):
            bus.send("jobs", "job", "/", data)
        came = [take(done) for _ in range(3)]
        letter = take(grave).data
        until(lambda: holders(bus) == [], "all to be acknowledged")
    assert sorted((event.kind, event.data[0]) for event in came) == [("cancelled", 1), ("cancelled", 2), ("fine", 1)]
    assert len({event.data[1] for event in came}) == 1
    assert "TimeoutError: it was cancelled, as it took longer than 0.1 s" in letter["traceback"]
    assert "in work" in letter["traceback"]
    assert "killed" not in log.read_text()


async def stand_still() -> None:
    """Holds up the loop."""
    time.sleep(2 * DEADLINE)


async def hear_nothing() -> None:
    """Goes on when it is cancelled."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(2 * DEADLINE)


def run_without_grace(line: Line, worker: Worker, log: Path) -> None:
    """A worker that ends at once what its own process does not."""
    handling.GRACE = 0.1
    run_worker(line, worker, {}, log)


@pytest.mark.parametrize("hang", [stand_still, hear_nothing])
def test_what_cannot_be_cancelled(fork: Fork, bus: Bus, done: Subscription, log: Path, hang: Callable[[], Any]) -> None:
    """Whoever holds up the loop, or is deaf to its end, has its process killed; what was under way comes again."""
    worker = Worker(bus, concurrency=2, retry_delay=0, max_deliveries=1000)

    @worker.on("jobs", timeout=0.1)
    async def work(event: Event) -> None:
        if event.deliveries == 1:
            await hang()
        bus.send("done", "job", "/", [event.data, event.deliveries])

    parent = fork(run_without_grace, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    send(bus, 2)
    came: dict[int, int] = {}
    while len(came) < 2:
        number, deliveries = take(done).data
        came.setdefault(number, deliveries)
    parent.kill(signal.SIGTERM)
    parent.result()
    assert came[0] > 1  # again and again where the host stands still for so long; the second may not have begun
    assert "work hung for more than 0.2 s on event" in log.read_text()


def test_a_forked_child(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A child that a handler forks ends when it comes back: the loop, and what is under way, are its parent's."""
    worker = Worker(bus, concurrency=2)
    gates = gated(bus, worker)

    @worker.on("families", timeout=DEADLINE)
    async def family(event: Event) -> None:
        pid = os.fork()
        if pid == 0:
            if event.data == "back":
                return
            raise SystemExit(7) if event.data == "exit" else ZeroDivisionError("in a child")
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        await bus.asend("done", "family", "/", [event.deliveries, os.waitstatus_to_exitcode(status)])

    with running(fork, worker, log):
        until(lambda: len(bus.stats().groups) == 2, "the groups")
        send(bus, 1)
        assert begun(done, 1) == {0: 1}
        for data, status in (("exit", 7), ("error", 1), ("back", 0)):
            bus.send("families", "job", "/", data)
            assert take(done).data == [1, status]
        gates.open(0)
        assert take(done)[1:4] == ("ended", "/", 0)
    assert "which a handler forked, failed" in log.read_text()
    assert "failed on" not in log.read_text()


def stop_in_the_group(line: Line, bus: Bus) -> None:
    """A member that is stopped while it has the lock of the worker's group."""
    with bus.subscribe("jobs", group="workers.work") as member:
        line.say()
        line.hear()
        arm("group_locked", signal.SIGSTOP)
        member.receive(0)


def test_a_lock_that_somebody_keeps(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process goes on when it cannot take anything for seconds, and so does what is under way in it."""
    worker = Worker(bus, concurrency=2)
    gates = gated(bus, worker)
    with running(fork, worker, log):
        until(lambda: any(group.members for group in bus.stats().groups), "the process")
        child = fork(stop_in_the_group, bus)
        child.hear()
        send(bus, 1)
        assert begun(done, 1) == {0: 1}
        child.say()
        child.wait_stopped()
        send(bus, 1, first=1)
        time.sleep(1.2)  # a second after which a poll says who keeps the lock
        gates.open(0)
        assert take(done)[1:4] == ("ended", "/", 0)
        child.kill()
        assert begun(done, 1) == {1: 1}
        gates.open(1)
        assert take(done)[1:4] == ("ended", "/", 1)
    assert "ERROR" not in log.read_text()


# --- told to leave ---


def test_a_signal_lets_all_finish(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """SIGTERM wakes the loop: what is under way is finished and acknowledged, the rest left for others, uncounted."""
    worker = Worker(bus, concurrency=2, prefetch=8)
    gates = gated(bus, worker)
    parent = fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    send(bus, 4)
    assert begun(done, 2) == {0: 1, 1: 1}
    parent.kill(signal.SIGTERM)
    until(lambda: "finishes its event" in log.read_text(), "the worker to hear the signal")
    for ends in (1, 0):
        gates.open(ends)
        assert take(done)[1:4] == ("ended", "/", ends)
    parent.result()
    assert done.receive(0) is None
    rest = bus.subscribe("jobs", group="workers.work", prefetch=8)
    assert [(event.data, event.deliveries) for event in rest.receive_many(9, 0)] == [(2, 1), (3, 1)]


def test_a_signal_ends_an_idle_process(fork: Fork, bus: Bus, log: Path) -> None:
    """One whose loop sleeps hears it, with a handler of a schedule as with one of events."""
    worker = Worker(bus, concurrency=2)
    gated(bus, worker)

    @worker.every(3600)
    async def tick() -> None: ...

    with running(fork, worker, log, processes=2):
        until(lambda: sum(len(group.members) for group in bus.stats().groups) == 3, "three processes")
    assert "ERROR" not in log.read_text()


def test_a_limit_to_the_end(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """What is not done ``shutdown_timeout`` seconds later is cancelled and comes again, counted; and hooks run."""
    worker = Worker(bus, concurrency=3, shutdown_timeout=0.2, max_deliveries=1)
    grave = bus.subscribe("eventbus.dead")
    gates = Gates(bus, worker)

    @worker.on_stop
    def stopped() -> None:
        bus.send("done", "stopped", "/", len(holders(bus)))

    @worker.on("jobs")
    async def work(event: Event) -> None:
        bus.send("done", "begun", "/", [event.data, event.deliveries, os.getpid()])
        try:
            await gates.passed(event.data)
        except asyncio.CancelledError:
            bus.send("done", "cancelled", "/", event.data)
            if event.data == 1:
                return
            raise

    parent = fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    send(bus, 3)
    assert begun(done, 3) == dict.fromkeys(range(3), 1)
    parent.kill(signal.SIGTERM)
    parent.result()
    assert [(event.kind, event.data) for event in done.receive_many(9, 0)] == [
        *(("cancelled", number) for number in range(3)),
        ("stopped", 0),
    ]
    text = log.read_text()
    assert "cancels what it had not done within 0.2 s: 3 events are delivered again" in text
    assert "ERROR" not in text
    assert grave.receive(0) is None
    bus.group("workers.work", "jobs", max_deliveries=5)
    rest = bus.subscribe("jobs", group="workers.work", prefetch=8)
    assert [(event.data, event.deliveries) for event in rest.receive_many(9, 0)] == [(0, 2), (2, 2)]


def run_impatient(line: Line, worker: Worker, log: Path) -> None:
    """A worker that waits no minute for the end of its processes."""
    process.LINGER = 0.2
    run_worker(line, worker, {}, log)


def test_an_end_that_is_not_heard(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Who is cancelled as the process leaves, and goes on, is killed with it; and nothing is lost."""
    worker = Worker(bus, shutdown_timeout=0)

    @worker.on("jobs")
    async def work(event: Event) -> None:
        await bus.asend("done", "begun", "/")
        await hear_nothing()

    parent = fork(run_impatient, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    send(bus, 1)
    take(done)
    parent.kill(signal.SIGTERM)
    parent.result()
    assert "or a task that was cancelled: it is killed" in log.read_text()
    rest = take(bus.subscribe("jobs", group="workers.work"))
    assert (rest.data, rest.deliveries) == (0, 2)


def test_max_events(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process takes no more than its ``max_events``, and claims no more, also while the last ones are under way."""
    worker = Worker(bus, concurrency=4)
    gates = gated(bus, worker)
    with running(fork, worker, log, max_events=6, processes=1):
        until(lambda: bus.stats().groups, "the group")
        send(bus, 8)
        assert begun(done, 4) == dict.fromkeys(range(4), 1)
        gates.open(0, 1, 2)
        came = [take(done) for _ in range(5)]
        assert sorted(event.data for event in came if event.kind == "ended") == [0, 1, 2]
        assert sorted(event.data[0] for event in came if event.kind == "begun") == [4, 5]
        until(lambda: holders(bus) == [(3, 1)], "three in hand")
        assert bus.stats().groups[0].backlog == 2
        gates.open(3, 4, 5)
        assert sorted(take(done).data for _ in range(3)) == [3, 4, 5]
        assert begun(done, 2) == {6: 1, 7: 1}
        gates.open(6, 7)
        assert sorted(take(done).data for _ in range(2)) == [6, 7]
    text = log.read_text()
    assert "ERROR" not in text
    assert "next in" not in text


def test_max_memory(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process that outgrows it takes nothing more, lets what is under way finish, and another takes its place."""
    worker = Worker(bus, concurrency=2)
    gates = Gates(bus, worker)
    kept: list[bytes] = []

    @worker.on("jobs")
    async def work(event: Event) -> None:
        await bus.asend("done", "begun", "/", [event.data, event.deliveries, os.getpid()])
        await gates.passed(event.data)
        if event.data == 0:
            kept.append(os.urandom(128 << 20))
        await bus.asend("done", "ended", "/", [event.data, event.deliveries, os.getpid()])

    with running(fork, worker, log, max_memory=handling.own_memory() + (96 << 20)):
        until(lambda: bus.stats().groups, "the group")
        send(bus, 2)
        came = [take(done).data for _ in range(2)]
        gates.open(0)
        came.append(take(done).data)
        until(lambda: "another takes its place" in log.read_text(), "the process to have outgrown its memory")
        send(bus, 1, first=2)
        gates.open(1)
        came.append(take(done).data)
        assert [one[:2] for one in came] == [[0, 1], [1, 1], [0, 1], [1, 1]]
        assert len({pid for _, _, pid in came}) == 1
        assert begun(done, 1) == {2: 1}
        gates.open(2)
        assert take(done).data[2] != came[0][2]
    assert "ERROR" not in log.read_text()


# --- the end of what is heard ---


def test_the_end_of_the_bus(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """What is under way then is finished, tried again if it fails, and so is what waits; then the worker ends."""
    worker = Worker(bus, concurrency=2, retry_delay=0.01)
    go = {number: log.with_name(f"go{number}") for number in range(3)}
    notes = log.with_name("notes")

    @worker.on("jobs")
    async def work(event: Event) -> None:
        with notes.open("a") as file:
            file.write(f"{event.data} {event.deliveries}\n")
        while not go[event.data].exists():
            await asyncio.sleep(0.001)
        if event.data == 0 and event.deliveries < 3:
            raise ZeroDivisionError

    parent = fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: any(group.members for group in bus.stats().groups), "the process")
    send(bus, 3)
    until(lambda: notes.exists() and notes.read_text() == "0 1\n1 1\n", "two to begin")
    bus.shutdown()
    for number in (0, 1, 2):
        go[number].touch()
    parent.result()
    assert sorted(notes.read_text().splitlines()) == ["0 1", "0 2", "0 3", "1 1", "2 1"]
    assert "ERROR" not in log.read_text()


def test_the_end_of_the_group(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Once it is removed, what is under way is finished, or cancelled when its time is over; then the worker ends."""

    def remove_it(limit: float) -> bool:
        worker = Worker(bus, concurrency=2, shutdown_timeout=limit)
        gates = gated(bus, worker)
        parent = fork(run_worker, worker, {}, log)
        parent.hear()
        until(lambda: bus.stats().groups, "the group")
        send(bus, 3)
        assert begun(done, 2) == {0: 1, 1: 1}
        bus.remove_group("workers.work")
        gates.open(1)
        parent.result()
        finished = [(event.kind, event.data) for event in done.receive_many(9, 0)]
        assert finished in ([("ended", 1)], [])
        return bool(finished)

    patiently(remove_it, 0.3)
    assert "ERROR" not in log.read_text()
