"""How long something waits before it comes: a delay in seconds, or the time at which it is due."""

from __future__ import annotations

import time
from datetime import datetime

from eventbus.errors import InvalidError

LONGEST_DELAY = 366 * 86400.0
"""Seconds."""


def checked_delay(delay: object, what: str = "delay") -> float:
    """``delay`` in seconds, if it can be one."""
    if not isinstance(delay, (int, float)) or isinstance(delay, bool) or not 0 <= delay <= LONGEST_DELAY:
        raise InvalidError(f"{what} must be seconds from 0 to {LONGEST_DELAY:.0f}, not {delay!r}", **{what: delay})
    return float(delay)


def due_after(delay: float | None, at: float | datetime | None) -> int:
    """When it is due, in nanoseconds on the monotonic clock.

    Args:
        delay: seconds from now.
        at: seconds since 1970, or a datetime; a naive one means local time. What is past is due at once.

    Raises:
        InvalidError: not just one of them, or none that can be.
    """
    if (delay is None) == (at is None):
        raise InvalidError("say when: either delay= in seconds, or at= as a time", delay=delay, at=at)
    seconds = checked_delay(delay) if at is None else _until(at)
    return time.monotonic_ns() + int(seconds * 1e9)


def _until(at: float | datetime) -> float:
    """Seconds from now."""
    try:
        moment = at.timestamp() if isinstance(at, datetime) else at
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidError(f"at is no time that this host knows: {error}", at=at) from error
    limit = time.time() + LONGEST_DELAY
    if not isinstance(moment, (int, float)) or isinstance(moment, bool) or not moment <= limit:
        raise InvalidError(
            f"at must be a datetime or seconds since 1970, {LONGEST_DELAY:.0f} seconds from now at most, not {at!r}",
            at=at,
        )
    return max(0.0, moment - time.time())
