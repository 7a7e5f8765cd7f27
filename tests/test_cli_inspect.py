"""``ls``, ``stat``, ``unlink`` and ``remove-group``: buses in every state, looked at without touching them."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus.cli import app as cli
from eventbus.cli import tables
from eventbus.core.inspection import inspect_bus, list_names
from eventbus.core.terms import CAPACITY
from harness import SHARED_MEMORY

SECONDS = 60  # a deadline that fails; nothing here takes a tenth of it
VERSION_OFFSET, CHECK_OFFSET = 8, 56  # in the signature that both segments begin with
NOBODY = 65534


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a bus that nobody else has, and that the test may leave behind in any state."""
    made = f"test-{os.getpid()}-{uuid.uuid4().hex}"
    yield made
    with contextlib.suppress(FileNotFoundError):
        eventbus.unlink(made)


@pytest.fixture
def abandoned(name: str) -> str:
    """A bus whose only process was killed."""
    code = f"import eventbus; bus = eventbus.open({name!r}); print('open', flush=True); input()"
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return name


def files(name: str) -> list[Path]:
    """The files of a bus."""
    return [SHARED_MEMORY / f"eventbus.{name}.{part}" for part in ("ring", "roster")]


def overwrite(name: str, offset: int, part: int = 1) -> None:
    """Flips a byte of a segment, the roster's if not said otherwise."""
    with files(name)[part].open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def state(name: str) -> str:
    """The state that inspection finds."""
    found = inspect_bus(name)
    assert found is not None
    return found.state


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must succeed prints."""
    capsys.readouterr()
    assert cli.run(list(arguments)) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    return out


def row_of(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, Any] | None:
    """The bus in ``ls --json``."""
    rows: list[dict[str, Any]] = json.loads(output(capsys, "ls", "--json"))
    return next((row for row in rows if row["name"] == name), None)


# --- ls ---


def test_ls_tells_what_a_live_bus_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Owner, mode, sizes and who is there, as JSON and as a table that nothing is cut from."""
    with eventbus.open(name, capacity=1 << 20, mode=0o640) as bus, bus.subscribe("orders"):
        bus.send("orders", "order.created", "/1")
        row, used = row_of(capsys, name), bus.stats().used
        lines = output(capsys, "ls").splitlines()
    assert row == {
        "name": name,
        "owner": getpass.getuser(),
        "mode": "0640",
        "size": row and row["size"],
        "used": used,
        "attached": 1,
        "subscribers": 1,
        "state": "live",
    }
    assert row["size"] > 1 << 20
    assert lines[0].split() == ["name", "owner", "mode", "size", "used", "attached", "subscribers", "state"]
    assert [line.split()[0::2] for line in lines if name in line] == [[name, "0640", "MiB", "B", "1"]]


@pytest.mark.release
def test_ls_runs_as_a_program(name: str) -> None:
    """A process that is not attached lists the buses, and the bus notices nothing."""
    with eventbus.open(name) as bus:
        done = subprocess.run(
            [sys.executable, "-m", "eventbus", "ls", "--json"], capture_output=True, text=True, timeout=SECONDS
        )
        assert bus.stats().attached == 1
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["attached"] for row in json.loads(done.stdout) if row["name"] == name] == [1]


def test_what_a_killed_process_left_is_abandoned(abandoned: str, capsys: pytest.CaptureFixture[str]) -> None:
    """ls shows it as such and, like stat, neither repairs nor removes it."""
    before = [file.read_bytes() for file in files(abandoned)]
    row = row_of(capsys, abandoned)
    assert row is not None
    assert [row[key] for key in ("state", "attached", "used", "subscribers")] == ["abandoned", 0, None, None]
    assert cli.run(["stat", abandoned]) == 1
    assert capsys.readouterr().err.startswith(f"eventbus: the bus {abandoned!r} is abandoned: ")
    assert [file.read_bytes() for file in files(abandoned)] == before


def test_a_bus_half_made_is_abandoned(name: str) -> None:
    """A roster whose maker died before it signed it."""
    files(name)[1].touch(mode=0o600)
    assert state(name) == "abandoned"


