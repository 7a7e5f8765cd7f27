"""The command line as people use it: each command in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import eventbus
from commands import EVENTBUS, SECONDS, command, ended, running
from eventbus.cli import app as cli
from eventbus.core.inspection import list_names

pytestmark = pytest.mark.release


@contextmanager
def tailing(bus: eventbus.Bus, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A ``tail`` of the bus that has subscribed."""
    with running("tail", bus.name, *arguments) as process:
        assert bus.wait_for_subscribers(1, timeout=SECONDS)
        yield process


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# --- tail ---


def test_send_reaches_a_tail_in_another_process(name: str) -> None:
    """What the issue shows in two terminals, with neither of them making the bus first, and no bus left afterwards."""
    with running("tail", name, "**", "--count", "1") as tail:
        sent = command("send", name, "orders", "order.created", "/orders/1", '{"a":1}', "--wait", "1")
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
        code, out, errors = ended(tail)
    assert (code, errors) == (0, "")
    sequence, _, *rest = out.split(" ", 5)
    assert (sequence, rest) == ("1", ["orders", "order.created", "/orders/1", '{"a": 1}\n'])
    assert name not in list_names()


def test_json_holds_every_field_of_the_event(name: str) -> None:
    """With --json each line is an object with the fields of Event; raw bytes come as base64 in place of data."""
    with eventbus.open(name) as bus, tailing(bus, "--json", "--count", "2") as tail:
        bus.send("orders", "order.created", "/1", {"name": "Zoë"})
        bus.send("orders", "order.scanned", "/1", b"\x00\xff")
        code, out, errors = ended(tail)
    assert (code, errors) == (0, "")
    created, scanned = map(json.loads, out.splitlines())
    assert isinstance(created.pop("time"), int)
    assert created == {
        "system": "orders",
        "kind": "order.created",
        "path": "/1",
        "data": {"name": "Zoë"},
        "sequence": 1,
        "sender": os.getpid(),
        "deliveries": 1,
    }
    assert "data" not in scanned
    assert base64.b64decode(scanned["base64"]) == b"\x00\xff"


def test_tail_hears_what_its_patterns_match_until_the_shutdown(name: str) -> None:
    """PATTERN and --kind choose the events, and the end of the bus is the end of the command, without an error."""
    with eventbus.open(name) as bus, tailing(bus, "orders.*", "--kind", "*.created") as tail:
        bus.send("orders.eu", "order.created", "/1")
        bus.send("orders.eu", "order.paid", "/2")
        bus.send("users", "user.created", "/3")
        bus.send("orders", "order.created", "/4", b"raw")
        bus.shutdown()
        code, out, errors = ended(tail)
    assert (code, errors) == (0, "")
    assert [line.split(" ")[0::4] for line in out.splitlines()] == [["1", "/1"], ["4", "/4"]]
    assert out.endswith(" /4 b'raw'\n")


def test_a_line_stays_one_line_and_no_command_to_the_terminal(name: str) -> None:
    """Line breaks and escape sequences in an event are shown, not obeyed."""
    with eventbus.open(name) as bus, tailing(bus, "--count", "1") as tail:
        bus.send("orders", "order.created", "/a\n\x1b[2J", "\x9b2J")
        _, out, _ = ended(tail)
    assert out.endswith(' /a\\n\\x1b[2J "\\x9b2J"\n')
    assert out.count("\n") == 1


