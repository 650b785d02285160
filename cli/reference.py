"""`renderformer reference`: the pictures of `render`, path traced."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console, model_options, options, picture_options, scene_options
from renderformer.cli.call import Call
from renderformer.cli.job import Job, Result
from renderformer.cli.motion import MotionFlags

if TYPE_CHECKING:
    from renderformer.image import Image
    from renderformer.reference import PathTracer

EXAMPLES = """[bold]Examples[/bold]

renderformer reference bunny.glb -o reference.exr --spp 256

renderformer render bunny.glb -o bunny.exr && renderformer compare bunny.exr reference.exr

renderformer reference bunny.glb --turntable 48 --frames 0..47/8 -o "references/{frame:04}.exr" --spp 64
"""


@dataclass(frozen=True)
class ReferenceOutputFlags(options.OutputFlags):
    """`OutputFlags`, with other names of files."""

    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=options.OUTPUT_HELP,
            show_default="{stem}_reference.exr, of frames {stem}_{frame:04}_reference.exr",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None


def reference(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Meshes (obj, ply, stl, off, glb, gltf, 3mf), scenes (json, h5), or - for stdin. A folder, or a "
            "pattern in quotes, is an animation.",
        ),
    ],
    output: ReferenceOutputFlags,
    motion: MotionFlags,
    picture: picture_options.PictureFlags,
    cameras: scene_options.CameraFlags,
    stage: scene_options.StageFlags,
    environment: scene_options.EnvironmentFlags,
    spp: Annotated[int, typer.Option(min=1, max=1 << 20, metavar="N", help="Samples per pixel.")] = 256,
    depth: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Longest path: 1 emission, 2 direct light, 3 one bounce …")
    ] = 16,
    noise_seed: Annotated[int, typer.Option(min=0, max=1 << 20, metavar="N", help="Another one, other noise.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|ID",
            help="Set bare meshes on the stage that render takes for this model.",
            show_default="the embedded one",
        ),
    ] = None,
    format_in: options.Format = None,
) -> None:
    """Path trace the pictures that render would draw, by Mitsuba 3: same scene, lights, cameras and materials.

    Needs the extra 'reference'. Prints an estimate of the noise of each picture.
    """
    Call(
        sources, output, motion, picture, model_options.ModelFlags(model), cameras, stage, environment, format_in,
        load=lambda: _load(spp, depth, noise_seed),
        still="{stem}_reference.exr",
        moving="{stem}_{frame:04}_reference.exr",
        job=ReferenceJob,
    ).run()  # fmt: skip


def _load(spp: int, depth: int, seed: int) -> PathTracer:
    from renderformer.reference import PathTracer

    return PathTracer(spp, depth, seed)


@dataclass
class ReferenceJob(Job):
    """Path traces the pictures, and tells the noise of each.

    Attributes:
        noise: in display values, of the pictures in files.
    """

    noise: dict[str, float] = field(default_factory=dict)

    def _save(self, image: Image, path: Path) -> list[str]:
        if "noise" in image.metadata:
            self.noise[str(path)] = float(image.metadata["noise"])
        return super()._save(image, path)

    def _report(self, result: Result, stages: str) -> None:
        for entry in result.outputs:
            if entry["path"] in self.noise:
                entry["noise"] = self.noise[entry["path"]]
        super()._report(result, stages)
        if self.output.quiet or self.output.as_json:
            return
        # A picture may lie in several files.
        pictures = {entry["index"]: entry for entry in reversed(result.outputs) if entry.get("noise")}
        for _, entry in sorted(pictures.items()):
            decibels = -20 * math.log10(entry["noise"])
            console.say(f"{entry['path']}: noise {entry['noise']:.2g} of 1 in display values, {decibels:.1f} dB")
