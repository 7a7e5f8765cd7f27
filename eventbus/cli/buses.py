"""Commands about buses as such: ``ls``, ``stat``, ``gc``, ``remove-group`` and ``unlink``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from eventbus.bus import Bus
from eventbus.cli import tables
from eventbus.cli.options import BusName, Json
from eventbus.cli.streams import say
from eventbus.core.inspection import inspect_bus, list_names
from eventbus.core.segment import unlink
from eventbus.core.stats import BusStats
from eventbus.errors import SubscribersFullError, UnavailableError


def list_buses(as_json: Json = False) -> None:
    """List the buses on this host.

    Nothing is attached to, changed, repaired or removed. A bus that is "abandoned" was left by a crash: the next
    process to open it replaces it.
    """
    rows = [tables.listed(bus) for name in list_names() if (bus := inspect_bus(name)) is not None]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        tables.show_listed(rows)
    else:
        say("there are no buses on this host")


def describe_bus(name: BusName, as_json: Json = False) -> None:
    """Show a bus, its subscribers, topics and bridges.

    Nothing is attached to or changed; but where a bridge is or was, its last word is heard as a subscriber hears it.
    """
    bus = tables.existing(name)
    if bus.stats is None:
        raise UnavailableError(bus.reason)
    row = tables.described(bus, bus.stats, _bridges(bus.stats))
    if as_json:
        print(json.dumps(row, indent=2))
    else:
        tables.show_described(row)


def _bridges(stats: BusStats) -> list[tables.Row]:
    from eventbus.bridge.status import bridges

    try:
        return bridges(stats)
    except SubscribersFullError as error:
        say(f"bridges are not shown: {error.message}")
        return []


def collect(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BUS]...", help="only these buses", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be removed, and remove nothing")] = False,
) -> None:
    """Remove what dead processes left.

    That is abandoned buses, and doorbells at which nobody answers. Nothing that somebody alive uses is touched, nor a
    bus that was told to stay.
    """
    from eventbus.core.leftovers import sweep

    found = sweep(dry_run, names or ())
    would = "would be " if dry_run else ""
    for name in found.buses:
        say(f"the bus {name!r} {would}removed")
    if found.doorbells:
        say(f"{found.doorbells} doorbells {would}removed")
    for reason in found.kept.values():
        say(reason)
    if found.kept:
        raise typer.Exit(1)


def remove_group(
    name: BusName, group: Annotated[str, typer.Argument(metavar="GROUP", help="its name", show_default=False)]
) -> None:
    """Remove a group, with what it still had to do.

    Its members see the end of their subscriptions, and the room that it held in the ring is free.
    """
    tables.existing(name)
    with Bus(name) as bus:
        bus.remove_group(group)


def unlink_bus(name: BusName) -> None:
    """Remove a bus, whoever is attached.

    They keep what they have; the next to open the name gets a new bus.
    """
    unlink(name)
