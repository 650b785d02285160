"""`renderformer doctor`: what is wrong with a scene, ranked by what it costs in the picture, and the repaired scene."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console, inputs, model_options, options, outputs

if TYPE_CHECKING:
    from renderformer.doctor import Finding

EXAMPLES = """[bold]Examples[/bold]

renderformer doctor room.json

renderformer doctor scan.ply --fix -o scan/scene.json

renderformer doctor room.json --model path/to/v1 --fix -o room_v1.json
"""


def doctor(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A mesh or scene file, or - for stdin.")],
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write the repaired scene to -o, and say what was changed.")
    ] = False,
    output: options.SceneFile = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|ID",
            help="Model that is to draw the scene; of a Hub id the range of the released models is taken.",
            show_default="the embedded one, or none",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    format_in: options.Format = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Say what is wrong with a scene for a model, the most costly first, with the remedy.

    A bare mesh is examined on the stage that render sets it on. Exit code 0: nothing is wrong; 1: something is, with
    --fix still is, or the file cannot be read.
    """
    from renderformer.doctor import diagnose, repaired, summary

    if fix != (output is not None):
        raise options.wrong("goes with -o, the file to write" if fix else "goes with --fix", "--fix" if fix else "-o")
    options.check_format(format_in, source == "-")
    if output is not None:
        outputs.check_scene_file(output, overwrite, "-o")
    trained = model_options.ModelFlags(model=model).trained()
    surrounded = trained.triangles is None
    with console.Stages(source) as stages:
        stages.update("load")
        scene = inputs.load(source, format_in, trained=trained)
        stages.update("examine")
        findings = diagnose(scene, trained, surrounded)
        changes: list[str] = []
        left = findings
        if output is not None:
            stages.update("repair")
            scene, changes = repaired(scene, trained, surrounded)
            left = diagnose(scene, trained, surrounded)
            changes += [f"lost in the file: {line}" for line in scene.save(output, overwrite=overwrite)]
    if as_json:
        facts = {"input": source, "findings": list(map(_facts, findings)), "changes": changes}
        console.emit_json({**facts, "left": list(map(_facts, left)), "output": output and str(output)})
    else:
        _show(findings, fix)
        for change in changes:
            typer.echo(f"changed: {change}")
        if output is not None:
            _show(left, fix=False, label="left: ")
        written = f" -> {output}" if output else ""
        console.say(f"{source}{written}: {summary(left)}{' left' if output and left else ''}")
    if left:
        raise typer.Exit(console.FAILED)


def _show(findings: list[Finding], fix: bool, label: str = "") -> None:
    for finding in findings:
        remedy = "" if fix or label or not finding.fixable else " (--fix does)"
        typer.echo(f"{_loss(finding):>10}  {label}{finding}{remedy}")


def _loss(finding: Finding) -> str:
    if finding.loss is None:
        return ""
    return "black" if math.isinf(finding.loss) else f"{finding.loss:.1f} dB"


def _facts(finding: Finding) -> dict[str, object]:
    loss = finding.loss if finding.loss is None or math.isfinite(finding.loss) else "all"
    return {"rule": finding.rule, "text": str(finding.text), "loss_db": loss, "fixable": finding.fixable}
