"""What holds a publisher up, and what does not: only events that somebody hears and has yet to take."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from eventbus._eventbus import lib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventbus
from eventbus import Bus, FullError, Policy, Subscription, patterns
from eventbus.core.attachment import Attachment, Group, Occupant
from eventbus.errors import InvalidError

CAPACITY = 1 << 16
RINGS = 5  # that pass while somebody stands still

generated = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
pieces = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "**", "(a|b)", "a(b|a)", "(a|ab)(b|a)"]), min_size=1, max_size=6
)
names = st.lists(st.sampled_from(["a", "b", "aa", "ab", "aba", "abb", "bb"]), min_size=1, max_size=6).map(".".join)


@pytest.fixture
def bus(name: str) -> Bus:
    """A small bus that is left full for a moment only."""
    return eventbus.open(name, capacity=CAPACITY, send_timeout=0.1)


def pass_by(bus: Bus, system: Callable[[int], str] = lambda _: "metrics", rings: int = RINGS) -> None:
    """Sends so many rings of events."""
    for number in range(rings * CAPACITY // 256):
        bus.send(system(number), "tick", "/host", b"x" * 200)


@generated
@given(st.lists(pieces.map(".".join), min_size=1, max_size=3), names)
def test_a_slot_says_what_its_patterns_mean(texts: list[str], name: str) -> None:
    """A publisher that reads patterns from a slot finds what their owner does."""
    try:
        compiled = [patterns.compile(text) for text in texts]
    except InvalidError:
        return
    heard = any(one.matches(name) for one in compiled)
    assert lib.eb_test_means("|".join(texts).encode(), name.encode()) == heard


@pytest.mark.parametrize("text", ["(", "a)", "(a", "", "..", "*" * 255, "." * 255, "(a|a)" * 51, "(|)" * 85 + "b"])
def test_text_that_is_no_pattern_hurts_nobody(text: str) -> None:
    """What somebody scribbled into a slot is looked at for a moment, not for ever."""
    assert lib.eb_test_means(text.encode(), b"a" * 255) in (0, 1)


def test_a_quiet_subscriber_holds_nobody_up(bus: Bus) -> None:
    """It stands still while others hear many rings of events, and misses nothing of its own."""
    with bus, bus.subscribe("config.*") as quiet, bus.subscribe("metrics", overflow="drop") as busy:
        pass_by(bus)
        assert quiet.backlog == bus.stats().subscribers[0].backlog == 0
        bus.send("config.level", "set", "/1", 1)
        pass_by(bus, rings=0)
        assert busy.receive(0) is not None
        event = quiet.receive(0)
        assert event is not None
        assert (event.system, event.data, quiet.lost) == ("config.level", 1, 0)
        assert quiet.receive(0) is None


def test_a_group_without_members_holds_what_it_hears(bus: Bus) -> None:
    """Nothing of what passes by; its own events wait for it."""
    with bus:
        bus.group("mail", "mail.**")
        pass_by(bus)
        bus.send("mail.out", "letter", "/1")
        with pytest.raises(FullError, match="the group 'mail' has 1 events that no member took") as raised:
            pass_by(bus)
        assert raised.value.details["backlog"] == bus.stats().groups[0].backlog == 1
        with bus.subscribe("mail.**", group="mail") as member:
            event = member.receive(0)
            assert event is not None
            assert event.path == "/1"
            member.ack()
            pass_by(bus)
            assert member.receive(0) is None


def test_members_that_stand_still_hold_nobody_up(bus: Bus) -> None:
    """A member that took nothing, and one that has acknowledged what it took, while others pass by."""
    with bus, bus.subscribe("jobs", group="g") as first, bus.subscribe("jobs", group="g") as second:
        assert second.receive(0) is None
        bus.send("jobs", "job", "/1")
        assert first.receive(0) is not None
        first.ack()
        pass_by(bus)
        bus.send("jobs", "job", "/2")
        event = second.receive(0)
        assert event is not None
        assert event.path == "/2"


def test_who_holds_the_ring_is_told_with_what_it_has(bus: Bus) -> None:
    """The number of events that it hears and has yet to receive; not of those that only pass."""
    with bus, bus.subscribe("orders.*", name="slow") as slow:
        pass_by(bus)
        for number in range(3):
            bus.send("orders.eu", "order", f"/{number}")
        with pytest.raises(FullError, match=r"subscriber 'slow' of process [0-9]+ has 3 events to receive") as raised:
            pass_by(bus)
        assert raised.value.details["backlog"] == slow.backlog == bus.stats().subscribers[0].backlog == 3
        assert [event.path for event in slow.receive_many(10, 0)] == ["/0", "/1", "/2"]
        pass_by(bus)


def test_nobody_is_named_for_nothing(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whoever held the ring has taken all by the time that it is looked for, no bystander is named instead."""
    with bus, bus.subscribe("quiet"), bus.subscribe("jobs") as busy:
        slowest = Attachment.slowest

        def after_a_moment(handle: Attachment) -> Occupant | Group | None:
            busy.receive_many(CAPACITY, 0)
            return slowest(handle)

        monkeypatch.setattr(Attachment, "slowest", after_a_moment)
        with pytest.raises(FullError, match="was taken since") as raised:
            pass_by(bus, lambda _: "jobs")
        assert "name" not in raised.value.details


