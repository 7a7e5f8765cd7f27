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
ROOMS = {"core", "workers", "bridge", "observe", "testing", "integrations", "cli"}
"""Their own files say what they are for, and import nothing."""
PACKAGES = {"eventbus"} | {f"eventbus.{room}" for room in ROOMS}
LONGEST = 400
PURE = {"errors", "patterns", "event", "letters", "policy", "hearing", "delays", "settings"}
PURE |= {"bridge.subjects", "bridge.filters", "bridge.messages", "bridge.position"}
IMPORTERS = {
    "eventbus._eventbus": {"core.native"},
    "eventbus._fast": {
        *(
            "awaiting",
            "core.attachment",
            "core.native",
            "core.reader",
            "desk",
            "event",
            "loop",
            "replies",
            "sending",
            "subscription",
        ),
    },
    "orjson": {"event"},
    "posix_ipc": {"core.segment"},
}
# From the bottom up; a module imports from lower rows only. What stands above the public face, "", reaches the library
# through what the rows say too.
FLOWS = {"bus", "attached", "awaiting", "loop", "sending", "subscription", "group", "member", "request", "letters"}
FLOWS |= {"audience", "hearing", "fanout", "replies", "asking", "messages", "bringing", "desk", "remains"}
ROWS = (
    {"errors", "core.beside", "core.cgroup", "core.lifetime"},
    {"patterns", "delays", "settings", "core.native"},
    {"core.figures"},
    {"event", "policy", "core.attachment", "core.holders", "core.terms"},
    {"core.bell"},
    {"core.reader", "core.schedule", "core.keeping", "request", "letters", "hearing"},
    {"core.stats", "core.full"},
    {"core.segment"},
    {"core.inspection"},
    {"core.leftovers", "core.looking"},
    {"loop"},
    {"sending", "awaiting", "audience"},
    {"subscription", "messages"},
    {"group", "replies", "bringing", "remains"},
    {"desk"},
    {"asking"},
    {"member"},
    {"attached"},
    {"bus"},
    {"fanout"},
    {"workers.failures", "workers.kin", "workers.loop", "workers.schedule", "workers.signals"},
    {"workers.warden", "workers.ways", "workers.handler"},
    {"workers.ticks", "workers.outcomes", "workers.abreast"},
    {"workers.handling"},
    {"workers.process"},
    {"workers.post", "workers.renewal"},
    {"workers.crew"},
    {"workers.worker"},
    {"bridge.subjects", "bridge.names", "bridge.notify", "bridge.waiting"},
    {"bridge.filters", "bridge.config", "bridge.messages"},
    {"bridge.health", "bridge.position", "bridge.fence", "bridge.link"},
    {"bridge.status", "bridge.flow", "bridge.source", "bridge.streams", "bridge.consumer"},
    {"bridge.pool", "bridge.work"},
    {"bridge.export", "bridge.inbound", "bridge.queues"},
    {"bridge.imports", "bridge.asks"},
    {"bridge.process"},
    {""},
    {"observe.metrics", "observe.spans", "observe.logs", "testing.buses", "testing.recorder"},
    {"observe.prometheus", "observe.dashboard", "observe.traced", "testing.plugin"},
    {"observe.opentelemetry"},
    {"integrations.boxes", "integrations.pickles", "integrations.ends", "integrations.kombu_declared"},
    {"integrations.kombu_queues"},
    {"integrations.celery_logs"},
    {"integrations.queue", "integrations.shared", "integrations.kombu_channel"},
    {"integrations.mail"},
    {"integrations.channels", "integrations.kombu", "integrations.socketio", "integrations.starlette"},
    {"integrations.celery", "integrations.chat"},
    {"cli.options", "cli.console", "cli.commands"},
    {"cli.streams", "cli.feed", "cli.work", "cli.host", "cli.bench"},
    {"cli.tables", "cli.tail", "cli.demo", "cli.recording", "cli.policy"},
    {"cli.buses", "cli.talk", "cli.recorder", "cli.replay", "cli.dump", "cli.graveyard", "cli.rates", "cli.ailments"},
    {"cli.record", "cli.requeue", "cli.metrics", "cli.screen", "cli.doctor", "cli.bridge"},
    {"cli.top", "cli.hosts"},
    {"cli.web"},
    {"cli.demos"},
    {"cli.app"},
    {"__main__"},
)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, those of its own package by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            found.add(node.module or "")
    return found


def module_of(path: Path) -> str:
    """The name of a module inside of the package; that of the package itself, and of a room's, is the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


IMPORTS = {module_of(path): imports(path) for path in PACKAGE.rglob("*.py")}


def inside(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    names = {name.removeprefix("eventbus.") for name in IMPORTS[module] if name.startswith("eventbus.")}
    found = {name for name in names - COMPILED if name in IMPORTS and name not in ROOMS}
    return found | ({""} if names - COMPILED - set(IMPORTS) or "eventbus" in IMPORTS[module] else set())


@pytest.mark.parametrize(("what", "importers"), IMPORTERS.items())
def test_few_importers(what: str, importers: set[str]) -> None:
    """The compiled modules, orjson and posix_ipc are imported where they belong and nowhere else."""
    assert {module for module, names in IMPORTS.items() if what in names} == importers


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_imports_go_downwards(module: str) -> None:
    """Every module has a row and imports only what lies below it; a room's own file imports nothing."""
    if module in ROOMS:
        assert IMPORTS[module] == set()
        return
    row = next(number for number, row in enumerate(ROWS) if module in row)
    assert inside(module) <= set().union(*ROWS[:row])


UPSTAIRS = {"observe", "testing", "integrations", "cli"}


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("core", FLOWS),
        ("flows", {"workers"} | UPSTAIRS),
        ("workers", UPSTAIRS),
        ("observe", {"workers", "testing", "integrations", "cli"}),
        ("testing", {"workers", "observe", "integrations", "cli"}),
        ("cli", {"integrations"}),
    ],
)
def test_floors(above: str, below: set[str]) -> None:
    """The core knows no flow, flows know no worker, who watches or tests a bus needs none, and nobody but the door to
    it knows the command line."""
    of = FLOWS if above == "flows" else {module for module in IMPORTS if module.startswith(above)}
    reached = set().union(*(inside(module) for module in of))
    assert {name for name in reached if name in below or name.partition(".")[0] in below} == set()


@pytest.mark.parametrize("module", sorted(name for name in IMPORTS if name.startswith("integrations.")))
def test_integrations_use_what_everybody_may(module: str) -> None:
    """An integration reaches the bus by its public face, and beside it only another integration."""
    assert {name for name in inside(module) if not name.startswith("integrations.")} <= {""}


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_never_reach_the_ring(module: str) -> None:
    """Errors, patterns, events and policies can be used and tested without a bus: of C there are an event's fields."""
    reached, seen = {module}, set[str]()
    while reached - seen:
        seen |= reached
        reached |= set().union(*(inside(one) for one in seen))
    assert reached <= PURE
    assert not {"cffi", "ctypes", "mmap", "eventbus._eventbus"} & set().union(*(IMPORTS[one] for one in reached))


def test_errors_import_nothing() -> None:
    """Everything may import the errors, so they import nothing but typing."""
    assert IMPORTS["errors"] <= {"__future__", "typing"}


def test_files_are_short() -> None:
    """No file of the library or its tests has more than 400 lines."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "csrc").rglob("*.[ch]")]
    files += (ROOT / "csrc").rglob("*.py")
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
