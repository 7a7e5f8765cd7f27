"""Work across hosts: real servers, bridges and workers, of which any may die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats as client
import pytest

from eventbus import Event
from eventbus.bridge.queues import label_of
from eventbus.bridge.subjects import queue_name
from harness import Child, Fork, take, until
from nats_server import NatsServer
from routes import GROUP, Host, first_of, path_of

STREAM = queue_name("main", "q")
MakeHost = Callable[..., Host]


@pytest.fixture
def host(nats: NatsServer) -> Iterator[MakeHost]:
    """Makes hosts of one queue by their numbers; they serve by the group of the workers unless they only put in."""
    with ExitStack() as held:

        def make(number: int, serve: str = GROUP, **terms: Any) -> Host:
            queue = {"name": "q", "systems": ["jobs.**"], **({"serve": serve} if serve else {}), **terms}
            made = Host(f"h{number}", nats.url, label_of("q"), queue=[queue])
            held.callback(made.bus.close)
            return made

        yield make


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

    async def ask() -> int:
        connected = await client.connect(server.url, allow_reconnect=False)
        info = await connected.jetstream().consumer_info(STREAM, "hosts")
        await connected.close()
        return info.num_redelivered or 0

    return asyncio.run(ask())


def drained(server: NatsServer) -> None:
    """Until the server has been told of everything that it is done."""
    until(lambda: messages(server) == 0, "the queue to be empty")


def test_work_is_done_once_on_any_host(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What a host that only puts in sends is handled on the hosts that serve, by one member each, as it was sent."""
    feeds, one, other = host(1, serve=""), host(2), host(3)
    for each in (feeds, one, other):
        each.start(fork)
    workers = [one.work(fork), other.work(fork)]
    for number in range(40):
        feeds.bus.send("jobs.a", "new", f"/{number}", {"n": number}, headers={"x": "ü\n"})
    feeds.bus.send("jobs.b.c", "raw", "/raw", b"\0\xff")
    got: list[Event] = []

    def listen() -> int:
        got.extend(event for worker in workers for event in worker.said())
        return len(got)

    until(lambda: listen() >= 41, "all work to be done")
    drained(nats)
    listen()
    assert Counter(event.path for event in got) == {f"/{number}": 1 for number in range(40)} | {"/raw": 1}
    for event in got:
        assert (event.origin, event.sender, event.deliveries) == ("h1", os.getpid(), 1)
        assert event.data == (b"\0\xff" if event.path == "/raw" else {"n": int(event.path[1:])})
        assert event.headers == ({} if event.path == "/raw" else {"x": "ü\n"})


