"""Names of output files: templates, stdout, and files that exist. Imported for `--help`: no NumPy, no torch."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

import typer

from renderformer.cli.inputs import name_of
from renderformer.cli.options import wrong

FIELDS = ("stem", "camera", "index")


def is_stdout(template: str) -> bool:
    """Whether it names stdout with a format, like `-.png`."""
    return re.fullmatch(r"-\.[A-Za-z]+", template) is not None


def check_templates(templates: Sequence[str], inputs: Sequence[str], as_json: bool) -> None:
    """Refuse, as wrong usage, what is wrong whatever the inputs hold."""
    for template in templates:
        fields = _fields(template)
        unknown = sorted(fields - set(FIELDS))
        if unknown:
            raise wrong(f"{template}: unknown field {{{unknown[0]}}}; there are {{stem}}, {{camera}}, {{index}}", "-o")
        if template == "-":
            raise wrong("stdout needs a format; write -o -.png, -.jpg, -.exr or -.npy", "-o")
        if len(inputs) > 1 and "stem" not in fields and not is_stdout(template):
            raise wrong(f"{template}: {len(inputs)} inputs would write it; put {{stem}} into the name", "-o")
    piped = [template for template in templates if is_stdout(template)]
    if piped and (len(piped) > 1 or len(inputs) > 1 or as_json):
        raise wrong("stdout takes one picture of one input, and no --json", f"-o {piped[0]}")


def expand(template: str, source: str, camera: str, index: int) -> Path:
    """The file for one input and camera. A camera without a name is called by its index."""
    if is_stdout(template):
        return Path(template)
    # A camera's name comes from the file and must not lead into another folder.
    safe = re.sub(r"[^\w.+-]+", "_", camera).strip(".") or str(index)
    return Path(template.format(stem=Path(name_of(source)).stem, camera=safe, index=index))


def check_paths(paths: Sequence[Path], taken: set[Path], overwrite: bool, skip_existing: bool) -> None:
    """Fail before any rendering where writing would fail or two pictures would meet in one file.

    Args:
        paths: of all pictures of one input.
        taken: the paths of earlier inputs of this call; `paths` are added.

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
    """Fail before any work where a file could not be written, or exists and may not be replaced.

    Raises:
        InputError: with the remedy, one of the options `flags` among it.
    """
    from renderformer.data.errors import InputError
    from renderformer.data.files import check_place

    check_place(path)
    if path.exists() and not overwrite:
        raise InputError(path, "exists already", f"give {flags} or another name")


def check_scene_file(path: Path, overwrite: bool, option: str) -> None:
    """`check_file` for a scene; a suffix of no scene format is wrong usage of `option`."""
    from renderformer.data.formats import SCENE_FORMATS

    if path.suffix.lower() not in SCENE_FORMATS:
        raise wrong(f"{path}: unknown scene format; end the name in {', '.join(SCENE_FORMATS)}", option)
    check_file(path, overwrite)


def write_stdout(data: bytes) -> None:
    """Bytes of one picture, for a pipe.

    Raises:
        InputError: they cannot be written, but for a reader that went away (BrokenPipeError).
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


def _fields(template: str) -> set[str]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError:
        raise wrong(f"{template}: a brace is not closed; write {{stem}}, {{camera}} or {{index}}", "-o") from None
    # {index:03d} may say how to write the number, nothing else may.
    for _, name, spec, conversion in parsed:
        if name is not None and (conversion or (spec and not (name == "index" and re.fullmatch(r"0?\d?d?", spec)))):
            raise wrong(f"{template}: only {{index:03d}} and the like may carry a format", "-o")
    return {name for _, name, _, _ in parsed if name is not None}
