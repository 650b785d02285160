"""A viser server that answers only its own pages.

Pages of other sites can connect to 127.0.0.1, too, and read the answers if their host name resolves to 127.0.0.1 (DNS
rebinding). The headers `Origin` and `Host` of a browser identify both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import io
import logging
import re
import threading
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import rich
import viser
import viser.infra
import websockets.asyncio.server
import websockets.exceptions
from viser.infra._async_message_buffer import AsyncMessageBuffer

from renderformer.viewer.delivery import Link

# Called with the `Host` and `Origin` headers of a request; returns whether to answer it.
Rule = Callable[[list[str], list[str]], bool]


HOST = "127.0.0.1"
_CONNECTIONS = logging.getLogger(f"{__name__}.connections")
_NO_FRAMES = {"X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'"}
# Pages that may show a framed viewer: notebooks of this machine, and of editors.
NOTEBOOKS = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview:"


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the server is for the person: browsers open connections ahead of need and drop them."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, websockets.exceptions.InvalidHandshake)


_CONNECTIONS.addFilter(_is_news)


def own_pages(hosts: list[str], origins: list[str]) -> bool:
    """Whether a request comes from a page of this machine's server, or from a program other than a browser."""
    if len(hosts) != 1 or len(origins) > 1:
        return False
    host = hosts[0]
    name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
    return name in ("127.0.0.1", "localhost", "[::1]") and origins in ([], [f"http://{host}"])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """A context in which viser prints nothing: stdout is for results, and a notebook would show it."""
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        console.quiet = before


class _LoopEvent(asyncio.Event):
    """An event whose waiters the thread of the loop alone wakes.

    viser sets the one for new messages on the thread that writes, too, and again on that of the loop. The first may
    stumble over waiters that come and go: an exception for who writes, and pages that wait for ever.
    """

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            super().set()


def _buffer(*arguments: Any, **options: Any) -> AsyncMessageBuffer:
    """A buffer of messages of viser with a `_LoopEvent`."""
    made = AsyncMessageBuffer(*arguments, **options)
    made.message_event = _LoopEvent()
    return made


class Server(viser.ViserServer):
    """A viser server of this machine that applies a rule to every request, of HTTP and of web sockets.

    Args:
        port: the next free one if it is in use.
        label: title of its pages.
        framed: whether `NOTEBOOKS` may show its page in a frame; nobody else may.

    Raises:
        RuntimeError: viser does not apply the rule; the server was stopped.
    """

    def __init__(self, port: int, label: str, rule: Rule = own_pages, framed: bool = False) -> None:
        self._rule, self._guarded = rule, False
        self._frames = {"Content-Security-Policy": f"frame-ancestors {NOTEBOOKS}"} if framed else _NO_FRAMES
        self._links: dict[Any, Link] = {}
        with _silent():
            super().__init__(host=HOST, port=port, label=label, verbose=False)
        if not self._guarded:
            self.stop()
            raise RuntimeError("this version of viser starts its server in a way that cannot be guarded")
        # A page could ask viser to share the scene at a public address.
        self.request_share_url = lambda verbose=True: None
        self.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
        self.gui.main_panel.dock_right()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.get_port()}"

    def stop(self) -> None:
        with _silent():
            super().stop()

    @property
    def _websock_server(self) -> viser.infra.WebsockServer:
        return self._guarded_server

    @_websock_server.setter
    def _websock_server(self, server: viser.infra.WebsockServer) -> None:
        """Guard the server that viser's constructor makes, before it starts.

        viser has no hook for requests. It calls `websockets.asyncio.server.serve` in one method. This server gets a
        copy of that method whose globals replace `serve` by `_serve`, and buffers by those of `_buffer`; no module is
        changed.
        """
        method: Any = server._background_worker
        library: Any = SimpleNamespace(**vars(websockets))
        library.asyncio = SimpleNamespace(server=SimpleNamespace(**vars(websockets.asyncio.server)))
        library.asyncio.server.serve = self._serve
        function = method.__func__
        scope = {**function.__globals__, "websockets": library, "AsyncMessageBuffer": _buffer}
        copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
        guarded: Any = server
        guarded._background_worker = MethodType(copy, server)
        self._guarded_server = server

    def _serve(self, handler: Any, *arguments: Any, process_request: Any = None, **options: Any) -> Any:
        """`websockets.asyncio.server.serve` with the rule, a `Link` for each connection, and headers that say
        who may show its page in a frame: there it could take clicks that were meant for the other."""
        self._guarded = True

        def answer(connection: Any, request: Any) -> Any:
            if not self._rule(request.headers.get_all("Host"), request.headers.get_all("Origin")):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "only pages of this viewer may connect\n")
            response = None if process_request is None else process_request(connection, request)
            if response is not None:
                for name, value in self._frames.items():
                    response.headers[name] = value
                response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        async def handle(connection: Any) -> None:
            self._links[connection] = Link()
            self._links[connection].watch(connection)
            try:
                await handler(connection)
            finally:
                del self._links[connection]

        return websockets.asyncio.server.serve(
            handle, *arguments, process_request=answer, logger=_CONNECTIONS, **options
        )

    def link(self, number: int) -> Link | None:
        """The connection of a client; None if this version of viser does not tell."""
        connections = getattr(self._guarded_server, "_live_connections", {})
        return self._links.get(connections.get(number))


def wait(done: threading.Event, close: Callable[[], object], announce: Callable[[], object]) -> bool:
    """Announce the page, wait until it ends the viewer, or Ctrl-C, and close it; returns whether Ctrl-C did."""
    try:
        announce()
        # Ctrl-C does not interrupt a wait without a limit on every platform.
        while not done.wait(0.5):
            pass
        return False
    except KeyboardInterrupt:
        return True
    finally:
        close()
