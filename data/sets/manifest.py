"""The manifest of a data set: recipe, package versions, hashes of meshes and shards."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from renderformer.data.declared import Declared
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_CONFIG_BYTES, atomic_path, read_bytes

FORMAT: Literal[4] = 4
# Formats that `conversion` reads.
OLD_FORMATS = (2, 3)
MANIFEST_FILE = "manifest.json"
# Training scenes have seeds below the first number, held-out scenes have seeds from there to the second. Imported
# scenes have no seed and are numbered from the second. `Recipe.check_range` keeps each set within its range.
HELD_OUT_SEED, IMPORTED_SEED = 1_000_000_000, 2_000_000_000
# Fields of a recipe that are 0 for imported scenes.
UNKNOWN_IF_IMPORTED = ("spp", "batches", "depth", "max_triangles")

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Recipe(Declared):
    """The parameters that, with the user's meshes, determine the content of every shard.

    Attributes:
        seed: of the first scene; scene k of the folder has seed + k.
        views: cameras per scene.
        resolution: pixels per side of the square pictures.
        spp: samples per pixel over all batches.
        batches: pictures of spp / batches samples that `generation.robust_mean` combines; 1 or 2 give the plain mean.
        depth: longest light path in segments (see `ReferenceScene`).
        scenes_per_shard: scenes per file; the last file of an imported set may have fewer.
        max_triangles: of a scene, stage and lights included.
        kind: "stage", objects on a stage in the trained range of the released models (`procedural_scene`), or "varied",
            scenes of all kinds (`varied_scene`).
        imported: rendered elsewhere (`renderformer data import`); spp, batches, depth and max_triangles are unknown, 0.

    Raises:
        InputError: a count out of range, or spp / batches is not a square number.
    """

    declared_place: ClassVar[str] = "data set"
    seed: CountOrZero = 0
    views: Count = 4
    resolution: Count = 64
    spp: CountOrZero = 64
    batches: CountOrZero = 4
    depth: CountOrZero = 5
    scenes_per_shard: Count = 32
    max_triangles: CountOrZero = 3000
    kind: Literal["stage", "varied"] = "stage"
    imported: bool = False

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        for key in UNKNOWN_IF_IMPORTED:
            value = getattr(self, key)
            if self.imported and value:
                raise InputError("", f"{key} is {value}", "expected 0 (not known) for an imported set")
            if not self.imported and not value:
                raise InputError("", f"{key} is {value}", "expected a whole number at least 1")
        if self.imported:
            return self
        share, remainder = divmod(self.spp, self.batches)
        if remainder:
            raise InputError("", f"spp {self.spp} does not split into {self.batches} batches", "give a multiple")
        if math.isqrt(share) ** 2 != share:
            # Mitsuba's multijitter sampler would round it up, and the manifest would understate the samples.
            raise InputError("", f"{self.spp} spp in {self.batches} batches are {share} each", "give a square number")
        return self

    @property
    def digest(self) -> str:
        """Short hash of the recipe."""
        # Existing manifests and prepared features have digests without the later keys.
        later = {"imported": False, "kind": "stage"}
        content = {key: value for key, value in self.model_dump().items() if later.get(key) != value}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def held_out(self) -> bool:
        """Whether the seeds are those of held-out scenes, which training must not use."""
        return HELD_OUT_SEED <= self.seed < IMPORTED_SEED

    def check_range(self, scenes: int) -> None:
        """Raise InputError if the seeds of that many scenes are not all of one kind of set."""
        end = self.seed + scenes
        limit = next((limit for limit in (HELD_OUT_SEED, IMPORTED_SEED) if self.seed < limit), None)
        if self.imported == (limit is not None) or (limit is not None and end > limit):
            raise InputError(
                "data set",
                f"seeds {self.seed} to {end - 1} are not of one kind; training has 0 to {HELD_OUT_SEED - 1}, "
                f"held-out scenes the {IMPORTED_SEED - HELD_OUT_SEED} after those",
                "lower --seed or --scenes",
            )


class Manifest(Declared):
    """The content of a data set's `manifest.json`.

    Attributes:
        digest: of the recipe.
        versions: package name to version, of those that scenes and pictures depend on.
        meshes: name of a user's mesh to the SHA-256 of its triangles.
        shards: file name of a finished shard to its SHA-256; some may be missing.
    """

    format: Literal[4] = FORMAT
    recipe: Recipe
    digest: str
    versions: dict[str, str] = {}
    meshes: dict[str, str] = {}
    shards: dict[str, str] = {}

    @model_validator(mode="after")
    def _check_digest(self) -> Self:
        if self.digest != self.recipe.digest:
            remedy = "a key of the recipe is missing or was edited, make the data set again"
            raise InputError("", f"digest is {self.digest}, but its recipe has {self.recipe.digest}", remedy)
        return self


def parse_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The unchecked content of a folder's manifest, in any format.

    Raises:
        InputError: no manifest, or one that is not a JSON object.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.exists():
        raise InputError(path, "no such file", f"make a data set with `renderformer data generate --out {folder}`")
    data = read_bytes(path, MAX_CONFIG_BYTES)
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"cannot be read ({error})", "delete the folder and make the data set again") from None
    if not isinstance(content, dict):
        raise InputError(path, "holds no keys and values", "delete the folder and make the data set again")
    return content


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The checked content of a folder's manifest.

    Raises:
        InputError: no manifest, or one that is damaged or of another format.
    """
    content, path = parse_manifest(folder), Path(folder) / MANIFEST_FILE
    if content.get("format") in OLD_FORMATS:
        remedy = f"convert it with `renderformer data convert {folder} --out NEW`"
        raise InputError(path, f"a data set of the old format {content['format']}", remedy)
    return Manifest.read(content, path)


def write_manifest(
    folder: str | os.PathLike[str], recipe: Recipe, versions: dict[str, str], meshes: dict[str, str] | None = None
) -> None:
    """Write the manifest of a new data set; creates the folder if it is missing.

    Raises:
        InputError: the folder cannot be created or written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot make this folder, {error.strerror or error}") from None
    _write(folder, Manifest(recipe=recipe, digest=recipe.digest, versions=versions, meshes=meshes or {}))


def record_hashes(folder: str | os.PathLike[str], hashes: dict[str, str]) -> None:
    """Add hashes of shards (file name to SHA-256) to the manifest.

    Machines that do this at the same time may lose each other's entries; `shards.verify` adds missing ones.
    """
    manifest = read_manifest(folder)
    if not hashes.items() <= manifest.shards.items():
        _write(folder, manifest.model_copy(update={"shards": dict(sorted((manifest.shards | hashes).items()))}))


def _write(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    content = {key: value for key, value in manifest.model_dump().items() if value}
    with atomic_path(Path(folder) / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
