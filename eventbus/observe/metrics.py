"""Metrics: which figures of buses are shown to those who collect them, under which names, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from eventbus.core.figures import Delays
from eventbus.core.inspection import Inspection, inspect_bus, list_names
from eventbus.core.stats import BusStats, GroupStats, SubscriberStats
from eventbus.core.terms import check_name
from eventbus.request import INBOXES, MARK

ELSEWHERE = "*"
"""System and kind of the events whose topic found the table full: no event can be sent to it."""


class Metric(NamedTuple):
    """One metric, by the name that it is asked for with: that of a counter ends in ``_total``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


class Figure(NamedTuple):
    """What a metric is for these values of its labels; of a histogram, delays."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Delays


_BUS, _SUBSCRIBER, _GROUP = ("bus",), ("bus", "subscriber", "pid"), ("bus", "group")

STATE = Metric("eventbus_bus_state", "gauge", ("bus", "state"), "1 for the state that the bus is in, as eventbus ls")
ATTACHED = Metric("eventbus_bus_attached", "gauge", _BUS, "How often the bus is open, in all processes")
SENT = Metric("eventbus_events_sent_total", "counter", ("bus", "system", "kind"), "Events sent")
CAPACITY = Metric("eventbus_ring_capacity_bytes", "gauge", _BUS, "The size of the ring")
USED = Metric("eventbus_ring_used_bytes", "gauge", _BUS, "What the ring holds, of the past too: a ring in use is full")
BACKLOG = Metric(
    "eventbus_subscriber_backlog_events", "gauge", _SUBSCRIBER, "Events that it hears and has yet to receive"
)
LOST = Metric("eventbus_subscriber_lost_total", "counter", _SUBSCRIBER, "Events that it lost to lapping")
RECEIVED = Metric("eventbus_subscriber_received_total", "counter", _SUBSCRIBER, "Events that it received")
BYTES = Metric("eventbus_subscriber_received_bytes_total", "counter", _SUBSCRIBER, "Bytes of these events")
WAKES = Metric("eventbus_subscriber_wakeups_total", "counter", _SUBSCRIBER, "How often it slept, and looked again")
SKIPPED = Metric("eventbus_subscriber_skipped_total", "counter", _SUBSCRIBER, "Events that it passed and does not hear")
DELIVERY = Metric(
    "eventbus_delivery_seconds", "histogram", _SUBSCRIBER, "From being sent to being handed out, of a sample of events"
)
GROUP_BACKLOG = Metric("eventbus_group_backlog_events", "gauge", _GROUP, "Events that no member has taken yet")
MEMBERS = Metric("eventbus_group_members", "gauge", _GROUP, "Members that live")
IN_HAND = Metric("eventbus_group_in_hand_events", "gauge", _GROUP, "Events that members have in hand")
OLDEST = Metric(
    "eventbus_group_oldest_in_hand_seconds", "gauge", _GROUP, "How long a member has had its oldest event in hand"
)
RETURNED = Metric(
    "eventbus_group_returned_events", "gauge", _GROUP, "Events given back, or in hand of the dead, to be had again"
)
REDELIVERED = Metric("eventbus_group_redelivered_total", "counter", _GROUP, "Deliveries after the first of an event")
DEAD = Metric("eventbus_group_dead_total", "counter", _GROUP, "Events that became dead letters")

METRICS = (
    *(STATE, ATTACHED, SENT, CAPACITY, USED, BACKLOG, LOST, RECEIVED, BYTES, WAKES, SKIPPED, DELIVERY),
    *(GROUP_BACKLOG, MEMBERS, IN_HAND, OLDEST, RETURNED, REDELIVERED, DEAD),
)


def read(names: Iterable[str] | None = None) -> Iterator[Figure]:
    """The figures of these buses, of all on this host if None, as they are now.

    They are looked at from outside, by ``inspect_bus``: nobody attaches. A bus that is gone has none, and one that
    cannot be read has its state alone. What has the same labels more than once adds up: those who collect may add it,
    or may take it for an error.
    """
    for name in list_names() if names is None else names:
        bus = inspect_bus(name)
        if bus is not None:
            yield from _of_bus(bus)


def check_names(names: Iterable[str] | str) -> tuple[str, ...]:
    """The names, if each can be one of a bus; InvalidError otherwise. A text is one name."""
    return tuple(map(check_name, (names,) if isinstance(names, str) else names))


def _of_bus(bus: Inspection) -> Iterator[Figure]:
    yield Figure(STATE, (bus.name, bus.state), 1)
    if bus.attached is not None:
        yield Figure(ATTACHED, (bus.name,), bus.attached)
    if bus.stats is not None:
        yield from _of_ring(bus.name, bus.stats)
        for one in bus.stats.subscribers:
            yield from _of_subscriber(bus.name, one)
        for group in bus.stats.groups:
            yield from _of_group(bus.name, group)


def _of_ring(bus: str, stats: BusStats) -> Iterator[Figure]:
    yield Figure(CAPACITY, (bus,), stats.capacity)
    yield Figure(USED, (bus,), stats.used)
    for (system, kind), sent in stats.topics.items():
        yield Figure(SENT, (bus, *_as_asked(system, kind)), sent)
    if stats.untabled:
        yield Figure(SENT, (bus, ELSEWHERE, ELSEWHERE), stats.untabled)


def _as_asked(system: str, kind: str) -> tuple[str, str]:
    """As whoever sent it spells it: requests under their own kind, answers under one system and not 256."""
    return INBOXES.rstrip(".") if system.startswith(INBOXES) else system, kind.removesuffix(MARK)


def _of_subscriber(bus: str, one: SubscriberStats) -> Iterator[Figure]:
    received = one.received
    figures: dict[Metric, float | Delays] = {
        RECEIVED: received.events,
        BYTES: received.bytes,
        WAKES: received.wakes,
        DELIVERY: received.delays,
    }
    if one.group is None:
        figures |= {BACKLOG: one.backlog, LOST: one.lost, SKIPPED: received.skipped}
    for metric, value in figures.items():
        yield Figure(metric, (bus, one.name, str(one.pid)), value)


def _of_group(bus: str, group: GroupStats) -> Iterator[Figure]:
    figures = {
        GROUP_BACKLOG: group.backlog,
        MEMBERS: len(group.members),
        IN_HAND: group.in_hand,
        OLDEST: group.oldest,
        RETURNED: group.returned,
        REDELIVERED: group.redelivered,
        DEAD: group.dead,
    }
    for metric, value in figures.items():
        yield Figure(metric, (bus, group.name), value)
