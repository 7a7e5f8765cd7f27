"""The command ``eventbus record``: what is heard on a bus goes into a file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from eventbus.bus import Bus
from eventbus.cli.options import BusName, Kinds, Systems
from eventbus.cli.recorder import Recorder, recorder
from eventbus.cli.recording import Recorded
from eventbus.cli.streams import say
from eventbus.cli.tail import encoded, follow
from eventbus.errors import SegmentError
from eventbus.event import Event
from eventbus.subscription import Subscription

NAME = "eventbus record"
QUIET = 0.5  # seconds without events until what waits to be compressed is written


def record(
    name: BusName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="where to; .zst and .gz compress", show_default=False)],
    pattern: Systems = "**",
    kind: Kinds = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="hold publishers up rather than lose events")] = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="begin with the oldest event kept")] = False,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="end after N events")] = None,
) -> None:
    """Write the events of a bus to a file.

    One JSON object per line, as 'eventbus tail --json' writes them, until Ctrl-C, SIGTERM or the end of the bus.
    Publishers never wait for this command unless --lossless says so; what it could not keep up with is counted on
    standard error. A bus that does not exist is made.

    A file that is there goes on where it ends: with the events after its last one, for as long as the ring has kept
    them. However a recorder dies, what it wrote is a recording up to the last whole line.
    """
    with recorder(file) as into, Bus(name, role="subscriber") as bus:
        start = _start(bus, file, into.last, pattern, kind) or ("oldest" if oldest else "latest")
        overflow: Literal["block", "drop"] = "block" if lossless else "drop"
        with bus.subscribe(pattern, kind, overflow=overflow, start=start, name=NAME) as heard:
            _record(heard, into, count)


def _record(heard: Subscription, into: Recorder, count: int | None) -> None:
    written = 0

    def show(events: list[Event]) -> None:
        nonlocal written
        into.add([encoded(event) for event in events])
        written += len(events)

    def quiet() -> bool:
        into.flush()
        return True

    try:
        with _closed_by_signals(heard):
            follow(heard, show, say, count, lambda: QUIET if into.pending else None, quiet)
            into.flush()
    finally:
        say(f"{written} events were recorded")


@contextmanager
def _closed_by_signals(heard: Subscription) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the subscription, and interrupt no write; a second one does."""

    def end(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.default_int_handler)
        heard.close()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(
    bus: Bus, file: str, last: Recorded | None, pattern: str, kind: str | None
) -> int | Literal["oldest"] | None:
    """Behind the last event that was recorded; None if there is none."""
    if last is None:
        return None
    if _is_other(bus, last, pattern, kind):
        say(f"{file!r} ends with event {last.sequence} of another bus: the oldest event kept of this one is next")
        return "oldest"
    return last.sequence + 1


def _is_other(bus: Bus, last: Recorded, pattern: str, kind: str | None) -> bool:
    """Whether the last event recorded cannot be of this bus, as far as the ring still tells."""
    if last.sequence > bus.stats().sent:
        return True
    with bus.subscribe(pattern, kind, overflow="drop", start=last.sequence) as kept:
        try:
            found = kept.receive(0)
        except SegmentError:
            return False
    if found is None:
        return False
    return found.time != last.time if found.sequence == last.sequence else found.time < last.time
