"""Compile the Gluon main loop for Hopper without a GPU, and see what overlaps; run by test_compiled_hopper.py."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from compile_kernels import ALIGNED, BINARIES, answer, inspect, instructions
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource

from renderformer.kernels.experimental import hopper


def compile_hopper(_name: str, arch: int, settings: dict[str, Any]) -> dict[str, Any]:
    """What `compile_kernels.inspect` says, and what runs at the same time.

    Args:
        settings: D, fp8, lengths, lse; "ones" are the integers that are 1 at launch and so constants.
    """
    compiled = triton.compile(
        source_of({"D": 128, "fp8": False, "lengths": False, "lse": False, "ones": []} | settings),
        target=GPUTarget("cuda", arch, 32), options={"num_warps": 4},
    )  # fmt: skip
    result = inspect(compiled)
    return result | {
        "serialised": "serialized" in notes_of_ptxas(compiled.asm["ptx"]),
        "overlaps": overlaps(instructions(result["code"])),
        "overwritten": overwritten(result["code"]),
    }


def source_of(settings: dict[str, Any]) -> Any:
    """Types and constants of a launch."""
    width, keys = settings["D"], hopper.TILES.keys
    fixed: dict[str, Any] = hopper.constants(width, hopper.TILES)
    fixed |= {"HAS_LENGTHS": settings["lengths"], "WITH_LSE": settings["lse"], "o_d": 1}
    fixed |= dict.fromkeys(settings["ones"], 1)
    eight = "fp8e4nv" if settings["fp8"] else "i8"
    types = dict.fromkeys(("Q_SCALE", "K_SCALE", "V_SCALE", "LSE"), "*fp32") | {"OUT": "*bf16", "LENGTHS": "*i32"}
    pointers = set(types)
    for name, kind, box in (("q", eight, [64, width]), ("k", eight, [keys, width]), ("v", "fp8e4nv", [width, keys])):
        types[f"{name}_desc"] = f"tensordesc<{kind}{box},{gl.NVMMASharedLayout.get_default_for(box, gl.int8)}>"
    types |= dict.fromkeys(fixed, "constexpr")
    names = hopper.attend.arg_names
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(names)
        if argument in (pointers | ALIGNED) - fixed.keys()
    }
    return GluonASTSource(hopper.attend, {x: types.get(x, "i32") for x in names}, fixed, attributes)


def notes_of_ptxas(ptx: str) -> str:
    """What ptxas says about a kernel, for example that it waits for every single product of a warpgroup."""
    with tempfile.TemporaryDirectory() as folder:
        assembly = Path(folder) / "kernel.ptx"
        assembly.write_text(ptx)
        command = [BINARIES / "ptxas", "-v", "--gpu-name=sm_90a", "--regAllocOptLevel=2", assembly]
        command += ["-o", Path(folder) / "kernel.cubin"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def overlaps(order: list[str]) -> list[tuple[int, int]]:
    """For every wait of a warpgroup: products under way, exponentials between the start of the last and the wait."""
    waits = []
    products = exponentials = 0
    for name in order:
        if name == "WARPGROUP.ARRIVE":
            products, exponentials = products + 1, 0
        elif name == "MUFU.EX2":
            exponentials += 1
        elif name.startswith("WARPGROUP.DEPBAR"):
            waits.append((products, exponentials))
            products = exponentials = 0
    return waits


def overwritten(code: str) -> list[str]:
    """Instructions that write to registers from which a product of a warpgroup under way may still read."""
    writes = []
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
                writes.append(f"{name} {operands}")
    return writes


if __name__ == "__main__":
    answer(compile_hopper)
