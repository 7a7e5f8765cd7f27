"""Hosts with bridges, and workers under control, as the tests of queues and requests across hosts run them."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import ExitStack
from multiprocessing import connection
from types import ModuleType
from typing import Any

import nats as client
from nats.js.api import ConsumerInfo

import eventbus
from eventbus import Bus, Event
from eventbus.bridge import flow, health, process, queues
from eventbus.bridge.config import from_dict
from eventbus.bridge.process import serve
from eventbus.bridge.queues import label_of
from eventbus.bridge.subjects import queue_name
from harness import DEADLINE, Child, Fork, Line, until
from nats_server import NatsServer

GROUP = "workers"
STREAM = queue_name("main", "q")
Patience = tuple[tuple[ModuleType, str, float], ...]
PATIENCE: Patience = (
    (process, "WIND_UP", DEADLINE),
    (flow, "LONGEST_PAUSE", 0.1),
    (queues, "LATER", 0.1),
    (health, "BEAT", 0.1),
    (health, "STATUS_EVERY", 0.1),
)
"""What bridges of tests wait for in other seconds."""


class Host:
    """A bus, and what its bridge is told.

    Attributes:
        label: how its bridge is called as a member or a subscriber.
    """

    def __init__(self, origin: str, url: str, label: str, **terms: Any) -> None:
        self.origin = origin
        self.label = label
        self.name = f"test-{os.getpid()}-{url.rpartition(':')[2]}-{origin}"
        self.table = {"bus": self.name, "origin": origin, "nats": {"servers": [url]}, "ack_timeout": 1.0, **terms}
        self.bus: Bus = eventbus.open(self.name, capacity=1 << 20)

    def start(self, fork: Fork, policy: str = "", patience: Patience = ()) -> Child:
        """Its bridge, once it has joined."""
        made = self.begin(fork, policy, patience)
        self.wait_for(self.label)
        return made

    def begin(self, fork: Fork, policy: str = "", patience: Patience = ()) -> Child:
        """Its bridge."""
        return fork(bridge, self.table, policy, patience)

    def wait_for(self, label: str, count: int = 1) -> None:
        """Until so many of the name are on the bus."""
        until(lambda: self._named(label) == count, f"{count} {label!r} on {self.origin}")

    def _named(self, label: str) -> int:
        return sum(one.name == label for one in self.bus.stats().subscribers)

    def work(self, fork: Fork) -> Child:
        """A member of the group, once it waits for an event, or has one that was there before."""
        before = self._named("worker")
        made = fork(work, self.name)

        def begun() -> bool:
            joined = self._named("worker") == before + 1
            return joined and (self.idle() or bool(connection.wait([made.fileno()], 0)))

        until(begun, "a worker to begin")
        return made

    def idle(self) -> bool:
        """Whether all workers wait for an event."""
        return all(one.sleeping for one in self.bus.stats().subscribers if one.name == "worker")


def bridge(line: Line, table: dict[str, Any], policy: str, patience: Patience) -> int:
    """A bridge in a process of its own; its exit code."""
    if policy:
        os.environ["EVENTBUS_POLICY"] = policy
    logging.basicConfig(level=logging.INFO, force=True, format="%(asctime)s %(message)s")
    for room, name, seconds in (*PATIENCE, *patience):
        setattr(room, name, seconds)
    return asyncio.run(serve(from_dict(table, "the test")))


def work(line: Line, name: str) -> None:
    """Says what it gets, and has done with it; an event whose data is "hold" when it is told."""
    with eventbus.open(name) as bus, bus.subscribe("jobs.**", group=GROUP, name="worker") as jobs:
        for event in jobs:
            line.say(event)
            if event.data == "hold":
                line.hear()


def path_of(worker: Child) -> str:
    """That of the next event that a worker gets."""
    event: Event = worker.hear()
    return event.path


def first_of(*workers: Child) -> Child:
    """The one that says something first."""
    ready = connection.wait([worker.fileno() for worker in workers], DEADLINE)
    return next(worker for worker in workers if worker.fileno() in ready)


def said(*workers: Child) -> list[tuple[int, str]]:
    """What workers have got so far, by their numbers."""
    return [(number, event.path) for number, worker in enumerate(workers) for event in worker.said()]


def messages(server: NatsServer) -> int:
    """How many the queue holds."""

    async def ask() -> int:
        connected = await client.connect(server.url, allow_reconnect=False)
        info = await connected.jetstream().stream_info(STREAM)
        await connected.close()
        return info.state.messages

    return asyncio.run(ask())


def redelivered(server: NatsServer) -> int:
    """How many that a host has were given out more than once."""
    return _consumer(server).num_redelivered or 0


def asked_for_more(server: NatsServer) -> bool:
    """Whether a host waits for a message: else the server gives none out, for the second time neither."""
    return bool(_consumer(server).num_waiting)


def _consumer(server: NatsServer) -> ConsumerInfo:
    async def ask() -> ConsumerInfo:
        connected = await client.connect(server.url, allow_reconnect=False)
        info: ConsumerInfo = await connected.jetstream().consumer_info(STREAM, "hosts")
        await connected.close()
        return info

    return asyncio.run(ask())


def drained(server: NatsServer) -> None:
    """Until the server has been told of everything that it is done."""
    until(lambda: messages(server) == 0, "the queue to be empty")


class Hosts:
    """Hosts of one queue, closed together."""

    def __init__(self, server: NatsServer) -> None:
        self._url = server.url
        self._held = ExitStack()

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def __call__(self, number: int, serve: str = GROUP, **terms: Any) -> Host:
        """Another one; it serves by the group of the workers unless it only puts in."""
        queue = {"name": "q", "systems": ["jobs.**"], **({"serve": serve} if serve else {}), **terms}
        made = Host(f"h{number}", self._url, label_of("q"), queue=[queue])
        self._held.callback(made.bus.close)
        return made
