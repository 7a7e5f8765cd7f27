"""Groups: make one, remove it, join it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from eventbus.core import native
from eventbus.core.attachment import Attachment, Group
from eventbus.core.reader import LATEST, SubscriptionHandle, ahead
from eventbus.errors import InvalidError, SubscribersFullError, UnavailableError
from eventbus.hearing import hearing
from eventbus.patterns import compile_joined

if TYPE_CHECKING:
    from eventbus.policy import Guard


class _LeftOut(int):
    """A default that is told apart from the same number given: an existing group keeps what it has."""


MAX_DELIVERIES: Final[int] = _LeftOut(5)
_TRIES = 100  # at a group that others remove, and make with other patterns, at the same time


def checked_limit(max_deliveries: int) -> int:
    """``max_deliveries`` if it can be one; 0 if it was left out."""
    if isinstance(max_deliveries, _LeftOut):
        return 0
    if isinstance(max_deliveries, bool) or not isinstance(max_deliveries, int) or not 1 <= max_deliveries < 1 << 31:
        raise InvalidError(f"max_deliveries must be an int from 1, not {max_deliveries!r}", max=max_deliveries)
    return max_deliveries


def checked_acknowledgement(ack: str, group: str | None) -> bool:
    """Whether it is manual."""
    if ack not in ("auto", "manual") or (ack == "manual" and group is None):
        raise InvalidError(f"ack must be 'auto', or of a member of a group 'manual', not {ack!r}", ack=ack)
    return ack == "manual"


def checked_prefetch(prefetch: int, overflow: str) -> int:
    """``prefetch`` if it can be one, of a member that is lossless."""
    if overflow != "block":
        raise InvalidError("a group is lossless: leave overflow out", overflow=overflow)
    if isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch < 1:
        raise InvalidError(f"prefetch must be an int of at least 1, not {prefetch!r}", prefetch=prefetch)
    return prefetch


def find_group(bus: Attachment, name: str) -> Group | None:
    """The group of this name, if there is one."""
    return next((group for group in bus.groups() if group.name == name), None)


def make_group(bus: Attachment, name: str, system: str, kind: str, start: int, max_deliveries: int) -> None:
    """Makes the group, or gives the one of the name another ``max_deliveries``, unless that is 0.

    Raises:
        InvalidError: there is one with other patterns; ``start`` comes after the next sequence.
        SubscribersFullError: no slot or no group is left.
    """
    for _ in range(_TRIES):
        number = bus.group_create(name, system, kind, start, max_deliveries)
        there = find_group(bus, name) if number == native.CONFLICT else None
        if there is not None and (there.system, there.kind) != (system, kind):
            raise InvalidError(
                f"the group {name!r} hears system {there.system!r} and kind {there.kind!r}; {system!r} and {kind!r} "
                "were asked for: use the same, or another name, or remove it",
                existing=(there.system, there.kind),
                requested=(system, kind),
            )
        if number != native.CONFLICT:
            break  # else the one that was in the way is gone by now
    if number == native.AHEAD:
        raise ahead(bus, start)
    if number in (native.NO_SLOT, native.TABLE_FULL):
        raise SubscribersFullError(
            f"{bus.what} has no room for the group {name!r}: it takes one of its {bus.stats().max_subscribers} "
            f"subscriber slots, and there are at most {native.GROUPS} groups",
            limit=native.GROUPS,
        )
    native.checked(number, bus.what)


def remove_group(bus: Attachment, name: str, guard: Guard | None) -> None:
    """Removes the group, with what it still has to do.

    Raises:
        InvalidError: there is none.
        PolicyDeniedError: the policy does not allow the whole of its pattern.
    """
    there = find_group(bus, name)
    if there is not None and guard is not None:
        hearing(compile_joined(there.system).texts, None, guard).check_allowed()
    status = native.NOTHING if there is None else bus.group_remove(name)
    if status == native.NOTHING:
        raise InvalidError(f"{bus.what} has no group {name!r}", group=name)
    native.checked(status, bus.what)


@contextlib.contextmanager
def room_for_member(bus: Attachment, group: str) -> Iterator[None]:
    """Whoever makes a group has a slot and a descriptor for itself: without a member it would hold publishers back."""
    if bus.has_group(group):
        yield
        return
    taken = SubscriptionHandle(bus)  # which leaves with the last reference to it
    taken.join("", "", group, start=LATEST, spin=0, blocking=False)
    yield
    taken.leave()


def join_group(
    handle: SubscriptionHandle,
    group: str,
    texts: tuple[str, str, str],
    start: int,
    spin: float | None,
    *,
    exclusive: bool,
    manual: bool,
    views: bool,
) -> None:
    """Makes the handle a member of the group, which is made if there is none.

    Args:
        texts: its patterns and its name.
        exclusive, manual, views: as ``Bus.subscribe`` means them.

    Raises:
        UnavailableError: a member that lives and this one exclude each other.
        As ``make_group`` and ``SubscriptionHandle.join``.
    """
    while True:  # as long as it is removed between the two, or whoever excludes this one leaves meanwhile
        with room_for_member(handle.bus, group):
            make_group(handle.bus, group, texts[0], texts[1], start, 0)
        status = handle.join(
            *texts,
            start=LATEST,
            spin=spin,
            blocking=False,
            group=group,
            exclusive=exclusive,
            manual=manual,
            views=views,
        )
        if status == 0:
            return
        if status == native.EXCLUDED:
            _check_excluded(handle.bus, group)


def _check_excluded(bus: Attachment, name: str) -> None:
    there = find_group(bus, name)
    first = next((one for one in bus.occupants() if there is not None and one.group == there.number), None)
    if first is not None:
        raise UnavailableError(
            f"the group {name!r} of {bus.what} has the member {first.name!r} of process {first.pid}, and "
            f"{'that one is' if first.exclusive else 'this one would be'} exclusive: join once it has left",
            name=first.name,
            pid=first.pid,
            group=name,
        )
