"""Socket.IO servers in several processes that share their clients by a bus, whichever of them is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import eventbus
from eventbus.integrations import socketio as managers
from harness import DEADLINE, Fork, ring_of, until
from socketservers import Page, Place, Serve, async_server, asynchronous, threaded, threaded_server

pytestmark = [
    pytest.mark.parametrize("serve", [asynchronous, threaded]),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
Pages = tuple[Page, Page]


@pytest.fixture
def places(fork: Fork, serve: Serve, name: str) -> Iterator[list[Place]]:
    """Two servers in processes of their own; those that still run end as they should."""
    made = [Place(fork, serve, name) for _ in range(2)]
    yield made
    Place.end(*made)


@pytest.fixture
def pages(places: list[Place]) -> Iterator[Pages]:
    """A client of each."""
    with places[0].page() as one, places[1].page() as two:
        yield one, two


def test_rooms(pages: Pages) -> None:
    """Whichever server is told, a client is in a room or out of it, and hears what is sent there, in order."""
    here, there = pages
    for method, heard in (("enter_room", True), ("leave_room", False), ("enter_room", True)):
        here.do(method, there.sid, "red")
        here.do("emit", "news", {"after": method}, room="red")
        here.do("emit", "end", b"\0\1")
        assert not heard or there.hear() == ("news", {"after": method})
        assert there.hear() == ("end", b"\0\1")
        assert here.hear() == ("end", b"\0\1")
    here.do("close_room", "red")
    here.do("emit", "news", "nobody", room="red")
    here.do("emit", "end", [1, "two"], skip_sid=here.sid)
    assert there.hear() == ("end", [1, "two"])
    there.do("emit", "last", 3)
    assert here.hear() == ("last", 3)


def test_answers(pages: Pages) -> None:
    """A client of one server answers what another server asks."""
    here, there = pages
    assert here.do("call", "ask", 1, sid=there.sid) == 2
    assert there.do("call", "ask", 5, sid=here.sid) == 6


def test_a_disconnection(pages: Pages) -> None:
    """A server disconnects the client of another one."""
    here, there = pages
    here.do("disconnect", there.sid)
    assert there.hear() == ("disconnect",)
    here.do("emit", "news", 1)
    assert here.hear() == ("news", 1)


def test_from_outside(pages: Pages, name: str) -> None:
    """A process without a server emits, by either kind of manager, and moves clients between rooms."""
    here, there = pages
    threads = managers.EventbusManager(name, write_only=True)
    threads.enter_room(there.sid, "/", "red")
    threads.emit("news", {"n": 1}, room="red")
    threads.emit("end", b"x")
    threads.close()

    async def main() -> None:
        tasks = managers.AsyncEventbusManager(name, write_only=True)
        await tasks.close_room("red")
        await tasks.emit("news", {"n": 2}, room="red")
        await tasks.emit("end", {"n": 3}, to=there.sid)
        await tasks.close()

    asyncio.run(main())
    assert [there.hear() for _ in range(3)] == [("news", {"n": 1}), ("end", b"x"), ("end", {"n": 3})]
    assert here.hear() == ("end", b"x")


def test_a_killed_server(fork: Fork, serve: Serve, name: str) -> None:
    """It takes its own clients along; the others' go on, also with a server that comes in its place."""
    first, second = (Place(fork, serve, name) for _ in range(2))
    with first.page() as here:
        with second.page() as there:
            there.do("emit", "news", 1)
            assert [here.hear(), there.hear()] == [("news", 1), ("news", 1)]
            second.child.kill()
            assert there.hear() == ("disconnect",)
        here.do("emit", "news", 2)
        assert here.hear() == ("news", 2)
        third = Place(fork, serve, name)
        with third.page() as there:
            there.do("emit", "news", 3)
            assert [here.hear(), there.hear()] == [("news", 3), ("news", 3)]
            assert here.do("call", "ask", 1, sid=there.sid) == 2
    Place.end(first, third)


@pytest.mark.parametrize("given", ["a name", "a bus"])
def test_one_that_was_made_before_the_fork(fork: Fork, serve: Serve, name: str, given: str) -> None:
    """As with gunicorn's --preload: each worker is one of its own, although all have the manager of their parent, by
    which that has sent before."""
    with eventbus.open(name) as bus:
        server = preloaded(serve, bus if given == "a bus" else name)
        places = [Place(fork, serve, server) for _ in range(2)]
        with places[0].page() as here, places[1].page() as there:
            here.do("enter_room", there.sid, "red")
            here.do("emit", "news", 1, room="red")
            assert there.hear() == ("news", 1)
            assert there.do("call", "ask", 1, sid=here.sid) == 2
            emit(server, "news", 2)
            assert [here.hear(), there.hear()] == [("news", 2), ("news", 2)]
        leave(server)
        Place.end(*places)


def preloaded(serve: Serve, bus: Any) -> Any:
    """A server of the parent, which has sent already."""
    server = async_server(bus) if serve is asynchronous else threaded_server(bus)
    emit(server, "news", 0)
    return server


def emit(server: Any, *told: Any) -> None:
    done = server.emit(*told)
    if done is not None:
        asyncio.run(done)


def leave(server: Any) -> None:
    done = server.manager.close()
    if done is not None:
        asyncio.run(done)


def test_a_bus_that_is_shut_down(places: list[Place], pages: Pages, name: str) -> None:
    """Its servers leave it, and go on by the next one of the name."""
    here, there = pages
    with eventbus.open(name) as old:
        before = ring_of(name).stat().st_ino
        old.shutdown()
    until(lambda: is_another(name, before), "another bus")
    with eventbus.open(name) as bus:
        assert bus.wait_for_subscribers(2, "socketio", DEADLINE)
        here.do("emit", "news", 1)
        assert [here.hear(), there.hear()] == [("news", 1), ("news", 1)]


def is_another(name: str, before: int) -> bool:
    """Whether the name is that of another bus than the one of this number."""
    with suppress(FileNotFoundError):
        return ring_of(name).stat().st_ino != before
    return False
