"""Verdicts: who may send to and who may hear which system. Pure: reads its file and touches no bus.

A policy is rules in a file (:class:`Policy`) or any callable ``(actor, action, system) -> bool``. A bus asks through a
:class:`Guard`, which knows for whom. Verdicts are remembered by the callers, once per topic; nothing is cached here.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from eventbus import patterns, settings
from eventbus.errors import InvalidError, PolicyDeniedError
from eventbus.patterns import Pattern
from eventbus.settings import check_keys, one_of, strings

SUBSCRIBE: Final = "events.subscribe"
SEND: Final = "events.send"

_ACTIONS: Final = {
    SUBSCRIBE: frozenset({SUBSCRIBE}),
    SEND: frozenset({SEND}),
    "events.*": frozenset({SUBSCRIBE, SEND}),
    "*": frozenset({SUBSCRIBE, SEND}),
}
_VERBS: Final = {"allow": "allows", "deny": "denies"}
_NAMED_AT_MOST: Final = 5


class Rule(NamedTuple):
    """One ``[[rule]]`` of a policy; ``number`` counts from 1 in the order of the file."""

    number: int
    effect: str
    actions: frozenset[str]
    resources: tuple[Pattern, ...]
    actors: tuple[str, ...]

    def concerns(self, actor: str, action: str) -> bool:
        """Tell whether the rule speaks of this actor and this action, on whatever system."""
        return action in self.actions and any(fnmatchcase(actor, shape) for shape in self.actors)


class Policy(NamedTuple):
    """Rules and what holds where no rule speaks; made by :meth:`load` or :meth:`from_dict`.

    A "deny" beats every "allow"; the order of rules is irrelevant.

    Attributes:
        rules: in the order of the file.
        default: "allow" or "deny".
        source: how messages call the policy, its path or "the policy".
    """

    rules: tuple[Rule, ...]
    default: str
    source: str

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy from a TOML file.

        Raises:
            OSError: the file cannot be read.
            InvalidError: it is not TOML, or says something unknown.
        """
        return cls.from_dict(settings.load(path), os.fspath(path))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], source: str = "the policy") -> Policy:
        """Make a policy of what a policy file would parse to.

        Args:
            table: the keys ``default`` and ``rule``, the latter a list of tables.
            source: how messages call it.

        Raises:
            InvalidError: it says something unknown; the message names the rule, the key and what is accepted.
        """
        check_keys(table, ("default", "rule"), source)
        rules = settings.tables(table.get("rule", []), "rule", source)
        default = one_of(table.get("default", "allow"), _VERBS, f"{source}: 'default'")
        return cls(tuple(_rule(rule, number, source) for number, rule in enumerate(rules, 1)), default, source)

    def __call__(self, actor: str, action: str, system: str) -> bool:
        """Do as :meth:`allows`."""
        return self.allows(actor, action, system)

    def allows(self, actor: str, action: str, system: str) -> bool:
        """Tell whether ``actor`` may do ``action`` (SUBSCRIBE or SEND) on ``system``."""
        rule = self._deciding(actor, action, system)
        return (rule.effect if rule else self.default) == "allow"

    def covers(self, actor: str, action: str, pattern: Pattern) -> bool:
        """Tell whether ``actor`` may do ``action`` with the whole of ``pattern``.

        What a "deny" takes out of an allowed pattern does not matter here: it is asked for system by system. A pattern
        that is wholly denied is not covered.

        Raises:
            InvalidError: the patterns are too intricate to compare.
        """
        if patterns.covers(self._resources(actor, action, "deny"), pattern):
            return False
        return self.default == "allow" or patterns.covers(self._resources(actor, action, "allow"), pattern)

    def allowed_patterns(self, actor: str, action: str) -> list[str]:
        """List the patterns that :meth:`covers` answers for with yes, as the rules write them; "**" is everything."""
        everything = [patterns.compile("**")]
        allowed = everything if self.default == "allow" else self._resources(actor, action, "allow")
        return list(dict.fromkeys(p.text for p in allowed if self.covers(actor, action, p)))

    def explain(self, actor: str, action: str, system: str) -> str:
        """Say in one sentence which rule decides, or that the default does."""
        rule = self._deciding(actor, action, system)
        verdict = _VERBS[rule.effect if rule else self.default]
        request = f"{actor!r} {action} on {system!r}"
        if rule is None:
            return f"the default of {self.source} {verdict} {request}, of which no rule speaks"
        resources = ", ".join(repr(p.text) for p in rule.resources if p.matches(system))
        return f"rule {rule.number} of {self.source} ({rule.effect} {resources}) {verdict} {request}"

    def _deciding(self, actor: str, action: str, system: str) -> Rule | None:
        """The first "deny" that speaks, else the first "allow"."""
        speaking = [rule for rule in self._rules(actor, action) if any(p.matches(system) for p in rule.resources)]
        denying = [rule for rule in speaking if rule.effect == "deny"]
        return next(iter(denying or speaking), None)

    def _resources(self, actor: str, action: str, effect: str) -> list[Pattern]:
        return [p for rule in self._rules(actor, action) if rule.effect == effect for p in rule.resources]

    def _rules(self, actor: str, action: str) -> list[Rule]:
        one_of(action, (SUBSCRIBE, SEND), "action")
        return [rule for rule in self.rules if rule.concerns(actor, action)]


