"""Client managers for Socket.IO in one process: what they hear, what they pass over, and how they end."""

from __future__ import annotations

import asyncio
import importlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import Bus, ClosedError, InvalidError, UnavailableError
from eventbus.core.inspection import inspect_bus
from eventbus.integrations import socketio as managers
from harness import DEADLINE, Fork, Line, until
from socketservers import socketio
from test_fork_in_c import LIBC_FORKS, in_child


class Listening:
    """A server with a manager that hears, and the rooms that it is told to close."""

    def __init__(self, kind: str, bus: str | Bus, channel: str = "socketio") -> None:
        self.rooms: queue.Queue[str] = queue.Queue()
        self.handle: Callable[[str], None] = self.rooms.put
        self._loop = asyncio.new_event_loop() if kind == "tasks" else None
        self._thread = threading.Thread(target=self._run)
        if self._loop is not None:
            self.manager = managers.AsyncEventbusManager(bus, channel)
            self.server = socketio.AsyncServer(async_mode="asgi", client_manager=self.manager)
            self._thread.start()
        else:
            self.manager = managers.EventbusManager(bus, channel)
            self.server = socketio.Server(async_mode=kind, client_manager=self.manager)
        self.manager._handle_close_room = self._handled

    def connect(self) -> None:
        """What the server does when a client comes."""
        self.do(self.server._handle_eio_connect, "1", {})

    def do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A method of the server or the manager, in its loop if it has one."""
        if self._loop is None:
            return call(*arguments)
        return asyncio.run_coroutine_threadsafe(call(*arguments), self._loop).result(DEADLINE)

    def hear(self) -> str:
        """The next room."""
        return self.rooms.get(timeout=DEADLINE)

    def over(self) -> bool:
        """Whether it listens no more."""
        thread = self.manager.thread
        return bool(thread.done()) if self._loop is not None else not thread.is_alive()

    def end(self) -> None:
        """Closes the manager, and what it runs in."""
        self.do(self.manager.close)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        assert self._loop is not None
        self._loop.run_forever()

    def _handled(self, message: dict[str, Any]) -> Any:
        self.handle(message["room"])
        return None if self._loop is None else asyncio.sleep(0)


Listen = Callable[..., Listening]


@pytest.fixture(params=["threading", "tasks"])
def listen(request: pytest.FixtureRequest) -> Iterator[Listen]:
    """Makes such servers, which end with the test."""
    made: list[Listening] = []

    def start(*arguments: Any) -> Listening:
        made.append(Listening(request.param, *arguments))
        return made[-1]

    yield start
    for one in made:
        one.end()


def tell(bus: str | Bus, *rooms: str, channel: str = "socketio") -> None:
    """Has all servers close rooms."""
    outside = managers.EventbusManager(bus, channel, write_only=True)
    for room in rooms:
        outside.close_room(room)
    outside.close()


def test_what_is_no_message(bus: Bus, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """It is passed over, also what cannot be read; so are messages of other channels."""
    listening = listen(bus)
    listening.connect()
    for strange in (5, [1], b"\xff", {"method": "none"}, {}, orjson.Fragment(b"no json")):
        bus.send("socketio", "message", "/p", strange)
    tell(bus, "blue", channel="other")
    tell(bus, "red", "green")
    assert [listening.hear(), listening.hear()] == ["red", "green"]
    assert "passed over what is no message of Socket.IO" in caplog.text
    assert "tries again" not in caplog.text


def test_a_slow_server(bus: Bus, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """One that stands still holds nobody up; it goes on with what the ring still has, and says how much it lost."""
    listening = listen(bus)
    listening.connect()
    stands, goes_on = threading.Event(), threading.Event()

    def stand_still(_: str) -> None:
        listening.handle = listening.rooms.put
        stands.set()
        goes_on.wait(DEADLINE)

    listening.handle = stand_still
    tell(bus, "first")
    assert stands.wait(DEADLINE)
    tell(bus, *map(str, range(1000)), "last")
    goes_on.set()
    heard = [*iter(listening.hear, "last")]
    assert heard == [str(1000 - number) for number in range(len(heard), 0, -1)]
    assert 0 < len(heard) < 1000
    assert "events of the bus were lost" in caplog.text


def test_a_bus_whose_name_is_gone(listen: Listen, name: str) -> None:
    """Whoever sends goes on by another one, and takes along who listens in its process."""
    listening = listen(name)
    listening.connect()
    with eventbus.open(name) as before:
        until(lambda: [one.sleeping for one in before.stats().subscribers] == [True], "it to sleep")
        eventbus.unlink(name)
        listening.do(listening.manager.close_room, "own")
        assert listening.hear() == "own"
        with eventbus.open(name) as bus:
            assert bus.wait_for_subscribers(1, "socketio", DEADLINE)
            tell(bus, "red")
    assert listening.hear() == "red"


def test_a_server_that_cannot_hear(listen: Listen, name: str) -> None:
    """It refuses the client, and listens with the next one that comes when it can."""
    listening = listen(name)
    with eventbus.open(name) as bus:
        bus.shutdown()
        for _ in range(2):
            with pytest.raises(ClosedError, match="was shut down"):
                listening.connect()
    listening.connect()
    tell(name, "red")
    assert listening.hear() == "red"


def test_a_bus_that_was_shut_down(
    listen: Listen, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody else still has it open, who sends is told so, and who listens tries again, and logs why once."""
    listening, tries = listen(name), list[str]()
    listening.connect()

    def opened(name: str) -> Bus:
        tries.append(name)
        return Bus(name)

    with eventbus.open(name) as bus:
        monkeypatch.setattr(managers, "_PAUSE", 0.001)
        monkeypatch.setattr(eventbus, "open", opened)
        bus.shutdown()
        until(lambda: len(tries) > 2, "it to try again and again")
        with pytest.raises(ClosedError, match="was shut down"):
            listening.do(listening.manager.enter_room, "nobody", "/", "red")
    until(lambda: hears(name), "it to hear again")
    tell(name, "red")
    assert listening.hear() == "red"
    assert caplog.text.count("tries again") == 1


