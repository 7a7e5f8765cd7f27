"""Commands that hear and say something: ``tail`` and ``send``."""

from __future__ import annotations

import os
import stat
from typing import Annotated

import typer

from eventbus.audience import would_hear
from eventbus.bus import SEND_TIMEOUT, Bus
from eventbus.cli import tail
from eventbus.cli.feed import Feed, parse, parse_headers
from eventbus.cli.options import BusName, Events, Kinds, Systems
from eventbus.cli.streams import progress, say, standard_input
from eventbus.errors import UnavailableError


def tail_bus(
    name: BusName,
    pattern: Systems = "**",
    kind: Kinds = None,
    as_json: Events = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="begin with the oldest event kept")] = False,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="end after N events")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="S", help="end after S seconds without any")] = None,
) -> None:
    """Write the events of a bus as they come.

    One line each, until the bus is shut down. A bus that does not exist is made. Publishers never wait for this
    command: what it could not keep up with is counted on standard error. Data that is raw bytes is written as Python
    writes it; with --json, as "base64" in place of "data". With --count, fewer events within the time are an error.
    """
    with (
        Bus(name, role="subscriber") as bus,
        bus.subscribe(pattern, kind, overflow="drop", start="oldest" if oldest else "latest") as heard,
    ):
        shown = tail.follow(heard, tail.shower(as_json), say, count, lambda: timeout)
        if count is not None and shown < count and not heard.closed:
            raise UnavailableError(f"{shown} of {count} events came before the time was up")


def send_events(
    name: BusName,
    system: Annotated[str, typer.Argument(metavar="SYSTEM", show_default=False)],
    kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", show_default=False)],
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="JSON, or - for one event per line")] = None,
    wait: Annotated[int, typer.Option(min=0, metavar="N", help="first wait for N subscribers of SYSTEM")] = 0,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="wait so long for them, and for room in the ring")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="a header of each event; as often as there are any")
    ] = None,
) -> None:
    """Send one event, or one per line of input.

    With - as DATA, each line of standard input is JSON, and the data of an event; empty lines are skipped. A bus that
    does not exist is made, and goes again when nobody else is attached. Without --timeout, --wait waits for ever and a
    full ring is an error after five seconds. A negative number as DATA needs -- before the arguments.
    """
    value = None if data is None or data == "-" else parse(data)
    headers = parse_headers(header or [])
    patience = SEND_TIMEOUT if timeout is None else timeout
    with Bus(name, send_timeout=patience) as bus:
        if not bus.wait_for_subscribers(wait, system, timeout):
            raise UnavailableError(f"fewer than {wait} subscribers of {system!r} came within {timeout} s")
        kept = any(would_hear(group.system, system) for group in bus.stats().groups)
        if not kept and not bus.wait_for_subscribers(1, system, 0):
            say(f"nobody is subscribed to {system!r} on the bus {name!r}")
        if data == "-":
            _send_lines(Feed(bus, system, kind, path, headers))
        else:
            bus.send(system, kind, path, value, headers=headers)


def _send_lines(feed: Feed) -> None:
    source = standard_input()
    status = os.fstat(source.fileno())
    with progress("events", status.st_size if stat.S_ISREG(status.st_mode) else None) as advance:
        feed.run(source, advance)
    say(f"{feed.sent} events were sent")
