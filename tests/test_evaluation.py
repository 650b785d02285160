"""Evaluation: metrics against independent ones, confidence, groups, the tables, the page, the race with Mitsuba."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.command import Run

from renderformer.checkpoints import build_model, save_model
from renderformer.config import config_from_dict
from renderformer.data.errors import InputError
from renderformer.evaluation import equal_time, measurement, metrics, report

SMALL = {
    "latent_dim": 32,
    "num_layers": 1,
    "num_heads": 1,
    "dim_feedforward": 48,
    "num_register_tokens": 2,
    "vertex_pe_num_freqs": 2,
    "texture_encode_patch_size": 1,
    "view_transformer_latent_dim": 32,
    "view_transformer_ffn_hidden_dim": 48,
    "view_transformer_n_heads": 1,
    "view_transformer_n_layers": 1,
    "view_transformer_include_self_attn": False,
}
RAYS = {**SMALL, "ray_features": "light_cache", "output": "correction", "light_tokens": 48}
V1 = {**SMALL, "use_dpt_decoder": False}


def noisy_pair() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    a = rng.random((1, 40, 48, 3)).astype(np.float32)
    return a, np.clip(a + rng.normal(0, 0.1, a.shape), 0, 1).astype(np.float32)


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics", reason="needs the extra `reference`")
    a, b = noisy_pair()
    x, y = (metrics.display(torch.from_numpy(image)).numpy()[0].astype(np.float64) for image in (a, b))
    ours = metrics.psnr(torch.from_numpy(a), torch.from_numpy(b))
    assert float(ours) == pytest.approx(skimage.peak_signal_noise_ratio(x, y, data_range=1), abs=1e-3)
    similar = skimage.structural_similarity(
        x, y, channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(metrics.ssim(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(similar, abs=5e-3)


def test_ssim_of_pictures_smaller_than_its_window() -> None:
    picture = torch.rand(1, 8, 8, 3, generator=torch.manual_seed(0))
    assert float(metrics.ssim(picture, picture)) == pytest.approx(1, abs=1e-5)
    assert float(metrics.ssim(picture, 1 - picture)) < 0.5


def test_relative_mse_by_hand() -> None:
    reference = torch.full((2, 40, 50, 3), 2.0)
    picture = reference.clone()
    picture[0] += 0.5
    picture[1, :20, :, 0] -= 1.0
    expected = [0.25 / 4.01, 1 / 4.01 / 3 * (1000 - 2) / 1998]
    assert metrics.relative_mse(picture, reference).tolist() == pytest.approx(expected, rel=1e-5)


def test_relative_mse_leaves_out_a_thousandth_of_the_pixels() -> None:
    reference = torch.ones(1, 40, 50, 3)
    picture = reference.clone()
    picture[0, 0, :2] = 1000.0
    assert float(metrics.relative_mse(picture, reference)) == 0
    picture[0, 1, 0] = 2.0
    assert float(metrics.relative_mse(picture, reference)) == pytest.approx(1 / 1.01 / 1998, rel=1e-5)


def flat_flip(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """FLIP of two pictures of one linear colour each, by the paper: only the colour term counts."""
    from skimage.color import rgb2lab, rgb2xyz, xyz2lab

    def hunt(linear: npt.ArrayLike) -> npt.NDArray[np.float64]:
        srgb = np.asarray(linear, np.float64)
        srgb = np.where(srgb <= 0.0031308, 12.92 * srgb, 1.055 * np.maximum(srgb, 1e-9) ** (1 / 2.4) - 0.055)
        assert np.allclose(rgb2lab(srgb), xyz2lab(rgb2xyz(srgb)))
        lightness, x, y = rgb2lab(srgb)
        return np.array([lightness, 0.01 * lightness * x, 0.01 * lightness * y])

    def distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
        d = np.abs(hunt(a) - hunt(b))
        return float((d[0] + math.hypot(d[1], d[2])) ** 0.7)

    largest = distance((0, 1, 0), (0, 0, 1))
    knee, error = 0.4 * largest, distance(a, b)
    return 0.95 * error / knee if error < knee else 0.95 + 0.05 * (error - knee) / (largest - knee)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.2, 0.2, 0.2), (0.3, 0.3, 0.3)),
        ((0.6, 0.1, 0.1), (0.5, 0.2, 0.1)),
        # Radiance above white is clamped.
        ((0.5, 0.5, 0.5), (7.0, 7.0, 7.0)),
    ],
)
def test_flip_of_flat_pictures_is_its_colour_difference(
    a: tuple[float, float, float], b: tuple[float, float, float]
) -> None:
    pytest.importorskip("flip_evaluator", reason="needs the extra `metrics`")
    pytest.importorskip("skimage", reason="needs the extra `reference`")
    one, other = (torch.tensor(colour).expand(1, 32, 32, 3) for colour in (a, b))
    error = metrics.flip(one, other)
    assert error.shape == (1, 32, 32)
    assert error.mean() == pytest.approx(flat_flip(a, tuple(min(c, 1.0) for c in b)), abs=0.01)
    assert metrics.flip(one, one).max() == 0


def test_flip_marks_the_place_of_the_error() -> None:
    pytest.importorskip("flip_evaluator", reason="needs the extra `metrics`")
    reference = torch.full((2, 64, 64, 3), 0.3)
    picture = reference.clone()
    picture[1, 40:44, 8:12] = 0.9
    error = metrics.flip(picture, reference)
    assert error[0].max() == 0
    assert np.unravel_index(error[1].argmax(), (64, 64))[0] in range(38, 46)
    assert error[1, 42, 10] > 0.5
    assert error[1, 10, 50] < 0.01


def test_interval_is_students() -> None:
    mean, half = measurement.interval(np.array([1.0, 2.0, 3.0]))
    # 4.3027 is the 97.5 % point of Student's t for two degrees of freedom.
    assert (mean, half) == (2.0, pytest.approx(4.3027 / math.sqrt(3), rel=1e-4))
    assert measurement.interval(np.array([5.0])) == (5.0, None)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        mean, half = measurement.interval(rng.normal(3, 2, 6))
        assert half is not None
        covered += abs(mean - 3) < half
    assert 0.93 < covered / 2000 < 0.97


def facts(**changes: object) -> measurement.SceneFacts:
    return replace(measurement.SceneFacts(1, "box", 1, 100, None), **changes)


def test_scenes_fall_into_groups() -> None:
    scenes = [
        facts(),
        facts(stage="floor", lights=3, triangles=128, roughness=0.05),
        facts(lights=8, triangles=3000, roughness=0.1),
        facts(stage="wall", lights=4, triangles=383, roughness=0.9),
    ]
    assert measurement.groups(scenes) == {
        "stage": {"box": [0, 2], "floor": [1], "wall": [3]},
        "lights": {"1": [0], "3 to 4": [1, 3], "5 to 8": [2]},
        "roughness": {"up to 0.1": [1, 2], "over 0.3": [3], "nothing glossy": [0]},
        "triangles": {"up to 127": [0], "128 to 383": [1, 3], "1,024 and more": [2]},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of two views of 16 pixels."""
    for package in ("mitsuba", "manifold3d", "skimage", "flip_evaluator"):
        pytest.importorskip(package, reason="needs the extras `reference` and `metrics`")
    from renderformer.data.sets.generation import generate
    from renderformer.data.sets.manifest import HELD_OUT_SEED, Recipe

    folder = tmp_path_factory.mktemp("heldout")
    generate(
        folder,
        3,
        Recipe(seed=HELD_OUT_SEED, views=2, resolution=16, spp=4, batches=1, scenes_per_shard=3, max_triangles=64),
    )
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of random weights, one with ray features and one of the V1 architecture."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("rays", RAYS), ("v1", V1)):
        torch.manual_seed(0)
        save_model(build_model(config_from_dict(config, name)), folder / name)
    return {"rays": folder / "rays", "v1": folder / "v1"}


