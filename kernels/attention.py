"""Scaled dot-product attention with a choice of backend.

Shape suffixes: B batch, H heads, T query tokens, S key tokens, D head width, W = H D.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from renderformer.kernels.quantise import HEAD_DIMS, PLAIN, Projection, split

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
    key_lengths_B: Tensor | None = None,
    pair_mask_BTS: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Softmax(q k^T / sqrt(D)) v, not causal.

    Args:
        q_BHTD, k_BHSD, v_BHSD: queries, keys and values of one floating dtype.
        key_mask_BS: bool, True where a key is real; a padded key gets no weight. None: every key is real. To find out
            whether padding stands at the end only, "sage" waits for the GPU; `key_padding` does so once for all layers.
        key_lengths_B: in place of a mask, how many keys of each sample are real, (B,) int32; padding follows them.
        pair_mask_BTS: bool, True where a query may see a key (shifted windows). None: all pairs.
        backend: "sdpa" (torch), "sage" (quantised, see `sage.sageattn`), or "auto": sage for self-attention in half
            precision without gradients or pair mask, on GPUs and from lengths where it was measured to win
            (`SAGE_FROM_KEYS`), else sdpa.

    Returns:
        (B, H, T, D), the dtype of v.

    Raises:
        ValueError: an unknown backend, both kinds of key mask, or what "sage" does not do, named; it never falls back
            when it was asked for.
    """
    check_backend(backend)
    if key_mask_BS is not None and key_lengths_B is not None:
        raise ValueError("key_mask_BS and key_lengths_B say the same in two ways; give one of them")
    if backend == "sage" and pair_mask_BTS is not None:
        raise ValueError(
            f'attention backend "sage" takes no pair mask (got one of shape {tuple(pair_mask_BTS.shape)});'
            ' use "auto" or "sdpa"'
        )
    wins = backend == "auto" and pair_mask_BTS is None and _sage_wins(q_BHTD, k_BHSD, v_BHSD)
    if backend == "sage" or wins:
        holes_BS, lengths_B = (None, key_lengths_B) if key_mask_BS is None else key_padding(key_mask_BS)
        if holes_BS is None:
            return _sage(q_BHTD, k_BHSD, v_BHSD, lengths_B)
        if backend == "sage":
            raise ValueError('attention backend "sage" takes padding at the end only, the key mask has it elsewhere')
    if key_lengths_B is not None:
        key_mask_BS = torch.arange(k_BHSD.shape[2], device=k_BHSD.device) < key_lengths_B[:, None]
    mask = None if pair_mask_BTS is None else pair_mask_BTS[:, None]
    if key_mask_BS is not None:
        keys_B11S = key_mask_BS[:, None, None, :]
        mask = keys_B11S if mask is None else mask & keys_B11S
    return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask)


