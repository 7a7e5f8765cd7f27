"""Signals: those that a process of a worker handles, and that its own children do not inherit."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import starmap
from types import FrameType, TracebackType
from typing import Any

from eventbus.errors import InvalidError

STOPPING = (signal.SIGTERM, signal.SIGINT)
HANDLED = (*STOPPING, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], Any]

_handled: Handled | None = None


class Handled:
    """Handlers of this process alone: a child that is forked while they are set gets back what was there before.

    Handlers are functions of Python, so what a child executes begins with the default action anyway.
    """

    def __init__(self, handlers: dict[int, Handler]) -> None:
        self._handlers = handlers
        self._before: dict[int, Any] = {}
        self._outer: Handled | None = None
        self.forked = False
        """Whether this is another process by now, to which they do not belong."""

    def begin(self) -> None:
        """Sets them, for the rest of the process if nobody undoes it.

        Raises:
            InvalidError: not in the main thread.
        """
        global _handled
        _check_thread()
        self._before = {number: signal.getsignal(number) for number in self._handlers}
        self._outer, _handled = _handled, self
        try:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        except BaseException:  # of a handler that is not ours
            self.undo()
            raise

    @property
    def numbers(self) -> Collection[int]:
        """The signals."""
        return self._handlers.keys()

    @contextlib.contextmanager
    def as_before(self) -> Iterator[None]:
        """What was there before is there meanwhile."""
        try:
            self._put_back()
            yield
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def undo(self) -> None:
        """What was there before is there again; also for a child."""
        global _handled
        _handled = self._outer
        self._put_back()

    def _put_back(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)


class Inbox(Handled):
    """Signals to be waited for: they are noted, and a descriptor is readable once there are any.

    The descriptor only wakes. What came is noted by a handler, in the memory of the process that it came to: a child
    shares the pipe until it has run its hooks, and a signal to it is none for its parent.
    """

    fd, _write, _wakeup = -1, -1, -1

    def __init__(self, numbers: Iterable[int]) -> None:
        super().__init__(dict.fromkeys(numbers, self._note))
        self._came: list[int] = []

    def __enter__(self) -> Inbox:
        _check_thread()
        try:
            for self.fd, self._write in starmap(os.pipe2, ((os.O_NONBLOCK | os.O_CLOEXEC,),)):
                self.begin()
                self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        except BaseException:
            self.undo()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.undo()

    @property
    def has_some(self) -> bool:
        """Whether any are to be taken."""
        return bool(self._came)

    def take(self) -> list[int]:
        """The signals that came."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return []
        came = self._came[:]
        del self._came[: len(came)]
        return came

    def undo(self) -> None:
        """As before; and no descriptor."""
        there = signal.set_wakeup_fd(-1)
        with contextlib.suppress(ValueError, OSError):  # of somebody who has closed it meanwhile
            signal.set_wakeup_fd(self._wakeup if there == self._write else there)
        super().undo()
        for fd in (self.fd, self._write):
            if fd >= 0:
                os.close(fd)
        self.fd = self._write = -1

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came.append(number)
        with contextlib.suppress(BlockingIOError):  # then it is readable anyway
            os.write(self._write, b"\0")


class Told(Handled):
    """Whether the process was told to leave. Ctrl-C and the end of a terminal are its parent's business."""

    def __init__(self) -> None:
        others = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
        super().__init__({signal.SIGTERM: self._leave, **dict.fromkeys(others, _ignore)})
        self.to_leave = False
        self._stop: Callable[[], object] | None = None

    @contextlib.contextmanager
    def leaving(self, stop: Callable[[], object]) -> Iterator[None]:
        """Meanwhile ``stop`` is called when the process is told, or was told before."""
        try:
            self._stop = stop
            if self.to_leave:
                stop()
            yield
        finally:
            self._stop = None

    def _leave(self, *_: object) -> None:
        self.to_leave = True
        if self._stop is not None:
            self._stop()


def _ignore(*_: object) -> None:
    """A handler, and not ``SIG_IGN``, which what the process executes would inherit, as it does under nohup."""


def _check_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise InvalidError("run() handles signals: call it in the main thread")


# Around a fork they are blocked: one that comes to the child at once finds there what was before.

_masks = threading.local()


def _block() -> None:
    if _handled is not None:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _handled.numbers)


def _unblock() -> None:
    before = _masks.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_ordinary() -> None:
    while _handled is not None:
        _handled.forked = True
        _handled.undo()
    _unblock()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_become_ordinary)
