"""What ``open`` may be asked for: names, sizes and modes."""

from __future__ import annotations

import re
from typing import NamedTuple

from eventbus.core import native
from eventbus.errors import InvalidError

CAPACITY = 16 * 1024 * 1024
MAX_SUBSCRIBERS = 64
MODES = (0o600, 0o640, 0o660)
NAME_LIMIT = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class Terms(NamedTuple):
    """What ``open`` was asked for; None where the caller leaves it to the bus that is there."""

    capacity: int | None
    max_subscribers: int | None
    mode: int
    writable: bool
    persist: bool


def is_name(name: str) -> bool:
    """Whether a bus may have it: ASCII letters, digits, ``.``, ``_`` and ``-``, at most 200."""
    return len(name) <= NAME_LIMIT and _NAME.match(name) is not None


def check_name(name: object) -> str:
    """The name if a bus may have it."""
    if not isinstance(name, str):
        raise InvalidError(f"the name of a bus must be a str, not {type(name).__name__}", name=name)
    if not is_name(name):
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
    if terms.capacity is not None and (terms.capacity >= 1 << 63 or native.ring_bytes(terms.capacity) < 0):
        raise InvalidError(f"capacity must be at most 1 TiB, not {terms.capacity} bytes", capacity=terms.capacity)
    if terms.max_subscribers is not None and terms.max_subscribers > native.SUBSCRIBERS_LIMIT:
        raise InvalidError(
            f"max_subscribers must be at most {native.SUBSCRIBERS_LIMIT}, not {terms.max_subscribers}",
            max_subscribers=terms.max_subscribers,
        )
    if terms.mode not in MODES:
        modes = ", ".join(f"0o{mode:o}" for mode in MODES)
        raise InvalidError(f"mode must be one of {modes}, not {terms.mode!r}", mode=terms.mode)
