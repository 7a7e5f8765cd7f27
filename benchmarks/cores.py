"""What limits the bus with more CPUs than there are here: a model of its rate, from costs that are measured here.

Four things bound the events per second: what one publisher can send, how soon one publisher follows another at the
publish lock, what one subscriber can take, and the CPU time of all. The model takes the least of them. It knows nothing
of switches between processes, nor of memory that is further away from some CPUs than from others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from benchmarks.crew import Control, Crew, cpu_seconds, places
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.report import Figure, Row
from benchmarks.throughput import Case

HERE = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1), (4, 4))
"""Publishers and subscribers that are measured beside the model."""
BEYOND = {16: ((1, 15), (4, 1), (8, 8)), 64: ((1, 63), (4, 1), (32, 32))}
"""CPUs, and what the model says of them."""

_WARM_UP = 5_000


@dataclass(frozen=True)
class Costs:
    """Nanoseconds per event.

    Attributes:
        send: CPU time of a publisher that is alone.
        turn: from one event to the next when two publishers send as fast as they can.
        beside: CPU time of a publisher that is not alone, waiting for its turn included.
        delivery: CPU time of a subscriber.
    """

    send: float
    turn: float
    beside: float
    delivery: float


@dataclass(frozen=True)
class Bound:
    """Events per second, and what does not let them be more."""

    rate: float
    by: str


def bound(costs: Costs, publishers: int, subscribers: int, cpus: int) -> Bound:
    """Return the least of the four bounds. Whoever sends less often than it could is never in another's way."""
    alone = publishers == 1
    sending = costs.send if alone else costs.beside
    bounds = [
        Bound(cpus * 1e9 / (sending + subscribers * costs.delivery), "CPUs"),
        Bound(1e9 / costs.delivery if subscribers else inf, "a subscriber"),
        Bound(1e9 / costs.send, "the publisher") if alone else Bound(1e9 / costs.turn, "turns at the lock"),
    ]
    return min(bounds, key=lambda one: one.rate)


def cases() -> list[Case]:
    """Return what is measured beside the model."""
    return [Case(_title(*ends), JsonLoad(), ends[0], (SYSTEM,) * ends[1]) for ends in HERE]


def sending(peer: Peer, events: int) -> dict[tuple[str, str], float]:
    """Measure what one and what two publishers spend on an event that nobody hears, in nanoseconds by case and step."""
    taken, alone = _sent(peer, 1, events)
    turn, beside = _sent(peer, 2, events)
    return {("1 → 0", "send"): alone, ("1 → 0", "turn"): taken, ("2 → 0", "send"): beside, ("2 → 0", "turn"): turn}


def _sent(peer: Peer, publishers: int, events: int) -> tuple[float, float]:
    """Return the time from one event to the next, and the CPU time of one."""
    with peer.connect(Topology(publishers, (SYSTEM,), JsonLoad().size)) as medium, Crew() as crew:
        for index, cpu in enumerate(places(publishers, True)):
            crew.start(f"{peer.name} publisher {index}", _send, medium, index, events // publishers, cpu=cpu)
        crew.meet("ready")
        spent = crew.results()
    first, last = min(begun for begun, _, _ in spent), max(ended for _, ended, _ in spent)
    return (last - first) / events, sum(cpu for _, _, cpu in spent) * 1e9 / events


def _send(control: Control, medium: Medium, index: int, events: int) -> tuple[int, int, float]:
    load = JsonLoad()
    with medium.publisher(index) as publisher:
        for data in load.events(index, range(_WARM_UP)):
            publisher.send(SYSTEM, KIND, PATH, data)
        control.meet("ready")
        before, first = cpu_seconds(), time.monotonic_ns()
        for data in load.events(index, range(events)):
            publisher.send(SYSTEM, KIND, PATH, data)
        return first, time.monotonic_ns(), cpu_seconds() - before


def costs_of(sent: list[Row], measured: list[Row]) -> Costs:
    """Return the costs by the medians of `sending`, and of the case with one publisher and one subscriber."""
    median = {(row.case, row.peer): row.figures["ns"].median for row in sent}
    send = median["1 → 0", "send"]
    together = measured[HERE.index((1, 1))].figures["CPU s/M"].median * 1e3
    return Costs(send, median["2 → 0", "turn"], median["2 → 0", "send"], max(together - send, 1.0))


def beside(costs: Costs, measured: list[Row]) -> Iterator[Row]:
    """Yield each case that was measured with what the model says of it, then what it says of more CPUs."""
    here = len(os.sched_getaffinity(0))
    for ends, row in zip(HERE, measured, strict=True):
        said = bound(costs, *ends, here)
        rate, model = row.figures["events/s"], Figure((said.rate,))
        figures = {"model, events/s": model, "measured": rate}
        figures["measured / model"] = Figure(tuple(value / said.rate for value in rate.values))
        yield replace(row, peer=_where(here, said), figures=figures)
    for cpus, several in BEYOND.items():
        for ends in several:
            said = bound(costs, *ends, cpus)
            yield Row(_title(*ends), _where(cpus, said), {"model, events/s": Figure((said.rate,))})


def _title(publishers: int, subscribers: int) -> str:
    return f"{publishers} → {subscribers}"


def _where(cpus: int, said: Bound) -> str:
    return f"{cpus} CPUs: {said.by}"
