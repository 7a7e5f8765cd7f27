"""Members killed with events in hand, and at every test point of a group: nothing is lost, at most one is repeated."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus
from harness import DEADLINE, Fork, Line, arm, points, until

CAPACITY = 16 * 1024
JOBS = 6
DEATHS = 30
STOPPED = 5.0  # seconds that a member stands still

MAKING = ["group_written", "group_placed", "group_opened"]
WORKING = [
    "group_locked",
    "claim_written",
    "claim_held",
    "claim_cursor",
    "claim_gated",
    "claim_adopted",
    "claim_counted",
    "claim_reset",
    "claim_acknowledged",
    "claim_finished",
    "claim_returned",
]
WAITING = ["waiter_raised", "waiter_woken"]


def send(bus: Bus, numbers: range) -> None:
    """Sends numbered jobs."""
    for number in numbers:
        bus.send("jobs", "job", f"/{number}", number, timeout=DEADLINE)


def idle(bus: Bus) -> bool:
    """Whether the group has nothing to do and nobody holds anything of it."""
    group = next(group for group in bus.stats().groups if group.name == "g")
    return not group.backlog and not group.returned and not any(member.events for member in group.members)


def go_on(bus: Bus) -> None:
    """The group does all it did before the death, for more than one lap of the ring."""
    with bus.subscribe("jobs.**", group="g") as member:
        for number in range(1000, 1500):
            send(bus, range(number, number + 1))
            event = member.receive(DEADLINE)
            assert event is not None
            assert (event.data, event.deliveries) == (number, 1)
    assert idle(bus)
    assert [one.name for one in bus.stats().subscribers] == []


# --- at every test point ---


def test_every_point_of_groups_is_covered() -> None:
    """A test point of groups that no process is killed at would be a moment that nobody has thought about."""
    assert {point for point in points() if point.startswith(("group_", "claim_"))} == {*MAKING, *WORKING}


def work_and_reject(_: Line, name: str, log: Path, prefetch: int, point: str, passes: int) -> None:
    """A member that gives each job back once and then does it; it writes down what it has in hand."""
    member = eventbus.open(name).subscribe("jobs.**", group="g", prefetch=prefetch)
    with log.open("ab", buffering=0) as file:
        arm(point, passes=passes)
        while (event := member.receive(0)) is not None:
            file.write(b"%d %d\n" % (event.data, event.deliveries))
            if event.deliveries == 1:
                member.reject()


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("point", WORKING)
def test_a_member_killed_at_a_test_point(
    fork: Fork, name: str, tmp_path: Path, point: str, passes: int, prefetch: int
) -> None:
    """Killed here, a member loses nothing: all it had not done comes again, counted, and nothing that it had done."""
    with eventbus.open(name, capacity=CAPACITY) as bus:
        bus.group("g", "jobs.**")
        send(bus, range(JOBS))
        log = tmp_path / "said"
        fork(work_and_reject, name, log, prefetch, point, passes).killed()
        said = [(int(number), int(count)) for number, count in map(str.split, log.read_text().splitlines())]
        again: list[tuple[int, int]] = []
        with bus.subscribe("jobs.**", group="g") as survivor:
            while not idle(bus):
                if (event := survivor.receive(0.05)) is not None:
                    again.append((event.data, event.deliveries))
        done = {number for number, deliveries in said[:-1] if deliveries == 2}
        repeated = [number for number, _ in again]
        assert done.isdisjoint(repeated)
        assert done | {number for number, _ in said[-1:]} | set(repeated) == set(range(JOBS))
        assert len(repeated) == len(set(repeated))
        assert all(deliveries > 1 for number, deliveries in again if (number, 1) in said)
        go_on(bus)


def wait_for_jobs(line: Line, name: str, point: str, passes: int) -> None:
    """A member that waits for jobs, without looking first."""
    member = eventbus.open(name).subscribe("jobs.**", group="g", spin=0)
    line.say("joined")
    line.hear()
    arm(point, passes=passes)
    for _ in member:
        pass


@pytest.mark.parametrize("point", WAITING)
def test_a_member_killed_around_its_sleep(fork: Fork, name: str, point: str) -> None:
    """A member that dies with the wake-up that was meant for all of them does not keep the others asleep."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("jobs.**", group="g") as survivor:
        victim = fork(wait_for_jobs, name, point, 1)
        victim.hear()
        victim.say("wait")
        if point == "waiter_woken":
            until(lambda: any(one.sleeping for one in bus.stats().subscribers), "the member to sleep")
            send(bus, range(1))
        victim.killed()
        send(bus, range(1, 2))
        got = [survivor.receive(DEADLINE) for _ in range(1 + (point == "waiter_woken"))]
        assert [event.data for event in got if event][-1] == 1
        survivor.close()
        go_on(bus)


