"""Patterns over dot-separated names: compile, match, include. Pure: imports nothing but errors.

A pattern is a small machine. Its state after some segments of a name is the set of places in the pattern that those
segments can have led to, held as the bits of one integer: bit i means "the first i segments of the pattern are used
up". One segment of the name moves the whole set at once, so there is nothing to try again and a match costs at most
(segments of the pattern x segments of the name) steps, whatever the pattern.

Several patterns side by side in one integer are their union, which is how a policy's rules are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Final, NamedTuple, cast

from eventbus.errors import InvalidError

LIMIT: Final = 255
"""Bytes of UTF-8 that a system, a kind or a pattern may have."""

JOINED_LIMIT: Final = 1023
"""Bytes of UTF-8 that the patterns of one subscription may have, with a ``|`` between each two."""

ALTERNATIVES: Final = 64
"""Literals that the alternations of one segment may stand for."""

STATES: Final = 4096
"""Pairs of states that a comparison of patterns may visit before it is refused as too intricate."""

_ONE: Final = "*"
_MANY: Final = "**"
_LAST: Final = ".*"
"""A final ``*`` that has something before it: one segment, or none, which is the parent."""

Wanted = str | Sequence[str]
"""A pattern, or several of which any may match."""

_Segment = frozenset[str] | str
"""The literals that a segment of a pattern stands for, or one of the three signs above."""


def check_name(name: object, what: str, limit: int = LIMIT) -> None:
    """Check a system or a kind that is to be sent.

    Args:
        name: what the caller passed.
        what: how messages call it, "system" or "kind".
        limit: bytes of UTF-8 that it may have.

    Raises:
        InvalidError: the name is not a ``str``, empty, too long, no valid Unicode, or has a pattern character or an
            empty segment.
    """
    text = _checked_text(name, what, limit)
    for character in text:
        if character in "*()|":
            raise InvalidError(
                f"{what} {text!r} must not contain {character!r}: patterns are for subscribing, send to one name",
                name=text,
            )
    if "" in text.split("."):
        raise _empty_segment(text, what)


class _Machine(NamedTuple):
    """The states of one pattern, or of several side by side; each mask has the bits of the places it speaks of."""

    start: int
    final: int
    one: int
    many: int
    skip: int
    literals: dict[str, int]

    def begin(self) -> int:
        return self._closed(self.start)

    def step(self, states: int, accepting: int) -> int:
        """Move on by one segment; ``accepting`` has the places whose literals include it."""
        return self._closed((states & (self.one | accepting)) << 1 | states & self.many)

    def _closed(self, states: int) -> int:
        # One shift is enough: _simplified leaves no two neighbours that may both stand for nothing.
        return states | (states & self.skip) << 1


class Pattern(NamedTuple):
    """A compiled pattern, made by :func:`compile`; equal to another when their texts are.

    Attributes:
        text: the pattern as written.
        segments, machine: what follows from it.
    """

    text: str
    segments: tuple[_Segment, ...]
    machine: _Machine

    @property
    def literal(self) -> bool:
        """Whether the pattern is a plain name, and hears that name only."""
        return not any(character in "*()" for character in self.text)

    def matches(self, name: str) -> bool:
        """Tell whether the pattern hears ``name``, a valid system or kind."""
        if self.literal:
            return name == self.text
        machine = self.machine
        states = machine.begin()
        for segment in name.split("."):
            states = machine.step(states, machine.literals.get(segment, 0))
        return bool(states & machine.final)

    def includes(self, other: Pattern) -> bool:
        """Tell whether this pattern hears every name that ``other`` hears.

        Raises:
            InvalidError: the two are too intricate to compare; see :func:`covers`.
        """
        return covers([self], other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def compile(text: object, what: str = "pattern") -> Pattern:
    """Compile a pattern.

    Args:
        text: the pattern, for example ``orders.*``.
        what: how messages call it.

    Raises:
        InvalidError: it could never match what its writer meant; the message says why.
    """
    checked = _checked_text(text, what, LIMIT)
    _check_brackets(checked, what)
    segments = _simplified([_segment(part, checked, what) for part in checked.split(".")])
    return Pattern(checked, segments, _machine([segments]))


class PatternSet(NamedTuple):
    """Patterns of which any may match, made by :func:`compile_any`; equal to another when their texts are.

    Attributes:
        text: the patterns joined by ``|``, each once, in an order that does not depend on how they were given.
        patterns: the same, compiled.
    """

    text: str
    patterns: tuple[Pattern, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns as written."""
        return tuple(pattern.text for pattern in self.patterns)

    def matches(self, name: str) -> bool:
        """Tell whether one of the patterns hears ``name``, a valid system or kind."""
        return any(pattern.matches(name) for pattern in self.patterns)


