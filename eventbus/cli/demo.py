"""A real job over the bus: index Python's standard library, or any other directory of Python files.

A scanner publishes an event per file, the members of a group parse the files and publish what they found, and a
collector, this process, shows the progress and counts. Each is a process of its own. Half-way one worker is killed, to
show that another gets the file that it had in hand.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import re
import signal
import sysconfig
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess, parent_process
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import eventbus
from eventbus.cli.console import make_console
from eventbus.errors import ClosedError, EventBusError, InvalidError

SKIPPED = {"site-packages", "dist-packages", "__pycache__"}
GROUP = "workers"
FIGURES = ("files", "lines", "functions", "classes", "unparsable")


def run(root: Path, workers: int, console: Console) -> bool:
    """Indexes the files below ``root``; whether every file was counted exactly once."""
    files = sources(root)
    started = time.monotonic()
    name = f"demo-{os.getpid()}-{os.urandom(4).hex()}"  # in another container another one may have this pid
    with eventbus.open(name) as bus, bus.subscribe("index.**") as results:
        bus.group(GROUP, "files.**")
        with crew(bus, root, files, workers) as processes:
            totals, counted = collect(results, len(files), processes, console)
        stats, seconds = bus.stats(), time.monotonic() - started
    show(totals, console)
    repeated = counted.total() - len(counted)
    console.print(f"{stats.sent} events in {seconds:.1f} s, {stats.sent / seconds:.0f} events per second")
    console.print(f"{stats.groups[0].redelivered} redelivered, {repeated} counted a second time and left out")
    once = set(counted) == set(files)
    console.print("every file was counted exactly once" if once else "not every file was counted exactly once")
    return once


def sources(root: Path) -> dict[str, int]:
    """The sizes of the Python files below ``root``, by path; without those whose names a terminal could not show."""
    found = {}
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = sorted(set(subdirectories) - SKIPPED)
        for file in (Path(directory, name) for name in sorted(names) if name.endswith(".py")):
            if file.is_file() and (path := file.relative_to(root).as_posix()).isprintable():
                found[path] = file.stat().st_size
    if not found:
        raise InvalidError(f"there are no Python files in {str(root)!r}: name another directory with --root")
    return found


def package(path: str) -> str:
    """The top-level package of a file as a segment of a system; the modules outside of packages count as one."""
    top, _, rest = path.partition("/")
    return re.sub(r"[^A-Za-z0-9_-]", "_", top)[:64] if rest else "modules"


@contextmanager
def crew(bus: eventbus.Bus, root: Path, files: dict[str, int], workers: int) -> Iterator[list[BaseProcess]]:
    """The other processes, the scanner last; none is left afterwards, whatever happens."""
    fork = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [fork.Process(target=work, args=(bus, root)) for _ in range(workers)]
    processes.append(fork.Process(target=scan, args=(bus, files)))
    try:
        start(processes)
        yield processes
        bus.shutdown()
    except BaseException:
        for process in processes:
            if process.pid is not None:
                process.terminate()
        raise
    finally:
        for process in processes:
            if process.pid is not None:
                process.join()


def start(processes: list[BaseProcess]) -> None:
    """Forks them with Ctrl-C blocked: it reaches every process of a terminal, but this one stops the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for process in processes:
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def scan(bus: eventbus.Bus, files: dict[str, int]) -> None:
    """The scanner: an event per file. The group is there before its members, and the collector listens already."""
    for path, size in files.items():
        bus.send(f"files.{package(path)}", "file.found", path, {"size": size}, timeout=None)


def work(bus: eventbus.Bus, root: Path) -> None:
    """A worker: parses the files that it gets until the bus is shut down or the collector is gone.

    All may have been counted before it begins, and before it tells what a killed worker had told already.
    """
    warnings.simplefilter("ignore")
    collector = parent_process()
    with suppress(ClosedError), bus.subscribe("files.**", group=GROUP) as found:
        while not found.closed and collector is not None and collector.is_alive():
            if (event := found.receive(timeout=1.0)) is not None:
                index = event.system.replace("files", "index", 1)
                bus.send(index, "file.indexed", event.path, measure(root / event.path), timeout=None)


def measure(file: Path) -> dict[str, int]:
    """Counts lines and definitions; the standard library has test files that cannot be parsed on purpose."""
    try:
        text = file.read_bytes()
        kinds = Counter(type(statement) for statement in statements(ast.parse(text)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {"files": 1, "unparsable": 1}
    functions = kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef]
    return {"files": 1, "lines": len(text.splitlines()), "functions": functions, "classes": kinds[ast.ClassDef]}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node: definitions stand among them, and expressions hold none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield child
            yield from statements(child)


def collect(
    results: eventbus.Subscription, expected: int, processes: list[BaseProcess], console: Console
) -> tuple[dict[int, Counter[str]], Counter[str]]:
    """The collector: what each worker found, and how often each path came; only the first time counts."""
    totals: dict[int, Counter[str]] = defaultdict(Counter)
    counted: Counter[str] = Counter()
    victim: BaseProcess | None = None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("indexing", total=expected)
        while len(counted) < expected:
            progress.update(task, completed=len(counted))
            events = results.receive_many(256, timeout=1.0)
            for event in events:
                if event.path not in counted:
                    totals[event.sender].update(event.data)
                counted[event.path] += 1
            if victim is None and len(counted) >= expected // 2 and len(processes) > 2:
                victim = processes[0]
                victim.kill()
                console.print(f"killed worker {victim.pid} after {len(counted)} of {expected} files")
            *workers, scanner = processes
            ended = results.closed or scanner.exitcode or not any(worker.is_alive() for worker in workers)
            if ended and not events:
                raise EventBusError(f"the other processes ended early, after {len(counted)} of {expected} files")
    return totals, counted


def show(totals: dict[int, Counter[str]], console: Console) -> None:
    """The table: a line for each worker, by its pid, and one for all."""
    table = Table(box=None, pad_edge=False)
    for column in ("worker", *FIGURES):
        table.add_column(column, justify="right")
    for worker, figures in sorted(totals.items()):
        table.add_row(str(worker), *(str(figures[name]) for name in FIGURES))
    table.add_row("all", *(str(sum(figures[name] for figures in totals.values())) for name in FIGURES), style="bold")
    console.print(table)


def demo(
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, metavar="DIR", help="index DIR, not the standard library"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="processes that parse; one per CPU, 2 to 8, if left out")
    ] = None,
) -> None:
    """Index Python's standard library over a bus.

    A scanner, a group of workers and a collector, each a process of its own. One worker is killed half-way, and another
    gets its file. Exits with 1 unless every file was counted exactly once.
    """
    crew = workers or min(8, max(2, len(os.sched_getaffinity(0))))
    if not run(root or Path(sysconfig.get_path("stdlib")), crew, make_console()):
        raise typer.Exit(1)
