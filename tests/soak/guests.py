"""Who neither publishes nor is subscribed for long: keeper, visitors, makers, nurseries, and the finisher."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from functools import partial

import eventbus
from eventbus import Bus, ClosedError, SubscribersFullError
from soak.actors import DRAIN, LEAVE, PATIENCE, PUBLISH, Part, descriptors, identity, left, live, publish
from soak.bystanders import care, stand, whisper
from soak.founders import found, remove
from soak.handfuls import Handful
from soak.ledger import Kind, Why, entry
from soak.message import FOUNDED, wrong
from soak.planners import plan
from soak.receivers import Listening, Membership, belong, join, subscribe
from soak.reopeners import go_on, reopen
from soak.roles import (
    SESSIONS,
    Bystander,
    Caretaker,
    Finisher,
    Founder,
    Juggler,
    Keeper,
    Maker,
    Member,
    Nursery,
    Offspring,
    Planner,
    Publisher,
    Reopener,
    Stormy,
    Subscriber,
    Visitor,
    Whisperer,
)
from soak.stormy import weather

SETTLED = 0.6  # seconds for which the groups must have had nothing to do: longer than a member waits for an event
SHARED_MEMORY = "/dev/shm"


def perform(part: Part) -> None:
    """What the actor does."""
    works = {Publisher: publish, Subscriber: subscribe, Keeper: keep, Visitor: visit, Maker: make}
    works |= {Member: partial(belong, begin=Membership), Juggler: partial(belong, begin=Handful)}
    works |= {Nursery: nurse, Finisher: finish, Whisperer: whisper, Bystander: stand, Caretaker: care, Founder: found}
    works |= {Reopener: reopen, Offspring: go_on, Stormy: weather, Planner: plan}
    works[type(part.actor)](part)


def keep(part: Part) -> None:
    """Makes the bus and its groups, and stays until it is shut down."""
    actor = part.actor
    assert isinstance(actor, Keeper)
    with left(part, part.open()) as bus:
        for group in part.plan.groups:
            part.make_group(bus, group)
        who = actor.number * SESSIONS
        sub = join(part, bus, Subscriber(actor.number), who) if actor.listens else None
        part.ledger.write(entry(Kind.LOOKED))
        if sub is not None:
            Listening(part, bus, Subscriber(actor.number, style="many"), sub, who).run()
        while not bus.closed:
            time.sleep(0.02)


def visit(part: Part) -> None:
    """Opens the bus, looks at it, listens for a moment and leaves, again and again; nothing of that stays behind."""
    last = (0, 0)
    _look(part, last)  # so that whatever is opened once and for all is open
    before = descriptors()
    while part.phase == PUBLISH:
        last = _look(part, last)
        if descriptors() > before:
            listed = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]]
            part.ledger.fault(f"a visitor's descriptors grew from {before}: {listed}")
            return
        time.sleep(part.dice.random() * 0.02)


def _look(part: Part, last: tuple[int, int]) -> tuple[int, int]:
    with left(part, part.open(part.dice.choice(("member", "subscriber")))) as bus:
        try:
            with bus.subscribe("**", overflow="drop", start="oldest") as sub:
                bus.wait_for_subscribers(1, timeout=0.05)
                for _ in range(part.dice.randrange(20)):
                    event = sub.receive(0.001)
                    if event is not None and not event.system.startswith("eventbus."):
                        system, kind, path, data, *_ = event
                        problem = wrong(part.plan.traffic, system, kind, path, data, event.headers)
                        if problem:
                            part.ledger.fault(f"a visitor got sequence {event.sequence}: {problem}")
        except SubscribersFullError:
            part.ledger.write(entry(Kind.DISTURBED, flag=Why.NO_SLOT))
        except ClosedError:
            if part.phase == PUBLISH:
                raise
        stats, now = bus.stats(), identity(bus)
        part.ledger.write(entry(Kind.LOOKED))
        if stats.used > stats.capacity or (now == last[0] and stats.sent < last[1]):
            part.ledger.fault(f"impossible figures after {last}: {stats}")
        return now, stats.sent


def make(part: Part) -> None:
    """Tries to make buses that do not fit: an error each, nothing left behind, and the others go on."""
    name = f"{part.stage.name}-big"
    before = descriptors()
    while part.phase == PUBLISH:
        filler = _fill() if part.plan.small and part.dice.random() < 0.7 else -1
        try:
            with eventbus.open(name, capacity=1 << 40):
                part.ledger.fault("a bus of 1 TiB was made")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            part.ledger.write(entry(Kind.REFUSED))
        time.sleep(part.dice.random() * 0.1)
        if filler >= 0:
            os.close(filler)
        if any(entry.startswith(f"eventbus.{name}.") for entry in os.listdir(SHARED_MEMORY)):
            part.ledger.fault("a bus that could not be made left something behind")
        if descriptors() > before:
            part.ledger.fault(f"the descriptors of who makes no bus grew from {before} to {descriptors()}")
        time.sleep(part.dice.random() * 0.1)


def _fill() -> int:
    """Takes all that is left of shared memory, by a file without a name; its descriptor."""
    fd = os.open(SHARED_MEMORY, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    step, size = 1 << 20, 0
    while step >= 4096:
        try:
            os.posix_fallocate(fd, size, step)
            size += step
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            step //= 2
    return fd


def nurse(part: Part) -> None:
    """Receives in a thread while it forks actors that go on with the bus it has open."""
    actor = Subscriber(part.actor.number, seed=part.actor.seed)
    with left(part, part.open()) as bus:
        who = actor.number * SESSIONS
        sub = join(part, bus, actor, who)
        if sub is None:
            return
        listening = Listening(part, bus, actor, sub, who)
        thread = threading.Thread(target=listening.run)
        thread.start()
        nested = [one for one in (*part.plan.actors, *part.plan.second) if one.nested == part.actor.number]
        for child in nested:
            time.sleep(part.dice.random() * 0.2)
            if os.fork() == 0:
                live(part.stage, child, lambda born: _grow(born, sub), bus)
        thread.join()


def _grow(part: Part, inherited: eventbus.Subscription) -> None:
    """A child: what it inherited of subscriptions is of no use, what it inherited of the bus is."""
    with contextlib.suppress(ClosedError):
        inherited.receive(0)
        part.ledger.fault("an inherited subscription went on in a child")
    perform(part)


# --- the end ---


def finish(part: Part) -> None:
    """Drains the groups until all is handled, shuts the bus down, and looks at what remains when all have left."""
    assert isinstance(part.actor, Finisher)
    before = descriptors()
    with left(part, part.open()) as bus:
        members = [_member(part, bus, number) for number in range(len(part.plan.groups))]
        settled = time.monotonic()
        while part.phase < DRAIN or time.monotonic() - settled < SETTLED:
            if any(group.name == FOUNDED for group in bus.stats().groups):
                remove(bus)
            came = [member.step(0) for member in members for _ in range(50)]
            if bus.stats().scheduled:
                _see_to_what_is_due(bus)
            if any(came) or not _idle(bus):
                settled = time.monotonic()
            if not any(came):
                time.sleep(0.005)
        bus.shutdown()
        for member in members:
            while member.step(PATIENCE) or not member.sub.closed:
                part.ledger.fault("something came to a group that had nothing to do")
            member.sub.close()
            member.end(True)
        stats = bus.stats()
        part.ledger.write(entry(Kind.SHUTDOWN, 0, stats.committed, stats.sent, identity(bus)))
        while part.phase < LEAVE:
            time.sleep(0.01)
        _inspect(part, bus)
        if part.actor.dies:
            os.kill(os.getpid(), signal.SIGKILL)
    if descriptors() > before:
        part.ledger.fault(f"the finisher's descriptors grew from {before} to {descriptors()}")


def _member(part: Part, bus: Bus, index: int) -> Membership:
    number, group = part.actor.number, part.plan.groups[index]
    return Membership(part, bus, group, Member(number, group=group.number, prefetch=4), number * SESSIONS + index)


def _see_to_what_is_due(bus: Bus) -> None:
    """Looks, as whoever finds nothing to receive does: perhaps nobody else is left to do so."""
    with bus.subscribe("nobody", overflow="drop") as sub:
        sub.receive(0)


def _idle(bus: Bus) -> bool:
    stats = bus.stats()
    busy = any(group.backlog or group.returned or any(one.events for one in group.members) for group in stats.groups)
    return not busy and not stats.scheduled


def _inspect(part: Part, bus: Bus) -> None:
    """All others have left or died: nothing may be left of them."""
    stats = bus.stats()
    counted = sum(stats.topics.values()) + stats.untabled
    left_behind = stats.subscribers or stats.scheduled or stats.attached != 1
    if left_behind or counted != stats.sent or stats.used > stats.capacity:
        part.ledger.fault(f"the bus is not as it should be, {counted} events counted: {stats}")
