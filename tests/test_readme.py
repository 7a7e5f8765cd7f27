"""What the README and docs/reliability.md name is there; examples are run by ``test_examples.py``."""

from __future__ import annotations

import re
from pathlib import Path

import eventbus

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_policy_example(tmp_path: Path) -> None:
    """The policy that the README shows is a valid one and says what the text says."""
    example = re.search(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert example is not None
    path = tmp_path / "policy.toml"
    path.write_text(example[1])
    policy = eventbus.Policy.load(path)
    assert policy.allows("service:billing", "events.send", "orders.eu")
    assert not policy.allows("service:billing", "events.send", "stock")


def test_make_targets() -> None:
    """Every make target that the README names exists."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`make (\w+)`|^make (\w+)", README, re.MULTILINE))
    assert targets
    for target in (first or second for first, second in targets):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_holds_the_promises_exists() -> None:
    """Every test, program and model that docs/reliability.md names is there."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    tests = ROOT / "tests"
    functions = {
        name for path in tests.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert named - functions == set()
    files = set(re.findall(r"`(\w+\.(?:c|py))`", text))
    assert {name for name in files if not list(tests.rglob(name))} == set()
    models = {
        name for row in re.findall(r"models? ((?:`\w+`(?:,| and)? ?)+)", text) for name in re.findall(r"`(\w+)`", row)
    }
    assert models == {path.stem for path in (tests / "models").glob("*.pml")}
