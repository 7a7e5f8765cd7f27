"""What each process writes down outside of the bus. Written by write(2): a SIGKILL takes none of it back."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_ENTRY = struct.Struct("<BBHIIqqqq")


class Kind(IntEnum):
    """What an entry says. ``who`` is a publisher or a subscription; c is the bus's identity unless another is named."""

    START = 1  # the process begins; a: its pid
    WILL = 2  # about to send the numbers a..b; flag 1: at once or not at all
    SENT = 3  # that send returned
    NOT_SENT = 4  # that send raised; flag: a Why
    JOINING = 5  # about to subscribe; a: events sent so far
    JOINED = 6  # subscribed; a: events sent by now
    GOT = 7  # sequence a: number b of publisher `other`, sent at c
    LETTER = 8  # sequence a: a dead letter of group `other` about sequence b
    ACKED = 9  # sequence a is acknowledged for sure; flag 1: it alone
    REJECTING = 10  # about to give sequence a back, for b nanoseconds later
    LOST = 11  # a: what the subscription counted as lost
    ENDED = 12  # flag 1: drained to the end of the bus; 0: left before
    GROUPING = 13  # about to make group `who`; a: events sent so far
    GROUPED = 14  # made; a: events sent by now
    REFUSED = 15  # a bus could not be made for want of space
    OPENED = 16  # attached to a bus
    SHUTDOWN = 17  # the bus was shut down; a: bytes committed, b: events sent
    LOOKED = 18  # stats were read
    DISTURBED = 19  # a FullError, a missing slot and the like that the plan allows; flag: a Why
    END = 20  # the process ends by itself
    ASKING = 21  # about to acknowledge sequence a
    ARMED = 22  # gets the signal `flag` at test point a
    LEAVING = 23  # about to close the bus
    HELPED = 24  # has forked a helper in C; a: its pid
    INTERRUPTED = 25  # a signal handler raised in a receive of `who`; in the rush: a times
    ANSWER = 26  # sequence a: an answer to the request whose identity begins with b
    STILL = 27  # stands still from now on: whatever `who` got it has taken
    BLAMED = 28  # a send of `who` was refused for want of room because of subscription a or group `other`, of b events
    REMOVED = 29  # the group that `who` is the member of is removed for sure
    RETURNED = 30  # sequence a is given back for sure, after `deliveries`
    HELD = 31  # had sequence a in hand for long: meanwhile b bytes were sent, and a ring takes c
    PARKED = 32  # saw a bytes parked of what members have in hand
    PUTTING = 33  # about to have the number a sent later, b nanoseconds from now at the earliest
    PUT = 34  # that is scheduled, as number b of the bus
    NOT_PUT = 35  # that raised; flag: a Why
    CANCELLING = 36  # about to cancel the number a of publisher `other`
    CANCELLED = 37  # flag 1: it will never be sent; 0: it was sent, or cancelled before
    VIEWED = 38  # looks at what a events brought where it lies


class Why(IntEnum):
    """Why something was not done."""

    FULL = 1
    BUSY = 2
    LARGE = 3
    DENIED = 4
    CLOSED = 5
    NO_SLOT = 6


class Entry(NamedTuple):
    """One entry; ``at`` is on the monotonic clock, which all processes of a host share."""

    kind: int
    flag: int
    deliveries: int
    who: int
    other: int
    a: int
    b: int
    c: int
    at: int


class Ledger:
    """One process's own file; several threads may write."""

    def __init__(self, directory: Path, actor: int) -> None:
        self._fault_path = directory / f"{actor}.faults"
        self._fd = os.open(directory / f"{actor}.ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, *entries: Entry) -> None:
        """There when this returns, whole or not at all: nobody sees half of anything that short."""
        if entries:
            os.write(self._fd, b"".join(_ENTRY.pack(*one) for one in entries))

    def fault(self, text: str) -> None:
        """Something that must never be; the round has failed."""
        with self._fault_path.open("a") as file:
            file.write(text.rstrip() + "\n")


def entry(
    kind: Kind,
    who: int = 0,
    a: int = 0,
    b: int = 0,
    c: int = 0,
    *,
    flag: int = 0,
    other: int = 0,
    deliveries: int = 0,
) -> Entry:
    """An entry of this moment."""
    return Entry(kind, flag, min(deliveries, 65535), who, other, a, b, c, time.monotonic_ns())


def read(directory: Path, actor: int) -> Iterator[Entry]:
    """What the actor wrote, in order."""
    path = directory / f"{actor}.ledger"
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) - len(data) % _ENTRY.size
    return (Entry(*row) for row in _ENTRY.iter_unpack(data[:whole]))


def faults(directory: Path, actor: int) -> list[str]:
    """What the actor found wrong by itself."""
    path = directory / f"{actor}.faults"
    return path.read_text(errors="replace").splitlines() if path.exists() else []
