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

from eventbus.workers import kin
from eventbus.workers.handling import DONE, RETIRED, flush
from eventbus.workers.process import how, reap
from eventbus.workers.signals import HANDLED, Inbox

CHECK_SECONDS = 60.0  # that the new code may take to be loaded
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

    def hand_over(self, ready: int, complete: bool) -> None:
        """Tells as many as others are ready; all, once those are ``complete``."""
        waiting = [one for one in self.processes if not one.told]
        more = len(waiting) if complete else ready - self._relieved
        for one in waiting[: max(0, more)]:
            self._relieved += 1
            one.tell()

    _relieved = 0

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
    """How the command begins anew.

    What goes on in the process is told to its next life by a variable of the environment; descriptors stay open.
    """

    def __init__(self, check: Sequence[str]) -> None:
        """Args: ``check`` is a command that succeeds if the code can be loaded."""
        self._check = check

    def why_not(self) -> str | None:
        """Why the code that there is now cannot be loaded; None if it can."""
        try:
            subprocess.run(
                self._check, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=CHECK_SECONDS
            )
        except subprocess.CalledProcessError as error:
            return str((error.stderr.strip().splitlines() or ["it says nothing"])[-1])
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return None

    def begin(self, inbox: Inbox, keeper: tuple[int, ...], processes: list[Predecessor]) -> None:
        """Replaces the program in this process; returns only when a signal came before it could.

        Args:
            inbox: whose signals are still to be taken; any that come from now on wait for the next life.
            keeper: the descriptors of the keeper.
            processes: those that go on.

        Raises:
            OSError: it cannot be executed; nothing has happened.
        """
        rows = [(one.fd, one.pid, one.name, one.timeout) for one in processes]
        known = {"pid": os.getpid(), "keeper": keeper, "processes": rows}
        fds = [*keeper, *(one.fd for one in processes)]
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
    """The descriptors of the keeper, and the processes, that go on in this process since it began anew; none if it did
    not. The signals that waited come from now on."""
    known = json.loads(os.environ.pop(VARIABLE, "{}"))
    if known.get("pid") != os.getpid():  # inherited by a program that the process has started
        return [], []
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    keeper, processes = known["keeper"], [Predecessor(*one) for one in known["processes"]]
    for fd in (*keeper, *(one.fd for one in processes)):
        os.set_inheritable(fd, False)
    return keeper, processes
