"""Source: what is to go out. The ring keeps it for the bridge, or with ``when_full = "drop"`` as long as it can."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from eventbus.bridge.config import Config
from eventbus.bridge.health import Health
from eventbus.bridge.messages import HOP, HOPS_LIMIT
from eventbus.bridge.names import group_of
from eventbus.bus import Bus
from eventbus.errors import ClosedError, InvalidError, SegmentError, UnavailableError
from eventbus.event import Event
from eventbus.letters import DEAD_SYSTEM
from eventbus.request import Request
from eventbus.subscription import Subscription

FOREVER = (1 << 31) - 1  # deliveries: nobody else would do better
OWN = "eventbus"


class Source:
    """The events of one bus that are to go out.

    Attributes:
        drops: whether it is lapped rather than hold anybody up.
        began: the last event that was sent before it was there.
    """

    def __init__(self, bus: Bus, config: Config, health: Health, noted: int, nearby: Collection[str]) -> None:
        """Args: noted: the last event that went out, 0 for none. nearby: origins that others hear without this bridge.

        Raises:
            UnavailableError: another bridge of this origin reads them.
        """
        self._bus = bus
        self._config = config
        self._health = health
        self._nearby = nearby
        self._group = group_of(config.origin)
        self._dead = DEAD_SYSTEM in config.exported
        self._lost = 0
        self.drops = config.when_full == "drop"
        self.began = self.sent
        self._sub = self._passing(noted) if self.drops else self._held(noted)

    @property
    def sent(self) -> int:
        """The last event of the bus."""
        return self._bus._open_handle().stats().sent

    def _held(self, noted: int) -> Subscription:
        """As the one member of a group, by which the ring keeps them."""
        try:
            self._bus.group(self._group, self._config.exported, start="oldest", max_deliveries=FOREVER)
        except InvalidError:
            if not self._is_grouped():
                raise
            self._change(noted)
        return self._bus.subscribe(
            self._config.exported,
            group=self._group,
            exclusive=True,
            prefetch=self._config.window,
            name=self._group,
            _local=not self._config.relay,
        )

    def _change(self, noted: int) -> None:
        """The group heard something else until now; meanwhile a subscription keeps what comes after the last event."""
        with self._bus.subscribe(self._config.exported, start=noted + 1, name=self._group):
            self._remove()
            self._bus.group(self._group, self._config.exported, start=noted + 1, max_deliveries=FOREVER)

    def _passing(self, noted: int) -> Subscription:
        """By itself; a group of before would hold publishers up for nobody."""
        if self._is_grouped():
            self._remove()
        return self._bus.subscribe(
            self._config.exported,
            overflow="drop",
            start=noted + 1 if noted else "oldest",
            name=self._group,
            _local=not self._config.relay,
        )

    def _is_grouped(self) -> bool:
        return any(one.name == self._group for one in self._bus.stats().groups)

    def _remove(self) -> None:
        members = [member for one in self._bus.stats().groups if one.name == self._group for member in one.members]
        if members:
            raise UnavailableError(
                f"process {members[0].pid} runs a bridge of {self._config.origin!r} on the bus {self._config.bus!r}: "
                "end that first, or name another origin",
                pid=members[0].pid,
            )
        self._bus.remove_group(self._group)

    def poll(self) -> list[Event]:
        """What is there, after the bus was told that all before is done with."""
        try:
            return self._told(self._sub.receive_many(self._config.window, 0))
        except SegmentError as error:
            return self._unreadable(error)

    async def wait(self) -> list[Event]:
        """``poll``, once there is something. Cancelled, it has taken nothing."""
        try:
            return self._told(await self._sub.areceive_many(self._config.window))
        except SegmentError as error:
            return self._unreadable(error)

    def again(self, start: int, until: int) -> Iterator[list[Event]]:
        """What the ring still has from one sequence to another."""
        if start > until:
            return
        with self._bus.subscribe(self._config.exported, start=start, _local=not self._config.relay) as sub:
            while True:
                try:
                    events = sub.receive_many(self._config.window, 0)
                except SegmentError as error:
                    events = self._unreadable(error)
                    continue
                if some := [event for event in events if event.sequence <= until]:
                    yield some
                if len(some) < len(events) or not events:
                    return

    def travels(self, event: Event) -> bool:
        """Whether it is to go out."""
        if is_own(event.system):
            return event.system == DEAD_SYSTEM and self._dead
        if isinstance(event, Request):
            return False
        return not event.origin or self._relays(event.origin.split(HOP))

    def close(self) -> None:
        """Leaves the bus; what is in hand is to be had again."""
        self._sub.leave(False)

    def _relays(self, hops: list[str]) -> bool:
        passed = len(hops) < HOPS_LIMIT and self._config.origin not in hops
        return passed and hops[-1] not in self._nearby

    def _told(self, events: list[Event]) -> list[Event]:
        if not events and self._sub.closed:
            raise ClosedError(
                f"the bus {self._config.bus!r} was shut down, or the group {self._group!r} removed: start it again"
            )
        if self.drops:
            lost, self._lost = self._sub.lost - self._lost, self._sub.lost
            if lost:
                self._health.lost(lost)
        return events

    def _unreadable(self, error: SegmentError) -> list[Event]:
        if "sequence" not in error.details:
            raise error
        self._health.refused("unreadable", error.message)
        return []


def is_own(system: str) -> bool:
    """Whether a system is the bus's own, which does not travel."""
    return system.startswith(OWN) and (system == OWN or system[len(OWN)] == ".")
