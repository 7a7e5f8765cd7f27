"""The demo of web servers, ``eventbus demo --web``: a chat, whose pages may be with any worker of a prefork server.

No worker keeps anything of its own: what was said is on the bus, and a page gets it from whichever worker it meets.
"""

from __future__ import annotations

import json
import os
from importlib.resources import files

import eventbus
from eventbus.integrations.starlette import Broadcast

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket
except ModuleNotFoundError as error:
    raise eventbus.UnavailableError("the chat needs libraries: pip install 'eventbus[web]'") from error

PAGE = files(__package__).joinpath("chat.html").read_text()
LONGEST = {"key": 64, "name": 40, "text": 1000}  # characters; the key is by what a page knows what it said

chat = Broadcast(os.environ.get("EVENTBUS_NAME", "chat"), "chat")


async def page(_: Request) -> Response:
    """The page, which brings all that it needs."""
    return HTMLResponse(PAGE)


async def say(request: Request) -> Response:
    """What somebody says whose page hears by server-sent events."""
    refused = await heard(await request.body())
    return PlainTextResponse(f"{refused}\n", 400) if refused else Response(status_code=204)


async def events(request: Request) -> Response:
    """What is said, as server-sent events."""
    await joined(request.query_params.get("name", ""), "server-sent events")
    return await chat.events(request)


async def socket(connection: WebSocket) -> None:
    """What is said, both ways by a web socket."""
    await joined(connection.query_params.get("name", ""), "a web socket")
    await chat.socket(connection, heard)


async def joined(name: str, way: str) -> None:
    """Tells everybody who is with this worker now."""
    if checked := name[: LONGEST["name"]].strip():
        await chat.bus.asend("chat", "chat.joined", f"/workers/{os.getpid()}", {"name": checked, "by": way})


async def heard(text: str | bytes) -> str:
    """Tells everybody what somebody said; if it cannot be told, why."""
    try:
        said = json.loads(text)
        fields = {name: said[name].strip() for name in LONGEST}
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"it must be a JSON object whose {', '.join(LONGEST)} are texts"
    if bad := next((name for name, text in fields.items() if not 1 <= len(text) <= LONGEST[name]), None):
        return f"{bad} must be 1 to {LONGEST[bad]} characters"
    await chat.bus.asend("chat", "chat.said", f"/workers/{os.getpid()}", fields)
    return ""


app = Starlette(
    routes=[
        Route("/", page),
        Route("/say", say, methods=["POST"]),
        Route("/events", events),
        WebSocketRoute("/socket", socket),
    ],
    lifespan=chat.lifespan,
)
