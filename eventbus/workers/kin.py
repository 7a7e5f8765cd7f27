"""Kin: the processes that a process has started, to be ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def kill(pid: int, fd: int) -> None:
    """Kills a process that cannot clean up any more, and what it has started.

    A descendant with a session of its own was meant to live on.

    Args:
        pid: of the process; once it is reaped, nothing happens.
        fd: its descriptor, as of ``os.pidfd_open``.
    """
    with contextlib.ExitStack() as opened:
        try:
            signal.pidfd_send_signal(fd, signal.SIGSTOP)  # stopped, it starts and reaps none
            opened.callback(_end, fd)
            for kin in _stopped(pid, opened):
                opened.callback(_end, kin)
        except ProcessLookupError:
            return


def _end(fd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, signal.SIGKILL)


def _stopped(pid: int, opened: contextlib.ExitStack) -> Iterator[int]:
    """Descriptors of its descendants, for as long as the stack is open."""
    session = os.getsid(pid)
    for child in _children(pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of one that became another user's
            if os.getsid(child) == session:
                fd = os.pidfd_open(child)
                opened.callback(os.close, fd)
                signal.pidfd_send_signal(fd, signal.SIGSTOP)
                yield fd
                yield from _stopped(child, opened)


def _children(pid: int) -> Iterator[int]:
    """As the kernel lists them, which it may have been built without."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # of a thread that has ended meanwhile
            yield from map(int, path.read_text().split())
