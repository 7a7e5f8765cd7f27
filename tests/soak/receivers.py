"""Subscribers and members of groups: what they got they write down, after they have made sure that it is whole."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from eventbus import Bus, ClosedError, Event, SubscribersFullError, Subscription, UnavailableError
from soak import awaiting
from soak.actors import PUBLISH, Part, identity, left
from soak.ledger import Entry, Kind, Why, entry
from soak.message import ANSWER_SYSTEM, DEAD_SYSTEM, answer_topic, number_of, wrong, wrong_letter
from soak.roles import SESSIONS, Group, Member, Subscriber
from soak.viewers import Album

LOOK = 0.25  # seconds that a receive waits at most


class Abandon(Exception):
    """Leaves a subscription as an error would."""


def noted(part: Part, who: int, event: Event) -> Entry:
    """The entry for an event, which must be exactly what was sent."""
    limits = {group.name: group for group in part.plan.groups}
    if event.system == DEAD_SYSTEM:
        letter = event.data
        group = limits[letter["group"]]
        problem = wrong_letter(part.plan.traffic, letter) if letter["system"] != DEAD_SYSTEM else "of a letter"
        if dict(event.headers) != letter.get("headers", {}):
            problem = f"with the headers {dict(event.headers)}"
        if letter["deliveries"] != group.max_deliveries:
            problem = f"after {letter['deliveries']} deliveries"
        if problem:
            part.ledger.fault(f"{who}: a dead letter {problem}: {str(letter)[:500]}")
        return entry(
            Kind.LETTER,
            who,
            event.sequence,
            letter["sequence"],
            event.time,
            other=group.number,
            deliveries=event.deliveries,
        )
    if event.system.startswith(ANSWER_SYSTEM):
        return _noted_answer(part, who, event)
    problem = wrong(part.plan.traffic, event.system, event.kind, event.path, event.data, event.headers)
    publisher, number = number_of(part.plan.traffic, event.path) or (0, 0)
    if problem:
        part.ledger.fault(f"{who} got sequence {event.sequence} from {event.sender}: {problem}")
    return entry(Kind.GOT, who, event.sequence, number, event.time, other=publisher, deliveries=event.deliveries)


def _noted_answer(part: Part, who: int, event: Event) -> Entry:
    request = int(event.path[:12], 16)
    if (event.system, event.kind) != answer_topic(request) or event.data["type"] != "Exhausted":
        part.ledger.fault(f"{who} got sequence {event.sequence}, an answer that nobody gave: {event}")
    return entry(Kind.ANSWER, who, event.sequence, request, event.time, deliveries=event.deliveries)


# --- subscribers ---


def subscribe(part: Part, listening: type[Listening] | None = None) -> None:
    """A subscriber: one subscription after the other, until the bus is shut down."""
    listening = listening or Listening
    actor = part.actor
    assert isinstance(actor, Subscriber)
    for session in range(SESSIONS):
        if session and (part.phase != PUBLISH or not actor.reopen):
            return
        with left(part, part.open(actor.role)) as bus:
            sub = join(part, bus, actor, actor.number * SESSIONS + session)
            if sub is not None:
                listening(part, bus, actor, sub, actor.number * SESSIONS + session).run()


def join(part: Part, bus: Bus, actor: Subscriber, who: int) -> Subscription | None:
    """Subscribes, and writes down between which events it did."""
    sent = bus.stats().sent
    starts = {
        "past": max(1, sent - part.dice.randrange(2000)),
        "next": sent + 1,
    }
    start = starts.get(actor.start, actor.start)
    number = start if isinstance(start, int) else 0
    part.ledger.write(entry(Kind.JOINING, who, sent, number, identity(bus)))
    try:
        sub = bus.subscribe(
            actor.system,
            actor.kind,
            overflow=actor.overflow,
            start=start,  # type: ignore[arg-type]
            name=str(who),
            view=actor.view is not None,
        )
    except SubscribersFullError:
        part.ledger.write(entry(Kind.DISTURBED, who, flag=Why.NO_SLOT))
        if part.plan.max_subscribers == 64:
            raise
        time.sleep(0.05)
        return None
    except ClosedError:
        if part.phase == PUBLISH:
            raise
        return None
    part.ledger.write(entry(Kind.JOINED, who, bus.stats().sent, number, identity(bus)))
    return sub


class Listening:
    """One subscription and the threads that receive on it."""

    def __init__(self, part: Part, bus: Bus, actor: Subscriber, sub: Subscription, who: int) -> None:
        self._part = part
        self._bus = bus
        self._actor = actor
        self._sub = sub
        self._who = who
        self._count = 0
        self._leaving = False
        self._album = Album(part, who, actor.view is not None, actor.view or 0, lambda: self._leaving)

    def run(self) -> None:
        """Until the end of the bus, or until it has had enough."""
        threads = [threading.Thread(target=self._work) for _ in range(1, self._actor.threads)]
        for thread in threads:
            thread.start()
        self._work()
        for thread in threads:
            thread.join()
        drained = not self._leaving and self._bus.closed
        if not drained and not self._leaving:
            self._part.ledger.fault(f"{self._who} came to its end, but its bus was not shut down")
        self._part.ledger.write(entry(Kind.LOST, self._who, self._sub.lost), entry(Kind.ENDED, self._who, flag=drained))
        self._sub.close()
        self._album.close()

    def _work(self) -> None:
        try:
            for batch in self._batches():
                events = self._album.looked(batch)
                self._part.ledger.write(*[noted(self._part, self._who, event) for event in events])
                self._count += len(events)
                if self._actor.pause and self._part.dice.random() < 0.05:
                    time.sleep(self._actor.pause)
                self._album.over(event.sequence for event in events)
                if self._actor.reopen and self._count >= self._actor.reopen and self._part.phase == PUBLISH:
                    self._leaving = True
                    self._sub.close()
                    return
        except BaseException:
            self._part.ledger.fault(f"{self._actor}: {traceback.format_exc()}")

    def _batches(self) -> Iterator[list[Event]]:
        sub, style = self._sub, self._actor.style
        if style == "iterate":
            for event in sub:
                yield [event]
            return
        calls: dict[str, Callable[[], tuple[list[Event], bool]]] = {
            "one": self._one,
            "many": self._many,
            "channel": self._channel,
            "await": self._await,
            "await many": self._await_many,
        }
        while True:
            events, more = calls[style]()
            if events:
                yield events
            elif not more:
                return

    def _one(self) -> tuple[list[Event], bool]:
        event = self._sub.receive(LOOK)
        return ([event], True) if event is not None else ([], not self._sub.closed)

    def _many(self) -> tuple[list[Event], bool]:
        events = self._sub.receive_many(self._part.dice.randint(1, 64), LOOK)
        return events, bool(events) or not self._sub.closed

    def _await(self) -> tuple[list[Event], bool]:
        events = awaiting.receive_or_give_up(self._sub, self._part.dice, LOOK)
        return events, bool(events) or not self._sub.closed

    def _await_many(self) -> tuple[list[Event], bool]:
        events = awaiting.receive_many(self._sub, self._part.dice.randint(1, 64), LOOK)
        return events, bool(events) or not self._sub.closed

    def _channel(self) -> tuple[list[Event], bool]:
        event, more = self._sub.channel().receive(LOOK)
        return [event] if event is not None else [], more


# --- members ---


class Session(Protocol):
    """What a member does between joining and leaving."""

    def run(self) -> None:
        """All of it."""


def belong(part: Part, begin: Callable[[Part, Bus, Group, Any, int], Session]) -> None:
    """A member of a group, again and again, until the bus is shut down."""
    actor = part.actor
    assert isinstance(actor, Member)
    group = next(one for one in part.plan.groups if one.number == actor.group)
    for session in range(SESSIONS):
        if session and (part.phase != PUBLISH or not actor.reopen):
            return
        with left(part, part.open()) as bus:
            try:
                session_of = begin(part, bus, group, actor, actor.number * SESSIONS + session)
            except ClosedError:
                if part.phase == PUBLISH:
                    raise
                return
            session_of.run()


class Membership:
    """One membership, and what it has in hand."""

    def __init__(self, part: Part, bus: Bus, group: Group, actor: Member, who: int) -> None:
        self._part = part
        self._actor = actor
        self._who = who
        self._hand: list[int] = []
        self._count = 0
        part.make_group(bus, group)
        part.ledger.write(entry(Kind.JOINING, who, c=identity(bus), other=group.number))
        views = actor.view is not None
        self._album = Album(part, who, views, actor.view or 0)
        self.sub = bus.subscribe(group.system, group.kind, group=group.name, prefetch=actor.prefetch, view=views)
        part.ledger.write(entry(Kind.JOINED, who, c=identity(bus), other=group.number))

    def run(self) -> None:
        """Until the end of the bus, or until it has had enough."""
        drained = False
        try:
            with self.sub:
                while not drained and not self._enough():
                    drained = not self.step(LOOK) and self.sub.closed
                    if self._actor.pause and self._part.dice.random() < 0.05:
                        time.sleep(self._actor.pause)
                self._album.over(self._hand)
                if self._hand and self._part.dice.random() < 0.3:
                    self._note(Kind.REJECTING)
                    self._hand = []
                    raise Abandon
                self._note(Kind.ASKING)
        except Abandon:
            pass
        self.end(drained)

    def _enough(self) -> bool:
        return 0 < self._actor.reopen <= self._count and self._part.phase == PUBLISH

    def step(self, timeout: float) -> bool:
        """Asks for the next, which acknowledges what was in hand; whether there was any."""
        self._album.over(self._hand)
        self._note(Kind.ASKING)
        try:
            events = self._album.looked(self._ask(timeout))
        except UnavailableError as error:
            if type(error) is not UnavailableError:
                raise
            return True  # a member stands still with the group's lock, for longer than a second: it is asked again
        done = [entry(Kind.ACKED, self._who, sequence) for sequence in self._hand]
        self._hand = [event.sequence for event in events]
        self._count += len(events)
        self._part.ledger.write(*done, *(noted(self._part, self._who, event) for event in events))
        if self._hand and self._part.dice.random() < self._actor.reject:
            self._album.over(self._hand)
            self._note(Kind.REJECTING)
            self._hand = []
            self.sub.reject()
        elif self._hand and self._actor.style == "ack":
            self._album.over(self._hand)
            self._note(Kind.ASKING)
            self.sub.ack()
            self._note(Kind.ACKED)
            self._hand = []
        return bool(events)

    def _ask(self, timeout: float) -> list[Event]:
        if self._actor.style == "many":
            return self.sub.receive_many(self._part.dice.randint(1, 20), timeout)
        if self._actor.style == "await":
            return awaiting.receive(self.sub, timeout)
        if self._actor.style == "await many":
            return awaiting.receive_many(self.sub, self._part.dice.randint(1, 20), timeout)
        return [event for event in [self.sub.receive(timeout)] if event is not None]

    def end(self, drained: bool) -> None:
        """It has been closed, which acknowledged what was in hand; nothing was if it was left by an error."""
        self._album.close()
        self._note(Kind.ACKED)
        self._part.ledger.write(entry(Kind.ENDED, self._who, flag=drained))

    def _note(self, kind: Kind) -> None:
        self._part.ledger.write(*[entry(kind, self._who, sequence) for sequence in self._hand])
