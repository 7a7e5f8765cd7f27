"""What systemd is told of a service of ``Type=notify``: a datagram each, and nothing where it does not listen."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger("eventbus.bridge")


class Notifier:
    """Speaks to the socket that ``NOTIFY_SOCKET`` names."""

    def __init__(self) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._last = ""

    @property
    def watchdog(self) -> float | None:
        """Seconds within which systemd wants to hear of this process; None where it does not."""
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        return int(usec) / 1e6 if self._address and mine and usec.isdecimal() and int(usec) else None

    def tell(self, *lines: str) -> None:
        """Lines such as ``READY=1``."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.setblocking(False)
                to.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self._complain(f"systemd was not told {lines[0]!r}: {error.strerror}")

    def _complain(self, text: str) -> None:
        if text != self._last:
            self._last = text
            _log.warning(text)
