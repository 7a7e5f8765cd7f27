"""What ends with a process of a worker, and who sees to it: its descendants, and the warden of a crew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers import kin
from eventbus.workers.warden import Warden
from harness import DEADLINE, Fork, Line, take, until
from pools import run_worker

BREEDS = "for i in $(seq 500); do sleep 60 & done; wait"


@contextlib.contextmanager
def session_of(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell in a session of its own, as a process of a worker has descendants."""
    with subprocess.Popen(["sh", "-c", program], start_new_session=True) as shell:
        yield shell
        for pid in members(shell.pid):
            os.kill(pid, signal.SIGKILL)


def members(session: int) -> set[int]:
    """The processes of a session that live."""
    found = set()
    for entry in os.listdir("/proc"):
        with contextlib.suppress(ValueError, OSError):
            state = Path(f"/proc/{int(entry)}/stat").read_text().rpartition(")")[2].split()
            if state[0] != "Z" and int(state[3]) == session:
                found.add(int(entry))
    return found


def test_descendants_that_have_children_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that starts processes all the time, and its children that do so, are ended with all of them."""
    monkeypatch.setattr(kin, "PATIENCE", DEADLINE)
    with session_of(f"sh -c '{BREEDS}' & {BREEDS}") as shell:
        until(lambda: len(members(shell.pid)) > 20, "descendants")
        fd = os.pidfd_open(shell.pid)
        kin.kill(shell.pid, fd)
        os.close(fd)
        assert shell.wait() == -signal.SIGKILL
        until(lambda: not members(shell.pid), "the descendants to end")


def kill_without_descriptors(line: Line, pid: int) -> None:
    """Kills where no descriptor is left for what the process has started."""
    fd = os.pidfd_open(pid)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, hard))
    with contextlib.suppress(OSError):  # which not every version of Python hands on
        kin.kill(pid, fd)


def test_killed_without_descriptors(fork: Fork) -> None:
    """Whatever is in the way of ending what it has started, the process itself is killed, and not left stopped."""
    with session_of("sleep 60 & wait") as shell:
        until(lambda: len(members(shell.pid)) == 2, "a child")
        fork(kill_without_descriptors, shell.pid).result()
        assert shell.wait() == -signal.SIGKILL


def start_without_descriptors(line: Line) -> tuple[bool, bool]:
    """Tries to start a warden with each number of descriptors that are too few; whether all is as it was."""
    warden = Warden()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(os.listdir("/proc/self/fd"))
    first = int(os.dup(0))
    os.close(first)
    failed = 0
    for more in range(4):
        resource.setrlimit(resource.RLIMIT_NOFILE, (first + more, hard))
        try:
            warden.start(())
        except OSError:
            failed += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    after = signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(os.listdir("/proc/self/fd"))
    assert failed == 4
    return before[0] == after[0], before[1] == after[1]


def test_a_warden_that_cannot_start(fork: Fork) -> None:
    """For want of descriptors: the parent hears signals as before, and keeps none open."""
    assert fork(start_without_descriptors).result() == (True, True)


def fill(line: socket.socket | None) -> None:
    """Sends to it until it takes nothing more."""
    assert line is not None
    with contextlib.suppress(TimeoutError):
        while line.send(b"") == 0:
            pass


def test_a_warden_that_stands_still(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes nothing more, as it is stopped, keeps no process from its work."""
    monkeypatch.setattr("eventbus.workers.warden.PATIENCE", 0.01)
    warden = Warden()
    warden.start(())
    os.kill(warden._pid, signal.SIGSTOP)
    fill(warden._line)
    fork(lambda line: warden.enter()).result()
    warden.end()


def sleep_in_loop(line: Line, worker: Worker, log: Path) -> list[int]:
    """Runs the worker inside of an event loop that handles SIGTERM itself; the signals that it was told of."""
    told: list[int] = []

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.append, signal.SIGTERM)
        run_worker(line, worker, {}, log)
        for _ in range(10):  # what it was woken for would be known by then
            await asyncio.sleep(0)

    asyncio.run(main())
    return told


def test_a_loop_of_the_parent_hears_nothing_of_its_children(
    fork: Fork, bus: Bus, done: Subscription, log: Path
) -> None:
    """A signal to a process of the worker is none to the event loop of the program that runs it."""
    worker = Worker(bus)

    @worker.on("jobs")
    def job(event: Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        bus.send("done", "job", "/")

    parent = fork(sleep_in_loop, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/")
    take(done)
    bus.shutdown()
    assert parent.result() == []
