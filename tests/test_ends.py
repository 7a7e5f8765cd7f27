"""Ends: what a process has of a bus goes with it, in whatever order its parts end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings

import pytest

import eventbus
from eventbus.core import native, segment
from harness import DEADLINE, Fork, Line, ring_of, roster_of, until


def run(script: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A program of its own, with the released build."""
    command = [sys.executable, *options, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def test_a_bus_that_goes_out_of_scope(name: str) -> None:
    """It leaves, like a file, with a ResourceWarning; its subscriptions keep it until they go too."""
    sub = eventbus.open(name, capacity=4096).subscribe("a")
    assert ring_of(name).exists()
    subs = [sub]
    del sub
    with pytest.warns(ResourceWarning, match=name):
        subs.clear()
    assert not ring_of(name).exists()
    assert not roster_of(name).exists()


def test_a_bus_collected_while_its_thread_opens_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python collects in the middle of an opening is left by the same thread right after it."""
    buses = [eventbus.open(name, capacity=4096)]
    settle = segment._settle

    def collect_and_settle(*arguments: object) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buses.clear()
        return settle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(segment, "_settle", collect_and_settle)
    monkeypatch.setattr(native, "LOCK_SECONDS", 2 * DEADLINE)
    begun = time.monotonic()
    with eventbus.open(name) as bus:
        assert time.monotonic() - begun < DEADLINE
        assert bus.stats().attached == 1
    assert not ring_of(name).exists()


ENDS = {
    "falls off the end": "bus = eventbus.open(name); bus.send('a', 'b', '/c'); sub = bus.subscribe('a')",
    "sys.exit in a thread": """
bus = eventbus.open(name)
import threading
thread = threading.Thread(target=sys.exit); thread.start(); thread.join()
""",
    "a daemon thread that receives": """
bus = eventbus.open(name); sub = bus.subscribe('a')
import threading, time
threading.Thread(target=sub.receive, daemon=True).start()
while not bus.stats().subscribers[0].sleeping: time.sleep(0.001)
""",
    "a daemon thread that sends": """
bus = eventbus.open(name)
import threading, time
threading.Thread(target=lambda: [bus.send('a', 'b', '/c') for _ in iter(int, 1)], daemon=True).start()
while bus.stats().sent < 100: time.sleep(0.001)
""",
    "a child by os.fork that falls off the end": """
bus = eventbus.open(name)
import os
if os.fork() == 0:
    bus.send('a', 'b', '/child')
else:
    os.wait()
""",
    "a child by os.fork that outlives its parent": """
bus = eventbus.open(name)
import os
read, write = os.pipe()
if os.fork() == 0:
    os.close(write); os.read(read, 1)
    bus.send('a', 'b', '/child')
""",
    "a daemon child of multiprocessing": """
import multiprocessing, time
bus = eventbus.open(name)
def receive(): bus.subscribe('b').receive()
child = multiprocessing.get_context('fork').Process(target=receive, daemon=True)
child.start()
bus.wait_for_subscribers(1)
""",
    "a child of multiprocessing that does not close": """
import multiprocessing
bus = eventbus.open(name)
child = multiprocessing.get_context('fork').Process(target=lambda: bus.send('a', 'b', '/c'))
child.start(); child.join()
""",
    "an exception": "bus = eventbus.open(name); sub = bus.subscribe('a'); 1 / 0",
    "in a cycle": "bus = eventbus.open(name); bus.me = bus; del bus",
    "the default bus": "os.environ['EVENTBUS_NAME'] = name; eventbus.send('a', 'b', '/c')",
}


@pytest.mark.release
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_after_a_normal_end_of_all(name: str, end: str) -> None:
    """In whatever order processes and their parts end, the last one removes the segments."""
    done = run(f"import os, sys, eventbus\nname = sys.argv[1]\n{ENDS[end]}", name)
    assert done.returncode == (1 if end == "an exception" else 0), done.stderr
    until(lambda: not ring_of(name).exists() and not roster_of(name).exists(), "the last one's end")


LATE = """
import atexit, logging, sys, eventbus

class Handler(logging.Handler):
    def emit(self, record):
        bus.send("log", "record", "/", record.getMessage())
    def close(self):
        bus.send("log", "closed", "/", "by logging.shutdown")
        super().close()

atexit.register(lambda: bus.send("log", "atexit", "/", "registered before"))
bus = eventbus.open(sys.argv[1])
logging.getLogger().addHandler(Handler())
atexit.register(lambda: logging.getLogger().warning("registered after"))
"""


@pytest.mark.release
def test_what_ends_late_still_sends(name: str) -> None:
    """Functions of atexit, registered before or after, and handlers of logging send while the interpreter ends."""
    with eventbus.open(name) as bus, bus.subscribe("log") as sub:
        done = run(LATE, name)
        assert (done.returncode, done.stderr) == (0, "")
        heard = {event.data for event in sub.receive_many(9, 0)}
        assert heard == {"registered before", "registered after", "by logging.shutdown"}
        assert bus.stats().attached == 1


def test_closing_beside_a_policy(name: str) -> None:
    """A policy that opens, subscribes and closes in the middle of a receive holds no close up, nor is it held up."""
    asked, go_on = threading.Event(), threading.Event()
    with eventbus.open(f"{name}-policy", capacity=4096) as verdicts:

        def policy(_: str, action: str, system: str) -> bool:
            if action == "events.subscribe" and system == "x.y":
                asked.set()
                assert go_on.wait(DEADLINE)
                with verdicts.subscribe("verdicts"):
                    pass
            return True

        bus = eventbus.open(name, capacity=4096, policy=policy)
        sub, heard = bus.subscribe("x.*"), list[object]()
        receiver = threading.Thread(target=lambda: heard.append(sub.receive(DEADLINE)))
        receiver.start()
        bus.send("x.y", "k", "/p")
        assert asked.wait(DEADLINE)
        closer = threading.Thread(target=bus.close)
        closer.start()
        closer.join(DEADLINE)
        assert not closer.is_alive()
        assert not ring_of(name).exists()
        go_on.set()
        receiver.join(DEADLINE)
        assert heard == [None]


def send_slowly(line: Line, name: str) -> None:
    """Leaves a bus that is to stay while another thread is stopped in the middle of a send."""
    bus = eventbus.open(name, persist=True)
    bus.send("a", "k", "/0")
    reached = threading.Event()

    def send() -> None:
        reached.set()
        bus.send("a", "k", "/1", b"x" * (1 << 22))

    thread = threading.Thread(target=send)
    thread.start()
    reached.wait()
    bus.close()
    line.say("closed")
    thread.join()


def test_no_repair_beside_a_publisher(fork: Fork, name: str) -> None:
    """A bus that is to stay, left and opened again while a thread is in the middle of a send, is never damaged."""
    eventbus.open(name, capacity=1 << 24, persist=True).close()
    for _ in range(30):
        child = fork(send_slowly, name)
        child.hear()
        with eventbus.open(name) as bus, bus.subscribe("**", start="oldest", overflow="drop") as sub:
            bus.send("a", "mine", "/2")
            while (event := sub.receive(0)) is not None:
                assert event.path in ("/0", "/1", "/2")
        child.result()
    eventbus.unlink(name)
