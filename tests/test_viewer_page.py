"""The page on a phone, over slow and broken connections, and several pages at once; in headless Chromium."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, Page, until
from helpers.slow_network import SlowNetwork

from renderformer.viewer.display import middle, resized
from renderformer.viewer.served_page import SECONDS
from renderformer.viewer.session import Session

pytest.importorskip("viser", reason="the viewer extra is not installed")
web = pytest.importorskip("renderformer.viewer.web")
delivery = pytest.importorskip("renderformer.viewer.delivery")
page_controls = pytest.importorskip("renderformer.viewer.page_controls")

STUCK = 60.0
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
# Height and top of the panel, which is a sheet at the foot of a narrow page; the input of files is in it.
SHEET = "[...document.querySelectorAll('.mantine-Paper-root')].find(p => getComputedStyle(p).position === 'fixed')"


def shows(page: Page, session: Session, rows: slice = slice(None), columns: slice = slice(None)) -> bool:
    """Whether a page shows the middle of the newest picture, in a part without panels and notifications."""
    width, height = page.canvas()
    picture = session.picture()
    assert picture is not None
    expected = resized(middle(picture, width / height), width, height)
    window = page.screenshot()[:height, :width].astype(float)
    return bool(np.abs(window - expected)[rows, columns].mean() < 6)


@needs_chromium
def test_on_a_phone_the_panel_is_folded_leaves_half_and_fingers_turn_and_pinch(viewer: Any) -> None:
    session = viewer.session
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder, (390, 844), phone=True)
        try:
            until(lambda: viewer.server.get_clients(), STUCK)
            until(lambda: page.evaluate(f"{SHEET}.dataset.folded"), STUCK)
            until(lambda: page.evaluate(f"{SHEET}.offsetHeight") < 60, STUCK)
            until(lambda: session.scheduler.wait(0) and shows(page, session, slice(300, 780)), STUCK)

            before = session.orbit.view
            page.touch(((150, 400), (230, 400)))
            until(lambda: abs(session.orbit.view.azimuth - before.azimuth) > 5, STUCK)
            assert session.orbit.view.distance == pytest.approx(before.distance, abs=5e-3)
            session.move(lambda orbit: setattr(orbit, "limited", False))
            before = session.orbit.view
            page.touch(((180, 400), (120, 340)), ((210, 430), (280, 500)))
            until(lambda: session.orbit.view.distance < 0.93 * before.distance, STUCK)
            until(lambda: session.scheduler.wait(0) and shows(page, session, slice(300, 780)), STUCK)

            # A tap unfolds the panel over half the page at most, another folds it.
            page.touch(((250, 822), (250, 822)))
            until(lambda: page.evaluate(f"{SHEET}.offsetHeight") > 200, STUCK)
            assert page.evaluate(f"{SHEET}.offsetHeight") <= 422
            assert page.evaluate(f"{SHEET}.getBoundingClientRect().top") >= 422
            # On its side, the panel is a folded column.
            page.turn(740, 360)
            until(lambda: page.canvas()[0] > 600, STUCK)
            until(lambda: session.scheduler.wait(0) and shows(page, session, slice(200, 360)), STUCK)
        finally:
            page.close()


@needs_chromium
def test_a_broken_connection_comes_back_to_the_present_view_and_a_slow_one_gets_lighter_pictures(
    viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = viewer.session
    with (
        SlowNetwork(viewer.server.get_port()) as network,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        page = Page(f"http://127.0.0.1:{network.port}", folder)
        try:
            until(lambda: viewer.server.get_clients(), STUCK)
            until(lambda: session.scheduler.wait(0) and shows(page, session, columns=slice(320, None)), STUCK)
            (lost,) = viewer.server.get_clients()
            network.cut()
            # The page may be back, under another number, before anyone looks.
            until(lambda: lost not in viewer.server.get_clients(), STUCK)
            session.move(lambda orbit: orbit.orbit(70, 10))
            moved = session.orbit.view
            until(lambda: viewer.server.get_clients(), STUCK)
            until(lambda: session.scheduler.wait(0) and shows(page, session, columns=slice(320, None)), STUCK)
            assert session.orbit.view == moved
            assert list(viewer._delivery._pages) == list(viewer.server.get_clients())

            # 40 kB a second, for pictures of 120 kB.
            noise = np.random.default_rng(1).integers(0, 256, (64, 300, 400, 3), np.uint8)
            pictures = itertools.cycle(noise)
            monkeypatch.setattr(viewer.panel, "picture", lambda: next(pictures))
            (number,) = viewer.server.get_clients()
            link = viewer.server.link(number)
            network.rate = 40e3
            seen = []
            for _ in range(40):
                viewer._delivery.show(next(pictures), False)
                viewer._delivery.pump(viewer.server.get_clients())
                seen.append((link._sent - link._received, link.bytes))
                time.sleep(0.25)
            assert max(waiting for waiting, _ in seen) <= 2
            assert link.level >= 4
            assert link.bytes < 15e3
        finally:
            page.close()


@needs_chromium
def test_a_desktop_and_a_phone_show_one_truth_undistorted(viewer: Any) -> None:
    session, panel = viewer.session, viewer.panel
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as first,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as second,
    ):
        # So small that any notice of viser would hide half of the picture.
        pages = [Page(viewer.url, first, (700, 420)), Page(viewer.url, second, (300, 560), phone=True)]
        desktop, phone = pages

        # All but the folded panel at the foot.
        free = slice(500)

        def both_show() -> bool:
            return session.scheduler.wait(0) and shows(desktop, session) and shows(phone, session, free)

        def at(page: Page, x: float, y: float) -> tuple[int, int]:
            width, height = page.canvas()
            return round(x * width), round(y * height)

        try:
            until(lambda: len(viewer.server.get_clients()) == 2, STUCK)
            until(both_show, STUCK)
            # The picture is as wide as the wide one needs and no narrower for the other.
            width, height = desktop.canvas()
            assert session.view_size[0] / session.view_size[1] == pytest.approx(width / height, rel=0.02)

            for page in (desktop, phone):
                before, start, end = session.orbit.view, at(page, 0.5, 0.5), at(page, 0.75, 0.45)
                page.touch((start, end)) if page is phone else page.drag(start, end)
                until(lambda old=before: abs(session.orbit.view.azimuth - old.azimuth) > 2, STUCK)
                until(both_show, STUCK)
                # No page answers the other's move with one of its own.
                rested = session.orbit.view
                time.sleep(1)
                assert session.orbit.view == rested

            viewer._apply(None, "", lambda: panel.set_material(diffuse=(0.1, 0.9, 0.2)))
            until(both_show, STUCK)
            pages.pop(0).close()
            until(lambda: len(viewer.server.get_clients()) == 1, STUCK)
            until(lambda: session.scheduler.wait(0) and shows(phone, session, free), STUCK)
            assert session.view_size[0] < session.view_size[1]
        finally:
            for page in pages:
                page.close()


@needs_chromium
def test_keys_act_on_the_picture_and_those_with_ctrl_in_fields_too(viewer: Any, tmp_path: Path) -> None:
    session, panel, document = viewer.session, viewer.panel, viewer.session.document
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients() and page.evaluate("window.listens"), STUCK)
            page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
            names = [item.name for item in document.items]
            viewer._apply(None, "", lambda: panel.choose(names[0]))

            page.press("2", "Digit2")
            until(lambda: panel.kind == "preview", STUCK)
            page.press("1", "Digit1")
            page.press("]", "BracketRight")
            until(lambda: session.exposure == 0.5 and panel.kind == "neural", STUCK)
            page.press("r", "KeyR")
            until(lambda: panel.mode == "turn", STUCK)
            page.press("Delete", "Delete")
            until(lambda: [item.name for item in document.items] == names[1:], STUCK)

            # In a list, which has the focus once something was chosen from it, and with Shift for the other way.
            field = "[...document.querySelectorAll('input')].find(i => i.value === 'neutral')"
            for key, shift, there in (("z", False, names), ("Z", True, names[1:]), ("z", False, names)):
                page.evaluate(f"{field}.focus()")
                page.press(key, "KeyZ", ctrl=True, shift=shift)
                until(lambda there=there: [item.name for item in document.items] == there, STUCK)
            page.evaluate(f"{field}.focus()")
            page.press("Delete", "Delete")
            page.evaluate(f"{field}.blur()")
            page.press("Escape", "Escape")
            until(lambda: panel.selected is None, STUCK)
            assert [item.name for item in document.items] == names

            view = session.orbit.view
            viewer._apply(None, "", lambda: panel.set_material(roughness=0.25))
            page.press("s", "KeyS", ctrl=True)
            until(lambda: list(tmp_path.glob("scene*.zip")) and not session.unsaved, STUCK)
            assert session.orbit.view == view
            # One line about what was done last, beside those that stay.
            shown = "[...document.querySelectorAll('.mantine-Notification-root')].map(note => note.textContent)"
            deeds = ("undo", "redo", "remove")
            until(lambda: len([line for line in page.evaluate(shown) if line.startswith(deeds)]) <= 1, SECONDS / 2)
        finally:
            page.close()


@needs_chromium
def test_a_finger_drags_a_key_frame_on_the_strip(viewer: Any) -> None:
    session, timeline = viewer.session, viewer.panel.timeline
    for _ in range(3):
        viewer._apply(None, "", lambda: (session.move(lambda orbit: orbit.orbit(20, 0)), timeline.add())[0])
    before = tuple(timeline.times)
    title = "p.textContent.trim() === 'Bookmarks and key frames'"
    section = f"[...document.querySelectorAll('.mantine-Paper-root')].filter(p => {title}).map(p => p.click())"
    thumb = "document.querySelectorAll('.multi-slider-thumb')[1].getBoundingClientRect()"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder, (360, 740), phone=True)
        try:
            until(lambda: viewer.server.get_clients() and page.evaluate("window.listens"), STUCK)
            until(lambda: page.evaluate(f"{SHEET}.offsetHeight") < 60, STUCK)
            page.tap(250, 718)
            until(lambda: page.evaluate(f"{SHEET}.offsetHeight") > 200, STUCK)
            time.sleep(1)
            page.evaluate(section)
            until(lambda: page.evaluate(f"{thumb}.width") > 0, STUCK)
            time.sleep(1)
            page.evaluate("document.querySelector('.multi-slider').scrollIntoView({block: 'center'})")
            time.sleep(1)
            x, y = (round(page.evaluate(f"{thumb}.{axis}")) + 4 for axis in "xy")
            page.touch(((x + 6, y), (x + 26, y)))
            until(lambda: timeline.times[1] > before[1] + 0.3, STUCK)
            assert (timeline.times[0], timeline.times[2]) == (before[0], before[2])
        finally:
            page.close()


@needs_chromium
def test_numbers_can_be_typed_though_their_beginnings_are_out_of_range(viewer: Any) -> None:
    session, panel = viewer.session, viewer.panel
    row = "[...document.querySelectorAll('label')].filter(l => l.textContent.startsWith('LABEL'))[0]"
    row = f"[...{row}.closest('div').parentElement.parentElement.querySelectorAll('input:not([type=hidden])')].pop()"

    def field(label: str) -> str:
        return row.replace("LABEL", label)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients() and page.evaluate("window.listens"), STUCK)
            # Their sections unfold.
            for item in (session.document.items[0], session.document.lights[0]):
                viewer._apply(None, "", lambda item=item: panel.choose(item.name))
                time.sleep(1)
            for label, text, value in (
                ("roughness", "0.42", lambda: panel.item.material.roughness),
                ("stretch", "0.25", lambda: panel.item.placement.stretch[2]),
                ("size", "0.125", lambda: panel.light.light.size),
                ("exposure", "-1.5", lambda: session.exposure),
            ):
                page.type(field(label), text)
                until(lambda value=value, text=text: value() == pytest.approx(float(text)), STUCK)
                time.sleep(2 * page_controls.REST_SECONDS)
                assert page.evaluate(f"{field(label)}.value") == text
            shown = "[...document.querySelectorAll('.mantine-Notification-root')].map(note => note.textContent).join()"
            assert "failed" not in page.evaluate(shown)
            # What stays out of range is refused, and the field shows what is true.
            viewer._apply(None, "", lambda: panel.choose(session.document.items[0].name))
            page.type(field("stretch"), "0")
            until(lambda: "expected a positive number" in page.evaluate(shown), STUCK)
            until(lambda: page.evaluate(f"{field('stretch')}.value") == "1", STUCK)
        finally:
            page.close()


class SlowPages:
    """Pages with connections of so many bytes a second, in a time of its own, for a `Delivery`."""

    def __init__(self, **rates: float) -> None:
        self.now, self.rates = 0.0, rates
        self.links = {name: delivery.Link(lambda: self.now) for name in rates}
        self.free_at = dict.fromkeys(rates, 0.0)
        self.log: dict[str, list[tuple[float, int, tuple[int, ...]]]] = {name: [] for name in rates}
        self.arriving: list[tuple[float, str, int, float]] = []
        self.delivery = delivery.Delivery(self.links.get, self.send)
        camera = SimpleNamespace(aspect=1.0)
        self.clients = {name: SimpleNamespace(name=name, camera=camera) for name in rates}

    def send(self, client: Any, picture: Any, quality: int) -> None:
        if picture is None:
            self.log[client.name].append((self.now, 0, ()))
            return
        # As JPEG of a detailed picture.
        size = round(picture.shape[0] * picture.shape[1] * {95: 0.6, 80: 0.25}.get(quality, 0.12))
        self.log[client.name].append((self.now, quality, picture.shape[:2]))
        link = self.links[client.name]
        link._sent, link._queued = link._sent + 1, None
        self.free_at[client.name] = max(self.now, self.free_at[client.name]) + size / self.rates[client.name]
        self.arriving.append((self.free_at[client.name], client.name, size, self.now))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            for item in [item for item in self.arriving if item[0] <= self.now]:
                self.arriving.remove(item)
                self.links[item[1]].received(item[2], item[3])
            self.delivery.pump(self.clients)


def test_a_slow_page_gets_lighter_pictures_without_a_queue_and_a_fast_one_all_of_them() -> None:
    pages, picture = SlowPages(slow=200e3, fast=100e6), np.zeros((700, 1000, 3), np.uint8)
    for _ in range(80):
        pages.delivery.show(picture, False)
        pages.run(0.1)
        assert sum(item[1] == "slow" for item in pages.arriving) <= 1
    assert len(pages.log["fast"]) == 80
    assert {entry[1:] for entry in pages.log["fast"]} == {(80, (700, 1000))}
    # The last of the slow page's arrive within a quarter of a second, several a second.
    late = [entry for entry in pages.log["slow"] if entry[0] > 6]
    assert len(late) >= 6
    assert all(shape[0] < 700 for _, _, shape in late)
    # Once nothing changes, both get the best quality, and then nothing more.
    pages.delivery.show(picture, True)
    pages.run(12)
    for name in ("slow", "fast"):
        assert pages.log[name][-1][1:] == (95, (700, 1000)), pages.log[name][-3:]
    count = len(pages.log["slow"])
    pages.run(5)
    assert len(pages.log["slow"]) == count
    # A new shape of the page gets the picture again.
    pages.clients["slow"].camera = SimpleNamespace(aspect=2.0)
    pages.run(12)
    assert len(pages.log["slow"]) > count
    # A network that recovers gets fine pictures again, and no picture needs no connection.
    pages.rates["slow"] = 100e6
    for _ in range(40):
        pages.delivery.show(picture, False)
        pages.run(0.1)
    assert pages.log["slow"][-1][1:] == (80, (700, 1000))
    pages.links["slow"]._sent += 10
    pages.delivery.show(None, True)
    pages.run(0.1)
    assert pages.log["slow"][-1][1:] == (0, ())
