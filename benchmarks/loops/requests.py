"""One repetition of requests to a server process: one at a time, or many at once out of one loop."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

from benchmarks.crew import Control, Crew, cpu_seconds, places
from benchmarks.latency import Timing, complete, measured, pingpong
from benchmarks.load import SYSTEM, JsonLoad
from benchmarks.loops.ends import Asking
from benchmarks.loops.registry import PINGPONG
from benchmarks.peer import Medium, Peer, Topology

TASKS = 64

_WARM_UP_ROUNDS = 10
_FEWEST_ROUNDS = 3


def one_by_one(peer: Peer, warm_up: int, requests: int, cpus: Sequence[int | None]) -> Timing:
    """Measure the time from before a request until its answer is there; of the bus's ping-pong, that of a round trip.

    Args:
        peer: what carries requests and answers.
        warm_up: requests before the measured ones.
        requests: requests to measure.
        cpus: the CPU of who asks and of the server; ``None`` leaves that to the kernel.
    """
    if peer.name == PINGPONG:
        return pingpong(peer, warm_up, requests, cpus)
    load = JsonLoad()
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} server", _answer_some, medium, (warm_up, requests), cpu=cpus[1])
        crew.start(f"{peer.name} asker", _ask_one_by_one, medium, load, (warm_up, requests), cpu=cpus[0])
        crew.meet("served")
        return measured(crew, medium)


def _answer_some(control: Control, medium: Asking, counts: tuple[int, int]) -> None:
    with medium.answerer() as answerer:
        control.meet("served")
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            answerer.serve(count)
            complete(control, before)


def _ask_one_by_one(control: Control, medium: Asking, load: JsonLoad, counts: tuple[int, int]) -> array[int]:
    control.meet("served")
    with medium.asker() as asker:
        for count in counts:
            control.meet("ready")
            before = cpu_seconds()
            times = asker.trips(load, count)
            complete(control, before)
    return times


def together(peer: Peer, requests: int | None, seconds: float, spread: bool) -> dict[str, float]:
    """Measure how many requests a second one server answers to ``TASKS`` that ask at once.

    Args:
        peer: what carries requests and answers.
        requests: how many, or ``None`` for as many as fill ``seconds`` at the rate of the warm-up.
        seconds: how long it is to take, where ``requests`` does not say.
        spread: whether each process is kept on one CPU, the asker on the first.
    """
    load = JsonLoad()
    cpus = places(2, spread)
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} server", _answer, medium, cpu=cpus[1])
        crew.start(f"{peer.name} asker", _ask_together, medium, load, cpu=cpus[0])
        crew.meet("served")
        warm_up = _WARM_UP_ROUNDS * TASKS
        spent, _ = _round(crew, medium, warm_up)
        requests = requests or max(int(warm_up / spent * seconds), _FEWEST_ROUNDS * TASKS)
        spent, cpu = _round(crew, medium, requests)
        crew.results()
    figures = {"requests/s": requests / spent, "CPU s/M": cpu / requests * 1e6}
    return {**figures, "CPUs busy": cpu / spent, "requests": requests}


def _round(crew: Crew, medium: Medium, requests: int) -> tuple[float, float]:
    """Return the seconds that the asker took, and the CPU seconds of all processes meanwhile."""
    crew.meet("ready", requests)
    server = medium.server_seconds()
    _, spent = crew.meet("complete")
    return spent / 1e9, medium.server_seconds() - server + sum(crew.gather("spent"))


def _answer(control: Control, medium: Asking) -> None:
    with medium.answerer() as answerer:
        control.meet("served")
        for _ in ("warm-up", "measured"):
            requests = control.meet("ready")
            before = cpu_seconds()
            answerer.serve(requests)
            complete(control, before)


def _ask_together(control: Control, medium: Asking, load: JsonLoad) -> None:
    control.meet("served")
    with medium.asker() as asker:
        for _ in ("warm-up", "measured"):
            requests = control.meet("ready")
            before, first = cpu_seconds(), time.monotonic_ns()
            asker.together(load, requests, TASKS)
            control.meet("complete", time.monotonic_ns() - first)
            control.post("spent", cpu_seconds() - before)