def compile_any(wanted: object, what: str = "pattern") -> PatternSet:
    """Compile a pattern, or a list of them.

    Args:
        wanted: a str, or a sequence of them that is not empty.
        what: how messages call it.

    Raises:
        InvalidError: as :func:`compile`; nothing is wanted; together they are too long.
    """
    several = isinstance(wanted, Sequence) and not isinstance(wanted, (str, bytes, bytearray, memoryview))
    texts: Iterable[object] = cast("Sequence[object]", wanted) if several else (wanted,)
    compiled = {compile(text, what) for text in texts}
    if not compiled:
        raise InvalidError(f"{what} must be a pattern or a list of at least one, not {wanted!r}")
    ordered = sorted(compiled, key=lambda pattern: pattern.text)
    joined = "|".join(pattern.text for pattern in ordered)
    if len(joined.encode()) > JOINED_LIMIT:
        size = len(joined.encode())
        raise InvalidError(
            f"{what} must have at most {JOINED_LIMIT} bytes of patterns, not {size}: use fewer, or wider ones",
            size=size,
            limit=JOINED_LIMIT,
        )
    return PatternSet(joined, tuple(ordered))


def compile_joined(text: str) -> PatternSet:
    """Compile the text of a :class:`PatternSet`: a ``|`` within brackets is a pattern's own.

    Raises:
        InvalidError: it is no such text.
    """
    return compile_any(_BETWEEN.split(text))


def covers(allowed: Iterable[Pattern], wanted: Pattern) -> bool:
    """Tell whether every name that ``wanted`` hears is heard by at least one of ``allowed``.

    The answer is exact, for names of any length. Comparing patterns can be made exponentially hard by alternations and
    ``**`` in the right places; such a comparison is refused after STATES pairs of states, never guessed.

    Raises:
        InvalidError: the patterns are too intricate to compare.
    """
    machine = _machine(pattern.segments for pattern in allowed)
    wanted_segments = wanted.segments
    pending = [(place, machine.begin()) for place in _reached(wanted_segments, 0)]
    visited: dict[int, list[int]] = {}
    for _ in range(STATES):
        if not pending:
            return True
        place, states = pending.pop()
        for target, after in _moves(wanted_segments, place, machine, states):
            if target == len(wanted_segments) and not after & machine.final:
                return False
            if _is_news(visited.setdefault(target, []), after):
                pending.append((target, after))
    raise InvalidError(
        f"pattern {wanted.text!r} is too intricate to compare with others: use fewer alternations and fewer '**'",
        pattern=wanted.text,
    )


def _moves(wanted: tuple[_Segment, ...], place: int, machine: _Machine, states: int) -> Iterator[tuple[int, int]]:
    """Each place in ``wanted`` that one more segment leads to, with the machine's states after that same segment.

    Where ``wanted`` takes any segment, only one that no literal names is tried: it leaves the machine the fewest
    states, so what is heard after it is heard after every other.
    """
    if place == len(wanted):
        return
    segment = wanted[place]
    accepting = {machine.literals.get(text, 0) for text in segment} if isinstance(segment, frozenset) else {0}
    for mask in sorted(accepting):  # Not by hash: where STATES is reached must not differ between two runs.
        after = machine.step(states, mask)
        for target in _reached(wanted, place if segment == _MANY else place + 1):
            yield target, after


def _reached(segments: tuple[_Segment, ...], place: int) -> range:
    """``place``, and the next one where the segment there may stand for nothing."""
    return range(place, place + (2 if segments[place : place + 1] in ((_MANY,), (_LAST,)) else 1))


