"""What holds a full ring back: the error that names whoever it is, with what it has."""

from __future__ import annotations

from eventbus.core.attachment import Attachment, Claim, Group, Occupant
from eventbus.core.holders import holders, holds
from eventbus.core.keeping import viewed
from eventbus.core.schedule import scheduled
from eventbus.errors import FullError


def full(name: str, handle: Attachment, seconds: float | None) -> FullError:
    """The error for a send that found no room on the bus ``name`` for so long."""
    slowest = handle.slowest()
    stayed = f"the bus {name!r} stayed full for {seconds} s"
    backlog = 0 if slowest is None else handle.waiting(slowest)
    in_hand = [claim for claim in slowest.claims if not claim.parked] if isinstance(slowest, Group) else []
    seen = 0 if slowest is None else viewed(handle, slowest)
    if slowest is None or (backlog == 0 and not in_hand and seen == 0):
        gone = "what filled it was taken since, or what became free is kept for those who waited first"
        return FullError(f"the bus {name!r} was full for {seconds} s; {gone}: try again", timeout=seconds)
    if isinstance(slowest, Occupant):
        return FullError(
            f"{stayed}: subscriber {slowest.name!r} of process {slowest.pid} {_to_do(backlog, seen)}; "
            f"{_remedy(handle, slowest, seen)}",
            name=slowest.name,
            pid=slowest.pid,
            backlog=backlog,
            **({"viewed": seen} if seen else {}),
            timeout=seconds,
        )
    members = [one for one in handle.occupants() if one.group == slowest.number]
    names = ", ".join(f"{one.name!r} of process {one.pid}" for one in members) or "none"
    oldest = min(in_hand, key=lambda claim: claim.sequence, default=None)
    parked = sum(claim.bytes for claim in slowest.claims if claim.parked)
    later = sum(one.bytes for one in scheduled(handle))
    stands = oldest is not None and (backlog == 0 or parked + later + oldest.bytes > handle.stats().capacity * 3 // 16)
    reasons = [_in_hand(handle, slowest, oldest, parked, later)] if oldest is not None and stands else []
    if backlog or not reasons:
        taken = f"the group {slowest.name!r} has {backlog} events that no member took (members: {names})"
        reasons.insert(0, taken)
    member = None if oldest is None or oldest.slot is None else handle.occupant(oldest.slot)
    return FullError(
        f"{stayed}: {', and '.join(reasons)}; add members, or use a larger capacity",
        group=slowest.name,
        pids=[one.pid for one in members],
        backlog=backlog,
        name=None if member is None else member.name,
        pid=None if member is None else member.pid,
        sequence=None if oldest is None else oldest.sequence,
        held=None if oldest is None else oldest.held,
        parked=parked,
        scheduled=later,
        timeout=seconds,
    )


def _in_hand(handle: Attachment, group: Group, claim: Claim, parked: int, later: int) -> str:
    """What stands in the way: the oldest event in hand that has not left the ring, and what has, or has yet to come."""
    beside = [f"{parked} bytes of other events in hand"] * (parked > 0) + [f"{later} bytes to be sent later"] * (
        later > 0
    )
    room = f", beside {' and '.join(beside)}, and there is room for a quarter of the ring" if beside else ""
    if claim.slot is None:
        again = f"in {claim.due:.0f} s" if claim.due > 0 else "to whoever asks"
        return f"the group {group.name!r} has event {claim.sequence} to be delivered again, {again}{room}"
    member = handle.occupant(claim.slot)
    who = f"a dead member of the group {group.name!r}"
    if member is not None:
        who = f"member {member.name!r} of process {member.pid}"
    return f"{who} has had event {claim.sequence} in hand for {claim.held:.0f} s{room}"


def _to_do(backlog: int, seen: int) -> str:
    """What a subscriber has yet to receive, and what it looks at in the ring."""
    looks = f"still looks at {seen} bytes of the ring"
    if seen == 0:
        return f"has {backlog} events to receive"
    return f"{looks}, with {backlog} events to receive" if backlog else looks


def _remedy(handle: Attachment, slowest: Occupant, seen: int) -> str:
    """What to do about a subscriber that does not receive; its process may have left somebody else with its locks."""
    fd, slot = handle.roster_fd, slowest.slot
    pids = [] if holds(slowest.pid, fd, slot) else holders(fd, slot)
    if not pids or slowest.pid in pids:
        if seen and slowest.group is not None:
            return "let it finish the events that it has in hand, or join its group without view=True"
        if seen:
            return "let it ask for the next event, or subscribe without view=True"
        return "let it receive or close it, or subscribe with overflow='drop'"
    names = " and ".join(map(str, pids))
    return f"that process has ended, but {names}, forked from it without libc's fork, keeps its descriptors: end that"
