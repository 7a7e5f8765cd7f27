"""``eventbus doctor``: each thing that can be wrong with a bus is provoked, and found, without a touch."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import eventbus
import jobs
from eventbus import Bus
from eventbus.cli import ailments
from eventbus.cli import app as cli
from eventbus.core import native
from harness import Fork, Line, arm, ring_of, roster_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _removed(name: str) -> Iterator[None]:
    """Tests leave the bus behind in any state."""
    yield
    for file in (ring_of(name), roster_of(name)):
        file.unlink(missing_ok=True)


def findings(name: str, capsys: Capture) -> list[dict[str, Any]]:
    """What is wrong with the bus, whatever is with the host; the exit code says whether there is any."""
    capsys.readouterr()
    code = cli.run(["doctor", name, "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert code == bool(found)
    return [one for one in found if one["bus"] == name]


def found(name: str, capsys: Capture, check: str) -> str:
    """The one thing that is wrong, as a sentence."""
    (one,) = findings(name, capsys)
    assert one["check"] == check
    return f"{one['problem']}: {one['remedy']}"


def test_a_bus_that_is_well(bus: Bus, name: str, capsys: Capture) -> None:
    """With subscribers, groups, events in hand and a ring that went round."""
    with bus.subscribe("jobs", group="g") as member, bus.subscribe("**", overflow="drop"):
        for _ in range(100):
            bus.send("jobs", "job", "/", "x" * 1000)
            member.receive()
        assert findings(name, capsys) == []


def crash(fork: Fork, name: str, point: str | None = None) -> None:
    """A bus whose only process died, in the middle of making it or afterwards."""

    def die(_: Line) -> None:
        if point is not None:
            arm(point)
        bus = eventbus.open(name, capacity=65536)
        bus.send("a", "b", "/")
        os.kill(os.getpid(), signal.SIGKILL)

    fork(die).killed()


@pytest.mark.parametrize("point", [None, "format_written", "looked_up_again"])
def test_abandoned(name: str, fork: Fork, capsys: Capture, point: str | None) -> None:
    """Left by a crash, also half-made; nothing of it is touched."""
    crash(fork, name, point)
    files = [file for file in (ring_of(name), roster_of(name)) if file.exists()]
    before = [file.read_bytes() for file in files]
    assert found(name, capsys, "abandoned") == (
        f"the bus '{name}' is abandoned: everybody who was attached has died: "
        f"'eventbus dump {name}' shows what it holds, 'eventbus gc {name}' removes it"
    )
    assert [file.read_bytes() for file in files] == before


def test_in_the_making(name: str, fork: Fork, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maker stands still, and is named."""
    monkeypatch.setattr(native, "LOCK_SECONDS", 0.2)  # that the door is waited for

    def make(_: Line) -> None:
        arm("format_written", signal.SIGSTOP)
        eventbus.open(name, capacity=65536).close()

    maker = fork(make)
    maker.wait_stopped()
    making, stopped = findings(name, capsys)
    assert (making["check"], stopped["check"]) == ("in-the-making", "stopped")
    assert f"process {maker.pid} is stopped and keeps the lock of whoever opens" in stopped["problem"]
    maker.go_on()
    maker.result()


def test_damaged_or_of_another_version(name: str, capsys: Capture) -> None:
    """Bytes of the signature that are not as they should be, and a ring that has gone."""
    with eventbus.open(name, capacity=65536):
        whole = roster_of(name).read_bytes()
        for at, check in ((8, "other-version"), (56, "damaged")):
            with roster_of(name).open("r+b") as file:
                file.seek(at)
                file.write(bytes([whole[at] ^ 0xFF]))
            assert f"eventbus unlink {name}" in found(name, capsys, check)
            with roster_of(name).open("r+b") as file:
                file.write(whole[:64])
        ring_of(name).unlink()
        assert "the ring of the bus" in found(name, capsys, "damaged")


