"""The story of a drill, as it is judged: what was sent, what processes wrote, who died of what, what was left."""

from __future__ import annotations

from dataclasses import dataclass, field

from drill.ledger import Entry

BY_OPERATOR = "kill -9 by the operator"
BY_HANGING = "hung, ended by the master"
BY_KEEPER = "hung under a killed master"


@dataclass
class Story:
    """All that is known of a drill, times in nanoseconds on the monotonic clock.

    Attributes:
        sent: of the producer.
        books: of each process of the pool, by the name of its book.
        deaths: of what each process died that did not end by itself, by its pid.
        acts: what befell the pool, and when.
        outages: from when to when the database was away.
        farewells: why processes had to go, and how many seconds the last of them took.
        letters: the dead letters.
        logged: what the pool should not have logged.
        left: what was left behind.
        faults: what else was wrong, in sentences.
    """

    sent: list[Entry] = field(default_factory=list)
    books: dict[str, list[Entry]] = field(default_factory=dict)
    deaths: dict[int, str] = field(default_factory=dict)
    acts: list[tuple[str, int]] = field(default_factory=list)
    outages: list[tuple[int, int]] = field(default_factory=list)
    farewells: list[tuple[str, float]] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
