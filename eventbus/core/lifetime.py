"""What becomes of the open buses when this process forks or ends."""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import threading
import weakref
from typing import Any, Protocol

_log = logging.getLogger("eventbus")


class Attached(Protocol):
    """What the hooks need of a bus."""

    def fork_prepare(self) -> int:
        """A descriptor for the child."""

    def fork_child(self, descriptor: int) -> None:
        """Lives on in the child."""

    def process_ends(self) -> None:
        """Leaves the bus."""


# Held by whoever opens, closes or subscribes, and across a fork: no child is born with half of such a step.
lock = threading.RLock()
_open: weakref.WeakSet[Any] = weakref.WeakSet()
_prepared: list[tuple[Attached, int]] = []
_leaving_pid = 0


def opened(bus: Attached) -> None:
    """From now on the bus survives forks and is left when the process ends."""
    _open.add(bus)
    _leave_at_end()


def closed(bus: Attached) -> None:
    """Forgets the bus."""
    _open.discard(bus)


def _leave_at_end() -> None:
    """multiprocessing ends its processes without atexit, but runs its own finalizers."""
    global _leaving_pid
    if _leaving_pid != os.getpid():
        _leaving_pid = os.getpid()
        multiprocessing.util.Finalize(None, _leave_all, exitpriority=-100)


def _leave_all() -> None:
    for bus in list(_open):
        try:
            bus.process_ends()
        except Exception:
            _log.exception("a bus could not be left")


def _before_fork() -> None:
    lock.acquire()
    _prepared[:] = [(bus, bus.fork_prepare()) for bus in list(_open)]


def _after_fork_in_parent() -> None:
    for _, descriptor in _prepared:
        if descriptor >= 0:
            os.close(descriptor)
    _prepared.clear()
    lock.release()


def _after_fork_in_child() -> None:
    global _leaving_pid
    _leaving_pid = 0  # in a PID namespace of its own the child may have its parent's pid
    for bus, descriptor in _prepared:
        bus.fork_child(descriptor)
    _prepared.clear()
    lock.release()


def _after_fork_by_multiprocessing(_: object) -> None:
    if len(_open):
        _leave_at_end()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
multiprocessing.util.register_after_fork(lock_owner := threading.Event(), _after_fork_by_multiprocessing)
atexit.register(_leave_all)