def test_not_trusted(name: str, capsys: Capture) -> None:
    """Everybody may write to it."""
    with eventbus.open(name, capacity=65536):
        roster_of(name).chmod(0o666)
        assert "have its owner make it anew with mode=0o600" in found(name, capsys, "not-trusted")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_permission(name: str, fork: Fork) -> None:
    """Other users' buses are their own business, unless one is asked for."""

    def somebody_else(_: Line) -> list[list[str]]:
        os.setgroups([])
        os.setegid(65534)
        os.seteuid(65534)
        return [[one.check for one in ailments.look_at_bus(name, asked)] for asked in (False, True)]

    with eventbus.open(name, capacity=65536):
        assert fork(somebody_else).result() == [[], ["no-permission"]]


STOPS = [
    ("publish_locked", "keeps the lock of whoever sends, so nobody else can, of the bus"),
    ("publish_copied", "keeps the lock of whoever sends, so nobody else can, of the bus"),
    ("slot_placed", "keeps the lock of whoever opens, leaves or subscribes, so nobody else can, of the bus"),
]


@pytest.mark.parametrize(("point", "problem"), STOPS)
def test_stopped_with_a_lock(bus: Bus, name: str, fork: Fork, capsys: Capture, point: str, problem: str) -> None:
    """A process stands still in the middle of a send, or while it subscribes: it is named, with what it keeps."""

    def stop(line: Line) -> None:
        with eventbus.open(name) as own:
            line.say()
            line.hear()
            arm(point, signal.SIGSTOP)
            with own.subscribe("x"):
                own.send("a", "b", "/")

    other = fork(stop)
    other.hear()
    bus.send("a", "b", "/")
    other.say()
    other.wait_stopped()
    said = found(name, capsys, "stopped")
    assert said.startswith(f"process {other.pid} is stopped and {problem}")
    assert f"kill -CONT {other.pid}" in said
    other.go_on()
    other.result()
    assert findings(name, capsys) == []


def test_stopped_at_rest(bus: Bus, name: str, fork: Fork, capsys: Capture) -> None:
    """One that keeps no lock of others is named too: sooner or later it holds the ring."""

    def rest(line: Line) -> None:
        with eventbus.open(name), bus.subscribe("a"):
            line.say()
            line.hear()

    other = fork(rest)
    other.hear()
    other.stop()
    assert f"process {other.pid} is stopped and still a user of the bus" in found(name, capsys, "stopped")
    other.go_on()
    other.say()
    other.result()


def test_a_full_ring(bus: Bus, name: str, capsys: Capture) -> None:
    """Whoever has not taken its events is named with their number; when it has taken them, all is well."""
    with bus.subscribe("jobs", name="slow") as slow, bus.subscribe("other", name="stands still"):
        _, sent = jobs.fill(bus)
        assert found(name, capsys, "full") == (
            f"the ring of the bus '{name}' is full, because subscriber 'slow' of process {os.getpid()} has {sent} "
            "events to receive: let it receive or close it, or let it subscribe with overflow='drop'"
        )
        while slow.receive_many(256, 0):
            pass
        assert findings(name, capsys) == []


def test_a_ring_that_a_group_fills(bus: Bus, name: str, capsys: Capture) -> None:
    """A group that nobody works for, and one whose member hangs."""
    bus.group("g", "jobs")
    _, sent = jobs.fill(bus)
    assert f"because the group 'g' has {sent} events that no member took: add members" in found(name, capsys, "full")


def test_no_slot_is_left(name: str, capsys: Capture) -> None:
    """The next subscription would be an error."""
    with eventbus.open(name, capacity=65536, max_subscribers=2) as bus, bus.subscribe("a"), bus.subscribe("a"):
        assert "all 2 subscriber slots of the bus" in found(name, capsys, "slots")


def test_doorbells_of_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of event loops whose process is dead are counted."""
    for left, said in ((0, []), (3, ["3 doorbells are left at which nobody answers"])):
        monkeypatch.setattr(ailments, "sweep_bells", lambda counting, left=left: counting and left)
        assert [one.problem for one in ailments.doorbells()] == said


def test_a_bus_that_is_not_there(name: str, capsys: Capture) -> None:
    """It is an error of one line, as of every command."""
    assert cli.run(["doctor", name]) == 1
    assert capsys.readouterr() == (
        "",
        f"eventbus: there is no bus named '{name}': 'eventbus ls' lists those that are\n",
    )
