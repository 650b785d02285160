"""`renderformer info`: what a mesh, a scene, a checkpoint or this machine is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.cli import console, inputs, options

if TYPE_CHECKING:
    from renderformer.data.scene import Mesh, Scene

EXAMPLES = """[bold]Examples[/bold]

renderformer info bunny.glb

renderformer info path/to/checkpoint --json

renderformer info --device cuda
"""
# More objects than this are counted, not listed; --json has them all.
LISTED = 20


def info(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|FOLDER", help="A mesh, a scene or a folder with a model; nothing for this machine."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of this machine, which attention runs there: auto, cpu, cuda, cuda:1 or mps.",
            show_default="all",
        ),
    ] = None,
    format_in: options.Format = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Tell counts, bounds, materials, lights, cameras, configuration, and what leaves the trained range.

    Without a file: versions, devices, which attention each stage takes there and why, and the embedded model.
    """
    if device is not None and source is not None:
        raise options.wrong("is about this machine; leave out the file", "--device")
    options.check_suffix(format_in, source == "-")
    if source is None:
        facts = _machine(device)
    elif source != "-" and Path(source).is_dir():
        facts = _checkpoint(source)
    else:
        facts = _scene(source, format_in)
    if as_json:
        console.emit_json(facts)
    else:
        _show(facts)


def _scene(source: str, suffix: str | None) -> dict[str, Any]:
    from renderformer.check import check_scene
    from renderformer.data.errors import InputError
    from renderformer.data.formats import SCENE_FORMATS

    kind = f".{suffix.lstrip('.')}" if suffix else Path(source).suffix
    if kind.lower() in SCENE_FORMATS:
        with console.Stages(source) as stages:
            stages.update("load")
            scene = inputs.load(source, suffix)
        return {"kind": "scene", **_facts(source, scene), "warnings": check_scene(scene)}
    if source == "-":
        raise InputError("stdin", "info reads scene JSON and H5 from stdin", "save a mesh to a file first")
    with console.Stages(source) as stages:
        stages.update("load")
        raw = inputs.load(source, stage="raw")
        stages.update("stage")
        staged = inputs.load(source)
    return {
        "kind": "mesh",
        **_facts(source, raw),
        "as_rendered": {
            "triangles": len(staged),
            "notes": [note for note in staged.notes if note not in raw.notes],
        },
        "warnings": check_scene(staged),
    }


def _facts(source: str, scene: Scene) -> dict[str, Any]:
    low, high = scene.bounds.tolist()
    return {
        "path": source,
        "name": scene.name,
        "objects": [_object(mesh) for mesh in scene.objects if not mesh.emits],
        "lights": [_light(mesh) for mesh in scene.objects if mesh.emits],
        "cameras": [
            {
                "name": camera.name,
                "position": _rounded(camera.position.tolist()),
                "forward": _rounded(camera.forward.tolist()),
                "fov": round(camera.fov, 3),
            }
            for camera in scene.cameras
        ],
        "triangles": len(scene),
        "bounds": [_rounded(low), _rounded(high)],
        "notes": list(scene.notes),
    }


def _object(mesh: Mesh) -> dict[str, Any]:
    from renderformer.data.scene import DIFFUSE, ROUGHNESS, SPECULAR

    low, high = mesh.bounds.tolist()
    rows = mesh.materials
    return {
        "name": mesh.name,
        "triangles": len(mesh),
        "bounds": [_rounded(low), _rounded(high)],
        "diffuse": _rounded(rows[:, DIFFUSE].mean(0).tolist()),
        "specular": _rounded(rows[:, SPECULAR].mean(0).tolist()),
        "roughness": round(float(rows[:, ROUGHNESS].mean()), 4),
        "uniform": bool((rows == rows[0]).all()) and mesh.patches is None,
        "textured_triangles": 0 if mesh.patch_index is None else int((mesh.patch_index >= 0).sum()),
    }


def _light(mesh: Mesh) -> dict[str, Any]:
    from renderformer.data.scene import EMISSION

    lit = (mesh.materials[:, EMISSION] > 0).any(axis=1)
    return {
        "name": mesh.name,
        "triangles": int(lit.sum()),
        "centre": _rounded(mesh.triangles[lit].mean((0, 1)).tolist()),
        "emission": _rounded(mesh.materials[lit][:, EMISSION].mean(0).tolist()),
    }


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _checkpoint(source: str) -> dict[str, Any]:
    from renderformer.checkpoints import inspect_checkpoint

    facts = inspect_checkpoint(Path(source))
    return {
        "kind": "checkpoint",
        "path": source,
        "config": facts.config.to_dict(),
        "warnings": [],
        "parameters": facts.parameters,
        "tensors": facts.tensors,
        "types": list(facts.types),
        "bytes": facts.bytes,
    }


def _machine(device: str | None) -> dict[str, Any]:
    import importlib.metadata
    import platform

    import torch

    from renderformer import __version__
    from renderformer.checkpoints import find_checkpoint
    from renderformer.data.errors import InputError
    from renderformer.renderer import attention_report

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    try:
        embedded: str | None = str(find_checkpoint())
    except InputError:
        embedded = None
    cuda = [
        {
            "name": torch.cuda.get_device_name(i),
            "memory_gib": round(torch.cuda.get_device_properties(i).total_memory / 2**30, 1),
            "capability": ".".join(map(str, torch.cuda.get_device_capability(i))),
        }
        for i in range(torch.cuda.device_count())
    ]
    devices = ["cpu", *(f"cuda:{i}" for i in range(len(cuda))), *["mps"] * torch.backends.mps.is_available()]
    reports = [attention_report(name) for name in (devices if device is None else [device])]
    return {
        "kind": "machine",
        "renderformer": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": version("triton"),
        "embreex": version("embreex"),
        "cpu_threads": torch.get_num_threads(),
        "cuda": cuda,
        "mps": torch.backends.mps.is_available(),
        "attention": {found.pop("device"): found for found in reports},
        "embedded_model": embedded,
    }


def _show(facts: dict[str, Any], indent: str = "") -> None:
    """The same facts for a person."""
    for key, value in facts.items():
        label = indent + key.replace("_", " ")
        if isinstance(value, dict):
            typer.echo(f"{label}:")
            _show(value, indent + "  ")
        elif key in ("objects", "lights", "cameras", "notes", "warnings", "cuda"):
            typer.echo(f"{label}: {len(value) or 'none'}")
            _show_entries(value, indent + "  ")
        else:
            typer.echo(f"{label}: {_text(value)}")


def _show_entries(entries: list[Any], indent: str) -> None:
    for entry in entries[:LISTED]:
        if isinstance(entry, dict):
            rest = ", ".join(f"{name} {_text(value)}" for name, value in entry.items() if name != "name" and value)
            typer.echo(f"{indent}{entry['name'] or '(no name)'}: {rest}")
        else:
            typer.echo(f"{indent}{entry}")
    if len(entries) > LISTED:
        typer.echo(f"{indent}… and {len(entries) - LISTED} more (--json lists all)")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        nested = value and isinstance(value[0], list)
        return " … ".join(map(_text, value)) if nested else f"({', '.join(map(_text, value))})"
    return str(value)
