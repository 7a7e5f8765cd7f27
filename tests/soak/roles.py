"""Who takes part in a round: each sort of actor, and what its plan says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SESSIONS = 64  # subscriptions and publishers that one actor may have after each other: their numbers start with its own


@dataclass(frozen=True)
class Actor:
    """One process.

    Attributes:
        number: its own, unique in the round.
        delay: seconds after the round's begin at which it starts.
        clocked: runs under a clock that jumps.
        nested: forked by a process that has the bus open, by number; else 0.
        reopen: leaves the bus and comes back after so many events or sends; 0 never.
        seed: of its own dice.
    """

    number: int
    delay: float = 0.0
    clocked: bool = False
    nested: int = 0
    reopen: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Publisher(Actor):
    """Sends.

    Attributes:
        threads: how many threads send.
        batch: the most events of one send; 1 for send, more for send_many.
        pause: seconds between two sends.
        patient: waits so long that a refusal can only be a defect.
    """

    threads: int = 1
    batch: int = 1
    pause: float = 0.0
    patient: bool = True


@dataclass(frozen=True)
class Subscriber(Actor):
    """Receives.

    Attributes:
        system, kind: its patterns.
        overflow, start: as in ``subscribe``; "past", "next" and "future" are sequences around what has been sent.
        role: as in ``open``.
        style: "one", "many", "iterate", "channel"; "await" and "await many" in event loops.
        threads: how many threads share the subscription.
        pause: seconds after an event, for one event in twenty.
        view: looks at raw data where they lie, and keeps parts of so many events.
    """

    system: str = "**"
    kind: str | None = None
    overflow: Literal["block", "drop"] = "block"
    start: str = "latest"
    role: Literal["member", "subscriber"] = "member"
    style: str = "one"
    threads: int = 1
    pause: float = 0.0
    view: int | None = None


@dataclass(frozen=True)
class Group:
    """A group of the round."""

    number: int
    system: str
    kind: str | None
    max_deliveries: int
    start: Literal["latest", "oldest"]

    @property
    def name(self) -> str:
        """On the bus."""
        return f"g{self.number}"


@dataclass(frozen=True)
class Member(Actor):
    """A member of a group.

    Attributes:
        group: the group's number.
        style: "next" acknowledges by asking on, "ack" by ``ack``, "many" takes several at once; "await" and
            "await many" wait in event loops.
        reject: the part of the events that it gives back.
        view: as of a subscriber.
    """

    group: int = 0
    prefetch: int = 1
    style: str = "next"
    reject: float = 0.0
    pause: float = 0.0
    view: int | None = None


@dataclass(frozen=True)
class Juggler(Member):
    """A member that finishes each event by itself, in any order, with several in hand.

    Attributes:
        apart: another thread finishes than the one that receives.
        long: the part of the events that it has in hand for long.
    """

    apart: bool = False
    long: float = 0.0


@dataclass(frozen=True)
class Visitor(Actor):
    """Comes and goes: opens, looks, subscribes, sends nothing, leaves; its descriptors must not grow."""


@dataclass(frozen=True)
class Maker(Actor):
    """Makes buses that do not fit into shared memory, and fills what is left of it."""


@dataclass(frozen=True)
class Nursery(Actor):
    """Has the bus open and a subscription of its own, and forks the actors that name it in ``nested``."""


@dataclass(frozen=True)
class Keeper(Actor):
    """Makes the bus and its groups and stays to the end; nobody kills it. It may be one that hears everything."""

    listens: bool = True


@dataclass(frozen=True)
class Finisher(Actor):
    """Ends the round: drains the groups, shuts the bus down, looks whether it is as it should be."""

    dies: bool = False


@dataclass(frozen=True)
class Reopener(Publisher):
    """Sends by its threads while it leaves the bus and comes back, and forks those that name it in ``nested``."""


@dataclass(frozen=True)
class Offspring(Publisher):
    """Goes on with the bus that a fork in the middle of everything left it, sends a little, and ends.

    Attributes:
        sends: how many sends it makes at most.
        ending: how: "close", "fall" (off the end of the program) or "exit" (without a word).
    """

    sends: int = 20
    ending: str = "close"


@dataclass(frozen=True)
class Stormy(Actor):
    """Sends, asks and receives, while a signal handler raises at random moments; nothing may be lost of it.

    Attributes:
        every: seconds between two signals, on average.
        group: the number of the group that it is a member of; 0 for a subscription of its own.
        reject: the part of the events that a member gives back.
    """

    every: float = 0.002
    group: int = 0
    reject: float = 0.0


@dataclass(frozen=True)
class Whisperer(Publisher):
    """Sends to quiet systems, and rings the bell for those who hear them."""


@dataclass(frozen=True)
class Planner(Publisher):
    """Has events sent later, and cancels some, its own and others'.

    Attributes:
        longest: seconds until one is due at most.
        cancel: the part of its turns in which it cancels one.
    """

    longest: float = 0.5
    cancel: float = 0.2


@dataclass(frozen=True)
class Bystander(Subscriber):
    """Hears quiet systems only, and stands still but for a moment after the bell has rung."""


@dataclass(frozen=True)
class Caretaker(Member):
    """Makes a quiet group, and is a member of it only for a moment after the bell has rung."""


@dataclass(frozen=True)
class Founder(Subscriber):
    """Makes a group of the patterns, is its only member, and removes it, again and again.

    Attributes:
        lasts: how many seconds a group is there at most.
    """

    lasts: float = 0.5
