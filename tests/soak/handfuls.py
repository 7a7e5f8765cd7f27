"""Members that have a handful of events at once, finish each by itself, and keep some for long."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass

from eventbus import Bus, Event, UnavailableError
from soak import awaiting
from soak.actors import PUBLISH, Part, identity
from soak.ledger import Kind, entry
from soak.receivers import noted
from soak.roles import Group, Juggler
from soak.viewers import Album

LOOK = 0.05  # seconds that a receive waits at most: the hand may be full
BRIEFLY = 0.02  # seconds that an event is in hand at most, but for
LONG_JOB = (0.3, 2.0)  # which is far below the patience of publishers, should all that is held be more than is parked
LONGEST_DELAY = 0.5
STATS_EACH = 0.1  # seconds between two looks at what is parked


@dataclass(frozen=True)
class _Held:
    """An event in hand until then; of a long job, how much was sent when it began."""

    event: Event
    until: float
    committed: int | None


class Handful:
    """One membership, and what it has in hand."""

    def __init__(self, part: Part, bus: Bus, group: Group, actor: Juggler, who: int) -> None:
        self._part, self._bus, self._actor, self._who = part, bus, actor, who
        self._hand: list[_Held] = []
        self._changing = threading.Lock()
        self._receiving = True
        self._count = 0
        self._look_at = 0.0
        part.make_group(bus, group)
        part.ledger.write(entry(Kind.JOINING, who, c=identity(bus), other=group.number))
        views = actor.view is not None
        self._album = Album(part, who, views, actor.view or 0)
        self._sub = bus.subscribe(
            group.system, group.kind, group=group.name, prefetch=actor.prefetch, ack="manual", view=views
        )
        part.ledger.write(entry(Kind.JOINED, who, c=identity(bus), other=group.number))

    def run(self) -> None:
        """Until the end of the bus, or until it has had enough and gives back what it still has in hand."""
        thread = threading.Thread(target=self._finish_apart)
        if self._actor.apart:
            thread.start()
        drained = self._receive()
        self._receiving = False
        if self._actor.apart:
            thread.join()
        given_back = [one.event for one in self._hand]
        self._album.over(event.sequence for event in given_back)
        self._note(Kind.REJECTING, given_back)
        self._sub.close()
        self._album.close()
        self._note(Kind.RETURNED, given_back)
        self._part.ledger.write(entry(Kind.ENDED, self._who, flag=drained))

    def _receive(self) -> bool:
        """Whether it has come to the end of the bus."""
        while not 0 < self._actor.reopen <= self._count or self._part.phase != PUBLISH:
            if not self._actor.apart:
                self._finish_some()
            events = self._album.looked(self._ask())
            self._part.ledger.write(*(noted(self._part, self._who, event) for event in events))
            self._count += len(events)
            for event in events:
                self._take(event)
            if not events and not self._hand and self._sub.closed:
                return True
            self._look()
        return False

    def _ask(self) -> list[Event]:
        try:
            if self._actor.style == "many":
                return self._sub.receive_many(self._part.dice.randint(1, 20), LOOK)
            if self._actor.style == "await":
                return awaiting.receive_many(self._sub, self._part.dice.randint(1, 20), LOOK)
            return [event for event in [self._sub.receive(LOOK)] if event is not None]
        except UnavailableError as error:
            if type(error) is not UnavailableError:
                raise
            return []  # a member stands still with the group's lock, for longer than a second: it is asked again

    def _take(self, event: Event) -> None:
        dice, long, committed = self._part.dice, self._actor.long, None
        in_hand = sum(one.committed is not None for one in self._hand)
        lasts = dice.random() * BRIEFLY if self._actor.prefetch > 1 else 0.0
        if 2 * in_hand < self._actor.prefetch and dice.random() < (long if self._actor.prefetch > 1 else long / 20):
            lasts, committed = dice.uniform(*LONG_JOB), self._committed()
        with self._changing:
            self._hand.append(_Held(event, time.monotonic() + lasts, committed))

    def _committed(self) -> int:
        handle = self._bus._handle
        assert handle is not None, "the bus is closed"
        return handle.stats().committed

    # --- finished ---

    def _finish_apart(self) -> None:
        try:
            while self._receiving:
                self._finish_some()
                time.sleep(0.001)
        except BaseException:
            self._part.ledger.fault(f"{self._actor}: {traceback.format_exc()}")

    def _finish_some(self) -> None:
        """What has been in hand for long enough, in any order; near the end of the round, that is all."""
        now, hurries, dice = time.monotonic(), self._part.phase != PUBLISH, self._part.helping
        with self._changing:
            over = [one for one in self._hand if hurries or one.until <= now]
            self._hand = [one for one in self._hand if one not in over]
        dice.shuffle(over)
        for one in over:
            if one.committed is not None:
                passed, ring = self._committed() - one.committed, self._part.plan.traffic.capacity
                self._part.ledger.write(entry(Kind.HELD, self._who, one.event.sequence, passed, ring))
            self._album.over([one.event.sequence])
            if dice.random() < self._actor.reject:
                self._reject(one.event, dice.choice((0.0, dice.random() * LONGEST_DELAY)))
            else:
                self._note(Kind.ASKING, [one.event])
                self._sub.ack(one.event)
                self._note(Kind.ACKED, [one.event], flag=1)

    def _reject(self, event: Event, delay: float) -> None:
        self._note(Kind.REJECTING, [event], round(delay * 1e9))
        self._sub.reject(event, delay=delay)
        self._note(Kind.RETURNED, [event])

    def _note(self, kind: Kind, events: list[Event], b: int = 0, flag: int = 0) -> None:
        made = [entry(kind, self._who, event.sequence, b, flag=flag, deliveries=event.deliveries) for event in events]
        self._part.ledger.write(*made)

    # --- seen ---

    def _look(self) -> None:
        """Now and then, what is parked."""
        if self._part.phase == PUBLISH and time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + STATS_EACH
            parked = sum(group.parked for group in self._bus.stats().groups)
            if parked:
                self._part.ledger.write(entry(Kind.PARKED, self._who, parked))
