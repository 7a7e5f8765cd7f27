"""Who imports what, how long files are, and what a release does not contain."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "eventbus"
COMPILED = {"_eventbus", "_fast"}
RELEASES = [PACKAGE / f"{name}.abi3.so" for name in sorted(COMPILED)]
LONGEST = 400
PURE = {"errors", "patterns", "event", "policy"}
IMPORTERS = {
    "eventbus._eventbus": {"_ring"},
    "eventbus._fast": {"sending", "subscription"},
    "orjson": {"event"},
    "posix_ipc": {"segment"},
}
# From the bottom up; a module imports from lower rows only. Whatever is in no row is an application of the library.
LIBRARY = (
    {"errors", "lifetime"},
    {"patterns", "_ring"},
    {"event", "policy", "_reader", "stats", "terms"},
    {"segment", "request"},
    {"sending"},
    {"subscription"},
    {"group"},
    {"bus"},
    {"handling"},
    {"crew"},
    {"worker"},
    {"__init__"},
)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, those of its own package by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "eventbus":
            found |= {f"eventbus.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            found.add(node.module or "")
    return found


IMPORTS = {path.stem: imports(path) for path in PACKAGE.glob("*.py")}


def inside(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    names = {name.removeprefix("eventbus.") for name in IMPORTS[module] if name.startswith("eventbus.")}
    return {name if name in IMPORTS else "__init__" for name in names - COMPILED}


@pytest.mark.parametrize(("what", "importers"), IMPORTERS.items())
def test_few_importers(what: str, importers: set[str]) -> None:
    """The compiled modules, orjson and posix_ipc are imported where they belong and nowhere else."""
    assert {module for module, names in IMPORTS.items() if what in names} == importers


@pytest.mark.parametrize("module", sorted(set().union(*LIBRARY)))
def test_imports_go_downwards(module: str) -> None:
    """A module of the library imports only what lies below it."""
    row = next(number for number, row in enumerate(LIBRARY) if module in row)
    assert inside(module) <= set().union(*LIBRARY[:row])


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_never_reach_c(module: str) -> None:
    """Errors, patterns, events and policies can be used and tested without the compiled module."""
    reached, seen = {module}, set[str]()
    while reached - seen:
        seen |= reached
        reached |= set().union(*(inside(one) for one in seen))
    assert reached <= PURE
    assert not {"cffi", "ctypes", "mmap"} & set().union(*(IMPORTS[one] for one in reached))


def test_errors_import_nothing() -> None:
    """Everything may import the errors, so they import nothing but typing."""
    assert IMPORTS["errors"] <= {"__future__", "typing"}


def test_files_are_short() -> None:
    """No file of the library or its tests has more than 400 lines."""
    files = [*PACKAGE.glob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "csrc").rglob("*.[chp]*")]
    lengths = {path.name: len(path.read_text().splitlines()) for path in files if path.name != "_eventbus.c"}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.release
def test_a_release_has_no_test_points() -> None:
    """Nothing of the test points is in the build that users get."""
    built = b"".join(release.read_bytes() for release in RELEASES)
    assert b"eb_send" in built
    assert b"eb_test" not in built
    assert b"EB_POINT" not in built


@pytest.mark.release
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_release_exports_one_symbol(release: Path) -> None:
    """A compiled module exports its entry and nothing else."""
    listed = subprocess.run(["nm", "-D", "--defined-only", release], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == [f"PyInit_{release.name.partition('.')[0]}"]
