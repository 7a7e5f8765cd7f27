"""Policies: who may do what, what a subscription needs, and which rule decides."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import patterns
from eventbus.errors import InvalidError, PolicyDeniedError
from eventbus.policy import SEND, SUBSCRIBE, Guard, Policy

generated = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def rule(effect: str, *resources: str, actions: tuple[str, ...] = ("*",), actors: tuple[str, ...] = ("*",)) -> object:
    return {"effect": effect, "actions": list(actions), "resources": list(resources), "actors": list(actors)}


def policy(default: str, *rules: object) -> Policy:
    return Policy.from_dict({"default": default, "rule": list(rules)})


def odd_lengths(actor: str, action: str, system: str) -> bool:
    """A policy that is a plain function, at module level so that it pickles."""
    return len(system) % 2 == 1


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_the_default_holds_where_no_rule_speaks(default: str) -> None:
    """A system, an action or an actor of which no rule speaks gets the default."""
    rules = [rule("allow", "a", actions=(SEND,), actors=("x",)), rule("deny", "b", actions=(SEND,), actors=("x",))]
    made = policy(default, *rules)
    assert made.allows("x", SEND, "a")
    assert not made.allows("x", SEND, "b")
    silent = [("x", SEND, "c"), ("x", SUBSCRIBE, "a"), ("x", SUBSCRIBE, "b"), ("y", SEND, "a"), ("y", SEND, "b")]
    assert {made.allows(*request) for request in silent} == {default == "allow"}


def test_an_absent_default_allows() -> None:
    """Without a default, what no rule denies is allowed."""
    made = Policy.from_dict({"rule": [rule("deny", "secret.**")]})
    assert made.default == "allow"
    assert made.allows("x", SEND, "open")
    assert not made.allows("x", SEND, "secret")


def test_a_deny_beats_every_allow_in_any_order() -> None:
    """The order of rules is irrelevant: one deny outweighs allows before and after it."""
    rules = [rule("allow", "a.**"), rule("deny", "a.b"), rule("allow", "a.b")]
    for default in ("allow", "deny"):
        for order in (rules, rules[::-1], rules[1:] + rules[:1]):
            assert not policy(default, *order).allows("x", SEND, "a.b")
            assert policy(default, *order).allows("x", SEND, "a.c")


@pytest.mark.parametrize(
    ("actions", "subscribe", "send"),
    [
        (("*",), True, True),
        (("events.*",), True, True),
        (("events.subscribe",), True, False),
        (("events.send",), False, True),
        (("events.send", "events.subscribe"), True, True),
    ],
)
def test_actions(actions: tuple[str, ...], subscribe: bool, send: bool) -> None:
    """A rule speaks of the actions that it names, "*" and "events.*" being both."""
    made = policy("deny", rule("allow", "a", actions=actions))
    assert (made.allows("x", SUBSCRIBE, "a"), made.allows("x", SEND, "a")) == (subscribe, send)


def test_an_unknown_action_is_an_error() -> None:
    """Asking about an action that does not exist is refused with the likely one, not answered by the default."""
    made = policy("allow")
    asks: list[Callable[[], object]] = [
        lambda: made.allows("x", "events.sned", "a"),
        lambda: made.explain("x", "events.sned", "a"),
        lambda: made.covers("x", "events.sned", patterns.compile("a")),
    ]
    for ask in asks:
        with pytest.raises(InvalidError, match=r"did you mean 'events.send'"):
            ask()


@pytest.mark.parametrize(
    ("shape", "actor", "speaks"),
    [
        ("worker:*", "worker:", True),
        ("worker:?", "worker:12", False),
        ("worker:[0-9]", "worker:5", True),
        ("worker:[!0-9]", "worker:5", False),
        ("*", "anybody", True),
        ("user:Bob", "user:bob", False),
    ],
)
def test_actors_are_shell_style(shape: str, actor: str, speaks: bool) -> None:
    """Actors match as file names do in a shell, with case."""
    assert policy("deny", rule("allow", "a", actors=(shape,))).allows(actor, SEND, "a") is speaks


@pytest.mark.parametrize(
    ("wanted", "default", "verdict"),
    [
        ("orders.eu.*", "deny", True),
        ("orders.**", "deny", True),
        ("(orders|users)", "deny", True),
        ("orders.secret.**", "deny", False),
        ("orders.secret.keys", "deny", False),
        ("orders.*", "deny", True),
        ("users.*", "deny", False),
        ("**", "deny", False),
        ("**", "allow", True),
        ("stock.**", "allow", True),
        ("orders.secret.*", "allow", False),
    ],
)
def test_a_subscription_needs_its_whole_pattern(wanted: str, default: str, verdict: bool) -> None:
    """A pattern is covered by the union of what is allowed; a deny only matters if it denies all of it."""
    made = policy(default, rule("allow", "orders.**"), rule("allow", "users"), rule("deny", "orders.secret.**"))
    assert made.covers("x", SUBSCRIBE, patterns.compile(wanted)) is verdict


def test_allowed_patterns_are_those_that_are_covered() -> None:
    """What is listed as allowed is for this actor and action, once each, without what is wholly denied."""
    rules = [
        rule("allow", "orders.**", "users", "orders.**"),
        rule("allow", "secret.keys", "stock"),
        rule("allow", "audit.**", actors=("root",)),
        rule("allow", "sent", actions=(SEND,)),
        rule("deny", "secret.**"),
    ]
    made = policy("deny", *rules)
    assert made.allowed_patterns("x", SUBSCRIBE) == ["orders.**", "users", "stock"]
    assert made.allowed_patterns("x", SEND) == ["orders.**", "users", "stock", "sent"]
    assert made.allowed_patterns("root", SUBSCRIBE) == ["orders.**", "users", "stock", "audit.**"]
    assert policy("allow", *rules).allowed_patterns("x", SUBSCRIBE) == ["**"]
    assert policy("allow", rule("deny", "**")).allowed_patterns("x", SUBSCRIBE) == []
    assert policy("deny").allowed_patterns("x", SUBSCRIBE) == []


RESOURCES = st.sampled_from(["a", "b", "a.*", "a.**", "*", "**", "(a|b)", "*.b", "a.b", "**.b"])
RULES = st.lists(st.builds(rule, st.sampled_from(["allow", "deny"]), RESOURCES), max_size=4)
SYSTEMS = ["a", "b", "z", "a.a", "a.b", "b.a", "b.b", "z.z", "z.b", "a.b.a", "a.z.b", "b.b.b", "z.z.z", "a.a.a.a"]


@generated
@given(st.sampled_from(["allow", "deny"]), RULES, RESOURCES)
def test_what_is_covered_is_heard_but_for_denials(default: str, rules: list[object], wanted: str) -> None:
    """Of a covered pattern, only systems that a deny rule speaks of are not allowed; explain agrees on each."""
    made = policy(default, *rules)
    covered = made.covers("x", SUBSCRIBE, patterns.compile(wanted))
    for system in filter(patterns.compile(wanted).matches, SYSTEMS):
        allowed, explained = made.allows("x", SUBSCRIBE, system), made.explain("x", SUBSCRIBE, system)
        assert (" allows 'x'" in explained, " denies 'x'" in explained) == (allowed, not allowed)
        assert allowed or not covered or "(deny " in explained


def test_explain_names_the_rule_that_decides() -> None:
    """The explanation has the rule's number, effect, matching resources and file, or says that the default decides."""
    rules = [rule("allow", "a.**", "users"), rule("deny", "b", "a.b", "a.*"), rule("deny", "a.b")]
    made = Policy.from_dict({"default": "deny", "rule": rules}, "rules.toml")
    assert made.explain("x", SEND, "a.b.c") == ("rule 1 of rules.toml (allow 'a.**') allows 'x' events.send on 'a.b.c'")
    assert made.explain("x", SUBSCRIBE, "a.b") == (
        "rule 2 of rules.toml (deny 'a.b', 'a.*') denies 'x' events.subscribe on 'a.b'"
    )
    assert made.explain("x", SEND, "z") == (
        "the default of rules.toml denies 'x' events.send on 'z', of which no rule speaks"
    )


