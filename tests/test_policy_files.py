"""Where a bus finds its policy; a file that is unreadable or says something unknown is an error, never an open door."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from eventbus.errors import InvalidError
from eventbus.policy import SEND, SUBSCRIBE, Guard, Policy, make_guard

GOOD: dict[str, Any] = {"effect": "allow", "actions": ["*"], "resources": ["orders"]}

SPEC = """
default = "deny"
[[rule]]
effect = "allow"
actions = ["events.subscribe", "events.send"]
resources = ["orders.**", "users"]
actors = ["service:billing", "worker:*"]
"""


def everybody(actor: str, action: str, system: str) -> bool:
    """A policy that is a plain function and allows everything."""
    return True


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTBUS_POLICY", raising=False)
    monkeypatch.delenv("EVENTBUS_ACTOR", raising=False)


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize(
    ("actor", "system", "verdict"),
    [
        ("service:billing", "orders", True),
        ("service:billing", "orders.eu.west", True),
        ("worker:7", "users", True),
        ("worker:7", "users.eu", False),
        ("worker:7", "stock", False),
        ("service:shipping", "orders", False),
        ("Worker:7", "orders", False),
    ],
)
def test_the_policy_of_the_spec(spec_file: Path, actor: str, system: str, verdict: bool) -> None:
    """The spec's policy file allows its actors its systems, for both actions, and nothing else."""
    loaded = Policy.load(spec_file)
    assert [loaded.allows(actor, action, system) for action in (SUBSCRIBE, SEND)] == [verdict, verdict]
    assert loaded(actor, SEND, system) is verdict


def test_every_key_but_rule_parts_may_be_absent(tmp_path: Path) -> None:
    """A rule needs effect, actions and resources; actors, default and rules are optional."""
    path = tmp_path / "policy.toml"
    path.write_text('[[rule]]\neffect = "deny"\nactions = ["*"]\nresources = ["a"]\n')
    assert not Policy.load(path).allows("anybody", SEND, "a")
    path.write_text('default = "deny"\n')
    assert not Policy.load(path).allows("anybody", SEND, "a")


def test_comments_unicode_and_many_rules(tmp_path: Path) -> None:
    """Rules are numbered in the order of the file, and the file is UTF-8."""
    path = tmp_path / "policy.toml"
    tables = [f'[[rule]] # {n}\neffect = "deny"\nactions = ["*"]\nresources = ["größe{n}"]\n' for n in range(1, 4)]
    path.write_text("\n".join(tables), encoding="utf-8")
    assert Policy.load(path).explain("x", SEND, "größe3").startswith(f"rule 3 of {path} (deny 'größe3') denies")


@pytest.mark.parametrize("load", [Policy.load, make_guard])
def test_a_missing_file_stays_an_os_error(tmp_path: Path, load: Any) -> None:
    """A policy file that is not there is a FileNotFoundError with its name, as an argument of either kind."""
    path = tmp_path / "absent.toml"
    for given in (path, str(path)):
        with pytest.raises(FileNotFoundError) as caught:
            load(given)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(path))


def test_an_empty_path_is_not_no_policy() -> None:
    """An empty str given as the policy is a path that does not exist."""
    with pytest.raises(FileNotFoundError):
        make_guard("", "x")


def test_a_directory_stays_an_os_error(tmp_path: Path) -> None:
    """A directory in place of a file is an IsADirectoryError."""
    with pytest.raises(IsADirectoryError):
        Policy.load(tmp_path)


