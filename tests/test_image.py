"""Pictures: exposure, tone maps, files and their round trips, checked against independent decoders."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.image import FORMATS, IMAGE_SUFFIXES, TONE_MAPS, Image, SaveSettings

CAMERA = Camera.from_angles(30, 20, 1.75, fov=41.5, name="front")


@pytest.fixture
def picture() -> Image:
    hdr = np.random.default_rng(0).gamma(0.5, 1.0, (13, 21, 3)).astype(np.float32)
    return Image(hdr, CAMERA, {"model": "tiny", "resolution": "21x13", "seconds": 1.5})


def read_8_bit(path: Path) -> np.ndarray:
    from PIL import Image as Pillow

    with Pillow.open(path) as file:
        assert file.mode == "RGB"
        return np.asarray(file)


def read_16_bit(path: Path) -> np.ndarray:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb48le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<u2")


def test_the_srgb_curve_is_that_of_the_standard() -> None:
    # Reference pairs of IEC 61966-2-1: 8-bit code against linear value.
    linear = np.float32([0, 0.00030353, 0.0123, 0.21404114, 0.73046075, 1])
    display = Image(np.tile(linear[:, None, None], (1, 1, 3))).tone_mapped("none")
    np.testing.assert_allclose(display[:, 0, 0] * 255, [0, 1, 29.02, 127.5, 222.0, 255], atol=0.05)


def test_tone_maps_agree_with_opencolorio_on_its_own(picture: Image) -> None:
    import PyOpenColorIO as Ocio
    import simple_ocio

    config = Ocio.Config.CreateFromFile(str(Path(simple_ocio.__file__).parent / "ocio_data" / "config.ocio"))
    for name, view in (("agx", "AgX"), ("filmic", "Filmic"), ("pbr-neutral", "Khronos PBR Neutral")):
        transform = Ocio.DisplayViewTransform(Ocio.ROLE_SCENE_LINEAR, "sRGB", view)
        expected = (picture.hdr * 2.0).copy()
        config.getProcessor(transform).getDefaultCPUProcessor().applyRGB(expected)
        np.testing.assert_allclose(picture.tone_mapped(name, exposure=1), np.clip(expected, 0, 1), atol=1e-6)


def test_neutral_is_that_of_khronos_without_its_fresnel_term() -> None:
    """Which subtracts 0.04 of all that is not nearly black; OpenColorIO's is a table."""
    linear = np.random.default_rng(0).uniform(0.06, 1, (40, 40, 3)) * np.logspace(0, 1.5, 40)[:, None]
    image, lifted = Image(linear.astype(np.float32)), Image((linear + 0.04).astype(np.float32))
    np.testing.assert_allclose(image.tone_mapped("neutral"), lifted.tone_mapped("pbr-neutral"), atol=0.01)
    dark = Image(np.linspace(0, 0.7, 300, dtype=np.float32).reshape(10, 10, 3))
    np.testing.assert_allclose(dark.tone_mapped("neutral"), dark.tone_mapped("none"), atol=1e-6)


@given(st.sampled_from(TONE_MAPS), st.floats(-32, 32), st.floats(-1e3, 1e4, width=32))
@settings(max_examples=60)
def test_display_values_are_finite_and_in_range(tone_map: str, exposure: float, value: float) -> None:
    display = Image(np.full((2, 3, 3), value, np.float32)).tone_mapped(tone_map, exposure)
    assert np.isfinite(display).all()
    assert display.min() >= 0
    assert display.max() <= 1


def test_exposure_is_in_stops(picture: Image) -> None:
    np.testing.assert_array_equal(picture.exposed(3), picture.hdr * 8)
    np.testing.assert_array_equal(picture.tone_mapped("agx", -1), Image(picture.hdr / 2).tone_mapped("agx"))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 111)])
@pytest.mark.parametrize("tone_map", TONE_MAPS)
def test_png_8_and_16_bit_hold_the_tone_mapped_picture(tmp_path: Path, tone_map: str, size: tuple[int, int]) -> None:
    image = Image(np.random.default_rng(1).gamma(0.5, 1.0, (*size, 3)))
    display = image.tone_mapped(tone_map, 0.5)
    image.save(tmp_path / "a.png", tone_map, exposure=0.5)
    np.testing.assert_array_equal(read_8_bit(tmp_path / "a.png"), np.rint(display * 255))
    image.save(tmp_path / "b.png", tone_map, exposure=0.5, bit_depth=16)
    np.testing.assert_array_equal(read_16_bit(tmp_path / "b.png"), np.rint(display * 65535).ravel())


