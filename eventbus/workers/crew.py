"""Crew: the processes of a worker, started again when they die, replaced one by one, and stopped together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import starmap
from multiprocessing.connection import wait
from pathlib import Path

from eventbus.errors import EventBusError
from eventbus.workers.handling import Handling
from eventbus.workers.post import Post
from eventbus.workers.process import Process
from eventbus.workers.renewal import Predecessor, Predecessors, Renewal, take_over
from eventbus.workers.signals import HANDLED, STOPPING, Inbox
from eventbus.workers.warden import Warden

WARDEN_DELAY = 1.0  # seconds between two tries to start it
LOOK = 5.0  # seconds between two looks whether the bus still has its name

_log = logging.getLogger("eventbus.worker")


class Crew:
    """All processes of a worker, and the loop that looks after them, which nothing ends but a signal."""

    def __init__(self, handlings: list[Handling], renewal: Renewal | None, settled: Callable[[], object]) -> None:
        """Makes one whose processes are still to be started.

        Args:
            handlings: what each process does, until that is over.
            renewal: how the program begins anew on SIGHUP; without, the same code goes on in other processes.
            settled: called once no process of the code before is left.
        """
        self._renewal = renewal
        self._settled = settled
        self._before = Predecessors()
        self._news = -1  # readable once a process got ready
        self._inbox = Inbox(HANDLED)
        self._warden = Warden()
        self._warden_due = 0.0
        self._look_due = time.monotonic() + LOOK
        self._stopping = False
        self._to_replace: deque[Post] = deque()
        self._replacing: Post | None = None
        self.posts = [Post(one, self._tell, self._enter) for one in handlings]

    def run(self) -> None:
        """Keeps every post filled until a signal, or until all have left because the work has ended.

        Raises:
            KeyboardInterrupt, SystemExit: a second signal came, and what was left was killed.
        """
        self._hangup = _Hangup()
        with self._inbox, contextlib.ExitStack() as steps:
            steps.callback(self._close_news)
            for self._news in starmap(os.eventfd, ((0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)):
                pass  # known in the step in which it begins, which no handler's exception can part
            steps.callback(self._warden.end)
            steps.callback(self._before.kill_all)
            for post in self.posts:
                steps.callback(post.kill)
            if self._renewal is not None:
                steps.callback(self._renewal.forget)
                steps.callback(self._renewal.end_check)
            self._take_over()
            self._keep_warden()  # before there is anybody who may hang
            while self._fill():
                dead = self._wait()
                self._obey()  # before the dead are buried, whom the same signal may have ended
                for post, one in dead:
                    self._bury(post, one)
                for post in self.posts:
                    with self._guarded(post):
                        post.end_hung()
                self._before.end_hung()
                self._keep_warden()
                self._look()
                self._begin_anew()

    def _close_news(self) -> None:
        if self._news >= 0:
            os.close(self._news)

    def _take_over(self) -> None:
        """From the program that was executed in this process before, if there was one."""
        warden, self._before.processes = take_over()
        if warden:
            self._warden.adopt(*warden)
        self._settle()

    def _settle(self) -> None:
        if not self._before.processes:
            try:
                self._settled()
            except EventBusError as error:
                _log.error("the bus cannot be looked at: %s", error.message)

    def _tell(self) -> None:
        """In a child: it is ready."""
        os.eventfd_write(self._news, 1)

    def _enter(self) -> None:
        """In a child: what is the parent's alone."""
        self._warden.enter()
        self._before.forget()
        if self._renewal is not None:
            self._renewal.forget()
        for post in self.posts:
            for one in post.processes:
                if one.pid:  # and not the one that this is
                    one.close()

    # --- a step for each post, and none of them the end of the others ---

    @contextlib.contextmanager
    def _guarded(self, post: Post) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            why = error if isinstance(error, OSError) else None
            pause = post.pause()
            _log.error(
                "process of %s cannot be looked after: %s; next try in %.1f s",
                post.handling.name,
                error,
                pause,
                exc_info=None if why else error,
            )

    def _fill(self) -> bool:
        """Whether there is anything left to look after."""
        for post in self.posts:
            with self._guarded(post):
                post.fill(self._stopping)
        self._replace_next()
        ready = [post.process is not None and post.process.progress.is_ready for post in self.posts]
        self._before.hand_over(sum(ready), all(ready))
        return not all(post.retired for post in self.posts) or bool(self._before.processes)

    def _replace_next(self) -> None:
        """One at a time: the next begins once the one before has left."""
        while not self._stopping:
            if self._replacing is not None:
                self._replacing.hand_over()
                if self._replacing.successor is not None:
                    return
            if not self._to_replace:
                return
            self._replacing = self._to_replace.popleft()
            try:
                self._replacing.replace()
            except OSError as error:
                self._stop_replacing(f"there can be no other process: {error}")

    def _keep_warden(self) -> None:
        """One that cannot be started is tried again, and so is one that was killed."""
        if self._warden.fd >= 0 or time.monotonic() < self._warden_due:
            return
        self._warden_due = time.monotonic() + WARDEN_DELAY
        try:
            new = [(one.fd, one.pid) for post in self.posts for one in post.processes]
            self._warden.start(new + [(one.fd, one.pid) for one in self._before.processes])
        except OSError as error:
            _log.error("there can be no process that would end the others after this one: %s", error)

    def _look(self) -> None:
        """Nobody can send to a bus that was removed, or whose name means another one: not even whoever made it anew."""
        if self._stopping or time.monotonic() < self._look_due:
            return
        self._look_due = time.monotonic() + LOOK
        for bus in {id(post.handling.bus): post.handling.bus for post in self.posts}.values():
            with contextlib.suppress(EventBusError):  # which ends its processes, and they say so
                if bus.stats().removed:
                    self._stop(f"the bus {bus.name!r} was removed, or another one has its name")

    def _wait(self) -> list[tuple[Post, Process]]:
        """Until a process dies or is ready, a signal comes, or something is due; the dead."""
        now = time.monotonic()
        fds = {one.fd: (post, one) for post in self.posts if post.due <= now for one in post.processes}
        others = [self._inbox.fd, self._news] + [self._warden.fd] * (self._warden.fd >= 0)
        due = [post.due for post in self.posts if not post.retired and (post.due > now or not post.processes)]
        due += [at for post in self.posts if (at := post.hangs_at) is not None]
        due += [one.hangs_at for one in self._before.processes if one.hangs_at is not None]
        due += [self._warden_due] * (self._warden.fd < 0) + [self._look_due] * (not self._stopping)
        if self._renewal is not None and self._renewal.fd >= 0:
            others.append(self._renewal.fd)
            due.append(self._renewal.due)
        before = [one.fd for one in self._before.processes]
        ready = wait([*others, *before, *fds], max(0.0, min(due) - now) if due else None)
        for fd in before:
            if fd in ready:
                self._before.bury(fd)
                self._settle()
        if self._news in ready:
            os.eventfd_read(self._news)
        if self._warden.fd in ready:
            self._warden.end()
        return [fds[fd] for fd in fds if fd in ready]

    def _bury(self, post: Post, dead: Process) -> None:
        with self._guarded(post):
            if not post.bury(dead, self._stopping):
                self._stop_replacing("the processes that there are go on")

    # --- signals ---

    def _obey(self) -> None:
        came = self._inbox.take()
        for number in came:
            if number in STOPPING and self._stopping:
                raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
            if number in STOPPING:
                self._stop(signal.Signals(number).name)
        if signal.SIGHUP not in came or self._stopping:
            return  # whoever closes a terminal may send it more than once
        if self._hangup.came():
            self._stop("the terminal was closed")
        else:
            self._renew()

    def _renew(self) -> None:
        if self._renewal is None:
            _log.info("SIGHUP: one by one, another process takes over from each")
            self._to_replace = deque(self.posts)
        elif self._renewal.fd < 0:  # else it is seen to already
            try:
                self._renewal.check()
            except OSError as error:
                _log.error("SIGHUP: whether the code can be loaded cannot be seen: %s", error)

    def _begin_anew(self) -> None:
        """If it is known that it can."""
        renewal = self._renewal
        if renewal is None or renewal.fd < 0 or not (wait([renewal.fd], 0) or time.monotonic() >= renewal.due):
            return
        why = renewal.why_not()
        if why is not None:
            _log.error("SIGHUP: the processes that there are go on, as the code cannot be loaded: %s", why)
            return
        _log.info("SIGHUP: the program begins anew, and another process takes over from each, one by one")
        mine = [
            Predecessor(one.fd, one.pid, post.handling.name, post.handling.patience)
            for post in self.posts
            for one in post.processes
        ]
        try:
            renewal.begin(self._inbox, self._warden.descriptors, self._before.processes + mine)
        except OSError as error:
            _log.error("the program cannot begin anew, and the processes that there are go on: %s", error)

    def _stop_replacing(self, why: str) -> None:
        _log.error("no further process is replaced: %s", why)
        self._to_replace.clear()

    def _stop(self, why: str) -> None:
        self._stopping = True
        self._to_replace.clear()
        if self._renewal is not None:
            self._renewal.end_check()
        for post in self.posts:
            post.tell()
        self._before.tell_all()
        _log.info("%s: each process finishes its event and leaves", why)


class _Hangup:
    """Tells a SIGHUP that somebody sent from the end of the terminal, which is the end of what runs in it."""

    def __init__(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as nohup has it
        self._had_terminal = not ignored and _has_terminal()

    def came(self) -> bool:
        """Whether there was a terminal, and is none any more."""
        return self._had_terminal and not _has_terminal()


def _has_terminal() -> bool:
    """As proc(5) has it: the seventh field of ``stat`` is 0 without one."""
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4] != "0"