def test_a_missing_file_of_the_environment_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_POLICY naming a file that is not there raises instead of leaving the bus unguarded."""
    monkeypatch.setenv("EVENTBUS_POLICY", str(tmp_path / "absent.toml"))
    with pytest.raises(FileNotFoundError):
        make_guard(None, "x")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'default = "deny"\n[[rule]\n', r"at line 2, column \d+"),
        (b"default = deny\n", r"at line 1, column \d+"),
        (b'default = "deny"\ndefault = "allow"\n', r"at line 2, column \d+"),
        (b'default = "\xff"\n', "invalid start byte"),
    ],
)
def test_bad_toml_names_file_and_line(tmp_path: Path, content: bytes, place: str) -> None:
    """A file that is not TOML is an InvalidError with its path and the line."""
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidError, match=place) as caught:
        Policy.load(path)
    assert caught.value.message.startswith(f"{path}: must be valid TOML: ")


@pytest.mark.parametrize("content", [b"default = " + b"[" * 5000, b"default = " + b"1" * 5000], ids=["deep", "long"])
def test_toml_that_is_too_much_for_its_parser(tmp_path: Path, content: bytes) -> None:
    """A list nested too deep and a number too long to be read are an InvalidError like everything else that is bad."""
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidError) as caught:
        Policy.load(path)
    assert caught.value.message.startswith(f"{path}: must be ")


def changed(**changes: Any) -> dict[str, Any]:
    return {"rule": [GOOD, {**GOOD, **changes}]}


def without(key: str) -> dict[str, Any]:
    return {"rule": [GOOD, {name: value for name, value in GOOD.items() if name != key}]}


BAD: list[tuple[dict[Any, Any], str]] = [
    ({"rules": []}, "p: a key must be 'default' or 'rule', not 'rules' (did you mean 'rule'?)"),
    ({"defualt": "deny"}, "p: a key must be 'default' or 'rule', not 'defualt' (did you mean 'default'?)"),
    ({"zzz": 1}, "p: a key must be 'default' or 'rule', not 'zzz'"),
    ({3: "deny"}, "p: a key must be 'default' or 'rule', not 3"),
    ({"default": "denied"}, "p: 'default' must be 'allow' or 'deny', not 'denied' (did you mean 'deny'?)"),
    ({"default": True}, "p: 'default' must be 'allow' or 'deny', not True"),
    ({"default": None}, "p: 'default' must be 'allow' or 'deny', not None"),
    ({"rule": GOOD}, "p: 'rule' must be a list of tables: write [[rule]] above each"),
    ({"rule": "allow"}, "p: 'rule' must be a list of tables: write [[rule]] above each"),
    ({"rule": [GOOD, "allow"]}, "p, rule 2: must be a table, not 'allow': write [[rule]] above each"),
    (
        changed(actor=["x"]),
        (
            "p, rule 2: a key must be 'effect' or 'actions' or 'resources' or 'actors', "
            "not 'actor' (did you mean 'actors'?)"
        ),
    ),
    (without("effect"), "p, rule 2: 'effect' is missing: a rule needs 'effect', 'actions' and 'resources'"),
    (without("actions"), "p, rule 2: 'actions' is missing: a rule needs 'effect', 'actions' and 'resources'"),
    (without("resources"), "p, rule 2: 'resources' is missing: a rule needs 'effect', 'actions' and 'resources'"),
    (changed(effect="Allow"), "p, rule 2: 'effect' must be 'allow' or 'deny', not 'Allow' (did you mean 'allow'?)"),
    (changed(effect=["allow"]), "p, rule 2: 'effect' must be 'allow' or 'deny', not ['allow']"),
    (
        changed(actions=["events.sned"]),
        (
            "p, rule 2: 'actions' must be 'events.subscribe' or 'events.send' or 'events.*' or '*', "
            "not 'events.sned' (did you mean 'events.send'?)"
        ),
    ),
    (changed(actions=[]), "p, rule 2: 'actions' must be a list of at least one string, not []"),
    (changed(actions="*"), "p, rule 2: 'actions' must be a list of at least one string, not '*'"),
    (changed(actions=["*", 1]), "p, rule 2: 'actions' must have non-empty strings only, not 1"),
    (changed(resources=[]), "p, rule 2: 'resources' must be a list of at least one string, not []"),
    (changed(resources="orders"), "p, rule 2: 'resources' must be a list of at least one string, not 'orders'"),
    (changed(resources=[["a"]]), "p, rule 2: 'resources' must have non-empty strings only, not ['a']"),
    (changed(resources=[""]), "p, rule 2: 'resources' must have non-empty strings only, not ''"),
    (
        changed(resources=["a", "a..b"]),
        "p, rule 2: 'resources': pattern 'a..b' is not valid: a segment between dots must not be empty",
    ),
    (changed(actors=[]), "p, rule 2: 'actors' must be a list of at least one string, not []"),
    (changed(actors="worker:*"), "p, rule 2: 'actors' must be a list of at least one string, not 'worker:*'"),
    (changed(actors=[""]), "p, rule 2: 'actors' must have non-empty strings only, not ''"),
]


@pytest.mark.parametrize(("table", "message"), BAD, ids=[message[3:50] for _, message in BAD])
def test_a_typo_names_the_rule_the_key_and_what_is_accepted(table: dict[Any, Any], message: str) -> None:
    """Whatever a policy says that is unknown, of the wrong type or empty is an InvalidError with the whole story."""
    with pytest.raises(InvalidError) as caught:
        Policy.from_dict(table, "p")
    assert caught.value.message == message


def test_a_typo_in_a_file_names_the_file(tmp_path: Path) -> None:
    """The message of a loaded policy starts with its path."""
    path = tmp_path / "policy.toml"
    path.write_text('[[rule]]\neffect = "alow"\n')
    with pytest.raises(InvalidError) as caught:
        make_guard(path, "x")
    assert caught.value.message.startswith(f"{path}, rule 1: 'effect' must be ")


def test_no_policy_is_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a policy, and with an empty EVENTBUS_POLICY, there is nothing to ask."""
    assert make_guard(None, None) is None
    monkeypatch.setenv("EVENTBUS_POLICY", "")
    assert make_guard(None, "x") is None


