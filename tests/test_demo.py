"""The demo: small trees for its rules, and once a part of the standard library."""

from __future__ import annotations

import contextlib
import email
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventbus import Bus
from eventbus.cli import demo
from eventbus.core.inspection import list_names

pytestmark = pytest.mark.release

SECONDS = 240  # a deadline that fails
DEMO = [sys.executable, "-m", "eventbus", "demo"]

HELD = """
import os, sys
from eventbus.cli import app as cli, demo

measure = demo.measure

def held(file):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece, beside the other worker's
    os.read(0, 1)
    return measure(file)

demo.measure = held
sys.exit(cli.run(["demo", *sys.argv[1:]]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three packages and a module; among them a file that cannot be parsed and things to be passed over."""
    contents = {
        "top.py": "def f(): pass\n",
        "a/__init__.py": "",
        "a/deep/one.py": "class A:\n    def f(self): pass\n    async def g(self):\n        def h(): pass\n",
        "b.c-d/two.py": "try:\n    class B: pass\nfinally:\n    def f(): pass\n",
        "bad/three.py": "def (:\n",
        "bad/null.py": "\0",
        "site-packages/four.py": "class C: pass\n",
        "a/notes.txt": "class D: pass\n",
    }
    for path, text in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "a" / "dangling.py").symlink_to("nowhere")
    return tmp_path


def buses_of(pid: int) -> list[str]:
    """What is left of the buses of a demo."""
    return [name for name in list_names() if name.startswith(f"demo-{pid}-")]


def test_a_small_tree_is_counted(tree: Path) -> None:
    """Files, lines and definitions are those of the tree; what cannot be parsed is counted as such; no bus is left."""
    command, pipe = [*DEMO, "--root", str(tree), "--workers", "2"], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        out, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")
    killed, *lines = out.splitlines()
    assert killed.startswith("killed worker ")
    assert lines[0].split() == ["worker", "files", "lines", "functions", "classes", "unparsable"]
    assert next(line.split() for line in lines if line.lstrip().startswith("all")) == ["all", "6", "9", "5", "2", "2"]
    assert lines[-1] == "every file was counted exactly once"
    assert not buses_of(process.pid)


def test_a_worker_may_come_too_late(bus: Bus, tree: Path) -> None:
    """A worker that begins when all has been counted, and the bus shut down, ends without a word."""
    bus.group(demo.GROUP, "files.**")
    bus.shutdown()
    demo.work(bus, tree)


def test_a_worker_may_tell_too_late(bus: Bus, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one that has measured a file again when the bus is shut down."""
    bus.group(demo.GROUP, "files.**")
    bus.send("files.modules", "file.found", "top.py", {"size": 1})

    def measure(_: Path) -> dict[str, int]:
        bus.shutdown()
        return {"files": 1}

    monkeypatch.setattr(demo, "measure", measure)
    monkeypatch.setattr(demo, "parent_process", multiprocessing.current_process)  # a collector that lives
    demo.work(bus, tree)


def test_a_package_of_the_standard_library_is_counted_once() -> None:
    """The job of ``make demo``, which has all of the library, of a part."""
    root = str(Path(email.__file__).parent)
    done = subprocess.run([*DEMO, "--root", root], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("every file was counted exactly once\n")


@contextmanager
def held(tree: Path, workers: int = 2) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A demo of a few workers, in a session of its own, and the pid of a worker that holds a file until input ends."""
    pipe = subprocess.PIPE
    arguments = [sys.executable, "-c", HELD, "--root", str(tree), "--workers", str(workers)]
    with subprocess.Popen(
        arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_leaves_nothing(tree: Path) -> None:
    """Ctrl-C reaches every process of the demo; it ends without a word, and without a process or a bus left."""
    with held(tree) as (process, worker):
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (130, "")
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert not buses_of(process.pid)


def test_a_killed_worker_is_survived(tree: Path) -> None:
    """What a killed worker had in hand is indexed by another one; the demo itself kills a second one."""
    with held(tree, 3) as (process, worker):
        os.kill(worker, signal.SIGKILL)
        output, errors = process.communicate(timeout=SECONDS)  # the end of input lets the others go on
    assert (process.returncode, errors) == (0, "")
    assert output.endswith("every file was counted exactly once\n")


def test_no_worker_left_is_an_error(tree: Path) -> None:
    """A count that cannot be complete is one line and exit code 1, not a wait for ever."""
    with held(tree) as (process, worker):
        assert process.stdout is not None
        os.kill(worker, signal.SIGKILL)
        os.kill(int(process.stdout.readline()), signal.SIGKILL)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert errors.startswith("eventbus: the other processes ended early, after ")
    assert errors.count("\n") == 1
    assert not buses_of(process.pid)


def test_workers_do_not_outlive_the_collector(tree: Path) -> None:
    """When the collector is killed, the workers and the scanner end by themselves, and the last one removes the bus."""
    with held(tree) as (process, _):
        process.kill()
        process.communicate(timeout=SECONDS)  # returns when the last process that holds standard output has ended
    assert not buses_of(process.pid)
