"""Rendered pictures: linear light, exposure, tone mapping, and files."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.camera import Camera
from renderformer.data.colour import linear_to_srgb
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path

# Our names for the views of the OpenColorIO configuration that simple-ocio brings (Blender's); "none" is done here.
_OCIO_VIEWS = {"agx": "AgX", "filmic": "Filmic", "pbr-neutral": "Khronos PBR Neutral"}
TONE_MAPS = ("none", *_OCIO_VIEWS)
JPEG_SUFFIXES = (".jpg", ".jpeg")
LINEAR_SUFFIXES = (".exr", ".npy")
IMAGE_SUFFIXES = (".png", *JPEG_SUFFIXES, *LINEAR_SUFFIXES)
# Beyond this, 2 ** exposure leaves the range of float32 for ordinary pictures.
MAX_EXPOSURE = 32.0
MAX_HALF = 65504.0
_PREFIX = "renderformer."
# ITU-R BT.709 primaries and D65, as the `chromaticities` attribute of OpenEXR wants them.
_BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


@dataclass(frozen=True, eq=False)
class Image:
    """One rendered picture in linear light.

    Attributes:
        hdr: (height, width, 3) float32, linear RGB radiance (BT.709 primaries), row 0 at the top.
        camera: what it was seen by, if known; goes into the EXR header.
        metadata: what made it (model, resolution …), strings and numbers; goes into the EXR header.

    Raises:
        InputError: wrong shape or type. Pixels that are NaN or infinite are allowed here, so that they can be looked
            at, and refused by `tone_mapped` and `save`.
    """

    hdr: Float32Array
    camera: Camera | None = None
    metadata: Mapping[str, str | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hdr = np.array(self.hdr)
        if hdr.ndim != 3 or hdr.shape[2] != 3 or hdr.size == 0:
            raise InputError("image", f"hdr has shape {hdr.shape}", "expected (height, width, 3)")
        if hdr.dtype.kind != "f":
            raise InputError(
                "image", f"hdr is of type {hdr.dtype}", "expected floating point (linear light, not 0 … 255)"
            )
        # In rows of pixels: a model's picture comes in planes, and OpenEXR ignores strides.
        hdr = hdr.astype(np.float32, order="C")
        hdr.setflags(write=False)
        object.__setattr__(self, "hdr", hdr)
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.hdr.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.hdr.shape[0])

    def exposed(self, exposure: float = 0.0) -> Float32Array:
        """(height, width, 3) float32, `hdr` times 2 ** exposure.

        Args:
            exposure: stops (photographic: +1 doubles the light), in -32 … 32.

        Raises:
            InputError: exposure out of range, or pixels that are NaN or infinite (with their count).
        """
        if not (math.isfinite(exposure) and abs(exposure) <= MAX_EXPOSURE):
            raise InputError(
                "", f"exposure is {exposure}", f"expected stops between -{MAX_EXPOSURE:g} and {MAX_EXPOSURE:g}"
            )
        bad = int((~np.isfinite(self.hdr)).any(axis=2).sum())
        if bad:
            raise InputError(
                "",
                f"{bad} of {self.width * self.height} pixels are NaN or infinite",
                "render in fp32, and check that the scene and the model fit together",
            )
        return self.hdr * np.float32(2.0**exposure)

    def tone_mapped(self, tone_map: str = "agx", exposure: float = 0.0) -> Float32Array:
        """The picture for an sRGB display.

        Args:
            tone_map: "none" (clip to 0 … 1, then the sRGB curve), "agx", "filmic" or "pbr-neutral" (Blender's views,
                through OpenColorIO; they compress highlights instead of clipping them).
            exposure: stops, applied before.

        Returns:
            (height, width, 3) float32 display-encoded values in [0, 1].

        Raises:
            InputError: an unknown tone map, exposure out of range, or pixels that are NaN or infinite.
        """
        if tone_map not in TONE_MAPS:
            raise InputError("", f"tone_map is {tone_map!r}", f"expected one of {', '.join(TONE_MAPS)}")
        # The model's decoding may undershoot zero by rounding; there is no negative light to show.
        linear = np.maximum(self.exposed(exposure), 0)
        if tone_map == "none":
            return linear_to_srgb(np.minimum(linear, 1))
        # No view tells values above this from white, and infinities from +32 stops would become NaN.
        return np.asarray(_tone_mapper(tone_map).hdr_to_ldr(np.minimum(linear, 1e6)), np.float32)

    def save(
        self,
        path: str | os.PathLike[str],
        tone_map: str = "agx",
        exposure: float = 0.0,
        bit_depth: int = 8,
        quality: int = 95,
        half: bool = True,
        overwrite: bool = True,
    ) -> list[str]:
        """Write the picture whole or not at all; the suffix chooses the format.

        .png and .jpg hold the tone-mapped picture; .exr and .npy hold linear light and are never tone mapped, so
        `tone_map` does not apply to them. `exposure` applies to every format and is recorded in the EXR header.

        Args:
            path: ends in .png, .jpg, .jpeg, .exr or .npy.
            tone_map: see `tone_mapped`.
            exposure: stops.
            bit_depth: 8 or 16 bits per channel of a PNG.
            quality: 1 … 100, of a JPEG.
            half: 16-bit floats in an EXR (True) or 32-bit.
            overwrite: whether an existing file may be replaced.

        Returns:
            Lines that tell what the format could not hold (clipped pixels), with counts.

        Raises:
            InputError: an unknown suffix, a value out of range, an existing file, a place that cannot be written,
                or pixels that are NaN or infinite.
        """
        path = Path(path)
        check_output(path, bit_depth, quality)
        if not overwrite and path.exists():
            raise InputError(path, "exists already", "allow overwriting or choose another name")
        try:
            if path.suffix.lower() in LINEAR_SUFFIXES:
                pixels, notes = self._linear_pixels(exposure, half and path.suffix.lower() == ".exr")
            else:
                pixels, notes = self._display_pixels(tone_map, exposure, bit_depth)
        except InputError as error:
            raise error.within(path) from None
        with atomic_path(path) as temporary:
            _write(temporary, pixels, quality, self._exr_header(exposure))
        return [f"{path}: {note}" for note in notes]

    def _linear_pixels(self, exposure: float, half: bool) -> tuple[AnyArray, list[str]]:
        linear = self.exposed(exposure)
        if not half:
            return linear, []
        clipped = int((np.abs(linear) > MAX_HALF).any(axis=2).sum())
        note = f"{clipped} pixels exceed {MAX_HALF:g}, the largest half float, and were clipped; write 32-bit floats"
        return np.clip(linear, -MAX_HALF, MAX_HALF).astype(np.float16), [note] if clipped else []

    def _display_pixels(self, tone_map: str, exposure: float, bit_depth: int) -> tuple[AnyArray, list[str]]:
        levels = (1 << bit_depth) - 1
        display = self.tone_mapped(tone_map, exposure)
        pixels = np.rint(display * levels).astype(np.uint8 if bit_depth == 8 else np.uint16)
        clipped = int((self.exposed(exposure) > 1).any(axis=2).sum()) if tone_map == "none" else 0
        note = (
            f"{clipped} of {self.width * self.height} pixels are brighter than 1 and were clipped; lower the exposure "
            "or choose another tone map"
        )
        return pixels, [note] if clipped else []

    def _exr_header(self, exposure: float) -> dict[str, Any]:
        header: dict[str, Any] = {_PREFIX + key: value for key, value in self.metadata.items() if key != "exposure"}
        # A loaded picture may carry an exposure already.
        header["exposure"] = float(self.metadata.get("exposure", 0.0)) + float(exposure)
        if self.camera is not None:
            header["cameraToWorld"] = np.array(self.camera.c2w)
            header["cameraFov"] = float(self.camera.fov)
            header["cameraName"] = self.camera.name
        return header

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Image:
        """Read linear light from an .exr (with camera and metadata, where this program wrote them) or .npy file.

        An exposure in the EXR header stays applied; it is found in `metadata["exposure"]`.

        Raises:
            InputError: a missing or damaged file, or one that does not hold linear light (PNG, JPEG).
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in LINEAR_SUFFIXES:
            raise InputError(path, f"cannot read linear light from {suffix!r}", "give an .exr or .npy file")
        if not path.is_file():
            raise InputError(path, "no such file", "check the path")
        try:
            return _read_exr(path) if suffix == ".exr" else cls(np.load(path, allow_pickle=False))
        except InputError as error:
            raise error.within(path) from None
        except (OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(path, f"cannot read the picture ({reason})", "the file is damaged") from None


def check_output(path: Path, bit_depth: int = 8, quality: int = 95) -> None:
    """Raise InputError where `Image.save` could not write to `path` whatever the picture is (costs no rendering)."""
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(path, f"unknown picture format {suffix!r}", f"end the name in {', '.join(IMAGE_SUFFIXES)}")
    if bit_depth not in (8, 16):
        raise InputError(path, f"bit_depth is {bit_depth}", "expected 8 or 16")
    if bit_depth == 16 and suffix in JPEG_SUFFIXES:
        raise InputError(path, "a JPEG cannot hold 16 bits per channel", "write a .png or .exr")
    if not 1 <= quality <= 100:
        raise InputError(path, f"quality is {quality}", "expected 1 … 100")


@lru_cache(maxsize=len(_OCIO_VIEWS))
def _tone_mapper(tone_map: str) -> Any:
    from simple_ocio import ToneMapper

    return ToneMapper(_OCIO_VIEWS[tone_map])


def _write(path: Path, pixels: AnyArray, quality: int, exr_header: dict[str, Any]) -> None:
    import imageio.v3 as iio

    suffix = path.suffix.lower()
    if suffix == ".npy":
        # Given a path, NumPy would add .npy to a name in capitals.
        with path.open("wb") as file:
            np.save(file, pixels, allow_pickle=False)
    elif suffix == ".exr":
        _write_exr(path, pixels, exr_header)
    elif pixels.dtype == np.uint16:
        path.write_bytes(png16_bytes(pixels))
    elif suffix in JPEG_SUFFIXES:
        # Full chroma resolution: the default halves it, and saturated edges on a plain wall show that.
        iio.imwrite(path, pixels, plugin="pillow", quality=quality, subsampling=0)
    else:
        iio.imwrite(path, pixels, plugin="pillow")


def png16_bytes(pixels: npt.NDArray[np.uint16]) -> bytes:
    """A 16-bit RGB PNG (ISO/IEC 15948) of (height, width, 3) values; Pillow and imageio write only 8 bits of RGB."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # Filter type 2 (up) keeps the difference to the row above, byte by byte, which zlib packs much better.
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, width * 6)
    filtered = np.diff(rows, axis=0, prepend=np.zeros((1, width * 6), np.uint8))
    data = np.concatenate([np.full((height, 1), 2, np.uint8), filtered], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"sRGB", b"\0"), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _write_exr(path: Path, pixels: AnyArray, header: dict[str, Any]) -> None:
    import OpenEXR

    full = {**header, "compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "chromaticities": _BT709}
    try:
        with OpenEXR.File(full, {"RGB": pixels}) as file:
            file.write(str(path))
    except RuntimeError as error:
        # OpenEXR reports a full disk and the like this way; atomic_path turns an OSError into one line.
        raise OSError(str(error)) from None


def _read_exr(path: Path) -> Image:
    import OpenEXR

    with OpenEXR.File(str(path)) as file:
        header, channels = file.header(), file.channels()
        if "RGB" in channels or "RGBA" in channels:
            pixels = channels["RGB" if "RGB" in channels else "RGBA"].pixels[..., :3]
        elif all(name in channels for name in "RGB"):
            pixels = np.stack([channels[name].pixels for name in "RGB"], axis=-1)
        else:
            raise InputError("", f"no R, G and B channels, only {', '.join(sorted(channels)) or 'none'}")
        metadata = {key.removeprefix(_PREFIX): value for key, value in header.items() if key.startswith(_PREFIX)}
        if "exposure" in header:
            metadata["exposure"] = header["exposure"]
        camera = None
        if "cameraToWorld" in header and "cameraFov" in header:
            camera = Camera(header["cameraToWorld"], header["cameraFov"], str(header.get("cameraName", "")))
        # Made inside the block, since closing the file clears the header and the channels.
        return Image(pixels, camera, metadata)
