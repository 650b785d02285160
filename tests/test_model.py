"""The model against what the original program computed, and the properties that the specification names."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.goldens import draw_weights
from torch import Tensor, nn
from torch.nn import functional as F

from renderformer.checkpoints import load_model
from renderformer.config import ModelConfig
from renderformer.data.errors import InputError
from renderformer.kernels import attention
from renderformer.model import Encoded, RenderFormer
from renderformer.model.encodings import (
    TriangleRope,
    from_patches,
    nerf_encoding,
    ray_directions,
    rotate,
    to_patches,
)
from renderformer.model.layers import Attention, SelfAttention, from_windows, shifted_window_mask, to_windows

# |log10(1 + a) - log10(1 + b)| that tests/goldens/README.md states.
TOLERANCE = 5e-5

CASES = [
    ("base_like", "golden_40"),
    ("base_like", "golden_64"),
    ("swin_like", "golden_64"),
    ("swin_like", "golden_128"),
    ("swin_like", "scene_cbox_64"),
    ("swin_like", "scene_cbox-bunny_64"),
    ("swin_like", "scene_veach-mis_64"),
    ("base_p32", "golden_64"),
    ("base_p32", "scene_cbox_64"),
    ("base_p32", "scene_init-template_64"),
    ("base_p32", "scene_veach-mis_64"),
]

SMALL = ModelConfig(
    latent_dim=36,
    num_layers=2,
    num_heads=2,
    dim_feedforward=40,
    num_register_tokens=3,
    vertex_pe_num_freqs=2,
    texture_encode_patch_size=1,
    view_transformer_latent_dim=36,
    view_transformer_ffn_hidden_dim=44,
    view_transformer_n_heads=2,
    view_transformer_n_layers=4,
    dpt_features=8,
    dpt_out_channels=(4, 6, 8, 10),
)


def changed(config: ModelConfig, **changes: Any) -> ModelConfig:
    return ModelConfig(**{**dict(config), **changes})


def read_case(goldens: Path, model: str, name: str) -> tuple[dict[str, Tensor], Tensor, int]:
    """The inputs of a golden, the stored picture, and its resolution."""
    stored = np.load(goldens / model / f"{name}.npz")
    source: Any = stored
    if "scene" in stored:
        with h5py.File(goldens / "scenes" / f"{stored['scene']}.h5") as file:
            source = {key: file[key][()].astype(np.float32)[None] for key in file}
        source["mask"] = np.ones(source["triangles"].shape[:2], bool)
        source["fov"] = source["fov"][..., None]
    inputs = {key: torch.from_numpy(source[key]) for key in ("triangles", "texture", "mask", "vn", "c2w", "fov")}
    return inputs, torch.from_numpy(stored["hdr"]), int(stored["resolution"])


def assert_same_picture(ours: Tensor, stored: Tensor) -> None:
    assert ours.shape == stored.shape
    assert torch.isfinite(ours).all()
    assert torch.isfinite(stored).all()
    error_BV = (torch.log10(1 + ours.double()) - torch.log10(1 + stored.double())).abs().amax(dim=(2, 3, 4))
    assert (error_BV <= TOLERANCE).all(), f"per view: {error_BV.tolist()}"


@torch.no_grad()
def small_model(seed: int = 0, **changes: Any) -> RenderFormer:
    """A random model whose picture is well inside ELU's linear part and varies with everything that goes in."""
    torch.manual_seed(seed)
    model = RenderFormer(changed(SMALL, **changes)).eval()
    view = model.view_transformer
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 0.7 if parameter.ndim == 3 else parameter[0].numel() ** -0.5)
    last = view.out_dpt.scratch.output_conv2[2] if model.config.use_dpt_decoder else view.out_proj
    last.weight.mul_(0.2)
    last.bias.fill_(1)
    return model


