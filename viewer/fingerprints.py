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

# The same of their arrays, by their ids: environments share images, and an object that was edited keeps most.
_ARRAYS: dict[int, tuple[weakref.ref[Any], bytes]] = {}


def fingerprint(scene: Scene) -> str:
    """A hash of all of a scene that pictures show but its cameras: triangles, normals, materials, textures, sides of
    lights, sides that cameras see, environment."""
    total = hashlib.blake2b(digest_size=16)
    for part in (*scene.objects, scene.environment):
        total.update(b"-" if part is None else _known(part))
    return total.hexdigest()


def name_placed(mesh: Mesh, base: Mesh, placement: str) -> None:
    """Let a mesh be known by the one that it was made of and a text that says where it is placed, instead of its
    corners."""
    _DIGESTS[mesh] = hashlib.blake2b(_known(base) + placement.encode(), digest_size=16).digest()


def alike_but_background(before: Scene, after: Scene) -> bool:
    """Whether two scenes with an environment differ in its background alone."""
    if before.environment is None or after.environment is None:
        return False
    if before.environment.background == after.environment.background:
        return False
    environment = after.environment.replace(background=before.environment.background)
    return fingerprint(before) == fingerprint(after.replace(environment=environment))


def _known(part: Mesh | Environment) -> bytes:
    digest = _DIGESTS.get(part)
    if digest is None:
        digest = _DIGESTS[part] = _digest(part)
    return digest


def _digest(part: Mesh | Environment) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    if isinstance(part, Environment):
        settings = (part.strength, part.rotation, part.background, part.suns)
        total.update(repr(settings).encode())
        total.update(_array_digest(part.image))
    else:
        total.update(np.asarray(part.two_sided).tobytes())
        total.update(part.camera_sides.encode())
        total.update(b"-" if part.appearance is None else part.appearance.digest)
        for array in (part.triangles, part.normals, part.materials, part.patches, part.patch_index):
            total.update(b"-" if array is None else _array_digest(array))
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
