"""The viewer in the cell of a notebook, shown by a page of another server as Jupyter does."""

from __future__ import annotations

import functools
import http.server
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import CHROMIUM, Page, until
from helpers.ray_engine import RayEngine, a_scene

from renderformer.data.errors import InputError
from renderformer.viewer.launch import view, view_split

pytest.importorskip("viser", reason="the viewer extra is not installed")

STUCK = 60.0


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with view(a_scene(), RayEngine(), inline=True, port=8770, resolution=64) as shown:  # type: ignore[arg-type]
        yield shown
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("renderformer")]
    assert not list(tmp_path.glob("renderformer/unsaved/*"))


def test_the_cell_shows_a_frame_says_where_it_works_and_holds_the_edited_scene(
    viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = viewer._repr_html_()
    (address,) = re.findall(r'<iframe src="([^"]+)"', shown)
    assert address == viewer.url
    assert f"ssh -L {address.rsplit(':', 1)[1]}:127.0.0.1:" in shown
    assert viewer.url in repr(viewer)
    answer = urllib.request.urlopen(address, timeout=STUCK)
    assert answer.headers["X-Frame-Options"] is None
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("frame-ancestors http://localhost:* ")
    assert "*" not in policy.replace(":*", "")
    before = viewer.scene
    session = viewer._session
    session.edit(lambda document: document.set_material(document.items[0].name, roughness=0.25))
    assert viewer.scene is not before
    assert viewer.scene.objects[0].materials[0, 6] == pytest.approx(0.25)
    for variable, name in (("COLAB_RELEASE_TAG", "Colab"), ("JUPYTERHUB_USER", "JupyterHub")):
        monkeypatch.setenv(variable, "1")
        assert f"{name} cannot show this frame" in viewer._repr_html_()
        monkeypatch.delenv(variable)
    viewer.close()
    assert "closed" in viewer._repr_html_()
    assert "closed" in repr(viewer)
    assert viewer.scene.objects[0].materials[0, 6] == pytest.approx(0.25)


def test_bad_arguments_are_refused_before_anything_opens() -> None:
    for port in (80000, -1, "8080", None, 80.5, True):
        with pytest.raises(InputError, match=f"port is {port!r}; expected a whole number from 0 to 65535"):
            view(a_scene(), RayEngine(), inline=True, port=port)  # type: ignore[arg-type, call-overload]
        with pytest.raises(InputError, match=f"port is {port!r}"):
            view_split("no.exr", web=True, port=port)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="scene is a int"):
        view(3, RayEngine(), inline=True)  # type: ignore[arg-type]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_a_page_of_a_notebook_server_shows_it_and_other_sites_cannot(viewer: Any, tmp_path: Path) -> None:
    (tmp_path / "cell.html").write_text(f"<!DOCTYPE html><body>{viewer._repr_html_()}</body>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *values: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clients = viewer._viewer.server.get_clients
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A name of another site that leads here.
        page = Page("about:blank", folder, flags=["--host-resolver-rules=MAP notebook.example 127.0.0.1"])
        try:
            page.call("Page.navigate", url=f"http://notebook.example:{server.server_port}/cell.html")
            until(lambda: page.evaluate("document.querySelector('iframe') !== null"), STUCK)
            time.sleep(2)
            assert not clients()
            page.call("Page.navigate", url=f"http://localhost:{server.server_port}/cell.html")
            until(clients, STUCK)
        finally:
            page.close()
            server.shutdown()
            server.server_close()
