"""`eventbus.integrations.queue.Queue` beside multiprocessing's."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from mmap import mmap
from typing import Any

from benchmarks.crew import Control, Crew, cpu_seconds, places
from benchmarks.load import SYSTEM, JsonLoad
from benchmarks.peer import Medium, Peer, Topology
from benchmarks.report import Report
from benchmarks.session import Session

KILLS = 20
BATCH = 256

_FORK = multiprocessing.get_context("fork")
_FROZEN_SECONDS = 3.0
"""Nobody gets an item for so long: then nobody will."""

_PAUSE = (0.002, 0.02)
"""Seconds between two kills, drawn from these by one seed for all."""

_SEED = 16
_MOST = 1000
"""As many items wait, at most, while getters are killed."""

_WARM_UP = 2_000
_NUMBERS = 1 << 22


class QueueMedium(Medium):
    """A queue, made in the harness and inherited by its workers.

    Attributes:
        queue: what they put into and get from.
    """

    def __init__(self, topology: Topology, made: Callable[[], Any]) -> None:
        super().__init__(topology)
        self._made = made

    def open(self, leftovers: ExitStack) -> None:
        self.queue = self._made()
        leftovers.callback(self.queue.close)


def _ours() -> Any:
    from eventbus.integrations.queue import Queue

    return Queue(_MOST)


def _unbounded() -> Any:
    from eventbus.integrations.queue import Queue

    return Queue()


def entrants() -> list[Peer]:
    """Return both queues."""
    return [
        Peer("eventbus", None, partial(QueueMedium, made=_unbounded)),
        Peer("mp.Queue", None, partial(QueueMedium, made=_FORK.Queue)),
    ]


def queue(session: Session) -> Report:
    """Queues of processes: 1 putter, 1 getter, one by one and in batches; and getters that are killed."""
    note = f"items of {JsonLoad().size} bytes of JSON, pickled; in batches mp.Queue, which has none, goes one by one"
    rows = []
    for batch, case in ((1, "one by one"), (BATCH, f"{BATCH} at once")):
        measure = partial(_rate, batch=batch, events=session.settings.events, seconds=session.settings.seconds)
        rows += session.each("queue", note, case, measure).rows
    kills = 2 if session.settings.quick else KILLS
    survived = session.once().each("queue", note, f"{kills} getters killed", partial(_killed, kills=kills))
    return Report("queue", note, rows + survived.rows)


SCENARIOS: dict[str, Callable[[Session], Report]] = {"queue": queue}


def _rate(peer: Peer, batch: int, events: int | None, seconds: float) -> dict[str, float]:
    with peer.connect(Topology(1, (SYSTEM,), JsonLoad().size)) as medium, Crew() as crew:
        putter, getter = places(2, False)
        crew.start(f"{peer.name} putter", _put, medium, batch, cpu=putter)
        crew.start(f"{peer.name} getter", _get, medium, batch, cpu=getter)
        warmed, _ = _round(crew, _WARM_UP)
        items = events or max(int(_WARM_UP / warmed * seconds), _WARM_UP)
        spent, cpu = _round(crew, items)
        crew.meet("ready", 0)
        crew.results()
    return {"items/s": items / spent, "CPU s/M": cpu / items * 1e6, "items": items}


def _round(crew: Crew, items: int) -> tuple[float, float]:
    crew.meet("ready", items)
    first, last = crew.meet("complete")
    cpu = sum(crew.gather("spent"))
    return (last - first) / 1e9, cpu


def _put(control: Control, medium: QueueMedium, batch: int) -> None:
    load, queue = JsonLoad(), medium.queue
    many = getattr(queue, "put_many", None) if batch > 1 else None
    while items := control.meet("ready"):
        made = [dict(data) for data in load.events(0, range(items))]
        before, first = cpu_seconds(), time.monotonic_ns()
        if many is None:
            for data in made:
                queue.put(data)
        else:
            for start in range(0, items, batch):
                many(made[start : start + batch])
        control.meet("complete", first)
        control.post("spent", cpu_seconds() - before)


def _get(control: Control, medium: QueueMedium, batch: int) -> None:
    queue = medium.queue
    many = getattr(queue, "get_many", None) if batch > 1 else None
    while items := control.meet("ready"):
        before, number = cpu_seconds(), 0
        while number < items:
            for data in many(batch) if many else (queue.get(),):
                if data["number"] != number:
                    raise AssertionError(f"item {number} was due, and {data['number']} came")
                number += 1
        control.meet("complete", time.monotonic_ns())
        control.post("spent", cpu_seconds() - before)


# --- getters that are killed ---


def _killed(peer: Peer, kills: int) -> dict[str, float]:
    """Kill one of two getters after the other, each at a random moment, while a third process puts.

    Returns:
        how many kills there were until nobody got an item any more, or all; and of the items that were put until then,
        how many nobody got, and how many were got twice.
    """
    peer = replace(peer, connect=partial(QueueMedium, made=_ours)) if peer.name == "eventbus" else peer
    drawn = random.Random(_SEED)
    got = mmap(-1, _NUMBERS)  # times got, by number
    taken = memoryview(mmap(-1, 8 * (kills + 2))).cast("Q")  # items, by getter
    putting = memoryview(mmap(-1, 16)).cast("Q")  # how many were put, and whether to end
    with peer.connect(Topology(1, (SYSTEM,), 0)) as medium, ExitStack() as held:
        assert isinstance(medium, QueueMedium)
        started: Callable[..., Any] = partial(_started, held, medium.queue)
        putter = started(_put_numbers, putting)
        getters = [started(_note, got, taken, getter) for getter in range(2)]
        survived = 0
        while survived < kills and _goes_on(taken):
            time.sleep(drawn.uniform(*_PAUSE))
            os.kill(getters[0].pid, signal.SIGKILL)
            getters[0].join()
            getters = [getters[1], started(_note, got, taken, survived + 2)]
            survived += 1
        going = _goes_on(taken)
        putting[1] = 1
        if going:
            putter.join(_FROZEN_SECONDS)
            while _goes_on(taken, 0.5):
                pass
        put = putting[0]
        lost, twice = got[:put].count(b"\0"), sum(times > 1 for times in got[:put])
    return {"kills": survived, "goes on": float(going), "items": put, "lost": lost, "twice": twice}


def _started(held: ExitStack, queue: Any, body: Callable[..., None], *arguments: Any) -> Any:
    process = _FORK.Process(target=body, args=(queue, *arguments), daemon=True)
    process.start()
    held.callback(process.join)
    held.callback(process.kill)
    return process


def _goes_on(taken: Any, seconds: float = _FROZEN_SECONDS) -> bool:
    """Whether somebody gets an item within so many seconds."""
    before, end = sum(taken), time.monotonic() + seconds
    while time.monotonic() < end:
        if sum(taken) != before:
            return True
        time.sleep(0.001)
    return False


def _put_numbers(queue: Any, putting: Any) -> None:
    while not putting[1] and putting[0] < _NUMBERS:
        queue.put(putting[0])
        putting[0] += 1


def _note(queue: Any, got: Any, taken: Any, getter: int) -> None:
    while True:
        got[queue.get()] += 1
        taken[getter] += 1
