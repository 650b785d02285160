"""MTL: the materials of OBJ files, with the statements for physically based ones that exporters have added.

Conversion:
* diffuse = Kd, emission = Ke, alpha = d or 1 - Tr. Exporters often leave Kd and Ks black or grey beside a picture,
  which then counts alone; only a coloured factor (`_TINT`) multiplies it, as the format says.
* The Phong exponent Ns becomes GGX alpha = sqrt(2 / (Ns + 2)) (Walter et al., "Microfacet Models for Refraction through
  Rough Surfaces", 2007), so roughness = (2 / (Ns + 2)) ** 0.25.
* specular = Ks 8 / (Ns + 8) if the illumination model has a highlight. Ks is the peak brightness of the lobe
  Ks / pi cos^Ns, not its reflectance; the normalised Blinn-Phong lobe (Ns + 8) / (8 pi) of this reflectance has the
  same peak. The minimum is 0.08 Ks, because some files use Ks 0.5 for the 4 % of a dielectric; it is also the value
  for Ns = 0, which stands for no exponent.
* If Kd + Ks > 1, one factor scales all channels of Ks, so that a grey highlight stays grey.
* Pr, Pm and their pictures make a metallic material of base colour Kd and roughness Pr, as in glTF.
* Opacity is that of map_d, or the alpha of map_Kd if some of it is clear. It cuts if it has two values, else it blends.
* norm and map_Kn are normal maps, and bump is one if its colours are those of directions; other bump pictures are
  heights of `_BUMP` of the width of the picture.

Colour space: Kd, Ks and Ke are linear; the pictures of colours are sRGB, others linear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from renderformer.data.arrays import UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.formats.folder import Folder
from renderformer.data.formats.parts import Notes
from renderformer.data.formats.text import as_utf8
from renderformer.data.formats.textures import PictureDecoder, is_mask
from renderformer.data.material import DIELECTRIC, RGB, Material, Textures
from renderformer.data.notes import Guess, Routine, reworded
from renderformer.data.texture import Texture, Wrap

# Statements that name a picture, and their other spellings.
_PICTURES = {
    "map_kd": "map_kd",
    "map_ks": "map_ks",
    "map_ke": "map_ke",
    "map_emissive": "map_ke",
    "map_d": "map_d",
    "map_opacity": "map_d",
    "map_pr": "map_pr",
    "map_pm": "map_pm",
    "bump": "bump",
    "map_bump": "bump",
    "norm": "norm",
    "map_kn": "norm",
    "map_norm": "norm",
}
# The ambient colour is a part of global illumination. map_Ka mostly repeats map_Kd.
_SILENT = {"map_ka"}
# Numbers after an option; "-s 2" may have one to three.
_OPTIONS = {
    "-s": 3,
    "-o": 3,
    "-t": 3,
    "-mm": 2,
    "-bm": 1,
    "-boost": 1,
    "-texres": 1,
    "-clamp": 1,
    "-blendu": 1,
    "-blendv": 1,
    "-cc": 1,
    "-imfchan": 1,
    "-type": 1,
}
_GLASS = (4, 6, 7, 9)
# Glass that lets all light pass keeps this opacity, so that its highlights are seen.
_LEAST_GLASS = 0.1
# A colour multiplies its picture if its channels differ by more than this share.
_TINT = 0.25
_BUMP = 0.005
# Of 34 pictures with alpha of 2,000 files, 30 have more than this share of clear pixels; they show leaves, nets, text,
# flames. Without clear pixels the alpha may be something else, such as gloss.
_CLEAR, _CLEAR_SHARE = 32, 0.005
MAX_MATERIALS = 100_000
# Longer statements name no file that could exist.
_MAX_LINE = 16384


@dataclass(frozen=True)
class Map:
    """A statement that names a picture.

    Attributes:
        name: of the file.
        folder: that of the MTL file, relative to the mesh file; pictures are looked for there first.
        scale, offset: of the texture coordinates, from -s and -o.
        clamp: whether the picture is not repeated.
        strength: of a normal or height map, from -bm.
        channel: r, g, b, m (alpha), l (brightness) or "" if the statement does not say.
    """

    name: str
    folder: str = ""
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamp: bool = False
    strength: float = 1.0
    channel: str = ""

    def texture(self, pixels: UInt8Array, srgb: bool) -> Texture:
        """The picture with the coordinates and wrap modes of the statement."""
        wrap: Wrap = "clamp" if self.clamp else "repeat"
        (u, v), (left, low) = self.scale, self.offset
        # -s and -o count from the lower left corner.
        matrix = np.array([[u, 0, left], [0, v, 1 - v - low]], np.float64)
        return Texture(pixels, srgb, matrix, (wrap, wrap))


@dataclass
class Entry:
    """A material as it is written: numbers and pictures by statement, in lower case."""

    values: dict[str, list[str]] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def parse(content: bytes, folder: str = "") -> dict[str, Entry]:
    """The materials of a file by name; the first of several with one name counts.

    Args:
        folder: that of the file, relative to the mesh file.
    """
    entries: dict[str, Entry] = {}
    entry = Entry()
    for line in as_utf8(content).decode().splitlines():
        key, _, rest = line.replace("\t", " ").strip().partition(" ")
        key, rest = key.lower(), rest.strip()
        if not rest or key.startswith("#") or len(line) > _MAX_LINE:
            continue
        if key == "newmtl":
            entry = Entry()
            entries.setdefault(" ".join(rest.split()), entry)
            if len(entries) > MAX_MATERIALS:
                raise InputError("", f"defines more than {MAX_MATERIALS} materials", "export fewer")
        elif key in _PICTURES:
            found = _parsed_map(rest, folder)
            if found is not None:
                entry.maps.setdefault(_PICTURES[key], found)
        elif key.startswith(("map_", "disp", "refl", "decal")):
            if key not in _SILENT:
                entry.others.add(key)
        else:
            entry.values[key] = rest.split("#")[0].split()
    return entries


def _parsed_map(text: str, folder: str) -> Map | None:
    """The statement without its keyword: options, then a file name that may have spaces."""
    options: dict[str, list[str]] = {}
    while text.startswith("-"):
        option, _, rest = text.partition(" ")
        if option.lower() not in _OPTIONS:
            break
        values: list[str] = []
        text = rest.strip()
        while len(values) < _OPTIONS[option.lower()] and text:
            word, _, rest = text.partition(" ")
            # -s, -o and -t may have fewer numbers; the last word is the file.
            if not rest.strip() or (len(values) and _number(word, None) is None):
                break
            values.append(word)
            text = rest.strip()
        options[option.lower()] = values
    name = text.strip().strip('"')
    if not name:
        return None
    scale, offset = _pair(options.get("-s"), 1.0), _pair(options.get("-o"), 0.0)
    strength = _number(options.get("-bm"), 1.0)
    clamp = options.get("-clamp", [""])[:1] == ["on"]
    channel = (options.get("-imfchan") or [""])[0].lower()
    return Map(name, folder, scale, offset, clamp, 1.0 if strength is None else strength, channel)


def _pair(words: list[str] | None, default: float) -> tuple[float, float]:
    numbers = [_number(word, default) for word in (words or [])[:2]]
    first, second = [*(default if n is None else n for n in numbers), default, default][:2]
    return (first, second) if max(abs(first), abs(second)) < 1e6 else (default, default)


def _number(value: Any, default: float | None) -> float | None:
    """The last number of some words; "-halo 0.5" has one."""
    try:
        number = float(np.asarray(value[-1] if isinstance(value, list) else value, np.float64).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return default
    return number if np.isfinite(number) else default


def material_from_mtl(values: Mapping[str, Any]) -> tuple[Material, list[str]]:
    """The Material of the numbers of an MTL material, and lines about changed values.

    Args:
        values: `kd`, `ks` and `ke` as lists of numbers or text, `ns`, `illum`, `d`, `tr`, `pr`, `pm`; keys in lower
            case.
    """
    changes: list[str] = []

    def number(key: str, default: float) -> float:
        found = _number(values.get(key), default)
        return default if found is None else found

    kd, emission = _rgb(values, "kd", 0.8, changes), _rgb(values, "ke", 0.0, changes, upper=60000.0)
    alpha = _alpha(values, number, changes)
    if "pr" in values or "pm" in values:
        roughness, metallic = (min(max(number(key, default), 0.0), 1.0) for key, default in (("pr", 0.5), ("pm", 0.0)))
        return Material(kd, (DIELECTRIC,) * 3, roughness, emission, metallic, alpha=alpha), changes
    ks = _rgb(values, "ks", 0.0, changes)
    # Illumination models 0 and 1 (constant colour, Lambert) do not use Ks.
    if number("illum", 2.0) < 2:
        ks = (0.0, 0.0, 0.0)
    exponent = max(0.0, number("ns", 0.0))
    red, green, blue = (channel * _reflectance(exponent) for channel in ks)
    if alpha < 1 and number("illum", 2.0) in _GLASS:
        red, green, blue = (max(channel, DIELECTRIC) for channel in (red, green, blue))
    return Material(kd, (red, green, blue), (2.0 / (exponent + 2.0)) ** 0.25, emission, alpha=alpha), changes


def _reflectance(exponent: float) -> float:
    """Reflectance of a Phong lobe with Ks 1."""
    return max(2 * DIELECTRIC, 8 / (exponent + 8)) if exponent else 2 * DIELECTRIC


def _alpha(values: Mapping[str, Any], number: Callable[[str, float], float], changes: list[str]) -> float:
    """Opacity; a material that nobody could see is taken for an exporter's mistake."""
    alpha = min(max(number("d", 1.0 - number("tr", 0.0)), 0.0), 1.0)
    if alpha == 0 and number("illum", 2.0) not in _GLASS:
        changes.append(Guess(f"fully transparent ({'d 0' if 'd' in values else 'Tr 1'}), drawn opaque"))
        return 1.0
    return max(alpha, _LEAST_GLASS) if number("illum", 2.0) in _GLASS else alpha


