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
from pathlib import Path
from typing import Any

# A kernel that was decorated for the interpreter cannot be compiled.
os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from renderformer.kernels import triton_kernels as kernels
from renderformer.kernels.quantise import PAIRS_AT_ONCE
from renderformer.kernels.sage import GLUON_TILES, Tiles, gluon_constants, kernel_constants

BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# Integer arguments that are multiples of 16 in practice: strides of the layouts we make, padded lengths.
ALIGNED = {f"{tensor}_{axis}" for tensor in "qkvo" for axis in "sbht"} | {"q_padded", "k_padded"}
FLOATS = {"factor", "q_eps", "k_eps", "largest"}


def compile_kernel(name: str, arch: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Instructions, registers, spills and shared memory of one kernel."""
    if name == "hopper":
        return {"kernel": name, "arch": arch, "settings": settings} | inspect(compile_hopper(arch, settings))
    pointers, constants, options = arguments(name, settings)
    function = getattr(kernels, name)
    signature: dict[str, str] = {}
    for argument in function.arg_names:
        if argument in constants:
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
    source = ASTSource(function, signature, constants | dict.fromkeys(ones, 1), attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    return {"kernel": name, "arch": arch, "settings": settings} | inspect(compiled)


def compile_hopper(arch: int, settings: dict[str, Any]) -> Any:
    """The Gluon main loop; `ones` are the integers that are 1 at launch and so constants."""
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    from renderformer.kernels import hopper

    settings = {"D": 128, "fp8": False, "lengths": False, "lse": False, "ones": []} | settings
    width, keys = settings["D"], GLUON_TILES.keys
    constants: dict[str, Any] = gluon_constants(width, GLUON_TILES)
    constants |= {"HAS_LENGTHS": settings["lengths"], "WITH_LSE": settings["lse"], "o_d": 1}
    constants |= dict.fromkeys(settings["ones"], 1)
    eight = "fp8e4nv" if settings["fp8"] else "i8"
    types = dict.fromkeys(("Q_SCALE", "K_SCALE", "V_SCALE", "LSE"), "*fp32") | {"OUT": "*bf16", "LENGTHS": "*i32"}
    pointers = set(types)
    for name, kind, box in (("q", eight, [64, width]), ("k", eight, [keys, width]), ("v", "fp8e4nv", [width, keys])):
        types[f"{name}_desc"] = f"tensordesc<{kind}{box},{gl.NVMMASharedLayout.get_default_for(box, gl.int8)}>"
    types |= dict.fromkeys(constants, "constexpr")
    names = hopper.attend.arg_names
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(names)
        if argument in (pointers | ALIGNED) - constants.keys()
    }
    source = GluonASTSource(hopper.attend, {x: types.get(x, "i32") for x in names}, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4})


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
        constants = kernel_constants(width, settings["pv"], tiles, settings["fp8"])
        constants |= {"CAUSAL": settings.get("causal", False), "HAS_LENGTHS": False, "WITH_LSE": False}
        return pointers, constants, {"num_warps": tiles.warps, "num_stages": tiles.stages}
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
        path, assembly = Path(folder) / "kernel.cubin", Path(folder) / "kernel.ptx"
        assembly.write_text(compiled.asm["ptx"])
        path.write_bytes(compiled.asm["cubin"])
        code = subprocess.run(
            [BINARIES / "nvdisasm", "-c", path], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
        usage = subprocess.run([BINARIES / "cuobjdump", "-res-usage", path], capture_output=True, text=True, check=True)
        # ptxas says on the side when it waits for every single product of a warpgroup.
        gpu = re.findall(r"^\.target (\w+)", compiled.asm["ptx"], re.MULTILINE)[0]
        notes = ""
        if gpu == "sm_90a":
            command = [BINARIES / "ptxas", "-v", f"--gpu-name={gpu}", "--regAllocOptLevel=2", assembly]
            notes = subprocess.run(
                [*command, "-o", Path(folder) / "again.cubin"], capture_output=True, text=True, check=True
            ).stderr
    order = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.x]+)", code, re.MULTILINE)
    names = Counter(order)
    spills = sum(count for name, count in names.items() if name.split(".")[0] in ("LDL", "STL"))
    figures = dict(re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", usage.stdout + usage.stderr))
    return {
        "instructions": dict(names),
        "registers": int(figures["REG"]),
        "spills": int(figures["LOCAL"]) + spills,
        "shared": compiled.metadata.shared,
        "serialised": "serialized" in notes,
        "overlaps": overlaps(order),
        "overwritten": overwritten(code),
    }


def overlaps(order: list[str]) -> list[tuple[int, int]]:
    """For every wait of a warpgroup: products under way, exponentials between the start of the last and the wait."""
    found = []
    products = exponentials = 0
    for name in order:
        if name == "WARPGROUP.ARRIVE":
            products, exponentials = products + 1, 0
        elif name == "MUFU.EX2":
            exponentials += 1
        elif name.startswith("WARPGROUP.DEPBAR"):
            found.append((products, exponentials))
            products = exponentials = 0
    return found


def overwritten(code: str) -> list[str]:
    """Instructions that write to registers from which a product of a warpgroup under way may still read."""
    found = []
    reading: set[int] = set()
    for name, operands in re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(\S+) ?([^;]*);", code, re.MULTILINE):
        registers = [int(x) for x in re.findall(r"\bR(\d+)\b", operands)]
        product = re.match(r"R\d+, R(\d+), gdesc", operands)
        if name.startswith("WARPGROUP.DEPBAR"):
            reading = set()
        elif product:
            reading |= set(range(int(product[1]), int(product[1]) + 4))
        elif re.match(r"R\d+", operands) and "GMMA" not in name:
            size = 4 if ".128" in name else 2 if re.search(r"\.64|WIDE|CS2R", name) else 1
            if reading & set(range(registers[0], registers[0] + size)):
                found.append(f"{name} {operands}")
    return found


def main() -> None:
    for name, arch, settings in json.loads(sys.argv[1]):
        try:
            line = compile_kernel(name, arch, settings)
        except Exception as error:
            line = {"kernel": name, "arch": arch, "settings": settings, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line), flush=True)  # noqa: T201 - the answer to the test


if __name__ == "__main__":
    main()
