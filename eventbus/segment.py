"""The two segments by name: create, attach, replace what was abandoned, leave. The only user of posix_ipc."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import posix_ipc

from eventbus import _ring
from eventbus.errors import InvalidError, SegmentError, UnavailableError
from eventbus.stats import BusStats, read_stats

CAPACITY = 16 * 1024 * 1024
MAX_SUBSCRIBERS = 64
MODES = (0o600, 0o640, 0o660)
NAME_LIMIT = 200
SHARED_MEMORY = Path("/dev/shm")  # where glibc's shm_open keeps segments; only list_names looks there

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_ROSTER = re.compile(r"eventbus\.([A-Za-z0-9][A-Za-z0-9._-]{0,199})\.roster\Z")


class Terms(NamedTuple):
    """What ``open`` was asked for; None where the caller leaves it to the bus that is there."""

    capacity: int | None
    max_subscribers: int | None
    mode: int
    writable: bool
    persist: bool


def check_name(name: object) -> str:
    """The name if a bus may have it: ASCII letters, digits, ``.``, ``_`` and ``-``, at most 200."""
    if not isinstance(name, str):
        raise InvalidError(f"the name of a bus must be a str, not {type(name).__name__}", name=name)
    if len(name) > NAME_LIMIT or not _NAME.match(name):
        raise InvalidError(
            f"{name[:NAME_LIMIT]!r} is no name for a bus: use 1 to {NAME_LIMIT} ASCII letters, digits, '.', '_' and "
            "'-', a letter or digit first",
            name=name,
        )
    return name


def check_terms(terms: Terms) -> None:
    """Raises InvalidError for sizes and modes that no bus can have."""
    for what, value in (("capacity", terms.capacity), ("max_subscribers", terms.max_subscribers)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidError(f"{what} must be a positive int, not {value!r}", **{what: value})
    if terms.capacity is not None and (terms.capacity >= 1 << 63 or _ring.ring_bytes(terms.capacity) < 0):
        raise InvalidError(f"capacity must be at most 1 TiB, not {terms.capacity} bytes", capacity=terms.capacity)
    if terms.max_subscribers is not None and terms.max_subscribers > _ring.SUBSCRIBERS_LIMIT:
        raise InvalidError(
            f"max_subscribers must be at most {_ring.SUBSCRIBERS_LIMIT}, not {terms.max_subscribers}",
            max_subscribers=terms.max_subscribers,
        )
    if terms.mode not in MODES:
        modes = ", ".join(f"0o{mode:o}" for mode in MODES)
        raise InvalidError(f"mode must be one of {modes}, not {terms.mode!r}", mode=terms.mode)


def list_names() -> list[str]:
    """The names of the buses on this host, those that this process may not open included."""
    found = (_ROSTER.match(entry.name) for entry in SHARED_MEMORY.iterdir())
    return sorted(match[1] for match in found if match)


@dataclass(frozen=True)
class Inspection:
    """What can be told of a bus without attaching to it.

    Attributes:
        uid, mode, size: of its files; the ring's mode, the bytes of both.
        state: "live", "closed" (shut down), "abandoned" (a crash left it, the next open replaces it), "persistent"
            (nobody is attached and it was told to stay), "in the making" (and its maker is stopped), "damaged",
            "other version", "not trusted" or "no permission".
        reason: a sentence that says why there are no stats; empty if there are.
    """

    name: str
    uid: int
    mode: int
    size: int
    state: str
    reason: str = ""
    attached: int | None = None
    stats: BusStats | None = None


def inspect_bus(name: str) -> Inspection | None:
    """Looks at a bus; neither attaches to it nor changes, repairs or removes anything. None if there is none.

    Raises:
        InvalidError: a bad name.
    """
    ring, roster = (SHARED_MEMORY / segment[1:] for segment in _names(check_name(name)))
    try:
        about = _inspect_files(name, ring, roster)
        with _closing(_open_segment(name, _names(name)[1])) as roster_fd:
            found = _inspect_roster(about, roster_fd)
            return found if _is_current(name, _names(name)[1], roster_fd) else None
    except (FileNotFoundError, posix_ipc.ExistentialError):
        return None
    except PermissionError as error:
        return replace(about, state="no permission", reason=str(error.strerror))
    except OSError as error:
        return replace(about, state="damaged", reason=f"the bus {name!r} cannot be opened: {error.strerror}")


def _inspect_files(name: str, ring: Path, roster: Path) -> Inspection:
    status = roster.lstat()
    mode, size = status.st_mode, status.st_size
    with contextlib.suppress(FileNotFoundError):
        mode, size = ring.lstat().st_mode, size + ring.lstat().st_size
    return Inspection(name, status.st_uid, stat.S_IMODE(mode), size, "live")


def _inspect_roster(about: Inspection, roster_fd: int) -> Inspection:
    try:
        return _inspect_trusted(about, roster_fd)
    except UnavailableError as error:
        return replace(about, state="in the making", reason=error.message)
    except SegmentError as error:
        version, trusted = error.details.get("version"), "uid" not in error.details
        state = "other version" if version else "damaged" if trusted else "not trusted"
        return replace(about, state=state, reason=error.message)


def _inspect_trusted(about: Inspection, roster_fd: int) -> Inspection:
    _check_trust(about.name, roster_fd)
    if not _ring.is_signed(roster_fd):
        _ring.enter_door(roster_fd, f"the bus {about.name!r}")  # whoever is making it has finished or died by then
    attached = _ring.attached(roster_fd)
    if attached == 0 and not (_ring.is_signed(roster_fd) and _ring.persists(roster_fd) and _has_ring(about.name)):
        reason = f"the bus {about.name!r} is abandoned: the next to open it replaces it, 'eventbus unlink' removes it"
        return replace(about, state="abandoned", attached=0, reason=reason)
    with _closing(_open_ring(about.name, read_only=True)) as ring_fd:
        handle = _ring.BusHandle(ring_fd, roster_fd, False, f"the bus {about.name!r}")
    stats = replace(read_stats(about.name, handle), attached=attached)  # which counts the asker in
    state = "persistent" if attached == 0 else "closed" if stats.closed else "live"
    return replace(about, state=state, attached=attached, stats=stats)


def _names(name: str) -> tuple[str, str]:
    return f"/eventbus.{name}.ring", f"/eventbus.{name}.roster"


def unlink(name: str) -> None:
    """Removes both segments, whoever is attached: the ring first, because a bus without a roster is none, and the next
    to open it may make the ring of another one under the name.

    Raises:
        FileNotFoundError: there is no such bus.
        PermissionError: it is somebody else's.
    """
    found = False
    for segment in _names(check_name(name)):
        with contextlib.suppress(posix_ipc.ExistentialError):
            _translate(name, posix_ipc.unlink_shared_memory, segment)
            found = True
    if not found:
        raise FileNotFoundError(errno.ENOENT, f"there is no bus named {name!r}", name)


def _translate(name: str, call, *arguments, **options):  # type: ignore[no-untyped-def]
    """posix_ipc's permission error as the OSError it is."""
    try:
        return call(*arguments, **options)
    except posix_ipc.PermissionsError as error:
        raise PermissionError(
            errno.EACCES, f"no permission for the bus {name!r}: its owner opens it to its group with mode=0o660", name
        ) from error


