"""Handlers that run by the clock."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, Subscription, Worker
from eventbus.workers import schedule, ticks
from harness import Fork, take, until
from pools import Clocked, run_worker, running

HOUR = 3600.0


def test_it_runs_by_the_clock(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """At multiples of its seconds, with or without an argument, in one process, whatever the number of processes."""
    worker = Worker(bus)

    @worker.every(0.05)
    def tick(event: Event) -> None:
        bus.send("done", "tick", "/", [event.data, os.getpid()])

    @worker.every(0.05)
    def tock() -> None:
        bus.send("done", "tock", "/", [0, os.getpid()])

    heard = bus.subscribe("eventbus.every")
    came: list[Event] = []
    with running(fork, worker, log, processes=3):
        while not all(sum(event.kind == kind for event in came) > 5 for kind in ("tick", "tock")):
            came.append(take(done))
    for kind in ("tick", "tock"):
        assert len({event.data[1] for event in came if event.kind == kind}) == 1
    times = [event.data[0] for event in came if event.kind == "tick"]
    assert times == sorted(set(times))
    assert all(abs(one / 0.05 - round(one / 0.05)) < 1e-6 for one in times[1:])
    assert {event.kind for event in heard.receive_many(1000, 0)} == {"workers.tick", "workers.tock"}


def test_one_of_all_workers(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Two workers on a bus: one of them runs it, and when that dies, the other one; each time is run once, but for
    the one in hand at that death."""
    worker = Worker(bus)
    master: list[int] = []

    @worker.on_start
    def started() -> None:
        master.append(os.getppid())

    @worker.every(0.05)
    def tick(event: Event) -> None:
        bus.send("done", "tick", "/", [event.data, master[0], event.deliveries])

    parents = [fork(run_worker, worker, {}, log.with_name(f"log{number}")) for number in range(2)]
    for parent in parents:
        parent.hear()
    first = [take(done).data for _ in range(5)]
    (one,) = {pid for _, pid, _ in first}
    dead, other = sorted(parents, key=lambda parent: parent.pid != one)
    dead.kill()
    came = [take(done).data]
    while came[-1][1] == one:
        came.append(take(done).data)
    assert came[-1][1] == other.pid
    times = [time for time, _, deliveries in first + came if deliveries == 1]
    assert times == sorted(set(times))
    assert [deliveries for _, _, deliveries in first + came if deliveries > 1] in ([], [2])
    other.kill(signal.SIGTERM)
    other.result()
    until(lambda: bus.stats().attached == 1, "the process of the dead one to leave")


def test_a_time_whose_process_died(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It is delivered again, counted, like any other event."""
    worker = Worker(bus)

    @worker.every(0.1)
    def tick(event: Event) -> None:
        bus.send("done", "tick", "/", [event.data, event.deliveries])
        if event.deliveries == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with running(fork, worker, log):
        (first, one), (second, two) = take(done).data, take(done).data
    assert (one, two) == (1, 2)
    assert first == second


def test_a_time_that_went_by(bus: Bus) -> None:
    """While nobody was there it is made up for, once; what was never begun is not."""
    worker = Clocked(bus, lambda after: after + HOUR)
    bus.group("g", "eventbus.every", "g")

    def first(at: float) -> float | None:
        with worker.join():
            return worker.next().data - at if worker.ticks._due <= time.time() else None

    assert first(0.0) is None
    long_ago = time.time() - 3.5 * HOUR
    bus._bring("", [], ("every g", ticks._TIME.pack(long_ago)))
    made_up = first(long_ago)
    assert made_up is not None
    assert made_up > HOUR
    assert first(0.0) is None


def test_a_handler_that_is_slower(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Times that go by while it runs are made up for once: no queue of them forms."""
    worker = Worker(bus)

    @worker.every(0.02)
    def tick(event: Event) -> None:
        bus.send("done", "tick", "/", event.data)
        time.sleep(0.1)

    with running(fork, worker, log):
        times = [take(done).data for _ in range(4)]
    assert all(later - earlier > 0.019 for earlier, later in pairwise(times))
    assert times[-1] - times[0] > 0.19


def test_cron_expressions() -> None:
    """Five fields, in the time zone of the host, with its changes of the clock."""
    pytest.importorskip("cronsim")
    following = schedule.parse("*/5 * * * *")
    start = 1_700_000_001.0
    times = [following(start)]
    for _ in range(3):
        times.append(following(times[-1]))
    assert all(one % 300 == 0 for one in times)
    assert [later - earlier for earlier, later in pairwise(times)] == [300.0] * 3


@pytest.mark.parametrize(
    ("zone", "day"),
    [("Europe/Berlin", (2025, 3, 30)), ("Europe/Berlin", (2025, 10, 26)), ("/usr/share/zoneinfo/UTC", (2025, 3, 30))],
)
def test_days_of_other_lengths(monkeypatch: pytest.MonkeyPatch, zone: str, day: tuple[int, int, int]) -> None:
    """Every day at noon is at noon, also where a day has 23 or 25 hours."""
    pytest.importorskip("cronsim")
    monkeypatch.setenv("TZ", zone)
    noon = schedule.parse("0 12 * * *")
    here = schedule._local_zone()
    before = datetime(*day, tzinfo=here).timestamp() - 86400.0
    for _ in range(3):
        before = noon(before)
        assert (datetime.fromtimestamp(before, here).hour, datetime.fromtimestamp(before, here).minute) == (12, 0)


def test_a_zone_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the offset of now is what there is."""
    monkeypatch.setenv("TZ", "No/Such")
    assert schedule._local_zone() == datetime.now(timezone.utc).astimezone().tzinfo


@pytest.mark.parametrize("when", [0, -1, True, None, float("nan"), 1e12, "", "* * *", "99 * * * *", "x"])
def test_no_schedule(when: object) -> None:
    """What is none is refused where it is written."""
    with pytest.raises(InvalidError, match=r"every takes|no cron expression"):
        Worker("shop").every(when)  # type: ignore[arg-type]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the error names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "cronsim", None)
    with pytest.raises(eventbus.UnavailableError, match=r"eventbus\[cron\]"):
        Worker("shop").every("* * * * *")


def test_a_group_that_can_be_no_kind(bus: Bus) -> None:
    """A time is an event of the group's name as its kind."""
    worker = Worker(bus, group="all*")
    worker.every(1)(lambda: None)
    with pytest.raises(InvalidError, match="the group of a handler with a schedule"):
        worker.run()
