"""Pack the original program's files into this folder, and check that unpacking gives every one of them back.

    python tests/goldens/make.py SOURCE

SOURCE is the folder that the original program wrote: checkpoints with their weights, stored arrays, and scenes.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from helpers.goldens import CHECKPOINTS, draw_weights, unpack  # noqa: E402

SEEDS = {"base_like": 101, "swin_like": 102, "base_p32": 103}
LAST = "view_transformer.out_dpt.scratch.output_conv2.2."
# Triangles per chunk of a scene file.
CHUNK = 512


def main() -> None:
    source = Path(sys.argv[1])
    for path in sorted(source.rglob("*")):
        target = HERE / path.relative_to(source)
        if path.is_dir() or path.suffix in (".md", ".py", ".safetensors") or path.name == "final.npz":
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".h5":
            compress(path, target)
        else:
            shutil.copyfile(path, target)
    for case in CHECKPOINTS:
        pack_checkpoint(source / case, HERE / case)
    pack_full_base(source / "full_base", HERE / "full_base")
    with tempfile.TemporaryDirectory() as folder:
        compare(source, unpack(Path(folder)))


def compress(path: Path, target: Path) -> None:
    """Copy a scene file. Its textures repeat one value 1024 times, and deflate gains 1000 at most: so deflate twice."""
    with h5py.File(path) as source, h5py.File(target, "w") as file:
        for key, stored in source.items():
            values = stored[()]
            settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            settings.set_chunk((min(len(values), CHUNK), *values.shape[1:]))
            settings.set_obj_track_times(False)
            settings.set_shuffle()
            for _ in range(2 if key == "texture" else 1):
                settings.set_deflate(9)
            space = h5py.h5s.create_simple(values.shape)
            dataset = h5py.h5d.create(file.id, key.encode(), stored.id.get_type(), space, settings)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def pack_checkpoint(source: Path, target: Path) -> None:
    """Keep the seed, the shapes in the order of drawing, and the tensors that were not drawn."""
    weights = load_file(source / "model.safetensors")
    fixed = [key for key in weights if key.startswith(LAST) or key.endswith("freqs")]
    drawn = drawing_order(weights.keys() - set(fixed), weights, SEEDS[source.name])
    save_file({key: weights[key] for key in fixed}, target / "fixed.safetensors")
    write_recipe(target, "torch", SEEDS[source.name], {key: list(weights[key].shape) for key in drawn})


def drawing_order(keys: set[str], weights: dict[str, torch.Tensor], seed: int) -> list[str]:
    """The order of the keys in which draws from one seed give these weights."""
    generator, order, left = torch.Generator().manual_seed(seed), [], set(keys)
    while left:
        state = generator.get_state()
        for key in sorted(left):
            generator.set_state(state)
            unit = torch.randn(weights[key].shape, generator=generator)
            if torch.corrcoef(torch.stack([unit.flatten(), weights[key].flatten()]))[0, 1] > 0.9999:
                break
        else:
            raise SystemExit(f"seed {seed} does not continue after {order[-1:]}")
        order.append(key)
        left.remove(key)
    return order


def pack_full_base(source: Path, target: Path) -> None:
    from renderformer.config import ModelConfig
    from renderformer.model import RenderFormer

    final, config = np.load(source / "final.npz"), json.loads((source / "config.json").read_text())
    with torch.device("meta"):
        state = RenderFormer(ModelConfig.from_dict(config)).state_dict()
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    # The frequencies are the canonical ones: 2^linspace(0, log2 5, 6) for heads of 128.
    frequencies = 2 ** torch.linspace(0, float(np.log2(5)), 6)
    fixed = {key: frequencies.clone() for key in shapes if key.endswith("freqs")}
    fixed |= {LAST + key: torch.from_numpy(final[key]) for key in ("weight", "bias")}
    save_file(fixed, target / "fixed.safetensors")
    write_recipe(target, "numpy", int(final["seed"]), {key: shapes[key] for key in shapes if key not in fixed})


def write_recipe(target: Path, stream: str, seed: int, shapes: dict[str, list[int]]) -> None:
    lines = ",\n".join(f"    {json.dumps(key)}: {json.dumps(shape)}" for key, shape in shapes.items())
    recipe = f'{{\n  "stream": "{stream}",\n  "seed": {seed},\n  "shapes": {{\n{lines}\n  }}\n}}\n'
    (target / "drawn.json").write_text(recipe)


def compare(source: Path, unpacked: Path) -> None:
    """Hold every file of the source against what was unpacked: arrays value by value, the rest byte by byte."""
    for path in sorted(source.rglob("*")):
        ours = unpacked / path.relative_to(source)
        if path.is_dir() or path.name in ("README.md", "final.npz", "full_weights.py"):
            continue
        if path.suffix == ".safetensors":
            a, b = load_file(path), load_file(ours)
            same = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        elif path.suffix == ".h5":
            with h5py.File(path) as one, h5py.File(ours) as two:
                same = one.keys() == two.keys() and all(
                    one[key].dtype == two[key].dtype and np.array_equal(one[key][()], two[key][()]) for key in one
                )
        else:
            same = path.read_bytes() == ours.read_bytes()
        if not same:
            raise SystemExit(f"{path.relative_to(source)} differs")
    compare_full_base(source / "full_base", unpacked / "full_base")


def compare_full_base(source: Path, unpacked: Path) -> None:
    """Hold the weights against the original's own recipe."""
    fill, final = runpy.run_path(str(source / "full_weights.py"))["fill"], np.load(source / "final.npz")
    for key, tensor in draw_weights(unpacked).items():
        theirs = final[key.removeprefix(LAST)] if key.startswith(LAST) else fill(key, tensor.shape, int(final["seed"]))
        if theirs is not None and not np.array_equal(tensor.numpy(), theirs):
            raise SystemExit(f"full_base: {key} differs")


if __name__ == "__main__":
    main()
