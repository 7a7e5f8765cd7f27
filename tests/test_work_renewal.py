"""``eventbus work`` on SIGHUP: the same process with the code that there is by then, without a gap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventbus import Bus, Subscription
from harness import DEADLINE, take, until

pytestmark = pytest.mark.release

ROOT = Path(__file__).resolve().parent.parent
MODULE = """
    import os, time, eventbus
    worker = eventbus.Worker(group="g", retry_delay=0)
    bus = eventbus.open({name!r})

    @worker.on("jobs", timeout={timeout})
    def handle(event):
        if event.data == "hang" and event.deliveries == 1:
            bus.send("done", "hangs", "/", os.getpid())
            time.sleep(600)
        bus.send("done", {version!r}, "/", [event.data, event.deliveries])
"""
ANOTHER = """
    @worker.on("others")
    def other(event):
        bus.send("done", "other", "/", event.data)
"""

Write = Callable[..., None]


@pytest.fixture
def write(bus: Bus, tmp_path: Path) -> Write:
    """Writes the module, as a deployment does."""

    def text(version: str, more: str = "", timeout: float | None = None) -> None:
        before = textwrap.dedent(MODULE.format(name=bus.name, version=version, timeout=timeout))
        (tmp_path / "example.py").write_text(before + textwrap.dedent(more))

    return text


@contextmanager
def working(bus: Bus, path: Path, processes: int = 2) -> Iterator[subprocess.Popen[str]]:
    """The command; what it writes is in the file ``errors``."""
    hasty = "import eventbus.workers.keeper; eventbus.workers.keeper.GRACE = 0.5"
    program = f"{hasty}; import typer, eventbus.cli.work; typer.run(eventbus.cli.work.work)"
    arguments = [bus.name, "example:worker", "--processes", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=path, env=environment, stderr=errors, text=True
        )
    try:
        until(lambda: len(members(bus)) == processes, "the processes")
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()


def members(bus: Bus, group: str = "g.handle") -> set[int]:
    """The processes of a group."""
    return {one.pid for one in bus.stats().subscribers if one.group == group}


def heard(done: Subscription) -> tuple[str, Any]:
    """What a handler has done: the version of its code, and the event's data and delivery."""
    event = take(done)
    return event.kind, event.data


def said(path: Path) -> str:
    """What the command has written."""
    return (path / "errors").read_text()


def test_new_code_without_a_gap(bus: Bus, done: Subscription, tmp_path: Path, write: Write) -> None:
    """Jobs flow meanwhile: there always is a process, none comes twice; handlers that are new have processes, too."""
    write("one")
    with working(bus, tmp_path) as process:
        pid, number, versions = process.pid, 0, ["one"]
        for version, more in (("two", ""), ("three", ANOTHER)):
            before = members(bus)
            write(version, more)
            process.send_signal(signal.SIGHUP)
            while len(members(bus)) != 2 or before & members(bus):
                assert members(bus)
                bus.send("jobs", "job", "/", number)
                event = take(done)
                assert event.data == [number, 1]
                versions.append(event.kind)
                number += 1
            bus.send("jobs", "job", "/", number)
            versions.append(take(done).kind)
            number += 1
        assert list(dict.fromkeys(versions)) in (["one", "two", "three"], ["one", "two", "one", "three", "two"])
        assert versions[-1] == "three"
        assert process.pid == pid
        until(lambda: len(members(bus, "g.other")) == 2, "the processes of the new handler")
        bus.send("others", "job", "/", "new")
        assert heard(done) == ("other", "new")
    assert said(tmp_path).count("the program begins anew") == 2
    assert "ERROR" not in said(tmp_path)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("this is no Python", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('on purpose')", "RuntimeError: on purpose"),
        ("worker = None", "the module 'example' has no eventbus.Worker named 'worker'"),
        ("worker.handlers.clear()", "the worker has no handler"),
        ("worker.handlers[0] = worker.handlers[0]._replace(system=('others',))", "the group 'g.handle' hears"),
    ],
)
def test_code_that_cannot_run(
    bus: Bus, done: Subscription, tmp_path: Path, write: Write, broken: str, complaint: str
) -> None:
    """The processes that there are go on, and the log says why."""
    write("one")
    with working(bus, tmp_path, processes=1) as process:
        before = members(bus)
        write("two", broken)
        process.send_signal(signal.SIGHUP)
        until(lambda: "cannot be loaded" in said(tmp_path), "the refusal")
        assert complaint in said(tmp_path)
        bus.send("jobs", "job", "/", 1)
        assert heard(done) == ("one", [1, 1])
        assert members(bus) == before


def test_told_to_stop_at_once(bus: Bus, tmp_path: Path, write: Write) -> None:
    """A signal that comes in the middle is heard by whichever program is there."""
    write("one")
    with working(bus, tmp_path) as process:
        process.send_signal(signal.SIGHUP)
        until(lambda: "the program begins anew" in said(tmp_path), "the program to begin anew")
    assert members(bus) == set()
    assert "ERROR" not in said(tmp_path)


def test_killed_afterwards(bus: Bus, done: Subscription, tmp_path: Path, write: Write) -> None:
    """Processes of both programs end with it, also one that hangs; the keeper goes on through all."""
    write("one")
    with working(bus, tmp_path, processes=1) as process:
        bus.send("jobs", "job", "/", "hang")
        hangs = take(done).data
        process.send_signal(signal.SIGHUP)
        until(lambda: len(members(bus)) == 2, "another process")
        process.kill()
        until(lambda: members(bus) <= {hangs}, "the process to leave")
        until(lambda: not members(bus), "the one that hangs to be killed")
        process.wait()
        with working(bus, tmp_path, processes=1) as again:
            assert heard(done) == ("one", ["hang", 2])
            process.returncode = 0
            assert again.pid != process.pid


def test_what_hangs_in_the_old_code(bus: Bus, done: Subscription, tmp_path: Path, write: Write) -> None:
    """Once another process is there, it has the event's ``timeout`` to finish it."""
    write("one", timeout=0.5)
    with working(bus, tmp_path, processes=1) as process:
        write("two", timeout=0.5)
        process.send_signal(signal.SIGSTOP)
        bus.send("jobs", "job", "/", "hang")
        hangs = take(done).data
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGCONT)
        assert heard(done) == ("two", ["hang", 2])
        until(lambda: hangs not in members(bus), "the one that hung to be gone")
    assert "is killed" in said(tmp_path)
