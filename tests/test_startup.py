"""What is imported when, in fresh interpreters: counted by modules and never by time."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import eventbus
from commands import SECONDS
from eventbus.cli.commands import PLACES as COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PLACES = [str(ROOT), *sys.path]  # an interpreter without ``site`` finds nothing else

# What orjson and cffi bring is not ours to choose; none of these is among it.
UNUSED = {"asyncio", "difflib", "logging", "mmap", "multiprocessing", "pathlib", "selectors", "socket", "subprocess"}
UNUSED |= {"sysconfig", "tempfile", "tomli", "tomllib", "zoneinfo"}
SELDOM = {"eventbus.core.inspection", "eventbus.core.stats", "eventbus.fanout", "eventbus.loop", "eventbus.member"}
SELDOM |= {"eventbus.policy", "eventbus.settings"}
ROOMS = ("eventbus.bridge", "eventbus.cli", "eventbus.observe", "eventbus.testing", "eventbus.workers")


def imported(code: str) -> set[str]:
    """The modules of a fresh interpreter after that code; none but its own were imported before."""
    begin, end = f"import sys; sys.path[:] = {PLACES!r}\n", "\nprint(*sys.modules, file=sys.stderr)"
    run = [sys.executable, "-I", "-S", "-c", begin + code + end]
    done = subprocess.run(run, capture_output=True, text=True, timeout=SECONDS, check=True)
    return set(done.stderr.split())


@pytest.mark.release
def test_import() -> None:
    """``import eventbus`` brings what sends and receives, and no room, no library that only others need."""
    modules = imported("import eventbus")
    assert {"eventbus.bus", "eventbus.subscription", "orjson"} <= modules
    assert modules & (UNUSED | SELDOM) == set()
    assert [name for name in modules if name.startswith(ROOMS)] == []


@pytest.mark.release
def test_first_event(name: str) -> None:
    """Whoever opens, sends and receives needs nothing more: no import can fail or wait in the middle of it."""
    import_it = f"import eventbus; at_import = set(sys.modules); bus = eventbus.open({name!r}, capacity=1 << 16)"
    use_it = "sub = bus.subscribe('a'); bus.send('a', 'b', '/c', {'d': 1}); assert sub.receive(timeout=60).data"
    leave_it = "bus.close(); print(*(set(sys.modules) - at_import))"
    begin = f"import sys; sys.path[:] = {PLACES!r}; "
    run = [sys.executable, "-I", "-S", "-c", f"{begin}{import_it}; {use_it}; {leave_it}"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


@pytest.mark.release
@pytest.mark.parametrize("arguments", [["ls", "--json"], ["--version"], ["send", "--help"]], ids=" ".join)
def test_command(arguments: list[str]) -> None:
    """A command waits for no event loop, no worker and nothing of another command."""
    modules = imported(f"from eventbus.cli import app; app.run({arguments!r})")
    assert modules & {"asyncio", "eventbus.loop", "multiprocessing", "pydantic", "rich", "zstandard"} == set()
    assert [name for name in modules if name.startswith("eventbus.workers")] == []


@pytest.mark.release
def test_table() -> None:
    """What is written is written as it is: nobody waits for the names of pictures, and none is put in."""
    code = "from eventbus.cli import tables; tables.show_listed([{':bus:': 'a'}])"
    run = f"import io, sys; sys.stdout = out = io.StringIO(); {code}; assert ':bus:' in out.getvalue()"
    assert "rich._emoji_codes" not in imported(run)


@pytest.mark.release
def test_help_of_all() -> None:
    """The list of commands is read from a table: no command is imported to be shown."""
    modules = imported("from eventbus.cli import app; app.run(['--help'])")
    assert [name for name in modules if name in {f"eventbus.cli.{place.module}" for place in COMMANDS.values()}] == []


def test_all_names_are_there() -> None:
    """What is imported late is listed, has its own name, is taken by ``*``, and pickles as what it is."""
    taken: dict[str, object] = {}
    exec("from eventbus import *", taken)
    assert set(eventbus.__all__) <= taken.keys() & set(dir(eventbus))
    assert all(getattr(eventbus, each) is taken[each] for each in eventbus.__all__)
    assert pickle.loads(pickle.dumps(eventbus.Worker)) is eventbus.Worker
    with pytest.raises(AttributeError, match="module 'eventbus' has no attribute 'Workers'"):
        _ = eventbus.Workers  # type: ignore[attr-defined]


FORKED = """
import eventbus, multiprocessing, os, sys
def child(name):
    bus = eventbus.open(name)
    bus.send("a", "b", "/c")
    assert eventbus.Worker and bus.stats().attached
if __name__ == "__main__":
    with eventbus.open(sys.argv[1], capacity=1 << 16) as bus, bus.subscribe("a") as sub:
        ways = [multiprocessing.get_context(way) for way in ("fork", "forkserver", "spawn")]
        for way in ways:
            process = way.Process(target=child, args=(sys.argv[1],))
            process.start()
            assert sub.receive(timeout=60).path == "/c"
            process.join()
            assert process.exitcode == 0
        print(bus.stats().attached)
"""


@pytest.mark.release
def test_children(name: str, tmp_path: Path) -> None:
    """Children of multiprocessing, which is imported after eventbus, leave their buses at their end, however they
    were made; and what was not imported yet is imported there."""
    program = tmp_path / "program.py"
    program.write_text(FORKED)
    run = [sys.executable, str(program), name]
    done = subprocess.run(run, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
