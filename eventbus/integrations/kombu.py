"""A kombu transport, so that Celery's broker may be a bus: ``import eventbus.integrations.kombu`` makes ``eventbus://``."""

from __future__ import annotations

import os
import select
import time
import weakref
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, virtual

import eventbus
from eventbus.integrations.kombu_channel import BusChannel
from eventbus.integrations.kombu_declared import Declared
from eventbus.integrations.kombu_queues import Passing, Source

TRANSPORT_ALIASES["eventbus"] = "eventbus.integrations.kombu:Transport"

REPLIES = ".replies"  # behind a bus's name: that of what holds nobody up, as replies, control, events and results
FOREVER = (1 << 31) - 1  # deliveries: a message is not given up
TURN = 0.005  # seconds for messages before others in the loop run
AT_ONCE = 64  # messages for one call of drain_events
SLOTS = 256
OPTIONS = ("capacity", "max_subscribers", "mode", "send_timeout", "persist", "policy", "actor")


class Transport(virtual.Transport):
    """A kombu transport over a bus, and beside it one for what holds nobody up."""

    Channel = BusChannel
    driver_type = driver_name = "eventbus"
    polling_interval = None
    connection_errors = (
        *virtual.Transport.connection_errors,
        eventbus.ClosedError,
        eventbus.UnavailableError,
        eventbus.SegmentError,
        OSError,
    )
    channel_errors = (*virtual.Transport.channel_errors, eventbus.InvalidError)
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.passing: dict[str, Passing] = {}
        self._loop: Any = None
        self._watched: dict[int, Source] = {}
        self._rest: list[tuple[BusChannel, Source]] = []  # what a turn of the loop had no time for
        self._again = -1  # a descriptor that is readable while there is any

    def driver_version(self) -> str:
        return "1"

    def establish_connection(self) -> Transport:
        client = self.client
        name = client.hostname or (client.virtual_host or "").strip("/")
        if client.port is not None or client.userid or client.password:
            raise eventbus.InvalidError(f"a bus has no port, no user and no password: make it eventbus://{name}")
        options = {"persist": True, **{key: value for key, value in client.transport_options.items() if key in OPTIONS}}
        self.max_deliveries = client.transport_options.get("max_deliveries", FOREVER)
        self.bus = eventbus.open(name, **options)
        self.replies = open_replies(name, client.transport_options)
        self.declared = Declared(name, self.bus.stats().identity, options.get("mode", 0o600))
        self._closing = weakref.finalize(self, _close, self.declared, self.replies, self.bus)
        super().establish_connection()
        return self

    def close_connection(self, connection: Any) -> None:
        self.unregister_from_event_loop(connection, self._loop)
        super().close_connection(connection)
        self._closing()

    def verify_connection(self, connection: Any) -> bool:
        return not self.bus.closed

    # --- in a call ---

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._deliver(AT_ONCE):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._wait(left)

    def _deliver(self, limit: int) -> int:
        number = 0
        while number < limit and (more := sum(channel.deliver() for channel in list(self.channels))):
            number += more
        return number

    def _wait(self, seconds: float | None) -> None:
        poll = select.poll()
        for channel in self.channels:
            for source in channel.waits_for():
                if not source.arm():
                    return
                for subscription in source.watched():
                    poll.register(subscription.fileno(), select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)

    # --- in kombu's event loop ---

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self._loop = loop
        self._again = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.add_reader(self._again, self._go_on)
        loop.on_tick.add(self._watch)

    def unregister_from_event_loop(self, connection: Any, loop: Any) -> None:
        if self._loop is not None:
            self._loop.on_tick.discard(self._watch)
            for descriptor in list(self._watched):
                self._loop.remove_reader(descriptor)
            self._watched.clear()
            self._rest.clear()
            self._loop.remove_reader(self._again)
            os.close(self._again)
            self._loop = None

    def unwatch(self, source: Source) -> None:
        """Before a source closes: its descriptors are another's by then."""
        for descriptor in [one for one, of in self._watched.items() if of is source]:
            del self._watched[descriptor]
            self._loop.remove_reader(descriptor)

    def _watch(self) -> None:
        """Before each turn of the loop: watches what a message is wanted from, and nothing else."""
        wanted: dict[int, tuple[BusChannel, Source]] = {}
        fresh: dict[int, tuple[BusChannel, Source]] = {}
        for channel in self.channels:
            for source in channel.waits_for():
                for subscription in source.watched():
                    wanted[subscription.fileno()] = channel, source
        for descriptor in [one for one in self._watched if one not in wanted]:
            del self._watched[descriptor]
            self._loop.remove_reader(descriptor)
        for descriptor, (channel, source) in wanted.items():
            if descriptor not in self._watched:
                self._watched[descriptor] = source
                self._loop.add_reader(descriptor, self._readable, channel, source)
                fresh[id(source)] = channel, source
        for channel, source in fresh.values():
            if not source.arm():
                self._readable(channel, source)

    def _readable(self, channel: BusChannel, source: Source) -> None:
        until = time.monotonic() + TURN
        while channel.deliver():
            if time.monotonic() > until:
                self._rest.append((channel, source))
                os.eventfd_write(self._again, 1)
                return
        if source not in channel.waits_for():
            self.unwatch(source)  # until there is room for its next message
        elif not source.arm():
            self._readable(channel, source)

    def _go_on(self) -> None:
        os.eventfd_read(self._again)
        rest, self._rest = self._rest, []
        for channel, source in rest:
            self._readable(channel, source)


def _close(*opened: Any) -> None:
    """What a connection has open: when it is closed, or nobody refers to it any more."""
    for one in opened:
        one.close()


def open_replies(name: str, options: dict[str, Any]) -> eventbus.Bus:
    """The bus beside a bus: what is sent here is dropped when the ring has gone round."""
    given = {key: value for key, value in options.items() if key in ("mode", "policy", "actor", "persist")}
    capacity = options.get("replies_capacity")
    return eventbus.open(name + REPLIES, capacity=capacity, **{"persist": True, **given})
