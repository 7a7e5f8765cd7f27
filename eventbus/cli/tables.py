"""What ``ls`` and ``stat`` know of a bus: as JSON values, and as tables for people."""

from __future__ import annotations

import errno
import pwd
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.core.segment import Inspection, inspect_bus
from eventbus.core.stats import BusStats

Row = dict[str, Any]

_SIZES = frozenset(("size", "used", "capacity"))
_TEXTS = frozenset(("name", "owner", "mode", "state", "system", "kind", "overflow", "group", "path", "origin", ""))
_SHOWN = {"scheduled": 20}  # rows for people; --json has all
_TIMES = frozenset(("since", "began"))
_BRIDGES = ("origin", "state", "said", "exported", "imported", "export_lag_events", "import_lag_events", "lost", "gaps")
_WIDEST = 10_000  # columns of what is no terminal, so that nothing is cut there


def make_console(*, stderr: bool = False) -> Console:
    """A console that wraps and colours on a terminal only, and leaves a closed pipe to the caller."""
    made = _Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else _Console(stderr=stderr, highlight=False, width=_WIDEST)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that rich is handling; its own way is to exit here


def printable(text: str) -> str:
    """The text with escapes for what would break the line, move the cursor or command the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def existing(name: str) -> Inspection:
    """The bus of this name, which is neither made nor attached to for that.

    Raises:
        FileNotFoundError: there is none.
    """
    bus = inspect_bus(name)
    if bus is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no bus named {name!r}: 'eventbus ls' lists those that are")
    return bus


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
    subscribers = list(figures.pop("subscribers"))
    groups = [{**group, "members": list(group["members"])} for group in figures.pop("groups")]
    scheduled = list(figures.pop("scheduled"))
    parts: Row = {"subscribers": subscribers, "groups": groups, "scheduled": scheduled, "topics": topics}
    parts["bridges"] = bridges
    return {**listed(bus), **figures, **parts}


def show_listed(rows: list[Row], console: Console) -> None:
    """``ls`` for people."""
    console.print(_table(rows))


def show_described(about: Row, console: Console) -> None:
    """``stat`` for people."""
    figures = Table(box=None, show_header=False, pad_edge=False)
    for key, value in about.items():
        if not isinstance(value, list):
            figures.add_row(Text(key.replace("_", " "), style="bold"), _cell(key, value))
    console.print(figures)
    parts = {part: about[part] for part in ("subscribers", "groups", "scheduled", "topics")}
    parts["members"] = [{"group": group["name"], **one} for group in about["groups"] for one in group["members"]]
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


def show_bridges(rows: list[Row], console: Console) -> None:
    """All that is known of bridges, for people."""
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
    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text(_bytes(value) if column in _SIZES else printable(str(value)))


def _bytes(size: int) -> str:
    scaled, units = float(size), ["B", "KiB", "MiB", "GiB"]
    while scaled >= 1024 and len(units) > 1:
        scaled, units = scaled / 1024, units[1:]
    return f"{size} B" if units[0] == "B" else f"{scaled:.1f} {units[0]}"
