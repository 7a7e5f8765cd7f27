"""``eventbus work`` on SIGHUP: the same process with the code that there is by then, without a gap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

from eventbus import Bus, Subscription
from eventbus.workers.renewal import Predecessor, Predecessors, Renewal
from harness import DEADLINE, take, until

pytestmark = pytest.mark.release

ROOT = Path(__file__).resolve().parent.parent
MODULE = """
    import os, time, eventbus
    worker = eventbus.Worker(group="g", retry_delay=0)
    bus = eventbus.open({name!r})

    @worker.on("jobs")
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

    def text(version: str, more: str = "") -> None:
        before = textwrap.dedent(MODULE.format(name=bus.name, version=version))
        (tmp_path / "example.py").write_text(before + textwrap.dedent(more))

    return text


@contextmanager
def working(bus: Bus, path: Path, processes: int = 2) -> Iterator[subprocess.Popen[str]]:
    """The command; what it writes is in the file ``errors``."""
    hasty = "import eventbus.workers.warden; eventbus.workers.warden.GRACE = 0.5"
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
        write("four")
        process.send_signal(signal.SIGHUP)
        until(lambda: "no handler serves the group g.other" in said(tmp_path), "it to be told what nobody serves")
    assert said(tmp_path).count("the program begins anew") == 3
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


WAITS = """
    from pathlib import Path
    while Path("wait").exists():
        Path("looks").touch()
        time.sleep(0.01)
"""


def test_told_to_stop_before(bus: Bus, tmp_path: Path, write: Write) -> None:
    """A signal that comes while the code is looked at is not lost with the program that it came to."""
    write("one")
    with working(bus, tmp_path) as process:
        (tmp_path / "wait").touch()
        write("two", WAITS)
        process.send_signal(signal.SIGHUP)
        until((tmp_path / "looks").exists, "the code to be looked at")
        process.send_signal(signal.SIGTERM)
        (tmp_path / "wait").unlink()
        assert process.wait(DEADLINE) == 0
    assert members(bus) == set()
    assert "ERROR" not in said(tmp_path)


def test_told_both_at_once(bus: Bus, tmp_path: Path, write: Write) -> None:
    """Whoever is told to stop stops."""
    write("one")
    with working(bus, tmp_path) as process:
        for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        assert process.wait(DEADLINE) == 0
    assert members(bus) == set()
    assert "ERROR" not in said(tmp_path)


def test_killed_afterwards(bus: Bus, done: Subscription, tmp_path: Path, write: Write) -> None:
    """Processes of both programs end with it, also one that hangs; the warden goes on through all."""
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


def stubborn() -> subprocess.Popen[bytes]:
    """A process that does not finish when it is told to, and is reaped by somebody else."""
    program = ["sh", "-c", "trap '' TERM; echo; sleep 600"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.returncode = 0
    return process


def test_what_hangs_in_the_old_code(caplog: pytest.LogCaptureFixture) -> None:
    """Once it is told to finish, it has its event's ``timeout`` to do so; one without a limit goes on."""
    children = [stubborn() for _ in range(2)]
    before = Predecessors()
    limits = (0.01, None)
    before.processes = [
        Predecessor(os.pidfd_open(child.pid), child.pid, "hang", limit)
        for child, limit in zip(children, limits, strict=True)
    ]
    hung, slow = before.processes
    before.end_hung()
    assert hung.hangs_at is None
    before.hand_over(1, False)
    assert (hung.told > 0, slow.told > 0) == (True, False)
    before.hand_over(1, True)
    assert slow.told > 0
    until(lambda: time.monotonic() >= (hung.hangs_at or 0.0), "its time to be up")
    before.end_hung()
    before.bury(hung.fd)
    before.end_hung()
    assert "hang hung for more than 0.01 s on its last event" in caplog.text
    assert before.processes == [slow]
    assert not connection.wait([slow.fd], 0)
    before.kill_all()
    assert not before.processes


def test_a_check_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and that is why not; others are not held up by it meanwhile."""
    monkeypatch.setattr("eventbus.workers.renewal.CHECK_SECONDS", 0.05)
    renewal = Renewal([sys.executable, "-c", "import time; time.sleep(600)"])
    renewal.check()
    until(lambda: time.monotonic() >= renewal.due, "its time to be up")
    assert renewal.why_not() == "it takes more than 0.05 s"
    assert renewal.fd == -1


@pytest.mark.parametrize(
    ("program", "why"),
    [("pass", "it ends without a word"), ("raise SystemExit('no')", "no"), ("print('the code can be loaded')", None)],
)
def test_what_a_check_says(program: str, why: str | None) -> None:
    """Its last line says it, and not its status, which others may have reaped."""
    renewal = Renewal([sys.executable, "-c", program])
    renewal.check()
    assert connection.wait([renewal.fd], DEADLINE)
    assert renewal.why_not() == why
