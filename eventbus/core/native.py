"""The door to C: handles, deadlines, and status codes into errors. The only importer of the compiled module."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from eventbus.errors import ClosedError, InvalidError, SegmentError, UnavailableError

if not sys.platform.startswith("linux"):
    raise ImportError("eventbus needs Linux: its liveness stands on open-file-description locks")
if "t" in sys.abiflags:
    raise ImportError(
        "eventbus does not run on a free-threaded build of Python yet: it was never tested there; use another"
    )

from eventbus import _fast

if not _fast.is_owner():
    raise ImportError(
        "eventbus is in use by another interpreter of this process, and its types and locks are its own: use it in one "
        "interpreter per process (mod_wsgi: WSGIApplicationGroup %{GLOBAL}; uWSGI: single-interpreter), or in another"
    )

from eventbus._eventbus import ffi as ffi
from eventbus._eventbus import lib as lib

SUBSCRIBERS_LIMIT: int = lib.EB_SUBSCRIBERS_LIMIT
INLINE: int = lib.EB_INLINE
POLL: int = lib.EB_POLL
BRIEF: int = lib.EB_BRIEF
FOREVER: int = lib.EB_FOREVER

NOTHING: int = lib.EB_NOTHING
FULL: int = lib.EB_FULL
CLOSED: int = lib.EB_CLOSED
INTERRUPTED: int = lib.EB_INTERRUPTED
TOO_LARGE: int = lib.EB_TOO_LARGE
TABLE_FULL: int = lib.EB_TABLE_FULL
NO_SLOT: int = lib.EB_NO_SLOT
CONFLICT: int = lib.EB_CONFLICT
AHEAD: int = lib.EB_AHEAD
EXCLUDED: int = lib.EB_EXCLUDED
GROUPS: int = lib.EB_GROUPS
NOTES: int = lib.EB_NOTES
BUSY: int = lib.EB_BUSY
SYSTEM: int = lib.EB_SYSTEM
INHERITED: int = lib.EB_INHERITED
FORKED: int = lib.EB_FORKED
ROBBED: int = lib.EB_ROBBED
ORPHAN: int = lib.EB_ORPHAN
REMOVED: int = lib.EB_REMOVED

LONGEST = 1e9  # seconds; a longer wait is for ever
LOCK_SECONDS = 10.0  # what a lock that is held for microseconds may take before somebody must be stuck in it
LOOP_SECONDS = 0.003  # and what an event loop is held up for it


def address_of(function: str) -> int:
    """Of a function of the core, for ``_fast``."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))


def address(pointer: Any) -> int:
    """Of what the pointer of a handle points to."""
    return int(ffi.cast("uintptr_t", pointer))


def generation_word() -> int:
    """The address of a number that differs in every process that was forked, however."""
    return int(ffi.cast("uintptr_t", lib.eb_generation_word()))


def is_seconds(value: object) -> bool:
    """Whether it is a number of seconds, 0 or more, that a float can be."""
    if isinstance(value, int):
        return not isinstance(value, bool) and value >= 0 and value.bit_length() <= sys.float_info.max_exp
    return isinstance(value, float) and value >= 0


def deadline_after(timeout: float | None) -> int:
    """The absolute deadline of a call: FOREVER for None, POLL for 0, else nanoseconds on the monotonic clock."""
    if timeout is None:
        return FOREVER
    if not is_seconds(timeout):
        shown = "an int that no float can be" if isinstance(timeout, int) and abs(timeout) > LONGEST else repr(timeout)
        raise InvalidError(f"timeout must be None, 0 or a number of seconds, not {shown}", timeout=timeout)
    if timeout == 0:
        return POLL
    return FOREVER if timeout > LONGEST else time.monotonic_ns() + int(timeout * 1e9)


