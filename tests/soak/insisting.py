"""Who is refused because of what is held insists, where nothing else stands in the way and there is room to park it."""

from __future__ import annotations

import time
from collections.abc import Callable

from eventbus import Bus, ClosedError, FullError, UnavailableError
from eventbus.core.attachment import Group, Occupant
from eventbus.core.schedule import scheduled
from soak.ledger import Ledger

STUCK = 0.5  # seconds: longer than whoever waited for room and is dead or stopped keeps its place
AGAIN = 0.005  # seconds between two tries
SMALL = 16  # of what a ring takes: what is sent then fits beside all that is not parked and all that is
BLOCK = 64  # bytes: each parked record begins one


def insist(ledger: Ledger, bus: Bus, error: FullError, size: int, send: Callable[[], object]) -> bool:
    """Sends what was refused again, as long as only what is held can be why it is; whether it was sent.

    That it stays so is a fault: a publisher parks what stands in its way.
    """
    sequence, until = error.details.get("sequence"), time.monotonic() + STUCK
    while _stands_alone(bus, error, sequence, size):
        time.sleep(AGAIN)
        try:
            send()
        except FullError as again:
            error = again
        except (ClosedError, UnavailableError):
            return False  # another thread has left the bus, or somebody is stopped in the middle of a send
        else:
            return True
        if time.monotonic() > until:
            ledger.fault(f"refused for {STUCK} s because of what is held, and there was room to park it: {error}")
            return False
    return False


def _stands_alone(bus: Bus, error: FullError, sequence: int | None, size: int) -> bool:
    """Whether the event is the one that the error names, everybody has received all that was sent, and all that is in
    hand would surely find room in the parking, wherever in it the rest is, with what is to be sent later."""
    handle = bus._handle
    if handle is None or sequence is None or error.details.get("sequence") != sequence:
        return False
    groups = list(handle.groups())
    everybody: list[Occupant | Group] = [
        *groups,
        *(one for one in handle.occupants() if one.blocking and one.group is None),
    ]
    claims = [claim for group in groups for claim in group.claims]
    blocks = [-(-claim.bytes // BLOCK) for claim in claims]
    blocks += [-(-one.bytes // BLOCK) + 1 for one in scheduled(handle)]  # each with its entry
    capacity = handle.stats().capacity
    free = capacity // 4 // BLOCK - sum(blocks)
    parked = sum(claim.bytes for claim in claims if claim.parked)
    return (
        size < capacity // SMALL
        and parked < capacity // 8
        and free >= max(blocks, default=0) * (len(blocks) + 1)
        and not any(handle.waiting(one) for one in everybody)
    )
