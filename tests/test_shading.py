"""The extension of the model: its configuration, its inputs, and its correction of light."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import shapes

from renderformer.checkpoints import build_model, load_model, save_model
from renderformer.config import ModelConfig, ShadingConfig, config_from_dict
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.tokens import LightTokens
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene
from renderformer.model import ShadingModel, correction, shading
from renderformer.model.physical import first_answer
from renderformer.renderer import Renderer

SMALL = {
    "latent_dim": 64,
    "num_layers": 1,
    "num_heads": 1,
    "dim_feedforward": 64,
    "vertex_pe_num_freqs": 6,
    "texture_encode_patch_size": 1,
    "view_transformer_latent_dim": 64,
    "view_transformer_ffn_hidden_dim": 64,
    "view_transformer_n_heads": 1,
    "view_transformer_n_layers": 1,
    "view_transformer_include_self_attn": False,
    "ray_features": "light_cache",
    "output": "correction",
    "light_tokens": 60,
}


def scene(emission: tuple[float, float, float] = (30.0, 20.0, 10.0)) -> Scene:
    """A shiny box on a floor under a small lamp."""
    box = shapes.box(0.3, Material((0.7, 0.4, 0.2), (0.2, 0.2, 0.2), 0.3), (0, 0, 0.15), name="box")
    corners = np.float32([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)])
    floor = Mesh("floor", corners[[[0, 1, 2], [0, 2, 3]]], materials=Material((0.6, 0.6, 0.6)).row())
    lamp = Mesh(
        "lamp", Light((0.4, -0.3, 1.2), (0, 0, 0), 0.3).mesh().triangles, materials=Material(emission=emission).row()
    )
    return Scene((box, floor, lamp), (Camera.look_at((1.2, -1.0, 0.9), (0, 0, 0.1), fov=45),))


def strong(model: ShadingModel) -> ShadingModel:
    """The same model with a last layer that says a lot."""
    with torch.no_grad():
        model.view_transformer.out_shading.out.weight.normal_(std=1.0)
    return model


def random_model(seed: int = 0) -> ShadingModel:
    torch.manual_seed(seed)
    model = build_model(config_from_dict(SMALL))
    assert isinstance(model, ShadingModel)
    return model


def test_a_checkpoint_with_the_extension_comes_back_whole(tmp_path: Path) -> None:
    model = ShadingModel(ShadingConfig.from_dict({**SMALL, "light_tokens": 77}))
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert isinstance(loaded, ShadingModel)
    assert loaded.config.light_tokens == 77
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_v1_configurations_do_not_mention_the_extension() -> None:
    assert not {"ray_features", "output", "light_tokens"} & set(ModelConfig().to_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "hdr"}, "ray_features"),
        ({"ray_features": "none"}, "output"),
        ({"ray_features": "direct", "output": "shading"}, "direct"),
        ({"ray_features": "telepathy"}, "telepathy"),
        ({"output": "poetry"}, "poetry"),
        ({"patch_size": 16}, "patch_size"),
        ({"light_tokens": 0}, "light_tokens"),
        ({"turn_to_cam_coord": False}, "turn_to_cam_coord"),
        ({"ray_bounces": 3}, "ray_bounces"),
        ({"use_vn_encoder": False}, "use_vn_encoder is false; expected true"),
        ({"view_transformer_use_swin_attn": True}, "view_transformer_use_swin_attn is true; expected false"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_from_dict({**SMALL, **changes})


@pytest.mark.parametrize("size", [(40, 24), (17, 33), (1, 1)])
def test_training_starts_from_the_picture_without_a_network(size: tuple[int, int]) -> None:
    drawn = Renderer(random_model(), "cpu").render(scene(), size)[0].hdr
    first = Renderer.from_pretrained(network=False).render(scene(), size)[0].hdr
    assert first.max() > 0.01
    np.testing.assert_allclose(drawn, first, atol=0.02 * first.max())
    assert np.abs(drawn - first).mean() < 0.005 * first.mean()


def test_each_colour_of_the_picture_scales_with_that_of_the_light() -> None:
    engine = Renderer(strong(random_model()), "cpu")
    one, other = (engine.render(scene(emission), 32)[0].hdr for emission in ((30, 20, 10), (3, 20, 5000)))
    expected = one * np.float32([0.1, 1, 500])
    # A few pixels get more samples under light in which they differ more.
    assert (np.abs(other - expected) > 2e-3 * expected + 1e-5).mean() < 0.01
    np.testing.assert_allclose(other, expected, rtol=0.05, atol=1e-4)
    first = Renderer.from_pretrained(network=False).render(scene(), 32)[0].hdr
    assert np.abs(one - first).mean() > 0.02 * first.mean()


def test_the_picture_does_not_depend_on_where_the_scene_stands() -> None:
    engine, world = Renderer(strong(random_model()), "cpu"), scene()
    shift = np.float32([8, -4, 2])
    camera = world.cameras[0]
    c2w = camera.c2w.copy()
    c2w[:3, 3] += shift
    moved = Scene(
        tuple(replace(mesh, triangles=mesh.triangles + shift) for mesh in world.objects), (replace(camera, c2w=c2w),)
    )
    near, far = (engine.render(where, 24)[0].hdr for where in (world, moved))
    assert np.abs(near - far).mean() < 0.01 * near.mean()


def test_views_of_several_scenes_do_not_depend_on_each_other() -> None:
    from renderformer.evaluation.measurement import predict
    from renderformer.training.dataset import Example, collate
    from renderformer.training.features import CORNERS, LIGHT, MATERIAL, NORMALS, cast_scene

    model = strong(random_model()).eval()
    examples = []
    for emission in ((30.0, 20.0, 10.0), (1.0, 50.0, 900.0)):
        world = scene(emission)
        cameras = (*world.cameras, Camera.look_at((-1.0, -1.2, 0.7), (0, 0, 0.1), fov=50))
        inputs = cast_scene(world.replace(cameras=cameras), 60, 16, rays=True)
        tokens = inputs.tokens
        parts = (tokens[:, part].reshape(-1, k, 3) for part, k in ((CORNERS, 3), (NORMALS, 3), (LIGHT, 5)))
        corners, normals, light = parts
        fov = np.float32([camera.fov for camera in cameras])
        hdr = np.zeros((2, 16, 16, 3), np.float16)
        examples.append(Example(corners, normals, tokens[:, MATERIAL], light, inputs.c2w, fov, inputs.images, hdr))
    with torch.inference_mode():
        together = predict(model, collate(examples))
        for number, example in enumerate(examples):
            for view in (0, 1):
                one = slice(view, view + 1)
                single = replace(
                    example,
                    c2w=example.c2w[one],
                    fov=example.fov[one],
                    pixels=example.pixels[one],
                    hdr=example.hdr[one],
                )
                alone = predict(model, collate([single]))[0, 0]
                torch.testing.assert_close(together[number, view], alone, rtol=1e-3, atol=1e-4 * float(alone.max()))


def test_a_scene_without_light_stays_black() -> None:
    dark = scene((0.0, 0.0, 0.0))
    assert not Renderer(strong(random_model()), "cpu").render(dark, 16)[0].hdr.any()


def test_tokens_keep_the_area_and_the_light_of_the_surfels() -> None:
    cache = RayCaster.lit(scene()).solved
    surfels = cache.surfels()
    for budget in (20, 300, 100_000):
        tokens = LightTokens.of(cache, budget)
        assert len(tokens.triangles) <= budget
        edges = tokens.triangles[:, [1, 2, 0]] - tokens.triangles
        length = np.linalg.norm(edges, axis=-1)
        np.testing.assert_allclose(length, length[:, :1] * np.ones(3), rtol=1e-3)
        cross = np.cross(edges[:, 0], edges[:, 1])
        area = np.linalg.norm(cross, axis=1) / 2
        np.testing.assert_allclose(area.sum(), surfels.area.sum(), rtol=1e-3)
        np.testing.assert_allclose(cross / (2 * area[:, None]), tokens.normals, atol=1e-3)
        for part, light in ((0, surfels.direct[:, 0]), (1, surfels.indirect[:, 0]), (2, surfels.direct[:, 1])):
            expected = (surfels.area[:, None] * light).sum(axis=0)
            np.testing.assert_allclose((area[:, None] * tokens.light[:, part]).sum(axis=0), expected, rtol=1e-3)
        # Lights share no token with what they shine on.
        emission = tokens.materials[:, EMISSION].max(axis=1)
        assert set(np.round(emission, 2)) == {0.0, 30.0}
    assert len(tokens.triangles) == len(surfels.area) > 300


def test_the_light_level_ignores_lights_padding_and_the_size_of_tokens() -> None:
    triangles = torch.rand(1, 5, 3, 3)
    light = torch.full((1, 5, 5, 3), 0.25)
    emission = torch.zeros(1, 5, 3)
    # The light's own irradiance is unbounded, and padding is zeros.
    light[0, 3], emission[0, 3], light[0, 4], triangles[0, 4] = 1e6, 1.0, 0.0, 0.0
    light[..., 2] *= 4
    torch.testing.assert_close(shading.light_level(triangles, light, emission), torch.tensor([[0.5, 0.5, 2.0]]))


def test_a_bundle_stands_at_the_mean_of_its_hits() -> None:
    pixels = torch.zeros(1, 8, 13, RGB.total)
    pixels[0, :4, :8, 0] = 1
    pixels[0, :4, :8, RGB.position] = torch.tensor([1.0, 2.0, -3.0])
    positions = shading.hit_positions(pixels, 8)
    torch.testing.assert_close(positions[0, 0], torch.tensor([1.0, 2.0, -3.0] * 3))
    torch.testing.assert_close(positions[0, 1], torch.zeros(9))


@pytest.mark.parametrize(
    ("size", "step"), [((64, 64), 1), ((255, 600), 1), ((256, 256), 2), ((511, 700), 2), ((1080, 1920), 8), ((1, 9), 1)]
)
def test_large_pictures_have_few_patches(size: tuple[int, int], step: int) -> None:
    assert shading.pixels_per_entry(*size, 8) == step
    assert all(side % 8 == 0 for side in shading.pooled(torch.zeros(1, 2, *size), step, 8).shape[2:])


def test_corrections_have_bounds_and_leave_emission_and_direct_light_alone() -> None:
    pixels = torch.rand(2, 5, 7, RGB.total, generator=torch.Generator().manual_seed(0))
    first = first_answer(pixels)
    torch.testing.assert_close(correction.corrected(pixels, torch.zeros(2, correction.CHOICES, 5, 7)), first)
    known = pixels[..., RGB.emission] + pixels[..., RGB.direct]
    gloss = pixels[..., RGB.highlight] + pixels[..., RGB.reflection]
    for sign in (-1, 1):
        drawn = correction.corrected(pixels, torch.full((2, correction.CHOICES, 5, 7), sign * 1e6))
        indirect = pixels[..., RGB.indirect] * correction.INDIRECT_FACTOR**sign
        torch.testing.assert_close(drawn, known + indirect + gloss * correction.SPECULAR_FACTOR**sign)


def test_each_colour_of_indirect_and_of_specular_light_has_its_own_factor() -> None:
    pixels = torch.rand(1, 4, 4, RGB.total, generator=torch.Generator().manual_seed(0))
    for place in range(correction.CHOICES):
        said = torch.zeros(1, correction.CHOICES, 4, 4)
        said[:, place] = 1e6
        change = correction.corrected(pixels, said) - first_answer(pixels)
        part = pixels[..., RGB.indirect] if place < 3 else pixels[..., RGB.highlight] + pixels[..., RGB.reflection]
        largest = correction.INDIRECT_FACTOR if place < 3 else correction.SPECULAR_FACTOR
        expected = torch.zeros_like(change)
        expected[..., place % 3] = part[..., place % 3] * (largest - 1)
        torch.testing.assert_close(change, expected)
