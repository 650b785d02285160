"""Headless Chromium for the tests and screenshots of the viewer in a browser."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STUCK = 240.0


class Page:
    """Headless Chromium, driven over its debugging port."""

    def __init__(
        self, url: str, folder: str, size: tuple[int, int] = (900, 600), phone: bool = False, flags: Sequence[str] = ()
    ) -> None:
        """Open a page, in a window or on a phone of this size, which has touch."""
        from websockets.sync.client import connect

        flags = [*flags, "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        flags += [f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}", "--remote-debugging-port=0"]
        assert CHROMIUM is not None
        start = "about:blank" if phone else url
        self.process = subprocess.Popen([CHROMIUM, *flags, start], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = Path(folder) / "DevToolsActivePort"
        until(lambda: port_file.read_text().strip())
        tabs = f"http://127.0.0.1:{port_file.read_text().split()[0]}/json"
        until(lambda: any(tab["type"] == "page" for tab in json.load(urllib.request.urlopen(tabs, timeout=30))))
        tab = next(tab for tab in json.load(urllib.request.urlopen(tabs, timeout=30)) if tab["type"] == "page")
        self.socket = connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=STUCK)
        self.number = 0
        if phone:
            self.turn(*size)
            self.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
            self.call("Page.navigate", url=url)

    def turn(self, width: int, height: int) -> None:
        """Give a phone another size, as by turning it."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)

    def touch(self, *fingers: tuple[tuple[int, int], tuple[int, int]]) -> None:
        """Put fingers on the screen, move each from its start to its end, and lift them."""
        for kind, share in (("touchStart", 0.0), *(("touchMove", i / 8) for i in range(1, 9)), ("touchEnd", 1.0)):
            points = [
                {"x": a[0] + (b[0] - a[0]) * share, "y": a[1] + (b[1] - a[1]) * share, "id": number}
                for number, (a, b) in enumerate(fingers)
            ]
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[] if kind == "touchEnd" else points)

    def tap(self, x: int, y: int) -> None:
        """Touch a point for a moment."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def evaluate(self, code: str) -> Any:
        """The value of an expression on the page."""
        return self.call("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def call(self, method: str, **parameters: Any) -> Any:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=STUCK))
            if message.get("id") == self.number:
                return message["result"]

    def screenshot(self) -> np.ndarray:
        import imageio.v3 as iio

        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(iio.imread(data, extension=".png"))[..., :3]

    def canvas(self) -> tuple[int, int]:
        """Width and height of the canvas in pixels."""
        box = json.loads(self.evaluate("JSON.stringify(document.querySelector('canvas').getBoundingClientRect())"))
        return round(box["width"]), round(box["height"])

    def drag(self, start: tuple[int, int], end: tuple[int, int], steps: int = 8) -> None:
        moves = (("mouseMoved", (i + 1) / steps) for i in range(steps))
        for kind, share in (("mousePressed", 0.0), *moves, ("mouseReleased", 1.0)):
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            buttons = int(kind != "mouseReleased")
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def press(self, key: str, code: str, ctrl: bool = False, shift: bool = False) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            number = 2 * ctrl + 8 * shift
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=number)

    def type(self, field: str, text: str, seconds: float = 0.1) -> None:
        """Type over what is in a field, an expression on the page, with so many seconds between two keys."""
        self.evaluate(f"{field}.focus(), {field}.select()")
        for letter in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=letter)
            time.sleep(seconds)

    def drop(self, *paths: Path) -> None:
        """Drop files on the canvas, at once."""
        files = [{"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in paths]
        code = """(parts => {
            const files = new DataTransfer();
            for (const {name, data} of parts)
                files.items.add(new File([Uint8Array.from(atob(data), letter => letter.charCodeAt(0))], name));
            const event = new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true});
            document.querySelector("canvas").dispatchEvent(event);
        })"""
        self.evaluate(f"{code}({json.dumps(files)})")

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(STUCK)


def until(condition: Callable[[], object], seconds: float = STUCK) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.2)