def make_groups(_: Line, name: str, point: str, passes: int) -> None:
    """Makes group after group."""
    bus = eventbus.open(name)
    arm(point, passes=passes)
    for number in range(3):
        bus.group(f"new {number}", "jobs.**")


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("point", MAKING)
def test_a_maker_killed_at_a_test_point(fork: Fork, name: str, point: str, passes: int) -> None:
    """Killed here, the maker of a group leaves a whole one or none: the others make it, and no slot is lost."""
    with eventbus.open(name, capacity=CAPACITY, max_subscribers=5) as bus:
        bus.group("g", "jobs.**")
        fork(make_groups, name, point, passes).killed()
        for number in range(3):
            bus.group(f"new {number}", "jobs.**")
        assert [group.name for group in bus.stats().groups] == ["g", "new 0", "new 1", "new 2"]
        for number in range(3):
            send(bus, range(1))
            with bus.subscribe("jobs.**", group="g") as member:
                assert member.receive(DEADLINE) is not None
            with bus.subscribe("jobs.**", group=f"new {number}", prefetch=9) as member:
                assert len(member.receive_many(9, DEADLINE)) == number + 1


# --- with a job in hand ---


def take_and_stay(line: Line, name: str) -> None:
    """A member that has one job for ever."""
    with eventbus.open(name).subscribe("jobs.**", group="g") as member:
        line.say("joined")
        event = member.receive()
        assert event is not None
        line.say((event.data, event.deliveries))
        line.hear()
        line.say("goes on")
        line.hear()


def test_a_job_of_a_dead_member_comes_again(fork: Fork, bus: Bus) -> None:
    """A member killed with a job in hand: another one that waits has it, with ``deliveries == 2``."""
    victim = fork(take_and_stay, bus.name)
    victim.hear()
    send(bus, range(1))
    assert victim.hear() == (0, 1)
    with bus.subscribe("jobs.**", group="g") as member:
        assert member.receive(0) is None
        victim.kill()
        group = bus.stats().groups[0]
        assert (group.returned, [one.events for one in group.members]) == (1, [0])
        event = member.receive(DEADLINE)
        assert event is not None
        assert (event.data, event.deliveries) == (0, 2)
        assert bus.stats().groups[0].redelivered == 1


def test_a_stopped_member_keeps_its_job(fork: Fork, bus: Bus) -> None:
    """A member that stands still for five seconds is not dead: nobody else gets its job, and it goes on with it."""
    slow = fork(take_and_stay, bus.name)
    slow.hear()
    send(bus, range(2))
    assert slow.hear() == (0, 1)
    slow.stop()
    with bus.subscribe("jobs.**", group="g") as member:
        event = member.receive(DEADLINE)
        assert event is not None
        assert event.data == 1
        assert member.receive(STOPPED) is None
        slow.go_on()
        slow.say("go on")
        assert slow.hear() == "goes on"
        slow.say("leave")
        slow.result()
        assert member.receive(0) is None
    assert bus.stats().groups[0].redelivered == 0


def work_until_poisoned(line: Line, name: str) -> list[int]:
    """A member that the job -1 kills."""
    with eventbus.open(name).subscribe("jobs.**", group="g") as member:
        done = []
        line.say("joined")
        for event in member:
            if event.data < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(event.data)
        return done


def test_a_job_that_kills_becomes_a_dead_letter(fork: Fork, bus: Bus) -> None:
    """A job that killed three workers, with ``max_deliveries=3``, is sent as dead, and the next job is done."""
    grave = bus.subscribe("eventbus.dead", "exhausted")
    bus.group("g", "jobs.**", max_deliveries=3)
    bus.send("jobs", "job", "/poison", -1)
    for _ in range(3):
        fork(work_until_poisoned, bus.name).killed()
    last = fork(work_until_poisoned, bus.name)
    last.hear()
    dead = grave.receive(DEADLINE)
    assert dead is not None
    assert (dead.path, dead.data["deliveries"], dead.data["data"]) == ("/poison", 3, -1)
    send(bus, range(1))
    bus.shutdown()
    assert last.result() == [0]


def work_and_write(line: Line, name: str, log: Path) -> None:
    """A member that writes each job down, in one piece, when it has done it."""
    with (
        log.open("ab", buffering=0) as file,
        eventbus.open(name) as bus,
        bus.subscribe("jobs.**", group="g") as member,
    ):
        line.say("joined")
        for event in member:
            file.write(b"%d\n" % event.data)


def test_thirty_members_killed_under_load(fork: Fork, name: str, tmp_path: Path) -> None:
    """Members killed at random moments while others join: no job is lost, at most one is repeated per death."""
    seed = time.time_ns()
    print(f"seed {seed}")
    moments, log, batch = random.Random(seed), tmp_path / "done", 300
    with eventbus.open(name, capacity=1 << 20, send_timeout=DEADLINE) as bus:
        bus.group("g", "jobs.**", max_deliveries=1000)
        crew = [fork(work_and_write, name, log) for _ in range(4)]
        for death in range(DEATHS):
            bus.send_many([("jobs", "job", "/", number) for number in range(death * batch, (death + 1) * batch)])
            victim = crew.pop(0)
            victim.hear()
            time.sleep(moments.uniform(0, 0.004))
            victim.kill()
            crew.append(fork(work_and_write, name, log))
        for member in crew:
            member.hear()
        bus.shutdown()
        for member in crew:
            member.result()
    done = Counter(map(int, log.read_text().split()))
    assert sorted(done) == list(range(DEATHS * batch))
    assert done.total() - len(done) <= DEATHS
