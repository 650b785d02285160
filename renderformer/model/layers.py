"""Norms, feed-forward networks, attention, and the two transformers: pre-norm layers with their RoPE.

Shape suffixes: B batch, T tokens, S context tokens, H heads, D width (of one head after a split), W windows,
h x w grid of image tokens; in the view stage M images, the views of each of B scenes side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from renderformer.config import TransformerConfig
from renderformer.kernels import Projection, attention, projected_attention
from renderformer.kernels.backends import check_backend
from renderformer.model.encodings import Rotation, TriangleRope, rotate
from renderformer.model.protocol import BeforeLayer

# Of the norms inside a transformer layer; the encoders' norms use the framework's default.
LAYER_EPS = 1e-6
WINDOW = 8
# Of the image tokens and of the triangle tokens.
Rotations = tuple[Rotation | None, Rotation | None]


def run_layer(layer: nn.Module, recompute: bool, *inputs: object) -> Tensor:
    """`layer(*inputs)`; with `recompute`, the backward pass computes its activations again (gradient checkpointing)."""
    if not recompute:
        return layer(*inputs)
    # A layer draws no random numbers.
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)


class RMSNorm(nn.RMSNorm):
    """RMS norm in float32; under autocast, torch's has no fused kernel and takes the epsilon of the low precision."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def make_norm(kind: str, width: int, eps: float | None = None) -> nn.Module:
    """A norm by its name in the configuration; `eps` None is the framework's default."""
    if kind == "rms_norm":
        return RMSNorm(width, eps=eps)
    if kind == "layer_norm":
        return nn.LayerNorm(width, eps=1e-5 if eps is None else eps)
    return nn.Identity()


def projection_of(norm: nn.Module, rotation: Rotation | None) -> Projection:
    """The norm of queries or keys and their rotation, as arguments of a fused attention kernel."""
    cos, sin = (None, None) if rotation is None else (rotation.cos.squeeze(1), rotation.sin.squeeze(1))
    if isinstance(norm, nn.RMSNorm):
        assert norm.eps is not None
        return Projection("rms_norm", norm.weight, None, norm.eps, cos, sin)
    if isinstance(norm, nn.LayerNorm):
        return Projection("layer_norm", norm.weight, norm.bias, norm.eps, cos, sin)
    return Projection(cos=cos, sin=sin)


class FeedForward(nn.Module):
    """SwiGLU, w2(silu(w1 x) * w3 x), or GELU in its exact form, w2(gelu(w1 x))."""

    def __init__(self, width: int, hidden: int, config: TransformerConfig) -> None:
        super().__init__()
        self.gated = config.activation == "swiglu"
        self.w1 = nn.Linear(width, hidden, bias=config.bias)
        self.w2 = nn.Linear(hidden, width, bias=config.bias)
        if self.gated:
            self.w3 = nn.Linear(width, hidden, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x) if self.gated else F.gelu(self.w1(x)))


class Attention(nn.Module):
    """What self- and cross-attention share: QK norm over the whole width, heads, rotation, output projection."""

    def __init__(self, width: int, heads: int, qk_norm: bool, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = heads
        # The view stage stays exact, since lower precision visibly hurts it.
        self.backend = "sdpa"
        self.out_proj = nn.Linear(width, width, bias=config.bias)
        self.q_norm = make_norm(config.norm_type if qk_norm else "none", width, LAYER_EPS)
        self.k_norm = make_norm(config.norm_type if qk_norm else "none", width, LAYER_EPS)

    def split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, **masks: Tensor | None) -> Tensor:
        # Under autocast the norms leave float32 beside half-precision values.
        q_BHTD, k_BHSD = q_BHTD.to(v_BHSD.dtype), k_BHSD.to(v_BHSD.dtype)
        out_BHTD = attention(q_BHTD, k_BHSD, v_BHSD, backend=self.backend, **masks)
        return self.out_proj(out_BHTD.transpose(1, 2).flatten(-2))


