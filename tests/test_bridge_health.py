"""Health of a bridge: its states and figures, what its bus, its log and systemd are told of them, and how often."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event
from eventbus.bridge.config import from_options
from eventbus.bridge.health import BEAT, QUIET, Health
from eventbus.bridge.names import SELDOM, STATUS_EVERY, SYSTEM, group_of
from eventbus.bridge.notify import Notifier

RUN = 1_700_000_000_000_000_000


class Clock:
    """A monotonic clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(bus: Bus, clock: Clock) -> Health:
    return healthy(bus, clock)


@pytest.fixture
def told(bus: Bus) -> Iterator[eventbus.Subscription]:
    with bus.subscribe(SYSTEM) as sub:
        yield sub


def healthy(bus: Bus, clock: Clock) -> Health:
    config = from_options(bus.name, servers=["nats://127.0.0.1"], origin="h1", exports=["a"], imports=["b"])
    return Health(bus, config, RUN, now=clock, notifier=Notifier())


def kinds(told: eventbus.Subscription) -> list[str]:
    """Of all that was told since."""
    return [event.kind for event in told.receive_many(256, 0)]


def last(told: eventbus.Subscription, kind: str) -> Event:
    """The last of the kind of all that was told since."""
    return [event for event in told.receive_many(256, 0) if event.kind == kind][-1]


def test_up_and_down(health: Health, told: eventbus.Subscription) -> None:
    """Whoever hears the bus learns when it begins and ceases to run, and why; every change is a status too."""
    health.move("syncing")
    health.beat()
    assert kinds(told) == ["status"]
    health.move("running")
    health.beat()
    assert kinds(told) == ["up", "status"]
    health.move("degraded", "no server at nats://127.0.0.1: Connection refused")
    health.beat()
    down, status = told.receive_many(2, 0)
    why = "no server at nats://127.0.0.1: Connection refused"
    assert (down.kind, down.path, down.data) == ("down", "/h1", {"state": "degraded", "why": why})
    assert (status.data["state"], status.data["why"], status.data["pid"]) == ("degraded", why, os.getpid())
    health.move("syncing")
    health.move("running")
    health.move("fenced", "another one")
    health.beat()
    assert kinds(told) == ["down", "status"]  # what was over before it could be told is not told
    health.stop()
    assert kinds(told) == []
    assert health.state == "fenced"


def test_the_last_word(health: Health, told: eventbus.Subscription) -> None:
    """A bridge that ends says so, whatever else was to be told before."""
    health.move("running")
    health.gap("h2", 3)
    health.stop()
    events = told.receive_many(9, 0)
    assert {event.kind for event in events} == {"down", "gap", "status"}
    assert (events[-1].kind, events[-1].data["state"]) == ("status", "stopped")


def test_figures(health: Health, bus: Bus) -> None:
    """Each is the sum of what the parts of the bridge took note of."""
    health.exported(256)
    health.exported(4)
    health.lost(7)
    health.refused("large", "an event is too large", 2)
    health.refused("large", "an event is too large")
    health.refused("unreadable", "an event cannot be read")
    for origin in ("h2", "h3"):
        health.imported(origin, 10, 5, time.time_ns())
        health.duplicate(origin, 2)
        health.vain(origin)
        health.gap(origin, 4)
        health.rejected(origin, "json", "it is no JSON")
    seen = health.snapshot()
    assert (seen["origin"], seen["domain"], seen["bus"], seen["began"]) == ("h1", "main", bus.identity, RUN / 1e9)
    assert (seen["exported"], seen["lost"], seen["refused"]) == (260, 7, {"large": 3, "unreadable": 1})
    assert (seen["imported"], seen["duplicates"], seen["vain"], seen["gaps"]) == (20, 4, 2, 8)
    assert (seen["rejected"], seen["import_lag_events"]) == ({"json": 2}, 10)


