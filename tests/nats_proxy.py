"""The network between a bridge and its server, as a process of its own that holds bytes back when it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from orphans import die_with_parent

ROOT = Path(__file__).resolve().parent.parent


class Proxy:
    """One way to a server.

    Attributes:
        url: where it listens.
    """

    def __init__(self, port: int, seconds: float = 0.0) -> None:
        """Args: port: of the server. seconds: that bytes are under way, in each direction."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bridge.proxy", str(port), str(seconds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        self.url = f"nats://127.0.0.1:{self._heard('ready')}"

    def hold(self) -> None:
        """Keep back what comes by the connections of now, also when their client has gone; others pass."""
        self._tell("hold")

    def go(self) -> None:
        """Let go what was held."""
        self._tell("go")

    def cut(self) -> None:
        """End the connections of now, and lose what is under way by them."""
        self._tell("cut")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._heard("done")

    def _heard(self, word: str) -> str:
        assert self._process.stdout is not None
        said, _, rest = self._process.stdout.readline().rstrip("\n").partition(" ")
        assert said == word, f"the proxy said {said!r} where {word!r} was due"
        return rest
