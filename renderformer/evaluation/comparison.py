"""Two pictures of files compared, with the metrics of `evaluate`.

Shapes: h x w pixels; linear light.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from renderformer.data.arrays import Float32Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError, one_line
from renderformer.evaluation import metrics
from renderformer.image import FORMATS, LINEAR_SUFFIXES, Image
from renderformer.sequences.frames import Kind, expand_inputs, stands_for_files

# Sizes of this much another aspect are not of one view.
ASPECT_SLACK = 0.02
# Share of the pixels, of the largest differences, that are white in a picture of the difference.
WHITE_SHARE = 0.001
_PICTURES = Kind("picture", tuple(FORMATS))


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far a picture is from a reference.

    Attributes:
        picture, reference: (h, w, 3) float32 linear light, of the smaller size of both.
        scores: "psnr" (dB, at most 100), "ssim", "flip" (missing where flip-evaluator is) and "relative_mse".
        notes: what was done to make them alike.
    """

    picture: Float32Array
    reference: Float32Array
    scores: dict[str, float]
    notes: tuple[str, ...] = ()

    def difference(self) -> tuple[Image, float]:
        """Picture minus reference in display values, the mean size over the channels, from black over red and yellow to
        white; and the difference that is white."""
        shown = (metrics.display(torch.tensor(part)).numpy() for part in (self.picture, self.reference))
        error = np.abs(np.subtract(*shown)).mean(axis=2)
        white = max(float(np.quantile(error, 1 - WHITE_SHARE)), 1 / 255)
        return Image(srgb_to_linear(metrics.heat(error, white) / 255).astype(np.float32)), white

    def signed(self) -> Image:
        """Picture minus reference, linear light."""
        return Image(self.picture - self.reference)


@dataclass(frozen=True)
class Pairs:
    """Pictures with their references.

    Attributes:
        files: of pictures and references.
        notes: about pictures without a reference; problems: about references without a picture.
    """

    files: tuple[tuple[Path, Path], ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def pairs_of(picture: str, reference: str) -> Pairs:
    """A picture with its reference, or those of the same names, but for suffixes, in two folders or patterns.

    Raises:
        InputError: one of both stands for many files, a folder holds pictures of several formats, or no two names are
            the same.
    """
    sides = (picture, reference)
    if not any(map(stands_for_files, sides)):
        return Pairs(((Path(picture), Path(reference)),))
    for side, other in (sides, sides[::-1]):
        if not stands_for_files(side):
            raise InputError(side, f"is one file, and {other} many", "give two files or two folders")
    ours, theirs = ({path.stem: path for path in expand_inputs([side], _PICTURES)} for side in sides)
    common = [name for name in ours if name in theirs]
    if not common:
        raise InputError(picture, f"has no picture of the name of one in {reference}", "names but for suffixes count")
    return Pairs(
        tuple((ours[name], theirs[name]) for name in common),
        _lacking(list(ours.keys() - theirs.keys()), f"{picture}: {{}} without a reference in {reference}"),
        _lacking(list(theirs.keys() - ours.keys()), f"{reference}: {{}} without a picture in {picture}"),
    )


def _lacking(names: list[str], line: str) -> tuple[str, ...]:
    listed = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
    return (line.format(f"{len(names)} ({listed})"),) if names else ()


def compare(picture: Path, reference: Path) -> Comparison:
    """Compare two files of `renderformer.image.FORMATS`.

    Raises:
        InputError: a file that cannot be read, pixels that are not finite, or sizes of different aspects.
    """
    (first, seen), (second, behind) = map(_read, (picture, reference))
    notes = [note for note in (seen, behind) if note]
    first, second, resized = _of_one_size(first, second, picture)
    notes += resized
    pair = [torch.tensor(pixels)[None] for pixels in (first, second)]
    functions = {"psnr": metrics.psnr, "ssim": metrics.ssim, "relative_mse": metrics.relative_mse}
    scores = {name: float(function(*pair)[0]) for name, function in functions.items()}
    try:
        scores["flip"] = float(metrics.flip(*pair).mean())
    except InputError as error:
        notes.append(f"no {error}")
    return Comparison(first, second, scores, tuple(notes))


def _read(path: Path) -> tuple[Float32Array, str]:
    """(h, w, 3) linear light of a file, and a note; of a transparent picture the light of its covered part."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(path, f"cannot read pictures in {suffix!r}", f"give one in {', '.join(FORMATS)}")
    if suffix in LINEAR_SUFFIXES:
        return _finite(Image.load(path).hdr, path), ""
    note = f"{path}: display values, taken as sRGB without a tone map; relative MSE needs linear light (.exr, .npy)"
    return _display(path), note


def _display(path: Path) -> Float32Array:
    from PIL import Image as Pillow

    try:
        with Pillow.open(path, formats=("PNG", "JPEG")) as file:
            pixels = np.asarray(file.convert("RGBA"), np.float32) / 255
    except FileNotFoundError:
        raise InputError(path, "no such file", "check the path") from None
    # Pillow raises many kinds of exceptions for damaged pictures.
    except Exception as error:
        raise InputError(path, f"cannot read the picture ({one_line(str(error))[:160]})", "is it damaged?") from None
    return (srgb_to_linear(pixels[..., :3]) * pixels[..., 3:]).astype(np.float32)


def _finite(pixels: Float32Array, path: Path) -> Float32Array:
    count = int((~np.isfinite(pixels)).any(axis=2).sum())
    if count:
        raise InputError(path, f"{count} of {pixels[..., 0].size} pixels are NaN or infinite", "draw it again")
    return pixels


def _of_one_size(first: Float32Array, second: Float32Array, path: Path) -> tuple[Float32Array, Float32Array, list[str]]:
    """Both pictures, the larger one reduced to the size of the smaller, and a note about it."""
    if first.shape == second.shape:
        return first, second, []
    sizes = [f"{pixels.shape[1]} x {pixels.shape[0]}" for pixels in (first, second)]
    ratio = first.shape[1] * second.shape[0] / (first.shape[0] * second.shape[1])
    if abs(ratio - 1) > ASPECT_SLACK:
        raise InputError(path, f"has {sizes[0]} pixels, the reference {sizes[1]}", "compare pictures of one aspect")
    height, width = (min(sides) for sides in zip(first.shape[:2], second.shape[:2], strict=True))
    note = f"{sizes[0]} and {sizes[1]} pixels are compared at {width} x {height}, by means in linear light"
    return _reduced(first, height, width), _reduced(second, height, width), [note]


def _reduced(pixels: Float32Array, height: int, width: int) -> Float32Array:
    """Means over the pixels of a smaller picture."""
    from PIL import Image as Pillow

    if pixels.shape[:2] == (height, width):
        return pixels
    planes = [Pillow.fromarray(np.ascontiguousarray(pixels[..., k])) for k in range(3)]
    return np.stack([np.asarray(p.resize((width, height), Pillow.Resampling.BOX)) for p in planes], axis=-1)
