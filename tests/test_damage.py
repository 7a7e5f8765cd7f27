"""Segments that were scribbled over, flipped, cut short, half-made or mixed up: errors, never a crash or a hang."""

from __future__ import annotations

import mmap
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, EventBusError, SegmentError
from eventbus.core import native
from eventbus.core.native import lib
from eventbus.request import marked
from harness import Fork, Line, ring_of, roster_of, take

SIGNATURE = 64  # bytes, at the beginning of each segment; its words in csrc/layout.h
CLOSED = range(264, 268)  # the ring's word that ends every subscription at once, which would be too easy
CAPACITY = 8192
SLOT = 3328  # bytes of a subscriber slot
SLOTS = native.roster_bytes(1024) - 1024 * SLOT  # where they begin
RING_HOT = [range(256, 640), range(4096, 4160), range(-CAPACITY, 0)]
ROSTER_HOT = [range(512), range(4096, 4096 + 1024), range(SLOTS, SLOTS + 2 * SLOT)]
WRITES = 3000


def scribble(path: Path, seed: int, hot: list[range], spared: range) -> None:
    """Writes random bytes, words and runs over a segment that others use; half of them where it is read most."""
    dice = random.Random(seed)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        kept = memory[spared.start : spared.stop]
        for _ in range(WRITES):
            length = dice.choice((1, 4, 8, 8, 64, 512))
            where = dice.choice(hot) if dice.random() < 0.5 else range(len(memory))
            at = min(dice.choice(where) % len(memory) // min(length, 8) * min(length, 8), len(memory) - length)
            memory[at : at + length] = dice.choice((dice.randbytes(length), b"\xff" * length, b"\0" * length))
            memory[spared.start : spared.stop] = kept


def repeat_until_told(line: Line, step: Callable[[], object]) -> Counter[str]:
    """Repeats the step, whatever comes of it: once before the damage, then during it, and at last when it is done."""
    seen: Counter[str] = Counter()
    told = False
    while not told:
        told = line.told()
        try:
            step()
            seen["done"] += 1
        except (EventBusError, OSError) as error:
            seen[type(error).__name__] += 1
        if seen.total() == 1:
            line.say(seen["done"])
    return seen


def publish_until_told(line: Line, name: str) -> Counter[str]:
    """Sends while the roster is damaged."""
    with eventbus.open(name) as bus:

        def step() -> None:
            bus.send("load", "event", "/load", {"text": "x" * 50}, timeout=0.01)
            bus.stats()

        return repeat_until_told(line, step)


def receive_until_told(line: Line, name: str, overflow: Any, start: Any) -> Counter[str]:
    """Subscribes anew and receives while the ring is damaged."""
    with eventbus.open(name, role="subscriber") as bus:

        def step() -> None:
            with bus.subscribe("load.*", overflow=overflow, start=start, spin=0) as sub:
                bus.stats()
                assert sub.backlog >= 0
                sub.receive_many(100, timeout=0.001)

        return repeat_until_told(line, step)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_over_the_roster(fork: Fork, name: str, seed: int) -> None:
    """Whatever is written over the roster, a publisher neither dies of a signal nor hangs."""
    with eventbus.open(name, capacity=CAPACITY) as bus, bus.subscribe("**", overflow="drop"):
        publisher = fork(publish_until_told, name)
        assert publisher.hear() == 1
        scribble(roster_of(name), seed, ROSTER_HOT, range(0))
        publisher.say("enough")
        publisher.result()
    unlink_if_there(name)


@pytest.mark.parametrize(("overflow", "start"), [("block", "oldest"), ("drop", "oldest"), ("block", "latest")])
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_over_the_ring(fork: Fork, name: str, seed: int, overflow: str, start: str) -> None:
    """Whatever is written over the ring, a process that may only subscribe neither dies of a signal nor hangs."""
    with eventbus.open(name, capacity=CAPACITY) as bus:
        for number in range(100):
            bus.send("load", "event", f"/{number}", {"number": number})
            bus.send("load", "event", f"/{number}", b"raw")
        receiver = fork(receive_until_told, name, overflow, start)
        assert receiver.hear() == 1
        scribble(ring_of(name), seed, RING_HOT, CLOSED)
        receiver.say("enough")
        receiver.result()


def unlink_if_there(name: str) -> None:
    """The last one out may have found a roster that it could not trust any more."""
    if ring_of(name).exists() or roster_of(name).exists():
        eventbus.unlink(name)


def flip(path: Path, at: int) -> None:
    """Turns one byte of a segment into another one."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x5A]))


@pytest.mark.parametrize("which", [ring_of, roster_of])
def test_a_flipped_byte_of_a_signature(bus: Bus, which: object) -> None:
    """Any byte of either signature that is not what was written there makes the bus one that nobody may open."""
    path = which(bus.name)  # type: ignore[operator]
    for at in range(SIGNATURE):
        flip(path, at)
        with pytest.raises(SegmentError, match="unlink"):
            eventbus.open(bus.name)
        flip(path, at)
    eventbus.open(bus.name).close()


def test_a_segment_of_another_version(bus: Bus) -> None:
    """A segment of another format is told from a damaged one."""
    with roster_of(bus.name).open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", 99))
    with pytest.raises(SegmentError, match="version") as caught:
        eventbus.open(bus.name)
    assert caught.value.details["version"] is True
    assert not caught.value.retryable


def test_a_foreign_file_is_not_replaced(name: str) -> None:
    """A file that was never a bus, abandoned or not, is an error and stays as it is."""
    roster_of(name).write_bytes(b"something else" * 1000)
    roster_of(name).chmod(0o600)
    with pytest.raises(SegmentError, match="mark of an eventbus segment"):
        eventbus.open(name)
    assert roster_of(name).read_bytes() == b"something else" * 1000
    eventbus.unlink(name)


@pytest.mark.parametrize("which", [ring_of, roster_of])
@pytest.mark.parametrize("size", [0, 32, 64, 4096, 5000])
def test_a_segment_cut_short(fork: Fork, name: str, which: object, size: int) -> None:
    """A segment that is shorter than its header says is refused, or replaced once nobody is attached."""
    child = fork(open_and_wait, name)
    child.hear()
    path = which(name)  # type: ignore[operator]
    with path.open("r+b") as file:
        file.truncate(size)
    if path == ring_of(name) or size > 0:
        with pytest.raises(SegmentError):
            eventbus.open(name)
    child.kill()
    unlink_if_there(name)


def open_and_wait(line: Line, name: str) -> None:
    """Is attached until it is killed."""
    with eventbus.open(name, persist=True):
        line.say("open")
        line.hear()


def test_a_ring_cut_short_that_was_abandoned(name: str) -> None:
    """What a crash left without its roster is in nobody's way."""
    ring_of(name).write_bytes(b"half of a ring")
    with eventbus.open(name) as bus:
        assert bus.send("a", "b", "/c")
    assert not ring_of(name).exists()


def test_an_empty_roster(name: str) -> None:
    """A creator that died before it wrote anything left an empty roster, which is replaced."""
    roster_of(name).touch(0o600)
    with eventbus.open(name) as bus:
        assert bus.send("a", "b", "/c")


def test_ring_and_roster_of_different_buses(bus: Bus, name: str) -> None:
    """The ring of one bus and the roster of another are not one bus."""
    other = name + "-other"
    with eventbus.open(other, capacity=64 * 1024):
        ring_of(bus.name).rename(ring_of(name + "-aside"))
        ring_of(other).rename(ring_of(bus.name))
        with pytest.raises(SegmentError, match="different buses"):
            eventbus.open(bus.name)
        ring_of(bus.name).rename(ring_of(other))
        ring_of(name + "-aside").rename(ring_of(bus.name))
    eventbus.open(bus.name).close()


def test_a_ring_that_is_gone(bus: Bus) -> None:
    """Without its ring a bus in use cannot be joined, and the error says what to remove."""
    aside = ring_of(bus.name + "-aside")
    ring_of(bus.name).rename(aside)
    with pytest.raises(SegmentError, match=r"ring .* is gone"):
        eventbus.open(bus.name)
    aside.rename(ring_of(bus.name))


def test_a_slot_that_was_overwritten(bus: Bus) -> None:
    """A subscriber whose slot was scribbled over says so instead of receiving from somewhere else."""
    with bus.subscribe("**") as sub:
        bus.send("a", "b", "/c")
        with roster_of(bus.name).open("r+b") as file:
            file.seek(SLOTS)
            file.write(b"\xff" * SLOT)
        with pytest.raises(SegmentError, match="slot was overwritten"):
            sub.receive(1)


def send_unreadable(bus: Bus, kind: str) -> None:
    """Sends a record that holds no JSON of ours, past all checks."""
    handle = bus._open_handle()
    assert lib.eb_send(handle.route(handle.topic(b"a", kind.encode(), 0), b"", b""), b"[1,]") == 0


@pytest.mark.parametrize("text", [b"[[],1]", b'["/p",1]', b'["/p",oops]'])
def test_a_request_whose_path_is_none(bus: Bus, text: bytes) -> None:
    """A request that is damaged is an error like every other record, whatever stands where its path was."""
    with bus.subscribe("**") as sub:
        handle = bus._open_handle()
        topic = handle.topic(b"a", marked("b").encode(), 0)
        assert lib.eb_send(handle.route(topic, b"", b""), text) == 0
        with pytest.raises(SegmentError, match=r"the event 1 .* cannot be read"):
            sub.receive(1)


def test_a_group_is_rid_of_what_nobody_can_read(bus: Bus) -> None:
    """A record that no member can read is an error for one of them, a dead letter, and in nobody's way any more."""
    with bus.subscribe("eventbus.dead") as grave, bus.subscribe("a", group="workers") as member:
        send_unreadable(bus, "b")
        bus.send("a", "b", "/good")
        with pytest.raises(SegmentError):
            member.receive(5)
        letter = take(grave)
        assert (letter.path, letter.data["sequence"], letter.data["data"]) == ("?", 1, {"base64": "MSw="})
        assert take(member).path == "/good"
        assert bus.stats().groups[0].dead == 1
