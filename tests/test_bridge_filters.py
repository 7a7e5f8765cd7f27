"""Filters of the bridge: whatever a pattern hears they admit, and little else."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import patterns
from eventbus.bridge.filters import filters, widest
from eventbus.bridge.subjects import subject
from eventbus.errors import InvalidError

generated = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = [".".join(parts) for length in range(1, 5) for parts in product(("a", "b", "ä z"), repeat=length)]
PIECES = st.sampled_from(["a", "b", "ä z", "*", "**", "(a|b)", "(b)"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=4).map(".".join)
KINDS = ("k", "order.created")


def admits(wanted: str, name: str) -> bool:
    """The reference: how NATS matches a subject, by the sentences of its documentation."""
    tokens, given_ = wanted.split("."), name.split(".")
    if tokens[-1] == ">":
        return len(given_) >= len(tokens) and all(map(fits, tokens[:-1], given_))
    return len(given_) == len(tokens) and all(map(fits, tokens, given_))


def fits(token: str, other: str) -> bool:
    """Of one token."""
    return token in ("*", other)


def of(name: str, kind: str = "k", origin: str = "h1") -> str:
    """The subject of a topic."""
    return subject("main", origin, name, kind)


@generated
@given(st.lists(PATTERNS, min_size=1, max_size=5))
def test_they_are_complete(wanted: list[str]) -> None:
    """Each topic that one of the patterns hears is admitted by exactly one filter, and by the widest; no other origin's
    is."""
    found, heard = filters("main", "h1", wanted), [patterns.compile(text) for text in wanted]
    for name in NAMES:
        admitting = [one for one in found for kind in KINDS if admits(one, of(name, kind))]
        assert len(admitting) in (0, len(KINDS))
        if any(pattern.matches(name) for pattern in heard):
            assert admitting
        if admitting:
            assert admits(widest(found), of(name))
        assert not admits(widest(found), of(name, origin="h2"))


@generated
@given(st.lists(PATTERNS, min_size=1, max_size=5))
def test_no_two_overlap(wanted: list[str]) -> None:
    """A server refuses a consumer with two filters that have a subject in common."""
    tokens = {"a", "b", "%C3%A4%20z", "other"}
    for one, other in combinations(filters("main", "h1", wanted), 2):
        longest = max(one.count("."), other.count(".")) - 1
        heads = ["eb.main.h1." + ".".join(rest) for n in range(1, longest + 1) for rest in product(tokens, repeat=n)]
        assert not [name for name in heads if admits(one, name) and admits(other, name)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("orders", ["orders.*"]),
        ("orders.*", ["orders.*", "orders.*.*"]),
        ("orders.**", ["orders.>"]),
        ("*", ["*.*"]),
        ("**", [">"]),
        ("**.failed", [">"]),
        ("a.*.c", ["a.*.c.*"]),
        ("a.**.c", ["a.>"]),
        ("orders.(eu|us)", ["orders.*.*"]),
        ("größe", ["gr%C3%B6%C3%9Fe.*"]),
        (["orders", "users"], ["orders.*", "users.*"]),
        (["orders.**", "orders.eu", "users"], ["orders.>", "users.*"]),
        (["a.*.*", "*.b"], ["*.*.*", "a.*.*.*"]),
        (["orders", "orders"], ["orders.*"]),
    ],
)
def test_as_narrow_as_promised(wanted: str | list[str], expected: list[str]) -> None:
    """Each pattern has the filters that the contract names, and what others admit is not asked for twice."""
    several = [wanted] if isinstance(wanted, str) else wanted
    assert list(filters("main", "h1", several)) == [f"eb.main.h1.{one}" for one in expected]


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        (["a.b"], "a.b"),
        (["a.*", "a.*.*"], "a.>"),
        (["a.b.*", "a.c.*"], "a.*.*"),
        (["a.>", "b.c"], "*.>"),
        (["a.b.c", "x"], ">"),
    ],
)
def test_the_widest(several: list[str], expected: str) -> None:
    """One subject for all, for servers that know one filter per consumer."""
    assert widest(several) == expected


def test_a_bad_pattern() -> None:
    """It is refused as anywhere else."""
    with pytest.raises(InvalidError, match="system 'ord\\*' is not valid"):
        filters("main", "h1", ["ord*"])
