"""`renderformer data`: make, import, convert and check the data sets that models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from renderformer.cli import console, farm, options

if TYPE_CHECKING:
    from renderformer.data.sets.user_meshes import UserMesh

app = typer.Typer(
    help="Make, import, convert and check training data.",
    no_args_is_help=True,
    context_settings=options.OUT_IS_OUTPUT,
)
Out = Annotated[Path, typer.Option("--output", "-o", help="The data set's folder.", show_default=False)]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.", show_default=False)]


@app.callback()
def data() -> None:
    """Make, import, convert and check training data."""


def _machine(text: str) -> tuple[int, int]:
    number, separator, machines = text.partition("/")
    if not (separator and number.isdigit() and machines.isdigit() and 1 <= int(number) <= int(machines)):
        raise options.wrong(f"{text!r} is not K/N, such as 2/4 for the second of four machines", "--machine")
    return int(number), int(machines)


@app.command(
    cls=farm.RayCommand, epilog="Example: renderformer data generate -o datasets/train --scenes 50000 --workers 2"
)
def generate(
    out: Out,
    scenes: Annotated[int, typer.Option(min=1, help="Scenes in all, rounded up to whole shards.", show_default=False)],
    views: Annotated[int, typer.Option(min=1, help="Cameras per scene.")] = 4,
    resolution: Annotated[int, typer.Option(min=1, help="Pixels on a side.")] = 64,
    spp: Annotated[int, typer.Option(min=1, help="Samples per pixel.")] = 64,
    batches: Annotated[int, typer.Option(min=1, help="Parts of the samples, for rejecting fireflies.")] = 4,
    depth: Annotated[int, typer.Option(min=1, help="Longest light path in segments.")] = 5,
    scenes_per_shard: Annotated[int, typer.Option(min=1, help="Scenes in one file.")] = 32,
    max_triangles: Annotated[int, typer.Option(min=64, help="Per scene.")] = 3000,
    kind: Annotated[
        Literal["varied", "stage"],
        typer.Option(help="Scenes of all kinds, or objects on a stage, in the range of V1 models."),
    ] = "varied",
    seed: Annotated[int, typer.Option(min=0, max=999_999_999, help="Of the first scene.")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="Seeds that training never uses.")] = False,
    meshes: Annotated[
        Path | None,
        typer.Option(help="Folder of closed meshes, which become a third of the objects.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
    machine: Annotated[
        str, typer.Option(metavar="K/N", help="Make every N-th shard from the K-th; N machines share a folder.")
    ] = "1/1",
    ray: Annotated[str | None, typer.Option(metavar=farm.METAVAR, help=farm.HELP, show_default=False)] = None,
    quiet: options.Quiet = False,
) -> None:
    """Make random scenes and path trace them with Mitsuba 3 (pip install 'renderformer\\[reference]').

    A scene is a function of its seed. After an interruption, the same command goes on where it stopped.
    """
    from renderformer.data.sets import generation
    from renderformer.data.sets.manifest import HELD_OUT_SEED, Recipe

    share = _machine(machine)
    recipe = Recipe(
        seed=seed + (HELD_OUT_SEED if held_out else 0),
        views=views,
        resolution=resolution,
        spp=spp,
        batches=batches,
        depth=depth,
        scenes_per_shard=scenes_per_shard,
        max_triangles=max_triangles,
        kind=kind,
    )
    farm.check(ray)
    if ray is not None and (workers > 1 or machine != "1/1"):
        raise options.wrong("cannot be combined with --workers and --machine, it hands out the shards", "--ray")
    user_meshes = [] if meshes is None else _load_meshes(meshes, quiet)
    try:
        with farm.connected(ray) as joined, console.Logged("generate", not quiet) as stages:
            shards = generation.generate(out, scenes, recipe, workers, share, user_meshes, stages.update, joined)
    except KeyboardInterrupt:
        console.say(f"stopped; finished shards are in {out}, the same command goes on")
        raise typer.Exit(130) from None
    if not quiet:
        console.say(f"{out}: made {len(shards)} shards of {recipe.scenes_per_shard} scenes x {views} views")


def _load_meshes(folder: Path, quiet: bool) -> list[UserMesh]:
    """The usable meshes of a folder; prints the others with the reason."""
    from renderformer.data.sets.user_meshes import load_user_meshes

    rejected: dict[str, str] = {}
    with console.Stages(str(folder), not quiet) as stages:
        usable = load_user_meshes(folder, rejected.__setitem__, stages.update)
    if not quiet:
        console.say_all("not used", (f"{name}: {reason}" for name, reason in rejected.items()))
        console.say(f"{folder}: {len(usable)} meshes used, {len(rejected)} not")
    return usable


@app.command("import", epilog="Example: renderformer data import downloads/scenes -o datasets/theirs")
def import_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC...", help="Scene JSON or H5 files, or folders of them.")
    ],
    out: Out,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the EXR pictures.", show_default="beside each scene")
    ] = None,
    views: Annotated[
        int | None, typer.Option(min=1, help="Cameras per stored scene.", show_default="the fewest a scene has")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Make a data set of other people's scenes and pictures.

    The picture of camera 0 of room.h5 or room.json is room_view_0.exr, as the original program names it, or room.exr
    for a scene with one camera. All pictures are square and of one size.
    """
    from renderformer.data.sets.rendered_scenes import import_scenes

    rejected: dict[str, str] = {}
    with console.Stages("import", not quiet) as stages:
        counts = import_scenes(sources, out, pictures, views, rejected.__setitem__, stages.update)
    if not quiet:
        console.say_all("not used", (f"{name}: {reason}" for name, reason in rejected.items()))
        facts = ", ".join(f"{number} {name}" for name, number in counts.items())
        console.say(f"{out}: {facts}; {len(rejected)} files not used")


