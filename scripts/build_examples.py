"""Build the example assets and scenes, byte for byte the same with the same versions of the libraries.

    python scripts/build_examples.py [FOLDER]

Downloads nothing. Needs the extra `reference` (manifold3d, scikit-image).
All bodies are closed surfaces, Z up, of about unit size; GLB files are Y up, as glTF asks.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from PIL import Image

from renderformer.data.camera import direction
from renderformer.data.geometry.stages import stage_meshes

Array = npt.NDArray[np.float64]
Body = tuple[Array, npt.NDArray[np.int64]]
RGB = tuple[float, float, float]

TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
WARM, RED, GREEN = (0.66, 0.59, 0.49), (0.56, 0.11, 0.07), (0.12, 0.36, 0.1)
# Strokes of the letters in a box 0.6 wide and 1 high, as polylines.
STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "D": [[(0, 0), (0, 1), (0.25, 1), (0.48, 0.86), (0.58, 0.62), (0.58, 0.38), (0.48, 0.14), (0.25, 0), (0, 0)]],
    "E": [[(0.55, 1), (0, 1), (0, 0), (0.55, 0)], [(0, 0.52), (0.45, 0.52)]],
    "N": [[(0, 0), (0, 1), (0.6, 0), (0.6, 1)]],
    "R": [[(0, 0), (0, 1), (0.36, 1), (0.55, 0.89), (0.55, 0.64), (0.36, 0.52), (0, 0.52)], [(0.3, 0.52), (0.58, 0)]],
}


def knot(along: int = 112, across: int = 16) -> Body:
    """A trefoil on a torus, standing upright on two of its loops."""
    t = np.linspace(0, 2 * math.pi, along, endpoint=False)

    def path(t: Array) -> Array:
        radius = 0.32 + 0.14 * np.cos(3 * t)
        return np.stack([radius * np.cos(2 * t), radius * np.sin(2 * t), -0.14 * np.sin(3 * t)], axis=-1)

    tangent = path(t + 1e-5) - path(t - 1e-5)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # The direction away from the torus's core circle is never parallel to the knot, so both span a frame.
    core = 0.32 * np.stack([np.cos(2 * t), np.sin(2 * t), np.zeros_like(t)], axis=-1)
    side = np.cross(tangent, path(t) - core)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * math.pi, across, endpoint=False)[:, None]
    ring = np.cos(angle) * side[:, None] + np.sin(angle) * np.cross(tangent, side)[:, None]
    vertices = (path(t)[:, None] + 0.085 * ring).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(along), np.arange(across), indexing="ij")
    a, b = i * across + j, i * across + (j + 1) % across
    c, d = (i + 1) % along * across + (j + 1) % across, (i + 1) % along * across + j
    faces = np.stack([np.stack([a, c, d], -1), np.stack([a, b, c], -1)], -2).reshape(-1, 3)
    # Upright and turned, so that two loops stand below and one above.
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return vertices @ turn.T @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T, faces


def gear(teeth: int = 14, steps: int = 6) -> Body:
    """A spur gear with a bore, lying flat."""
    phase = np.arange(teeth * steps) / steps % 1
    outline = np.interp(phase, [0, 0.18, 0.32, 0.68, 0.82, 1], [0.38, 0.38, 0.5, 0.5, 0.38, 0.38])
    angle = np.linspace(0, 2 * math.pi, teeth * steps, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    levels = [(outline, 0.0), (outline, 0.2), (np.full(len(angle), 0.17), 0.2), (np.full(len(angle), 0.17), 0.0)]
    return revolved([np.column_stack([ring * radius[:, None], np.full(len(angle), z)]) for radius, z in levels])


def revolved(rings: list[Array]) -> Body:
    """Closed surface through rings (M, 3) of equal length, the last joined to the first.

    Counter-clockwise rings that start at the bottom of the outside make faces that point outward.
    """
    size, count = len(rings[0]), len(rings)
    i, j = np.meshgrid(np.arange(count), np.arange(size), indexing="ij")
    a, b = i * size + j, i * size + (j + 1) % size
    d, c = (i + 1) % count * size + j, (i + 1) % count * size + (j + 1) % size
    return np.concatenate(rings), np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], -2).reshape(-1, 3)


def pawn(segments: int = 24) -> Body:
    """A chess pawn, turned on a lathe; solid."""
    profile = [(0.3, 0), (0.3, 0.07), (0.24, 0.13), (0.2, 0.16), (0.14, 0.26), (0.1, 0.42), (0.095, 0.56)]
    profile += [(0.17, 0.6), (0.17, 0.63), (0.09, 0.655)]
    head = [(0.155 * math.sin(a), 0.79 - 0.155 * math.cos(a)) for a in np.linspace(0.6, math.pi - 0.12, 12)]
    angle = np.linspace(0, 2 * math.pi, segments, endpoint=False)
    rings = [np.column_stack([r * np.cos(angle), r * np.sin(angle), np.full(segments, z)]) for r, z in profile + head]
    vertices, faces = revolved(rings)
    # Close top and bottom by fans instead of the tube that joins the last ring to the first.
    faces = faces[: -2 * segments]
    bottom, top, last = len(vertices), len(vertices) + 1, len(vertices) - segments
    j, k = np.arange(segments), (np.arange(segments) + 1) % segments
    fans = [np.column_stack([k, j, np.full(segments, bottom)]), np.column_stack([last + j, last + k, 0 * j + top])]
    return np.concatenate([vertices, [[0, 0, 0], [0, 0, 0.945]]]), np.concatenate([faces, *fans])


BALLS = ((-0.32, 0.0, 0.3, 0.3), (0.1, -0.12, 0.36, 0.36), (0.42, 0.12, 0.25, 0.25), (0.05, 0.1, 0.82, 0.2))
BALL_COLORS = ((0.85, 0.2, 0.15), (0.95, 0.7, 0.15), (0.15, 0.45, 0.8), (0.9, 0.9, 0.85))


def blobs(resolution: int = 23) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Metaballs with blended sRGB vertex colours."""
    from skimage.measure import marching_cubes

    low, high = np.array([-0.85, -0.7, -0.25]), np.array([0.9, 0.7, 1.2])
    axes = [np.linspace(low[k], high[k], resolution) for k in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    vertices, faces, _, _ = marching_cubes(_field(grid).sum(axis=-1), 1.0, spacing=(high - low) / (resolution - 1))
    vertices = vertices.astype(np.float64) + low
    share = _field(vertices) ** 2
    colors = share @ np.array(BALL_COLORS) / share.sum(axis=-1, keepdims=True)
    return vertices, faces[:, ::-1].astype(np.int64), np.round(colors * 255).astype(np.uint8)


def _field(points: Array) -> Array:
    """(…, 4) share of each ball in the field whose level 1 is the surface."""
    centres, radii = np.array(BALLS)[:, :3], np.array(BALLS)[:, 3]
    squared = ((points[..., None, :] - centres) ** 2).sum(axis=-1)
    return np.asarray((0.72 * radii**2 / np.maximum(squared, 1e-4)) ** 1.3)


def sign(lines: tuple[str, ...] = ("REN", "DER")) -> tuple[Body, Body]:
    """Letters with round strokes, and a board with a foot behind them, which they do not touch."""
    from manifold3d import CrossSection, FillRule, Manifold

    def capsule(a: tuple[float, float], b: tuple[float, float], width: float = 0.085) -> Any:
        dots = [CrossSection.circle(width, 16).translate(p) for p in (a, b)]
        return CrossSection.batch_hull(dots)

    outline = CrossSection()
    for row, line in enumerate(lines):
        for place, letter in enumerate(line):
            for stroke in STROKES[letter]:
                points = [(x + 0.86 * place, y + 1.35 * (len(lines) - 1 - row)) for x, y in stroke]
                for a, b in itertools.pairwise(points):
                    outline = outline + capsule(a, b)
    width, height = 0.86 * (len(lines[0]) - 1) + 0.6, 1.35 * len(lines)
    polygons = outline.simplify(2e-3).to_polygons()
    letters = Manifold.extrude(CrossSection(polygons, FillRule.Positive), 0.16)
    board = Manifold.cube((width + 0.7, height + 0.35, 0.14)).translate((-0.35, -0.35, -0.2))
    foot = Manifold.cube((width + 0.3, 0.16, 0.9)).translate((-0.15, -0.5, -0.55))
    return _upright(letters, width), _upright((board + foot).refine_to_length(0.6), width)


def _upright(solid: Any, width: float) -> Body:
    """Vertices and faces of a manifold that lies in the x-y plane, stood up to face -Y, about one unit wide."""
    mesh = solid.to_mesh()
    points = np.asarray(mesh.vert_properties, np.float64)[:, :3] - [width / 2, 0, 0]
    return points[:, [0, 2, 1]] * [1, -1, 1] / (width + 0.7), np.asarray(mesh.tri_verts, np.int64)


def box(size: tuple[float, float, float]) -> Body:
    """A box that stands on z = 0, with eight triangles a side."""
    mesh = trimesh.creation.box(size).subdivide()
    return np.asarray(mesh.vertices) + [0, 0, size[2] / 2], np.asarray(mesh.faces)


def write_obj(path: Path, parts: dict[str, tuple[Body, str]], materials: dict[str, tuple[RGB, float, float]]) -> None:
    """OBJ and MTL; materials are (Kd, Ks, Ns)."""
    lines, offset = ["# renderformer example, Z up", *([f"mtllib {path.stem}.mtl"] if materials else [])], 1
    for name, ((vertices, faces), material) in parts.items():
        lines += [f"o {name}", *([f"usemtl {material}"] if materials else [])]
        lines += ["v " + " ".join(f"{v:.5g}" for v in np.round(vertex, 5) + 0.0) for vertex in vertices]
        lines += ["f " + " ".join(str(i) for i in face + offset) for face in faces]
        offset += len(vertices)
    path.write_text("\n".join(lines) + "\n", newline="\n")
    if materials:
        blocks = [
            f"newmtl {name}\nKd {kd[0]:g} {kd[1]:g} {kd[2]:g}\nKs {ks:g} {ks:g} {ks:g}\nNs {ns:g}\nillum 2\n"
            for name, (kd, ks, ns) in materials.items()
        ]
        path.with_suffix(".mtl").write_text("\n".join(blocks), newline="\n")


def gltf_mesh(body: Body, color: RGB, metallic: float, roughness: float, smooth: bool) -> trimesh.Trimesh:
    """Y-up mesh with a metallic-roughness material (linear base colour)."""
    mesh = trimesh.Trimesh(body[0] @ TO_Y_UP.T, body[1], process=False)
    if not smooth:
        mesh.unmerge_vertices()
    mesh.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(
            name="paint", baseColorFactor=[*color, 1.0], metallicFactor=metallic, roughnessFactor=roughness
        )
    )
    # Computed here, so that the file contains them.
    _ = mesh.vertex_normals
    return mesh


