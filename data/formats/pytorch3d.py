"""Conversion from and to PyTorch3D by duck typing; the package is imported only to build its objects.

Frames: PyTorch3D's camera has +X left, +Y up, looks along +Z and uses row vectors, X_cam = X R + T. Ours has +X right,
+Y up and looks along -Z. Our rotation is therefore R diag(-1, 1, -1), and the centre is -R T. World coordinates are not
changed; the models expect Z up and the box [-0.5, 0.5]^3.

Colours: PyTorch3D displays textures unchanged, so they are sRGB by default and are converted to linear albedo.

Shapes: N meshes or cameras, V vertices, F triangles, R texels on the side of an atlas cell, H x W picture.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import (
    AnyArray,
    BoolArray,
    Float16Array,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
)
from renderformer.data.camera import Camera
from renderformer.data.colour import linear_to_srgb, srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import Part
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.geometry.patches import MAX_PATCHES, texel_weights, triangle_mask
from renderformer.data.geometry.triangles import has_area, merge_corners, smooth_normals
from renderformer.data.material import Textures
from renderformer.data.notes import Routine, reworded
from renderformer.data.scene import DIFFUSE, PATCH_SIZE, SPECULAR, Material, Mesh, Scene, flat_normals
from renderformer.data.texture import Texture

# Material rows, patches, patch index and appearance of a mesh.
Baked = tuple[Float32Array, Float16Array | None, Int32Array | None, Appearance | None]

INSTALL = (
    "PyTorch3D is not installed and has no Linux wheel on PyPI: conda install -c conda-forge pytorch3d, or "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/pytorch3d.git@stable'"
)
# Rounding errors: the relative difference of the focal lengths, and the offset of the centre in NDC.
TOLERANCE = 1e-4
FLIP = np.array([-1.0, 1.0, -1.0])
# Texels on the side of an atlas cell that stores a patch.
ATLAS_SIZE = 8


def from_pytorch3d(
    meshes: Any,
    cameras: Any = None,
    *,
    material: Material | None = None,
    smooth: bool = True,
    srgb: bool = True,
    stage: str = "raw",
    name: str = "pytorch3d",
    **stage_options: Any,
) -> Scene:
    """A scene from PyTorch3D objects, or from objects with the same methods.

    Args:
        meshes: a `Meshes` (`verts_list`, `faces_list`, `textures`). All meshes of the batch become objects of one
            scene, named "mesh" or "mesh_0", "mesh_1" … Textures are TexturesVertex, TexturesUV or TexturesAtlas
            (patches where the colour varies), or None.
        cameras: FoVPerspectiveCameras or PerspectiveCameras (in NDC or in screen space), or None. `fov` of a camera is
            the angle over the shorter side of the picture, as in PyTorch3D; for a screen-space camera with a portrait
            `image_size` it is the angle over the height.
        material: specular, roughness and emission, and the diffuse colour of meshes without textures.
        smooth: whether normals are smooth across edges below 30 degrees, else flat.
        srgb: whether the textures are sRGB values, else linear ones.
        stage: "raw" keeps coordinates and cameras and adds no light; other values set the objects on a stage of
            `renderformer.data.staging` with `stage_options`, which replaces the cameras.

    Returns:
        A Scene with cameras "camera_0" …; notes count what was dropped or averaged.

    Raises:
        InputError: the arguments are not meshes or cameras, are empty, or hold NaN or wrong indices; a camera is
            orthographic, anisotropic, skewed or off-centre.
    """
    surface = material or Material()
    counts: Counter[str] = Counter()
    objects = with_sides(_objects(meshes, surface, material is not None, smooth, srgb, counts))
    notes = [reworded(text, f"{name}: {count:,} {text}") for text, count in counts.items() if count]
    scene = Scene(tuple(objects), tuple(_cameras(cameras)), name, tuple(notes))
    if stage == "raw":
        if stage_options:
            raise InputError(name, f"{min(stage_options)} applies to staged scenes only", "give stage='auto' too")
        if not any(mesh.emits for mesh in objects):
            notes.append("no light; add one: scene.with_object(Light().mesh()), or give a stage")
            scene = scene.replace(notes=notes)
        return scene
    from renderformer.data.staging import StageOptions, stage_scene

    return stage_scene(scene, StageOptions.from_keywords({"stage": stage, **stage_options}))


def _array(value: Any) -> AnyArray:
    """A NumPy array of a tensor on any device, or of an array-like object."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _list(owner: Any, method: str, expected: str) -> list[AnyArray]:
    try:
        return [_array(item) for item in getattr(owner, method)()]
    except AttributeError:
        problem = f"{type(owner).__name__} has no {method}(), so it is not {expected}"
        raise InputError("pytorch3d", problem, "pass the object of PyTorch3D") from None


