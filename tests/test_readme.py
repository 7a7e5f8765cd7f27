"""The README's examples are run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eventbus

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
WORKERS = [example for example in PYTHON if "worker.run(" in example]  # they run until they are stopped
EXAMPLES = [example for example in PYTHON if example not in WORKERS]
RESULT = re.compile(r"print\(.*\)\s+# (.+)$", re.MULTILINE)


@pytest.mark.release
@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(example: str, tmp_path: Path) -> None:
    """Each Python example ends without an error and prints what its comments say."""
    script = tmp_path / "example.py"
    script.write_text(example)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for expected in RESULT.findall(example):
        assert expected in done.stdout.splitlines()


@pytest.mark.release
def test_worker_example(tmp_path: Path) -> None:
    """The worker handles what is sent to it, and SIGTERM ends it without an error."""
    (example,) = WORKERS
    script, bus_name = tmp_path / "jobs.py", f"test-{os.getpid()}-readme"
    script.write_text(example.replace('"shop"', repr(bus_name)))
    command = [sys.executable, "-u", str(script)]
    with (
        eventbus.open(bus_name) as bus,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert bus.wait_for_subscribers(4, "orders", timeout=60)
        bus.send("orders", "order.created", "/orders/1", {"total": 9})
        assert process.stdout.readline() == "charging /orders/1 {'total': 9}\n"
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


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
