"""Health: how a bridge is doing, told to its log, to its bus and to systemd.

What it has to tell the bus waits until there is room, and a full ring never stops it. Its last word, a ``status``, is
sent so often that the ring still holds it when somebody asks: also of a bridge that hangs or died.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from eventbus.bridge.config import Config
from eventbus.bridge.names import (
    DOWN,
    GAP,
    SELDOM,
    STATUS,
    STATUS_EVERY,
    SYSTEM,
    UP,
    State,
    nearly_full,
    readers,
)
from eventbus.bridge.notify import Notifier
from eventbus.bridge.waiting import set_within
from eventbus.bus import Bus
from eventbus.core.native import deadline_after
from eventbus.errors import UnavailableError

BEAT: Final = 1.0
"""Seconds between two looks at what is to be told."""

QUIET: Final = 60.0
"""Seconds for which a cause that was logged is only counted."""

_log = logging.getLogger("eventbus.bridge")


@dataclass
class Outward:
    """What went out; ``lost`` had left the ring before it could, ``refused`` cannot go, by reason."""

    events: int = 0
    lost: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    oldest: int | None = None  # nanoseconds since the epoch, when what is in hand was sent


@dataclass
class Inward:
    """What came in from one origin.

    Attributes:
        vain: admitted by a filter, and heard by no pattern.
        gaps: events that the stream no longer held.
        rejected: by reason.
        pending: events that the stream has to give.
        last: nanoseconds since the epoch, when the last one was sent.
    """

    events: int = 0
    duplicates: int = 0
    vain: int = 0
    gaps: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    last: int = 0


class Health:
    """The state and the figures of one bridge. Everything but ``beat`` and ``run`` only takes note."""

    def __init__(
        self, bus: Bus, config: Config, run: int, *, now: Callable[[], float] = time.monotonic, notifier: Notifier
    ) -> None:
        """Args: run: when the process began, nanoseconds since the epoch, as its messages say it."""
        self.state: State = "starting"
        self.why = ""
        self.out = Outward()
        self.into: dict[str, Inward] = {}
        self._bus = bus
        self._config = config
        self._run = run
        self._now = now
        self._notifier = notifier
        self._since = time.time()
        self._logged: dict[str, tuple[float, int]] = {}
        self._news: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {}
        self._awake = asyncio.Event()
        self._ready = False
        self._said, self._said_at = float("-inf"), 0  # on the clock; the ring's committed position

    # --- what the parts of a bridge say ---

    def move(self, state: State, why: str = "", cause: str | None = None) -> None:
        """From now on the state is another one.

        Args:
            why: one sentence without a full stop; what ``degraded`` and ``fenced`` have.
            cause: what the log counts it as; ``why`` if left out.
        """
        if (state, why) == (self.state, self.why):
            return
        was_up, is_up = self.state == "running", state == "running"
        if state != self.state:
            self._since = time.time()
        self.state, self.why = state, why
        level = logging.INFO if state not in ("degraded", "fenced") else logging.WARNING
        self.say(f"{state} {cause or why}", f"{state}: {why}" if why else state, level)
        if was_up != is_up:
            self._tell(("state",), UP if is_up else DOWN, {"state": state, "why": why})
        self._said = float("-inf")
        self._awake.set()

    def say(self, cause: str, text: str, level: int = logging.WARNING) -> None:
        """One line in the log, if the cause had none for a minute; how often it came up meanwhile is in the next."""
        now = self._now()
        before, more = self._logged.get(cause, (float("-inf"), 0))
        if now - before < QUIET:
            self._logged[cause] = before, more + 1
            return
        self._logged = {key: one for key, one in self._logged.items() if one[1] or now - one[0] < QUIET}
        self._logged[cause] = now, 0
        _log.log(
            level, "%s: %s%s", self._config.origin, text, f" ({more} times more since the last line)" if more else ""
        )

    def exported(self, events: int) -> None:
        """So many went out."""
        self.out.events += events

    def holding(self, oldest: int | None) -> None:
        """When the oldest event that waits to be acknowledged was sent, nanoseconds since the epoch; None: none."""
        self.out.oldest = oldest

    def lost(self, events: int) -> None:
        """So many left the ring before they could go out."""
        self.out.lost += events
        self._gap("export", self._config.origin, events)
        self.say("lost", f"{events} events had left the ring before they could go out: make it larger")

    def refused(self, reason: str, text: str, events: int = 1) -> None:
        """So many cannot go out; ``reason`` is one of few, ``text`` a sentence."""
        self.out.refused[reason] += events
        self.say(f"refused {reason}", text)

    def imported(self, origin: str, events: int, pending: int, last: int) -> None:
        """So many came in; how many are to come, and when the last was sent, nanoseconds since the epoch."""
        inward = self.inward(origin)
        inward.events += events
        inward.pending, inward.last = pending, last

    def duplicate(self, origin: str, events: int = 1) -> None:
        """So many were there before, and were dropped."""
        self.inward(origin).duplicates += events

    def vain(self, origin: str, events: int = 1) -> None:
        """So many were admitted by a filter, and no pattern hears them."""
        self.inward(origin).vain += events

    def gap(self, origin: str, events: int) -> None:
        """So many of an origin are gone from its stream."""
        self.inward(origin).gaps += events
        self._gap("import", origin, events)
        self.say(f"gap {origin}", f"{events} events of {origin} are gone from its stream: keep them longer")

    def rejected(self, origin: str, reason: str, text: str, events: int = 1) -> None:
        """So many of an origin cannot come in; ``reason`` is one of few, ``text`` a sentence."""
        self.inward(origin).rejected[reason] += events
        self.say(f"rejected {reason} {origin}", text)

    def inward(self, origin: str) -> Inward:
        """The figures of an origin."""
        return self.into.setdefault(origin, Inward())

    # --- what becomes of it ---

    def snapshot(self) -> dict[str, Any]:
        """All figures, as JSON has them. Times are seconds since the epoch, ``lag_seconds`` by this host's clock."""
        now, inward = time.time(), self.into.values()
        return {
            "origin": self._config.origin,
            "domain": self._config.domain,
            "bus": self._bus.identity,
            "pid": os.getpid(),
            "began": self._run / 1e9,
            "state": self.state,
            "why": self.why,
            "since": self._since,
            "exported": self.out.events,
            "imported": sum(one.events for one in inward),
            "duplicates": sum(one.duplicates for one in inward),
            "vain": sum(one.vain for one in inward),
            "gaps": sum(one.gaps for one in inward),
            "lost": self.out.lost,
            "refused": dict(self.out.refused),
            "rejected": dict(sum((one.rejected for one in inward), Counter())),
            "export_lag_events": self._waiting(),
            "export_lag_seconds": _age(self.out.oldest, now),
            "import_lag_events": sum(one.pending for one in inward),
            "import_lag_seconds": max((_age(one.last, now) for one in inward if one.pending), default=0.0),
        }

    async def run(self) -> None:
        """Tells what there is to tell, until it is cancelled."""
        watchdog = self._notifier.watchdog
        pause = BEAT if watchdog is None else min(BEAT, watchdog / 2)
        while True:
            self.beat()
            self._awake.clear()
            await set_within(self._awake, pause)

    def beat(self) -> None:
        """Tells the bus and systemd what is due; what finds no room is told at another beat."""
        self._notify()
        try:
            for key, (kind, data) in [*self._news.items()]:
                self._send(kind, data)
                del self._news[key]
            ring = self._bus._open_handle().stats()
            moved = ring.committed - self._said_at >= ring.capacity // 4
            pause = BEAT if moved else SELDOM if nearly_full(ring.used, ring.capacity) else STATUS_EVERY
            if self._now() - self._said >= pause:
                self._send(STATUS, self.snapshot())
                self._said, self._said_at = self._now(), ring.committed
        except UnavailableError as error:
            self.say("untold", f"what there is to tell waits: {error.message}")

    def stop(self) -> None:
        """The last word of a bridge that ends."""
        if self.state != "fenced":
            self.move("stopped")
        self.beat()

    def _notify(self) -> None:
        lines = ["WATCHDOG=1", f"STATUS={self.state}{f': {self.why}' if self.why else ''}"]
        if self.state in ("stopped", "fenced"):
            lines.insert(0, "STOPPING=1")
        elif not self._ready and self.state != "starting":
            self._ready = True
            lines.insert(0, "READY=1")
        self._notifier.tell(*lines)

    def _gap(self, way: str, origin: str, events: int) -> None:
        _, told = self._news.get((GAP, way, origin), (GAP, {"events": 0}))
        self._tell((GAP, way, origin), GAP, {"way": way, "origin": origin, "events": told["events"] + events})

    def _tell(self, key: tuple[str, ...], kind: str, data: dict[str, Any]) -> None:
        """What is told of the same thing meanwhile takes its place."""
        self._news[key] = kind, data
        self._awake.set()

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        """No policy is asked: it is the bus's own."""
        self._bus._send_own(SYSTEM, kind, f"/{self._config.origin}", data, 0, deadline_after(0))

    def _waiting(self) -> int:
        reader = readers(self._bus.stats()).get(self._config.origin)
        return reader.waiting if reader else 0


def _age(then: int | None, now: float) -> float:
    return 0.0 if then is None else max(0.0, now - then / 1e9)
