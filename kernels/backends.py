"""Scaled dot-product attention with a choice of backend.

`REGISTRY` has one entry per backend; `attention`, "auto", the error messages and `renderformer info --device` read it.

Shape suffixes: B batch, H heads, T query tokens, S key tokens, D head width, W = H D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from renderformer.kernels.sage.device import DTYPES, HEAD_DIMS, unsupported
from renderformer.kernels.sage.quantise import PLAIN, Projection


@dataclass(frozen=True, eq=False)
class Call:
    """The properties of a call that decide which backend runs it.

    Attributes:
        device, dtype: of queries, keys and values.
        head_dim, queries, keys: D, T and S; None: not known yet.
        gradients: whether any are needed.
        key_mask, key_lengths, pair_mask: (B, S), (B,) and (B, T, S), see `attention`.
    """

    device: torch.device
    dtype: torch.dtype
    head_dim: int | None = None
    queries: int | None = None
    keys: int | None = None
    gradients: bool = False
    key_mask: Tensor | None = None
    key_lengths: Tensor | None = None
    pair_mask: Tensor | None = None

    @property
    def has_holes(self) -> bool:
        """Whether the key mask has padding before a real key. Reading the mask waits for the GPU."""
        return self.key_mask is not None and self._padding[0] is not None

    @property
    def lengths(self) -> Tensor | None:
        """Number of real keys of each sample, (B,) int32, given or from a mask without holes; None: all are real."""
        return self.key_lengths if self.key_mask is None else self._padding[1]

    @cached_property
    def _padding(self) -> tuple[Tensor | None, Tensor | None]:
        assert self.key_mask is not None
        return key_padding(self.key_mask)


@dataclass(frozen=True)
class Backend:
    """One way to compute attention.

    Attributes:
        refusal: the reason why it cannot run a call; "" if it can.
        priority: "auto" takes the backend of the highest priority that is fast for the call and can run it.
        attend: (q_BHTD, k_BHSD, v_BHSD, call) to (B, H, T, D).
        attend_projected: the same from projections, with norm and rotation fused, without gradients: (q_BTW, k_BTW,
            v_BTW, heads, q_projection, k_projection, call) to (B, T, W). None: not supported.
        fast_from_keys: the number of keys from which "auto" may take it, by compute capability. An entry needs a
            measurement (benchmarks/attention.py: right on that GPU, and faster than SDPA with the prologue included).
            None: any device, any length.
    """

    refusal: Callable[[Call], str]
    priority: int
    attend: Callable[[Tensor, Tensor, Tensor, Call], Tensor]
    attend_projected: Callable[[Tensor, Tensor, Tensor, int, Projection, Projection, Call], Tensor] | None = None
    fast_from_keys: dict[tuple[int, int], int] | None = field(default_factory=dict)

    def is_fast(self, call: Call) -> bool:
        """Whether it was measured to be fast on this GPU: self-attention of so many keys, without gradients."""
        if self.fast_from_keys is None:
            return True
        # Cheap tests first: most calls end here.
        if not self.fast_from_keys or call.gradients or call.keys is None or call.queries != call.keys:
            return False
        threshold = self.threshold(call.device)
        return threshold is not None and call.keys >= threshold

    def threshold(self, device: torch.device) -> int | None:
        """The entry of `fast_from_keys` for a device."""
        if not self.fast_from_keys or device.type != "cuda":
            return None
        return self.fast_from_keys.get(_capability(device))


def _sage_refusal(call: Call) -> str:
    reason = _sage_device_refusal(call.device)
    if reason:
        return reason
    if call.dtype not in DTYPES:
        return f"it takes fp16 or bf16, not {str(call.dtype).removeprefix('torch.')}"
    if call.head_dim is not None and call.head_dim not in HEAD_DIMS:
        return f"head_dim {call.head_dim} is not one of {', '.join(map(str, HEAD_DIMS))}"
    if call.pair_mask is not None:
        return f"it takes no pair mask (got one of shape {tuple(call.pair_mask.shape)})"
    if call.has_holes:
        return "it takes padding at the end only, the key mask has it elsewhere"
    return ""


def _sage(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, call: Call) -> Tensor:
    from renderformer.kernels.sage.operator import sageattn

    out_BHTD = sageattn(q_BHTD, k_BHSD, v_BHSD, kv_lengths=call.lengths)
    assert isinstance(out_BHTD, Tensor)
    return out_BHTD


def _sage_projected(
    q_BTW: Tensor, k_BTW: Tensor, v_BTW: Tensor, heads: int, q_projection: Projection, k_projection: Projection,
    call: Call,
) -> Tensor:  # fmt: skip
    from renderformer.kernels.sage.operator import sageattn_projected

    return sageattn_projected(
        q_BTW, k_BTW, v_BTW, heads, q_projection=q_projection, k_projection=k_projection,
        kv_lengths=call.lengths,
    )  # fmt: skip


def _sdpa(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, call: Call) -> Tensor:
    key_mask_BS = call.key_mask
    if call.key_lengths is not None:
        key_mask_BS = torch.arange(k_BHSD.shape[2], device=k_BHSD.device) < call.key_lengths[:, None]
    mask = None if call.pair_mask is None else call.pair_mask[:, None]
    if key_mask_BS is not None:
        keys_B11S = key_mask_BS[:, None, None, :]
        mask = keys_B11S if mask is None else mask & keys_B11S
    return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask)


REGISTRY = {
    "sdpa": Backend(lambda _: "", 0, _sdpa, fast_from_keys=None),
    # No speed was measured, so fast_from_keys is empty and "auto" does not take it.
    "sage": Backend(_sage_refusal, 1, _sage, _sage_projected, fast_from_keys={}),
}
# Names that `attention` takes.
BACKENDS = ("auto", *REGISTRY)


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
        key_mask_BS: bool, True where a key is real; a padded key gets no weight. None: every key is real. "sage" waits
            for the GPU to check that padding stands at the end only; `key_padding` does so once for all layers.
        key_lengths_B: in place of a mask, the number of real keys of each sample, (B,) int32; padding follows them.
        pair_mask_BTS: bool, True where a query may see a key (shifted windows). None: all pairs.
        backend: "sdpa" (torch, runs every call), "sage" (quantised, see `sageattn`), or "auto": the backend of the
            highest priority that was measured to be faster on this GPU and can run the call.

    Returns:
        (B, H, T, D), the dtype of v.

    Raises:
        ValueError: the backend is unknown or cannot run the call (a named backend never falls back), or both a mask and
            lengths are given.
    """
    call = Call(
        q_BHTD.device, q_BHTD.dtype, q_BHTD.shape[-1], q_BHTD.shape[2], k_BHSD.shape[2],
        _need_gradients(q_BHTD, k_BHSD, v_BHSD), key_mask_BS, key_lengths_B, pair_mask_BTS,
    )  # fmt: skip
    return choose(backend, call).attend(q_BHTD, k_BHSD, v_BHSD, call)


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
    """Self-attention from projections, with norm, head split and rotation fused into it.

    Args:
        q_BTW, k_BTW, v_BTW: projections of one dtype, before norm and rotation; chunks of one tensor need no copy.
        q_projection, k_projection: norm and rotation of the queries and keys.
        The others: see `attention`.

    Returns:
        (B, T, W). None if the backend does not support it or gradients are needed; then norm, split and rotate, and
        call `attention`.

    Raises:
        ValueError: as in `attention`.
    """
    parameters = [x for p in (q_projection, k_projection) for x in (p.weight, p.bias) if x is not None]
    call = Call(
        q_BTW.device, q_BTW.dtype, q_BTW.shape[-1] // heads, q_BTW.shape[1], k_BTW.shape[1],
        _need_gradients(q_BTW, k_BTW, v_BTW, *parameters), key_mask_BS, key_lengths_B, pair_mask_BTS,
    )  # fmt: skip
    fused = choose(backend, call).attend_projected
    if fused is None or call.gradients:
        return None
    return fused(q_BTW, k_BTW, v_BTW, heads, q_projection, k_projection, call)


