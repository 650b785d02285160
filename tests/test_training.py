"""Training: exact augmentations, exact resume, a model that learns one scene."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.raycast import RayCaster
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.training import dataset, features, loop, metrics
from renderformer.training.config import TrainingConfig
from renderformer.training.evaluation import evaluate, predict

TINY = {
    "latent_dim": 64,
    "num_layers": 2,
    "num_heads": 1,
    "dim_feedforward": 96,
    "num_register_tokens": 2,
    "vertex_pe_num_freqs": 6,
    "texture_encode_patch_size": 1,
    "view_transformer_latent_dim": 64,
    "view_transformer_ffn_hidden_dim": 96,
    "view_transformer_n_heads": 1,
    "view_transformer_n_layers": 2,
    "view_transformer_include_self_attn": False,
    "ray_features": "direct",
    "output": "shading",
}
SIZE = 32


def box_scene() -> Scene:
    import trimesh

    box = trimesh.creation.box((0.3, 0.3, 0.3))
    floor = trimesh.creation.box((1, 1, 0.02))
    floor.apply_translation([0, 0, -0.3])
    objects = (
        Mesh("box", box.triangles, materials=Material((0.6, 0.2, 0.1), 0.3, 0.3).row()),
        Mesh("floor", floor.triangles, materials=Material((0.2, 0.5, 0.6)).row()),
        Light((0.7, -0.9, 1.8), emission=(3000.0, 2000.0, 1000.0)).mesh(),
    )
    return Scene(objects, (Camera.from_angles(20, 30, 1.6), Camera.from_angles(-60, 40, 1.8)))


def example_of(scene: Scene, size: int = SIZE) -> dataset.Example:
    tokens, pixels = features.cast_scene(scene, 0, size, ray_features=True)
    light = tokens[:, features.LIGHT].reshape(-1, 2, 3)
    indirect = 0.3 * pixels[..., 7:10] + 0.1 * pixels[..., 10:13]
    hdr = metrics.unlearned(torch.from_numpy(pixels.astype(np.float32)), 0.0).numpy().astype(np.float16) + indirect
    return dataset.Example(
        scene.triangles,
        scene.normals,
        scene.materials,
        light,
        np.stack([camera.c2w for camera in scene.cameras]),
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


@pytest.mark.parametrize("seed", range(4))
def test_augmented_features_are_those_of_the_augmented_scene(seed: int) -> None:
    example = example_of(box_scene())
    turned = dataset.augment(example, np.random.default_rng(seed), None)
    caster = RayCaster(turned.triangles, turned.normals, turned.materials)
    # A half-shadowed triangle is sampled elsewhere once its corners have turned.
    assert np.isclose(caster.triangle_light(), turned.triangle_light, rtol=0.2, atol=0.02).mean() > 0.97
    for view, pixels in enumerate(turned.pixels):
        cast = caster.features(Camera(turned.c2w[view], float(turned.fov[view])), SIZE, SIZE, threads=1)
        # Samples sit elsewhere in a mirrored pixel and on a light whose corners turned, so edges differ a little.
        close = np.isclose(cast, pixels.astype(np.float32), rtol=0.02, atol=0.02)
        assert close.mean() > 0.95
        assert np.abs(cast - pixels).mean() < 0.03


def test_augmentation_draws_views_and_keeps_the_picture() -> None:
    example = example_of(box_scene())
    one = dataset.augment(example, np.random.default_rng(3), 1)
    assert one.hdr.shape[0] == one.c2w.shape[0] == one.pixels.shape[0] == 1
    sums = np.sort(example.hdr.astype(np.float64).sum(axis=(1, 2)), axis=-1)
    assert np.isclose(np.sort(one.hdr.astype(np.float64).sum(axis=(1, 2)))[0], sums, rtol=1e-2).all(axis=1).any()


def test_padding_does_not_change_a_prediction() -> None:
    torch.manual_seed(0)
    model = loop.RenderFormer(loop.ModelConfig.from_dict(TINY)).eval()
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


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    data = Memory([example_of(box_scene())] * 3)
    config = TrainingConfig(model=TINY, steps=6, batch=2, views=1, warmup=0.3, precision="fp32", evaluate_every=3)
    whole = loop.Trainer(config, [data], None, tmp_path / "whole")
    assert whole.run(lambda line: None)
    first = loop.Trainer(replace(config, save_every=1), [data], None, tmp_path / "parts")
    assert not first.run(lambda line: None, until=0.0)
    assert first.step == 1
    second = loop.Trainer(config, [data], None, tmp_path / "parts")
    assert second.step == 1
    assert second.run(lambda line: None)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.averaged_model.state_dict().items():
        assert torch.equal(value, second.averaged_model.state_dict()[name]), name


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    data = Memory([example_of(box_scene())])
    config = TrainingConfig(model=TINY, steps=1, batch=1, precision="fp32")
    loop.Trainer(config, [data], None, tmp_path).run(lambda line: None)
    with pytest.raises(InputError, match="another model"):
        loop.Trainer(replace(config, model={**TINY, "num_layers": 1}), [data], None, tmp_path)


def test_it_learns_the_light_of_one_scene(tmp_path: Path) -> None:
    data = Memory([example_of(box_scene())])
    config = TrainingConfig(model=TINY, steps=180, batch=1, views=2, warmup=0.03, ema=0.9, precision="fp32")
    trainer = loop.Trainer(config, [data], data, tmp_path)
    before = evaluate(trainer.averaged_model, data)
    trainer.run(lambda line: None)
    after = evaluate(trainer.averaged_model, data)
    assert after["psnr"].mean() > before["psnr"].mean() + 6
    assert after["psnr"].mean() > 30


def test_bad_configurations_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="stepz"):
        TrainingConfig.from_dict({"stepz": 1}, "c.yaml")
    with pytest.raises(InputError, match="steps is 'many'"):
        TrainingConfig.from_dict({"steps": "many"}, "c.yaml")
