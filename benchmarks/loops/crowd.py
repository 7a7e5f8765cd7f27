"""Many subscriptions of the bus in one loop: what they cost who sends, and what they cost while nothing comes."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Sequence

from benchmarks.crew import Control, Crew, cpu_seconds, cpu_seconds_of
from benchmarks.latency import Timing, complete, measured
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad
from benchmarks.loops.bus import LoopMedium
from benchmarks.loops.registry import NOBODY
from benchmarks.peer import Peer, Topology, paced

_SETTLING_SECONDS = 0.5
_WAKERS = ("socket:", "pipe:", "anon_inode:[eventfd]")
"""What a descriptor that could wake a loop is called in /proc."""


def sends(peer: Peer, listeners: int, counts: tuple[int, int], rate: int, cpus: Sequence[int | None]) -> Timing:
    """Measure how long `send` takes, at ``rate`` a second, while so many subscriptions of another process hear all.

    Args:
        peer: in whose loop they wait; or a bus that nobody listens to.
        listeners: how many subscriptions.
        counts: events of the warm-up, and to measure.
        rate: events a second.
        cpus: the CPU of the publisher and of the loop; ``None`` leaves that to the kernel.
    """
    load = JsonLoad()
    listeners = 0 if peer.name == NOBODY else listeners
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} crowd", _hear, medium, listeners, counts, cpu=cpus[1])
        crew.start(f"{peer.name} publisher", _time_sends, medium, load, counts, rate, cpu=cpus[0])
        crew.meet("joined")
        return measured(crew, medium)


def _hear(control: Control, medium: LoopMedium, listeners: int, counts: tuple[int, int]) -> None:
    with medium.crowd(listeners) as crowd:
        crowd.join()
        control.meet("joined")
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            crowd.check(count)
            complete(control, before)


def _time_sends(control: Control, medium: LoopMedium, load: JsonLoad, counts: tuple[int, int], rate: int) -> array[int]:
    control.meet("joined")
    now = time.monotonic_ns
    with medium.publisher(0) as publisher:
        send = publisher.send
        for count in counts:
            control.meet("ready")
            before, times = cpu_seconds(), array("q")
            for data in paced(load.events(0, range(count)), 1e9 / rate):
                start = now()
                send(SYSTEM, KIND, PATH, data)
                times.append(now() - start)
            complete(control, before)
    return times


def idle(peer: Peer, listeners: int, seconds: float) -> dict[str, float]:
    """Measure a process whose subscriptions all wait: its CPU, and the descriptors that it has for them.

    Returns:
        CPU microseconds per second; sockets, pipes and eventfds, and descriptors of all sorts, beyond those of a loop
        without a bus. Each subscription has one of the latter for its slot.
    """
    load = JsonLoad()
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} crowd", _wait, medium, listeners)
        crew.start(f"{peer.name} publisher", _end_wait, medium, load)
        pid, _ = crew.gather("made")
        bare = _descriptors(pid)
        crew.answer()
        crew.meet("joined")
        crew.gather("waiting")
        time.sleep(_SETTLING_SECONDS)
        before, start = cpu_seconds_of(pid), time.monotonic()
        time.sleep(seconds)
        spent, lasted = cpu_seconds_of(pid) - before, time.monotonic() - start
        waiting = _descriptors(pid)
        crew.answer()
        crew.results()
    wakers = _wakers(waiting) - _wakers(bare)
    return {"CPU µs/s": spent / lasted * 1e6, "sockets": wakers, "descriptors": len(waiting) - len(bare)}


def _descriptors(pid: int) -> list[str]:
    directory = f"/proc/{pid}/fd"
    return [os.readlink(f"{directory}/{descriptor}") for descriptor in os.listdir(directory)]


def _wakers(descriptors: list[str]) -> int:
    return sum(descriptor.startswith(_WAKERS) for descriptor in descriptors)


def _wait(control: Control, medium: LoopMedium, listeners: int) -> None:
    with medium.crowd(listeners) as crowd:
        crowd.run(_made(control))
        crowd.join()
        control.meet("joined")
        control.post("waiting")
        crowd.check(1)
        control.answer()


async def _made(control: Control) -> None:
    """The loop runs while its descriptors are counted: some have more of them then."""
    control.meet("made", os.getpid())


def _end_wait(control: Control, medium: LoopMedium, load: JsonLoad) -> None:
    control.meet("made")
    control.meet("joined")
    with medium.publisher(0) as publisher:
        control.post("waiting")
        control.answer()
        for data in load.events(0, [0]):
            publisher.send(SYSTEM, KIND, PATH, data)
