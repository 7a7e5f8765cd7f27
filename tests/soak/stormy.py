"""Who goes on, whatever a signal handler raises in the middle of a call: nothing is lost of what it sends and gets."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

from eventbus import (
    Bus,
    ClosedError,
    Event,
    FullError,
    RemoteError,
    SubscribersFullError,
    Subscription,
    UnavailableError,
)
from soak.actors import DRAIN, LIFETIME, PUBLISH, Part, Sending, blame, identity
from soak.ledger import Kind, Why, entry
from soak.message import DENIED, message
from soak.receivers import LOOK, noted
from soak.roles import SESSIONS, Actor, Group, Publisher, Stormy
from soak.storm import Boom, Storm
from soak.viewers import Album

SENDS = SESSIONS - 1  # the last of its numbers is that of the publisher
ENOUGH = 400  # steps, after which it may leave the bus and come back


def weather(part: Part) -> None:
    """Opens, sends, asks, receives and closes in a storm, until the bus is shut down."""
    actor = part.actor
    assert isinstance(actor, Stormy)
    sys.unraisablehook = lambda _: None  # the handler raises in destructors too
    storm = Storm(part.dice, actor.every, LIFETIME)
    storm.begin()
    stormy = _Weathering(part, actor, storm)
    for session in range(SENDS):
        if session and part.phase != PUBLISH:
            break
        stormy.attend(actor.number * SESSIONS + session)
    storm.end()


class _Weathering:
    """One process in a storm; it has one bus after the other."""

    def __init__(self, part: Part, actor: Stormy, storm: Storm) -> None:
        self._part, self._actor, self._storm = part, actor, storm
        self._dice = part.dice
        self._views = looks(actor)
        self._group = next((one for one in part.plan.groups if one.number == actor.group), None)
        sender = Publisher(actor.number, seed=actor.seed, batch=self._dice.choice((1, 4)), patient=False)
        self._sending = Sending(part, sender, self, SENDS)
        self._bus: Bus
        self._which = 0

    def now(self) -> tuple[Bus, int]:
        """The bus, and which one it is."""
        return self._bus, self._which

    def attend(self, who: int) -> None:
        """Opens the bus, takes part, and leaves it."""
        self._bus = self._storm.again(self._part.attach)
        self._which = self._storm.again(lambda: identity(self._bus))
        self._part.ledger.write(entry(Kind.OPENED, c=self._which))
        sub = self._join(who)
        if sub is not None:
            _Attendance(self._part, self._storm, self._group, sub, who).run(self._act)
            del sub
        self._part.ledger.write(entry(Kind.LEAVING, c=self._which))
        self._storm.again(self._bus.close)
        gc.collect()

    # --- what it joins ---

    def _join(self, who: int) -> Subscription | None:
        try:
            return self._join_group(self._group, who) if self._group else self._subscribe(who)
        except SubscribersFullError:
            self._part.ledger.write(entry(Kind.DISTURBED, who, flag=Why.NO_SLOT))
            if self._part.plan.max_subscribers == 64:
                raise
            time.sleep(0.05)
        except ClosedError:
            if self._part.phase == PUBLISH:
                raise
        return None

    def _sent(self) -> int:
        return self._storm.again(self._bus.stats).sent

    def _subscribe(self, who: int) -> Subscription:
        write = self._part.ledger.write
        while True:
            write(entry(Kind.JOINING, who, self._sent(), 0, self._which))
            try:
                sub = self._storm.exposed(lambda: self._bus.subscribe("**", view=self._views))
            except Boom:
                continue
            write(entry(Kind.JOINED, who, self._sent(), 0, self._which))
            return sub

    def _join_group(self, group: Group, who: int) -> Subscription:
        write, bus, which = self._part.ledger.write, self._bus, self._which
        terms = {"start": group.start, "max_deliveries": group.max_deliveries}
        write(entry(Kind.GROUPING, group.number, self._sent(), c=which))
        self._storm.again(lambda: bus.group(group.name, group.system, group.kind, **terms))  # type: ignore[arg-type]
        write(entry(Kind.GROUPED, group.number, self._sent(), c=which))
        write(entry(Kind.JOINING, who, c=which, other=group.number))
        fetch = self._dice.choice((1, 1, 8))
        sub = self._storm.again(
            lambda: bus.subscribe(group.system, group.kind, group=group.name, prefetch=fetch, view=self._views)
        )
        write(entry(Kind.JOINED, who, c=which, other=group.number))
        return sub

    # --- what it sends ---

    def _act(self) -> None:
        """Sends or asks, or does not; interrupted, nobody knows whether it was sent."""
        luck = self._dice.random()
        try:
            if luck < 0.3:
                self._sending.send()
            elif luck < 0.35:
                self._ask()
        except Boom:
            pass

    def _ask(self) -> None:
        """A request, which nobody answers."""
        number, traffic = self._sending.next, self._part.plan.traffic
        one = message(traffic, publisher := self._actor.number * SESSIONS + SENDS, number)
        size = max(one.bytes - traffic.capacity // 32, len(one.path) - 1000, len(one.kind) - 100)
        if one.over or one.system == DENIED or size > 0:
            return
        self._sending.next += 1
        write = self._part.ledger.write
        write(entry(Kind.WILL, publisher, number, number, self._which))
        try:
            self._bus.request(*one[:4], timeout=self._dice.choice((0, 0.01)), headers=one.headers or None)
        except FullError as error:
            blame(self._part, publisher, self._which, error)
            write(entry(Kind.NOT_SENT, publisher, number, number, self._which, flag=Why.FULL))
        except SubscribersFullError:
            write(entry(Kind.NOT_SENT, publisher, number, number, self._which, flag=Why.NO_SLOT))
        except RemoteError:  # whoever might have answered gave it up
            write(entry(Kind.SENT, publisher, number, number, self._which))
        except UnavailableError:
            pass  # sent, most likely, and not answered
        except ClosedError:
            if self._part.phase < DRAIN:
                raise


def looks(actor: Actor) -> bool:
    """Whether it looks at raw data where they lie."""
    return actor.number % 2 == 0


class _Attendance:
    """One subscription or membership in a storm, from its beginning to its end."""

    def __init__(self, part: Part, storm: Storm, group: Group | None, sub: Subscription, who: int) -> None:
        self._part, self._storm, self._sub, self._who = part, storm, sub, who
        self._member = group is not None
        self._hand: list[int] = []  # what a member got last
        self._seen: list[int] = []  # and anybody
        assert isinstance(part.actor, Stormy)
        self._reject = part.actor.reject
        self._album = Album(part, who, looks(part.actor), 5)

    def run(self, act: Callable[[], None]) -> None:
        """Until the end of the bus, or until it has had enough; ``act`` is what it does beside."""
        drained, steps, publishing = False, 0, True
        while not drained:
            publishing = self._part.phase == PUBLISH
            if publishing and steps > ENOUGH:
                break
            if publishing:
                act()
            steps += 1
            drained = not self._step(publishing) and self._storm.again(lambda: self._sub.closed)
        self._finish(drained)

    def _step(self, publishing: bool) -> bool:
        """Asks for more; False when the time was up."""
        self._album.over(self._seen)
        self._note(Kind.ASKING)
        try:
            events = self._album.looked(self._take(self._part.dice.choice((0, 0.002, 0.02)) if publishing else LOOK))
        except Boom:
            self._part.ledger.write(entry(Kind.INTERRUPTED, self._who))
            return True
        self._seen = [event.sequence for event in events]
        done = [entry(Kind.ACKED, self._who, sequence) for sequence in self._hand]
        if self._member:
            self._hand = [event.sequence for event in events]
        self._part.ledger.write(*done, *(noted(self._part, self._who, event) for event in events))
        if self._hand and self._part.dice.random() < self._reject:
            self._album.over(self._seen)
            self._note(Kind.REJECTING)
            self._hand = []
            self._storm.again(self._sub.reject)
        return bool(events)

    def _take(self, timeout: float) -> list[Event]:
        """The last that runs in it is the bus's own, so that nothing is lost between the two."""
        if not self._member and self._part.dice.random() < 0.7:
            return self._sub.receive_many(64, timeout)
        event = self._sub.receive(timeout)
        return [] if event is None else [event]

    def _finish(self, drained: bool) -> None:
        self._album.over(self._seen)
        if self._member:
            self._storm.again(self._sub.ack)  # interrupted, ``close`` may give back what is in hand
            self._note(Kind.ACKED)
        else:
            lost = self._storm.again(lambda: self._sub.lost)
            self._part.ledger.write(entry(Kind.LOST, self._who, lost), entry(Kind.ENDED, self._who, flag=drained))
        self._storm.again(self._sub.close)
        self._album.close()
        if self._member:
            self._part.ledger.write(entry(Kind.ENDED, self._who, flag=drained))

    def _note(self, kind: Kind) -> None:
        self._part.ledger.write(*[entry(kind, self._who, sequence) for sequence in self._hand])
