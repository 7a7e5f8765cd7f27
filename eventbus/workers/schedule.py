"""Schedules: when a handler that runs by the clock is due."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventbus.errors import InvalidError, UnavailableError

SHORTEST, LONGEST = 0.01, 366 * 86400.0
"""Seconds between two times."""

Schedule = Callable[[float], float]
"""The first time after another one, both in POSIX seconds."""


def parse(when: object) -> Schedule:
    """The schedule that ``when`` says.

    Args:
        when: seconds, of which the times are multiples, counted from 1970 on, so that they stay what they are whoever
            starts anew; or a cron expression of five fields, in the time zone of this host (``TZ``, else
            ``/etc/localtime``).

    Raises:
        InvalidError: neither.
        UnavailableError: the library for cron expressions is not installed.
    """
    if isinstance(when, str):
        return _cron(when)
    if isinstance(when, bool) or not isinstance(when, (int, float)) or not SHORTEST <= when <= LONGEST:
        raise InvalidError(
            f"every takes a cron expression, or {SHORTEST} to {LONGEST:.0f} seconds, not {when!r}", when=when
        )
    seconds = float(when)
    return lambda after: next(time for n in (1, 2) if (time := (math.floor(after / seconds) + n) * seconds) > after)


def _cron(expression: str) -> Schedule:
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError as error:
        raise UnavailableError("cron expressions need a library: pip install 'eventbus[cron]'") from error
    zone = _local_zone()

    def following(after: float) -> float:
        return next(CronSim(expression, datetime.fromtimestamp(after, zone))).timestamp()

    try:
        following(0.0)
    except (CronSimError, StopIteration) as error:
        what = str(error) or "it names no time"
        raise InvalidError(f"{expression!r} is no cron expression: {what}", when=expression) from error
    return following


def _local_zone() -> tzinfo | None:
    """With its changes of the clock, where the host says; else with the offset of now."""
    name = os.environ.get("TZ", "/etc/localtime").removeprefix(":")
    try:
        if not name.startswith("/"):
            return ZoneInfo(name)
        with open(name, "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return datetime.now().astimezone().tzinfo
