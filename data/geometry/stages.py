"""Stages: a floor and up to three walls around the objects in [-0.5, 0.5]^3, open toward -Y and upward.

World frame: right-handed, Z up, scene units. Cameras stand at -Y and look along +Y; lights stand in front or above.
The walls are planes cut into triangles of similar size, as in the models' training scenes (spec scenes.md). Their
diagonals alternate, so that no direction is preferred.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.scene import Material, Mesh

StageKind = Literal["floor", "wall", "corner", "box"]
# Of a round floor.
RINGS, SECTORS = 8, 40
STAGE_KINDS: tuple[str, ...] = get_args(StageKind)
WALL_NAMES = ("floor", "wall_back", "wall_left", "wall_right")

# The greys differ a little, so that the edges between floor and walls are visible in flat light.
DEFAULT_MATERIALS: Mapping[str, Material] = {
    name: Material((grey, grey, grey), (0.0, 0.0, 0.0), 0.9)
    for name, grey in zip(WALL_NAMES, (0.5, 0.55, 0.45, 0.45), strict=True)
}


def stage_kind(names: Iterable[str]) -> str:
    """The kind of stage whose walls are among these object names; "none" without any."""
    count = len(set(names).intersection(WALL_NAMES))
    return "none" if count == 0 else STAGE_KINDS[count - 1]


def stage_meshes(
    kind: str,
    *,
    floor_height: float = -0.5,
    wall_top: float = 0.5,
    half_width: float = 0.5,
    divisions: int = 3,
    side: str = "left",
    materials: Mapping[str, Material] | None = None,
) -> list[Mesh]:
    """The meshes of a stage, floor first, with their front toward the objects.

    Args:
        kind: "floor"; "wall" (floor and back wall at +Y); "corner" (and one side wall); "box" (and both side walls).
        floor_height: z of the floor, scene units.
        wall_top: z of the upper edge of the walls.
        half_width: the floor spans [-half_width, half_width] in x and y; the walls stand on its edges.
        divisions: squares along an edge; a wall has 2 * divisions**2 triangles.
        side: "left" (-X) or "right" (+X), the side wall of a corner.
        materials: by wall name; replaces those of `DEFAULT_MATERIALS`.

    Returns:
        One Mesh for each wall, named as in `WALL_NAMES`.

    Raises:
        InputError: an unknown kind, side or wall name, divisions outside 1 … 32, walls without height or width.
    """
    if kind not in STAGE_KINDS:
        raise InputError("stage", f"kind is {kind!r}", f"expected one of {', '.join(STAGE_KINDS)}")
    if side not in ("left", "right"):
        raise InputError("stage", f"side is {side!r}", "expected 'left' or 'right'")
    if not 1 <= divisions <= 32:
        raise InputError("stage", f"divisions is {divisions}", "expected 1 … 32")
    if not wall_top > floor_height or not half_width > 0:
        raise InputError(
            "stage",
            f"wall_top is {wall_top:g}, floor_height is {floor_height:g}, half_width is {half_width:g}",
            "expected wall_top above floor_height and a positive half_width",
        )
    materials = materials or {}
    unknown = sorted(set(materials) - set(WALL_NAMES))
    if unknown:
        raise InputError(
            "stage", f"material for unknown wall {unknown[0]!r}", f"expected one of {', '.join(WALL_NAMES)}"
        )
    materials = {**DEFAULT_MATERIALS, **materials}
    corner = ("floor", "wall_back", f"wall_{side}")
    names = corner if kind == "corner" else WALL_NAMES[: STAGE_KINDS.index(kind) + 1]
    width, height = 2 * half_width, wall_top - floor_height
    # A corner and two edges of each wall; the cross product of the edges points to the objects.
    frames = {
        "floor": ((-half_width, -half_width, floor_height), (width, 0, 0), (0, width, 0)),
        "wall_back": ((-half_width, half_width, floor_height), (width, 0, 0), (0, 0, height)),
        "wall_left": ((-half_width, -half_width, floor_height), (0, width, 0), (0, 0, height)),
        "wall_right": ((half_width, half_width, floor_height), (0, -width, 0), (0, 0, height)),
    }
    return [Mesh(name, _grid(*frames[name], divisions), materials=materials[name].row()) for name in names]


def backdrop(
    middle: npt.ArrayLike,
    rim: npt.ArrayLike,
    *,
    fading: bool = False,
    height: float = -0.5,
    inner: float = 0.35,
    radius: float = 1.6,
) -> Mesh:
    """A round floor without gloss, whose colour changes smoothly from its middle to its rim; named "floor".

    Args:
        middle, rim: (3,) linear RGB albedo, or one number, up to the radius `inner` and at `radius`, scene units.
        fading: whether it becomes transparent toward its rim.
        height: z of the floor, scene units.
    """
    steps = np.concatenate([[0.0, inner], np.linspace(inner, radius, RINGS + 1)[1:]])
    # The last is the first to the bit, so that there is no crack.
    turn = np.arange(SECTORS + 1) % SECTORS * (2 * math.pi / SECTORS)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(len(steps) - 1), np.arange(SECTORS), indexing="ij"))
    # Two triangles of each cell, by the steps along the radius and the circle of their corners; in the middle, one.
    cells = [((0, 0), (1, 0), (1, 1)), ((0, 0), (1, 1), (0, 1))]
    corners = [[(steps[a + i], ring[b + j]) for i, j in cell] for cell in cells]
    distance = np.concatenate([np.stack([r for r, _ in corner], axis=1) for corner in corners])
    around = np.concatenate([np.stack([unit for _, unit in corner], axis=1) for corner in corners])
    keep = (distance > 0).sum(axis=1) > 1
    distance, around = distance[keep], around[keep]
    points = np.concatenate([distance[..., None] * around, np.full((*distance.shape, 1), height)], axis=-1)
    share = np.clip((distance - inner) / (radius - inner), 0, 1)
    share = (share**2 * (3 - 2 * share))[..., None]
    middle, rim = (np.broadcast_to(np.asarray(colour, np.float64), 3) for colour in (middle, rim))
    colors = np.concatenate([middle + share * (rim - middle), 1 - share * fading], axis=-1).astype(np.float32)
    appearance = Appearance.of(Material((1.0, 1.0, 1.0), roughness=0.9), np.zeros((len(points), 3, 2)), colors)
    return Mesh("floor", points.astype(np.float32), appearance=appearance)


def _grid(origin: npt.ArrayLike, edge_u: npt.ArrayLike, edge_v: npt.ArrayLike, divisions: int) -> Float32Array:
    """(2 * divisions**2, 3, 3) triangles of a parallelogram, counter-clockwise around edge_u x edge_v."""
    steps = np.linspace(0.0, 1.0, divisions + 1)
    u, v = np.meshgrid(steps, steps, indexing="ij")
    points = np.asarray(origin, np.float64) + u[..., None] * np.asarray(edge_u) + v[..., None] * np.asarray(edge_v)
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    i, j = np.meshgrid(np.arange(divisions), np.arange(divisions), indexing="ij")
    odd = ((i + j) % 2 == 1)[..., None, None]
    first = np.where(odd, np.stack([a, b, d], -2), np.stack([a, b, c], -2))
    second = np.where(odd, np.stack([b, c, d], -2), np.stack([a, c, d], -2))
    return np.stack([first, second], 2).reshape(-1, 3, 3).astype(np.float32)
