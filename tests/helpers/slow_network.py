"""A proxy to a port of this machine that passes so many bytes a second, as a slow network does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any


class SlowNetwork:
    """Passes connections to 127.0.0.1:`target` on; a context.

    Attributes:
        port: of the proxy.
        rate: bytes a second from the target; infinite at first.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.rate = float("inf")
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> SlowNetwork:
        return self

    def __exit__(self, *error: Any) -> None:
        for one in self._sockets:
            one.close()

    def cut(self) -> None:
        """End all connections; new ones can be made."""
        sockets, self._sockets = self._sockets[1:], self._sockets[:1]
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.socket()
            # The rest of what is on its way waits with its sender.
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            far.connect(("127.0.0.1", self._target))
            self._sockets += [near, far]
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if slow:
                    time.sleep(len(data) / self.rate)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
