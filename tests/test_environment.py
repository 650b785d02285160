"""Environments as data: orientation, averages, files, names, and pictures with alpha."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import renderformer as rf
from renderformer.data.environment import Environment, Sun, image_directions, resized, texel_solid_angles
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.errors import InputError
from renderformer.data.formats import environment_image, radiance_hdr
from renderformer.data.formats.environment_image import load_environment
from renderformer.data.scene import Light, Material, Mesh, Scene, combine

AXES = {"+X": (1, 0, 0), "-X": (-1, 0, 0), "+Y": (0, 1, 0), "-Y": (0, -1, 0), "+Z": (0, 0, 1), "-Z": (0, 0, -1)}


def unit(*directions: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(directions, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 4, (height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("axis", "row", "column"),
    [("+Z", 0, None), ("-Z", 31, None), ("+X", 15.5, 31.5), ("-Y", 15.5, 47.5), ("-X", 15.5, 63.5), ("+Y", 15.5, 15.5)],
)
def test_the_middle_looks_along_x_and_columns_turn_clockwise(axis: str, row: float, column: float | None) -> None:
    rows, columns = np.mgrid[:32, :64].astype(np.float32)
    # Distance from the column in question, round the seam.
    away = np.zeros_like(columns) if column is None else np.abs((columns - column + 32) % 64 - 32)
    image = np.stack([np.abs(rows - row) < 1, away < 1, rows * 0], axis=-1).astype(np.float32)
    seen = Environment(image).radiance(unit(AXES[axis]))[0]
    np.testing.assert_allclose(seen[:2], 1, atol=1e-4)


@given(turn=st.floats(-720, 720), seed=st.integers(0, 50))
def test_a_rotation_turns_counter_clockwise(turn: float, seed: int) -> None:
    directions = unit(*np.random.default_rng(seed).normal(size=(20, 3)).tolist())
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    turned = directions @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32).T
    still, rotated = Environment(noise(8, 16)), Environment(noise(8, 16), rotation=turn)
    np.testing.assert_allclose(rotated.radiance(turned), still.radiance(directions), atol=2e-3)


def test_texels_are_seen_in_their_middle_and_cover_the_sphere() -> None:
    image = noise(7, 13)
    directions = image_directions(7, 13).reshape(-1, 3).astype(np.float32)
    np.testing.assert_allclose(Environment(image).radiance(directions), image.reshape(-1, 3), atol=1e-4)
    assert (texel_solid_angles(7, 13) * 13).sum() == pytest.approx(4 * np.pi)


@given(height=st.integers(1, 40), width=st.integers(1, 40), down=st.integers(1, 40), across=st.integers(1, 40))
def test_a_smaller_image_sends_the_same_light(height: int, width: int, down: int, across: int) -> None:
    image = noise(height, width)
    small = resized(image, min(down, height), min(across, width))
    flux, smaller = (np.einsum("hwc,h->c", x, texel_solid_angles(*x.shape[:2])) for x in (image, small))
    np.testing.assert_allclose(smaller, flux, rtol=1e-5)


def test_over_all_directions_the_average_is_the_mean() -> None:
    image = noise(33, 65)
    mean = np.einsum("hwc,h->c", image, texel_solid_angles(33, 65)) / (4 * np.pi)
    everything = Environment(image, strength=2).radiance(unit((0, 0, 1), (1, 2, 3)), 1e4)
    np.testing.assert_allclose(everything, np.tile(2 * mean, (2, 1)), rtol=1e-4)


def test_a_gradient_is_linear_in_height() -> None:
    sky = Environment.gradient(0.1, (0.5, 0.6, 0.7), (0.2, 0.4, 1.0))
    seen = sky.radiance(unit((0, 0, -1), (0, 1, 0), (1, 0, 1), (0, 0, 1)))
    half = np.sqrt(0.5)
    expected = [0.1, 0.5, 0.5 - 0.3 * half, 0.2]
    np.testing.assert_allclose(seen[:, 0], expected, atol=0.01)
    np.testing.assert_allclose(seen[3], (0.2, 0.4, 1.0), atol=0.01)


def test_a_sun_is_a_disc_of_its_irradiance() -> None:
    sun = Sun((0, 3, 4), (2.0, 1.0, 0.5), 10.0)
    environment = Environment(0.25, strength=3, rotation=90, suns=(sun,))
    # Turned by 90 degrees, +Y becomes -X.
    inside, outside = environment.radiance(unit((-0.6, 0, 0.8), (0, 0.6, 0.8)))
    solid_angle = 2 * np.pi * (1 - np.cos(np.radians(5)))
    np.testing.assert_allclose(inside, 0.75 + 3 * np.array([2, 1, 0.5]) / solid_angle, rtol=1e-4)
    np.testing.assert_allclose(outside, 0.75)


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_our_own_environments_are_as_bright_as_a_lit_stage(name: str) -> None:
    environment = Environment.of(name)
    directions = image_directions(64, 128)
    flux = texel_solid_angles(64, 128)[:, None] * np.maximum(directions[..., 2], 0)
    radiance = environment.replace(suns=()).radiance(directions.reshape(-1, 3).astype(np.float32), 0.01)
    up = (radiance.reshape(64, 128, 3) * flux[..., None]).sum(axis=(0, 1))
    up += sum(max(sun.direction[2], 0) * sun.colour for sun in environment.suns)
    assert 0.5 < up.mean() / np.pi < 1.3


def test_a_text_names_an_environment_a_colour_or_a_file(tmp_path: Path) -> None:
    assert Environment.of("studio").name == "studio"
    np.testing.assert_allclose(Environment.of("#ff8000").image[0, 0], [1, 0.21586, 0], atol=1e-4)
    assert Environment.of("sky", strength=2.0, background="invisible").background == "invisible"
    for text, words in (("stdio", "expected studio, sky, sunset"), ("#12345", "a colour"), ("no.hdr", "not exist")):
        with pytest.raises(InputError, match=words):
            Environment.of(text)


def write_exr(path: Path, pixels: np.ndarray, names: str = "RGB") -> Path:
    import OpenEXR

    channels = {name: np.ascontiguousarray(pixels[..., i]) for i, name in enumerate(names)}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, channels) as file:
        file.write(str(path))
    return path


def test_exr_files_give_their_pixels(tmp_path: Path) -> None:
    image = noise(9, 18)
    np.testing.assert_array_equal(Environment.load(write_exr(tmp_path / "a.exr", image)).image, image)
    half = Environment.load(write_exr(tmp_path / "h.exr", image.astype(np.float16)))
    np.testing.assert_array_equal(half.image, image.astype(np.float16).astype(np.float32))
    grey = Environment.load(write_exr(tmp_path / "y.exr", image, "Y"))
    np.testing.assert_array_equal(grey.image, np.repeat(image[..., :1], 3, axis=2))
    assert half.notes == ()


def rgbe(pixels: np.ndarray, packed: bool) -> bytes:
    """A Radiance picture, run-length encoded or flat."""
    largest = pixels.max(axis=-1)
    exponent = np.where(largest > 0, np.frexp(largest)[1], -128)
    mantissa = np.floor(pixels * np.ldexp(1.0, 8 - exponent)[..., None])
    rows = np.concatenate([mantissa, (exponent + 128)[..., None]], axis=-1).astype(np.uint8)
    height, width, _ = pixels.shape
    data = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n" + f"-Y {height} +X {width}\n".encode()
    if not packed:
        return data + rows.tobytes()
    for row in rows:
        data += bytes((2, 2, width >> 8, width & 255))
        for component in row.T:
            start = 0
            while start < width:
                end = start + 1
                while end < width and component[end] == component[start] and end - start < 127:
                    end += 1
                if end - start > 2:
                    data += bytes((128 + end - start, int(component[start])))
                else:
                    end = min(start + 2, width)
                    data += bytes((end - start,)) + component[start:end].tobytes()
                start = end
    return data


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("width", [5, 8, 129, 300])
def test_hdr_files_give_their_pixels(tmp_path: Path, packed: bool, width: int) -> None:
    image = noise(6, width) * np.float32(100)
    # Runs, black, and a range of brightness.
    image[1:3, : width // 2] = (0.5, 0.25, 0.125)
    image[4] = 0
    image[5] *= np.geomspace(1e-6, 1e3, width, dtype=np.float32)[:, None]
    path = tmp_path / "a.hdr"
    path.write_bytes(rgbe(image, packed and width >= 8))
    seen = load_environment(path).image
    # The mantissas have 8 bits of the largest colour.
    assert (np.abs(seen - image).max(axis=-1) <= image.max(axis=-1) / 128).all()
    np.testing.assert_array_equal(seen[1, 0], (0.5, 0.25, 0.125))


def test_hdr_files_agree_with_another_reader(tmp_path: Path) -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    path = tmp_path / "a.hdr"
    path.write_bytes(rgbe(noise(16, 32), packed=True))
    command = [get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gbrpf32le", "-"]
    planes = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<f4")
    other = planes.reshape(3, 16, 32)[[2, 0, 1]].transpose(1, 2, 0)
    np.testing.assert_allclose(load_environment(path).image, other, rtol=1e-6)


GOOD = rgbe(noise(8, 16), packed=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GIF89a", "not a Radiance picture"),
        (b"#?RADIANCE\n" + b"A" * 100_000, "no size"),
        (GOOD.replace(b"+X 16", b"+X 99999999"), "99999999 x 8 pixels"),
        (GOOD.replace(b"-Y 8", b"-Y 0"), "16 x 0 pixels"),
        (GOOD.replace(b"-Y", b"+Y"), r"order \+Y \+X"),
        (GOOD.replace(b"_rgbe", b"_xyze"), "XYZ"),
        (GOOD.replace(b"FORMAT", b"EXPOSURE=0\nFORMAT"), "EXPOSURE"),
        (GOOD[:-100], "row"),
        (GOOD.replace(b"-Y 8", b"-Y 9"), "row 8"),
        (rgbe(noise(8, 5), packed=False)[:-1], "39 of 40 pixels"),
        (b"#?RADIANCE\n\n-Y 2 +X 16\n" + b"\x02\x02\x00\x10" + b"\xff\x00" * 40, "does not fit"),
        (b"#?RADIANCE\n\n-Y 2 +X 16\n" + b"\x02\x02\x00\x10" + b"\x00" * 40, "does not fit"),
        (b"#?RADIANCE\n\n-Y 1 +X 2\n" + b"\x01\x01\x01\x08" * 2, "before 1991"),
    ],
)
def test_damaged_hdr_files_are_refused_in_a_line(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "bad.hdr"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as error:
        load_environment(path)
    assert str(error.value).startswith(str(path))


@given(data=st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"\x02\x02\x00\x08" + rest))
@example(b"\x02\x02")
def test_random_pixels_of_hdr_files_are_read_or_refused(data: bytes) -> None:
    try:
        pixels = radiance_hdr.read(b"#?RADIANCE\n\n-Y 2 +X 8\n" + data, 100)
    except InputError:
        return
    assert pixels.shape == (2, 8, 3)


def test_damaged_and_strange_exr_files_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_exr(tmp_path / "good.exr", noise(8, 16))
    cut = tmp_path / "cut.exr"
    cut.write_bytes(good.read_bytes()[:200])
    text = tmp_path / "text.exr"
    text.write_text("no picture")
    depth = write_exr(tmp_path / "depth.exr", noise(8, 16), "ZWV")
    for path, words in ((cut, "cannot be read"), (text, "cannot be read"), (depth, "channels V, W, Z")):
        with pytest.raises(InputError, match=words):
            load_environment(path)
    monkeypatch.setattr(environment_image, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match="16 x 8 pixels"):
        load_environment(good)
    with pytest.raises(InputError, match=r"give a \.hdr"):
        load_environment(tmp_path / "a.png")


def test_pixels_that_are_no_light_are_counted(tmp_path: Path) -> None:
    image = noise(8, 8)
    image[0, :2, 1], image[1, :3], image[2, 0, 0] = np.nan, -1, np.inf
    environment = load_environment(write_exr(tmp_path / "a.exr", image))
    notes = " ".join(environment.notes)
    assert "2 of 64 pixels are not numbers" in notes
    assert "3 of 64 pixels are negative" in notes
    assert "1 of 64 pixels are brighter than 1e+08" in notes
    assert "8 x 8 pixels are not twice as wide" in notes
    assert environment.image[0, 0, 1] == environment.image[1, 0, 0] == 0
    assert environment.image[2, 0, 0] == 65504
    with pytest.raises(InputError, match="6 of 64 pixels are negative or not finite"):
        Environment(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": np.zeros((4, 4))}, "shape"),
        ({"image": (1, -1, 0)}, "0 or more"),
        ({"image": "white"}, "linear RGB"),
        ({"strength": -1}, "strength is -1"),
        ({"strength": np.nan}, "strength is nan"),
        ({"rotation": np.inf}, "rotation is inf"),
        ({"background": "bluish"}, "visible, invisible, transparent"),
        ({"background": (0.1, 2, 0)}, "from 0 to 1"),
        ({"background": None}, "background is None"),
    ],
)
def test_values_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Environment(**options)


@pytest.mark.parametrize(("direction", "angle"), [((0, 0, 0), 1.0), ((0, 0, np.nan), 1.0), ((0, 0, 1), 180.0)])
def test_suns_without_direction_or_too_wide_are_refused(direction: tuple, angle: float) -> None:
    with pytest.raises(InputError, match="sun"):
        Sun(direction, 1.0, angle)


def test_scenes_keep_their_environment_and_know_whether_they_are_dark() -> None:
    block = Mesh("block", noise(2, 3), materials=Material())
    bare, lit = Scene((block,)), Scene((block,), environment=Environment(0.5))
    assert bare.is_dark
    assert not lit.is_dark
    assert lit.replace(environment=Environment(0.5, strength=0)).is_dark
    assert not bare.with_object(Light().mesh()).is_dark
    assert combine([bare, lit]).environment is lit.environment
    assert lit.with_object(Light().mesh()).environment is lit.environment


def test_only_models_that_cast_rays_are_lit_by_it() -> None:
    block = Mesh("block", noise(2, 3) / 8, materials=Material())
    scene = Scene((block,), (rf.Camera.from_angles(),), environment=Environment(0.5))
    renderer = rf.Renderer.from_pretrained(network=False)
    assert renderer.check(scene) == []
    assert "no lights" in " ".join(renderer.check(scene.replace(environment=None)))
    from renderformer.check import check_scene

    assert "no lights" in " ".join(check_scene(scene))


def picture(alpha: bool = True) -> rf.Image:
    image = noise(6, 7) / 8
    coverage = np.linspace(0, 1, 42, dtype=np.float32).reshape(6, 7)
    return rf.Image(image * coverage[..., None], alpha=coverage if alpha else None)


@pytest.mark.parametrize(("bit_depth", "levels"), [(8, 255), (16, 65535)])
def test_png_files_hold_the_colour_of_what_is_covered(tmp_path: Path, bit_depth: int, levels: int) -> None:
    import imageio.v3 as iio

    image = picture()
    assert image.save(tmp_path / "a.png", "none", bit_depth=bit_depth) == []
    # Pillow reads 16 bits of colour with 8; ffmpeg reads them all.
    plugin = "pillow" if bit_depth == 8 else "pyav"
    if bit_depth == 16:
        from imageio_ffmpeg import get_ffmpeg_exe

        command = [get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "a.png", "-f", "rawvideo", "-pix_fmt", "rgba64le"]
        raw = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
        pixels = np.frombuffer(raw, "<u2").reshape(6, 7, 4)
    else:
        pixels = iio.imread(tmp_path / "a.png", plugin=plugin)
    assert pixels.shape == (6, 7, 4)
    np.testing.assert_allclose(pixels[..., 3] / levels, image.alpha, atol=0.6 / levels)
    expected = rf.Image(noise(6, 7) / 8).tone_mapped("none")
    covered = image.alpha > 0
    np.testing.assert_allclose(pixels[..., :3][covered] / levels, expected[covered], atol=1e-3 + 0.6 / levels)
    assert not pixels[0, 0].any()


@pytest.mark.parametrize("name", ["a.exr", "a.npy"])
def test_linear_files_keep_alpha(tmp_path: Path, name: str) -> None:
    image = picture()
    assert image.save(tmp_path / name, half=False) == []
    read = rf.Image.load(tmp_path / name)
    np.testing.assert_array_equal(read.hdr, image.hdr)
    np.testing.assert_array_equal(read.alpha, image.alpha)
    picture(alpha=False).save(tmp_path / name)
    assert rf.Image.load(tmp_path / name).alpha is None


def test_jpeg_files_say_that_they_hold_no_alpha(tmp_path: Path) -> None:
    (note,) = picture().save(tmp_path / "a.jpg")
    assert "no alpha" in note


@pytest.mark.parametrize("name", ["a.png", "b.png", "a.exr", "a.npy", "a.jpg"])
@pytest.mark.parametrize("exposure", [0.0, -1.0])
def test_files_hold_the_colour_behind_mixed_as_light(tmp_path: Path, name: str, exposure: float) -> None:
    import imageio.v3 as iio

    image = picture()
    colour = np.array([1.0, 0.5, 0.0])
    share = image.alpha[..., None]
    expected = image.hdr * 2.0**exposure + (1 - share) * colour
    full = {"half": False} if name == "a.exr" else {"bit_depth": 16} if name == "b.png" else {}
    assert image.over((1.0, 0.5, 0.0)).save(tmp_path / name, "none", exposure, **full) == []
    if Path(name).suffix in (".exr", ".npy"):
        read = rf.Image.load(tmp_path / name)
        assert read.alpha is None
        np.testing.assert_allclose(read.hdr, expected, rtol=1e-6)
        return
    pixels = iio.imread(tmp_path / name, plugin="pillow")
    assert pixels.shape == (6, 7, 3)
    curve = np.where(expected <= 0.0031308, 12.92 * expected, 1.055 * expected ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(pixels / 255, curve, atol=0.1 if name == "a.jpg" else 1.1 / 255)


@pytest.mark.parametrize("tone_map", ["neutral", "agx", "none"])
@pytest.mark.parametrize("colour", ["#ffffff", "#202020", "white", "#f80"])
def test_no_tone_map_and_no_exposure_changes_a_background(tone_map: str, colour: str) -> None:
    from PIL import ImageColor

    image = rf.Image(noise(3, 4) * 0, alpha=np.zeros((3, 4)), background=colour)
    shown = np.rint(image.tone_mapped(tone_map, exposure=2.0) * 255)
    assert (shown == ImageColor.getrgb(colour)).all()
    # Nor does a background change what is covered.
    opaque = rf.Image(noise(3, 4), alpha=np.ones((3, 4)), background=colour)
    np.testing.assert_allclose(opaque.tone_mapped(tone_map), rf.Image(noise(3, 4)).tone_mapped(tone_map), atol=1e-6)


@pytest.mark.parametrize("colour", ["bluish", "#12", "1,2", "", "#11223344", "nan", "2", (1.0, 2.0), -0.1, (0, 0, 1.5)])
def test_odd_backgrounds_are_refused(colour: object) -> None:
    with pytest.raises(InputError, match="image: background is"):
        picture().over(colour)  # type: ignore[arg-type]


def test_alpha_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="alpha"):
        rf.Image(noise(4, 4), alpha=np.ones((4, 5)))
