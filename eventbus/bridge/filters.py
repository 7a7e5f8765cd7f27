"""Filters: subjects that admit whatever a pattern of systems hears. Pure.

``orders`` is ``orders.*`` at NATS, whose last token is the kind; ``orders.*``, which hears its parent too, is
``orders.*`` and ``orders.*.*``; ``orders.**`` is ``orders.>``. An alternation admits any segment, and a ``**`` before
the end whatever follows: what comes in vain is filtered again where it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from eventbus import patterns
from eventbus.bridge import subjects

_Tokens = tuple[str, ...]

ONE, REST = "*", ">"


def filters(domain: str, origin: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """The subjects of an origin that are to be asked for, each once, no two of which have a subject in common.

    Servers refuse filters that overlap, so two that do become one that admits both.

    Args:
        wanted: patterns of systems, at least one.

    Raises:
        InvalidError: one is no pattern.
    """
    found = {tokens for text in wanted for tokens in _of(patterns.compile(text, "system").text)}
    head = subjects.prefix(domain, origin)
    return tuple(sorted(".".join((head, *tokens)) for tokens in _apart(found)))


def widest(several: Iterable[str]) -> str:
    """One subject that admits what any of them does, for servers that know one filter per consumer."""
    wide: _Tokens = reduce(_both, [_split(one) for one in several])
    return ".".join(wide)


def overlap(one: str, other: str) -> bool:
    """Whether two of these subjects may have one in common."""
    return _overlap(_split(one), _split(other))


def _split(subject: str) -> _Tokens:
    return tuple(subject.split("."))


def _of(pattern: str) -> list[_Tokens]:
    """One pattern, without domain and origin."""
    tokens: list[str] = []
    segments = pattern.split(".")
    for segment in segments:
        if segment == "**":
            return [(*tokens, REST)]
        tokens.append(ONE if segment == "*" or "(" in segment else subjects.token(segment))
    parent = [tuple(tokens)] if len(segments) > 1 and segments[-1] == "*" else []
    return [*parent, (*tokens, ONE)]


def _apart(found: set[_Tokens]) -> list[_Tokens]:
    """As few as they become when those that overlap are one."""
    apart: list[_Tokens] = []
    for tokens in sorted(found):
        grown = tokens
        while overlapping := [one for one in apart if _overlap(one, grown)]:
            apart = [one for one in apart if one not in overlapping]
            grown = reduce(_both, overlapping, grown)
        apart.append(grown)
    return apart


def _overlap(one: _Tokens, other: _Tokens) -> bool:
    for mine, others in zip(one, other, strict=False):
        if REST in (mine, others):
            return True
        if ONE not in (mine, others) and mine != others:
            return False
    return len(one) == len(other)


def _both(one: _Tokens, other: _Tokens) -> _Tokens:
    """The narrowest subject that admits both. ``>`` stands for a token at least: it takes the last of the shorter."""
    ends = len(one) != len(other) or REST in (one[-1], other[-1])
    common = min(len(one), len(other)) - ends
    tokens = (a if a == b else ONE for a, b in zip(one[:common], other[:common], strict=True))
    return (*tokens, REST) if ends else tuple(tokens)
