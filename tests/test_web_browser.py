"""The chat of ``eventbus demo --web`` in a real browser: two windows with different workers."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

import browser
import eventbus
from browser import Window
from harness import until
from webservers import SERVERS, serving, wait_for_starts

WORKER = re.compile(r"worker (\d+)")


def worker_of(window: Window) -> int:
    """The worker that a window says that it is with; 0 while it is with none."""
    found = WORKER.search(window.value("document.getElementById('state')?.innerText ?? ''"))
    return int(found[1]) if found else 0


def say(window: Window, text: str) -> None:
    """Types it and sends it."""
    window.value(f"document.getElementById('text').value = '{text}'; document.querySelector('button').click()")


def lines(window: Window) -> list[str]:
    """What was said, as the window shows it, without what is still on its way."""
    script = "[...document.querySelectorAll('li:not(.note):not(.waiting)')].map((one) => one.childNodes[1].textContent)"
    return list(window.value(script))


@pytest.mark.release
@pytest.mark.parametrize("way", ["events", "socket"])
def test_two_windows(name: str, tmp_path: Path, way: str) -> None:
    """What one posts the other shows; the window of a worker that was killed, and both after a graceful restart, show
    all that they missed, once and in order; so does a window that comes late."""
    shots = Path(os.environ.get("EVENTBUS_SHOTS", tmp_path))
    with (
        eventbus.open(name),
        serving(SERVERS["uvicorn"], name, tmp_path / "log") as (port, master),
        browser.browser() as chromium,
    ):
        url = f"http://127.0.0.1:{port}/?by={way}"
        one = chromium.open(f"{url}&name=Ann")
        until(lambda: worker_of(one), "the first window to be connected")
        first = worker_of(one)
        os.kill(first, signal.SIGSTOP)  # so another one answers
        two = chromium.open(f"{url}&name=Bob")
        until(lambda: worker_of(two), "the second window to be connected")
        os.kill(first, signal.SIGCONT)
        second = worker_of(two)
        assert second != first
        said = ["Is anybody there?", "At another worker, yes"]
        for window, text in zip((one, two), said, strict=True):
            say(window, text)
            one.shows(text)
            two.shows(text)
        one.picture(shots / f"web-{way}-one.png")
        two.picture(shots / f"web-{way}-two.png")
        os.kill(first, signal.SIGKILL)
        say(two, "One worker is dead")
        one.shows("One worker is dead")
        until(lambda: worker_of(one) not in (0, first), "the first window to be connected again")
        say(one, "And nothing is lost")
        two.shows("And nothing is lost")
        wait_for_starts(tmp_path / "log", 3)
        os.kill(master, signal.SIGHUP)
        until(lambda: worker_of(two) not in (0, second), "the second window to be with a new worker")
        say(two, "All are new")
        one.shows("All are new")
        until(lambda: worker_of(one) and worker_of(two), "both to be connected")
        said += ["One worker is dead", "And nothing is lost", "All are new"]
        late = chromium.open(f"{url}&name=Eve")
        late.shows("All are new")
        for window in (one, two, late):
            assert lines(window) == said
        one.picture(shots / f"web-{way}-restarted.png")
