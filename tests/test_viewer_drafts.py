"""Growing pictures of the viewer: drafts under the light cache, and the model's picture window by window over them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.ray_engine import a_scene as a_corner
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from renderformer.data.arrays import UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.image import Image
from renderformer.renderer import Cancelled, Renderer
from renderformer.viewer import backdrops, display, drafts, feature_memory, scheduler, watched
from renderformer.viewer.backdrops import Backdrop
from renderformer.viewer.display import spanned
from renderformer.viewer.drafts import FINER, OFFSETS, STRIDES, Draft, relit, shaded
from renderformer.viewer.feature_memory import FeatureMemory
from renderformer.viewer.frames import Changes, Frame
from renderformer.viewer.pieces import LONGEST, PIECE, Pieces, TooLong, check_time
from renderformer.viewer.session import Session
from renderformer.viewer.watched import Piece, Watched, checked

STUCK = 240.0


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.from_pretrained(network=False)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def a_scene(tint: tuple[float, float, float] = (0.8, 0.3, 0.2), **options: Any) -> Scene:
    scene = a_corner()
    floor = scene.objects[0].with_material(Material(tint))
    return scene.replace(objects=(floor, *scene.objects[1:]), **options)


def test_every_stride_keeps_the_pixels_of_the_one_before() -> None:
    for stride, finer in FINER.items():
        assert stride % finer == 0
        assert (OFFSETS[stride] - OFFSETS[finer]) % finer == 0
        assert OFFSETS[stride] < stride
    assert tuple(sorted(STRIDES)) == STRIDES
    assert Draft.stride_of(853, 701, 1e9) == 1
    assert Draft.stride_of(853, 701, 40_000) == 4
    assert Draft.stride_of(853, 701, 0) == STRIDES[-1]


@pytest.mark.parametrize("environment", [None, Environment.of("sky")])
def test_a_draft_grows_to_the_picture_of_one_sample_a_pixel(
    renderer: Renderer, pool: ThreadPoolExecutor, environment: Environment | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = a_scene(environment=environment)
    lit = renderer.encode(scene)
    assert lit.caster is not None
    camera = lit.unit.camera(scene.cameras[0])
    width, height = 53, 37
    y, x = (grid.reshape(-1) for grid in np.mgrid[:height, :width])
    expected = shaded(lit.caster, environment, Pixels(camera, width, height, x, y)).reshape(height, width, 4)
    draft = Draft(lit.caster, environment, camera, width, height, 12, pool)
    assert draft.radiance.shape == (4, 5, 3)
    assert draft.span == (53 / 12, 37 / 12)
    place = OFFSETS[12]
    # Pixels beyond the border of the picture have no counterpart.
    np.testing.assert_allclose(draft.radiance[:3, :4], expected[place::12, place::12, :3][:3, :4], rtol=1e-4, atol=1e-5)
    assert draft.take_changes() is None
    monkeypatch.setattr(drafts, "LEAST_PART", 150)
    monkeypatch.setattr(drafts, "processors", lambda: 2)
    steps = 0
    while not draft.finished:
        before = draft.radiance.copy()
        # Time is up at once.
        assert 0 < draft.grow(0.0, 1.0) <= 300
        changes = draft.take_changes()
        assert changes is not None
        if before.shape == draft.radiance.shape:
            assert changes[1:] == (1, 0)
            for left, top, right, bottom in changes.windows:
                before[top:bottom, left:right] = draft.radiance[top:bottom, left:right]
            assert np.array_equal(before, draft.radiance)
        steps += 1
    assert steps > 4
    assert draft.take_changes() == ((), 1, 0)
    np.testing.assert_allclose(draft.radiance, expected[..., :3], rtol=1e-4, atol=1e-5)
    # The draft is close to the picture that is drawn in the end.
    final = renderer.render(lit, (width, height))[0].hdr
    assert np.abs(draft.radiance - final).mean() < 0.1 * final.mean()


def test_a_draft_that_is_given_up_leaves_no_work_behind(renderer: Renderer, pool: ThreadPoolExecutor) -> None:
    lit = renderer.encode(a_scene())
    assert lit.caster is not None
    calls: list[int] = []

    def check() -> None:
        calls.append(threading.get_ident())
        # The thread that came first has the first pixels.
        if calls.count(calls[0]) == 2:
            raise Cancelled
        time.sleep(0.02)

    with pytest.raises(Cancelled):
        Draft(checked(lit.caster, check), None, lit.unit.camera(a_scene().cameras[0]), 200, 200, 1, pool)
    assert len(set(calls)) == 2
    count = len(calls)
    time.sleep(0.3)
    assert len(calls) == count


@pytest.mark.parametrize("environment", [None, Environment.of("sky")])
def test_windows_make_the_same_picture_and_show_it_as_it_grows(
    renderer: Renderer, environment: Environment | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "FIRST_SIDE", 48)
    scene = a_scene(environment=environment)
    lit = renderer.encode(scene)
    assert lit.caster is not None
    camera = lit.unit.camera(scene.cameras[0])
    expected = renderer.render(lit, (101, 75))[0].hdr
    shown = np.full((75, 101, 4), np.nan, np.float32)
    holes = []

    def show(pieces: list[Piece]) -> None:
        for x, y, values in pieces:
            shown[y, x] = values
        holes.append(np.isnan(shown).any(axis=2).sum())

    backdrop = Backdrop(environment, scene.cameras[0], 101, 75)
    memory = FeatureMemory()
    memory.array((75, 101, RGB.total))[:] = np.nan
    watching = Watched(lit.caster, backdrop, show, lambda: None, 0.02, time.monotonic, 2, memory=memory)
    features = watching.features(camera, 101, 75)
    assert features is memory.array(features.shape)
    assert np.array_equal(features, lit.caster.features(camera, 101, 75))
    # Pixels on an outline have 256 rays, and come last.
    assert np.array_equal(shown[..., :3], expected)
    assert np.array_equal(shown[..., 3], features[..., RGB.mask][..., 0])
    # What is behind the objects is known by then.
    monkeypatch.setattr(backdrops, "backdrop", None)
    drawn = renderer.render(replace(lit, caster=watching), (101, 75))[0]  # type: ignore[arg-type]
    assert np.array_equal(drawn.hdr, expected)
    assert len(holes) > 1
    assert 0 < holes[0] < 75 * 101
    assert holes == sorted(holes, reverse=True)
    assert len(watching.triangles) == len(lit.caster.triangles)


def test_memory_of_another_size_or_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FeatureMemory()
    first = memory.array((4, 5, 6))
    assert memory.array((4, 5, 6)) is first
    second = memory.array((5, 5, 6))
    assert second.shape == (5, 5, 6)
    monkeypatch.setattr(feature_memory, "MOST", second.nbytes)
    assert memory.array((5, 5, 6)) is second
    assert memory.array((6, 5, 6)) is not memory.array((6, 5, 6))


def a_watched(caster: RayCaster, check: Callable[[], None]) -> Watched:
    """One that shows nothing."""
    backdrop = Backdrop(None, a_scene().cameras[0], 8, 8)
    return Watched(caster, backdrop, lambda pieces: None, check, 0.2, time.monotonic, 2)


def many_edges() -> Scene:
    """Blades of grass, each thinner than a pixel in places."""
    random = np.random.default_rng(0)
    roots, leans = random.uniform(-0.4, 0.4, (2, 3000, 2))
    tips = np.column_stack([roots + 0.2 * leans, random.uniform(0.1, 0.3, 3000) - 0.5])
    left = np.column_stack([roots, np.full(3000, -0.5)])
    blades = np.stack([left, left + [0.006, 0.003, 0], tips], axis=1).astype(np.float32)
    return a_scene().replace(
        objects=(*a_scene().objects, Mesh("grass", blades).with_material(Material((0.2, 0.6, 0.1))))
    )


def many_lights() -> Scene:
    """Gloss under a sky and lights that cast shadow rays each."""
    scene = a_scene(environment=Environment.of("sky"))
    glossy = Material((0.5, 0.5, 0.5), specular=(0.3, 0.3, 0.3), roughness=0.15)
    lights = [Light((0.3 * i - 1.2, 0.2, 2.1), emission=300.0, name=f"light {i}").mesh() for i in range(9)]
    return scene.replace(objects=(*(mesh.with_material(glossy) for mesh in scene.objects[:-1]), *lights))


class Slow:
    """A caster that takes 0.1 s to gather the light of 192 x 192 pixels and 0.1 s to draw 4,000 pixels; ten times as
    long on the right half. It casts rays ten times for each part."""

    def __init__(self) -> None:
        self.time = 0.0
        self.parts: list[float] = []
        self.areas: list[int] = []
        self.wasted = 0.0

    def features(
        self, camera: Any, width: int, height: int, *, window: Any, parts: Any, shown: Any, progress: Any, **_: Any
    ) -> np.ndarray:
        left, top, right, bottom = window
        y, x = (grid.reshape(-1) for grid in np.mgrid[top:bottom, left:right])
        cost = np.where(x > width / 2, 10, 1)
        self.areas.append(len(x))
        done = 0
        for part, _ in parts.run(
            "gather", lambda part: self._work(0.1 * cost[part].sum() / 192**2), np.arange(len(x)), 16384
        ):
            done += len(part)
            progress(done, len(x))
        for part, _ in parts.run(
            "coarse", lambda part: self._work(0.1 * cost[part].sum() / 4000), np.arange(len(x)), 8192
        ):
            shown(x[part], y[part], np.ones((len(part), RGB.total), np.float32))
        return np.zeros((bottom - top, right - left, 1), np.float32)

    def _work(self, seconds: float) -> None:
        started = self.time
        try:
            for _ in range(10):
                check_time()
                self.time += seconds / 10
        except TooLong:
            self.wasted += self.time - started
            raise
        finally:
            self.parts.append(self.time - started)


def test_work_is_cut_by_the_time_that_it_takes() -> None:
    caster = Slow()
    shows: list[list[Piece]] = []
    backdrop, camera = Backdrop(None, a_scene().cameras[0], 1280, 720), None
    watching = Watched(caster, backdrop, shows.append, lambda: None, 0.1, time.monotonic, 1, lambda: caster.time)  # type: ignore[arg-type]
    watching.features(camera, 1280, 720)  # type: ignore[arg-type]
    drawn = np.zeros((720, 1280), np.int64)
    for piece in (piece for pieces in shows for piece in pieces):
        np.add.at(drawn, (piece.y, piece.x), 1)
    assert (drawn == 1).all()
    # A piece is given up by the cast of rays after its time was up.
    assert max(caster.parts) < 2 * LONGEST
    # That wastes little, and so do few pieces and windows.
    assert caster.wasted < 0.1 * caster.time
    assert np.mean(caster.parts) > 0.6 * PIECE
    assert np.mean(caster.areas) > 72**2


def test_no_piece_of_real_work_takes_long(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    class Timed(Pieces):
        def run(self, kind: str, work: Any, index: Any, most: int) -> Any:
            def timed(part: Any) -> Any:
                started = time.thread_time()
                try:
                    return work(part)
                finally:
                    taken.append(time.thread_time() - started)

            return super().run(kind, timed, index, most)

    for scene, window in (
        (a_scene(), (900, 500, 996, 596)),
        (many_edges(), (900, 500, 996, 596)),
        (many_lights(), (900, 500, 964, 564)),
    ):
        lit = renderer.encode(scene)
        assert lit.caster is not None
        camera, size = lit.unit.camera(scene.cameras[0]), (1920, 1080)
        caster = checked(lit.caster, lambda: None)
        whole = lit.caster.features(camera, *size, window=window)
        assert np.array_equal(caster.features(camera, *size, window=window, parts=Timed()), whole)
    assert max(taken) < 2.5 * LONGEST


def test_an_error_in_one_thread_ends_all(renderer: Renderer) -> None:
    lit = renderer.encode(a_scene())
    assert lit.caster is not None
    calls = itertools.count()

    def check() -> None:
        if next(calls) == 5:
            raise MemoryError

    watching = a_watched(checked(lit.caster, check), lambda: None)
    with pytest.raises(MemoryError):
        watching.features(lit.unit.camera(a_scene().cameras[0]), 2000, 2000)
    assert next(calls) < 200


def test_a_window_is_given_up_between_two_casts_of_rays(renderer: Renderer) -> None:
    lit = renderer.encode(a_scene())
    assert lit.caster is not None
    calls, over = itertools.count(), threading.Event()

    def check() -> None:
        if over.is_set() or next(calls) == 5:
            over.set()
            raise Cancelled

    watching = a_watched(checked(lit.caster, check), check)
    with pytest.raises(Cancelled):
        watching.features(lit.unit.camera(a_scene().cameras[0]), 480, 480)
    assert next(calls) < 8


def test_light_follows_edits_of_materials_and_lights_and_stays_with_what_is_moved(
    renderer: Renderer, pool: ThreadPoolExecutor
) -> None:
    scene = a_scene()
    lit = renderer.encode(scene)
    assert lit.caster is not None

    def drawn(caster: Any) -> np.ndarray:
        return Draft(caster, None, scene.cameras[0], 24, 24, 1, pool).radiance

    before = drawn(lit.caster)
    lamp = scene.objects[-1]
    material = Material.from_row(lamp.materials[0])
    brighter = lamp.with_material(replace(material, emission=tuple(2 * part for part in material.emission)))
    edits = (a_scene((0.1, 0.8, 0.1)), scene.replace(objects=(*scene.objects[:-1], brighter)))
    for edited in edits:
        caster = relit(edited, lit.caster)
        assert np.abs(drawn(caster) - before).mean() > 0.1
        np.testing.assert_allclose(drawn(caster), drawn(renderer.encode(edited).caster), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(drawn(lit.caster), before)
    # Of what is moved, the light is nearly right.
    shift = np.eye(4)
    shift[0, 3] = 0.2
    moved = scene.replace(objects=(*scene.objects[:-1], lamp.transformed(shift)))
    expected = drawn(renderer.encode(moved).caster)
    assert np.abs(drawn(relit(moved, lit.caster)) - expected).mean() < 0.5 * np.abs(before - expected).mean()
    assert relit(scene.replace(objects=scene.objects[1:]), lit.caster) is None


def a_session(renderer: Renderer, scene: Scene, size: tuple[int, int]) -> tuple[Session, list[Frame]]:
    session = Session(scene, renderer, size)
    frames: list[Frame] = []
    session.on_frame = frames.append
    return session, frames


def test_a_picture_grows_to_what_render_draws_and_never_goes_back(renderer: Renderer) -> None:
    scene = a_scene()
    session, frames = a_session(renderer, scene, (120, 90))
    session.scheduler._pace = 1e4
    try:
        session.request()
        assert session.scheduler.wait(STUCK)
        sides = [frame.image.width for frame in frames]
        assert sides[0] < 60
        assert sides == sorted(sides)
        assert [frame.final for frame in frames] == [False] * (len(frames) - 1) + [True]
        expected = renderer.render(scene, (120, 90))[0]
        np.testing.assert_allclose(frames[-1].image.hdr, expected.hdr, rtol=1e-4, atol=1e-5)
        # The shown part has the shape of the view at every step.
        for frame in frames:
            session.frame = frame
            picture = session.picture()
            assert picture is not None
            assert picture.shape[1] / picture.shape[0] == pytest.approx(4 / 3, abs=0.15)
        # What changes nothing starts nothing.
        count = len(frames)
        session.undo()
        session.move(lambda orbit: orbit.orbit(0, 0))
        session.edit(lambda document: None)
        assert session.scheduler.wait(STUCK)
        assert len(frames) == count
    finally:
        assert session.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("renderformer")]


def test_what_the_screen_shows_is_made_anew_where_it_changed_alone(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "STEP", 0.02)
    monkeypatch.setattr(watched, "FIRST_SIDE", 48)
    monkeypatch.setattr(drafts, "LEAST_PART", 100)
    session = Session(a_scene(environment=Environment.of("sky")), renderer, (150, 110))
    session.scheduler._pace = 1e4
    shown: list[tuple[np.ndarray, np.ndarray]] = []
    changes: list[Changes | None] = []
    pixels: list[int] = []
    convert = display.display_values

    def counted(image: Image, *settings: Any) -> UInt8Array:
        pixels[-1] += image.width * image.height
        return convert(image, *settings)

    monkeypatch.setattr(display, "display_values", counted)

    def on_frame(frame: Frame) -> None:
        # The exposure changes in the middle, once.
        if len(changes) == 4:
            session.set_display(exposure=1.0)
        picture = session.picture()
        assert picture is not None
        shown.append((picture, spanned(convert(frame.image, "neutral", session.exposure), frame.span)))
        changes.append(frame.changes)
        pixels.append(0)

    pixels.append(0)
    session.on_frame = on_frame
    try:
        session.request()
        assert session.scheduler.wait(STUCK)
    finally:
        assert session.close()
    assert len(shown) > 5
    grown = [number for number, change in enumerate(changes) if change and change.scale < 1]
    assert grown
    for number, (picture, expected) in enumerate(shown):
        off = np.abs(picture.astype(int) - expected)
        # Between samples of a draft that has become finer, display values are interpolated instead of light.
        assert off.mean() <= (0 if number < grown[0] else 4)
        assert off.max() <= 1 or number < len(shown) - 2
    assert np.array_equal(*shown[-2])
    # All of a picture is converted in the beginning and when the exposure changes.
    sizes = [expected.shape[0] * expected.shape[1] for _, expected in shown]
    assert min(pixels[0] - sizes[0], pixels[4] - sizes[4]) >= 0
    assert all(pixels[number] < sizes[number] for number in grown if number != 4 and sizes[number] > 1000)


@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 100)),
    stride=st.sampled_from(sorted(FINER)),
    seed=st.integers(0, 99),
)
def test_display_values_of_a_finer_draft_lie_between_those_before(
    size: tuple[int, int], stride: int, seed: int
) -> None:
    finer, (width, height) = FINER[stride], size
    picture = np.random.default_rng(seed).integers(
        0, 256, (-(-height // stride), -(-width // stride), 3), dtype=np.uint8
    )
    columns, rows = -(-width // finer), -(-height // finer)
    shift = (OFFSETS[finer] - OFFSETS[stride]) / stride
    result = display.enlarged(picture, columns, rows, finer / stride, shift)
    y, x = shift + finer / stride * np.arange(rows), shift + finer / stride * np.arange(columns)
    expected = map_coordinates(
        picture.astype(float), np.meshgrid(y, x, np.arange(3), indexing="ij"), order=1, mode="nearest"
    )
    assert np.abs(result - expected).max() <= 1
    place = slice(-round(shift * stride / finer), None, stride // finer)
    kept = result[place, place]
    assert np.array_equal(kept, picture[: kept.shape[0], : kept.shape[1]])


def test_an_edit_is_drawn_before_its_light_is_known(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    session, frames = a_session(renderer, a_scene(), (60, 45))
    try:
        session.request()
        assert session.scheduler.wait(STUCK)
        going, encode = threading.Event(), renderer.encode
        drawn: list[int] = []

        def wait(*arguments: Any) -> Any:
            drawn.append(len(frames))
            going.wait(STUCK)
            return encode(*arguments)

        monkeypatch.setattr(renderer, "encode", wait)
        before = len(frames)
        session.edit(lambda document: document.set_material("floor", diffuse=(0.0, 0.9, 0.0)))
        going.set()
        assert session.scheduler.wait(STUCK)
        assert drawn[0] > before
        assert frames[before].scene == frames[-1].scene != frames[0].scene
        assert frames[-1].final
    finally:
        assert session.close()


def test_a_move_ends_what_is_drawn_at_once(renderer: Renderer) -> None:
    session, frames = a_session(renderer, a_scene(), (400, 300))
    try:
        session.request()
        deadline = time.monotonic() + STUCK
        while not frames or frames[-1].span != (400, 300):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        session.move(lambda orbit: orbit.orbit(10, 0))
        camera = session.orbit.camera
        assert isinstance(camera, Camera)
        while frames[-1].camera is not camera:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not any(frame.final for frame in frames)
    finally:
        assert session.close()


def test_a_draft_begins_again_with_fewer_pixels_where_they_take_long(
    renderer: Renderer, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit = renderer.encode(a_scene())
    assert lit.caster is not None
    camera, calls = lit.unit.camera(a_scene().cameras[0]), list[int]()

    def drawn(stride: int, longest: float) -> Draft:
        draft = Draft(checked(lit.caster, lambda: None), None, camera, 150, 120, stride, pool)  # type: ignore[arg-type]
        while not draft.finished:
            calls.append(draft.grow(1.0, 1e9, longest))
            assert calls[-1] > 0
        return draft

    # The limit is over when rays are cast for the first time.
    monkeypatch.setattr(drafts, "FEW", 100)
    draft = drawn(4, 0.0)
    assert len(calls) > 100
    np.testing.assert_allclose(draft.radiance, drawn(1, 0.0).radiance, rtol=1e-4, atol=1e-5)