def _rgb(values: Mapping[str, Any], key: str, default: float, changes: list[str], upper: float = 1.0) -> RGB:
    """The colour `key`, or grey `default`; adds lines about changed values to `changes`."""
    if values.get(key) is None:
        return default, default, default
    try:
        # A fourth number is an opacity that does not belong there.
        numbers = np.broadcast_to(np.asarray(values[key], np.float64).reshape(-1)[:3], (3,))
    except (TypeError, ValueError):
        numbers = np.full(3, np.nan)
    if not np.isfinite(numbers).all():
        changes.append(f"{key.capitalize()} is not three numbers, replaced by {default:g}")
        return default, default, default
    red, green, blue = np.clip(numbers, 0, upper).tolist()
    if (red, green, blue) != tuple(numbers.tolist()):
        changes.append(Routine(f"{key.capitalize()} clipped to 0 … {upper:g}"))
    return red, green, blue


class Library:
    """The materials of an OBJ file.

    Args:
        folder: of the file.
        notes: of the file.
    """

    def __init__(self, folder: Folder, notes: Notes) -> None:
        self._folder, self._notes = folder, notes
        self._decoder = PictureDecoder(notes.lines)
        self._entries: dict[str, Entry] = {}
        # Problems of MTL files and of pictures, and statements that are not drawn.
        self._unread: list[str] = []
        self._missing: dict[str, str] = {}
        self._ignored: set[str] = set()
        # Objects share the materials, and materials the pictures.
        self.material = cache(self._material)
        self._pixels = cache(self._decoded)

    @property
    def names(self) -> list[str]:
        """Of the materials."""
        return list(self._entries)

    @property
    def textured(self) -> set[str]:
        """Names of the materials with pictures."""
        return {name for name, entry in self._entries.items() if entry.maps}

    def read(self, statement: str, stem: str) -> None:
        """Read the files that a mtllib statement names; one that is missing may be called like the OBJ file."""
        names = [statement]
        if not self._folder.has(statement):
            names = [name for name in statement.split() if name.lower().endswith(".mtl")]
            names = names if len(names) > 1 else [statement]
        for name in names:
            try:
                content = self._folder.get(self._present(name, f"{stem}.mtl"))
                entries = parse(content, str(PurePosixPath(name.replace("\\", "/")).parent))
            except InputError as error:
                self._unread.append(error.problem)
                continue
            self._entries = {**entries, **self._entries}

    def _present(self, name: str, other: str) -> str:
        """The name of a file, or another one if only that exists; then with a note."""
        if self._folder.has(name) or not self._folder.has(other):
            return name
        self._notes.lines.append(Guess(f"{name!r} is missing, {other!r} is read instead"))
        return other

    def report(self, used: set[str]) -> None:
        """Add to the notes what could not be read and what is not drawn, one line each.

        Args:
            used: names of the materials of the mesh.
        """
        lines = list(dict.fromkeys(self._unread))
        unknown = used - set(self._entries)
        if unknown:
            undefined = f"{len(unknown)} materials are named but not defined in an MTL file"
            lines.append(f"{undefined} ({min(unknown)[:60]!r}), grey instead")
        if lines:
            self._notes.lines.append("; ".join(lines))
        if self._missing:
            count = len(self._missing)
            more = f", and {count - 1} other pictures are not read either" if count > 1 else ""
            self._notes.lines.append(f"{next(iter(self._missing.values()))}{more}")
        if self._ignored:
            self._notes.lines.append(f"not drawn: {', '.join(sorted(self._ignored))}")

    def _material(self, name: str) -> Material | None:
        """A material by its name; None if it is not defined."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        self._ignored |= entry.others
        read = {key: self._picture(key, entry) for key in entry.maps}
        pictures = {key: pixels for key, pixels in read.items() if pixels is not None}
        values = entry.values | _alone(entry.values, set(pictures))
        material, changes = material_from_mtl(values)
        for change in changes:
            self._notes.counts[reworded(change, f"materials: {change}")] += 1
        textures, strength, cutoff = self._textures(pictures, entry.maps, material)
        return replace(material, textures=textures, normal_scale=strength, alpha_cutoff=cutoff)

    def _picture(self, key: str, entry: Entry) -> UInt8Array | None:
        """The pixels of a statement's picture."""
        found, colour = entry.maps[key], entry.maps.get("map_kd")
        srgb = key in ("map_kd", "map_ks", "map_ke")
        if key == "map_d" and colour is not None and colour.name == found.name:
            srgb = True
        return self._pixels(found.name, found.folder, srgb, key in ("map_kd", "map_d"))

    def _decoded(self, name: str, folder: str, srgb: bool, alpha: bool) -> UInt8Array | None:
        inner = str(PurePosixPath(folder) / name.replace("\\", "/"))
        try:
            data = self._folder.get(inner if folder and self._folder.has(inner) else name)
        except InputError as error:
            self._missing.setdefault(name, error.problem)
            return None
        return self._decoder.pixels(data, "texture", srgb, alpha, name)

    def _textures(
        self, pictures: dict[str, UInt8Array], maps: dict[str, Map], material: Material
    ) -> tuple[Textures, float, float | None]:
        """The textures of a material, the factor of its normals, and the limit of its alpha."""
        base, cutoff = self._base(pictures, maps)
        plain = {key: maps[key].texture(pictures[key], True) for key in ("map_ks", "map_ke") if key in pictures}
        channels = _channels(pictures, maps) if material.metallic is not None else None
        normal, strength = _normals(pictures, maps)
        specular = plain.get("map_ks") if material.metallic is None and any(material.specular) else None
        return Textures(base, channels, specular, plain.get("map_ke"), normal), strength, cutoff

    def _base(self, pictures: dict[str, UInt8Array], maps: dict[str, Map]) -> tuple[Texture | None, float | None]:
        """The picture of colour and opacity, and the limit of a mask."""
        colour, opacity = pictures.get("map_kd"), None
        if "map_d" in pictures:
            opacity = _scalar(pictures["map_d"], maps["map_d"].channel)
        elif colour is not None and colour.shape[2] == 4:
            if (colour[..., 3] < _CLEAR).mean() > _CLEAR_SHARE:
                opacity = colour[..., 3]
            else:
                self._ignored.add("alpha of map_kd without map_d")
        if opacity is not None and not opacity.any():
            self._ignored.add("map_d that is 0 everywhere")
            opacity = None
        if colour is None and opacity is None:
            return None, None
        found = maps["map_kd" if colour is not None else "map_d"]
        if opacity is None:
            assert colour is not None
            return found.texture(colour[..., :3], True), None
        white = np.full((*opacity.shape, 3), 255, np.uint8)
        colour, opacity = _same_size(white if colour is None else colour[..., :3], opacity)
        cutoff = 0.5 if is_mask(opacity) else None
        return found.texture(np.dstack([colour, opacity]), True), cutoff