def in_loop() -> bool:
    """Whether this thread runs an event loop of asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def put_off(error: UnavailableError) -> bool:
    """Whether what failed is to be done later, as a lock that somebody keeps would have held up an event loop."""
    return "lock" in error.details and in_loop()


_patience = threading.local()


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """What stands within waits for locks as in any thread: a call that an event loop makes and cannot put off again."""
    before = getattr(_patience, "asked", False)
    _patience.asked = True
    try:
        yield
    finally:
        _patience.asked = before


def lock_deadline() -> int:
    """Until when a lock that is held for microseconds is waited for."""
    brief = in_loop() and not getattr(_patience, "asked", False)
    return deadline_after(LOOP_SECONDS if brief else LOCK_SECONDS)


def is_over(deadline: int) -> bool:
    """Whether there is nothing left of it."""
    return deadline != FOREVER and time.monotonic_ns() >= deadline


def seconds_left(deadline: int) -> float:
    """For a threading lock: -1 for ever, else the seconds until the deadline, at least 0."""
    if deadline == FOREVER:
        return -1
    return max(0.0, (deadline - time.monotonic_ns()) / 1e9) if deadline != POLL else 0.0


def owned(make: Callable[[Any], Any], argument: object, free: Callable[[Any], object]) -> Any:
    """What C makes of the argument, freed with the last reference to it. A loop takes it from C and gives it an owner
    in one step: a signal handler that raises as a call returns would leave it to nobody."""
    for made in map(ffi.gc, map(make, (argument,)), (free,)):
        if made != ffi.NULL:
            return made
    raise MemoryError


def until_done(call: Callable[[], int]) -> int:
    """Calls again as long as C was interrupted: in between, Python runs its signal handlers."""
    while True:
        status = call()
        _fast.check_signals()
        if status != lib.EB_INTERRUPTED:
            return status


_LOST = {
    FORKED: (
        "{} is open in the process that this one was forked from, by C and not by Python, so it is not open here, and "
        "nothing of the other's is touched; open it here with eventbus.open()"
    ),
    ROBBED: (
        "{} is closed here: its descriptors were closed underneath (as os.closerange and daemonize do), and "
        "with them went its locks; open it again with eventbus.open(), best after what closes descriptors"
    ),
    REMOVED: (
        "{} was removed (eventbus.unlink), or its name means another bus by now: whoever opens it does not see what is "
        "sent here; close it, and open it again with eventbus.open()"
    ),
    INHERITED: (
        "{} belongs to the process that this one was forked from; call bus.subscribe() here for one of your own"
    ),
    CLOSED: "{} is closed",
}


def sentence(status: int, what: str) -> str:
    """What became of a bus that is not open here, and what to do."""
    return _LOST[status].format(what)


def fail(status: int, what: str, number: int = 0) -> NoReturn:
    """Raises the error that a negative status means; ``what`` is the subject of the sentence, ``number`` an errno."""
    if status == lib.EB_SYSTEM:
        raise _system_error(ffi.errno, what)
    if status in (lib.EB_DAMAGED, lib.EB_VERSION):
        detail = ffi.string(lib.eb_detail()).decode()
        raise SegmentError(
            f"{what} cannot be used: {detail}; remove it with eventbus.unlink() once nobody needs it",
            detail=detail,
            version=status == lib.EB_VERSION,
        )
    if status in _LOST:
        raise ClosedError(sentence(status, what))
    if status == ORPHAN:
        raise ClosedError(
            f"{what} is not open in this process: the one that forked it could give it no descriptor of its own, "
            f"{_reason(number)}; open it here with eventbus.open()",
            errno=number,
        )
    if status == lib.EB_BUSY:
        reason = "another process keeps a lock, it may be stopped in a debugger; try again"
        raise UnavailableError(f"{what}: {reason}", lock=True)
    raise SegmentError(f"{what}: {ffi.string(lib.eb_strerror(status)).decode()}", status=status)


def _reason(number: int) -> str:
    """What the system refused, and what to do about it."""
    causes = {
        errno.EACCES: (
            f"which uid {os.geteuid()} may not have: the bus was opened before privileges were dropped; open it "
            "afterwards, or have its owner make it with mode=0o660 for a group of both"
        ),
        errno.EMFILE: "as none is left to it; raise the limit (ulimit -n), or close what is not needed",
        errno.ENFILE: "as none is left on this host; raise fs.file-max, or close what is not needed",
        errno.ENOENT: "as it is by /proc that it would get one; is /proc mounted?",
    }
    return causes.get(number, f"because of this: {os.strerror(number)}")


def _system_error(number: int, what: str) -> OSError:
    if number in (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOENT):
        return OSError(number, f"{what} needs a descriptor more, {_reason(number)} ({os.strerror(number)})")
    return OSError(number, f"{what}: {os.strerror(number)}")


def checked(status: int, what: str) -> int:
    """The status if it is no error."""
    return status if status >= 0 else fail(status, what)


def remove_bells(roster_fd: int) -> None:
    """The files of all doorbells of the bus that has this roster."""
    lib.eb_bells_remove(roster_fd)


def sweep_bells(counting: bool) -> int:
    """Removes the files of doorbells at which nobody answers, of any bus, or only counts them; how many."""
    return int(lib.eb_bells_sweep(counting))


def ring_bytes(capacity: int) -> int:
    """The size of the ring's segment; negative when no ring can have this capacity."""
    return int(lib.eb_ring_bytes(capacity))


def roster_bytes(max_subscribers: int) -> int:
    """The size of the roster's segment."""
    return int(lib.eb_roster_bytes(max_subscribers))


def decode_names(names: Any, system_length: int, kind_length: int) -> tuple[str, str]:
    """System and kind, which lie one after the other at the beginning of ``names``."""
    try:
        system = bytes(names[0:system_length]).decode()
        return system, bytes(names[system_length : system_length + kind_length]).decode()
    except UnicodeDecodeError as error:
        raise SegmentError(f"a topic's name is not UTF-8: {error}") from error


def no_space(error: OSError) -> bool:
    """Whether shared memory, or the limit on it, is used up."""
    return error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT)
