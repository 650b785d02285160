"""Unsaved work survives a viewer that is killed, and only that."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.ray_engine import RayEngine, a_scene

from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.errors import InputError
from renderformer.data.material import Material, Textures
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.data.texture import Texture
from renderformer.viewer import recovery, snapshot
from renderformer.viewer.dialogs import recovering
from renderformer.viewer.fingerprints import fingerprint
from renderformer.viewer.recovery import Recovery, kept
from renderformer.viewer.session import Session
from renderformer.viewer.timeline import Timeline

pytest.importorskip("platformdirs", reason="the viewer extra is not installed")

ROOT = Path(__file__).parents[1]
STUCK = 240.0
# Edits in a child of this process, each of two values at once, until it is killed after a random time; then what is
# left behind is recovered.
KILLS = """
import os, random, signal, sys, time
import numpy as np
from helpers.ray_engine import RayEngine, a_scene
from renderformer.viewer.recovery import Recovery, kept
from renderformer.viewer.session import Session
from renderformer.viewer.timeline import Timeline

seed, rounds = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)

def edit(pipe):
    session = Session(a_scene(), RayEngine(), 16)
    name = session.document.items[0].name
    with kept(session):
        os.write(pipe, b"0\\n")
        for number in range(1, 10**6):
            # A place and a material that belong together, and a mesh that grows the file.
            with session.lock:
                document = session.document
                document.set_material(name, roughness=number / 1e5)
                document.place(name, type(document[name].placement)((number / 1e3, 0.0, 0.0)))
            os.write(pipe, f"{number} {time.monotonic()}\\n".encode())
            time.sleep(0.02)

for _ in range(rounds):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        edit(writer)
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert lines.readline() == "0\\n"
        time.sleep(1.0 + chance.random())
        os.kill(child, signal.SIGKILL)
        killed = time.monotonic()
        os.waitpid(child, 0)
        edits = [line.split() for line in lines.read().splitlines() if line.count(" ") == 1]
    session = Session(a_scene(), RayEngine(), 16)
    kept_work = Recovery(session)
    (found,) = kept_work.found
    kept_work.recover()
    item = session.document.items[0]
    number = round(item.placement.translation[0] * 1e3)
    assert abs(item.material.roughness - number / 1e5) < 1e-6, (item.material.roughness, number)
    lost = [float(when) for edit, when in edits if int(edit) > number]
    print(f"{killed - min(lost, default=killed):.2f} s of {len(edits)} edits lost", flush=True)
    kept_work.close()
    session.close()
os._exit(0)
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + STUCK
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(recovery, "SECONDS", 0.05)
    return tmp_path / "renderformer" / "unsaved"


@pytest.fixture
def sessions() -> Iterator[Callable[..., Session]]:
    opened: list[Session] = []

    def a_session(scene: Scene | None = None) -> Session:
        session = Session(scene or a_scene(), RayEngine(), 16)  # type: ignore[arg-type]
        session.recovery = Recovery(session)
        opened.append(session)
        return session

    yield a_session
    for session in opened:
        if session.recovery is not None:
            session.recovery.close()
        session.close()


def written(session: Session) -> bool:
    assert session.recovery is not None
    return session.recovery._written == (session.version if session.unsaved else None)


def die(session: Session) -> None:
    """End the keeping of work as a kill does: the lock goes, the folder stays."""
    kept_work, session.recovery = session.recovery, None
    assert kept_work is not None
    assert kept_work._own is not None
    kept_work._done.set()
    kept_work._thread.join()
    kept_work._own.release()


def rough(session: Session, value: float) -> None:
    session.edit(lambda document: document.set_material(document.items[0].name, roughness=value))


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_viewer_killed_at_any_moment_loses_at_most_its_last_second(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    program = [sys.executable, "-c", KILLS, "1", "6"]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=STUCK, check=False)
    assert result.returncode == 0, result.stderr
    losses = [float(line.split()[0]) for line in result.stdout.splitlines()]
    assert len(losses) == 6
    assert max(losses) < 1.0, result.stdout


