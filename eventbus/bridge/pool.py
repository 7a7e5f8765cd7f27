"""Pool: the group that does the work of a queue on this host, as the bridge among its members sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from eventbus.bridge.link import LinkError
from eventbus.bus import Bus
from eventbus.core.attachment import Attachment, Group, Occupant
from eventbus.group import find_group
from eventbus.member import Member
from eventbus.patterns import compile_joined

LOOK: Final = 0.25
"""Seconds between two looks at all slots."""


class Figures(NamedTuple):
    """The group at one moment, without the bridge.

    Attributes:
        next: what comes before this sequence was claimed, or passed over.
        held: of that, what is still to be done.
        members: how many live.
        idle: how many of them wait for an event.
        waiting: events that nobody has, or only the dead.
        limit: how often an event is handed out.
    """

    next: int
    held: frozenset[int]
    members: int
    idle: int
    waiting: int
    limit: int

    def has_done(self, sequence: int) -> bool:
        """Whether the group is through with an event: its cursor, which was read first, is past it, and nobody has a
        claim on it, which whoever claims it makes before the cursor moves."""
        return sequence < self.next and sequence not in self.held

    def with_one_more(self) -> Figures:
        """The same with another event that waits."""
        return self._replace(waiting=self.waiting + 1)


class Pool:
    """The group, and the bridge's membership."""

    def __init__(self, bus: Bus, name: str, systems: Sequence[str], window: int, label: str, alone: bool) -> None:
        """Joins the group, which is made if there is none.

        Args:
            alone: whether nobody else may, and only what was sent here is heard; handed out without end.

        Raises:
            InvalidError: the group hears something else.
            UnavailableError: it has a member that excludes others.
            ClosedError: the bus was shut down.
        """
        self.name = name
        self._bus = bus
        self._epoch, self._look_at = -1, 0.0
        self._slots: list[int] = []  # of the members of all groups
        there = find_group(bus._open_handle(), name)
        wanted, kinds = list(systems), None
        if there is not None:
            theirs = compile_joined(there.system).texts
            wanted = [*theirs] if set(theirs) == set(wanted) else wanted  # in the order that the group has
            kinds = [*compile_joined(there.kind).texts]
        if alone:
            bus.group(name, wanted, kinds, max_deliveries=_WITHOUT_END)
        made = bus.subscribe(
            wanted, kinds, group=name, prefetch=window, ack="manual", exclusive=alone, name=label, _local=alone
        )
        assert isinstance(made, Member)
        self.member = made

    def leave(self) -> None:
        """Gives back what is in hand, and leaves."""
        self.member.leave(False)

    def remove(self) -> None:
        """Leaves, and removes the group."""
        self.leave()
        self._bus.remove_group(self.name)

    def look(self) -> Figures:
        """How the group is doing.

        Raises:
            ClosedError: the bus was shut down.
            LinkError: the group was removed.
        """
        handle, group = self._bus._live_handle(), self._group()
        members = {one.slot: one for one in self._occupants(handle) if one.group == group.number}
        own = self.member._subscription.slot
        others = [one for slot, one in members.items() if slot != own]
        returned = sum(claim.due <= 0 for claim in group.claims if claim.slot not in members)
        return Figures(
            group.next,
            frozenset(claim.sequence for claim in group.claims),
            len(others),
            sum(one.sleeping for one in others),
            handle.waiting(group) + returned,
            group.max_deliveries,
        )

    def _occupants(self, handle: Attachment) -> Iterator[Occupant]:
        """Those who may be members. Who else has come is looked for when somebody has, and from time to time."""
        epoch, now = handle.roster_epoch(), time.monotonic()
        if epoch != self._epoch or now > self._look_at:
            self._epoch, self._look_at = epoch, now + LOOK
            self._slots = [one.slot for one in handle.occupants() if one.group is not None]
        return filter(None, map(handle.occupant, self._slots))

    def hears(self, system: str, kind: str) -> bool:
        """Whether such an event is the group's."""
        group = self._group()
        return compile_joined(group.system).matches(system) and compile_joined(group.kind).matches(kind)

    def _group(self) -> Group:
        found = find_group(self._bus._open_handle(), self.name)
        if found is None or self.member.closed:
            raise LinkError(f"the group {self.name!r} was removed: it is made anew")
        return found


_WITHOUT_END = (1 << 31) - 1
