"""A /dev/shm that is small or full: an error when the bus is made, with the sizes and the remedy, and nothing left."""

from __future__ import annotations

import errno
import os
import re

import pytest

import eventbus
from container import mount_shared_memory
from harness import SHARED_MEMORY, Fork, Line

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a /dev/shm of its own")


def in_small(line: Line, megabytes: int, capacities: list[int | None]) -> list[str]:
    """What comes of opening buses of these capacities one beside the other, and what is left of those that failed."""
    try:
        mount_shared_memory(megabytes)
    except PermissionError as error:
        return [f"the container that this runs in forbids mounts: {error}"]
    outcomes = []
    buses = []
    for number, capacity in enumerate(capacities):
        try:
            buses.append(eventbus.open(f"small{number}", capacity=capacity))
            buses[-1].send("a", "b", "/c")
            outcomes.append("open")
        except OSError as error:
            outcomes.append(f"{errno.errorcode[error.errno or 0]}: {error}")
        assert len(list(SHARED_MEMORY.iterdir())) == 2 * len(buses)
    for bus in buses:
        bus.close()
    assert list(SHARED_MEMORY.iterdir()) == []
    return outcomes


def opened(fork: Fork, megabytes: int, capacities: list[int | None]) -> list[str]:
    """The outcomes, where such a /dev/shm can be had."""
    outcomes: list[str] = fork(in_small, megabytes, capacities).result()
    if outcomes[0].startswith("the container"):
        pytest.skip(outcomes[0])
    return outcomes


@root
def test_defaults_fit_a_small_container(fork: Fork) -> None:
    """Three buses of the default size fit into the 64 MiB that a container gets by default."""
    assert opened(fork, 64, [None] * 3) == ["open"] * 3


@root
def test_no_space_for_a_new_bus(fork: Fork) -> None:
    """A bus that does not fit is ENOSPC with both sizes and the remedy; nothing is left, and a smaller one fits."""
    outcomes = opened(fork, 8, [None, 1 << 20])
    assert outcomes[1] == "open"
    assert outcomes[0].startswith("ENOSPC")
    needed, free = map(int, re.findall(r"needs (\d+) .* has (\d+) free", outcomes[0])[0])
    assert free <= 8 << 20 < 16 << 20 <= needed
    assert "--shm-size" in outcomes[0]
    assert "smaller capacity" in outcomes[0]


@root
def test_a_full_dev_shm(fork: Fork) -> None:
    """Buses are made as long as there is space; the first that does not fit fails, and those that are there go on."""
    outcomes = opened(fork, 12, [3 << 20, 3 << 20, 3 << 20, 4096])
    assert [outcome[:6] for outcome in outcomes] == ["open", "open", "ENOSPC", "open"]


@root
def test_the_fourth_bus_of_a_small_container(fork: Fork) -> None:
    """After three default buses in 64 MiB the fourth does not fit and says so; after two, one of 8 MiB still does."""
    outcomes = opened(fork, 64, [None, None, None, None])
    assert [outcome[:6] for outcome in outcomes] == ["open", "open", "open", "ENOSPC"]
    outcomes = opened(fork, 64, [None, None, 24 << 20, 8 << 20])
    assert [outcome[:6] for outcome in outcomes] == ["open", "open", "ENOSPC", "open"]


def test_what_cannot_fit_is_not_tried(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that is larger than what is free is refused before it fills /dev/shm up for everybody else."""
    taken: list[int] = []

    def take(_fd: int, _offset: int, size: int) -> None:
        taken.append(size)
        raise OSError(errno.ENOSPC, "there is none")

    monkeypatch.setattr(os, "posix_fallocate", take)
    space = os.statvfs(SHARED_MEMORY)
    with pytest.raises(OSError, match="no space in shared memory") as caught:
        eventbus.open(name, capacity=space.f_blocks * space.f_frsize)  # whatever others free meanwhile
    assert (caught.value.errno, taken) == (errno.ENOSPC, [])