def _open_segment(name: str, segment: str, *, create: int | None = None, read_only: bool = False) -> int:
    flags = 0 if create is None else posix_ipc.O_CREX
    memory = _translate(
        name, posix_ipc.SharedMemory, segment, flags=flags, mode=create or 0, size=0, read_only=read_only
    )
    return int(memory.fd)


def _is_current(name: str, segment: str, fd: int) -> bool:
    """Whether the name still means the object that this descriptor has."""
    try:
        other = _open_segment(name, segment, read_only=True)
    except posix_ipc.ExistentialError:
        return False
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(other))
    finally:
        os.close(other)


def _check_trust(name: str, fd: int) -> None:
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


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def open_bus(name: str, terms: Terms) -> _ring.BusHandle:
    """Attaches to the bus, or makes it; what a crash left behind is replaced or, if it persists, repaired.

    Raises:
        InvalidError: the terms differ from those of the bus that is there.
        SegmentError: it is of another version, damaged, or not to be trusted.
        OSError: no permission, or no space left in shared memory.
    """
    check_name(name)
    check_terms(terms)
    roster = _names(name)[1]
    while True:
        found = _open_or_create(name, roster)
        if found is None:
            continue
        roster_fd, created = found
        with _closing(roster_fd):
            _check_trust(name, roster_fd)
            _ring.enter_door(roster_fd, f"the bus {name!r}")
            if not _is_current(name, roster, roster_fd):
                continue
            try:
                handle = _settle(name, terms, roster_fd, created)
            except BaseException:
                _ring.detach(roster_fd)  # a handle that the traceback keeps alive shares these locks
                raise
            if handle is not None:
                return handle


