"""Members killed with events in hand: nothing is lost, at most one is repeated. Where exactly is in the kill matrix."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import eventbus
from eventbus import Bus, Subscription, UnavailableError
from harness import DEADLINE, Fork, Line, arm, until
from matrix.scene import idle

DEATHS = 30
STOPPED = 5.0  # seconds that a member stands still
FRACTION = 2.0  # seconds; a fraction of one, on a host that is busy; a slice of EB_SLICE_NS is twice as long


def send(bus: Bus, numbers: range) -> None:
    """Sends numbered jobs."""
    for number in numbers:
        bus.send("jobs", "job", f"/{number}", number, timeout=DEADLINE)


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


def wait_asleep(line: Line, name: str) -> tuple[int, int] | None:
    """A member that waits for what comes: the job and its deliveries."""
    with eventbus.open(name).subscribe("jobs.**", group="g", spin=0) as member:
        line.say("joined")
        event = member.receive(DEADLINE)
        return None if event is None else (event.data, event.deliveries)


def until_asleep(bus: Bus, count: int) -> None:
    """Waits until so many members sleep."""
    until(lambda: sum(one.sleeping for one in bus.stats().subscribers) == count, f"{count} members to sleep")


def seconds_to_a_third(fork: Fork, bus: Bus) -> float:
    """From the deaths of the one with a job and of the one that watches over it to the job's being another one's."""
    victim = fork(take_and_stay, bus.name)
    victim.hear()
    send(bus, range(1))
    assert victim.hear() == (0, 1)
    sleepers = []
    for number in range(1, 3):  # the first of them watches
        sleepers.append(fork(wait_asleep, bus.name))
        sleepers[-1].hear()
        until_asleep(bus, number)
    sleepers[0].kill()
    victim.kill()
    killed = time.monotonic()
    assert sleepers[1].result() == (0, 2)
    taken = time.monotonic()
    bus.remove_group("g")
    return taken - killed


def test_the_one_that_watches_dies_too(fork: Fork, bus: Bus) -> None:
    """Killed at once, the one with a job and the one that watched over it: a third has it in a fraction of a second,
    but where the host stands still."""
    assert any(seconds_to_a_third(fork, bus) < FRACTION for _ in range(5))


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


def poison(fork: Fork, bus: Bus, deliveries: int) -> Subscription:
    """A job has killed as many members as its group hands it out to; who hears of dead letters."""
    grave = bus.subscribe("eventbus.dead", "exhausted")
    bus.group("g", "jobs.**", max_deliveries=deliveries)
    bus.send("jobs", "job", "/poison", -1)
    for _ in range(deliveries):
        fork(work_until_poisoned, bus.name).killed()
    return grave


def test_a_job_that_kills_becomes_a_dead_letter(fork: Fork, bus: Bus) -> None:
    """A job that killed three workers, with ``max_deliveries=3``, is sent as dead, and the next job is done."""
    grave = poison(fork, bus, deliveries=3)
    last = fork(work_until_poisoned, bus.name)
    last.hear()
    dead = grave.receive(DEADLINE)
    assert dead is not None
    assert (dead.path, dead.data["deliveries"], dead.data["data"]) == ("/poison", 3, -1)
    send(bus, range(1))
    bus.shutdown()
    assert last.result() == [0]


def bury_and_die(_: Line, name: str) -> None:
    """A member that is killed between sending a dead letter and acknowledging what it tells of."""
    member = eventbus.open(name).subscribe("jobs.**", group="g")
    arm("publish_unlocked")
    member.receive(DEADLINE)  # not 0: whoever looked for the dead within 10 ms before has us wait


def test_a_burial_cut_short_is_no_delivery(fork: Fork, bus: Bus) -> None:
    """Killed after it sent a dead letter, a member leaves the burial to the next: both letters tell the true count."""
    grave = poison(fork, bus, deliveries=2)
    fork(bury_and_die, bus.name).killed()
    with bus.subscribe("jobs.**", group="g") as survivor:
        until(lambda: survivor.receive(0.01) is None and idle(bus), "the event to be buried")
    letters = grave.receive_many(9, 0)
    assert [letter.data["deliveries"] for letter in letters] == [2, 2]
    assert bus.stats().groups[0].dead == 1


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


def stops_with_the_lock(line: Line, name: str) -> None:
    """A member that is stopped while it has the group's lock."""
    with eventbus.open(name) as bus:
        member = bus.subscribe("jobs", group="workers")
        arm("group_locked", signal.SIGSTOP)
        line.say()
        member.receive(0)


def test_a_member_leaves_beside_a_stopped_one(fork: Fork, bus: Bus) -> None:
    """Whoever waits for the group's lock, which a stopped member has, can be closed by another thread."""
    bus.group("workers", "jobs")
    stopped = fork(stops_with_the_lock, bus.name)
    stopped.hear()
    stopped.wait_stopped()
    member = bus.subscribe("jobs", group="workers")
    waiting = threading.Thread(target=member.receive, daemon=True)
    waiting.start()
    with contextlib.suppress(UnavailableError):  # on a host that stood still for so long that it says who has the lock
        assert member.receive(0.1) is None
    closing = threading.Thread(target=member.close, daemon=True)
    closing.start()
    closing.join(DEADLINE)
    assert not closing.is_alive()
    waiting.join()
    stopped.go_on()
    stopped.result()
