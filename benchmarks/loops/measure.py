"""One repetition of a stream into an event loop: a burst at full speed, or events one by one."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

from benchmarks.crew import Control, Crew, cpu_seconds, places
from benchmarks.handshake import introduce, lead, listen
from benchmarks.latency import Timing, complete, measured
from benchmarks.load import SYSTEM, JsonLoad
from benchmarks.loops.ends import Streaming
from benchmarks.peer import Medium, Peer, Topology

_WARM_UP_EVENTS = 5_000
_FEWEST_EVENTS = 200


def burst(peer: Peer, events: int, seconds: float, spread: bool) -> dict[str, float]:
    """Measure how fast one loop takes what a publisher in another process sends at full speed.

    Args:
        peer: what carries the events.
        events: how many.
        seconds: for how long at most: whom all of them would take longer, at the rate of the warm-up, gets fewer.
        spread: whether each process is kept on one CPU, the publisher on the first.
    """
    load = JsonLoad()
    cpus = places(2, spread)
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} listener", take, medium, load, cpu=cpus[1])
        crew.start(f"{peer.name} publisher", send, medium, load, cpu=cpus[0])
        lead(crew)
        warm_up = min(_WARM_UP_EVENTS, events)
        spent, _ = _round(crew, medium, warm_up)
        events = min(events, max(int(warm_up / spent * seconds), _FEWEST_EVENTS))
        spent, cpu = _round(crew, medium, events)
        crew.results()
    return {"events/s": events / spent, "CPU s/M": cpu / events * 1e6, "CPUs busy": cpu / spent, "events": events}


def _round(crew: Crew, medium: Medium, events: int) -> tuple[float, float]:
    """Return the seconds from the first send to the last arrival, and the CPU seconds of all processes in them."""
    crew.meet("ready", events)
    server = medium.server_seconds()
    last, first = crew.meet("complete")
    cpu = medium.server_seconds() - server + sum(crew.gather("spent"))
    return (last - first) / 1e9, cpu


def send(control: Control, medium: Streaming, load: JsonLoad) -> None:
    """The publisher of a burst."""
    with medium.publisher(0) as publisher:
        introduce(control, publisher, 0, load, (SYSTEM,))
        for _ in ("warm-up", "measured"):
            events = control.meet("ready")
            before, first = cpu_seconds(), time.monotonic_ns()
            publisher.send_all(load.events(0, range(events)))
            control.meet("complete", first)
            control.post("spent", cpu_seconds() - before)


def take(control: Control, medium: Streaming, load: JsonLoad) -> None:
    """The listener of a burst."""
    with medium.listener() as listener:
        listen(control, listener.one_by_one(), load, {0})
        for _ in ("warm-up", "measured"):
            events = control.meet("ready")
            before = cpu_seconds()
            listener.check(events)
            last, spent = time.monotonic_ns(), cpu_seconds() - before
            control.meet("complete", last)
            control.post("spent", spent)


def oneway(peer: Peer, warm_up: int, events: int, rate: int, cpus: Sequence[int | None]) -> Timing:
    """Measure the time from before a send until a loop has the event, of events sent at ``rate`` per second.

    Args:
        peer: what carries the events.
        warm_up: events before the measured ones.
        events: events to measure.
        rate: events a second.
        cpus: the CPU of the publisher and of the loop; ``None`` leaves that to the kernel.
    """
    load = JsonLoad()
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} listener", _time, medium, load, (warm_up, events), cpu=cpus[1])
        crew.start(f"{peer.name} publisher", _send_paced, medium, load, (warm_up, events), rate, cpu=cpus[0])
        lead(crew)
        return measured(crew, medium)


def _send_paced(control: Control, medium: Streaming, load: JsonLoad, counts: tuple[int, int], rate: int) -> None:
    with medium.publisher(0) as publisher:
        introduce(control, publisher, 0, load, (SYSTEM,))
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            publisher.send_paced(load.events(0, range(count)), 1e9 / rate)
            complete(control, before)


def _time(control: Control, medium: Streaming, load: JsonLoad, counts: tuple[int, int]) -> array[int]:
    with medium.listener() as listener:
        listen(control, listener.one_by_one(), load, {0})
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            times = listener.arrivals(count)
            complete(control, before)
    return times
