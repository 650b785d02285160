"""Faults of meshes that files bring along: cracks, flipped faces, holes, triangles that are nothing or there twice.

Shapes: N triangles of a mesh, M of what is made of it, V vertices. The repairs are trimesh's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from renderformer.data.arrays import BoolArray, Float64Array, Int64Array
from renderformer.data.geometry.patches import cut_patches
from renderformer.data.geometry.triangles import face_normals, has_area, smooth_normals, unique_rows, weld
from renderformer.data.scene import Mesh

# Corners closer than this share of the object's extent are meant to be one.
CRACK = 1e-5
# A surface with more open edges than this share of its edges is an open one, not one with holes.
HOLES = 0.1
# Cosine between the normals of a triangle and those of its corners from which on it is flat.
FLAT = 0.9999


@dataclass(frozen=True)
class Health:
    """What is wrong with a mesh, in counts.

    Attributes:
        empty: triangles without area; double: triangles that are there already.
        cracks: edges that are open only because their corners differ by less than `CRACK`.
        flipped: triangles that face the other way than their neighbours, or the inside of a closed surface.
        holes: edges of holes in a surface that is closed elsewhere.
    """

    empty: int = 0
    double: int = 0
    cracks: int = 0
    flipped: int = 0
    holes: int = 0


def examined(mesh: Mesh) -> Health:
    """The health of a mesh. Of lights, which may face where they like, only empty and double triangles count."""
    work = _Work(mesh)
    empty, double = work.tidy()
    if mesh.emits:
        return Health(empty, double)
    cracks = work.close_cracks()
    flipped = int(work.orient().sum())
    return Health(empty, double, cracks, flipped, work.hole_edges())


def mended(mesh: Mesh) -> tuple[Mesh, Health]:
    """The mesh without its faults, and what was repaired. Holes are closed by fans of triangles that look like the
    surface beside them; what is left of a fault is still there when it is examined again."""
    work = _Work(mesh)
    empty, double = work.tidy()
    if mesh.emits:
        return work.mesh(), Health(empty, double)
    cracks = work.close_cracks()
    flipped = int(work.orient().sum())
    before = work.hole_edges()
    work.close_holes()
    done = Health(empty, double, cracks, flipped, before - work.hole_edges())
    return (work.mesh() if done != Health() else mesh), done


class _Work:
    """A mesh in repair: welded vertices (V, 3), faces (M, 3), the triangle (M,) that each comes from, barycentric
    weights (M, 3, 3) of its corners there, and which (M,) were turned or added."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._vertices, self._faces = weld(mesh.triangles)
        self._source = np.arange(len(mesh))
        self._weights = np.tile(np.eye(3), (len(mesh), 1, 1))
        self._changed = np.zeros(len(mesh), bool)

    def _keep(self, chosen: BoolArray | Int64Array) -> None:
        self._faces, self._source = self._faces[chosen], self._source[chosen]
        self._weights, self._changed = self._weights[chosen], self._changed[chosen]

    def tidy(self) -> tuple[int, int]:
        """Drop triangles without area and all but one of equal ones; how many of each."""
        solid = has_area(self._vertices[self._faces])
        if not solid.any():
            return 0, 0
        self._keep(solid)
        first = np.sort(unique_rows(np.sort(self._faces, axis=1))[0])
        double = len(self._faces) - len(first)
        self._keep(first)
        return int((~solid).sum()), double

    def close_cracks(self) -> int:
        """Make corners one that nearly are; how many open edges that closes."""
        before = len(self._open())
        extent = float(np.ptp(self._vertices, axis=0).max())
        if not before or not extent > 0:
            return 0
        from scipy.spatial import cKDTree

        tree = cKDTree(self._vertices)
        pairs = tree.query_pairs(CRACK * extent, output_type="ndarray")
        if not len(pairs):
            return 0
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        links = coo_array((np.ones(len(pairs)), pairs.T), (len(self._vertices),) * 2)
        group = connected_components(links, directed=False)[1]
        _, first = np.unique(group, return_index=True)
        faces, kept = self._faces, self._vertices
        self._vertices, self._faces = self._vertices[first], group[self._faces].astype(np.int64)
        self._keep((self._faces != np.roll(self._faces, 1, axis=1)).all(axis=1))
        closed = before - len(self._open())
        if closed <= 0:
            self._vertices, self._faces = kept, faces
        return max(closed, 0)

    def _open(self) -> Int64Array:
        """(K, 2) edges that one face alone has."""
        edges = np.sort(self._faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        unique, count = np.unique(edges, axis=0, return_counts=True)
        return unique[count == 1]

    def hole_edges(self) -> int:
        """Open edges of a surface that has few of them and is not flat."""
        count = len(self._open())
        points = self._vertices[np.unique(self._faces)]
        spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        flat = len(spread) < 3 or spread[2] <= 1e-6 * spread[0]
        return 0 if flat or count > HOLES * 1.5 * len(self._faces) else count

    def _trimesh(self) -> Any:
        import trimesh

        # Its repairs work in place.
        return trimesh.Trimesh(self._vertices.copy(), self._faces.copy(), process=False, validate=False)

    def orient(self) -> BoolArray:
        """Turn triangles so that neighbours face alike and closed surfaces outward; (M,) which were turned."""
        import trimesh

        body = self._trimesh()
        trimesh.repair.fix_normals(body, multibody=True)
        new = np.asarray(body.faces)
        # Where the old first corner is in the new face, and whether another than the old second one follows.
        place = (new == self._faces[:, :1]).argmax(axis=1)
        turned = np.take_along_axis(new, ((place + 1) % 3)[:, None], axis=1)[:, 0] != self._faces[:, 1]
        self._faces[turned] = self._faces[turned][:, [0, 2, 1]]
        self._weights[turned] = self._weights[turned][:, [0, 2, 1]]
        self._changed |= turned
        return np.asarray(turned)

    def close_holes(self) -> None:
        """Fill holes with fans of triangles."""
        if not self.hole_edges():
            return
        import trimesh

        body = self._trimesh()
        trimesh.repair.fill_holes(body, use_fan=True)
        new = np.asarray(body.faces, np.int64)[len(self._faces) :]
        new = new[has_area(self._vertices[new])] if len(new) else new
        if not len(new):
            return
        # Each looks like the middle of a triangle that has one of its corners.
        owner = np.zeros(len(self._vertices), np.int64)
        owner[self._faces.reshape(-1)] = np.repeat(np.arange(len(self._faces)), 3)
        self._source = np.concatenate([self._source, self._source[owner[new[:, 0]]]])
        self._weights = np.concatenate([self._weights, np.full((len(new), 3, 3), 1 / 3)])
        self._faces = np.concatenate([self._faces, new])
        self._changed = np.concatenate([self._changed, np.ones(len(new), bool)])

    def mesh(self) -> Mesh:
        """What the work has made of the mesh."""
        mesh, source, weights = self._mesh, self._source, self._weights
        triangles = self._vertices[self._faces]
        face = face_normals(triangles)[:, None]
        normals: Float64Array = weights @ mesh.normals[source].astype(np.float64)
        # A turned triangle shows its other side; a new one has no normals of its own.
        normals = np.where((normals * face).sum(axis=-1, keepdims=True) < 0, -normals, normals)
        made = (weights == weights[:, :1]).all(axis=(1, 2))
        normals[made] = face[made]
        if not _is_flat(mesh):
            # Normals beside a triangle that faced the other way than its neighbours, or was not there, are means
            # without it.
            border = np.intersect1d(self._faces[self._changed], self._faces[~self._changed])
            near = np.isin(self._faces, border)
            normals[near] = smooth_normals(triangles, corners=self._faces)[near]
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
        materials, patches, index, _ = cut_patches(mesh, weights, source)
        look = None if mesh.appearance is None else mesh.appearance.cut(source, weights)
        return Mesh(
            mesh.name, triangles.astype(np.float32), normals.astype(np.float32), materials, patches, index, look,
            mesh.sides(source), mesh.camera_sides,
        )  # fmt: skip


def _is_flat(mesh: Mesh) -> bool:
    """Whether all normals of a mesh are those of its triangles, up to their side."""
    along = (mesh.normals * face_normals(mesh.triangles)[:, None]).sum(axis=-1)
    return bool((np.abs(along) > FLAT)[has_area(mesh.triangles)].all())


def is_solid(mesh: Mesh) -> bool:
    """Whether a mesh encloses a space that light cannot leave."""
    clear = mesh.appearance is not None and bool(mesh.appearance.see_through.any())
    return not clear and len(_Work(mesh)._open()) == 0  # noqa: SLF001


def contains(mesh: Mesh, points: Float64Array) -> BoolArray:
    """(M,) whether points (M, 3) lie in the space that a closed mesh encloses."""
    import trimesh

    low, high = mesh.bounds.astype(np.float64)
    inside = ((points > low) & (points < high)).all(axis=1)
    if inside.any():
        body = trimesh.Trimesh(*weld(mesh.triangles), process=False, validate=False)
        inside[inside] = body.contains(points[inside])
    return np.asarray(inside)
