"""Events that follow from their publisher and number alone, so whoever receives one can make it again and compare."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from soak.roles import SESSIONS

DEAD_SYSTEM, DEAD_KIND = "eventbus.dead", "exhausted"
ANSWER_SYSTEM, FAILURE = "eventbus.reply", "error"  # requests of the soak are answered only where they are given up
HEADERS_ROOM = 800  # bytes that what is sent as headers fits into
HEADER_BYTES = 32  # of a record, in front of names, path and data
WHISPERED = SESSIONS - 2  # the publisher of this number of an actor sends to quiet systems, and no other does
PLANNED = SESSIONS - 3  # what the publisher of this number of an actor sends is sent later, and no other's
FOUNDED = "f0"  # the group that is removed and made again
DENIED = "secret"  # the system that a policy of the soak forbids

_PERIOD = 65521  # of the filler: odd, so bytes from elsewhere never fit
_FILLER = bytes(random.Random(7).choices(range(97, 123), k=_PERIOD)) * (4 * 1024 * 1024 // _PERIOD + 3)
_STRANGE = 'é☃𝄞"\\\n\u0000 '
_PATH = re.compile(r"/([0-9a-f]+)/(\d+)/(\d+)(?:/p*)?\Z")
_KINDS = ("k", "k.a", "k.b.c")
_QUIET = ("quiet.a", "quiet.b")
_FEW = ("a", "a.b", "a.b.c", "b", "b.a", DENIED)

# Each pattern of the soak with a regular expression written by hand: an opinion that is not the library's own.
PATTERNS = {
    "**": r".*",
    "a": r"a",
    "a.*": r"a(\.[^.]+)?",
    "a.**": r"a(\..*)?",
    "*": r"[^.]+",
    "(a|b).**": r"[ab](\..*)?",
    "**.a": r"(.*\.)?a",
    "k.*": r"k(\.[^.]+)?",
    "eventbus.dead": r"eventbus\.dead",
    "quiet.a": r"quiet\.a",
    "quiet.**": r"quiet(\..*)?",
}

LISTS = {"(a|b).**": ["a.**", "b.**"]}  # as lists of patterns


def answer_topic(request: int) -> tuple[str, str]:
    """Of the answer to the request whose identity begins with these twelve digits."""
    return f"{ANSWER_SYSTEM}.{f'{request:012x}'[:2]}", FAILURE


def matches(pattern: str | None, name: str) -> bool:
    """Whether the pattern hears the name, by the soak's own opinion."""
    return pattern is None or re.fullmatch(PATTERNS[pattern], name, re.DOTALL) is not None


def is_whispered(publisher: int) -> bool:
    """Whether what the publisher sends goes to quiet systems."""
    return publisher % SESSIONS == WHISPERED


def is_planned(publisher: int) -> bool:
    """Whether what the publisher sends is sent later, in another order than that of its numbers."""
    return publisher % SESSIONS == PLANNED


@dataclass(frozen=True)
class Traffic:
    """What all publishers of a round send alike.

    Attributes:
        nonce: marks the events of this round.
        capacity: of the ring.
        topics: "few", "many", or "past" the end of the topic table.
        sizes: "tiny", "mixed", "large", or "raw": many that can be looked at where they lie.
        policy: whether the bus is opened with a policy that forbids one system.
    """

    nonce: str
    capacity: int
    topics: str
    sizes: str
    policy: bool


class Message(NamedTuple):
    """What is sent as one event; ``over`` when it is larger than the bus may take."""

    system: str
    kind: str
    path: str
    data: Any
    headers: dict[str, str]
    bytes: int
    over: bool


def topic(traffic: Traffic, publisher: int, number: int) -> tuple[str, str]:
    """System and kind of an event."""
    return _topic(traffic, publisher, _dice(traffic, publisher, number))


