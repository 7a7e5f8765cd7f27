"""A /dev/shm that is absent, read-only or small, and no /proc: a sentence, or it works."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventbus
from container import MS_BIND, MS_RDONLY, MS_REMOUNT, leave_mounts, mount, mount_shared_memory
from eventbus.cli import app as cli
from eventbus.core.inspection import inspect_bus
from harness import SHARED_MEMORY, Fork, Line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make mounts of its own")

CAPACITY = 64 * 1024


def told(*arguments: str) -> tuple[int, str]:
    """The exit code of a command, and what it says to people."""
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        return cli.run(list(arguments)), errors.getvalue()


def refusal(call: Callable[[], object]) -> tuple[str, str, str]:
    """The OSError that comes of it: its class, its errno's name and its sentence."""
    try:
        call()
    except OSError as error:
        return type(error).__name__, errno.errorcode[error.errno or 0], str(error)
    return "", "", "no error"


def mounted(fork: Fork, job: Callable[..., Any], *arguments: object) -> Any:
    """What the job returns where it may mount."""
    outcome = fork(if_permitted, job, *arguments).result()
    if isinstance(outcome, PermissionError):
        pytest.skip(f"the container that this runs in forbids mounts: {outcome}")
    return outcome


def if_permitted(line: Line, job: Callable[..., Any], *arguments: object) -> Any:
    """The job, after a look whether this process may have mounts of its own."""
    try:
        leave_mounts()
    except PermissionError as error:
        return error
    return job(line, *arguments)


def without_shared_memory(_: Line) -> list[Any]:
    """What comes of each call where there is no /dev/shm."""
    mount(b"tmpfs", b"/dev", b"tmpfs")
    calls = (lambda: eventbus.open("absent"), lambda: eventbus.open("absent", role="subscriber"))
    return [*map(refusal, calls), refusal(lambda: eventbus.unlink("absent")), told("ls"), told("stat", "absent")]


def test_an_absent_dev_shm(fork: Fork) -> None:
    """Without /dev/shm there is an error that says so at once, of every call and command."""
    *opened, unlinked, listed, described = mounted(fork, without_shared_memory)
    for kind, number, sentence in opened:
        assert (kind, number) == ("FileNotFoundError", "ENOENT")
        assert "no shared memory for the bus 'absent': mount a tmpfs at /dev/shm" in sentence
    assert unlinked[:2] == ("FileNotFoundError", "ENOENT")
    assert listed == (1, "eventbus: No such file or directory: '/dev/shm'\n")
    assert described[0] == 1
    assert described[1].count("\n") == 1


def read_only(_: Line, name: str) -> list[Any]:
    """What comes of each call where /dev/shm, with a bus that is used in it, becomes read-only for this process."""
    with eventbus.open(name, capacity=CAPACITY) as bus:
        mount(b"/dev/shm", b"/dev/shm", None, MS_BIND)
        mount(b"none", b"/dev/shm", None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        names = (name, name + "-new")
        outcomes = [refusal(lambda one=one: eventbus.open(one)) for one in names]  # type: ignore[misc]
        outcomes.append(refusal(lambda: eventbus.unlink(name)))
        bus.send("a", "b", "/c")
        return [*outcomes, told("ls"), told("stat", name)]


def test_a_read_only_dev_shm(fork: Fork, name: str) -> None:
    """What would have to write is an error with its sentence; who is attached goes on, and leaves without an error."""
    *refused, listed, described = mounted(fork, read_only, name)
    for _, number, sentence in refused:
        assert number == "EROFS"
        assert f"the bus '{name}" in sentence
        assert "Read-only file system" in sentence
    assert listed[0] == 0
    assert described[0] == 1
    assert "Read-only file system" in described[1]
    assert inspect_bus(name).state == "abandoned"  # type: ignore[union-attr]
    eventbus.unlink(name)


def without_proc(_: Line, name: str) -> tuple[str, str, str]:
    """What comes of opening a bus where there is no /proc."""
    mount(b"tmpfs", b"/proc", b"tmpfs")
    return refusal(lambda: eventbus.open(name))


def test_an_absent_proc(fork: Fork, name: str) -> None:
    """Without /proc a bus cannot be opened; the error says what is missing, and nothing is left."""
    kind, number, sentence = mounted(fork, without_proc, name)
    assert (kind, number) == ("FileNotFoundError", "ENOENT")
    assert "is /proc mounted?" in sentence


def small_demo(_: Line, tree: str) -> tuple[int, str, list[str]]:
    """How the demo ends in 64 MiB, what it says last, and what is left there."""
    mount_shared_memory(64)
    command = [sys.executable, "-m", "eventbus", "demo", "--root", tree, "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()[-1], os.listdir(SHARED_MEMORY)


@pytest.mark.release
def test_the_demo_in_a_small_container(fork: Fork, tmp_path: Path) -> None:
    """The demo runs with the /dev/shm that a container has by default, and leaves nothing in it."""
    for number in range(20):
        (tmp_path / f"module{number}.py").write_text("def f(): pass\n" * number)
    ended = mounted(fork, small_demo, str(tmp_path))
    assert ended == (0, "every file was counted exactly once", [])