@app.command(epilog="Example: renderformer data convert datasets/old -o datasets/train")
def convert(folder: Folder, out: Out, quiet: options.Quiet = False) -> None:
    """Convert a data set of format 2 or 3 to the present format, and check its hashes.

    After an interruption, the same command goes on where it stopped. The old folder stays.
    """
    from renderformer.data.sets.conversion import convert_set

    with console.Stages("convert", not quiet) as stages:
        counts = convert_set(folder, out, stages.update)
    if not quiet:
        console.say(f"{out}: {counts['shards']} shards, {counts['converted']} of them converted now")


@app.command()
def info(
    folder: Folder,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Write pictures of scenes, spread over the set, to this file.", show_default=False),
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, max=1000, help="Pictures in it.")] = 50,
    as_json: options.Json = False,
) -> None:
    """Summarise a data set: scenes, bytes per view, the error of half floats, the range of every array."""
    from renderformer.data.sets.summary import contact_sheet, summary

    if sheet is not None:
        from renderformer.image import Image

        with console.Stages("drawing") as stages:
            picture = contact_sheet(folder, scenes, stages.update)
        Image(picture).save(sheet, tone_map="none")
    with console.Stages("reading") as stages:
        facts = summary(folder, stages.update)
    if as_json:
        console.emit_json(facts)
        return
    for key, value in facts.items():
        typer.echo(f"{key:24}{_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return " … ".join(map(_text, value))
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def verify(folder: Folder) -> None:
    """Read every shard and compare it with its hash in the manifest."""
    from renderformer.data.sets.shards import verify

    with console.Stages("verify") as stages:
        counts = verify(folder, stages.update)
    missing = f", {counts['missing']} shards are still missing" if counts["missing"] else ""
    recorded = f", {counts['recorded']} hashes were new" if counts["recorded"] else ""
    typer.echo(f"{folder}: {counts['shards']} shards with {counts['scenes']} scenes are sound{recorded}{missing}")


if __name__ == "__main__":
    console.run(app)