class SelfAttention(Attention):
    """Attention of a sequence to itself, globally or in 8 x 8 windows of an image grid."""

    def __init__(self, width: int, heads: int, qk_norm: bool, config: TransformerConfig) -> None:
        super().__init__(width, heads, qk_norm, config)
        self.in_proj = nn.Linear(width, 3 * width, bias=config.bias)

    def forward(self, x_BTD: Tensor, rotation: Rotation | None = None, **masks: Tensor | None) -> Tensor:
        q_BTD, k_BTD, v_BTD = self.in_proj(x_BTD).chunk(3, dim=-1)
        q_projection, k_projection = projection_of(self.q_norm, rotation), projection_of(self.k_norm, rotation)
        fused_BTD = projected_attention(
            q_BTD, k_BTD, v_BTD, self.heads, q_projection=q_projection, k_projection=k_projection,
            backend=self.backend, **masks,
        )  # fmt: skip
        if fused_BTD is not None:
            return self.out_proj(fused_BTD)
        q_BHTD, k_BHTD = self.split(self.q_norm(q_BTD)), self.split(self.k_norm(k_BTD))
        return self.attend(rotate(q_BHTD, rotation), rotate(k_BHTD, rotation), self.split(v_BTD), **masks)

    def in_windows(self, x_BTD: Tensor, grid: tuple[int, int], shift: int) -> Tensor:
        """Attention within windows of the grid, which is first rolled by `shift` tokens (Swin); no rotation."""
        image_BhwD = torch.roll(x_BTD.unflatten(1, grid), (-shift, -shift), dims=(1, 2))
        mask = shifted_window_mask(grid, shift, x_BTD.device).repeat(x_BTD.shape[0], 1, 1) if shift else None
        out_BhwD = from_windows(self(to_windows(image_BhwD), pair_mask_BTS=mask), grid)
        return torch.roll(out_BhwD, (shift, shift), dims=(1, 2)).flatten(1, 2)


class CrossAttention(Attention):
    """Attention of image tokens to triangle tokens, whose width may differ."""

    def __init__(self, width: int, context_width: int, heads: int, qk_norm: bool, config: TransformerConfig) -> None:
        super().__init__(width, heads, qk_norm, config)
        self.q_proj = nn.Linear(width, width, bias=config.bias)
        self.k_proj = nn.Linear(context_width, width, bias=config.bias)
        self.v_proj = nn.Linear(context_width, width, bias=config.bias)

    def forward(self, x_BTD: Tensor, context: Tensor, rotations: Rotations, key_mask_BS: Tensor | None) -> Tensor:
        """`context` has one row per scene, `x_BTD` one per view, the views of a scene side by side."""
        views = x_BTD.shape[0] // context.shape[0]
        q_BHTD = self.split(self.q_norm(self.q_proj(x_BTD)))
        # Before their rotation, keys and values are the same for all views, so they are projected once per scene.
        k_BHSD = self.split(self.k_norm(self.k_proj(context))).repeat_interleave(views, dim=0)
        v_BHSD = self.split(self.v_proj(context)).repeat_interleave(views, dim=0)
        return self.attend(rotate(q_BHTD, rotations[0]), rotate(k_BHSD, rotations[1]), v_BHSD, key_mask_BS=key_mask_BS)


class TriangleLayer(nn.Module):
    """One layer of the view-independent stage: attention among triangles, then a feed-forward network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.multihead_attn = SelfAttention(width, config.num_heads, config.view_indep_qk_norm, config)
        self.multihead_attn.backend = "auto"
        self.query_norm = make_norm(config.norm_type, width, LAYER_EPS)
        self.ffn = FeedForward(width, config.dim_feedforward, config)
        self.ffn_norm = make_norm(config.norm_type, width, LAYER_EPS)

    def forward(
        self, x_BTD: Tensor, rotation: Rotation | None, key_mask_BT: Tensor | None, key_lengths_B: Tensor | None
    ) -> Tensor:
        masks = {"key_mask_BS": key_mask_BT, "key_lengths_B": key_lengths_B}
        x_BTD = x_BTD + self.multihead_attn(self.query_norm(x_BTD), rotation, **masks)
        return x_BTD + self.ffn(self.ffn_norm(x_BTD))


class ViewLayer(nn.Module):
    """One layer of the view stage: image tokens attend to the triangles, then to each other."""

    def __init__(self, config: TransformerConfig, index: int) -> None:
        super().__init__()
        width, heads = config.view_transformer_latent_dim, config.view_transformer_n_heads
        self.windowed = config.view_transformer_use_swin_attn
        self.shift = WINDOW // 2 if index % 2 else 0
        self.multihead_attn = CrossAttention(width, config.latent_dim, heads, config.qk_norm, config)
        self.query_norm = make_norm(config.norm_type, width, LAYER_EPS)
        self.kv_norm = make_norm(config.norm_type, config.latent_dim, LAYER_EPS)
        self.self_attn: SelfAttention | None = None
        if config.view_transformer_include_self_attn:
            self.self_attn = SelfAttention(width, heads, config.qk_norm, config)
            self.self_attn_norm = make_norm(config.norm_type, width, LAYER_EPS)
        self.ffn = FeedForward(width, config.view_transformer_ffn_hidden_dim, config)
        self.ffn_norm = make_norm(config.norm_type, width, LAYER_EPS)

    def forward(
        self, x_BTD: Tensor, context: Tensor, grid: tuple[int, int], rotations: Rotations, key_mask_BS: Tensor | None
    ) -> Tensor:
        x_BTD = x_BTD + self.multihead_attn(self.query_norm(x_BTD), self.kv_norm(context), rotations, key_mask_BS)
        if self.self_attn is not None:
            normed = self.self_attn_norm(x_BTD)
            if self.windowed:
                x_BTD = x_BTD + self.self_attn.in_windows(normed, grid, self.shift)
            else:
                x_BTD = x_BTD + self.self_attn(normed, rotations[0])
        return x_BTD + self.ffn(self.ffn_norm(x_BTD))


class TriangleTransformer(nn.Module):
    """Self-attention layers with RoPE (or none, when positions are part of the tokens); no final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.recompute = False
        self.layers = nn.ModuleList(TriangleLayer(config) for _ in range(config.num_layers))
        self.rope_emb: TriangleRope | None = None
        if config.pe_type == "rope":
            self.rope_emb = TriangleRope(config.vertex_pe_num_freqs, config.head_dim, config.rope_double_max_freq)

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT9: Tensor,
        key_mask_BT: Tensor | None = None,
        key_lengths_B: Tensor | None = None,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """The tokens after all layers; key mask and lengths as `kernels.backends.key_padding` returns them.

        Nothing here waits for the GPU, so the stage compiles into one graph and can be captured in a CUDA graph.
        """
        rotation = None if self.rope_emb is None else self.rope_emb(positions_BT9)
        for layer in self.layers:
            if before_layer is not None:
                before_layer()
            x_BTD = run_layer(layer, self.recompute, x_BTD, rotation, key_mask_BT, key_lengths_B)
        return x_BTD

    def set_attention_backend(self, backend: str) -> None:
        """See `renderformer.model.protocol.Model.set_attention_backend`."""
        check_backend(backend)
        for layer in self.layers:
            assert isinstance(layer, TriangleLayer)
            layer.multihead_attn.backend = backend


