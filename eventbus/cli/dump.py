"""The command ``eventbus dump``: the last events of a bus that nobody is attached to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import typer

from eventbus.cli import tables
from eventbus.cli.options import BusName, Events, Kinds, Systems
from eventbus.cli.streams import say
from eventbus.cli.tail import BATCH, shower
from eventbus.errors import SegmentError
from eventbus.event import Event
from eventbus.hearing import hearing
from eventbus.policy import make_guard
from eventbus.remains import Remains


def dump(name: BusName, pattern: Systems = "**", kind: Kinds = None, as_json: Events = False) -> None:
    """Write what a bus still holds that nobody is attached to.

    These are the last events before a crash, as long as nobody has opened the bus again, and those of a bus that was
    told to stay. It is neither attached to, nor changed, nor repaired. What members of groups had in hand for long, and
    what was to be sent later, is not among them. The lines are those of 'eventbus tail', and with --json those of a
    recording.
    """
    tables.existing(name)
    bad = 0

    def readable(found: Iterable[Event | SegmentError]) -> Iterator[Event]:
        nonlocal bad
        for one in found:
            if isinstance(one, Event):
                yield one
            else:
                say(one.message)
                bad += 1

    with closing(Remains(name, hearing(pattern, kind, make_guard(None)))) as remains:
        _show(readable(remains.found()), shower(as_json))
        if remains.lost:
            say(f"lost {remains.lost} events: the bus is in use again, and its ring went on")
    if bad:
        raise typer.Exit(1)


def _show(events: Iterator[Event], show: Callable[[list[Event]], None]) -> None:
    """In batches; what was read before the ring turned out to be damaged, too."""
    batch: list[Event] = []
    try:
        for event in events:
            batch.append(event)
            if len(batch) == BATCH:
                show(batch)
                batch = []
    finally:
        if batch:
            show(batch)
