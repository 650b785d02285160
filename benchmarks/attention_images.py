"""Effect of quantised attention in the triangle stage on pictures: log-HDR PSNR against fp32, on the CPU.

    python benchmarks/attention_images.py [--resolution 128] [scene.json …]

The embedded model draws each scene with exact attention and with the kernels' arithmetic emulated in plain torch
(inputs rounded to bfloat16 as on a GPU), also with E4M3 linear layers in the triangle stage (a scale for each token and
each output channel). Exits with 1 below 45 dB. log-HDR is log10(x + 1), with the peak of the fp32 picture.
The same follows for the random-weight checkpoints of tests/goldens at their own sizes; as their pictures show nothing,
they have no bound.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import ROOT, report
from torch import Tensor, nn
from torch.nn import functional as F

import renderformer as rf
from renderformer.checkpoints import load_model
from renderformer.kernels.backends import key_padding
from renderformer.kernels.sage.naive import E4M3_MAX, naive_sageattn, to_e4m3
from renderformer.model import RenderFormer, layers

sys.path.append(str(ROOT / "tests"))
from helpers.goldens import unpack  # noqa: E402

GATE = 45.0
# By GPU or setting: score type, accumulator of P V.
KINDS = {
    "int8, fp16 chains (sm_89, sm_120)": ("int8", "fp32+fp16"),
    "int8, fp32 chains (sm_90, sm_100)": ("int8", "fp32+fp32"),
    "int8, fp16 P V (sm_80)": ("int8", "fp16"),
    "fp8, fp32 chains": ("fp8", "fp32+fp32"),
}
# Without 8-bit products; with 8-bit linear layers only; with these and the attention of a Hopper.
BF16 = "bf16 autocast, exact attention"
LINEARS = "fp8 linears, exact attention"
BOTH = "fp8 linears, int8, fp32 chains (sm_90, sm_100)"
CONTROL = "no attention (control)"
# Small checkpoints of tests/goldens and their inputs.
CASES = [("base_like", "golden_64"), ("swin_like", "golden_64"), ("base_p32", "golden_64")]
Attend = Callable[..., Tensor]


def emulated(qk_dtype: str, pv_accum: str, exact: Attend) -> Attend:
    """A replacement of `attention` that emulates self-attention of triangles and leaves other calls exact."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, *, key_mask_BS: Tensor | None = None, key_lengths_B: Tensor | None = None,
        pair_mask_BTS: Tensor | None = None, **options: object,
    ) -> Tensor:  # fmt: skip
        holes, lengths = (None, key_lengths_B) if key_mask_BS is None else key_padding(key_mask_BS)
        if q.shape[2] != k.shape[2] or pair_mask_BTS is not None or holes is not None:
            masks = {"key_mask_BS": key_mask_BS, "key_lengths_B": key_lengths_B, "pair_mask_BTS": pair_mask_BTS}
            return exact(q, k, v, **masks, **options)
        q, k, v = (x.bfloat16().float() for x in (q, k, v))
        return naive_sageattn(q, k, v, kv_lengths=lengths, qk_dtype=qk_dtype, pv_accum=pv_accum)

    return run


def zero_attention(q: Tensor, *_: Tensor, **__: object) -> Tensor:
    """The control: attention that returns zeros. If it leaves a model's pictures alike, the gate shows nothing."""
    return torch.zeros_like(q)


def log_hdr_psnr(ours: np.ndarray, expected: np.ndarray) -> float:
    ours, expected = np.log10(ours.astype(np.float64) + 1), np.log10(expected.astype(np.float64) + 1)
    return float(10 * np.log10(expected.max() ** 2 / max(np.square(ours - expected).mean(), 1e-20)))


def in_e4m3(x: Tensor) -> Tensor:
    """x rounded to E4M3 with a scale for each row."""
    scale = (x.abs().amax(-1, keepdim=True) / E4M3_MAX).clamp(min=1e-12)
    return to_e4m3(x / scale) * scale


