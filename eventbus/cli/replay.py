"""The command ``eventbus replay``: sends what was recorded again, with its distances in time."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from eventbus.bus import SEND_TIMEOUT, Bus
from eventbus.cli import recording
from eventbus.cli.feed import Line
from eventbus.cli.recording import Recorded
from eventbus.cli.streams import progress, say
from eventbus.errors import EventBusError, InvalidError

BATCH = 256
AHEAD = 2 * BATCH  # events that are read before they are due
FEW = 32  # events that are read in less time than
SPARE = 1_000_000  # nanoseconds

Numbered = tuple[int, Recorded]  # with the number of its line


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a recording; - for standard input", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="BUS", help="the name of the bus", show_default=False)],
    speed: Annotated[str, typer.Option(metavar="X", help="so many times as fast as it was, or 'max'")] = "1",
    loop: Annotated[bool, typer.Option("--loop", help="begin again at the end, until Ctrl-C")] = False,
    wait: Annotated[int, typer.Option(min=0, metavar="N", help="first wait for N subscribers")] = 0,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="S", help="wait so long for room in the ring")
    ] = SEND_TIMEOUT,
) -> None:
    """Send the events of a recording again.

    With the distances in time that they had, divided by the speed; late ones, as after a wait for room, follow at
    once. System, kind, path, data and headers are as they were; sequence, time and sender are new. A bus that does not
    exist is made, and goes again when nobody else is attached: with --wait somebody is there to hear.

    A recording is what 'eventbus record' or 'eventbus tail --json' wrote, compressed or not (gzip, zstandard).
    """
    factor = _factor(speed)
    if loop and file == "-":
        raise typer.BadParameter("standard input can be read once only", param_hint="--loop")
    with Bus(name, send_timeout=timeout) as bus:
        bus.wait_for_subscribers(wait)
        sending = Sending(bus, factor)
        with _counted(sending):
            sending.run(file)
            if loop and not sending.sent:
                raise InvalidError(f"the recording {file!r} has no events")
            while loop:
                sending.run(file)


def _factor(speed: str) -> float | None:
    """How much faster than it was; None for as fast as can be."""
    if speed == "max":
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 1e-6 <= factor <= 1e6:
        raise typer.BadParameter(f"{speed!r} is neither 'max' nor a number such as 1, 2 or 0.5", param_hint="--speed")
    return factor


@contextmanager
def _counted(sending: Sending) -> Iterator[None]:
    """How many events were sent is said in any case."""
    try:
        yield
    except EventBusError as error:
        raise type(error)(f"{error.message} ({sending.sent} events were sent)", **error.details) from error
    except KeyboardInterrupt:
        say(f"at least {sending.sent} events were sent")
        raise
    say(f"{sending.sent} events were sent")


@dataclass
class Sending:
    """Sends recordings to a bus; ``speed`` is None for no distances at all. ``sent`` counts the events."""

    bus: Bus
    speed: float | None
    sent: int = 0

    def run(self, file: str) -> None:
        """Sends one recording to its end.

        Raises:
            InvalidError: a line is no event, or cannot be sent; those before it were.
        """
        size = 0 if file == "-" else os.stat(file).st_size
        with progress("events", size or None) as advance:
            read = Reading(file)
            read.more(1)
            clock = None if self.speed is None or not read.waiting else Clock(read.waiting[0][1].time, self.speed)
            told = 0
            while read.waiting or read.more(1):
                self._send(read.due(clock))
                advance(read.position - told, self.sent)
                told = read.position
        if read.broken is not None:
            raise read.broken

    def _send(self, batch: list[Numbered]) -> None:
        try:
            self.sent += self.bus.send_many([_outgoing(one) for _, one in batch])
        except InvalidError:  # then nothing of the batch was sent: find the one, and send those before it
            for number, one in batch:
                self._send_alone(number, one)

    def _send_alone(self, number: int, one: Recorded) -> None:
        try:
            self.sent += self.bus.send_many([_outgoing(one)])
        except InvalidError as error:
            raise type(error)(f"line {number}: {error.message}", **error.details, line=number) from error


def _outgoing(one: Recorded) -> tuple[Any, ...]:
    return one.system, one.kind, one.path, one.data, one.headers


class Clock:
    """When what was recorded at a time is due, in nanoseconds on the monotonic clock."""

    def __init__(self, first: int, speed: float) -> None:
        self._first = first
        self._speed = speed
        self._begin = time.monotonic_ns()

    def due(self, one: Numbered) -> int:
        """A clock that was set back meanwhile makes nothing due before the first one."""
        return self._begin + max(0, int((one[1].time - self._first) / self._speed))

    def wait(self, one: Numbered) -> int:
        """Until it is due; the time then."""
        due = self.due(one)
        while (now := time.monotonic_ns()) < due:
            time.sleep((due - now) / 1e9)
        return now


class Reading:
    """A recording as it is read, some events ahead: while nothing is due, so that reading makes none of them late.

    Attributes:
        waiting: the events that are not sent yet.
        position: bytes of the file that have been read.
        broken: what is wrong with the line after them.
    """

    def __init__(self, file: str) -> None:
        self.waiting: deque[Numbered] = deque()
        self.position = 0
        self.broken: InvalidError | None = None
        self._handfuls = recording.handfuls(file, self._watch)
        self._ahead = file != "-"  # what is read of a pipe may take until it is written
        self._lines: deque[Line] = deque()

    def _watch(self, position: int) -> None:
        self.position = position

    def due(self, clock: Clock | None) -> list[Numbered]:
        """Waits for the first one, and takes it with those that are due by then; without a clock all are."""
        now = 0
        if clock is not None:
            while clock.due(self.waiting[0]) - time.monotonic_ns() > SPARE and self.more(FEW):
                pass
            now = clock.wait(self.waiting[0])
        if clock is None or now - clock.due(self.waiting[0]) > SPARE // 2:
            self.more(BATCH if clock is None else FEW)
        taken = [self.waiting.popleft()]
        while self.waiting and len(taken) < BATCH and (clock is None or clock.due(self.waiting[0]) <= now):
            taken.append(self.waiting.popleft())
        return taken

    def more(self, count: int) -> bool:
        """Reads so many more, if there are as many, and not too many wait already; whether it read any."""
        before = len(self.waiting)
        count = min(count, AHEAD - before)
        try:
            while count > 0 and self.broken is None and self._has_line():
                number, line = self._lines.popleft()
                self.waiting.append((number, _recorded(number, line)))
                count -= 1
        except InvalidError as error:
            self.broken = error
        return len(self.waiting) > before

    def _has_line(self) -> bool:
        if not self._lines and (self._ahead or not self.waiting):
            self._lines.extend(next(self._handfuls, ()))
        return bool(self._lines)


def _recorded(number: int, line: bytes) -> Recorded:
    try:
        return recording.recorded(line)
    except InvalidError as error:
        raise InvalidError(f"line {number}: {error.message}", **error.details, line=number) from error