def test_how_far_the_export_is_behind(health: Health, bus: Bus) -> None:
    """In events, those of its group that are not acknowledged, in hand or not; in seconds, the age of the oldest one in
    hand, 0 while there is none."""
    with bus.subscribe("a", group=group_of("h1"), prefetch=2, ack="manual") as member:
        bus.send_many([("a", "k", "/p")] * 5)
        assert len(member.receive_many(2, 0)) == 2
        assert (health.snapshot()["export_lag_events"], health.snapshot()["export_lag_seconds"]) == (5, 0.0)
        health.holding(time.time_ns() - 5_000_000_000)
        assert 5.0 <= health.snapshot()["export_lag_seconds"] < 5.0 + 60.0
        health.holding(time.time_ns() + 10**12)  # of a clock that was set back
        assert health.snapshot()["export_lag_seconds"] == 0.0
        health.holding(None)
        assert health.snapshot()["export_lag_seconds"] == 0.0


def test_how_far_the_import_is_behind(health: Health) -> None:
    """In seconds, the age of the last one of the origin that is furthest behind, of those with more to come."""
    now = time.time_ns()
    health.imported("h2", 1, 0, now - 10**12)
    assert health.snapshot()["import_lag_seconds"] == 0.0
    health.imported("h3", 1, 4, now - 3 * 10**9)
    health.imported("h4", 1, 1, now - 7 * 10**9)
    seen = health.snapshot()
    assert (seen["import_lag_events"], 7.0 <= seen["import_lag_seconds"] < 67.0) == (5, True)


def test_gaps_are_told_with_their_number(health: Health, told: eventbus.Subscription) -> None:
    """Each way and origin by itself; several before they could be told are one."""
    health.lost(3)
    health.lost(4)
    health.gap("h2", 5)
    health.gap("h3", 6)
    health.beat()
    gaps = [event.data for event in told.receive_many(9, 0) if event.kind == "gap"]
    assert gaps == [
        {"way": "export", "origin": "h1", "events": 7},
        {"way": "import", "origin": "h2", "events": 5},
        {"way": "import", "origin": "h3", "events": 6},
    ]
    health.gap("h2", 1)
    health.beat()
    assert last(told, "gap").data["events"] == 1


