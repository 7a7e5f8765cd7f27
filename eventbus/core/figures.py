"""Figures: what came to a subscription, as it counts that in shared memory itself."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

from eventbus.core.native import lib

BUCKETS: int = lib.EB_DELAYS
ENDS: tuple[float, ...] = tuple(lib.eb_delay_end(bucket) / 1e9 for bucket in range(BUCKETS - 1))
"""Seconds at which each bucket ends but the last one, which has no end: two for each doubling from a microsecond on."""


class Delays(NamedTuple):
    """How long events took from being sent to being handed out, of those that were measured.

    A subscription measures all events of a batch together, by one look at the clock when it takes the batch out of the
    ring, and not more often than in each 20 microseconds of sending: so under load these are a sample. What an event
    then waits in the batch, behind others of it, is not in it, nor how long it is handled.

    Attributes:
        total: seconds, of all of them.
        counts: how many there were in each bucket; ``figures.ENDS`` says where the buckets end.
    """

    total: float
    counts: tuple[int, ...]

    @property
    def measured(self) -> int:
        """How many were measured."""
        return sum(self.counts)

    def plus(self, other: Delays) -> Delays:
        """Those of two subscriptions."""
        return Delays(self.total + other.total, tuple(map(int.__add__, self.counts, other.counts)))

    def since(self, before: Delays) -> Delays:
        """Those that came since another reading of the same subscription."""
        return Delays(self.total - before.total, tuple(map(int.__sub__, self.counts, before.counts)))

    def quantile(self, share: float) -> float | None:
        """Seconds that so large a share of them took at most, as near as the buckets tell; None if there were none.

        Args:
            share: 0.5 for the median, 0.99 for the time that one of a hundred took longer than.
        """
        wanted, begin = share * self.measured, 0.0
        for end, count, up_to in zip((*ENDS, ENDS[-1]), self.counts, accumulate(self.counts), strict=True):
            if count > 0 and up_to >= wanted:
                return begin + (end - begin) * (wanted - (up_to - count)) / count
            begin = end
        return None


class Received(NamedTuple):
    """What came to a subscription, as of its last batch.

    Attributes:
        events, bytes: that it received; the bytes of their paths, data and headers, as they stand in the ring.
        wakes: how often it slept, or lay down in an event loop, and looked again.
        skipped: events that it passed because it does not hear them; of a member of a group 0, whose group does that.
        delays: of the events.
    """

    events: int
    bytes: int
    wakes: int
    skipped: int
    delays: Delays


NOTHING = Received(0, 0, 0, 0, Delays(0.0, (0,) * BUCKETS))


def received(seen: Any) -> Received:
    """What C has read, an eb_received."""
    delays = Delays(seen.delay_ns / 1e9, tuple(seen.delays))
    return Received(seen.events, seen.bytes, seen.wakes, seen.skipped, delays)
