"""Pages of prefork web servers: what one worker is told the others' pages show, whichever dies or is restarted."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

import eventbus
from eventbus import Bus
from eventbus.core.inspection import list_names
from harness import DEADLINE, until
from loops import run
from webservers import SERVERS, Page, living, say, serving, wait_for_starts

pytest.importorskip("starlette", reason="the extra [web] is not installed")

from starlette.requests import Request
from starlette.responses import StreamingResponse

from eventbus.integrations import starlette


@pytest.mark.release
@pytest.mark.parametrize("server", SERVERS)
def test_a_server(server: str, name: str, tmp_path: Path) -> None:
    """Two pages with different workers hear the same; the one whose worker is killed, and both after a graceful
    restart, hear all that they missed, each once and in order; the server ends at once though pages are connected."""
    with ExitStack() as held:
        held.enter_context(eventbus.open(name))  # so that the bus outlives its workers
        log = tmp_path / "log"
        port, master = held.enter_context(serving(SERVERS[server], name, log))
        wait_for_starts(log, 2)
        one, two = Page(port, "Ann"), Page(port, "Bob", at_once=20)
        held.callback(one.close)
        held.callback(two.close)
        first = one.next("chat.joined")["sender"]
        os.kill(first, signal.SIGSTOP)  # so another one answers
        joined = two.next("chat.joined")
        while joined["data"]["name"] != "Bob":
            joined = two.next("chat.joined")
        os.kill(first, signal.SIGCONT)
        assert joined["sender"] != first
        say(port, "0")
        assert [page.next("chat.said")["data"]["text"] for page in (one, two)] == ["0", "0"]
        os.kill(first, signal.SIGKILL)
        say(port, "1")
        say(port, "2")
        for page in (two, one):
            assert [page.next("chat.said")["data"]["text"] for _ in range(2)] == ["1", "2"]
        wait_for_starts(log, 3)
        os.kill(master, signal.SIGHUP)
        until(lambda: gone(joined["sender"]), "the old worker to end")
        say(port, "3")
        for page in (one, two):
            assert page.next("chat.said")["data"]["text"] == "3"
        wait_for_starts(log, 5)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.release
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_demo(number: signal.Signals, code: int) -> None:
    """One command starts it, and Ctrl-C or SIGTERM ends it without a process, a bus or a word."""
    command = [sys.executable, "-m", "eventbus", "demo", "--web", "--workers", "2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"http://127\.0\.0\.1:(\d+)/? is served by 2 workers", process.stdout.readline())
            master = re.search(r"kill -HUP (\d+)", process.stdout.readline())
            assert found is not None
            assert master is not None
            page = Page(int(found[1]), "Ann")
            assert page.next("chat.joined")["data"]["name"] == "Ann"
            process.send_signal(number)
            _, errors = process.communicate(timeout=DEADLINE)
            page.close()
        finally:
            process.kill()
    assert (process.returncode, errors) == (code, "")
    until(lambda: not living(int(master[1])), "all processes of the demo to end")
    assert not [bus for bus in list_names() if bus.startswith(f"demo-{process.pid}-")]


def heard(bus: Bus, after: Any, count: int, **options: Any) -> list[Any]:
    """The first of what a page is told."""

    async def main() -> list[Any]:
        made = starlette.Broadcast(bus, "a", **options)
        told: list[Any] = []
        async with made.lifespan():
            async for one in made.hear(after):
                told.append(one)
                if len(told) == count:
                    break
        return [one if isinstance(one, starlette.Lost) else one.data for one in told]

    return run(main())


def test_a_page_that_comes_anew(bus: Bus) -> None:
    """It gets the last events that the ring has kept, as many as are asked for."""
    bus.send_many([("a", "k", "/p", number) for number in range(5)])
    assert heard(bus, None, 2, history=2) == [3, 4]


def test_a_page_that_comes_again(bus: Bus) -> None:
    """It gets all since the last one that it had."""
    bus.send_many([("a", "k", "/p", number) for number in range(5)])
    assert heard(bus, f"{bus.identity}-2", 3, history=1) == [2, 3, 4]


@pytest.mark.parametrize("after", ["x", "-", f"{'0' * 32}-1", "{}-7", "{}--1", "{}-\u0663"])
def test_an_id_of_no_event(bus: Bus, after: str) -> None:
    """A page that names what is not of this bus is told so, and begins anew."""
    bus.send("a", "k", "/p", 0)
    assert heard(bus, after.format(bus.identity), 2) == [starlette.Lost(None), 0]


def test_what_the_ring_has_not_kept(bus: Bus) -> None:
    """A page that was away for too long is told how many it may have missed."""
    for number in range(4000):
        bus.send("a", "k", "/p", number)
    gap, first = heard(bus, f"{bus.identity}-1", 2)
    assert gap == starlette.Lost(first - 1)


def test_what_is_sent_while_a_page_catches_up(bus: Bus) -> None:
    """It comes once, whether the page finds it in the ring or hears it."""

    async def main() -> list[int]:
        made = starlette.Broadcast(bus, "a")
        async with made.lifespan():
            told = list[int]()
            for number in range(100):
                page: Any = made.hear(f"{bus.identity}-0")
                sending = asyncio.ensure_future(bus.asend("a", "k", "/p", number))
                told = [(await anext(page)).data for _ in range(number + 1)]
                await sending
                await page.aclose()
        return told

    assert run(main()) == list(range(100))


def test_the_last_events_of_a_worker(bus: Bus) -> None:
    """They have their ids also once the worker has ended."""

    async def main() -> list[str]:
        made = starlette.Broadcast(bus, "a")
        async with made.lifespan():
            bus.send("a", "k", "/p", 0)
            event: Any = await anext(made.hear())
        return [made.id_of(event), f"{bus.identity}-{event.sequence}"]

    given, wanted = run(main())
    assert given == wanted


def test_a_quiet_connection(bus: Bus) -> None:
    """Comments keep it alive, events come between them, and one that finds the page gone ends its stream."""

    async def main() -> None:
        made = starlette.Broadcast(bus, "a", beat=0.001)
        bodies: list[bytes] = []

        async def send(message: Any) -> None:
            bodies.append(message.get("body", b""))
            if bodies[-1].startswith(b":"):
                if any(b'"data": 7' in body for body in bodies):
                    raise OSError("the page is gone")
                await bus.asend("a", "k", "/p", 7)

        async with made.lifespan():
            page = await made.events(Request({"type": "http", "headers": [], "query_string": b""}))
            with pytest.raises(OSError, match="the page is gone"):
                await cast(StreamingResponse, page).stream_response(send)

    run(main())


@pytest.mark.parametrize(("option", "value"), [("history", -1), ("history", True), ("beat", 0), ("beat", "x")])
def test_bad_options(option: str, value: object) -> None:
    """A sentence names the option."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(eventbus.InvalidError, match=option):
        starlette.Broadcast("shop", "a", **options)


def test_before_the_start() -> None:
    """An application without the lifespan is told what to do."""
    with pytest.raises(eventbus.ClosedError, match="lifespan"):
        _ = starlette.Broadcast("shop", "a").bus