def test_a_policy_comes_as_path_dict_or_policy(spec_file: Path) -> None:
    """A path, its str, a dict and a Policy make the same verdicts."""
    made = Policy.load(spec_file)
    table = {"default": "deny", "rule": [{**GOOD, "resources": ["orders.**"]}]}
    for given_policy in (spec_file, str(spec_file), made, table):
        guard = make_guard(given_policy, "worker:1")
        assert guard is not None
        assert [guard.may_send("orders.eu"), guard.may_send("stock")] == [True, False]


def test_the_environment_names_policy_and_actor(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTBUS_POLICY and EVENTBUS_ACTOR hold where the arguments are absent, and only there."""
    monkeypatch.setenv("EVENTBUS_POLICY", str(spec_file))
    monkeypatch.setenv("EVENTBUS_ACTOR", "worker:env")
    found, named, chosen = make_guard(None, None), make_guard(None, "me"), make_guard(everybody, None)
    assert found == Guard(Policy.load(spec_file), "worker:env")
    assert named == Guard(Policy.load(spec_file), "me")
    assert chosen == Guard(everybody, "worker:env")


@pytest.mark.parametrize("empty", [False, True])
def test_the_actor_is_the_login_by_default(empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an actor, or with an empty EVENTBUS_ACTOR, it is the login of the effective user."""

    def entry(uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd((f"login-of-{uid}", "x", uid, 0, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", entry)
    if empty:
        monkeypatch.setenv("EVENTBUS_ACTOR", "")
    assert make_guard(everybody, None) == Guard(everybody, f"user:login-of-{os.geteuid()}")


def test_the_actor_is_the_uid_where_there_is_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without an entry in the password database, as in many containers, goes by number."""

    def no_entry(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    assert make_guard(everybody, None) == Guard(everybody, f"user:{os.geteuid()}")


@pytest.mark.parametrize("actor", ["", 3, b"x"])
def test_a_bad_actor_is_refused(actor: object) -> None:
    """An actor is a non-empty str, with or without a policy."""
    for chosen in (None, everybody):
        with pytest.raises(InvalidError, match=r"^actor must be a non-empty str"):
            make_guard(chosen, actor)  # type: ignore[arg-type]


@pytest.mark.parametrize("nonsense", [3, ["policy.toml"], b"policy.toml", True])
def test_a_bad_policy_argument_is_refused(nonsense: object) -> None:
    """What is neither policy, callable, path nor dict is refused, never taken for no policy."""
    with pytest.raises(InvalidError, match=r"^policy must be a Policy, a callable, a path or a dict"):
        make_guard(nonsense, "x")  # type: ignore[arg-type]
