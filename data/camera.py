"""Perspective cameras in the Blender/OpenGL convention, and directions by azimuth and elevation.

World frame: right-handed, Z up, scene units. Azimuth and elevation are in degrees: azimuth 0 is -Y and grows
counter-clockwise seen from above, elevation is above the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array
from renderformer.data.errors import InputError


def direction(azimuth: float, elevation: float) -> Float64Array:
    """(3,) unit vector from the origin toward an azimuth and elevation in degrees."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])


def angles(vector: Sequence[float] | AnyArray) -> tuple[float, float]:
    """Azimuth and elevation in degrees of a unit vector (3,); the azimuth of a vertical vector is arbitrary."""
    x, y, z = (float(v) for v in vector)
    return math.degrees(math.atan2(x, -y)), math.degrees(math.asin(max(-1.0, min(1.0, z))))


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    Attributes:
        c2w: (4, 4) float32, rigid camera-to-world transform; the camera has +X right, +Y up and looks along -Z.
        fov: full vertical angle of view in degrees, in (0, 180); the horizontal angle follows from the aspect ratio.
        name: for messages and file name templates; may be empty.

    Raises:
        InputError: c2w is not a finite rigid transform, or fov is out of range.
    """

    c2w: Float32Array
    fov: float = 37.5
    name: str = ""

    def __post_init__(self) -> None:
        place, c2w = f"camera {self.name!r}", np.array(self.c2w, np.float32)
        if c2w.shape != (4, 4):
            raise InputError(place, f"c2w has shape {c2w.shape}", "expected (4, 4)")
        if not np.isfinite(c2w).all():
            raise InputError(place, "c2w holds values that are not finite", "expected numbers")
        rotation = c2w[:3, :3].astype(np.float64)
        rigid = np.abs(rotation.T @ rotation - np.eye(3)).max() < 1e-3 and np.linalg.det(rotation) > 0
        if not rigid or np.abs(c2w[3] - np.array([0, 0, 0, 1])).max() > 1e-6:
            remedy = "its upper left 3 x 3 block must be a rotation and its last row 0 0 0 1"
            raise InputError(place, "c2w is not a rigid transform", remedy)
        try:
            fov = float(self.fov)
        except (TypeError, ValueError):
            raise InputError(place, f"fov is {self.fov!r}", "expected degrees between 0 and 180") from None
        if not 0 < fov < 180:
            raise InputError(place, f"fov is {fov:g}", "expected degrees between 0 and 180")
        c2w.setflags(write=False)
        object.__setattr__(self, "c2w", c2w)
        object.__setattr__(self, "fov", fov)

    @property
    def position(self) -> Float32Array:
        """(3,) world position of the centre of projection."""
        return self.c2w[:3, 3]

    @property
    def forward(self) -> Float32Array:
        """(3,) unit world direction of view."""
        return -self.c2w[:3, 2]

    def rays(self, x: AnyArray | float, y: AnyArray | float, width: float, height: float) -> Float64Array:
        """(3, ...) world directions of the rays through points of a picture, scaled to depth 1 along the view axis.

        Args:
            x, y: positions of one shape, in pixels right and down from the upper left corner of the picture; the centre
                of the first pixel is (0.5, 0.5).
            width, height: of the picture in pixels.
        """
        focal = height / 2 / np.tan(np.radians(self.fov) / 2)
        local = np.empty((3, *np.shape(x)))
        local[0] = (x - width / 2) / focal
        local[1] = -(y - height / 2) / focal
        local[2] = -1
        world = self.c2w[:3, :3].astype(np.float64) @ local.reshape(3, -1)
        return np.asarray(world.reshape(local.shape))

    def transformed(self, matrix: AnyArray) -> Camera:
        """The camera moved with a scene by an affine (4, 4) matrix that rotates, scales evenly and translates.

        Raises:
            InputError: the matrix does anything else.
        """
        m = np.asarray(matrix, np.float64)
        scale = abs(np.linalg.det(m[:3, :3])) ** (1 / 3)
        c2w = np.eye(4)
        c2w[:3, :3] = m[:3, :3] / max(scale, 1e-30) @ self.c2w[:3, :3]
        c2w[:3, 3] = m[:3, :3] @ self.position.astype(np.float64) + m[:3, 3]
        return replace(self, c2w=c2w.astype(np.float32))

    @classmethod
    def look_at(
        cls,
        position: Sequence[float] | AnyArray,
        target: Sequence[float] | AnyArray = (0.0, 0.0, 0.0),
        up: Sequence[float] | AnyArray = (0.0, 0.0, 1.0),
        fov: float = 37.5,
        name: str = "",
    ) -> Camera:
        """A camera at `position` that looks at `target`; columns right, up, backward, position (spec scenes.md).

        Raises:
            InputError: position and target coincide, or `up` is parallel to the direction of view.
        """
        place = f"camera {name!r}"
        eye, centre, above = (np.asarray(v, np.float64) for v in (position, target, up))
        for label, vector in (("position", eye), ("target", centre), ("up", above)):
            if vector.shape != (3,) or not np.isfinite(vector).all():
                raise InputError(place, f"{label} is {vector.tolist()}", "expected three finite numbers")
        backward = eye - centre
        distance = np.linalg.norm(backward)
        if distance < 1e-9:
            raise InputError(place, f"position and target are the same point {eye.tolist()}", "move one of them")
        backward /= distance
        right = np.cross(above, backward)
        length = np.linalg.norm(right)
        if length < 1e-9 * max(1.0, float(np.linalg.norm(above))):
            raise InputError(place, f"up is {above.tolist()}, parallel to the direction of view", "tilt it")
        right /= length
        c2w = np.eye(4)
        c2w[:3, :4] = np.stack([right, np.cross(backward, right), backward, eye], axis=1)
        return cls(c2w.astype(np.float32), fov, name)

    @classmethod
    def from_angles(
        cls,
        azimuth: float = 0.0,
        elevation: float = 20.0,
        distance: float = 1.75,
        target: Sequence[float] | AnyArray = (0.0, 0.0, 0.0),
        fov: float = 37.5,
        name: str = "",
    ) -> Camera:
        """A camera on a sphere around `target`.

        Args:
            azimuth: degrees counter-clockwise seen from above; 0 looks along +Y (the camera stands at -Y).
            elevation: degrees above the horizon, in [-90, 90].
            distance: scene units, positive.

        Raises:
            InputError: an angle that is not finite, elevation or distance out of range.
        """
        if not (math.isfinite(azimuth) and -90 <= elevation <= 90):
            problem = f"azimuth is {azimuth:g}, elevation is {elevation:g}"
            raise InputError(f"camera {name!r}", problem, "expected finite degrees, the elevation from -90 to 90")
        if not (math.isfinite(distance) and distance > 0):
            raise InputError(f"camera {name!r}", f"distance is {distance:g}", "expected a positive number")
        # At the poles Z is parallel to the view, so the horizontal direction of the azimuth is up there.
        x, y, _ = direction(azimuth, 0)
        up = (0.0, 0.0, 1.0) if abs(elevation) < 89.99 else (-x * np.sign(elevation), -y, 0.0)
        eye = np.asarray(target, np.float64) + distance * direction(azimuth, elevation)
        return cls.look_at(eye, target, up, fov, name)

    @classmethod
    def orbit(
        cls,
        count: int,
        elevation: float = 20.0,
        distance: float = 1.75,
        target: Sequence[float] | AnyArray = (0.0, 0.0, 0.0),
        fov: float = 37.5,
        start: float = 0.0,
        sweep: float = 360.0,
    ) -> list[Camera]:
        """`count` cameras named `orbit_000` and so on, at azimuth steps of sweep / count degrees from `start`; the end
        of the sweep is left out, so a full turn does not repeat the first view."""
        if count < 1:
            raise InputError("orbit", f"count is {count}", "expected at least 1")
        return [
            cls.from_angles(start + sweep * i / count, elevation, distance, target, fov, f"orbit_{i:03d}")
            for i in range(count)
        ]
