"""Rooms for `foreign_rooms.py`: walls, windows and lamps from a table, CC0 furniture and environments of others.

World frame as everywhere: Z up, here in metres, the floor at 0 and its middle at the origin. Cameras look toward +Y, to
which furniture turns its back at 0 degrees.
"""

from __future__ import annotations

import base64
import re
import subprocess
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import renderformer as rf
from renderformer.data.scene import combine

# Unpacked below FOLDER/PACKAGE as for `foreign.py`.
FURNITURE, ENVIRONMENTS = "sweethome3d-furniture", "pmndrs"
CATALOG = f"{FURNITURE}/BlendSwap-CC-0"
GREY, WHITE, PLASTER = (0.5, 0.5, 0.5), (0.8, 0.8, 0.8), (0.7, 0.68, 0.63)
# Materials that replace those of a file, whose metals are often plain grey.
METALS = {
    "steel": rf.Material(diffuse=0.02, specular=(0.62, 0.6, 0.57), roughness=0.3),
    "brass": rf.Material(diffuse=0.02, specular=(0.85, 0.62, 0.28), roughness=0.25),
    "chrome": rf.Material(diffuse=0.0, specular=0.75, roughness=0.08),
}
_SKINS = {
    # Of a floor, from its colour: (H, W) shades of a square metre.
    "planks": np.repeat(np.tile([[1.0, 0.8, 0.92, 0.7, 1.0, 0.75, 0.85, 0.95]], (64, 1)), 8, axis=1),
    "tiles": np.kron([[1.0, 0.45], [0.45, 1.0]], np.ones((32, 32))),
}
_SKINS["planks"][:, ::8] *= 0.4


@dataclass(frozen=True)
class Item:
    """A piece of furniture: its name in the catalog, where its middle stands, its height above the floor, degrees about
    Z, a factor of its size, and a name of METALS."""

    model: str
    x: float
    y: float
    z: float = 0.0
    turn: float = 0.0
    size: float = 1.0
    metal: str = ""


@dataclass(frozen=True)
class Lamp:
    """A lamp: its middle, and its size along X and Y (a panel, which shines down or, if `up`, up) or one diameter (a
    ball)."""

    place: tuple[float, float, float]
    size: tuple[float, ...]
    radiance: float | tuple[float, float, float]
    up: bool = False


@dataclass(frozen=True)
class Window:
    """A hole in a wall, "left", "right", "back" or "ceiling": its middle and its size along the wall, metres."""

    wall: str
    middle: tuple[float, float]
    size: tuple[float, float]


@dataclass(frozen=True)
class Room:
    """A room of a width, depth and height, or with height 0 a floor in the open."""

    name: str
    size: tuple[float, float, float]
    items: tuple[Item, ...]
    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    lamps: tuple[Lamp, ...] = ()
    windows: tuple[Window, ...] = ()
    sky: str = ""
    strength: float = 1.0
    fov: float = 55.0
    walls: tuple[float, float, float] = PLASTER
    floor: tuple[float, float, float] = (0.4, 0.27, 0.17)
    skin: str = ""

    def scene(self, folder: Path) -> rf.Scene:
        """The room as a scene with one camera."""
        objects = [*_shell(self), *(_lamp(i, lamp) for i, lamp in enumerate(self.lamps))]
        pieces = [_placed(folder, item) for item in self.items]
        camera = rf.Camera.look_at(self.eye, self.target, fov=self.fov)
        around = None
        if self.sky:
            path = folder / ENVIRONMENTS / "package" / "hdri" / f"{self.sky}.exr"
            around = rf.Environment.load(path, strength=self.strength)
        room = rf.Scene(tuple(objects), (camera,), self.name, environment=around)
        return combine([room, *pieces], self.name)


def fetch(folder: Path) -> None:
    """Load and unpack what is missing: the Debian package `sweethome3d-furniture`, whose models of BlendSwap-CC-0 are
    in the public domain, and the CC0 environments of the npm package `@pmndrs/assets`."""
    furniture, environments = folder / FURNITURE, folder / ENVIRONMENTS
    if not furniture.exists():
        furniture.mkdir(parents=True)
        subprocess.run(["apt-get", "download", FURNITURE], cwd=furniture, check=True)
        subprocess.run(["dpkg-deb", "-x", str(next(furniture.glob("*.deb"))), "."], cwd=furniture, check=True)
        with zipfile.ZipFile(furniture / "usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f") as archive:
            archive.extractall(folder / CATALOG)
    if not environments.exists():
        environments.mkdir(parents=True)
        subprocess.run(["npm", "pack", "@pmndrs/assets"], cwd=environments, check=True)
        subprocess.run(["tar", "xf", str(next(environments.glob("*.tgz")))], cwd=environments, check=True)
        for script in environments.glob("package/hdri/*.exr.js"):
            content = script.read_text().split("base64,")[1]
            script.with_suffix("").write_bytes(base64.b64decode(content[: content.index("'")]))


