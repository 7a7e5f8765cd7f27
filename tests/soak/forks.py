"""Helpers that are forked in C, behind Python's back: what a C library does that starts one, or that knows no libc."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import NoReturn

MANNERS = ("libc", "holding", "raw")
LONGEST = 20  # seconds after which a helper is ended by the kernel, should it hang

_CLONE = {"x86_64": (57,), "aarch64": (220, int(signal.SIGCHLD), 0, 0, 0, 0)}  # fork, or what is instead of it
_libc, _holding = ctypes.CDLL(None), ctypes.PyDLL(None)  # that let go of the interpreter's lock, that hold it
_busy = False


def forking() -> bool:
    """Whether a helper is being forked, or this is one: no signal handler may raise then."""
    return _busy


def start_helper(manner: str, seconds: float, task: Callable[[], object] = bool) -> int:
    """Forks a helper that does its task and lives for so many seconds; its pid."""
    global _busy
    _busy = True
    pid = _fork(manner)
    if pid == 0:
        _help(seconds, task)
    _busy = False
    return pid


def _fork(manner: str) -> int:
    """Beside other threads the lock of the interpreter is held, which one would take along, and libc forks, which
    takes malloc's lock first: else a helper may hang on that, with all locks that its parent had."""
    alone = threading.active_count() == 1
    if manner == "raw" and alone and os.uname().machine in _CLONE:
        return int(_holding.syscall(*_CLONE[os.uname().machine]))
    return int((_libc if manner == "libc" and alone else _holding).fork())


def _help(seconds: float, task: Callable[[], object]) -> NoReturn:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LONGEST)
        task()
        time.sleep(seconds)
    finally:
        os._exit(0)


def fall_off() -> NoReturn:
    """Ends this process as one does whose program is over, from wherever it is."""
    import atexit

    atexit._run_exitfuncs()
    _libc.exit(0)
    os._exit(1)
