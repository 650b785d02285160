"""The `renderformer` program."""

from __future__ import annotations

from typing import Annotated

import typer

from renderformer import __version__
from renderformer.cli import console, options
from renderformer.cli.compare import EXAMPLES as COMPARE_EXAMPLES
from renderformer.cli.compare import compare
from renderformer.cli.convert import EXAMPLES as CONVERT_EXAMPLES
from renderformer.cli.convert import convert
from renderformer.cli.data import app as data_app
from renderformer.cli.doctor import EXAMPLES as DOCTOR_EXAMPLES
from renderformer.cli.doctor import doctor
from renderformer.cli.evaluate import EXAMPLES as EVALUATE_EXAMPLES
from renderformer.cli.evaluate import evaluate
from renderformer.cli.farm import RayCommand
from renderformer.cli.groups import expand
from renderformer.cli.info import EXAMPLES as INFO_EXAMPLES
from renderformer.cli.info import info
from renderformer.cli.reference import EXAMPLES as REFERENCE_EXAMPLES
from renderformer.cli.reference import reference
from renderformer.cli.relight import EXAMPLES as RELIGHT_EXAMPLES
from renderformer.cli.relight import relight
from renderformer.cli.render import EXAMPLES as RENDER_EXAMPLES
from renderformer.cli.render import render
from renderformer.cli.serve import EXAMPLES as SERVE_EXAMPLES
from renderformer.cli.serve import serve
from renderformer.cli.train import EXAMPLES as TRAIN_EXAMPLES
from renderformer.cli.train import train
from renderformer.cli.view import EXAMPLES as VIEW_EXAMPLES
from renderformer.cli.view import view

app = typer.Typer(
    name="renderformer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command explains itself: renderformer render --help. Exit codes: 0 done, 1 failed, 2 wrong usage.",
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"renderformer {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A triangle mesh in, a globally lit picture out, by a transformer."""


app.command("render", cls=RayCommand, epilog=RENDER_EXAMPLES)(expand(render))
app.command("relight", epilog=RELIGHT_EXAMPLES)(expand(relight))
app.command("convert", epilog=CONVERT_EXAMPLES)(expand(convert))
app.command("doctor", epilog=DOCTOR_EXAMPLES)(doctor)
app.command("info", epilog=INFO_EXAMPLES)(info)
app.command("view", epilog=VIEW_EXAMPLES)(expand(view))
app.command("serve", epilog=SERVE_EXAMPLES)(expand(serve))
app.command("train", epilog=TRAIN_EXAMPLES, context_settings=options.OUT_IS_OUTPUT)(train)
app.command("evaluate", epilog=EVALUATE_EXAMPLES, context_settings=options.HTML_IS_OUTPUT)(evaluate)
app.command("reference", epilog=REFERENCE_EXAMPLES)(expand(reference))
app.command("compare", epilog=COMPARE_EXAMPLES)(compare)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of the console script."""
    console.run(lambda: app(prog_name="renderformer"))


if __name__ == "__main__":
    main()
