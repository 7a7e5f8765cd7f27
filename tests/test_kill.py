"""Processes killed at every test point: what they did counts whole or not at all, and the others go on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NamedTuple

import pytest

import eventbus
from eventbus import ClosedError
from harness import Fork, Line, arm, points, sealed, unsealed, until

CAPACITY = 8 * 1024
PATIENCE = 5.0  # seconds that a survivor may be held up before it counts as blocked
SURVIVOR, VICTIM = 0, 1  # publishers, as the sealed data name them


class Scenario(NamedTuple):
    """Who passes a test point, what it does, and what the others see of an event sent at that pass."""

    victim: Callable[[Line, str, str, int], None]
    survivors: Callable[[Fork, str, str, int], None]


# --- what the victims do; each comes to its point at least twice ---


def publish(line: Line, name: str, point: str, passes: int) -> None:
    """Sends event after event; its topic is in the table before the first."""
    bus = eventbus.open(name)
    bus.send("known", "topic", "/warm", sealed(VICTIM, 0))
    arm(point, passes=passes)
    for number in range(1, 4):
        bus.send("known", "topic", "/victim", sealed(VICTIM, number))


def publish_to_sleepers(line: Line, name: str, point: str, passes: int) -> None:
    """Sends an event each time that somebody sleeps."""
    bus = eventbus.open(name)
    bus.send("known", "topic", "/warm", sealed(VICTIM, 0))
    arm(point, passes=passes)
    for number in range(1, 4):
        until(lambda: any(one.sleeping for one in bus.stats().subscribers), "a sleeper")
        bus.send("known", "topic", "/victim", sealed(VICTIM, number))


def publish_topics(line: Line, name: str, point: str, passes: int) -> None:
    """Sends the first event of one topic after the other."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    for number in range(3):
        bus.send("new", f"topic{number}", "/victim", sealed(VICTIM, number))


def publish_into_full(line: Line, name: str, point: str, passes: int) -> None:
    """Sends until the ring is full and longer; whoever holds it back is dead or does not receive."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    number = 0
    while True:
        bus.send("known", "topic", "/victim", sealed(VICTIM, number), timeout=None)
        number += 1


def publish_held_up(line: Line, name: str, point: str, passes: int) -> None:
    """Sends while somebody else has the publish lock and keeps it."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    bus.send("known", "topic", "/victim", sealed(VICTIM, 0), timeout=None)


def inherit(line: Line, name: str, point: str, passes: int) -> None:
    """Sends an event each time that somebody has died with the publish lock."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    for number in range(3):
        line.hear()
        bus.send("known", "topic", "/victim", sealed(VICTIM, number))
        line.say("sent")


def shut_down(line: Line, name: str, point: str, passes: int) -> None:
    """Shuts the bus down, again and again."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    for _ in range(3):
        bus.shutdown()


def subscribe(line: Line, name: str, point: str, passes: int) -> None:
    """Subscribes and closes, again and again."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    for _ in range(3):
        bus.subscribe("**").close()


def receive(line: Line, name: str, point: str, passes: int) -> None:
    """Receives event after event, each as soon as the test has sent it."""
    sub = eventbus.open(name).subscribe("**")
    line.say("subscribed")
    arm(point, passes=passes)
    for _ in range(3):
        line.hear()
        unsealed(sub.receive(PATIENCE))
        line.say("received")


def await_events(line: Line, name: str, point: str, passes: int) -> None:
    """Waits for events."""
    sub = eventbus.open(name).subscribe("**")
    line.say("subscribed")
    arm(point, passes=passes)
    for _ in range(3):
        sub.receive(PATIENCE)


def open_and_close(line: Line, name: str, point: str, passes: int) -> None:
    """Opens the bus and leaves it, again and again."""
    arm(point, passes=passes)
    for _ in range(3):
        eventbus.open(name, capacity=CAPACITY).close()


# --- what the survivors see ---


class Survivors:
    """Subscribers and a publisher of the test's own process, with what they have heard of the victim."""

    def __init__(self, name: str) -> None:
        self.bus = eventbus.open(name, capacity=CAPACITY)
        self.blocking = self.bus.subscribe("**", name="blocking")
        self.dropping = self.bus.subscribe("**", name="dropping", overflow="drop")
        self.heard: list[int] = []
        self.sequence = self.kept = 0

    def drain(self) -> None:
        """Receives all there is, on both subscriptions: whole, and where it blocks without a gap."""
        for event in self.blocking.receive_many(1 << 20, timeout=0):
            publisher, number = unsealed(event)
            self.sequence += 1
            assert event.sequence == self.sequence
            if publisher == VICTIM:
                self.heard.append(number)
        for event in self.dropping.receive_many(1 << 20, timeout=0):
            unsealed(event)
            self.kept += 1

    def go_on(self) -> None:
        """The bus does all it did before the death: takes part, sends, is heard and counted, in more than one lap."""
        with eventbus.open(self.bus.name) as newcomer, newcomer.subscribe("**") as late:
            for number in range(100):
                self.bus.send("survivor", "still", "/here", sealed(SURVIVOR, number), timeout=PATIENCE)
                assert unsealed(late.receive(PATIENCE)) == (SURVIVOR, number)
                self.drain()
            stats = newcomer.stats()
        assert sum(stats.topics.values()) + stats.untabled == stats.sent == self.sequence
        assert self.kept + self.dropping.lost == self.sequence
        assert {one.name for one in stats.subscribers} == {"blocking", "dropping", late.name}

    def close(self) -> None:
        """The last one out."""
        self.bus.close()


