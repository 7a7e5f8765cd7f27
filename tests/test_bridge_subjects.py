"""Subjects of the bridge: one for each topic, and back; what NATS could not have is never made."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus.bridge import subjects
from eventbus.bridge.subjects import SUBJECT_LIMIT, TERM_LIMIT, Topic, fitted, parsed, subject
from eventbus.errors import InvalidError
from eventbus.patterns import LIMIT

generated = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

segments = st.text(st.characters(codec="utf-8", exclude_characters=".*()|"), min_size=1, max_size=12)
names = st.lists(segments | st.sampled_from(["a", "a%2Eb", "%", ">", " ", "a~b", "ä"]), min_size=1, max_size=4).map(
    ".".join
)
terms = st.from_regex(subjects._TERM, fullmatch=True) | st.sampled_from(["a", "a-b", "-", "_", "a--b"])
topics = st.builds(Topic, terms, terms, names, names)


@generated
@given(topics)
def test_back_from_a_subject(topic: Topic) -> None:
    """What a subject is parsed to is what it was made of, and it is made of what NATS may have in a subject only."""
    made = subject(*topic)
    assert parsed(made) == topic
    assert re.fullmatch(r"eb(\.[A-Za-z0-9_%-]+){4,}", made)


@generated
@given(topics, topics)
def test_no_two_topics_have_one_subject(one: Topic, other: Topic) -> None:
    """Nor have two origins one stream, be there hyphens wherever they may."""
    assert (subject(*one) == subject(*other)) == (one == other)
    streams = [subjects.stream_name(of.domain, of.origin) for of in (one, other)]
    assert (streams[0] == streams[1]) == (one[:2] == other[:2])


@generated
@given(st.text(max_size=40) | st.lists(st.sampled_from(["eb", "a", "%2E", "%2e", "%41", "%FF", ""])).map(".".join))
def test_a_subject_has_one_spelling(text: str) -> None:
    """Whatever is parsed would be spelled the same; all else is an error."""
    try:
        topic = parsed(text)
    except InvalidError:
        return
    assert subject(*topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eb",
        "eb.d.o.a",
        "EB.d.o.a.k",
        "eb.d.o.a.k ",
        "eb.d.o.a.*",
        "eb.d.o.a..k",
        "eb.d.o.%61.k",
        "eb.d.o.a.%2e",
        "eb.d.o.%.k",
        "eb.d.o.%FF.k",
        "eb.d.o.%2A.k",
        "eb.d.o.a%2Eb.k",
        "eb.d.o.a.k%2E",
        "eb.d d.o.a.k",
        f"eb.{'d' * (TERM_LIMIT + 1)}.o.a.k",
        f"eb.d.o.{'a' * (LIMIT + 1)}.k",
        f"eb.d.o.{'a.' * SUBJECT_LIMIT}k",
    ],
)
def test_what_is_no_subject(text: str) -> None:
    """A subject that a bridge would not have made is refused, with a sentence that shows it."""
    with pytest.raises(InvalidError) as caught:
        parsed(text)
    assert len(caught.value.message) < SUBJECT_LIMIT + 200


def test_the_longest() -> None:
    """Names as long as any, each byte of which is encoded, make a subject of 1,600 bytes, and come back."""
    system, kind = "ä" * (LIMIT // 2) + " ", ".".join("  " for _ in range(LIMIT // 3))
    assert len(system.encode()) == LIMIT
    longest = subject("d" * TERM_LIMIT, "o" * TERM_LIMIT, system, " " * LIMIT)
    assert len(longest) == SUBJECT_LIMIT
    assert parsed(longest).kind == " " * LIMIT
    assert parsed(subject("d", "o", system, kind)) == ("d", "o", system, kind)


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "ä", "a" * (TERM_LIMIT + 1), "a\n", 7, None])
def test_names_that_nats_cannot_have(bad: object) -> None:
    """A domain or an origin that would break a subject or a stream's name is refused by a sentence that says how."""
    with pytest.raises(InvalidError, match=r"^the origin must be 1 to 32 ASCII letters, digits, '_' and '-', not"):
        subjects.checked(bad, "the origin")


@generated
@given(st.text(min_size=1, max_size=80))
def test_a_default_fits(text: str) -> None:
    """Whatever a host and a bus are called, it becomes a name that an origin may have; a good one stays as it is."""
    made = fitted(text)
    assert subjects.checked(made, "origin") == made
    assert fitted(made) == made


def test_shortened_defaults_differ() -> None:
    """Two names that begin alike do not become one."""
    host = f"web-1.{'very-' * 10}long.example"
    assert fitted(f"{host}-shop") != fitted(f"{host}-stock")
    assert fitted("web-1-shop") == "web-1-shop"
    assert len(fitted(os.uname().nodename)) <= TERM_LIMIT


def test_the_names_of_the_contract() -> None:
    """What an operator meets at the server is named as the guide says."""
    assert subjects.stream_name("main", "h1") == "EB-main-h1"
    assert subjects.queue_name("main", "jobs") == "EBQ-main-jobs"
    assert subject("main", "h1", "orders.eu", "order.created") == "eb.main.h1.orders.eu.order%2Ecreated"
