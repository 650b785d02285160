"""Names of output files: templates, stdout, and files that exist. Imported for `--help`: no NumPy, no torch."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from renderformer.cli.inputs import name_of
from renderformer.cli.options import wrong

if TYPE_CHECKING:
    from renderformer.image import Image, SaveSettings

FIELDS = ("stem", "camera", "index", "frame")
# Fields that differ from picture to picture of a sequence.
MOVING = frozenset({"camera", "index", "frame"})


def is_stdout(template: str) -> bool:
    """Whether a template is stdout with a format, such as `-.png`."""
    return re.fullmatch(r"-\.[A-Za-z]+", template) is not None


def is_video(template: str) -> bool:
    """Whether a template is a video."""
    return Path(template).suffix.lower() in (".mp4", ".gif")


def check_templates(
    templates: Sequence[str], inputs: Sequence[str], as_json: bool, distinct: Sequence[str] = ("stem",)
) -> None:
    """Raise wrong usage for templates of pictures that cannot work, before any input is read.

    Args:
        distinct: fields, of which one has to differ from input to input.
    """
    for template in templates:
        fields = fields_of(template)
        if template == "-":
            raise wrong("stdout needs a format; write -o -.png, -.jpg, -.exr or -.npy", "-o")
        if len(inputs) > 1 and fields.isdisjoint(distinct) and not is_stdout(template):
            raise wrong(f"{template}: {len(inputs)} inputs would write it; put {{stem}} into the name", "-o")
    piped = [template for template in templates if is_stdout(template)]
    if piped and (len(piped) > 1 or len(inputs) > 1 or as_json):
        raise wrong("stdout takes one picture of one input, and no --json", f"-o {piped[0]}")


def check_sequence(templates: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise wrong usage for templates of frames and videos that cannot work, before any input is read."""
    if "-" in inputs:
        raise wrong("a sequence goes on after a stop, so it needs a file and not stdin", "INPUT")
    for template in templates:
        fields = fields_of(template)
        if template == "-" or is_stdout(template):
            raise wrong("stdout takes one picture; name a file for frames", f"-o {template}")
        if is_video(template) and fields & {"frame", "index"}:
            raise wrong(f"{template}: a video holds all frames; leave out {{frame}} and {{index}}", "-o")


def expand(template: str, source: str, camera: str, index: int) -> Path:
    """The file for an input and a camera; a camera without a name goes by its index, which is that of the frame too."""
    if is_stdout(template):
        return Path(template)
    # A camera's name comes from a file and must not lead into another folder.
    safe = re.sub(r"[^\w.+-]+", "_", camera).strip(".") or str(index)
    return Path(template.format(stem=stem_of(source), camera=safe, index=index, frame=index))


def stem_of(source: str) -> str:
    """The {stem} of an input: the name of its file without the suffix, of its folder, or of the folder of a pattern."""
    path = Path(name_of(source))
    if path.is_dir():
        return path.resolve().name
    if path.exists() or not re.search(r"[*?\[]", path.name):
        return path.stem
    return stem_of(str(path.parent))


def manifest_of(template: str, source: str) -> Path:
    """The manifest of a sequence, beside the files of its first template and named after what they have in common."""
    path = Path(template)
    folder = path.parent
    while MOVING & fields_of(str(folder)):
        folder = folder.parent
    stem = re.sub(r"\{(camera|index|frame)[^}]*\}", "", path.stem).format(stem=stem_of(source)).strip("_-. ")
    return Path(str(folder).format(stem=stem_of(source))) / (f"{stem}.manifest.json" if stem else "manifest.json")


def check_paths(paths: Sequence[Path], taken: set[Path], overwrite: bool, skip_existing: bool) -> None:
    """Check before rendering that the pictures of an input can be written.

    Args:
        paths: of all pictures of the input.
        taken: paths of earlier inputs; `paths` are added.

    Raises:
        InputError: a path that is taken, cannot be written, or exists.
    """
    from renderformer.data.errors import InputError

    for path in paths:
        if path in taken:
            remedy = "put {stem}, {camera} or {index} into the name"
            raise InputError(path, "two pictures would be written there", remedy)
        taken.add(path)
        if not is_stdout(str(path)):
            check_file(path, overwrite or skip_existing, "--overwrite, --skip-existing")


def check_file(path: Path, overwrite: bool, flags: str = "--overwrite") -> None:
    """Check before any work that a file can be written.

    Args:
        flags: options that the remedy names.

    Raises:
        InputError: the file cannot be written, or exists and may not be replaced.
    """
    from renderformer.data.errors import InputError
    from renderformer.data.files import check_place

    check_place(path)
    if path.exists() and not overwrite:
        raise InputError(path, "exists already", f"give {flags} or another name")


def check_scene_file(path: Path, overwrite: bool, option: str) -> None:
    """`check_file` for a scene; another suffix is wrong usage of `option`."""
    from renderformer.data.formats import SCENE_FORMATS

    if path.suffix.lower() not in SCENE_FORMATS:
        raise wrong(f"{path}: unknown scene format; end the name in {', '.join(SCENE_FORMATS)}", option)
    check_file(path, overwrite)


def save(image: Image, path: Path, settings: SaveSettings) -> list[str]:
    """Write a picture, without the layers that the file cannot hold, to a file or to stdout; returns notes."""
    image = image.suited(path)
    if not is_stdout(str(path)):
        return image.save(path, **vars(settings))
    data, notes = image.to_bytes(path.suffix, settings)
    write_stdout(data)
    return [f"stdout: {note}" for note in notes]


def write_stdout(data: bytes) -> None:
    """Write the bytes of a picture to stdout.

    Raises:
        InputError: writing fails.
        BrokenPipeError: the reader is gone.
    """
    from renderformer.data.errors import InputError

    stream = typer.get_binary_stream("stdout")
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError("stdout", f"cannot write, {error.strerror}") from None


def fields_of(template: str) -> set[str]:
    """The fields of a template; another field or format than there is is wrong usage."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError:
        raise wrong(f"{template}: a brace is not closed; write {{stem}}, {{camera}} or {{frame}}", "-o") from None
    fields = {name for _, name, _, _ in parsed if name is not None}
    unknown = sorted(fields - set(FIELDS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise wrong(f"{template}: unknown field {{{unknown[0]}}}; there are {known}", "-o")
    # Only numbers may have a format, such as {frame:04}.
    for _, name, spec, conversion in parsed:
        counted = name in ("index", "frame") and re.fullmatch(r"0?\d?d?", spec or "")
        if name is not None and (conversion or (spec and not counted)):
            raise wrong(f"{template}: only {{index:03d}}, {{frame:04}} and the like may carry a format", "-o")
    return fields