def hears(name: str) -> bool:
    """Whether it has opened another bus, and listens there; without opening the one that it is about to leave."""
    about = inspect_bus(name)
    return about is not None and about.state == "live" and about.stats is not None and bool(about.stats.subscribers)


def test_a_bus_that_was_given(bus: Bus, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """There is no other one after it: who listens ends, and says so."""
    listening = listen(bus)
    listening.connect()
    tell(bus, "red")
    assert listening.hear() == "red"
    bus.shutdown()
    until(listening.over, "it to end")
    assert "exited unexpectedly" in caplog.text


def test_the_end(bus: Bus, listen: Listen) -> None:
    """A closed manager hears and sends no more, and leaves a bus that was given to it open."""
    listening = listen(bus)
    listening.connect()
    listening.do(listening.manager.close)
    assert listening.over()
    assert bus.stats().subscribers == ()
    with pytest.raises(ClosedError, match="manager was closed"):
        listening.do(listening.manager.close_room, "red")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child(bus: Bus, listen: Listen, fork: Fork) -> None:
    """Its parent hears what it sends, and goes on when the child closes the manager."""
    listening = listen(bus)
    listening.connect()
    child = fork(use_inherited, listening)
    assert listening.hear() == "child"
    child.result()
    tell(bus, "red")
    assert listening.hear() == "red"


def use_inherited(_: Line, listening: Listening) -> None:
    manager, before = listening.manager, listening.rooms.qsize()
    if isinstance(manager, managers.EventbusManager):
        manager.close_room("child")
        manager.close()
    else:
        asyncio.run(manager.close_room("child"))
    assert listening.rooms.qsize() == before + 1  # its own


@pytest.mark.parametrize("how", LIBC_FORKS)
def test_a_child_that_c_forks(name: str, listen: Listen, fork: Fork, how: str) -> None:
    """As uWSGI does without --lazy-apps: a manager that has sent before opens the bus anew, and is another one."""
    listening = listen(name)
    listening.connect()
    assert fork(have_c_fork, name, listening.manager.host_id, how).result() == "nothing"
    assert listening.hear() == "theirs"
    tell(name, "last")
    assert listening.hear() == "last"


def have_c_fork(_: Line, name: str, host: str, how: str) -> str:
    """In a process of one thread: another one that asks for the interpreter as C forks is waited for in vain there."""
    inherited = managers.EventbusManager(name, write_only=True)
    inherited.host_id = host
    inherited.close_room("own")
    said = in_child(LIBC_FORKS[how], lambda: send_from_there(inherited))
    inherited.close_room("own")
    inherited.close()
    return said


def send_from_there(manager: managers.EventbusManager) -> None:
    """Leaves the bus, too: nothing else does where a process ends so."""
    manager.close_room("theirs")
    manager.close()


def test_gevent(bus: Bus, fork: Fork) -> None:
    """With gevent the hub goes on while a greenlet listens, patched or not."""
    pytest.importorskip("gevent", reason="gevent does not install here")
    child = fork(listen_in_gevent, bus)
    child.hear()
    tell(bus, "red", "green")
    assert child.result() == ["red", "green"]


def listen_in_gevent(line: Line, bus: Bus) -> list[str]:
    import gevent
    from gevent.event import AsyncResult

    listening, last = Listening("gevent", bus), AsyncResult()
    listening.connect()
    gevent.sleep()  # it waits by now
    listening.handle = lambda room: last.set(room) if room == "green" else listening.rooms.put(room)
    line.say()
    found = last.get(timeout=DEADLINE)
    listening.end()
    return [listening.rooms.get(), found]


@pytest.mark.release
@pytest.mark.parametrize("kind", ["", "Async"])
def test_ctrl_c(kind: str, name: str) -> None:
    """It ends a process whose manager listens, without a word and without a bus that is left."""
    script = f"""
import asyncio, signal, socketio, sys, time
from eventbus.integrations.socketio import {kind}EventbusManager as Manager

signal.signal(signal.SIGINT, signal.default_int_handler)
manager = Manager({name!r})
server = socketio.{kind}Server(async_mode={'"asgi"' if kind else '"threading"'}, client_manager=manager)

async def main():
    manager.initialize()
    print("hears", flush=True)
    await asyncio.sleep({DEADLINE})

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hears\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (130, "")


def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch, bus: Bus) -> None:
    """A sentence says what to change: of what is no bus, of a way to wait that there is not, without the library."""
    for kind in (managers.EventbusManager, managers.AsyncEventbusManager):
        with pytest.raises(InvalidError, match="bus must be the name of a bus or a Bus, not 5"):
            kind(5)  # type: ignore[arg-type]
    manager = managers.EventbusManager(bus)
    server = socketio.Server(async_mode="threading", client_manager=manager)
    server.async_mode = "eventlet"
    with pytest.raises(InvalidError, match="use gevent or threading as async_mode"):
        manager.initialize()
    manager.close()
    monkeypatch.delitem(sys.modules, "eventbus.integrations.socketio")
    monkeypatch.setitem(sys.modules, "socketio.pubsub_manager", None)
    with pytest.raises(UnavailableError, match=r"pip install 'eventbus\[socketio\]'"):
        importlib.import_module("eventbus.integrations.socketio")