@contextmanager
def triangle_stage(model: RenderFormer, attend: Attend, precision: str) -> Iterator[None]:
    """Let layers call `attend`, and the triangle stage use E4M3 linears if the precision is "fp8"."""
    linears = [module for module in model.transformer.modules() if isinstance(module, nn.Linear)]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(layers, "attention", attend))
        for linear in linears if precision == "fp8" else []:
            weight, bias = in_e4m3(linear.weight), linear.bias

            def forward(x: Tensor, weight: Tensor = weight, bias: Tensor | None = bias) -> Tensor:
                # The product is rounded to bfloat16 as scaled_mm's result is.
                return F.linear(in_e4m3(x), weight, bias).bfloat16().float()

            stack.enter_context(mock.patch.object(linear, "forward", forward))
        yield


def variants() -> dict[str, tuple[Attend, str]]:
    """Attention and precision of the linears, by name."""
    exact = layers.attention
    emulations = {name: (emulated(*kind, exact), "fp32") for name, kind in KINDS.items()}
    both = emulated(*KINDS["int8, fp32 chains (sm_90, sm_100)"], exact)
    others = {BF16: (exact, "bf16"), LINEARS: (exact, "fp8"), BOTH: (both, "fp8"), CONTROL: (zero_attention, "fp32")}
    return emulations | others


def example_rows(paths: list[Path], resolution: int) -> list[dict[str, Any]]:
    """The embedded model's pictures with each variant of the triangle stage."""
    renderer = rf.Renderer.from_pretrained(device="cpu", precision="fp32", network=True)
    rows = []
    for path in paths:
        scene = rf.Scene.load(path)

        def draw(attend: Attend, precision: str, scene: rf.Scene = scene) -> np.ndarray:
            renderer.precision = "bf16" if precision == "bf16" else "fp32"
            with triangle_stage(renderer.model, attend, precision):
                lit = renderer.encode(scene)
            return renderer.render(lit, resolution, scene.cameras[0])[0].hdr

        rows += compare(draw, path.name, len(scene))
    return rows


def golden_rows(goldens: Path) -> list[dict[str, Any]]:
    """The pictures of the random-weight checkpoints."""
    rows = []
    for case, name in CASES:
        model = load_model(goldens / case).eval()
        with np.load(goldens / case / f"{name}.npz") as stored:
            inputs = {key: torch.from_numpy(stored[key]) for key in ("triangles", "texture", "mask", "vn")}
            side = int(stored["resolution"])
            view = torch.from_numpy(stored["c2w"]), torch.from_numpy(stored["fov"]), side, side

        def draw(
            attend: Attend, precision: str, model: Any = model, inputs: Any = inputs, view: Any = view
        ) -> np.ndarray:
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
            with autocast, triangle_stage(model, attend, precision):
                encoded = model.encode(**inputs)
            return model.view(encoded, *view).numpy()

        rows += compare(draw, f"{case} {name} (random weights)", inputs["triangles"].shape[1])
    return rows


def compare(draw: Callable[[Attend, str], np.ndarray], scene: str, triangles: int) -> list[dict[str, Any]]:
    expected = draw(layers.attention, "fp32")
    return [
        {
            "scene": scene,
            "triangles": triangles,
            "arithmetic": name,
            "log_hdr_db": f"{log_hdr_psnr(draw(*variant), expected):.1f}",
        }
        for name, variant in variants().items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", type=Path, default=sorted((ROOT / "examples").glob("*.json")))
    parser.add_argument("--resolution", type=int, default=128)
    options = parser.parse_args()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        rows = example_rows(options.scenes, options.resolution)
        random_rows = golden_rows(unpack(Path(folder)))
    report("attention_images", rows + random_rows)
    sys.exit(any(float(row["log_hdr_db"]) < GATE for row in rows if row["arithmetic"] != CONTROL))


if __name__ == "__main__":
    main()
