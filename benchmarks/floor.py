"""The floor for raw data: what two `memcpy`s of an event cost, one into a ring and one out of it."""

from __future__ import annotations

import ctypes
import time

from benchmarks.crew import Control, Crew
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.throughput import Case, Outcome

_RING_BYTES = 16 * 2**20
"""As much as a ring of eventbus holds by default: more than the caches next to a core."""


def run(case: Case, events: int | None, seconds: float) -> Outcome:
    """Copy as many events, or as many as fill ``seconds``, in one fresh process.

    Returns:
        An outcome as if each event had been delivered once, after its two copies.
    """
    with Crew() as crew:
        crew.start(FLOOR.name, _copies, case.load.size, 1000)
        (warmed,) = crew.results()
    with Crew() as crew:
        due = events or max(int(1000 * seconds / warmed), 1000)
        crew.start(FLOOR.name, _copies, case.load.size, due)
        (spent,) = crew.results()
    return Outcome(due, spent, spent, due)


def _copies(_control: Control, size: int, events: int) -> float:
    ring, event = ctypes.create_string_buffer(_RING_BYTES), ctypes.create_string_buffer(size)
    memmove, base, here = ctypes.memmove, ctypes.addressof(ring), ctypes.addressof(event)
    places = range(base, base + _RING_BYTES - size, size)
    ctypes.memset(ring, 1, _RING_BYTES)
    start, left = time.thread_time_ns(), events
    while left > 0:
        # Round by round in and out again: each copy finds the other side where the ring's size has left it.
        for place in places[:left]:
            memmove(place, here, size)
        for place in places[:left]:
            memmove(here, place, size)
        left -= len(places)
    return (time.thread_time_ns() - start) / 1e9


def _none(_topology: Topology) -> Medium:
    raise LookupError("the floor carries no events: call floor.run")


def _refuses(topology: Topology) -> str | None:
    return None if topology.raw else "it copies bytes and knows no JSON"


FLOOR = Peer("two memcpys", None, _none, _refuses)
