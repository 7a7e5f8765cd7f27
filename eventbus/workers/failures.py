"""Failures: what a handler may raise to say what is next, and what the log says of an event that failed."""

from __future__ import annotations

import logging
import reprlib
import traceback
from collections import deque
from typing import Any

from eventbus.delays import checked_delay
from eventbus.event import Event

DATA_BYTES = 1000
"""So much of an event's data is told."""
TOLD_BYTES = 8000
"""So much is sent of a traceback or a message, which must fit into a small ring, too."""
_TOLD = 1024  # events whose traceback is not told once more

_log = logging.getLogger("eventbus.worker")


class Retry(Exception):
    """Raised by a handler: the event is to be tried again, ``delay`` seconds later, or as after any other failure."""

    def __init__(self, delay: float | None = None) -> None:
        super().__init__("to be tried again" if delay is None else f"to be tried again in {delay} s")
        self.delay = None if delay is None else checked_delay(delay)


class Discard(Exception):
    """Raised by a handler: no further try would help; the event is sent as a dead letter now, with the reason."""

    def __init__(self, reason: object = "") -> None:
        self.reason = _to_send(str(reason))
        super().__init__(self.reason)


class Failures:
    """The failures of one handler in one process: a line each, the traceback of an event once.

    The log record has ``system``, ``kind``, ``path``, ``sequence``, ``delivery``, ``handler``, ``duration`` in seconds
    and ``data`` as attributes, too.
    """

    def __init__(self, handler: str) -> None:
        self._handler = handler
        self._told: deque[int] = deque(maxlen=_TOLD)

    def tell(self, event: Event, error: BaseException, limit: int, duration: float) -> None:
        """Logs that the event failed, or what its handler said of it.

        Args:
            limit: how often it is delivered at most.
            duration: how long the handler had it, in seconds.
        """
        said = isinstance(error, (Retry, Discard))
        is_new = not said and event.sequence not in self._told
        if is_new:
            self._told.append(event.sequence)
        known = {
            "handler": self._handler,
            "system": event.system,
            "kind": event.kind,
            "path": event.path,
            "sequence": event.sequence,
            "delivery": event.deliveries,
            "duration": duration,
            "data": shortened(event.data),
        }
        _log.warning(
            "%s %s %s, delivery %d of %d, after %.3f s: %s; data: %s",
            self._handler,
            "said of" if said else "failed on",
            where(event),
            event.deliveries,
            limit,
            duration,
            _in_one_line(error),
            known["data"],
            exc_info=error if is_new else None,
            extra=known,
        )


def where(event: Event) -> str:
    """Which event it is, for people."""
    return f"{event.system} {event.kind} {event.path} (event {event.sequence})"


def traced(error: BaseException) -> str:
    """Its traceback, as it can be sent."""
    return _to_send("".join(traceback.format_exception(error)))


def message(error: BaseException) -> str:
    """What it says, as it can be sent."""
    try:
        return _to_send(str(error))
    except Exception:  # of a class that is not ours, which must not be the end of the process
        return "<no message: its class raises instead>"


def _to_send(text: str) -> str:
    """Without what is no UTF-8, and without its middle if it is long: an event has bounds."""
    whole = text.encode(errors="backslashreplace")
    if len(whole) > TOLD_BYTES:
        whole = b" ... ".join((whole[: TOLD_BYTES // 2], whole[-TOLD_BYTES // 2 :]))
    return whole.decode(errors="ignore")


def shortened(data: Any) -> str:
    """The data as Python writes them, in one line of at most ``DATA_BYTES``."""
    text = _short.repr(data[:DATA_BYTES] if isinstance(data, bytes) else data)
    whole = text.encode(errors="backslashreplace")
    return whole.decode() if len(whole) <= DATA_BYTES else whole[: DATA_BYTES - 3].decode(errors="ignore") + "..."


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, (Retry, Discard)):
        return " ".join(message(error).split())[:DATA_BYTES] or "discarded"
    return " ".join("".join(traceback.format_exception_only(error)).split())[:DATA_BYTES]


def _limited() -> reprlib.Repr:
    """Never longer to make than what is told of it."""
    short = reprlib.Repr()
    short.maxlevel = 6
    short.maxdict = short.maxlist = short.maxtuple = 100
    short.maxstring = short.maxlong = short.maxother = DATA_BYTES
    return short


_short = _limited()
