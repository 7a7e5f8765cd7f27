"""Where what members have in hand meets a limit: full hands, pages that a removed group had, what a stranger wrote."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import eventbus
from eventbus import Bus
from eventbus.core import native
from eventbus.member import Member
from harness import DEADLINE
from jobs import join, numbers, send

CLAIMS: int = native.lib.EB_CLAIMS
BATCH: int = native.lib.EB_BATCH_LIMIT


@pytest.mark.parametrize("jobs", [2, 3])
def test_full_hands_come_to_the_end_of_a_bus_that_was_shut_down(bus: Bus, jobs: int) -> None:
    """With all taken nothing can come any more, whether or not there would be a place in hand for it."""
    member = join(bus, prefetch=3, ack="manual")
    send(bus, jobs)
    events = [member.receive(0) for _ in range(jobs)]
    bus.shutdown()
    assert member.receive() is None
    for event in events:
        member.ack(event)


def test_full_hands_come_to_the_end_of_their_group(bus: Bus) -> None:
    """Whoever waits for a place in hand is not told that its group was removed, and finds out."""
    member = join(bus, ack="manual")
    send(bus, 2)
    assert member.receive(0) is not None
    ended: list[object] = []
    waits = threading.Thread(target=lambda: ended.append(member.receive()))
    waits.start()
    bus.remove_group("g")
    waits.join(DEADLINE)
    assert ended == [None]


@pytest.mark.parametrize("alive", [False, True], ids=["without members", "whose members leave later"])
def test_the_claims_of_a_removed_group_are_for_the_others(name: str, alive: bool) -> None:
    """A group that had all claims there are leaves them to the others, also before another one takes its place."""
    with eventbus.open(name, capacity=1 << 22, max_subscribers=CLAIMS // BATCH + 8) as bus:
        members = [join(bus, BATCH, ack="manual") for _ in range(CLAIMS // BATCH)]
        send(bus, CLAIMS)
        assert all(len(member.receive_many(BATCH, DEADLINE)) == BATCH for member in members)
        other = bus.subscribe("jobs", group="other", start="oldest", prefetch=1)
        assert other.receive(0) is None
        for member in [] if alive else members:
            member.close()
        bus.remove_group("g")
        for member in members:
            member.close()
        first = other.receive(DEADLINE)
        assert first is not None
        assert first.data == 0


def test_a_group_leaves_claims_to_the_others(name: str) -> None:
    """However much one has in hand, each other one that has nothing yet finds room for some."""
    with eventbus.open(name, capacity=1 << 22, max_subscribers=CLAIMS // BATCH + 8) as bus:
        others = [bus.subscribe("jobs", group=f"other{number}", prefetch=1) for number in range(3)]
        members = [join(bus, BATCH, ack="manual") for _ in range(CLAIMS // BATCH)]
        send(bus, CLAIMS)
        taken = sum(len(member.receive_many(BATCH, 0)) for member in members)
        assert taken == CLAIMS - 3 * native.lib.EB_PAGE_CLAIMS
        assert [other.receive(0).data for other in others] == [0, 0, 0]  # type: ignore[union-attr]


def test_an_exhausted_event_is_not_forgotten_when_another_is_buried(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read, and a signal handler raised before it was sent as dead: whatever is buried then, it comes next."""
    bus.group("g", "jobs.**", max_deliveries=1)
    dead = bus.subscribe("eventbus.dead")
    member = join(bus, prefetch=2, ack="manual")
    send(bus, 2)
    first, second = member.receive(0), member.receive(0)
    assert first is not None
    assert second is not None
    member.reject(second)

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Member, "_settle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            member.receive(0)
    member.bury(first)
    assert member.receive(0) is None
    assert [letter["data"] for letter in numbers(dead)] == [0, 1]  # type: ignore[index]


def test_letters_that_are_sent_in_the_middle_of_sending_them(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a destructor that closes the member: each arrives, the one that was being sent twice."""
    grave = bus.subscribe("eventbus.dead")
    member = join(bus)
    post = member._post

    def send_all_first(path: str, letter: dict[str, Any], patient: bool) -> object:
        monkeypatch.setattr(member, "_post", post)
        member._send_letters(patient=False)
        return post(path, letter, patient)

    send(bus, 2)
    for _ in range(2):
        monkeypatch.setattr(member, "_post", send_all_first)
        event = member.receive(0)
        assert event is not None
        member.bury(event)
    assert [event.data["data"] for event in grave.receive_many(9, 0)] == [0, 0, 1, 1]
