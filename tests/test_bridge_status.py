"""What a bus knows of its bridges: while they run, when they hang, and when they are silent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import eventbus
from eventbus import Bus
from eventbus.bridge import status
from eventbus.bridge.config import from_options
from eventbus.bridge.health import Health
from eventbus.bridge.names import SELDOM, STATUS, SYSTEM, group_of
from eventbus.bridge.notify import Notifier
from eventbus.bridge.status import SILENT, bridges
from eventbus.cli import app as cli
from harness import Fork, Line


@pytest.fixture
def health(bus: Bus) -> Health:
    return healthy(bus)


def healthy(bus: Bus) -> Health:
    """That of a bridge which runs."""
    config = from_options(bus.name, servers=["nats://127.0.0.1"], origin="h1", exports=["a"])
    made = Health(bus, config, time.time_ns(), notifier=Notifier())
    made.move("running")
    return made


@contextmanager
def reading(bus: Bus) -> Iterator[None]:
    """While the bridge is there to read what is to go out."""
    with bus.subscribe("a", group=group_of("h1"), name=group_of("h1"), exclusive=True):
        yield


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock for whoever asks, ``ahead`` of that of the bridge."""
    clock = SimpleNamespace(ahead=0.0)
    monkeypatch.setattr(status, "time", SimpleNamespace(time=lambda: time.time() + clock.ahead))
    return clock


def only(bus: Bus) -> dict[str, Any]:
    """Of the one bridge."""
    (row,) = bridges(bus.stats())
    return row


def test_nobody(bus: Bus) -> None:
    """A bus without bridges has none, and its other groups are no bridges."""
    with bus.subscribe("a", group="bridges"), bus.subscribe("a", group="bridge.queue.jobs"):
        assert bridges(bus.stats()) == []


def test_one_that_runs(bus: Bus, health: Health) -> None:
    """Its figures are those of its last word, but for what is to go out, which the ring knows better."""
    with reading(bus):
        health.exported(7)
        health.beat()
        bus.send("a", "k", "/p")
        row = only(bus)
        figures = {**health.snapshot(), "said": row["said"]}
    assert row == figures
    assert (row["state"], row["exported"], row["export_lag_events"]) == ("running", 7, 1)
    assert 0 <= row["said"] < 60


@pytest.mark.parametrize("ahead", [SILENT + 1, 3600.0])
def test_one_that_should_have_spoken(bus: Bus, health: Health, later: SimpleNamespace, ahead: float) -> None:
    """Silence is judged by whether the process lives that reads for it; what it said last is still shown."""
    health.exported(7)
    with reading(bus):
        health.beat()
        later.ahead = ahead
        row = only(bus)
        assert row["state"] == "hanging"
        assert row["why"].startswith(f"process {row['pid']} lives and said nothing for {ahead:.0f}"[:-1])
        assert row["exported"] == 7
    row = only(bus)
    assert (row["state"], row["exported"]) == ("silent", 7)
    assert row["why"].startswith("it said nothing for ")


def test_one_in_a_ring_that_is_nearly_full(name: str, later: SimpleNamespace) -> None:
    """There it speaks seldom, and is waited for."""
    with eventbus.open(name, capacity=65536) as bus, bus.subscribe("a"):
        health = healthy(bus)
        with reading(bus):
            bus.send_many([("a", "k", "/p", bytes(2000))] * 29)
            health.beat()
            later.ahead = SELDOM + SILENT
            assert only(bus)["state"] == "running"
            later.ahead = 3 * SELDOM + 1
            assert only(bus)["state"] == "hanging"


