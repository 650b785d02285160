"""`renderformer info`: facts about a mesh, a scene, a picture, a checkpoint or this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from renderformer.cli import console, inputs, options

EXAMPLES = """[bold]Examples[/bold]

renderformer info bunny.glb

renderformer info path/to/checkpoint --json

renderformer info --device cuda
"""
# Suffixes of pictures in linear light.
PICTURES = (".exr", ".npy")
# Most entries of a list; --json has them all.
LISTED = 20


def info(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="A mesh, a scene, a picture (exr, npy) or a folder with a model; nothing for this machine.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Device of this machine to report attention for: auto, cpu, cuda, cuda:1 or mps.",
            show_default="all",
        ),
    ] = None,
    format_in: options.Format = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Print counts, bounds, materials, lights, cameras, configuration, and warnings about the embedded model's range.

    Of a picture: its size, layers, lights and camera.

    Without a file: versions, devices, the attention of each stage with the reason, and the embedded model.
    """
    if device is not None and source is not None:
        raise options.wrong("is about this machine; leave out the file", "--device")
    options.check_format(format_in, source == "-")
    if source is None:
        from renderformer.inspection import inspect_machine

        facts = inspect_machine(device)
    elif source != "-" and Path(source).is_dir():
        facts = _checkpoint(source)
    elif Path(source).suffix.lower() in PICTURES:
        from renderformer.inspection import inspect_picture

        facts = {"kind": "picture", "path": source, **inspect_picture(Path(source))}
    else:
        facts = _scene(source, format_in)
    if as_json:
        console.emit_json(facts)
    else:
        _show(facts)


def _scene(source: str, form: str | None) -> dict[str, Any]:
    from renderformer.check import check_scene
    from renderformer.data.errors import InputError
    from renderformer.data.trained_range import ANYWHERE
    from renderformer.data.unit_size import UnitSize
    from renderformer.inspection import inspect_scene

    kind = "scene" if inputs.scene_format(source, form) else "mesh"
    if kind == "mesh" and source == "-":
        raise InputError("stdin", "info reads scene JSON and H5 from stdin", "save a mesh to a file first")
    with console.Stages(source) as stages:
        stages.update("load")
        # A mesh without the stage of render.
        scene = inputs.load(source, form, stage="raw")
        stages.update("stage")
        rendered = scene if kind == "scene" else inputs.load(source, trained=ANYWHERE)
    facts = {"kind": kind, "path": source, **inspect_scene(scene)}
    if kind == "mesh":
        notes = [note for note in rendered.notes if note not in scene.notes]
        facts["as_rendered"] = {"triangles": len(rendered), "notes": notes}
    return {**facts, "warnings": check_scene(rendered, ANYWHERE, True, UnitSize.of(rendered, ANYWHERE.box))}


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


def _show(facts: dict[str, Any], indent: str = "") -> None:
    for key, value in facts.items():
        label = indent + key.replace("_", " ")
        if isinstance(value, dict):
            typer.echo(f"{label}:")
            _show(value, indent + "  ")
        elif key in ("objects", "lights", "cameras", "layers", "notes", "warnings", "cuda"):
            typer.echo(f"{label}: {len(value) or 'none'}")
            _show_entries(value, indent + "  ")
        else:
            typer.echo(f"{label}: {_text(value)}")


def _show_entries(entries: list[Any], indent: str) -> None:
    for entry in entries[:LISTED]:
        if isinstance(entry, dict):
            text = ", ".join(f"{name} {_text(value)}" for name, value in entry.items() if name != "name" and value)
            typer.echo(f"{indent}{entry['name'] or '(no name)'}: {text}")
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
