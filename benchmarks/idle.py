"""What a subscriber costs that waits for events which do not come."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.crew import Control, Crew, cpu_seconds_of
from benchmarks.handshake import introduce, lead, listen
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad
from benchmarks.peer import Medium, Peer, Topology

_SETTLING_SECONDS = 0.5
"""A subscriber may look for the next event for a while before it sleeps."""


def run(peer: Peer, seconds: float) -> float:
    """Return the CPU seconds that one waiting subscriber, and the peer's server if it has one, use in ``seconds``.

    Both clocks are read from outside, so that no work of the subscriber's own is in the figure.
    """
    load = JsonLoad()
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} subscriber", _wait, medium, load)
        crew.start(f"{peer.name} publisher", _end_wait, medium, load)
        lead(crew)
        pid, _ = crew.gather("waiting")
        time.sleep(_SETTLING_SECONDS)
        before = cpu_seconds_of(pid) + medium.server_seconds()
        time.sleep(seconds)
        spent = cpu_seconds_of(pid) + medium.server_seconds() - before
        crew.answer()
        crew.results()
    return spent


def _wait(control: Control, medium: Medium, load: JsonLoad) -> None:
    with medium.subscriber(0) as subscriber:
        received = subscriber.received()
        listen(control, received, load, {0})
        control.post("waiting", os.getpid())
        _expect(next(received))
        control.answer()


def _end_wait(control: Control, medium: Medium, load: JsonLoad) -> None:
    with medium.publisher(0) as publisher:
        introduce(control, publisher, 0, load, (SYSTEM,))
        control.post("waiting")
        control.answer()
        for data in load.events(0, [0]):
            publisher.send(SYSTEM, KIND, PATH, data)


def _expect(data: Any) -> None:
    if data["number"] != 0:
        raise AssertionError(f"event {data['number']} ended the wait where 0 was due: look for a late probe")
