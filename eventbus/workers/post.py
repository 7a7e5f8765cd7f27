"""Post: one place of a crew, the process that fills it, and the one that is to take over from it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable

from eventbus.workers.handling import DONE, RETIRED, Handling
from eventbus.workers.process import Process, how

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0  # seconds before a start, doubled each time
STEADY = 10.0  # seconds after which a process counts as one that works

_log = logging.getLogger("eventbus.worker")


class Post:
    """Filled until it is retired for good."""

    def __init__(self, handling: Handling, tell: Callable[[], object], enter: Callable[[], None]) -> None:
        """Makes one that is due at once.

        Args:
            handling: what its processes do.
            tell, enter: as for ``Process``, what one calls when it is ready, and first of all.
        """
        self.handling = handling
        self.process: Process | None = None
        self.successor: Process | None = None
        self.due = time.monotonic()  # when to start, or to look after it again
        self.retired = False
        self._tell, self._enter = tell, enter
        self._delay = FIRST_DELAY
        self._told = False  # the process, that it is to finish

    @property
    def processes(self) -> list[Process]:
        """Those that there are."""
        return [one for one in (self.process, self.successor) if one is not None]

    def _start(self, started: Process) -> None:
        """It is the post's already: whoever is interrupted in the middle leaves none behind."""
        try:
            started.start(self._enter)
        except Exception:
            self.process = None if started is self.process else self.process
            self.successor = None if started is self.successor else self.successor
            started.end()
            raise

    def pause(self) -> float:
        """Something was in the way: seconds until it is tried again."""
        pause = self._delay
        self.due = time.monotonic() + pause
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        return pause

    def fill(self, stopping: bool) -> None:
        """Starts the process if there is none and it is due; to be filled no more if all are ``stopping``."""
        if self.process is None:
            self.retired = self.retired or stopping
            if not self.retired and time.monotonic() >= self.due:
                self._told = False
                self.process = Process(self.handling, self._tell)
                self._start(self.process)

    def tell(self) -> None:
        """Its processes are to finish."""
        self._told = True
        for one in self.processes:
            one.tell(signal.SIGTERM)

    # --- one after the other ---

    def replace(self) -> None:
        """Starts the successor of the process, if there is one."""
        if self.process is not None and not self._told:
            self.successor = Process(self.handling, self._tell)
            self._start(self.successor)

    def hand_over(self) -> None:
        """Once the successor is ready, its predecessor is to finish."""
        if self.successor is not None and self.successor.progress.is_ready and not self._told and self.process:
            self._told = True
            self.process.tell(signal.SIGTERM)

    # --- what hangs ---

    @property
    def hangs_at(self) -> float | None:
        """When to look whether a process hangs, on ``time.monotonic``; None if it may."""
        looks = [one.hangs_at(self.handling.patience) for one in self.processes]
        return min((at for at in looks if at is not None), default=None)

    def end_hung(self) -> None:
        """Kills processes that have handled one event for too long, or do not come to their end."""
        for one in self.processes:
            at = one.hangs_at(self.handling.patience)
            if at is None or time.monotonic() < at:
                continue
            one.hung = True
            if one.progress.left is not None:
                _log.error(
                    "process %d of %s has not ended %.0f s after its last event, as a thread that is no daemon may go "
                    "on, or a task that was cancelled: it is killed",
                    one.pid,
                    self.handling.name,
                    time.monotonic() - one.progress.left,
                )
            else:
                _log.error(
                    "%s hung for more than %g s on event %d: process %d is killed, and what it has in hand delivered "
                    "again",
                    self.handling.name,
                    self.handling.patience,
                    one.progress.sequence,
                    one.pid,
                )
            one.kill()

    # --- the dead ---

    def bury(self, dead: Process, stopping: bool) -> bool:
        """Reaps it, and decides what is next.

        Returns:
            False when it was a successor that never got ready: others need not try.
        """
        status = dead.reap()
        began, lived, ready = dead.progress.has_begun, time.monotonic() - dead.started, dead.progress.is_ready
        told, self._told = self._told, self._told and dead is not self.process
        if dead is self.process:
            self.process, self.successor = self.successor, None
        else:
            self.successor = None
        dead.close()
        if stopping or self.handling.over:
            self.retired = self.process is None
            if status not in (DONE, RETIRED):
                _log.error("process %d of %s %s while it was to finish", dead.pid, self.handling.name, how(status))
        elif self.process is not None and not ready:
            _log.error("process %d of %s %s before it was ready", dead.pid, self.handling.name, how(status))
            return False
        elif (status == RETIRED and began) or (told and status == DONE) or dead.hung:
            self.due = time.monotonic()
        else:
            self._delay = FIRST_DELAY if lived > STEADY else self._delay
            early = "" if began else ", before its first event: see that it can start"
            what = f"process {dead.pid} of {self.handling.name} {how(status)}{early}"
            _log.error("%s; next in %.1f s", what, self.pause())
        return True

    def kill(self) -> None:
        """Ends what is left."""
        for one in self.processes:
            one.end()
        self.process = self.successor = None
