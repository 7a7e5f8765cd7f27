"""``eventbus metrics``: figures on standard output, in a file, and by HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

import eventbus
from eventbus import Bus, InvalidError
from eventbus.cli import app as cli
from eventbus.cli.metrics import address
from harness import DEADLINE


def test_standard_output(eventbus_bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes the figures of the buses that are named, and says which there are not."""
    eventbus_bus.send("a", "k", "/")
    assert cli.run(["metrics", eventbus_bus.name, "nobody-has-this-name"]) == 0
    out, err = capsys.readouterr()
    assert f'eventbus_events_sent_total{{bus="{eventbus_bus.name}",kind="k",system="a"}} 1.0' in out.splitlines()
    assert err == "eventbus: there is no bus named 'nobody-has-this-name', and so no figures of it\n"


def test_textfile(eventbus_bus: Bus, tmp_path: Path) -> None:
    """The file is replaced in one step: whoever reads the old one reads it to its end; and nothing else is left."""
    file = tmp_path / "eventbus.prom"
    file.write_text("old")
    with file.open() as old:
        assert cli.run(["metrics", "--textfile", str(file), eventbus_bus.name]) == 0
        assert old.read() == "old"
    assert f'bus="{eventbus_bus.name}"' in file.read_text()
    assert list(tmp_path.iterdir()) == [file]


def test_a_textfile_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line that names the place."""
    assert cli.run(["metrics", "--textfile", str(tmp_path / "none" / "file.prom"), "nobody-has-this-name"]) == 1
    assert "No such file or directory" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.release
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_listen(eventbus_name: str, number: int, status: int) -> None:
    """It answers with the buses that there are then, and ends when it is told to."""
    command = [sys.executable, "-m", "eventbus", "metrics", eventbus_name, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        with urlopen(url, timeout=DEADLINE) as page:
            assert "eventbus_events_sent_total{" not in page.read().decode()
        with eventbus.open(eventbus_name, capacity=65536) as bus:
            bus.send("a", "k", "/")
            with urlopen(url, timeout=DEADLINE) as page:
                assert f'bus="{eventbus_name}",kind="k",system="a"}} 1.0' in page.read().decode()
        process.send_signal(number)
        assert (process.stderr.read(), process.wait(DEADLINE)) == ("", status)


def test_an_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line, and the signals are as they were."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.run(["metrics", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"]) == 1
    assert capsys.readouterr().err == f"eventbus: {os.strerror(98)}\n"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Both at once are an error."""
    assert cli.run(["metrics", "--listen", "127.0.0.1:0", "--textfile", "x"]) == 1
    assert capsys.readouterr().err == "eventbus: metrics go to --listen or to --textfile, not to both\n"


@pytest.mark.parametrize(
    ("text", "means"), [("0.0.0.0:9464", ("0.0.0.0", 9464)), ("[::1]:1", ("::1", 1)), ("localhost:0", ("localhost", 0))]
)
def test_addresses(text: str, means: tuple[str, int]) -> None:
    """A host and a port."""
    assert address(text) == means


@pytest.mark.parametrize("text", ["9464", ":9464", "localhost:", "localhost:http", "localhost:65536", ""])
def test_no_addresses(text: str) -> None:
    """What is none is an error that shows one."""
    with pytest.raises(InvalidError, match=r"127\.0\.0\.1:9464"):
        address(text)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An install without the extra says so in one line."""
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    monkeypatch.delitem(sys.modules, "eventbus.observe.prometheus", raising=False)
    assert cli.run(["metrics"]) == 1
    assert capsys.readouterr().err == "eventbus: metrics need a library: pip install 'eventbus[prometheus]'\n"
