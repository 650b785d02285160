"""Groups of options: a command takes a dataclass, its fields are the options that the user sees."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """A command for Typer in which every parameter annotated with a dataclass stands as the fields of that class.

    Each field carries its `typer.Option` in `Annotated` and has a default:

        @dataclass
        class Size:
            width: Annotated[int, typer.Option(help="Pixels.")] = 64

        def draw(name: str, size: Size) -> None: ...

        app.command()(expand(draw))  # draw NAME --width 64

    Raises:
        TypeError: two parameters of one name.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        fields = _fields(groups[name]) if name in groups else [parameter.replace(annotation=hints[name])]
        parameters += [field.replace(kind=inspect.Parameter.KEYWORD_ONLY) for field in fields]
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise TypeError(f"{command.__name__} has two options of one name among {', '.join(sorted(names))}")

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group)]
            values[name] = group(**{field: values.pop(field) for field in fields})
        command(**values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    ]
