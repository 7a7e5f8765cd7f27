"""Queues whose bridges come back, stop or stand still, and whose groups go; what cannot be configured."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from eventbus.bridge import work
from harness import DEADLINE, Fork, until
from nats_server import NatsServer
from routes import GROUP, Hosts, asked_for_more, drained, first_of, messages, path_of, redelivered, said


@pytest.fixture
def host(nats: NatsServer) -> Iterator[Hosts]:
    """Makes hosts of one queue, by their numbers."""
    with Hosts(nats) as made:
        yield made


def test_a_bridge_comes_back(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_host_begins_to_serve(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_group_is_removed(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_group_that_hears_something_else(nats: NatsServer, host: Hosts, fork: Fork) -> None:
    """A group with other patterns ends the bridge with 1, and a sentence that names both."""
    serves = host(1)
    serves.bus.group(GROUP, "jobs.a")
    assert serves.begin(fork).result() == 1


def test_a_bridge_that_is_told_to_stop(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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


def test_a_bridge_that_stood_still(nats: NatsServer, host: Hosts, fork: Fork) -> None:
    """What the server gives a second time to the host that has it still is the same job."""
    feeds, serves = host(1, serve="", ack_wait=1.0), host(2)
    feeds.start(fork)
    long = ((work, "PULL_SECONDS", DEADLINE),)  # its question for more stands while it does
    bridge = serves.start(fork, patience=long)
    workers = [serves.work(fork), serves.work(fork)]
    feeds.bus.send("jobs", "new", "/a", "hold")
    busy = first_of(*workers)
    assert path_of(busy) == "/a"
    until(lambda: asked_for_more(nats), "the bridge to ask for the other worker, too")
    bridge.stop()
    until(lambda: redelivered(nats) == 1, "the server to give the job out again")
    bridge.go_on()
    feeds.bus.send("jobs", "new", "/b")
    (idle,) = (worker for worker in workers if worker is not busy)
    assert path_of(idle) == "/b"
    busy.say("go on")
    drained(nats)
    assert said(*workers) == []


def test_a_queue_and_an_import_of_the_same(host: Hosts, fork: Fork) -> None:
    """What would come on two ways is an error of the configuration."""
    serves = host(1)
    serves.table["import"] = [{"systems": ["*.a", "other"]}]
    assert serves.begin(fork).result() == 1


def test_the_group_of_a_host_that_only_puts_in_is_removed(nats: NatsServer, host: Hosts, fork: Fork) -> None:
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