def _alone(values: Mapping[str, list[str]], pictures: set[str]) -> dict[str, list[str]]:
    """Numbers that do not count beside their pictures, as 1."""
    alone: dict[str, list[str]] = {}
    for key, picture in (("kd", "map_kd"), ("ks", "map_ks"), ("ke", "map_ke"), ("pr", "map_pr"), ("pm", "map_pm")):
        if picture not in pictures:
            continue
        low, *_, high = sorted(_rgb(values, key, 0.0, [], upper=np.inf))
        grey = high - low <= _TINT * high
        if (high == 0) if key == "ke" else (grey or key in ("pr", "pm")):
            alone[key] = ["1"]
    if "map_d" in pictures and _number(values.get("d"), 1.0) == 0:
        alone["d"] = ["1"]
    return alone


def _channels(pictures: dict[str, UInt8Array], maps: dict[str, Map]) -> Texture | None:
    """The picture with roughness in green and metallic in blue, from map_Pr and map_Pm."""
    present = [key for key in ("map_pr", "map_pm") if key in pictures]
    if not present:
        return None
    # One picture for both is laid out as in glTF.
    packed = len(present) == 2 and maps["map_pr"].name == maps["map_pm"].name
    default = {"map_pr": "g", "map_pm": "b"} if packed else {}
    scalars = [_scalar(pictures[key], maps[key].channel or default.get(key, "l")) for key in present]
    first, second = _same_size(scalars[0], scalars[-1])
    white = np.full(first.shape, 255, np.uint8)
    rough, metal = (first if "map_pr" in present else white), (second if "map_pm" in present else white)
    return maps[present[0]].texture(np.dstack([white, rough, metal]), False)


