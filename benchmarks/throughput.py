"""One repetition of a throughput benchmark: publishers at full speed, every subscriber counted and checked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchmarks.crew import Control, Crew, cpu_seconds, places
from benchmarks.handshake import introduce, lead, listen
from benchmarks.load import KIND, PATH, Load
from benchmarks.peer import Medium, Peer, Topology

_FEWEST = 200
_MOST_BYTES = 256 * 2**20
"""A peer without bounds may have to keep every event of a repetition in memory."""


@dataclass(frozen=True)
class Case:
    """One topology with one load.

    Attributes:
        title: as shown in the tables.
        load: what is sent.
        publishers: how many send, each the same number of events.
        systems: what each subscriber hears; events go round robin over the different ones.
        sent: the systems that events are sent to, where ``systems`` are patterns that hear all of them.
    """

    title: str
    load: Load
    publishers: int
    systems: tuple[str, ...]
    sent: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.title

    def topology(self) -> Topology:
        return Topology(self.publishers, self.systems, self.load.size, self.load.raw, self.sent)

    def whole(self, events: float) -> int:
        """Round a number of events so that each publisher sends the same to each topic, within what memory allows."""
        topics = len(self.topology().topics)
        most = _MOST_BYTES // self.load.size
        rounds = min(max(events, _FEWEST), most) // (self.publishers * topics)
        return int(max(rounds, 1)) * self.publishers * topics

    def deliveries(self, events: int) -> int:
        """Return how many events all subscribers together receive when ``events`` are sent."""
        topology = self.topology()
        return sum(len(topology.listeners(topic)) for topic in topology.topics) * events // len(topology.topics)


@dataclass(frozen=True)
class Outcome:
    """What one repetition measured.

    Attributes:
        events: how many were sent.
        seconds: from the first send to the last subscriber's last receive.
        cpu: CPU seconds of all processes in that time.
        deliveries: events received by all subscribers together.
    """

    events: int
    seconds: float
    cpu: float
    deliveries: int

    @property
    def rate(self) -> float:
        """Events per second, end to end."""
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds of all processes per million deliveries."""
        return self.cpu / self.deliveries * 1e6


def run(peer: Peer, case: Case, warm_up: int, events: int | None, seconds: float, spread: bool) -> Outcome:
    """Run one repetition in fresh processes.

    Args:
        peer: what carries the events.
        case: the topology and the load.
        warm_up: events sent before the measured ones, or more where it takes more to come back to used memory.
        events: events to measure, or ``None`` for as many as fill ``seconds`` at the rate of the warm-up.
        seconds: how long the measured part is to be, where ``events`` does not say.
        spread: whether each process is kept on one CPU, in turn, publishers first.
    """
    with peer.connect(case.topology()) as medium, Crew() as crew:
        cpus = places(case.publishers + len(case.systems), spread)
        for index, cpu in enumerate(cpus[case.publishers :]):
            crew.start(f"{peer.name} subscriber {index}", _subscribe, medium, case, index, cpu=cpu)
        for index, cpu in enumerate(cpus[: case.publishers]):
            crew.start(f"{peer.name} publisher {index}", _publish, medium, case, index, cpu=cpu)
        lead(crew)
        warmed = _round(crew, medium, case, case.whole(max(warm_up, medium.round / case.load.size)))
        measured = _round(crew, medium, case, case.whole(warmed.rate * seconds if events is None else events))
        crew.results()
    return measured


def _round(crew: Crew, medium: Medium, case: Case, events: int) -> Outcome:
    crew.meet("ready", events // case.publishers)
    server = medium.server_seconds()
    moments = crew.meet("complete")
    cpu = medium.server_seconds() - server + sum(crew.gather("spent"))
    listeners = len(case.systems)
    nanoseconds = max(moments[:listeners]) - min(moments[listeners:])
    return Outcome(events, nanoseconds / 1e9, cpu, case.deliveries(events))


def _publish(control: Control, medium: Medium, case: Case, index: int) -> None:
    topics = medium.topology.topics
    with medium.publisher(index) as publisher:
        introduce(control, publisher, index, case.load, medium.topology.marked)
        for _ in ("warm-up", "measured"):
            events = control.meet("ready")
            made = case.load.events(index, range(events))  # large ones, before the clock runs
            before = cpu_seconds()
            first = time.monotonic_ns()
            _send_all(publisher.send, topics, made)
            # Threads of the peer may still be sending: their CPU counts until everybody has received all.
            control.meet("complete", first)
            control.post("spent", cpu_seconds() - before)


def _send_all(send: Any, topics: tuple[str, ...], events: Any) -> None:
    for data, topic in zip(events, cycle(topics), strict=False):
        send(topic, KIND, PATH, data)


def _subscribe(control: Control, medium: Medium, case: Case, index: int) -> None:
    with medium.subscriber(index) as subscriber:
        received = subscriber.received()
        listen(control, received, case.load, set(range(case.publishers)))
        for _ in ("warm-up", "measured"):
            share = medium.topology.share(index, control.meet("ready"))
            before = cpu_seconds()
            case.load.check(received, share, case.publishers)
            last, spent = time.monotonic_ns(), cpu_seconds() - before
            control.meet("complete", last)
            control.post("spent", spent)
