"""Processes in PID namespaces of their own, with equal pids, on one bus; and a /dev/shm as containers have it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import eventbus
from container import Container
from eventbus import Bus, UnavailableError
from harness import Fork, Line, arm, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make PID namespaces and mounts")

FUTEX = 202 if os.uname().machine == "x86_64" else 98  # the system call's number, in /proc/PID/syscall


@pytest.fixture
def container(fork: Fork) -> Iterator[Callable[[], Container]]:
    """Makes containers."""
    made: list[Container] = []

    def make() -> Container:
        try:
            made.append(Container(fork))
        except PermissionError as error:
            pytest.skip(f"the kernel, or the container that this runs in, forbids PID namespaces: {error}")
        return made[-1]

    yield make
    for one in made:
        one.release()


Make = Callable[[], Container]


def send_at(line: Line, name: str, point: str, text: str) -> int:
    """Stops itself at the test point of a send; its pid."""
    with eventbus.open(name) as bus:
        bus.send("load", "warm", "/warm", os.getpid())
        arm(point, signal.SIGSTOP)
        line.say(os.getpid())
        bus.send("load", "event", "/event", text, timeout=None)
    return os.getpid()


def send_patiently(line: Line, name: str, text: str) -> int:
    """Waits as long as it takes for the publish lock; its pid."""
    with eventbus.open(name) as bus:
        line.say(os.getpid())
        bus.send("load", "event", "/event", text, timeout=None)
    return os.getpid()


def asleep(pid: int) -> bool:
    """Whether a process sleeps on a futex."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] == str(FUTEX)


@pytest.mark.parametrize("point", ["publish_locked", "publish_copied"])
def test_a_waiter_with_the_pid_of_the_lock_s_owner_dies(bus: Bus, container: Make, point: str) -> None:
    """A publisher killed while it waits for the lock does not take it from its owner, whatever their pids are."""
    bus.send("load", "event", "/event", "known")
    with bus.subscribe("load", "event") as sub:
        owner = container().start(send_at, bus.name, point, "owner")
        pid = owner.hear()
        owner.wait_stopped()
        for _ in range(3):
            waiter = container().start(send_patiently, bus.name, "killed")
            assert waiter.hear() == pid
            until(lambda: asleep(waiter.pid), "the waiter to sleep")
            waiter.kill()
            with pytest.raises(UnavailableError, match=f"process {pid} keeps the publish lock"):
                bus.send("load", "event", "/event", "too early", timeout=0.1)
        owner.go_on()
        assert owner.result() == pid
        bus.send("load", "event", "/event", "after")
        events = sub.receive_many(10, 0)
        assert [event.data for event in events] == ["owner", "after"]
        assert events[1].sequence == events[0].sequence + 1
