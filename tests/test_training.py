"""Training: exact augmentations, exact resume, the same steps by one process or several, models that learn."""

import csv
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from helpers.models import SMALL
from helpers.shapes import box
from typer.testing import CliRunner

from renderformer.checkpoints import build_model, load_model
from renderformer.cli.main import app
from renderformer.config import config_from_dict
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Material, Scene
from renderformer.data.sets import manifest, shards
from renderformer.data.unit_size import UnitSize
from renderformer.evaluation import metrics
from renderformer.evaluation.measurement import evaluate, predict
from renderformer.model.physical import first_answer
from renderformer.renderer import Renderer
from renderformer.training import dataset, features, loop, samples
from renderformer.training.config import TrainingConfig, load_config
from renderformer.training.objective import LOSS_NAMES, LOSSES, Objective, correction_loss

TINY = {
    **SMALL,
    "view_transformer_n_layers": 2,
    "view_transformer_include_self_attn": False,
    "ray_features": "light_cache",
    "output": "correction",
    "light_tokens": 64,
}
SIZE = 32


def box_scene() -> Scene:
    objects = (
        box(0.3, Material((0.6, 0.2, 0.1), 0.3, 0.3)),
        box((1, 1, 0.02), Material((0.2, 0.5, 0.6)), (0, 0, -0.3), "floor"),
        Light((0.7, -0.9, 1.8), emission=(3000.0, 2000.0, 1000.0)).mesh(),
    )
    return Scene(objects, (Camera.from_angles(20, 30, 1.6), Camera.from_angles(-60, 40, 1.8)))


def example_of(scene: Scene, size: int = SIZE) -> dataset.Example:
    inputs = features.cast_scene(scene, 64, size, rays=True)
    tokens, pixels = inputs.tokens, inputs.images
    # Pictures that a correction of the first answer can reach.
    changes = 0.8 * pixels[..., RGB.indirect] - 0.3 * pixels[..., RGB.reflection]
    hdr = first_answer(torch.from_numpy(pixels.astype(np.float32))).numpy().astype(np.float16) + changes
    return dataset.Example(
        tokens[:, features.CORNERS].reshape(-1, 3, 3),
        tokens[:, features.NORMALS].reshape(-1, 3, 3),
        tokens[:, features.MATERIAL],
        tokens[:, features.LIGHT].reshape(-1, 5, 3),
        inputs.c2w,
        np.array([camera.fov for camera in scene.cameras], np.float32),
        pixels,
        hdr,
    )


class Memory(list[dataset.Example]):
    """A training set of given examples."""

    @property
    def resolution(self) -> int:
        return self[0].hdr.shape[1]

    @property
    def token_counts(self) -> np.ndarray:
        return np.array([len(example.triangles) for example in self])

    def refresh(self) -> int:
        return 0


QUICK = TrainingConfig(model=TINY, batch=1, views=1, precision="fp32", sample_every=0)


