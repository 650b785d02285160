"""A split picture in a browser, whose lights a person changes: one page on this machine, as of the viewer."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from renderformer.data.arrays import UInt8Array
from renderformer.image import SaveSettings
from renderformer.viewer.controls import Control
from renderformer.viewer.page_controls import PageControls
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.served_page import ServedPage
from renderformer.viewer.server import wait

QUALITY = 90
SAVED = (".png", ".exr")


class RelightPage(ServedPage):
    """The lights, which all pages share.

    Attributes:
        controls: the widgets by name of the control.
    """

    def __init__(self, panel: RelightPanel, port: int) -> None:
        super().__init__(port, "RenderFormer lights")
        self.panel = panel
        # Held while the lights change.
        self._lock = threading.RLock()
        self.controls = PageControls(
            self.server.gui, panel, self._change, self._guarded, panel.controls, panel.sections, panel.sections
        )
        self.controls.rested = self._refresh
        with self.server.gui.add_folder("File"):
            for suffix in SAVED:
                self._button(f"save {suffix[1:]}", functools.partial(self._download, suffix))
            self._button("close the viewer", lambda client: self.done.set())
        self.server.on_client_connect(self._guarded(self._connected))
        self._refresh()

    def close(self) -> None:
        """End the server."""
        self.controls.close()
        super().close()

    def _change(self, client: Any, control: Control, value: Any) -> None:
        with self._lock:
            self.panel.change(control, value)
            self._refresh()

    def _refresh(self) -> None:
        """Write the present values into all widgets, and show the picture on all pages."""
        with self._lock:
            self.controls.fill()
            clients = list(self.server.get_clients().values())
            if clients:
                picture = self.panel.shown()
                for client in clients:
                    self._send(client, picture)

    def _connected(self, client: Any) -> None:
        client.camera.on_update(self._guarded(lambda camera: self._resized(client)))
        with self._lock:
            self._send(client, self.panel.shown())

    def _resized(self, client: Any) -> None:
        with self._lock:
            self._send(client, self.panel.shown())

    def _send(self, client: Any, picture: UInt8Array) -> None:
        whole = on_black(picture, client.camera.aspect)
        client.scene.set_background_image(whole, format="jpeg", jpeg_quality=QUALITY)

    def _download(self, suffix: str, client: Any) -> None:
        with self._lock:
            image = self.panel.image()
            settings = SaveSettings(self.panel.tone_map, self.panel.exposure)
        data, notes = image.to_bytes(suffix, settings)
        client.send_file_download(f"relit{suffix}", data)
        for note in notes:
            self._tell(client, "note", note)


def on_black(picture: UInt8Array, aspect: float) -> UInt8Array:
    """A picture (h, w, 3) in the middle of black, whose width over height is `aspect`."""
    height, width, _ = picture.shape
    across, down = max(0, round(height * aspect) - width), max(0, round(width / aspect) - height)
    return np.pad(picture, ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)))


def serve(panel: RelightPanel, port: int, say: Callable[[str], None]) -> None:
    """Serve a panel until a page closes it, or Ctrl-C."""
    page = RelightPage(panel, port)
    wait(page.done, page.close, lambda: say(f"open {page.url} in a browser of this machine; Ctrl-C ends"))
