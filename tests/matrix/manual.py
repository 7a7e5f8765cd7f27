"""Victims that finish each event by itself, in another order than they came."""

from __future__ import annotations

import time
from dataclasses import dataclass

import eventbus
from harness import Line, until
from matrix.groups import start_anew
from matrix.paging import join_by_hand, take
from matrix.scene import REDELIVERY, Aim, Hold, Scene, Survivors, await_go, claims_of

HAND = 4  # jobs in hand
JOBS = HAND + 2
HOUR = 3600.0
DONE, LATER = "done", "later"
STEPS = ((3, DONE), (2, LATER), (1, DONE), (4, LATER))


def work_by_hand(line: Line, name: str, aim: Aim, delay: float) -> None:
    """Takes some jobs, does two of them and gives two back for later; says each step before it, and when."""
    member = join_by_hand(eventbus.open(name), HAND)
    await_go(line)
    aim.take()
    events = take(member, HAND)
    for number, step in STEPS:
        line.say((number, step, time.monotonic()))
        if step == DONE:
            member.ack(events[number - 1])
        else:
            member.reject(events[number - 1], delay=delay)


@dataclass(frozen=True)
class ByHand:
    """A member that finishes each event by itself.

    Attributes:
        whole: the step that it began last has its effect at the point.
        marked: from which time at its point on the first job is marked as handed out, of those that it has read and was
            not handed yet; 0 for never.
        delay: for how long it gives events back, in seconds; those for an hour do not come in time.
        again: whether it comes to its point more than once.
    """

    whole: bool = False
    marked: int = 0
    delay: float = HOUR
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True)
        victim = scene.victim(work_by_hand, self.delay)
        survivors.send_jobs(JOBS)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.NOTHING, pid))
        said = victim.said()
        steps = said if self.whole else said[:-1]
        handed_out = HAND if said else int(0 < self.marked <= scene.passes)
        done = {number for number, step, _ in steps if step == DONE}
        due = {number: begun + self.delay for number, step, begun in steps if step == LATER}
        kept, late = ({*due}, 0.0) if self.delay == HOUR else (set[int](), self.delay)

        def settled() -> bool:
            if survivors.work(0):
                number, _ = survivors.jobs[-1]
                assert time.monotonic() >= due.get(number, 0.0), "what was given back for later came too soon"
                return False
            (group,) = survivors.bus.stats().groups
            busy = group.backlog or any(member.events for member in group.members)
            return not busy and group.returned == len(kept)

        until(settled, "the group to have done what is due", REDELIVERY + late)
        again = [(number, 1 + (number <= handed_out)) for number in range(1, JOBS + 1) if number not in done | kept]
        assert sorted(survivors.jobs) == again
        claims = claims_of(survivors.bus, "g")
        assert len(claims) == len(kept)
        assert all(HOUR / 2 < claim.due <= HOUR for claim in claims)
        if not kept:
            survivors.drain()
            survivors.end()
            return
        survivors.bus.remove_group("g")
        start_anew(survivors)
