"""The subject: an eventbus with its defaults, one bus per medium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Any

from benchmarks.peer import Medium, Publisher, Subscriber, Topology
from eventbus import open as open_bus
from eventbus import unlink

_CAPACITY = 16 * 2**20
_SEVERAL = 8

_numbers = count(1)


class BusPublisher(Publisher):
    def __init__(self, name: str, topology: Topology, capacity: int | None) -> None:
        self._bus = open_bus(name, capacity=capacity)
        self._topology = topology
        self.send = self._bus.send

    def wait_for_subscribers(self) -> None:
        for system in self._topology.marked:
            self._bus.wait_for_subscribers(len(self._topology.listeners(system)), system)

    def close(self) -> None:
        self._bus.close()


class BusSubscriber(Subscriber):
    def __init__(self, name: str, system: str, capacity: int | None, **terms: Any) -> None:
        self._bus = open_bus(name, capacity=capacity)
        self._subscription = self._bus.subscribe(system, **terms)

    def received(self) -> Iterator[Any]:
        return map(attrgetter("data"), self._subscription)

    def close(self) -> None:
        self._subscription.close()
        self._bus.close()


class ManualSubscriber(BusSubscriber):
    def received(self) -> Iterator[Any]:
        for event in self._subscription:
            yield event.data
            self._subscription.ack(event)


class BusMedium(Medium):
    def __init__(self, topology: Topology, capacity: int | None = None) -> None:
        super().__init__(topology)
        self._capacity = capacity
        self.round = _CAPACITY if capacity is None else capacity

    def open(self, leftovers: ExitStack) -> None:
        self._name = new_name()
        leftovers.callback(remove, self._name)

    def publisher(self, _index: int, /) -> BusPublisher:
        return BusPublisher(self._name, self.topology, self._capacity)

    def subscriber(self, index: int, /) -> BusSubscriber:
        return BusSubscriber(self._name, self.topology.systems[index], self._capacity)


class GroupMedium(BusMedium):
    """Every subscriber is a member of one group."""

    def subscriber(self, _index: int, /) -> BusSubscriber:
        subscriber = ManualSubscriber if self.topology.manual else BusSubscriber
        terms: dict[str, Any] = {"group": "workers", "prefetch": self.topology.prefetch}
        if self.topology.manual:
            terms["ack"] = "manual"
        return subscriber(self._name, self.topology.systems[0], self._capacity, **terms)


class LargeMedium(BusMedium):
    """A ring that has room for several of the events, however large they are."""

    def __init__(self, topology: Topology, **terms: Any) -> None:
        super().__init__(topology, max(_CAPACITY, _SEVERAL * topology.size))
        self._terms = terms

    def subscriber(self, index: int, /) -> BusSubscriber:
        return BusSubscriber(self._name, self.topology.systems[index], self._capacity, **self._terms)


def new_name() -> str:
    """Return the name of a bus that nobody else has."""
    return f"benchmark-{os.getpid()}-{next(_numbers)}"


def remove(name: str) -> None:
    """Remove a bus of a medium, if it is still there."""
    # The last worker that left in order has removed the bus already; killed ones leave it to this line.
    with suppress(FileNotFoundError):
        unlink(name)


connect = BusMedium
connect_large = LargeMedium
connect_views = partial(LargeMedium, view=True)
connect_member = partial(LargeMedium, group="workers")
connect_member_views = partial(LargeMedium, group="workers", view=True)
share = GroupMedium
