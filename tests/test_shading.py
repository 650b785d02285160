"""The extension of the model: its configuration, its inputs and its head."""

from pathlib import Path

import numpy as np
import pytest
import torch

from renderformer.checkpoints import load_model, save_model
from renderformer.config import ModelConfig, ShadingConfig, config_from_dict
from renderformer.data.errors import InputError
from renderformer.data.rays.channels import MONOCHROME, RGB
from renderformer.model import ShadingModel, monochrome, resampling, shading
from renderformer.model.encodings import ray_directions

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
    "ray_features": "direct",
    "output": "shading",
}


def test_a_checkpoint_with_the_extension_comes_back_whole(tmp_path: Path) -> None:
    model = ShadingModel(ShadingConfig.from_dict({**SMALL, "token_triangles": 77}))
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert isinstance(loaded, ShadingModel)
    assert loaded.config.token_triangles == 77
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_v1_configurations_do_not_mention_the_extension() -> None:
    assert not {"ray_features", "output", "token_triangles"} & set(ModelConfig().to_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "hdr"}, "ray_features"),
        ({"ray_features": "none"}, "output"),
        ({"ray_features": "telepathy"}, "telepathy"),
        ({"output": "poetry"}, "poetry"),
        ({"patch_size": 16}, "patch_size"),
        ({"turn_to_cam_coord": False}, "turn_to_cam_coord"),
        ({"ray_bounces": 3}, "ray_bounces"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_from_dict({**SMALL, **changes})


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_the_head_draws_every_patch_size_and_starts_from_ambient_light(patch: int) -> None:
    torch.manual_seed(0)
    head = shading.ShadingHead(16, patch)
    inputs = torch.rand(2, monochrome.NETWORK_CHANNELS, 24, 40)
    irradiance, gloss, gate = head(torch.randn(2, 16, 24 // patch, 40 // patch), inputs)
    assert irradiance.shape == gloss.shape == gate.shape == (2, 24, 40)
    assert irradiance.std() < 0.01
    torch.testing.assert_close(gate, torch.ones_like(gate), atol=0.02, rtol=0)


def test_the_light_level_ignores_lights_padding_and_the_size_of_triangles() -> None:
    triangles = torch.rand(1, 5, 3, 3)
    light = torch.full((1, 5, 2), 0.25)
    mask = torch.tensor([[True, True, True, True, False]])
    emission = torch.zeros(1, 5)
    # The light's own irradiance is unbounded, and padding has arbitrary values.
    light[0, 3], emission[0, 3], light[0, 4] = 1e6, 1.0, -1e6
    assert monochrome.light_level(triangles, light, mask, emission).item() == pytest.approx(0.5)
    dark = torch.zeros_like(light)
    assert monochrome.light_level(triangles, dark, mask, emission).item() == 0


def test_a_bundle_stands_at_the_mean_of_its_hits() -> None:
    pixels = torch.zeros(1, 8, 16, RGB.total)
    pixels[0, :4, :8, 0] = 1
    pixels[0, :4, :8, RGB.position] = torch.tensor([1.0, 2.0, -3.0])
    positions = monochrome.hit_positions(pixels, 8)
    torch.testing.assert_close(positions[0, 0], torch.tensor([1.0, 2.0, -3.0] * 3))
    torch.testing.assert_close(positions[0, 1], torch.zeros(9))


def test_the_picture_is_what_is_known_plus_what_is_predicted_in_every_colour() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.random((2, 1, 4, 5, RGB.total)).astype(np.float32))
    known = pixels[..., RGB.emission] + pixels[..., RGB.direct] + pixels[..., RGB.highlight]
    # Scenes, colours and views side by side, as the model has them.
    irradiance, gloss, gate = torch.rand(3, 2, 3, 1, 4, 5)
    level = torch.rand(2, 3)
    grey = monochrome.monochrome_pixels(pixels, 3)
    drawn = shading.shade(grey, level.flatten(), tuple(x.flatten(0, 2) for x in (irradiance, gloss, gate)))
    for colour in range(3):
        expected = known + gate[:, colour, ..., None] * pixels[..., RGB.reflection]
        indirect = pixels[..., RGB.diffuse] * irradiance[:, colour, ..., None]
        indirect = indirect + pixels[..., RGB.specular] * gloss[:, colour, ..., None]
        expected = expected + level[:, colour, None, None, None, None] * indirect
        torch.testing.assert_close(drawn.unflatten(0, (2, 3, 1))[:, colour], expected[..., colour])


def test_monochrome_rows_hold_one_colour_of_each_material() -> None:
    rows = torch.rand(2, 5, 13)
    grey = monochrome.monochrome_rows(rows, 3).unflatten(0, (2, 3))
    for colour in range(3):
        for start in (0, 3, 10):
            channel = rows[..., start + colour, None].expand(-1, -1, 3)
            torch.testing.assert_close(grey[:, colour, :, start : start + 3], channel)
        torch.testing.assert_close(grey[:, colour, :, 6:10], rows[..., 6:10])


@pytest.mark.parametrize(
    ("size", "factor"),
    [((64, 64), 1), ((255, 600), 1), ((256, 256), 2), ((511, 700), 2), ((1080, 1920), 8), ((1, 9), 1)],
)
def test_large_pictures_are_drawn_smaller_by_the_network(size: tuple[int, int], factor: int) -> None:
    assert resampling.coarsening(*size) == factor


def folded_wall(height: int, width: int) -> torch.Tensor:
    """(1, h, w, 15) monochrome hits of two walls that meet in an edge before the camera, with misses above them."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(x - width / 2) / height, -(y - height / 2) / height, -torch.ones_like(x)], dim=-1)
    left = torch.nn.functional.normalize(torch.tensor([0.6, 0.0, 0.8]), dim=0)
    right = torch.nn.functional.normalize(torch.tensor([-0.6, 0.0, 0.8]), dim=0)
    normal = torch.where((x < width / 2)[..., None], left, right)
    distance = -1.7 * 0.8 / (rays * normal).sum(-1, keepdim=True)
    pixels = torch.zeros(height, width, MONOCHROME.total)
    hit = (y > height / 4)[..., None]
    pixels[..., MONOCHROME.mask] = hit.float()
    pixels[..., MONOCHROME.normal], pixels[..., MONOCHROME.position] = normal * hit, rays * distance * hit
    return pixels[None]


@pytest.mark.parametrize("factor", [2, 4])
def test_coarse_values_stay_on_their_side_of_an_edge_and_on_their_rays(factor: int) -> None:
    height, width, step = 90, 134, 8
    pixels = folded_wall(height, width)
    coarse = resampling.coarser(pixels, factor, step)
    assert all(size % step == 0 for size in coarse.shape[1:3])
    rays = ray_directions(
        torch.eye(4)[None], torch.tensor([2 * np.degrees(np.arctan(0.5))]).float(), (height / factor, width / factor),
        (coarse.shape[1], coarse.shape[2]),
    )  # fmt: skip
    hits = torch.nn.functional.normalize(coarse[..., MONOCHROME.position], dim=-1)
    covered = coarse[..., 0] == 1
    assert ((rays * hits).sum(-1)[covered] > 0.9999).all()
    # One value per wall: at full size it changes from one pixel to the next, though no coarse border lies there.
    value = torch.where(coarse[..., 1] > 0, 1.0, 3.0)
    fine = resampling.finer((value, value, value), coarse, pixels, factor, colours=1, views=1)[0]
    expected = torch.where(torch.arange(width) < width / 2, 1.0, 3.0).expand(height, width)
    inside = pixels[0, ..., 0] > 0
    inside[:, width // 2 - 1 : width // 2 + 1] = False
    torch.testing.assert_close(fine[0][inside], expected[inside], atol=0.05, rtol=0)


def test_coarse_values_of_several_scenes_colours_and_views_are_kept_apart() -> None:
    generator = torch.Generator().manual_seed(3)
    one, other = folded_wall(32, 48), folded_wall(32, 48).flip(2)
    # Two scenes of three colours and two views, the views of a scene being different.
    pixels = torch.stack([one[0], other[0]]).repeat(6, 1, 1, 1)
    coarse = resampling.coarser(pixels, 2, 8)
    predicted = tuple(torch.rand(coarse.shape[:3], generator=generator) for _ in range(3))
    together = resampling.finer((predicted[0], predicted[1], predicted[2]), coarse, pixels, 2, colours=3, views=2)
    for i in range(len(pixels)):
        single = (predicted[0][i : i + 1], predicted[1][i : i + 1], predicted[2][i : i + 1])
        alone = resampling.finer(single, coarse[i : i + 1], pixels[i : i + 1], 2, colours=1, views=1)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i])


def test_a_smooth_prediction_is_interpolated() -> None:
    pixels = torch.zeros(1, 64, 64, MONOCHROME.total)
    pixels[..., MONOCHROME.mask], pixels[..., 3] = 1, 1
    x, y = (torch.arange(64) + 0.5 - 32) / 64, (torch.arange(64) + 0.5 - 32) / 64
    pixels[..., 4], pixels[..., 5], pixels[..., 6] = x, -y[:, None], -1
    ramp = x[None] + 2 * y[:, None]
    coarse = resampling.coarser(pixels, 4, 8)
    small = torch.nn.functional.avg_pool2d(ramp[None, None], 4)[:, 0]
    fine = resampling.finer((small, small, small), coarse, pixels, 4, colours=1, views=1)[0]
    torch.testing.assert_close(fine[0, 2:-2, 2:-2], ramp[2:-2, 2:-2], atol=2e-3, rtol=0)