def _objects(
    meshes: Any, surface: Material, has_material: bool, smooth: bool, srgb: bool, counts: Counter[str]
) -> list[Mesh]:
    vertices, faces = _list(meshes, "verts_list", "a Meshes"), _list(meshes, "faces_list", "a Meshes")
    textures = getattr(meshes, "textures", None)
    objects = []
    for number, (verts, face) in enumerate(zip(vertices, faces, strict=True)):
        label = "mesh" if len(vertices) == 1 else f"mesh_{number}"
        keep = _nonzero_area(label, verts, face)
        counts[Routine("zero-area triangles dropped")] += int((~keep).sum())
        if not keep.any():
            counts["meshes without triangles left out"] += 1
            continue
        triangles = verts.astype(np.float32)[face]
        if textures is None:
            # The row of Material() marks a mesh without a material, which staging replaces.
            rows = surface.rows(count=len(face)) if has_material else np.tile(Material().row(), (len(face), 1))
            baked: Baked = rows, None, None, None
        else:
            baked = _textured(textures, number, face, surface, srgb, counts, label)
        materials, patches, index, appearance = baked
        triangles = triangles[keep]
        normals = smooth_normals(triangles) if smooth else flat_normals(triangles)
        index = None if index is None else index[keep]
        appearance = None if appearance is None else appearance.take(keep)
        objects.append(Mesh(label, triangles, normals, materials[keep], patches, index, appearance))
    if not objects:
        raise InputError("pytorch3d", "the meshes have no triangles", "pass a Meshes with faces")
    return objects


