"""``eventbus top``: rates from two looks, and a screen with keys."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import eventbus
import jobs
from commands import EVENTBUS, SECONDS, ended, running
from eventbus import Bus
from eventbus.cli import app as cli
from eventbus.cli.rates import Look, details, look, summary, view
from harness import take, until

Capture = pytest.CaptureFixture[str]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]")


def looked(bus: Bus, at: float) -> Look:
    """The bus as it is, at a time of the clock."""
    return replace(look(bus.name)[bus.name], at=at)


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


def test_rates(bus: Bus) -> None:
    """Per second of what happened between two looks: sent by topic, bytes, and what each subscriber and group took."""
    with (
        bus.subscribe("orders.*", name="some") as some,
        bus.subscribe("**", name="none"),
        bus.subscribe("jobs", group="g", name="m") as member,
    ):
        bus.send("orders", "o", "/")
        before = looked(bus, 10.0)
        for _ in range(4):
            bus.send("orders.eu", "o", "/")
            bus.send("jobs", "j", "/")
        for _ in range(3):
            take(some)
        take(member), take(member)
        shown = details(looked(bus, 12.0), before)
    assert [shown[key] for key in ("name", "state", "attached", "sent", "rate")] == [bus.name, "live", 1, 9, 4.0]
    assert shown["bytes"] == (bus.stats().committed - before.stats.committed) / 2  # type: ignore[union-attr]
    topics = {row["system"]: (row["sent"], row["rate"]) for row in shown["topics"]}
    assert topics == {"orders": (1, 0.0), "orders.eu": (4, 2.0), "jobs": (4, 2.0)}
    subscribers = by_name(shown["subscribers"])
    assert [(name, row["backlog"], row["rate"]) for name, row in sorted(subscribers.items())] == [
        ("m", 0, 1.0),
        ("none", 9, 0.0),
        ("some", 0, 2.5),
    ]
    assert subscribers["none"]["delay_p50"] is None
    assert 0 < subscribers["some"]["delay_p50"] <= subscribers["some"]["delay_p99"]
    (group,) = shown["groups"]
    assert (group["name"], group["backlog"], group["in_hand"], group["members"], group["rate"]) == ("g", 2, 1, 1, 1.0)
    assert group["held"] >= 0
    assert shown["holding"] == f"subscriber 'none' of process {os.getpid()} has 9 events to receive"


def test_who_holds_the_ring_back(bus: Bus) -> None:
    """The one that keeps most of it; not who stands still and hears nothing, nor who drops."""
    with bus.subscribe("jobs", name="slow"), bus.subscribe("other"), bus.subscribe("**", overflow="drop"):
        _, sent = jobs.fill(bus)
        shown = summary(looked(bus, 1.0), None)
    assert shown["kept"] > 0.8
    assert shown["holding"] == f"subscriber 'slow' of process {os.getpid()} has {sent} events to receive"
    assert (shown["rate"], shown["bytes"]) == (None, None)


def test_another_bus_of_the_name_has_no_rates(name: str) -> None:
    """Its counters begin anew."""
    with eventbus.open(name, capacity=65536) as bus:
        bus.send("a", "b", "/")
        before = looked(bus, 1.0)
    with eventbus.open(name, capacity=65536) as bus:
        bus.send("a", "b", "/")
        assert details(looked(bus, 2.0), before)["topics"] == [{"system": "a", "kind": "b", "sent": 1, "rate": None}]


def test_what_cannot_be_looked_at_is_shown(name: str) -> None:
    """An abandoned bus has a state, and no figures."""
    shown = details(Look(name, "abandoned", 1.0, None), None)
    assert (shown["state"], shown["rate"], shown["topics"]) == ("abandoned", None, [])


@pytest.mark.parametrize(
    ("sort", "part", "systems"),
    [
        (None, "", ["c", "b", "a"]),
        ("rate", "", ["c", "b", "a"]),
        ("sent", "", ["a", "b", "c"]),
        ("name", "", ["a", "b", "c"]),
        ("backlog", "", ["c", "b", "a"]),  # topics have none
        (None, "b", ["b"]),
        (None, "other", []),
    ],
)
def test_sorted_and_filtered(bus: Bus, sort: str | None, part: str, systems: list[str]) -> None:
    """By the column asked for where there is one, the largest first; and only rows that have the text."""
    for system, count in (("a", 9), ("b", 5), ("c", 1)):
        for _ in range(count):
            bus.send(system, "k", "/")
    before = looked(bus, 1.0)
    for system, count in (("b", 1), ("c", 2)):
        for _ in range(count):
            bus.send(system, "k", "/")
    now = looked(bus, 2.0)
    shown = view(bus.name, {bus.name: now}, {bus.name: before}, sort, part)
    assert [row["system"] for row in shown["topics"]] == systems


# --- the command ---


def test_once_for_programs(bus: Bus, capsys: Capture) -> None:
    """One JSON object with everything; of all buses, one with a row for each."""
    with bus.subscribe("**", name="s"):
        bus.send("a", "b", "/")
        assert cli.run(["top", bus.name, "--once", "--interval", "0.1", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert cli.run(["top", "--once", "--interval", "0.1", "--json", "--filter", bus.name]) == 0
        (row,) = json.loads(capsys.readouterr().out)["buses"]
    assert (shown["name"], shown["sent"], shown["rate"]) == (bus.name, 1, 0.0)
    assert [one["name"] for one in shown["subscribers"]] == ["s"]
    assert (row.pop("subscribers"), {key: shown[key] for key in row}) == (1, row)


def test_once_for_people(bus: Bus, capsys: Capture) -> None:
    """Where there is no terminal nothing is cut, and there are no colours; who holds the ring back comes first."""
    long = "x" * 200
    with bus.subscribe("**", name="[red]\x1b[2J"):
        bus.send(long, "b", "/")
        assert cli.run(["top", bus.name, "--once", "--interval", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "of the ring kept: subscriber '[red]\\x1b[2J' of process" in shown.splitlines()[2]
    assert long in shown
    assert "topics: 1" in shown


def test_line_by_line(bus: Bus) -> None:
    """--json without --once writes an object per interval, until Ctrl-C."""
    with running("top", bus.name, "--json", "--interval", "0.1") as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["name"] for _ in range(3)] == [bus.name] * 3
        process.send_signal(signal.SIGINT)
        code, _, errors = ended(process)
    assert (code, errors) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{name}"], 1, "there is no bus named"),
        ([], 1, "there is no terminal to show it on: add --once or --json"),
        (["--sort", "size"], 2, "'size' is none of rate, backlog, lost, sent, name"),
        (["--interval", "0"], 2, "--interval"),
    ],
)
def test_what_cannot_be_done(name: str, arguments: list[str], code: int, says: str, capsys: Capture) -> None:
    """One line."""
    assert cli.run(["top", *(one.format(name=name) for one in arguments)]) == code
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert says in errors


def test_a_bus_that_goes_meanwhile(name: str) -> None:
    """It is told, and the command ends."""
    with eventbus.open(name, capacity=65536), running("top", name, "--json", "--interval", "0.1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        eventbus.unlink(name)
        code, _, errors = ended(process)
    assert (code, errors) == (1, f"eventbus: there is no bus named '{name}': 'eventbus ls' lists those that are\n")


class Terminal:
    """One of 80 columns and 24 lines on which a command runs."""

    def __init__(self, *arguments: str) -> None:
        self._here, self._there = pty.openpty()
        termios.tcsetwinsize(self._there, (24, 80)) if hasattr(termios, "tcsetwinsize") else None
        self.before = termios.tcgetattr(self._there)
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        ends = {"stdin": self._there, "stdout": self._there, "stderr": self._there}
        self.process = subprocess.Popen([*EVENTBUS, *arguments], env=environment, **ends)  # type: ignore[call-overload]
        self.written = ""
        os.set_blocking(self._here, False)

    def read(self) -> str:
        """All that was written so far, without what moves and colours."""
        try:
            while True:
                self.written += os.read(self._here, 65536).decode()
        except BlockingIOError:
            return ESCAPES.sub("", self.written)

    def wait_for(self, text: str) -> None:
        """Until it was written after what was read before."""
        self.written = ""
        until(lambda: text in self.read() or self.process.poll() is not None, f"{text!r} on the terminal")
        assert text in self.read()

    def press(self, keys: str) -> None:
        os.write(self._here, keys.encode())

    def end(self) -> int:
        """Its exit code; what it writes meanwhile is read."""
        until(lambda: (self.read(), self.process.poll() is not None)[1], "the command to end")
        return int(self.process.wait())

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._there)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._here)
        os.close(self._there)


@contextmanager
def on_terminal(*arguments: str) -> Iterator[Terminal]:
    made = Terminal(*arguments)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.release
def test_on_a_terminal(name: str) -> None:
    """It goes on by itself; / filters, s sorts, q ends it, and the terminal is as it was before."""
    with (
        eventbus.open(name, capacity=65536) as bus,
        bus.subscribe("orders", name="billing") as billing,
        on_terminal("top", name, "--interval", "0.1") as terminal,
    ):
        terminal.wait_for("nobody holds the ring back")
        bus.send("orders", "order.created", "/1")
        terminal.wait_for("subscriber 'billing' of process")
        terminal.wait_for("order.created")
        take(billing)
        terminal.wait_for("nobody holds the ring back")
        terminal.press("/users")
        terminal.wait_for("filter: users_")
        terminal.press("\r")
        terminal.wait_for("filter 'users'")
        assert "order.created" not in terminal.read()
        terminal.press("s")
        terminal.wait_for("sorted by rate")
        terminal.press("\x1b")
        terminal.wait_for("order.created")
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.settings() == terminal.before
        assert bus.stats().attached == 1


@pytest.mark.release
def test_ctrl_c_gives_the_terminal_back(name: str) -> None:
    """Like q, with the code that shells know."""
    with eventbus.open(name, capacity=65536), on_terminal("top") as terminal:
        terminal.wait_for("buses: ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert terminal.settings() == terminal.before


@pytest.mark.release
def test_it_fits(name: str) -> None:
    """No line is wider than the terminal, and all tables have room on it."""
    with eventbus.open(name, capacity=1 << 20) as bus:
        for number in range(50):
            bus.send(f"system-with-a-long-name-{number}.of-several.segments", "a-kind.that-is.long", "/")
        with bus.subscribe("**", name="x" * 60), bus.subscribe("jobs", group="workers"):
            with on_terminal("top", name, "--once", "--interval", "0.1") as terminal:
                assert terminal.end() == 0
                lines = terminal.read().splitlines()
            with on_terminal("top", name) as terminal:
                terminal.wait_for("q ends")
                picture = terminal.read()
    assert max(map(len, lines)) <= 80
    assert len(lines) > 50
    assert all(f"{table}: " in picture for table in ("subscribers", "groups", "topics"))
