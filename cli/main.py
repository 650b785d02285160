"""The `renderformer` program."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from renderformer import __version__
from renderformer.cli import console
from renderformer.cli.convert import EXAMPLES as CONVERT_EXAMPLES
from renderformer.cli.convert import convert
from renderformer.cli.info import EXAMPLES as INFO_EXAMPLES
from renderformer.cli.info import info
from renderformer.cli.render import EXAMPLES as RENDER_EXAMPLES
from renderformer.cli.render import render

app = typer.Typer(
    name="renderformer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command explains itself: renderformer render --help. Exit codes: 0 done, 1 failed, 2 wrong usage.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"renderformer {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A triangle mesh in, a globally lit picture out, by a transformer."""


app.command("render", epilog=RENDER_EXAMPLES)(render)
app.command("convert", epilog=CONVERT_EXAMPLES)(convert)
app.command("info", epilog=INFO_EXAMPLES)(info)


def _mount_optional() -> None:
    # These belong to training; a package without them still renders.
    try:
        app.command("train")(importlib.import_module("renderformer.cli.train").train)
    except ModuleNotFoundError as error:
        _expect_missing(error, "renderformer.cli.train")
    try:
        app.add_typer(importlib.import_module("renderformer.cli.data").app, name="data")
    except ModuleNotFoundError as error:
        _expect_missing(error, "renderformer.cli.data")


def _expect_missing(error: ModuleNotFoundError, name: str) -> None:
    if error.name != name:
        raise error


_mount_optional()


def main() -> None:
    """Entry point of the console script."""
    console.run(lambda: app(prog_name="renderformer"))
