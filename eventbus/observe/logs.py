"""Logs: the records of all processes, sent over a bus to the one that writes them."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import traceback
from collections import deque
from typing import Any

from eventbus import patterns
from eventbus.bus import Bus
from eventbus.errors import ClosedError, InvalidError, SegmentError
from eventbus.event import OPTIONS, Event, dumps

_OWN = "eventbus"  # the logger of this library, with those below it
_KINDS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}
_KINDS |= {logging.ERROR: "error", logging.CRITICAL: "critical"}


class BusHandler(logging.Handler):
    """Sends each record as an event: its kind is the level ("info"; "level15" where that has no name), its path the
    name of the logger, its data what the record has.

    The text is made here, and that of an exception; what is beside it arrives as JSON keeps it, and what JSON cannot
    hold as its ``repr``. Threads, forked children and signal handlers may log at any time. While there is no room, a
    call that logs waits as ``send`` does. A record that cannot be sent is written to standard error, as ``logging``
    does with what a handler fails at, and counted in ``unsent``. What the bus itself logs while a record is sent goes
    to standard error, and not round in a circle.

    Args:
        bus: by which they are sent; it has to be open as long as something logs.
        system: to which.

    Raises:
        InvalidError: that is no bus; events cannot be sent to that system.
    """

    def __init__(self, bus: Bus, system: str = "logs") -> None:
        if not isinstance(bus, Bus):  # a configuration gives whatever stands in it
            raise InvalidError(f"bus must be a Bus, not {bus!r}: eventbus.open(...) makes one", bus=bus)
        patterns.check_name(system, "system")
        super().__init__()
        self.unsent = 0
        self._bus = bus
        self._system = system
        self._mine = _Mine()

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]  # from 3.12 on
        """As any handler's, but without its lock: a thread that waits for room holds up no other."""
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Sends it. In a signal handler that came in the middle of that, it is sent after the one before."""
        mine = self._mine
        if mine.sending and _is_own(record):
            _write(record)
            return
        mine.waiting.append(record)
        if mine.sending:
            return
        mine.sending = True
        try:
            while mine.waiting:
                self._send(mine.waiting[0])
                mine.waiting.popleft()  # not before: what a signal handler interrupts is sent with the next one
        finally:
            mine.sending = False

    def _send(self, record: logging.LogRecord) -> None:
        try:
            kind = _KINDS.get(record.levelno, f"level{record.levelno}")
            packed = self._packed(record)
            try:
                self._bus.send(self._system, kind, record.name, packed)
            except InvalidError:
                self._bus.send(self._system, kind, record.name, _as_json(packed))
        except Exception:
            self.unsent += 1
            self.handleError(record)

    def _packed(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is sent of it: all but the arguments and the exception, of which there are texts."""
        packed = dict(record.__dict__, msg=record.getMessage(), args=None, exc_info=None)
        packed.pop("message", None)
        if record.exc_info and not record.exc_text:
            packed["exc_text"] = (self.formatter or _FORMATTER).formatException(record.exc_info)
        return packed


class _Mine(threading.local):
    """What a thread has still to send."""

    def __init__(self) -> None:
        self.sending = False
        self.waiting: deque[logging.LogRecord] = deque()


class BusListener:
    """Hands the records of all processes to handlers, in a thread, as ``logging.handlers.QueueListener`` does.

    It is a lossless subscription: handlers that are slower than what is logged, for a whole ring, have those who log
    wait. Several listeners have all of the records each. It is a context manager, which starts and stops it.

    Args:
        bus: by which they come.
        handlers: any of ``logging``.
        system: as that of the ``BusHandler``, or a pattern.
        respect_handler_level: whether a handler has only those of its level, and above.
    """

    def __init__(
        self, bus: Bus, *handlers: logging.Handler, system: str = "logs", respect_handler_level: bool = False
    ) -> None:
        self.handlers = handlers
        self.respect_handler_level = respect_handler_level
        self._bus = bus
        self._system = system
        self._running: _Running | None = None

    def start(self) -> None:
        """What is logged from now on is handled, until ``stop``.

        Raises:
            RuntimeError: it was started before.
            EventBusError: as ``Bus.subscribe``.
        """
        if self._running is not None and self._running.mine:
            raise RuntimeError("the listener was started before: stop it first")
        self._running = _Running(self._bus, self._system, self)
        self._running.start()

    def stop(self) -> None:
        """Handles what was logged until now, and ends. Nothing where it does not run, nor in a forked child."""
        running, self._running = self._running, None
        if running is not None and running.mine:
            running.stop()

    def handle(self, record: logging.LogRecord) -> None:
        """Hands it to the handlers; called in the listener's thread."""
        for handler in self.handlers:
            if not self.respect_handler_level or record.levelno >= handler.level:
                handler.handle(record)

    def __enter__(self) -> BusListener:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Running:
    """The thread of a listener, from its start to its stop."""

    def __init__(self, bus: Bus, system: str, listener: BusListener) -> None:
        self._bus = bus
        self._listener = listener
        self._pid = os.getpid()
        self._sub = bus.subscribe(system, name="logs")
        self._last: int | None = None  # the sequence up to which it goes on, once it is told to stop
        self._told, self._tell = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="eventbus-logs", daemon=True)

    @property
    def mine(self) -> bool:
        """Whether it is of this process, and not of the one that this was forked from."""
        return self._pid == os.getpid()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when all that was sent before is handled."""
        try:
            self._last = self._bus.stats().sent
        except ClosedError:  # nothing comes any more
            self._last = 0
        with self._told, self._tell:
            self._tell.send(b"\0")
            self._thread.join()

    def _run(self) -> None:
        with self._sub:
            while not self._sub.closed and self._handle_all():
                if self._sub.arm():
                    news: list[Any] = [self._sub, self._told]
                    select.select(news, [], [])

    def _handle_all(self) -> bool:
        """Whether it goes on, when all that has come is handled."""
        while (event := self._next()) is not None and (self._last is None or event.sequence <= self._last):
            try:
                self._listener.handle(_unpacked(event))
            except Exception:  # of a filter: it ends neither the others nor this thread
                traceback.print_exc()
        return self._last is None

    def _next(self) -> Event | None:
        while True:
            try:
                return self._sub.receive(0)
            except SegmentError as error:
                if "sequence" not in error.details:
                    raise
                traceback.print_exc()


_FORMATTER = logging.Formatter()


def _is_own(record: logging.LogRecord) -> bool:
    return f"{record.name}.".startswith(f"{_OWN}.")


def _write(record: logging.LogRecord) -> None:
    """To standard error, as what no handler takes."""
    if logging.lastResort is not None:
        logging.lastResort.handle(record)


def _as_json(packed: dict[str, Any]) -> dict[str, Any]:
    """What can be sent of it."""
    return {str(name): value if _is_json(value) else _text(value) for name, value in packed.items()}


def _is_json(value: Any) -> bool:
    try:
        dumps(value, None, OPTIONS)
    except TypeError:
        return False
    return True


def _text(value: Any) -> str:
    """Of a text that is none in UTF-8, that with escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else repr(value)


def _unpacked(event: Event) -> logging.LogRecord:
    """The record as it was logged; of an event that is none, one that shows its data."""
    if isinstance(event.data, dict) and {"msg", "levelno", "name"} <= event.data.keys():
        return logging.makeLogRecord(event.data)
    level = next((number for number, kind in _KINDS.items() if kind == event.kind), logging.INFO)
    return logging.LogRecord(event.path, level, "", 0, repr(event.data), None, None)