def test_a_guard_refuses_to_send_with_the_reason() -> None:
    """A denied send names actor, action, system and the rule, in its message and its details."""
    guard = Guard(policy("allow", rule("deny", "secret.*")), "worker:1")
    assert guard.may_send("open")
    guard.check_send("open")
    assert not guard.may_send("secret")
    with pytest.raises(
        PolicyDeniedError, match=r"^rule 1 of the policy \(deny 'secret\.\*'\) denies 'worker:1'"
    ) as caught:
        guard.check_send("secret")
    asked = {key: caught.value.details[key] for key in ("actor", "action", "system")}
    assert asked == {"actor": "worker:1", "action": SEND, "system": "secret"}


def test_a_guard_refuses_to_subscribe_with_what_is_allowed() -> None:
    """A denied subscription says which patterns would be allowed, the most similar ones first."""
    allowed = ["stock", "orders.eu.**", *(f"x{number}" for number in range(8))]
    guard = Guard(policy("deny", rule("allow", *allowed)), "worker:1")
    guard.check_subscribe(patterns.compile("orders.eu.*"))
    with pytest.raises(
        PolicyDeniedError, match=r"subscribe to 'orders\.eu\.\*\*' or .*, or to one of 5 more$"
    ) as caught:
        guard.check_subscribe(patterns.compile("orders.**"))
    assert caught.value.details == {
        "actor": "worker:1",
        "action": SUBSCRIBE,
        "system": "orders.**",
        "allowed": allowed,
    }


