"""Names: what a bridge is called on its bus, its group, events and states, for itself and for those who watch it."""

from __future__ import annotations

from typing import Final, Literal

from eventbus.core.stats import GroupStats

SYSTEM: Final = "eventbus.bridge"
UP, DOWN, GAP, STATUS = "up", "down", "gap", "status"

State = Literal["starting", "syncing", "running", "degraded", "fenced", "stopped"]

STATUS_EVERY: Final = 5.0
"""Seconds after which a bridge says a last word anew."""

SELDOM: Final = 60.0
"""The same in a ring that is nearly full: what room is left there is for others."""


def group_of(origin: str) -> str:
    """The group by which an origin's bridge reads what is to go out."""
    return f"bridge.{origin}"


def waiting(group: GroupStats) -> int:
    """Events of a bridge's group that are to go out: those that nobody took, and those in hand."""
    return group.backlog + group.returned + sum(member.events for member in group.members)


def nearly_full(used: int, capacity: int) -> bool:
    """Whether only those that drain a ring of so many bytes find room in it."""
    return used >= capacity * 7 // 8