def test_a_busy_host_passes_on(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What waits while the members of its host are busy is done on another, and nothing twice."""
    busy, free = host(1), host(2)
    busy.start(fork)
    first = busy.work(fork)
    busy.bus.send("jobs", "new", "/held", "hold")
    assert path_of(first) == "/held"
    free.start(fork)
    second = free.work(fork)
    for number in range(10):
        busy.bus.send("jobs", "new", f"/{number}", number)
    assert sorted(path_of(second) for _ in range(10)) == [f"/{number}" for number in range(10)]
    first.say("go on")
    drained(nats)
    assert said(first, second) == []


def test_work_goes_on_without_a_server(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """While there is no server the members of a host do what was sent there; then the bridge goes on."""
    alone, feeds = host(1), host(2, serve="")
    alone.start(fork)
    feeds.start(fork)
    worker = alone.work(fork)
    nats.kill()
    alone.bus.send("jobs", "new", "/here")
    feeds.bus.send("jobs", "new", "/there")
    assert path_of(worker) == "/here"
    nats.start()
    assert path_of(worker) == "/there"
    drained(nats)
    assert said(worker) == []


def test_a_member_dies(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What a killed member had in hand another one of its host gets, counted; the server is told once it is done."""
    feeds, serves = host(1, serve=""), host(2)
    feeds.start(fork)
    serves.start(fork)
    workers = [serves.work(fork), serves.work(fork)]
    feeds.bus.send("jobs", "new", "/a", "hold")
    victim = first_of(*workers)
    (other,) = (worker for worker in workers if worker is not victim)
    assert path_of(victim) == "/a"
    assert messages(nats) == 1
    victim.kill()
    again = other.hear()
    assert (again.path, again.deliveries, again.origin) == ("/a", 2, "h1")
    assert messages(nats) == 1
    other.say("go on")
    drained(nats)
    assert said(other) == []


def test_all_members_die(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """Where no member is left, what was sent there and what came there is done elsewhere, once; what the dead had in
    hand comes again."""
    feeds, dying, living = host(1, serve=""), host(2), host(3)
    feeds.start(fork)
    dying.start(fork)
    victim = dying.work(fork)
    feeds.bus.send("jobs", "new", "/far", "hold")
    assert path_of(victim) == "/far"
    living.start(fork)
    for number in range(5):
        dying.bus.send("jobs", "new", f"/{number}")
    victim.kill()
    worker = living.work(fork)
    got = []
    for _ in range(6):
        got.append(worker.hear())
        if got[-1].data == "hold":
            worker.say("go on")
    drained(nats)
    assert said(worker) == []
    assert sorted(event.path for event in got) == ["/0", "/1", "/2", "/3", "/4", "/far"]


def test_a_bridge_that_serves_dies(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What a killed bridge had brought is another host's after the acknowledgement's wait; nothing is lost."""
    feeds, dying, living = host(1, serve="", ack_wait=1.0), host(2), host(3)
    feeds.start(fork)
    bridge = dying.start(fork)
    first = dying.work(fork)
    feeds.bus.send("jobs", "new", "/a", "hold")
    assert path_of(first) == "/a"
    bridge.kill()
    living.start(fork)
    second = living.work(fork)
    assert path_of(second) == "/a"
    first.say("go on")
    second.say("go on")
    drained(nats)
    assert said(first, second) == []


def test_a_bridge_comes_back(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What a killed bridge had brought and nobody began is taken away by the next one, and done once."""
    feeds, serves, other = host(1, serve="", ack_wait=1.0), host(2), host(3)
    feeds.start(fork)
    bridge = serves.start(fork)
    first, second = serves.work(fork), serves.work(fork)
    for path in ("/a", "/b"):
        feeds.bus.send("jobs", "new", path, "hold")
    assert {path_of(first), path_of(second)} == {"/a", "/b"}
    bridge.kill()
    first.kill()
    second.kill()
    serves.start(fork)
    other.start(fork)
    worker = other.work(fork)
    for _ in range(2):
        assert path_of(worker) in ("/a", "/b")
        worker.say("go on")
    drained(nats)
    until(lambda: not serves.bus.stats().groups[0].returned, "the group to be empty")
    assert said(worker) == []


def test_a_server_dies(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """A server that is killed and comes back while a job is worked on hears of its end from the bridge that has it."""
    feeds, serves = host(1, serve=""), host(2)
    feeds.start(fork)
    serves.start(fork)
    worker = serves.work(fork)
    feeds.bus.send("jobs", "new", "/a", "hold")
    assert path_of(worker) == "/a"
    nats.restart()
    worker.say("go on")
    feeds.bus.send("jobs", "new", "/b")
    assert path_of(worker) == "/b"
    drained(nats)
    assert said(worker) == []


def test_what_kills_its_workers_is_dead_on_all_hosts(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """Deliveries count on every host that an event comes to: it is dead after as many as are allowed."""
    one, other = host(1), host(2)
    for each in (one, other):
        each.bus.group(GROUP, "jobs.**", max_deliveries=2)
        each.start(fork)
    dead = other.bus.subscribe("eventbus.dead")
    first = one.work(fork)
    one.bus.send("jobs", "new", "/poison", "hold")
    assert path_of(first) == "/poison"
    first.kill()
    second = other.work(fork)
    event = second.hear()
    assert (event.path, event.origin, event.deliveries) == ("/poison", "h1", 1)
    second.kill()
    letter = take(dead)
    assert (letter.path, letter.data["deliveries"], letter.data["group"]) == ("/poison", 2, GROUP)
    drained(nats)


def test_what_is_no_event_is_dropped(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """A message that no bridge wrote is no poison: it is dropped, counted, and what comes behind it is done."""
    serves, feeds = host(1), host(2, serve="")
    serves.start(fork)
    news = serves.bus.subscribe("eventbus.bridge", "status")

    async def publish() -> None:
        connected = await client.connect(nats.url, allow_reconnect=False)
        for headers in (None, {"Eb": "no", "Eb-Deliveries": "-1"}):
            await connected.jetstream().publish("ebq.main.q.h9.jobs.new", b"{", headers=headers)
        await connected.close()

    asyncio.run(publish())
    feeds.start(fork)
    worker = serves.work(fork)
    feeds.bus.send("jobs", "new", "/a")
    assert path_of(worker) == "/a"
    drained(nats)
    event = take(news)
    while event.data["rejected"] != {"foreign": 2}:
        event = take(news)


def test_what_no_server_takes(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """An event that is too large for the servers is dead where it was sent, and the others go on."""
    nats.reconfigure("max_payload: 4096\n")
    feeds, serves = host(1, serve=""), host(2)
    dead = feeds.bus.subscribe("eventbus.dead")
    feeds.start(fork)
    serves.start(fork)
    worker = serves.work(fork)
    for path, size in (("/large", 5000), ("/small", 10)):
        feeds.bus.send("jobs", "new", path, "x" * size)
    assert path_of(worker) == "/small"
    letter = take(dead)
    assert (letter.path, letter.data["error"]) == ("/large", "it is too large for the servers")


def test_what_a_busy_host_cannot_pass_on_stays(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What is too large for the servers, and a request, wait for a member of their own host."""
    nats.reconfigure("max_payload: 4096\n")
    busy, free = host(1), host(2)
    busy.start(fork)
    free.start(fork)
    first = busy.work(fork)
    busy.bus.send("jobs", "new", "/held", "hold")
    assert path_of(first) == "/held"
    second = free.work(fork)
    busy.bus.send("jobs", "new", "/large", "x" * 5000)
    busy.bus.send("jobs", "new", "/small")
    assert path_of(second) == "/small"
    first.say("go on")
    assert path_of(first) == "/large"
    drained(nats)
    assert said(first, second) == []


def test_a_host_that_may_not(nats: NatsServer, host: MakeHost, fork: Fork, tmp_path: Path) -> None:
    """What the policy does not let a bridge send on its bus another host gets."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\neffect = "deny"\nactions = ["events.send"]\nresources = ["jobs.**"]\n')
    feeds, denied, allowed = host(1, serve=""), host(2), host(3)
    feeds.start(fork)
    denied.start(fork, str(policy))
    idle = denied.work(fork)
    feeds.bus.send("jobs", "new", "/a")
    allowed.start(fork)
    worker = allowed.work(fork)
    assert path_of(worker) == "/a"
    drained(nats)
    assert said(idle, worker) == []


def test_a_host_begins_to_serve(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What it had yet to put in when it did only that goes into the queue, and its group for it is gone."""
    before = host(1, serve="")
    before.start(fork).kill()
    before.bus.send("jobs", "new", "/a")
    before.table["queue"][0]["serve"] = GROUP
    before.start(fork)
    worker = before.work(fork)
    assert path_of(worker) == "/a"
    drained(nats)
    assert [group.name for group in before.bus.stats().groups] == [GROUP]


def test_a_group_is_removed(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What went with a group that was removed another host gets; the bridge makes the group anew."""
    feeds, serves, other = host(1, serve=""), host(2), host(3)
    feeds.start(fork)
    serves.start(fork)
    worker = serves.work(fork)
    feeds.bus.send("jobs", "new", "/a", "hold")
    assert path_of(worker) == "/a"
    worker.stop()
    serves.bus.remove_group(GROUP)
    other.start(fork)
    second = other.work(fork)
    assert path_of(second) == "/a"
    second.say("go on")
    drained(nats)
    serves.wait_for(serves.label)


def test_a_group_that_hears_something_else(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """A group with other patterns ends the bridge with 1, and a sentence that names both."""
    serves = host(1)
    serves.bus.group(GROUP, "jobs.a")
    assert serves.begin(fork).result() == 1


def test_a_bridge_that_is_told_to_stop(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """It takes nothing more, and waits for the end of what its members have: that is done once."""
    feeds, serves, other = host(1, serve=""), host(2), host(3)
    feeds.start(fork)
    bridge = serves.start(fork)
    first = serves.work(fork)
    feeds.bus.send("jobs", "new", "/a", "hold")
    assert path_of(first) == "/a"
    bridge.kill(signal.SIGTERM)
    other.start(fork)
    second = other.work(fork)
    feeds.bus.send("jobs", "new", "/b")
    assert path_of(second) == "/b"
    until(lambda: messages(nats) == 1, "the second job to be done")
    first.say("go on")
    assert bridge.result() == 0
    drained(nats)
    assert said(first, second) == []


def test_a_bridge_that_stood_still(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """What the server gives a second time to the host that has it still is the same job."""
    feeds, serves = host(1, serve="", ack_wait=1.0), host(2)
    feeds.start(fork)
    bridge = serves.start(fork)
    workers = [serves.work(fork), serves.work(fork)]
    feeds.bus.send("jobs", "new", "/a", "hold")
    busy = first_of(*workers)
    assert path_of(busy) == "/a"
    bridge.stop()
    until(lambda: redelivered(nats) == 1, "the server to give the job out again")
    bridge.go_on()
    feeds.bus.send("jobs", "new", "/b")
    (idle,) = (worker for worker in workers if worker is not busy)
    assert path_of(idle) == "/b"
    busy.say("go on")
    drained(nats)
    assert said(*workers) == []


def test_a_queue_and_an_import_of_the_same(host: MakeHost, fork: Fork) -> None:
    """What would come on two ways is an error of the configuration."""
    serves = host(1)
    serves.table["import"] = [{"systems": ["*.a", "other"]}]
    assert serves.begin(fork).result() == 1


def test_the_group_of_a_host_that_only_puts_in_is_removed(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """The bridge makes it anew, and goes on."""
    feeds, serves = host(1, serve=""), host(2)
    feeds.start(fork)
    serves.start(fork)
    worker = serves.work(fork)
    feeds.bus.remove_group("bridge.queue.q")
    until(lambda: [group.name for group in feeds.bus.stats().groups] == ["bridge.queue.q"], "the group")
    feeds.bus.send("jobs", "new", "/a")
    assert path_of(worker) == "/a"
    drained(nats)
