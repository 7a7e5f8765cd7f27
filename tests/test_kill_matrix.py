"""Processes killed at every moment between two stores that others can see, in every role that comes there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from eventbus.core import segment
from harness import Fork, points
from matrix import ordinary
from matrix.moments import MOMENTS
from matrix.page import page
from matrix.rows import ROWS
from matrix.run import Case, all_cases, run
from matrix.scene import Role

PAGE = Path(__file__).resolve().parent.parent / "docs" / "kill-matrix.md"
# What segment.py calls of these two modules that nobody else sees the effect of, or that is no call.
UNSEEN = {
    "os": {
        *("O_NOFOLLOW", "O_NONBLOCK", "fstat", "fstatvfs", "getegid", "geteuid", "getgroups", "getpid"),
        *("lstat", "open", "path", "stat", "stat_result", "strerror", "sysconf"),
    },
    "posix_ipc": {"Error", "ExistentialError", "PermissionsError", "O_CREX"},
}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[Case, str]:
    """What came of the cells that this run of pytest has chosen, all played at once."""
    chosen = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    return run(case for case in chosen if isinstance(case, Case))


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_whoever_dies_there_is_survived(case: Case, outcomes: dict[Case, str]) -> None:
    """No event is half visible, lost or doubled, and nobody is held up for longer than is stated."""
    if outcomes[case]:
        pytest.fail(outcomes[case], pytrace=False)


def test_every_moment_has_a_row() -> None:
    """A test point that nobody dies at would be a moment that nobody has thought about."""
    assert {*ROWS} == {*points()} | {*MOMENTS}
    assert all(row.cells for row in ROWS.values())


def test_every_visible_call_of_opening_and_closing_is_a_moment() -> None:
    """Whatever segment.py calls of the system is one of the moments, or seen by nobody else."""
    called = {module: set[str]() for module in UNSEEN}
    for node in ast.walk(ast.parse(Path(segment.__file__).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            called[node.value.id].add(node.attr)
    seen = {module: {one.call for one in MOMENTS.values() if one.owner.__name__ == module} for module in UNSEEN}
    assert called == {module: seen[module] | UNSEEN[module] for module in UNSEEN}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_a_role_comes_only_where_the_matrix_says(fork: Fork, name: str, role: Role) -> None:
    """What a role ordinarily does never comes to a moment whose cell says that it cannot."""
    passed = ordinary.play(fork, name, role)
    assert passed, "it came to no moment at all"
    assert {moment for moment in passed if role not in ROWS[moment].cells} == set()


def test_the_page_shows_the_moments_that_there_are() -> None:
    """docs/kill-matrix.md is as long as the matrix, and says of each moment what the matrix says."""
    rows = re.findall(r"^\| [`*](\w+)[`*] \|", PAGE.read_text(), re.MULTILINE)
    assert rows == list(ROWS)


def test_the_page_is_what_came_of_it(outcomes: dict[Case, str]) -> None:
    """docs/kill-matrix.md is word for word what this run would write, once all cells were played."""
    if set(outcomes) != set(all_cases()):
        pytest.skip("only some of the cells were chosen")
    assert PAGE.read_text() == page(outcomes)
