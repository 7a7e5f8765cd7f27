"""Who hears nothing of what passes and stands still meanwhile, and who whispers: to them, now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator

from eventbus import Bus, ClosedError, Event
from soak.actors import PUBLISH, Part, Sending, Shared, left
from soak.ledger import Kind, entry
from soak.message import WHISPERED
from soak.receivers import Listening, Membership, subscribe
from soak.roles import SESSIONS, Bystander, Caretaker, Group, Whisperer

LONGEST_STILL = 2.0  # seconds after which whoever stands still looks, though no bell has rung
SLOW = 0.2  # seconds that it takes at most to get up when the bell has rung: so long the ring is held up
LOOKS = 0.01  # seconds that it waits: a mere poll may not get past all that has passed


def whisper(part: Part) -> None:
    """Sends to the quiet systems now and then, and rings the bell that tells of it, outside of the bus."""
    actor = part.actor
    assert isinstance(actor, Whisperer)
    shared = Shared(part)
    sending = Sending(part, actor, shared, WHISPERED)
    while part.phase == PUBLISH:
        until = time.monotonic() + part.dice.random() * 2 * actor.pause
        while time.monotonic() < until and part.phase == PUBLISH:
            time.sleep(0.02)
        sending.send()
        part.stage.ring()
    shared.close()


def stand_still(part: Part, heard: int) -> int:
    """Receives nothing while rings pass, until the bell rings another time than ``heard``; which time that is."""
    until = time.monotonic() + part.dice.random() * LONGEST_STILL
    while time.monotonic() < until and part.phase == PUBLISH and part.stage.bell == heard:
        time.sleep(0.01)
    heard = part.stage.bell
    time.sleep(part.dice.random() * SLOW)
    return heard


def stand(part: Part) -> None:
    """A bystander: a subscriber that mostly stands still."""
    assert isinstance(part.actor, Bystander)
    subscribe(part, _Standing)


class _Standing(Listening):
    """A subscription that is received on only when the bell has rung, or after a long time."""

    def _batches(self) -> Iterator[list[Event]]:
        heard = 0
        while self._part.phase == PUBLISH:
            self._part.ledger.write(entry(Kind.STILL, self._who))
            heard = stand_still(self._part, heard)
            while events := self._sub.receive_many(self._part.dice.randint(1, 64), LOOKS):
                yield events
        yield from super()._batches()


def care(part: Part) -> None:
    """Whoever looks after a quiet group: its member for a moment when the bell has rung, so that it mostly has none."""
    actor = part.actor
    assert isinstance(actor, Caretaker)
    group = next(one for one in part.plan.groups if one.number == actor.group)
    with left(part, part.open()) as bus:
        try:
            _visit_now_and_then(part, bus, group, actor)
        except ClosedError:
            if part.phase == PUBLISH:
                raise


def _visit_now_and_then(part: Part, bus: Bus, group: Group, actor: Caretaker) -> None:
    part.make_group(bus, group)
    heard = 0
    for session in range(SESSIONS):
        heard = stand_still(part, heard)
        if part.phase != PUBLISH:
            return
        member = Membership(part, bus, group, actor, actor.number * SESSIONS + session)
        while member.step(LOOKS):
            pass
        member.sub.close()
        member.end(False)
