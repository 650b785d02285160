"""Scaled dot-product attention with a choice of backend.

Shape suffixes: B batch, H heads, T query tokens, S key tokens, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BACKENDS = ("auto", "sdpa", "sage")
# Fewest keys from which "auto" takes the quantised kernels, by compute capability. An entry needs a measurement
# (benchmarks/attention.py: right on that GPU, and faster than SDPA with the prologue). None has been made yet, so
# "auto" is SDPA everywhere.
SAGE_FROM_KEYS: dict[tuple[int, int], int] = {}


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
        backend: "sdpa" (torch), "sage" (quantised, see `sage.sageattn`), or "auto": sage for self-attention in half
            precision without gradients or pair mask, on GPUs and from lengths where it was measured to win
            (`SAGE_FROM_KEYS`), else sdpa.

    Returns:
        (B, H, T, D), the dtype of v.

    Raises:
        ValueError: an unknown backend, or what "sage" does not do, named; it never falls back when it was asked for.
    """
    if backend not in BACKENDS:
        raise ValueError(f"attention backend {backend!r} is unknown; use one of {', '.join(BACKENDS)}")
    if backend == "sage":
        return _sage(q_BHTD, k_BHSD, v_BHSD, key_mask_BS, pair_mask_BTS)
    if backend == "auto" and pair_mask_BTS is None and _sage_wins(q_BHTD, k_BHSD, v_BHSD):
        lengths_B = None if key_mask_BS is None else prefix_lengths(key_mask_BS)
        if key_mask_BS is None or lengths_B is not None:
            return _sage(q_BHTD, k_BHSD, v_BHSD, key_mask_BS, None)
    mask = None if pair_mask_BTS is None else pair_mask_BTS[:, None]
    if key_mask_BS is not None:
        keys_B11S = key_mask_BS[:, None, None, :]
        mask = keys_B11S if mask is None else mask & keys_B11S
    return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask)


def backend_report() -> dict[str, str]:
    """What `backend="auto"` takes in the triangle stage, and why, for each device of this machine."""
    from renderformer.kernels.sage import unsupported

    report = {"cpu": "sdpa"}
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        reason = unsupported(device)
        threshold = SAGE_FROM_KEYS.get(torch.cuda.get_device_capability(device))
        if reason is not None:
            report[str(device)] = f"sdpa (no sage: {reason})"
        elif threshold is None:
            report[str(device)] = "sdpa (sage was not measured on this GPU; it can be named)"
        else:
            report[str(device)] = f"sage from {threshold} keys in fp16 or bf16, else sdpa"
    return report


def prefix_lengths(mask_BS: Tensor) -> Tensor | None:
    """How many keys of each sample are real, (B,) int32; None if real keys follow padding. Waits for the GPU."""
    lengths_B = mask_BS.sum(dim=1, dtype=torch.int32)
    prefix_BS = torch.arange(mask_BS.shape[1], device=mask_BS.device) < lengths_B[:, None]
    return lengths_B if bool((prefix_BS == mask_BS).all()) else None


def _sage_wins(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> bool:
    """Whether "auto" may take the quantised kernels for these tensors, the mask aside."""
    # Cheap tests first: most calls end here.
    if not SAGE_FROM_KEYS or q_BHTD.device.type != "cuda" or q_BHTD.shape[2] != k_BHSD.shape[2]:
        return False
    from renderformer.kernels.quantise import HEAD_DIMS
    from renderformer.kernels.sage import DTYPES, unsupported

    threshold = SAGE_FROM_KEYS.get(torch.cuda.get_device_capability(q_BHTD.device))
    return (
        threshold is not None
        and k_BHSD.shape[2] >= threshold
        and q_BHTD.shape[-1] in HEAD_DIMS
        and q_BHTD.dtype in DTYPES
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in (q_BHTD, k_BHSD, v_BHSD)))
        and unsupported(q_BHTD.device) is None
    )


def _sage(
    q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, key_mask_BS: Tensor | None, pair_mask_BTS: Tensor | None
) -> Tensor:
    from renderformer.kernels.sage import sageattn

    if pair_mask_BTS is not None:
        raise ValueError(
            f'attention backend "sage" takes no pair mask (got one of shape {tuple(pair_mask_BTS.shape)});'
            ' use "auto" or "sdpa"'
        )
    lengths_B = None
    if key_mask_BS is not None:
        lengths_B = prefix_lengths(key_mask_BS)
        if lengths_B is None:
            raise ValueError('attention backend "sage" takes padding at the end only, the key mask has it elsewhere')
    out = sageattn(q_BHTD, k_BHSD, v_BHSD, kv_lengths=lengths_B)
    assert isinstance(out, Tensor)
    return out
