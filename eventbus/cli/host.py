"""What ``doctor`` looks at of a host: shared memory, /proc, limits, memory, and who removes what users leave."""

from __future__ import annotations

import configparser
import os
import pwd
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eventbus.core.cgroup import check_memory
from eventbus.core.native import ring_bytes, roster_bytes
from eventbus.core.segment import SHARED_MEMORY
from eventbus.core.terms import CAPACITY, MAX_SUBSCRIBERS

PROC = Path("/proc")
ETC = Path("/etc")
RUN = Path("/run")
LINGER = Path("/var/lib/systemd/linger")
NEED = ring_bytes(CAPACITY) + roster_bytes(MAX_SUBSCRIBERS)
"""Bytes of a bus that is made without a word about its size."""

DESCRIPTORS = 64  # a bus and a few dozen subscriptions, beside what a program needs for itself
SYSTEM_UIDS = 1000  # below that logind removes nothing


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        check: what was looked at, for programs.
        problem, remedy: what is wrong and how to mend it: two halves of one sentence.
        bus: its name, if it is about one.
    """

    check: str
    problem: str
    remedy: str
    bus: str | None = None


def look_at_host() -> Iterator[Finding]:
    """All that is wrong with it."""
    yield from shared_memory()
    yield from proc()
    yield from limits()
    yield from memory()
    yield from remove_ipc()


def shared_memory() -> Iterator[Finding]:
    """A tmpfs at /dev/shm that this process may write to, with room for a bus of the usual size."""
    check, where = "shm", SHARED_MEMORY
    mounting = f"mount one there: mount -t tmpfs -o mode=1777 tmpfs {where}"
    try:
        there, room = os.stat(SHARED_MEMORY), os.statvfs(SHARED_MEMORY)
    except OSError as error:
        yield Finding(check, f"there is no shared memory at {where} ({error.strerror})", mounting)
        return
    kind = _mounted_as(where)
    if kind is not None and kind != "tmpfs":
        yield Finding(check, f"{where} is no tmpfs but of type {kind}, which may write events to a disk", mounting)
    if room.f_flag & os.ST_RDONLY:
        yield Finding(check, f"{where} is mounted read-only", f"mount it anew: mount -o remount,rw {where}")
    elif not os.access(SHARED_MEMORY, os.W_OK | os.X_OK, effective_ids=True):
        mode = stat.filemode(there.st_mode)
        problem = f"uid {os.geteuid()} may not make files in {where}, which is of uid {there.st_uid} with mode {mode}"
        yield Finding(check, problem, f"chmod 1777 {where}")
    size, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
    larger = "make it larger: docker run --shm-size=1g, or mount -o remount,size=1g /dev/shm"
    if 0 < size < NEED:
        yield Finding(check, f"{where} has {size} bytes, and a bus of the usual size takes {NEED}", larger)
    elif size > 0 and free < NEED:
        problem = f"{where} has {free} bytes free, and a bus of the usual size takes {NEED}"
        yield Finding(check, problem, f"remove what is abandoned there, as by 'eventbus gc', or {larger}")
    if room.f_files > 0 and room.f_favail == 0:
        yield Finding(check, f"no file can be made in {where} any more", f"mount -o remount,nr_inodes=100k {where}")


def _mounted_as(where: str) -> str | None:
    """The type of the file system that is mounted there last; None if that cannot be told."""
    try:
        lines = (PROC / "self" / "mounts").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[2] for line in reversed(lines) if line.split()[1] == where), None)


def proc() -> Iterator[Finding]:
    """A /proc of this PID namespace."""
    if not (PROC / "self" / "fd").exists():
        yield Finding("proc", f"{PROC} is not mounted, without which no bus can be opened", "mount -t proc proc /proc")
    elif (PROC / "self").readlink() != Path(str(os.getpid())):
        problem = f"{PROC} is that of another PID namespace, so processes are called by wrong names"
        yield Finding("proc", problem, "mount one of this namespace: mount -t proc proc /proc")


def limits() -> Iterator[Finding]:
    """Descriptors, sizes of files and of address spaces that are enough for a bus of the usual size."""
    files, size, space = (
        resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS)
    )
    if 0 <= files < DESCRIPTORS:
        problem = f"a process may have {files} files open, and a bus takes one, and each subscription another"
        yield Finding("limits", problem, "raise the limit: ulimit -n 1024, or LimitNOFILE= of a unit")
    if 0 <= size < NEED:
        problem = f"a process may write files of {size} bytes, and a bus of the usual size takes {NEED}"
        yield Finding("limits", problem, "raise the limit: ulimit -f unlimited, or LimitFSIZE= of a unit")
    if 0 <= space < 4 * NEED:
        problem = f"a process may have {space} bytes of addresses, and a bus of the usual size takes {2 * NEED} of them"
        yield Finding("limits", problem, "raise the limit: ulimit -v unlimited, or LimitAS= of a unit")
    used, most = _open_files()
    if most and used > most * 9 // 10:
        problem = f"{used} of the {most} files are open that this host allows"
        yield Finding("limits", problem, f"raise the limit: sysctl fs.file-max={2 * most}")


def _open_files() -> tuple[int, int]:
    try:
        used, _, most = (PROC / "sys" / "fs" / "file-nr").read_text().split()
    except OSError:
        return 0, 0
    return int(used), int(most)


def memory() -> Iterator[Finding]:
    """What the control groups of this process still allow."""
    try:
        check_memory(NEED, "a bus of the usual size")
    except OSError as error:
        problem, _, remedy = str(error.strerror).rpartition("; ")
        yield Finding("memory", problem, remedy)


def remove_ipc() -> Iterator[Finding]:
    """Whether systemd-logind removes a user's shared memory with the last session, as it does unless told not to."""
    uid = os.geteuid()
    if uid < SYSTEM_UIDS or not (RUN / "systemd" / "system").is_dir() or not _removes():
        return
    try:
        login = pwd.getpwuid(uid).pw_name
    except KeyError:
        login = str(uid)
    if not (LINGER / login).exists():
        problem = f"when the last session of {login!r} ends, systemd-logind removes the buses of that user"
        remedy = f"loginctl enable-linger {login}, or RemoveIPC=no in /etc/systemd/logind.conf, or run as a system user"
        yield Finding("remove-ipc", problem, remedy)


def _removes() -> bool:
    said = "yes"
    folder = ETC / "systemd"
    for file in (folder / "logind.conf", *sorted((folder / "logind.conf.d").glob("*.conf"))):
        read = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            read.read_string(file.read_text())
        except (OSError, configparser.Error):
            continue  # systemd passes over what it cannot read, too
        said = read.get("Login", "RemoveIPC", fallback=said) or said
    return said.lower() in ("yes", "true", "1", "on")
