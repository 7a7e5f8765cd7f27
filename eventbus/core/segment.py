"""The two segments by name: create, attach, replace what was abandoned, leave. The only user of posix_ipc."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from io import BufferedReader

import posix_ipc

from eventbus.core import native
from eventbus.core.attachment import Attachment, Stats
from eventbus.core.beside import remove_kept
from eventbus.core.cgroup import check_memory
from eventbus.core.terms import CAPACITY, MAX_SUBSCRIBERS, Terms, check_name, check_terms
from eventbus.errors import ClosedError, EventBusError, InvalidError, SegmentError

SHARED_MEMORY = "/dev/shm"  # where glibc's shm_open keeps segments

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def names_of(name: str) -> tuple[str, str]:
    """The names of a bus's segments: of its ring, of its roster."""
    return f"/eventbus.{name}.ring", f"/eventbus.{name}.roster"


def open_roster_file(name: str) -> BufferedReader:
    """The roster's file, for those who look at its locks and nothing else."""
    return open(SHARED_MEMORY + names_of(name)[1], "rb", opener=_as_it_is)


def unlink(name: str) -> None:
    """Removes both segments and what is beside them, whoever is attached: the ring first, because a bus without a
    roster is none, and the next to open it may make the ring of another one under the name.

    Raises:
        FileNotFoundError: there is no such bus.
        PermissionError: it is somebody else's.
        OSError: what has the name of a segment cannot be removed.
    """
    ring, roster = names_of(check_name(name))
    found = remove_kept(name)
    with contextlib.suppress(OSError), open_roster_file(name) as file:
        native.remove_bells(file.fileno())
    for segment in (ring, roster):
        with contextlib.suppress(posix_ipc.ExistentialError):
            _unlink_segment(name, segment)
            found = True
    if not found:
        raise FileNotFoundError(errno.ENOENT, f"there is no bus named {name!r}", name)


def _as_it_is(path: str, flags: int) -> int:
    """Opens it without waiting for what is no file, and without following it elsewhere."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _unlink_segment(name: str, segment: str) -> None:
    try:
        posix_ipc.unlink_shared_memory(segment)
    except (OSError, posix_ipc.PermissionsError) as error:
        number = _errno(error)
        reason = f"the bus {name!r} cannot be removed: {os.strerror(number)}"
        raise OSError(number, reason, SHARED_MEMORY + segment) from error


def _errno(error: OSError | posix_ipc.PermissionsError) -> int:
    """The number of an error of posix_ipc, which leaves it out of some."""
    if isinstance(error, OSError):
        return error.errno or (errno.ENFILE if "system" in str(error) else errno.EMFILE)
    return errno.EACCES


def status_of(segment: str) -> os.stat_result | None:
    """What the file of a segment is; None if there is none."""
    try:
        return os.lstat(SHARED_MEMORY + segment)
    except FileNotFoundError:
        return None


def _open_segment(
    name: str, segment: str, take: Callable[[int], int], *, create: int | None = None, read_only: bool = False
) -> None:
    """A descriptor of the segment, and of nothing else: what is no file is refused, and never waited for.

    It is opened and taken in one step: a loop takes the result from C, and no signal handler can raise before the call
    that takes it has returned.

    Raises:
        posix_ipc.ExistentialError: it is not there; with ``create``, it is, or there is no shared memory.
        SegmentError: what has its name is no file.
        OSError: the system refuses.
    """
    there = status_of(segment)
    if there is not None and not stat.S_ISREG(there.st_mode):
        kind = _KINDS.get(stat.S_IFMT(there.st_mode), "no file")
        raise SegmentError(
            f"the bus {name!r} cannot be used: {SHARED_MEMORY}{segment} is {kind} and no segment of a bus; remove it",
            kind=kind,
        )
    flags = os.O_NONBLOCK | (0 if create is None else posix_ipc.O_CREX)
    status = 0
    try:
        for memory in map(posix_ipc.SharedMemory, (segment,), (flags,), (create or 0,), (0,), (read_only,)):
            status = take(memory.fd)
    except posix_ipc.PermissionsError as error:
        raise _no_permission(name, segment, create is not None) from error
    except OSError as error:
        number = _errno(error)
        reason = f"the bus {name!r} cannot be opened: {os.strerror(number)}"
        raise OSError(number, reason, SHARED_MEMORY + segment) from error
    native.checked(status, f"the bus {name!r}")


def _no_permission(name: str, segment: str, create: bool) -> PermissionError:
    if create:
        there = os.stat(SHARED_MEMORY)
        return PermissionError(
            errno.EACCES,
            f"no permission to make the bus {name!r}: uid {os.geteuid()} may not write to {SHARED_MEMORY}, which is of "
            f"uid {there.st_uid} with mode {stat.filemode(there.st_mode)}; mode 1777 is usual there (chmod 1777)",
            name,
        )
    found = status_of(segment)
    whose = f", which belongs to uid {found.st_uid} with mode {stat.filemode(found.st_mode)}" if found else ""
    return PermissionError(
        errno.EACCES,
        f"no permission for the bus {name!r}{whose}: its owner opens it to its group with mode=0o660",
        name,
    )


def check_trust(name: str, fd: int) -> None:
    """Ours, root's, or our group's by its owner's will; anything else could be made to fool or crash us."""
    status = os.fstat(fd)
    mine = status.st_uid in (os.geteuid(), 0)
    grouped = status.st_gid in {os.getegid(), *os.getgroups()} and status.st_mode & 0o060
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o007 or not (mine or grouped):
        raise SegmentError(
            f"the bus {name!r} belongs to uid {status.st_uid} with mode {stat.filemode(status.st_mode)}, "
            "which this process does not trust; open it as its owner, or have the owner make it with mode=0o660",
            uid=status.st_uid,
            mode=stat.S_IMODE(status.st_mode),
        )