def _nonzero_area(label: str, vertices: AnyArray, faces: AnyArray) -> BoolArray:
    """(F,) whether triangles have an area, after a check of shapes, indices and coordinates."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        problem = f"has vertices {vertices.shape} and faces {faces.shape}"
        raise InputError(f"pytorch3d: {label}", problem, "expected (V, 3) and (F, 3)")
    try:
        Part(label, vertices, faces).check()
    except InputError as error:
        raise error.at(f"pytorch3d: {label}") from None
    return has_area(vertices[faces])


def _linear(colors: AnyArray, srgb: bool, counts: Counter[str]) -> Float64Array:
    """Linear albedo of texture values (…, 3)."""
    outside = ~((colors >= 0) & (colors <= 1))
    counts["texture values outside 0 … 1 clipped"] += int(outside.sum())
    colors = np.clip(np.nan_to_num(colors.astype(np.float64)), 0, 1)
    return srgb_to_linear(colors) if srgb else colors


def _textured(
    textures: Any, number: int, faces: AnyArray, surface: Material, srgb: bool, counts: Counter[str], label: str
) -> Baked:
    """What the textures make of one mesh."""
    white = replace(surface, diffuse=(1.0, 1.0, 1.0))
    if hasattr(textures, "verts_features_list"):
        colors = _rgb(_list(textures, "verts_features_list", "textures")[number], label)
        linear = _linear(colors, srgb, counts)[faces]
        if not (np.ptp(linear, axis=1) > 1 / 255).any():
            return white.rows(base=linear.mean(axis=1), count=len(faces)), None, None, None
        return _looking(Appearance.of(white, np.zeros((len(faces), 3, 0, 2)), linear))
    if hasattr(textures, "atlas_list"):
        return _atlas(_rgb(_list(textures, "atlas_list", "textures")[number], label), white, srgb, counts, label, faces)
    if hasattr(textures, "maps_padded") or hasattr(textures, "maps_list"):
        return _uv(textures, number, white, srgb, counts, label, faces)
    problem = f"{type(textures).__name__} is not TexturesVertex, TexturesUV or TexturesAtlas"
    raise InputError("pytorch3d", problem, "convert it to one of them")


def _looking(appearance: Appearance) -> Baked:
    """A mesh with an appearance."""
    rows = np.tile(Material().row(), (len(appearance), 1))
    return appearance.mean_rows(rows), None, None, appearance


def _rgb(colors: AnyArray, label: str) -> AnyArray:
    if colors.shape[-1] != 3:
        raise InputError(f"pytorch3d: {label}", f"textures have {colors.shape[-1]} channels", "expected 3 (RGB)")
    return colors


def _uv(
    textures: Any, number: int, surface: Material, srgb: bool, counts: Counter[str], label: str, faces: AnyArray
) -> Baked:
    maps = textures.maps_list() if hasattr(textures, "maps_list") else textures.maps_padded()
    picture = _rgb(_array(maps[number]), label)
    corners = _list(textures, "faces_uvs_list", "textures")[number].astype(np.int64)
    points = _list(textures, "verts_uvs_list", "textures")[number].astype(np.float64)
    if corners.shape != faces.shape or (len(corners) and not 0 <= corners.min() <= corners.max() < len(points)):
        expected = f"expected {faces.shape} with indices below {len(points)}"
        raise InputError(f"pytorch3d: {label}", f"faces_uvs has shape {corners.shape}", expected)
    uv = points[corners]
    outside = (~((uv >= 0) & (uv <= 1))).any((1, 2))
    counts["triangles with texture coordinates outside 0 … 1, where the picture repeats"] += int(outside.sum())
    height, width = picture.shape[:2]
    counts["texture values outside 0 … 1 clipped"] += int((~((picture >= 0) & (picture <= 1))).sum())
    pixels = np.round(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
    # v points upward. With align_corners 0 and 1 are the centres of the border pixels, else their outer edges. A border
    # of repeated pixels keeps interpolation from mixing in the opposite side.
    size = np.array([width, height])
    uv = np.stack([uv[..., 0], 1 - uv[..., 1]], axis=-1)
    position = uv * (size - 1) + 0.5 if getattr(textures, "align_corners", True) else uv * size
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    textured = replace(surface, textures=Textures(base=Texture(padded, srgb)))
    return _looking(Appearance.of(textured, (position + 1) / (size + 2)))


def _atlas(atlas: AnyArray, surface: Material, srgb: bool, counts: Counter[str], label: str, faces: AnyArray) -> Baked:
    """Rows and patches of an atlas (F, R, R, 3); a cell stores one colour for each of R * R equal small triangles."""
    if atlas.ndim != 4 or len(atlas) != len(faces) or atlas.shape[1] != atlas.shape[2]:
        expected = f"expected ({len(faces)}, R, R, 3)"
        raise InputError(f"pytorch3d: {label}", f"the atlas has shape {atlas.shape}", expected)
    size = atlas.shape[1]
    cells = _linear(atlas, srgb, counts).reshape(len(atlas), -1, 3)
    rows = surface.rows(base=cells.mean(axis=1), count=len(atlas))
    varies = np.flatnonzero((np.ptp(cells, axis=1) > 1 / 255).any(axis=1))
    if len(varies) > MAX_PATCHES:
        event = f"triangles got one mean colour each, more than {MAX_PATCHES} patches need too much memory"
        counts[event] += len(varies)
    if not 0 < len(varies) <= MAX_PATCHES:
        return rows, None, None, None
    # The weights move slightly inward, so that no texel is on the border of two small triangles.
    x, y = atlas_texel(texel_weights() * (1 - 1e-3) + 1e-3 / 3, size)
    texel = cells[varies][:, y * size + x]
    values = surface.rows(base=texel.reshape(-1, 3), count=texel.shape[0] * texel.shape[1])
    patches = np.zeros((len(varies), values.shape[1], PATCH_SIZE, PATCH_SIZE), np.float16)
    patches[:, :, triangle_mask()] = values.reshape(len(varies), -1, values.shape[1]).swapaxes(1, 2)
    index = np.full(len(atlas), -1, np.int32)
    index[varies] = np.arange(len(varies))
    counts[Routine("triangles got a texture patch")] += len(varies)
    return rows, patches, index, None


def atlas_texel(weights: AnyArray, size: int) -> tuple[Int64Array, Int64Array]:
    """Column and row of the atlas cell that PyTorch3D reads at barycentric `weights` (…, 3): the first weight selects
    the column, the second the row; the upper half of a square is stored at the mirrored position."""
    w = weights[..., :2] * size
    cell = np.minimum(w.astype(np.int64), size - 1)
    upper = (w.sum(axis=-1) - cell.sum(axis=-1) > 1)[..., None]
    cell = np.where(upper, size - 1 - cell, cell)
    return cell[..., 0], cell[..., 1]


def _cameras(cameras: Any) -> list[Camera]:
    if cameras is None:
        return []
    kind = type(cameras).__name__
    if not all(hasattr(cameras, key) for key in ("R", "T", "get_projection_transform")):
        problem = f"{kind} has no R, T and get_projection_transform, so it is not a perspective camera"
        raise InputError("pytorch3d", problem, "pass the object of PyTorch3D")
    rotation, translation = _array(cameras.R).astype(np.float64), _array(cameras.T).astype(np.float64)
    # PyTorch3D's transforms act on row vectors, so the matrix is the transpose of K.
    projection = _array(cameras.get_projection_transform().get_matrix()).astype(np.float64).swapaxes(1, 2)
    count = max(len(rotation), len(translation), len(projection))
    scale = _screen(cameras, projection, count)
    converted = []
    for number in range(count):
        r, t, k = (part[min(number, len(part) - 1)] for part in (rotation, translation, projection))
        c2w = np.eye(4)
        c2w[:3, :3] = r * FLIP
        c2w[:3, 3] = -r @ t
        fov = _fov(k, scale[number], f"pytorch3d: camera {number} ({kind})")
        converted.append(Camera(c2w.astype(np.float32), fov, f"camera_{number}"))
    return converted


def _screen(cameras: Any, projection: AnyArray, count: int) -> list[tuple[float, AnyArray, float]]:
    """For each camera: NDC units per unit of its projection, the picture's centre in units of the projection, and the
    ratio of the picture's height to its shorter side."""
    in_ndc = getattr(cameras, "in_ndc", True)
    if in_ndc() if callable(in_ndc) else in_ndc:
        return [(1.0, np.zeros(2), 1.0)] * count
    sizes = getattr(cameras, "image_size", None)
    if sizes is None:
        raise InputError("pytorch3d", "a camera in screen space (in_ndc=False) has no image_size", "give it one")
    pairs = np.broadcast_to(np.atleast_2d(_array(sizes).astype(np.float64)), (count, 2))
    if not (pairs > 0).all():
        raise InputError("pytorch3d", f"image_size is {pairs[0].tolist()}", "expected positive (height, width)")
    return [(2 / min(h, w), np.array([w, h]) / 2, max(h / w, 1.0)) for h, w in pairs.tolist()]


