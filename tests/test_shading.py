"""The extension of the model: its configuration, its inputs and its head."""

from pathlib import Path

import numpy as np
import pytest
import torch

from renderformer.checkpoints import load_model, save_model
from renderformer.config import ModelConfig
from renderformer.data import raycast as rc
from renderformer.data.errors import InputError
from renderformer.model import RenderFormer, shading

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
    model = RenderFormer(ModelConfig.from_dict({**SMALL, "token_triangles": 77}))
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
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
        ModelConfig.from_dict({**SMALL, **changes})


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_the_head_draws_every_patch_size_and_starts_from_ambient_light(patch: int) -> None:
    torch.manual_seed(0)
    head = shading.ShadingHead(16, patch)
    inputs = torch.rand(2, shading.NETWORK_CHANNELS, 24, 40)
    irradiance, gloss, gate = head(torch.randn(2, 16, 24 // patch, 40 // patch), inputs)
    assert irradiance.shape == gloss.shape == gate.shape == (2, 24, 40)
    assert irradiance.std() < 0.01
    torch.testing.assert_close(gate, torch.ones_like(gate), atol=0.02, rtol=0)


def test_the_light_level_ignores_lights_padding_and_the_size_of_triangles() -> None:
    triangles = torch.rand(1, 5, 3, 3)
    light = torch.full((1, 5, 2), 0.25)
    mask = torch.tensor([[True, True, True, True, False]])
    emission = torch.zeros(1, 5)
    # The light shines on itself without bound, and padding holds nonsense.
    light[0, 3], emission[0, 3], light[0, 4] = 1e6, 1.0, -1e6
    assert shading.light_level(triangles, light, mask, emission).item() == pytest.approx(0.5)
    dark = torch.zeros_like(light)
    assert shading.light_level(triangles, dark, mask, emission).item() == 0


def test_a_bundle_stands_at_the_mean_of_its_hits() -> None:
    pixels = torch.zeros(1, 8, 16, rc.RAY_CHANNELS)
    pixels[0, :4, :8, 0] = 1
    pixels[0, :4, :8, rc.HIT_POSITION] = torch.tensor([1.0, 2.0, -3.0])
    positions = shading.hit_positions(pixels, 8)
    torch.testing.assert_close(positions[0, 0], torch.tensor([1.0, 2.0, -3.0] * 3))
    torch.testing.assert_close(positions[0, 1], torch.zeros(9))


def test_the_picture_is_what_is_known_plus_what_is_predicted_in_every_colour() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.random((2, 1, 4, 5, rc.RAY_CHANNELS)).astype(np.float32))
    known = pixels[..., rc.HIT_EMISSION] + pixels[..., rc.DIRECT] + pixels[..., rc.HIGHLIGHT]
    # Scenes, colours and views side by side, as the model has them.
    irradiance, gloss, gate = torch.rand(3, 2, 3, 1, 4, 5)
    level = torch.rand(2, 3)
    grey = shading.monochrome_pixels(pixels, 3)
    got = shading.shade(grey, level.flatten(), tuple(x.flatten(0, 2) for x in (irradiance, gloss, gate)))
    for colour in range(3):
        expected = known + gate[:, colour, ..., None] * pixels[..., rc.REFLECTION]
        indirect = pixels[..., rc.HIT_DIFFUSE] * irradiance[:, colour, ..., None]
        indirect = indirect + pixels[..., rc.HIT_SPECULAR] * gloss[:, colour, ..., None]
        expected = expected + level[:, colour, None, None, None, None] * indirect
        torch.testing.assert_close(got.unflatten(0, (2, 3, 1))[:, colour], expected[..., colour])


def test_monochrome_rows_hold_one_colour_of_each_material() -> None:
    rows = torch.rand(2, 5, 13)
    grey = shading.monochrome_rows(rows, 3).unflatten(0, (2, 3))
    for colour in range(3):
        for start in (0, 3, 10):
            own = rows[..., start + colour, None].expand(-1, -1, 3)
            torch.testing.assert_close(grey[:, colour, :, start : start + 3], own)
        torch.testing.assert_close(grey[:, colour, :, 6:10], rows[..., 6:10])
