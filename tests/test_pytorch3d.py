"""PyTorch3D objects in and out, with stand-ins that compute as the package does; the package itself where it works."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pytorch3d import (
    FoVPerspectiveCameras,
    Meshes,
    OrthographicCameras,
    PerspectiveCameras,
    TexturesAtlas,
    TexturesUV,
    TexturesVertex,
    look_at,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from renderformer.data.camera import Camera
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.formats.pytorch3d import (
    atlas_texel,
    camera_parameters,
    diffuse_atlas,
    from_pytorch3d,
    indexed_mesh,
    to_pytorch3d,
)
from renderformer.data.geometry.patches import patches_of, triangle_mask
from renderformer.data.scene import DIFFUSE, PATCH_SIZE, Light, Material, Mesh, Scene

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def ndc_of_theirs(camera: Any, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(M, 2) their projection with row vectors: (x R + T, 1) P, divided by the last column."""
    local = points @ camera.R[0].numpy() + camera.T[0].numpy()
    clip = np.column_stack([local, np.ones(len(local))]) @ camera.get_projection_transform().get_matrix()[0].numpy()
    return np.asarray(clip[:, :2] / clip[:, 3:])


def ndc_of_ours(camera: Camera, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(M, 2) with +X right, +Y up, 1 at the border of a square picture."""
    c2w = camera.c2w.astype(np.float64)
    local = (points - c2w[:3, 3]) @ c2w[:3, :3]
    return np.asarray(local[:, :2] / -local[:, 2:] / np.tan(np.radians(camera.fov) / 2))


def cloud(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (50, 3))


@settings(max_examples=25)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(10, 120), st.booleans())
def test_cameras_project_to_the_same_place(eye: tuple[float, float, float], fov: float, by_focal: bool) -> None:
    """Mirrored in x: NDC of PyTorch3D has +X left."""
    position = np.array(eye)
    if np.linalg.norm(position[[0, 2]]) < 1.2:
        position = position + [2, 0, 2]
    r, t = look_at(position, np.array([0.1, -0.05, 0.02]))
    theirs: Any = FoVPerspectiveCameras(r, t, fov)
    if by_focal:
        theirs = PerspectiveCameras(r, t, 1 / np.tan(np.radians(fov) / 2))
    camera = from_pytorch3d(Meshes([VERTICES], [FACES]), theirs).cameras[0]
    np.testing.assert_allclose(camera.position, position, atol=1e-5)
    assert camera.fov == pytest.approx(fov, rel=1e-5)
    points = cloud()
    np.testing.assert_allclose(ndc_of_theirs(theirs, points) * [-1, 1], ndc_of_ours(camera, points), atol=2e-4)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (512, 512), (640, 480)])
def test_screen_space_cameras(height: int, width: int) -> None:
    """+X right and +Y down from the upper left there, in pixels; our fov is over the height of the picture."""
    r, t = look_at(np.array([1.0, 0.5, 2.0]), np.zeros(3))
    theirs = PerspectiveCameras(r, t, 700.0, (width / 2, height / 2), False, torch.tensor([[height, width]]))
    camera = from_pytorch3d(Meshes([VERTICES], [FACES]), theirs).cameras[0]
    points = cloud()
    local = points @ r[0].numpy() + t[0].numpy()
    # A pinhole with the y axis down and the x axis right has its axes opposite to PyTorch3D's view axes.
    pixels = -700 * local[:, :2] / local[:, 2:] + [width / 2, height / 2]
    ours = ndc_of_ours(camera, points) * (height / 2) * [1, -1] + [width / 2, height / 2]
    np.testing.assert_allclose(ours, pixels, atol=0.02)


def test_a_batch_of_cameras_and_a_given_matrix() -> None:
    pairs = [look_at(np.array([x, 1.0, 2.0]), np.zeros(3)) for x in (-1.0, 0.0, 1.5)]
    r, t = (torch.cat(part) for part in zip(*pairs, strict=True))
    k = torch.zeros(3, 4, 4)
    k[:, 0, 0] = k[:, 1, 1] = torch.tensor([2.0, 3.0, 4.0])
    k[:, 3, 2] = 2.0
    cameras = from_pytorch3d(Meshes([VERTICES], [FACES]), FoVPerspectiveCameras(r, t, K=k)).cameras
    assert [camera.name for camera in cameras] == ["camera_0", "camera_1", "camera_2"]
    np.testing.assert_allclose([c.position[0] for c in cameras], [-1, 0, 1.5], atol=1e-6)
    expected = np.degrees(2 * np.arctan([1.0, 2 / 3, 0.5]))
    np.testing.assert_allclose([camera.fov for camera in cameras], expected, rtol=1e-6)


def test_cameras_that_cannot_be_drawn_are_refused() -> None:
    r, t = look_at(np.array([1.0, 0.5, 2.0]), np.zeros(3))
    meshes = Meshes([VERTICES], [FACES])
    cases: list[tuple[Any, str]] = [
        (FoVPerspectiveCameras(r, t, aspect_ratio=1.5), "camera 0 .*: is anisotropic, focal lengths 1.15.* and 1.73"),
        (PerspectiveCameras(r, t, (1.0, 1.1)), "anisotropic"),
        (PerspectiveCameras(r, t, 1.0, (0.1, 0.0)), "off-centre, principal point 0.1, 0"),
        (PerspectiveCameras(r, t, 500.0, (300.0, 240.0), False, [(480, 640)]), "off-centre"),
        (PerspectiveCameras(r, t, 500.0, (320.0, 240.0), False), "no image_size"),
        (PerspectiveCameras(r, t, -1.0), "expected positive"),
        (OrthographicCameras(r, t, 1.0), "orthographic"),
        (object(), "object has no R, T"),
        (FoVPerspectiveCameras(2 * r, t), "rigid"),
    ]
    for camera, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            from_pytorch3d(meshes, camera)
        assert "\n" not in str(caught.value)


def test_geometry_keeps_its_coordinates_and_batches_become_objects() -> None:
    far = VERTICES * 3 + 7
    scene = from_pytorch3d(Meshes([VERTICES, far], [FACES, FACES[:2]]))
    assert [mesh.name for mesh in scene.objects] == ["mesh_0", "mesh_1"]
    np.testing.assert_array_equal(scene.objects[0].triangles, VERTICES.numpy()[FACES])
    np.testing.assert_array_equal(scene.objects[1].triangles, far.numpy()[FACES[:2]])
    assert any("no light" in note for note in scene.notes)
    assert scene.cameras == ()
    assert from_pytorch3d(Meshes([VERTICES], [FACES])).objects[0].name == "mesh"


def test_tensors_with_gradients_and_degenerate_faces() -> None:
    vertices = VERTICES.clone().requires_grad_()
    faces = torch.cat([FACES, torch.tensor([[0, 0, 1]])])
    colors = torch.rand(4, 3, requires_grad=True)
    scene = from_pytorch3d(Meshes([vertices], [faces], TexturesVertex([colors])))
    assert len(scene) == 4
    assert any("1 zero-area triangles dropped" in note for note in scene.notes)


def test_bad_meshes_are_refused() -> None:
    nan = VERTICES.clone()
    nan[1, 2] = float("nan")
    cases: list[tuple[Any, str]] = [
        (object(), "object has no verts_list"),
        (Meshes([nan], [FACES]), "mesh: 1 vertices are NaN"),
        (Meshes([VERTICES], [FACES + 1]), "a face refers to vertex 4, but there are 4"),
        (Meshes([VERTICES], [FACES - 1]), "a face refers to vertex -1"),
        (Meshes([VERTICES], [FACES[:0]]), "no triangles"),
        (Meshes([VERTICES], [FACES], object()), "object is not TexturesVertex"),
        (Meshes([VERTICES], [FACES], TexturesVertex([torch.rand(4, 5)])), "5 channels"),
        (
            Meshes([VERTICES], [FACES], TexturesAtlas([torch.rand(3, 2, 2, 3)])),
            r"mesh: the atlas has shape \(3, 2, 2, 3\)",
        ),
    ]
    for meshes, message in cases:
        with pytest.raises(InputError, match=message):
            from_pytorch3d(meshes)


def test_vertex_colors_are_averaged_in_linear_light() -> None:
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.5, 0.5, 0.5]])
    material = Material(specular=(0.2, 0.2, 0.2), roughness=0.3)
    scene = from_pytorch3d(Meshes([VERTICES], [FACES], TexturesVertex([colors])), material=material)
    mesh = scene.objects[0]
    expected = srgb_to_linear(colors.numpy())[FACES].mean(axis=1)
    np.testing.assert_allclose(mesh.materials[:, DIFFUSE], expected, atol=1e-6)
    # Less specular where the diffuse colour leaves less.
    np.testing.assert_allclose(mesh.materials[:, 3:7], [[0.2, 0.2, 0.2, 0.3]] * 4, atol=0.01)
    assert mesh.appearance is not None
    assert mesh.appearance.colors is not None
    np.testing.assert_allclose(mesh.appearance.colors[..., :3], srgb_to_linear(colors.numpy())[FACES], atol=1e-6)
    linear = from_pytorch3d(Meshes([VERTICES], [FACES], TexturesVertex([colors])), srgb=False).objects[0]
    np.testing.assert_allclose(linear.materials[:, DIFFUSE], colors.numpy()[FACES].mean(axis=1), atol=1e-6)


def test_atlas_of_one_texel_is_a_color_per_triangle() -> None:
    atlas = torch.rand(4, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    mesh = from_pytorch3d(Meshes([VERTICES], [FACES], TexturesAtlas([atlas]))).objects[0]
    assert mesh.patches is None
    np.testing.assert_allclose(mesh.materials[:, DIFFUSE], srgb_to_linear(atlas[:, 0, 0].numpy()), atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_atlas_cells_land_where_pytorch3d_reads_them(size: int) -> None:
    atlas = torch.rand(4, size, size, 3, generator=torch.Generator().manual_seed(0))
    mesh = from_pytorch3d(Meshes([VERTICES], [FACES], TexturesAtlas([atlas])), srgb=False).objects[0]
    assert mesh.patches is not None
    i, j = np.nonzero(triangle_mask())
    bary = np.stack([PATCH_SIZE - i - j, i, j], axis=1) / PATCH_SIZE
    # Away from the lines between the small triangles, where PyTorch3D's own rounding decides.
    scaled = bary * size
    clear = (np.abs(scaled - np.round(scaled)) > 0.02).all(axis=1)
    assert clear.sum() > 50
    # sample_textures of TexturesAtlas: indices by truncation, mirrored above the diagonal, rows by the second weight.
    for face in range(4):
        for texel in np.flatnonzero(clear):
            w = bary[texel, :2] * size
            x, y = int(w[0]), int(w[1])
            if w.sum() - (x + y) > 1:
                x, y = size - 1 - x, size - 1 - y
            value = mesh.patches[face, DIFFUSE, i[texel], j[texel]]
            np.testing.assert_allclose(value, atlas[face, y, x].numpy(), atol=1e-3)
    assert (mesh.patches[:, :, ~triangle_mask()] == 0).all()
    np.testing.assert_allclose(mesh.materials[:, DIFFUSE], atlas.numpy().mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("align", [True, False])
def test_uv_textures_agree_with_grid_sample(align: bool) -> None:
    """Against torch's own sampling of the map, flipped as PyTorch3D flips it."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.round(torch.rand(1, 9, 13, 3, generator=generator) * 255) / 255
    points = torch.rand(12, 2, generator=generator)
    corners = torch.arange(12).reshape(4, 3)
    textures = TexturesUV(maps, [corners], [points], align)
    mesh = from_pytorch3d(Meshes([VERTICES], [FACES], textures), srgb=False).objects[0]
    patches, index = patches_of(mesh)
    assert patches is not None
    i, j = np.nonzero(triangle_mask())
    bary = np.stack([PATCH_SIZE - i - j, i, j], axis=1) / PATCH_SIZE
    uv = torch.from_numpy(bary[None] @ points.numpy()[corners].astype(np.float64)).float()
    expected = torch.nn.functional.grid_sample(
        torch.flip(maps.permute(0, 3, 1, 2), [2]), uv[None].reshape(1, 4, -1, 2) * 2 - 1,
        align_corners=align, padding_mode="border",
    )[0].permute(1, 2, 0)  # fmt: skip
    values = patches[index][:, DIFFUSE][:, :, i, j].swapaxes(1, 2)
    np.testing.assert_allclose(values, expected.numpy(), atol=2e-3)


def test_texture_coordinates_outside_are_noted_and_wrong_ones_refused() -> None:
    maps, corners = torch.rand(1, 4, 4, 3), torch.zeros(4, 3, dtype=torch.int64)
    corners[:] = torch.tensor([0, 1, 2])
    points = torch.tensor([[0.0, 0], [2, 0], [0, 1]])
    scene = from_pytorch3d(Meshes([VERTICES], [FACES], TexturesUV(maps, [corners], [points])))
    assert any("4 triangles with texture coordinates outside 0 … 1" in note for note in scene.notes)
    with pytest.raises(InputError, match="mesh: faces_uvs has shape"):
        from_pytorch3d(Meshes([VERTICES], [FACES], TexturesUV(maps, [corners + 1], [points])))


def test_stage_can_be_asked_for() -> None:
    r, t = look_at(np.array([1.0, 0.5, 2.0]), np.zeros(3))
    scene = from_pytorch3d(Meshes([VERTICES], [FACES]), FoVPerspectiveCameras(r, t), stage="floor", up="y")
    assert [mesh.name for mesh in scene.objects] == ["floor", "mesh", "light"]
    assert [camera.name for camera in scene.cameras] == ["stage"]
    assert any("cameras of the file are not used" in note for note in scene.notes)
    with pytest.raises(InputError, match="up applies to staged scenes only"):
        from_pytorch3d(Meshes([VERTICES], [FACES]), up="y")
    assert Scene.from_pytorch3d(Meshes([VERTICES], [FACES])).name == "pytorch3d"


def small_scene() -> Scene:
    triangles = VERTICES.numpy()[FACES]
    rng = np.random.default_rng(0)
    materials = np.tile(Material().row(), (4, 1))
    materials[:, DIFFUSE] = rng.uniform(0, 1, (4, 3))
    cameras = (Camera.from_angles(30, 20, 2.0, fov=45), Camera.look_at((1, 2, 3), fov=30))
    return Scene((Mesh("thing", triangles, materials=materials), Light().mesh()), cameras)


def test_scene_parts_come_back_the_same() -> None:
    """Our parameters, put into stand-ins, read back."""
    scene = small_scene()
    vertices, faces = indexed_mesh(scene)
    assert vertices.shape == (7, 3)
    rotation, translation, fov = camera_parameters(scene.cameras)
    atlas = torch.from_numpy(diffuse_atlas(scene))
    meshes = Meshes([torch.from_numpy(vertices)], [torch.from_numpy(faces)], TexturesAtlas([atlas]))
    for number, camera in enumerate(scene.cameras):
        theirs = FoVPerspectiveCameras(
            torch.from_numpy(rotation[number : number + 1]),
            torch.from_numpy(translation[number : number + 1]),
            float(fov[number]),
        )
        back = from_pytorch3d(meshes, theirs)
        np.testing.assert_allclose(back.cameras[0].c2w, camera.c2w, atol=1e-6)
        assert back.cameras[0].fov == pytest.approx(camera.fov, rel=1e-6)
    np.testing.assert_array_equal(back.triangles, scene.triangles)
    np.testing.assert_allclose(back.materials[:, DIFFUSE], scene.materials[:, DIFFUSE], atol=1e-6)


def test_patches_survive_the_atlas() -> None:
    """A patch with one colour for each small triangle of an 8 x 8 atlas comes back."""
    atlas = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(3))
    meshes = Meshes([VERTICES], [FACES], TexturesAtlas([atlas]))
    again = diffuse_atlas(from_pytorch3d(meshes))
    assert again.shape == (4, 8, 8, 3)
    np.testing.assert_allclose(again, atlas.numpy(), atol=2e-3)
    x, y = atlas_texel(np.array([[0.99, 0.005, 0.005], [0.005, 0.99, 0.005], [0.005, 0.005, 0.99]]), 8)
    assert (x.tolist(), y.tolist()) == ([7, 0, 0], [0, 7, 0])


