"""What ``ls`` and ``stat`` know of a bus: as JSON values, and as tables for people."""

from __future__ import annotations

import errno
import pwd
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus.cli.streams import printable
from eventbus.core.figures import Received
from eventbus.core.inspection import Inspection, inspect_bus
from eventbus.core.stats import BusStats, GroupStats, SubscriberStats

if TYPE_CHECKING:  # what writes JSON does without it
    from rich.table import Table
    from rich.text import Text

Row = dict[str, Any]

_SIZES = frozenset(("size", "used", "capacity", "kept", "parked"))
_TEXTS = frozenset(("name", "owner", "mode", "state", "system", "kind", "overflow", "group", "path", "origin", ""))
DELAYS = frozenset(("delay_p50", "delay_p99"))
_DETAILS = frozenset(("bytes", "wakes", "skipped"))  # of a subscriber: --json has them
_SHOWN = {"scheduled": 20}  # rows for people; --json has all
_TIMES = frozenset(("since", "began"))
_BRIDGES = ("origin", "state", "said", "exported", "imported", "export_lag_events", "import_lag_events", "lost", "gaps")


def existing(name: str) -> Inspection:
    """The bus of this name, which is neither made nor attached to for that.

    Raises:
        FileNotFoundError: there is none.
    """
    bus = inspect_bus(name)
    if bus is None:
        raise missing(name)
    return bus


def missing(name: str) -> FileNotFoundError:
    """The error for a bus that is not there."""
    return FileNotFoundError(errno.ENOENT, f"there is no bus named {name!r}: 'eventbus ls' lists those that are")


class Holding(NamedTuple):
    """Who holds the ring back most: how much of it, with what, and what to do about it."""

    share: float
    who: str
    remedy: str


def holding(stats: BusStats) -> Holding | None:
    """None if nobody has anything to take from the ring. Who stands still and hears nothing of it holds nobody up."""
    everybody: list[SubscriberStats | GroupStats] = [*stats.subscribers, *stats.groups]
    busy = [one for one in everybody if one.kept and _is_busy(one)]
    slowest = max(busy, key=lambda one: one.kept, default=None)
    return None if slowest is None else Holding(slowest.kept / stats.capacity, *_with_what(slowest))


def _is_busy(one: SubscriberStats | GroupStats) -> bool:
    return one.backlog > 0 or (in_hand(one) if isinstance(one, GroupStats) else one.viewed) > 0


def in_hand(group: GroupStats) -> int:
    """How many events its members have in hand, or gave back."""
    return group.returned + sum(member.events for member in group.members)


def _with_what(one: SubscriberStats | GroupStats) -> tuple[str, str]:
    if isinstance(one, SubscriberStats):
        if one.viewed and not one.backlog:
            who = f"subscriber {one.name!r} of process {one.pid} still looks at {one.viewed} bytes of the ring"
            return who, "let it finish what it has in hand, or let it subscribe without view=True"
        who = f"subscriber {one.name!r} of process {one.pid} has {one.backlog} events to receive"
        return who, "let it receive or close it, or let it subscribe with overflow='drop'"
    if one.backlog:
        return (
            f"the group {one.name!r} has {one.backlog} events that no member took",
            "add members, or remove the group",
        )
    return f"members of the group {one.name!r} have {in_hand(one)} events in hand", "add members, or end who hangs"


def listed(bus: Inspection) -> Row:
    """A bus as ``ls`` shows it; None for what cannot be known."""
    return {
        "name": bus.name,
        "owner": _owner(bus.uid),
        "mode": f"{bus.mode:04o}",
        "size": bus.size,
        "used": bus.stats.used if bus.stats else None,
        "attached": bus.attached,
        "subscribers": len(bus.stats.subscribers) if bus.stats else None,
        "state": bus.state,
    }