def open_bus(name: str, terms: Terms) -> Attachment:
    """Attaches to the bus, or makes it; what a crash left behind is replaced or, if it persists, repaired.

    Raises:
        InvalidError: the terms differ from those of the bus that is there.
        SegmentError: it is of another version, damaged, or not to be trusted.
        OSError: no permission, no space left in shared memory, no shared memory at all.
    """
    check_name(name)
    check_terms(terms)
    while True:
        attachment, pid = Attachment(name), os.getpid()
        try:
            with attachment.opening():
                created = open_or_create(name, attachment)
                if created is None:
                    continue
                check_trust(name, attachment.roster_fd)
                if attachment.enter() and _settle(name, terms, attachment, created):
                    return attachment
        except (OSError, EventBusError, posix_ipc.Error):
            if os.getpid() == pid:
                raise
        # What a handler or a destructor has forked in the middle of it has lost it by then, and begins anew.


def open_roster(name: str, attachment: Attachment) -> bool:
    """Takes the roster as it is; whether there is one."""
    with contextlib.suppress(posix_ipc.ExistentialError):
        _open_segment(name, names_of(name)[1], attachment.take_roster(False))
        return True
    return False


def open_or_create(name: str, attachment: Attachment) -> bool | None:
    """Whether this call made the roster; None when others came and went in between."""
    if open_roster(name, attachment):
        return False
    with contextlib.suppress(posix_ipc.ExistentialError):
        _open_segment(name, names_of(name)[1], attachment.take_roster(True), create=0o600)
        return True
    if not os.path.isdir(SHARED_MEMORY):
        reason = f"there is no shared memory for the bus {name!r}: mount a tmpfs at {SHARED_MEMORY}"
        raise FileNotFoundError(errno.ENOENT, reason, SHARED_MEMORY)
    return None


def _settle(name: str, terms: Terms, attachment: Attachment, created: bool) -> bool:
    """Behind the door of the right roster: build, join, repair; False after removing what was abandoned."""
    signed = attachment.is_signed()
    alone = attachment.alone()
    if created and not signed:
        _build(name, terms, attachment)
    elif alone and not (signed and (terms.persist or attachment.persists()) and has_ring(name)):
        attachment.remove()
        return False
    else:
        _join(name, terms, attachment, alone)
    if terms.persist:
        attachment.persist()
    return True


