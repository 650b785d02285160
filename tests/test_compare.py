"""`renderformer compare`: figures, formats, sizes, limits, the picture of the difference."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.command import Run

from renderformer.data.errors import InputError
from renderformer.evaluation import comparison
from renderformer.image import Image

HEIGHT, WIDTH = 30, 41


def linear(seed: int = 0) -> np.ndarray:
    """A smooth picture in 0.1 … 0.7."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 12
    return (0.4 + 0.3 * np.sin(np.stack([x, y, x + y], axis=-1) + seed)).astype(np.float32)


def saved(path: Path, pixels: np.ndarray, alpha: np.ndarray | None = None) -> Path:
    Image(pixels, alpha=alpha).save(path, tone_map="none", half=False)
    return path


def test_the_figures_are_those_of_independent_programs(tmp_path: Path) -> None:
    pytest.importorskip("flip_evaluator", reason="needs the extra `metrics`")
    import flip_evaluator
    from skimage.metrics import peak_signal_noise_ratio

    noisy = np.clip(linear() + np.random.default_rng(0).normal(0, 0.05, (HEIGHT, WIDTH, 3)), 0, 1).astype(np.float32)
    scores = comparison.compare(saved(tmp_path / "a.exr", noisy), saved(tmp_path / "b.npy", linear())).scores
    shown = [np.clip(part, 0, 1) ** (1 / 2.2) for part in (linear(), noisy)]
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(*shown, data_range=1), abs=1e-3)
    flip = flip_evaluator.evaluate(linear(), noisy, "LDR", inputsRGB=False, applyMagma=False)[1]
    assert scores["flip"] == pytest.approx(flip, rel=1e-4)
    error = ((noisy - linear()) ** 2 / (linear() ** 2 + 0.01)).mean(axis=2)
    assert scores["relative_mse"] == pytest.approx(np.sort(error.ravel())[:-1].mean(), rel=1e-4)
    assert 0 < scores["ssim"] < 1


def test_equal_pictures_in_any_two_formats(run: Run, tmp_path: Path) -> None:
    files = [saved(tmp_path / f"a.{suffix}", linear()) for suffix in ("exr", "npy", "png", "jpg")]
    for first, second in zip(files, files[1:], strict=False):
        result = run("compare", str(first), str(second), "--min-psnr", "38", "--min-ssim", "0.97", "--json")
        assert result.code == 0
        scores = json.loads(result.out)
        assert (scores["width"], scores["height"]) == (WIDTH, HEIGHT)
    assert run("compare", str(files[0]), str(files[1]), "--min-psnr", "100").code == 0
    assert "display values, taken as sRGB without a tone map" in run("compare", str(files[0]), str(files[2])).err


