"""What is seldom asked for: errors that travel, how objects name themselves, what is refused of groups."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

import eventbus
from eventbus import Bus, FullError, InvalidError, PolicyDeniedError
from eventbus.member import Member
from eventbus.request import Request
from harness import DEADLINE, until


def test_an_error_can_be_pickled() -> None:
    """An error keeps its class, its words and its details on the way to another process."""
    error = FullError("the ring is full", name="slow", pid=7)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is FullError
    assert (str(copy), copy.details, copy.kind, copy.retryable) == (str(error), error.details, "UNAVAILABLE", True)


def test_what_is_closed_says_so(bus: Bus) -> None:
    """A bus and a subscription name themselves, and say when they are closed."""
    sub = bus.subscribe("a", name="ears")
    assert (repr(bus), repr(sub)) == (f"<Bus {bus.name!r}>", "<Subscription 'ears'>")
    sub.close()
    bus.close()
    assert (repr(bus), repr(sub)) == (f"<Bus {bus.name!r} closed>", "<Subscription 'ears' closed>")


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
def test_a_member_checks_its_limit(bus: Bus, limit: Any) -> None:
    """A member takes a number of events that is one, like every subscription."""
    with bus.subscribe("a", group="workers") as member, pytest.raises(InvalidError, match="limit must be"):
        member.receive_many(limit)


def test_a_member_names_its_group(bus: Bus) -> None:
    """A member knows of which group it is."""
    with bus.subscribe("a", group="workers", name="one") as member:
        assert isinstance(member, Member)
        assert (member.group, member.name) == ("workers", "one")


@pytest.mark.parametrize("group", [None, "workers"])
def test_another_thread_receives(bus: Bus, group: str | None) -> None:
    """Two threads share a subscription; whoever finds the other waiting has its own time to wait and no more."""
    with bus.subscribe("a", group=group) as shared:
        heard: list[Any] = []
        waiting = threading.Thread(target=lambda: heard.append(shared.receive(60)))
        waiting.start()
        until(lambda: any(one.sleeping for one in bus.stats().subscribers), "a sleeper")
        assert shared.receive(0.01) is None
        bus.send("a", "b", "/c")
        waiting.join()
        assert [event.path for event in heard] == ["/c"]


def test_a_group_needs_who_may_send(bus: Bus) -> None:
    """A group sends dead letters, so a process that may only subscribe cannot make one."""
    with eventbus.open(bus.name, role="subscriber") as reader, pytest.raises(InvalidError, match="role='member'"):
        reader.subscribe("a", group="workers")


def test_a_group_asks_the_policy(name: str) -> None:
    """What may not be subscribed to may not be made a group of either."""
    policy = {"default": "deny"}
    with eventbus.open(name, policy=policy) as bus, pytest.raises(PolicyDeniedError):
        bus.group("workers", "a")


def test_a_changed_request_can_be_answered(bus: Bus) -> None:
    """A copy of a request with another path is still a request."""
    with bus.subscribe("a") as sub:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(bus.request("a", "b", "/c", timeout=60)))
        asking.start()
        request = sub.receive(60)
        assert isinstance(request, Request)
        assert request._replace(path="/d").reply(7)
        asking.join()
        assert answers == [7]


@pytest.mark.parametrize("group", [None, "workers"])
def test_an_event_behind_a_flood_of_others(name: str, group: str | None) -> None:
    """Whoever polls gets past what it does not hear, in however many polls; whoever waits gets past it in one call."""
    with eventbus.open(name, capacity=1 << 22) as bus:
        for wait in (0, DEADLINE):
            bus.group("workers", "mine", start="oldest")
            sub = bus.subscribe("mine", group=group)
            for _ in range(5):
                bus.send_many([("other", "k", "/", 0)] * 10_000)
            bus.send("mine", "k", "/mine", 1)
            heard = None
            while heard is None:
                heard = sub.receive(wait)
            assert heard.path == "/mine"
            sub.close()
