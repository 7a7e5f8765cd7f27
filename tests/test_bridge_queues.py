"""Work across hosts: real servers, bridges and workers, of which any may die."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nats as client
import pytest

from eventbus import Event
from harness import Fork, take, until
from nats_server import NatsServer
from routes import GROUP, Hosts, drained, first_of, messages, path_of, said


@pytest.fixture
def host(nats: NatsServer) -> Iterator[Hosts]:
    """Makes hosts of one queue, by their numbers."""
    with Hosts(nats) as made:
        yield made


def test_work_is_done_once_on_any_host(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_busy_host_passes_on(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_work_goes_on_without_a_server(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_member_dies(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_all_members_die(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_bridge_that_serves_dies(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_server_dies(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_what_kills_its_workers_is_dead_on_all_hosts(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_what_is_no_event_is_dropped(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_what_no_server_takes(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_what_a_busy_host_cannot_pass_on_stays(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_host_that_may_not(nats: NatsServer, host: Hosts, fork: Fork, tmp_path: Path) -> None:
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
