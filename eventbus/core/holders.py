"""Which processes hold the locks of a bus, as far as /proc tells this one: for sentences that name them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from eventbus.core.native import lib

SLOT_BYTE: int = lib.EB_SLOT_BYTE
_PROC = "/proc"


def holders(fd: int, slot: int | None = None) -> list[int]:
    """The pids of processes that hold a lock through a descriptor of the same file: on the byte of a slot, or any.

    One that was forked without libc is among them: it shares the locks of the process that it was forked from. Other
    users' processes, and those of other PID namespaces, cannot be seen. A bus that another thread leaves meanwhile has
    no descriptor any more, and so nobody to be named.
    """
    byte = None if slot is None else SLOT_BYTE + slot
    return sorted(pid for pid, held in locks(fd).items() if byte is None or byte in held)


def locks(fd: int) -> dict[int, set[int]]:
    """Which bytes of the file each process has locked that has locked any."""
    try:
        file = os.fstat(fd)
    except OSError:
        return {}
    pids = (int(entry) for entry in os.listdir(_PROC) if entry.isdigit())
    return {pid: held for pid in pids if (held := {*_locked(pid, file)})}


def holds(pid: int, fd: int, slot: int) -> bool:
    """Whether this process is seen to hold the lock on the byte of a slot."""
    try:
        file = os.fstat(fd)
    except OSError:
        return False
    return SLOT_BYTE + slot in _locked(pid, file)


def _locked(pid: int, file: os.stat_result) -> Iterator[int]:
    """The bytes that a process has locked in the file. What ends or closes meanwhile has none."""
    with suppress(OSError):
        for descriptor in os.listdir(f"{_PROC}/{pid}/fd"):
            with suppress(OSError, ValueError):
                if os.path.samestat(os.stat(f"{_PROC}/{pid}/fd/{descriptor}"), file):
                    with open(f"{_PROC}/{pid}/fdinfo/{descriptor}") as information:
                        yield from _in_text(information.read())


def _in_text(text: str) -> Iterator[int]:
    """``lock: 1: OFDLCK ADVISORY WRITE -1 00:1b:48192 1024 1024``, as Documentation/filesystems/proc.rst has it."""
    for line in text.splitlines():
        if line.startswith("lock:") and "OFDLCK" in line:
            yield int(line.split()[-2])
