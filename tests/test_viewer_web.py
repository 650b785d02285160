"""The viewer in a browser: the panel over a fake renderer, and the page in headless Chromium where there is one."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, Page, until
from helpers.ray_engine import RayEngine, a_scene

from renderformer.image import Image
from renderformer.viewer.actions import SAVES
from renderformer.viewer.display import resized
from renderformer.viewer.session import Session

pytest.importorskip("viser", reason="the viewer extra is not installed")
web = pytest.importorskip("renderformer.viewer.web")

STUCK = 240.0


notifications: list[tuple[str, ...]] = []


def press(handle: Any, value: Any) -> None:
    """Change a control as viser does: set the value, then call back with a client."""
    handle._impl.value = value
    client = SimpleNamespace(add_notification=lambda *values, **options: notifications.append(values))
    for callback in handle._impl.update_cb:
        callback(SimpleNamespace(client=client, target=handle))


def test_the_panel_edits_the_scene_and_shows_what_is_true_after_undo(viewer: Any) -> None:
    notifications.clear()
    session = viewer.session
    assert session.scheduler.wait(STUCK)
    assert viewer.url.startswith("http://127.0.0.1:")
    name = viewer.controls["object object"].value
    press(viewer.controls["object diffuse"], (0, 255, 0))
    assert session.document[name].material.diffuse == pytest.approx((0, 1, 0), abs=1e-3)
    press(viewer.controls["object roughness"], 0.25)
    assert session.document[name].material.roughness == pytest.approx(0.25)
    press(viewer.controls["object move"], (0.1, 0.0, 0.0))
    assert session.document[name].placement.translation == pytest.approx((0.1, 0, 0))
    press(viewer.controls["light strength"], 1234.0)
    assert session.document.lights[0].base.materials[0, 10] == pytest.approx(1234.0)
    press(viewer.controls["camera azimuth"], 77.0)
    assert session.orbit.view.azimuth == pytest.approx(77.0)
    press(viewer.controls["camera distance"], 5.0)
    # What a person types stays for a moment.
    assert viewer.controls["camera distance"].value == 5.0
    until(lambda: viewer.controls["camera distance"].value == pytest.approx(session.orbit.view.distance, abs=1e-3))
    assert "held in the trained range" in viewer._status.content
    for _ in range(4):
        session.undo()
    viewer._refresh()
    assert not session.document.edited
    assert viewer.controls["object roughness"].value == pytest.approx(session.document[name].material.roughness)
    assert not notifications
    press(viewer.controls["picture scale"], "0.5")
    assert session.view_size == (64, 64)
    press(viewer.controls["picture view"], "difference")
    assert "no reference picture" in notifications[-1][1]
    press(viewer.controls["picture view"], "preview")
    assert len(viewer._meshes) == len(session.document.items)
    press(viewer.controls["picture view"], "neural")
    assert session.scheduler.wait(STUCK)
    until(lambda: not viewer._meshes)


class FakePage:
    """The client of a pressed button."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lost = False
        self.notifications: list[str] = []

    def send_file_download(self, name: str, content: bytes, save_immediately: bool) -> None:
        if self.lost:
            raise ConnectionError("the page is gone")
        assert save_immediately
        self.files[name] = content

    def add_notification(self, title: str, line: str, **options: Any) -> None:
        self.notifications.append(f"{title}: {line}")


def upload(viewer: Any, page: FakePage, name: str, content: bytes) -> None:
    file = SimpleNamespace(value=SimpleNamespace(name=name, content=content))
    viewer._guarded(viewer._uploaded)(SimpleNamespace(client=page, target=file))


def test_what_a_page_saves_opens_again_and_undo_goes_back(viewer: Any) -> None:
    session, page = viewer.session, FakePage()
    original = session.document.scene
    viewer.panel.set_material(roughness=0.25)
    assert session.document.unsaved
    page.lost = True
    viewer._download(next(save for save in SAVES if save.name == "scene"), "scene.h5", page)
    until(lambda: session.task is None)
    assert session.document.unsaved
    page.lost = False
    for name in ("scene.json", "scene.h5", "picture.png", "picture.exr"):
        viewer._download(next(save for save in SAVES if name in save.files), name, page)
        until(lambda: session.task is None)
    assert set(page.files) == {"scene.zip", "scene.h5", "picture.png", "picture.exr"}
    assert not session.document.unsaved
    for name in ("scene.zip", "scene.h5"):
        upload(viewer, page, name, page.files[name])
        assert not page.notifications
        assert len(session.document.scene) == len(original)
        assert session.document.items[0].material.roughness == pytest.approx(0.25, abs=1e-3)
    upload(viewer, page, "../../picture.png", page.files["picture.png"])
    assert viewer.controls["picture view"].value == "difference"
    for _ in range(3):
        viewer.panel.undo()
    assert session.document.scene is original


