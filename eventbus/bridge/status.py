"""Status: what a bus knows of its bridges, without asking one.

A bridge that hangs would not answer, so nobody is asked: its last word is in the ring, and its group says how much is
to go out, and whether the process that reads it lives. Neither needs a lock, nor more than to be a subscriber.
"""

from __future__ import annotations

import time
from typing import Any, Final

from eventbus.bridge.names import SELDOM, STATUS, STATUS_EVERY, SYSTEM, Reader, nearly_full, readers
from eventbus.bus import Bus
from eventbus.core.stats import BusStats
from eventbus.event import Event

SILENT: Final = 3 * STATUS_EVERY
"""Seconds without a word after which something is wrong; three times SELDOM where the ring is nearly full."""

GOOD: Final = ("starting", "syncing", "running")
"""States in which nothing is wrong."""

_BATCH: Final = 256
_ENDED: Final = ("stopped", "fenced")

Row = dict[str, Any]


def bridges(bus: BusStats) -> list[Row]:
    """Each bridge that is or was on a bus, by its origin, as JSON has it.

    Beside the figures of ``Health.snapshot``, which are missing where the ring has no word of it any more, ``said``
    counts the seconds since its last one. Where it should have said something and did not, the state is "hanging" if
    the process lives that reads what is to go out, else "silent".

    Raises:
        SubscribersFullError: no slot is left to hear its last word by.
    """
    if bus.closed:
        return []  # they ended with it
    words = _last_words(bus.name) if (SYSTEM, STATUS) in bus.topics else {}
    known = readers(bus)
    patience = 3 * SELDOM if nearly_full(bus.used, bus.capacity) else SILENT
    origins = sorted(words.keys() | known.keys())
    return [_row(origin, words.get(origin), known.get(origin), patience) for origin in origins]


def _last_words(name: str) -> dict[str, Event]:
    """By origin. What is raw or of another shape somebody else sent."""
    words: dict[str, Event] = {}
    with (
        Bus(name, role="subscriber") as bus,
        bus.subscribe(SYSTEM, STATUS, overflow="drop", start="oldest", name="bridge --status") as heard,
    ):
        while events := heard.receive_many(_BATCH, 0):
            words |= {event.path[1:]: event for event in events if isinstance(event.data, dict)}
    return words


def _row(origin: str, word: Event | None, reader: Reader | None, patience: float) -> Row:
    said = max(0.0, time.time() - word.time / 1e9) if word else None
    figures: Row = dict(word.data) if word else {}
    state, why = figures.pop("state", ""), figures.pop("why", "")
    pid = reader.pid if reader else None
    if state not in _ENDED and (said is None or said > patience):
        silence = f"said nothing for {said:.0f} s" if said is not None else "said nothing that the ring still holds"
        state = "silent" if pid is None else "hanging"
        why = f"it {silence}" if pid is None else f"process {pid} lives and {silence}"
    if reader:
        figures["export_lag_events"] = reader.waiting
    return {"origin": origin, "state": state, "why": why, "said": said, **figures}
