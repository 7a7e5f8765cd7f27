"""How much memory the control groups of this process allow. Shared memory counts; the kernel kills who goes beyond."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from os.path import dirname

_OWN = "/proc/self/cgroup"
_MOUNT = "/sys/fs/cgroup"
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # version 2, version 1
_NO_LIMIT = 1 << 62  # what version 1 says for "max" is more than that


def check_memory(size: int, what: str) -> None:
    """Raises OSError (ENOMEM) where so many bytes more are not allowed."""
    free, group = min(_free(), default=(size, ""))
    if size > free:
        raise OSError(
            errno.ENOMEM,
            f"no memory for {what}: it needs {size} bytes, and the control group {group} allows {max(0, free)} more, "
            "beyond which the kernel kills; open it with a smaller capacity, or raise the limit (docker run --memory)",
        )


def _free() -> Iterator[tuple[int, str]]:
    """What each group above this process still allows, and its name. A group without a limit is left out."""
    for root, path in _roots():
        for group in _and_above(path):
            for limit, used in _FILES:
                with suppress(OSError, ValueError):  # not of this version; no limit, which is the word "max"
                    folder = f"{root}/{group}"
                    most = int(_read(f"{folder}/{limit}"))
                    if most < _NO_LIMIT:
                        yield most - int(_read(f"{folder}/{used}")) + _reclaimable(folder), group


def _and_above(path: str) -> Iterator[str]:
    yield path
    while (above := dirname(path)) != path:
        path = above
        yield path


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _reclaimable(folder: str) -> int:
    """Bytes that count as used and are given up before anybody is killed: the page cache, without shared memory."""
    counts = dict(line.split() for line in _read(f"{folder}/memory.stat").splitlines())
    return sum(int(counts.get(f"total_{kind}", counts.get(kind, 0))) for kind in ("inactive_file", "active_file"))


def _roots() -> Iterator[tuple[str, str]]:
    """Where the hierarchies with memory are mounted, and this process's place there (man 7 cgroups)."""
    with suppress(OSError):
        for line in _read(_OWN).splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield _MOUNT, path
            elif "memory" in controllers.split(","):
                yield f"{_MOUNT}/memory", path
