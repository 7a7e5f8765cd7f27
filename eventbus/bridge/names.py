"""Names: what a bridge is called on its bus, its group, events and states, for itself and for those who watch it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from eventbus.core.stats import BusStats

SYSTEM: Final = "eventbus.bridge"
UP, DOWN, GAP, STATUS = "up", "down", "gap", "status"

State = Literal["starting", "syncing", "running", "degraded", "fenced", "stopped"]

STATUS_EVERY: Final = 5.0
"""Seconds after which a bridge says a last word anew."""

SELDOM: Final = 60.0
"""The same in a ring that is nearly full: what room is left there is for others."""


_GROUPS: Final = "bridge."


def group_of(origin: str) -> str:
    """The group, or the subscription, by which an origin's bridge reads what is to go out."""
    return f"{_GROUPS}{origin}"


class Reader(NamedTuple):
    """Who reads what is to go out: its process, None where nobody does, and how many events wait or are in hand."""

    pid: int | None
    waiting: int


def readers(bus: BusStats) -> dict[str, Reader]:
    """Of each origin that has one, or had: the member of its group, or a subscription that may be lapped."""
    found = {
        one.name: Reader(one.pid, one.backlog)
        for one in bus.subscribers
        if one.group is None and _is_of_origin(one.name)
    }
    for group in bus.groups:
        if _is_of_origin(group.name):
            in_hand = sum(one.events for one in group.members)
            pid = group.members[0].pid if group.members else None
            found[group.name] = Reader(pid, group.backlog + group.returned + in_hand)
    return {name.removeprefix(_GROUPS): reader for name, reader in found.items()}


def _is_of_origin(name: str) -> bool:
    """An origin has no dot: what follows one is another group of a bridge."""
    return name.startswith(_GROUPS) and "." not in name.removeprefix(_GROUPS)


def nearly_full(used: int, capacity: int) -> bool:
    """Whether only those that drain a ring of so many bytes find room in it."""
    return used >= capacity * 7 // 8
