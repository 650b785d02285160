"""Compile kernels for GPUs that are not there, and count what the machine code holds; run by test_compiled_kernels.py.

python tests/kernels/compile_kernels.py '[["attend", 90, {"D": 128}], …]'    # prints one JSON line a kernel
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A kernel that was decorated for the interpreter cannot be compiled.
os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from renderformer.kernels.sage import main_loop, prologue
from renderformer.kernels.sage.launch import Tiles, constants
from renderformer.kernels.sage.quantise import PAIRS_AT_ONCE

BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# Integer arguments that are multiples of 16 in practice: strides of the layouts we make, padded lengths.
ALIGNED = {f"{tensor}_{axis}" for tensor in "qkvo" for axis in "sbht"} | {"q_padded", "k_padded"}
FLOATS = {"factor", "q_eps", "k_eps", "largest"}


def compile_kernel(name: str, arch: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Instructions, registers, spills and shared memory of one kernel."""
    pointers, fixed, options = arguments(name, settings)
    function = getattr(main_loop if name in ("attend", "combine") else prologue, name)
    signature: dict[str, str] = {}
    for argument in function.arg_names:
        if argument in fixed:
            signature[argument] = "constexpr"
        elif argument in pointers:
            signature[argument] = pointers[argument]
        else:
            signature[argument] = "fp32" if argument in FLOATS else "i32"
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(function.arg_names)
        if argument in pointers or argument in ALIGNED
    }
    # The innermost stride of a layout is 1, which the launcher turns into a constant.
    ones = {x for x in ("q_d", "k_d", "v_d", "o_d") if x in signature}
    signature |= dict.fromkeys(ones, "constexpr")
    source = ASTSource(function, signature, fixed | dict.fromkeys(ones, 1), attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    return inspect(compiled)


def arguments(name: str, settings: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], dict[str, int]]:
    """Pointer types, compile-time constants and options."""
    settings = {"D": 128, "pv": "fp32+fp16", "fp8": False} | settings
    width = settings["D"]
    padded = 1 << (width - 1).bit_length()
    eight = "*fp8e4nv" if settings["fp8"] else "*i8"
    v_type = "*fp16" if settings["pv"] == "fp16" else "*fp8e4nv"
    norm = settings.get("norm", False)
    flags = {"NORM": norm, "BIASED": False, "ROPE": norm, "HAS_LENGTHS": True, "SMOOTH": True, "Q_NORM": norm}
    shape = {"D": width, "WIDTH": padded}
    fp32 = ("K_SUM", "V_MAX", "Q_ROWS", "K_ROWS", "SCALE", "LSE", "PART", "PART_LSE")
    fp32 += tuple(side + name for side in ("", "Q_") for name in ("WEIGHT", "BIAS", "COS", "SIN"))
    pointers = dict.fromkeys(fp32, "*fp32") | {"LENGTHS": "*i32", "OUT": "*bf16"}
    pointers |= dict.fromkeys(("Q", "K", "V"), "*bf16") | dict.fromkeys(("Q_OUT", "K_OUT"), eight)
    pointers |= dict.fromkeys(("Q_SCALE", "K_SCALE", "V_SCALE"), "*fp32") | {"V_OUT": v_type}
    if name == "attend":
        tiles = Tiles(*settings.get("tiles", (128, 64, 8, 3)))
        pointers |= {"Q": eight, "K": eight, "V": v_type}
        fixed = constants(width, settings["pv"], tiles, settings["fp8"])
        fixed |= {"CAUSAL": settings.get("causal", False), "HAS_LENGTHS": False, "WITH_LSE": False}
        return pointers, fixed, {"num_warps": tiles.warps, "num_stages": tiles.stages}
    # Six or eight heads in the released models.
    heads = settings.get("heads", 8)
    pairs = 1 << (heads * width // 2 - 1).bit_length()
    sizes = {"HEADS": heads, "PAIRS": pairs, "BLOCK": PAIRS_AT_ONCE // pairs}
    switches: dict[str, Any] = {
        "statistics": {"D": width, "Q_CENTRE": settings.get("centre", False), "CENTRE": settings.get("centre", False)}
        | {f"{side}_{key}": size for side in "QKV" for key, size in sizes.items()} | flags,
        "quantise": {"BLOCK": 64, "Q_GROUP": 32, "K_GROUP": 64, "PARTS": 64, "FP8": settings["fp8"]}
        | {"HALF": settings["pv"] == "fp16", "Q_BIASED": False, "Q_ROPE": norm} | flags | shape,
        "combine": {"BLOCK": 16, "WITH_LSE": True} | shape,
    }  # fmt: skip
    options = {"num_warps": 4 if name == "combine" else 8}
    return pointers, switches[name], options | ({"maxnreg": 128} if name == "quantise" else {})


def inspect(compiled: Any) -> dict[str, Any]:
    """What the tools of the Triton package say about a compiled kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        code = subprocess.run(
            [BINARIES / "nvdisasm", "-c", path], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
        usage = subprocess.run([BINARIES / "cuobjdump", "-res-usage", path], capture_output=True, text=True, check=True)
    names = Counter(instructions(code))
    spills = sum(count for name, count in names.items() if name.split(".")[0] in ("LDL", "STL"))
    figures = dict(re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", usage.stdout + usage.stderr))
    return {
        "instructions": dict(names),
        "registers": int(figures["REG"]),
        "spills": int(figures["LOCAL"]) + spills,
        "shared": compiled.metadata.shared,
        "code": code,
    }


def instructions(code: str) -> list[str]:
    """Names of the instructions of disassembled code, in order."""
    return re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.x]+)", code, re.MULTILINE)


def answer(compile_one: Callable[[str, int, dict[str, Any]], dict[str, Any]]) -> None:
    """Compile the kernels of the first argument and print a JSON line for each."""
    for name, arch, settings in json.loads(sys.argv[1]):
        line = {"kernel": name, "arch": arch, "settings": settings}
        try:
            result = compile_one(name, arch, settings)
            result.pop("code", None)
            line |= result
        except Exception as error:
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)  # noqa: T201 - the answer to the test


if __name__ == "__main__":
    answer(compile_kernel)