def _normals(pictures: dict[str, UInt8Array], maps: dict[str, Map]) -> tuple[Texture | None, float]:
    """The normal map and its factor."""
    key = next((key for key in ("norm", "bump") if key in pictures), None)
    if key is None:
        return None, 1.0
    found, pixels = maps[key], pictures[key]
    if key == "norm" or _shows_directions(pixels):
        return found.texture(pixels[..., :3], False), found.strength
    return found.texture(_normals_of_heights(_scalar(pixels, found.channel), found.strength), False), 1.0


def _shows_directions(pixels: UInt8Array) -> bool:
    """Whether the colours of a picture are those of a normal map: unit vectors that mostly point out."""
    step = max(1, int(np.sqrt(pixels.shape[0] * pixels.shape[1]) // 256))
    vectors = pixels[::step, ::step, :3].reshape(-1, 3) / 127.5 - 1
    length = np.linalg.norm(vectors, axis=1)
    upright = vectors[:, 2].mean() - vectors[:, :2].mean() > 0.3
    return bool(upright and (np.abs(length - 1) < 0.25).mean() > 0.8 and (vectors[:, 2] > -0.1).mean() > 0.95)


def _normals_of_heights(heights: UInt8Array, strength: float) -> UInt8Array:
    """(H, W, 3) normal map of a height map (H, W) that is repeated."""
    slope = np.float32(_BUMP * strength * heights.shape[1] / 255 / 2)
    result = np.empty((*heights.shape, 3), np.uint8)
    for start in range(0, len(heights), 256):
        rows = np.arange(start, min(start + 256, len(heights)))
        strip = heights[rows].astype(np.float32)
        right = np.roll(strip, -1, axis=1) - np.roll(strip, 1, axis=1)
        below = heights[(rows + 1) % len(heights)].astype(np.float32) - heights[rows - 1].astype(np.float32)
        # Rows of a picture go down, the second axis of a normal map goes up.
        normals = np.dstack([-slope * right, slope * below, np.ones_like(strip)])
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        result[rows] = np.rint((normals + 1) * 127.5)
    return result


def _scalar(pixels: UInt8Array, channel: str) -> UInt8Array:
    """(H, W) one channel of a picture; its alpha, if it has one, or its brightness if the statement does not say."""
    if channel in ("r", "g", "b"):
        return np.ascontiguousarray(pixels[..., "rgb".index(channel)])
    if pixels.shape[2] == 4 and channel in ("", "m"):
        return np.ascontiguousarray(pixels[..., 3])
    return np.asarray(pixels[..., :3].mean(axis=2, dtype=np.float32).round(), np.uint8)


def _same_size(first: UInt8Array, second: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
    """Both pictures, the smaller one enlarged to the size of the other."""
    height, width = max(first.shape[:2], second.shape[:2], key=lambda shape: shape[0] * shape[1])
    size = (width, height)
    return _resized(first, size), _resized(second, size)


def _resized(pixels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    image = Image.fromarray(pixels)
    return pixels if image.size == size else np.asarray(image.resize(size, Image.Resampling.BILINEAR))