def test_all_of_the_work_comes_back_exactly(sessions: Callable[..., Session], state: Path) -> None:
    random = np.random.default_rng(3)
    triangles = random.normal(size=(7, 3, 3)).astype(np.float32)
    image = Texture(random.integers(0, 256, (5, 3, 4), np.uint8), wrap=("clamp", "mirror"))
    metal = Material(metallic=0.3, alpha=0.7, textures=Textures(base=image))
    look = Appearance((metal, Material(two_sided=True)), np.array([0, 1, -1, 0, 1, 0, 0]), random.random((7, 3, 1, 2)))
    scene = Scene(
        (Mesh("ä/..\n", triangles, appearance=look), Mesh("b", triangles + 2), Light((0, 0, 4)).mesh()),
        (Camera.from_angles(40, 25, 1.9, name="first"),),
        "a name",
        ("a note",),
        ENVIRONMENTS["sunset"](),
    )
    before = sessions(scene)
    before.edit(lambda document: document.set_material("ä/..\n", roughness=0.123))
    before.edit(lambda document: document.place("b", replace(document["b"].placement, rotation=(10.0, 1 / 3, 0))))
    before.edit(lambda document: document.set_visible("b", False))
    before.edit(lambda document: document.set_environment(strength=2.5, background="transparent"))
    before.orbit.limited = False
    before.orbit.bookmark("here")
    Timeline(before).add()
    before.move(lambda orbit: orbit.orbit(12.3, 4.5))
    Timeline(before).add()
    before.set_display("agx", -1.5)
    until(lambda: written(before))
    die(before)

    after = sessions()
    assert after.recovery is not None
    assert "unsaved work on a name of 20" in after.recovery.offer
    assert "undo" in after.recovery.recover()
    assert fingerprint(after.document.scene) == fingerprint(before.document.scene)
    assert [item.name for item in after.document.items] == [item.name for item in before.document.items]
    assert not after.document["b"].visible
    assert after.document["b"].placement == before.document["b"].placement
    assert after.document["ä/..\n"].material == before.document["ä/..\n"].material
    assert after.document.surroundings.own is not None
    assert after.document.scene.notes == ("a note",)
    assert np.array_equal(after.document.scene.cameras[0].c2w, scene.cameras[0].c2w)
    assert after.version[1:] == before.version[1:]
    assert after.orbit.view == before.orbit.view
    assert (after.tone_map, after.exposure) == ("agx", -1.5)
    assert after.unsaved
    # What was left behind goes once it is written anew.
    until(lambda: written(after) and len(list(state.glob("*/values.json"))) == 1)
    assert after.undo().startswith("recover")
    assert not after.document.edited


def test_scenes_that_were_left_unsaved_come_back_by_undo(sessions: Callable[..., Session], tmp_path: Path) -> None:
    a_scene().save(tmp_path / "other.json")
    before = sessions()
    rough(before, 0.111)
    before.open(tmp_path / "other.json")
    rough(before, 0.222)
    until(lambda: written(before))
    die(before)
    after = sessions()
    assert after.recovery is not None
    after.recovery.recover()
    assert after.document.items[0].material.roughness == pytest.approx(0.222)
    after.undo()
    assert after.document.items[0].material.roughness == pytest.approx(0.111)
    assert after.document.unsaved


def test_nothing_is_left_by_a_viewer_without_work_after_a_save_or_after_a_close(
    sessions: Callable[..., Session], state: Path, tmp_path: Path
) -> None:
    session = sessions()
    session.move(lambda orbit: orbit.orbit(30, 0))
    time.sleep(0.3)
    assert not list(state.glob("*/values.json"))
    rough(session, 0.3)
    until(lambda: list(state.glob("*/values.json")))
    session.save(tmp_path / "saved.json")
    until(lambda: not list(state.glob("*/values.json")))
    Timeline(session).add()
    until(lambda: list(state.glob("*/values.json")))
    session.save(tmp_path / "keys.json")
    until(lambda: not list(state.glob("*/values.json")))
    session.move(lambda orbit: orbit.bookmark())
    until(lambda: list(state.glob("*/values.json")))
    assert session.recovery is not None
    session.recovery.close()
    session.recovery = None
    assert not list(state.glob("*"))
    with kept(session):
        rough(session, 0.4)
        until(lambda: list(state.glob("*/values.json")))
    assert not list(state.glob("*"))


