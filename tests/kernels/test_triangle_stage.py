"""The triangle stage on the quantised attention, in Triton's interpreter: fused with norm and rotation, or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from renderformer.config import ModelConfig
from renderformer.kernels import Projection, backends
from renderformer.kernels.backends import Backend, key_padding
from renderformer.model import RenderFormer, layers
from renderformer.model.layers import TriangleTransformer

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

TOKENS = 40
LENGTHS = torch.tensor([40, 23])


def stage(**changes: Any) -> TriangleTransformer:
    """Two layers with three heads of 64, norms and biases away from their first values."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"latent_dim": 192, "num_heads": 3, "num_layers": 2, "dim_feedforward": 64}
    transformer = TriangleTransformer(ModelConfig(**sizes | {"vertex_pe_num_freqs": 6} | changes)).eval()
    for parameter in transformer.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
    return transformer


def tokens() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, TOKENS, 192, generator=generator), torch.rand(2, TOKENS, 9, generator=generator)


def mask() -> Tensor:
    return torch.arange(TOKENS) < LENGTHS[:, None]


def run(transformer: TriangleTransformer, backend: str, padding: Any = (None, None)) -> Tensor:
    """The real tokens, in bfloat16 autocast as on a GPU."""
    for layer in transformer.layers:
        layer.multihead_attn.backend = backend
    with torch.autocast("cpu", torch.bfloat16):
        out = transformer(*tokens(), *padding).float()
    return out if padding == (None, None) else out[mask()]


def relative(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).abs().sum() / expected.abs().sum())


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Projection, Projection]]:
    """The projections of every call that was fused."""
    from renderformer.kernels.sage import operator

    calls: list[tuple[Projection, Projection]] = []
    real = operator.sageattn_projected

    def counted(*args: Any, q_projection: Projection, k_projection: Projection, **kwargs: Any) -> Tensor:
        calls.append((q_projection, k_projection))
        return real(*args, q_projection=q_projection, k_projection=k_projection, **kwargs)

    monkeypatch.setattr(operator, "sageattn_projected", counted)
    return calls


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_type": "layer_norm", "bias": True},
        {"view_indep_qk_norm": False},
        {"pe_type": "nerf", "view_transformer_latent_dim": 192, "view_transformer_n_heads": 3},
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_fused_is_unfused_within_rounding(
    changes: dict[str, Any],
    padded: bool,
    fused_calls: list[tuple[Projection, Projection]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformer, padding = stage(**changes), key_padding(mask()) if padded else (None, None)
    with torch.no_grad():
        fused = run(transformer, "sage", padding)
        assert len(fused_calls) == 2
        q_projection, k_projection = fused_calls[0]
        normed = "none" if changes.get("view_indep_qk_norm") is False else changes.get("norm_type", "rms_norm")
        assert (q_projection.kind, k_projection.kind) == (normed, normed)
        assert (q_projection.cos is None) == (changes.get("pe_type") == "nerf")
        with monkeypatch.context() as patch:
            patch.setattr(layers, "projected_attention", lambda *_, **__: None)
            unfused = run(transformer, "sage", padding)
        exact = run(transformer, "sdpa", padding)
    assert len(fused_calls) == 2
    # Each differs from exact attention by its own roundings, and from the other by no more than twice that.
    error = relative(unfused, exact)
    assert 0 < relative(fused, exact) < 1.5 * error
    assert relative(fused, unfused) < 2 * error
    assert error < 0.02


def test_with_gradients_it_is_not_fused(fused_calls: list[tuple[Projection, Projection]]) -> None:
    transformer = stage()
    run(transformer, "sage").square().mean().backward()
    assert fused_calls == []
    weight = transformer.layers[0].multihead_attn.q_norm.weight
    ours = weight.grad.clone()
    transformer.zero_grad()
    run(transformer, "sdpa").square().mean().backward()
    assert relative(ours, weight.grad) < 0.2


def test_a_mask_with_holes_is_refused_by_name_and_exact_by_auto() -> None:
    transformer = stage()
    holes = mask().flip(1)
    with torch.no_grad():
        with pytest.raises(ValueError, match="padding at the end only"):
            run(transformer, "sage", key_padding(holes))
        by_auto, exact = (run(transformer, backend, key_padding(holes)) for backend in ("auto", "sdpa"))
    assert torch.equal(by_auto, exact)


def test_auto_fuses_where_it_wins(
    fused_calls: list[tuple[Projection, Projection]], monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = stage()
    with torch.no_grad():
        run(transformer, "auto")
        assert fused_calls == []
        monkeypatch.setattr(Backend, "is_fast", lambda *_: True)
        run(transformer, "auto")
    assert len(fused_calls) == 2


@pytest.mark.parametrize("backend", ["sage", "sdpa", "auto"])
@pytest.mark.parametrize("padded", [False, True])
def test_the_stage_compiles_into_one_graph(backend: str, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that "auto" looks at the device.
    measured = replace(backends.REGISTRY["sage"], fast_from_keys={(9, 0): 1})
    monkeypatch.setitem(backends.REGISTRY, "sage", measured)
    transformer, padding = stage(), key_padding(mask()) if padded else (None, None)
    with torch.no_grad():
        plain = run(transformer, backend, padding)
        transformer.compile(fullgraph=True, backend="aot_eager")
        # A compiler keeps no bfloat16 between element-wise operations.
        assert relative(run(transformer, backend, padding), plain) < 0.01


def test_encoding_looks_at_the_mask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look waits for the GPU."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"latent_dim": 192, "num_heads": 3, "num_layers": 2, "dim_feedforward": 64}
    sizes |= {"vertex_pe_num_freqs": 6, "texture_encode_patch_size": 1, "use_dpt_decoder": False}
    model = RenderFormer(ModelConfig(**sizes, view_transformer_n_layers=1)).eval()
    model.set_attention_backend("sage")
    looks = []

    def count(name: str) -> None:
        real = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda x, *args: (looks.append(name), real(x, *args))[1])

    inputs = torch.rand(2, 20, 3, 3), torch.rand(2, 20, 13), torch.arange(20) < torch.tensor([[20], [9]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        # The kernels of the interpreter read values too.
        monkeypatch.setattr(layers, "projected_attention", lambda q, *_, **__: q)
        for name in ("__bool__", "item", "tolist"):
            count(name)
        model.encode(*inputs, torch.rand(2, 20, 3, 3))
    assert looks == ["tolist"]


def test_projections_that_do_not_fit_are_refused() -> None:
    from renderformer.kernels.sage.operator import sageattn_projected

    x = torch.randn(1, 10, 192).bfloat16()
    with pytest.raises(ValueError, match=r"\(1, 9, 192\)\) of q, k, v do not fit"):
        sageattn_projected(x, x, x[:, 1:], 3)
    with pytest.raises(ValueError, match="q is torch.float32"):
        sageattn_projected(x.float(), x, x, 3)
    with pytest.raises(ValueError, match="q needs gradients"):
        sageattn_projected(x.clone().requires_grad_(), x, x, 3)
    with pytest.raises(ValueError, match="kv_lengths holds 11"):
        sageattn_projected(x, x, x, 3, kv_lengths=torch.tensor([11]))
    with pytest.raises(ValueError, match="5 heads"):
        sageattn_projected(x, x, x, 5)