def test_a_guard_says_when_nothing_is_allowed() -> None:
    """Where no pattern is allowed, the refusal says to add a rule."""
    with pytest.raises(PolicyDeniedError, match=r"no pattern is allowed, add an 'allow' rule for this actor$"):
        Guard(policy("deny"), "x").check_subscribe(patterns.compile("orders"))


def test_what_a_deny_takes_out_is_accepted_and_not_heard() -> None:
    """A subscription that is covered but for a deny is accepted, and the denied system is not heard."""
    guard = Guard(policy("deny", rule("allow", "orders.**"), rule("deny", "orders.secret")), "x")
    guard.check_subscribe(patterns.compile("orders.*"))
    assert [guard.may_hear(system) for system in ("orders.eu", "orders.secret")] == [True, False]


def test_a_callable_is_a_policy() -> None:
    """A function is asked for literal patterns at once, and for the others system by system."""
    guard = Guard(odd_lengths, "x")
    guard.check_subscribe(patterns.compile("abc"))
    guard.check_subscribe(patterns.compile("ab.*"))
    guard.check_send("abc")
    assert [guard.may_hear("abc"), guard.may_hear("ab")] == [True, False]
    with pytest.raises(PolicyDeniedError, match=r"^the policy denies 'x' events.subscribe on 'ab': change"):
        guard.check_subscribe(patterns.compile("ab"))
    with pytest.raises(PolicyDeniedError, match=r"^the policy denies 'x' events.send on 'ab': change"):
        guard.check_send("ab")


def test_a_callable_may_answer_with_anything() -> None:
    """What a callable returns counts by its truth."""

    def members(actor: str, action: str, system: str) -> bool:
        return [system] if system == "a" else None  # type: ignore[return-value]

    guard = Guard(members, "x")
    assert [guard.may_send("a"), guard.may_send("b")] == [True, False]
    assert [guard.may_hear("a"), guard.may_hear("b")] == [True, False]


def test_a_callable_that_fails_is_no_open_door() -> None:
    """An exception of a callable reaches the caller."""

    def broken(actor: str, action: str, system: str) -> bool:
        raise ZeroDivisionError(system)

    with pytest.raises(ZeroDivisionError):
        Guard(broken, "x").check_send("a")


def test_a_guard_pickles_when_its_policy_does() -> None:
    """A guard of a policy or of a module's function goes to another process; one of a lambda does not."""
    guards = [Guard(policy("deny", rule("allow", "a.*")), "x"), Guard(odd_lengths, "x")]
    for guard in guards:
        twin = pickle.loads(pickle.dumps(guard))
        assert twin == guard
        assert [twin.may_send("a"), twin.may_send("bb")] == [True, False]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Guard(lambda actor, action, system: True, "x"))
