"""What no bus can beat: the two `memcpy`s of raw data, and encoding and decoding JSON with nothing in between."""

from __future__ import annotations

import ctypes
import time
from itertools import repeat

import orjson

from benchmarks.crew import Control, Crew, cpu_seconds, places
from benchmarks.load import PATH, Load
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.throughput import Case, Outcome

_BATCH = 256
_BATCH_BYTES = 2**18
"""What a subscription reads at once of large events; more would not stay in a cache."""
_WARM_UP_BYTES = 4 * 2**20

_MOST_BYTES = 64 * 2**20
_SEVERAL = 8
_RING_BYTES = 16 * 2**20
"""As much as a ring of eventbus holds by default: more than the caches next to a core."""


def run(peer: Peer, case: Case, events: int | None, seconds: float, spread: bool) -> Outcome:
    """Measure one of the floors; the arguments are those of `throughput.run`."""
    if peer in (COPIES, COPY):
        return _copied(peer, case, events, seconds)
    return _coded(case, events, seconds, spread)


def _coded(case: Case, events: int | None, seconds: float, spread: bool) -> Outcome:
    if events is None:
        warmed = _coded_round(case, case.whole(_WARM_UP_BYTES / case.load.size), spread)
        events = case.whole(warmed.rate * seconds)
    return _coded_round(case, events, spread)


def _coded_round(case: Case, events: int, spread: bool) -> Outcome:
    """Every publisher encodes its events while every subscriber decodes what it would hear, in batches."""
    share = events // case.publishers
    topology = case.topology()
    cpus = places(case.publishers + len(case.systems), spread)
    with Crew() as crew:
        for index, cpu in enumerate(cpus[: case.publishers]):
            crew.start(f"{CODEC.name} publisher {index}", _encode, case.load, index, share, cpu=cpu)
        for index, cpu in enumerate(cpus[case.publishers :]):
            due = topology.share(index, share).events * case.publishers
            crew.start(f"{CODEC.name} subscriber {index}", _decode, case.load, due, cpu=cpu)
        crew.meet("ready")
        spent = crew.results()
    nanoseconds = max(last for _, last, _ in spent) - min(first for first, _, _ in spent)
    return Outcome(events, nanoseconds / 1e9, sum(cpu for _, _, cpu in spent), case.deliveries(events))


_Spent = tuple[int, int, float]
"""When a worker began and ended, in nanoseconds, and its CPU seconds."""


def _encode(control: Control, load: Load, index: int, events: int) -> _Spent:
    made, dumps = load.events(index, range(events)), orjson.dumps
    control.meet("ready")
    before, first = cpu_seconds(), time.monotonic_ns()
    for data in made:
        dumps((PATH, data))
    return first, time.monotonic_ns(), cpu_seconds() - before


def _decode(control: Control, load: Load, events: int) -> _Spent:
    size, loads = max(1, min(_BATCH, _BATCH_BYTES // load.size)), orjson.loads
    batch = b"[%s]" % b",".join(orjson.dumps((PATH, data))[1:-1] for data in load.events(0, range(size)))
    control.meet("ready")
    before, first = cpu_seconds(), time.monotonic_ns()
    for text in repeat(batch, -(-events // size)):
        for data in loads(text)[1::2]:
            data["number"]
    return first, time.monotonic_ns(), cpu_seconds() - before


def _copied(peer: Peer, case: Case, events: int | None, seconds: float) -> Outcome:
    """Copy as many events, or as many as fill ``seconds``, in one fresh process.

    Returns:
        An outcome as if each event had been delivered once, after its copies.
    """
    out, warm_up = peer is COPIES, max(_MOST_BYTES // case.load.size, 1)
    with Crew() as crew:
        crew.start(peer.name, _copies, case.load.size, warm_up, out)
        (warmed,) = crew.results()
    with Crew() as crew:
        due = events or max(int(warm_up * seconds / warmed), warm_up)
        crew.start(peer.name, _copies, case.load.size, due, out)
        (spent,) = crew.results()
    return Outcome(due, spent, spent, due)


def _copies(_control: Control, size: int, events: int, out: bool) -> float:
    room = max(_RING_BYTES, _SEVERAL * size)
    ring, event = ctypes.create_string_buffer(room), ctypes.create_string_buffer(size)
    memmove, base, here = ctypes.memmove, ctypes.addressof(ring), ctypes.addressof(event)
    places = range(base, base + room - size, size)
    ctypes.memset(ring, 1, room)
    start, left = time.thread_time_ns(), events
    while left > 0:
        # Round by round in and out again: each copy finds the other side where the ring's size has left it.
        for place in places[:left]:
            memmove(place, here, size)
        for place in places[:left] if out else ():
            memmove(here, place, size)
        left -= len(places)
    return (time.thread_time_ns() - start) / 1e9


def _none(_topology: Topology) -> Medium:
    raise LookupError("a floor carries no events: call floor.run")


COPIES = Peer(
    "two memcpys", None, _none, lambda topology: None if topology.raw else "it copies bytes and knows no JSON"
)
COPY = Peer("one memcpy", None, _none, lambda topology: None if topology.raw else "it copies bytes and knows no JSON")
CODEC = Peer("orjson, no bus", None, _none, lambda topology: "raw data needs no codec" if topology.raw else None)
FLOORS = (COPIES, CODEC)
ALL = (*FLOORS, COPY)
