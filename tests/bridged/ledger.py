"""The ledger: what was sent on each bus, what arrived on each of the others, and what is wrong with that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from eventbus import Event
from eventbus.bridge.names import GAP
from harness import unsealed


@dataclass
class Stream:
    """What one bus heard of one origin.

    Attributes:
        last: the highest number that came, -1 for none.
        missing: lower numbers that did not.
        late: how many came after a higher one, for the first time.
        doubled: how many came again.
    """

    last: int = -1
    missing: set[int] = field(default_factory=set)
    late: int = 0
    doubled: int = 0

    def hear(self, number: int) -> None:
        """The next one that came."""
        if number > self.last:
            self.missing.update(range(self.last + 1, number))
            self.last = number
        elif number in self.missing:
            self.missing.discard(number)
            self.late += 1
        else:
            self.doubled += 1


class Ledger:
    """One run's. Origins are bridges' names; a bus is called by the name of its own bridge."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.heard: dict[tuple[str, str], Stream] = {}
        self.told: Counter[str] = Counter()

    def hear(self, bus: str, event: Event) -> None:
        """An event that arrived from elsewhere; it must be whole, and say where it comes from."""
        publisher, number = unsealed(event)
        origin = f"h{publisher}"
        assert event.origin == origin, f"an event of {origin} says that it is of {event.origin!r}"
        assert origin != bus, f"an event of {origin} came back to it"
        self.heard.setdefault((bus, origin), Stream()).hear(number)

    def tell(self, bus: str, event: Event) -> None:
        """What a bridge said on its bus: so many events are gone."""
        if event.kind == GAP:
            self.told[bus] += event.data["events"]

    def arrived(self, bus: str, origin: str) -> bool:
        """Whether the last one that was sent is there."""
        return self.heard.setdefault((bus, origin), Stream()).last == self.sent[origin] - 1

    def violations(self, pairs: list[tuple[str, str]], doubles: int = 0) -> list[str]:
        """What is wrong between each bus and each origin that it hears.

        Args:
            doubles: how many may have come twice.
        """
        found = []
        for bus, origin in pairs:
            stream = self.heard.setdefault((bus, origin), Stream())
            lost = len(stream.missing) + self.sent[origin] - 1 - stream.last
            told = self.told[bus] + self.told[origin]
            where = f"{bus} of {self.sent[origin]} events of {origin}:"
            if lost > told:
                found.append(f"{where} {lost} are lost, {told} were told; the first are {sorted(stream.missing)[:5]}")
            if stream.late:
                found.append(f"{where} {stream.late} came out of order")
            if stream.doubled > doubles:
                found.append(f"{where} {stream.doubled} came twice")
        return found
