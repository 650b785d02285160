"""A viser server that answers only to pages of its own.

A page of another site can open a connection to 127.0.0.1, too, and one whose name is made to lead to 127.0.0.1 even
reads the answers. Browsers tell in `Origin` and `Host` what they take the two sides for.
"""

from __future__ import annotations

import contextlib
import http
import io
import re
from collections.abc import Callable
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import viser
import viser.infra
import websockets.asyncio.server

# Gets the `Host` and the `Origin` headers of a request; whether to answer it.
Rule = Callable[[list[str], list[str]], bool]


def own_pages(hosts: list[str], origins: list[str]) -> bool:
    """Whether a request with these headers comes from a page of this machine's server, or from no browser."""
    if len(hosts) != 1 or len(origins) > 1:
        return False
    host = hosts[0]
    name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
    return name in ("127.0.0.1", "localhost", "[::1]") and origins in ([], [f"http://{host}"])


class Server(viser.ViserServer):
    """A viser server on this machine that asks a rule before it answers any request, of HTTP or of a web socket.

    Raises:
        RuntimeError: viser took no notice of the rule, so that the server was stopped.
    """

    def __init__(self, host: str, port: int, label: str, rule: Rule = own_pages) -> None:
        self._rule, self._guarded = rule, False
        # viser greets and says goodbye on stdout, which is for results.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(host=host, port=port, label=label, verbose=False)
        if not self._guarded:
            self.stop()
            raise RuntimeError("this version of viser starts its server in a way that cannot be guarded")
        # Whatever a page asks for, nothing goes out to a public address.
        self.request_share_url = lambda verbose=True: None

    def stop(self) -> None:
        """End the server."""
        with contextlib.redirect_stdout(io.StringIO()):
            super().stop()

    @property
    def _websock_server(self) -> viser.infra.WebsockServer:
        return self._guarded_server

    @_websock_server.setter
    def _websock_server(self, server: viser.infra.WebsockServer) -> None:
        """Guard the server that the constructor of viser makes, before it starts it.

        viser offers no hook for requests. It calls `websockets.asyncio.server.serve` in one method, and this one
        server gets a copy of that method in whose globals the call leads to `_serve`; no module is changed.
        """
        method: Any = server._background_worker
        library: Any = SimpleNamespace(**vars(websockets))
        library.asyncio = SimpleNamespace(server=SimpleNamespace(**vars(websockets.asyncio.server)))
        library.asyncio.server.serve = self._serve
        function = method.__func__
        scope = {**function.__globals__, "websockets": library}
        copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
        guarded: Any = server
        guarded._background_worker = MethodType(copy, server)
        self._guarded_server = server

    def _serve(self, *arguments: Any, process_request: Any = None, **options: Any) -> Any:
        """`websockets.asyncio.server.serve` that refuses what the rule refuses."""
        self._guarded = True

        def answer(connection: Any, request: Any) -> Any:
            if not self._rule(request.headers.get_all("Host"), request.headers.get_all("Origin")):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "only pages of this viewer may connect\n")
            return None if process_request is None else process_request(connection, request)

        return websockets.asyncio.server.serve(*arguments, process_request=answer, **options)
