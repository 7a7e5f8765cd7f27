"""Children of a process that has a bus: forked at any moment, or started by multiprocessing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, ClosedError
from harness import Fork, Line, until

MULTIPROCESSING = """
import multiprocessing, sys, eventbus

def work(bus, number):
    bus.send("work", "done", "/work", {"number": number})

def main(method, name):
    context = multiprocessing.get_context(method)
    with eventbus.open(name, capacity=65536) as bus, bus.subscribe("work") as sub:
        processes = [context.Process(target=work, args=(bus, number)) for number in range(3)]
        for process in processes:
            process.start()
        heard = sorted(sub.receive(60).data["number"] for _ in processes)
        for process in processes:
            process.join()
        print(heard, [process.exitcode for process in processes], bus.stats().attached)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def use_inherited(_: Line, bus: Bus, sub: eventbus.Subscription) -> tuple[str, str, bool]:
    """In a forked child: sends and subscribes by the inherited bus; what the inherited subscription says."""
    messages = []
    for call in (sub.receive, lambda: sub.backlog):
        with pytest.raises(ClosedError) as caught:
            call()
        messages.append(caught.value.message)
    with bus.subscribe("mine") as own:
        bus.send("mine", "event", "/mine", os.getpid())
        heard = own.receive(5)
    bus.send("parents", "event", "/parents", os.getpid())
    return messages[0], messages[1], heard is not None and heard.sender == os.getpid()


def test_fork(fork: Fork, bus: Bus) -> None:
    """A forked child goes on with the bus; the subscription stays its parent's, untouched, and says what to do."""
    with bus.subscribe("parents") as sub:
        bus.send("parents", "event", "/before", 1)
        assert sub.receive(0) is not None
        bus.send("parents", "event", "/waiting", 2)
        child = fork(use_inherited, bus, sub)
        first, second, heard = child.result()
        assert first == second
        assert "bus.subscribe()" in first
        assert heard
        assert [event.data for event in sub.receive_many(9, 5)] == [2, child.pid]
        assert bus.stats().attached == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_while_a_thread_receives(fork: Fork, bus: Bus) -> None:
    """The child of a process whose thread waits in `receive` gets the error at once, and the thread gets its event."""
    sub = bus.subscribe("**")
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.append(sub.receive(30)))
    thread.start()
    until(lambda: bus.stats().subscribers[0].sleeping, "a receiver that sleeps")
    fork(use_inherited, bus, sub).result()
    thread.join()
    assert heard[0] is not None
    sub.close()


@pytest.mark.release  # AddressSanitizer of gcc 12 hangs in a child that is forked while another thread allocates
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_while_a_thread_sends(fork: Fork, bus: Bus) -> None:
    """A child forked in the middle of its parent's sends and subscriptions can do all of that itself."""
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            bus.send("load", "event", "/load")
            bus.subscribe("nobody").close()

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        for _ in range(20):
            fork(send_and_subscribe, bus).result()
    finally:
        stop.set()
        thread.join()


def send_and_subscribe(_: Line, bus: Bus) -> None:
    """What a child does with an inherited bus."""
    with bus.subscribe("child") as sub:
        bus.send("child", "event", "/child", 1)
        assert sub.receive(5) is not None


def fork_while_receiving(line: Line, name: str) -> tuple[object, int]:
    """Waits in `receive`; a handler forks there; what the parent heard, and how the child's `receive` ended."""
    children: list[int] = []
    with eventbus.open(name) as bus, bus.subscribe("**") as sub:
        signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
        line.say("subscribed")
        try:
            event = sub.receive(30)
        except ClosedError:
            os._exit(7)
        assert event is not None
        return event.data, os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])


def test_fork_in_the_middle_of_a_receive(fork: Fork, bus: Bus) -> None:
    """A handler may fork while `receive` waits: the parent goes on, the child gets the error."""
    child = fork(fork_while_receiving, bus.name)
    child.hear()
    child.kill(signal.SIGALRM)
    until(lambda: bus.stats().attached == 3, "the child's child")
    bus.send("a", "b", "/c", 1)
    assert child.result() == (1, 7)


@pytest.mark.release
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, name: str, method: str) -> None:
    """A Bus goes to a child of every kind, which leaves the bus when it ends."""
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, str(script), method, name], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 2] [0, 0, 0] 1\n", "")
