"""Hashes of scenes, by which pictures and light are known again."""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import numpy as np

from renderformer.data.environment import Environment
from renderformer.data.scene import Mesh, Scene

# The digest of each live mesh and environment; they never change.
_DIGESTS: weakref.WeakKeyDictionary[Mesh | Environment, bytes] = weakref.WeakKeyDictionary()

# The same of large arrays, by their ids: environments share images, and an object that was moved keeps its materials.
_ARRAYS: dict[int, tuple[weakref.ref[Any], bytes]] = {}


def fingerprint(scene: Scene) -> str:
    """A hash of all of a scene that pictures show but its cameras: triangles, normals, materials, textures, sides of
    lights, sides that cameras see, environment."""
    total = hashlib.blake2b(digest_size=16)
    for part in (*scene.objects, scene.environment):
        digest = b"-" if part is None else _DIGESTS.get(part)
        if digest is None and part is not None:
            digest = _DIGESTS[part] = _digest(part)
        total.update(digest or b"-")
    return total.hexdigest()


def alike_but_background(before: Scene, after: Scene) -> bool:
    """Whether two scenes with an environment differ in its background alone."""
    if before.environment is None or after.environment is None:
        return False
    if before.environment.background == after.environment.background:
        return False
    environment = after.environment.replace(background=before.environment.background)
    return fingerprint(before) == fingerprint(after.replace(environment=environment))


def _digest(part: Mesh | Environment) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    if isinstance(part, Environment):
        settings = (part.strength, part.rotation, part.background, part.suns)
        total.update(repr(settings).encode())
        total.update(_array_digest(part.image))
        arrays: tuple[Any, ...] = ()
    else:
        sides = np.asarray(part.two_sided)
        arrays = (part.triangles, part.normals, part.patches, part.patch_index, sides)
        total.update(_array_digest(part.materials))
        total.update(part.camera_sides.encode())
        total.update(b"-" if part.appearance is None else part.appearance.digest)
    for array in arrays:
        total.update(b"-" if array is None else repr(array.shape).encode())
        total.update(b"" if array is None else np.ascontiguousarray(array).data)
    return total.digest()


def _array_digest(array: Any) -> bytes:
    """That of an array that never changes, which others may share."""
    number = id(array)
    known = _ARRAYS.get(number)
    if known is not None and known[0]() is array:
        return known[1]
    total = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    total.update(np.ascontiguousarray(array).data)
    _ARRAYS[number] = weakref.ref(array, lambda _: _ARRAYS.pop(number, None)), total.digest()
    return total.digest()
