"""The command line as a whole: help with examples, completion, the version; and ``policy`` and ``bench``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from commands import SECONDS, command
from eventbus.cli import app as cli
from eventbus.cli.commands import PLACES
from eventbus.core.inspection import list_names

Capture = pytest.CaptureFixture[str]

ALL = [[name] for name in PLACES] + [["policy", "check"], ["policy", "explain"], []]


def examples(text: str) -> list[str]:
    """The lines below "Example:"."""
    return [line.strip() for line in text.partition("Example:")[2].splitlines() if line.strip()]


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_help(names: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than 80 columns, and each command has an example, of itself."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run([*names, "--help"]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert max(map(len, out.splitlines())) <= 80
    assert [example.startswith(" ".join(["eventbus", *names, ""])) for example in examples(out)] == [True] * bool(names)


@pytest.mark.parametrize("name", PLACES)
def test_help_agrees_with_the_list(name: str) -> None:
    """What the list of all commands says of one is how its own help begins."""
    group: Any = typer.main.get_command(cli.app)
    assert group.get_command(None, name).help.splitlines()[0] == PLACES[name].summary


@pytest.mark.parametrize("names", ALL[:-1], ids=" ".join)
def test_examples_can_be_parsed(names: list[str], capsys: Capture) -> None:
    """Arguments and options of each example are those of its command."""
    assert cli.run([*names, "--help"]) == 0
    for example in examples(capsys.readouterr().out):
        group: Any = typer.main.get_command(cli.app)
        arguments = shlex.split(example)[1:]
        while hasattr(group, "commands"):
            group = group.get_command(None, arguments.pop(0))
        group.make_context("eventbus", arguments)


@pytest.mark.release
def test_version() -> None:
    """As it was installed."""
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"eventbus {importlib.metadata.version('eventbus')}\n")


@pytest.mark.release
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    """It is installed for the shell, and what a shell asks is answered."""
    home: dict[str, Any] = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    installed = command("--install-completion", shell, **home)
    assert (installed.returncode, installed.stderr) == (0, "")
    assert f"{shell} completion installed in {tmp_path}" in installed.stdout
    asking: dict[str, dict[str, Any]] = {
        "bash": {"COMP_WORDS": "eventbus re", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "eventbus re"},
        "fish": {"_TYPER_COMPLETE_ARGS": "eventbus re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    answered = command(_EVENTBUS_COMPLETE=f"complete_{shell}", **asking[shell])
    assert answered.returncode == 0
    assert all(name in answered.stdout for name in ("record", "replay", "requeue", "remove-group"))
    assert "unlink" not in answered.stdout


@pytest.mark.release
def test_a_command_imports_what_it_needs() -> None:
    """``ls`` waits for nothing that only another command is made of."""
    code = "import sys; from eventbus.cli import app; app.run(['ls', '--json']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    modules = set(done.stderr.split())
    rooms = {name.rpartition(".")[2] for name in modules if name.startswith("eventbus.cli.")}
    assert rooms == {"app", "commands", "streams", "options", "tables", "buses"}
    assert not {"zstandard", "rich"} & modules


# --- policy ---

RULES = """default = "deny"
[[rule]]
effect = "allow"
actions = ["*"]
resources = ["orders.**"]
actors = ["service:*"]
[[rule]]
effect = "deny"
actions = ["events.subscribe"]
resources = ["orders.secret"]
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "policy.toml"
    file.write_text(RULES)
    return str(file)


def test_policy_check(rules: str, capsys: Capture) -> None:
    """A policy that can be read is told in short; what is wrong with another one is one line."""
    assert cli.run(["policy", "check", rules]) == 0
    assert capsys.readouterr().out == f"{rules} has 2 rules; where none speaks the default is to deny\n"
    assert cli.run(["policy", "check", rules, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rules": 2, "default": "deny"}
    Path(rules).write_text(RULES.replace("allow", "alow"))
    assert cli.run(["policy", "check", rules]) == 1
    assert "rule 1: 'effect' must be allow or deny".replace("allow or deny", "") in capsys.readouterr().err
    assert cli.run(["policy", "check", rules + ".none"]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("actor", "action", "system", "allowed", "why"),
    [
        ("service:a", "events.send", "orders.eu", True, "rule 1 of"),
        ("service:a", "events.send", "orders.secret", True, "rule 1 of"),
        ("service:a", "events.subscribe", "orders.secret", False, "rule 2 of"),
        ("user:b", "events.send", "orders", False, "the default of"),
        ("service:a", "events.subscribe", "orders.*", True, "subscribe to all of 'orders.*'"),
        ("service:a", "events.subscribe", "**", False, "subscribe to 'orders.**'"),
    ],
)
def test_policy_explain(
    rules: str, actor: str, action: str, system: str, allowed: bool, why: str, capsys: Capture
) -> None:
    """The rule that decides, and an exit code for scripts."""
    assert cli.run(["policy", "explain", rules, actor, action, system]) == (not allowed)
    out = capsys.readouterr().out
    assert why in out
    assert out.count("\n") == 1
    assert cli.run(["policy", "explain", rules, actor, action, system, "--json"]) == (not allowed)
    assert json.loads(capsys.readouterr().out) == {"allowed": allowed, "why": out.rstrip("\n")}


@pytest.mark.parametrize(
    ("action", "system", "says"),
    [
        ("events.shout", "orders", "action must be events.subscribe or"),
        ("events.send", "orders.*", "'orders.*' is a pattern, and only events.subscribe is asked for patterns"),
        ("events.send", "ord*", "ord*"),
    ],
)
def test_policy_explain_of_nonsense(rules: str, action: str, system: str, says: str, capsys: Capture) -> None:
    """One line that names what is wrong."""
    assert cli.run(["policy", "explain", rules, "a", action, system]) == 1
    errors = capsys.readouterr().err
    assert says.replace("'", "") in errors.replace("'", "")
    assert errors.count("\n") == 1


# --- bench ---


@pytest.mark.release
def test_bench() -> None:
    """Three figures, of events that all arrived; nothing is left, and nothing beside the bus is installed for it."""
    before = [name for name in list_names() if name.startswith("bench-")]
    done = command("bench", "--seconds", "0.1", "--workers", "3", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert list(figures) == ["host", "fanout", "latency", "pool"]
    assert figures["host"]["cpus"] == len(os.sched_getaffinity(0))
    assert (figures["fanout"]["subscribers"], figures["pool"]["workers"]) == (2, 3)
    assert figures["fanout"]["deliveries"] == 2 * figures["fanout"]["rate"]
    assert min(figures["fanout"]["events"], figures["latency"]["count"], figures["pool"]["events"]) > 0
    assert 0 < figures["latency"]["p50"] <= figures["latency"]["p99"] <= figures["latency"]["longest"]
    assert [name for name in list_names() if name.startswith("bench-")] == before