def test_the_light_of_what_is_transparent_counts_once(tmp_path: Path) -> None:
    alpha = np.linspace(0.1, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    light = 0.9 * linear() * alpha[..., None]
    exr, png = (saved(tmp_path / f"a.{suffix}", light, alpha) for suffix in ("exr", "png"))
    assert comparison.compare(png, exr).scores["psnr"] > 45


def test_a_missed_limit_is_one_line_and_an_exit_code(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("flip_evaluator", reason="needs the extra `metrics`")
    a, b = saved(tmp_path / "a.exr", linear()), saved(tmp_path / "b.exr", linear(1))
    result = run("compare", str(a), str(b))
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == ["PSNR,", "SSIM", "FLIP", "relative"]
    limits = ("--min-psnr", "30", "--min-ssim", "0.9", "--max-flip", "0.01", "--max-relative-mse", "0.001")
    result = run("compare", str(a), str(b), *limits)
    assert result.code == 1
    assert result.err.count("error: ") == 4
    assert "error: PSNR, dB is " in result.err
    assert ", below 30\n" in result.err
    assert ", above 0.01\n" in result.err
    assert run("compare", str(a), str(b), "--min-psnr", "5", "--max-flip", "1").code == 0


def test_without_flip_the_other_figures_are_given(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "flip_evaluator", None)
    path = str(saved(tmp_path / "a.exr", linear()))
    result = run("compare", path, path)
    assert result.code == 0
    assert "FLIP" not in result.out
    assert "note: no FLIP: flip-evaluator is not installed; pip install 'renderformer[metrics]'" in result.err
    result = run("compare", path, path, "--max-flip", "0.1")
    assert (result.code, "FLIP was not measured" in result.err) == (1, True)


def test_the_larger_picture_is_reduced(run: Run, tmp_path: Path) -> None:
    large = np.repeat(np.repeat(linear(), 3, axis=0), 3, axis=1)
    a, b = saved(tmp_path / "a.exr", large), saved(tmp_path / "b.exr", linear())
    result = run("compare", str(a), str(b), "--min-psnr", "90")
    assert result.code == 0
    assert "123 x 90 and 41 x 30 pixels are compared at 41 x 30" in result.err
    saved(tmp_path / "c.exr", linear()[:, :25])
    result = run("compare", str(tmp_path / "c.exr"), str(b))
    assert (result.code, "has 25 x 30 pixels, the reference 41 x 30" in result.err) == (1, True)


def test_the_difference_is_a_picture_or_numbers(run: Run, tmp_path: Path) -> None:
    other = linear()
    other[5, 7:10] += 0.2
    a, b = str(saved(tmp_path / "a.exr", other)), str(saved(tmp_path / "b.exr", linear()))
    result = run("compare", a, b, "-o", str(tmp_path / "d.png"))
    assert "d.png: white is a difference of 0." in result.err
    from PIL import Image as Pillow

    with Pillow.open(tmp_path / "d.png") as file:
        pixels = np.asarray(file)
    bright = pixels.sum(axis=2) > 0
    assert {(y, x) for y, x in zip(*np.nonzero(bright), strict=True)} == {(5, 7), (5, 8), (5, 9)}
    assert pixels.max() == 255
    assert run("compare", a, b, "-o", str(tmp_path / "d.exr"), "--quiet").err == ""
    np.testing.assert_allclose(Image.load(tmp_path / "d.exr").hdr, other - linear(), atol=1e-6)
    assert "exists already" in run("compare", a, b, "-o", str(tmp_path / "d.exr")).err
    assert run("compare", a, b, "-o", str(tmp_path / "d.exr"), "--overwrite").code == 0
    assert run("compare", a, b, "-o", "d.bmp").code == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n broken", "cannot read the picture"),
        ("a.jpg", b"", "cannot read the picture"),
        ("a.exr", b"nothing", "cannot be read"),
        ("a.gif", b"GIF89a", "cannot read pictures in '.gif'"),
        ("a.png", None, "no such file"),
        ("a.npy", None, "no such file"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        comparison.compare(tmp_path / name, saved(tmp_path / "b.exr", linear()))


def test_pixels_that_are_not_numbers_are_counted(tmp_path: Path) -> None:
    pixels = linear()
    pixels[0, :3] = math.nan
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(InputError, match="3 of 1230 pixels are NaN or infinite"):
        comparison.compare(tmp_path / "a.npy", saved(tmp_path / "b.exr", linear()))


def folders(tmp_path: Path, *names: str) -> None:
    """ours/ with pictures that get worse by name, theirs/ with their references in another format."""
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(names):
        saved(tmp_path / "ours" / f"{name}.exr", linear() + np.float32(0.01 * (number + 1)))
        saved(tmp_path / "theirs" / f"{name}.npy", linear())


def test_folders_are_compared_by_name(run: Run, tmp_path: Path) -> None:
    folders(tmp_path, "0001", "0002", "0010")
    result = run("compare", "ours", "theirs", "-o", "difference_{stem}.png")
    assert result.code == 0
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[0] for row in rows[1:]] == ["0001", "0002", "0010", "mean", "worst"]
    alone = [
        comparison.compare(tmp_path / f"ours/{n}.exr", tmp_path / f"theirs/{n}.npy").scores for n in ("0001", "0010")
    ]
    assert float(rows[1][1]) == pytest.approx(alone[0]["psnr"], abs=0.01)
    assert rows[5][1:3] == rows[3][1:3] == [f"{alone[1]['psnr']:.2f}", f"{alone[1]['ssim']:.4f}"]
    values = [float(row[1]) for row in rows[1:]]
    assert values[3] == pytest.approx(np.mean(values[:3]), abs=0.01)
    assert len(list(tmp_path.glob("difference_00*.png"))) == 3
    lines = run("compare", "ours/*.exr", "theirs", "--json").results
    assert [Path(line["picture"]).stem for line in lines] == ["0001", "0002", "0010"]
    assert lines[2]["psnr"] == pytest.approx(alone[1]["psnr"])


def test_every_picture_of_a_folder_keeps_the_limits(run: Run, tmp_path: Path) -> None:
    folders(tmp_path, "a", "b", "c")
    limit = comparison.compare(tmp_path / "ours/b.exr", tmp_path / "theirs/b.npy").scores["psnr"] + 0.1
    result = run("compare", "ours", "theirs", "--min-psnr", limit)
    assert result.code == 1
    assert f"of c, the worst of 2 that are, below {limit:g}" in result.err
    assert run("compare", "ours", "theirs", "--min-psnr", 10).code == 0


def test_a_picture_without_a_reference_is_a_note_a_reference_without_a_picture_an_error(
    run: Run, tmp_path: Path
) -> None:
    folders(tmp_path, "a", "b", "c")
    (tmp_path / "theirs" / "b.npy").unlink()
    result = run("compare", "ours", "theirs")
    assert (result.code, "note: ours: 1 (b) without a reference in theirs" in result.err) == (0, True)
    (tmp_path / "ours" / "c.exr").unlink()
    result = run("compare", "ours", "theirs")
    assert (result.code, "error: theirs: 1 (c) without a picture in ours" in result.err) == (1, True)
    (tmp_path / "ours" / "a.exr").unlink()
    assert "error: ours: has no picture of the name of one in theirs" in run("compare", "ours", "theirs").err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ours", "theirs/a.npy"), 1, "theirs/a.npy: is one file, and ours many"),
        (("ours/a.exr", "theirs"), 1, "ours/a.exr: is one file, and theirs many"),
        (("ours", "theirs", "-o", "d.png"), 2, "put {stem} into the name"),
        (("ours", "theirs", "-o", "{camera}.png"), 2, "only {stem} is replaced here"),
        (("ours", "empty"), 1, "empty: holds no picture files"),
        (("ours", "theirs/*.png"), 1, "matches no picture file"),
    ],
)
def test_folders_that_cannot_be_compared(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    folders(tmp_path, "a")
    (tmp_path / "empty").mkdir()
    result = run("compare", *arguments)
    assert result.code == code
    assert words in " ".join(result.err.replace("│", " ").split())