def test_oldest_shows_what_the_ring_kept(name: str) -> None:
    """--oldest begins with the oldest event kept, and --timeout 0 ends the command when it has shown all."""
    with eventbus.open(name) as bus:
        bus.send_many([("orders", "order.created", f"/{i}") for i in range(1000)])
        done = command("tail", name, "--oldest", "--timeout", "0", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == [f"/{i}" for i in range(1000)]


def test_too_few_events_in_time_are_an_error(name: str) -> None:
    """A script that counts on N events learns from the exit code that they did not come."""
    with eventbus.open(name) as bus:
        bus.send("orders", "order.created", "/1")
        done = command("tail", name, "--oldest", "--count", "2", "--timeout", "0")
    assert done.returncode == 1
    assert done.stderr == "eventbus: 1 of 2 events came before the time was up\n"


def test_tail_says_how_many_events_it_lost(name: str) -> None:
    """A stopped tail holds nobody up; going on, it counts exactly what lies between the events that it shows."""
    with eventbus.open(name, capacity=4096, send_timeout=0) as bus, tailing(bus, "--json", "--count", "2") as tail:
        bus.send("orders", "order.created", "/1")
        assert json.loads(first_line(tail))["sequence"] == 1
        os.kill(tail.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, tail.pid, os.WSTOPPED | os.WNOWAIT)
        for i in range(1000):
            bus.send("orders", "order.created", f"/{i}")
        os.kill(tail.pid, signal.SIGCONT)
        code, out, errors = ended(tail)
    lost = json.loads(out)["sequence"] - 2
    assert code == 0
    assert lost > 0
    assert errors == f"eventbus: lost {lost} events\neventbus: lost {lost} events in all\n"


def test_ctrl_c_is_quiet(name: str) -> None:
    """Ctrl-C ends a tail with the code that shells know and not a word, and takes the bus with it."""
    with eventbus.open(name) as bus, tailing(bus) as tail:
        bus.send("orders", "order.created", "/1")
        assert " /1" in first_line(tail)
        tail.send_signal(signal.SIGINT)
        assert ended(tail) == (130, "", "")
        assert bus.stats().subscribers == ()


def test_a_closed_pipe_is_quiet(name: str) -> None:
    """When the reader of its output goes away (``| head``), tail ends at its next line without a word."""
    with eventbus.open(name) as bus, tailing(bus) as tail:
        bus.send("orders", "order.created", "/1")
        assert first_line(tail)
        assert tail.stdout is not None
        tail.stdout.close()
        bus.send("orders", "order.created", "/2")
        assert tail.wait(SECONDS) == 141
        assert tail.stderr is not None
        assert tail.stderr.read() == ""


def test_colours_are_for_terminals_that_want_them(name: str) -> None:
    """A tail on a terminal writes colours, with NO_COLOR set it writes none."""
    coloured, plain = (on_terminal(name, variables) for variables in ({}, {"NO_COLOR": "1"}))
    assert "\x1b[36morders" in coloured
    assert "orders" in plain
    assert "\x1b[36m" not in plain


def on_terminal(name: str, variables: dict[str, str]) -> str:
    """What a tail of one event writes to a terminal."""
    here, there = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    try:
        with eventbus.open(name) as bus:
            bus.send("orders", "order.created", "/1")
            arguments = [*EVENTBUS, "tail", name, "--oldest", "--count", "1"]
            environment |= {"TERM": "xterm", **variables}
            subprocess.run(arguments, stdout=there, env=environment, timeout=SECONDS, check=True)
        return os.read(here, 65536).decode()
    finally:
        os.close(here)
        os.close(there)


# --- send ---


def test_each_line_of_input_is_an_event(name: str) -> None:
    """With - every line that is not empty is sent, in order, also a last one without its line break."""
    with eventbus.open(name) as bus, bus.subscribe("orders") as heard:
        done = command("send", name, "orders", "order.created", "/1", "-", stdin='{"a": 1}\n\n[2]\n"drei"')
        events = heard.receive_many(10, 0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "eventbus: 3 events were sent\n")
    assert [event.data for event in events] == [{"a": 1}, [2], "drei"]


def test_a_line_is_sent_before_the_next_one_is_written(name: str) -> None:
    """A program that writes a line now and then is heard now and then, not when a batch is full."""
    with (
        eventbus.open(name) as bus,
        bus.subscribe("orders") as heard,
        running("send", name, "orders", "order.created", "/1", "-") as process,
    ):
        assert process.stdin is not None
        for number in range(3):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            event = heard.receive(SECONDS)
            assert event is not None
            assert event.data == number
        assert ended(process) == (0, "", "eventbus: 3 events were sent\n")


@pytest.mark.parametrize("bad", ["{", "NaN", "\udcff", "[" * 100_000, '"' + "x" * 5000 + '"'])
def test_a_bad_line_is_named_and_those_before_it_are_sent(name: str, bad: str) -> None:
    """A line that is not JSON, or too large, ends the command with its number and the number of events sent."""
    lines = "".join(f"{number}\n" for number in range(600)) + f"{bad}\n600\n"
    with eventbus.open(name, capacity=16384) as bus, bus.subscribe("orders", overflow="drop") as heard:
        process = subprocess.run(
            [*EVENTBUS, "send", name, "orders", "order.created", "/1", "-"],
            input=lines.encode(errors="surrogateescape"),
            capture_output=True,
            timeout=SECONDS,
        )
        errors = process.stderr.decode()
        assert process.returncode == 1
        assert errors.startswith("eventbus: line 601: ")
        assert errors.endswith(" (600 events were sent)\n")
        assert errors.count("\n") == 1
        assert bus.stats().sent == 600
        bus.shutdown()
        assert [event.data for event in heard][-1] == 599


def test_send_says_when_nobody_listens(name: str) -> None:
    """An event that nobody is subscribed to is sent all the same, and said to be heard by nobody."""
    done = command("send", name, "orders", "order.created", "/1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"eventbus: nobody is subscribed to 'orders' on the bus {name!r}\n"


def test_send_gives_up_waiting(name: str) -> None:
    """--wait counts subscribers of this system only, and --timeout bounds it."""
    with eventbus.open(name) as bus, bus.subscribe("users"):
        done = command("send", name, "orders", "order.created", "/1", "--wait", "1", "--timeout", "0")
        assert bus.stats().sent == 0
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_full_ring_is_one_line(name: str) -> None:
    """The error names the subscriber that holds the ring back."""
    with eventbus.open(name, capacity=4096, send_timeout=0) as bus, bus.subscribe("orders", name="slow"):
        with contextlib.suppress(eventbus.FullError):
            while True:
                bus.send("orders", "order.created", "/1")
        done = command("send", name, "orders", "order.created", "/1", "--timeout", "0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"subscriber 'slow' of process {os.getpid()}" in done.stderr


def test_the_policy_of_the_environment_holds(name: str, tmp_path: Path) -> None:
    """What EVENTBUS_POLICY forbids is one line and not sent."""
    policy = tmp_path / "policy.toml"
    policy.write_text('default = "deny"\n')
    done = command("send", name, "orders", "order.created", "/1", EVENTBUS_POLICY=str(policy))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("eventbus: ")
    assert "Traceback" not in done.stderr


# --- usage and output ---


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sned"], "sned"),
        (["ls", "--sort"], "--sort"),
        (["ls", "extra"], "extra"),
        (["tail"], "BUS"),
        (["tail", "shop", "--count", "many"], "--count"),
        (["tail", "shop", "--count", "0"], "--count"),
        (["tail", "shop", "--timeout", "-1"], "--timeout"),
        (["send", "shop", "orders", "order.created"], "PATH"),
        (["demo", "--root", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown commands and options, and values of the wrong kind: one line that names them, and exit code 2."""
    assert cli.run(arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("eventbus: ")
    assert says in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["tail", "a/b"],
        ["tail", "{name}", "ord*"],
        ["send", "{name}", "orders.*", "order.created", "/1"],
        ["send", "{name}", "orders", "order.created", "/1", "{"],
        ["send", "{name}", "orders", "order.created", "/1", "NaN"],
        ["send", "{name}", "orders", "order.created", "/1", str(1 << 70)],
        ["stat", "{name}"],
        ["unlink", "{name}"],
        ["remove-group", "{name}", "g"],
        ["demo", "--root", "/proc/self/fdinfo"],
    ],
)
def test_what_cannot_be_done_is_one_line(name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bad names, patterns, data and missing buses: one line, exit code 1, and no bus left behind."""
    assert cli.run([argument.replace("{name}", name) for argument in arguments]) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.splitlines()[-1].startswith("eventbus: ")
    assert len([line for line in errors.splitlines() if "nobody is subscribed" not in line]) == 1
    assert name not in list_names()


def test_without_arguments_there_is_help() -> None:
    """The bare command lists its commands and succeeds."""
    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    for each in ("ls", "stat", "tail", "send", "requeue", "unlink", "remove-group", "demo"):
        assert f"\n  {each} " in done.stdout


@pytest.mark.parametrize("arguments", [["ls", "--json"], ["ls"], ["stat"], ["--help"]])
def test_a_pipe_closed_from_the_start_is_quiet(name: str, arguments: list[str]) -> None:
    """Tables, JSON and help may be written to nobody: no traceback, not even when the interpreter ends."""
    reading, writing = os.pipe()
    os.close(reading)
    with eventbus.open(name):
        try:
            done = command(*arguments, *([name] if arguments == ["stat"] else []), stdout=writing)
        finally:
            os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_output_that_cannot_be_written_is_an_error(name: str) -> None:
    """A full disk is one line and exit code 1."""
    with eventbus.open(name), Path("/dev/full").open("w") as full:
        done = command("ls", "--json", stdout=full.fileno())
    assert (done.returncode, done.stderr) == (1, "eventbus: No space left on device\n")


@pytest.mark.parametrize(("missing", "arguments"), [("typer", []), ("rich", ["top"])])
def test_a_missing_extra_says_what_to_install(missing: str, arguments: list[str]) -> None:
    """Installed without [cli], the console script's function says so in one line."""
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {arguments!r}"
    code += "; from eventbus.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "eventbus: the command line needs its extra: pip install 'eventbus[cli]'\n"


def test_closed_standard_input(name: str) -> None:
    """Without a standard input there are no lines to send, which is one line and no traceback."""
    script = 'exec "$@" <&-'
    command = ["sh", "-c", script, "sh", *EVENTBUS, "send", name, "a", "b", "/", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("eventbus: standard input is closed\n")
