"""Read mesh files with trimesh, which takes as long to import as a small file to draw."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.formats.folder import Folder
from renderformer.data.formats.parts import MeshFile, Notes, Part


@dataclass
class TrimeshObjects:
    """The objects with faces that a loader of trimesh returns.

    Attributes:
        parts: the objects, without materials.
        keywords: arguments of `trimesh.Trimesh` for each object, including its material.
        graph: edges of the scene graph from `base_frame`; empty if the format has none.
        contents: files beside the mesh file that were read, by name.
    """

    parts: list[Part]
    keywords: list[dict[str, Any]]
    graph: list[dict[str, Any]]
    base_frame: str
    contents: dict[str, bytes]


def read_with_trimesh(
    kind: str, data: bytes, file: MeshFile, folder: Folder | None = None, **options: Any
) -> TrimeshObjects:
    """Read a file with a loader of trimesh.

    Args:
        kind: trimesh's name of the format.
        data: the content of the file, normalised for trimesh.
        folder: of the file; its notes about missing files are the caller's.
        options: of the loader.

    Raises:
        InputError: an object has no triangles in three dimensions. trimesh itself raises many kinds of exceptions.
    """
    from trimesh.exchange.load import mesh_loaders

    resolver = folder or Folder(file)
    loaded = mesh_loaders[kind](file_obj=io.BytesIO(data), file_type=kind, resolver=resolver, **options)
    if folder is None:
        file.notes.lines += resolver.missing
    geometry = loaded.get("geometry", {file.path.stem: loaded})
    geometry = {name: keywords for name, keywords in geometry.items() if np.size(keywords.get("faces", ()))}
    return TrimeshObjects(
        [_part(name, keywords, file.notes) for name, keywords in geometry.items()],
        list(geometry.values()),
        loaded.get("graph", []),
        loaded.get("base_frame", "world"),
        resolver.contents,
    )


def _part(name: str, keywords: dict[str, Any], notes: Notes) -> Part:
    from trimesh.geometry import triangulate_quads

    vertices = np.asarray(keywords["vertices"], np.float64)
    faces = triangulate_quads(keywords["faces"])
    if faces.ndim != 2 or faces.shape[1] != 3 or vertices.ndim != 2 or vertices.shape[1] != 3:
        problem = f"has faces of shape {faces.shape}, expected triangles"
        raise InputError(f"object {name!r}", problem, "export it again")
    part = Part(name, vertices, faces.astype(np.int64), colors=_colors(keywords, len(vertices), len(faces), notes))
    normals = keywords.get("vertex_normals")
    if normals is not None and np.shape(normals) == vertices.shape:
        part.normals = np.asarray(normals, np.float64)
    return part


def _colors(keywords: dict[str, Any], vertices: int, faces: int, notes: Notes) -> Float64Array | None:
    """Linear RGB or RGBA per vertex or per face; integers and OBJ's 0 … 1 are sRGB, alpha is linear."""
    for key, count in (("vertex_colors", vertices), ("face_colors", faces)):
        colors = keywords.get(key)
        if colors is None:
            continue
        colors, label = np.asarray(colors), key.replace("_", " ")
        if colors.ndim != 2 or colors.shape[1] < 3 or len(colors) != count:
            notes.lines.append(f"{label} ignored, there are {len(colors)}, expected {count}")
            continue
        scale = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
        values = colors[:, :4].astype(np.float64) / scale
        if values.max() > 1 and values.max() <= 255 and (values == np.round(values)).all():
            values /= 255
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            notes.lines.append(f"{label} ignored, they are outside 0 … 1")
            continue
        return _linear(values, label, notes)
    return None


def _linear(values: Float64Array, label: str, notes: Notes) -> Float64Array:
    """Linear colours of sRGB ones; alpha stays where any is positive."""
    colors = srgb_to_linear(values[:, :3])
    if values.shape[1] < 4 or (values[:, 3] == 1).all():
        return colors
    if not values[:, 3].any():
        notes.lines.append(f"the alpha of {label} ignored, all are 0")
        return colors
    return np.column_stack([colors, values[:, 3]])
