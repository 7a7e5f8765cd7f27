"""Where the time of a send and of a delivery goes, layer by layer: the one file here that looks inside the library."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from statistics import median
from typing import Any

from benchmarks.crew import Control, Crew
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad
from benchmarks.stopwatch import held_memory, in_turns, timed

BATCH = 256
_POLL = 0
_RING_EVENTS = 200_000
"""More than a ring of the default size holds: its pages are all mapped before anything is timed."""

Layers = dict[tuple[str, str], float]
"""CPU nanoseconds per event by side and layer."""


def run(events: int, wakes: int) -> Layers:
    """Time each layer in fresh processes.

    Args:
        events: how often each is done; a full ring of the default size must hold that many.
        wakes: how often a sleeper is woken.
    """
    name = f"benchmark-layers-{os.getpid()}"
    try:
        with Crew() as crew:
            crew.start("layers", _time_layers, name, events)
            (layers,) = crew.results()
        with Crew() as crew:
            crew.start("layers: sleeper", _sleep_again, name, wakes)
            crew.start("layers: waker", _wake, name, wakes)
            crew.meet("subscribed")
            _, woken = crew.results()
    finally:
        _remove(name)
    return {**layers, ("send", "wake of a sleeper"): woken}


def _time_layers(_control: Control, name: str, events: int) -> Layers:
    from eventbus import open as open_bus

    held = held_memory()
    with open_bus(name) as bus:
        for _ in range(_RING_EVENTS):
            bus.send(SYSTEM, KIND, PATH, held[0])
        layers = {("send", layer): spent for layer, spent in _send_layers(bus, events)}
        with bus.subscribe(SYSTEM) as subscription:
            found = _receive_layers(bus, subscription, events // BATCH)
            return layers | {("delivery", layer): spent for layer, spent in found}


def _send_layers(bus: Any, events: int) -> Iterator[tuple[str, float]]:
    from eventbus import event
    from eventbus.core.native import lib

    data = next(JsonLoad().events(0, [123456]))
    bus.send(SYSTEM, KIND, PATH, data)
    pointer, route, body = bus._handle.pointer, bus._routes[SYSTEM][KIND], event.encode(PATH, data)
    if lib.eb_send(route, body) != 0:
        raise AssertionError("eb_send refused an event that Bus.send took: time what Bus.send calls now")
    send, publish, dumps, closed = bus.send, lib.eb_send, event.dumps, lib.eb_closed
    steps: dict[str, Callable[[], object]] = {
        "encode": lambda: dumps((PATH, data), None, event.OPTIONS),
        "crossing": lambda: closed(pointer),
        "publish": lambda: publish(route, body),
        "whole": lambda: send(SYSTEM, KIND, PATH, data),
    }
    spent = in_turns(steps, events)
    in_core = spent["publish"] - spent["crossing"]
    yield "encode", spent["encode"]
    yield "look-up, checks, crossing", spent["whole"] - spent["encode"] - in_core
    yield "lock, copy, commit", in_core
    yield "whole, nobody asleep", spent["whole"]
    yield "for comparison: an empty call through cffi", spent["crossing"]


def _receive_layers(bus: Any, subscription: Any, batches: int) -> Iterator[tuple[str, float]]:
    steps: dict[str, list[float]] = {"scan, copy": [], "decode": []}
    iterated = []
    # Once unmeasured: the topic gets its verdict.
    _fill(bus)
    _iterated(subscription)
    for _ in range(batches):
        _fill(bus)
        for step, spent in _taken_apart(subscription):
            steps[step].append(spent)
        _fill(bus)
        iterated.append(_iterated(subscription))
    parts = {step: median(spent) / BATCH for step, spent in steps.items()}
    whole = median(iterated) / BATCH
    yield from parts.items()
    yield "events, iteration", whole - sum(parts.values())
    yield f"whole, batches of {BATCH}", whole


def _taken_apart(subscription: Any) -> Iterator[tuple[str, float]]:
    from eventbus import event
    from eventbus.core.native import ffi, lib

    handle = subscription._handle
    with timed() as scan:
        count = lib.eb_receive(handle.pointer, BATCH, _POLL)
    with timed() as decode:
        event.loads(bytes(ffi.buffer(handle.batch.buffer, handle.batch.head.json_length)))
    subscription._fill(_POLL)
    deque(subscription._ready, maxlen=0)
    if count != BATCH:
        raise AssertionError(f"{count} events came in a batch that should have {BATCH}: look at eb_receive")
    yield "scan, copy", scan[0]
    yield "decode", decode[0]


def _iterated(subscription: Any) -> float:
    with timed() as spent:
        for _, _ in zip(range(BATCH), subscription, strict=False):
            pass
    return spent[0]


def _fill(bus: Any) -> None:
    for data in JsonLoad().events(0, range(100_000, 100_000 + BATCH)):
        bus.send(SYSTEM, KIND, PATH, data)


def _sleep_again(control: Control, name: str, wakes: int) -> None:
    from eventbus import open as open_bus

    with open_bus(name) as bus, bus.subscribe(SYSTEM, spin=0) as subscription:
        control.meet("subscribed")
        for _ in range(wakes):
            subscription.receive()


def _wake(control: Control, name: str, wakes: int) -> float:
    """Return the CPU nanoseconds by which a send that wakes exceeds one that does not."""
    from eventbus import open as open_bus

    data = next(JsonLoad().events(0, [123456]))
    with open_bus(name) as bus:
        bus.send("nobody", KIND, PATH, data)
        control.meet("subscribed")
        waking, quiet = [], []
        for _ in range(wakes):
            _wait_for_sleeper(bus)
            with timed() as woken:
                bus.send(SYSTEM, KIND, PATH, data)
            with timed() as plain:
                bus.send("nobody", KIND, PATH, data)
            waking.append(woken[0])
            quiet.append(plain[0])
        return median(waking) - median(quiet)


def _wait_for_sleeper(bus: Any) -> None:
    end = time.monotonic() + 5
    while not any(one.sleeping for one in bus.stats().subscribers):
        if time.monotonic() > end:
            raise AssertionError("the subscriber did not sleep within 5 s: look at its spin")
        time.sleep(0.0005)


def _remove(name: str) -> None:
    from eventbus import unlink

    with suppress(FileNotFoundError):
        unlink(name)