def projected_attention(
    q_BTW: Tensor,
    k_BTW: Tensor,
    v_BTW: Tensor,
    heads: int,
    *,
    q_projection: Projection = PLAIN,
    k_projection: Projection = PLAIN,
    key_mask_BS: Tensor | None = None,
    key_lengths_B: Tensor | None = None,
    pair_mask_BTS: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | None:
    """Self-attention from projections, with norm, heads and rotation inside: `attention` where a backend fuses them.

    Args:
        q_BTW, k_BTW, v_BTW: projections of one dtype, before norm and rotation; chunks of one need no copy.
        q_projection, k_projection: norm and rotation of the queries and keys.
        The others: as of `attention`.

    Returns:
        (B, T, W); None where nothing is fused (SDPA, gradients, masks that are no lengths, and whatever `attention`
        then refuses): norm, split and rotate, and call `attention`.
    """
    check_backend(backend)
    parameters = [x for p in (q_projection, k_projection) for x in (p.weight, p.bias) if x is not None]
    if backend == "sdpa" or key_mask_BS is not None or pair_mask_BTS is not None:
        return None
    if _needs_gradients(q_BTW, k_BTW, v_BTW, *parameters) or q_BTW.shape[-1] // heads not in HEAD_DIMS:
        return None
    from renderformer.kernels.sage import DTYPES, sageattn_projected

    if q_BTW.dtype not in DTYPES:
        return None
    if backend == "auto" and not _sage_wins(split(q_BTW, heads), split(k_BTW, heads), split(v_BTW, heads)):
        return None
    return sageattn_projected(
        q_BTW, k_BTW, v_BTW, heads, q_projection=q_projection, k_projection=k_projection, kv_lengths=key_lengths_B
    )


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is not one of `BACKENDS`."""
    if backend not in BACKENDS:
        raise ValueError(f"attention backend {backend!r} is unknown; use one of {', '.join(BACKENDS)}")


def key_padding(mask_BS: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What to pass as key_mask_BS and key_lengths_B for a mask. Waits for the GPU, so call it once for all layers.

    Returns:
        Two times None where every key is real; the lengths, (B,) int32, where padding stands at the end; else the mask.
    """
    lengths_B = mask_BS.sum(dim=1, dtype=torch.int32)
    prefix_BS = torch.arange(mask_BS.shape[1], device=mask_BS.device) < lengths_B[:, None]
    whole, at_end = torch.stack([mask_BS.all(), (prefix_BS == mask_BS).all()]).tolist()
    if whole:
        return None, None
    return (None, lengths_B) if at_end else (mask_BS, None)


def sage_refusal(device: torch.device, dtype: torch.dtype, head_dim: int | None = None) -> str | None:
    """Why `backend="sage"` cannot run on a device in a precision (and with heads of a width), or None."""
    from renderformer.kernels.sage import DTYPES, unsupported

    reason = unsupported(device)
    if reason is None and dtype not in DTYPES:
        reason = f"it takes fp16 or bf16, not {str(dtype).removeprefix('torch.')}"
    if reason is None and head_dim is not None and head_dim not in HEAD_DIMS:
        reason = f"head_dim {head_dim} is not one of {', '.join(map(str, HEAD_DIMS))}"
    return reason


def auto_backend(device: torch.device, dtype: torch.dtype) -> str:
    """What `backend="auto"` takes for self-attention on a device in a precision, and why, in words."""
    reason = sage_refusal(device, dtype)
    if reason is not None:
        return f"sdpa (no sage: {reason})"
    threshold = _threshold(device)
    if threshold is None:
        return "sdpa (sage was not measured to win on this GPU; it can be named)"
    return f"sage from {threshold} keys on, below that sdpa"


@torch.compiler.assume_constant_result
def _threshold(device: torch.device) -> int | None:
    """Fewest keys for which "auto" takes sage on a device; None: it never does. A compiler need not look inside."""
    from renderformer.kernels.sage import unsupported

    if device.type != "cuda" or unsupported(device) is not None:
        return None
    return SAGE_FROM_KEYS.get(torch.cuda.get_device_capability(device))


def _needs_gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def _sage_wins(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> bool:
    """Whether "auto" may take the quantised kernels for these tensors, the mask aside."""
    # Cheap tests first: most calls end here.
    if not SAGE_FROM_KEYS or q_BHTD.shape[2] != k_BHSD.shape[2]:
        return False
    from renderformer.kernels.sage import DTYPES

    threshold = _threshold(q_BHTD.device)
    return (
        threshold is not None
        and k_BHSD.shape[2] >= threshold
        and q_BHTD.shape[-1] in HEAD_DIMS
        and q_BHTD.dtype in DTYPES
        and not _needs_gradients(q_BHTD, k_BHSD, v_BHSD)
    )


def _sage(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, lengths_B: Tensor | None) -> Tensor:
    from renderformer.kernels.sage import sageattn

    out = sageattn(q_BHTD, k_BHSD, v_BHSD, kv_lengths=lengths_B)
    assert isinstance(out, Tensor)
    return out
