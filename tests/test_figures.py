"""What a subscription counts of itself in shared memory, and how others read it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from typing import Literal

import pytest

from eventbus import Bus, Subscription
from eventbus.cli import app as cli
from eventbus.core.figures import BUCKETS, ENDS, Delays, Received
from eventbus.core.inspection import inspect_bus
from eventbus.core.native import lib
from eventbus.core.terms import CAPACITY, MAX_SUBSCRIBERS
from harness import Fork, Line, take, until
from jobs import join, numbers, send

SHARED_MEMORY = 64 * 1024 * 1024  # what Docker gives a container


def received(bus: Bus, name: str) -> Received:
    """The figures of the subscription of this name."""
    return next(one.received for one in bus.stats().subscribers if one.name == name)


def test_events_and_bytes(bus: Bus) -> None:
    """It counts what it receives, with the bytes that stand in the ring: path and data as JSON, or as they are."""
    with bus.subscribe("a", name="it") as sub:
        bus.send("a", "k", "/p", [1, 2])
        bus.send("a", "k", "/p", b"\0" * 100)
        bus.send("a", "k", "/p", headers={"h": "v"})
        assert received(bus, "it")[:2] == (0, 0)
        assert len(sub.receive_many(9, 0)) == 3
        texts = '"/p",[1,2]', "/p" + "\0" * 100, '"/p",null' + "#h#v"
        assert received(bus, "it")[:2] == (3, sum(map(len, texts)))


def test_delays(bus: Bus) -> None:
    """The delay is from when it was sent to when it was taken out of the ring."""
    with bus.subscribe("a", name="it") as sub:
        bus.send("a", "k", "/")
        earliest = time.time_ns()
        event = take(sub)
        latest = time.time_ns()
        delays = received(bus, "it").delays
    assert delays.measured == 1
    assert earliest - event.time <= round(delays.total * 1e9) <= latest - event.time


def test_quantiles() -> None:
    """A quantile lies in the bucket that has it; of nothing there is none, and the last bucket has no end."""
    counts = [0] * BUCKETS
    counts[0], counts[3] = 1, 3
    delays = Delays(1.0, tuple(counts))
    assert delays.quantile(0.25) == ENDS[0]
    assert delays.quantile(1) == ENDS[3]
    assert ENDS[2] < delays.quantile(0.5) < ENDS[3]  # type: ignore[operator]
    assert delays.plus(delays).since(delays) == delays
    assert Delays(0.0, (0,) * BUCKETS).quantile(0.5) is None
    assert Delays(1e6, (*[0] * (BUCKETS - 1), 1)).quantile(0.5) == ENDS[-1]


def test_buckets() -> None:
    """They follow one another from a microsecond to minutes, each half of a doubling wide."""
    assert ENDS[0] == pytest.approx(1e-6, rel=0.03)
    assert ENDS[-1] > 240
    assert [round(ENDS[n + 2] / ENDS[n], 9) for n in range(BUCKETS - 3)] == [2.0] * (BUCKETS - 3)


@pytest.mark.parametrize("overflow", ["block", "drop"])
def test_what_passes_is_counted_once(bus: Bus, overflow: Literal["block", "drop"]) -> None:
    """Of all that was sent since it subscribed, each event was received, passed over, or lost: also what publishers
    moved its cursor over, and what it was lapped by."""
    chance = random.Random(7)
    with bus.subscribe("a", name="it", overflow=overflow) as sub:
        for _ in range(40):
            bus.send_many([(chance.choice("abb"), "k", "/", "x" * 300) for _ in range(chance.randrange(1, 60))])
            if overflow == "block" or chance.random() < 0.2:
                while sub.receive_many(20, 0):
                    pass
        bus.send("a", "k", "/")
        while sub.receive_many(20, 0):
            pass
        figures, lost = received(bus, "it"), sub.lost
    assert figures.events + figures.skipped + lost == bus.stats().sent
    assert (figures.skipped > 0, lost > 0) == (True, overflow == "drop")


def test_what_publishers_move_it_over(bus: Bus) -> None:
    """Rings full of what it does not hear, while it does nothing, are passed over all the same."""
    with bus.subscribe("a", name="it") as sub:
        for _ in range(30):
            bus.send_many([("b", "k", "/", "x" * 300)] * 100)
        bus.send("a", "k", "/")
        assert take(sub).sequence == 3001
        assert received(bus, "it").skipped == 3000


def test_a_start(bus: Bus) -> None:
    """What comes before where it begins was not passed over."""
    bus.send_many([("b", "k", "/")] * 9)
    with bus.subscribe(["a"], name="it", start=6) as sub:
        bus.send("a", "k", "/")
        assert take(sub).sequence == 10
        assert received(bus, "it").skipped == 4


def test_wake_ups(bus: Bus, fork: Fork) -> None:
    """Each sleep is counted; who finds something at once has not slept."""

    def sleep(line: Line) -> None:
        with bus.subscribe("a", name="it", spin=0) as sub:
            line.say()
            take(sub)
            line.say(received(bus, "it").wakes)
            bus.send("a", "k", "/")
            take(sub)
            line.say(received(bus, "it").wakes)

    child = fork(sleep)
    child.hear()
    until(lambda: any(one.sleeping for one in bus.stats().subscribers), "a sleeper")
    bus.send("a", "k", "/")
    woken = child.hear()
    assert woken >= 1
    assert child.hear() == woken
    child.result()


def test_wake_ups_in_a_loop(bus: Bus) -> None:
    """Waiting in an event loop is sleeping, too."""

    async def main() -> None:
        async with bus.subscribe("a", name="it") as sub:
            waiting = asyncio.create_task(sub.areceive())
            while not any(one.sleeping for one in bus.stats().subscribers):
                await asyncio.sleep(0)
            before = received(bus, "it").wakes
            bus.send("a", "k", "/")
            assert await waiting is not None
            assert received(bus, "it").wakes > before

    asyncio.run(main())


def test_members_count_for_themselves(bus: Bus) -> None:
    """Each member has its own figures; the group says what they have in hand, and for how long."""
    with join(bus, name="one") as one, join(bus, prefetch=3, name="two") as two:
        send(bus, 5)
        assert one.receive(0) is not None
        assert len(two.receive_many(3, 0)) == 3
        assert [received(bus, name).events for name in ("one", "two")] == [1, 3]
        (group,) = bus.stats().groups
        assert (group.in_hand, group.backlog) == (4, 1)
        assert group.oldest == max(member.held for member in group.members) > 0
        assert numbers(one) == [4]
        assert received(bus, "one").events == 2


def test_a_process_that_stands_still(bus: Bus, fork: Fork) -> None:
    """The figures of one that is stopped, in the middle of whatever, can be read, by somebody who is not attached."""

    def receive(line: Line) -> None:
        with bus.subscribe("a", name="it") as sub:
            line.say()
            for _ in sub:
                line.say()

    child = fork(receive)
    child.hear()
    bus.send("a", "k", "/")
    child.hear()
    child.stop()
    seen = inspect_bus(bus.name)
    assert seen is not None
    assert seen.stats is not None
    assert seen.stats.subscribers[0].received.events == 1
    child.kill(signal.SIGKILL)
    child.killed()


def test_stat(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """``eventbus stat`` shows them: to programs all, to people what is looked for first."""
    with bus.subscribe("a", name="it") as sub, bus.subscribe("b", name="other"):
        bus.send("a", "k", "/p", 1)
        take(sub)
        assert cli.run(["stat", bus.name, "--json"]) == 0
        rows = {one["name"]: one for one in json.loads(capsys.readouterr().out)["subscribers"]}
        assert cli.run(["stat", bus.name]) == 0
        shown = capsys.readouterr().out
    (it, other) = rows["it"], rows["other"]
    assert [it[key] for key in ("events", "bytes", "wakes", "skipped")] == [1, len('"/p",1'), 0, 0]
    assert 0 < it["delay_p50"] <= it["delay_p99"]
    assert (other["events"], other["delay_p50"]) == (0, None)
    (header,) = [line for line in shown.splitlines() if line.startswith("name ") and "overflow" in line]
    assert header.split()[-3:] == ["events", "delay_p50", "delay_p99"]


def test_three_buses_in_a_container() -> None:
    """Three buses of the default size fit into the shared memory of a container."""
    bus = lib.eb_ring_bytes(CAPACITY) + lib.eb_roster_bytes(MAX_SUBSCRIBERS)
    assert 3 * bus <= SHARED_MEMORY


def test_a_closed_subscription(bus: Bus) -> None:
    """Its figures go with it, and who comes after it begins at nothing."""
    with bus.subscribe("a", name="it") as sub:
        bus.send("a", "k", "/")
        take(sub)
    assert bus.stats().subscribers == ()
    with bus.subscribe("a", name="it") as later:
        assert isinstance(later, Subscription)
        assert received(bus, "it").delays.measured == received(bus, "it").events == 0
