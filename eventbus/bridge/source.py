"""Source: what is to go out. The ring keeps it for the bridge, or with ``when_full = "drop"`` as long as it can."""

from __future__ import annotations

from eventbus.bridge.config import Config
from eventbus.bridge.health import Health
from eventbus.bridge.messages import HOP, HOPS_LIMIT
from eventbus.bridge.names import group_of
from eventbus.bus import Bus
from eventbus.errors import ClosedError, InvalidError, SegmentError
from eventbus.event import Event
from eventbus.letters import DEAD_SYSTEM
from eventbus.request import Request
from eventbus.subscription import Subscription

FOREVER = (1 << 31) - 1  # deliveries: nobody else would do better
OWN = "eventbus"


class Source:
    """The events of one bus that are to go out."""

    def __init__(self, bus: Bus, config: Config, health: Health, noted: int) -> None:
        """Args: noted: the last event that went out, 0 for none.

        Raises:
            UnavailableError: another bridge of this origin reads them.
        """
        self._bus = bus
        self._config = config
        self._health = health
        self._dead = DEAD_SYSTEM in config.exported
        self._after = 0  # what comes before was sent before there was a bridge
        self.nearby: frozenset[str] = frozenset()  # origins that others get without this bridge
        self._lost = 0
        self._sent = bus.stats().sent
        self._sub = self._held(noted) if config.when_full == "block" else self._passing(noted)

    def _held(self, noted: int) -> Subscription:
        """As the one member of a group, by which the ring keeps them."""
        group = group_of(self._config.origin)
        try:
            self._bus.group(group, self._config.exported, start="oldest", max_deliveries=FOREVER)
        except InvalidError:
            if not any(one.name == group for one in self._bus.stats().groups):
                raise
            self._change(group, noted)
        return self._bus.subscribe(
            self._config.exported,
            group=group,
            exclusive=True,
            prefetch=self._config.window,
            name=group,
            _local=not self._config.relay,
        )

    def _change(self, group: str, noted: int) -> None:
        """The group heard something else until now; meanwhile a subscription keeps what comes after the last event."""
        with self._bus.subscribe(self._config.exported, start=noted + 1, name=group):
            self._bus.remove_group(group)
            self._bus.group(group, self._config.exported, start=noted + 1, max_deliveries=FOREVER)

    def _passing(self, noted: int) -> Subscription:
        group = group_of(self._config.origin)
        if any(one.name == group for one in self._bus.stats().groups):
            self._bus.remove_group(group)
        return self._bus.subscribe(
            self._config.exported,
            overflow="drop",
            start=noted + 1 if noted else "oldest",
            name=group,
            _local=not self._config.relay,
        )

    def begin(self, anew: bool, known: bool) -> None:
        """Called once: a stream that was made just now begins with what is sent from now on, but one that is there and
        knows nothing of this bus gets all that the ring still has."""
        if anew and not known:
            self._after = self._sent

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

    def again(self, start: int) -> Subscription:
        """What the ring still has from this sequence on."""
        return self._bus.subscribe(self._config.exported, start=start, _local=not self._config.relay)

    def travels(self, event: Event) -> bool:
        """Whether it is to go out."""
        if is_own(event.system):
            return event.system == DEAD_SYSTEM and self._dead
        if event.sequence <= self._after or isinstance(event, Request):
            return False
        return not event.origin or self._relays(event.origin.split(HOP))

    def close(self, handled: bool) -> None:
        """Leaves the bus; what is in hand is done with, or is to be had again."""
        self._sub.leave(handled)

    def _relays(self, hops: list[str]) -> bool:
        passed = len(hops) < HOPS_LIMIT and self._config.origin not in hops
        return passed and hops[-1] not in self.nearby

    def _told(self, events: list[Event]) -> list[Event]:
        if not events and self._sub.closed:
            raise ClosedError(f"the bus {self._config.bus!r} was shut down: start the bridge again once it is back")
        if self._config.when_full == "drop":
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