def _open_or_create(name: str, roster: str) -> tuple[int, bool] | None:
    """A descriptor, and whether this call made the segment; None when others came and went in between."""
    with contextlib.suppress(posix_ipc.ExistentialError):
        return _open_segment(name, roster), False
    with contextlib.suppress(posix_ipc.ExistentialError):
        return _open_segment(name, roster, create=0o600), True
    return None


def _settle(name: str, terms: Terms, roster_fd: int, created: bool) -> _ring.BusHandle | None:
    """Behind the door of the right roster: build, join, repair; None after removing what was abandoned."""
    signed = _ring.is_signed(roster_fd)
    alone = _ring.attached(roster_fd) == 0
    if created and not signed:
        handle = _build(name, terms, roster_fd)
    elif alone and not (signed and (terms.persist or _ring.persists(roster_fd)) and _has_ring(name)):
        with contextlib.suppress(FileNotFoundError):
            unlink(name)
        return None
    else:
        handle = _join(name, terms, roster_fd, alone)
    if terms.persist:
        handle.persist()
    _ring.leave_door(roster_fd)
    return handle


def _build(name: str, terms: Terms, roster_fd: int) -> _ring.BusHandle:
    capacity = terms.capacity or CAPACITY
    max_subscribers = terms.max_subscribers or MAX_SUBSCRIBERS
    ring, roster = _names(name)
    with contextlib.suppress(posix_ipc.ExistentialError):
        _translate(name, posix_ipc.unlink_shared_memory, ring)
    try:
        with _closing(_open_segment(name, ring, create=0o600)) as ring_fd:
            _reserve(name, ring_fd, _ring.ring_bytes(capacity))
            _reserve(name, roster_fd, _ring.roster_bytes(max_subscribers))
            _ring.attach(roster_fd)
            os.fchmod(ring_fd, terms.mode)
            os.fchmod(roster_fd, 0o660 if terms.mode & 0o040 else terms.mode)
            _ring.format_segments(ring_fd, roster_fd, capacity, max_subscribers)
            return _ring.BusHandle(ring_fd, roster_fd, terms.writable, f"the bus {name!r}")
    except BaseException:
        for segment in (ring, roster):
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_shared_memory(segment)
        raise


def _reserve(name: str, fd: int, size: int) -> None:
    """All pages now: a full /dev/shm is this error, and never a SIGBUS later."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if not _ring.no_space(error):
            raise
        free = os.fstatvfs(fd)
        raise OSError(
            error.errno,
            f"no space in shared memory for the bus {name!r}: it needs {size} bytes more and /dev/shm has "
            f"{free.f_bavail * free.f_frsize} free; open it with a smaller capacity, remove what 'eventbus ls' shows "
            "as abandoned, or enlarge /dev/shm (docker run --shm-size)",
        ) from error


def _join(name: str, terms: Terms, roster_fd: int, alone: bool) -> _ring.BusHandle:
    _ring.attach(roster_fd)
    if alone:
        with _closing(_open_ring(name)) as ring_fd:
            _ring.repair(ring_fd, roster_fd, f"the bus {name!r}")
    with _closing(_open_ring(name, read_only=not terms.writable)) as ring_fd:
        handle = _ring.BusHandle(ring_fd, roster_fd, terms.writable, f"the bus {name!r}")
    _check_sizes(name, terms, handle.stats())
    return handle


def _has_ring(name: str) -> bool:
    """Whether there is a ring; whoever died while it removed the bus leaves a roster without one."""
    try:
        fd = _open_segment(name, _names(name)[0], read_only=True)
    except posix_ipc.ExistentialError:
        return False
    os.close(fd)
    return True


def _open_ring(name: str, *, read_only: bool = False) -> int:
    try:
        fd = _open_segment(name, _names(name)[0], read_only=read_only)
    except posix_ipc.ExistentialError as error:
        raise SegmentError(f"the ring of the bus {name!r} is gone; remove the rest with eventbus.unlink()") from error
    try:
        _check_trust(name, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_sizes(name: str, terms: Terms, stats: _ring.Stats) -> None:
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


def leave_bus(name: str, handle: _ring.BusHandle) -> None:
    """Gives the attachment back; the last one out removes the segments, unless the bus persists."""
    fd = handle.roster_fd
    _ring.enter_door(fd, handle.what)
    try:
        if _ring.attached(fd) == 0 and not _ring.persists(fd) and _is_current(name, _names(name)[1], fd):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                unlink(name)
    finally:
        handle.detach()