def described(bus: Inspection, stats: BusStats, bridges: list[Row]) -> Row:
    """A bus as ``stat`` shows it: what ``ls`` shows, with lists of subscribers, groups, topics, what is scheduled, and
    of the bridges that are known."""
    figures = asdict(stats)
    topics = [{"system": system, "kind": kind, "sent": sent} for (system, kind), sent in sorted(stats.topics.items())]
    subscribers = [_with_received(one) for one in figures.pop("subscribers")]
    groups = [{**group, "members": list(group["members"])} for group in figures.pop("groups")]
    scheduled = list(figures.pop("scheduled"))
    parts: Row = {"subscribers": subscribers, "groups": groups, "scheduled": scheduled, "topics": topics}
    parts["bridges"] = bridges
    return {**listed(bus), **figures, **parts}


def _with_received(subscriber: Row) -> Row:
    """What came to it beside the rest; of the delays, two quantiles in seconds."""
    received: Received = subscriber.pop("received")
    *figures, delays = received
    quantiles = {"delay_p50": delays.quantile(0.5), "delay_p99": delays.quantile(0.99)}
    return {**subscriber, **dict(zip(Received._fields, figures, strict=False)), **quantiles}


def show_listed(rows: list[Row]) -> None:
    """``ls`` for people."""
    from eventbus.cli.console import make_console

    make_console().print(_table(rows))


def show_described(about: Row) -> None:
    """``stat`` for people."""
    from rich.table import Table
    from rich.text import Text

    from eventbus.cli.console import make_console

    console = make_console()
    figures = Table(box=None, show_header=False, pad_edge=False)
    for key, value in about.items():
        if not isinstance(value, list):
            figures.add_row(Text(key.replace("_", " "), style="bold"), _cell(key, value))
    console.print(figures)
    parts = {part: about[part] for part in ("subscribers", "groups", "scheduled", "topics")}
    parts["members"] = [{"group": group["name"], **one} for group in about["groups"] for one in group["members"]]
    parts["subscribers"] = [{key: row[key] for key in row if key not in _DETAILS} for row in parts["subscribers"]]
    parts["groups"] = [{**group, "members": len(group["members"])} for group in about["groups"]]
    if about["bridges"]:
        parts["bridges"] = [{key: _spelled(key, bridge.get(key)) for key in _BRIDGES} for bridge in about["bridges"]]
    for part, rows in parts.items():
        console.print(f"\n{part}: {len(rows)}")
        if rows:
            shown = _SHOWN.get(part, len(rows))
            console.print(_table(rows[:shown]))
            if shown < len(rows):
                console.print(f"and {len(rows) - shown} more")


def show_bridges(rows: list[Row]) -> None:
    """All that is known of bridges, for people."""
    from rich.table import Table
    from rich.text import Text

    from eventbus.cli.console import make_console

    console = make_console()
    for number, row in enumerate(rows):
        figures = Table(box=None, show_header=False, pad_edge=False)
        for key, value in row.items():
            figures.add_row(Text(key.replace("_", " "), style="bold"), _cell(key, _spelled(key, value)))
        if number:
            console.print()
        console.print(figures)


def _spelled(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{reason} {count}" for reason, count in value.items()) or "-"
    if key in _TIMES and isinstance(value, float):
        return datetime.fromtimestamp(value).isoformat(" ", "seconds")
    return f"{value:.1f}" if isinstance(value, float) else value


def _table(rows: list[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in _TEXTS else "right")
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in row.items()))
    return table


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _cell(column: str, value: Any) -> Text:
    """As text of its own kind: what a bus calls itself is no markup."""
    from rich.text import Text

    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if column in DELAYS:
        return Text(delay_text(value))
    return Text(byte_text(value) if column in _SIZES else printable(str(value)))


def delay_text(seconds: float) -> str:
    """A short time for people."""
    scaled, units = seconds * 1e6, ["us", "ms", "s"]
    while scaled >= 1000 and len(units) > 1:
        scaled, units = scaled / 1000, units[1:]
    return f"{scaled:.3g} {units[0]}"


def byte_text(size: int) -> str:
    """A size for people."""
    scaled, units = float(size), ["B", "KiB", "MiB", "GiB"]
    while scaled >= 1024 and len(units) > 1:
        scaled, units = scaled / 1024, units[1:]
    return f"{size} B" if units[0] == "B" else f"{scaled:.1f} {units[0]}"