def publishing(heard: Callable[[int], list[int]]) -> Callable[[Fork, str, str, int], None]:
    """Survivors of a publisher that died at its pass number n: they heard just the events ``heard(n)``."""

    def survive(fork: Fork, name: str, point: str, passes: int) -> None:
        survivors = Survivors(name)
        sleeper = fork(sleep_and_count, name)
        sleeper.hear()
        victim = fork(SCENARIOS[point].victim, name, point, passes)
        victim.killed()
        survivors.drain()
        assert survivors.heard == heard(passes)
        survivors.bus.send("survivor", "still", "/first", sealed(SURVIVOR, 0), timeout=PATIENCE)
        assert sleeper.result() == survivors.heard
        survivors.drain()
        survivors.go_on()
        survivors.close()

    return survive


def sleep_and_count(line: Line, name: str) -> list[int]:
    """A subscriber in a process of its own: what it heard of the victim until the survivor spoke."""
    with eventbus.open(name) as bus, bus.subscribe("**", name="sleeper") as sub:
        line.say("subscribed")
        heard = []
        for event in sub:
            publisher, number = unsealed(event)
            if publisher == SURVIVOR:
                break
            heard.append(number)
        return heard


def of_a_full_ring(fork: Fork, name: str, point: str, passes: int) -> None:
    """Dead subscribers hold the ring back, then the publisher that waits for room dies too."""
    survivors = Survivors(name)
    lazy = [fork(subscribe_and_stay, name) for _ in range(2)]
    for child in lazy:
        child.hear()  # all of them before the first dies, or the next takes its slot
    for child in lazy:
        child.kill()
    fork(SCENARIOS[point].victim, name, point, passes).killed()
    survivors.drain()
    assert survivors.heard
    assert survivors.heard == list(range(len(survivors.heard)))
    survivors.go_on()
    survivors.close()


def subscribe_and_stay(line: Line, name: str) -> None:
    """A subscriber that never receives."""
    with eventbus.open(name).subscribe("**"):
        line.say("subscribed")
        line.hear()


def send_with_the_lock(line: Line, name: str, point: str, number: int) -> None:
    """Gets this signal at this point while it has the publish lock, and if it is let go on it sends an event."""
    with eventbus.open(name) as bus:
        bus.send("survivor", "still", "/here", sealed(SURVIVOR, 0))
        arm(point, number)
        bus.send("survivor", "still", "/here", sealed(SURVIVOR, 1))


def of_a_held_lock(fork: Fork, name: str, point: str, passes: int) -> None:
    """Whoever dies waiting for the publish lock takes nothing from its owner, nor from those who come after it."""
    survivors = Survivors(name)
    owner = fork(send_with_the_lock, name, "publish_copied", signal.SIGSTOP)
    owner.wait_stopped()
    fork(SCENARIOS[point].victim, name, point, passes).killed()
    owner.go_on()
    owner.result()
    survivors.go_on()
    assert survivors.heard == []
    survivors.close()


def of_an_heir(fork: Fork, name: str, point: str, passes: int) -> None:
    """Whoever dies while it mends what another one left behind has itself an heir, who mends it again."""
    survivors = Survivors(name)
    heir = fork(SCENARIOS[point].victim, name, point, passes)
    for number in range(passes):
        assert number == 0 or heir.hear() == "sent"
        fork(send_with_the_lock, name, "publish_copied", signal.SIGKILL).killed()
        heir.say("dead")
    heir.killed()
    survivors.go_on()
    assert survivors.heard == list(range(passes - 1))
    survivors.close()