def test_seeds_stages_and_counts_come_from_the_shards(data: Path) -> None:
    from renderformer.data.sets.procedural_scenes import procedural_scene
    from renderformer.data.sets.shards import ShardReader

    reader = ShardReader(data)
    for i in range(3):
        arrays = reader.scene(i)
        scene = procedural_scene(arrays.seed, 1, 64)
        rows = scene.materials[(scene.materials[:, 10:] == 0).all(axis=1)]
        shiny = rows[rows[:, 3] > 0, 6]
        fact = measurement.SceneFacts.of(arrays)
        assert (fact.stage, fact.triangles, fact.lights) == (arrays.stage, len(scene), len(scene.light_triangles))
        assert fact.roughness == (pytest.approx(shiny.min(), rel=1e-3) if len(shiny) else None)


def test_scores_are_those_of_the_pictures(data: Path, models: dict[str, Path]) -> None:
    from renderformer.renderer import Renderer
    from renderformer.training.dataset import TrainingSet

    renderer = Renderer.from_pretrained(models["rays"], device="cpu")
    scenes = TrainingSet(data, light_tokens=renderer.config.light_tokens)
    measured = measurement.measure(renderer.model, scenes, pictures=True)
    assert measured.views == 2
    assert measured.pictures["model"].shape == (3, 2, 16, 16, 3)
    quick = measurement.evaluate(renderer.model, scenes)
    first = measurement.first_scores(scenes)
    assert measured.scores["model"]["psnr"].ravel() == pytest.approx(quick["psnr"])
    assert measured.scores["model"]["ssim"].ravel() == pytest.approx(quick["ssim"])
    assert measured.scores["light_cache"]["psnr"].ravel() == pytest.approx(first["psnr"])
    assert measured.scores["light_cache"]["ssim"].ravel() == pytest.approx(first["ssim"])
    # The stored 8-bit pictures are the scored ones and those of the renderer.
    shown = measured.pictures["model"][1, 0] / 255.0
    error = ((shown - measured.pictures["reference"][1, 0] / 255.0) ** 2).mean()
    assert -10 * math.log10(error) == pytest.approx(measured.scores["model"]["psnr"][1, 0], abs=0.1)
    from renderformer.data.sets.shards import ShardReader

    scene = ShardReader(data).scene(1).to_scene()
    drawn = metrics.display(torch.from_numpy(renderer.render(scene, 16)[0].hdr.copy())).numpy()
    assert np.abs(drawn - shown).mean() < 0.01


