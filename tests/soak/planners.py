"""Who has events sent later, and cancels some of them; what it has scheduled is sent whether it lives or not."""

from __future__ import annotations

import time
import traceback

from eventbus import Bus, FullError, InvalidError, PolicyDeniedError, UnavailableError
from soak.actors import PUBLISH, Part, Shared
from soak.ledger import Kind, Why, entry
from soak.message import DENIED, PLANNED, Message, message, number_of
from soak.roles import SESSIONS, Planner

ROOM = 8  # of what a ring takes: an event that is smaller can be sent later
AROUND = 128  # bytes: of its record beside what is sent, and of its entry


def plan(part: Part) -> None:
    """Schedules and cancels, one after the other, until the phase ends."""
    actor = part.actor
    assert isinstance(actor, Planner)
    shared = Shared(part)
    planning = _Planning(part, actor, shared)
    turns = 0
    while part.phase == PUBLISH:
        planning.schedule()
        if part.dice.random() < actor.cancel:
            planning.cancel()
        turns += 1
        if actor.reopen and turns % actor.reopen == 0:
            shared.reopen()
        time.sleep(part.dice.random() * 2 * actor.pause)
    shared.close()


class _Planning:
    """What one actor schedules, and what it knows of that."""

    def __init__(self, part: Part, actor: Planner, shared: Shared) -> None:
        self._part, self._actor, self._shared = part, actor, shared
        self._publisher = actor.number * SESSIONS + PLANNED
        self._number = 0
        self._known: list[tuple[int, int, int]] = []  # which bus, its number there, and ours

    def schedule(self) -> None:
        """The next one."""
        self._number += 1
        bus, which = self._shared.now()
        write, delay = self._part.ledger.write, self._part.dice.random() * self._actor.longest
        write(entry(Kind.PUTTING, self._publisher, self._number, int(delay * 1e9), which))
        given = self._put(bus, message(self._part.plan.traffic, self._publisher, self._number), delay)
        if isinstance(given, Why):
            write(entry(Kind.NOT_PUT, self._publisher, self._number, 0, which, flag=given))
        else:
            write(entry(Kind.PUT, self._publisher, self._number, given, which))
            self._known.append((which, given, self._number))

    def _put(self, bus: Bus, one: Message, delay: float) -> int | Why:
        """Its number on the bus; or why it has none, if the plan allows that, else it is a fault."""
        traffic = self._part.plan.traffic
        denied, large = traffic.policy and one.system == DENIED, one.bytes + AROUND > traffic.capacity // ROOM
        try:
            number = bus.send_later(*one[:4], delay=delay, headers=one.headers or None)
        except PolicyDeniedError:
            return self._expected(Why.DENIED, denied)
        except InvalidError:
            return self._expected(Why.LARGE, large)
        except FullError:
            return Why.FULL
        except UnavailableError:
            return Why.BUSY  # somebody who has the lock is stopped
        if denied or one.over:
            self._part.ledger.fault(f"what must be refused was scheduled: {one[:3]}")
        return number

    def _expected(self, why: Why, expected: bool) -> Why:
        if not expected:
            self._part.ledger.fault(f"planner {self._publisher}: {why.name} unexpectedly: {traceback.format_exc()}")
        return why

    def cancel(self) -> None:
        """One of its own, sent by now or not; or one that it sees scheduled, whoever has done that."""
        bus, which = self._shared.now()
        chosen = self._one_that_is_seen(bus) if self._part.dice.random() < 0.3 else self._one_of_mine(which)
        if chosen is None:
            return
        (publisher, number), given = chosen
        write = self._part.ledger.write
        write(entry(Kind.CANCELLING, self._publisher, number, given, which, other=publisher))
        try:
            done = bus.cancel(given)
        except UnavailableError:
            return  # somebody who has the lock is stopped: nothing is known of it, as after a death
        write(entry(Kind.CANCELLED, self._publisher, number, given, which, other=publisher, flag=done))

    def _one_of_mine(self, which: int) -> tuple[tuple[int, int], int] | None:
        # on a bus that replaced it they are others' numbers
        mine = [one for one in self._known[-50:] if one[0] == which]
        if not mine:
            return None
        _, given, number = self._part.dice.choice(mine)
        return (self._publisher, number), given

    def _one_that_is_seen(self, bus: Bus) -> tuple[tuple[int, int], int] | None:
        seen = bus.stats().scheduled
        if not seen:
            return None
        one = self._part.dice.choice(seen)
        origin = number_of(self._part.plan.traffic, one.path or "")
        if origin is None:
            self._part.ledger.fault(f"scheduled is what nobody schedules: {one}")
            return None
        return origin, one.number