def test_work_that_cannot_be_taken_at_the_end_is_left_to_the_next_viewer(
    monkeypatch: pytest.MonkeyPatch, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from renderformer.viewer import launch, web

    asked: list[list[str]] = []

    def serve(session: Session, *_: object) -> None:
        rough(session, 0.25)
        asked.append(session.losses)

    def refuse(scene: Scene) -> None:
        raise InputError("edited.json", "the disk is full", "make room")

    monkeypatch.setattr(launch, "check_front_end", lambda web: None)
    monkeypatch.setattr(web, "serve", serve)
    taken: list[Scene] = []
    view = functools.partial(launch.view, a_scene(), RayEngine(), web=True, resolution=16)  # type: ignore[arg-type]
    assert view(take=taken.append) is taken[0]
    assert not list(state.iterdir())
    with pytest.raises(InputError, match="disk is full"):
        view(take=refuse)
    # Who takes the scene need not be asked; who does not, is.
    view()
    assert asked == [[], [], ["Edits of the scene are not in a file yet."]]
    assert "the next viewer offers it" in caplog.text
    session = Session(a_scene(), RayEngine(), 16)  # type: ignore[arg-type]
    session.recovery = Recovery(session)
    session.recovery.recover()
    assert session.document.items[0].material.roughness == pytest.approx(0.25)
    session.recovery.close()
    session.close()


def test_ctrl_c_leaves_edits_that_nobody_takes_to_the_next_viewer(
    sessions: Callable[..., Session], state: Path
) -> None:
    def interrupted(session: Session, edit: bool, keep: bool) -> bool:
        session.recovery, before = None, session.recovery
        assert before is not None
        before.close()
        with kept(session, keep):
            if edit:
                rough(session, 0.4)
            assert session.recovery is not None
            session.recovery.interrupted = True
        session.recovery = None
        return bool(list(state.glob("*/values.json")))

    assert not interrupted(sessions(), True, False)
    assert not interrupted(sessions(), False, True)
    # Also what was done in the last moment.
    assert interrupted(sessions(), True, True)
    after = sessions()
    assert after.recovery is not None
    after.recovery.recover()
    assert after.document.items[0].material.roughness == pytest.approx(0.4)


def test_viewers_leave_each_others_work_alone(sessions: Callable[..., Session], state: Path) -> None:
    one = sessions()
    rough(one, 0.3)
    until(lambda: written(one))
    two = sessions()
    assert two.recovery is not None
    assert not two.recovery.offer
    rough(two, 0.4)
    until(lambda: written(two))
    die(one)
    # The first to ask offers it, and keeps others off; whoever closes without an answer leaves it.
    three, four = sessions(), sessions()
    assert three.recovery is not None
    assert four.recovery is not None
    assert three.recovery.offer
    assert not four.recovery.offer
    three.recovery.close()
    three.recovery = None
    five = sessions()
    assert five.recovery is not None
    question = recovering(five, lambda: None)
    assert question is not None
    question.answers["Discard"]()
    assert not five.recovery.offer
    with pytest.raises(InputError, match="no unsaved work"):
        five.recovery.recover()
    assert len(list(state.glob("*/values.json"))) == 1
    assert written(two)


@pytest.mark.parametrize("damage", ["cut", "array", "kind", "missing", "deep", "number"])
def test_damaged_work_is_refused_in_one_line_and_changes_nothing(
    damage: str, sessions: Callable[..., Session], state: Path
) -> None:
    before = sessions()
    rough(before, 0.3)
    until(lambda: written(before))
    die(before)
    (values,) = state.glob("*/values.json")
    text = values.read_text()
    (largest, *_) = sorted(values.parent.glob("arrays/*.npy"), key=lambda path: -path.stat().st_size)
    if damage == "array":
        content = bytearray(largest.read_bytes())
        content[-1] ^= 1
        largest.write_bytes(content)
    elif damage == "missing":
        largest.unlink()
    else:
        changed = {
            "cut": text[:-9],
            "kind": text.replace('"Mesh"', '"Path"'),
            "deep": "[" * 10**6,
            "number": text.replace('"limited": ', '"limit": '),
        }[damage]
        values.write_text(changed)
    session = sessions()
    scene = session.document.scene
    assert session.recovery is not None
    with pytest.raises(InputError) as raised:
        session.recovery.recover()
    assert "\n" not in str(raised.value)
    assert session.document.scene is scene
    assert session.recovery.offer
    session.recovery.discard()
    assert not list(state.glob("*/values.json"))


def test_a_material_edit_writes_only_what_changed_and_a_full_disk_stops_no_one(
    sessions: Callable[..., Session], state: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    session = sessions()
    rough(session, 0.3)
    until(lambda: written(session))
    times = {path: path.stat().st_mtime_ns for path in state.glob("*/arrays/*")}
    rough(session, 0.4)
    until(lambda: written(session))
    after = {path: path.stat().st_mtime_ns for path in state.glob("*/arrays/*")}
    assert len(after) == len(times)
    assert len(after.items() - times.items()) == 1

    def full(*arguments: object) -> None:
        raise InputError("somewhere", "cannot write, no space left on device")

    assert session.recovery is not None
    monkeypatch.setattr(snapshot.Snapshots, "write", full)
    rough(session, 0.5)
    until(lambda: session.recovery is not None and session.recovery.problem)
    assert "no space left" in session.recovery.problem
    assert session.document.items[0].material.roughness == pytest.approx(0.5)