def test_one_whose_last_word_left_the_ring(bus: Bus, health: Health) -> None:
    """What the ring holds of its group is left: whether it lives, and how much is to go out."""
    health.beat()
    with reading(bus):
        for _ in range(bus.stats().capacity // 6_000 + 1):
            bus.send("quiet", "k", "/p", bytes(6_000))
        bus.send("a", "k", "/p")
        row = only(bus)
        assert row["why"].endswith("lives and said nothing that the ring still holds")
        assert (row["state"], row["said"], row["export_lag_events"]) == ("hanging", None, 1)
        assert "exported" not in row
    assert only(bus)["state"] == "silent"


def test_one_that_was_never_heard_of(bus: Bus) -> None:
    """Before its first word it is known by its group."""
    with reading(bus):
        assert (only(bus)["origin"], only(bus)["state"]) == ("h1", "hanging")


@pytest.mark.parametrize("ended", ["stopped", "fenced"])
def test_one_that_ended(bus: Bus, health: Health, later: SimpleNamespace, ended: Any) -> None:
    """One that said its end is not missed."""
    health.move(ended, "why")
    health.beat()
    later.ahead = 3600.0
    assert (only(bus)["state"], only(bus)["why"]) == (ended, "why")


def hang(line: Line, bus: Bus) -> None:
    """Speaks once, as a bridge, and again only when the test says so."""
    with reading(bus):
        healthy(bus).beat()
        line.say()
        line.hear()


def test_one_that_may_be_lapped(bus: Bus, health: Health, later: SimpleNamespace) -> None:
    """With when_full="drop" it reads by a subscription of that name, which says the same."""
    with bus.subscribe("a", overflow="drop", name=group_of("h1")):
        bus.send("a", "k", "/p")
        health.beat()
        assert (only(bus)["state"], only(bus)["export_lag_events"]) == ("running", 1)
        assert health.snapshot()["export_lag_events"] == 1
        later.ahead = 60.0
        assert only(bus)["state"] == "hanging"
    assert only(bus)["state"] == "silent"


def test_nobody_is_asked(bus: Bus, fork: Fork, later: SimpleNamespace) -> None:
    """A bridge that stands still is seen as it is, by its pid."""
    child = fork(hang, bus)
    child.hear()
    child.stop()
    assert (only(bus)["state"], only(bus)["pid"]) == ("running", child.pid)
    later.ahead = 60.0
    assert only(bus)["why"].startswith(f"process {child.pid} lives and said nothing for 6")
    child.kill()
    assert only(bus)["state"] == "silent"


def test_what_others_sent_as_a_status(bus: Bus, health: Health) -> None:
    """Raw data and other shapes are passed over; a bridge of another origin is another one."""
    health.beat()
    for data in (b"raw", [1], None, "text"):
        bus.send(SYSTEM, STATUS, "/h1", data)
    bus.send(SYSTEM, STATUS, "/h2", {"state": "running", "since": "soon", "refused": 1})
    assert [(row["origin"], row["state"]) for row in bridges(bus.stats())] == [("h1", "running"), ("h2", "running")]


def test_a_bus_that_is_shut_down(bus: Bus, health: Health) -> None:
    """It has no bridges any more."""
    health.beat()
    bus.shutdown()
    assert bridges(bus.stats()) == []


# --- on the command line ---


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = cli.run([*arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_status_for_people(bus: Bus, health: Health, capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure has a line, reasons with their numbers; strangers' values are shown as they are."""
    health.refused("large", "an event is too large", 3)
    health.beat()
    bus.send(SYSTEM, STATUS, "/\x1b[2J", {"state": "running", "since": "soon", "refused": {}})
    code, out, err = run(capsys, "bridge", bus.name, "--status")
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert (code, err) == (0, "")
    for expected in (["origin", "h1"], ["state", "running"], ["refused", "large 3"], ["exported", "0"]):
        assert expected in [[part.strip() for part in line] for line in lines]
    assert "since soon" in " ".join(out.split())
    assert "\x1b" not in out


def test_status_for_programs(bus: Bus, health: Health, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows as they are."""
    health.beat()
    code, out, _ = run(capsys, "bridge", "--status", bus.name, "--json")
    (row,) = json.loads(out)
    assert (code, row["origin"], row["state"], row["refused"]) == (0, "h1", "running", {})


def test_status_of_what_is_not_well(bus: Bus, health: Health, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code tells, and a bus without bridges is none that is well."""
    nobody = f"eventbus: no bridge is on the bus {bus.name!r}, nor was one as far as its ring tells\n"
    assert run(capsys, "bridge", bus.name, "--status") == (1, "", nobody)
    assert run(capsys, "bridge", bus.name, "--status", "--json") == (1, "[]\n", "")
    health.move("degraded", "no server")
    health.beat()
    code, out, _ = run(capsys, "bridge", bus.name, "--status")
    assert (code, "no server" in out) == (1, True)


def test_status_of_no_bus(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not made."""
    code, _, err = run(capsys, "bridge", name, "--status")
    assert (code, err) == (1, f"eventbus: there is no bus named {name!r}: 'eventbus ls' lists those that are\n")


def test_bridges_in_stat(bus: Bus, health: Health, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one is known, `stat` shows it, and --json has all of its figures; elsewhere the list is empty."""
    assert json.loads(run(capsys, "stat", bus.name, "--json")[1])["bridges"] == []
    assert "bridges" not in run(capsys, "stat", bus.name)[1]
    health.lost(7)
    health.beat()
    (row,) = json.loads(run(capsys, "stat", bus.name, "--json")[1])["bridges"]
    assert (row["origin"], row["lost"]) == ("h1", 7)
    table = run(capsys, "stat", bus.name)[1].partition("bridges: 1\n")[2].splitlines()
    assert table[0].split()[:2] == ["origin", "state"]
    assert table[1].split()[:2] == ["h1", "running"]


def test_stat_without_a_slot(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody more can subscribe, the rest is shown, and why the bridges are not."""
    with eventbus.open(name, max_subscribers=1) as bus:
        healthy(bus).beat()
        with bus.subscribe("a"):
            code, out, err = run(capsys, "stat", name, "--json")
            assert (code, json.loads(out)["bridges"]) == (0, [])
            assert err.startswith("eventbus: bridges are not shown: ")
            assert len(err.splitlines()) == 1
