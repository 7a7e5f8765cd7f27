"""``eventbus dump``: what a bus still holds that nobody is attached to, without a touch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import Bus, Event
from eventbus.cli import app as cli
from eventbus.core.inspection import inspect_bus
from eventbus.hearing import hearing
from eventbus.remains import Remains
from harness import Fork, Line, arm, points, ring_of, roster_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _removed(name: str) -> Iterator[None]:
    """Tests leave the bus behind in any state."""
    yield
    for file in (ring_of(name), roster_of(name)):
        file.unlink(missing_ok=True)


def crash(fork: Fork, name: str, job: Any, **options: Any) -> None:
    """A bus whose only process was killed after it did something."""

    def die(_: Line) -> None:
        bus = eventbus.open(name, capacity=options.pop("capacity", 65536), **options)
        job(bus)
        os.kill(os.getpid(), 9)

    fork(die).killed()


def send(bus: Bus) -> None:
    bus.send_many([("orders", "order.created", f"/{number}", {"n": number}) for number in range(300)])


def send_much(bus: Bus) -> None:
    for _ in range(20):
        send(bus)


def dumped(capsys: Capture, name: str, *options: str, code: int = 0) -> list[dict[str, Any]]:
    """The events that the command writes; its exit code is as expected."""
    capsys.readouterr()
    assert cli.run(["dump", name, "--json", *options]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def sequences(capsys: Capture, name: str, *options: str) -> list[int]:
    return [event["sequence"] for event in dumped(capsys, name, *options)]


def state(name: str) -> tuple[bytes, bytes, str]:
    about = inspect_bus(name)
    assert about is not None
    return ring_of(name).read_bytes(), roster_of(name).read_bytes(), about.state


def test_after_a_crash(name: str, fork: Fork, capsys: Capture) -> None:
    """All of it as it was sent; no byte of the bus is changed, and nobody was attached."""

    def job(bus: Bus) -> None:
        send(bus)
        bus.send("users", "user.new", "/raw", b"\x00\xff", headers={"trace": "1"})
        bus.send("orders", "order.paid", "/" + "x" * 4000, "y" * 10_000)

    crash(fork, name, job)
    before = state(name)
    events = dumped(capsys, name)
    assert [event["sequence"] for event in events] == [*range(1, 303)]
    assert [event["data"] for event in events[:300]] == [{"n": number} for number in range(300)]
    assert (events[300]["base64"], events[300]["headers"]) == ("AP8=", {"trace": "1"})
    assert (len(events[301]["path"]), events[301]["data"]) == (4001, "y" * 10_000)
    assert state(name) == before
    assert before[2] == "abandoned"


def test_lines_for_people_and_patterns(name: str, fork: Fork, capsys: Capture) -> None:
    """As ``tail`` writes them, and only those asked for."""

    def job(bus: Bus) -> None:
        bus.send("orders.eu", "order.created", "/1", {"a": 1})
        bus.send("users", "user.new", "/2")

    crash(fork, name, job)
    assert cli.run(["dump", name, "orders.*"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0], line.split(" ", 2)[2]] == ["1", 'orders.eu order.created /1 {"a": 1}']
    assert sequences(capsys, name, "--kind", "*.new") == [2]


def test_a_ring_that_went_round(name: str, fork: Fork, capsys: Capture) -> None:
    """What it has kept is all there, without a gap up to the last one."""
    crash(fork, name, send_much, capacity=16384)
    found = sequences(capsys, name)
    assert found == [*range(found[0], 6001)]
    assert found[0] > 1


@pytest.mark.parametrize("point", ["publish_header", "publish_copied", "oldest_moved", "event_counted"])
def test_killed_in_the_middle_of_a_send(name: str, fork: Fork, capsys: Capture, point: str) -> None:
    """The event is whole or not there, and those before it are."""

    def job(bus: Bus) -> None:
        for _ in range(4):
            send(bus)
        arm(point)
        bus.send("orders", "order.created", "/last", "x" * 3000)

    assert point in points()
    crash(fork, name, job, capacity=16384)
    before = state(name)
    events = dumped(capsys, name)
    last = 1201 if events[-1]["path"] == "/last" else 1200
    assert [event["sequence"] for event in events] == [*range(events[0]["sequence"], last + 1)]
    assert state(name) == before


def test_topics_past_the_table(name: str, fork: Fork, capsys: Capture) -> None:
    """Events that carry their names have them."""
    systems = [f"{'s' * 240}.{number}" for number in range(1200)]
    crash(fork, name, lambda bus: [bus.send(one, "k" * 250, "/") for one in systems], capacity=1 << 20)
    assert [event["system"] for event in dumped(capsys, name)] == systems
    assert len(dumped(capsys, name, systems[-1])) == 1


def test_requests(name: str, fork: Fork, capsys: Capture) -> None:
    """They have the kind that was asked for, as in ``tail``."""

    def job(bus: Bus) -> None:
        with pytest.raises(eventbus.UnavailableError):
            bus.request("prices", "price.of", "/fruit", "apple", timeout=0)

    crash(fork, name, job)
    (event,) = dumped(capsys, name, "prices", "--kind", "price.of")
    assert (event["kind"], event["data"]) == ("price.of", "apple")


def test_what_cannot_be_read_is_told(name: str, fork: Fork, capsys: Capture) -> None:
    """Its neighbours are there, and the exit code says so."""

    def job(bus: Bus) -> None:
        bus.send_many([("a", "b", "/1", 1), ("a", "b", "/2", orjson.Fragment(b"{")), ("a", "b", "/3", 3)])

    crash(fork, name, job)
    assert cli.run(["dump", name, "--json"]) == 1
    out, errors = capsys.readouterr()
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == [1, 3]
    assert errors.startswith("eventbus: the event 2 'a' 'b' '/2' of the bus ")


def test_a_ring_that_is_damaged(name: str, fork: Fork, capsys: Capture) -> None:
    """What stands before the damage is shown, and the damage is one line."""
    crash(fork, name, send)
    whole = ring_of(name).read_bytes()
    at = whole.index(b'"/150"') - 4 * 8
    ring_of(name).write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    assert cli.run(["dump", name, "--json"]) == 1
    out, errors = capsys.readouterr()
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == [*range(1, 151)]
    assert "the sequence of the records is broken" in errors
    assert errors.count("\n") == 1


def test_a_bus_that_was_told_to_stay(name: str, capsys: Capture) -> None:
    """It can be looked at while nobody is there, and is as it was."""
    with eventbus.open(name, capacity=65536, persist=True) as bus:
        send(bus)
    before = state(name)
    assert sequences(capsys, name) == [*range(1, 301)]
    assert state(name) == before
    assert before[2] == "persistent"


def test_it_is_used_again_meanwhile(name: str) -> None:
    """Whoever comes while it is read overwrites what is next: that is counted, and nothing else is missed."""
    with eventbus.open(name, capacity=16384, persist=True) as bus:
        send(bus)
    with closing(Remains(name, hearing("**", None, None))) as remains:
        found = remains.found()
        first = [next(found)]
        with eventbus.open(name) as bus:
            for _ in range(3):
                send(bus)
        came = [event.sequence for event in [*first, *found] if isinstance(event, Event)]
        assert came == sorted(came)
        assert came[-1] == 1200
        assert came[-1] - came[0] + 1 == len(came) + remains.lost
        assert remains.lost > 0


def test_one_that_was_replaced_meanwhile(name: str, fork: Fork) -> None:
    """What is being read is still what the crash left."""
    crash(fork, name, send)
    with closing(Remains(name, hearing("**", None, None))) as remains:
        with eventbus.open(name, capacity=65536) as bus:
            bus.send("a", "b", "/")
        assert [event.sequence for event in remains.found() if isinstance(event, Event)] == [*range(1, 301)]


def test_the_policy_holds(
    name: str, fork: Fork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """What may not be heard is not shown."""

    def job(bus: Bus) -> None:
        bus.send_many([("orders", "o", "/"), ("users", "u", "/")])

    crash(fork, name, job)
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\neffect = "deny"\nactions = ["events.subscribe"]\nresources = ["users"]\n')
    monkeypatch.setenv("EVENTBUS_POLICY", str(policy))
    assert sequences(capsys, name) == [1]
    assert cli.run(["dump", name, "users"]) == 1
    assert "does not let" in capsys.readouterr().err


def refused(capsys: Capture, name: str) -> str:
    """What the command says, in one line."""
    capsys.readouterr()
    assert cli.run(["dump", name]) == 1
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    return errors


def test_what_cannot_be_dumped(name: str, fork: Fork, capsys: Capture) -> None:
    """No such bus; one that is in use; one that was never finished; one without its roster, its ring, its version."""
    assert f"there is no bus named '{name}'" in refused(capsys, name)
    with eventbus.open(name, capacity=65536) as bus:
        assert f"'eventbus tail {name} --oldest' shows what it holds" in refused(capsys, name)
        assert bus.stats().attached == 1
    roster_of(name).touch(mode=0o600)
    assert "was never finished by its maker" in refused(capsys, name)
    roster_of(name).unlink()
    crash(fork, name, send)
    roster = roster_of(name).read_bytes()
    roster_of(name).write_bytes(roster[:8] + b"\xff" + roster[9:])
    assert "version" in refused(capsys, name)
    roster_of(name).unlink()
    assert "the roster of the bus" in refused(capsys, name)
    roster_of(name).write_bytes(roster)
    roster_of(name).chmod(0o600)
    ring_of(name).unlink()
    assert "the ring of the bus" in refused(capsys, name)


def test_it_has_nothing_to_give_back(name: str, fork: Fork) -> None:
    """It never joined: closed, and closed again, the bus is as it was."""
    crash(fork, name, send)
    before = state(name)
    with closing(Remains(name, hearing("**", None, None))) as remains:
        assert len([*remains.found()]) == 300
        remains.close()
        assert remains.closed
    assert state(name) == before


@pytest.mark.release
def test_as_a_program(name: str) -> None:
    """A process dies by ``kill -9``, and another one shows what it sent last."""
    sends = f"bus = eventbus.open({name!r}, capacity=65536); [bus.send('a', 'b', f'/{{n}}') for n in range(1000)]"
    code = f"import eventbus, os; {sends}; os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    done = subprocess.run([sys.executable, "-m", "eventbus", "dump", name], capture_output=True, text=True, check=True)
    assert [line.split()[4] for line in done.stdout.splitlines()] == [f"/{number}" for number in range(1000)]