def boxes() -> trimesh.Scene:
    """Three boxes placed by the transforms of their nodes."""
    scene = trimesh.Scene()
    rows: tuple[tuple[str, tuple[float, float, float], RGB, float, float, float, tuple[float, float, float]], ...] = (
        ("slab", (1.0, 0.7, 0.25), (0.75, 0.72, 0.66), 0.0, 0.8, 10, (0, 0, 0)),
        ("tower", (0.3, 0.3, 0.9), (0.8, 0.8, 0.8), 0.5, 0.2, 25, (-0.22, 0.08, 0.25)),
        ("cube", (0.32, 0.32, 0.32), (0.8, 0.35, 0.06), 0.0, 0.5, -20, (0.26, -0.1, 0.25)),
    )
    for name, size, color, metallic, roughness, turn, place in rows:
        matrix = trimesh.transformations.rotation_matrix(math.radians(turn), [0, 1, 0])
        matrix[:3, 3] = TO_Y_UP @ place
        mesh = gltf_mesh(box(size), color, metallic, roughness, smooth=False)
        scene.add_geometry(mesh, node_name=name, geom_name=name, transform=matrix)
    return scene


def write_assets(folder: Path) -> None:
    """All mesh files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage").mkdir(exist_ok=True)
    trefoil = knot()
    (folder / "knot.glb").write_bytes(
        trimesh.Scene({"knot": gltf_mesh(trefoil, (0.82, 0.82, 0.82), 0.3, 0.28, smooth=True)}).export(
            file_type="glb", include_normals=True
        )
    )
    write_obj(folder / "knot.obj", {"knot": (trefoil, "")}, {})
    (folder / "boxes.glb").write_bytes(boxes().export(file_type="glb", include_normals=True))
    (folder / "gear.stl").write_bytes(trimesh.Trimesh(*gear(), process=False).export(file_type="stl"))
    (folder / "pawn.off").write_text(
        trimesh.Trimesh(*pawn(), process=False).export(file_type="off", digits=5), newline="\n"
    )
    vertices, faces, colors = blobs()
    painted = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)
    (folder / "blobs.ply").write_bytes(painted.export(file_type="ply", vertex_normal=False))
    letters, board = sign()
    write_obj(
        folder / "sign.obj",
        {"letters": (letters, "enamel"), "board": (board, "wood")},
        {"enamel": ((0.75, 0.08, 0.05), 0.2, 200), "wood": ((0.55, 0.4, 0.22), 0.02, 10)},
    )
    for name, body in (("letters", letters), ("board", board)):
        write_obj(folder / f"sign_{name}.obj", {name: (body, "")}, {})
    walls = {wall.name: indexed(wall.triangles) for wall in stage_meshes("box", divisions=4)}
    paint = {"floor": WARM, "wall_back": WARM, "wall_left": RED, "wall_right": GREEN}
    write_obj(
        folder / "stage.obj",
        {name: (body, name) for name, body in walls.items()},
        {name: (color, 0.0, 0.0) for name, color in paint.items()},
    )
    for name, body in walls.items():
        write_obj(folder / "stage" / f"{name}.obj", {name: (body, "")}, {})
    corners = np.radians([90.0, 210.0, 330.0])
    triangle = np.column_stack([np.cos(corners), np.sin(corners), 0 * corners]) / math.sqrt(3)
    # Edges of length 1; the front faces down.
    write_obj(folder / "stage" / "light.obj", {"light": ((triangle, np.array([[0, 2, 1]])), "")}, {})


def indexed(triangles: npt.NDArray[np.float32]) -> Body:
    """Vertices and faces of a triangle soup."""
    points, faces = np.unique(np.round(triangles.reshape(-1, 3).astype(np.float64), 6), axis=0, return_inverse=True)
    return points, faces.reshape(-1, 3)


def entry(
    mesh: str,
    color: RGB,
    specular: float = 0.0,
    roughness: float = 0.9,
    smooth: bool = False,
    place: tuple[float, float, float] = (0, 0, 0),
    turn: tuple[float, float, float] = (0, 0, 0),
    scale: float = 1.0,
    emission: float = 0.0,
    normalize: bool = False,
    seed: int | None = None,
) -> dict[str, Any]:
    """One object of scene JSON 1.0."""
    return {
        "mesh_path": f"assets/{mesh}",
        "material": {
            "diffuse": list(color),
            "specular": [specular] * 3,
            "roughness": roughness,
            "emissive": [emission] * 3,
            "smooth_shading": smooth,
            "rand_tri_diffuse_seed": seed,
            "random_diffuse_max": 0.8,
        },
        "transform": {
            "translation": list(place),
            "rotation": list(turn),
            "scale": [scale] * 3,
            "normalize": normalize,
        },
    }


def light(azimuth: float, elevation: float, distance: float, emission: float, scale: float = 2.2) -> dict[str, Any]:
    """A light triangle that faces the origin; azimuth 0 is -Y, counter-clockwise from above."""
    place = tuple(round(distance * v, 5) for v in direction(azimuth, elevation).tolist())
    return entry(
        "stage/light.obj", (1, 1, 1), 0, 1.0, False, place, (90 - elevation, 0, azimuth), 0.0707 * scale, emission
    )


def walls(*names: str, **colors: RGB) -> dict[str, Any]:
    """Entries of stage walls."""
    paint = {"floor": WARM, "wall_back": WARM, "wall_left": RED, "wall_right": GREEN, **colors}
    return {name: entry(f"stage/{name}.obj", paint[name]) for name in names}


def scene(name: str, objects: dict[str, Any], *cameras: tuple[float, float, float, float, float]) -> dict[str, Any]:
    """Scene JSON; cameras are (azimuth, elevation, distance, height of the target, fov)."""
    views = []
    for azimuth, elevation, distance, height, fov in cameras:
        views.append(
            {
                "position": [round(distance * v, 5) for v in direction(azimuth, elevation).tolist()],
                "look_at": [0.0, 0.0, height],
                "up": [0.0, 0.0, 1.0],
                "fov": fov,
            }
        )
    return {"scene_name": name, "version": "1.0", "objects": objects, "cameras": views}


def scenes() -> dict[str, dict[str, Any]]:
    """The example scenes by file name."""
    floor = {"gear.stl": 0.0, "pawn.off": 0.0, "knot.obj": knot()[0][:, 2].min(), "blobs.ply": blobs()[0][:, 2].min()}
    floor["sign_board.obj"] = floor["sign_letters.obj"] = sign()[1][0][:, 2].min()

    def standing(
        mesh: str, x: float, y: float, turn: float, scale: float, color: RGB, gloss: tuple[float, float], smooth: bool
    ) -> dict[str, Any]:
        """An entry that stands 0.0005 above the floor; gloss is (specular, roughness)."""
        z = round(-0.4995 - scale * float(floor[mesh]), 5)
        return entry(mesh, color, *gloss, smooth, (x, y, z), (0, 0, turn), scale)

    knot_room = {
        **walls("floor", "wall_back", "wall_left", "wall_right"),
        "knot": standing("knot.obj", 0, 0.03, -12, 0.68, (0.55, 0.53, 0.5), (0.3, 0.25), True),
        "light": light(16, 58, 2.4, 2800),
    }
    ochre, blue = (0.55, 0.34, 0.08), (0.1, 0.2, 0.45)
    gallery = {
        **walls("floor", "wall_back", "wall_left", "wall_right", wall_left=ochre, wall_right=blue),
        "gear": standing("gear.stl", -0.24, -0.2, 8, 0.36, (0.3, 0.16, 0.06), (0.25, 0.35), False),
        "pawn": standing("pawn.off", 0.24, -0.22, 0, 0.48, (0.05, 0.05, 0.07), (0.3, 0.2), True),
        "blobs": standing("blobs.ply", 0.0, 0.2, 20, 0.45, (0.62, 0.1, 0.06), (0.15, 0.25), True),
        "light_key": light(-25, 55, 2.3, 2100),
        "light_fill": light(40, 42, 2.6, 900, 2.0),
    }
    gold = (0.4, 0.26, 0.08)
    signpost = {
        **walls("floor", "wall_back", "wall_left", "wall_right", wall_left=(0.12, 0.3, 0.34), wall_right=ochre),
        "board": standing("sign_board.obj", -0.06, 0.1, 12, 0.56, (0.5, 0.36, 0.2), (0.03, 0.7), False),
        "letters": standing("sign_letters.obj", -0.06, 0.1, 12, 0.56, (0.72, 0.09, 0.05), (0.2, 0.2), False),
        "gear": standing("gear.stl", 0.28, -0.24, 0, 0.24, gold, (0.3, 0.3), False),
        "light": light(-14, 52, 2.4, 3000),
    }
    return {
        "knot_room.json": scene("knot room", knot_room, (7, 16, 1.6, -0.12, 40.0), (-6, 24, 1.6, -0.12, 40.0)),
        "gallery.json": scene("gallery", gallery, (-7, 18, 1.6, -0.12, 40.0)),
        "sign.json": scene("sign", signpost, (7, 16, 1.6, -0.12, 40.0)),
        "still_life.json": still_life(),
    }


def grid(columns: int, rows: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """Texture coordinates (V, 2) from 0 to 1, origin at the lower left, and faces of a grid."""
    v, u = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a = (row * (columns + 1) + column).ravel()
    b, c, d = a + 1, a + columns + 2, a + columns + 1
    return np.stack([u.ravel(), v.ravel()], axis=1), np.stack(
        [np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 1
    ).reshape(-1, 3)


def write_mapped(path: Path, vertices: Array, uv: Array, faces: npt.NDArray[np.int64], normals: Array) -> None:
    """OBJ with texture coordinates and normals of the vertices."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    lines += [f"vt {u:.5f} {v:.5f}" for u, v in uv]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals]
    lines += ["f " + " ".join(f"{i}/{i}/{i}" for i in face) for face in faces + 1]
    path.write_text("\n".join(lines) + "\n", newline="\n")