def _fov(k: AnyArray, screen: tuple[float, AnyArray, float], place: str) -> float:
    """Angle in degrees over the height of the picture, or over its shorter side if its size is unknown."""
    to_ndc, centre, height = screen
    if abs(k[3, 2]) < 1e-12:
        raise InputError(place, "is orthographic", "use a perspective camera")
    fx, fy = k[0, 0] / k[3, 2] * to_ndc, k[1, 1] / k[3, 2] * to_ndc
    px, py = (k[:2, 2] / k[3, 2] - centre) * to_ndc
    if not (np.isfinite(k).all() and fx > 0 and fy > 0):
        raise InputError(place, f"has the focal lengths {fx:g} and {fy:g}", "expected positive numbers")
    if abs(fx - fy) > TOLERANCE * max(fx, fy):
        problem = f"is anisotropic, focal lengths {fx:.6g} and {fy:.6g} (NDC)"
        raise InputError(place, problem, "set aspect_ratio to 1 or both focal lengths equal, pixels must be square")
    if max(abs(px), abs(py)) > TOLERANCE:
        problem = f"is off-centre, principal point {px:.6g}, {py:.6g} (NDC from the middle)"
        raise InputError(place, problem, "render a larger picture with a centred one and crop it")
    if max(abs(k[0, 1]), abs(k[1, 0])) > TOLERANCE * abs(k[0, 0]):
        raise InputError(place, f"is skewed, K[0, 1] is {k[0, 1]:g}", "expected 0")
    return float(np.degrees(2 * np.arctan(height / fx)))


