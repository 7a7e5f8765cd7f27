"""``eventbus gc``: what the dead left goes, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import eventbus
from eventbus.cli import app as cli
from eventbus.core import native
from eventbus.core.inspection import inspect_bus
from harness import SHARED_MEMORY, Fork, Line, arm, ring_of, roster_of


def leave(name: str, persist: bool = False) -> None:
    """A bus whose only process was killed."""
    opened = f"bus = eventbus.open({name!r}, capacity=65536, persist={persist})"
    code = f"import eventbus, os; {opened}; os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


def test_abandoned_buses_go(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run says so and removes nothing; then they are gone; then there is nothing to do."""
    leave(name)
    for options, said in (["--dry-run"], "would be removed"), ([], "removed"), ([], ""):
        assert cli.run(["gc", *options, name]) == 0
        printed = "".join(capsys.readouterr())
        assert printed.strip() == (f"eventbus: the bus {name!r} {said}" if said else "")
        assert roster_of(name).exists() == ring_of(name).exists() == (said == "would be removed")


def test_what_is_left_of_one_half_removed(name: str) -> None:
    """A ring without a roster goes, too."""
    leave(name)
    roster_of(name).unlink()
    assert cli.run(["gc", name]) == 0
    assert inspect_bus(name) is None


def test_what_is_kept_beside_a_bus(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It stays as long as the bus does, and goes with it, or by itself where the bus has gone before."""
    kept = SHARED_MEMORY / f"eventbus-kombu.{name}"
    kept.touch()
    with eventbus.open(name, capacity=65536):
        assert cli.run(["gc", name]) == 0
        assert kept.exists()
        eventbus.unlink(name)
        assert not kept.exists()
    kept.touch()
    assert cli.run(["gc", "--dry-run", name]) == 0
    assert kept.exists()
    assert cli.run(["gc", name]) == 0
    assert not kept.exists()
    assert inspect_bus(name) is None
    assert "".join(capsys.readouterr()).split("\n")[1] == f"eventbus: the bus {name!r} removed"
    leave(name)
    kept.touch()
    assert cli.run(["gc", name]) == 0
    assert not kept.exists()


def test_what_somebody_uses_stays(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that was shut down, and one that was told to stay."""
    with eventbus.open(name, capacity=65536) as bus, bus.subscribe("a") as sub:
        assert cli.run(["gc", name]) == 0
        bus.send("a", "b", "/c", 1)
        bus.shutdown()
        assert cli.run(["gc", name]) == 0
        event = sub.receive()
        assert event is not None
        assert event.data == 1
    leave(name, persist=True)
    assert cli.run(["gc", name]) == 0
    assert "".join(capsys.readouterr()) == ""
    assert inspect_bus(name) is not None
    eventbus.unlink(name)


@pytest.mark.parametrize("point", ["looked_up_again", "format_written", "attached"])
def test_a_bus_that_is_being_made(
    name: str, fork: Fork, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Its maker is stopped in the middle: it is not abandoned, and whole when it goes on."""
    monkeypatch.setattr(native, "LOCK_SECONDS", 0.5)  # that the door is waited for

    def make(line: Line) -> object:
        arm(point, 19)
        with eventbus.open(name, capacity=65536) as bus:
            line.say()
            return bus.closed

    other = fork(make)
    other.wait_stopped()
    assert cli.run(["gc", name]) == 0
    assert "removed" not in "".join(capsys.readouterr())
    other.go_on()
    other.hear()
    assert other.result() is False
