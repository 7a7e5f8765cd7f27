"""What a subscription hears: where it starts, what it loses and counts, how it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, Event, FullError, InvalidError, PolicyDeniedError, Subscription
from harness import DEADLINE

TOPICS = 4096  # entries of the topic table
FILLER = "x" * 200


def numbers(sub: Subscription, limit: int = 1 << 20) -> list[int]:
    """The sequences of what waits."""
    return [event.sequence for event in sub.receive_many(limit, timeout=0)]


def send(bus: Bus, count: int, system: str = "a") -> None:
    """Sends small events, without waiting for room."""
    for number in range(count):
        bus.send(system, "kind", "/path", number, timeout=0)


def test_patterns_decide(bus: Bus) -> None:
    """A subscription hears the events whose system and kind match its patterns, and only them."""
    sent = [("orders", "created"), ("orders.eu", "created"), ("orders.eu.x", "paid"), ("users", "created")]
    for system, kind, expected in (
        ("orders", None, [1]),
        ("orders.*", None, [1, 2]),
        ("orders.**", None, [1, 2, 3]),
        ("**", "created", [1, 2, 4]),
        ("*", "(paid|created)", [1, 4]),
        ("nobody", "**", []),
        (["users", "orders"], None, [1, 4]),
        (("orders.*", "orders.eu", "nobody"), ["paid", "created"], [1, 2]),
        ("**", ("paid", "c"), [3]),
    ):
        first = bus.stats().sent
        with bus.subscribe(system, kind) as sub:
            for event in sent:
                bus.send(*event, "/path")
            assert sub.backlog == len(expected)
            assert numbers(sub) == [first + number for number in expected]
            assert sub.backlog == 0


def test_latest(bus: Bus) -> None:
    """By default a subscription hears what is sent after it was made, from the next event on."""
    send(bus, 3)
    with bus.subscribe("a") as sub:
        send(bus, 2)
        assert numbers(sub) == [4, 5]
        assert sub.lost == 0


@pytest.mark.parametrize("overflow", ["block", "drop"])
def test_oldest(bus: Bus, overflow: Any) -> None:
    """`start="oldest"` begins with the oldest event that the ring holds and goes on without a gap."""
    send(bus, 3)
    with bus.subscribe("a", start="oldest", overflow=overflow) as sub:
        send(bus, 2)
        assert (sub.backlog, sub.lost) == (5, 0)
        assert numbers(sub) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("overflow", ["block", "drop"])
def test_a_sequence(bus: Bus, overflow: Any) -> None:
    """An integer begins at that sequence, which was sent already or is the next one."""
    send(bus, 3)
    with (
        bus.subscribe("a", start=2, overflow=overflow) as past,
        bus.subscribe("a", start=4, overflow=overflow) as present,
    ):
        send(bus, 4)
        assert [sub.backlog for sub in (past, present)] == [6, 4]
        assert [numbers(sub) for sub in (past, present)] == [[2, 3, 4, 5, 6, 7], [4, 5, 6, 7]]
        assert [sub.lost for sub in (past, present)] == [0, 0]


def test_a_sequence_that_nobody_knows_yet(bus: Bus) -> None:
    """Beyond the next event there is nothing to begin at: an error that names the last one, and no slot is taken."""
    for sent in (0, 3):
        send(bus, sent)
        for begin in (
            lambda start: bus.subscribe("a", start=start),
            lambda start: bus.subscribe("a", start=start, overflow="drop"),
            lambda start: bus.subscribe("a", group="g", start=start),
            lambda start: bus.group("g", "a", start=start),
        ):
            with pytest.raises(InvalidError, match=f"last sequence of the bus .* is {sent}, not {sent + 2}") as caught:
                begin(sent + 2)
            assert caught.value.details == {"last": sent, "start": sent + 2}
    assert (bus.stats().subscribers, bus.stats().groups) == ((), ())
    bus.group("g", "a", start=4)
    bus.subscribe("a", group="g", start=9).close()  # of a group that is there already, nothing begins


@pytest.mark.parametrize("overflow", ["block", "drop"])
def test_a_sequence_that_is_gone(bus: Bus, overflow: Any) -> None:
    """An integer whose event is overwritten counts what is gone as lost and begins with the oldest kept."""
    send(bus, 5000)
    with bus.subscribe("a", start="oldest") as oldest:
        first = numbers(oldest)[0]
    assert first > 10
    with bus.subscribe("a", start=10, overflow=overflow) as sub:
        assert sub.lost == first - 10
        assert numbers(sub) == list(range(first, 5001))
        assert sub.lost == first - 10


@pytest.mark.parametrize("bad", ["first", "", None, 0, -1, 1.0, True, 1 << 63])
def test_a_bad_start(bus: Bus, bad: Any) -> None:
    """A start that is none is an error that lists what there is."""
    with pytest.raises(InvalidError, match="start must be"):
        bus.subscribe("a", start=bad)


def test_bad_arguments(bus: Bus) -> None:
    """Every bad argument of `subscribe` is an error that names it, and takes no slot."""
    for named, options in (
        ("system", {"system": "ord*"}),
        ("kind", {"system": "a", "kind": "a..b"}),
        ("overflow", {"system": "a", "overflow": "lose"}),
        ("spin", {"system": "a", "spin": -1}),
        ("spin", {"system": "a", "spin": True}),
        ("spin", {"system": "a", "spin": 2}),
        ("name", {"system": "a", "name": ""}),
        ("name", {"system": "a", "name": "x" * 64}),
        ("name", {"system": "a", "name": 5}),
    ):
        with pytest.raises(InvalidError, match=named):
            bus.subscribe(**options)
    assert bus.stats().subscribers == ()


@pytest.mark.parametrize("bad", [0, -1, 1.0, "1", True, None])
def test_a_bad_limit(bus: Bus, bad: Any) -> None:
    """A limit of `receive_many` that is no number of events is an error."""
    with bus.subscribe("a") as sub, pytest.raises(InvalidError, match="limit"):
        sub.receive_many(bad, 0)


def test_drop_counts_exactly(bus: Bus) -> None:
    """Lapped, a dropping subscription goes on at the oldest event kept; lost and received make up what was sent."""
    with bus.subscribe("a", overflow="drop") as sub:
        received = 0
        for _ in range(5):
            send(bus, 4000)
            heard = numbers(sub)
            received += len(heard)
            sent = bus.stats().sent
            assert heard == list(range(sent - len(heard) + 1, sent + 1))
            assert 0 < received == sent - sub.lost


def test_lost_counts_what_it_would_not_have_heard(bus: Bus) -> None:
    """The count is of sequences, heard or not, and the events of a subscriber that keeps up are never lost."""
    with bus.subscribe("a", overflow="drop") as sub, bus.subscribe("a", overflow="drop") as quick:
        send(bus, 5000, "b")
        send(bus, 1)
        assert numbers(quick) == [5001]
        assert numbers(sub) == [5001]
        with bus.subscribe("**", start="oldest") as all_kept:
            oldest = numbers(all_kept)[0]
        assert (sub.lost, quick.lost) == (oldest - 1, oldest - 1)


def test_block_holds_the_publisher(bus: Bus) -> None:
    """A blocking subscription loses nothing: the ring is full until it has received, and then has room again."""
    with bus.subscribe("a", name="slow") as sub:
        sent = 0
        while bus.stats().capacity - bus.stats().used > 300:
            bus.send("a", "kind", "/path", FILLER, timeout=0)
            sent += 1
        with pytest.raises(FullError, match="slow") as caught:
            bus.send("a", "kind", "/path", FILLER + FILLER, timeout=0)
        details = caught.value.details
        assert (details["name"], details["pid"], details["backlog"]) == ("slow", os.getpid(), sent)
        assert (caught.value.kind, caught.value.retryable) == ("UNAVAILABLE", True)
        assert bus.stats().sent == sent == sub.backlog
        assert numbers(sub) == list(range(1, sent + 1))
        send(bus, 10)
        assert numbers(sub) == list(range(sent + 1, sent + 11))


def test_a_deaf_subscription_holds_nobody(bus: Bus) -> None:
    """A blocking subscription whose receiver waits is not in the way of events that it does not hear."""
    with bus.subscribe("heard") as sub:
        send(bus, 10, "unheard")
        assert sub.receive(0) is None
        for _ in range(20):
            send(bus, 100, "unheard")
            assert sub.receive(0) is None
        assert sub.lost == 0


def test_receive_many(bus: Bus) -> None:
    """`receive_many` gives at most `limit` events in order, and [] when the time is up or the end has come."""
    with bus.subscribe("a") as sub:
        assert sub.receive_many(5, 0) == []
        assert sub.receive_many(5, 0.01) == []
        send(bus, 700)
        assert numbers(sub, 3) == [1, 2, 3]
        assert numbers(sub, 600) == list(range(4, 604))
        assert (sub.backlog, numbers(sub)) == (97, list(range(604, 701)))
        bus.shutdown()
        assert sub.receive_many(5) == []
        assert sub.closed


def test_channel(bus: Bus) -> None:
    """The channel is always the same; it tells an event, the time that is up, and the end apart."""
    with bus.subscribe("a") as sub:
        channel = sub.channel()
        assert channel is sub.channel()
        assert channel.receive(0) == (None, True)
        assert channel.receive(0.01) == (None, True)
        send(bus, 2)
        event, ok = channel.receive()
        assert isinstance(event, Event)
        assert ok
        bus.shutdown()
        assert not sub.closed
        assert [event.sequence for event in channel] == [2]
        assert channel.receive() == (None, False)
        channel.close()
        assert channel.receive(0) == (None, False)


def test_shutdown(bus: Bus) -> None:
    """After a shutdown subscribers drain what is left and see the end; whoever sends or subscribes is refused."""
    with bus.subscribe("a") as sub, bus.subscribe("b") as other, eventbus.open(bus.name) as elsewhere:
        send(bus, 3)
        bus.shutdown()
        bus.shutdown()
        for which in (bus, elsewhere):
            assert which.closed
            assert which.stats().closed
            with pytest.raises(ClosedError):
                which.send("a", "kind", "/path")
            with pytest.raises(ClosedError):
                which.subscribe("a")
        assert not sub.closed
        assert [event.data for event in sub] == [0, 1, 2]
        assert sub.closed
        assert other.closed
        assert other.receive() is None


@pytest.mark.parametrize("spin", [None, 0, 0.001, 1])
def test_ways_of_waiting(bus: Bus, spin: float | None) -> None:
    """However long it looks before it sleeps: it comes back in time, hears what is sent meanwhile, and sees the end."""
    sub = bus.subscribe("a", spin=spin)
    assert sub.receive(timeout=0.02) is None
    with ThreadPoolExecutor(1) as pool:
        for number in range(50):
            waiting = pool.submit(sub.receive, DEADLINE)
            bus.send("a", "k", "/", number)
            event = waiting.result()
            assert event is not None
            assert event.data == number
        waiting = pool.submit(sub.receive, DEADLINE)
        bus.shutdown()
        assert waiting.result() is None
    assert sub.closed


def test_closing(bus: Bus) -> None:
    """A closed subscription ends, keeps its count of what was lost, and is gone from the statistics."""
    sub = bus.subscribe("a", overflow="drop", name="gone")
    send(bus, 5000)
    assert sub.receive(0) is not None
    lost = sub.lost
    assert lost > 0
    sub.close()
    sub.close()
    assert (sub.closed, sub.lost, sub.backlog, sub.name, sub.receive(), list(sub)) == (True, lost, 0, "gone", None, [])
    assert bus.stats().subscribers == ()


def test_an_event_larger_than_the_buffer(name: str) -> None:
    """Events of every size up to a quarter of a large ring arrive, small ones between large ones."""
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("a") as sub:
        datas = [size * letter for size in (1, 70_000, 200, 250_000, 65_536) for letter in ("x", b"x")]
        for data in datas:
            bus.send("a", "kind", "/path", data)
            bus.send("a", "kind", "/path", b"")
            assert [event.data for event in sub.receive_many(2, 0)] == [data, b""]


def deny_secrets(actor: str, action: str, system: str) -> bool:
    """A policy."""
    return system != "secret"


@pytest.mark.parametrize("policy", [None, deny_secrets])
def test_more_topics_than_the_table_holds(name: str, policy: Any) -> None:
    """Past a full topic table everything works as before: patterns, order, policy, backlog, counts, raw data."""
    with eventbus.open(name, capacity=1 << 20, policy=policy) as bus:
        for number in range(TOPICS):
            bus.send("table", f"kind{number}", "/path")
        with bus.subscribe("past.*", "(even|odd)") as sub, bus.subscribe("past", "even") as even:
            for number in range(100):
                bus.send("past", "odd" if number % 2 else "even", f"/{number}", b"raw" if number % 3 else number)
            bus.send("past", "neither", "/path")
            assert bus.send_many([("past.x", "odd", "/x", 1), ("table", "kind7", "/y")]) == 2
            assert (sub.backlog, even.backlog) == (101, 50)
            events = sub.receive_many(999, 0)
            assert [event.path for event in events] == [*(f"/{number}" for number in range(100)), "/x"]
            assert [event.data for event in events[:4]] == [0, b"raw", b"raw", 3]
            assert {(event.system, event.kind) for event in events} == {
                ("past", "odd"),
                ("past", "even"),
                ("past.x", "odd"),
            }
            assert [event.path for event in even.receive_many(999, 0)] == [f"/{number}" for number in range(0, 100, 2)]
            assert (sub.backlog, even.backlog) == (0, 0)
        stats = bus.stats()
        assert (len(stats.topics), stats.untabled) == (TOPICS, 102)
        assert sum(stats.topics.values()) + stats.untabled == stats.sent
        if policy is not None:
            with pytest.raises(PolicyDeniedError):
                bus.send("secret", "kind", "/path")
            assert bus.stats().sent == stats.sent


def test_a_policy_is_asked_once_for_each_topic(name: str) -> None:
    """Verdicts are remembered: a policy is asked when a system is first met, and never for an event."""
    asked: list[tuple[str, str]] = []

    def policy(actor: str, action: str, system: str) -> bool:
        asked.append((action, system))
        return system != "secret"

    with eventbus.open(name, policy=policy, actor="me") as bus, bus.subscribe("open") as sub:
        before = len(asked)
        send(bus, 100, "open")
        assert len(numbers(sub)) == 100
        with pytest.raises(PolicyDeniedError) as caught:
            bus.send("secret", "kind", "/path")
        assert caught.value.details["system"] == "secret"
        assert len(asked) - before <= 3


def test_a_channel_is_a_context_manager(bus: Bus) -> None:
    """At the end of it the subscription is closed."""
    sub = bus.subscribe("a")
    with sub.channel() as channel:
        send(bus, 1)
        assert channel.receive(0)[1]
    assert sub.closed


@pytest.mark.parametrize("bad", ["", "x" * 64, "\u00e9" * 32, "a\0b", "\ud800", 7])
def test_a_bad_name(bus: Bus, bad: Any) -> None:
    """A name that is none of a subscription is an error of the caller's, like one of a group."""
    for call in (lambda: bus.subscribe("a", name=bad), lambda: bus.group(bad, "a")):
        with pytest.raises(InvalidError, match="name must be"):
            call()


def test_all_patterns_of_a_list_must_be_allowed(name: str) -> None:
    """One that is not covered is enough to be refused, and is the one that is named."""
    rule = {"effect": "allow", "actions": ["*"], "resources": ["orders.*", "users"]}
    with eventbus.open(name, policy={"default": "deny", "rule": [rule]}) as bus:
        bus.subscribe(["users", "orders.eu"]).close()
        bus.group("g", ["users", "orders"])
        calls: list[Callable[[list[str]], object]] = [bus.subscribe, lambda wanted: bus.group("h", wanted)]
        for call in calls:
            with pytest.raises(PolicyDeniedError, match=r"'orders\.\*\*'") as caught:
                call(["users", "orders.**"])
            assert caught.value.details["system"] == "orders.**"
