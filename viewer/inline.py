"""The viewer's page in the cell of a notebook."""

from __future__ import annotations

import html
import os
import sys
from typing import TYPE_CHECKING

from renderformer.viewer.recovery import Recovery
from renderformer.viewer.web import WebViewer

if TYPE_CHECKING:
    from renderformer.data.scene import Scene
    from renderformer.viewer.session import Session

HEIGHT = 600
# Services whose browser runs on another machine than the kernel, by a variable of the environment.
SERVICES = {"COLAB_RELEASE_TAG": "Colab", "KAGGLE_KERNEL_RUN_TYPE": "Kaggle", "JUPYTERHUB_USER": "JupyterHub"}


class InlineViewer:
    """An open viewer that a notebook shows in a frame, until `close`.

    Args:
        session: to show; `close` ends it.
        port: of the server; the next free one if it is in use.

    Attributes:
        height: of the frame in pixels.
    """

    def __init__(self, session: Session, port: int = 8080) -> None:
        self._session: Session = session
        # A kernel that ends without `close` leaves the unsaved work to the next viewer.
        self._recovery = session.recovery = Recovery(session)
        self._viewer = WebViewer(session, port, framed=True)
        self.height = HEIGHT

    @property
    def url(self) -> str:
        """The address of the page, on the machine of the kernel."""
        return self._viewer.url

    @property
    def scene(self) -> Scene:
        """The edited scene with bookmarks as cameras, by now."""
        return self._session.result()

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or a page has closed the viewer."""
        return self._viewer.done.is_set()

    def close(self) -> None:
        """End the viewer; `scene` stays, and edits count as taken from there."""
        self._viewer.close()
        self._recovery.close()

    def __enter__(self) -> InlineViewer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        """The frame, for notebooks."""
        if self.closed:
            return "<p>This viewer is closed.</p>"
        url, port = html.escape(self.url, quote=True), self.url.rsplit(":", 1)[1]
        frame = f'<iframe src="{url}" width="100%" height="{self.height}" style="border: 0" allowfullscreen></iframe>'
        return f"{frame}<p>{html.escape(_where())} <a href='{url}' target='_blank'>{url}</a>; {_elsewhere(port)}</p>"

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self.url}"
        return f"<viewer {state}; in a notebook, as the last line of a cell, it shows its page>"


def _where() -> str:
    """Where the page is, and whether the browser can be there."""
    names = [name for variable, name in SERVICES.items() if variable in os.environ]
    names = names or (["Colab"] if "google.colab" in sys.modules else [])
    if names:
        return (
            f"{names[0]} cannot show this frame: its browser does not reach the machine of the kernel. The page is at"
        )
    return "The page is on the machine of the kernel:"


def _elsewhere(port: str) -> str:
    """What to do where the browser is on another machine."""
    return (
        "if the frame stays empty, your browser runs on another machine. Run there "
        f"<code>ssh -L {port}:127.0.0.1:{port} HOST</code> with the name of the kernel's machine, and show this again."
    )
