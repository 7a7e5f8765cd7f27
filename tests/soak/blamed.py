"""Whoever hears nothing of what passes holds nobody up: no send is refused because of it."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from soak.books import Blame, Membership, Subscription
from soak.message import is_whispered
from soak.roles import Bystander

if TYPE_CHECKING:
    from soak.verdict import World

Waiting = list[tuple[int, float]]
"""Of each whispered event that is heard: since when it may have been there, until when it was perhaps not taken."""


def judge_blamed(world: World) -> tuple[list[str], Counter[str]]:
    """Each time that a bystander or a quiet group was named, something that it hears must have waited for it."""
    found = []
    figures: Counter[str] = Counter()
    waiting = {**_of_bystanders(world), **_of_quiet_groups(world)}
    for blame in world.blames:
        mine = waiting.get((blame.who, blame.group))
        if mine is None:
            continue
        if any(begin < blame.at and end > blame.since for begin, end in mine):
            figures["refused, a bystander had something to hear"] += 1
        else:
            found.append(_sentence(blame))
    return found, figures


def _sentence(blame: Blame) -> str:
    whom = f"group g{blame.group}" if blame.group else f"bystander {blame.who}"
    seconds = (blame.at - blame.since) / 1e9
    why = f"because of {whom} and its {blame.backlog} events, and nothing was there for it to hear"
    return f"publisher {blame.publisher} was refused after {seconds:.3f} s {why}"


def _of_bystanders(world: World) -> dict[tuple[int, int], Waiting]:
    standing = [one for one in world.subscriptions if isinstance(one.plan, Bystander)]
    return {(one.who, 0): _waiting(world, one.plan.system, one.plan.kind, [one]) for one in standing}


def _of_quiet_groups(world: World) -> dict[tuple[int, int], Waiting]:
    quiet = [group for group in world.plan.groups if group.system.startswith("quiet")]
    members = {group.number: [one for one in world.members if one.group == group.number] for group in quiet}
    return {(0, one.number): _waiting(world, one.system, one.kind, members[one.number]) for one in quiet}


def _waiting(world: World, system: str, kind: str | None, receivers: list[Subscription] | list[Membership]) -> Waiting:
    taken: dict[tuple[int, int], float] = {}
    for receiver in receivers:
        for got in receiver.got:
            if not isinstance(receiver, Membership) or got in receiver.acked:
                end = min((at for at in receiver.settled if at > got.at), default=math.inf)
                taken[got.origin[1:]] = max(end, taken.get(got.origin[1:], 0))
    sends = [(key, send) for key, send in world.sends.items() if is_whispered(key[0]) and send.outcome is not False]
    return [(send.at, taken.get(key, math.inf)) for key, send in sends if world.heard(system, kind, ("event", *key))]
