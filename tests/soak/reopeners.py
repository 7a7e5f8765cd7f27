"""Who leaves the bus and comes back while its own threads send, and what it forks in the middle of that."""

from __future__ import annotations

import os
import time

from eventbus import Bus
from soak.actors import PUBLISH, Part, Sending, Shared, identity, live, send_by_threads
from soak.roles import Offspring, Publisher, Reopener

MOMENT = 0.03  # seconds between two re-openings, at most


def reopen(part: Part) -> None:
    """Its first thread leaves, comes back and forks; the others send all the while."""
    actor = part.actor
    assert isinstance(actor, Reopener)
    shared = Shared(part)
    coming = [one for one in (*part.plan.actors, *part.plan.second) if one.nested == actor.number]
    children: list[int] = []

    def come_and_go() -> None:
        while part.phase == PUBLISH:
            time.sleep(part.dice.random() * MOMENT)
            if coming and part.dice.random() < 0.1:
                children.append(_bear(part, coming.pop(), shared.now()[0]))
            else:
                shared.reopen()

    send_by_threads(part, actor, shared, come_and_go)
    for pid in children:
        os.waitpid(pid, 0)


def _bear(part: Part, child: object, bus: Bus) -> int:
    assert isinstance(child, Offspring)
    pid = os.fork()
    if pid == 0:
        live(part.stage, child, go_on, bus)
    return pid


class _Fixed:
    """A bus that stays what it is."""

    def __init__(self, bus: Bus) -> None:
        self._now = bus, identity(bus)

    def now(self) -> tuple[Bus, int]:
        """The bus, and which one it is."""
        return self._now


def go_on(part: Part) -> None:
    """Sends a little by the bus that it was left, and closes it, or does not."""
    actor = part.actor
    assert isinstance(actor, Offspring)
    part.kept = bus = part.open()
    sending = Sending(part, Publisher(actor.number, seed=actor.seed, batch=actor.batch, patient=False), _Fixed(bus), 0)
    for _ in range(actor.sends):
        if part.phase != PUBLISH:
            break
        sending.send()
        time.sleep(part.dice.random() * 2 * actor.pause)
    if actor.ending == "close":
        part.close(bus)
