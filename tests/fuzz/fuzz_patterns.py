"""Patterns of any text: compiled or refused; what they hear and include is what a slow reference says, in few steps."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import product
from typing import Any
from unittest import mock

from eventbus import patterns
from eventbus.errors import InvalidError
from eventbus.patterns import Pattern, check_name, compile

PIECES = ("a", "b", "(a|b)", "a(b|c)", "*", "**", "ab", "é", "(b)", "orders", "z", "(a|b)(a|b)")
SHORT_NAMES = [".".join(parts) for length in (1, 2, 3, 4) for parts in product("abz", repeat=length)]


def one_input(data: bytes) -> None:
    """Two patterns and a name, as text or, the first byte being even, of pieces that make good ones."""
    if data[:1] and data[0] % 2 == 0:
        texts = [".".join(PIECES[byte % len(PIECES)] for byte in part) for part in data[1:].split(b"\xff")]
    else:
        texts = data[1:].decode(errors="surrogateescape").split("\n")
    first, second = (compiled(text) for text in [*texts, "", ""][:2])
    for name in texts[2:10]:
        if valid_name(name):
            for pattern in (first, second):
                expect_verdict(pattern, name)
    if first is not None and second is not None:
        expect_inclusion(first, second, data)


def compiled(text: str) -> Pattern | None:
    """The pattern, or None when it is refused."""
    try:
        pattern = compile(text)
    except InvalidError as error:
        assert str(error)
        return None
    assert pattern.text == text
    assert pattern == compile(text)
    assert includes(pattern, pattern) is not False
    if pattern.literal:
        assert pattern.matches(text)
    return pattern


def valid_name(name: str) -> bool:
    """Whether it could be sent to."""
    with suppress(InvalidError):
        check_name(name, "system")
        return True
    return False


def expect_verdict(pattern: Pattern | None, name: str) -> None:
    """Hears what the reference hears, within as many steps as the spec allows."""
    if pattern is None:
        return
    steps = 0
    step = patterns._Machine.step

    def counted(machine: Any, states: int, accepting: int) -> int:
        nonlocal steps
        steps += 1
        return step(machine, states, accepting)

    with mock.patch.object(patterns._Machine, "step", counted):
        verdict = pattern.matches(name)
    assert verdict == hears(pattern.text, name), (pattern, name)
    assert steps <= len(pattern.text.split(".")) * len(name.split("."))


def hears(pattern: str, name: str) -> bool:
    """The sentences of the spec: a final ".*" also hears the parent."""
    parts, segments = pattern.split("."), name.split(".")
    parent = len(parts) > 1 and parts[-1] == "*" and stands_for(parts[:-1], segments)
    return parent or stands_for(parts, segments)


def stands_for(parts: list[str], segments: list[str]) -> bool:
    """A table, row by row: which beginnings of the name the pattern so far stands for."""
    row = [True] + [False] * len(segments)
    for part in parts:
        if part == "**":
            row = [any(row[: end + 1]) for end in range(len(row))]
        else:
            row = [False] + [row[i] and fits(part, segment) for i, segment in enumerate(segments)]
    return row[-1]


def fits(part: str, segment: str) -> bool:
    """Whether one segment of a pattern stands for one of a name."""
    if part == "*":
        return True
    choices = "".join(piece if piece in "(|)" else re.escape(piece) for piece in re.split(r"([(|)])", part))
    return re.fullmatch(choices, segment) is not None


def includes(outer: Pattern, inner: Pattern) -> bool | None:
    """What is answered; None where comparing is refused as too intricate."""
    try:
        return outer.includes(inner)
    except InvalidError as error:
        assert "too intricate" in str(error)
        return None


def expect_inclusion(outer: Pattern, inner: Pattern, choices: bytes) -> None:
    """Included is whose every name is heard; not included is who has a name that is not."""
    answer = includes(outer, inner)
    if answer:
        for start in range(0, len(choices), 3):
            name = name_of(inner.text, choices[start:])
            assert not valid_name(name) or not inner.matches(name) or outer.matches(name), (outer, inner, name)
    pieces = {piece for text in (outer.text, inner.text) for piece in text.split(".")}
    small = len(outer.text.split(".")) <= 2 and len(inner.text.split(".")) <= 2
    if small and pieces <= {"a", "b", "(a|b)", "(b)", "*", "**"}:
        assert answer == all(outer.matches(name) for name in SHORT_NAMES if inner.matches(name)), (outer, inner)


def name_of(pattern: str, choices: bytes) -> str:
    """A name that the pattern may hear, by chance."""
    segments: list[str] = []
    for place, part in enumerate(pattern.split(".")):
        chance = choices[place % len(choices)]
        if part in ("*", "**"):
            segments += [("a", "b", "x", "orders")[chance % 4]] * (1 if part == "*" else chance // 4 % 4)
        else:
            words = re.split(r"[()]", part)
            segments.append("".join(word.split("|")[chance % (word.count("|") + 1)] for word in words))
    return ".".join(segments)
