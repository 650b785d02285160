"""Scaled dot-product attention with a choice of backend.

Shape suffixes: B batch, H heads, T query tokens, S key tokens, D head width.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

BACKENDS = ("auto", "sdpa", "sage")


def attention(
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    v_BHSD: Tensor,
    *,
    key_mask_BS: Tensor | None = None,
    pair_mask_BTS: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Softmax(q k^T / sqrt(D)) v, not causal.

    Args:
        q_BHTD, k_BHSD, v_BHSD: queries, keys and values of one floating dtype.
        key_mask_BS: bool, True where a key is real; a padded key gets no weight. None: every key is real.
        pair_mask_BTS: bool, True where a query may see a key (shifted windows). None: all pairs.
        backend: "auto" (now always "sdpa"), "sdpa" (torch), or "sage" (quantised; not built yet).

    Returns:
        (B, H, T, D), the dtype of v.

    Raises:
        NotImplementedError: backend "sage".
        ValueError: an unknown backend.
    """
    if backend == "sage":
        raise NotImplementedError('attention backend "sage" is not available in this version; use "auto" or "sdpa"')
    if backend not in BACKENDS:
        raise ValueError(f"attention backend {backend!r} is unknown; use one of {', '.join(BACKENDS)}")
    mask = None if pair_mask_BTS is None else pair_mask_BTS[:, None]
    if key_mask_BS is not None:
        keys_B11S = key_mask_BS[:, None, None, :]
        mask = keys_B11S if mask is None else mask & keys_B11S
    return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask)
