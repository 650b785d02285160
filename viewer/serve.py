"""Draws for another program, such as Blender: requests come in on one stream, pictures go out on another.

The model and the newest lit scenes stay in memory, so that a request from another camera only runs the view stage. A
new request takes the place of the one before. The end of the input is the end of the work, so the process never
outlives the program that started it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from renderformer import __version__
from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.declared import Declared
from renderformer.data.errors import InputError, one_line
from renderformer.data.notes import digest
from renderformer.data.scene import Scene
from renderformer.renderer import Cancelled
from renderformer.viewer import messages
from renderformer.viewer.frames import Frame
from renderformer.viewer.messages import FrameMessage, SceneMessage, SceneReader
from renderformer.viewer.scheduler import RenderScheduler

if TYPE_CHECKING:
    from renderformer.renderer import Renderer

# Of the messages; a program that knows another one should refuse to go on.
PROTOCOL = 1
# Lines about a scene that a person should see.
SHOWN = 8


class StopMessage(Declared):
    """Gives up the picture in progress."""

    do: Literal["stop"]


_KINDS: dict[str, type[Declared]] = {"scene": SceneMessage, "frame": FrameMessage, "stop": StopMessage}


class Server:
    """See the module.

    Args:
        renderer: draws the pictures.
        source, sink: the streams.
    """

    def __init__(self, renderer: Renderer, source: BinaryIO, sink: BinaryIO) -> None:
        self._renderer, self._source, self._sink = renderer, source, sink
        self._lock = threading.RLock()
        self._reader = SceneReader()
        self._scene: Scene | None = None
        self._wanted: FrameMessage | None = None
        # Number of the scheduler's request for it, and the newest frame.
        self._request = 0
        self._frame: Frame | None = None
        self._scheduler = RenderScheduler(renderer, self._drawn, self._failed, self._progressed)

    def run(self) -> None:
        """Serve until the end of the input.

        Raises:
            InputError: the input holds no messages.
        """
        name = self._renderer.name
        self._send({"is": "ready", "protocol": PROTOCOL, "version": __version__, "model": name})
        try:
            while (received := messages.read(self._source)) is not None:
                try:
                    self._obey(*received)
                except InputError as error:
                    self._failed(error)
        # The other program closed the stream that it reads.
        except BrokenPipeError:
            pass
        finally:
            self._scheduler.close()

    def _obey(self, message: dict[str, Any], arrays: dict[str, AnyArray]) -> None:
        kind = _KINDS.get(str(message.get("do")))
        if kind is None:
            raise InputError("message", f"do is {message.get('do')!r}", f"expected one of {', '.join(_KINDS)}")
        order = kind.read(message, f"message {message['do']}")
        with self._lock:
            if isinstance(order, SceneMessage):
                # Pictures of the scene before must not be taken for those of this one.
                self._scene, self._wanted = None, None
                self._scene = self._reader.scene(order, arrays)
                notes = digest(self._scene.notes, SHOWN)
                self._send({"is": "scene", "triangles": len(self._scene), "notes": notes})
            elif isinstance(order, FrameMessage):
                self._draw(order)
            else:
                self._wanted = None
                self._scheduler.give_up()

    def _draw(self, order: FrameMessage) -> None:
        order.part()
        if self._scene is None:
            raise InputError("frame", "there is no scene", "send one first")
        self._wanted = order
        request = self._scheduler.submit(self._scene, order.camera(), (order.width, order.height), coarse=order.growing)
        known = self._frame if request == self._request else None
        self._request = request
        # The scheduler draws nothing twice.
        if known is not None and known.request == request:
            self._drawn(known)

    def _drawn(self, frame: Frame) -> None:
        with self._lock:
            self._frame = frame
            wanted = self._wanted
            # A coarse picture of the request before shows that the camera moves; it lies elsewhere in the frame.
            if wanted is None or frame.size != (wanted.width, wanted.height) or not (frame.final or wanted.growing):
                return
            if frame.final and frame.request < self._request:
                return
            pixels, place = cropped(frame, wanted.part())
            answer = {
                "is": "picture", "number": wanted.number, "final": frame.final, "place": place,
                "seconds": frame.encode_seconds + frame.seconds, "notes": digest(frame.notes, SHOWN),
            }  # fmt: skip
            self._send(answer, {"pixels": pixels})

    def _progressed(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            if self._wanted is not None:
                self._send({"is": "progress", "number": self._wanted.number, "stage": stage, "done": done,
                            "total": total})  # fmt: skip

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            return
        with self._lock:
            number = None if self._wanted is None else self._wanted.number
            line = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            self._send({"is": "error", "number": number, "line": one_line(line)[:500]})

    def _send(self, message: dict[str, Any], arrays: dict[str, AnyArray] | None = None) -> None:
        content = messages.packed(message, arrays)
        with self._lock:
            self._sink.write(content)
            self._sink.flush()


def cropped(frame: Frame, window: tuple[int, int, int, int]) -> tuple[Float32Array, list[float]]:
    """The part of a picture that is seen in a window of the frame.

    Args:
        window: left, top, right and bottom in pixels of the full size.

    Returns:
        (h, w, 4) radiance and alpha, associated, row 0 at the top; and left, top, right and bottom of it in pixels of
        the window, beyond which a coarse picture may reach.
    """
    image = frame.image
    columns, rows = frame.span or (float(image.width), float(image.height))
    across, down = frame.size[0] / columns, frame.size[1] / rows
    left, top = int(window[0] / across), int(window[1] / down)
    right = min(image.width, int(np.ceil(window[2] / across)))
    bottom = min(image.height, int(np.ceil(window[3] / down)))
    alpha = np.ones(image.hdr.shape[:2], np.float32) if image.alpha is None else image.alpha
    pixels = np.concatenate([image.hdr, alpha[..., None]], axis=2)[top:bottom, left:right]
    place = left * across - window[0], top * down - window[1], right * across - window[0], bottom * down - window[1]
    return np.ascontiguousarray(pixels), [float(value) for value in place]
