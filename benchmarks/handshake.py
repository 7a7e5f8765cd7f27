"""Connected and proven: no benchmark starts before every subscriber has heard every publisher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.crew import Control, Crew
from benchmarks.load import KIND, PATH, PROBE, SETTLED, Load
from benchmarks.peer import Publisher

_PROBE_EVERY_SECONDS = 0.002


def lead(crew: Crew) -> None:
    """The harness's part: all connected, then all heard. Once for each direction."""
    crew.meet("connected")
    crew.meet("heard")


def introduce(control: Control, publisher: Publisher, index: int, load: Load, topics: tuple[str, ...]) -> None:
    """A publisher's part: send probes until everybody has heard them, then say that no more will come."""
    control.meet("connected")
    publisher.wait_for_subscribers()
    control.post("heard")
    while not control.answered(_PROBE_EVERY_SECONDS):
        _send_mark(publisher, index, load, topics, PROBE)
    control.answer()
    _send_mark(publisher, index, load, topics, SETTLED)


def listen(control: Control, received: Iterator[Any], load: Load, publishers: set[int]) -> None:
    """A subscriber's part: hear a probe of every publisher, then skip all up to the last."""
    control.meet("connected")
    _hear(received, load, publishers, PROBE)
    control.meet("heard")
    _hear(received, load, publishers, SETTLED)


def _send_mark(publisher: Publisher, index: int, load: Load, topics: tuple[str, ...], number: int) -> None:
    for topic in topics:
        for data in load.events(index, [number]):
            publisher.send(topic, KIND, PATH, data)


def _hear(received: Iterator[Any], load: Load, publishers: set[int], due: int) -> None:
    missing = set(publishers)
    while missing:
        publisher, number = load.mark(next(received))
        if number == due:
            missing.discard(publisher)
