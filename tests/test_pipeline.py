"""The contract of the original package's pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from renderformer import RenderFormerRenderingPipeline
from renderformer.config import ShadingConfig
from renderformer.data.errors import InputError
from renderformer.model import ShadingModel


@pytest.fixture(scope="module")
def pipeline(goldens: Path) -> RenderFormerRenderingPipeline:
    return RenderFormerRenderingPipeline.from_pretrained(str(goldens / "base_like"))


@pytest.fixture
def scene(goldens: Path) -> dict[str, Tensor]:
    stored = np.load(goldens / "base_like" / "golden_40.npz")
    scene = {key: torch.from_numpy(stored[key]) for key in ("triangles", "texture", "mask", "vn", "c2w", "fov")}
    scene["texture"] = scene["texture"].float()
    return scene


def log_error(a: Tensor, b: Tensor) -> float:
    return (torch.log10(1 + a) - torch.log10(1 + b)).abs().max().item()


def test_a_script_of_the_original_package_runs(
    pipeline: RenderFormerRenderingPipeline, scene: dict[str, Tensor], goldens: Path
) -> None:
    """The calls that its command-line scripts make, in their order."""
    pipeline.to(torch.device("cpu"))
    device = pipeline.device
    assert device == torch.device("cpu")
    assert pipeline.config.texture_encode_patch_size == 4
    before = {key: tensor.clone() for key, tensor in scene.items()}
    pictures = pipeline(
        triangles=scene["triangles"].to(device),
        texture=scene["texture"].to(device),
        mask=scene["mask"].to(device),
        vn=scene["vn"].to(device),
        c2w=scene["c2w"].to(device),
        fov=scene["fov"].to(device),
        resolution=40,
        torch_dtype=torch.float32,
    )
    stored = torch.from_numpy(np.load(goldens / "base_like" / "golden_40.npz")["hdr"])
    assert pictures.dtype == torch.float32
    assert pictures.shape == stored.shape == (2, 2, 40, 40, 3)
    assert log_error(pictures, stored) <= 5e-5
    assert all(torch.equal(scene[key], before[key]) for key in scene)
    # Scripts go on to work with the picture in place and outside any context.
    pictures[0, 0].cpu().numpy().clip(0, 1)
    pictures.clamp_(0, 1)


def test_render_and_call_are_the_same_and_deterministic(
    pipeline: RenderFormerRenderingPipeline, scene: dict[str, Tensor]
) -> None:
    arguments = [scene[key] for key in ("triangles", "texture", "mask", "vn", "c2w", "fov")]
    first = pipeline.render(*arguments, 24, torch.float32)
    assert torch.equal(first, pipeline(*arguments, resolution=24, torch_dtype=torch.float32))
    without_last = [*arguments[:5], scene["fov"][..., 0]]
    assert torch.equal(first, pipeline(*without_last, resolution=24, torch_dtype=torch.float32))


def test_half_precision_touches_the_triangle_stage_only(
    pipeline: RenderFormerRenderingPipeline, scene: dict[str, Tensor]
) -> None:
    dtypes: dict[str, set[torch.dtype]] = {"triangles": set(), "view": set()}
    handles = [
        module.register_forward_hook(lambda _, args, out, stage=stage: dtypes[stage].add(out.dtype))
        for stage, layers in (
            ("triangles", pipeline.model.transformer.layers),
            ("view", pipeline.model.view_transformer.transformer.layers),
        )
        for layer in layers
        for module in (layer.multihead_attn.out_proj, layer.ffn.w2)
    ]
    exact = pipeline(**scene, resolution=40, torch_dtype=torch.float32)
    assert dtypes == {"triangles": {torch.float32}, "view": {torch.float32}}
    # A CPU has no fast float16: the default type gives the exact picture there.
    assert torch.equal(pipeline(**scene, resolution=40), exact)
    dtypes["triangles"].clear()
    half = pipeline(**scene, resolution=40, torch_dtype=torch.bfloat16)
    assert dtypes == {"triangles": {torch.bfloat16}, "view": {torch.float32}}
    assert half.dtype == torch.float32
    assert 0 < log_error(half, exact) < 0.1
    for handle in handles:
        handle.remove()


def test_a_callers_autocast_does_not_reach_the_view_stage(
    pipeline: RenderFormerRenderingPipeline, scene: dict[str, Tensor]
) -> None:
    exact = pipeline(**scene, resolution=24, torch_dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pipeline(**scene, resolution=24, torch_dtype=torch.float32), exact)


def test_texture_patches_of_any_size_serve_a_model_without(goldens: Path) -> None:
    pipeline = RenderFormerRenderingPipeline.from_pretrained(goldens / "swin_like")
    stored = np.load(goldens / "swin_like" / "golden_64.npz")
    scene = {key: torch.from_numpy(stored[key]) for key in ("triangles", "texture", "mask", "vn", "c2w", "fov")}
    picture = pipeline(**scene, resolution=64, torch_dtype=torch.float32)
    assert log_error(picture, torch.from_numpy(stored["hdr"])) <= 5e-5
    scene["texture"] = scene["texture"][..., 0, 0]
    assert torch.equal(pipeline(**scene, resolution=64, torch_dtype=torch.float32), picture)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 0}, "resolution 0"),
        ({"resolution": -8}, "resolution -8"),
        ({"resolution": 40.0}, "resolution 40.0"),
        ({"resolution": (40, 40)}, "resolution (40, 40)"),
        ({"torch_dtype": torch.float64}, "torch_dtype torch.float64"),
        ({"triangles": torch.zeros(40, 3, 3)}, "add the batch dimension"),
        ({"texture": torch.zeros(2, 40, 13, 8, 8)}, "texture has shape (2, 40, 13, 8, 8); expected (2, 40, 13, 4, 4)"),
        ({"texture": torch.zeros(2, 39, 13)}, "texture has shape (2, 39, 13)"),
        ({"mask": torch.ones(1, 40, dtype=torch.bool)}, "mask has shape (1, 40); expected (2, 40)"),
        ({"vn": torch.zeros(2, 40, 9)}, "vn has shape (2, 40, 9)"),
        ({"c2w": torch.eye(4)[None].repeat(2, 1, 1)}, "add the batch dimension"),
        ({"fov": torch.ones(2)}, "fov has shape (2,); expected (2, 2, 1) or (2, 2)"),
        ({"vn": torch.zeros(2, 40, 3, 3, device="meta")}, "vn is on meta, the model on cpu"),
    ],
)
def test_wrong_arguments_are_named(
    pipeline: RenderFormerRenderingPipeline, scene: dict[str, Tensor], changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        pipeline(**{"resolution": 16} | scene | changes)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_needs_the_scene_is_refused_by_name() -> None:
    with torch.device("meta"):
        model = ShadingModel(ShadingConfig())
    with pytest.raises(InputError, match=r"ShadingModel needs ray casting.*renderformer\.Renderer"):
        RenderFormerRenderingPipeline(model)