class ViewDecoder(nn.Module):
    """The layers of the view stage with their shared RoPE; no final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.recompute = False
        self.layers = nn.ModuleList(ViewLayer(config, i) for i in range(config.view_transformer_n_layers))
        self.rope_emb: TriangleRope | None = None
        if config.pe_type == "rope":
            freqs, head_dim = config.view_rope_num_freqs, config.view_head_dim
            self.rope_emb = TriangleRope(freqs, head_dim, config.rope_double_max_freq)

    def forward(
        self,
        x_MTD: Tensor,
        context: Tensor,
        grid: tuple[int, int],
        ray_positions: Tensor,
        positions_MS9: Tensor,
        mask_BS: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> list[Tensor]:
        """The image tokens after each layer.

        Args:
            context: (B, S, D) triangle tokens, or (M, S, D) where they differ between the views of a scene.
            ray_positions: (M, 1, 9) or (M, T, 9) positions of the image tokens.
            positions_MS9: positions of the triangle tokens.
        """
        rotations: Rotations = (None, None)
        if self.rope_emb is not None:
            rotations = self.rope_emb(ray_positions), self.rope_emb(positions_MS9)
        views = x_MTD.shape[0] // mask_BS.shape[0]
        key_mask_MS = None if bool(mask_BS.all()) else mask_BS.repeat_interleave(views, dim=0)
        features = []
        for layer in self.layers:
            if before_layer is not None:
                before_layer()
            x_MTD = run_layer(layer, self.recompute, x_MTD, context, grid, rotations, key_mask_MS)
            features.append(x_MTD)
        return features


def to_windows(image_BhwD: Tensor) -> Tensor:
    """(B, h, w, D) -> (B W, 64, D), the windows of one image side by side."""
    tiles = image_BhwD.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW))
    return tiles.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def from_windows(windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows`."""
    tiles = windows.unflatten(1, (WINDOW, WINDOW)).unflatten(0, (-1, grid[0] // WINDOW, grid[1] // WINDOW))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shifted_window_mask(grid: tuple[int, int], shift: int, device: torch.device) -> Tensor:
    """(W, 64, 64) bool, False for the pairs in a window that rolling brings together from opposite borders."""

    def regions(size: int) -> Tensor:
        index = torch.arange(size, device=device)
        return (index >= size - WINDOW).long() + (index >= size - shift).long()

    region_hw = 3 * regions(grid[0])[:, None] + regions(grid[1])
    region_WT = to_windows(region_hw[None, :, :, None]).squeeze(-1)
    return region_WT[:, :, None] == region_WT[:, None, :]


class Network(nn.Module):
    """The part of `renderformer.model.protocol.Model` that both models share."""

    tri_token: nn.Parameter
    transformer: TriangleTransformer
    view_transformer: nn.Module

    @property
    def device(self) -> torch.device:
        return self.tri_token.device

    def set_attention_backend(self, backend: str) -> None:
        """See `Model`."""
        self.transformer.set_attention_backend(backend)

    def set_recompute(self, on: bool) -> None:
        """See `Model`."""
        layers = self.view_transformer.transformer
        assert isinstance(layers, ViewDecoder)
        self.transformer.recompute = layers.recompute = on