def test_one_line_per_minute_and_cause(health: Health, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """What comes up again within a minute is counted, and the next line says how often."""
    caplog.set_level(logging.INFO, "eventbus.bridge")
    for second in range(int(QUIET) * 2 + 1):
        clock.now = 1000.0 + second
        health.refused("large", f"an event has {second} bytes too many")
        health.say("other", "something else")
    more = f"({int(QUIET) - 1} times more since the last line)"
    lines = [
        f"h1: an event has {n} bytes too many{'' if n == 0 else f' {more}'}" for n in (0, int(QUIET), 2 * int(QUIET))
    ]
    others = ["h1: something else", *[f"h1: something else {more}"] * 2]
    assert sorted(record.getMessage() for record in caplog.records) == sorted(lines + others)


def test_a_link_that_flaps_is_no_loop_of_lines(health: Health, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Up and down every second is one line of each per minute; the state is what it is."""
    caplog.set_level(logging.INFO, "eventbus.bridge")
    for second in range(30):
        clock.now += 1.0
        health.move("running")
        health.move("degraded", f"no server for {second} s", "no server")
        assert (health.state, health.why) == ("degraded", f"no server for {second} s")
    assert [record.getMessage() for record in caplog.records] == ["h1: running", "h1: degraded: no server for 0 s"]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_how_often_a_status_is_said(health: Health, told: eventbus.Subscription, bus: Bus, clock: Clock) -> None:
    """Every few seconds, and where a quarter of the ring went by, every second: so the ring still holds it."""
    health.beat()
    assert kinds(told) == ["status"]
    clock.now += STATUS_EVERY - 0.5
    health.beat()
    assert kinds(told) == []
    clock.now += 0.5
    health.beat()
    assert kinds(told) == ["status"]
    for _ in range(bus.stats().capacity // 4 // 1000 + 1):
        bus.send("quiet", "k", "/p", bytes(1000))
    clock.now += BEAT / 2
    health.beat()
    assert kinds(told) == []
    clock.now += BEAT / 2
    health.beat()
    assert kinds(told) == ["status"]


def fill(bus: Bus) -> None:
    """Sends until no further event finds room."""
    while True:
        try:
            bus.send("a", "k", "/p", timeout=0)
        except eventbus.FullError:
            return


def test_in_a_ring_that_is_nearly_full(name: str, clock: Clock) -> None:
    """It says it seldom, and what finds no room at all waits and is told once there is."""
    with eventbus.open(name, capacity=65536) as bus, bus.subscribe(["a", SYSTEM]) as slow:
        health = healthy(bus, clock)
        bus.send_many([("a", "k", "/p", bytes(2000))] * 29)
        health.beat()
        clock.now += SELDOM - 1
        before = bus.stats().sent
        health.beat()
        assert bus.stats().sent == before
        clock.now += 1
        health.beat()
        assert bus.stats().sent == before + 1
        fill(bus)
        health.gap("h2", 1)
        health.beat()
        clock.now += SELDOM
        health.gap("h2", 1)
        assert "gap" not in [event.kind for event in slow.receive_many(256, 0)]
        health.beat()
        gap, status = slow.receive_many(9, 0)
        assert (gap.kind, gap.data["events"], status.kind) == ("gap", 2, "status")


def test_no_policy_is_asked(name: str, clock: Clock) -> None:
    """What a bridge tells its bus is the bus's own: a policy that lets it carry little does not silence it."""
    with (
        eventbus.open(name) as bus,
        bus.subscribe(SYSTEM) as told,
        eventbus.open(name, policy={"default": "deny"}, actor="bridge:h1") as guarded,
    ):
        healthy(guarded, clock).beat()
        assert kinds(told) == ["status"]


def test_it_tells_at_once(health: Health, told: eventbus.Subscription) -> None:
    """In its loop a change is told when it is made, and a beat comes without one; cancelled, it ends."""

    async def scenario() -> list[str]:
        running = asyncio.create_task(health.run())
        first = await told.areceive(60)
        health.move("running")
        others = [await told.areceive(60) for _ in range(2)]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return [event.kind for event in (first, *others) if event is not None]

    assert asyncio.run(scenario()) == ["status", "up", "status"]


def test_it_ends_in_the_moment_of_a_change(health: Health) -> None:
    """Cancelled when it is about to tell something, it ends all the same."""

    async def scenario() -> None:
        running = asyncio.create_task(health.run())
        await asyncio.sleep(0)
        health.move("fenced", "another one")
        running.cancel()
        await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 60)

    asyncio.run(scenario())


# --- systemd ---


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd listens at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def heard(systemd: socket.socket) -> list[list[str]]:
    """The lines of each datagram."""
    found = []
    while True:
        try:
            found.append(systemd.recv(4096).decode().splitlines())
        except BlockingIOError:
            return found


def test_systemd_is_told(systemd: socket.socket, bus: Bus, clock: Clock) -> None:
    """READY once it has begun, be the servers there or not; a status and a sign of life with each beat; the end."""
    health = healthy(bus, clock)
    health.beat()
    health.move("degraded", "no server")
    health.beat()
    health.move("running")
    health.beat()
    health.stop()
    assert heard(systemd) == [
        ["WATCHDOG=1", "STATUS=starting"],
        ["READY=1", "WATCHDOG=1", "STATUS=degraded: no server"],
        ["WATCHDOG=1", "STATUS=running"],
        ["STOPPING=1", "WATCHDOG=1", "STATUS=stopped"],
    ]


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd names one with an @."""
    name = f"eventbus-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Notifier().tell("READY=1")
        assert heard(listening) == [["READY=1"]]


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        (None, None, None),
        ("3000000", None, 3.0),
        ("3000000", "mine", 3.0),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, usec: Any, pid: Any, seconds: float | None
) -> None:
    """Its time is this process's, or nobody's."""
    for key, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid)):
        if value is not None:
            monkeypatch.setenv(key, value)
    assert Notifier().watchdog == seconds


def test_without_systemd(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is told; a socket that is gone is one line in the log, however often, and no failure."""
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    Notifier().tell("READY=1")
    assert (Notifier().watchdog, caplog.records) == (None, [])
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    notifier = Notifier()
    for _ in range(3):
        notifier.tell("WATCHDOG=1")
    assert [record.getMessage() for record in caplog.records] == [
        "systemd was not told 'WATCHDOG=1': No such file or directory"
    ]
