"""The object layer: sizes, cameras, batching, determinism, ray features, refusals."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.models import DENSE, SHADING, SMALL
from helpers.shapes import ball, box

from renderformer.checkpoints import build_model
from renderformer.config import config_from_dict
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import EMISSION, Light, Material, Scene
from renderformer.renderer import Cancelled, Renderer


def renderer(**changes: object) -> Renderer:
    torch.manual_seed(0)
    return Renderer(build_model(config_from_dict({**DENSE, **changes})), device="cpu")


def scene(detail: int = 1) -> Scene:
    objects = (
        box((1, 1, 0.02), Material((0.3, 0.5, 0.4)), (0, 0, -0.31), "floor"),
        ball(0.3, Material((0.6, 0.3, 0.2), 0.3, 0.2), detail=detail),
        Light((0.7, -0.9, 1.9)).mesh(),
    )
    return Scene(objects, tuple(Camera.orbit(3, 25)))


@pytest.mark.parametrize("extension", [{}, SHADING, {"view_transformer_use_swin_attn": True}])
def test_any_size_is_drawn(extension: dict[str, object]) -> None:
    engine = renderer(**extension)
    images = engine.render(scene(), resolution=(45, 27))
    assert [image.hdr.shape for image in images] == [(27, 45, 3)] * 3
    assert all(np.isfinite(image.hdr).all() for image in images)
    assert images[0].camera is not None
    assert images[0].camera.name == "orbit_000"


@pytest.mark.parametrize("extension", [{}, SHADING])
def test_pictures_do_not_depend_on_the_batch_and_repeat_to_the_byte(
    extension: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, world = renderer(**extension), scene()
    together = engine.render(world, 40)
    again = engine.render(engine.encode(world), 40)
    assert all(np.array_equal(a.hdr, b.hdr) for a, b in zip(together, again, strict=True))
    alone = engine.render(world, 40, cameras=world.cameras[1])
    assert np.array_equal(alone[0].hdr, together[1].hdr)
    # As on a device where views are decoded together.
    monkeypatch.setattr(engine, "_views_at_once", lambda width, height: 2)
    pairs = engine.render(world, 40)
    for a, b in zip(together, pairs, strict=True):
        np.testing.assert_allclose(np.log10(1.01 + a.hdr), np.log10(1.01 + b.hdr), atol=1e-4)


def test_twice_the_light_is_twice_the_picture() -> None:
    engine, world = renderer(**SHADING), scene()
    light = world.objects[2]
    rows = light.materials.copy()
    rows[:, EMISSION] *= 8
    brighter = world.with_object(replace(light, materials=rows))
    dim, bright = engine.render(world, 32)[0].hdr, engine.render(brighter, 32)[0].hdr
    assert dim.max() > 0.1
    np.testing.assert_allclose(bright, 8 * dim, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("indices", [[0, 1], [2]])
def test_what_no_light_reaches_is_black(indices: list[int]) -> None:
    # A scene without a light, and one with nothing else: no mean light to divide radiance by.
    engine, world = renderer(**SHADING), scene()
    dark = world.replace(objects=tuple(world.objects[i] for i in indices))
    assert (engine.render(dark, 32)[0].hdr == 0).all()


def test_each_colour_is_drawn_by_its_own_light() -> None:
    engine, world = renderer(**SHADING), scene()
    light = world.objects[2]
    rows = light.materials.copy()
    rows[:, EMISSION] *= [3, 1, 0]
    white = engine.render(world, 32)[0].hdr
    tinted = engine.render(world.with_object(replace(light, materials=rows)), 32)[0].hdr
    for channel, factor in ((0, 3), (1, 1)):
        # Which pixels are cast again with more samples depends on the brightest colour: a few differ by noise.
        expected = factor * white[..., channel]
        np.testing.assert_allclose(tinted[..., channel], expected, rtol=0.3, atol=1e-4)
        assert np.isclose(tinted[..., channel], expected, rtol=1e-3, atol=1e-4).mean() > 0.95
    assert (tinted[..., 2] == 0).all()


def test_the_order_of_triangles_does_not_matter() -> None:
    engine, world = renderer(**SHADING), scene()
    mesh = world.objects[1]
    order = np.random.default_rng(0).permutation(len(mesh))
    arrays = {key: getattr(mesh, key)[order] for key in ("triangles", "normals", "materials")}
    shuffled = replace(mesh, **arrays)
    a, b = engine.render(world, 32)[0].hdr, engine.render(world.with_object(shuffled), 32)[0].hdr
    # Another triangle stands for those that share a surfel.
    assert np.abs(a - b).mean() < 2e-3 * b.mean()


def test_shading_keeps_to_what_ray_casting_sees() -> None:
    engine, world = renderer(**SHADING), scene()
    lit = engine.encode(world)
    assert lit.caster is not None
    known = lit.caster.features(world.cameras[0], 32, 32)
    picture = engine.render(lit, 32)[0].hdr
    assert (picture[known[..., 0] == 0] == 0).all()
    assert picture[known[..., 0] == 1].min() > 0


def test_a_large_mesh_is_encoded_by_few_tokens_and_kept_whole_for_rays() -> None:
    engine, world = renderer(**SHADING, light_tokens=100), scene(detail=3)
    lit = engine.encode(world)
    assert 50 < lit.encoded.tokens.shape[1] <= 102
    assert not lit.notes
    assert lit.caster is not None
    assert len(lit.caster.triangles) == len(world)


def test_a_wide_picture_holds_the_square_one() -> None:
    # The angle of view is vertical: a wider picture shows more at the sides, the middle stays.
    engine, world = renderer(**SHADING), scene()
    lit = engine.encode(world)
    assert lit.caster is not None
    square = lit.caster.features(world.cameras[0], 32, 32)
    wide = lit.caster.features(world.cameras[0], 64, 32)
    # Gathered light is averaged over cells on both sides of the border.
    np.testing.assert_allclose(wide[2:-2, 18:46], square[2:-2, 2:-2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [0, -3, (64, 0), (1, 2, 3), 10**6, "64", 1.5, None])
def test_impossible_sizes_are_refused(size: object) -> None:
    with pytest.raises(InputError, match="resolution"):
        renderer().render(scene(), size)  # type: ignore[arg-type]


def test_sizes_and_scenes_of_other_types() -> None:
    assert renderer().render(scene(), np.int64(8))[0].hdr.shape == (8, 8, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'bunny\.glb'; expected a Scene; read a file with Scene\.load"):
        renderer().render("bunny.glb", 8)  # type: ignore[arg-type]


def test_missing_cameras_devices_and_precisions_are_refused() -> None:
    with pytest.raises(InputError, match="no cameras"):
        renderer().render(scene().replace(cameras=()))
    model = build_model(config_from_dict(SMALL))
    with pytest.raises(InputError, match="unknown"):
        Renderer(model, device="toaster")
    with pytest.raises(InputError, match="precision"):
        Renderer(model, device="cpu", precision="int3")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="not available"):
            Renderer(model, device="cuda")


def test_running_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = renderer()

    def full(*args: object, **kwargs: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore lines")

    monkeypatch.setattr(engine.model, "view", full)
    with pytest.raises(InputError, match=r"^out of memory with 64 x 64 pixels; [^\n]*$"):
        engine.render(scene(), 64)


def test_pictures_beyond_the_memory_are_refused_before_they_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 2**30 // 4096)
    with pytest.raises(InputError, match=r"^out of memory with 16384 x 16384 pixels, .* GiB of 1; "):
        renderer(**SHADING).render(scene(), 16384)


def test_lower_precision_of_the_triangle_stage_is_close() -> None:
    torch.manual_seed(0)
    model = build_model(config_from_dict({**SMALL, **SHADING}))
    full = Renderer(model, "cpu", "fp32").render(scene(), 32)[0].hdr
    half = Renderer(model, "cpu", "bf16").render(scene(), 32)[0].hdr
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.02)


def test_progress_reports_every_stage() -> None:
    stages: list[str] = []
    renderer(**SHADING).render(scene(), 16, progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"encode", "cast rays", "render"}


class Countdown:
    """A `cancel` that stops from its n-th call on."""

    def __init__(self, n: int) -> None:
        self.left, self.asked = n, 0

    def __call__(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("extension", [{}, SHADING])
def test_a_cancel_that_never_stops_changes_nothing(extension: dict[str, object]) -> None:
    engine, world = renderer(**extension), scene()
    never = Countdown(10**9)
    cancellable = engine.render(world, 24, cancel=never)
    assert all(np.array_equal(a.hdr, b.hdr) for a, b in zip(engine.render(world, 24), cancellable, strict=True))
    layers = engine.config.num_layers + 3 * engine.config.view_transformer_n_layers
    assert never.asked >= layers + 3


@pytest.mark.parametrize("extension", [{}, SHADING])
def test_work_stops_wherever_cancel_is_asked(extension: dict[str, object]) -> None:
    engine, world = renderer(**extension), scene()
    lit = engine.encode(world)
    stages: tuple[Callable[[Countdown], object], ...] = (
        lambda cancel: engine.encode(world, cancel=cancel),
        lambda cancel: engine.render(lit, 24, cancel=cancel),
        lambda cancel: next(engine.iterate(lit, 24, cancel=cancel)),
    )
    for stage in stages:
        uncancelled = Countdown(10**9)
        stage(uncancelled)
        for place in range(uncancelled.asked):
            stopped = Countdown(place)
            with pytest.raises(Cancelled):
                stage(stopped)
            assert stopped.asked == place + 1


def test_cancel_stops_ray_casting_between_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("renderformer.data.rays.feature_image.CHUNK", 64)
    engine, world = renderer(**SHADING), scene()
    # Enough for the gather, in up to four parts, and for a few chunks of pixels.
    lit, cast = engine.encode(world), Countdown(7)
    steps: list[tuple[str, int]] = []
    with pytest.raises(Cancelled):
        engine.render(lit, 64, progress=lambda stage, done, total: steps.append((stage, done)), cancel=cast)
    assert ("cast rays", 4096) in steps
    assert steps[-1][0] == "cast rays"
    assert 16 <= steps[-1][1] < 100
