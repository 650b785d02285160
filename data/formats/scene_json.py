"""Scene JSON: version 1.0 of the original program (`scene_json_plain`), and an extension of it (`scene_json_full`) that
holds whatever a scene has. Programs that know version 1.0 alone refuse the extension by the name of its version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from renderformer.data.declared import Declared
from renderformer.data.errors import InputError, one_line
from renderformer.data.files import Losses, atomic_path, new_folder, read_bytes, swapped
from renderformer.data.formats import scene_json_full as full
from renderformer.data.formats import scene_json_plain as plain
from renderformer.data.formats.scene_json_shared import check_folder
from renderformer.data.formats.table import with_format_hint
from renderformer.data.geometry.light_sides import hidden_sides
from renderformer.data.notes import reworded
from renderformer.data.scene import Scene

MAX_JSON_BYTES = 256 * 2**20


def read(path: Path) -> Scene:
    """Read a scene JSON file and the files beside it.

    Returns:
        Objects in the order of the file; notes about missing cameras, too.

    Raises:
        InputError: a key or value that the version does not allow, or a file that cannot be read.
    """
    data = read_bytes(path, MAX_JSON_BYTES)
    try:
        document = _parsed(data)
        version = full if isinstance(document, dict) and document.get("version") == full.VERSION else plain
        scene = version.read(document, path)
    except InputError as error:
        raise with_format_hint(error, path, data) from None
    notes = [*scene.notes]
    if not scene.cameras:
        notes.append("has no cameras; give one to render it")
    lines = (reworded(note, one_line(f"{path.name}: {note}")) for note in notes)
    return scene.replace(notes=tuple(lines))


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError:
        raise InputError("", "is not text in UTF-8, so it is not scene JSON", "check the file") from None
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON, line {error.lineno} column {error.colno}: {error.msg}"
        raise InputError("", problem, "repair it or export it again") from None
    except InputError:
        raise
    # For example a number with more digits than Python converts.
    except ValueError as error:
        raise InputError("", f"is not valid JSON: {error}", "repair it or export it again") from None
    except RecursionError:
        raise InputError("", "is nested too deeply to be scene JSON", "check the file") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise InputError("", f"the key {key!r} occurs twice in one object", "rename one")
        values[key] = value
    return values


def write(scene: Scene, path: Path, overwrite: bool = True, version: Literal["auto", "1.0"] = "auto") -> Losses:
    """Write a scene as JSON with a folder NAME_meshes beside it, whole or not at all.

    Args:
        overwrite: whether an existing folder is replaced.
        version: "auto" takes the extension if it loses less, and says so; "1.0" never does.

    Returns:
        Lines about what the file cannot hold, with counts; empty if reading it gives the same scene.

    Raises:
        InputError: a path that cannot be written, too many materials, or a material out of range.
    """
    folder = path.with_name(f"{path.stem}_meshes")
    check_folder(folder, overwrite)
    lost = full.losses(scene)
    lines = _refused(scene)
    if version == "1.0" or not lines:
        with new_folder(folder) as temporary:
            try:
                entry, lines = plain.write(scene, temporary, folder.name, path)
                lines += hidden_sides(scene.objects)
                lines += ["the environment is not saved"] if scene.environment is not None else []
                if version == "1.0" or set(lines) <= set(lost):
                    _finish(entry, temporary, folder, path)
                    return Losses(lines)
            except InputError as error:
                if version == "1.0":
                    raise
                lines = [error.problem]
    with new_folder(folder) as temporary:
        _finish(full.write(scene, temporary, folder.name, path), temporary, folder, path)
    reason = ", ".join(line for line in lines if line not in lost)
    note = f"saved as version {full.VERSION}, which the original program does not read; 1.0 would lose: {reason}"
    return Losses(lost, [note])


def _refused(scene: Scene) -> list[str]:
    """Lines about what version 1.0 surely cannot hold."""
    textured = sum(mesh.appearance is not None for mesh in scene.objects)
    lines = [f"textures or vertex colours of {textured} objects"] if textured else []
    lines += hidden_sides(scene.objects)
    return lines if scene.environment is None else [*lines, "the environment"]


def _finish(entry: Declared, temporary: Path, folder: Path, path: Path) -> None:
    """Write the file itself, and put the folder of its meshes in its place."""
    text = json.dumps(entry.model_dump(exclude_unset=True), indent=2) + "\n"
    with swapped(temporary, folder), atomic_path(path) as target:
        target.write_text(text, encoding="utf-8")
