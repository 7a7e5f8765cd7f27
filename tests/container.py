"""Containers as far as a bus can tell: PID and mount namespaces that share /dev/shm, or have one of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

from harness import SHARED_MEMORY, Child, Fork, Line

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x20000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 0x4000, 0x40000

Job = Callable[..., Any]


def system(call: str, *arguments: object) -> None:
    """A function of libc that returns 0; its errno as PermissionError otherwise, because that is what it will be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise PermissionError(number, f"{call}: {os.strerror(number)}")


def leave_mounts() -> None:
    """From here on what this process mounts is seen by itself and its children only."""
    system("unshare", CLONE_NEWNS)
    mount(b"none", b"/", None, MS_REC | MS_PRIVATE)


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int = 0, options: bytes | None = None) -> None:
    """Mounts something."""
    system("mount", source, target, kind, ctypes.c_ulong(flags), options)


def mount_shared_memory(megabytes: int, flags: int = 0) -> None:
    """From here on this process has a /dev/shm of its own, of this size."""
    leave_mounts()
    mount(b"tmpfs", bytes(SHARED_MEMORY), b"tmpfs", flags, f"size={megabytes}m".encode())


class Container:
    """A PID namespace, whose /dev/shm is everybody's. Its first process, the init, does nothing; its pid is 1.

    Whatever is started in a fresh one gets the pids 2, 3, 4 there.
    """

    def __init__(self, fork: Fork) -> None:
        self._fork = fork
        self._children: list[Child] = []
        self._host = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            system("unshare", CLONE_NEWPID)
        except PermissionError:
            os.close(self._host)
            raise
        try:
            self._init = fork(idle)
            self._inside = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            system("setns", self._host, CLONE_NEWPID)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What is forked meanwhile, is forked inside."""
        system("setns", self._inside, CLONE_NEWPID)
        try:
            yield
        finally:
            system("setns", self._host, CLONE_NEWPID)

    def start(self, job: Job, *arguments: object) -> Child:
        """Forks a child that runs the job inside, with a /proc of its own."""
        with self.inside():
            self._children.append(self._fork(contained, job, *arguments))
        return self._children[-1]

    def release(self) -> None:
        """Ends all that runs inside; the init last, whose end waits until nobody is left there, not even a zombie."""
        for child in self._children:
            child.kill()
        self._init.kill()
        os.close(self._inside)
        os.close(self._host)


def idle(line: Line) -> None:
    """The first process of a PID namespace: the others die with it."""
    line.hear()


def contained(line: Line, job: Job, *arguments: object) -> Any:
    """The job where /proc shows this PID namespace's processes, and no others."""
    leave_mounts()
    mount(b"proc", b"/proc", b"proc")
    return job(line, *arguments)
