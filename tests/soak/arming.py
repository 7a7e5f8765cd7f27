"""Test points that actors die or stand still at."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from eventbus._eventbus import ffi, lib

from soak.ledger import Entry, Kind, entry
from soak.roles import Finisher, Keeper, Member, Nursery, Planner, Subscriber

if TYPE_CHECKING:
    from soak.actors import Part

PLANNING, LOOKING = ("schedule_",), ("window_", "view", "copy_", "export_", "look_")  # how their test points begin
OF_MEMBERS = ("look_",)
NEVER = (1 << 31) - 1  # times that a test point is passed before anybody dies there


def arm(part: Part) -> None:
    """With a core that has test points, two actors in three may die or stand still for a moment at one of them, and at
    none that the process was armed with which has forked it."""
    if not hasattr(lib, "eb_test_arm"):
        return
    for point in range(lib.eb_test_point_count()):
        lib.eb_test_arm(point, signal.SIGKILL, NEVER)
    if isinstance(part.actor, (Keeper, Finisher, Nursery)) or part.dice.random() > 0.67:
        return
    point = part.dice.choice(_points(part))
    number = part.dice.choice((signal.SIGKILL, signal.SIGSTOP))
    part.ledger.write(entry(Kind.ARMED, a=point, flag=number))
    lib.eb_test_arm(point, number, part.dice.choice((1, 2, 5, 50, 500)))


def _points(part: Part) -> list[int]:
    """Of a planner those of what planners do, which few others pass; of every other viewer those of what viewers do, of
    a member perhaps those of what only members do."""
    names = _names()
    few: tuple[str, ...] = PLANNING if isinstance(part.actor, Planner) else ("",)
    may_look = isinstance(part.actor, (Subscriber, Member)) and part.actor.view is not None
    if may_look and part.dice.random() < 0.5:
        few = part.dice.choice((LOOKING, OF_MEMBERS)) if isinstance(part.actor, Member) else LOOKING
    return [point for point, name in enumerate(names) if name.startswith(few)]


def _names() -> list[str]:
    """Of a core that has test points."""
    return [ffi.string(lib.eb_test_point_name(point)).decode() for point in range(lib.eb_test_point_count())]


def where_it_looks(book: list[Entry]) -> list[str]:
    """The test point that it was armed with, if that is one of those that only viewers pass."""
    armed = [_names()[one.a] for one in book if one.kind == Kind.ARMED]
    return [name for name in armed[-1:] if name.startswith(LOOKING)]
