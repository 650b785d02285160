"""Pictures to pages, in a size and quality that each page's connection bears.

A page gets the newest picture once it has received the one before, which a ping behind it tells: no queue of old
pictures builds up. Slow deliveries make the next pictures smaller and coarser; when nothing newer comes, better ones of
the same picture follow.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import PIL.Image

from renderformer.data.arrays import UInt8Array

# Share of the sides and JPEG quality of pictures, from the best, for what does not change any more, to the coarsest.
LEVELS = ((1.0, 95), (1.0, 80), (1.0, 60), (0.7, 60), (0.5, 55), (0.35, 45), (0.25, 35))
# Bytes of pictures of each level, as multiples of the first (measured on the pictures of docs/viewer).
BYTES = (1.0, 0.41, 0.27, 0.15, 0.085, 0.04, 0.02)
FULL, FIRST = 0, 1
# Seconds of a delivery from which on the next picture is coarser, and finer after so many below the second number.
SLOW, FAST, STEADY = 0.25, 0.12, 3
# Most seconds that a better picture of what is shown already may take: the first time, and at most.
PATIENCE, MOST_PATIENCE = 1.0, 4.0
# One more picture is sent ahead for every so many seconds of delay of the connection, up to so many.
DELAY, MOST_AHEAD = 0.1, 3
# A smaller message is no picture. One that was queued is sent within this time, unless it is small.
LARGE, QUEUED_SECONDS = 2048, 0.25


class Link:
    """The connection of one page: what is on its way, and how fast it arrives.

    Attributes:
        level: of `LEVELS`, that the connection bears while pictures change.
        rate: bytes a second; None before the first picture has arrived.
        delay: seconds from a ping to its answer when nothing else is on its way.
        bytes: of the last picture that arrived.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent = self._received = self._steady = self.bytes = 0
        self._queued: float | None = None
        self._asked = False
        self.level, self.delay = FIRST, 0.0
        self.rate: float | None = None

    @property
    def busy(self) -> bool:
        """Whether as many pictures are on their way as the connection holds without a queue."""
        if self._queued is not None and self._clock() - self._queued > QUEUED_SECONDS:
            self._queued = None
        window = 1 + min(int(self.delay / DELAY), MOST_AHEAD)
        return self._sent - self._received + (self._queued is not None) >= window

    def queued(self) -> None:
        """Note that a picture was handed to the server, which sends it soon."""
        self._queued = self._clock()

    def watch(self, connection: Any) -> None:
        """Send a ping before all messages of a web socket and behind every large one, and note when answers come."""
        send = connection.send

        async def ping(answered: Callable[[bool], None]) -> None:
            answer = asyncio.ensure_future(await connection.ping())
            answer.add_done_callback(lambda done: answered(not done.cancelled() and done.exception() is None))

        async def sent(message: Any, *arguments: Any, **options: Any) -> None:
            started = self._clock()
            if not self._asked:
                self._asked = True
                await ping(lambda arrived: self._delayed(started))
            large = len(message) >= LARGE
            self._sent += large
            self._queued = None if large else self._queued
            try:
                await send(message, *arguments, **options)
                if large:
                    await ping(lambda arrived: self.received(len(message), started, arrived))
            except BaseException:
                self._received += large
                raise

        connection.send = sent

    def _delayed(self, started: float) -> None:
        self.delay = self._clock() - started

    def received(self, size: int, started: float, arrived: bool = True) -> None:
        """Note that a message of so many bytes, sent at a time, has arrived, or else that the connection ended."""
        self._received += 1
        if not arrived:
            return
        whole = self._clock() - started
        self.delay = min(self.delay, whole)
        seconds = max(whole - self.delay, whole / 4, 1e-4)
        # Small pictures that arrive at once do not show how much more would.
        known = self.rate if self.rate is not None and seconds < FAST else 0.0
        self.rate, self.bytes = max(size / seconds, known), size
        if seconds > SLOW:
            self.level = min(self.level + (2 if seconds > 4 * SLOW else 1), len(LEVELS) - 1)
            self._steady = 0
        elif seconds < FAST:
            self._steady += 1
            if self._steady >= STEADY and self.level > FIRST:
                self.level, self._steady = self.level - 1, 0

    def seconds(self, level: int, last: int) -> float:
        """The time that a picture of a level should take, if the last one was of the level `last`."""
        return 0.0 if self.rate is None else self.bytes * BYTES[level] / BYTES[last] / self.rate


