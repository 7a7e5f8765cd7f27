"""Patterns: what they hear, what they include, and what is refused, against a reference that tries everything."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import patterns
from eventbus.errors import InvalidError
from eventbus.patterns import ALTERNATIVES, LIMIT, Pattern, check_name, covers

generated = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = [".".join(parts) for length in range(1, 7) for parts in product("abz", repeat=length)]
SMALL = [".".join(parts) for length in (1, 2, 3) for parts in product(("a", "b", "(a|b)", "*", "**"), repeat=length)]

WORDS = {
    "a": {"a"},
    "b": {"b"},
    "(a|b)": {"a", "b"},
    "(a)": {"a"},
    "(a|b|zz)": {"a", "b", "zz"},
    "a(b|a)": {"ab", "aa"},
    "(a|b)(a|b)": {"aa", "ab", "ba", "bb"},
    "a(b|c)z(b|a)": {"abzb", "abza", "aczb", "acza"},
}
PIECES = [*WORDS, "*", "**"]


def heard(pattern: str, name: str) -> bool:
    """The reference: the spec's sentences as recursion over every split, knowing alternations from WORDS."""
    parts = pattern.split(".")
    if len(parts) > 1 and parts[-1] == "*" and _heard(parts[:-1], name.split(".")):
        return True
    return _heard(parts, name.split("."))


def _heard(parts: list[str], segments: list[str]) -> bool:
    if not parts:
        return not segments
    if parts[0] == "**":
        return any(_heard(parts[1:], segments[used:]) for used in range(len(segments) + 1))
    if not segments:
        return False
    fits = parts[0] == "*" or segments[0] in WORDS[parts[0]]
    return fits and _heard(parts[1:], segments[1:])


@cache
def heard_names(pattern: str) -> int:
    """The names of NAMES that the reference hears, as bits."""
    return sum(1 << bit for bit, name in enumerate(NAMES) if heard(pattern, name))


@pytest.mark.parametrize(
    ("pattern", "hears", "misses"),
    [
        ("orders", ["orders"], ["orders.eu", "order"]),
        ("orders.*", ["orders", "orders.eu"], ["orders.eu.west", "orders2"]),
        ("*", ["orders", "a"], ["a.b"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c"]),
        ("orders.**", ["orders", "orders.eu", "orders.eu.west"], ["orders2"]),
        ("**.failed", ["failed", "a.failed", "a.b.failed"], ["a.failed.b"]),
        ("order.(created|paid)", ["order.created", "order.paid"], ["order.shipped"]),
    ],
)
def test_the_table_of_the_spec(pattern: str, hears: list[str], misses: list[str]) -> None:
    """Each row of the spec's table of patterns holds."""
    compiled = patterns.compile(pattern)
    assert [name for name in hears + misses if compiled.matches(name)] == hears


@pytest.mark.parametrize(
    ("pattern", "hears", "misses"),
    [
        ("a.*.*", ["a.x", "a.x.y"], ["a", "a.x.y.z"]),
        ("*.*", ["x", "x.y"], ["x.y.z"]),
        ("a.**.*", ["a", "a.x", "a.x.y.z"], ["b"]),
        ("**", ["a", "a.b.c"], []),
        ("**.*.**", ["a", "a.b.c"], []),
        ("a.*.**", ["a.x", "a.x.y"], ["a"]),
        ("order_(created|paid)x", ["order_createdx", "order_paidx"], ["order_created", "order_(created|paid)x"]),
        ("*.a", ["b.a", "a.a"], ["a"]),
        ("größe.*", ["größe.ü"], ["grosse"]),
    ],
)
def test_the_edges_of_the_rules(pattern: str, hears: list[str], misses: list[str]) -> None:
    """Only a final '.*' is optional, '**' may stand for nothing, and alternations may be part of a segment."""
    compiled = patterns.compile(pattern)
    assert [name for name in hears + misses if compiled.matches(name)] == hears


@generated
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5), st.data())
def test_matching_agrees_with_the_reference(parts: list[str], data: st.DataObject) -> None:
    """A pattern hears exactly the names that trying every split says it hears."""
    words = st.sampled_from(["a", "b", "z", "zz", "aa", "ab", "abzb", "acza"])
    name = ".".join(data.draw(st.lists(words, min_size=1, max_size=5)))
    pattern = ".".join(parts)
    assert patterns.compile(pattern).matches(name) == heard(pattern, name)