def _build(name: str, terms: Terms, attachment: Attachment) -> None:
    capacity = terms.capacity or CAPACITY
    max_subscribers = terms.max_subscribers or MAX_SUBSCRIBERS
    ring = names_of(name)[0]
    with contextlib.suppress(posix_ipc.ExistentialError):
        _check_door(attachment)
        _unlink_segment(name, ring)
    _check_door(attachment)
    _open_segment(name, ring, attachment.take_ring(True), create=0o600)
    ring_fd, roster_fd = attachment.ring_fd, attachment.roster_fd
    ring_size, roster_size = native.ring_bytes(capacity), native.roster_bytes(max_subscribers)
    check_memory(ring_size + roster_size, f"the bus {name!r}")
    _reserve(name, ring_fd, ring_size)
    _reserve(name, roster_fd, roster_size)
    os.fchmod(ring_fd, terms.mode)
    os.fchmod(roster_fd, 0o660 if terms.mode & 0o040 else terms.mode)
    attachment.format(capacity, max_subscribers)
    attachment.attach(terms.writable)


def _check_door(attachment: Attachment) -> None:
    """Before the ring of a bus is touched by its name: a child that was forked since has no right to it."""
    if not attachment.behind:
        raise ClosedError(f"{attachment.what} was being opened by the process that this one was forked from")


def _reserve(name: str, fd: int, size: int) -> None:
    """All pages now: a full /dev/shm is this error, and never a SIGBUS later.

    The free space is looked at first, so that what cannot fit does not fill /dev/shm up, for others too, to find out.
    """
    seen = os.fstatvfs(fd)
    try:
        if seen.f_blocks and size > seen.f_bavail * seen.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno == errno.EFBIG:
            limit = "the limit on the size of files (ulimit -f) is below that; raise it"
        elif native.no_space(error):
            limit = (
                f"/dev/shm has {seen.f_bavail * seen.f_frsize} free; open it with a smaller capacity, remove what "
                "'eventbus ls' shows as abandoned, or enlarge /dev/shm (docker run --shm-size)"
            )
        else:
            raise
        reason = f"no space in shared memory for the bus {name!r}: it needs {size} bytes more and {limit}"
        raise OSError(error.errno, reason) from error


def _join(name: str, terms: Terms, attachment: Attachment, alone: bool) -> None:
    if alone:
        open_ring(name, attachment)
        attachment.repair()
    open_ring(name, attachment, read_only=not terms.writable)
    attachment.attach(terms.writable)
    _check_sizes(name, terms, attachment.stats())


def has_ring(name: str) -> bool:
    """Whether there is a ring; whoever died while it removed the bus leaves a roster without one."""
    return status_of(names_of(name)[0]) is not None


def open_ring(name: str, attachment: Attachment, *, read_only: bool = False) -> None:
    try:
        _open_segment(name, names_of(name)[0], attachment.take_ring(False), read_only=read_only)
    except posix_ipc.ExistentialError as error:
        raise SegmentError(f"the ring of the bus {name!r} is gone; remove the rest with eventbus.unlink()") from error
    check_trust(name, attachment.ring_fd)


def _check_sizes(name: str, terms: Terms, stats: Stats) -> None:
    page = os.sysconf("SC_PAGESIZE")
    wanted = None if terms.capacity is None else -(-terms.capacity // page) * page
    pairs = (("capacity", wanted, stats.capacity), ("max_subscribers", terms.max_subscribers, stats.max_subscribers))
    for what, asked, there in pairs:
        if asked is not None and asked != there:
            raise InvalidError(
                f"the bus {name!r} has {what}={there} and {what}={asked} was asked for: leave it out to use the bus as "
                "it is",
                existing=there,
                requested=asked,
            )
