"""Policy files and dicts of any content: an error, or a policy that says what it was written to say."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from eventbus import patterns
from eventbus.errors import InvalidError
from eventbus.policy import SEND, SUBSCRIBE, Policy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = ("default", "rule", "rules", "Default", "")
RULE_KEYS = ("effect", "actions", "resources", "actors", "action", "Effect")
STRINGS = (
    "allow",
    "deny",
    "events.send",
    "events.subscribe",
    "events.*",
    "*",
    "a",
    "a.*",
    "**",
    "ALLOW",
    "a..b",
    "",
    "w:?",
)
ACTORS = ("a", "w:1", "user:x")
SYSTEMS = ("a", "a.b", "b", "a.b.c")


def one_input(data: bytes) -> None:
    """The text of a policy file or, the first byte being even, bytes that choose what stands in a dict."""
    if data[:1] and data[0] % 2 == 0:
        table = dict_of(list(data[1:]))
        expect(table, lambda: Policy.from_dict(table))
    else:
        expect(parsed(data[1:]), lambda: loaded(data[1:]))


def loaded(text: bytes) -> Policy:
    """As from a file."""
    with os.fdopen(os.memfd_create("policy"), "w+b") as file:
        file.write(text)
        file.flush()
        return Policy.load(f"/proc/self/fd/{file.fileno()}")


def parsed(text: bytes) -> Any:
    """What the file says; None when it is no TOML."""
    with suppress(ValueError, RecursionError):
        return tomllib.loads(text.decode())
    return None


def dict_of(choices: list[int]) -> Any:
    """A table whose keys are mostly right and whose values mostly fit."""

    def choose(among: tuple[Any, ...]) -> Any:
        return among[(choices.pop() if choices else 0) % len(among)]

    def strings() -> Any:
        kind = choose((0, 1, 1, 1, 2, 2, 3, 4))
        return ("a", [choose(STRINGS)], [choose(STRINGS), choose(STRINGS)], [], [1, None])[kind]

    def rule() -> Any:
        built = {"effect": choose(STRINGS[:3]), "actions": strings(), "resources": strings()}
        for _ in range(choose((0, 0, 1, 2))):
            built[choose(RULE_KEYS)] = strings()
        for _ in range(choose((0, 0, 0, 1))):
            built.pop(choose(RULE_KEYS), None)
        return choose((built, built, built, built, "allow"))

    table: dict[Any, Any] = {"rule": [rule() for _ in range(choose((1, 2, 3, 0)))]}
    for _ in range(choose((0, 1, 1, 2))):
        table[choose(KEYS)] = choose((*STRINGS[:3], 1, None, []))
    return table


def expect(table: Any, load: Any) -> None:
    """A policy only of a table that says nothing unknown, and then one with the verdicts that the spec names."""
    try:
        policy = load()
    except InvalidError as error:
        assert str(error)
        assert not acceptable(table), table
        return
    assert acceptable(table), table
    for actor in ACTORS:
        for action in (SEND, SUBSCRIBE):
            for system in SYSTEMS:
                assert policy.allows(actor, action, system) == verdict(table, actor, action, system), table
                assert policy.explain(actor, action, system)
            with suppress(InvalidError):  # too intricate to compare
                assert isinstance(policy.allowed_patterns(actor, action), list)


def acceptable(table: Any) -> bool:
    """Whether all that it says is known."""
    if not isinstance(table, dict) or not table.keys() <= {"default", "rule"}:
        return False
    rules = table.get("rule", [])
    return (
        table.get("default", "allow") in ("allow", "deny")
        and isinstance(rules, list)
        and all(map(acceptable_rule, rules))
    )


def acceptable_rule(rule: Any) -> bool:
    """The same of one rule."""
    if not isinstance(rule, dict) or not {"effect", "actions", "resources"} <= rule.keys():
        return False
    lists = [rule["actions"], rule["resources"], rule.get("actors", ["*"])]
    return (
        rule.keys() <= {"effect", "actions", "resources", "actors"}
        and rule["effect"] in ("allow", "deny")
        and all(isinstance(one, list) and one and all(isinstance(item, str) and item for item in one) for one in lists)
        and set(rule["actions"]) <= {SEND, SUBSCRIBE, "events.*", "*"}
        and all(map(compiles, rule["resources"]))
    )


def compiles(text: str) -> bool:
    """Whether it is a pattern."""
    try:
        patterns.compile(text)
    except InvalidError:
        return False
    return True


def verdict(table: Any, actor: str, action: str, system: str) -> bool:
    """A "deny" beats every "allow"; where no rule speaks, the default holds."""
    effects = {
        rule["effect"]
        for rule in table.get("rule", [])
        if {action, "events.*", "*"} & set(rule["actions"])
        and any(fnmatchcase(actor, shape) for shape in rule.get("actors", ["*"]))
        and any(patterns.compile(text).matches(system) for text in rule["resources"])
    }
    return "deny" not in effects and ("allow" in effects or table.get("default", "allow") == "allow")