def test_the_page_offers_the_work_of_a_viewer_that_was_killed(
    viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from renderformer.viewer.recovery import Recovery

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    killed = Session(a_scene(), RayEngine(), 64)  # type: ignore[arg-type]
    left = Recovery(killed)
    killed.edit(lambda document: document.set_material(document.items[0].name, roughness=0.25))
    until(lambda: left._written is not None)
    left._done.set()
    left._thread.join()
    assert left._own is not None
    left._own.release()
    killed.close()

    session, page = viewer.session, FakePage()
    assert not viewer._unsaved.visible
    session.recovery = Recovery(session)
    try:
        viewer._refresh()
        assert viewer._unsaved.visible
        assert "unsaved work on scene of 20" in viewer._offer.content
        viewer._answer_offer("Recover", page)
        until(lambda: session.task is None and session.document.edited)
        assert viewer.controls["object roughness"].value == pytest.approx(0.25)
        assert not viewer._unsaved.visible
    finally:
        session.recovery.close()
    assert not list(tmp_path.glob("renderformer/unsaved/*"))


def test_uploads_that_cannot_be_opened_say_why_and_change_nothing(viewer: Any) -> None:
    session, page = viewer.session, FakePage()
    original = session.document.scene

    def zipped(**files: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return buffer.getvalue()

    bad = {
        "a.zip": (b"PK\x03\x04 not", "cannot be unpacked"),
        "b.zip": (zipped(x="1"), "is not a mesh or scene format"),
        "c.zip": (zipped(**{"a.json": "{}", "b.json": "{}"}), "holds 2 files that could be opened (a.json, b.json)"),
        "d.glb": (b"junk", "d.glb"),
        "e.exe": (b"MZ", "is not a mesh or scene format"),
        "f.png": (b"", "is empty"),
        "g.png": (b"no picture", "cannot read the picture"),
    }
    for name, (content, message) in bad.items():
        upload(viewer, page, name, content)
        assert message in page.notifications[-1], page.notifications[-1]
        assert "renderformer-" not in page.notifications[-1]
    assert len(page.notifications) == len(bad)
    assert session.document.scene is original


def test_a_video_tells_how_far_it_is_and_can_be_given_up(viewer: Any) -> None:
    session, page = viewer.session, FakePage()
    path, turntable = (next(save for save in SAVES if name in save.files) for name in ("path.mp4", "turntable.mp4"))
    viewer._with_client(lambda client: viewer._download(path, "path.mp4", client))(SimpleNamespace(client=page))
    assert "there are 0, 2 or more are needed" in page.notifications.pop()
    viewer._download(turntable, "turntable.mp4", page)
    until(lambda: viewer._cancel.visible and viewer._progress.value > 0)
    assert "turntable.mp4" in viewer._busy.content
    session.cancel_task()
    until(lambda: session.task is None and not viewer._cancel.visible)
    assert not page.files
    assert not page.notifications


def ask(port: int, **headers: str) -> int:
    """The status that a request with these headers gets."""
    return answer(port, **headers).status


def answer(port: int, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", "/", skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    connection.close()
    return response


def test_the_viewer_closes_only_for_who_was_told_just_before_what_is_lost(
    viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, one, other = [100.0], FakePage(), FakePage()
    monkeypatch.setattr(web.time, "monotonic", lambda: now[0])

    def closes(page: FakePage) -> bool:
        count = len(page.notifications)
        viewer._close_asked(page)
        assert viewer.done.is_set() or "Press once more" in page.notifications[count]
        return bool(viewer.done.is_set())

    viewer.panel.set_material(roughness=0.25)
    assert not closes(one)
    assert not closes(other)
    # Another edit, and a press long after.
    assert not closes(one)
    viewer.panel.set_material(roughness=0.75)
    assert not closes(one)
    now[0] += 60
    assert not closes(one)
    assert closes(one)


def test_connections_that_are_dropped_print_nothing(viewer: Any, caplog: pytest.LogCaptureFixture) -> None:
    for request in (b"", b"GET", b"nonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", viewer.server.get_port())) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            # Until the server has read it and has given up.
            while connection.recv(4096):
                pass
    assert not caplog.records
    assert ask(viewer.server.get_port(), Host="localhost") == 200


def test_who_writes_to_pages_wakes_them_by_the_thread_of_the_server(viewer: Any) -> None:
    event, here = viewer.server._guarded_server._broadcast_buffer.message_event, threading.current_thread()

    class Waiters(deque[Any]):
        """As if a page came or went meanwhile."""

        def __iter__(self) -> Any:
            if threading.current_thread() is here:
                raise RuntimeError("deque mutated during iteration")
            return super().__iter__()

    event._waiters = Waiters(event._waiters)
    event.clear()
    viewer._status.content = "something else"
    until(event.is_set)


def test_pages_of_other_sites_are_refused(viewer: Any) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    port = viewer.server.get_port()
    assert ask(port, Host=f"127.0.0.1:{port}") == 200
    assert ask(port, Host="localhost:9000", Origin="http://localhost:9000") == 200
    for headers in (
        {"Host": f"evil.example:{port}"},
        {"Host": f"127.0.0.1:{port}", "Origin": "http://evil.example"},
        {"Host": f"127.0.0.1:{port}", "Origin": "null"},
        {"Host": f"127.0.0.1:{port}", "Origin": "http://127.0.0.1:1"},
        {},
    ):
        assert ask(port, **headers) == 403, headers
    for origin in ("http://evil.example", f"http://127.0.0.1:{port}.evil.example"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://127.0.0.1:{port}", origin=origin, subprotocols=["viser-v1"])  # type: ignore[list-item, arg-type]
    assert viewer.server.request_share_url() is None
    framed = answer(port, Host=f"127.0.0.1:{port}")
    assert framed.getheader("X-Frame-Options") == "DENY"
    assert framed.getheader("Content-Security-Policy") == "frame-ancestors 'none'"


def test_an_error_between_two_pictures_does_not_stop_the_page(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()
    tick = viewer.panel.tick

    def broken() -> bool:
        if next(calls) < 2:
            raise ZeroDivisionError
        return bool(tick())

    monkeypatch.setattr(viewer.panel, "tick", broken)
    before = viewer.session.orbit.view
    viewer.panel.turn(True)
    until(lambda: viewer.session.orbit.view != before)


def test_every_page_shows_the_middle_of_one_picture_without_distortion(viewer: Any) -> None:
    session, sent = viewer.session, {}

    def client(name: str, aspect: float) -> Any:
        scene = SimpleNamespace(set_background_image=lambda picture, **options: sent.update({name: picture}))
        return SimpleNamespace(client_id=name, scene=scene, camera=SimpleNamespace(aspect=aspect, image_height=300))

    pages = {"wide": client("wide", 2.0), "tall": client("tall", 0.5)}
    viewer.server.get_clients = lambda: pages
    viewer._fit_pages()
    assert session.view_size == (256, 128)
    assert session.scheduler.wait(STUCK)
    until(lambda: sent.get("wide") is not None and sent["wide"].shape == (128, 256, 3))
    assert sent["tall"].shape == (128, 64, 3)
    assert np.array_equal(sent["tall"], sent["wide"][:, 96:160])
    del pages["wide"]
    viewer._left(SimpleNamespace(client_id="wide"))
    assert session.view_size == (128, 256)


def test_a_page_that_reports_late_where_it_was_put_moves_nothing_and_a_person_does(viewer: Any) -> None:
    session = viewer.session
    camera = SimpleNamespace(aspect=1.0, image_height=128, position=(0, 0, 0), look_at=(0, 0, 0), fov=0.5)
    client = SimpleNamespace(client_id=3, camera=camera, scene=SimpleNamespace(set_background_image=lambda *_, **__: 0))
    viewer.server.get_clients = lambda: {3: client}
    poses = []
    for _ in range(4):
        session.move(lambda orbit: orbit.orbit(10, 0))
        viewer._refresh()
        poses.append((camera.position, camera.look_at, camera.fov))
    last = session.orbit.view
    for camera.position, camera.look_at, camera.fov in poses:
        viewer._camera_moved(client)
        assert session.orbit.view == last
    camera.position = tuple(1.01 * value for value in poses[1][0])
    viewer._camera_moved(client)
    assert session.orbit.view.azimuth == pytest.approx(last.azimuth - 20, abs=0.1)
    # From there, the person may go where the camera was before.
    camera.position, camera.look_at, camera.fov = poses[2]
    viewer._camera_moved(client)
    assert session.orbit.view.azimuth == pytest.approx(last.azimuth - 10, abs=0.1)


def test_two_servers_of_one_process_follow_their_own_rules_and_other_servers_none(viewer: Any) -> None:
    import viser

    from renderformer.viewer.server import Server

    strict, plain = viewer.server.get_port(), None
    open_to_all = Server(8860, "any", rule=lambda hosts, origins: True)
    try:
        plain = viser.ViserServer(host="127.0.0.1", port=8870, verbose=False)
        assert ask(strict, Host="evil.example") == 403
        assert ask(open_to_all.get_port(), Host="evil.example") == 200
        assert ask(plain.get_port(), Host="evil.example") == 200
        assert ask(strict, Host="localhost") == 200
    finally:
        open_to_all.stop()
        if plain is not None:
            plain.stop()


def test_a_library_that_cannot_be_guarded_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    from viser.infra import WebsockServer

    from renderformer.viewer.server import Server

    started = WebsockServer.start

    def start(self: Any) -> None:
        # As in a version of viser with another kind of server.
        del self._background_worker
        started(self)

    monkeypatch.setattr(WebsockServer, "start", start)
    with pytest.raises(RuntimeError, match="cannot be guarded"):
        Server(8880, "unguarded")


def test_the_program_serves_says_where_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    saved = tmp_path / "edited.json"
    start = "from renderformer.cli.main import main; main()"
    options = ["--web", "-r", "64", "--port", "8901", "-o", str(saved)]
    program = subprocess.Popen(
        [sys.executable, "-c", start, "view", "examples/assets/boxes.glb", *options],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stderr is not None
        lines = iter(program.stderr.readline, "")
        line = next(line for line in lines if line.startswith("open http://127.0.0.1:"))
        assert ask(int(line.split(":")[2].split()[0]), Host="localhost") == 200
        os.killpg(program.pid, signal.SIGINT)
        output, _ = program.communicate(timeout=STUCK)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode == 0
    assert output == ""
    assert saved.exists()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_the_page_shows_the_picture_and_a_drag_turns_and_a_drop_opens(viewer: Any) -> None:
    session = viewer.session
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients())
            # The page reports its shape, and the picture takes it.
            until(lambda: session.view_size[0] > session.view_size[1])
            assert session.scheduler.wait(STUCK)

            def shows_the_picture() -> bool:
                width, height = page.canvas()
                window = page.screenshot()[:height, :width].astype(float)
                # Notifications may cover the upper left.
                difference = np.abs(window - resized(session.picture(), width, height))
                return bool(difference[:, 320:].mean() < 4)

            until(shows_the_picture)
            before = session.orbit.view
            page.drag((250, 300), (330, 280))
            until(lambda: abs(session.orbit.view.azimuth - before.azimuth) > 2)
            assert session.orbit.limited
            assert session.orbit.view.target == pytest.approx(before.target, abs=2e-3)
            assert session.orbit.view.distance == pytest.approx(before.distance, abs=5e-3)
            assert session.scheduler.wait(STUCK)
            until(shows_the_picture)
            page.drop(Path(__file__).parents[1] / "examples" / "assets" / "boxes.glb")
            until(lambda: session.document.undo_label.startswith("open"))
            assert session.scheduler.wait(STUCK)
            until(shows_the_picture)
        finally:
            page.close()


def chosen(page: Page, label: str, *paths: Path) -> None:
    """Choose files by an upload button, as in the dialog that it opens."""
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    box = (
        f"[...document.querySelectorAll('input[type=file]')].find(i => i.parentElement.innerText.startsWith('{label}'))"
    )
    button = f"{box}.parentElement.querySelector('button')"
    # While a file is on its way, the button takes no other.
    until(lambda: page.evaluate(f"!{button}.disabled"))
    page.call("Runtime.evaluate", expression=f"{button}.click()", userGesture=True)
    box_id = page.call("Runtime.evaluate", expression=box)["result"]["objectId"]
    page.call("DOM.setFileInputFiles", objectId=box_id, files=[str(path) for path in paths])


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_a_mesh_with_its_files_comes_by_a_drop_or_a_choice_and_an_environment_by_its_button(
    viewer: Any, tmp_path: Path
) -> None:
    import imageio.v3 as iio

    session, document = viewer.session, viewer.session.document
    (tmp_path / "fünf.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl red\nf 1/1 2/2 3/3\n"
    )
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 1 1\nmap_Kd a.png\n")
    iio.imwrite(tmp_path / "a.png", np.full((4, 4, 3), (250, 0, 0), np.uint8))
    (tmp_path / "sky.exr").write_bytes(Image(np.ones((8, 16, 3), np.float32)).to_bytes(".exr")[0])
    files = [tmp_path / name for name in ("a.png", "fünf.obj", "a.mtl")]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients() and page.evaluate("window.listens"))
            for way in (lambda: page.drop(*files), lambda: chosen(page, "open or compare", *files)):
                way()
                until(lambda: document.undo_label == "open fünf", 40)
                assert any(item.base.appearance is not None for item in document.items)
                session.undo()
            chosen(page, "from a file", tmp_path / "sky.exr")
            until(lambda: document.surroundings.kind == "sky.exr")
            until(lambda: viewer.controls["environment environment"].value == "sky.exr")
        finally:
            page.close()