@pytest.fixture(autouse=True)
def new_process() -> None:
    """accelerate stores its state per process; each test needs a new one."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def small() -> Memory:
    """One scene at 16 pixels, the least that trains."""
    return Memory([example_of(box_scene(), 16)])


@pytest.mark.parametrize("seed", range(4))
def test_augmented_features_are_those_of_the_augmented_scene(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The augmentation of the tokens moves cameras and light as it would move the triangles of the scene.
    monkeypatch.setattr(dataset, "light_tokens_of", lambda example, rng: np.arange(len(example.triangles)))
    scene = box_scene()
    example = example_of(scene)
    whole = replace(
        example,
        triangles=scene.triangles,
        normals=scene.normals,
        materials=scene.materials,
        triangle_light=np.zeros((len(scene), 5, 3), np.float32),
    )
    turned = dataset.augment(whole, np.random.default_rng(seed), None)
    caster = RayCaster(turned.triangles, turned.normals, turned.materials)
    caster.light_up()
    for view, pixels in enumerate(turned.pixels):
        cast = caster.features(Camera(turned.c2w[view], float(turned.fov[view])), SIZE, SIZE, threads=1)
        # Samples sit elsewhere in a mirrored pixel and on a light whose corners turned, so edges differ a little, and
        # surfels and cells elsewhere on surfaces.
        cast, pixels = (np.delete(image, RGB.spread.start, axis=-1) for image in (cast, pixels.astype(np.float32)))
        close = np.isclose(cast, pixels, rtol=0.05, atol=0.02)
        assert close.mean() > 0.95
        assert np.abs(cast - pixels).mean() < 0.03


def test_augmentation_draws_views_and_keeps_the_picture() -> None:
    example = example_of(box_scene())
    augmented = dataset.augment(example, np.random.default_rng(3), 1)
    assert augmented.hdr.shape[0] == augmented.c2w.shape[0] == augmented.pixels.shape[0] == 1
    sums = np.sort(example.hdr.astype(np.float64).sum(axis=(1, 2)), axis=-1)
    assert np.isclose(np.sort(augmented.hdr.astype(np.float64).sum(axis=(1, 2)))[0], sums, rtol=1e-2).all(axis=1).any()


def test_padding_does_not_change_a_prediction() -> None:
    torch.manual_seed(0)
    model = build_model(config_from_dict(TINY)).eval()
    small = example_of(box_scene())
    large = replace(
        small,
        triangles=np.concatenate([small.triangles, small.triangles * 0.5]),
        normals=np.concatenate([small.normals] * 2),
        materials=np.concatenate([small.materials] * 2),
        triangle_light=np.concatenate([small.triangle_light] * 2),
    )
    with torch.inference_mode():
        alone = predict(model, dataset.collate([small]))
        padded = predict(model, dataset.collate([small, large]))
    torch.testing.assert_close(padded[0], alone[0], rtol=1e-4, atol=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, small: Memory) -> None:
    data = Memory(list(small) * 3)
    config = TrainingConfig(model=TINY, steps=6, batch=2, views=1, warmup=0.3, precision="fp32", evaluate_every=3)
    uninterrupted = loop.Trainer(config, [data], None, tmp_path / "whole")
    assert uninterrupted.run(lambda line: None)
    first = loop.Trainer(config.replace(save_every=1), [data], None, tmp_path / "parts")
    assert not first.run(lambda line: None, until=0.0)
    assert first.step == 1
    second = loop.Trainer(config, [data], None, tmp_path / "parts")
    assert second.step == 1
    assert second.run(lambda line: None)
    for name, value in uninterrupted.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in uninterrupted.averaged_model.state_dict().items():
        assert torch.equal(value, second.averaged_model.state_dict()[name]), name


def test_a_state_of_another_model_is_refused(tmp_path: Path, small: Memory) -> None:
    data = small
    config = TrainingConfig(model=TINY, steps=1, batch=1, precision="fp32")
    loop.Trainer(config, [data], None, tmp_path).run(lambda line: None)
    with pytest.raises(InputError, match="another model"):
        loop.Trainer(config.replace(model={**TINY, "num_layers": 1}), [data], None, tmp_path)


def test_bad_configurations_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="stepz"):
        TrainingConfig.read({"stepz": 1}, "c.yaml")
    with pytest.raises(InputError, match='steps is "many"'):
        TrainingConfig.read({"steps": "many"}, "c.yaml")


@pytest.mark.parametrize("steps", [{}, {"budget": 0.0}])
def test_the_rate_follows_the_steps(tmp_path: Path, small: Memory, steps: dict[str, float]) -> None:
    trainer = loop.Trainer(QUICK.replace(steps=100, warmup=0.1, learning_rate=1.0, **steps), [small], None, tmp_path)
    rates = []
    for trainer.step in (0, 5, 10, 55, 100):
        rates.append(trainer.learning_rate())
    assert rates == pytest.approx([0.01, 0.505, 1.0, 0.5, 0.0])


def test_the_rate_follows_the_clock_of_all_chunks(tmp_path: Path, small: Memory) -> None:
    config = QUICK.replace(steps=1, budget=10.0, warmup=0.1, learning_rate=1.0)
    trainer = loop.Trainer(config, [small], None, tmp_path)
    for seconds, rate in ((0, 0.01), (60, 1.0), (330, 0.5), (600, 0.0)):
        trainer.seconds = seconds
        assert trainer.learning_rate() == pytest.approx(rate)
    trainer.seconds = 599.99
    assert trainer.run(lambda line: None)
    again = loop.Trainer(config, [small], None, tmp_path)
    assert again.progress == 1
    assert again.step == trainer.step >= 1


def test_the_processes_of_a_step_share_its_scenes(small: Memory) -> None:
    data = Memory([replace(small[0], fov=small[0].fov + k) for k in range(6)])
    single_process = dataset.Steps([data], 0, batch=4, views=1)[1]
    parts = [dataset.Steps([data], 0, batch=4, views=1, process=i, processes=2)[1] for i in range(2)]
    for i, part in enumerate(parts):
        assert torch.equal(part.pixels, single_process.pixels[i::2])
        assert torch.equal(part.triangles, single_process.triangles[i::2])
    # Six scenes, two a step: three steps show them all.
    pairs = dataset.Steps([data], 0, batch=2, views=1, augmented=False)
    assert len({float(fov) for step in range(3) for fov in pairs[step].fov[:, 0, 0]}) == 6


def test_scenes_of_like_size_share_a_batch() -> None:
    counts = np.random.default_rng(0).integers(40, 385, 256)
    steps = dataset.Steps([], 0, batch=8, views=1)
    rows = [steps._rows(counts, step) for step in range(32)]
    assert sorted(np.concatenate(rows)) == list(range(256))
    assert np.mean([counts[r].max() for r in rows]) < counts.mean() + 35
    # The order must not be from small to large, which would bias the optimiser.
    assert abs(np.corrcoef(range(32), [counts[r].mean() for r in rows])[0, 1]) < 0.5


def test_larger_pictures_join_late_with_fewer_views(tmp_path: Path, small: Memory) -> None:
    doubled = {key: getattr(small[0], key).repeat(2, 1).repeat(2, 2) for key in ("hdr", "pixels")}
    big = replace(small[0], **doubled)
    config = QUICK.replace(views=4, larger_from=0.5, steps=8)
    trainer = loop.Trainer(config, [Memory([big]), small], None, tmp_path)
    early = trainer._batches(all_sizes=False)
    assert {next(early).hdr.shape[1:4] for _ in range(8)} == {(2, 16, 16)}
    late = trainer._batches(all_sizes=True)
    assert {next(late).hdr.shape[1:4] for _ in range(8)} == {(2, 16, 16), (1, 32, 32)}


def test_the_inputs_of_training_are_those_of_the_renderer() -> None:
    # Of a scene in centimetres, far from the origin.
    unit = UnitSize(0.01, (-7.0, 3.0, 0.0))
    cameras = []
    for camera in box_scene().cameras:
        c2w = camera.c2w.copy()
        c2w[:3, 3] = unit.back(c2w[:3, 3])
        cameras.append(replace(camera, c2w=c2w))
    meshes = (replace(mesh, triangles=unit.back(mesh.triangles).astype(np.float32)) for mesh in box_scene().objects)
    scene = Scene(tuple(meshes), tuple(cameras))
    torch.manual_seed(0)
    model = build_model(config_from_dict(TINY)).eval()
    inputs = features.cast_scene(scene, 64, 16, rays=True)
    prepared = Renderer(model, "cpu").encode(scene)
    assert inputs.tokens.shape == (len(prepared.encoded.tokens[0]) - model.config.num_register_tokens, 46)
    moved = prepared.unit.camera(scene.cameras[0])
    np.testing.assert_allclose(inputs.c2w[0], moved.c2w, rtol=1e-5)
    assert prepared.caster is not None
    drawn = prepared.caster.features(moved, 16, 16, threads=1)
    np.testing.assert_allclose(inputs.images[0], drawn, rtol=2e-3, atol=1e-3)


def write_shards(folder: Path, count: int, example: dataset.Example, seed: int = 0) -> None:
    """A data set of one scene a shard, `box_scene` with the pictures of `example`."""
    recipe = manifest.Recipe(seed=seed, views=len(example.fov), resolution=example.hdr.shape[1], scenes_per_shard=1)
    manifest.write_manifest(folder, recipe, {})
    for index in range(count):
        arrays = shards.pack_scenes([(box_scene(), seed + index, 0)], [example.hdr.astype(np.float32)])
        shards.write_shard(shards.shard_path(folder, index), arrays)


def test_inputs_are_made_once_and_read_from_disk(
    tmp_path: Path, small: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path, 1, small[0])
    first = dataset.TrainingSet(tmp_path, light_tokens=64)
    # Materials are half floats in a shard, so a few paths of thrown light meet the surfel beside, which the spread of
    # neighbouring cells tells most.
    light = np.delete(np.arange(RGB.total), RGB.spread)
    np.testing.assert_allclose(first[0].pixels[..., light], small[0].pixels[..., light], rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(first[0].pixels[..., RGB.spread], small[0].pixels[..., RGB.spread], rtol=0.05, atol=1e-3)
    np.testing.assert_array_equal(first[0].hdr, small[0].hdr)
    np.testing.assert_allclose(first[0].triangle_light, small[0].triangle_light, rtol=1e-2, atol=1e-4)
    assert first[0].pixels.base is not None
    # A process that gets it maps the files itself.
    assert len(pickle.dumps(first)) < 10_000
    write_shards(tmp_path, 3, small[0])
    assert first.refresh() == 2
    monkeypatch.setattr(features, "cast_scene", lambda *_: pytest.fail("cast again"))
    assert first.refresh() == 0
    again = dataset.TrainingSet(tmp_path, light_tokens=64)
    assert len(again) == 3
    assert len(dataset.TrainingSet(tmp_path, limit=2, light_tokens=64)) == 2
    # Another token budget needs other features; a process that may not make them finds none.
    with pytest.raises(InputError, match="no finished shard"):
        dataset.TrainingSet(tmp_path, workers=0, light_tokens=32)


def test_an_overfitted_scene_reaches_35_db_and_says_so(tmp_path: Path, small: Memory) -> None:
    write_shards(tmp_path / "data", 1, small[0])
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({"model": TINY, "views": 2, "learning_rate": 3e-3, "precision": "fp32"}))
    arguments = ["train", "--config", config, "--data", tmp_path / "data", "--out", tmp_path / "run", "--overfit", "1"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--threads", "1"])
    assert result.exit_code == 0, result.output
    match = re.search(r"([\d.]+) dB on its own 1 scenes after \d+ s", result.output)
    assert match is not None
    assert float(match[1]) > 35
    scores = evaluate(load_model(tmp_path / "run" / "model"), dataset.TrainingSet(tmp_path / "data", light_tokens=64))
    assert scores["psnr"].mean() == pytest.approx(float(match[1]), abs=0.3)
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 1


def test_scenes_of_all_kinds_train_the_embedded_model(tmp_path: Path) -> None:
    for package in ("mitsuba", "manifold3d", "skimage"):
        pytest.importorskip(package, reason=f"varied scenes need {package}")
    from renderformer.data.sets.generation import generate

    recipe = manifest.Recipe(
        seed=4, views=2, resolution=16, spp=4, batches=1, scenes_per_shard=4, max_triangles=400, kind="varied"
    )
    generate(tmp_path / "data", 4, recipe)
    scenes = [shards.ShardReader(tmp_path / "data").scene(i).to_scene() for i in range(4)]
    assert any(scene.appearance is not None for scene in scenes)
    assert any(scene.environment is not None for scene in scenes)
    data = dataset.TrainingSet(tmp_path / "data", light_tokens=128)
    for example in data:
        for part in (example.pixels, example.triangle_light, example.materials):
            assert np.isfinite(part).all()
    config = QUICK.replace(steps=2, batch=2, evaluate_every=1)
    assert loop.Trainer(config, [data], None, tmp_path / "run").run(lambda line: None)
    assert all(np.isfinite(float(row["loss"])) for row in read_log(tmp_path / "run"))


def test_recomputed_activations_give_the_same_gradients(small: Memory) -> None:
    torch.manual_seed(0)
    model = build_model(config_from_dict(TINY))
    batch = dataset.collate(small)
    gradients = []
    for recompute in (False, True):
        model.set_recompute(recompute)
        model.zero_grad()
        Objective(model, "correction")(batch).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_two_processes_take_the_same_steps_as_one(tmp_path: Path, small: Memory) -> None:
    data = Memory([replace(small[0], hdr=small[0].hdr * np.float16(k)) for k in (1, 2, 3, 4)])
    config = QUICK.replace(steps=4, batch=2, evaluate_every=1, warmup=0.0)

    def train(name: str, processes: int) -> None:
        trainer = loop.Trainer(config, [data], None, tmp_path / name)
        assert trainer.accelerator.num_processes == processes
        trainer.run(lambda line: None)

    debug_launcher(train, ("two", 2), num_processes=2)
    train("one", 1)
    one, two = ([float(row["loss"]) for row in read_log(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-4)
    weights = [load_model(tmp_path / name / "model").state_dict() for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=2e-3, msg=name)


def read_log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_of_a_resumed_run_has_every_step_once(tmp_path: Path, small: Memory) -> None:
    config = QUICK.replace(steps=3, evaluate_every=1, save_every=2)
    loop.Trainer(config, [small], None, tmp_path).run(lambda line: None)
    # As after a stop between the last row and the last state.
    state = tmp_path / "state.safetensors"
    earlier = loop.Trainer(config.replace(steps=2), [small], None, tmp_path / "two")
    earlier.run(lambda line: None)
    state.write_bytes((tmp_path / "two" / "state.safetensors").read_bytes())
    loop.Trainer(config, [small], small, tmp_path).run(lambda line: None)
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["psnr"]) for row in rows] == [False, False, True]


def test_a_training_that_goes_wrong_stops_and_keeps_the_last_good_state(tmp_path: Path, small: Memory) -> None:
    trainer = loop.Trainer(QUICK.replace(steps=400, save_every=10), [small], None, tmp_path)
    losses = iter([1.0] * 110 + [math.nan] * 20)
    trainer._train = lambda batch: next(losses)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"step 119: the loss was not finite .* learning_rate .* last good state"):
        trainer.run(lambda line: None)
    assert loop.Trainer(QUICK, [small], None, tmp_path).step == 110


def test_divergence_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    watch = loop.Watch()
    assert not any(watch.add(float(loss)) for loss in rng.lognormal(0, 0.7, 2000))
    assert not watch.doubtful
    lines = [watch.add(5.0) for _ in range(60)]
    assert any("diverged" in line for line in lines)
    assert watch.doubtful
    spike = loop.Watch()
    assert not any(spike.add(loss) for loss in [1.0] * 200 + [100.0] * 3 + [1.0] * 100)
    assert not spike.doubtful


def test_a_sample_sheet_shows_reference_prediction_and_difference(tmp_path: Path, small: Memory) -> None:
    from PIL import Image

    trainer = loop.Trainer(QUICK.replace(steps=1, sample_every=1), [small], small, tmp_path)
    trainer.run(lambda line: None)
    sheet = np.asarray(Image.open(tmp_path / "samples" / "step_0000001.png"))
    top, left, tile = samples.HEADER, samples.MARGIN, samples.TILE
    reference = sheet[top : top + tile : tile // 16, left : left + tile : tile // 16] / 255
    np.testing.assert_allclose(reference, metrics.display(torch.from_numpy(small[0].hdr[0]).float()), atol=3e-3)
    prediction = sheet[top + tile : top + 2 * tile : tile // 16, left : left + tile : tile // 16] / 255
    difference = sheet[top + 2 * tile : top + 3 * tile : tile // 16, left : left + tile : tile // 16] / 255
    np.testing.assert_allclose(difference, np.minimum(4 * abs(prediction - reference), 1), atol=0.02)


V1 = {
    **{key: value for key, value in TINY.items() if key not in ("ray_features", "output", "light_tokens")},
    "view_transformer_n_layers": 4,
    "dpt_features": 16,
    "dpt_out_channels": [8, 8, 16, 16],
}


@pytest.mark.parametrize("golden", ["", "base_like", "swin_like"])
def test_a_v1_model_trains_from_scratch_and_from_a_checkpoint(
    tmp_path: Path, small: Memory, golden: str, request: pytest.FixtureRequest
) -> None:
    init, settings = None, V1
    if golden:
        init = load_model(request.getfixturevalue("goldens") / golden)
        settings = init.config.to_dict()
    config = QUICK.replace(model=settings, steps=15, loss="log", warmup=0.0, learning_rate=5e-3, evaluate_every=3)
    blind = Memory([replace(small[0], pixels=small[0].pixels[..., :0])])
    loop.Trainer(config, [blind], None, tmp_path, init).run(lambda line: None)
    losses = [float(row["loss"]) for row in read_log(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]
    assert load_model(tmp_path / "model").config == config_from_dict(settings)


def test_every_configuration_is_valid() -> None:
    for path in (Path(__file__).parents[1] / "configs").glob("*.yaml"):
        config = load_config(path)
        assert config.loss in LOSS_NAMES
        config_from_dict(config.model)
    assert set(LOSS_NAMES) == {"tone", "log", "relative", "gradient", "correction"}


def test_the_correction_loss_compares_with_the_first_answer_and_is_least_at_the_mean_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 0.2 + 0.6 * torch.rand(2, 3, 16, 16, 3, generator=generator)
    first = truth * 1.1
    covered = torch.ones(2, 3, 16, 16, 1)
    assert float(correction_loss(first, truth, first, covered)) == pytest.approx(1, abs=0.1)
    assert float(correction_loss(truth, truth, first, covered)) == 0
    # Skewed noise, as path tracers make: most samples dark, few bright.
    torch.manual_seed(0)
    noisy = truth * torch.distributions.Gamma(120.0, 120.0).sample(truth.shape)
    levels = torch.linspace(0.8, 1.1, 61)
    losses = [float(correction_loss(level * truth, noisy, first, covered)) for level in levels]
    assert float(levels[int(np.argmin(losses))]) == pytest.approx(1, abs=0.01)
    # A firefly is no light, and neither is what stands behind the surfaces, nor noise.
    bright = truth.clone()
    bright[0, 0, 5, 5] = 1e4
    assert float(correction_loss(truth, bright, first, covered)) < 10
    covered[0, 0, 5, 5] = 0.9
    assert float(correction_loss(truth, bright, first, covered)) == 0
    noise = truth * torch.distributions.Gamma(2.0, 2.0).sample(truth.shape)
    assert float(correction_loss(first, noise, first, covered)) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_least_where_the_pictures_agree(name: str) -> None:
    picture = torch.rand(1, 1, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    exact, near, far = (float(LOSSES[name](picture * scale, picture)) for scale in (1.0, 1.1, 2.0))
    assert exact == pytest.approx(0, abs=1e-6)
    assert exact < near < far


def test_a_model_of_another_configuration_is_refused_as_start(tmp_path: Path, small: Memory) -> None:
    init = build_model(config_from_dict({**TINY, "num_layers": 1}))
    with pytest.raises(InputError, match="num_layers 1, the configuration's `model` has 2"):
        loop.Trainer(QUICK, [small], None, tmp_path, init)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.yaml", "--data", "d"], "none.yaml: cannot be read"),
        (["--config", "list.yaml", "--data", "d"], "list.yaml: holds [1]; expected keys and values"),
        (["--config", "odd.yaml", "--data", "d"], 'odd.yaml: loss is "l3"; expected one of tone'),
        (["--config", "model.yaml", "--data", "d"], "model.yaml: model: num_layers is 0"),
        (["--config", "good.yaml", "--data", "nowhere"], "nowhere/manifest.json: no such file"),
        (["--config", "good.yaml", "--data", "d", "--init", "nothing"], "nothing: no such folder"),
        (["--config", "good.yaml", "--data", "held-out"], "held-out: holds held-out scenes"),
        (
            ["--config", "good.yaml", "--data", "a", "--data", "b", "--held-out", "c"],
            "c: shares the seeds 6 to 7 with b, which is trained on; measure on",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    manifest.write_manifest(tmp_path / "held-out", manifest.Recipe(seed=manifest.HELD_OUT_SEED), {})
    for name, seed in (("a", 0), ("b", 4), ("c", 6)):
        manifest.write_manifest(tmp_path / name, manifest.Recipe(seed=seed, scenes_per_shard=2), {})
        shards.shard_path(tmp_path / name, 1).touch()
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "list": "[1]", "odd": "loss: l3", "model": "model: {num_layers: 0}", "good": "steps: 1",
    }.items():  # fmt: skip
        Path(f"{name}.yaml").write_text(text)
    result = CliRunner().invoke(app, ["train", *arguments, "--out", "run"])
    assert result.exit_code == 1
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
