"""The floor: what orjson alone costs for one event, and beside it what a send and a receive of the bus cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import orjson

from benchmarks.crew import Control, Crew
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad
from benchmarks.stopwatch import each, held_memory, in_turns, timed

BATCH = 256
RAW = 2**16
RAW_EVENTS = 20
"""One of so many events is one of raw data."""
_RING_EVENTS = 200_000
"""More than a ring of the default size holds: its pages are all mapped before anything is timed."""


def run(events: int, with_bus: bool) -> dict[str, float]:
    """Time each step in one fresh process; returns CPU nanoseconds per event by the name of the step.

    Args:
        events: how often each step is done; a full ring of the default size must hold that many.
        with_bus: whether eventbus is there to be timed.
    """
    with Crew() as crew:
        crew.start("codec", _time_steps, events, with_bus)
        (times,) = crew.results()
    return dict(times)


def _time_steps(_control: Control, events: int, with_bus: bool) -> dict[str, float]:
    held = held_memory()
    times = dict(_orjson_steps(events))
    if with_bus:
        times.update(_bus_steps(events))
    held.clear()
    return times


def _orjson_steps(events: int) -> Iterator[tuple[str, float]]:
    event = (SYSTEM, KIND, PATH, next(JsonLoad().events(0, [123456])))
    body = orjson.dumps(event)
    batch = b"[" + b",".join([body] * BATCH) + b"]"
    dumps, loads = orjson.dumps, orjson.loads
    yield "orjson.dumps", each(lambda: dumps(event), events)
    yield "orjson.loads", each(lambda: loads(body), events)
    yield f"orjson.loads of {BATCH}", each(lambda: loads(batch), events // BATCH) / BATCH


def _bus_steps(events: int) -> Iterator[tuple[str, float]]:
    from eventbus import open as open_bus
    from eventbus import unlink

    name = f"benchmark-codec-{os.getpid()}"
    try:
        with open_bus(name) as bus:
            yield from _send_and_receive(bus, events)
    finally:
        with suppress(FileNotFoundError):
            unlink(name)


def _send_and_receive(bus: Any, events: int) -> Iterator[tuple[str, float]]:
    data = next(JsonLoad().events(0, [123456]))
    send = bus.send
    _fill(bus, data, _RING_EVENTS)
    yield "send, no subscriber", each(lambda: send(SYSTEM, KIND, PATH, data), events)
    with bus.subscribe(SYSTEM) as subscription:
        yield "send, backlog", each(lambda: send(SYSTEM, KIND, PATH, data), events)
        yield "receive, backlog, iterated", _drained(lambda: _count(islice(subscription, events)), events)
        _fill(bus, data, events)
        yield f"receive_many({BATCH}), backlog", _drained(lambda: _taken(subscription, events), events)
        whole, batch = events // BATCH, [(SYSTEM, KIND, PATH, data)] * BATCH
        yield f"send_many({BATCH}), backlog", each(lambda: bus.send_many(batch), whole) / BATCH
    raw = bytes(RAW)
    kinds = {raw_step(type(held)): held for held in (raw, bytearray(raw), memoryview(raw))}
    steps: dict[str, Callable[[], object]] = {
        step: partial(send, SYSTEM, KIND, PATH, held) for step, held in kinds.items()
    }
    yield from in_turns(steps, events // RAW_EVENTS).items()


def raw_step(kind: type) -> str:
    """The step that sends raw data of a type."""
    return f"send of {RAW >> 10} KiB, {kind.__name__}"


def _fill(bus: Any, data: Any, events: int) -> None:
    for _ in range(events):
        bus.send(SYSTEM, KIND, PATH, data)


def _taken(subscription: Any, due: int) -> int:
    taken = 0
    while taken < due:
        taken += len(subscription.receive_many(BATCH, 0))
    return taken


def _count(events: Iterator[Any]) -> int:
    return sum(1 for _ in events)


def _drained(step: Callable[[], int], due: int) -> float:
    with timed() as spent:
        taken = step()
    if taken != due:
        raise AssertionError(f"{due} events were due and {taken} came: look for a loss in the bus")
    return spent[0] / due