def to_pytorch3d(scene: Scene) -> tuple[Any, Any]:
    """(Meshes, FoVPerspectiveCameras) of a scene; the cameras are None if the scene has none.

    All objects become one mesh (a batch of 1; `meshes.extend(V)` for V cameras) with a TexturesAtlas of the diffuse
    colour as sRGB values. Coordinates are not changed. A warning counts the triangles that lose specular reflectance or
    emission, which PyTorch3D's textures cannot hold.

    Raises:
        ImportError: PyTorch3D is not installed; the message has the commands to install it.
    """
    try:
        import pytorch3d._C  # noqa: F401
        import torch
        from pytorch3d.renderer import FoVPerspectiveCameras, TexturesAtlas
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise ImportError(INSTALL) from error
    vertices, faces = indexed_mesh(scene)
    shiny = int((scene.materials[:, SPECULAR] > 0).any(axis=1).sum())
    if shiny or len(scene.light_triangles):
        warnings.warn(
            f"to_pytorch3d: textures hold diffuse colours only; {shiny} triangles lose their specular part and "
            f"{len(scene.light_triangles)} their emission",
            stacklevel=2,
        )
    atlas = torch.from_numpy(diffuse_atlas(scene))
    meshes = Meshes([torch.from_numpy(vertices)], [torch.from_numpy(faces)], TexturesAtlas([atlas]))
    if not scene.cameras:
        return meshes, None
    rotation, translation, fov = camera_parameters(scene.cameras)
    cameras = FoVPerspectiveCameras(
        znear=0.01, R=torch.from_numpy(rotation), T=torch.from_numpy(translation), fov=torch.from_numpy(fov)
    )
    return meshes, cameras


def indexed_mesh(scene: Scene) -> tuple[Float32Array, Int64Array]:
    """(V, 3) distinct corner positions of all objects and (F, 3) indices into them."""
    faces = merge_corners(scene.triangles)
    vertices = np.empty((int(faces.max()) + 1, 3), np.float32)
    vertices[faces.ravel()] = scene.triangles.reshape(-1, 3)
    return vertices, faces.astype(np.int64)


def camera_parameters(
    cameras: tuple[Camera, ...],
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """PyTorch3D's R (N, 3, 3), T (N, 3) and fov (N,) in degrees of our cameras."""
    c2w = np.stack([camera.c2w for camera in cameras]).astype(np.float64)
    rotation = c2w[:, :3, :3] * FLIP
    translation = -np.einsum("nij,ni->nj", rotation, c2w[:, :3, 3])
    fov = np.array([camera.fov for camera in cameras], np.float32)
    return rotation.astype(np.float32), translation.astype(np.float32), fov


def diffuse_atlas(scene: Scene) -> Float32Array:
    """(F, R, R, 3) sRGB values of the diffuse colour; R is 1 without patches, else 8."""
    size = 1 if scene.patches is None else ATLAS_SIZE
    atlas = np.repeat(scene.materials[:, None, DIFFUSE], size * size, axis=1)
    if scene.patches is not None:
        patches, index = scene.patches
        # The weights of the centre of the small triangle of each texel (row y, column x).
        y, x = np.divmod(np.arange(size * size), size)
        lower = x + y < size
        first = np.where(lower, x + 1 / 3, size - 1 - x + 2 / 3) / size
        second = np.where(lower, y + 1 / 3, size - 1 - y + 2 / 3) / size
        i = np.minimum(np.round(second * PATCH_SIZE).astype(int), PATCH_SIZE - 1)
        j = np.minimum(np.round((1 - first - second) * PATCH_SIZE).astype(int), PATCH_SIZE - 1)
        textured = np.flatnonzero(index >= 0)
        atlas[textured] = patches[index[textured]][:, DIFFUSE][:, :, i, j].swapaxes(1, 2)
    return linear_to_srgb(np.clip(atlas, 0, 1)).reshape(len(scene), size, size, 3)
