"""Processes in PID namespaces of their own, with equal pids, on one bus."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import eventbus
from container import Container
from eventbus import Bus, UnavailableError
from harness import Child, Fork, Line, arm, ring_of, roster_of, until

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make PID namespaces and mounts")

FUTEX = "202" if os.uname().machine == "x86_64" else "98"  # the system call's number in /proc/PID/syscall
CAPACITY = 64 * 1024


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


# --- equal pids ---


def take_part(line: Line, name: str) -> list[Any]:
    """Says its pid, sends it when told to, and hears until the bus is shut down; what it heard."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("load.*") as sub:
        line.say(os.getpid())
        line.hear()
        bus.send("load.pid", "event", "/event", os.getpid())
        return [event.data for event in sub]


@root
def test_equal_pids_on_one_bus(container: Make, name: str) -> None:
    """Processes with one pid, in containers that share /dev/shm, send and hear like any others."""
    members = [container().start(take_part, name) for _ in range(3)]
    (pid,) = {member.hear() for member in members}
    with eventbus.open(name) as bus:
        stats = bus.stats()
        assert stats.attached == 4
        assert [one.pid for one in stats.subscribers] == [pid] * 3
        for member in members:
            member.say("send")
        until(lambda: bus.stats().sent == 3, "all to have sent")
        bus.shutdown()
        assert [member.result() for member in members] == [[pid] * 3] * 3


def listen(line: Line, name: str) -> list[Any]:
    """Hears until the bus is shut down; what it heard."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("load.*") as sub:
        line.say(os.getpid())
        return [event.path for event in sub]


@root
def test_the_death_of_one_of_two_with_equal_pids(container: Make, name: str) -> None:
    """The dead one's slot is reaped and holds nobody up; the living one's, of the same pid, is not."""
    dead = container().start(take_part, name)
    pid = dead.hear()
    living = container().start(listen, name)
    assert living.hear() == pid
    with eventbus.open(name) as bus:
        dead.kill()
        assert [one.pid for one in bus.stats().subscribers] == [pid]
        for number in range(10):
            bus.send("load", "blob", f"/{number}", b"x" * (CAPACITY // 5), timeout=10)
        with bus.subscribe("load.*"):  # in the dead one's slot, which was the first
            assert [one.pid for one in bus.stats().subscribers] == [os.getpid(), pid]
        bus.shutdown()
        assert living.result() == [f"/{number}" for number in range(10)]


def hold(line: Line, name: str) -> None:
    """A member of a group that holds an event until it is killed."""
    with eventbus.open(name) as bus, bus.subscribe("jobs", group="pool") as jobs:
        event = jobs.receive(30)
        assert event is not None
        line.say((os.getpid(), event.data, event.deliveries))
        line.hear()


def work(line: Line, name: str) -> list[Any]:
    """A member that takes what comes."""
    with eventbus.open(name) as bus, bus.subscribe("jobs", group="pool") as jobs:
        line.say(os.getpid())
        return [(event.data, event.deliveries) for event in jobs]


@root
def test_redelivery_across_containers(container: Make, name: str) -> None:
    """What a dead member held goes to one with its pid in another container; what a stopped one holds does not."""
    one, other = container(), container()
    with eventbus.open(name, capacity=CAPACITY) as bus:
        bus.group("pool", "jobs")
        bus.send("jobs", "job", "/1", 1)
        holder = one.start(hold, name)
        assert holder.hear() == (2, 1, 1)
        worker = other.start(work, name)
        assert worker.hear() == 2
        holder.stop()
        bus.send("jobs", "job", "/2", 2)
        until(lambda: bus.stats().groups[0].backlog == 0, "the worker to take the second")
        assert bus.stats().groups[0].redelivered == 0
        holder.kill()
        until(lambda: bus.stats().groups[0].redelivered == 1, "the worker to take the first")
        bus.shutdown()
        assert worker.result() == [(2, 1), (1, 2)]


def attach(line: Line, name: str) -> int:
    """Is attached until it is told to leave; its pid."""
    with eventbus.open(name, capacity=CAPACITY):
        line.say(os.getpid())
        line.hear()
    return os.getpid()


@root
def test_the_last_one_out_of_several_containers(container: Make, name: str) -> None:
    """Who leaves, or dies, removes nothing while another of its pid is attached; the last one's bus is replaced."""
    dead, left, last = (container().start(attach, name) for _ in range(3))
    assert {one.hear() for one in (dead, left, last)} == {2}
    dead.kill()
    left.say("leave")
    assert left.result() == 2
    assert ring_of(name).exists()
    before = ring_of(name).stat().st_ino
    last.kill()
    with eventbus.open(name):
        assert ring_of(name).stat().st_ino != before


