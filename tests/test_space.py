"""A /dev/shm that is small or full: an error when the bus is made, with the sizes and the remedy, and nothing left."""

from __future__ import annotations

import ctypes
import errno
import os
import re

import pytest

import eventbus
from harness import SHARED_MEMORY, Fork, Line

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a /dev/shm of its own")


def mount_small(megabytes: int) -> None:
    """From here on this process has a /dev/shm of its own, of this size."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={megabytes}m".encode()
    for call, arguments in (
        (libc.unshare, (CLONE_NEWNS,)),
        (libc.mount, (b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)),
        (libc.mount, (b"tmpfs", bytes(SHARED_MEMORY), b"tmpfs", ctypes.c_ulong(0), options)),
    ):
        if call(*arguments) != 0:
            raise PermissionError(ctypes.get_errno(), "a mount namespace of one's own")


def in_small(line: Line, megabytes: int, capacities: list[int | None]) -> list[str]:
    """What comes of opening buses of these capacities one beside the other, and what is left of those that failed."""
    try:
        mount_small(megabytes)
    except PermissionError as error:
        return [f"not permitted: {error}"]
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
    if outcomes[0].startswith("not permitted"):
        pytest.skip(outcomes[0])
    return outcomes


def test_defaults_fit_a_small_container(fork: Fork) -> None:
    """Three buses of the default size fit into the 64 MiB that a container gets by default."""
    assert opened(fork, 64, [None] * 3) == ["open"] * 3


def test_no_space_for_a_new_bus(fork: Fork) -> None:
    """A bus that does not fit is ENOSPC with both sizes and the remedy; nothing is left, and a smaller one fits."""
    outcomes = opened(fork, 8, [None, 1 << 20])
    assert outcomes[1] == "open"
    assert outcomes[0].startswith("ENOSPC")
    needed, free = map(int, re.findall(r"needs (\d+) .* has (\d+) free", outcomes[0])[0])
    assert free <= 8 << 20 < 16 << 20 <= needed
    assert "--shm-size" in outcomes[0]
    assert "smaller capacity" in outcomes[0]


def test_a_full_dev_shm(fork: Fork) -> None:
    """Buses are made as long as there is space; the first that does not fit fails, and those that are there go on."""
    outcomes = opened(fork, 10, [3 << 20, 3 << 20, 3 << 20, 4096])
    assert [outcome[:6] for outcome in outcomes] == ["open", "open", "ENOSPC", "open"]
