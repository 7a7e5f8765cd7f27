"""One repetition of a latency benchmark: round trips between two processes, or paced one-way events."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.crew import Control, Crew, cpu_seconds
from benchmarks.handshake import introduce, lead, listen
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad, wrong
from benchmarks.peer import Medium, Peer, Publisher, Topology

_PING = "ping"
_PONG = "pong"


@dataclass(frozen=True)
class Timing:
    """What one repetition measured: nanoseconds per event or round trip, and the CPU seconds of all processes."""

    nanoseconds: array[int]
    cpu: float


def pingpong(peer: Peer, warm_up: int, trips: int, cpus: Sequence[int | None]) -> Timing:
    """Measure round trips of one event between two processes.

    Args:
        peer: what carries the events.
        warm_up: round trips before the measured ones.
        trips: round trips to measure.
        cpus: the CPU of each process; ``None`` leaves that to the kernel.
    """
    load = JsonLoad()
    topology = Topology(2, (_PONG, _PING), load.size)
    with peer.connect(topology) as medium, Crew() as crew:
        crew.start(f"{peer.name} ping", _ping, medium, load, (warm_up, trips), cpu=cpus[0])
        crew.start(f"{peer.name} pong", _pong, medium, load, (warm_up, trips), cpu=cpus[1])
        lead(crew)
        lead(crew)
        return measured(crew, medium)


def oneway(peer: Peer, warm_up: int, events: int, rate: int, cpus: Sequence[int | None]) -> Timing:
    """Measure the time from before `send` to after `receive` of events sent at ``rate`` per second."""
    load = JsonLoad()
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} subscriber", _time_arrivals, medium, load, (warm_up, events), cpu=cpus[1])
        crew.start(f"{peer.name} publisher", _send_paced, medium, load, (warm_up, events), rate, cpu=cpus[0])
        lead(crew)
        return measured(crew, medium)


def measured(crew: Crew, medium: Medium) -> Timing:
    """Lead a crew through two rounds of "ready" and `complete`; one of its bodies returns the times of the second."""
    for _ in ("warm-up", "measured"):
        crew.meet("ready")
        server = medium.server_seconds()
        crew.meet("complete")
        cpu = medium.server_seconds() - server + sum(crew.gather("spent"))
    nanoseconds = next(result for result in crew.results() if result is not None)
    return Timing(nanoseconds, cpu)


def _ping(control: Control, medium: Medium, load: JsonLoad, counts: tuple[int, int]) -> array[int]:
    with medium.publisher(0) as publisher, medium.subscriber(0) as subscriber:
        received = subscriber.received()
        introduce(control, publisher, 0, load, (_PING,))
        listen(control, received, load, {1})
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            times = _trips(publisher, received, load, count)
            complete(control, before)
    return times


def _trips(publisher: Publisher, received: Iterator[Any], load: JsonLoad, count: int) -> array[int]:
    times = array("q")
    now, send = time.monotonic_ns, publisher.send
    for number, data in enumerate(load.events(0, range(count))):
        sent = now()
        send(_PING, KIND, PATH, data)
        answer = next(received)
        times.append(now() - sent)
        if answer["number"] != number:
            raise wrong(number, answer["number"])
    return times


def _pong(control: Control, medium: Medium, load: JsonLoad, counts: tuple[int, int]) -> None:
    with medium.publisher(1) as publisher, medium.subscriber(1) as subscriber:
        received = subscriber.received()
        listen(control, received, load, {0})
        introduce(control, publisher, 1, load, (_PONG,))
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            _echo(publisher, received, count)
            complete(control, before)


def _echo(publisher: Publisher, received: Iterator[Any], count: int) -> None:
    send = publisher.send
    for due in range(count):
        data = next(received)
        if data["number"] != due:
            raise wrong(due, data["number"])
        send(_PONG, KIND, PATH, data)


def _send_paced(control: Control, medium: Medium, load: JsonLoad, counts: tuple[int, int], rate: int) -> None:
    with medium.publisher(0) as publisher:
        introduce(control, publisher, 0, load, (SYSTEM,))
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            publisher.send_paced(load.events(0, range(count)), 1e9 / rate)
            complete(control, before)


def _time_arrivals(control: Control, medium: Medium, load: JsonLoad, counts: tuple[int, int]) -> array[int]:
    with medium.subscriber(0) as subscriber:
        received = subscriber.received()
        listen(control, received, load, {0})
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            times = _arrivals(received, count)
            complete(control, before)
    return times


def _arrivals(received: Iterator[Any], count: int) -> array[int]:
    times = array("q")
    now = time.monotonic_ns
    for due in range(count):
        data = next(received)
        times.append(now() - data["sent"])
        if data["number"] != due:
            raise wrong(due, data["number"])
    return times


def complete(control: Control, before: float) -> None:
    """End a round, at whose beginning the worker had used ``before`` CPU seconds."""
    control.meet("complete")
    control.post("spent", cpu_seconds() - before)