def test_jpeg_is_close_and_quality_decides_its_size(tmp_path: Path) -> None:
    y, x = np.mgrid[0:1:48j, 0:1:64j]
    image = Image(np.stack([x, y, 1 - x], axis=-1))
    for quality in (30, 95):
        image.save(tmp_path / f"{quality}.jpg", "none", quality=quality)
    error = np.abs(read_8_bit(tmp_path / "95.jpg") / 255.0 - image.tone_mapped("none"))
    assert error.max() < 0.04
    assert (tmp_path / "30.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size


def test_exr_keeps_linear_light_camera_and_metadata(tmp_path: Path, picture: Image) -> None:
    for half, dtype in ((True, np.float16), (False, np.float32)):
        assert picture.save(tmp_path / "a.exr", tone_map="filmic", half=half) == []
        back = Image.load(tmp_path / "a.exr")
        np.testing.assert_array_equal(back.hdr, picture.hdr.astype(dtype))
        assert back.camera is not None
        np.testing.assert_array_equal(back.camera.c2w, CAMERA.c2w)
        assert (back.camera.fov, back.camera.name) == (CAMERA.fov, "front")
        assert dict(back.metadata) == {"model": "tiny", "resolution": "21x13", "seconds": 1.5, "exposure": 0.0}


@pytest.mark.parametrize("name", ["a.exr", "a.npy", "a.png"])
def test_a_picture_in_planes_as_models_draw_it_is_saved_in_pixels(tmp_path: Path, name: str) -> None:
    rows = np.random.default_rng(0).random((5, 7, 3), np.float32)
    for folder, hdr in (("rows", rows), ("planes", np.ascontiguousarray(rows.transpose(2, 0, 1)).transpose(1, 2, 0))):
        (tmp_path / folder).mkdir()
        Image(hdr).save(tmp_path / folder / name)
    assert (tmp_path / "planes" / name).read_bytes() == (tmp_path / "rows" / name).read_bytes()
    if name == "a.exr":
        np.testing.assert_allclose(Image.load(tmp_path / "planes" / name).hdr, rows, atol=1e-3)


def test_exr_is_what_ffmpeg_reads(tmp_path: Path) -> None:
    import imageio_ffmpeg

    hdr = np.zeros((4, 6, 3), np.float32)
    hdr[0, 0], hdr[3, 5] = (1, 0.25, 0), (0, 0, 2)
    Image(hdr).save(tmp_path / "a.exr", half=False)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "a.exr", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "gbrpf32le", "-"], check=True, capture_output=True).stdout
    green, blue, red = np.frombuffer(raw, "<f4").reshape(3, 4, 6)
    np.testing.assert_allclose(np.stack([red, green, blue], axis=-1), hdr)


def test_exposure_of_an_exr_is_applied_recorded_and_adds_up(tmp_path: Path, picture: Image) -> None:
    picture.save(tmp_path / "a.exr", exposure=2, half=False)
    first = Image.load(tmp_path / "a.exr")
    np.testing.assert_array_equal(first.hdr, picture.hdr * 4)
    first.save(tmp_path / "b.exr", exposure=-1, half=False)
    assert Image.load(tmp_path / "b.exr").metadata["exposure"] == 1