def _is_news(visited: list[int], states: int) -> bool:
    """Add ``states`` unless a subset of it is there: fewer states hear less, so the subset decides for both."""
    if any(seen & states == seen for seen in visited):
        return False
    visited[:] = [seen for seen in visited if seen & states != states]
    visited.append(states)
    return True


def _machine(languages: Iterable[tuple[_Segment, ...]]) -> _Machine:
    start = final = 0
    masks = {_ONE: 0, _MANY: 0, _LAST: 0}
    literals: dict[str, int] = {}
    bit = 1
    for segments in languages:
        start |= bit
        for segment in segments:
            for text in segment if isinstance(segment, frozenset) else ():
                literals[text] = literals.get(text, 0) | bit
            if isinstance(segment, str):
                masks[segment] |= bit
            bit <<= 1
        final |= bit
        bit <<= 1  # No mask but final has the bit just left behind, so states never move into the next pattern.
    return _Machine(start, final, masks[_ONE] | masks[_LAST], masks[_MANY], masks[_MANY] | masks[_LAST], literals)


def _simplified(segments: list[_Segment]) -> tuple[_Segment, ...]:
    """Mark a final ``*``, and drop what says nothing beside a ``**``: another one, or an optional last segment."""
    if len(segments) > 1 and segments[-1] == _ONE:
        segments = [*segments[:-1], _LAST]
    kept: list[_Segment] = []
    for segment in segments:
        if kept[-1:] != [_MANY] or segment not in (_MANY, _LAST):
            kept.append(segment)
    return tuple(kept)


def _segment(part: str, text: str, what: str) -> _Segment:
    if not part:
        raise _empty_segment(text, what)
    if part in (_ONE, _MANY):
        return part
    if "*" in part:
        raise _bad(text, what, f"'*' stands for a whole segment, so {part!r} would match nothing: put '*' between dots")
    return _literals(part, text, what)


def _literals(part: str, text: str, what: str) -> frozenset[str]:
    """Spell out a segment's alternations: brackets are balanced and not nested, so every second piece is one."""
    choices = [piece.split("|") for piece in re.split(r"[()]", part)]
    if any("" in choice for choice in choices[1::2]):
        raise _bad(text, what, f"{part!r} has an empty alternative: write a name on each side of '|'")
    count = prod(len(choice) for choice in choices)
    if count > ALTERNATIVES:
        raise _bad(text, what, f"{part!r} stands for {count} names: use at most {ALTERNATIVES} in one segment")
    return frozenset("".join(pieces) for pieces in product(*choices))


_BETWEEN: Final = re.compile(r"\|(?![^()]*\))")
"""A ``|`` outside of brackets: the next bracket, if there is one, does not close."""

_MISPLACED: Final = {
    ("(", True): "brackets cannot be nested: write one list, as in '(a|b|c)'",
    (")", False): "')' closes a bracket that was never opened: add '(' or remove it",
    ("|", False): "'|' is only for brackets: write '(a|b)'",
    (".", True): "an alternation stays within one segment: write no '.' inside brackets",
}


def _check_brackets(text: str, what: str) -> None:
    inside = False
    for character in text:
        problem = _MISPLACED.get((character, inside))
        if problem is not None:
            raise _bad(text, what, problem)
        if character in "()":
            inside = character == "("
    if inside:
        raise _bad(text, what, "'(' is never closed: add ')'")


def _checked_text(text: object, what: str, limit: int) -> str:
    if not isinstance(text, str):
        raise InvalidError(f"{what} must be a str, not {type(text).__name__}")
    if not text:
        raise InvalidError(f"{what} must not be empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidError(f"{what} {text!r} must be valid Unicode: remove the lone surrogate") from error
    if size > limit:
        raise InvalidError(f"{what} must have at most {limit} bytes, not {size}", size=size, limit=limit)
    return text


def _empty_segment(text: str, what: str) -> InvalidError:
    return _bad(text, what, "a segment between dots must not be empty")


def _bad(text: str, what: str, problem: str) -> InvalidError:
    return InvalidError(f"{what} {text!r} is not valid: {problem}", pattern=text)
