"""The whole triangle stage of the V1 models on this GPU: attention, prologue, compiler, CUDA graph, 8-bit linears.

    python benchmarks/triangle_stage.py [--configs base large] [--triangles 1024 4096 8192 16384] [--variants sage …]

Random weights, with QK norms that make attention look at a few tokens only, so that a wrong attention shows. Medians of
CUDA events, as a ratio to the first line (eager, bfloat16 autocast, the fastest SDPA), and the tokens' relative L1
error against float32. Nothing is reported if an error passes a third of what leaving attention out would cost.
torch.compile (Inductor) fuses the norms, residuals and SwiGLU, layer by layer.
Needs an NVIDIA GPU; writes benchmarks/results/triangle_stage.csv.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from unittest import mock

import torch
from attention import SDPA
from common import device_milliseconds, relative_error, report, require_gpu
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import ScalingType

from renderformer.config import ModelConfig
from renderformer.kernels.sage.naive import E4M3_MAX
from renderformer.model import layers
from renderformer.model.layers import TriangleTransformer

CONFIGS = {
    "base": ModelConfig(),
    "large": ModelConfig(
        latent_dim=1024, num_heads=8, dim_feedforward=4096, num_register_tokens=32, rope_double_max_freq=True
    ),
}
# Largest error, as a share of that of a stage without attention (which is .39 for the base model at 1024 triangles,
# where bfloat16 costs .006 and E4M3 linears .07).
BOUND = 1 / 3
# Of the norms of Q and K: logits with a deviation of about their square.
QK_WEIGHT = 3**0.5


@dataclass(frozen=True)
class Variant:
    """One way to run the stage.

    Attributes:
        attention: "sdpa"; "plain", sage after norm and rotation in PyTorch; "sage", with both fused.
        linears: "autocast", float32 weights cast at every call as `Renderer` does; "bf16", cast once; "fp8".
        compiled, graphed: by Inductor; replayed from a CUDA graph.
    """

    attention: str
    linears: str = "autocast"
    compiled: bool = False
    graphed: bool = False


VARIANTS = {
    "sdpa": Variant("sdpa"),
    "plain": Variant("plain"),
    "sage": Variant("sage"),
    "sdpa, compiled": Variant("sdpa", compiled=True),
    "plain, compiled": Variant("plain", compiled=True),
    "sage, compiled": Variant("sage", compiled=True),
    "sdpa, graph": Variant("sdpa", graphed=True),
    "sage, graph": Variant("sage", graphed=True),
    "sdpa, bf16, compiled, graph": Variant("sdpa", "bf16", True, True),
    "sage, bf16, compiled, graph": Variant("sage", "bf16", True, True),
    "sdpa, fp8, compiled, graph": Variant("sdpa", "fp8", True, True),
    "sage, fp8, compiled, graph": Variant("sage", "fp8", True, True),
}


class Float8Linear(nn.Module):
    """A linear layer in E4M3: weights with a scale for each output channel, inputs with one for each token."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = to_e4m3(linear.weight.detach().float())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t().contiguous())
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = to_e4m3(x.flatten(0, -2).float())
        out = F.scaled_mm(
            rows, self.weight.t(), scale, ScalingType.RowWise, self.scale, ScalingType.RowWise,
            output_dtype=torch.bfloat16, use_fast_accum=rows.is_cuda,
        )  # fmt: skip
        out = out.unflatten(0, x.shape[:-1])
        return out if self.bias is None else out + self.bias.to(out.dtype)


