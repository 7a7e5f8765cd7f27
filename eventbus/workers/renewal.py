"""Renewal: a command begins anew in the same process, with the code that there is by now, and its processes go on
until others take over from them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from eventbus.workers import kin
from eventbus.workers.handling import DONE, RETIRED, flush
from eventbus.workers.process import how, reap
from eventbus.workers.signals import HANDLED, Inbox

CHECK_SECONDS = 60.0  # that the new code may take to be loaded
FINE = "the code can be loaded"
VARIABLE = "EVENTBUS_RENEWAL"

_log = logging.getLogger("eventbus.worker")


class Predecessor:
    """A process of the code before: its descriptor, its pid, its handler's name, and how long an event may take it, in
    seconds."""

    def __init__(self, fd: int, pid: int, name: str, timeout: float | None) -> None:
        self.fd, self.pid, self.name, self.timeout = fd, pid, name, timeout
        self.told = 0.0  # when it was, that it is to finish, on ``time.monotonic``

    @property
    def hangs_at(self) -> float | None:
        """When it hangs: once it was told, it has one event to finish."""
        return self.told + self.timeout if self.told and self.timeout is not None else None

    def tell(self) -> None:
        """It is to finish."""
        self.told = self.told or time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, signal.SIGTERM)


class Predecessors:
    """Those of the code before, in the order in which they are relieved."""

    def __init__(self) -> None:
        self.processes: list[Predecessor] = []
        self._relieved = 0

    def hand_over(self, ready: int, complete: bool) -> None:
        """Tells as many as others are ready; all, once those are ``complete``."""
        waiting = [one for one in self.processes if not one.told]
        more = len(waiting) if complete else ready - self._relieved
        for one in waiting[: max(0, more)]:
            self._relieved += 1
            one.tell()

    def tell_all(self) -> None:
        """All are to finish."""
        for one in self.processes:
            one.tell()

    def end_hung(self) -> None:
        """Kills those that hang."""
        for one in self.processes:
            if one.hangs_at is not None and time.monotonic() >= one.hangs_at:
                _log.error(
                    "%s hung for more than %g s on its last event: process %d is killed, and the event delivered again",
                    one.name,
                    one.timeout,
                    one.pid,
                )
                one.timeout = None
                kin.kill(one.pid, one.fd)

    def bury(self, fd: int) -> None:
        """Reaps the one with that descriptor."""
        dead = next(one for one in self.processes if one.fd == fd)
        self.processes.remove(dead)
        status = reap(fd)
        os.close(fd)
        if status not in (DONE, RETIRED, None):
            _log.error("process %d of %s %s", dead.pid, dead.name, how(status))

    def kill_all(self) -> None:
        """Ends what is left."""
        for one in self.processes[:]:
            kin.kill(one.pid, one.fd)
            self.bury(one.fd)

    def forget(self) -> None:
        """In a child: they are the parent's."""
        for one in self.processes:
            os.close(one.fd)


class Renewal:
    """How the command begins anew, once a process of its own has seen that the code can be loaded.

    What goes on in the process is told to its next life by a variable of the environment; descriptors stay open.
    """

    def __init__(self, check: Sequence[str]) -> None:
        """Args: ``check`` is a command whose last line is ``FINE`` if the code can be loaded, else why not."""
        self._command = check
        self._said: IO[bytes] | None = None
        self.fd = -1  # readable once it is known whether it can
        self.due = 0.0  # until then it must be, on ``time.monotonic``

    def check(self) -> None:
        """Begins to see whether it can.

        Raises:
            OSError: there can be no process for it now.
        """
        self.forget()
        self._said = os.fdopen(os.memfd_create("check"), "w+b")
        try:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said)
            process.returncode = 0  # it is reaped here, by its descriptor
            self.fd = os.pidfd_open(process.pid)
        except OSError:
            self.forget()
            raise
        self.due = time.monotonic() + CHECK_SECONDS

    def why_not(self) -> str | None:
        """Why it cannot be loaded, or is not by now; None if it can."""
        assert self._said is not None
        late = time.monotonic() >= self.due
        self.end_check()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self.forget()
        if lines[-1:] == [FINE]:
            return None
        return f"it takes more than {CHECK_SECONDS:g} s" if late else (lines or ["it ends without a word"])[-1]

    def end_check(self) -> None:
        """Ends the process that sees to it, and reaps it; nothing if there is none."""
        if self.fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.fd, signal.SIGKILL)
            reap(self.fd)
            os.close(self.fd)
            self.fd = -1

    def forget(self) -> None:
        """Keeps nothing open for it; all that a child of the process has to do."""
        if self._said is not None:
            self._said.close()
        if self.fd >= 0:
            os.close(self.fd)
        self._said, self.fd = None, -1

    def begin(self, inbox: Inbox, warden: tuple[int, ...], processes: list[Predecessor]) -> None:
        """Replaces the program in this process; returns only when a signal came before it could.

        Args:
            inbox: whose signals are still to be taken; any that come from now on wait for the next life.
            warden: the descriptors of the warden.
            processes: those that go on.

        Raises:
            OSError: it cannot be executed; nothing has happened.
        """
        rows = [{"fd": one.fd, "pid": one.pid, "name": one.name, "timeout": one.timeout} for one in processes]
        known = {"pid": os.getpid(), "warden": warden, "processes": rows}
        fds = [*warden, *(one.fd for one in processes)]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            if inbox.has_some:
                return
            with inbox.as_before():  # what was ignored, as by nohup, is ignored by the next life, too
                for fd in fds:
                    os.set_inheritable(fd, True)
                flush()
                os.execve(sys.executable, sys.orig_argv, {**os.environ, VARIABLE: json.dumps(known)})
        finally:
            for fd in fds:
                os.set_inheritable(fd, False)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_over() -> tuple[list[int], list[Predecessor]]:
    """The descriptors of the warden, and the processes, that go on in this process since it began anew; none if it did
    not. The signals that waited come from now on."""
    known = json.loads(os.environ.pop(VARIABLE, "{}"))
    if known.get("pid") != os.getpid():  # inherited by a program that the process has started
        return [], []
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    warden = known["warden"]
    # By their names: the life before may have been one of another version.
    processes = [Predecessor(one["fd"], one["pid"], one["name"], one["timeout"]) for one in known["processes"]]
    for fd in (*warden, *(one.fd for one in processes)):
        os.set_inheritable(fd, False)
    return warden, processes