def choose(backend: str, call: Call) -> Backend:
    """The backend that runs a call; raises ValueError as `attention` does."""
    check_backend(backend)
    if call.key_mask is not None and call.key_lengths is not None:
        raise ValueError("key_mask_BS and key_lengths_B are both given; give one of them")
    if backend != "auto":
        reason = REGISTRY[backend].refusal(call)
        if reason:
            raise ValueError(f'attention backend "{backend}" cannot run this: {reason}; use "auto" or "sdpa"')
        return REGISTRY[backend]
    # SDPA runs every call.
    return next(entry for _, entry in by_priority() if entry.is_fast(call) and not entry.refusal(call))


def by_priority() -> list[tuple[str, Backend]]:
    """Names and backends in the order in which "auto" tries them."""
    return sorted(REGISTRY.items(), key=lambda item: -item[1].priority)


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is not one of `BACKENDS`."""
    if backend not in BACKENDS:
        raise ValueError(f"attention backend {backend!r} is unknown; use one of {', '.join(BACKENDS)}")


def refusal(backend: str, device: torch.device, dtype: torch.dtype, head_dim: int | None = None) -> str:
    """Why a backend of `BACKENDS` cannot run on a device in a dtype, with heads of a width if given; "" if it can."""
    return "" if backend == "auto" else REGISTRY[backend].refusal(Call(device, dtype, head_dim))


def auto_backend(device: torch.device, dtype: torch.dtype) -> str:
    """The backend that "auto" takes for self-attention on a device in a dtype, and the reasons, for a person."""
    choices, reasons = [], []
    for name, entry in by_priority():
        reason = entry.refusal(Call(device, dtype))
        if reason:
            reasons.append(f"no {name}: {reason}")
        elif entry.fast_from_keys is None:
            choices.append(name)
            break
        elif (threshold := entry.threshold(device)) is None:
            reasons.append(f"{name} was not measured to be faster on this GPU; it can be chosen by name")
        else:
            choices.append(f"{name} from {threshold} keys on")
    return ", below that ".join(choices) + (f" ({'; '.join(reasons)})" if reasons else "")


def key_padding(mask_BS: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The simplest key_mask_BS and key_lengths_B for a mask. Waits for the GPU, so call it once for all layers.

    Returns:
        (None, None) if every key is real; (None, lengths), (B,) int32, if padding stands at the end only; else
        (mask, None).
    """
    lengths_B = mask_BS.sum(dim=1, dtype=torch.int32)
    prefix_BS = torch.arange(mask_BS.shape[1], device=mask_BS.device) < lengths_B[:, None]
    all_real, at_end = torch.stack([mask_BS.all(), (prefix_BS == mask_BS).all()]).tolist()
    if all_real:
        return None, None
    return (None, lengths_B) if at_end else (mask_BS, None)


def _sage_device_refusal(device: torch.device) -> str:
    """`unsupported` as a constant for torch.compile."""
    return unsupported(device)


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


for _constant in (_sage_device_refusal, _capability):
    # All that `torch.compiler.assume_constant_result` does, which imports the compiler: two seconds of every start.
    _constant.__dict__["_dynamo_marked_constant"] = True


def _need_gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