@pytest.mark.parametrize("pattern", SMALL)
def test_every_small_pattern_against_every_small_name(pattern: str) -> None:
    """Patterns of up to three segments hear what the reference hears among all names of up to six."""
    compiled = patterns.compile(pattern)
    assert sum(1 << bit for bit, name in enumerate(NAMES) if compiled.matches(name)) == heard_names(pattern)


@pytest.mark.parametrize("pattern", SMALL)
def test_every_small_pattern_includes_what_it_hears_more_than(pattern: str) -> None:
    """Inclusion between patterns of up to three segments is inclusion between the sets of names that they hear."""
    compiled = patterns.compile(pattern)
    included = [other for other in SMALL if compiled.includes(patterns.compile(other))]
    assert included == [other for other in SMALL if not heard_names(other) & ~heard_names(pattern)]


@settings(generated, max_examples=1000)
@given(st.lists(st.sampled_from(SMALL), max_size=4), st.sampled_from(SMALL))
def test_a_union_covers_what_is_heard_by_any_of_it(allowed: list[str], wanted: str) -> None:
    """Several patterns cover another exactly when each of its names is heard by one of them."""
    union = 0
    for pattern in allowed:
        union |= heard_names(pattern)
    compiled = [patterns.compile(pattern) for pattern in allowed]
    assert covers(compiled, patterns.compile(wanted)) == (not heard_names(wanted) & ~union)


@generated
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12), st.lists(st.sampled_from(PIECES), max_size=12))
def test_inclusion_of_longer_patterns(first: list[str], second: list[str]) -> None:
    """A pattern includes itself, '**' includes it, and it includes itself with a '**' replaced by segments."""
    wide = patterns.compile(".".join([*first, "**", *second, "end"]))
    narrow = patterns.compile(".".join([*first, "a", "*", *second, "end"]))
    assert wide.includes(wide)
    assert patterns.compile("**").includes(wide)
    assert wide.includes(narrow)


@pytest.mark.parametrize(
    ("allowed", "wanted", "verdict"),
    [
        (["orders.**"], "orders.eu.*", True),
        (["orders.*"], "orders.**", False),
        (["orders.*"], "orders.*.*", False),
        (["orders.eu", "orders.us"], "orders.(eu|us)", True),
        (["orders.eu"], "orders.(eu|us)", False),
        (["*", "*.*.**"], "**", True),
        (["*.**"], "**", True),
        (["**.*"], "*.**", True),
        (["a.**", "b.**", "*"], "(a|b).**", True),
        (["a.**", "b.**"], "*", False),
        (["**.a.**", "**.b.**"], "**.(a|b).**", True),
        (["**.a.*.*.*.**"], "**.a.*.*.*.*.**", True),
        ([], "a", False),
    ],
)
def test_covering_by_example(allowed: list[str], wanted: str, verdict: bool) -> None:
    """Covering is by names heard, not by how patterns are written."""
    assert covers([patterns.compile(pattern) for pattern in allowed], patterns.compile(wanted)) is verdict


def test_a_comparison_of_many_states_is_decided() -> None:
    """A comparison that must remember which of two alternatives came at each of five places is still answered."""
    allowed = [patterns.compile(f"**.{letter}" + ".*" * 5 + ".end") for letter in "ab"]
    wanted = ".".join(["(a|b)"] * 20)
    assert covers(allowed, patterns.compile(f"{wanted}.end"))
    assert not covers(allowed, patterns.compile(f"{wanted}.(end|stop)"))
    assert not covers(allowed[:1], patterns.compile(f"{wanted}.end"))


def test_a_comparison_too_intricate_is_refused_not_guessed() -> None:
    """Where a comparison needs too many states, the answer is an error that names the pattern."""
    allowed = [patterns.compile(f"**.{letter}" + ".*" * 20) for letter in "ab"]
    wanted = patterns.compile(".".join(["(a|b)"] * 42))
    with pytest.raises(InvalidError, match="too intricate to compare") as caught:
        covers(allowed, wanted)
    assert caught.value.details["pattern"] == wanted.text


