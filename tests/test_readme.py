"""What the README and the guides name is there; examples are run by ``test_examples.py``."""

from __future__ import annotations

import re
from pathlib import Path

import eventbus

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_policy_example(tmp_path: Path) -> None:
    """The policy that docs/policy.md shows is a valid one and says what the text says."""
    guide = (ROOT / "docs" / "policy.md").read_text()
    example = re.search(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert example is not None
    path = tmp_path / "policy.toml"
    path.write_text(example[1])
    policy = eventbus.Policy.load(path)
    assert policy.allows("service:billing", "events.send", "orders.eu")
    assert not policy.allows("service:billing", "events.send", "stock")


def test_make_targets() -> None:
    """Every make target that the README or a guide names exists; they name each that there is for people."""
    makefile = (ROOT / "Makefile").read_text()
    guides = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    named = re.compile(r"`make ([\w-]+)[^`]*`|^make ([\w-]+)", re.MULTILINE)
    for text in (README, *guides.values()):
        for target in (first or second for first, second in named.findall(text)):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    told = {first or second for text in (README, guides["working-on-it.md"]) for first, second in named.findall(text)}
    assert set(phony[1].split()) - {"build"} - told == set()


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
