"""The plan of a drill: what befalls the pool and when, drawn from the seed alone."""

from __future__ import annotations

import random
from typing import NamedTuple

HANGUP = "SIGHUP"
RESTART = "SIGTERM and start"
DEPLOY = "SIGTERM and start of another release"
RENEW = "SIGHUP with another release"
KILL_PROCESSES = "kill -9 of processes"
KILL_MASTER = "kill -9 of the master"
KILL_HANGING = "kill -9 of the master, a handler hangs"
OUTAGE = "the database is away"
HANG = "a handler hangs"

RESTARTS = (HANGUP, RESTART, DEPLOY, RENEW, KILL_PROCESSES, KILL_MASTER, KILL_HANGING)
TWENTY = {HANGUP: 5, RESTART: 3, DEPLOY: 2, RENEW: 2, KILL_PROCESSES: 4, KILL_MASTER: 2, KILL_HANGING: 2}
EACH = {HANGUP: 1, RESTART: 1, DEPLOY: 1, RENEW: 1, KILL_PROCESSES: 1, KILL_MASTER: 1, KILL_HANGING: 1}

FIRST = ("charge", "resize", "page", "convert", "fetch", "weekly")
SECOND = ("charge", "resize", "page", "convert", "fetch", "seasonal")
"""The handlers of both releases, which follow each other."""
MEANWHILE = 0.75  # of the time that the jobs take to be sent; what befalls the pool takes time itself
TICK = 0.5  # seconds between two ticks
TIMEOUT = 5  # seconds that ``fetch`` may take; nobody stands still for so long on a machine that has much to do


class Act(NamedTuple):
    """Something that befalls the pool, so many seconds after the first job."""

    at: float
    what: str


class Plan(NamedTuple):
    """What is to be done and endured.

    Attributes:
        jobs: that are sent at least; the producer goes on while there is something to be endured.
        rate: jobs a second.
        outage: seconds that the database is away each time.
    """

    seed: int
    jobs: int
    rate: float
    processes: int
    outage: float
    acts: tuple[Act, ...]


def draw(seed: int, jobs: int, rate: float, processes: int, *, short: bool = False) -> Plan:
    """The plan of this seed; a short one has each sort of restart once, and one short outage."""
    dice = random.Random(seed)
    seconds = MEANWHILE * jobs / rate
    restarts = [what for what, times in (EACH if short else TWENTY).items() for _ in range(times)]
    dice.shuffle(restarts)
    step = seconds / (len(restarts) + 1)
    acts = [Act(step * (place + dice.uniform(0.8, 1.2)), what) for place, what in enumerate(restarts, 1)]
    outages = (0.4,) if short else (0.3, 0.7)  # of the time, far enough from each other for a job to meet only one
    acts += [Act(seconds * (at + dice.uniform(-0.05, 0.05)), OUTAGE) for at in outages]
    acts += [Act(seconds * dice.uniform(0.05, 0.9), HANG) for _ in range(1 if short else 6)]
    return Plan(seed, jobs, rate, processes, 1.0 if short else 3.0, tuple(sorted(acts)))