def small_scene(
    batch: int = 1, count: int = 7, views: int = 2, patch: int | None = None, seed: int = 1
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    triangles = torch.rand(batch, count, 3, 3, generator=g) - 0.5
    c2w = torch.eye(4).repeat(batch, views, 1, 1)
    c2w[..., :3, 3] = torch.rand(batch, views, 3, generator=g) + torch.tensor([0.0, 0.0, 1.5])
    texture = torch.rand(batch, count, 13, generator=g)
    texture[..., -3:] *= 50
    if patch:
        index = torch.arange(patch)
        texture = texture[..., None, None] * (index[:, None] + index <= patch)
    return {
        "triangles": triangles,
        "texture": texture,
        "mask": torch.ones(batch, count, dtype=torch.bool),
        "vn": F.normalize(torch.randn(batch, count, 3, 3, generator=g), dim=-1),
        "c2w": c2w,
        "fov": 30 + 30 * torch.rand(batch, views, 1, generator=g),
    }


@torch.no_grad()
def draw(model: RenderFormer, scene: dict[str, Tensor], height: int = 16, width: int = 16) -> Tensor:
    return model(**scene, height=height, width=width)


# --- what the original computed ---


@pytest.mark.parametrize(("model", "name"), CASES)
def test_model_gives_the_original_picture(goldens: Path, model: str, name: str) -> None:
    inputs, stored, resolution = read_case(goldens, model, name)
    assert_same_picture(draw(load_model(goldens / model), inputs, resolution, resolution), stored)


@pytest.mark.parametrize("name", ["scene_cbox_64", "scene_init-template_64"])
def test_rows_of_uniform_materials_give_the_original_picture(goldens: Path, name: str) -> None:
    inputs, stored, resolution = read_case(goldens, "base_p32", name)
    inputs["texture"] = inputs["texture"][..., 0, 0]
    assert_same_picture(draw(load_model(goldens / "base_p32"), inputs, resolution, resolution), stored)


@torch.no_grad()
def test_every_stage_agrees_with_the_original(goldens: Path) -> None:
    inputs, _, _ = read_case(goldens, "base_like", "golden_64")
    stored = {k: torch.from_numpy(v) for k, v in np.load(goldens / "base_like" / "intermediates_64.npz").items()}
    model = load_model(goldens / "base_like")
    view = model.view_transformer
    seen: dict[str, Tensor] = {}

    def keep_input(name: str, module: nn.Module, position: int = 0) -> None:
        module.register_forward_pre_hook(lambda _, args: seen.__setitem__(name, args[position]))

    def keep_output(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, args, out: seen.__setitem__(name, out))

    keep_input("seq_in", model.transformer)
    keep_output("enc_layer_0", model.transformer.layers[0])
    keep_output("seq_out", model.transformer)
    keep_input("ray_tokens", view.transformer)
    keep_input("view_tri_pos", view.transformer, 4)
    keep_output("dec_layer_0", view.transformer.layers[0])
    keep_output("dec_layer_3", view.transformer.layers[3])
    keep_output("pre_elu", view.out_dpt)
    draw(model, inputs, 64, 64)

    real_BT = F.pad(inputs["mask"], (model.config.num_register_tokens, 0), value=True)
    rows = {
        "seq_in": real_BT,
        "enc_layer_0": real_BT,
        "seq_out": real_BT,
        "view_tri_pos": real_BT.repeat_interleave(2, dim=0),
    }
    for name in (
        "seq_in",
        "enc_layer_0",
        "seq_out",
        "ray_tokens",
        "view_tri_pos",
        "dec_layer_0",
        "dec_layer_3",
        "pre_elu",
    ):
        ours, theirs = seen[name], stored[name]
        assert ours.shape == theirs.shape, name
        if name in rows:
            ours, theirs = ours[rows[name]], theirs[rows[name]]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")
    rays = ray_directions(torch.eye(4)[None], inputs["fov"][0, 0], (64, 64), (64, 64))
    torch.testing.assert_close(rays[0], stored["rays_d_view0"], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def full_base(goldens: Path) -> Iterator[RenderFormer]:
    """The released base size with the goldens' regenerated weights; all cores, for this is real work."""
    folder = goldens / "full_base"
    with torch.device("meta"):
        model = RenderFormer(ModelConfig.from_dict(json.loads((folder / "config.json").read_text())))
    model.load_state_dict(draw_weights(folder), assign=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield model.eval()
    torch.set_num_threads(threads)


def test_full_base_weights_are_the_ones_the_goldens_were_made_with(full_base: RenderFormer) -> None:
    assert full_base.texture_encoder.weight[0, :3].tolist() == pytest.approx(
        [-0.0051016430, 0.0071226414, 0.0052124136]
    )


def test_full_base_gives_the_original_picture_from_patches(goldens: Path, full_base: RenderFormer) -> None:
    inputs, stored, resolution = read_case(goldens, "full_base", "scene_init-template_128")
    assert_same_picture(draw(full_base, inputs, resolution, resolution), stored)


def test_full_base_gives_the_original_picture_from_rows(goldens: Path, full_base: RenderFormer) -> None:
    inputs, stored, resolution = read_case(goldens, "full_base", "scene_cbox_64")
    inputs["texture"] = inputs["texture"][..., 0, 0]
    assert_same_picture(draw(full_base, inputs, resolution, resolution), stored)


@pytest.mark.parametrize(
    ("changes", "numbers", "tensors"),
    [
        ({}, 205_173_391, 284),
        (
            {
                "latent_dim": 1024,
                "num_heads": 8,
                "dim_feedforward": 4096,
                "num_register_tokens": 32,
                "rope_double_max_freq": True,
                "texture_encode_patch_size": 1,
                "view_transformer_latent_dim": 1024,
                "view_transformer_ffn_hidden_dim": 4096,
                "view_transformer_n_heads": 8,
                "view_transformer_n_layers": 12,
                "view_transformer_use_swin_attn": True,
                "dpt_features": 256,
                "dpt_out_channels": [256, 512, 1024, 1024],
                "dpt_out_layers": [2, 5, 8, 11],
            },
            483_269_903,
            386,
        ),
    ],
    ids=["base", "large"],
)
def test_released_sizes_have_the_released_counts(changes: dict[str, Any], numbers: int, tensors: int) -> None:
    with torch.device("meta"):
        state = RenderFormer(ModelConfig.from_dict(changes)).state_dict()
    assert (sum(t.numel() for t in state.values()), len(state)) == (numbers, tensors)


# --- the traps ---


def test_rendering_changes_no_input_and_twice_gives_the_same_bytes(goldens: Path) -> None:
    inputs, _, _ = read_case(goldens, "base_like", "golden_40")
    before = {key: tensor.clone() for key, tensor in inputs.items()}
    model = load_model(goldens / "base_like")
    first = draw(model, inputs, 40, 40)
    assert torch.equal(first, draw(model, inputs, 40, 40))
    assert all(torch.equal(inputs[key], before[key]) for key in inputs)


def test_norms_inside_layers_use_1e_6_and_those_of_encoders_the_default() -> None:
    for norm_type, default in (("rms_norm", None), ("layer_norm", 1e-5)):
        kinds = {"norm_type": norm_type, "vn_encoder_norm_type": norm_type, "texture_encoder_norm_type": norm_type}
        model = small_model(**kinds)
        norms = {name: m.eps for name, m in model.named_modules() if isinstance(m, nn.RMSNorm | nn.LayerNorm)}
        inside = {name: eps for name, eps in norms.items() if ".layers." in name}
        # Two layers of four norms, four layers of four norms and two QK pairs.
        assert len(inside) == 2 * 4 + 4 * 8
        assert set(inside.values()) == {1e-6}
        outside = {name: eps for name, eps in norms.items() if name not in inside}
        assert set(outside) == {"texture_encoder_norm", "vn_encoder_norm", "view_transformer.ray_map_encoder_norm"}
        assert set(outside.values()) == {default}


def test_gelu_is_exact() -> None:
    ffn = small_model(activation="gelu").transformer.layers[0].ffn
    x = torch.linspace(-3, 3, 36)[None]
    hidden = ffn.w1(x)
    exact = ffn.w2(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
    torch.testing.assert_close(ffn(x), exact)


def test_output_is_elu_with_alpha_1e_3_then_a_power_of_ten() -> None:
    model = small_model(use_dpt_decoder=False)
    assert isinstance(model.view_transformer.out_proj, nn.Linear)
    nn.init.zeros_(model.view_transformer.out_proj.weight)
    for value, expected in ((-50.0, 10**-0.001 - 1), (-0.5, 10 ** (0.001 * math.expm1(-0.5)) - 1), (2.0, 99.0)):
        nn.init.constant_(model.view_transformer.out_proj.bias, value)
        torch.testing.assert_close(draw(model, small_scene()), torch.full((1, 2, 16, 16, 3), expected))


def test_qk_norm_runs_over_the_whole_width() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(36, 2, qk_norm=True, config=SMALL)
    nn.init.uniform_(layer.q_norm.weight, 0.5, 1.5)
    x = torch.randn(1, 5, 36)
    q, k, v = layer.in_proj(x).chunk(3, dim=-1)

    def normed(t: Tensor, norm: nn.Module) -> Tensor:
        whole = t / torch.sqrt((t**2).mean(-1, keepdim=True) + 1e-6) * norm.weight
        return whole.reshape(1, 5, 2, 18).transpose(1, 2)

    logits = normed(q, layer.q_norm) @ normed(k, layer.k_norm).transpose(-1, -2) / math.sqrt(18)
    heads = logits.softmax(-1) @ v.reshape(1, 5, 2, 18).transpose(1, 2)
    torch.testing.assert_close(layer(x), layer.out_proj(heads.transpose(1, 2).reshape(1, 5, 36)))


def test_loaded_frequencies_are_used() -> None:
    model = small_model(vertex_pe_num_freqs=2)
    before = draw(model, small_scene())
    state = model.state_dict()
    for key in ("transformer.rope_emb.freqs", "view_transformer.transformer.rope_emb.freqs"):
        assert state[key].tolist() == [1.0]
        model.load_state_dict(state | {key: torch.tensor([2.5])})
        assert (draw(model, small_scene()) - before).abs().max() > 1e-2
        model.load_state_dict(state)


# --- attention and encodings ---


@pytest.mark.parametrize(("queries", "keys", "width"), [(1, 1, 8), (63, 111, 54), (17, 5, 20)])
def test_attention_agrees_with_the_formula(queries: int, keys: int, width: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, queries, width), torch.randn(2, 3, keys, width), torch.randn(2, 3, keys, width)
    key_mask = torch.rand(2, keys) < 0.6
    key_mask[:, 0] = True
    pair_mask = torch.rand(2, queries, keys) < 0.7
    pair_mask[:, :, 0] = True
    for mask, pairs in ((None, None), (key_mask, None), (None, pair_mask), (key_mask, pair_mask)):
        logits = q.double() @ k.double().transpose(-1, -2) / math.sqrt(width)
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None], -math.inf)
        if pairs is not None:
            logits = logits.masked_fill(~pairs[:, None], -math.inf)
        expected = (logits.softmax(-1) @ v.double()).float()
        ours = attention(q, k, v, key_mask_BS=mask, pair_mask_BTS=pairs, backend="sdpa")
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_attention_backends_that_are_not_there_are_refused() -> None:
    q = torch.randn(1, 1, 2, 8)
    with pytest.raises(ValueError, match='"sage" cannot run this: (it takes fp16 or bf16, not float32|device .cpu)'):
        attention(q, q, q, backend="sage")
    with pytest.raises(ValueError, match="'flash' is unknown"):
        attention(q, q, q, backend="flash")
    model = small_model()
    with pytest.raises(ValueError, match="'flash' is unknown"):
        model.set_attention_backend("flash")
    model.set_attention_backend("sage")
    with pytest.raises(ValueError, match='"sage" cannot run this: (it takes fp16 or bf16, not float32|device .cpu)'):
        draw(model, small_scene())


def test_the_attention_backend_is_the_triangle_stages() -> None:
    model = small_model()
    model.set_attention_backend("sage")
    view = [m.backend for m in model.view_transformer.modules() if isinstance(m, Attention)]
    assert {m.backend for m in model.transformer.modules() if isinstance(m, Attention)} == {"sage"}
    assert set(view) == {"sdpa"}


def test_nerf_encoding_is_coordinate_major() -> None:
    x = torch.tensor([0.3, -0.7])
    expected = [0.3, -0.7]
    for phase in (0, math.pi / 2):
        expected += [math.sin(c * f + phase) for c in (0.3, -0.7) for f in (1, 2, 4)]
    assert nerf_encoding(x, 3).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("num_freqs", "doubled", "top"),
    [(12, False, 5.0), (12, True, 11.0), (6, False, 2.0), (4, True, 3.0), (4, False, 1.0)],
)
def test_rope_frequencies(num_freqs: int, doubled: bool, top: float) -> None:
    freqs = TriangleRope(num_freqs, 128, doubled).freqs
    assert freqs.dtype == torch.float32
    assert freqs.tolist() == pytest.approx(np.geomspace(1, top, num_freqs // 2).tolist(), rel=1e-6)


def test_rope_depends_on_differences_only() -> None:
    torch.manual_seed(0)
    rope = TriangleRope(6, 60, True)
    q, k = torch.randn(1, 1, 4, 60), torch.randn(1, 1, 4, 60)
    a, b, shift = torch.rand(1, 4, 9), torch.rand(1, 4, 9), torch.rand(1, 1, 9)

    def logits(offset: Tensor) -> Tensor:
        return rotate(q, rope(a + offset)) @ rotate(k, rope(b + offset)).transpose(-1, -2)

    torch.testing.assert_close(logits(shift), logits(torch.zeros(1, 1, 9)), rtol=1e-4, atol=1e-4)
    # Beyond the 27 rotated pairs nothing changes; a rotation keeps lengths.
    turned = rotate(q, rope(a))
    assert torch.equal(turned[..., 27:30], q[..., 27:30])
    torch.testing.assert_close(turned.norm(dim=-1), q.norm(dim=-1))


def test_rope_is_float32_under_autocast() -> None:
    rope = TriangleRope(6, 60, False)
    positions = torch.rand(1, 3, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = rope(positions)
    assert inside.cos.dtype == torch.float32
    assert torch.equal(inside.sin, rope(positions).sin)


def test_windows_and_patches_are_inverted() -> None:
    image = torch.randn(2, 16, 24, 5)
    assert torch.equal(from_windows(to_windows(image), (16, 24)), image)
    assert torch.equal(to_windows(image)[1], image[0, :8, 8:16].reshape(64, 5))
    patches = to_patches(image, 8)
    assert torch.equal(from_patches(patches, (2, 3), 8), image.permute(0, 3, 1, 2))
    assert torch.equal(patches[1, 4], image[1, 8:16, 8:16].permute(2, 0, 1).flatten())


def test_shifted_windows_never_join_opposite_borders() -> None:
    grid, shift = (16, 24), 4
    mask = shifted_window_mask(grid, shift, torch.device("cpu"))
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    place = torch.roll(torch.stack([rows, columns], -1), (-shift, -shift), dims=(0, 1))[None]
    place_W64 = to_windows(place).float()
    distance = (place_W64[:, :, None] - place_W64[:, None]).abs().amax(-1)
    # Rolled tokens share a window with their true neighbours (less than 8 apart) or with the far border.
    assert torch.equal(mask, distance < 8)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (45, 80), (7, 3)])
def test_rays_pass_through_pixel_centres(height: int, width: int) -> None:
    fov = 50.0
    covering = -(-height // 8) * 8, -(-width // 8) * 8
    turn = torch.eye(4)
    turn[:3, :3] = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    rays = ray_directions(turn[None], torch.tensor([fov]), (height, width), covering)[0]
    assert rays.shape == (*covering, 3)
    focal = height / 2 / math.tan(math.radians(fov) / 2)
    for row, column in ((0, 0), (height - 1, width // 2), (covering[0] - 1, covering[1] - 1)):
        d = np.array([(column + 0.5 - width / 2) / focal, (height / 2 - row - 0.5) / focal, -1.0])
        expected = turn[:3, :3].numpy() @ (d / np.linalg.norm(d))
        np.testing.assert_allclose(rays[row, column].numpy(), expected, atol=2e-6)


# --- properties of the whole ---


@pytest.mark.parametrize("swin", [False, True])
def test_order_of_triangles_does_not_matter(swin: bool) -> None:
    model, scene = small_model(view_transformer_use_swin_attn=swin), small_scene(count=9)
    order = torch.tensor([3, 8, 0, 5, 1, 7, 2, 6, 4])
    shuffled = scene | {key: scene[key][:, order] for key in ("triangles", "texture", "mask", "vn")}
    torch.testing.assert_close(draw(model, shuffled), draw(model, scene), rtol=1e-4, atol=1e-4)


def test_padding_does_not_matter_whatever_it_holds() -> None:
    model, scene = small_model(), small_scene(batch=2, count=9)
    scene["mask"][1, 5:] = False
    dirty = {key: tensor.clone() for key, tensor in scene.items()}
    for key in ("triangles", "texture", "vn"):
        dirty[key][1, 5:] = float("nan")
    both = draw(model, dirty)
    assert torch.equal(both, draw(model, scene))
    alone = {key: tensor[1:, :5] if key not in ("c2w", "fov") else tensor[1:] for key, tensor in scene.items()}
    torch.testing.assert_close(both[1:], draw(model, alone), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_views_in_chunks_and_scenes_alone_give_the_same_pictures() -> None:
    model, scene = small_model(view_transformer_use_swin_attn=True), small_scene(batch=2, views=5)
    together = draw(model, scene, 20, 30)
    for b in range(2):
        one = {key: tensor[b : b + 1] for key, tensor in scene.items()}
        torch.testing.assert_close(together[b : b + 1], draw(model, one, 20, 30), rtol=1e-4, atol=1e-4)
    encoded = model.encode(*(scene[key] for key in ("triangles", "texture", "mask", "vn")))
    for part in (slice(0, 1), slice(1, 3), slice(3, 5)):
        picture = model.view(encoded, scene["c2w"][:, part], scene["fov"][:, part], 20, 30)
        torch.testing.assert_close(picture, together[:, part], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (63, 17), (36, 64)])
@pytest.mark.parametrize("swin", [False, True])
def test_any_size_can_be_drawn(height: int, width: int, swin: bool) -> None:
    picture = draw(small_model(view_transformer_use_swin_attn=swin), small_scene(), height, width)
    assert picture.shape == (1, 2, height, width, 3)
    assert torch.isfinite(picture).all()


def test_fov_may_lack_its_last_dimension() -> None:
    model, scene = small_model(), small_scene()
    assert torch.equal(draw(model, scene), draw(model, scene | {"fov": scene["fov"][..., 0]}))


@torch.no_grad()
def test_camera_space_is_the_world_seen_from_the_camera() -> None:
    """A model without turn_to_cam_coord, given camera-space positions and an identity camera, sees the same."""
    scene = small_scene(views=1)
    turned = small_model()
    world = RenderFormer(changed(SMALL, turn_to_cam_coord=False)).eval()
    world.load_state_dict(turned.state_dict())
    angle = 0.4
    scene["c2w"][0, 0, :2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    encoded = turned.encode(*(scene[key] for key in ("triangles", "texture", "mask", "vn")))
    points = encoded.positions_world.reshape(1, -1, 3, 3).double()
    w2c = torch.linalg.inv(scene["c2w"][0, 0].double())
    seen = (points @ w2c[:3, :3].T + w2c[:3, 3]).float().flatten(2)
    own = Encoded(encoded.tokens, seen, encoded.mask)
    picture = world.view(own, torch.eye(4)[None, None], scene["fov"], 16, 16)
    torch.testing.assert_close(picture, turned.view(encoded, scene["c2w"], scene["fov"], 16, 16), rtol=1e-4, atol=1e-4)
    # In world space the camera's place and direction enter through the rays.
    assert (world.view(encoded, scene["c2w"], scene["fov"], 16, 16) - picture).abs().max() > 1e-2


# --- materials ---


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2, 5, 32])
@pytest.mark.parametrize("use_ldr", [False, True])
def test_rows_patches_and_their_mixture_agree(patch: int, use_ldr: bool) -> None:
    model = small_model(texture_encode_patch_size=patch, use_ldr=use_ldr)
    scene = small_scene(batch=2, patch=patch)
    # Two triangles of the first scene and one of the second vary inside the triangle.
    places = [(0, 2), (0, 5), (1, 0)]
    for n, (b, i) in enumerate(places):
        scene["texture"][b, i] *= 0.5 + 0.5 * torch.rand(13, patch, patch, generator=torch.Generator().manual_seed(n))
    geometry = scene["triangles"], scene["mask"], scene["vn"]
    full = model.encode(geometry[0], scene["texture"], *geometry[1:])
    index = torch.full((2, 7), -1)
    patches = torch.stack([scene["texture"][b, i] for b, i in places])
    for n, (b, i) in enumerate(places):
        index[b, i] = n
    rows = scene["texture"][..., 0, 0]
    mixed = model.encode(geometry[0], rows, *geometry[1:], patches=patches, patch_index=index)
    torch.testing.assert_close(mixed.tokens, full.tokens, rtol=1e-4, atol=1e-4)


def test_patches_of_another_size_are_refused() -> None:
    model, scene = small_model(texture_encode_patch_size=4), small_scene(patch=8)
    with pytest.raises(InputError, match=r"\(8, 8\), this model takes \(4, 4\)"):
        draw(model, scene)
    rows = scene | {"texture": scene["texture"][..., 0, 0]}
    geometry = (rows[key] for key in ("triangles", "texture", "mask", "vn"))
    with pytest.raises(InputError, match=r"\(8, 8\), this model takes \(4, 4\)"):
        model.encode(*geometry, patches=scene["texture"][0], patch_index=torch.arange(7)[None])


@torch.no_grad()
def test_rows_follow_the_weights() -> None:
    """The collapsed product is never older than the weights: after a step, a raw write, a load, a cast."""
    model, scene = small_model(texture_encode_patch_size=4), small_scene(patch=4)
    rows = scene | {"texture": scene["texture"][..., 0, 0]}
    weight = model.texture_encoder.weight
    for change in (
        lambda: weight.add_(0.1 * torch.randn_like(weight)),
        lambda: weight.data.mul_(1.1),
        lambda: model.load_state_dict({k: v * 0.9 for k, v in model.state_dict().items()}),
        lambda: model.bfloat16().float(),
    ):
        change()
        torch.testing.assert_close(draw(model, rows), draw(model, scene), rtol=1e-4, atol=1e-4)
    assert not any("uniform" in key or "collapsed" in key for key in model.state_dict())


def test_ldr_models_encode_and_decode_nothing() -> None:
    hdr, scene = small_model(), small_scene()
    ldr = RenderFormer(changed(SMALL, use_ldr=True)).eval()
    ldr.load_state_dict(hdr.state_dict())
    encoded = scene | {"texture": scene["texture"].clone()}
    encoded["texture"][..., -3:] = torch.log10(scene["texture"][..., -3:] + 1)
    torch.testing.assert_close(10 ** draw(ldr, encoded) - 1, draw(hdr, scene))


# --- switches ---


@pytest.mark.parametrize(
    ("changes", "there", "absent"),
    [
        ({"activation": "gelu"}, "transformer.layers.0.ffn.w2.weight", "transformer.layers.0.ffn.w3.weight"),
        ({"bias": True}, "transformer.layers.0.multihead_attn.in_proj.bias", ""),
        ({"norm_type": "layer_norm"}, "transformer.layers.0.query_norm.bias", ""),
        ({"qk_norm": False}, "", "view_transformer.transformer.layers.0.multihead_attn.q_norm.weight"),
        ({"view_indep_qk_norm": False}, "", "transformer.layers.0.multihead_attn.q_norm.weight"),
        ({"pe_type": "nerf"}, "tri_encoding_proj.weight", "transformer.rope_emb.freqs"),
        ({"pe_type": "nerf", "vn_encoder_norm_type": "none"}, "tri_encoding_proj.bias", "tri_encoding_norm.weight"),
        ({"use_vn_encoder": False}, "", "vn_encoding_proj.weight"),
        ({"vn_encoder_norm_type": "none"}, "vn_encoding_proj.weight", "vn_encoder_norm.weight"),
        ({"vn_encoder_norm_type": "layer_norm", "texture_encoder_norm_type": "layer_norm"}, "vn_encoder_norm.bias", ""),
        (
            {"view_transformer_include_self_attn": False},
            "view_transformer.transformer.layers.0.kv_norm.weight",
            "view_transformer.transformer.layers.0.self_attn_norm.weight",
        ),
        (
            {"view_transformer_use_swin_attn": True},
            "view_transformer.transformer.layers.1.self_attn.in_proj.weight",
            "",
        ),
        ({"vdir_num_freqs": 3}, "view_transformer.ray_map_encoder.weight", ""),
        ({"use_dpt_decoder": False}, "view_transformer.out_proj.bias", "view_transformer.out_dpt.projects.0.weight"),
        ({"use_dpt_decoder": False, "patch_size": 4, "include_alpha": True}, "view_transformer.out_proj.bias", ""),
        ({"dpt_out_layers": (0, 1, 2, 3), "include_alpha": True, "patch_size": 4}, "", ""),
        ({"turn_to_cam_coord": False}, "", ""),
        ({"use_ldr": True}, "", ""),
        ({"num_register_tokens": 0}, "", ""),
        ({"texture_channels": 10, "vertex_pe_num_freqs": 2, "rope_double_max_freq": True}, "", ""),
    ],
    ids=str,
)
def test_every_switch_builds_draws_and_learns(changes: dict[str, Any], there: str, absent: str) -> None:
    model = small_model(**changes)
    keys = model.state_dict().keys()
    assert not there or there in keys
    assert absent not in keys
    scene = small_scene()
    scene["texture"] = scene["texture"][..., -model.config.texture_channels :]
    picture = model(**scene, height=16, width=24)
    assert picture.shape == (1, 2, 16, 24, 4 if model.config.include_alpha else 3)
    assert torch.isfinite(picture).all()
    picture.square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not silent
    assert (picture[0, 0] - picture[0, 1]).abs().max() > 1e-2


def test_dpt_reads_the_chosen_layers() -> None:
    last = small_model(view_transformer_n_layers=6)
    chosen = RenderFormer(changed(last.config, dpt_out_layers=(2, 3, 4, 5))).eval()
    other = RenderFormer(changed(last.config, dpt_out_layers=(0, 1, 2, 5))).eval()
    chosen.load_state_dict(last.state_dict())
    other.load_state_dict(last.state_dict())
    scene = small_scene()
    assert torch.equal(draw(chosen, scene), draw(last, scene))
    assert (draw(other, scene) - draw(last, scene)).abs().max() > 1e-2


def test_training_gives_gradients_through_rows() -> None:
    model = small_model(texture_encode_patch_size=4).train()
    model(**small_scene(), height=8, width=8).mean().backward()
    grad = model.texture_encoder.weight.grad
    assert grad is not None
    assert grad.abs().sum() > 0
