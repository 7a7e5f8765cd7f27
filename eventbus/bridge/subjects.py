"""Subjects: how domains, origins, systems and kinds are named at NATS, and back. Pure: imports nothing but names.

A subject is ``eb.<domain>.<origin>.<segments of the system>.<kind>``. A token is the UTF-8 of a segment,
percent-encoded outside of ASCII letters, digits, ``_`` and ``-``; the kind is one token, its dots encoded too. So no
two topics have the same subject, and each has one spelling only.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote
from zlib import crc32

from eventbus import patterns
from eventbus.errors import InvalidError

PREFIX: Final = "eb"

SUBJECT_LIMIT: Final = 1600
"""Bytes that a subject may have: each byte of the longest names encoded, between the longest domain and origin."""

TERM_LIMIT: Final = 32
"""Characters of a domain, of an origin and of the name of a queue."""

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_TERM: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{TERM_LIMIT}}}\Z")
_TOKEN: Final = re.compile(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+\Z")


class Topic(NamedTuple):
    """What a subject says."""

    domain: str
    origin: str
    system: str
    kind: str


def checked(name: object, what: str) -> str:
    """The name if it may be a domain, an origin or a queue.

    Args:
        name: what the caller passed.
        what: how messages call it.

    Raises:
        InvalidError: it may not.
    """
    if not isinstance(name, str) or not _TERM.match(name):
        raise InvalidError(
            f"{what} must be 1 to {TERM_LIMIT} ASCII letters, digits, '_' and '-', not {name!r}: name another",
            name=name,
        )
    return name


def fitted(text: str) -> str:
    """A name that may be an origin, made of any text but an empty one; a shortened one ends with digits of its own."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", text)
    if len(name) <= TERM_LIMIT:
        return name
    return f"{name[: TERM_LIMIT - 9]}-{crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def stream_name(domain: str, origin: str) -> str:
    """The stream of what an origin exports. A ``-`` of the domain is encoded, so that no two share one."""
    return f"EB-{_encoded(domain).replace('-', '%2D')}-{origin}"


def queue_name(domain: str, name: str) -> str:
    """The stream of a queue, which is no origin's."""
    return f"EBQ-{_encoded(domain).replace('-', '%2D')}-{name}"


def prefix(domain: str, origin: str) -> str:
    """What all subjects of an origin begin with."""
    return f"{PREFIX}.{domain}.{origin}"


def inbox_prefix(domain: str, origin: str) -> str:
    """What the subjects begin with at which an origin hears answers; so it may be kept from those of others."""
    return f"_INBOX.{domain}.{origin}"


@lru_cache(maxsize=8192)
def subject(domain: str, origin: str, system: str, kind: str) -> str:
    """The subject of a topic.

    Raises:
        InvalidError: a name that no event can have.
    """
    patterns.check_name(system, "system")
    patterns.check_name(kind, "kind")
    tokens = [*map(_encoded, system.split(".")), _encoded(kind)]
    return ".".join((prefix(domain, origin), *tokens))


@lru_cache(maxsize=8192)
def parsed(text: str) -> Topic:
    """What a subject says.

    Raises:
        InvalidError: it is not one that ``subject`` makes.
    """
    head, *tokens = text.split(".")
    if head != PREFIX or len(tokens) < 4 or len(text) > SUBJECT_LIMIT:
        raise _foreign(text, "it does not begin with 'eb', a domain, an origin, a system and a kind")
    domain, origin, *segments, kind = tokens
    topic = Topic(domain, origin, ".".join(map(_decoded, segments)), _decoded(kind))
    checked(domain, "the domain of a subject")
    checked(origin, "the origin of a subject")
    if subject(*topic) != text:
        raise _foreign(text, "it is spelled in another way than a bridge does")
    return topic


def token(segment: str) -> str:
    """One segment of a system as NATS has it."""
    return _encoded(segment)


def _encoded(text: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def _decoded(text: str) -> str:
    if not _TOKEN.match(text):
        raise _foreign(text, "it has what a bridge would have encoded")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise _foreign(text, "it is no UTF-8") from error


def _foreign(text: str, why: str) -> InvalidError:
    return InvalidError(f"{text[:SUBJECT_LIMIT]!r} is no subject of a bridge: {why}", subject=text[:SUBJECT_LIMIT])
