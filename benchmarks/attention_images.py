"""What quantised attention in the triangle stage does to pictures: log-HDR PSNR against fp32, on the CPU.

    python benchmarks/attention_images.py [--resolution 128] [scene.json …]

The embedded model draws each scene with exact attention and with the kernels' arithmetic emulated in plain torch
(inputs rounded to bfloat16 as on a GPU). 45 dB is the gate; ends with 1 below it. log-HDR is log10(x + 1), its peak
that of fp32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import ROOT, report
from torch import Tensor

import renderformer as rf
from renderformer.kernels.attention import prefix_lengths
from renderformer.kernels.reference import quantised_attention
from renderformer.model import layers

GATE = 45.0
# What differs between GPUs and settings: score type, accumulator of P V.
KINDS = {
    "int8, fp16 chains (sm_89, sm_120)": ("int8", "fp32+fp16"),
    "int8, fp32 chains (sm_90, sm_100)": ("int8", "fp32+fp32"),
    "int8, fp16 P V (sm_80)": ("int8", "fp16"),
    "fp8, fp32 chains": ("fp8", "fp32+fp32"),
}
CONTROL = "no attention (control)"
Attend = Callable[..., Tensor]


def emulated(qk_dtype: str, pv_accum: str, exact: Attend) -> Attend:
    """In place of `attention` for self-attention of triangles; everything else stays exact."""

    def run(q: Tensor, k: Tensor, v: Tensor, *, key_mask_BS: Tensor | None = None, **rest: object) -> Tensor:
        lengths = None if key_mask_BS is None else prefix_lengths(key_mask_BS)
        if q.shape[2] != k.shape[2] or rest.get("pair_mask_BTS") is not None:
            return exact(q, k, v, key_mask_BS=key_mask_BS, **rest)
        q, k, v = (x.bfloat16().float() for x in (q, k, v))
        return quantised_attention(q, k, v, kv_lengths=lengths, qk_dtype=qk_dtype, pv_accum=pv_accum)[0]

    return run


def silent(q: Tensor, *_: Tensor, **__: object) -> Tensor:
    """The control: triangles that learn nothing of each other. A model that this does not hurt passes any gate."""
    return torch.zeros_like(q)


def log_hdr_psnr(ours: np.ndarray, expected: np.ndarray) -> float:
    ours, expected = np.log10(ours.astype(np.float64) + 1), np.log10(expected.astype(np.float64) + 1)
    return float(10 * np.log10(expected.max() ** 2 / max(np.square(ours - expected).mean(), 1e-20)))


def draw(renderer: rf.Renderer, scene: rf.Scene, resolution: int, attend: Attend) -> np.ndarray:
    """One picture, with `attend` in the triangle stage only."""
    exact = layers.attention
    layers.attention = attend
    try:
        lit = renderer.encode(scene)
    finally:
        layers.attention = exact
    return renderer.render(lit, resolution, scene.cameras[0])[0].hdr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", type=Path, default=sorted((ROOT / "examples").glob("*.json")))
    parser.add_argument("--resolution", type=int, default=128)
    options = parser.parse_args()
    renderer = rf.Renderer.from_pretrained(device="cpu", precision="fp32")
    rows = []
    with torch.no_grad():
        for path in options.scenes:
            scene = rf.Scene.load(path)
            expected = draw(renderer, scene, options.resolution, layers.attention)
            attends = {name: emulated(*kind, layers.attention) for name, kind in KINDS.items()} | {CONTROL: silent}
            for name, attend in attends.items():
                decibels = log_hdr_psnr(draw(renderer, scene, options.resolution, attend), expected)
                rows.append(
                    {"scene": path.name, "triangles": len(scene), "arithmetic": name, "log_hdr_db": f"{decibels:.1f}"}
                )  # fmt: skip
    report("attention_images", rows)
    sys.exit(any(float(row["log_hdr_db"]) < GATE for row in rows if row["arithmetic"] != CONTROL))


if __name__ == "__main__":
    main()