Decider = Callable[[str, str, str], bool] | Policy
PolicyLike = Decider | str | os.PathLike[str] | Mapping[str, Any]
"""What serves as a policy: ``(actor, action, system) -> bool``."""


class Guard(NamedTuple):
    """A policy with the one actor that a bus acts for. Pickles when its policy does."""

    policy: Decider
    actor: str

    def may_send(self, system: str) -> bool:
        """Tell whether the actor may send to ``system``."""
        return bool(self.policy(self.actor, SEND, system))

    def may_hear(self, system: str) -> bool:
        """Tell whether the actor may hear ``system``, to be asked when a system is first met."""
        return bool(self.policy(self.actor, SUBSCRIBE, system))

    def check_send(self, system: str) -> None:
        """Refuse what :meth:`may_send` refuses.

        Raises:
            PolicyDeniedError: with the rule that decides.
        """
        if not self.may_send(system):
            raise self._denied(SEND, system, self._reason(SEND, system), [])

    def check_subscribe(self, pattern: Pattern) -> None:
        """Refuse a subscription to systems unless the whole of ``pattern`` is allowed.

        A plain callable knows no patterns: it is asked at once about a literal one, and for the others about each
        system when it is met.

        Raises:
            PolicyDeniedError: with the patterns that would be allowed.
        """
        if isinstance(self.policy, Policy):
            if not self.policy.covers(self.actor, SUBSCRIBE, pattern):
                allowed = self.policy.allowed_patterns(self.actor, SUBSCRIBE)
                problem = f"{self.policy.source} does not let {self.actor!r} subscribe to all of {pattern.text!r}"
                raise self._denied(SUBSCRIBE, pattern.text, f"{problem}: {_advice(pattern.text, allowed)}", allowed)
        elif pattern.literal and not self.may_hear(pattern.text):
            raise self._denied(SUBSCRIBE, pattern.text, self._reason(SUBSCRIBE, pattern.text), [])

    def _reason(self, action: str, system: str) -> str:
        if isinstance(self.policy, Policy):
            reason = self.policy.explain(self.actor, action, system)
        else:
            reason = f"the policy denies {self.actor!r} {action} on {system!r}"
        return f"{reason}: change the policy or the actor"

    def _denied(self, action: str, system: str, message: str, allowed: list[str]) -> PolicyDeniedError:
        return PolicyDeniedError(message, actor=self.actor, action=action, system=system, allowed=allowed)


def make_guard(policy: PolicyLike | None, actor: str | None = None) -> Guard | None:
    """Make the guard of a bus, or None where there is no policy.

    Args:
        policy: a policy, a callable, a path, or a dict as of :meth:`Policy.from_dict`; None means the path in
            EVENTBUS_POLICY, if there is one.
        actor: None means EVENTBUS_ACTOR, else ``user:<login>``.

    Raises:
        OSError: the policy file cannot be read.
        InvalidError: the policy says something unknown, or an argument is of no use.
    """
    chosen = policy if policy is not None else os.environ.get("EVENTBUS_POLICY") or None
    if actor is not None and not (isinstance(actor, str) and actor):
        raise InvalidError(f"actor must be a non-empty str such as 'service:billing', not {actor!r}")
    if chosen is None:
        return None
    return Guard(_decider(chosen), actor or os.environ.get("EVENTBUS_ACTOR") or f"user:{_login()}")


def _decider(policy: PolicyLike) -> Decider:
    if isinstance(policy, (str, os.PathLike)):
        return Policy.load(policy)
    if isinstance(policy, Mapping):
        return Policy.from_dict(policy)
    if not callable(policy):
        raise InvalidError(f"policy must be a Policy, a callable, a path or a dict, not {type(policy).__name__}")
    return policy


def _login() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _advice(wanted: str, allowed: list[str]) -> str:
    if not allowed:
        return "no pattern is allowed, add an 'allow' rule for this actor"
    from difflib import get_close_matches  # for refusals only

    nearest = get_close_matches(wanted, allowed, n=_NAMED_AT_MOST, cutoff=0.0)
    more = len(allowed) - len(nearest)
    return f"subscribe to {' or '.join(map(repr, nearest))}" + (f", or to one of {more} more" if more else "")


def _rule(rule: Mapping[str, object], number: int, source: str) -> Rule:
    where = f"{source}, rule {number}"
    check_keys(rule, ("effect", "actions", "resources", "actors"), where)
    effect = one_of(_required(rule, "effect", where), _VERBS, f"{where}: 'effect'")
    actions = strings(_required(rule, "actions", where), f"{where}: 'actions'")
    resources = strings(_required(rule, "resources", where), f"{where}: 'resources'")
    actors = strings(rule.get("actors", ["*"]), f"{where}: 'actors'")
    named = [_ACTIONS[one_of(action, _ACTIONS, f"{where}: 'actions'")] for action in actions]
    compiled = tuple(patterns.compile(text, f"{where}: 'resources': pattern") for text in resources)
    return Rule(number, effect, frozenset().union(*named), compiled, actors)


def _required(rule: Mapping[str, object], key: str, where: str) -> object:
    if key not in rule:
        raise InvalidError(f"{where}: {key!r} is missing: a rule needs 'effect', 'actions' and 'resources'")
    return rule[key]
