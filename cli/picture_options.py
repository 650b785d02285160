"""The options of pictures: how they are drawn and saved; a wrong value is wrong usage.

Imported for `--help`: no NumPy, no torch.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli.options import PICTURE, refused, wrong

if TYPE_CHECKING:
    from renderformer.image import SaveSettings

_picture = functools.partial(typer.Option, rich_help_panel=PICTURE)


class ToneMap(enum.StrEnum):
    """Tone maps of `renderformer.image`."""

    NEUTRAL = "neutral"
    AGX = "agx"
    FILMIC = "filmic"
    PBR_NEUTRAL = "pbr-neutral"
    NONE = "none"


class BitDepth(enum.StrEnum):
    """Bits per channel of a PNG."""

    EIGHT = "8"
    SIXTEEN = "16"


@dataclass(frozen=True)
class SavingFlags:
    """How pictures are saved."""

    tone_map: Annotated[
        ToneMap,
        _picture(
            metavar="NAME",
            help="Of png and jpg: neutral, agx, filmic, pbr-neutral or none; exr and npy hold linear light.",
        ),
    ] = ToneMap.NEUTRAL
    exposure: Annotated[
        float, _picture(min=-32, max=32, metavar="STOPS", help="+1 doubles the light, in every format.")
    ] = 0.0
    bit_depth: Annotated[BitDepth, _picture(metavar="8|16", help="Of png.")] = BitDepth.EIGHT
    quality: Annotated[int, _picture(min=1, max=100, metavar="N", help="Of jpg.")] = 95
    full_float: Annotated[bool, _picture("--full-float", help="32-bit floats in exr; else 16.")] = False

    def settings(self, files: Sequence[str]) -> SaveSettings:
        """The settings for `files`; an unknown format, or an option that applies to no file, is wrong usage."""
        from renderformer.data.errors import InputError
        from renderformer.image import FORMATS, SaveSettings, check_output

        if not math.isfinite(self.exposure):
            raise wrong("is not a finite number", "--exposure")
        settings = SaveSettings(
            self.tone_map.value, self.exposure, int(self.bit_depth.value), self.quality, not self.full_float
        )
        try:
            for file in files:
                check_output(Path(file), settings)
        except InputError as error:
            raise refused(error, f"-o {error.place}") from None
        applicable = {option for file in files for option in FORMATS[Path(file).suffix.lower()].options}
        for option, name, requested in (
            ("--bit-depth", "bit_depth", self.bit_depth != BitDepth.EIGHT),
            ("--full-float", "half", self.full_float),
        ):
            if requested and name not in applicable:
                suffixes = ", ".join(suffix for suffix, form in FORMATS.items() if name in form.options)
                raise wrong(f"is for {suffixes} files, and none is written", option)
        return settings


@dataclass(frozen=True)
class PictureFlags(SavingFlags):
    """How pictures are drawn and saved."""

    resolution: Annotated[str, _picture("--resolution", "-r", metavar="N|WxH", help="Pixels.")] = "512"
    aov: Annotated[
        str | None,
        _picture(
            metavar="NAMES",
            help="Layers beside the picture in exr: all, or some of depth, normal, albedo, position, object, triangle, "
            "direct, indirect, highlight, reflection, emission, background, separated by commas.",
            show_default="none",
        ),
    ] = None

    def settings(self, files: Sequence[str]) -> SaveSettings:
        """See `SavingFlags.settings`; no file for the layers is wrong usage."""
        settings = super().settings(files)
        self.layers(files)
        return settings

    def layers(self, files: Sequence[str]) -> tuple[str, ...]:
        """The layers to make, names of `renderformer.aovs.AOVS`; an unknown one or no file for them is wrong usage."""
        from renderformer.aovs import AOVS, checked
        from renderformer.data.errors import InputError

        if self.aov is None:
            return ()
        _check_layered(files, "--aov")
        try:
            return tuple(AOVS) if self.aov == "all" else checked(self.aov.split(","))
        except InputError as error:
            raise refused(error, "--aov") from None

    def split(self, files: Sequence[str]) -> bool:
        """Whether each light gets a layer; no file for them is wrong usage."""
        return False


@dataclass(frozen=True)
class SplitPictureFlags(PictureFlags):
    """`PictureFlags`, and layers of single lights."""

    split_lights: Annotated[
        bool,
        _picture("--split-lights", help="A layer for each light beside the picture, in exr; see renderformer relight."),
    ] = False

    def split(self, files: Sequence[str]) -> bool:
        """See `PictureFlags.split`."""
        if self.split_lights:
            _check_layered(files, "--split-lights")
        return self.split_lights


def _check_layered(files: Sequence[str], option: str) -> None:
    from renderformer.image import FORMATS

    if not any(FORMATS[Path(file).suffix.lower()].layers for file in files):
        raise wrong("is for .exr files, and none is written", option)
