"""Path-traced reference pictures with Mitsuba 3 (optional: `pip install renderformer[reference]`).

The reflection model is that of the released models' training data (spec training.md): diffuse plus GGX without Fresnel,
alpha = roughness squared, emission is radiance. Mitsuba's emitters shine from their front, as lights do here; one that
shines from both sides becomes two, back to back. The disc of a sun is a set of directions, which no camera and no
mirror sees.

Shapes: N triangles. Mitsuba's camera has +X left and looks along +Z, ours has +X right and looks along -Z.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment, looked_up
from renderformer.data.errors import InputError
from renderformer.data.geometry.triangles import face_normals
from renderformer.data.rays.environment_light import sun_directions
from renderformer.data.scene import CHANNELS, DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Mesh, Scene, flat_normals
from renderformer.data.sets.mitsuba_materials import MIN_ALPHA, Piece, pieces, see_through
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize

# Distance between the two halves of a light that shines from both sides, of the size of the scene.
HALVES = 1e-4
# Directions that stand for the disc of a sun.
SUN_POINTS = 16
# Diffuse plus specular may exceed 1 by this much, because of float16 rounding.
ENERGY_SLACK = 1e-3
# Between the seeds of pictures by paths from the lights; more than a picture has blocks of paths.
LIGHT_SEEDS = 1_000_003


def load_mitsuba(threads: int = 1) -> Any:
    """The mitsuba module with the variant `scalar_rgb`, which needs no LLVM and is as fast for small pictures.

    Raises:
        InputError: Mitsuba is not installed.
    """
    try:
        import mitsuba
    except ImportError as error:
        remedy = "pip install 'renderformer[reference]'"
        raise InputError("reference pictures", "Mitsuba 3 is not installed", remedy) from error
    if mitsuba.variant() != "scalar_rgb":
        mitsuba.set_variant("scalar_rgb")
    # Mitsuba logs a line per picture about rounded sample counts, which `render` documents, and draws bars of progress.
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    mitsuba.logger().clear_appenders()  # type: ignore[operator]
    import drjit

    drjit.set_thread_count(threads)
    return mitsuba


def render_reference(
    scene: Scene, camera: Camera, width: int = 64, height: int = 64, spp: int = 64, depth: int = 5, seed: int = 0
) -> Float32Array:
    """One path-traced picture, see `ReferenceScene.render`; use that class for several cameras of one scene."""
    return ReferenceScene(scene, depth).render(camera, width, height, spp, seed)


class ReferenceScene:
    """A scene in Mitsuba, for any number of cameras.

    Args:
        scene: world space, Z up; materials as rows and as appearances. From behind, normal maps are mirrored.
        depth: longest path in segments: 1 shows only emission, 2 adds direct light, and so on.
        threads: of this process; one by default, since processes scale better (spec training.md).

    Raises:
        InputError: Mitsuba is not installed, the scene has texture patches, a material's diffuse + specular is more
            than 1, textures that Mitsuba cannot combine (see `renderformer.data.sets.mitsuba_materials.pieces`), or
            depth is not positive.
    """

    def __init__(self, scene: Scene, depth: int = 5, threads: int = 1) -> None:
        if any(mesh.patches is not None for mesh in scene.objects):
            problem = "has texture patches, reference pictures need materials or textures"
            raise InputError(f"scene {scene.name!r}", problem, "give its objects an appearance, or material rows")
        if depth < 1:
            raise InputError("reference", f"depth is {depth}", "expected at least 1")
        for mesh in scene.objects:
            _check_energy(mesh)
        self._mi, self._depth = load_mitsuba(threads), depth
        # The distances between which Mitsuba's camera sees are those of a scene of unit size.
        self._unit = UnitSize.of(scene, TrainedRange().box)
        scene = self._unit.scene(scene)
        gap = HALVES * float(np.ptp(scene.bounds, axis=0).max())
        shapes = [shape for mesh in scene.objects for shape in self._shapes(mesh, gap)]
        parts = {f"shape{i}": shape for i, shape in enumerate(shapes)}
        # The other integrator knows what shadow rays pass, which does not count as a segment.
        self._integrator = "volpath" if any(see_through(mesh) for mesh in scene.objects) else "path"
        lights = {} if scene.environment is None else _emitters(self._mi, scene.environment)
        self._scene = self._loaded(depth, parts | lights)
        # The environment alone is what a scene that shows only emission has more than one without environment.
        hidden = scene.environment is not None and scene.environment.background != "visible"
        self._behind = (self._loaded(1, parts | lights), self._loaded(1, parts)) if hidden else None

    def light_traced(
        self, camera: Camera, width: int = 64, height: int = 64, spp: int = 64, seed: int = 0
    ) -> Float32Array:
        """One view by paths that start at the lights, so many for each pixel: right where a camera sees matt surfaces,
        also where shiny ones throw light on them (caustics), which paths from the camera seldom find.

        Arguments and errors as in `render`.

        Returns:
            (height, width, 3) float32 linear radiance, without surfaces that are seen in a mirror.
        """
        integrator = self._mi.load_dict({"type": "ptracer", "max_depth": self._depth})
        sensor = self._sensor(camera, width, height, spp, "independent")
        # Mitsuba gives the n-th block of paths the seed plus n, so seeds beside each other would repeat paths.
        seed = seed * LIGHT_SEEDS % 2**32
        rendered = self._mi.render(self._scene, sensor=sensor, integrator=integrator, spp=spp, seed=seed)
        return np.array(rendered, np.float32).reshape(height, width, 3)

    def _loaded(self, depth: int, parts: dict[str, Any]) -> Any:
        integrator = {"type": self._integrator, "max_depth": depth}
        return self._mi.load_dict({"type": "scene", "integrator": integrator, **parts})

    def render(self, camera: Camera, width: int = 64, height: int = 64, spp: int = 64, seed: int = 0) -> Float32Array:
        """Path trace one view.

        Args:
            camera: `fov` is vertical; pixel centres lie at +0.5, each pixel is the mean of its samples.
            width, height: pixels.
            spp: samples per pixel; the sampler uses a grid and rounds up other numbers than near-square products.
            seed: of the sampler; the same seed gives the same picture.

        Returns:
            (height, width, 3) float32 linear radiance; lights are visible, the environment if its background is.

        Raises:
            InputError: a size or sample count that is not positive.
        """

        def picture(scene: Any) -> Float32Array:
            rendered = self._mi.render(scene, sensor=self._sensor(camera, width, height, spp), spp=spp, seed=seed)
            return np.array(rendered, np.float32).reshape(height, width, 3)

        if self._behind is None:
            return picture(self._scene)
        # All three have the same samples of each pixel.
        surrounded, alone = map(picture, self._behind)
        return picture(self._scene) - (surrounded - alone)

    def guides(
        self, camera: Camera, width: int = 64, height: int = 64, spp: int = 4, seed: int = 0
    ) -> tuple[Float32Array, Float32Array]:
        """Albedo and normal of the first hit surface, as guides for a denoiser; arguments as in `render`.

        Returns:
            Albedo and shading normal (world space), mean over the samples: (height, width, 3) float32 each, zero
            without a hit. Mitsuba's albedo of glossy surfaces reaches 2; it is clamped to [0, 1] as denoisers expect.

        Raises:
            InputError: a size or sample count that is not positive.
        """
        integrator = self._mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"})
        sensor = self._sensor(camera, width, height, spp)
        channels = np.array(self._mi.render(self._scene, sensor=sensor, integrator=integrator, spp=spp, seed=seed))
        channels = channels.astype(np.float32).reshape(height, width, 6)
        return np.clip(channels[..., :3], 0, 1), np.ascontiguousarray(channels[..., 3:])

    def _sensor(self, camera: Camera, width: int, height: int, spp: int, sampler: str = "multijitter") -> Any:
        if width < 1 or height < 1 or spp < 1:
            raise InputError("reference", f"{width} x {height} pixels at {spp} samples", "expected positive numbers")
        to_world = self._unit.camera(camera).c2w.astype(np.float64) @ np.diag([-1.0, 1.0, -1.0, 1.0])
        return self._mi.load_dict(
            {
                "type": "perspective",
                "fov": camera.fov,
                "fov_axis": "y",
                "near_clip": 1e-3,
                "far_clip": 1e4,
                "to_world": self._mi.ScalarTransform4f(to_world),
                "film": {
                    "type": "hdrfilm",
                    "width": width,
                    "height": height,
                    "pixel_format": "rgb",
                    "component_format": "float32",
                    "rfilter": {"type": "box"},
                },
                "sampler": {"type": sampler, "sample_count": spp},
            }
        )

    def _shapes(self, mesh: Mesh, gap: float) -> list[Any]:
        """Mitsuba meshes of one object: one if only the diffuse colour varies, else one per distinct material, and one
        for what shines from its back, `gap` behind the front."""
        if mesh.appearance is not None:
            return self._looking(mesh, gap)
        rows = mesh.materials
        others = np.delete(rows, np.r_[DIFFUSE], axis=1)
        if not mesh.emits and (others == others[0]).all() and not (rows == rows[0]).all():
            return [self._shape(mesh, np.arange(len(mesh)), colours=rows[:, DIFFUSE])]
        distinct, group = np.unique(rows, axis=0, return_inverse=True)
        shapes = [self._shape(mesh, np.flatnonzero(group.ravel() == i)) for i in range(len(distinct))]
        return shapes + [shape for half in _backs(mesh, gap) for shape in self._shapes(half, gap)]

    def _looking(self, mesh: Mesh, gap: float) -> list[Any]:
        """Mitsuba meshes of an object with an appearance, and of its triangles that have none."""
        assert mesh.appearance is not None
        shapes = [self._piece(mesh, piece) for piece in pieces(self._mi, mesh)]
        rest = np.flatnonzero(mesh.appearance.index < 0)
        if len(rest):
            plain = Mesh(
                mesh.name, mesh.triangles[rest], mesh.normals[rest], mesh.materials[rest], two_sided=mesh.sides(rest)
            )
            shapes += self._shapes(plain, gap)
        looking = replace(mesh, materials=np.where(mesh.appearance.index[:, None] < 0, 0, mesh.materials))
        return shapes + [shape for half in _backs(looking, gap) for shape in self._shapes(half, gap)]

    def _piece(self, mesh: Mesh, piece: Piece) -> Any:
        """The Mitsuba mesh of triangles with one material."""
        triangles, normals = mesh.triangles[piece.triangles], mesh.normals[piece.triangles]
        properties = self._mi.Properties()
        properties["bsdf"] = self._mi.load_dict(piece.bsdf)
        if piece.radiance is not None and mesh.materials[piece.triangles, EMISSION].any():
            normals = flat_normals(triangles)
            properties["emitter"] = self._mi.load_dict({"type": "area", "radiance": piece.radiance})
        count = len(piece.triangles)
        mapped = piece.uv is not None
        shape = self._mi.Mesh(
            mesh.name, 3 * count, count, has_vertex_normals=True, has_vertex_texcoords=mapped, props=properties
        )
        for name, values in piece.attributes.items():
            shape.add_attribute(name, values.shape[1], np.ascontiguousarray(values).ravel())
        parameters = self._mi.traverse(shape)
        parameters["vertex_positions"] = triangles.ravel()
        parameters["vertex_normals"] = normals.ravel()
        parameters["faces"] = np.arange(3 * count, dtype=np.uint32)
        if piece.uv is not None:
            parameters["vertex_texcoords"] = np.ascontiguousarray(piece.uv).ravel()
        parameters.update()
        return shape

    def _shape(self, mesh: Mesh, index: AnyArray, colours: Float32Array | None = None) -> Any:
        """One Mitsuba mesh of the triangles `index` of an object."""
        row = mesh.materials[index[0]]
        triangles, normals = mesh.triangles[index], mesh.normals[index]
        emission = row[EMISSION]
        properties = self._mi.Properties()
        properties["bsdf"] = self._mi.load_dict(_bsdf(row, colours))
        if emission.max() > 0:
            # Mitsuba takes the side of an emitter from its vertex normals.
            normals = flat_normals(triangles)
            properties["emitter"] = self._mi.load_dict({"type": "area", "radiance": _colour(emission)})
        shape = self._mi.Mesh(mesh.name, 3 * len(index), len(index), has_vertex_normals=True, props=properties)
        if colours is not None:
            shape.add_attribute("face_color", 3, _reflectance(row, colours).astype(np.float32).ravel())
        parameters = self._mi.traverse(shape)
        parameters["vertex_positions"] = triangles.ravel()
        parameters["vertex_normals"] = normals.ravel()
        parameters["faces"] = np.arange(3 * len(index), dtype=np.uint32)
        parameters.update()
        return shape


def _check_energy(mesh: Mesh) -> None:
    total = (mesh.materials[:, DIFFUSE].max(axis=1) + mesh.materials[:, SPECULAR].max(axis=1)).max()
    if total > 1 + ENERGY_SLACK:
        raise InputError(
            f"object {mesh.name!r}",
            f"diffuse + specular is {total:.3g}, more than 1",
            "reference pictures need materials that conserve energy, scale it down",
        )


def _backs(mesh: Mesh, gap: float) -> list[Mesh]:
    """The triangles of an object that shine from both sides, turned over and moved back by `gap`; none or one mesh."""
    both = np.flatnonzero(np.broadcast_to(mesh.two_sided, len(mesh)) & (mesh.materials[:, EMISSION] > 0).any(axis=1))
    if not len(both):
        return []
    corners = mesh.triangles[both] - gap * face_normals(mesh.triangles[both])[:, None]
    return [Mesh(mesh.name, corners[:, ::-1].astype(np.float32), materials=mesh.materials[both])]


def _reflectance(row: Float32Array, colours: Float32Array) -> Float64Array:
    """(…, 3) reflectance of the diffuse lobe, which the blend weights by 1 - specular (spec training.md)."""
    weight = 1 - float(row[SPECULAR].max())
    # Rounding to half floats may make diffuse + specular slightly more than 1.
    return np.minimum(colours.astype(np.float64) / weight, 1.0) if weight > ENERGY_SLACK else np.zeros(colours.shape)


def _bsdf(row: Float32Array, colours: Float32Array | None) -> dict[str, Any]:
    """The two-sided material of a row (13,); `colours` (N, 3) replaces its diffuse colour per triangle."""
    assert row.shape == (CHANNELS,)
    weight = float(row[SPECULAR].max())
    reflectance = (
        _colour(_reflectance(row, row[DIFFUSE]))
        if colours is None
        else {"type": "mesh_attribute", "name": "face_color"}
    )
    diffuse = {"type": "diffuse", "reflectance": reflectance}
    if weight == 0:
        return {"type": "twosided", "bsdf": diffuse}
    glossy = {
        "type": "roughconductor",
        "material": "none",
        "distribution": "ggx",
        "alpha": max(float(row[ROUGHNESS]) ** 2, MIN_ALPHA),
        "specular_reflectance": _colour(row[SPECULAR] / weight),
    }
    return {"type": "twosided", "bsdf": {"type": "blendbsdf", "weight": weight, "first": diffuse, "second": glossy}}


def _emitters(mitsuba: Any, environment: Environment) -> dict[str, Any]:
    """The emitters of an environment by name."""
    image, strength = np.asarray(environment.image), environment.strength
    emitters: dict[str, Any] = {}
    turn = np.eye(4)
    turn[:3, :3] = environment.to_local.T
    if image.shape[:2] == (1, 1):
        emitters["environment"] = {"type": "constant", "radiance": _colour(image[0, 0] * strength)}
    elif image.any():
        # Mitsuba's +Z is the middle column, our +X; its +Y is up.
        axes = np.eye(4)[:, [1, 2, 0, 3]]
        emitters["environment"] = {
            "type": "envmap",
            "bitmap": mitsuba.Bitmap(_with_poles(image) * np.float32(strength)),
            "to_world": mitsuba.ScalarTransform4f(turn @ axes),
        }
    for number, sun in enumerate(environment.suns):
        directions = sun_directions(sun, SUN_POINTS if sun.angle > 0 else 1) @ environment.to_local
        for point, direction in enumerate(directions):
            irradiance = _colour(sun.colour * (strength / len(directions)))
            emitter = {"type": "directional", "direction": (-direction).tolist(), "irradiance": irradiance}
            emitters[f"sun{number}_{point}"] = emitter
    return emitters


def _with_poles(image: Float32Array) -> Float32Array:
    """(H', W', 3) of an image: Mitsuba's first and last row lie at the poles, its columns where ours do."""
    height, width = 2 * image.shape[0] + 1, 2 * max(image.shape[1], 2)
    polar = np.pi * np.arange(height) / (height - 1)
    turn = np.pi - 2 * np.pi * (np.arange(width) + 0.5) / width
    flat = np.broadcast_to(np.cos(polar)[:, None], (height, width))
    directions = np.stack([np.sin(polar)[:, None] * np.cos(turn), np.sin(polar)[:, None] * np.sin(turn), flat], -1)
    values = looked_up([image], directions.reshape(-1, 3).astype(np.float32), 0.0)
    return values.reshape(height, width, 3)


def _colour(rgb: npt.ArrayLike) -> dict[str, Any]:
    return {"type": "rgb", "value": np.asarray(rgb, np.float64).tolist()}
