"""Which file of the core in C calls which, and that nowhere they call each other in a circle."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parent.parent / "csrc"
# From the bottom up; a file calls files of lower rows only.
CORE = (
    {"status", "wait", "names", "process", "matching", "figures", "window"},
    {"notes"},
    {"locks", "segment", "ring", "group"},
    {"bell", "own_gate"},
    {"views"},
    {"roster", "timetable", "apart", "batch"},
    {"pages"},
    {"claims"},
    {"bus", "verdicts", "news", "settle", "hearing"},
    {"porch"},
    {"rouse"},
    {"late", "bystanders", "parking", "queue", "wake", "vigil"},
    {"attachment", "share", "room"},
    {"schedule"},
    {"publish", "inspect", "make_group", "backlog", "peek"},
    {"linger"},
    {"keeper"},
    {"single", "held", "relay"},
    {"member"},
    {"doze", "lend"},
    {"subscription"},
)
BESIDE = {"_eventbus", "testing"}  # generated; the hook of the test points, which a release has not
SILENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", re.DOTALL)
SHARED = re.compile(r"^(?!static\b|typedef\b)\w[\w \t*]*?\b(\w+)\s*\([^;{}]*\)\s*\{", re.MULTILINE)
WORD = re.compile(r"\b[A-Za-z_]\w*\b")


def code(source: str) -> str:
    """The source without its comments, strings and characters."""
    return SILENT.sub(" ", source)


def shared(source: str) -> set[str]:
    """The functions that a file defines for others, too."""
    return set(SHARED.findall(code(source)))


def calls(sources: dict[str, str]) -> dict[str, set[str]]:
    """Each file with those whose functions it names: to call one, to store it or to pass it on."""
    homes = {function: name for name, source in sources.items() for function in shared(source)}
    words = {name: set(WORD.findall(code(source))) for name, source in sources.items()}
    return {name: {homes[word] for word in words[name] & homes.keys()} - {name} for name in sources}


SOURCES = {path.stem: path.read_text() for path in CSRC.glob("*.c") if path.stem not in BESIDE}
CALLS = calls(SOURCES)


def test_no_circles() -> None:
    """No file of the core calls one that calls it back, be it by way of others."""
    assert set(TopologicalSorter(CALLS).static_order()) == SOURCES.keys()


def test_every_file_has_one_row() -> None:
    """Each file of the core stands in one row, and each name in a row is a file."""
    assert sorted(name for row in CORE for name in row) == sorted(SOURCES)


@pytest.mark.parametrize("name", sorted(set().union(*CORE)))
def test_calls_go_downwards(name: str) -> None:
    """A file of the core calls only what lies below it."""
    row = next(number for number, row in enumerate(CORE) if name in row)
    assert CALLS[name] <= set().union(*CORE[:row])


def test_the_build_goes_upwards() -> None:
    """The build lists every file once, after those that it calls."""
    built = [name for name in re.findall(r'"(\w+)\.c"', (CSRC / "cffi_build.py").read_text()) if name not in BESIDE]
    assert sorted(built) == sorted(SOURCES)
    assert [name for place, name in enumerate(built) if not CALLS[name] <= set(built[:place])] == []


def test_shared_functions_are_known_by_their_names() -> None:
    """What files of the core have for others begins with eb_, is defined once, and hides in no macro of a header."""
    functions = [function for source in SOURCES.values() for function in shared(source)]
    assert [function for function in functions if not function.startswith("eb_")] == []
    assert len(functions) == len(set(functions))
    macros = re.findall(r"^#define(?:.*\\\n)*.*", "\n".join(map(Path.read_text, CSRC.glob("*.h"))), re.MULTILINE)
    assert set(functions) & set(WORD.findall(code("\n".join(macros)))) == set()


def test_the_parser_finds_all_that_the_headers_declare() -> None:
    """No function that a header declares for the core escapes the parser."""
    headers = "\n".join(
        code((CSRC / f"{name}.h").read_text())
        for name in (
            "eventbus",
            "internal",
            "claims",
            "sending",
            "bell",
            "process",
            "figures",
            "direct",
            "views",
            "lent",
        )
    )
    declared = set(re.findall(r"^\w[\w \t*]*?\b(eb_\w+)\s*\([^;{}]*\);", headers, re.MULTILINE)) - {"eb_test_point"}
    assert declared == set().union(*map(shared, SOURCES.values()))


LOWER = """
/* Below what calls eb_upper(1). */
static int helper(int x) { return x; }
const char *eb_lower(const int *of,
                     int x)
{
    return x > 0 ? "eb_upper(1) /* \\"" : '"' == '\\'' ? 0 : helper(x); // not eb_upper(2)
}
"""
UPPER = "int eb_upper(int x)\n{\n    return eb_lower(&x, x) != 0;\n}\n"


@pytest.mark.parametrize("back", ["eb_upper(x)", "apply(eb_upper, x)"])
def test_a_circle_is_seen(back: str) -> None:
    """A call, or a function passed on, closes a circle between two files; comments, strings and characters do not."""
    assert calls({"lower": LOWER, "upper": UPPER}) == {"lower": set(), "upper": {"lower"}}
    circle = calls({"lower": LOWER.replace("helper(x);", back + ";"), "upper": UPPER})
    assert circle == {"lower": {"upper"}, "upper": {"lower"}}
    with pytest.raises(CycleError):
        TopologicalSorter(circle).prepare()