def test_topics_past_the_table(bus: Bus) -> None:
    """Records that carry their names are looked at one by one: they hold up whoever hears them, and nobody else."""
    with bus, bus.subscribe("quiet.**") as quiet:
        for number in range(5000):
            bus.send(f"topic{number}", "k", "/")
        assert bus.stats().untabled > 0
        pass_by(bus, lambda number: f"more{number}")
        bus.send("quiet.new", "k", "/1")
        with pytest.raises(FullError, match="has 1 events to receive"):
            pass_by(bus, lambda number: f"even.more{number}")
        event = quiet.receive(0)
        assert event is not None
        assert event.system == "quiet.new"
        pass_by(bus, lambda number: f"still.more{number}")


def test_more_topics_and_bystanders_than_one_look_is_for(name: str) -> None:
    """Publishers find out by and by who hears what, and refuse no send meanwhile."""
    with eventbus.open(name, capacity=1 << 18, max_subscribers=128, send_timeout=0) as bus:
        quiet = [bus.subscribe(f"quiet{number}.*") for number in range(100)]
        for _ in range(3):
            pass_by(bus, lambda number: f"topic{number}.a", rings=14)
        bus.send("quiet50.x", "k", "/1")
        assert [sub.backlog for sub in quiet] == [0] * 50 + [1] + [0] * 49
        assert bus.stats().untabled == 0


def test_requests_are_heard_under_their_own_kind(bus: Bus) -> None:
    """A request holds the ring for whoever hears its kind, though it travels under another."""
    with bus, bus.subscribe("rpc", "ask.now") as server, bus.subscribe("rpc", "ask.later") as other:
        asker = threading.Thread(target=lambda: bus.request("rpc", "ask.now", "/1", timeout=30))
        asker.start()
        request = server.receive(30)
        assert request is not None
        pass_by(bus)
        request.reply()
        asker.join()
        assert other.receive(0) is None


def test_whoever_catches_up_is_moved_too(bus: Bus) -> None:
    """One that begins at the oldest event, and stands still, loses what is overwritten before it joined, no more."""
    with bus:
        pass_by(bus)
        first = bus.send_many([("orders", "order", "/0")])
        late = bus.subscribe("orders", start="oldest")
        joined = bus.stats().sent
        pass_by(bus)
        bus.send("orders", "order", "/1")
        events = late.receive_many(10, 0)
        assert first == 1
        assert [event.path for event in events] == ["/1"]
        assert 0 < late.lost <= joined
        late.close()


def test_a_policy_hides_what_passes(name: str) -> None:
    """Who may not hear what matches its pattern is moved on as soon as it has met the topic."""
    rules = [{"effect": "deny", "actions": ["events.subscribe"], "resources": ["orders.secret"]}]
    with (
        eventbus.open(name, capacity=CAPACITY, send_timeout=0.1) as bus,
        eventbus.open(name, policy=Policy.from_dict({"rule": rules})) as guarded,
    ):
        sub = guarded.subscribe("orders.*")
        bus.send("orders.secret", "tick", "/")
        assert sub.receive(0) is None
        pass_by(bus, lambda _: "orders.secret")
        assert sub.receive(0) is None
        sub.close()


def test_what_one_member_may_not_hear_another_may(name: str) -> None:
    """The policy of one member of a group does not let publishers pass what the others hear and have yet to take."""

    def no_secrets(actor: str, action: str, system: str) -> bool:
        return action != "events.subscribe" or system != "orders.secret"

    with (
        eventbus.open(name, capacity=CAPACITY, send_timeout=0.1) as bus,
        eventbus.open(name, policy=no_secrets) as guarded,
    ):
        bus.group("g", "orders.*")
        limited, free = guarded.subscribe("orders.*", group="g"), bus.subscribe("orders.*", group="g")
        bus.send("orders.secret", "k", "/0")
        assert limited.receive(0) is None
        bus.send_many([("orders.secret", "k", "/1"), ("orders.secret", "k", "/2")])
        with pytest.raises(FullError, match="the group 'g' has 2 events that no member took"):
            pass_by(bus)
        paths = [event.path for event in (free.receive(0), free.receive(0)) if event is not None]
        assert paths == ["/1", "/2"]
        pass_by(bus, rings=0)
        limited.close()


def test_readers_that_are_moved_while_they_read(name: str) -> None:
    """Subscribers that now and then read, beside publishers that go round the ring: each its own events, in order."""
    with eventbus.open(name, capacity=CAPACITY, send_timeout=None) as bus:
        subs = [bus.subscribe(f"own{number}") for number in range(4)]
        heard: list[list[int]] = [[] for _ in subs]

        def read(sub: Subscription, into: list[int]) -> None:
            while (event := sub.receive(30)) is not None and event.data >= 0:
                into.append(event.data)

        readers = [threading.Thread(target=read, args=pair) for pair in zip(subs, heard, strict=True)]
        for reader in readers:
            reader.start()
        for number in range(20_000):
            bus.send("noise", "k", "/", b"x" * (number % 200))
            if number % 50 == 0:
                bus.send(f"own{number // 50 % 4}", "k", "/", number)
        for number in range(4):
            bus.send(f"own{number}", "k", "/", -1)
        for reader in readers:
            reader.join()
        assert heard == [list(range(50 * number, 20_000, 200)) for number in range(4)]
        assert [sub.lost for sub in subs] == [0] * 4
