"""Other users: whom the kernel lets in, by mode and role, and whom this process does not trust."""

from __future__ import annotations

import os

import pytest

import eventbus
from eventbus import Bus, SegmentError
from harness import Fork, Line, ring_of, roster_of

OTHER, GROUP = 12_345, 23_456  # a user and a group that own nothing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def become(user: int, groups: list[int]) -> None:
    """From here on this process is somebody else."""
    os.setgroups(groups)
    os.setgid(user)
    os.setuid(user)


def share(bus: Bus) -> None:
    """The bus belongs to the group, as if its owner's group were that."""
    for path in (ring_of(bus.name), roster_of(bus.name)):
        os.chown(path, -1, GROUP)


def try_to_open(_: Line, name: str, groups: list[int], role: str) -> str:
    """As another user: what came of opening the bus."""
    become(OTHER, groups)
    return outcome_of_open(name, role)


def outcome_of_open(name: str, role: str) -> str:
    """What came of opening the bus."""
    try:
        with eventbus.open(name, role=role) as bus:  # type: ignore[arg-type]
            return f"attached {bus.stats().attached}"
    except (OSError, SegmentError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("role", ["member", "subscriber"])
def test_a_stranger_has_no_permission(fork: Fork, bus: Bus, role: str) -> None:
    """By default another user gets the kernel's refusal, with the remedy."""
    outcome = fork(try_to_open, bus.name, [], role).result()
    assert outcome.startswith("PermissionError")
    assert "mode=0o660" in outcome
    assert bus.name in outcome


def receive_and_answer(line: Line, name: str) -> str:
    """As another user of the group, and a member: receives an event and sends one."""
    become(OTHER, [GROUP])
    with eventbus.open(name) as bus, bus.subscribe("question") as sub:
        line.say("subscribed")
        event = sub.receive(30)
        assert event is not None
        bus.send("answer", "event", "/answer", event.data + 1)
        return str(bus.stats().attached)


def test_a_group_member_takes_part(fork: Fork, name: str) -> None:
    """With mode=0o660 a member of the owner's group sends and receives."""
    with eventbus.open(name, mode=0o660) as bus, bus.subscribe("answer") as sub:
        share(bus)
        child = fork(receive_and_answer, name)
        child.hear()
        bus.send("question", "event", "/question", 1)
        event = sub.receive(30)
        assert event is not None
        assert event.data == 2
        child.result()


def only_receive(line: Line, name: str) -> str:
    """As another user of the group, and a subscriber: receives an event; what came of an attempt to write."""
    become(OTHER, [GROUP])
    with eventbus.open(name, role="subscriber") as bus, bus.subscribe("question") as sub:
        line.say("subscribed")
        assert sub.receive(30) is not None
    try:
        ring_of(name).open("r+b").close()
    except PermissionError:
        return outcome_of_open(name, "member")
    return "could write"


def test_a_group_may_be_let_in_to_listen(fork: Fork, name: str) -> None:
    """With mode=0o640 the group subscribes, and the kernel refuses it the ring for anything more."""
    with eventbus.open(name, mode=0o640) as bus:
        share(bus)
        assert ring_of(name).stat().st_mode & 0o777 == 0o640
        child = fork(only_receive, name)
        child.hear()
        bus.send("question", "event", "/question", 1)
        assert child.result().startswith("PermissionError")


@pytest.mark.parametrize("which", [ring_of, roster_of])
def test_what_everybody_may_write_is_not_trusted(bus: Bus, which: object) -> None:
    """A segment that anybody could have scribbled over is refused."""
    path = which(bus.name)  # type: ignore[operator]
    mode = path.stat().st_mode & 0o777
    path.chmod(mode | 0o006)
    with pytest.raises(SegmentError, match="does not trust"):
        eventbus.open(bus.name)
    path.chmod(mode)


def test_a_strangers_segment_is_not_trusted(bus: Bus) -> None:
    """A bus that another user made under this name is refused, and the error names the user."""
    for path in (ring_of(bus.name), roster_of(bus.name)):
        os.chown(path, OTHER, OTHER)
    with pytest.raises(SegmentError, match=f"uid {OTHER}") as caught:
        eventbus.open(bus.name)
    assert caught.value.details["uid"] == OTHER
