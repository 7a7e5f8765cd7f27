"""A headless browser of a test: Chromium, told what to do by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from harness import DEADLINE, until

ABSENT = "there is no browser: apt-get install chromium"
PROGRAM = shutil.which("chromium")
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-extensions"]


class Window:
    """A window with a page; what is evaluated there is JavaScript."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._numbers = connection, count(1)

    def value(self, script: str) -> Any:
        """What an expression is worth there."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def shows(self, text: str) -> None:
        """Waits until the page shows the text."""
        until(lambda: text in self.value("document.body?.innerText ?? ''"), f"a page to show {text!r}")

    def picture(self, file: Path) -> None:
        """The page as people see it."""
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def ask(self, method: str, **parameters: Any) -> Any:
        """The answer to a command of the protocol."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (told := json.loads(self._connection.recv(DEADLINE))).get("id") != number:
            pass  # what it tells unasked
        assert "error" not in told, told["error"]
        return told["result"]


class Browser:
    """A browser; its windows are closed with it."""

    def __init__(self, address: str, held: ExitStack) -> None:
        self._address, self._held = address, held
        about = json.loads(urlopen(f"http://{address}/json/version", timeout=DEADLINE).read())
        self._itself = self._window(about["webSocketDebuggerUrl"])

    def open(self, url: str) -> Window:
        """A new window with this page, which shares no connection with another."""
        alone = self._itself.ask("Target.createBrowserContext")["browserContextId"]
        size = {"width": 720, "height": 560}
        made = self._itself.ask("Target.createTarget", url=url, browserContextId=alone, newWindow=True, **size)
        target = made["targetId"]
        return self._window(f"ws://{self._address}/devtools/page/{target}")

    def _window(self, address: str) -> Window:
        return Window(self._held.enter_context(connect(address, max_size=None)))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, which goes with it."""
    if PROGRAM is None:
        pytest.skip(ABSENT)
    with ExitStack() as held:
        profile = held.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        command = [PROGRAM, *OPTIONS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        silent = subprocess.DEVNULL
        process = held.enter_context(subprocess.Popen(command, stdout=silent, stderr=silent))
        held.callback(process.kill)
        told = Path(profile, "DevToolsActivePort")
        until(lambda: told.exists() and told.read_text().count("\n") == 1, "the browser to start")
        yield Browser(f"127.0.0.1:{told.read_text().split()[0]}", held)
