"""The command ``eventbus dump``: the last events of a bus that nobody is attached to."""

from __future__ import annotations

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
    show, events, bad = shower(as_json), list[Event](), 0
    with closing(Remains(name, hearing(pattern, kind, make_guard(None)))) as remains:
        for one in remains.found():
            if isinstance(one, SegmentError):
                say(one.message)
                bad += 1
                continue
            events.append(one)
            if len(events) == BATCH:
                show(events)
                events = []
        if events:
            show(events)
        if remains.lost:
            say(f"lost {remains.lost} events: the bus is in use again, and its ring went on")
    if bad:
        raise typer.Exit(1)
