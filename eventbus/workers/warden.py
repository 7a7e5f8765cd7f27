"""Warden: a process that ends the others of a crew when their parent is killed and they do not end by themselves."""

from __future__ import annotations

import _socket
import contextlib
import fcntl
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from itertools import starmap
from typing import NoReturn, cast

from eventbus.workers import kin
from eventbus.workers.signals import HANDLED

GRACE = 8.0  # seconds from the parent's death until who still lives is killed
PATIENCE = 1.0  # seconds that it may take to be told something
_PID_BYTES = 8

# Of C: the one of Python's module may be parted in the middle.
_socketpair = cast("Callable[[int, int], tuple[socket.socket, socket.socket]]", _socket.socketpair)

_log = logging.getLogger("eventbus.worker")


class Warden:
    """It knows each process by a descriptor, so by no number that may be another's by then: inherited of those that
    there were before it, and of any other sent by that itself, so there is no moment at which the parent's death leaves
    one out.
    """

    def __init__(self) -> None:
        self.fd = -1
        self._pid = 0
        self._parent: int | None = None  # a descriptor of this process, while the fork is under way
        self._its: socket.socket | None = None  # the other end of the line, until then
        self._line: socket.socket | None = None

    def start(self, known: Iterable[tuple[int, int]]) -> None:
        """Forks it.

        Args:
            known: descriptors and pids of the processes that there are.

        Raises:
            OSError: there can be none now.
        """
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            # Each is known in the step in which it begins, which no handler's exception can part.
            for self._parent in map(os.pidfd_open, (os.getpid(),)):
                pass
            for self._line, self._its in starmap(_socketpair, ((socket.AF_UNIX, socket.SOCK_DGRAM),)):
                self._line.settimeout(PATIENCE)
            its, parent = self._its, self._parent
            assert its is not None
            assert parent is not None
            for self._pid in starmap(os.fork, ((),)):
                if self._pid == 0:
                    _keep(its, parent, dict(known))
            pid = self._pid
            for self.fd in map(os.pidfd_open, (pid,)):
                pass
            self._close_ends()
        except OSError:
            self.end()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def _close_ends(self) -> None:
        """What is its own; closed and forgotten in one step."""
        if self._its is not None:
            self._its.close()
        if (parent := self._parent) is not None:
            for self._parent in map(os.close, (parent,)):
                pass

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What it takes to ``adopt`` it: its own, and that of the line to it; none if there is no warden."""
        return () if self._line is None or self.fd < 0 else (self.fd, self._line.fileno())

    def adopt(self, fd: int, line: int) -> None:
        """Goes on with one that was started in this process before it executed another program."""
        self.fd = fd
        self._line = socket.socket(fileno=line)
        self._line.settimeout(PATIENCE)

    def enter(self) -> None:
        """In a child: it is one of those to be ended; the rest is the parent's. A warden that is no more cannot be
        told: the next one inherits what it is to know."""
        if self._line is not None:
            fd = os.pidfd_open(os.getpid())
            try:
                socket.send_fds(self._line, [os.getpid().to_bytes(_PID_BYTES, "little")], [fd])
            except OSError as error:
                _log.error("who would end process %d after the parent's death is not told: %s", os.getpid(), error)
            os.close(fd)
        self._forget()

    def _forget(self) -> None:
        self._close_ends()
        if self._line is not None:
            self._line.close()
        if self.fd >= 0:
            os.close(self.fd)
        self._line, self.fd, self._pid = None, -1, 0

    def end(self) -> None:
        """Ends and reaps it; nothing if there is none."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if self.fd >= 0:
                signal.pidfd_send_signal(self.fd, signal.SIGKILL)
                os.waitid(os.P_PIDFD, self.fd, os.WEXITED)
            elif self._pid:  # which had no time to be reaped by others
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        self._forget()


def _keep(line: socket.socket, parent: int, known: dict[int, int]) -> NoReturn:
    """Nothing of the parent's is kept open: neither its bus, nor what others wait for the end of."""
    try:
        for number in HANDLED:
            signal.signal(number, signal.SIG_IGN)
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3) for fd in (line.fileno(), parent, *known)]
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(nowhere, fd)
        for fd in {int(one) for one in os.listdir("/proc/self/fd")}.difference(range(3), kept):
            with contextlib.suppress(OSError):  # of the one that listed them
                os.close(fd)
        its = socket.socket(fileno=kept[0])
        its.setblocking(False)
        _end_all(_watch(its, kept[1], dict(zip(kept[2:], known.values(), strict=True))))
    finally:
        os._exit(0)


def _watch(line: socket.socket, parent: int, left: dict[int, int]) -> dict[int, int]:
    """Until the parent has died: the processes that are left, their pids by their descriptors."""
    poll = select.poll()
    for fd in (line.fileno(), parent, *left):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == parent:
                _take(line, left)
                return left
            if fd == line.fileno():
                for one in _take(line, left):
                    poll.register(one, select.POLLIN)
            else:
                poll.unregister(fd)
                os.close(fd)
                del left[fd]


def _take(line: socket.socket, left: dict[int, int]) -> list[int]:
    """The descriptors of those that came since."""
    new = []
    with contextlib.suppress(BlockingIOError):
        while True:
            text, fds, _, _ = socket.recv_fds(line, _PID_BYTES, 1)
            new += fds
            left.update(dict.fromkeys(fds, int.from_bytes(text, "little")))
            if not fds:
                return new
    return new


def _end_all(left: dict[int, int]) -> None:
    until = time.monotonic() + GRACE
    poll = select.poll()
    for fd in left:
        poll.register(fd, select.POLLIN)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGTERM)
    while left and (seconds := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(1000 * seconds):
            poll.unregister(fd)
            del left[fd]
    for fd, pid in left.items():
        with contextlib.suppress(OSError):  # the others are to end, too
            kin.kill(pid, fd)
