"""What ``top`` shows: how fast the counters of buses go on, from two looks at them. Nothing is attached to."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from eventbus.audience import would_hear
from eventbus.cli.tables import Row, holding, in_hand, missing
from eventbus.core.inspection import inspect_bus, list_names
from eventbus.core.stats import BusStats, GroupStats, SubscriberStats

SORTS = ("rate", "backlog", "lost", "sent", "name")
TABLES = {"subscribers": "backlog", "groups": "backlog", "topics": "rate"}
"""The tables of a bus, each with what it is sorted by unless somebody says otherwise."""

_NAMES = ("name", "system", "kind")


@dataclass(frozen=True)
class Look:
    """A bus at one moment: ``at`` in seconds of the monotonic clock; no stats of one that cannot be looked at."""

    name: str
    state: str
    at: float
    stats: BusStats | None


def look(name: str | None) -> dict[str, Look]:
    """The bus of this name, or all buses, by their names."""
    found = {}
    for one in list_names() if name is None else [name]:
        if (about := inspect_bus(one)) is not None:
            found[one] = Look(one, about.state, time.monotonic(), about.stats)
    return found


def view(name: str | None, now: dict[str, Look], before: dict[str, Look], sort: str | None, part: str) -> Row:
    """What there is to know of a bus, or in "buses" of all, with the rows that are asked for.

    Args:
        sort, part: as ``chosen`` takes them.

    Raises:
        FileNotFoundError: the bus is not there any more.
    """
    if name is None:
        rows = [summary(one, before.get(one.name)) for one in now.values()]
        return {"buses": chosen(rows, sort, "rate", part)}
    if name not in now:
        raise missing(name)
    row = details(now[name], before.get(name))
    for table, column in TABLES.items():
        row[table] = chosen(row[table], sort, column, part)
    return row


def summary(now: Look, before: Look | None) -> Row:
    """A bus in one row; None for what cannot be known."""
    stats, then, seconds = now.stats, _comparable(now, before), now.at - (before.at if before else now.at)
    held = None if stats is None else holding(stats)
    return {
        "name": now.name,
        "state": now.state,
        "attached": stats and stats.attached,
        "subscribers": stats and len(stats.subscribers),
        "sent": stats and stats.sent,
        "rate": stats and then and _rate(stats.sent - then.sent, seconds),
        "bytes": stats and then and _rate(stats.committed - then.committed, seconds),
        "kept": None if stats is None else 0.0 if held is None else round(held.share, 4),
        "holding": None if held is None else held.who,
    }


def details(now: Look, before: Look | None) -> Row:
    """A bus with its topics, subscribers and groups."""
    row: Row = {**summary(now, before), "topics": [], "subscribers": [], "groups": []}
    stats, then = now.stats, _comparable(now, before)
    if stats is None:
        return row
    seconds = now.at - before.at if before else 0.0
    news = None if then is None else {topic: sent - then.topics.get(topic, 0) for topic, sent in stats.topics.items()}
    row["topics"] = [
        {"system": system, "kind": kind, "sent": sent, "rate": news and _rate(news[system, kind], seconds)}
        for (system, kind), sent in stats.topics.items()
    ]
    known: list[SubscriberStats | GroupStats] = [] if then is None else [*then.subscribers, *then.groups]
    old = {_key(one): one for one in known}
    for one in stats.subscribers:
        row["subscribers"].append(_subscriber(one, stats, old.get(_key(one)), seconds))
    for group in stats.groups:
        row["groups"].append({**_group(group, stats), "rate": _taken(group, old.get(_key(group)), news, seconds)})
    return row


def _comparable(now: Look, before: Look | None) -> BusStats | None:
    """What there was before, of the same bus: another one of its name has other counters."""
    if now.stats is None or before is None or before.stats is None:
        return None
    return before.stats if before.stats.identity == now.stats.identity and now.at > before.at else None


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1)


def _key(one: SubscriberStats | GroupStats) -> tuple[str, int | None]:
    return one.name, one.pid if isinstance(one, SubscriberStats) else None


def _subscriber(one: SubscriberStats, stats: BusStats, then: Any, seconds: float) -> Row:
    """With what it received since then, and the delays of that; of all it received, if it was not there before."""
    row = {field.name: getattr(one, field.name) for field in fields(one) if field.name not in ("kept", "received")}
    before = then.received if then is not None and then.received.events <= one.received.events else None
    delays = one.received.delays if before is None else one.received.delays.since(before.delays)
    return {
        **row,
        "kept": round(one.kept / stats.capacity, 4),
        "rate": before and _rate(one.received.events - before.events, seconds),
        "delay_p50": delays.quantile(0.5),
        "delay_p99": delays.quantile(0.99),
    }


def _group(group: GroupStats, stats: BusStats) -> Row:
    return {
        "name": group.name,
        "system": group.system,
        "kind": group.kind,
        "members": len(group.members),
        "backlog": group.backlog,
        "in_hand": in_hand(group),
        "held": round(max((member.held for member in group.members), default=0.0), 3),
        "returned": group.returned,
        "redelivered": group.redelivered,
        "dead": group.dead,
        "kept": round(group.kept / stats.capacity, 4),
    }


def _taken(group: GroupStats, then: Any, news: dict[tuple[str, str], int] | None, seconds: float) -> float | None:
    """Events that its members took a second: those sent that it hears, but for what its backlog has grown by.

    None for one that was not there before.
    """
    if news is None or then is None:
        return None
    heard = (count for topic, count in news.items() if count and _hears(group.system, group.kind, *topic))
    return max(0.0, _rate(sum(heard) - (group.backlog - then.backlog), seconds))


@lru_cache(1 << 16)
def _hears(systems: str, kinds: str, system: str, kind: str) -> bool:
    return would_hear(systems, system) and would_hear(kinds, kind)


def chosen(rows: Iterable[Row], sort: str | None, default: str, part: str) -> list[Row]:
    """The rows of which a text has ``part`` in it, the largest first in the column asked for, if they have it.

    Args:
        default: the column they are sorted by otherwise; names settle what is equal.
    """
    kept = [row for row in rows if any(part in value for value in row.values() if isinstance(value, str))]
    kept.sort(key=lambda row: [str(row.get(name, "")) for name in _NAMES])
    if sort != "name":
        column = sort if kept and sort in kept[0] else default
        kept.sort(key=lambda row: row[column] or 0, reverse=True)
    return kept
