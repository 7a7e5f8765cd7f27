"""Process: one process of a worker, as its parent knows it, and how it lives and ends."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import mmap
import multiprocessing.process
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from itertools import starmap
from typing import NoReturn

from eventbus.core import lifetime
from eventbus.workers import kin
from eventbus.workers.handling import DONE, Handling, flush, status_of
from eventbus.workers.signals import HANDLED, Told

_libc = ctypes.CDLL(None)  # loaded before any fork: another thread may hold the loader's lock then
_PR_SET_PDEATHSIG = 1
_READY, _BEGAN, _STATUS, _SINCE, _SEQUENCE, _LEFT = _WORDS = range(6)

LINGER = 60.0  # seconds that threads and ``atexit`` may take after the last event

_log = logging.getLogger("eventbus.worker")


class Progress:
    """Words that a process writes and its parent reads: the parent may be refused the rest, or the process be dead."""

    def __init__(self, tell: Callable[[], object]) -> None:
        """Args: ``tell`` is called in the process once it is ready."""
        self._memory = mmap.mmap(-1, 8 * len(_WORDS))
        self._words = memoryview(self._memory).cast("Q")
        self._tell = tell

    def ready(self) -> None:
        """The process is about to ask for its first event."""
        self._words[_READY] = 1
        self._tell()

    def began(self) -> None:
        """It handles its first event."""
        self._words[_BEGAN] = 1

    def leaves(self) -> None:
        """It has handled its last event, and ends what it has started itself."""
        self._words[_LEFT] = time.monotonic_ns()
        self._tell()

    def ended(self, status: int) -> None:
        """It ends by itself."""
        self._words[_STATUS] = status + 1

    def handles(self, sequence: int, since: int) -> None:
        """This event is the one that it has handled for longest, since then in ns of ``time.monotonic_ns``."""
        self._words[_SEQUENCE] = sequence
        self._words[_SINCE] = since

    def handled(self) -> None:
        """It handles none any more."""
        self._words[_SINCE] = 0

    @property
    def is_ready(self) -> bool:
        """Whether it was ready once."""
        return self._words[_READY] != 0

    @property
    def has_begun(self) -> bool:
        """Whether it had an event."""
        return self._words[_BEGAN] != 0

    @property
    def status(self) -> int | None:
        """What it ended with, if it ended by itself."""
        return self._words[_STATUS] - 1 if self._words[_STATUS] else None

    @property
    def since(self) -> float | None:
        """When it began to handle what it has handled for longest, on ``time.monotonic``."""
        return self._words[_SINCE] / 1e9 if self._words[_SINCE] else None

    @property
    def left(self) -> float | None:
        """When it had handled its last event, on ``time.monotonic``."""
        return self._words[_LEFT] / 1e9 if self._words[_LEFT] else None

    @property
    def sequence(self) -> int:
        """Of the event that it has handled for longest, or that was the last."""
        return self._words[_SEQUENCE]

    def close(self) -> None:
        """Gives the memory back."""
        self._words.release()
        self._memory.close()


class Process:
    """A process that handles events, from the fork on until it is reaped."""

    def __init__(self, handling: Handling, tell: Callable[[], object]) -> None:
        self.handling = handling
        self.progress = Progress(tell)
        self.started = time.monotonic()
        self.pid = 0
        self.fd = -1
        self.hung = False  # and was killed for it

    def start(self, forget: Callable[[], None]) -> None:
        """Forks it; ``forget`` runs in it first.

        Raises:
            OSError: there can be no process now, or no descriptor for it; then there is none.
        """
        flush()  # or both would write it
        parent = os.getpid()
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until it says what it does with them
        try:
            # Both are known in the step in which they begin, which no handler's exception can part.
            for self.pid in starmap(os.fork, ((),)):
                if self.pid == 0:
                    _live(self, parent, forget, unblocked)
            pid = self.pid
            for self.fd in map(os.pidfd_open, (pid,)):
                pass
        except OSError:
            self._abandon()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def _abandon(self) -> None:
        """Without a descriptor nobody could wait for it."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        self.pid = 0

    def hangs_at(self, timeout: float | None) -> float | None:
        """When it takes too long for what it does, on ``time.monotonic``; None if it may take any time.

        Args:
            timeout: seconds that an event may take.
        """
        left, since = self.progress.left, self.progress.since
        if self.hung or (left is None and timeout is None):
            return None
        return left + LINGER if left is not None else (since or time.monotonic()) + (timeout or 0.0)

    def tell(self, number: int) -> None:
        """Sends it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def kill(self) -> None:
        """Kills it, with what it has started: it has no more time to do so itself."""
        kin.kill(self.pid, self.fd)

    def end(self) -> None:
        """Kills and reaps it, wherever it is between its fork and its end, and gives back what it takes."""
        if self.fd >= 0:
            self.kill()
            self.reap()
        else:
            self._abandon()
        self.close()

    def reap(self) -> int | None:
        """Waits for its end.

        Returns:
            Its exit status; the number of the signal that killed it, negative; None where somebody else has seen that,
            or nobody as SIGCHLD is ignored.
        """
        status = reap(self.fd)
        return self.progress.status if status is None else status

    def close(self) -> None:
        """Gives the descriptor and the memory back; in a child, of the parent's."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.progress.close()