class _Page:
    """What a page shows: the number of the picture, its level, its pixels before it was shrunk, and its shape."""

    def __init__(self) -> None:
        self.number, self.level, self.pixels, self.aspect = -1, len(LEVELS) - 1, 1, 0.0
        self.patience = PATIENCE


class Delivery:
    """Hands the newest picture to every page.

    Args:
        link: the connection of a page by the number of the client; None if it is not known, which counts as fast.
        send: called with a client, the picture or None, and the JPEG quality.
    """

    def __init__(
        self, link: Callable[[int], Link | None], send: Callable[[Any, UInt8Array | None, int], object]
    ) -> None:
        self._link, self._send = link, send
        self._lock = threading.Lock()
        self._pages: dict[int, _Page] = {}
        self._picture: UInt8Array | None = None
        self._number, self._final = 0, False

    def show(self, picture: UInt8Array | None, final: bool) -> None:
        """Take a picture, (h, w, 3), or None for none; `pump` hands it out.

        Args:
            final: whether it stays as it is until something changes.
        """
        with self._lock:
            self._picture, self._final, self._number = picture, final, self._number + 1

    def pump(self, clients: Mapping[int, Any]) -> None:
        """Hand the picture to the pages that wait for it and can take it."""
        with self._lock:
            self._pages = {number: self._pages.get(number) or _Page() for number in clients}
            for number, client in clients.items():
                self._serve(self._pages[number], client, self._link(number))

    def _serve(self, page: _Page, client: Any, link: Link | None) -> None:
        picture, aspect = self._picture, client.camera.aspect
        fresh = (page.number, page.aspect) != (self._number, aspect)
        if picture is None:
            if fresh:
                page.number, page.aspect = self._number, aspect
                self._send(client, None, 0)
            return
        if link is not None and link.busy:
            return
        level = self._first(page, link) if fresh else self._better(page, link)
        if level is None:
            return
        page.number, page.aspect, page.level = self._number, aspect, level
        page.pixels = picture.shape[0] * picture.shape[1]
        if link is not None:
            link.queued()
        share, quality = LEVELS[level]
        self._send(client, shrunk(picture, share), quality)

    def _first(self, page: _Page, link: Link | None) -> int:
        """The level of a picture that the page does not show yet."""
        page.patience = PATIENCE
        if link is None:
            return FULL if self._final else FIRST
        full = self._final and link.level == FIRST and self._seconds(page, link, FULL) < SLOW
        return FULL if full else link.level

    def _better(self, page: _Page, link: Link | None) -> int | None:
        """A better level of the picture that the page shows; None if it has what it can have."""
        if link is None or not self._final or page.level == FULL:
            return None
        level = next(
            (level for level in range(FULL, page.level) if self._seconds(page, link, level) < page.patience), None
        )
        page.patience = min(2 * page.patience, MOST_PATIENCE)
        return level

    def _seconds(self, page: _Page, link: Link, level: int) -> float:
        assert self._picture is not None
        return link.seconds(level, page.level) * self._picture.shape[0] * self._picture.shape[1] / page.pixels


def shrunk(picture: UInt8Array, share: float) -> UInt8Array:
    """A picture (h, w, 3) with sides of a share of the length; as it is for 1."""
    if share == 1:
        return picture
    height, width = picture.shape[:2]
    size = max(1, round(share * width)), max(1, round(share * height))
    return np.asarray(PIL.Image.fromarray(picture).resize(size, PIL.Image.Resampling.BILINEAR))
