"""Rendered pictures in linear light: exposure, tone mapping, files."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from renderformer import exr
from renderformer.aovs import AOVS, aov_of
from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.camera import Camera
from renderformer.data.colour import RGB, display_colour, linear_to_srgb, srgb_to_linear
from renderformer.data.errors import InputError, one_line
from renderformer.data.files import atomic_path
from renderformer.png16 import png16_bytes
from renderformer.tone_maps import TONE_MAPS as TONE_MAPS
from renderformer.tone_maps import check_tone_map, displayed

# Beyond this, 2 ** exposure leaves the range of float32 for ordinary pictures.
MAX_EXPOSURE = 32.0
MAX_HALF = 65504.0


@dataclass(frozen=True, eq=False)
class Image:
    """One rendered picture in linear light.

    Attributes:
        hdr: (height, width, 3) float32, linear RGB radiance (BT.709 primaries), row 0 at the top.
        camera: of the picture, if known; for the EXR header.
        metadata: model, precision and the like, strings and numbers; for the EXR header.
        alpha: (height, width) float32, how much of each pixel is covered, or None if all of it is. `hdr` is the light
            of the covered part, so it is darker where less is covered (associated alpha).
        background: colour behind what is covered, as text (`colour_of`) or linear RGB from 0 to 1, which is kept; None
            shows nothing there. It is what the display shows: exposure and tone map do not change it.
        layers: what lies beside the picture, by the names of `renderformer.aovs.AOVS`: (height, width) float32 or
            (height, width, 3), see docs/buffers.md. An EXR file holds them.
        copy: whether `hdr` and `alpha` are copied, an argument alone. Else they are shown as they are by then, for a
            picture that is still being drawn.

    Raises:
        InputError: wrong shape or type. NaN and infinite pixels are allowed, but refused by `exposed`, `tone_mapped`
            and `save`.
    """

    hdr: Float32Array
    camera: Camera | None = None
    metadata: Mapping[str, str | float] = field(default_factory=dict)
    alpha: Float32Array | None = None
    layers: Mapping[str, Float32Array] = field(default_factory=dict)
    background: RGB | str | None = None
    copy: InitVar[bool] = True

    def __post_init__(self, copy: bool) -> None:
        # A view, so that who draws may go on.
        hdr = np.array(self.hdr) if copy else np.asarray(self.hdr).view()
        if hdr.ndim != 3 or hdr.shape[2] != 3 or hdr.size == 0:
            raise InputError("image", f"hdr has shape {hdr.shape}", "expected (height, width, 3)")
        if hdr.dtype.kind != "f":
            raise InputError("image", f"hdr is of type {hdr.dtype}", "expected floats (linear light, not 0 … 255)")
        # A model's picture is in planes; OpenEXR ignores strides.
        hdr = hdr.astype(np.float32, order="C", copy=False)
        hdr.setflags(write=False)
        object.__setattr__(self, "hdr", hdr)
        if self.alpha is not None:
            alpha = np.array(self.alpha, np.float32, order="C") if copy else np.asarray(self.alpha, np.float32).view()
            if alpha.shape != hdr.shape[:2] or not np.isfinite(alpha).all():
                problem = f"alpha has shape {alpha.shape}, or values that are not finite"
                raise InputError("image", problem, f"expected {hdr.shape[:2]}")
            alpha.setflags(write=False)
            object.__setattr__(self, "alpha", alpha)
        if self.background is not None:
            object.__setattr__(self, "background", display_colour(self.background, "image", "background"))
        layers = {name: _checked_layer(name, values, hdr.shape[:2]) for name, values in self.layers.items()}
        object.__setattr__(self, "layers", MappingProxyType(layers))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.hdr.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.hdr.shape[0])

    @property
    def is_clear(self) -> bool:
        """Whether what is not covered shows nothing."""
        return self.alpha is not None and self.background is None

    def over(self, background: RGB | str) -> Image:
        """The picture with a colour behind what is covered; of one without alpha, the same picture.

        Raises:
            InputError: no colour.
        """
        return replace(self, background=background)

    def suited(self, path: str | os.PathLike[str]) -> Image:
        """The picture without the layers that a file of this name cannot hold."""
        form = FORMATS.get(Path(path).suffix.lower())
        return replace(self, layers={}) if self.layers and form is not None and not form.layers else self

    def exposed(self, exposure: float = 0.0) -> Float32Array:
        """(height, width, 3) float32, `hdr` times 2 ** exposure; without the background.

        Args:
            exposure: stops (photographic: +1 doubles the light), in -32 … 32.

        Raises:
            InputError: exposure out of range, or NaN or infinite pixels.
        """
        _check_exposure(exposure)
        if not np.isfinite(self.hdr).all():
            count = int((~np.isfinite(self.hdr)).any(axis=2).sum())
            raise InputError(
                "image",
                f"{count} of {self.width * self.height} pixels are NaN or infinite",
                "render in fp32, and check that the scene and the model fit together",
            )
        return self.hdr * np.float32(2.0**exposure)

    def flat(self, exposure: float = 0.0) -> Float32Array:
        """(height, width, 3) float32, `exposed` with the background behind it.

        Raises:
            InputError: as `exposed`.
        """
        return self.on_background(self.exposed(exposure))

    def on_background(self, covered: Float32Array) -> Float32Array:
        """Light of the covered part (height, width, 3), and the background's where less than all is covered."""
        if self.alpha is None or self.background is None:
            return covered
        open_share = np.clip(1 - self.alpha, 0, 1)[..., None]
        return np.asarray(covered + open_share * np.array(self.background, np.float32), np.float32)

    def tone_mapped(self, tone_map: str = "neutral", exposure: float = 0.0) -> Float32Array:
        """The picture for an sRGB display, on its background; a transparent one on black.

        Args:
            tone_map: "neutral" (keeps colours, compresses highlights: Khronos PBR Neutral without its subtraction of a
                Fresnel reflection that the materials here do not have), "none" (clip to 0 … 1; both with the sRGB
                curve), "agx", "filmic" or "pbr-neutral" (Blender's views, by OpenColorIO).
            exposure: stops, applied first.

        Returns:
            (height, width, 3) float32 display-encoded values in [0, 1].

        Raises:
            InputError: an unknown tone map, exposure out of range, or NaN or infinite pixels.
        """
        check_tone_map(tone_map)
        if self.alpha is not None and self.background is not None:
            # Mixed as light, after the tone map, so that the colour is the one that was asked for.
            shown = srgb_to_linear(_unassociated(self).tone_mapped(tone_map, exposure)).astype(np.float32)
            share = np.clip(self.alpha, 0, 1)[..., None]
            return np.clip(linear_to_srgb(self.on_background(shown * share)), 0, 1)
        # A model's output may lie slightly below zero.
        return displayed(np.maximum(self.exposed(exposure), 0), tone_map)

    def save(
        self,
        path: str | os.PathLike[str],
        tone_map: str = "neutral",
        exposure: float = 0.0,
        bit_depth: int = 8,
        quality: int = 95,
        half: bool = True,
        overwrite: bool = True,
    ) -> list[str]:
        """Write the picture whole or not at all; the suffix chooses the format.

        .png and .jpg hold the tone-mapped picture, .exr and .npy linear light. `exposure` applies to every format and
        is recorded in the EXR header. Alpha becomes a fourth channel, unless there is a background to put behind; a
        .jpg shows black behind. Only an .exr holds layers.

        Args:
            path: ends in .png, .jpg, .jpeg, .exr or .npy.
            tone_map: see `tone_mapped`.
            exposure: stops.
            bit_depth: 8 or 16 bits per channel of a PNG.
            quality: 1 … 100, of a JPEG.
            half: 16-bit floats in an EXR (True) or 32-bit.
            overwrite: whether an existing file may be replaced.

        Returns:
            Warnings about clipped pixels, with counts, and about alpha or layers that the format cannot hold.

        Raises:
            InputError: an unknown suffix, a value out of range, an existing file, an unwritable path, or NaN or
                infinite pixels.
        """
        path = Path(path)
        if not overwrite and path.exists():
            raise InputError(path, "exists already", "allow overwriting or choose another name")
        try:
            settings = SaveSettings(tone_map, exposure, bit_depth, quality, half)
            check_output(path, settings)
            with atomic_path(path) as temporary:
                notes = FORMATS[path.suffix.lower()].written(self, temporary, settings)
        except InputError as error:
            raise error.at(path) from None
        return [f"{path}: {note}" for note in notes]

    def to_bytes(self, suffix: str, settings: SaveSettings | None = None) -> tuple[bytes, list[str]]:
        """The bytes of the file that `save` writes for `suffix`, and its warnings.

        Raises:
            InputError: as `save`.
        """
        settings = settings or SaveSettings()
        check_output(Path(f"picture{suffix}"), settings)
        # OpenEXR writes only to a path.
        with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
            path = Path(folder) / f"picture{suffix}"
            notes = FORMATS[suffix.lower()].written(self, path, settings)
            return path.read_bytes(), notes

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Image:
        """Read linear light from an .exr (with the camera and metadata that `save` wrote) or .npy file.

        The exposure of an EXR stays applied and is in `metadata["exposure"]`.

        Raises:
            InputError: a missing or damaged file, or a format without linear light (PNG, JPEG).
        """
        path = Path(path)
        suffix = path.suffix.lower()
        read = FORMATS[suffix].read if suffix in FORMATS else None
        if read is None:
            readable = " or ".join(LINEAR_SUFFIXES)
            raise InputError(path, f"cannot read linear light from {suffix!r}", f"give an {readable} file")
        if not path.is_file():
            raise InputError(path, "no such file", "check the path")
        try:
            return read(path)
        except InputError as error:
            raise error.within(path) from None
        except (OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
            reason = one_line(str(error))[:160] or type(error).__name__
            raise InputError(path, f"cannot read the picture ({reason})", "the file is damaged") from None


@dataclass(frozen=True)
class SaveSettings:
    """Settings of a picture's file; the attributes are the arguments of `Image.save`.

    Raises:
        InputError: a value out of range.
    """

    tone_map: str = "neutral"
    exposure: float = 0.0
    bit_depth: int = 8
    quality: int = 95
    half: bool = True

    def __post_init__(self) -> None:
        check_tone_map(self.tone_map)
        _check_exposure(self.exposure)
        if self.bit_depth not in (8, 16):
            raise InputError("image", f"bit_depth is {self.bit_depth}", "expected 8 or 16")
        if not 1 <= self.quality <= 100:
            raise InputError("image", f"quality is {self.quality}", "expected 1 … 100")


@dataclass(frozen=True)
class Format:
    """A file format of pictures.

    Attributes:
        name: for messages.
        write: writes an image to a path; returns warnings about clipped pixels.
        options: the attributes of `SaveSettings` that it uses, besides `exposure`.
        read: reads linear light from a path; None for a format of display values.
        layers: whether it holds them.
    """

    name: str
    write: Callable[[Image, Path, SaveSettings], list[str]]
    options: tuple[str, ...] = ()
    read: Callable[[Path], Image] | None = None
    layers: bool = False

    def written(self, image: Image, path: Path, settings: SaveSettings) -> list[str]:
        """`write`, with a warning about layers that the format cannot hold."""
        notes = self.write(image, path, settings)
        if image.layers and not self.layers:
            notes.append(f"this {self.name} holds the picture alone, no layers; write an .exr")
        return notes


def check_output(path: Path, settings: SaveSettings) -> None:
    """Raise InputError where no picture can be saved to `path` with these settings, before it is rendered."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(path, f"unknown picture format {suffix!r}", f"end the name in {', '.join(FORMATS)}")
    form = FORMATS[suffix]
    if settings.bit_depth == 16 and form.read is None and "bit_depth" not in form.options:
        raise InputError(path, f"a {form.name} cannot hold 16 bits per channel", "write a .png or .exr")


def _checked_layer(name: str, values: Float32Array, size: tuple[int, ...]) -> Float32Array:
    """A copy that cannot be changed."""
    aov = aov_of(name)
    if aov is None:
        raise InputError("image", f"layer {name!r} is unknown", f"there are {', '.join(AOVS)}")
    layer = np.array(values, np.float32, order="C")
    if layer.shape != (*size, *aov.channels):
        raise InputError("image", f"layer {name} has shape {layer.shape}", f"expected {(*size, *aov.channels)}")
    layer.setflags(write=False)
    return layer


def _check_exposure(exposure: float) -> None:
    if not (math.isfinite(exposure) and abs(exposure) <= MAX_EXPOSURE):
        limits = f"expected stops between {-MAX_EXPOSURE:g} and {MAX_EXPOSURE:g}"
        raise InputError("image", f"exposure is {exposure}", limits)


def _with_alpha(pixels: AnyArray, alpha: AnyArray | None) -> AnyArray:
    """(height, width, 3) pixels, and alpha (height, width) as a fourth channel if there is one."""
    return pixels if alpha is None else np.concatenate([pixels, alpha[..., None].astype(pixels.dtype)], axis=2)


def _linear_pixels(image: Image, exposure: float, half: bool) -> tuple[AnyArray, list[str]]:
    """(height, width, 3 or 4) linear light, float16 if `half` else float32, and warnings about clipped pixels."""
    linear, alpha = image.flat(exposure), image.alpha if image.is_clear else None
    if not half:
        return _with_alpha(linear, alpha), []
    pixels, notes = _in_half(linear)
    return _with_alpha(pixels, alpha), notes


def _in_half(values: Float32Array) -> tuple[AnyArray, list[str]]:
    """(height, width, channels) values as float16, and a warning about clipped pixels."""
    clipped = int((np.abs(values) > MAX_HALF).any(axis=2).sum())
    note = f"{clipped} pixels exceed {MAX_HALF:g}, the largest half float, and were clipped; write 32-bit floats"
    return np.clip(values, -MAX_HALF, MAX_HALF).astype(np.float16), [note] if clipped else []


def _display_pixels(image: Image, tone_map: str, exposure: float, bit_depth: int = 8) -> tuple[AnyArray, list[str]]:
    """(height, width, 3 or 4) display values, uint8 or uint16, and warnings about clipped pixels."""
    levels = (1 << bit_depth) - 1
    display = (_unassociated(image) if image.is_clear else image).tone_mapped(tone_map, exposure)
    alpha = np.clip(image.alpha, 0, 1) if image.alpha is not None and image.is_clear else None
    pixels = np.rint(_with_alpha(display, alpha) * levels).astype(np.uint8 if bit_depth == 8 else np.uint16)
    clipped = int((image.exposed(exposure) > 1).any(axis=2).sum()) if tone_map == "none" else 0
    note = (
        f"{clipped} of {image.width * image.height} pixels are brighter than 1 and were clipped; lower the exposure "
        "or choose another tone map"
    )
    return pixels, [note] if clipped else []


def _unassociated(image: Image) -> Image:
    """The picture whose colours are those of the covered part of each pixel, as in a PNG; black where nothing is."""
    if image.alpha is None:
        return image
    alpha = image.alpha[..., None]
    colour = np.divide(image.hdr, alpha, out=np.zeros_like(image.hdr), where=alpha > 0)
    return replace(image, hdr=colour, alpha=None)


def _write_png(image: Image, path: Path, settings: SaveSettings) -> list[str]:
    import imageio.v3 as iio

    pixels, notes = _display_pixels(image, settings.tone_map, settings.exposure, settings.bit_depth)
    if settings.bit_depth == 16:
        path.write_bytes(png16_bytes(pixels))
    else:
        iio.imwrite(path, pixels, plugin="pillow")
    return notes


def _write_jpeg(image: Image, path: Path, settings: SaveSettings) -> list[str]:
    import imageio.v3 as iio

    opaque = replace(image, alpha=None) if image.is_clear else image
    pixels, notes = _display_pixels(opaque, settings.tone_map, settings.exposure)
    if image.is_clear:
        notes.append("a JPEG holds no alpha, the background is black; write a .png or .exr")
    # The default halves the chroma resolution, which shows at saturated edges.
    iio.imwrite(path, pixels, plugin="pillow", quality=settings.quality, subsampling=0)
    return notes


def _write_npy(image: Image, path: Path, settings: SaveSettings) -> list[str]:
    pixels, notes = _linear_pixels(image, settings.exposure, half=False)
    # To a path that ends in .NPY, NumPy would add .npy.
    with path.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)
    return notes


def _read_npy(path: Path) -> Image:
    return _split_alpha(np.load(path, allow_pickle=False))


def _split_alpha(pixels: AnyArray) -> Image:
    """The picture of (height, width, 3 or 4) pixels."""
    alpha = pixels[..., 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    return Image(pixels if alpha is None else pixels[..., :3], alpha=alpha)


def _write_exr(image: Image, path: Path, settings: SaveSettings) -> list[str]:
    pixels, notes = _linear_pixels(image, settings.exposure, settings.half)
    layers = {}
    for name, values in image.layers.items():
        # The colour of a background has no exposure.
        exposure = 0.0 if name == "background" and image.background is not None else settings.exposure
        layers[name], more = _stored_layer(name, values, exposure, settings.half)
        notes += more
    # A loaded picture may have an exposure already.
    facts = {**image.metadata, "exposure": float(image.metadata.get("exposure", 0.0)) + settings.exposure}
    exr.write(path, exr.Contents(pixels, layers, image.camera, facts))
    return notes


def _stored_layer(name: str, values: Float32Array, exposure: float, half: bool) -> tuple[AnyArray, list[str]]:
    """The values of a layer in a file, and warnings about clipped pixels."""
    aov = aov_of(name)
    assert aov is not None
    scaled = values * np.float32(2.0**exposure) if aov.light else values
    if aov.exact or not half:
        return scaled, []
    pixels, notes = _in_half(np.atleast_3d(scaled))
    return pixels.reshape(values.shape), [f"layer {name}: {note}" for note in notes]


def _read_exr(path: Path) -> Image:
    contents = exr.read(path)
    image = _split_alpha(contents.pixels)
    return replace(image, camera=contents.camera, metadata=contents.metadata, layers=contents.layers)


_JPEG = Format("JPEG", _write_jpeg, ("tone_map", "quality"))
FORMATS = {
    ".png": Format("PNG", _write_png, ("tone_map", "bit_depth")),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".exr": Format("EXR", _write_exr, ("half",), _read_exr, layers=True),
    ".npy": Format("NPY", _write_npy, read=_read_npy),
}
IMAGE_SUFFIXES = tuple(FORMATS)
LINEAR_SUFFIXES = tuple(suffix for suffix, form in FORMATS.items() if form.read is not None)