def test_a_model_that_draws_nonsense_is_refused(data: Path, models: dict[str, Path]) -> None:
    from renderformer.checkpoints import load_model
    from renderformer.training.dataset import TrainingSet

    model = load_model(models["rays"]).eval()
    next(model.parameters()).data.fill_(math.nan)
    with pytest.raises(InputError, match="scene 0: the model's picture is not finite"):
        measurement.measure(model, TrainingSet(data, light_tokens=48))


class Page(HTMLParser):
    """Collects the content of a page; refuses tags that are not closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("kind", ["rays", "v1"])
def test_the_command_prints_tables_and_writes_the_page(
    data: Path, models: dict[str, Path], run: Run, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "page.html"
    code, out, err = run("evaluate", "--data", data, "--model", models[kind], "--html", file, "--goals")
    assert (code, err) == (0, "")
    assert out.startswith(f"{data}: 3 scenes, 6 views of 16 x 16 px\n")
    for words in ("model", "light cache, no network", "dB over no network", "By stage", "By roughness", "± ", "Goals"):
        assert words in out
    assert "SSIM: " in out
    assert "goal 0.98, missed by" in out
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    text = " ".join(page.text)
    for seed in range(1_000_000_000, 1_000_000_003):
        assert f"scene {seed}, view 0" in text
    assert page.sources
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    code, _, err = run("evaluate", "--data", data, "--model", models[kind], "--html", file)
    assert code == 1
    assert err == f"error: {file}: exists already; give --overwrite or another name\n"


def test_json_is_one_line_for_each_set(data: Path, models: dict[str, Path], run: Run) -> None:
    code, out, _ = run("evaluate", "--data", data, "--data", data, "--model", models["rays"], "--json", "--limit", 2)
    assert code == 0
    first, second = map(json.loads, out.splitlines())
    assert first == second
    assert (first["scenes"], first["views"], first["resolution"]) == (2, 4, 16)
    assert set(first["scores"]) == set(measurement.METHODS)
    assert set(first["scores"]["model"]) == set(measurement.METRICS)
    assert set(first["scores"]["model"]["psnr"]) == {"mean", "confidence"}
    gain = first["scores"]["model"]["psnr"]["mean"] - first["scores"]["light_cache"]["psnr"]["mean"]
    assert first["gain"]["mean"] == pytest.approx(gain)
    for members in first["groups"].values():
        assert sum(group["scenes"] for group in members.values()) == 2
        mean = sum(group["scenes"] * group["model"]["psnr"]["mean"] for group in members.values()) / 2
        assert mean == pytest.approx(first["scores"]["model"]["psnr"]["mean"])


def test_without_a_network_the_light_cache_is_measured(data: Path, run: Run) -> None:
    code, out, _ = run("evaluate", "--data", data, "--no-network", "--json", "--limit", 1)
    assert code == 0
    scores = json.loads(out)["scores"]
    assert scores["model"] == scores["light_cache"]
    assert 20 < scores["model"]["psnr"]["mean"] < 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "nowhere"), "manifest.json: no such file"),
        (("--data", "nowhere", "--model", "also/nowhere"), "also/nowhere"),
        (("--data", "nowhere", "--html", "no/such/page.html"), "the folder no/such does not exist"),
    ],
)
def test_bad_input_is_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run("evaluate", *arguments)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert words in err


def test_what_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    monkeypatch.setitem(sys.modules, "pyoidn", None)
    with pytest.raises(InputError, match=r"renderformer\[metrics\]"):
        metrics.flip(torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8, 3))
    with pytest.raises(InputError, match=r"renderformer\[denoise\]"):
        equal_time.Denoiser()


def test_sample_counts_are_ones_that_the_sampler_keeps() -> None:
    def accepted(count: int) -> bool:
        # Mitsuba's multijitter sampler rounds up: isqrt(count) rows, and as many columns as needed.
        return count == math.isqrt(count) * -(-count // math.isqrt(count))

    for target in np.linspace(1, 150, 500):
        nearest = min(filter(accepted, range(1, 200)), key=lambda count: abs(math.log(count / target)))
        assert equal_time.samples_for(0.01 * target, 0.01) == nearest
    assert equal_time.samples_for(-1.0, 0.01) == 1


def test_the_denoiser_removes_noise_and_keeps_the_light() -> None:
    pytest.importorskip("pyoidn", reason="needs the extra `denoise`")
    rng = np.random.default_rng(0)
    clean = np.full((64, 64, 3), 0.4, np.float32)
    clean[:, 32:] = (4.0, 2.0, 1.0)
    noisy = (clean * rng.gamma(4, 1 / 4, clean.shape)).astype(np.float32)
    result = equal_time.Denoiser()(noisy)
    assert np.abs(result - clean).mean() < 0.25 * np.abs(noisy - clean).mean()
    assert result.mean(axis=(0, 1)) == pytest.approx(clean.mean(axis=(0, 1)), rel=0.1)


def test_albedo_and_normals_save_what_noise_hides() -> None:
    pytest.importorskip("pyoidn", reason="needs the extra `denoise`")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    albedo = np.where((x // 4 + y // 4) % 2 == 0, 0.4, 0.6).astype(np.float32)[..., None].repeat(3, axis=2)
    noisy = (albedo * rng.gamma(2, 1 / 2, albedo.shape)).astype(np.float32)
    normal = np.broadcast_to(np.float32([0, 0, 1]), albedo.shape)
    denoise = equal_time.Denoiser()
    with_guides, without = denoise(noisy, (albedo, normal)), denoise(noisy)
    assert np.abs(with_guides - albedo).mean() < 0.7 * np.abs(without - albedo).mean()


def test_the_race_gives_mitsuba_the_models_time(data: Path, models: dict[str, Path]) -> None:
    pytest.importorskip("pyoidn", reason="needs the extra `denoise`")
    from renderformer.data.sets.shards import ShardReader
    from renderformer.renderer import Renderer

    renderer = Renderer.from_pretrained(models["rays"], device="cpu")
    reader = ShardReader(data)
    before = torch.get_num_threads()
    contests = equal_time.compare(renderer, reader, 2)
    assert torch.get_num_threads() == before
    assert [contest.views for contest in contests] == list(equal_time.VIEWS)
    drawn = renderer.render(reader.scene(0).to_scene(), 16)[0].hdr.copy()
    truth = torch.from_numpy(reader.scene(0).hdr[:1].astype(np.float32))
    for contest in contests:
        results = contest.results
        assert set(results) == {"model", *equal_time.RIVALS}
        assert results["model"]["psnr"][0] == pytest.approx(float(metrics.psnr(torch.from_numpy(drawn)[None], truth)))
        assert (results["mitsuba"]["spp"] >= results["mitsuba_oidn"]["spp"]).all()
        assert (results["mitsuba_oidn"]["spp"] >= results["mitsuba_oidn_guided"]["spp"]).all()
        assert all((scores["seconds"] > 0).all() for scores in results.values())
        assert contest.pictures["mitsuba"].shape == (2, 16, 16, 3)
    # Preparing the scene weighs less when more pictures share it.
    assert contests[1].results["model"]["seconds"].mean() < contests[0].results["model"]["seconds"].mean()


def contest(**decibels: float) -> equal_time.Contest:
    def results(value: float) -> dict[str, npt.NDArray[np.float64]]:
        return {key: np.array([value]) for key in ("seconds", "spp", "psnr", "ssim", "flip")}

    return equal_time.Contest(1, {method: results(value) for method, value in decibels.items()}, {})


def scores(resolution: int, decibels: float, first: float, similar: float) -> measurement.Measurement:
    values = {m: {k: np.full((1, 1), similar) for k in measurement.METRICS} for m in measurement.METHODS}
    values["model"]["psnr"] = np.full((1, 1), decibels)
    values["light_cache"]["psnr"] = np.full((1, 1), first)
    return measurement.Measurement(Path("set"), resolution, (facts(),), values, {}, {})


def test_goals_are_said_to_be_met_or_missed_and_by_how_much() -> None:
    races = [contest(model=45.0, mitsuba=50.0, mitsuba_oidn=43.0, mitsuba_oidn_guided=43.5)]
    lines = [str(goal) for goal in report.goals(scores(256, 45.0, 44.5, 0.99), races)]
    assert lines == [
        "PSNR: 45.00 dB, goal 44.5 dB, met, by 0.50 dB",
        "SSIM: 0.9900, goal 0.98, met, by 0.0100",
        "worst view: 45.00 dB, goal 36 dB, met, by 9.00 dB",
        "over the picture without a network: 0.50 dB, goal 1 dB, missed by 0.50 dB",
        "over Mitsuba + OIDN in equal time, one picture: 1.50 dB, goal 3 dB, missed by 1.50 dB",
    ]
    # The goal of speed is for 256 pixels, and other sizes have no goal in decibels.
    assert [goal.name for goal in report.goals(scores(96, 33.0, 29.0, 0.96), races)] == [
        "SSIM", "worst view", "over the picture without a network",
    ]  # fmt: skip


def test_error_maps_go_from_black_over_red_and_yellow_to_white() -> None:
    level = np.array([[0.0, 0.1, 0.2, 0.3, 1.0]], np.float16)
    expected = [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255]]
    assert np.abs(metrics.heat(level, report.ERROR_SCALE)[0].astype(int) - expected).max() <= 1


def test_names_on_the_page_are_text_and_not_markup(tmp_path: Path) -> None:
    picture, error = np.zeros((1, 1, 4, 4, 3), np.uint8), np.zeros((1, 1, 4, 4), np.float16)
    shown = replace(
        scores(64, 33.0, 29.0, 0.96),
        folder=Path("<b>&"),
        pictures=dict.fromkeys(("reference", "model", "light_cache"), picture),
        errors=dict.fromkeys(("model", "light_cache"), error),
    )
    report.write_page(tmp_path / "page.html", [(shown, [])], "<script>alert(1)</script>")
    page = Page()
    page.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not {"script", "b&"} & set(page.tags)
    assert any(text.startswith("<b>&: 1 scenes") for text in page.text)