@cache
def _sizes(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Width, depth and height of the catalog's furniture in metres, by the name of its file."""
    text = (folder / CATALOG / "PluginFurnitureCatalog.properties").read_text("latin-1")
    fields: dict[str, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        fields.setdefault(number, {})[key] = value.strip()
    return {
        Path(entry["model"]).stem: (
            float(entry["width"]) / 100,
            float(entry["depth"]) / 100,
            float(entry["height"]) / 100,
        )
        for entry in fields.values()
        if "model" in entry
    }


def _placed(folder: Path, item: Item) -> rf.Scene:
    """A piece of furniture in the size of the catalog, where the item says."""
    path = folder / CATALOG / "blendswap-cc-0" / item.model / f"{item.model}.obj"
    scene = rf.Scene.load(path, stage="raw", up="y")
    low, high = scene.bounds.astype(np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(item.size * np.array(_sizes(folder)[item.model]) / np.maximum(high - low, 1e-6))
    matrix[:3, 3] = -matrix[:3, :3] @ [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]
    cosine, sine = np.cos(np.radians(item.turn)), np.sin(np.radians(item.turn))
    turn = np.array([[cosine, -sine, 0, item.x], [sine, cosine, 0, item.y], [0, 0, 1, item.z], [0, 0, 0, 1]])
    objects = [mesh.transformed(turn @ matrix) for mesh in scene.objects]
    if item.metal:
        objects = [mesh.with_material(METALS[item.metal]) for mesh in objects]
    return rf.Scene(tuple(objects), name=item.model)


def _quad(corner: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(2, 3, 3) triangles of a parallelogram, whose front is where u, v and the normal are right-handed."""
    a, b, c, d = corner, corner + u, corner + u + v, corner + v
    return np.array([[a, b, c], [a, c, d]], np.float32)


def _shell(room: Room) -> list[rf.Mesh]:
    """Floor, ceiling and walls with their fronts inward."""
    width, depth, height = room.size
    corner = np.array([-width / 2, -depth / 2, 0.0])
    x, y, z = np.diag([width, depth, height])
    meshes = [_floor(room, corner, x, y)]
    if not height:
        return meshes
    for name, start, u, v in (
        ("ceiling", corner + z, y, x),
        ("front", corner, z, x),
        ("back", corner + x + y, -x, z),
        ("left", corner + y, -y, z),
        ("right", corner + x, y, z),
    ):
        holes = [window for window in room.windows if window.wall == name]
        colour = WHITE if name == "ceiling" else room.walls
        material = rf.Material(diffuse=colour, roughness=0.9)
        meshes.append(rf.Mesh(name, np.concatenate(_around(start, u, v, holes)), materials=material))
    return meshes


def _around(start: np.ndarray, u: np.ndarray, v: np.ndarray, holes: list[Window]) -> list[np.ndarray]:
    """A wall as strips along u, which its windows, beside each other, interrupt; a hole is (middle, size) from the
    middle of the wall along u and from its lower edge along v."""
    along, up = np.linalg.norm(u), np.linalg.norm(v)
    quads, position = [], 0.0
    for hole in sorted(holes, key=lambda hole: hole.middle[0]):
        first, last = (along / 2 + hole.middle[0] + side * hole.size[0] / 2 for side in (-1, 1))
        low, high = (hole.middle[1] + side * hole.size[1] / 2 for side in (-1, 1))
        strip = u * ((last - first) / along)
        quads.append(_quad(start + u * (position / along), u * ((first - position) / along), v))
        quads.append(_quad(start + u * (first / along), strip, v * (low / up)))
        quads.append(_quad(start + u * (first / along) + v * (high / up), strip, v * (1 - high / up)))
        position = last
    return [*quads, _quad(start + u * (position / along), u * (1 - position / along), v)]


def _floor(room: Room, corner: np.ndarray, x: np.ndarray, y: np.ndarray) -> rf.Mesh:
    triangles = _quad(corner, x, y)
    if not room.skin:
        return rf.Mesh("floor", triangles, materials=rf.Material(diffuse=room.floor, roughness=0.5))
    shades = _SKINS[room.skin][..., None] * np.array(room.floor)
    pixels = np.rint(255 * shades ** (1 / 2.2)).astype(np.uint8)
    textures = rf.Textures(base=rf.Texture(pixels))
    material = rf.Material(diffuse=1.0, specular=0.04, roughness=0.4, metallic=0.0, textures=textures)
    looks = rf.Appearance((material,), np.zeros(2, np.int32), triangles[..., :2])
    return rf.Mesh("floor", triangles, appearance=looks)


def _lamp(number: int, lamp: Lamp) -> rf.Mesh:
    material = rf.Material(diffuse=0.0, emission=np.broadcast_to(lamp.radiance, 3))
    if len(lamp.size) == 1:
        return rf.Mesh(f"lamp {number}", _ball(np.array(lamp.place), lamp.size[0] / 2), materials=material)
    x, y, _ = np.diag([*lamp.size, 0.0])
    corner = np.array(lamp.place) - (x + y) / 2
    return rf.Mesh(f"lamp {number}", _quad(corner, x, y) if lamp.up else _quad(corner, y, x), materials=material)


def _ball(middle: np.ndarray, radius: float, rings: int = 6, sectors: int = 12) -> np.ndarray:
    """(N, 3, 3) triangles of a sphere."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1), indexing="ij")
    points = middle + radius * np.stack(
        [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=-1
    )
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    lower, upper = np.stack([a, b, c], axis=-2)[:-1], np.stack([a, c, d], axis=-2)[1:]
    return np.concatenate([lower.reshape(-1, 3, 3), upper.reshape(-1, 3, 3)]).astype(np.float32)


WARM, COOL = (1.0, 0.78, 0.5), (0.75, 0.88, 1.0)


def _bright(colour: tuple[float, float, float], level: float) -> tuple[float, float, float]:
    red, green, blue = colour
    return red * level, green * level, blue * level


ROOMS = (
    Room(
        "living room, window",
        (5.0, 4.6, 2.6),
        (
            Item("winchesterSofa", -0.2, 1.75),
            Item("oakTable", 0.1, 0.35, size=0.6),
            Item("cactus", 0.1, 0.35, 0.45),
            Item("winchesterArmchair", 1.75, 0.9, turn=-60),
            Item("decorativePlant", -2.1, 1.9),
            Item("bookcase", 1.8, 2.05),
        ),
        (0.3, -2.1, 1.5),
        (0.0, 1.2, 0.65),
        windows=(Window("left", (0.2, 1.5), (1.8, 1.4)),),
        sky="park",
        strength=30.0,
        skin="planks",
        floor=(0.5, 0.34, 0.2),
    ),
    Room(
        "bedroom, ceiling panel",
        (4.2, 4.4, 2.5),
        (
            Item("bedWithTexture", 0.0, 1.0),
            Item("bedsideTable2", -1.45, 1.85),
            Item("desklamp", -1.45, 1.85, 0.45),
            Item("bedsideTable2", 1.45, 1.85),
            Item("teddyBear", 0.3, 0.6, 0.55),
            Item("plantie", 1.45, 1.85, 0.45),
        ),
        (0.9, -2.0, 1.6),
        (-0.1, 1.2, 0.6),
        lamps=(Lamp((0.0, 0.0, 2.49), (0.9, 0.9), 9.0),),
        walls=(0.55, 0.62, 0.7),
    ),
    Room(
        "kitchen, three lamps",
        (3.8, 3.6, 2.5),
        (
            Item("refrigerator", -1.4, 1.3, metal="steel"),
            Item("lowerCabinet", -0.6, 1.48),
            Item("oven", 0.0, 1.5, 0.2),
            Item("lowerCabinet", 0.6, 1.48),
            Item("highCabinet", 1.3, 1.48),
            Item("kitchenaid", 0.6, 1.45, 0.89),
            Item("coffeeBrewer", -0.6, 1.45, 0.89, metal="chrome"),
            Item("table", 0.2, -0.2, size=0.5),
            Item("bread", 0.1, -0.2, 0.37),
            Item("yogurtBottle", 0.4, -0.15, 0.37),
        ),
        (-0.7, -1.6, 1.5),
        (0.1, 0.9, 0.75),
        lamps=tuple(Lamp((x, 0.2, 2.3), (0.18,), _bright(WARM, 60.0)) for x in (-1.0, 0.0, 1.0)),
        skin="tiles",
        floor=(0.6, 0.58, 0.55),
    ),
    Room(
        "bathroom, two wall lights",
        (2.8, 2.8, 2.4),
        (
            Item("washbasin", -0.6, 1.15),
            Item("toiletsUnit", 0.6, 1.0),
            Item("bidet", 1.05, 0.3, turn=-90),
            Item("radiator3", -1.25, 0.2, 0.1, turn=90, metal="chrome"),
            Item("towel3", 0.6, 1.36, 1.2),
            Item("slippers", 0.1, 0.1),
        ),
        (0.3, -1.25, 1.5),
        (-0.1, 0.9, 0.6),
        lamps=tuple(Lamp((x, 1.3, 1.8), (0.14,), _bright(WARM, 45.0)) for x in (-0.95, -0.25)),
        skin="tiles",
        floor=(0.5, 0.62, 0.66),
        walls=(0.75, 0.78, 0.78),
    ),
    Room(
        "office, window and panel",
        (4.4, 4.0, 2.6),
        (
            Item("lbDesk", 0.2, 0.9),
            Item("armchair", 0.1, 1.5, turn=180),
            Item("cupboard", -1.6, 1.7),
            Item("technicalTable1", 1.5, -0.6, size=0.6, turn=90),
            Item("desklamp", 0.8, 0.9, 0.72, metal="brass"),
            Item("dustbin", -0.8, 0.6, metal="steel"),
            Item("whiteBoard", 0.6, 1.9, 1.0),
        ),
        (-1.3, -1.8, 1.6),
        (0.3, 1.0, 0.8),
        lamps=(Lamp((0.0, 0.0, 2.59), (1.2, 0.3), _bright(COOL, 12.0)),),
        windows=(Window("right", (0.3, 1.5), (1.4, 1.2)),),
        sky="city",
        strength=4.0,
        floor=(0.3, 0.32, 0.36),
    ),
    Room(
        "music room, spots",
        (5.0, 5.0, 2.8),
        (
            Item("pianoAQueue", 0.3, 0.9, turn=20),
            Item("pianoBench", 0.0, -0.45, turn=20),
            Item("electricGuitar", -1.7, 1.6, turn=15),
            Item("speaker3", -1.1, 2.1),
            Item("speaker3", 1.9, 2.1),
            Item("tatami", -1.3, 0.1),
        ),
        (-1.2, -2.3, 1.6),
        (0.2, 0.8, 0.7),
        lamps=tuple(Lamp((x, y, 2.75), (0.25, 0.25), _bright(WARM, 200.0)) for x in (-1.3, 1.3) for y in (-0.6, 1.3)),
        walls=(0.5, 0.2, 0.16),
        skin="planks",
        floor=(0.35, 0.2, 0.1),
    ),
    Room(
        "dining room, pendant lamp",
        (4.2, 4.2, 2.6),
        (
            Item("tableWithTablecloth", 0.0, 0.6, size=1.4),
            Item("oakChair", 0.0, 1.5),
            Item("oakChair", -1.0, 0.6, turn=90),
            Item("oakChair", 1.0, 0.6, turn=-90),
            Item("beerGlass", 0.2, 0.5, 1.05),
            Item("orchids", -0.1, 0.7, 1.05, size=0.8),
            Item("highCabinet", -1.6, 1.75),
        ),
        (0.5, -1.9, 1.7),
        (0.0, 0.9, 0.8),
        lamps=(Lamp((0.0, 0.6, 2.1), (0.3,), _bright(WARM, 32.0)),),
        walls=(0.62, 0.66, 0.55),
    ),
    Room(
        "nursery, skylight",
        (4.0, 4.0, 2.5),
        (
            Item("babyRockingBed", -0.9, 1.2, turn=20),
            Item("teddyBear", 0.5, 0.3, turn=-20, size=1.8),
            Item("caballito", 1.1, 0.9, turn=-60, size=1.5),
            Item("basketball", -0.1, -0.1),
            Item("verticalShelves", 1.5, 1.75),
            Item("housePuzzle", 0.0, 0.6, size=3.0),
        ),
        (0.2, -1.8, 1.5),
        (0.0, 0.9, 0.5),
        windows=(Window("ceiling", (0.2, 1.6), (1.2, 1.2)),),
        sky="dawn",
        strength=3.0,
        walls=(0.75, 0.6, 0.4),
        floor=(0.5, 0.5, 0.42),
    ),
    Room(
        "pool room, strip lamps",
        (5.4, 5.0, 2.7),
        (
            Item("poolTable", 0.0, 0.8),
            Item("stool", -2.0, 1.9),
            Item("stool2", 2.0, 1.7, metal="chrome"),
            Item("table_football", 1.7, -0.9, turn=90, size=0.7),
            Item("barrel", -2.1, 0.2, metal="steel"),
        ),
        (-1.0, -2.3, 1.8),
        (0.1, 0.8, 0.6),
        lamps=tuple(Lamp((x, 0.8, 1.9), (0.5, 0.12), 110.0) for x in (-0.8, 0.0, 0.8)),
        walls=(0.25, 0.32, 0.28),
    ),
    Room(
        "garage, tubes",
        (5.0, 5.0, 2.8),
        (
            Item("motorbike", 0.2, 0.5, turn=25, size=2.2),
            Item("crate", -1.7, 1.9),
            Item("barrel", 1.9, 1.9, metal="steel"),
            Item("wheelbarrow", -1.5, 0.5, turn=70, size=0.8),
            Item("fireExtinguisher", 1.2, 2.3),
            Item("ammoBox", -0.6, 2.1),
        ),
        (-0.3, -2.3, 1.6),
        (0.1, 0.9, 0.6),
        lamps=tuple(Lamp((x, 0.5, 2.78), (0.08, 1.5), _bright(COOL, 70.0)) for x in (-1.2, 1.2)),
        walls=(0.6, 0.6, 0.58),
        floor=(0.35, 0.35, 0.35),
    ),
    Room(
        "lounge, lit by its ceiling",
        (4.6, 4.4, 2.6),
        (
            Item("sofa2", 0.0, 1.6),
            Item("modernArmchair", -1.5, 0.7, turn=60),
            Item("designChair", 1.5, 0.6, turn=-50),
            Item("stoneLantern", 0.1, 0.4),
            Item("plant", 1.9, 1.8),
        ),
        (0.1, -2.0, 1.5),
        (0.0, 1.0, 0.7),
        lamps=(Lamp((-2.0, 1.9, 1.9), (0.35, 0.35), _bright(WARM, 160.0), up=True),),
        walls=(0.66, 0.6, 0.55),
    ),
    Room(
        "shop of metal, large window",
        (4.4, 4.0, 2.8),
        (
            Item("table", 0.0, 0.5, size=0.8),
            Item("kitchenaid", -0.6, 0.5, 0.59, metal="brass"),
            Item("tableFan", 0.0, 0.5, 0.59, metal="chrome"),
            Item("coffeeBrewer", 0.6, 0.5, 0.59, turn=-30, metal="steel"),
            Item("thonet", -1.3, 1.1, turn=40),
            Item("lantern", 1.6, 1.4, metal="brass"),
            Item("shelves", 0.0, 1.7),
        ),
        (-0.2, -1.7, 1.5),
        (0.0, 0.6, 0.7),
        windows=(Window("right", (0.0, 1.4), (3.0, 2.0)),),
        sky="sunset",
        strength=2.0,
        skin="planks",
        floor=(0.55, 0.42, 0.3),
    ),
    Room(
        "terrace in the open",
        (8.0, 8.0, 0.0),
        (
            Item("deckChair", -0.9, 0.6, turn=25),
            Item("bench", 0.9, 1.5, turn=-10),
            Item("plant", 2.0, 1.0),
            Item("flowerBox", -0.2, 1.6, size=1.5),
            Item("basketball", 0.4, 0.3, metal="chrome"),
        ),
        (0.2, -2.6, 1.5),
        (0.1, 0.9, 0.4),
        sky="venice",
        floor=(0.5, 0.48, 0.45),
        skin="tiles",
    ),
    Room(
        "attic, one small lamp",
        (4.4, 4.2, 2.4),
        (
            Item("antiqueChair", 0.4, 0.7, turn=-30),
            Item("briefcase", -0.5, 0.3, turn=30),
            Item("cuckooClock", -0.2, 2.0, 1.1),
            Item("drawersCabinet", -1.3, 1.6),
            Item("barrel", 1.5, 1.5),
            Item("box", -1.3, 0.2, turn=15),
        ),
        (0.4, -1.9, 1.4),
        (-0.1, 0.9, 0.6),
        lamps=(Lamp((0.9, 0.0, 1.9), (0.1,), _bright(WARM, 700.0)),),
        walls=(0.45, 0.36, 0.28),
        skin="planks",
    ),
)