def reap(fd: int) -> int | None:
    """Waits for the end of the child with that descriptor, and returns as ``Process.reap`` does."""
    try:
        seen = os.waitid(os.P_PIDFD, fd, os.WEXITED)
    except ChildProcessError:
        return None
    assert seen is not None
    return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status


def how(status: int | None) -> str:
    """What became of a process, as ``Process.reap`` says it."""
    if status is None:
        return "ended, and somebody else has reaped it"
    return f"was killed by {_name(-status)}" if status < 0 else f"ended with status {status}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of a real-time signal
        return f"signal {number}"


def _live(process: Process, parent: int, forget: Callable[[], None], unblocked: Iterable[int]) -> NoReturn:
    """The child must never run on into its parent's code, whatever becomes of it."""
    status = 1
    try:
        forget()
        signal.set_wakeup_fd(-1)  # it may be of a loop of the parent's
        _die_with(parent)
        _leave_family()
        told = Told()
        told.begin()  # and told to the last: no signal cuts the end short
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        status = _worked(process.handling, told, process.progress)
        _end(process.progress, status)
    except BaseException:
        _log.exception("process %d of %s could not begin", os.getpid(), process.handling.name)
    finally:
        os._exit(status)


def _worked(handling: Handling, told: Told, progress: Progress) -> int:
    try:
        return handling.work(told, progress)
    except SystemExit as end:
        return status_of(end)
    except BaseException:
        _log.exception("%s cannot go on in process %d", handling.name, os.getpid())
        return 1


def _end(progress: Progress, status: int) -> NoReturn:
    """As the interpreter ends: threads, then ``atexit``, then the buses."""
    try:
        with contextlib.ExitStack() as steps:  # the last one first
            steps.callback(flush)
            steps.callback(lifetime.leave_all)
            steps.callback(atexit._run_exitfuncs)
            steps.callback(getattr(threading, "_shutdown"))  # noqa: B009  which has no public name
    except BaseException:
        _log.exception("process %d could not end as it should", os.getpid())
        status = status or 1
    finally:
        progress.ended(status)
        os._exit(status)


def _leave_family() -> None:
    """What the parent has started, and what it cleans up at its end, is not this child's: so multiprocessing does it in
    its own children."""
    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
    multiprocessing.util._run_after_forkers()  # type: ignore[attr-defined]
    for one in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        one.atexit = False
    _leave_forkserver()


def _leave_forkserver() -> None:
    """One that the parent has started would be waited for as a child of this process: it starts its own."""
    if (module := sys.modules.get("multiprocessing.forkserver")) is not None:
        server = module._forkserver
        if server._forkserver_alive_fd is not None:
            os.close(server._forkserver_alive_fd)
        server._forkserver_pid = server._forkserver_address = server._forkserver_alive_fd = None


def _die_with(parent: int) -> None:
    """A process whose parent was killed finishes its event; the warden ends those that do not."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(DONE)
