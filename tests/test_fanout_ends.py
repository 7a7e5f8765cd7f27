"""Fanout: how it ends, for all or for one event loop or process, and what is no Fanout."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, Fanout, InvalidError, PolicyDeniedError
from eventbus.fanout import Listener
from harness import Fork, Line
from listeners import drained, next_of, rest_of, send


def test_shutdown_ends_all_after_what_was_sent(bus: Bus, fanout: Fanout) -> None:
    """Each listener hears everything up to it, then the end; nobody can listen any more."""

    async def main() -> None:
        with fanout.listen() as one, fanout.listen() as other:
            waiting = asyncio.create_task(rest_of(other))
            await asyncio.sleep(0)
            send(bus, 1, 2, 3)
            bus.shutdown()
            assert await rest_of(one) == [1, 2, 3]
            assert await waiting == [1, 2, 3]
        with pytest.raises(ClosedError):
            fanout.listen()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["bus", "bus at once", "fanout", "aclose", "thread"])
def test_closing_ends_all_after_what_they_have(name: str, how: str) -> None:
    """Whatever is closed, by whomever."""

    async def main(bus: Bus, fanout: Fanout) -> None:
        one, other = fanout.listen(), fanout.listen()
        waiting = asyncio.create_task(rest_of(other))
        send(bus, 1)
        await drained(bus)
        if how == "bus":
            await bus.aclose()
        elif how == "bus at once":
            bus.close()
            with pytest.raises(ClosedError):
                fanout.listen()
        elif how == "thread":
            await asyncio.to_thread(fanout.close)
        elif how == "aclose":
            await fanout.aclose()
        else:
            fanout.close()
        assert await rest_of(one) == await waiting == [1]
        with pytest.raises(ClosedError):
            fanout.listen()

    with eventbus.open(name, capacity=4096) as bus:
        asyncio.run(main(bus, Fanout(bus, "a")))


def test_a_fanout_that_is_dropped_goes_on_for_its_listeners(bus: Bus) -> None:
    """And ends with the last of them."""

    async def main() -> None:
        with Fanout(bus, "a").listen() as events:
            gc.collect()
            send(bus, 1)
            assert (await next_of(events)).data == 1
        assert bus.stats().subscribers == ()

    asyncio.run(main())


def test_a_failure_reaches_every_listener(name: str) -> None:
    """After what was heard before it; and whoever listens next starts anew."""
    broken = True

    def policy(actor: str, action: str, system: str) -> bool:
        if broken and system == "a.broken":
            raise ZeroDivisionError
        return True

    async def main(bus: Bus, fanout: Fanout) -> None:
        nonlocal broken
        one, other = fanout.listen(), fanout.listen()
        bus.send("a", "k", "/p", 1)
        await drained(bus)
        broken = False
        bus.send("a.broken", "k", "/p", 2)
        broken = True
        assert (await next_of(one)).data == 1
        assert (await next_of(other)).data == 1
        for events in (one, other, one):
            with pytest.raises(ZeroDivisionError) as caught:
                await next_of(events)
            assert caught.traceback[-1].name == "policy"
        broken = False
        with fanout.listen() as events:
            bus.send("a.broken", "k", "/p", 3)
            assert (await next_of(events)).data == 3

    with eventbus.open(name, policy=policy, capacity=4096) as bus:
        asyncio.run(main(bus, Fanout(bus, "a.**")))


# --- event loops, processes, arguments ---


def test_one_event_loop_after_the_other(bus: Bus, fanout: Fanout) -> None:
    """Each is heard in, whatever became of the listeners in the one before; nothing in between holds publishers up."""
    left: list[Listener] = []

    async def main(number: int) -> None:
        left.append(fanout.listen())
        asyncio.ensure_future(anext(left[-1]))  # noqa: RUF006  still waiting at the end
        with fanout.listen() as events:
            send(bus, number)
            assert (await next_of(events)).data == number

    for number in range(3):
        asyncio.run(main(number))
        assert bus.stats().subscribers == ()
        for _ in range(1000):  # more than the ring holds
            bus.send("a", "k", "/p", "x" * 100, timeout=0)
    assert len(left) == 3


def test_an_event_loop_that_was_closed_in_the_middle(bus: Bus, fanout: Fanout) -> None:
    """Its listeners are over with the next event loop that listens."""
    loop = asyncio.new_event_loop()

    async def listen() -> Listener:
        return fanout.listen()

    left = loop.run_until_complete(listen())
    loop.close()

    async def main() -> None:
        with fanout.listen() as events:
            assert len(bus.stats().subscribers) == 1
            send(bus, 1)
            assert (await next_of(events)).data == 1

    asyncio.run(main())
    assert left.lost == 0


def test_two_event_loops_at_once(bus: Bus, fanout: Fanout) -> None:
    """The second one is told to have a fan-out of its own."""

    async def fail() -> None:
        with pytest.raises(InvalidError, match="another event loop"):
            fanout.listen()

    async def main() -> None:
        with fanout.listen():
            await asyncio.to_thread(asyncio.run, fail())

    asyncio.run(main())


def test_no_event_loop(bus: Bus, fanout: Fanout) -> None:
    """It can be made without one; it cannot be listened to."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        fanout.listen()
    assert bus.stats().subscribers == ()


def listen_in_child(line: Line, bus: Bus, fanout: Fanout, left: Listener) -> list[Any]:
    """What a forked child hears through what it inherited."""

    async def main() -> list[Any]:
        with fanout.listen() as events:
            line.say()
            return [(await next_of(events)).data]

    assert threading.active_count() == 1
    return asyncio.run(main())


def test_a_fork(bus: Bus, fanout: Fanout, fork: Fork) -> None:
    """A child listens by a subscription of its own, and takes nothing from its parent's listeners."""
    loop = asyncio.new_event_loop()

    async def listen() -> Listener:
        return fanout.listen()

    events = loop.run_until_complete(listen())
    child = fork(listen_in_child, bus, fanout, events)
    child.hear()
    assert len(bus.stats().subscribers) == 2
    send(bus, 1)
    assert child.result() == [1]
    assert loop.run_until_complete(next_of(events)).data == 1
    events.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.parametrize(
    "wrong", [{"system": "a*"}, {"kind": "a..b"}, {"limit": 0}, {"limit": True}, {"limit": "1"}, {"overflow": "block"}]
)
def test_what_is_wrong_is_said_at_once(bus: Bus, wrong: dict[str, Any]) -> None:
    """Not when the first listener comes."""
    with pytest.raises(InvalidError):
        Fanout(bus, **{"system": "a", **wrong})


def test_a_policy_holds_for_all(name: str) -> None:
    """What it forbids cannot be listened to."""
    with eventbus.open(name, policy=lambda actor, action, system: system == "a", capacity=4096) as bus:
        Fanout(bus, "a")
        with pytest.raises(PolicyDeniedError):
            Fanout(bus, "b")