def leave_in_child(pipe: Connection[Any, Any], bus: Bus) -> None:
    """A process of multiprocessing: uses the inherited bus, and ends without closing it."""
    bus.send("a", "b", "/c")
    pipe.send(os.getpid())
    pipe.recv()


def inherit(line: Line, name: str) -> tuple[int, int]:
    """Leaves a bus to a child in a PID namespace below, whose pid is this one's; both pids."""
    container = Container(Child)
    bus = eventbus.open(name, capacity=CAPACITY)
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=leave_in_child, args=(theirs, bus))
    with container.inside():
        child.start()
    there = mine.recv()
    bus.close()
    line.say(None)
    mine.send("end")
    child.join()
    container.release()
    return os.getpid(), there


@root
def test_a_child_with_its_parent_s_pid(container: Make, name: str) -> None:
    """A child that has its parent's pid, in a PID namespace below, leaves the bus in order when it ends."""
    parent = container().start(inherit, name)
    parent.hear()
    assert parent.result() == (2, 2)
    assert not roster_of(name).exists()


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


def sleeps(pid: int) -> bool:
    """Whether a process sleeps on a futex."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] == FUTEX


@root
@pytest.mark.parametrize("point", ["publish_locked", "publish_copied"])
def test_a_waiter_with_the_pid_of_the_lock_s_owner_dies(bus: Bus, container: Make, point: str) -> None:
    """A publisher killed while it waits for the lock does not take it from its owner, whatever their pids are."""
    bus.send("load", "event", "/event", "known")
    with bus.subscribe("load", "event") as sub:
        owner = container().start(send_at, bus.name, point, "owner")
        pid = owner.hear()
        owner.wait_stopped()
        for _ in range(3):
            kill_waiter(container().start(send_patiently, bus.name, "killed"), pid)
            with pytest.raises(UnavailableError, match=f"process {pid} keeps the publish lock"):
                bus.send("load", "event", "/event", "too early", timeout=0.1)
        owner.go_on()
        assert owner.result() == pid
        bus.send("load", "event", "/event", "after")
        events = sub.receive_many(10, 0)
        assert [event.data for event in events] == ["owner", "after"]
        assert events[1].sequence == events[0].sequence + 1


def kill_waiter(waiter: Child, pid: int) -> None:
    """Kills a publisher of this pid while it waits."""
    assert waiter.hear() == pid
    until(lambda: sleeps(waiter.pid), "the waiter to sleep")
    waiter.kill()


@root
def test_an_owner_with_the_pid_of_a_waiter_dies(bus: Bus, container: Make) -> None:
    """A publisher killed with the lock leaves it to one that waits in another container and has its pid."""
    bus.send("load", "event", "/event", "known")
    with bus.subscribe("load", "event") as sub:
        owner = container().start(send_at, bus.name, "publish_copied", "owner")
        pid = owner.hear()
        owner.wait_stopped()
        waiter = container().start(send_patiently, bus.name, "waiter")
        assert waiter.hear() == pid
        until(lambda: sleeps(waiter.pid), "the waiter to sleep")
        owner.kill()
        assert waiter.result() == pid
        assert [event.data for event in sub.receive_many(10, 0)] == ["waiter"]


ROOTLESS = """
import os, sys, eventbus
with eventbus.open(sys.argv[1]) as bus, bus.subscribe("answer") as answers:
    bus.send("question", "event", "/question", [os.getpid(), os.getuid()])
    print(answers.receive(30).data)
"""


def test_a_user_namespace(name: str) -> None:
    """In a container without rights outside, as ``unshare`` makes it, its user has the same bus as outside."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare: apt-get install util-linux")
    inside = [unshare, "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"the kernel, or the container that this runs in, forbids user namespaces: {tried.stderr.strip()}")
    with eventbus.open(name) as bus, bus.subscribe("question") as questions:
        command = [*inside, sys.executable, "-c", ROOTLESS, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            event = questions.receive(30)
            assert event is not None
            assert event.data == [1, 0]
            bus.send("answer", "event", "/answer", "heard")
            assert process.communicate(timeout=30) == ("heard\n", "")