def write_still_life(folder: Path) -> None:
    """Meshes with texture coordinates, and pictures: tiles, wood, a leaf."""
    folder.mkdir(exist_ok=True)
    uv, faces = grid(1, 1)
    flat = np.column_stack([uv - 0.5, np.zeros(len(uv))])
    write_mapped(folder / "square.obj", flat, uv, faces, np.tile([0.0, 0, 1], (len(uv), 1)))
    uv, faces = grid(36, 18)
    turn, rise = 2 * np.pi * uv[:, 0], np.pi * (uv[:, 1] - 0.5)
    ball = np.column_stack([np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)])
    keep = (
        np.linalg.norm(np.cross(ball[faces[:, 1]] - ball[faces[:, 0]], ball[faces[:, 2]] - ball[faces[:, 0]]), axis=1)
        > 1e-9
    )
    write_mapped(folder / "ball.obj", 0.5 * ball, uv, faces[keep], ball)
    corners, sides, outward = [], [], []
    square, two = grid(1, 1)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            across = np.roll(np.eye(3), -axis, axis=0)
            away, right, up = across[0] * sign, across[1] * sign, across[2]
            corners.append(0.5 * away + (square[:, :1] - 0.5) * right + (square[:, 1:] - 0.5) * up)
            sides.append(square)
            outward.append(np.tile(away, (4, 1)))
    faces = np.concatenate([two + 4 * side for side in range(6)])
    write_mapped(folder / "cube.obj", np.concatenate(corners), np.concatenate(sides), faces, np.concatenate(outward))
    for name, pixels in (("tiles", tiles()), ("wood", wood()), ("leaf", leaf())):
        Image.fromarray(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(folder / f"{name}.png")


def tiles(size: int = 128, count: int = 4) -> Array:
    """Normal map of tiles with bevelled edges."""
    place = (np.arange(size) + 0.5) / size * count % 1 - 0.5
    lean = np.where(np.abs(place) > 0.42, 0.6 * np.sign(place), 0.0)
    normals = np.dstack([np.tile(lean, (size, 1)), np.tile(-lean[:, None], (1, size)), np.ones((size, size))])
    return normals / np.linalg.norm(normals, axis=2, keepdims=True) / 2 + 0.5


def wood(size: int = 128, boards: int = 4) -> Array:
    """Boards with a grain along them, which repeats at the borders."""
    y, x = np.mgrid[:size, :size] / size
    board = np.floor(y * boards)
    shade = 0.5 + 0.12 * np.sin(2.4 * board)
    grain = np.sin(2 * np.pi * (14 * y + 0.35 * np.sin(2 * np.pi * (x + 0.3 * board)))) ** 3
    gap = np.where(np.abs(y * boards % 1 - 0.5) > 0.46, 0.35, 1.0)
    return ((shade + 0.07 * grain) * gap)[..., None] * np.array([1.15, 0.78, 0.45])


def leaf(size: int = 128) -> Array:
    """A green leaf; the rest is clear."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    along, across = 1 - y, np.abs(x - 0.5)
    width = 0.42 * np.sin(np.pi * np.clip(along, 0, 1)) ** 0.8 * (1.1 - 0.5 * along)
    vein = np.exp(-((across / 0.012) ** 2)) + 0.5 * np.exp(-(((along - 0.9 * across) * 8 % 1 - 0.5) ** 2) / 0.008)
    colour = np.array([0.16, 0.42, 0.1]) + 0.25 * np.clip(vein, 0, 1)[..., None]
    stalk = (across < 0.012) & (along < 0.1)
    return np.dstack([colour, (across < width) | stalk])


def still_life() -> dict[str, Any]:
    """What only the extension of scene JSON holds: pictures, metal, a cut-out leaf, an environment."""

    def thing(mesh: str, place: RGB, turn: RGB, scale: RGB, **material: Any) -> dict[str, Any]:
        transform = {"translation": place, "rotation": turn, "scale": scale, "normalize": False}
        return {"mesh_path": f"assets/still_life/{mesh}.obj", "material": material, "transform": transform}

    def shown(name: str, **options: Any) -> dict[str, Any]:
        return {"path": f"assets/still_life/{name}.png", **options}

    wooden: dict[str, Any] = {"diffuse": [1.0, 1.0, 1.0], "specular": [0.04] * 3, "metallic": 0.0, "roughness": 0.5}
    tiled = {"normal": shown("tiles", matrix=[[3, 0, 0], [0, 3, 0]])}
    green: dict[str, Any] = {
        "diffuse": [1.0, 1.0, 1.0],
        "roughness": 0.6,
        "textures": {"base": shown("leaf")},
        "alpha_cutoff": 0.5,
    }
    objects = {
        "floor": thing(
            "square",
            (0, 0, -0.5),
            (0, 0, 0),
            (1, 1, 1),
            diffuse=[0.42, 0.4, 0.38],
            specular=[0.05] * 3,
            roughness=0.3,
            textures=tiled,
        ),
        "crate": thing(
            "cube", (0.2, 0.12, -0.318), (0, 0, 24), (0.36, 0.36, 0.36), **wooden, textures={"base": shown("wood")}
        ),
        "ball": thing(
            "ball",
            (-0.17, -0.06, -0.318),
            (0, 0, 0),
            (0.36, 0.36, 0.36),
            diffuse=[1.0, 0.78, 0.36],
            metallic=1.0,
            roughness=0.12,
        ),
        "leaf": thing("square", (0.15, -0.24, -0.356), (74, 0, 20), (0.3, 0.3, 0.3), **green),
        "second leaf": thing("square", (-0.02, -0.3, -0.404), (68, 0, -25), (0.2, 0.2, 0.2), **green),
    }
    document = scene("still life", objects, (7, 22, 1.6, -0.34, 36.0))
    return {**document, "version": "1.0+renderformer", "environment": {"preset": "studio", "rotation": 20.0}}


def build(folder: Path) -> None:
    """Write `folder`/assets and the scenes beside it."""
    write_assets(folder / "assets")
    write_still_life(folder / "assets" / "still_life")
    for name, document in scenes().items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n", newline="\n")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "examples"
    build(target)
    files = sorted(path for path in target.rglob("*") if path.is_file() and path.suffix != ".py")
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.2f} MB in {target}")
