"""The recipes of docs/asyncio.md for other loops, as they stand there: in a stream, nothing is lost."""

from __future__ import annotations

import random
import re
import select
import selectors
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from eventbus import Bus, Subscription
from harness import DEADLINE, Fork, Line

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "asyncio.md").read_text()
CODE = re.compile(r"^```python\n(.*?)^(?:async def main|with )", re.MULTILINE | re.DOTALL)
BURSTS, LONGEST = 300, 1e-3  # and seconds of the pause after each

pytestmark = pytest.mark.usefixtures("doorbell")


def recipe(heading: str, name: str) -> Callable[..., Any]:
    """The function of that name in the code below the heading."""
    found = CODE.search(PAGE, PAGE.index(f"### {heading}"))
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    function: Callable[..., Any] = names[name]
    return function


def stream(bus: Bus, *systems: str) -> list[int]:
    """Sends numbered events to each system, then closes the bus; the numbers."""
    generator, sent = random.Random(1), 0
    for _ in range(BURSTS):
        burst = range(sent, sent + generator.choice((1, 2, 5, 100)))
        for system in systems:
            bus.send_many([(system, "k", "/p", number) for number in burst], timeout=DEADLINE)
        sent = burst.stop
        time.sleep(generator.random() * LONGEST)
    bus.shutdown()
    return [*range(sent)]


def hear_by_trio(line: Line, bus: Bus) -> list[int]:
    """What it hears that gives up again and again."""
    import trio

    next_event, generator, heard = recipe("trio", "next_event"), random.Random(2), list[int]()

    async def main() -> None:
        with bus.subscribe("a") as sub:
            line.say()
            while not sub.closed:
                with trio.move_on_after(generator.choice((0, 1e-4, 1))):
                    event = await next_event(sub)
                    if event is not None:
                        heard.append(event.data)

    trio.run(main)
    return heard


def hear_by_gevent(line: Line, bus: Bus) -> list[int]:
    """The same."""
    import gevent

    next_event, generator, heard = recipe("gevent", "next_event"), random.Random(2), list[int]()
    with bus.subscribe("a") as sub:
        line.say()
        while not sub.closed:
            with gevent.Timeout(generator.choice((0, 1e-4, 1)), False):
                event = next_event(sub)
                if event is not None:
                    heard.append(event.data)
    return heard


@pytest.mark.parametrize(("loop", "hear"), [("trio", hear_by_trio), ("gevent", hear_by_gevent)])
def test_giving_up_loses_nothing(bus: Bus, fork: Fork, loop: str, hear: Callable[..., Any]) -> None:
    """Whatever ends the wait; and the end of the bus ends it for good."""
    if find_spec(loop) is None:
        pytest.skip(f"{loop} does not install here")
    child = fork(hear, bus)
    child.hear()
    sent = stream(bus, "a")
    assert child.result() == sent


def test_selectors(bus: Bus, fork: Fork) -> None:
    """Two subscriptions, one of them in a group, and what is no subscription, in one thread."""
    bus.group("g", "b")
    child = fork(hear_by_selectors, bus)
    child.hear()
    child.say()
    sent = stream(bus, "a", "b")
    assert child.result() == [sent, sent]
    assert bus.stats().groups[0].backlog == 0


def hear_by_selectors(line: Line, bus: Bus) -> list[list[int]]:
    """What each subscription hears."""
    ready = recipe("selectors", "ready")
    alone, member = bus.subscribe("a"), bus.subscribe("b", group="g")
    heard: dict[Subscription, list[int]] = {alone: [], member: []}
    with selectors.DefaultSelector() as selector:
        for sub in heard:
            selector.register(sub, selectors.EVENT_READ)
            assert [*ready(sub)] == []
        selector.register(line, selectors.EVENT_READ)
        line.say()
        while len(selector.get_map()) > 0:
            for key, _ in selector.select(DEADLINE):
                if isinstance(key.fileobj, Subscription):
                    heard[key.fileobj] += [event.data for event in ready(key.fileobj)]
                if not isinstance(key.fileobj, Subscription) or key.fileobj.closed:
                    selector.unregister(key.fileobj)
    line.hear()
    alone.close()
    member.close()
    return [*heard.values()]


def test_a_notifier(bus: Bus, fork: Fork) -> None:
    """Called while the descriptor can be read, it takes a part of what there is, and is called again for the rest."""
    child = fork(hear_by_notifier, bus)
    child.hear()
    sent = stream(bus, "a")
    assert child.result() == sent


def hear_by_notifier(line: Line, bus: Bus) -> list[int]:
    """What it hears, a few at a time."""
    ready, heard = recipe("Qt", "ready"), list[int]()
    with bus.subscribe("a") as sub:
        assert [*ready(sub)] == []
        line.say()
        while not sub.closed and select.select([sub], [], [], DEADLINE)[0]:
            heard += [event.data for event in islice(ready(sub), 7)]
    return heard
