"""What the end of a run says of the tests that it skipped, and what the README says of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
NAMED = re.compile(r"apt-get install ((?:[a-z0-9][a-z0-9.+-]* ?)+)")
ALWAYS_THERE = {"util-linux"}  # no Debian is without it

PASSES = """
import pytest

def test_that_passes():
    pass
"""
NEEDS_PACKAGES = """
@pytest.mark.skip(reason="nails want a hammer: apt-get install hammer (Debian package `hammer`)")
@pytest.mark.parametrize("nail", range(3))
def test_nails(nail):
    pass

def test_boards():
    pytest.skip("there is no saw: apt-get install saw-13 libsaw++")
"""
NEEDS_RIGHTS = """
@pytest.mark.parametrize("door", range(2))
def test_doors(door):
    pytest.skip("the keeper forbids it: away\\nuntil noon")
"""
FAILS = """
def test_that_fails():
    raise ValueError("as it should")
"""


def end_of_run(tmp_path: Path, *contents: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a run of these tests under the settings of this suite."""
    made_up = tmp_path / "test_made_up.py"
    made_up.write_text("".join(contents))
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]
    own = {**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_ADDOPTS": "--color=no"}
    done = subprocess.run(
        [*map(str, command), "-p", "conftest", str(made_up)], env=own, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout.splitlines()


def about_skips(lines: list[str]) -> list[str]:
    """The lines that name a skip, but for the counts of what was collected and of everything."""
    return [line for line in lines[:-1] if re.search("(?i)^(?!collected ).*(skip|hammer|saw|keeper)", line)]


def test_packages_that_are_absent(tmp_path: Path) -> None:
    """One line says how many tests were skipped, why, and what installs all that they need."""
    code, lines = end_of_run(tmp_path, PASSES, NEEDS_PACKAGES)
    assert (code, about_skips(lines)) == (
        0,
        [
            "4 tests skipped: nails want a hammer (3); there is no saw (1). "
            "For 4 of them: apt-get install hammer saw-13 libsaw++"
        ],
    )
    assert "1 passed, 4 skipped" in lines[-1]


def test_rights_that_are_absent(tmp_path: Path) -> None:
    """A reason that no package helps against is in the same line, whole, and is not counted among those it helps."""
    _, lines = end_of_run(tmp_path, PASSES, NEEDS_RIGHTS, NEEDS_PACKAGES)
    assert about_skips(lines) == [
        "6 tests skipped: nails want a hammer (3); the keeper forbids it: away until noon (2); there is no saw (1). "
        "For 4 of them: apt-get install hammer saw-13 libsaw++"
    ]
    _, lines = end_of_run(tmp_path, PASSES, NEEDS_RIGHTS)
    assert about_skips(lines) == ["2 tests skipped: the keeper forbids it: away until noon (2)"]


def test_a_module_that_is_skipped(tmp_path: Path) -> None:
    """A file that is skipped as a whole counts as one."""
    _, lines = end_of_run(tmp_path, PASSES, 'pytest.skip("it is late", allow_module_level=True)')
    assert about_skips(lines) == ["1 test skipped: it is late (1)"]


def test_failures_are_listed(tmp_path: Path) -> None:
    """A failure among skips is shown with what was raised, and once more in the summary."""
    code, lines = end_of_run(tmp_path, PASSES, NEEDS_RIGHTS, FAILS)
    assert code == 1
    assert "E       ValueError: as it should" in lines
    assert any(re.match("FAILED .*::test_that_fails - ValueError: as it should", line) for line in lines)
    assert len(about_skips(lines)) == 1


def test_nothing_skipped(tmp_path: Path) -> None:
    """Where nothing was skipped, nothing is said of it."""
    code, lines = end_of_run(tmp_path, PASSES)
    assert (code, about_skips(lines)) == (0, [])
    assert "skip" not in lines[-1]


def packages_in(path: Path) -> list[set[str]]:
    """The packages of each installation that a file names."""
    return [set(found.split()) for found in NAMED.findall(path.read_text())]


@pytest.fixture
def optional() -> set[str]:
    """What the README says that the optional tests need: what it tells last to install."""
    return packages_in(ROOT / "README.md")[-1]


def test_the_readme_names_every_package(optional: set[str]) -> None:
    """Every package that a skipped test may ask for is in the README's one line, or on every Debian."""
    asked = set().union(*(set().union(*packages_in(path)) for path in TESTS.glob("*.py") if path != Path(__file__)))
    assert {"spin", "gcc-multilib"} <= asked
    assert asked - ALWAYS_THERE <= optional


def test_every_submission_runs_all(optional: set[str]) -> None:
    """Before a submission is tested, just those packages are installed."""
    packages = re.search(r"^packages=\((.+)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert packages is not None
    assert set(packages[1].split()) == optional
