"""A page that a viser server of this machine shows: what all of them have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from renderformer.viewer.server import Server
from renderformer.viewer.tasks import describe

# Time that a notification stays on the page.
SECONDS = 8.0
# Titles of those that stay as long; of others, which tell what was just done, a page shows the last one.
LASTING = ("failed", "done", "notes", "close")


class ServedPage:
    """Serves from construction to `close`.

    Args:
        port: of the server; the next free one if it is in use.
        label: title of the page.
        framed: whether notebooks may show the page in a frame.

    Attributes:
        done: set when a page closes the viewer.
    """

    def __init__(self, port: int, label: str, framed: bool = False) -> None:
        self.done = threading.Event()
        self.server = Server(port, label, framed=framed)
        # The last line that does not stay, of each client.
        self._lines: dict[Any, Any] = {}

    @property
    def url(self) -> str:
        """The address of the page."""
        return self.server.url

    def close(self) -> None:
        """End the server."""
        self.done.set()
        self.server.stop()

    def _button(self, label: str, action: Callable[[Any], object]) -> None:
        """Add a button; `action` is called with the client that presses it."""
        self.server.gui.add_button(label).on_click(self._with_client(action))

    def _with_client(self, action: Callable[[Any], object]) -> Callable[[Any], None]:
        return self._guarded(lambda event: action(event.client))

    def _guarded(self, action: Callable[[Any], object]) -> Callable[[Any], None]:
        """A callback whose errors become a notification on the page of the event."""

        def run(event: Any) -> None:
            try:
                action(event)
            except Exception as error:
                self._tell(getattr(event, "client", None), "failed", describe(error))

        return run

    def _tell(self, client: Any, title: str, line: str) -> None:
        """Show a notification on the page of a client, or on all pages."""
        clients, colour = list(self.server.get_clients().values()), "red" if title == "failed" else "blue"
        for target in [client] if client is not None else clients:
            shown = target.add_notification(title, line, auto_close_seconds=SECONDS, color=colour)
            if title not in LASTING and target in clients:
                before, self._lines[target] = self._lines.get(target), shown
                if before is not None:
                    before.remove()
        self._lines = {page: shown for page, shown in self._lines.items() if page in clients}
