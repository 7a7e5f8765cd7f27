"""Kin: the processes that a process has started, to be ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 1.0  # seconds that all of them may take to stop
LOOK = 0.0005  # seconds between two looks whether it has


def kill(pid: int, fd: int) -> None:
    """Kills a process that cannot clean up any more, and what it has started.

    A descendant with a session of its own was meant to live on. The others are stopped before they are looked through:
    none starts another or reaps one meanwhile.

    Args:
        pid: of the process; once it is reaped, nothing happens.
        fd: its descriptor, as of ``os.pidfd_open``.
    """
    until = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as opened:
        try:
            opened.callback(_end, fd)
            _stop(pid, fd, until)
            for kin in _stopped(pid, opened, until):
                opened.callback(_end, kin)
        except ProcessLookupError:
            return


def _stop(pid: int, fd: int, until: float) -> None:
    """A fork that is under way is still finished; what cannot be interrupted is not waited for."""
    signal.pidfd_send_signal(fd, signal.SIGSTOP)
    while not _stands_still(pid) and time.monotonic() < until:
        time.sleep(LOOK)


def _stands_still(pid: int) -> bool:
    """Whether each of its threads is stopped, or has ended (proc_pid_stat(5))."""
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # of a thread that has ended meanwhile
            if path.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def _end(fd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, signal.SIGKILL)


def _stopped(pid: int, opened: contextlib.ExitStack, until: float) -> Iterator[int]:
    """Descriptors of its descendants, for as long as the stack is open."""
    session = os.getsid(pid)
    for child in _children(pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of one that became another user's
            if os.getsid(child) == session:
                fd = os.pidfd_open(child)
                opened.callback(os.close, fd)
                _stop(child, fd, until)
                yield fd
                yield from _stopped(child, opened, until)


def _children(pid: int) -> Iterator[int]:
    """As the kernel lists them, which it may have been built without."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # of a thread that has ended meanwhile
            yield from map(int, path.read_text().split())