def to_e4m3(x: Tensor) -> tuple[Tensor, Tensor]:
    """E4M3 and the scale of each row, (rows, 1) float32."""
    scale = (x.abs().amax(-1, keepdim=True) / E4M3_MAX).clamp(min=1e-12)
    return (x / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale


def with_linears(stage: TriangleTransformer, kind: str) -> TriangleTransformer:
    """The stage, or a copy with other linear layers."""
    if kind == "autocast":
        return stage
    stage = copy.deepcopy(stage)
    for module in list(stage.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Float8Linear(child) if kind == "fp8" else child.bfloat16())
    return stage


def random_stage(config: ModelConfig, device: torch.device) -> TriangleTransformer:
    torch.manual_seed(0)
    stage = TriangleTransformer(config).to(device).eval().requires_grad_(False)
    for layer in stage.layers:
        for norm in (layer.multihead_attn.q_norm, layer.multihead_attn.k_norm):
            nn.init.constant_(norm.weight, QK_WEIGHT)
    return stage


def random_inputs(config: ModelConfig, triangles: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and positions of one scene."""
    tokens = triangles + config.num_register_tokens
    x_BTD = torch.randn(1, tokens, config.latent_dim, device=device)
    return x_BTD, torch.rand(1, tokens, 9, device=device) - 0.5


def set_attention(stage: TriangleTransformer, backend: str) -> None:
    for layer in stage.layers:
        layer.multihead_attn.backend = backend


@contextmanager
def attending(kind: str, sdpa: SDPBackend | None) -> Iterator[None]:
    """Where SDPA takes one backend, and "plain" fuses nothing."""
    with ExitStack() as stack:
        if sdpa is not None:
            stack.enter_context(sdpa_kernel(sdpa))
        if kind == "plain":
            # A compiler looks into a function, not into a mock.
            stack.enter_context(mock.patch.object(layers, "projected_attention", fuse_nothing))
        yield


def fuse_nothing(*_: Any, **__: Any) -> None:
    """In place of `projected_attention`."""


def prepare(
    variant: Variant, stage: TriangleTransformer, inputs: tuple[Tensor, Tensor], compiler: str = "inductor"
) -> Callable[[], Tensor]:
    """A call that runs the variant and returns its tokens; call it within `attending`."""
    torch.compiler.reset()
    device = inputs[0].device.type
    # With other linears it is a copy; compiling must not stay with the stage either.
    stage = with_linears(stage, variant.linears)
    set_attention(stage, "sdpa" if variant.attention == "sdpa" else "sage")
    run_layers: list[Callable[..., Tensor]] = list(stage.layers)
    if variant.compiled:
        run_layers = [torch.compile(layer, fullgraph=True, dynamic=False, backend=compiler) for layer in stage.layers]

    def run() -> Tensor:
        # The cache of autocast would outlive the capture of a graph.
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, cache_enabled=False):
            rotation = None if stage.rope_emb is None else stage.rope_emb(inputs[1])
            x_BTD = inputs[0]
            for layer in run_layers:
                x_BTD = layer(x_BTD, rotation, None, None)
        return x_BTD

    return graphed(run) if variant.graphed and device == "cuda" else run


def graphed(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`run` captured as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def expected_tokens(stage: TriangleTransformer, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
    """The tokens in float32, and how far from them those are of a stage whose attention gives nothing."""
    set_attention(stage, "sdpa")
    with torch.no_grad():
        exact = stage(*inputs)
        with mock.patch.object(layers, "attention", lambda q, *_, **__: torch.zeros_like(q)):
            silent = stage(*inputs)
    return exact, relative_error(silent, exact)


def fastest_sdpa(
    stage: TriangleTransformer, inputs: tuple[Tensor, Tensor], time: Callable[[Callable[[], Any]], float]
) -> SDPBackend | None:
    """The SDPA backend that is fastest in the first variant; None (torch's own choice) where none runs."""
    times: dict[SDPBackend, float] = {}
    for backend in SDPA.values():
        try:
            with attending("sdpa", backend):
                times[backend] = time(prepare(VARIANTS["sdpa"], stage, inputs))
        except RuntimeError:
            # Not in this build, or not on this GPU.
            continue
    return min(times, key=lambda backend: times[backend]) if times else None


def measure(
    name: str,
    config: ModelConfig,
    triangles: int,
    device: torch.device,
    time: Callable[[Callable[[], Any]], float],
    variants: list[str],
    compiler: str = "inductor",
) -> list[dict[str, Any]]:
    """One row a variant.

    Raises:
        ValueError: a result further from float32 than the bound.
    """
    stage, inputs = random_stage(config, device), random_inputs(config, triangles, device)
    exact, silent = expected_tokens(stage, inputs)
    sdpa = fastest_sdpa(stage, inputs, time)
    rows: list[dict[str, Any]] = []
    first = float("nan")
    for label in dict.fromkeys(["sdpa", *variants]):
        variant = VARIANTS[label]
        with attending(variant.attention, sdpa):
            run = prepare(variant, stage, inputs, compiler)
            distance = relative_error(run(), exact)
            if not distance < BOUND * silent:
                errors = f"relative error {distance:.3f}, without attention {silent:.3f}"
                raise ValueError(f"{name}, {triangles} triangles, {label}: {errors}; not reported")
            milliseconds = time(run)
        first = milliseconds if label == "sdpa" else first
        rows.append(
            {
                "gpu": torch.cuda.get_device_name() if device.type == "cuda" else "none",
                "config": name,
                "triangles": triangles,
                "variant": label,
                "sdpa": "default" if sdpa is None else next(key for key, value in SDPA.items() if value == sdpa),
                "ms": f"{milliseconds:.3f}",
                "speedup": f"{first / milliseconds:.2f}",
                "error": f"{distance:.4f}",
                "error_without_attention": f"{silent:.3f}",
            }
        )
    return rows


def on_cpu(run: Callable[[], Any]) -> float:
    """Milliseconds by the clock; for the test that runs all this without a GPU."""
    start = perf_counter()
    run()
    return 1000 * (perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--triangles", type=int, nargs="+", default=[1024, 4096, 8192, 16384])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    options = parser.parse_args()
    require_gpu()
    rows: list[dict[str, Any]] = []
    device = torch.device("cuda", torch.cuda.current_device())
    for name in options.configs:
        for triangles in options.triangles:
            try:
                rows += measure(name, CONFIGS[name], triangles, device, device_milliseconds, options.variants)
            except ValueError as wrong:
                sys.exit(f"error: {wrong}")
    report("triangle_stage", rows)


if __name__ == "__main__":
    main()
