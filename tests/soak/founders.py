"""Who makes a group, is all of its members, and removes it from a thread beside, again and again, under one name."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
import traceback
from typing import TextIO

from eventbus import Bus, ClosedError, InvalidError, Subscription
from soak.actors import PUBLISH, Part, identity, left
from soak.ledger import Kind, entry
from soak.message import FOUNDED, LISTS
from soak.receivers import LOOK, noted
from soak.roles import SESSIONS, Founder


def found(part: Part) -> None:
    """One group after the other; one that was left behind by a death is removed first."""
    actor = part.actor
    assert isinstance(actor, Founder)
    with (part.stage.directory / "founder").open("a") as file:
        if _wait_for_turn(part, file):
            _found_again_and_again(part, actor)


def _wait_for_turn(part: Part, file: TextIO) -> bool:
    """Until whoever was there before has ended or died, outside of the bus: two would remove each other's groups."""
    while part.phase == PUBLISH:
        with contextlib.suppress(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False


def _found_again_and_again(part: Part, actor: Founder) -> None:
    with left(part, part.open()) as bus:
        try:
            for session in range(SESSIONS):
                remove(bus)
                if part.phase != PUBLISH:
                    return
                _Founding(part, bus, actor, actor.number * SESSIONS + session).run()
        except ClosedError:
            if part.phase == PUBLISH:
                raise


def remove(bus: Bus) -> None:
    """The group, if it is there."""
    with contextlib.suppress(InvalidError):
        bus.remove_group(FOUNDED)


class _Founding:
    """One group: what its member gets is what a lossless subscription gets, up to when it is removed."""

    def __init__(self, part: Part, bus: Bus, actor: Founder, who: int) -> None:
        self._part, self._bus, self._actor, self._who = part, bus, actor, who
        self._removed = False

    def run(self) -> None:
        """From its making to its end."""
        write, bus, system = self._part.ledger.write, self._bus, LISTS.get(self._actor.system, self._actor.system)
        write(entry(Kind.JOINING, self._who, bus.stats().sent, 0, identity(bus)))
        bus.group(FOUNDED, system, self._actor.kind, max_deliveries=1000)
        fetch = self._part.dice.choice((1, 1, 16))
        sub = bus.subscribe(system, self._actor.kind, group=FOUNDED, exclusive=True, prefetch=fetch)
        write(entry(Kind.JOINED, self._who, bus.stats().sent, 0, identity(bus)))
        removal = threading.Thread(target=self._remove, args=(self._part.dice.random() * self._actor.lasts,))
        removal.start()
        self._work(sub)
        removal.join()
        write(entry(Kind.LOST, self._who, 0), entry(Kind.ENDED, self._who))
        if not self._removed and self._part.phase == PUBLISH:
            self._part.ledger.fault(f"{self._who} came to its end, and nobody had removed its group")
        if sub.receive(0) is not None or sub.receive_many(9, 0):
            self._part.ledger.fault(f"{self._who} got something after its end")
        sub.close()

    def _work(self, sub: Subscription) -> None:
        while not sub.closed:
            one = sub.receive(LOOK)
            if one is not None:
                self._part.ledger.write(noted(self._part, self._who, one))

    def _remove(self, after: float) -> None:
        until = time.monotonic() + after
        while time.monotonic() < until and self._part.phase == PUBLISH:
            time.sleep(0.01)
        try:
            self._removed = True
            remove(self._bus)
            self._part.ledger.write(entry(Kind.REMOVED, self._who))
        except ClosedError:
            if self._part.phase == PUBLISH:
                self._part.ledger.fault(traceback.format_exc())
