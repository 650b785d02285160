"""Textures of glTF: images, samplers and KHR_texture_transform."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from renderformer.data.arrays import Float64Array, UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.values import child, extension, number, numbers, whole
from renderformer.data.formats.parts import Notes
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.texture import Texture, Wrap

# glTF viewers must support two; more are allowed.
MAX_UV_SETS = 8
_WRAP: dict[Any, Wrap] = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
# Extensions that name an image of a format that Pillow reads.
_SOURCES = ("EXT_texture_webp", "EXT_texture_avif")

# What of an image becomes a texture: its colours, alpha as grey, or roughness (green) from glossiness (alpha).
Channels = Literal["colour", "alpha", "gloss"]


class Images:
    """The textures of a file; each image is decoded once.

    Args:
        notes: counts and lines about textures that are not drawn are added here.
    """

    def __init__(self, document: Document, notes: Notes) -> None:
        self._document, self._notes = document, notes
        self._decoder = PictureDecoder(notes.lines)
        # By image, whether it holds sRGB values, and whether alpha is wanted.
        self._pixels: dict[tuple[int, bool, bool], UInt8Array | None] = {}
        self._textures: dict[Any, Texture | None] = {}

    def texture(
        self,
        reference: Any,
        label: str,
        srgb: bool,
        alpha: bool = False,
        channels: Channels = "colour",
        gloss: float = 1.0,
    ) -> Texture | None:
        """The texture that a material refers to; None without one, or with a note if it cannot be drawn.

        Args:
            reference: of the header, or None.
            label: of the texture, for errors and notes.
            srgb: whether the colours are sRGB values.
            alpha: whether alpha is needed.
            gloss: factor of the glossiness.

        Raises:
            InputError: the header is damaged.
        """
        if reference is None:
            return None
        if not isinstance(reference, dict):
            raise InputError("", f"{label} is not an object", "the file is damaged, export it again")
        transform = extension(reference, "KHR_texture_transform", label) or {}
        uv_set = transform.get("texCoord", reference.get("texCoord", 0))
        if not isinstance(uv_set, int) or not 0 <= uv_set < MAX_UV_SETS:
            self._notes.lines.append(f"{label} ignored, it uses set {uv_set!r:.20} of coordinates")
            return None
        matrix = _matrix(transform)
        key = (str(reference.get("index")), uv_set, matrix.tobytes(), srgb, alpha, channels, gloss)
        if key not in self._textures:
            wrap = self._wrap(reference)
            pixels = self._read(reference, label, srgb, alpha or channels != "colour")
            pixels = None if pixels is None else _selected(pixels, channels, gloss)
            self._textures[key] = None if pixels is None else Texture(pixels, srgb, matrix, wrap, uv_set)
        return self._textures[key]

    def _wrap(self, reference: dict[str, Any]) -> tuple[Wrap, Wrap]:
        """Wrap modes along the width and the height of the image."""
        texture = self._document.get("textures", reference.get("index"))
        sampler = self._document.get("samplers", texture["sampler"]) if "sampler" in texture else {}
        modes = [sampler.get(name, 10497) for name in ("wrapS", "wrapT")]
        first, second = (_WRAP.get(mode, "repeat") if isinstance(mode, int) else "repeat" for mode in modes)
        return first, second

    def _read(self, reference: dict[str, Any], label: str, srgb: bool, alpha: bool) -> UInt8Array | None:
        texture = self._document.get("textures", reference.get("index"))
        source = self._source(texture, label)
        if source is None:
            return None
        key = (source, srgb, alpha)
        if key not in self._pixels:
            data = self._content(self._document.get("images", source), label)
            self._pixels[key] = None if data is None else self._decoder.pixels(data, label, srgb, alpha)
        return self._pixels[key]

    def _source(self, texture: dict[str, Any], label: str) -> int | None:
        """The number of a texture's image that can be read."""
        extensions = child(texture, "extensions", label)
        readable = [child(extensions, name, label) for name in _SOURCES if name in extensions]
        for entry in (texture, *readable):
            if isinstance(entry.get("source"), int):
                return whole(entry, "source")
        reason = ", ".join(sorted(extensions)) or "an image"
        self._notes.counts[f"textures not drawn, they need {reason}"] += 1
        return None

    def _content(self, image: dict[str, Any], label: str) -> bytes | None:
        if "bufferView" in image:
            return bytes(self._document.view(whole(image, "bufferView"))[0])
        try:
            return self._document.uri(str(image.get("uri", "")))
        except InputError as error:
            self._notes.lines.append(f"{label} ignored, {error.problem}")
            return None


def _selected(pixels: UInt8Array, channels: Channels, gloss: float) -> UInt8Array:
    """(H, W, C) the channels of a texture, of pixels with or without alpha."""
    if channels == "colour":
        return pixels
    alpha = pixels[..., 3:] if pixels.shape[2] == 4 else np.full((*pixels.shape[:2], 1), 255, np.uint8)
    if channels == "alpha":
        return np.repeat(alpha, 3, axis=2)
    roughness = np.rint(255 - gloss * alpha.astype(np.float32)).astype(np.uint8)
    return np.concatenate([np.full_like(alpha, 255), roughness, np.full_like(alpha, 255)], axis=2)


def _matrix(transform: dict[str, Any]) -> Float64Array:
    """(2, 3) of KHR_texture_transform, applied to (u, v, 1)."""
    scale = numbers(transform.get("scale", [1.0, 1.0]), 2, "KHR_texture_transform.scale")
    offset = numbers(transform.get("offset", [0.0, 0.0]), 2, "KHR_texture_transform.offset")
    angle = number(transform.get("rotation", 0.0), "KHR_texture_transform.rotation")
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.column_stack([np.array([[cosine, sine], [-sine, cosine]]) * scale, offset])
