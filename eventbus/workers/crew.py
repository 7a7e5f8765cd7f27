"""Crew: child processes that are started again when they die, and stopped together."""

from __future__ import annotations

import ctypes
import functools
import logging
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from itertools import starmap
from multiprocessing.connection import wait
from types import TracebackType
from typing import NoReturn

from eventbus.errors import InvalidError
from eventbus.workers.handling import DONE, RETIRED, Handling

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0  # seconds before a restart, doubled each time
STEADY = 10.0  # seconds after which a process counts as one that works
STOPPING = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1

_log = logging.getLogger("eventbus.worker")


class Post:
    """One place of the crew, and the process that fills it."""

    def __init__(self, handling: Handling) -> None:
        self.handling = handling
        self.pid = 0
        self.fd = -1
        self.due = time.monotonic()  # when to start
        self.retired = False  # for good
        self._delay = FIRST_DELAY
        self._started = 0.0
        self._began = mmap.mmap(-1, 1)  # shared with the child: whether it had an event

    def start(self, prepare: Callable[[], None]) -> None:
        """Forks the process; ``prepare`` runs in it first."""
        self._began[0] = 0
        self._started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # a child's signals are not for our descriptor
        try:
            # Both are known in the step in which they begin, which no handler's exception can part.
            for self.pid in starmap(os.fork, ((),)):
                if self.pid == 0:
                    self._live(parent, prepare, unblocked)
            pid = self.pid
            for self.fd in map(os.pidfd_open, (pid,)):
                pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def _live(self, parent: int, prepare: Callable[[], None], unblocked: Iterable[int]) -> NoReturn:
        status = 1
        try:
            prepare()
            _die_with(parent)
            listening = functools.partial(signal.pthread_sigmask, signal.SIG_SETMASK, unblocked)
            status = self.handling.work(listening, self._begin)
            self.handling.bus.close()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            _log.exception("%s cannot go on in process %d", self.handling.name, os.getpid())
        finally:
            _exit(status)

    def _begin(self) -> None:
        self._began[0] = 1

    def tell(self, number: int) -> None:
        """Sends the process a signal, if there is one; its pid is its own until it is buried."""
        if self.pid:
            os.kill(self.pid, number)

    def bury(self, stopping: bool) -> None:
        """Reaps the dead process, and decides when the next one is due."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self.fd >= 0:
            os.close(self.fd)
        lived = time.monotonic() - self._started
        pid, self.fd, self.pid = self.pid, -1, 0
        if stopping:
            self.retired = True
            if status not in (DONE, RETIRED):
                _log.error("process %d of %s %s while it was to finish", pid, self.handling.name, _how(status))
        elif status == RETIRED:
            self.due = time.monotonic()
        else:
            self._delay = FIRST_DELAY if lived > STEADY else self._delay
            self._report(pid, status)
            self.due = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _report(self, pid: int, status: int) -> None:
        early = "" if self._began[0] else ", before its first event: see that it can start"
        _log.error("process %d of %s %s%s; next in %.1f s", pid, self.handling.name, _how(status), early, self._delay)

    def close(self) -> None:
        """Gives the shared byte back."""
        self._began.close()


class Crew:
    """All processes of a worker, and the loop that looks after them."""

    def __init__(self, handlings: list[Handling]) -> None:
        """Args: what each process does, until that is over."""
        self.posts = [Post(one) for one in handlings]
        self._signals: list[int] = []

    def run(self) -> None:
        """Keeps every post filled until a signal, or until all have left because the work has ended.

        Raises:
            KeyboardInterrupt, SystemExit: a second signal came, and what was left was killed.
        """
        with Signals() as signals:
            try:
                while not all(post.retired for post in self.posts):
                    self._start_due(signals)
                    self._wait(signals)
                    self._obey(signals)
            finally:
                for post in self.posts:
                    post.tell(signal.SIGKILL)
                    if post.pid:
                        post.bury(stopping=True)
                    post.close()

    def _start_due(self, signals: Signals) -> None:
        for post in self.posts:
            if self._signals and not post.pid:
                post.retired = True
            elif not post.retired and not post.pid and post.due <= time.monotonic():
                post.start(functools.partial(self._forget, signals))

    def _forget(self, signals: Signals) -> None:
        """In a child: what is the parent's alone."""
        signals.release()
        for post in self.posts:
            if post.fd >= 0:
                os.close(post.fd)

    def _wait(self, signals: Signals) -> None:
        """Until a process dies, a signal comes, or a start is due."""
        due = [post.due for post in self.posts if not post.retired and not post.pid]
        seconds = max(0.0, min(due) - time.monotonic()) if due else None
        fds = {post.fd: post for post in self.posts if post.fd >= 0}
        if not fds and not due:
            return
        for ready in wait([signals.fd, *fds], seconds):
            if isinstance(ready, int) and ready in fds:
                fds[ready].bury(bool(self._signals) or fds[ready].handling.over)

    def _obey(self, signals: Signals) -> None:
        for number in signals.take():
            self._signals.append(number)
            if len(self._signals) > 1:
                if number == signal.SIGINT:
                    raise KeyboardInterrupt
                raise SystemExit(128 + number)
            for post in self.posts:
                post.tell(signal.SIGTERM)
            _log.info("%s: each process finishes its event and leaves", signal.Signals(number).name)


class Signals:
    """SIGTERM and SIGINT as bytes that a descriptor can be waited for."""

    fd, _write, _wakeup = -1, -1, -1

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            raise InvalidError("run() handles signals: call it in the main thread")
        self._before = {number: signal.getsignal(number) for number in STOPPING}
        try:
            for self.fd, self._write in starmap(os.pipe2, ((os.O_NONBLOCK | os.O_CLOEXEC,),)):
                self._wakeup = signal.set_wakeup_fd(self._write)
            for number in self._before:
                signal.signal(number, _note)
        except BaseException:  # of a handler that is not ours
            self._undo()
            raise
        return self

    def take(self) -> list[int]:
        """The signals that came."""
        try:
            came = os.read(self.fd, 64)
        except BlockingIOError:
            return []
        return [number for number in came if number in self._before]

    def release(self) -> None:
        """In a child: SIGTERM, blocked so far, is its own; Ctrl-C is its parent's business."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, _note)
        os.close(self.fd)
        os.close(self._write)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._undo()

    def _undo(self) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, before in self._before.items():
            signal.signal(number, before)
        for fd in (self.fd, self._write):
            if fd >= 0:
                os.close(fd)
        self.fd = self._write = -1


def _note(*_: object) -> None:
    """The wake-up descriptor has got it; a handler is needed all the same, and none that a new program inherits."""


def _how(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _exit(status: int) -> NoReturn:
    """Whatever becomes of what was written: the child must never run on into its parent's code."""
    try:
        logging.shutdown()
        sys.stdout.flush()
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    """A crew whose parent was killed must not go on for ever with nobody to look after it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(DONE)
