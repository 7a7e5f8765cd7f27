"""No more descriptors, address space, or size of files: an OSError with its errno, and nothing is left."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError
from eventbus.core.inspection import inspect_bus
from harness import Child, Fork, Line, ring_of, roster_of

MEGABYTE = 1 << 20
WHILE_OPENING = 3  # descriptors that a bus takes; open it has one, and each subscription


class Descriptors:
    """All descriptors that this process may have, so that it has exactly as many free as it is told to."""

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        self._taken: list[int] = []

    def leave(self, free: int) -> None:
        """Takes all but so many."""
        self.take()
        for _ in range(free):
            os.close(self._taken.pop())

    def take(self) -> int:
        """Takes all there are; how many there were."""
        before = len(self._taken)
        while True:
            try:
                self._taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
                return len(self._taken) - before

    def give_back(self) -> None:
        """Gives all back."""
        while self._taken:
            os.close(self._taken.pop())


def outcome(call: Callable[[], Any]) -> str:
    """ "done", or the errno's name and the sentence."""
    try:
        call().close()
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]}: {error.strerror}"
    return "done"


def open_with_few(_: Line, name: str) -> list[tuple[str, int, bool]]:
    """With 0, 1 ... free descriptors: what comes of opening the bus, how many are free then, whether it is there."""
    descriptors = Descriptors()
    seen = []
    for free in range(WHILE_OPENING + 1):
        descriptors.leave(free)
        came = outcome(lambda: eventbus.open(name, capacity=MEGABYTE))
        seen.append((came, descriptors.take(), roster_of(name).exists() or ring_of(name).exists()))
    descriptors.give_back()
    return seen


def test_open_without_descriptors(fork: Fork, name: str) -> None:
    """Opening a bus takes three descriptors at a time; with fewer it is EMFILE, and nothing stays."""
    *refused, last = fork(open_with_few, name).result()
    for free, (came, left, there) in enumerate(refused):
        assert came.startswith(f"EMFILE: the bus '{name}'")
        assert (left, there) == (free, False)
    assert last == ("done", WHILE_OPENING, False)


def test_join_without_descriptors(fork: Fork, name: str) -> None:
    """The same of a bus that is there, which is not harmed."""
    with eventbus.open(name, capacity=MEGABYTE) as bus, bus.subscribe("a") as sub:
        *refused, last = fork(open_with_few, name).result()
        for free, (came, left, there) in enumerate(refused):
            assert came.startswith(f"EMFILE: the bus '{name}'")
            assert (left, there) == (free, True)
        assert last == ("done", WHILE_OPENING, True)
        assert bus.stats().attached == 1
        bus.send("a", "b", "/c")
        assert sub.receive(0) is not None


def use_without(_: Line, name: str) -> tuple[Any, ...]:
    """With no descriptor free: what comes of subscribing, sending, receiving; the subscriptions; and of closing."""
    descriptors = Descriptors()
    bus = eventbus.open(name, capacity=MEGABYTE)
    sub = bus.subscribe("a")
    descriptors.leave(0)
    subscribed = [outcome(lambda: bus.subscribe("a")), outcome(lambda: bus.subscribe("a", group="pool"))]
    bus.send("a", "b", "/c", 7)
    event = sub.receive(0)
    subscribers = len(bus.stats().subscribers) + len(bus.stats().groups)
    descriptors.leave(1)
    subscribed.append(outcome(lambda: bus.subscribe("a")))
    descriptors.take()
    bus.close()
    left = roster_of(name).exists() or ring_of(name).exists()
    descriptors.give_back()
    return subscribed, event and event.data, subscribers, left


def test_use_without_descriptors(fork: Fork, name: str) -> None:
    """Subscribing takes one; sending, receiving, leaving take none: the last one out removes the bus all the same."""
    subscribed, data, subscribers, left = fork(use_without, name).result()
    assert [came[:6] for came in subscribed] == ["EMFILE", "EMFILE", "done"]
    assert (data, subscribers, left) == (7, 1, False)


def send(_: Line, bus: Bus) -> str:
    """What comes of sending on an inherited bus."""
    try:
        bus.send("a", "b", "/c")
    except ClosedError as error:
        return error.message
    return "sent"


def linger(line: Line, bus: Bus) -> None:
    """A child that has inherited the bus, and outlives its parent."""
    line.say(os.getpid())
    line.hear()


def fork_without(line: Line, name: str) -> None:
    """Forks with no descriptor free, once to send and once to be outlived by the child."""
    bus = eventbus.open(name, capacity=MEGABYTE)
    children = [fork_at_limit(bus, send), fork_at_limit(bus, linger)]
    line.say((children[0].result(), children[1].hear(), bus.send("a", "b", "/parent")))
    line.hear()


def fork_at_limit(bus: Bus, job: Callable[..., Any]) -> Child:
    """A child whose fork found no descriptor for its bus."""
    fork, descriptors = os.fork, Descriptors()

    def fork_with_none() -> int:
        descriptors.leave(0)
        try:
            return fork()
        finally:
            descriptors.give_back()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fork", fork_with_none)
        return Child(job, bus)


def test_fork_without_descriptors(fork: Fork, name: str) -> None:
    """A child that found no descriptor has a closed bus that says what to do, and keeps no dead parent attached."""
    parent = fork(fork_without, name)
    said, orphan, sent = parent.hear()
    assert "not open in this process" in said
    assert "raise the limit (ulimit -n)" in said
    assert "open it here with eventbus.open()" in said
    assert sent is True
    parent.kill()
    assert Path(f"/proc/{orphan}").exists()
    seen = inspect_bus(name)
    assert seen is not None
    assert (seen.state, seen.attached) == ("abandoned", 0)
    os.kill(orphan, 9)
    eventbus.unlink(name)


# --- memory and sizes ---


def open_in_little_memory(_: Line, name: str) -> list[tuple[str, bool]]:
    """What comes of opening buses that need more address space than there is, and one that does not; what is left."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + 24 * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    seen = []
    for capacity in (64 * MEGABYTE, 16 * MEGABYTE, 4 * MEGABYTE):
        came = outcome(lambda capacity=capacity: eventbus.open(name, capacity=capacity))  # type: ignore[misc]
        seen.append((came, roster_of(name).exists() or ring_of(name).exists()))
    return seen


def test_open_without_memory(fork: Fork, name: str) -> None:
    """A ring is mapped twice: where that does not fit it is ENOMEM, nothing is left, and a smaller one opens."""
    *refused, last = fork(open_in_little_memory, name).result()
    for came, there in refused:
        assert came.startswith(f"ENOMEM: the bus '{name}'")
        assert not there
    assert last == ("done", False)


def open_with_small_files(_: Line, name: str) -> list[tuple[str, bool]]:
    """What comes of opening a bus that is larger than a file may be, and one that is not; what is left."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MEGABYTE, 4 * MEGABYTE))
    seen = []
    for capacity in (None, 4 * MEGABYTE, MEGABYTE):
        came = outcome(lambda capacity=capacity: eventbus.open(name, capacity=capacity))  # type: ignore[misc]
        seen.append((came, roster_of(name).exists() or ring_of(name).exists()))
    return seen


def test_open_with_small_files(fork: Fork, name: str) -> None:
    """Where files may not be as large it is EFBIG with the remedy, nothing is left, and a smaller bus opens."""
    *refused, last = fork(open_with_small_files, name).result()
    for came, there in refused:
        assert came.startswith("EFBIG")
        assert f"the bus '{name}'" in came
        assert "ulimit -f" in came
        assert not there
    assert last == ("done", False)
