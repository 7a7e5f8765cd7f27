"""``requeue`` that is killed, interrupted or asked at a terminal: run again, it sends the rest and nothing twice."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Subscription
from eventbus.cli import app as cli
from eventbus.cli import requeue as command
from eventbus.cli.graveyard import MARK
from graves import again, die, of_another_life, record, requeue
from harness import DEADLINE, Child, Fork, Line, arm, until
from jobs import numbers

COMMAND = [sys.executable, "-m", "eventbus", "requeue"]
LETTERS = 10


def run_armed(line: Line, arguments: list[str], point: str | None, passes: int) -> int:
    """Runs the command, and dies in the middle of it."""
    if point is not None:
        arm(point, passes=passes)
    return cli.run(["requeue", *arguments])


SENDING = ("publish_claimed", "publish_copied", "publish_committed", "publish_counted", "publish_unlocked")
NOTING = ("note_written", "note_numbered", "publish_committed")


@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("point", SENDING)
def test_killed_while_it_sends_those_of_the_ring(
    fork: Fork, bus: Bus, point: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is there once when it is run again, whatever had been sent by then."""
    die(bus, *range(LETTERS))
    monkeypatch.setattr(command, "BATCH", 3)
    with bus.subscribe("jobs") as heard:
        fork(run_armed, [bus.name], point, passes).killed()
        assert requeue(bus) == 0
        assert again(heard) == list(range(LETTERS))


@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("point", NOTING)
def test_killed_while_it_sends_those_of_a_recording(
    fork: Fork, name: str, point: str, passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, with how far it was."""
    file = record(tmp_path / "dead", of_another_life(name, *range(LETTERS)))
    monkeypatch.setattr(command, "BATCH", 3)
    with eventbus.open(name) as bus, bus.subscribe("jobs") as heard:
        fork(run_armed, [name, "--from", file], point, passes).killed()
        assert requeue(bus, "--from", file) == 0
        assert again(heard) == list(range(LETTERS))


def until_it_ends(child: Child, heard: Subscription) -> list[Any]:
    """What comes as long as it lives, and after."""
    came = []
    while child.running():
        came += numbers(heard, 0.01)
    return came + numbers(heard)


def test_killed_when_the_ring_has_lost_what_it_sent(
    fork: Fork, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording longer than the ring goes on where it was, also when nothing of its beginning can be seen."""
    file = record(tmp_path / "dead", of_another_life(name, *range(200)))
    monkeypatch.setattr(command, "BATCH", 3)
    arguments = [name, "--from", file, "--timeout", str(DEADLINE)]
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("jobs") as heard:
        child = fork(run_armed, arguments, "publish_copied", 40)
        came = until_it_ends(child, heard)
        child.killed()
        with bus.subscribe("jobs", overflow="drop", start="oldest") as kept:
            assert numbers(kept)[0] > 0
        child = fork(run_armed, arguments, None, 0)
        came += until_it_ends(child, heard)
        assert child.result() == 0
    assert came == list(range(200))


@pytest.mark.release
def test_ctrl_c(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how far it was, ends with the code that shells know, and the same command sends the rest."""
    file = record(tmp_path / "dead", of_another_life(name, *range(100)))
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("jobs") as heard:
        arguments = [*COMMAND, name, "--from", file, "--timeout", str(DEADLINE)]
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: bus.stats().sent, "the first that is sent again")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130
        assert re.search(
            r"^eventbus: at least \d+ dead letters were sent again: the same command sends the", errors, re.M
        )
        came = numbers(heard)
        assert 0 < len(came) < 100
        monkeypatch.setattr(command, "BATCH", 3)  # which finds room once the ring is empty
        while len(came) < 100:
            before = len(came)
            code = requeue(bus, "--from", file, "--timeout", "0")
            came += numbers(heard)
            assert len(came) > before
        assert code == 0
    assert came == list(range(100))


# --- at a terminal ---


@contextlib.contextmanager
def at_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command with a terminal for its input and its errors; and the other side of that."""
    here, there = pty.openpty()
    with os.fdopen(here, "rb"), subprocess.Popen([*COMMAND, *arguments], stdin=there, stderr=there) as process:
        os.close(there)
        yield process, here


def written(here: int) -> str:
    """All that it writes until it ends."""
    parts = []
    with contextlib.suppress(OSError):  # which says that nobody has the other side any more
        while part := os.read(here, 65536):
            parts.append(part)
    return b"".join(parts).decode()


@pytest.mark.release
@pytest.mark.parametrize(("answer", "sent"), [("y", 1), ("YES", 1), ("n", 0), ("", 0), ("\x04", 0)])
def test_it_asks_where_others_would_hear(bus: Bus, answer: str, sent: int) -> None:
    """On a terminal, and sends nothing but for a yes."""
    die(bus, 0)
    with bus.subscribe("jobs", name="audit") as heard:
        with at_a_terminal(bus.name) as (process, here):
            os.write(here, answer.encode() + b"\n")
            text = written(here)
        assert process.returncode == 1 - sent
        assert len(heard.receive_many(9, 0)) == sent
    assert "the subscriber 'audit' of process" in text
    assert "send them? [y/N]" in text
    assert ("nothing was sent" in text) == (not sent)


@pytest.mark.release
@pytest.mark.parametrize("options", [["--yes"], []])
def test_it_does_not_ask_needlessly(bus: Bus, options: list[str]) -> None:
    """Not with --yes, and not where only the group hears it in which it died; a bar shows how far it is."""
    die(bus, *range(50))
    names = ["jobs"] if options else []
    with contextlib.ExitStack() as others, bus.subscribe("jobs", overflow="drop") as heard:
        for name in names:
            others.enter_context(bus.subscribe(name))
        with at_a_terminal(bus.name, *options) as (process, here):
            text = written(here)
        assert process.returncode == 0
        events = heard.receive_many(99, 0)
    assert len(events) == 50
    assert all(MARK in event.headers for event in events)
    assert "[y/N]" not in text
    assert "50 events" in text
    assert "eventbus: 50 dead letters were sent again, 0 skipped" in text


# --- buses that cannot be worked on ---


def test_a_bus_that_was_shut_down(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says so."""
    die(bus, 0)
    bus.shutdown()
    assert requeue(bus) == 1
    assert f"the bus {bus.name!r} was shut down" in capsys.readouterr().err


def leave_abandoned(line: Line, name: str, persist: bool) -> None:
    """Leaves a dead letter in a bus, and dies."""
    bus = eventbus.open(name, persist=persist)
    die(bus, 0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_abandoned_bus_is_left_as_it_is(fork: Fork, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who opened it would replace it, with all that it still holds."""
    fork(leave_abandoned, name, False).killed()
    assert cli.run(["requeue", name]) == 1
    assert "is abandoned" in capsys.readouterr().err
    assert cli.run(["requeue", name]) == 1
    eventbus.unlink(name)


def test_a_persistent_bus_to_which_nobody_is_attached(fork: Fork, name: str) -> None:
    """Its letters are sent again into it, and wait there for their group."""
    fork(leave_abandoned, name, True).killed()
    assert cli.run(["requeue", name]) == 0
    with eventbus.open(name) as bus, bus.subscribe("jobs.**", group="g") as member:
        assert again(member) == [0]
    eventbus.unlink(name)
