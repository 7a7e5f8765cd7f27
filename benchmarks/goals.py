"""The goals of the project, each judged by ratios within one run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.bridge.scenarios import NEAR, RELAY
from benchmarks.codec import BATCH, raw_step
from benchmarks.floor import CODEC, COPY
from benchmarks.frameworks.registry import SETTINGS
from benchmarks.growth import SUBJECT
from benchmarks.leftover import RECEIVER, SENDER
from benchmarks.loops.registry import BLOCKING, NATS, NOBODY, OTHERS, PINGPONG
from benchmarks.report import Figure, Report, Row
from benchmarks.startup import COMMAND, IMPORT, NEW, THERE

SCENARIOS = (
    *("fanout", "selective", "publishers", "sizes", "views", "pingpong", "oneway"),
    *("workers", "redelivery", "jobs", "jobs-paced", "idle", "codec", "startup", "leftover"),
    *("async", "async-oneway", "async-send", "async-idle", "requests", "requests-64"),
    "bridge",
)
"""The benchmarks that hold all figures of the goals."""

_RATE = "events/s"
_CPU = "CPU s/M"
_P50 = "p50 µs"
_P99 = "p99 µs"
_PUBSUB = ("zmq PUB/SUB", "zmq PUB/SUB, 1 frame")
_PUSH = ("zmq PUSH/PULL",)
_PACKET = ("SEQPACKET",)
_FRAMEWORKS = tuple(name for name, setting in SETTINGS.items() if setting.over_redis)
_TICK_A_RUN = 1_000
"""CPU µs/s: /proc, which counts in ticks of 10 ms, tells of none in the ten seconds of that benchmark."""

VIEW = f"{SUBJECT}, view"
MEMBER = f"{SUBJECT}, member"
_MANY = f"send_many({BATCH}), backlog"
_LATE = tuple(name for name in _FRAMEWORKS if SETTINGS[name].late)


@dataclass(frozen=True)
class Goal:
    """One figure of eventbus against the best of some peers.

    Attributes:
        report: the benchmark, and ``case`` its case.
        figure: what is compared.
        against: peers, of which the one with the best median is taken; none of them: ``figure`` itself is judged.
        bound: the ratio to reach.
        more: whether more is better.
        subject: the row that is judged.
    """

    report: str
    case: str
    figure: str
    against: tuple[str, ...]
    bound: float
    more: bool
    subject: str = SUBJECT

    @property
    def scenario(self) -> str:
        """The benchmark, its case and the figure, for people."""
        if self.report == "codec":
            return f"{self.subject}, CPU"
        own = self.subject.startswith(SUBJECT)
        subject = self.subject.removeprefix(SUBJECT) if own else f": {self.subject}"
        return f"{' '.join(dict.fromkeys((self.report, self.case)))}{subject}, {self.figure}"

    @property
    def wanted(self) -> str:
        """The goal for people."""
        side = "at least" if self.more else "at most"
        return f"{side} {self.bound:.2g} times" if self.against else f"{side} {self.bound:g}"


@dataclass(frozen=True)
class Verdict:
    """A goal and what came of it: ``reached`` is ``None`` where something it needs was not measured."""

    goal: Goal
    against: str | None
    reached: Figure | None

    @property
    def said(self) -> str:
        """``met``, ``missed`` or ``not measured``."""
        if self.reached is None:
            return "not measured"
        good = self.reached.median >= self.goal.bound if self.goal.more else self.reached.median <= self.goal.bound
        return "met" if good else "missed"

    def as_dict(self) -> dict[str, object]:
        """Return the verdict as what JSON can hold."""
        reached = self.reached and self.reached.as_dict()
        text = {"scenario": self.goal.scenario, "goal": self.goal.wanted}
        return {**text, "against": self.against, "reached": reached, "said": self.said}


def _fanout(count: int, cpu: float) -> list[Goal]:
    case = f"1 → {count}"
    return [
        Goal("fanout", case, _RATE, _PUBSUB, 3, True),
        Goal("fanout", case, _CPU, _PUBSUB, cpu, False),
        Goal("fanout", case, _CPU, (CODEC.name,), 1.5, False),
    ]


def _views(size: str) -> list[Goal]:
    return [
        Goal("views", size, _RATE, ("iceoryx2, loans",), 1, True, VIEW),
        Goal("views", size, _RATE, (COPY.name,), 0.8, True, VIEW),
        Goal("views", size, _CPU, (SUBJECT,), 0.6, False, VIEW),
        Goal("views", size, _CPU, (MEMBER,), 0.6, False, f"{MEMBER}, view"),
    ]


GOALS = [
    *_fanout(1, 1 / 3),
    *(goal for count in (2, 4, 8) for goal in _fanout(count, 0.4)),
    Goal("sizes", "1 KiB JSON", _RATE, _PUSH, 2, True),
    Goal("sizes", "64 KiB JSON", _RATE, ("iceoryx2",), 1.3, True),
    Goal("sizes", "64 KiB bytes", _RATE, ("two memcpys",), 0.5, True),
    *(goal for size in ("64 KiB", "1 MiB", "8 MiB") for goal in _views(size)),
    Goal("selective", "1 → 1 of 8", _RATE, _PUSH + _PUBSUB, 2.5, True),
    Goal("selective", "1 → 1 of 8", _CPU, _PUSH + _PUBSUB, 0.4, False),
    Goal("publishers", "4 → 1", _RATE, _PUSH, 2, True),
    Goal("pingpong", "free", _P50, _PUBSUB + _PUSH, 0.1, False),
    Goal("pingpong", "one CPU", _P50, _PACKET, 1, False),
    Goal("pingpong", "two CPUs", _P50, _PACKET, 1, False),
    Goal("oneway", "1,000/s", _P50, _PACKET, 1, False),
    Goal("oneway", "10,000/s", _P50, _PACKET, 0.5, False),
    Goal("workers", "prefetch 1", _RATE, _PUSH, 1, True),
    Goal("workers", "prefetch 64", _RATE, _PUSH, 2, True),
    Goal("workers", "prefetch 64", _CPU, _PUSH, 0.6, False),
    Goal("redelivery", "idle", _P99, (), 50_000, False),
    Goal("redelivery", "busy", _P99, (), 50_000, False),
    Goal("jobs", "empty", "jobs/s", _LATE, 200, True),
    Goal("jobs", "empty", "jobs/s", _FRAMEWORKS, 200, True),
    Goal("jobs", "empty", "jobs/s, as sent", _LATE, 200, True),
    Goal("jobs-paced", "100/s", _P50, _LATE, 0.1, False),
    Goal("jobs-paced", "100/s", _P50, _FRAMEWORKS, 0.1, False),
    Goal("jobs-paced", "100/s", _P99, _LATE, 0.1, False),
    Goal("idle", "idle", "CPU µs/s", (), 0, False),
    Goal("codec", "one process", "ns", ("orjson.dumps",), 2.5, False, "send, backlog"),
    Goal("codec", "one process", "ns", ("orjson.loads of 256",), 1.5, False, "receive, backlog, iterated"),
    Goal("codec", "one process", "ns", ("send, backlog",), 1, False, _MANY),
    Goal("codec", "one process", "ns", (raw_step(bytes),), 1, False, raw_step(bytearray)),
    Goal("codec", "one process", "ns", (raw_step(bytes),), 1, False, raw_step(memoryview)),
    Goal("startup", "one process", "ms", (), 25, False, IMPORT),
    Goal("startup", "one process", "ms", (), 1, False, NEW),
    Goal("startup", "one process", "ms", (), 1, False, THERE),
    Goal("startup", "one process", "ms", (), 100, False, COMMAND),
    Goal("leftover", "100 MB", "MB", (), 1, False, SENDER),
    Goal("leftover", "100 MB", "MB", (), 1, False, RECEIVER),
    Goal("async", "burst", _RATE, (BLOCKING,), 0.8, True),
    Goal("async", "burst", _RATE, OTHERS, 5, True),
    Goal("async-oneway", "1,000/s", _P50, (BLOCKING,), 1.6, False),
    Goal("async-oneway", "1,000/s", _P50, OTHERS, 1, False),
    Goal("async-send", "1,000/s", _P50, (NOBODY,), 5, False),
    Goal("async-send", "100/s", _P50, (NOBODY,), 5, False),
    Goal("async-idle", "idle", "CPU µs/s", (), _TICK_A_RUN, False),
    Goal("async-idle", "idle", "sockets", (), 1, False),
    Goal("requests", "free", _P50, (PINGPONG,), 2.5, False, BLOCKING),
    Goal("requests", "free", _P50, (NATS,), 0.1, False, BLOCKING),
    Goal("requests-64", "64 at once", "requests/s", (), 100_000, True),
    Goal("bridge", NEAR, _RATE, (), 45_000, True),
    Goal("bridge", NEAR, _RATE, (RELAY,), 2, True),
]

PEERS = {SUBJECT, *(peer for goal in GOALS for peer in (goal.subject, *goal.against))}
"""Everybody whom the goals name."""


def judge(reports: Iterable[Report]) -> list[Verdict]:
    """Judge every goal by what the reports hold."""
    rows = {(report.name, row.case, row.peer): row for report in reports for row in report.rows}
    return [_judged(goal, rows) for goal in GOALS]


def _judged(goal: Goal, rows: dict[tuple[str, str, str], Row]) -> Verdict:
    found = {name: _figure(goal, name, rows) for name in (goal.subject, *goal.against)}
    ours = found.pop(goal.subject)
    theirs = {name: figure for name, figure in found.items() if figure is not None}
    if ours is None or (goal.against and not theirs):
        return Verdict(goal, None, None)
    if not goal.against:
        return Verdict(goal, None, ours)
    best = (max if goal.more else min)(theirs, key=lambda name: theirs[name].median)
    return Verdict(goal, best, ours.over(theirs[best]))


def _figure(goal: Goal, peer: str, rows: dict[tuple[str, str, str], Row]) -> Figure | None:
    row = rows.get((goal.report, goal.case, peer))
    return row.figures.get(goal.figure) if row else None