def of_a_shutdown(fork: Fork, name: str, point: str, passes: int) -> None:
    """The bus is closed for all, whoever was not told finds out by itself, and what was sent is drained first."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("**") as sub:
        bus.send("survivor", "still", "/here", sealed(SURVIVOR, 0))
        sleeper = fork(sleep_and_count, name)
        sleeper.hear()
        fork(SCENARIOS[point].victim, name, point, passes).killed()
        assert unsealed(sub.receive(PATIENCE)) == (SURVIVOR, 0)
        assert sub.receive() is None
        assert sub.closed
        with pytest.raises(ClosedError):
            bus.send("survivor", "still", "/here")
        assert sleeper.result() == []


def of_a_subscriber(fork: Fork, name: str, point: str, passes: int) -> None:
    """A subscriber that dies takes nothing with it, and its slot is free for the next."""
    survivors = Survivors(name)
    victim = fork(SCENARIOS[point].victim, name, point, passes)
    if SCENARIOS[point].victim is receive:
        assert victim.hear() == "subscribed"
        for number in range(passes):
            survivors.bus.send("survivor", "still", "/here", sealed(SURVIVOR, number))
            victim.say("sent")
            if victim.hear_or_end() is None:
                break
    victim.killed()
    survivors.drain()
    survivors.go_on()
    survivors.close()


def of_a_closer(fork: Fork, name: str, point: str, passes: int) -> None:
    """One that dies in the door of a bus in use leaves the door open."""
    survivors = Survivors(name)
    fork(SCENARIOS[point].victim, name, point, passes).killed()
    survivors.go_on()
    survivors.close()


def of_a_creator(fork: Fork, name: str, point: str, passes: int) -> None:
    """What a creator leaves half-made is replaced by the next one to open it."""
    fork(SCENARIOS[point].victim, name, point, passes).killed()
    survivors = Survivors(name)
    survivors.go_on()
    survivors.close()


before_commit = publishing(lambda passes: list(range(passes)))
after_commit = publishing(lambda passes: list(range(passes + 1)))
in_the_table = publishing(lambda passes: list(range(passes - 1)))

SCENARIOS = {
    "publish_locked": Scenario(publish, before_commit),
    "publish_claimed": Scenario(publish, before_commit),
    "publish_header": Scenario(publish, before_commit),
    "publish_copied": Scenario(publish, before_commit),
    "publish_committed": Scenario(publish, after_commit),
    "publish_counted": Scenario(publish, after_commit),
    "lock_woken": Scenario(publish_held_up, of_a_held_lock),
    "lock_taken_over": Scenario(inherit, of_an_heir),
    "publish_unlocked": Scenario(publish, after_commit),
    "wake_lowered": Scenario(publish_to_sleepers, after_commit),
    "wake_posted": Scenario(publish_to_sleepers, after_commit),
    "topic_written": Scenario(publish_topics, in_the_table),
    "topic_shown": Scenario(publish_topics, in_the_table),
    "shutdown_stored": Scenario(shut_down, of_a_shutdown),
    "space_wanted": Scenario(publish_into_full, of_a_full_ring),
    "space_flagged": Scenario(publish_into_full, of_a_full_ring),
    "reap_found": Scenario(publish_into_full, of_a_full_ring),
    "reap_freed": Scenario(publish_into_full, of_a_full_ring),
    "slot_locked": Scenario(subscribe, of_a_subscriber),
    "slot_claimed": Scenario(subscribe, of_a_subscriber),
    "slot_cursor": Scenario(subscribe, of_a_subscriber),
    "slot_open": Scenario(subscribe, of_a_subscriber),
    "slot_freed": Scenario(subscribe, of_a_subscriber),
    "receive_read": Scenario(receive, of_a_subscriber),
    "receive_copied": Scenario(receive, of_a_subscriber),
    "receive_advanced": Scenario(receive, of_a_subscriber),
    "waiter_raised": Scenario(await_events, of_a_subscriber),
    "waiter_woken": Scenario(await_events, of_a_subscriber),
    "format_ring_sized": Scenario(open_and_close, of_a_creator),
    "format_ring_signed": Scenario(open_and_close, of_a_creator),
    "format_roster_signed": Scenario(open_and_close, of_a_creator),
    "door_entered": Scenario(open_and_close, of_a_closer),
    "attached": Scenario(open_and_close, of_a_closer),
}


def test_every_test_point_has_a_scenario() -> None:
    """A test point that no process is killed at would be a moment that nobody has thought about."""
    of_groups = {
        point for point in points() if point.startswith(("group_", "claim_"))
    }  # test_group_kill.py walks these
    assert set(points()) - of_groups == set(SCENARIOS)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("point", SCENARIOS)
def test_whoever_dies_at_a_test_point_is_survived(fork: Fork, name: str, point: str, passes: int) -> None:
    """Killed at this point, a process leaves its events whole or not at all, and the others go on without a gap."""
    SCENARIOS[point].survivors(fork, name, point, passes)


@pytest.mark.parametrize("point", ["door_entered", "attached"])
def test_a_creator_that_dies_in_the_door_is_replaced(fork: Fork, name: str, point: str) -> None:
    """Killed before it wrote anything, a creator leaves an empty roster, which the next one replaces."""
    of_a_creator(fork, name, point, 1)