@pytest.mark.parametrize(
    "pattern", ["**." * 60 + "x", "**.a." * 40 + "x", "*." * 120 + "x", "**.(a|b).*." * 20 + "x", "a." * 120 + "*"]
)
def test_matching_moves_once_per_segment(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A match takes one move per segment of the name, over one bit per segment of the pattern."""
    seen: list[int] = []
    step = patterns._Machine.step

    def counted(machine: patterns._Machine, states: int, accepting: int) -> int:
        seen.append(states)
        return step(machine, states, accepting)

    monkeypatch.setattr(patterns._Machine, "step", counted)
    assert not patterns.compile(pattern).matches(".".join(["a"] * 128))
    assert len(seen) == 128
    assert max(states.bit_length() for states in seen) <= pattern.count(".") + 2


BAD = {
    "": "pattern must not be empty",
    "ord*": r"'\*' stands for a whole segment, so 'ord\*' would match nothing",
    "a.*b.c": r"'\*b' would match nothing",
    "***": r"'\*' stands for a whole segment",
    "a.***.b": r"'\*' stands for a whole segment",
    "(a*|b)": r"'\*' stands for a whole segment",
    "(a|*)": r"'\*' stands for a whole segment",
    "a..b": "a segment between dots must not be empty",
    ".a": "a segment between dots must not be empty",
    "a.": "a segment between dots must not be empty",
    ".": "a segment between dots must not be empty",
    "(a.b|c)": "an alternation stays within one segment",
    "(a|b": r"'\(' is never closed",
    "a.(": r"'\(' is never closed",
    "a|b": r"'\|' is only for brackets",
    "a)": r"'\)' closes a bracket that was never opened",
    "(a|b))": r"'\)' closes a bracket that was never opened",
    "((a|b)|c)": "brackets cannot be nested",
    "(a|)": r"'\(a\|\)' has an empty alternative",
    "(|a)": "has an empty alternative",
    "x()": "has an empty alternative",
    "(a|b)" * 7: f"stands for 128 names: use at most {ALTERNATIVES} in one segment",
    "a" * 256: "pattern must have at most 255 bytes, not 256",
    "ü" * 128: "pattern must have at most 255 bytes, not 256",
    "a\ud800": "pattern .* must be valid Unicode: remove the lone surrogate",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=ascii)
def test_a_bad_pattern_says_what_to_change(text: str, message: str) -> None:
    """A pattern that could not match what its writer meant is an InvalidError with its own sentence."""
    with pytest.raises(InvalidError, match=message) as caught:
        patterns.compile(text)
    assert caught.value.message.startswith("pattern ")


@pytest.mark.parametrize("text", [None, 3, b"orders", ["orders"]])
def test_a_pattern_must_be_a_str(text: object) -> None:
    """Anything but a str is refused, under the name that the caller gave it."""
    with pytest.raises(InvalidError, match=f"^kind must be a str, not {type(text).__name__}$"):
        patterns.compile(text, "kind")


@generated
@given(st.text(st.sampled_from("ab.*()|"), max_size=12))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    """No text leads to anything but a pattern or an InvalidError, and each pattern hears some name."""
    try:
        pattern = patterns.compile(text)
    except InvalidError:
        return
    assert not covers([], pattern)
    assert pattern.literal == (not set(text) & set("*()|"))


def test_the_longest_pattern_and_the_most_alternatives_are_accepted() -> None:
    """A pattern of exactly 255 bytes and a segment of exactly 64 names compile."""
    assert patterns.compile("a" * LIMIT).matches("a" * LIMIT)
    assert patterns.compile("(a|b)" * 6).matches("ababab")


def test_a_pattern_is_a_value() -> None:
    """Patterns compare, hash, print, copy and pickle by their text, and cannot be changed."""
    pattern = patterns.compile("orders.*")
    assert {pattern, patterns.compile("orders.*")} == {pattern}
    assert pattern != patterns.compile("orders.**")
    assert len({pattern, "orders.*"}) == 2
    assert repr(pattern) == "Pattern('orders.*')"
    for twin in (copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))):
        assert isinstance(twin, Pattern)
        assert twin == pattern
        assert twin.matches("orders.eu")
    with pytest.raises(AttributeError):
        pattern.text = "users"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["orders", "order.created", "a" * LIMIT, "ü" * 127, "a b.c-d", "1.2"])
def test_a_good_name_passes(name: str) -> None:
    """Names of segments up to 255 bytes may be sent."""
    check_name(name, "system")


BAD_NAMES: list[tuple[object, str]] = [
    (None, "system must be a str, not NoneType"),
    (b"orders", "system must be a str, not bytes"),
    ("", "system must not be empty"),
    ("a" * 256, "system must have at most 255 bytes, not 256"),
    ("ü" * 128, "system must have at most 255 bytes, not 256"),
    ("\udc80", "system '.udc80' must be valid Unicode"),
    ("orders.*", r"system 'orders\.\*' must not contain '\*'"),
    ("(a", r"system '\(a' must not contain '\('"),
    ("a)", r"must not contain '\)'"),
    ("a|b", r"must not contain '\|'"),
    ("a..b", r"system 'a\.\.b' is not valid: a segment between dots must not be empty"),
    (".a", "a segment between dots must not be empty"),
    ("a.", "a segment between dots must not be empty"),
]


@pytest.mark.parametrize(("name", "message"), BAD_NAMES, ids=[ascii(name)[:20] for name, _ in BAD_NAMES])
def test_a_bad_name_says_what_to_change(name: object, message: str) -> None:
    """A name that cannot be sent is an InvalidError that starts with what it was for."""
    with pytest.raises(InvalidError, match=message) as caught:
        check_name(name, "system")
    assert caught.value.message.startswith("system ")


def test_the_limit_of_a_name_is_the_callers() -> None:
    """The bytes that a name may have are an argument."""
    check_name("a" * 10, "kind", limit=10)
    with pytest.raises(InvalidError, match=r"^kind must have at most 10 bytes, not 11$"):
        check_name("a" * 11, "kind", limit=10)


# --- several of which any may match ---


def test_a_set_hears_what_any_of_them_hears() -> None:
    """Of a list, one that matches is enough; a text of its own is a list of one."""
    for one in ("a", "a.*", "(a|b).**"):
        for other in ("b", "**.z"):
            both = patterns.compile_any([one, other])
            for name in NAMES:
                assert both.matches(name) == (
                    patterns.compile(one).matches(name) or patterns.compile(other).matches(name)
                )
                assert patterns.compile_any(one).matches(name) == patterns.compile(one).matches(name)


def test_a_set_is_written_in_one_way() -> None:
    """Order and repetition say nothing: the same patterns have the same text, and are equal."""
    texts = ["b.(x|y)", "a", "b.*"]
    sets = [patterns.compile_any(given) for given in (texts, texts[::-1], tuple(texts * 2))]
    assert {one.text for one in sets} == {"a|b.(x|y)|b.*"}
    assert len({*sets}) == 1
    assert sets[0].texts == ("a", "b.(x|y)", "b.*")
    assert patterns.compile_any("a") == patterns.compile_any(["a"])


@generated
@given(st.lists(st.sampled_from(SMALL), min_size=1, max_size=9))
def test_a_joined_text_says_which_they_were(texts: list[str]) -> None:
    """What stands in a roster can be read back: a bar within brackets belongs to its pattern."""
    joined = patterns.compile_any(texts)
    assert patterns.compile_joined(joined.text) == joined
    assert patterns.compile_joined(joined.text).texts == tuple(sorted({*texts}))


@pytest.mark.parametrize(
    "wanted", [[], (), 5, None, b"a", [b"a"], [5], ["a", ""], ["a|b"], [["a"]], {"a"}, ["a", "b..c"]]
)
def test_what_is_no_set(wanted: object) -> None:
    """Nothing at all, what is no text, and a bad pattern among good ones are refused."""
    with pytest.raises(InvalidError, match=r"^system "):
        patterns.compile_any(wanted, "system")


@pytest.mark.parametrize("text", ["", "|", "a|", "|a", "a||b", "(a|b", "a|b)|c", "a..b|c"])
def test_what_is_no_joined_text(text: str) -> None:
    """A text that no set has is refused."""
    with pytest.raises(InvalidError):
        patterns.compile_joined(text)


def test_a_set_has_a_limit() -> None:
    """Together, with what parts them, they may be as long as the roster has room for."""
    texts = [letter * LIMIT for letter in "abcd"]
    assert len(patterns.compile_any(texts).text) == patterns.JOINED_LIMIT
    with pytest.raises(InvalidError, match="at most 1023 bytes of patterns, not 1025"):
        patterns.compile_any([*texts, "e"])
    with pytest.raises(InvalidError, match="at most 255 bytes"):
        patterns.compile_any(["a", "a" * (LIMIT + 1)])
