"""The Socket.IO servers of a test, each in a process of its own that does what its clients ask for; and clients."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest

from harness import DEADLINE, Child, Fork, Line

socketio = pytest.importorskip("socketio", reason="the extra [socketio] is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra [web] is not installed")
requests = pytest.importorskip("requests", reason="python-socketio's extra [client] is not installed")

from eventbus.integrations import socketio as managers  # noqa: E402  after the library is known to be there

Serve = Callable[[Line, socket.socket, Any], None]


class Page:
    """A client; what it is told is heard in order, its disconnection included. It answers ``ask`` by one more."""

    def __init__(self, port: int) -> None:
        self._told: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self._http = requests.Session()
        self._client = socketio.Client(handle_sigint=False, reconnection=False, http_session=self._http)
        self._client.on("*", lambda *told: self._told.put(told))
        self._client.on("disconnect", lambda *_: self._told.put(("disconnect",)))
        self._client.on("ask", lambda number: number + 1)
        self._client.connect(f"http://127.0.0.1:{port}", transports=["websocket"], wait_timeout=DEADLINE)
        self.sid = self._client.get_sid()

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Has its server call a method of its own; what that returned, once it has."""
        return self._client.call("do", (method, list(arguments), options), timeout=DEADLINE)

    def hear(self) -> tuple[Any, ...]:
        """What it is told next."""
        return self._told.get(timeout=DEADLINE)

    def close(self) -> None:
        """Goes away, with its threads and sockets."""
        self._client.eio.disconnect(abort=True)
        self._client.eio.queue.put(None)  # what it writes by may have taken the first one before it was at its end
        self._client.eio.wait()
        self._http.close()


class Place:
    """A server process, and the port of its server."""

    def __init__(self, fork: Fork, serve: Serve, bus: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            self.child: Child = fork(serve, listening, bus)

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A client of it."""
        page = Page(self.port)
        try:
            yield page
        finally:
            page.close()

    @staticmethod
    def end(*places: Place) -> None:
        """Lets them end as they should."""
        for place in places:
            place.child.say()
        for place in places:
            place.child.result()


def asynchronous(line: Line, listening: socket.socket, bus: Any) -> None:
    """A server on asyncio, by uvicorn; ``bus`` may be a server that was made before."""
    server = bus if isinstance(bus, socketio.AsyncServer) else async_server(bus)
    app = socketio.ASGIApp(server, on_shutdown=server.manager.close)
    serving = uvicorn.Server(uvicorn.Config(app, log_level="error"))

    async def main() -> None:
        asyncio.get_running_loop().add_reader(line.fileno(), setattr, serving, "should_exit", True)
        await serving.serve(sockets=[listening])

    asyncio.run(main())


def async_server(bus: Any) -> Any:
    """One that does what its clients ask for."""
    server = socketio.AsyncServer(async_mode="asgi", client_manager=managers.AsyncEventbusManager(bus))

    async def do(_: str, method: str, arguments: list[Any], options: dict[str, Any]) -> Any:
        return await getattr(server, method)(*arguments, **options)

    server.on("do", do)
    return server


def threaded(line: Line, listening: socket.socket, bus: Any) -> None:
    """A server with threads, by wsgiref."""
    server = bus if isinstance(bus, socketio.Server) else threaded_server(bus)
    serving = _Threaded(listening)
    serving.set_app(partial(_answer, socketio.WSGIApp(server)))
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
    thread.start()
    line.hear()
    serving.shutdown()
    thread.join()
    server.manager.close()


def threaded_server(bus: Any, mode: str = "threading") -> Any:
    """One that does what its clients ask for."""
    server = socketio.Server(async_mode=mode, client_manager=managers.EventbusManager(bus))

    def do(_: str, method: str, arguments: list[Any], options: dict[str, Any]) -> Any:
        return getattr(server, method)(*arguments, **options)

    server.on("do", do)
    return server


def _answer(app: Any, environ: dict[str, Any], start: Any) -> Any:
    """After a web socket there is no answer any more, which is an error of another kind for werkzeug's server."""
    try:
        return app(environ, start)
    except ConnectionError as error:
        raise ConnectionAbortedError from error


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket) -> None:
        address = listening.getsockname()
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = address
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "werkzeug.socket": self.connection}

    def log_message(self, *_: Any) -> None:
        pass