def message(traffic: Traffic, publisher: int, number: int) -> Message:
    """The event, whoever asks."""
    dice = _dice(traffic, publisher, number)
    system, kind = _topic(traffic, publisher, dice)
    path = f"/{traffic.nonce}/{publisher}/{number}"
    if dice.random() < 0.02:
        path += "/" + "p" * dice.randrange(min(4000, traffic.capacity // 16))
    limit = traffic.capacity // 4 - HEADER_BYTES - len(path)
    if traffic.topics == "past":
        limit -= len(system) + len(kind)
    over = dice.random() < 0.003
    size = limit + dice.randrange(600, 700) if over else _size(traffic, dice, limit)
    data = _data(dice, size)
    headers = _headers(dice) if size < limit - HEADERS_ROOM else {}
    return Message(system, kind, path, data, headers, size + len(path) + 520 + HEADERS_ROOM * bool(headers), over)


def number_of(traffic: Traffic, path: str) -> tuple[int, int] | None:
    """Publisher and number that a path tells; None when it is not of this round."""
    found = _PATH.match(path)
    return (int(found[2]), int(found[3])) if found and found[1] == traffic.nonce else None


def wrong(traffic: Traffic, system: str, kind: str, path: str, data: Any, headers: Mapping[str, str]) -> str | None:
    """What is wrong with an event that arrived; None when it is exactly what its publisher sent."""
    origin = number_of(traffic, path)
    if origin is None:
        return f"a foreign event: {system!r} {kind!r} {path!r}"
    sent = message(traffic, *origin)
    if sent.over:
        return f"event {origin} is too large to have been sent"
    if (system, kind, path) != (sent.system, sent.kind, sent.path):
        return f"event {origin} came as {system!r} {kind!r} {path!r}, and was {sent[:3]}"
    if type(data) is not type(sent.data) or data != sent.data:
        return f"event {origin} came with other data: {str(data)[:200]!r}, and had {str(sent.data)[:200]!r}"
    if list(headers.items()) != list(sent.headers.items()):
        return f"event {origin} came with the headers {dict(headers)}, and had {sent.headers}"
    return None


def wrong_letter(traffic: Traffic, letter: dict[str, Any]) -> str | None:
    """What is wrong with the original in a dead letter; one without data was too large to be sent whole."""
    system, kind, path = letter["system"], letter["kind"], letter["path"]
    if system.startswith(ANSWER_SYSTEM):
        return None  # an answer, which the bus itself gave
    if "data" not in letter:
        data = message(traffic, *(number_of(traffic, path) or (0, 0))).data
    elif isinstance(letter["data"], dict) and "base64" in letter["data"]:
        data = base64.b64decode(letter["data"]["base64"])
    else:
        data = letter["data"]
    return wrong(traffic, system, kind, path, data, letter.get("headers", {}))


def _dice(traffic: Traffic, publisher: int, number: int) -> random.Random:
    return random.Random(int(traffic.nonce, 16) * 1_000_003 ^ publisher * 7_919 ^ number << 24)


def _topic(traffic: Traffic, publisher: int, dice: random.Random) -> tuple[str, str]:
    if is_whispered(publisher):
        return dice.choice(_QUIET), dice.choice(_KINDS)
    if traffic.topics == "few" or dice.random() < 0.3:
        return dice.choice(_FEW), dice.choice(_KINDS)
    if traffic.topics == "many":
        return f"a.n{dice.randrange(300)}", dice.choice(_KINDS)
    return f"b.{dice.randrange(900):0240d}", f"k.{dice.randrange(3):0240d}"


def _size(traffic: Traffic, dice: random.Random, limit: int) -> int:
    luck = dice.random()
    if traffic.sizes == "tiny" or luck < 0.5:
        return dice.randrange(64)
    if traffic.sizes == "raw":
        return dice.randrange(min(4096, limit), min(12288, limit) + 1)
    if traffic.sizes == "mixed":
        return dice.randrange(300) if luck < 0.95 else dice.randrange(min(8192, limit))
    return dice.randrange(min(2048, limit)) if luck < 0.9 else limit if luck < 0.92 else dice.randrange(limit)


def _data(dice: random.Random, size: int) -> Any:
    """Raw bytes, text, nothing, or JSON with structure; all of about this size."""
    start = dice.randrange(_PERIOD)
    raw = _FILLER[start : start + size]
    form = dice.randrange(8)
    if size < 24:
        return (None, b"", "", {}, [], raw, raw.decode(), size - 12)[form]
    if form < 3 or size > 100_000:
        return raw
    if form < 5:
        return raw[: size - 8].decode()
    if form == 5:
        return {"t": raw[: max(0, size - 32)].decode(), "n": size}
    if form == 6:
        return [size, True, raw[: max(0, size - 32)].decode(), None]
    return _STRANGE + raw[: max(0, size - 60)].decode()


def _headers(dice: random.Random) -> dict[str, str]:
    """None for most events; else some, in any order, of which one may be empty, strange or long."""
    if dice.random() < 0.7:
        return {}
    names = dice.sample(("trace", "a", "x-é☃", "Trace", " ", "to\nbe"), dice.randint(1, 4))
    return {name: dice.choice(("", "1", _STRANGE, "v" * dice.randrange(150))) for name in names}
