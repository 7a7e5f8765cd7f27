"""Workers that share the events of one publisher out among them: at full speed, and when one of them is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from benchmarks.crew import DEADLINE_SECONDS, Control, Crew, CrewError, cpu_seconds, places
from benchmarks.handshake import introduce, lead
from benchmarks.latency import Timing
from benchmarks.load import KIND, PATH, PROBE, SYSTEM, JsonLoad, OrderError
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.peers import pools
from benchmarks.throughput import Case, Outcome
from eventbus import Bus, Subscription, unlink
from eventbus import open as open_bus

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

WORKERS = 4
JOB_SECONDS = 1.0
"""How long the long one takes, of which one worker has a single one."""


@dataclass(frozen=True)
class Work:
    """How the workers work.

    Attributes:
        name: as shown in the tables.
        prefetch: how many events a worker may fetch at once.
        manual: whether it acknowledges each by itself.
        long: whether the first event of one of them takes ``JOB_SECONDS``, beside all others, which take none: the rate
            is that of these, up to the last of them, so it tells whether any waits behind the long one.
    """

    name: str
    prefetch: int
    manual: bool = False
    long: bool = False


WORKS = (
    Work("prefetch 1", 1),
    Work("prefetch 64", 64),
    Work("prefetch 64, each acknowledged by itself", 64, manual=True),
    Work(f"prefetch 1, one job of {JOB_SECONDS:g} s", 1, long=True),
)
PLACES = {"idle": False, "busy": True}
"""What the survivor does when another is killed: it waits, or it is given events without end."""

_WARM_UP_EVENTS = 5_000
_WARM_UP_JOBS = 500
_ENDS = (-3, -4)
"""Numbers that end the warm-up and the measured part; marks of what is over may still come and are passed over."""

_MOMENTS_SECONDS = 0.05
"""A kill comes at any moment of so long a time: longer than a lone idle member goes without a look at the others."""


# --- full speed ---


def topology(load: JsonLoad, work: Work) -> Topology:
    """Return the topology: one publisher, and one system whose events the workers share."""
    return Topology(1, (SYSTEM,), load.size, prefetch=work.prefetch, manual=work.manual)


def measure(
    peer: Peer, load: JsonLoad, work: Work, events: int | None, seconds: float, spread: bool
) -> dict[str, float]:
    """Run one repetition in fresh processes; every event must have been handled exactly once.

    Args:
        peer: one of `peers.sharing`, or of `pools.POOLS`.
        load: what is sent.
        work: how the workers work; pools fetch in chunks, and know nothing else of it.
        events: events to measure, or ``None`` for as many as fill ``seconds`` at the rate of the warm-up.
        seconds: how long the measured part is to be, where ``events`` does not say.
        spread: whether each process is kept on one CPU, in turn, the publisher first.

    Raises:
        OrderError: an event was lost, or handled twice.
    """
    whole = Case("", load, 1, (SYSTEM,)).whole

    def amount(rate: float) -> int:
        return whole(rate * seconds if events is None else events)

    if peer in pools.POOLS:
        jobs, numbers, spent = pools.run(peer, load, WORKERS, work.prefetch, _WARM_UP_JOBS, amount)
        check_once([numbers], jobs)
        return {"events/s": jobs / spent, "events": jobs}
    outcome = _run(peer, load, work, amount, spread)
    figures = {"events/s": outcome.rate, "CPU s/M": outcome.cpu_per_million}
    return {**figures, "CPUs busy": outcome.cpu / outcome.seconds, "events": outcome.events}


def check_once(numbers: Iterable[Iterable[int]], events: int) -> None:
    """Check what the workers handled between them.

    Args:
        numbers: those of the events that each worker handled.
        events: how many were sent, numbered from 0.

    Raises:
        OrderError: it is not each event exactly once.
    """
    handled = sorted(chain.from_iterable(numbers))
    if handled != list(range(events)):
        raise OrderError(
            f"{events} events were sent, {len(handled)} handled, {len(set(handled))} of them different: "
            "look for a loss or a repetition in this peer"
        )


def _run(peer: Peer, load: JsonLoad, work: Work, amount: Callable[[float], int], spread: bool) -> Outcome:
    with peer.connect(topology(load, work)) as medium, Crew() as crew:
        cpus = places(1 + WORKERS, spread)
        for index, cpu in enumerate(cpus[1:]):
            crew.start(f"{peer.name} worker {index}", _work, medium, index, work.long and index == 0, cpu=cpu)
        crew.start(f"{peer.name} publisher", _publish, medium, load, cpu=cpus[0])
        lead(crew)
        warmed = _round(crew, medium, _WARM_UP_EVENTS)
        measured = _round(crew, medium, amount(warmed.rate))
        crew.results()
    return measured


def _round(crew: Crew, medium: Medium, events: int) -> Outcome:
    crew.meet("ready", events)
    server = medium.server_seconds()
    *lasts, first = crew.meet("complete")
    server = medium.server_seconds() - server
    done = crew.gather("done")
    check_once((numbers for _, numbers in done), events)
    cpu = server + sum(spent for spent, _ in done)
    return Outcome(events, (max(lasts) - first) / 1e9, cpu, events)


def _publish(control: Control, medium: Medium, load: JsonLoad) -> None:
    # So many marks end everybody's part: a worker fetches no more of them at once than its share.
    marks = WORKERS * medium.topology.prefetch
    with medium.publisher(0) as publisher:
        introduce(control, publisher, 0, load, (SYSTEM,))
        send = publisher.send
        for end in _ENDS:
            events = control.meet("ready")
            before = cpu_seconds()
            first = time.monotonic_ns()
            for data in load.events(0, chain(range(events), repeat(end, marks))):
                send(SYSTEM, KIND, PATH, data)
            control.meet("complete", first)
            control.post("done", (cpu_seconds() - before, ()))


def _work(control: Control, medium: Medium, index: int, long: bool) -> None:
    with medium.subscriber(index) as subscriber:
        received = subscriber.received()
        control.meet("connected")
        _numbers_until(received, PROBE)
        control.meet("heard")
        for end in _ENDS:
            control.meet("ready")
            before = cpu_seconds()
            if long and end == _ENDS[-1]:
                numbers, last = _one_long(received, end)
            else:
                numbers, last = _numbers_until(received, end), time.monotonic_ns()
            spent = cpu_seconds() - before
            control.meet("complete", last)
            control.post("done", (spent, array("q", numbers)))


def _one_long(received: Iterator[Any], end: int) -> tuple[list[int], int]:
    """The first event takes long. The time is when the last of the others was done here: 0 for none."""
    numbers: list[int] = []
    last = 0
    for data in received:
        number = data["number"]
        if number >= 0 and not numbers:
            time.sleep(JOB_SECONDS)  # the job itself
        elif number >= 0:
            last = time.monotonic_ns()
        elif number == end:
            break
        if number >= 0:
            numbers.append(number)
    return numbers, last


def _numbers_until(received: Iterator[Any], end: int) -> list[int]:
    numbers: list[int] = []
    for data in received:
        number = data["number"]
        if number >= 0:
            numbers.append(number)
        elif number == end:
            break
    return numbers


# --- the death of a worker ---


def redelivery(kills: int, busy: bool) -> Timing:
    """Measure the time from the SIGKILL of a worker with an event in hand to when another worker has that event.

    Args:
        kills: how many workers to kill, one after the other.
        busy: whether the other worker is given events without end, or waits for its first.

    Raises:
        OrderError: another event came again than the one that the dead had in hand, or with another count.
    """
    name, moments, times = f"benchmark-{os.getpid()}-redelivery", random.Random(0), array("q")
    try:
        with Crew() as crew:
            crew.start("survivor", _survive, name, kills, busy)
            crew.meet("connected")
            for number in range(kills):
                with _holding(name, number) as doomed:
                    crew.meet("ready")
                    # Nothing is waited for here: this picks a moment between two looks of the survivor.
                    time.sleep(moments.uniform(0, _MOMENTS_SECONDS))
                    killed = time.monotonic_ns()
                    doomed.kill()
                    (redelivered,) = crew.meet("redelivered")
                    times.append(redelivered - killed)
            (cpu,) = crew.results()
    finally:
        with suppress(FileNotFoundError):
            unlink(name)
    return Timing(times, cpu)


@contextmanager
def _holding(name: str, number: int) -> Iterator[ForkProcess]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(theirs, name, number), daemon=True)
    process.start()
    theirs.close()
    try:
        held = _told(ours)
        if held != number:
            raise CrewError(f"the worker to be killed, pid {process.pid}, holds {held} instead of event {number}")
        yield process
    finally:
        process.kill()
        process.join()
        ours.close()


def _told(line: Connection) -> object:
    try:
        return line.recv() if line.poll(DEADLINE_SECONDS) else "nothing yet"
    except EOFError:
        return "nothing, as it died,"


def _hold(line: Connection, name: str, number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bus = open_bus(name)
    member = _joined(bus)
    bus.send(SYSTEM, KIND, PATH, number)
    event = member.receive(DEADLINE_SECONDS)
    line.send(event and event.data)
    line.poll(DEADLINE_SECONDS)


def _survive(control: Control, name: str, kills: int, busy: bool) -> float:
    with open_bus(name) as bus, _joined(bus) as member:
        control.meet("connected")
        before = cpu_seconds()
        for number in range(kills):
            control.meet("ready")
            redelivered = _redelivered(bus, member, number, busy)
            # What it sent for itself is not for the next to be killed, so it is taken before the harness starts that
            # one: taken later, the event of the next could be among it.
            while member.receive(0):
                pass
            control.meet("redelivered", redelivered)
        return cpu_seconds() - before


def _redelivered(bus: Bus, member: Subscription, number: int, busy: bool) -> int:
    while True:
        if busy:
            bus.send(SYSTEM, KIND, PATH)
        event = member.receive(DEADLINE_SECONDS)
        now = time.monotonic_ns()
        if event is None or event.data is not None:
            break
    if event is None or (event.data, event.deliveries) != (number, 2):
        raise OrderError(f"event {number} was due for the second time and {event} came: look at the take-over")
    return now


def _joined(bus: Bus) -> Subscription:
    return bus.subscribe(SYSTEM, group="workers")