def test_npy_holds_linear_float32(tmp_path: Path, picture: Image) -> None:
    picture.save(tmp_path / "a.npy", tone_map="none")
    stored = np.load(tmp_path / "a.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, picture.hdr)
    np.testing.assert_array_equal(Image.load(tmp_path / "a.npy").hdr, picture.hdr)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_the_same_picture_gives_the_same_bytes(tmp_path: Path, picture: Image, suffix: str) -> None:
    for name in ("a", "b"):
        picture.save(tmp_path / (name + suffix))
    assert (tmp_path / ("a" + suffix)).read_bytes() == (tmp_path / ("b" + suffix)).read_bytes()


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_suffix_may_be_in_capitals(tmp_path: Path, picture: Image, suffix: str) -> None:
    picture.save(tmp_path / f"A{suffix.upper()}")
    picture.save(tmp_path / f"a{suffix}")
    assert {path.name for path in tmp_path.iterdir()} == {f"A{suffix.upper()}", f"a{suffix}"}
    assert (tmp_path / f"A{suffix.upper()}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_bytes_are_those_of_the_file(tmp_path: Path, picture: Image, suffix: str) -> None:
    settings = SaveSettings("none", exposure=1, quality=40, half=False)
    notes = picture.save(tmp_path / f"a{suffix}", **vars(settings))
    data, lines = picture.to_bytes(suffix, settings)
    assert data == (tmp_path / f"a{suffix}").read_bytes()
    assert notes == [f"{tmp_path / f'a{suffix}'}: {line}" for line in lines]
    with pytest.raises(InputError, match="unknown picture format '.bmp'"):
        picture.to_bytes(".bmp")


def test_each_format_follows_the_options_that_it_names_and_no_others(picture: Image) -> None:
    changed = {"tone_map": "none", "exposure": 1.0, "bit_depth": 16, "quality": 40, "half": False}
    for suffix, form in FORMATS.items():
        plain, _ = picture.to_bytes(suffix)
        for name, value in changed.items():
            if name == "bit_depth" and form.name == "JPEG":
                continue
            data, _ = picture.to_bytes(suffix, SaveSettings(**{name: value}))
            assert (data != plain) == (name in (*form.options, "exposure")), (suffix, name)


def test_clipping_is_told_with_counts(tmp_path: Path) -> None:
    hdr = np.full((4, 4, 3), 0.5, np.float32)
    hdr[0, :3, 1] = 1e5
    (note,) = Image(hdr).save(tmp_path / "a.png", "none")
    assert "a.png: 3 of 16 pixels are brighter than 1" in note
    (note,) = Image(hdr).save(tmp_path / "a.exr")
    assert "a.exr: 3 pixels exceed 65504" in note
    assert Image.load(tmp_path / "a.exr").hdr.max() == 65504
    assert Image(hdr).save(tmp_path / "b.exr", half=False) == []


def test_pixels_that_are_not_numbers_are_refused_with_a_count(tmp_path: Path) -> None:
    hdr = np.ones((4, 5, 3), np.float32)
    hdr[1, 2], hdr[0, 0, 1] = np.nan, np.inf
    for suffix in IMAGE_SUFFIXES:
        with pytest.raises(InputError, match=rf"a\{suffix}: 2 of 20 pixels are NaN or infinite"):
            Image(hdr).save(tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.bmp", {}, "unknown picture format '.bmp'"),
        ("a", {}, "unknown picture format ''"),
        ("a.png", {"bit_depth": 12}, "bit_depth is 12; expected 8 or 16"),
        ("a.jpg", {"bit_depth": 16}, "JPEG cannot hold 16 bits"),
        ("a.jpg", {"quality": 0}, "quality is 0"),
        ("a.png", {"tone_map": "aces"}, "tone_map is 'aces'; expected one of neutral, none"),
        ("a.png", {"exposure": float("nan")}, "exposure is nan"),
        ("a.exr", {"exposure": 99}, "exposure is 99"),
        ("no/such/a.png", {}, "does not exist"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, picture: Image, name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        picture.save(tmp_path / name, **options)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_allowed(tmp_path: Path, picture: Image) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        picture.save(tmp_path / "a.png", overwrite=False)
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    picture.save(tmp_path / "a.png")
    assert read_8_bit(tmp_path / "a.png").shape == (13, 21, 3)


@pytest.mark.parametrize("keep", [0, 20, 300, 0.5, 0.95])
@pytest.mark.parametrize("suffix", [".exr", ".npy"])
def test_truncated_files_are_refused_in_one_line(tmp_path: Path, picture: Image, suffix: str, keep: float) -> None:
    path = tmp_path / f"a{suffix}"
    picture.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data) if 0 < keep < 1 else keep)])
    with pytest.raises(InputError) as caught:
        Image.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_display_pictures_and_missing_files_are_not_loaded(tmp_path: Path, picture: Image) -> None:
    picture.save(tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot read linear light from '.png'"):
        Image.load(tmp_path / "a.png")
    with pytest.raises(InputError, match="no such file"):
        Image.load(tmp_path / "b.exr")


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="image: hdr has shape"):
        Image(np.zeros(shape, np.float32))


def test_display_bytes_are_not_taken_for_light() -> None:
    with pytest.raises(InputError, match="of type uint8"):
        Image(np.zeros((4, 4, 3), np.uint8))


def test_the_picture_cannot_be_changed_behind_its_back() -> None:
    source = np.ones((2, 2, 3), np.float32)
    image = Image(source)
    source[:] = 0
    assert image.hdr.min() == 1
    with pytest.raises(ValueError, match="read-only"):
        image.hdr[0, 0, 0] = 2


def test_a_picture_keeps_its_pixels_unless_it_is_still_being_drawn() -> None:
    hdr, alpha = np.full((3, 4, 3), 0.25, np.float32), np.ones((3, 4), np.float32)
    kept, drawn = Image(hdr, alpha=alpha), Image(hdr, alpha=alpha, copy=False)
    hdr[1] = 0.5
    alpha[2] = 0
    assert np.array_equal(kept.hdr, np.full((3, 4, 3), 0.25))
    assert np.array_equal(drawn.hdr, hdr)
    assert drawn.alpha is not None
    assert np.array_equal(drawn.alpha, alpha)
    # Who is shown it changes nothing; with a background it is another picture.
    assert not drawn.hdr.flags.writeable
    assert hdr.flags.writeable
    other = drawn.over("white")
    hdr[1] = 0.75
    assert other.hdr[1, 0, 0] == 0.5