def test_a_persistent_bus_is_not_abandoned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is attached to it, but it was told to stay: what it holds can be seen."""
    with eventbus.open(name, persist=True) as bus:
        bus.send("orders", "order.created", "/1")
    assert state(name) == "persistent"
    shown = json.loads(output(capsys, "stat", name, "--json"))
    assert [shown[key] for key in ("sent", "attached", "persist")] == [1, 0, True]


def test_a_bus_that_was_shut_down_is_closed(name: str) -> None:
    """Its processes are still attached."""
    with eventbus.open(name) as bus:
        bus.shutdown()
        assert state(name) == "closed"


def test_another_version_is_told_from_damage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A header of another format, and one that does not add up; ls goes on, stat says what to do in one line."""
    with eventbus.open(name):
        overwrite(name, CHECK_OFFSET)
        assert state(name) == "damaged"
        overwrite(name, CHECK_OFFSET)
        overwrite(name, VERSION_OFFSET)
        assert state(name) == "other version"
        assert row_of(capsys, name) is not None
        assert cli.run(["stat", name]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        overwrite(name, VERSION_OFFSET)
        assert state(name) == "live"


def test_a_ring_that_is_damaged_or_gone_is_damage(name: str) -> None:
    """The roster alone is not the bus."""
    with eventbus.open(name):
        overwrite(name, CHECK_OFFSET, part=0)
        assert state(name) == "damaged"
        files(name)[0].unlink()
        assert state(name) == "damaged"


def test_what_everybody_may_write_is_not_trusted(name: str) -> None:
    """It is not even mapped."""
    with eventbus.open(name):
        files(name)[1].chmod(0o666)
        assert state(name) == "not trusted"


def test_a_bus_without_permission_is_shown_with_its_owner(name: str) -> None:
    """Another user sees that it is there, whose it is and how large, and no more."""
    with eventbus.open(name):
        files(name)[1].chmod(0)
        found = as_somebody_else(name)
        files(name)[1].chmod(0o600)
    assert found["state"] == "no permission"
    assert found["owner"] == getpass.getuser()
    assert found["attached"] is None
    assert found["size"] > CAPACITY


def as_somebody_else(name: str) -> dict[str, Any]:
    """What ls shows to a process that may not open the bus; root makes itself somebody who may not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setegid(NOBODY)
                os.seteuid(NOBODY)
            inspected = inspect_bus(name)
            os.write(writing, json.dumps(inspected and tables.listed(inspected)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text)
    return found


def test_files_that_are_no_bus_do_not_disturb(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that no bus can have are passed over; what is no file behind a good name is damaged."""
    strange = SHARED_MEMORY / f"eventbus.{name} x.roster"
    strange.touch()
    files(name)[1].symlink_to(strange)
    try:
        row = row_of(capsys, name)
        assert row is not None
        assert row["state"] == "damaged"
        assert f"{name} x" not in list_names()
    finally:
        strange.unlink()


def test_a_bus_that_vanishes_is_passed_over(name: str) -> None:
    """Between the list and the look a bus may go."""
    with eventbus.open(name):
        pass
    assert inspect_bus(name) is None


# --- stat ---


def test_stat_shows_subscribers_and_topics(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures as Bus.stats, as one JSON object."""
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("orders.*", name="billing"):
        bus.send_many(
            [("orders", "order.created", "/1"), ("users", "user.created", "/2"), ("orders", "order.paid", "/1")]
        )
        shown, stats = json.loads(output(capsys, "stat", name, "--json")), bus.stats()
    figures = ("capacity", "used", "committed", "sent", "attached", "max_subscribers", "closed", "persist", "untabled")
    assert {key: shown[key] for key in figures} == {key: getattr(stats, key) for key in figures}
    assert shown["state"] == "live"
    assert shown["subscribers"] == [
        {
            "name": "billing",
            "pid": os.getpid(),
            "system": "orders.*",
            "kind": "**",
            "overflow": "block",
            "backlog": 2,
            "lost": 0,
            "group": None,
            "kept": shown["used"],
            "viewed": 0,
            "sleeping": False,
            "events": 0,
            "bytes": 0,
            "wakes": 0,
            "skipped": 0,
            "delay_p50": None,
            "delay_p99": None,
        }
    ]
    assert shown["topics"] == [
        {"system": "orders", "kind": "order.created", "sent": 1},
        {"system": "orders", "kind": "order.paid", "sent": 1},
        {"system": "users", "kind": "user.created", "sent": 1},
    ]


def test_the_tables_of_stat_show_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No part is cut off where the output is no terminal, nor taken for markup or for a command to the terminal."""
    long = "x" * 200
    with eventbus.open(name) as bus, bus.subscribe("orders", name="[red]\x1b[2J"):
        bus.send(long, "order.created", "/1")
        shown = output(capsys, "stat", name)
    assert "[red]\\x1b[2J" in shown
    assert f"\n{long}  order.created     1\n" in shown
    assert "\nsubscribers: 1\n" in shown
    assert "\ntopics: 1\n" in shown


# --- unlink ---


def test_stat_shows_what_is_scheduled(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The next one first: all of it in JSON, and for people the first twenty and how many more there are."""
    with eventbus.open(name) as bus:
        for number in range(22):
            bus.send_later("orders", "order.late", f"/{number}", delay=86400 - number)
        shown = json.loads(output(capsys, "stat", name, "--json"))["scheduled"]
        lines = [line.split() for line in output(capsys, "stat", name).splitlines()]
    assert [(row["number"], row["path"]) for row in shown] == [(n + 1, f"/{n}") for n in reversed(range(22))]
    assert list(shown[0]) == ["number", "system", "kind", "path", "due", "bytes"]
    first = lines.index(["scheduled:", "22"])
    assert lines[first + 1] == list(shown[0])
    assert [line[0] for line in lines[first + 2 : first + 22]] == [str(n) for n in range(22, 2, -1)]
    assert lines[first + 22] == ["and", "2", "more"]


def test_unlink_removes_the_bus(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked and nothing said; whoever is attached goes on with what they have."""
    with eventbus.open(name) as bus, bus.subscribe("orders") as heard:
        assert output(capsys, "unlink", name) == ""
        assert not any(file.exists() for file in files(name))
        bus.send("orders", "order.created", "/1")
        assert heard.receive(0) is not None


def test_unlink_removes_what_is_abandoned(abandoned: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody needs to open a bus to get rid of it."""
    assert output(capsys, "unlink", abandoned) == ""
    assert abandoned not in list_names()


def test_a_group_is_removed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its members see the end, and it is shown no more; one that there is not is an error of one line."""
    with eventbus.open(name) as bus, bus.subscribe("jobs", group="g", name="m", exclusive=True) as member:
        assert cli.run(["stat", name, "--json"]) == 0
        (group,) = json.loads(capsys.readouterr().out)["groups"]
        assert (group["name"], [(one["name"], one["exclusive"]) for one in group["members"]]) == ("g", [("m", True)])
        assert cli.run(["remove-group", name, "g"]) == 0
        assert capsys.readouterr() == ("", "")
        assert (member.receive(), bus.stats().groups) == (None, ())
        assert cli.run(["remove-group", name, "g"]) == 1
        assert capsys.readouterr().err == f"eventbus: the bus '{name}' has no group 'g'\n"
