"""The plan of a round: who takes part and what befalls them, drawn from the seed and the round's number alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Literal

from soak.message import PATTERNS, Traffic
from soak.roles import (
    Actor,
    Bystander,
    Caretaker,
    Founder,
    Group,
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

CAPACITIES = (64 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20)
LONGEST_STOP = 1.2  # seconds; far below the patience of whoever waits for a lock that a stopped process may hold


@dataclass(frozen=True)
class Blow:
    """What befalls an actor.

    Attributes:
        at: seconds after the round's begin.
        what: "kill", "stop", "stop and kill", "jump" (of the clock), "help" (it forks a helper in C), "kill helper",
            "kill all".
        actor: whom.
        seconds: how long it stands still, or how far the clock jumps.
    """

    at: float
    what: str
    actor: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Round:
    """One round."""

    number: int
    seconds: float
    traffic: Traffic
    max_subscribers: int
    persist: bool
    small: bool
    groups: tuple[Group, ...]
    actors: tuple[Actor, ...]
    blows: tuple[Blow, ...]
    second: tuple[Actor, ...] = field(default=())

    def __str__(self) -> str:
        kinds = [type(one).__name__ for one in (*self.actors, *self.second)]
        parts = [f"{kinds.count(kind)} {kind.lower()}s" for kind in sorted(set(kinds))]
        flags = [flag for flag in ("persist", "small") if getattr(self, flag)]
        flags += ["policy"] if self.traffic.policy else []
        flags += ["kill all"] if self.second else []
        size = f"{self.traffic.capacity >> 10} KiB"
        return ", ".join([size, f"{self.traffic.topics} topics", f"{self.traffic.sizes} sizes", *flags, *parts])


class _Draw:
    """Draws the parts of one round."""

    def __init__(self, dice: random.Random, seconds: float, clocks: bool) -> None:
        self.dice = dice
        self.seconds = seconds
        self.clocks = clocks
        self.last = 0

    def base(self, late: float = 0.4) -> dict[str, object]:
        """What all actors have."""
        self.last += 1
        dice = self.dice
        return {
            "number": self.last,
            "delay": dice.uniform(0, self.seconds * 0.6) if dice.random() < late else 0.0,
            "clocked": self.clocks and dice.random() < 0.12,
            "reopen": dice.choice((0, 0, 0, 300, 2000)),
            "seed": dice.getrandbits(32),
        }

    def publisher(self) -> Publisher:
        dice = self.dice
        made = Publisher(
            **self.base(0.3),  # type: ignore[arg-type]
            threads=dice.choice((1, 1, 1, 2, 4)),
            batch=dice.choice((1, 1, 1, 4, 20, 100)),
            pause=dice.choice((0.0, 0.0, 0.0005, 0.005)),
            patient=dice.random() < 0.7,
        )
        return replace(made, pause=max(made.pause, 0.0005)) if made.threads > 1 else made

    def subscriber(self) -> Subscriber:
        dice = self.dice
        patterns = [pattern for pattern in PATTERNS if pattern != "k.*" and "quiet" not in pattern]
        overflow: Literal["block", "drop"] = dice.choice(("block", "block", "drop"))
        return Subscriber(
            **self.base(),  # type: ignore[arg-type]
            system="**" if dice.random() < 0.5 else dice.choice(patterns),
            kind=dice.choice((None, None, "k.*")),
            overflow=overflow,
            start=dice.choice(("latest", "latest", "oldest", "past", "next", "next")),
            role=dice.choice(("member", "member", "subscriber")),
            style=dice.choice(("one", "many", "iterate", "channel", "await", "await many")),
            threads=dice.choice((1, 1, 1, 1, 3)),
            pause=dice.choice((0.0, 0.0, 0.001, 0.004 if overflow == "block" else 0.02)),
            view=dice.choice((None, 0, 3, 40)) if overflow == "block" else None,
        )

    def group(self, number: int) -> Group:
        dice = self.dice
        return Group(
            number=number,
            system=dice.choice(("**", "**", "a.**", "(a|b).**", "*")),
            kind=dice.choice((None, None, "k.*")),
            max_deliveries=dice.choice((1, 2, 5, 5, 10)),
            start=dice.choice(("latest", "oldest")),
        )

    def member(self, group: int) -> Member:
        dice = self.dice
        return Member(
            **self.base(),  # type: ignore[arg-type]
            group=group,
            prefetch=dice.choice((1, 1, 4, 16, 64)),
            style=dice.choice(("next", "next", "ack", "many", "await", "await many")),
            reject=dice.choice((0.0, 0.0, 0.02, 0.2)),
            pause=dice.choice((0.0, 0.001, 0.01)),
            view=dice.choice((None, None, 0, 20)),
        )

    def jugglers(self, groups: tuple[Group, ...]) -> list[Actor]:
        """Members that finish each event by itself, with those of other sorts or in a group of their own."""
        dice = self.dice
        made: list[Actor] = []
        for _ in range(dice.randrange(1, 4)):
            made.append(
                Juggler(
                    **{**self.base(), "reopen": dice.choice((0, 0, 300))},  # type: ignore[arg-type]
                    group=dice.choice(groups).number,
                    prefetch=dice.randint(1, 64),
                    style=dice.choice(("next", "many", "await")),
                    reject=dice.choice((0.0, 0.05, 0.2)),
                    apart=dice.random() < 0.5,
                    long=dice.choice((0.0, 0.005, 0.05, 0.2)),
                )
            )
        return made

    def looking(self, jugglers: list[Actor]) -> list[Actor]:
        """The same, of whom some look at raw data where they lie, and keep parts of them for longer than the events."""
        views = (None, 0, 0, 5, 20)
        return [replace(one, view=self.dice.choice(views)) for one in jugglers if isinstance(one, Juggler)]

    def company(self, groups: tuple[Group, ...]) -> list[Actor]:
        """Everybody but the keeper."""
        dice = self.dice
        made: list[Actor] = [self.publisher() for _ in range(dice.randrange(1, 5))]
        made += [self.subscriber() for _ in range(dice.randrange(1, 6))]
        made += [self.member(group.number) for group in groups for _ in range(dice.randrange(1, 5))]
        made += [Visitor(**self.base()) for _ in range(dice.choice((0, 0, 1)))]  # type: ignore[arg-type]
        if dice.random() < 0.35:
            nursery = Nursery(**{**self.base(), "clocked": False})  # type: ignore[arg-type]
            nested = dice.sample(range(len(made)), min(len(made), dice.randrange(1, 4)))
            for index in nested:
                made[index] = replace(made[index], nested=nursery.number, clocked=False, delay=0.0)
            made.append(nursery)
        return made

    def troubled(self, groups: tuple[Group, ...], storms: bool) -> list[Actor]:
        """Who re-opens while it sends, with what it forks, and who is interrupted; where handlers may be."""
        dice = self.dice
        made: list[Actor] = []
        if dice.random() < 0.4:
            parent = Reopener(
                **{**self.base(0.3), "clocked": False, "reopen": 1},  # type: ignore[arg-type]
                threads=dice.choice((2, 3, 4)),
                batch=dice.choice((1, 1, 4, 20)),
                pause=dice.choice((0.0005, 0.002)),
                patient=dice.random() < 0.5,
            )
            made += [parent, *(self.offspring(parent.number) for _ in range(dice.randrange(6)))]
        for _ in range(dice.choice((0, 0, 1, 2)) if storms else 0):
            every, reject = dice.choice((0.0005, 0.002, 0.01)), dice.choice((0.0, 0.05))
            group = dice.choice((0, *(one.number for one in groups)))
            made.append(Stormy(**self.base(0.2), every=every, group=group, reject=reject))  # type: ignore[arg-type]
        return made

    def quiet(self, groups: tuple[Group, ...]) -> list[Actor]:
        """Who stands still while rings pass, and who tells them something now and then."""
        dice = self.dice
        pause = dice.choice((0.3, 0.7, 1.5))
        made: list[Actor] = [Whisperer(**{**self.base(0.3), "reopen": 0}, pause=pause)]  # type: ignore[arg-type]
        for _ in range(dice.randrange(1, 5)):
            base = {**self.base(0.3), "reopen": dice.choice((0, 0, 3))}
            system, role = dice.choice(("quiet.a", "quiet.**")), dice.choice(("member", "subscriber"))
            made.append(Bystander(**base, system=system, role=role))  # type: ignore[arg-type]
        for group in groups:
            made += [Caretaker(**self.base(0.3), group=group.number) for _ in range(2)]  # type: ignore[arg-type]
        return made

    def founder(self) -> Founder:
        dice = self.dice
        system, kind = dice.choice(("**", "a.**", "(a|b).**")), dice.choice((None, "k.*"))
        base = {**self.base(0.3), "reopen": 0}
        return Founder(**base, system=system, kind=kind, lasts=dice.choice((0.1, 0.5, 2.0)))  # type: ignore[arg-type]

    def founders(self) -> tuple[list[Actor], list[Blow]]:
        """One that makes and removes groups, and who comes after each death: a group that is left behind stops all."""
        made: list[Actor] = [self.founder()]
        blows: list[Blow] = []
        at = made[0].delay
        for _ in range(self.dice.randrange(4)):
            at += self.dice.uniform(0.2, self.seconds / 2)
            if at < self.seconds:
                blows.append(Blow(at, self.dice.choice(("kill", "stop and kill")), made[-1].number, 0.3))
                made.append(self.replacement(made[-1], min(at + 0.4, self.seconds)))
        return made, blows

    def planners(self) -> list[Actor]:
        """Who has events sent later."""
        dice = self.dice
        return [
            Planner(
                **{**self.base(0.3), "reopen": dice.choice((0, 0, 100))},  # type: ignore[arg-type]
                pause=dice.choice((0.001, 0.01, 0.05)),
                longest=dice.choice((0.0, 0.01, 0.3, 2.0)),
                cancel=dice.choice((0.0, 0.1, 0.5)),
            )
            for _ in range(dice.randrange(1, 5))
        ]

    def offspring(self, parent: int) -> Offspring:
        dice = self.dice
        return Offspring(
            **{**self.base(0), "clocked": False, "reopen": 0, "nested": parent},  # type: ignore[arg-type]
            batch=dice.choice((1, 1, 4)),
            pause=dice.choice((0.0005, 0.005)),
            sends=dice.choice((0, 3, 30, 300)),
            ending=dice.choice(("close", "fall", "exit")),
        )

    def helpers(self, actors: list[Actor]) -> list[Blow]:
        """Who of these forks helpers in C, when, and which of them are killed."""
        dice = self.dice
        blows: list[Blow] = []
        for _ in range(dice.choice((0, 3, 6, 12)) if actors else 0):
            at, actor = dice.uniform(0.1, self.seconds), dice.choice(actors).number
            blows.append(Blow(at, "help", actor))
            if dice.random() < 0.3:
                blows.append(Blow(min(at + dice.uniform(0.01, 0.5), self.seconds), "kill helper", actor))
        return blows

    def replacement(self, gone: Actor, at: float) -> Actor:
        """Who takes the place of one that was killed."""
        self.last += 1
        return replace(gone, number=self.last, delay=at, nested=0, seed=self.dice.getrandbits(32))

    def blows(self, actors: list[Actor], counts: tuple[int, ...] = (0, 4, 8, 16, 30)) -> tuple[list[Blow], list[Actor]]:
        """Random deaths and stops among these, and who comes instead."""
        dice = self.dice
        blows: list[Blow] = []
        more: list[Actor] = []
        for _ in range(dice.choice(counts)):
            at = dice.uniform(0.2, self.seconds)
            victim = dice.choice(actors)
            what = dice.choice(("kill", "kill", "stop", "stop", "stop and kill"))
            blows.append(Blow(at, what, victim.number, dice.uniform(0.01, LONGEST_STOP)))
            if "kill" in what and dice.random() < 0.6:
                more.append(self.replacement(victim, min(at + dice.uniform(0, 0.5), self.seconds)))
        return blows, more


def draw(seed: int, number: int, *, shortest: float, longest: float, root: bool, clocks: bool, storms: bool) -> Round:
    """The round of this number of this seed, always the same on a host with the same tools."""
    dice = random.Random(f"{seed}/{number}")
    seconds = dice.uniform(shortest, longest)
    drawing = _Draw(dice, seconds, clocks)
    capacity = dice.choice(CAPACITIES)
    traffic = Traffic(
        nonce=f"{dice.getrandbits(40):010x}",
        capacity=capacity,
        topics=dice.choice(("few", "few", "many", "past")),
        sizes=dice.choice(("tiny", "mixed", "mixed", "large")),
        policy=dice.random() < 0.2,
    )
    small = root and dice.random() < 0.3
    groups = tuple(drawing.group(number) for number in range(1, dice.choice((0, 1, 1, 2)) + 1))
    kept = dice.random() < 0.7
    actors: list[Actor] = []
    if kept:
        keeper = Keeper(**drawing.base(), listens=dice.random() < 0.7)  # type: ignore[arg-type]
        actors.append(replace(keeper, delay=0.0, clocked=False, reopen=0))
    company = drawing.company(groups)
    persist, all_killed = dice.random() < 0.3, dice.random() < 0.2
    blows, more = drawing.blows(company)
    if dice.random() < 0.3:  # one that dies late and leaves its slot to be found: nobody comes to take it
        forgotten = Subscriber(drawing.last + 1)
        drawing.last += 1
        more.append(forgotten)
        blows.append(Blow(seconds * dice.uniform(0.6, 0.95), "kill", forgotten.number))
    if small or dice.random() < 0.1:
        more.append(Maker(**{**drawing.base(0), "clocked": False}))  # type: ignore[arg-type]
    if any(actor.clocked for actor in (*company, *more)):
        jumps = [dice.choice((-86400.0, -3.0, 3.0, 7200.0, 1e8)) for _ in range(6)]
        blows += [Blow(dice.uniform(0, seconds), "jump", seconds=jump) for jump in jumps]
    second: tuple[Actor, ...] = ()
    if all_killed:
        blows.append(Blow(seconds, "kill all"))
        second = (*(drawing.replacement(one, 0.0) for one in actors), *drawing.company(groups))
    drawing.dice = random.Random(f"{seed}/{number}/troubles")  # its own: what is above stays as it was
    troubled = drawing.troubled(groups, storms)
    troubled_blows, troubled_more = drawing.blows(troubled) if troubled else ([], [])
    helping = [one for one in (*actors, *company, *more, *troubled, *troubled_more) if not isinstance(one, Maker)]
    blows += [*troubled_blows, *drawing.helpers(helping)]
    if all_killed:
        second += tuple(drawing.troubled(groups, storms))
    max_subscribers = 6 if not groups and dice.random() < 0.2 else 64
    drawing.dice = random.Random(f"{seed}/{number}/bystanders")
    silent: tuple[Group, ...] = ()
    bystanders: list[Actor] = []
    if drawing.dice.random() < 0.6:
        if max_subscribers == 64 and drawing.dice.random() < 0.6:
            silent = (Group(len(groups) + 1, "quiet.**", None, max_deliveries=10, start="latest"),)
        bystanders = drawing.quiet(silent)
        more_blows, late = drawing.blows(bystanders, (0, 2, 4, 8))
        bystanders += late
        blows += [*more_blows, *drawing.helpers(bystanders)]
        second += tuple(drawing.quiet(silent)) if all_killed else ()
    founders: list[Actor] = []
    drawing.dice = random.Random(f"{seed}/{number}/founders")
    if max_subscribers == 64 and drawing.dice.random() < 0.4:
        founders, more_blows = drawing.founders()
        blows += more_blows
        second += (drawing.founder(),) if all_killed else ()
    jugglers: list[Actor] = []
    drawing.dice = random.Random(f"{seed}/{number}/jugglers")
    if max_subscribers == 64 and drawing.dice.random() < 0.6:
        if not groups or drawing.dice.random() < 0.5:
            groups += (replace(drawing.group(len(groups) + len(silent) + 1), max_deliveries=10),)
        jugglers = drawing.jugglers(groups)
        more_blows, late = drawing.blows(jugglers, (0, 2, 4, 8))
        jugglers += late
        blows += [*more_blows, *drawing.helpers(jugglers)]
        second += tuple(drawing.jugglers(groups)) if all_killed else ()
        traffic = replace(traffic, capacity=min(traffic.capacity, drawing.dice.choice((64 << 10, 256 << 10))))
    planners: list[Actor] = []
    drawing.dice = random.Random(f"{seed}/{number}/planners")
    if max_subscribers == 64 and drawing.dice.random() < 0.6:
        planners = drawing.planners()
        more_blows, late = drawing.blows(planners, (0, 2, 4, 8))
        planners += late
        blows += [*more_blows, *drawing.helpers(planners)]
        second += tuple(drawing.planners()) if all_killed else ()
    drawing.dice = random.Random(f"{seed}/{number}/looks")
    jugglers = drawing.looking(jugglers)
    if drawing.dice.random() < 0.4:
        traffic = replace(traffic, sizes="raw")
    blows.sort(key=lambda blow: blow.at)
    return Round(
        number=number,
        seconds=seconds,
        traffic=traffic,
        max_subscribers=max_subscribers,
        persist=persist,
        small=small,
        groups=(*groups, *silent),
        actors=(*actors, *company, *more, *troubled, *troubled_more, *bystanders, *founders, *jugglers, *planners),
        blows=tuple(blows),
        second=second,
    )
