"""Doorbells between users, between namespaces that share /dev/shm alone, and where no socket may be made.

Nobody looks by itself in these tests: whoever is not rung, nor told by a thread, hears nothing and hangs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

import eventbus
from container import CLONE_NEWNET, Container, leave_mounts, system
from eventbus import Bus
from eventbus.loop import Doorbell
from harness import Child, Fork, Line, ring_of, roster_of, until
from loops import bells
from seccomp import can_forbid, forbid

OTHER, GROUP = 12_345, 23_456  # a user and a group that own nothing

Become = Callable[[], None]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, or leave namespaces")
needs_numbers = pytest.mark.skipif(not can_forbid(), reason="the numbers of this machine's system calls are not known")


def nobody() -> None:
    """Stays who it is."""


def another_user() -> None:
    """From here on this process is somebody else, of the bus's group."""
    os.setgroups([GROUP])
    os.setgid(OTHER)
    os.setuid(OTHER)


def another_network() -> None:
    """From here on this process has a network and mounts of its own."""
    system("unshare", CLONE_NEWNET)
    leave_mounts()


def without_sockets() -> None:
    """From here on this process may make none."""
    forbid("socket")


# --- who hears, and who sends ---


async def tell(line: Line, sub: eventbus.Subscription) -> None:
    """Tells of each event."""
    async for event in sub:
        line.say(event.data)


def listen(line: Line, name: str, become: Become) -> None:
    """Waits in an event loop for what it is told of, and tells it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Doorbell, "_look", lambda *_: None)
        become()
        with eventbus.open(name) as bus, bus.subscribe("**", name="listener", spin=0) as sub:
            line.say()
            asyncio.run(tell(line, sub))


def send(line: Line, name: str, become: Become) -> None:
    """Sends what it is told to."""
    become()
    with eventbus.open(name) as bus:
        line.say()
        while (number := line.hear()) is not None:
            bus.send("a", "b", "/c", number)
            line.say(number)


def asleep(bus: Bus) -> None:
    """Waits until whoever listens sleeps."""
    until(lambda: [one.sleeping for one in bus.stats().subscribers] == [True], "the listener to sleep")


def expect(bus: Bus, listener: Child, sender: Child, numbers: range) -> None:
    """Each is heard by one who sleeps before it is sent."""
    for number in numbers:
        asleep(bus)
        sender.say(number)
        assert sender.hear() == listener.hear() == number


def started(fork: Fork, bus: Bus, listens: Become, sends: Become) -> tuple[Child, Child]:
    """Both, at work."""
    sender = fork(send, bus.name, sends)
    sender.hear()
    listener = fork(listen, bus.name, listens)
    listener.hear()
    return listener, sender


def ended(bus: Bus, listener: Child, sender: Child) -> None:
    """Both end, and leave nothing."""
    sender.say(None)
    sender.result()
    bus.shutdown()
    listener.result()
    assert bells(bus) == []


# --- users and namespaces ---


@needs_root
@pytest.mark.parametrize("listens", [nobody, another_user])
@pytest.mark.parametrize("sends", [nobody, another_user])
def test_whoever_may_write_to_the_bus_rings(fork: Fork, name: str, listens: Become, sends: Become) -> None:
    """With mode=0o660 those of the group ring each other, whose bells are the group's; nobody else may."""
    with eventbus.open(name, mode=0o660) as bus:
        for path in (ring_of(bus.name), roster_of(bus.name)):
            os.chown(path, -1, GROUP)
        listener, sender = started(fork, bus, listens, sends)
        asleep(bus)
        assert [(path.stat().st_mode & 0o777, path.stat().st_gid) for path in bells(bus)] == [(0o660, GROUP)]
        expect(bus, listener, sender, range(20))
        ended(bus, listener, sender)


def test_by_default_a_bell_is_its_owners_alone(fork: Fork, bus: Bus) -> None:
    """As the bus itself."""
    listener, sender = started(fork, bus, nobody, nobody)
    asleep(bus)
    assert [path.stat().st_mode & 0o777 for path in bells(bus)] == [0o600]
    ended(bus, listener, sender)


@needs_root
@pytest.mark.parametrize(("listens", "sends"), [(another_network, nobody), (nobody, another_network)])
def test_another_network_and_mounts(fork: Fork, bus: Bus, listens: Become, sends: Become) -> None:
    """A bell is a file of /dev/shm, whatever network rings it."""
    listener, sender = started(fork, bus, listens, sends)
    expect(bus, listener, sender, range(20))
    ended(bus, listener, sender)


@needs_root
def test_another_pid_namespace(fork: Fork, bus: Bus) -> None:
    """Whether somebody answers there the kernel knows, in any namespace."""
    try:
        container = Container(fork)
    except PermissionError as error:
        pytest.skip(f"the kernel, or the container that this runs in, forbids PID namespaces: {error}")
    try:
        listener, sender = container.start(listen, bus.name, nobody), fork(send, bus.name, nobody)
        listener.hear()
        sender.hear()
        expect(bus, listener, sender, range(20))
        listener.kill()
    finally:
        container.release()
    sender.say(20)
    assert sender.hear() == 20  # whose listener is dead
    sender.say(None)
    sender.result()
    with bus.subscribe("**"):  # takes the slot of the dead one
        assert bells(bus) == []


# --- without sockets ---


@needs_numbers
def test_who_listens_may_make_no_socket(fork: Fork, bus: Bus) -> None:
    """A thread tells it."""
    listener, sender = started(fork, bus, without_sockets, nobody)
    expect(bus, listener, sender, range(20))
    assert bells(bus) == []
    ended(bus, listener, sender)


@needs_numbers
def test_who_sends_may_make_no_socket(fork: Fork, bus: Bus) -> None:
    """It says so when it opens the bus, and threads tell whoever listens."""
    listener, sender = started(fork, bus, nobody, without_sockets)
    expect(bus, listener, sender, range(20))
    assert bells(bus) == []
    ended(bus, listener, sender)


def send_from_now_on(line: Line, bus: Bus) -> None:
    """Sends what it is told to on a bus that its parent opened, which may make sockets."""
    without_sockets()
    while (number := line.hear()) is not None:
        bus.send("a", "b", "/c", number)
        line.say(number)


@needs_numbers
def test_who_sends_may_make_no_socket_any_more(fork: Fork, bus: Bus) -> None:
    """What it sends first is heard late; since then all know that it cannot ring."""
    listener, sender = fork(listen, bus.name, nobody), fork(send_from_now_on, bus)
    listener.hear()
    asleep(bus)
    sender.say(1)
    assert sender.hear() == 1
    bus.send("a", "b", "/c", 2)  # rings nobody: the flag is down
    listener.kill()
    listener = fork(listen, bus.name, nobody)
    listener.hear()
    expect(bus, listener, sender, range(3, 20))
    ended(bus, listener, sender)
