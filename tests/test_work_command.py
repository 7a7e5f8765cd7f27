"""``eventbus work``: the handlers of a module, run from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eventbus import Bus, InvalidError
from eventbus.cli.work import load
from harness import DEADLINE, take, until

ROOT = Path(__file__).resolve().parent.parent

MODULE = """
    import os, time, eventbus
    worker = eventbus.Worker(max_deliveries=3)
    bus = eventbus.open({name!r})

    @worker.on("jobs.**")
    def handle(event):
        bus.send("done", "job", event.path, [event.data, os.getpid(), event.deliveries])
        if event.data == "stay":
            time.sleep(event.deliveries == 1 and 600)
"""


@pytest.mark.release
def test_the_command(bus: Bus, tmp_path: Path) -> None:
    """``eventbus work``: a killed process is replaced and its event done by another; Ctrl-C ends it cleanly."""
    done = bus.subscribe("done")
    (tmp_path / "example.py").write_text(textwrap.dedent(MODULE.format(name=bus.name)))
    program = "import typer, eventbus.cli.work; typer.run(eventbus.cli.work.work)"
    arguments = [bus.name, "example:worker", "--processes", "2", "--group", "g"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until(
                lambda: len([one for one in bus.stats().subscribers if one.group == "g.handle"]) == 2, "two processes"
            )
            bus.send("jobs", "job", "/", "stay")
            _, pid, _ = take(done).data
            os.kill(pid, signal.SIGKILL)
            data, other, deliveries = take(done).data
            assert (data, deliveries) == ("stay", 2)
            assert other != pid
            for number in range(20):
                bus.send("jobs", "job", "/", number)
            assert sorted(take(done).data[0] for _ in range(20)) == list(range(20))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "was killed by SIGKILL; next in 0.1 s" in errors
    assert "Traceback" not in errors
    assert bus.stats().groups[0].dead == 0
    assert [one.name for one in bus.stats().subscribers] == [done.name]


SEVERAL = """
    import asyncio, eventbus
    worker = eventbus.Worker()
    bus = eventbus.open({name!r})
    free = asyncio.Event()

    @worker.on("jobs")
    async def handle(event):
        if event.data == "wait":
            await free.wait()
        free.set()
        await bus.asend("done", "job", "/", event.data)
"""


@pytest.mark.release
def test_several_at_once(bus: Bus, tmp_path: Path) -> None:
    """``--concurrency``: one event of an ``async def`` may wait for another. New code that could not is not begun."""
    done = bus.subscribe("done")
    module, log = tmp_path / "example.py", tmp_path / "errors"
    module.write_text(textwrap.dedent(SEVERAL.format(name=bus.name)))
    program = "import typer, eventbus.cli.work; typer.run(eventbus.cli.work.work)"
    arguments = [bus.name, "example:worker", "--concurrency", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, env=environment, stderr=errors
        ) as process,
    ):
        try:
            until(lambda: bus.stats().groups, "the group")
            bus.send("jobs", "job", "/", "wait")
            bus.send("jobs", "job", "/", "free")
            assert sorted(take(done).data for _ in range(2)) == ["free", "wait"]
            module.write_text(textwrap.dedent(MODULE.format(name=bus.name)))
            process.send_signal(signal.SIGHUP)
            until(lambda: "the code cannot be loaded" in log.read_text(), "the new code to be refused")
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
    assert "the handler 'handle' is no async def" in log.read_text()


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("example", "module:worker"),
        (":worker", "module:worker"),
        ("no_such_module:worker", "no module"),
        ("no_such.package:worker", "no module"),
        ("json:loads", "no eventbus.Worker"),
        ("json:nothing", "no eventbus.Worker"),
    ],
)
def test_a_worker_that_is_not_there(target: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no worker is refused, with what to write instead."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(InvalidError, match=complaint):
        load(target)
