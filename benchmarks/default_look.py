"""Contact sheets of mesh files in the default look, and in the looks that it was chosen among (docs/default-look.md).

    python benchmarks/default_look.py FILE … -o sheet.jpg [--candidates] [--network] [--side 192]

Without `--candidates` one picture per file, six in a row; with it one row per look. Pictures go through the tone map
"neutral". `--network` draws with the embedded model, else there is no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from renderformer.data.arrays import Float64Array
from renderformer.data.camera import direction
from renderformer.data.environment import Environment, image_directions
from renderformer.data.environments import studio
from renderformer.data.geometry.stages import backdrop, stage_meshes
from renderformer.data.scene import Material, Mesh, Scene
from renderformer.data.staging import TRAINED, StageOptions, stage_scene
from renderformer.renderer import Renderer

ROW = 6
Look = Callable[[Scene], Scene]


def box(scene: Scene) -> Scene:
    """The stage of the released models: a room with a red and a green wall and a light triangle."""
    return stage_scene(scene, StageOptions(trained=TRAINED))


def grey_box(scene: Scene) -> Scene:
    """The same room in grey."""
    grey = (0.6, 0.6, 0.6)
    colors = {"floor_color": grey, "back_color": grey, "left_color": grey, "right_color": grey}
    return stage_scene(scene, StageOptions.from_keywords({"trained": TRAINED, **colors}))


def sky(scene: Scene) -> Scene:
    """Outdoors at noon, on a floor that fades out."""
    return stage_scene(scene.replace(environment=Environment.of("sky")))


def tile(scene: Scene) -> Scene:
    """A square floor in the visible studio."""
    return _with_floor(scene, stage_meshes("floor", materials={"floor": Material((0.6, 0.6, 0.6), roughness=0.9)})[0])


def white(scene: Scene) -> Scene:
    """A white floor without end."""
    return _endless(scene, 0.85, 0.85)


def grey(scene: Scene) -> Scene:
    """A grey floor without end."""
    return _endless(scene, 0.4, 0.4)


def dark(scene: Scene) -> Scene:
    """A dark floor that ends in black."""
    return _endless(scene, 0.1, 0.015)


def blue(scene: Scene) -> Scene:
    """A blue-grey floor in a blue dusk."""
    return _endless(scene, (0.34, 0.38, 0.45), (0.06, 0.08, 0.12))


def chosen(scene: Scene) -> Scene:
    """The default: a grey floor that darkens into the studio behind it."""
    return stage_scene(scene)


CANDIDATES: tuple[Look, ...] = (box, grey_box, sky, tile, white, grey, dark, blue, chosen)


def _with_floor(scene: Scene, floor: Mesh, environment: Environment | None = None) -> Scene:
    staged = stage_scene(scene)
    objects = tuple(floor if mesh.name == "floor" else mesh for mesh in staged.objects)
    around = staged.environment if environment is None else environment
    return staged.replace(objects=objects, environment=around)


def _endless(scene: Scene, middle: float | tuple[float, ...], rim: float | tuple[float, ...]) -> Scene:
    """A floor with these albedos in the studio, whose horizon and ground take the brightness of the rim."""
    lights = studio()
    assert isinstance(lights.image, np.ndarray)
    image = lights.image.astype(np.float64)
    height, width, _ = image.shape
    up = image_directions(height, width)[..., 2]
    received = _received(image)
    radiance = received * np.broadcast_to(rim, 3)
    share = np.clip(1 - np.maximum(up, 0) / 0.25, 0, 1)[..., None] ** 2
    mixed = ((1 - share) * image + share * radiance).astype(np.float32)
    turned = lights.replace(image=mixed, rotation=StageOptions().azimuth or 35.0)
    return _with_floor(scene, backdrop(middle, rim, radius=3.0), turned)


def _received(image: Float64Array) -> Float64Array:
    """(3,) radiance of a white floor under the image."""
    environment = Environment(image.astype(np.float32))
    height = np.sqrt((np.arange(64) + 0.5) / 64)
    rings = [np.stack([np.sqrt(1 - z**2) * direction(a, 0) + (0, 0, z) for a in range(0, 360, 5)]) for z in height]
    return environment.radiance(np.concatenate(rings).astype(np.float32)).mean(axis=0).astype(np.float64)


def main() -> None:
    """Draw and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--candidates", action="store_true")
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--side", type=int, default=192)
    options = parser.parse_args()
    renderer = Renderer.from_pretrained(network=options.network)
    looks = CANDIDATES if options.candidates else (chosen,)
    columns = len(options.files) if options.candidates else min(ROW, len(options.files))
    rows = len(looks) if options.candidates else -(-len(options.files) // columns)
    sheet = Picture.new("RGB", (columns * options.side, rows * options.side))
    for number, path in enumerate(options.files):
        scene = Scene.load(path, stage="raw", up="auto")
        for row, look in enumerate(looks):
            staged = stage_scene(scene, StageOptions()) if look is chosen else look(scene)
            (image,) = renderer.render(replace(staged, cameras=staged.cameras[:1]), options.side)
            picture = Picture.fromarray(np.rint(image.tone_mapped("neutral") * 255).astype(np.uint8))
            if options.candidates and number == 0:
                ImageDraw.Draw(picture).text((4, 3), look.__name__, fill=(255, 255, 255), stroke_width=1, stroke_fill=0)
            at = (number, row) if options.candidates else (number % columns, number // columns)
            sheet.paste(picture, (at[0] * options.side, at[1] * options.side))
        print(path.name, flush=True)
    sheet.save(options.output, quality=88)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