def test_missing_package_names_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    monkeypatch.setitem(sys.modules, "pytorch3d._C", None)
    with pytest.raises(ImportError, match=r"conda install .*pytorch3d.*git\+https://github.com/facebookresearch"):
        to_pytorch3d(small_scene())


def test_real_package_round_trip() -> None:
    pytest.importorskip("pytorch3d._C", reason="PyTorch3D is not installed", exc_type=ImportError)
    scene = small_scene()
    with pytest.warns(UserWarning, match="1 their emission"):
        meshes, cameras = to_pytorch3d(scene)
    back = from_pytorch3d(meshes, cameras)
    np.testing.assert_array_equal(back.triangles, scene.triangles)
    np.testing.assert_allclose(back.materials[:, DIFFUSE], scene.materials[:, DIFFUSE], atol=1e-5)
    for ours, theirs in zip(scene.cameras, back.cameras, strict=True):
        np.testing.assert_allclose(theirs.c2w, ours.c2w, atol=1e-5)
        assert theirs.fov == pytest.approx(ours.fov, rel=1e-5)
    points = torch.from_numpy(cloud().astype(np.float32))
    ndc = cameras[0].transform_points_ndc(points)[:, :2].numpy() * [-1, 1]
    np.testing.assert_allclose(ndc, ndc_of_ours(scene.cameras[0], points.numpy()), atol=1e-3)
