"""`renderformer serve`: messages, scenes in them, and the process that draws them."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.shapes import box

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.scene import Light, Material, Scene
from renderformer.renderer import Renderer
from renderformer.viewer import messages
from renderformer.viewer.blender import client as addon
from renderformer.viewer.blender.camera import view_of
from renderformer.viewer.serve import Server

STUCK = 60.0
MATRIX = np.eye(4)[None]


def objects(scene: Scene) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Entries of the objects of a scene whose materials are uniform, and their arrays."""
    entries, arrays = [], {"here": MATRIX}
    for mesh in scene.objects:
        material = Material.from_row(mesh.materials[0])
        names = {key: f"{mesh.name} {key}" for key in ("triangles", "normals", "material")}
        arrays |= {names["triangles"]: mesh.triangles, names["normals"]: mesh.normals,
                   names["material"]: np.zeros(len(mesh), np.int32)}  # fmt: skip
        look = {"diffuse": material.diffuse, "specular": material.specular, "roughness": material.roughness,
                "emissive": material.emission}  # fmt: skip
        entries.append({"name": mesh.name, "materials": [look], "instances": "here", **names})
    return entries, arrays


def a_scene(colour: tuple[float, float, float] = (0.7, 0.3, 0.2)) -> Scene:
    lamp = Light((0, -1, 2), size=0.5, emission=(60, 60, 60)).mesh()
    return Scene((box(0.4, Material(colour)), box((2, 2, 0.02), Material(), (0, 0, -0.3), "floor"), lamp))


def a_view(width: int = 24, height: int = 16, turn: float = 20.0) -> Any:
    projection = np.array([[2.0, 0, 0, 0], [0, 2.0 * width / height, 0, 0], [0, 0, -1, -0.2], [0, 0, -1, 0]])
    return view_of(projection, Camera.from_angles(turn).c2w, width, height)


class Pipes:
    """A server on a thread, talked to as the add-on does."""

    def __init__(self, renderer: Any) -> None:
        inward, outward = os.pipe(), os.pipe()
        self._input, self.output = os.fdopen(inward[1], "wb"), os.fdopen(outward[0], "rb")
        self._source, self._sink = os.fdopen(inward[0], "rb"), os.fdopen(outward[1], "wb")
        self.thread = threading.Thread(target=self._run, args=(renderer,), daemon=True)
        self.thread.start()

    def _run(self, renderer: Any) -> None:
        with self._source, self._sink:
            Server(renderer, self._source, self._sink).run()

    def send(self, message: dict[str, Any], arrays: Any = None) -> None:
        self._input.write(addon.packed(message, arrays))
        self._input.flush()

    def until(self, kind: str, **values: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The next message of a kind, with these values; others are passed over."""
        while (received := addon.read(self.output)) is not None:
            message, arrays = received
            if message["is"] == kind and all(message[key] == value for key, value in values.items()):
                return message, arrays
            assert message["is"] != "error" or kind == "error", message
        raise AssertionError("the server has ended")

    def draw(self, view: Any, number: int, growing: bool = False) -> np.ndarray:
        self.send(view.message(number, growing))
        return self.until("picture", number=number, final=True)[1]["pixels"]

    def close(self) -> None:
        self._input.close()
        # A server that still writes would wait for a reader.
        while addon.read(self.output) is not None:
            pass
        self.output.close()
        self.thread.join(STUCK)
        assert not self.thread.is_alive()


class Counting(Renderer):
    """Counts what it does."""

    encoded = 0

    def encode(self, *arguments: Any, **options: Any) -> Any:
        self.encoded += 1
        return super().encode(*arguments, **options)


@pytest.fixture
def renderer() -> Counting:
    plain = Renderer.from_pretrained(network=False)
    return Counting(plain.model, "cpu", "fp32", "light cache", "sdpa")


@pytest.fixture
def pipes(renderer: Counting) -> Iterator[Pipes]:
    served = Pipes(renderer)
    yield served
    served.close()


def test_messages_are_the_same_on_both_sides() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 3, 3), np.float32),
              "c": np.arange(3, dtype=np.int32)[::-1], "d": np.full((2, 1), 7, np.uint8), "e": np.eye(4)}  # fmt: skip
    message = {"do": "scene", "words": "übung", "list": [1, 2.5, None]}
    for pack, read in ((addon.packed, messages.read), (messages.packed, addon.read)):
        stream = io.BytesIO(pack(message, arrays) * 2)  # type: ignore[operator]
        for _ in range(2):
            received = read(stream)
            assert received is not None
            assert received[0] == message
            assert received[1].keys() == arrays.keys()
            for name, values in arrays.items():
                np.testing.assert_array_equal(received[1][name], values)
                assert received[1][name].dtype == values.dtype
        assert read(stream) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"hello world, this is no message", "holds no messages"),
        (b"\x01\x02", "holds no messages"),
        (struct.pack("<Q", 12) + b"{" * 12, "damaged"),
        (messages.packed({})[:8] + messages.packed({})[8:].replace(b"{}", b"{]"), "damaged"),
    ],
    ids=["words", "too short", "no table", "no JSON"],
)
def test_streams_of_something_else_are_refused(content: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        messages.read(io.BytesIO(content))
    assert messages.read(io.BytesIO(messages.packed({})[:20])) is None


def test_instances_are_placed_and_mirrored_ones_keep_their_outside() -> None:
    entries, arrays = objects(Scene((box(0.4, Material()),)))
    rng = np.random.default_rng(0)
    arrays |= {"uv": rng.uniform(size=(12, 3, 2)).astype(np.float32), "image": np.full((2, 2, 3), 9, np.uint8)}
    entries[0] |= {"uv": "uv", "materials": [{"textures": {"base": {"path": "image"}}}]}
    mirror = np.diag([-2.0, 1, 1, 1])
    mirror[:3, 3] = 3, 0, 0
    arrays["here"] = np.stack([np.eye(4), mirror])
    message = messages.SceneMessage.read({"do": "scene", "objects": entries}, "message")
    (mesh,) = messages.SceneReader().scene(message, arrays).objects
    assert len(mesh) == 24
    np.testing.assert_allclose(mesh.bounds, [[-0.2, -0.2, -0.2], [3.4, 0.2, 0.2]], atol=1e-6)
    cross = np.cross(mesh.triangles[:, 1] - mesh.triangles[:, 0], mesh.triangles[:, 2] - mesh.triangles[:, 0])
    centre = np.repeat([[0, 0, 0], [3, 0, 0]], 12, axis=0)
    assert ((cross * (mesh.triangles.mean(axis=1) - centre)).sum(axis=1) > 0).all()
    assert ((cross * mesh.normals[:, 0]).sum(axis=1) > 0).all()
    # As one after the other.
    arrays["first"] = arrays["here"][:1]
    alone = messages.SceneMessage.read({"do": "scene", "objects": [entries[0] | {"instances": "first"}]}, "message")
    (single,) = messages.SceneReader().scene(alone, arrays).objects
    assert mesh.appearance is not None
    for number, matrix in enumerate(arrays["here"]):
        expected = single.transformed(matrix)
        part = slice(12 * number, 12 * number + 12)
        np.testing.assert_allclose(mesh.triangles[part], expected.triangles, atol=1e-6)
        np.testing.assert_allclose(mesh.normals[part], expected.normals, atol=1e-6)
        assert expected.appearance is not None
        np.testing.assert_array_equal(mesh.appearance.uv[part], expected.appearance.uv)


def test_textures_and_surroundings_come_as_arrays_and_are_kept() -> None:
    entries, arrays = objects(Scene((box(0.4, Material()),)))
    entries[0]["materials"] = [{"diffuse": [1.0] * 3, "textures": {"base": {"path": "image", "srgb": True}}}]
    entries[0]["uv"] = "uv"
    arrays |= {"image": np.full((2, 2, 3), 128, np.uint8), "uv": np.zeros((12, 3, 2), np.float32),
               "around": np.ones((4, 8, 3), np.float32)}  # fmt: skip
    around = {"image": "around", "strength": 2.0, "rotation": 30.0, "background": "transparent",
              "suns": [{"direction": [0, 0, 1], "irradiance": [1, 2, 3]}]}  # fmt: skip
    message = messages.SceneMessage.read({"do": "scene", "objects": entries, "environment": around}, "message")
    reader = messages.SceneReader()
    first = reader.scene(message, arrays)
    np.testing.assert_allclose(first.materials[:, :3], 0.2158605, atol=1e-5)
    assert isinstance(first.environment, Environment)
    assert (first.environment.strength, first.environment.background) == (2.0, "transparent")
    assert first.environment.suns[0].irradiance == (1, 2, 3)
    second = reader.scene(message, {})
    assert second.objects[0] is first.objects[0]
    # Arrays that the scene before did not use are gone.
    reader.scene(messages.SceneMessage.read({"do": "scene", "objects": entries[:1]}, "message"), {})
    with pytest.raises(InputError, match="environment: the array 'around' is missing"):
        reader.scene(message, {})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"triangles": "nothing"}, "object 'box': the array 'nothing' is missing"),
        ({"normals": "here"}, r"object 'box': the array 'here' is float64 of shape \(1, 4, 4\)"),
        ({"material": "wrong"}, "has a material that does not exist"),
        ({"instances": "none"}, "has no instances"),
        ({"instances": "flat"}, "matrix that cannot be used"),
        ({"materials": []}, "materials is"),
        ({"name": 3}, "name is 3"),
        ({"surprise": 3}, "surprise is not a known key"),
        ({"materials": [{"textures": {"base": {"path": "image"}}}]}, "texture has shape"),
    ],
)
def test_hostile_scenes_are_refused_in_one_line(change: dict[str, Any], problem: str) -> None:
    entries, arrays = objects(Scene((box(0.4, Material()),)))
    arrays |= {"wrong": np.full(12, 5, np.int32), "none": np.zeros((0, 4, 4)), "flat": np.zeros((1, 4, 4)),
               "image": np.zeros((2, 2, 9), np.uint8)}  # fmt: skip
    document = {"do": "scene", "objects": [entries[0] | change]}

    def read() -> Scene:
        return messages.SceneReader().scene(messages.SceneMessage.read(document, "message"), arrays)

    with pytest.raises(InputError, match=problem):
        read()


def test_the_picture_is_that_of_the_package_and_another_camera_lights_nothing_again(
    pipes: Pipes, renderer: Counting
) -> None:
    scene = a_scene()
    entries, arrays = objects(scene)
    assert pipes.until("ready")[0]["protocol"] == addon.PROTOCOL
    pipes.send({"do": "scene", "objects": entries}, arrays)
    for number, turn in ((1, 20.0), (2, 50.0)):
        view = a_view(turn=turn)
        drawn = pipes.draw(view, number)
        camera = Camera(view.c2w.astype(np.float32), view.fov)
        expected = Renderer.render(renderer, scene, view.size, camera)[0]
        np.testing.assert_allclose(drawn[..., :3], expected.hdr, rtol=1e-5, atol=1e-6)
        assert (drawn[..., 3] == 1).all()
    # Those two of the server, and two of this test.
    assert renderer.encoded == 3
    # The same picture once more, and a part of it.
    again = pipes.draw(view, 3)
    np.testing.assert_array_equal(again, drawn)
    part = pipes.draw(replace(view, window=(3, 2, 20, 11)), 4)
    np.testing.assert_array_equal(part, drawn[2:11, 3:20])
    assert renderer.encoded == 3


def test_coarse_pictures_come_first_and_say_where_they_lie(pipes: Pipes) -> None:
    entries, arrays = objects(a_scene())
    pipes.send({"do": "scene", "objects": entries}, arrays)
    view = replace(a_view(300, 200), window=(41, 30, 250, 190))
    pipes.send(view.message(7, growing=True))
    message, found = pipes.until("picture", number=7)
    assert not message["final"]
    rows, columns = found["pixels"].shape[:2]
    left, top, right, bottom = message["place"]
    cell = (right - left) / columns
    assert cell == pytest.approx((bottom - top) / rows)
    assert cell > 1
    assert -cell < left <= 0
    assert -cell < top <= 0
    assert 209 <= right < 209 + cell
    assert 160 <= bottom < 160 + cell
    final = pipes.until("picture", number=7, final=True)[1]["pixels"]
    assert final.shape == (160, 209, 4)
    # The middles of coarse cells show what the final picture has there.
    y = ((np.arange(rows) + 0.5) * cell + top).astype(int).clip(0, 159)
    x = ((np.arange(columns) + 0.5) * cell + left).astype(int).clip(0, 208)
    assert np.abs(np.median(found["pixels"][..., :3] - final[y[:, None], x, :3])) < 0.02


def test_errors_are_lines_and_the_next_request_is_served(pipes: Pipes) -> None:
    pipes.send(a_view().message(1, growing=False))
    assert "there is no scene" in pipes.until("error")[0]["line"]
    pipes.send({"do": "dance"})
    assert "do is 'dance'" in pipes.until("error")[0]["line"]
    pipes.send({"do": "scene", "objects": []})
    assert "no surfaces" in pipes.until("error")[0]["line"]
    entries, arrays = objects(a_scene())
    pipes.send({"do": "scene", "objects": entries}, arrays)
    pipes.send({**a_view().message(2, growing=False), "window": [0, 0, 99, 1]})
    assert "window is [0, 0, 99, 1]" in pipes.until("error")[0]["line"]
    assert pipes.draw(a_view(), 3).shape == (16, 24, 4)


def test_a_picture_can_be_given_up(pipes: Pipes, renderer: Counting) -> None:
    entries, arrays = objects(a_scene())
    pipes.send({"do": "scene", "objects": entries}, arrays)
    view = a_view(1200, 800)
    pipes.send(view.message(1, growing=False))
    pipes.until("progress", number=1)
    started = time.monotonic()
    pipes.send({"do": "stop"})
    assert pipes.draw(a_view(), 2).shape == (16, 24, 4)
    # The large picture takes ten seconds and more.
    assert time.monotonic() - started < 8
    # What was given up can be asked for again.
    assert pipes.draw(a_view(turn=40), 3).shape == (16, 24, 4)


def listen(client: addon.Client) -> None:
    """Wait for messages until something is wrong."""
    deadline = time.monotonic() + STUCK
    while time.monotonic() < deadline:
        client.wait(0.1)


def test_the_program_draws_and_ends_with_its_input(tmp_path: Path) -> None:
    command = addon.command(sys.executable, ["--no-network"])
    assert command[1:] == ["-m", "renderformer.cli.main", "serve", "--no-network"]
    client = addon.Client(command)
    entries, arrays = objects(a_scene())
    assert client.send_scene(entries, None, arrays)
    assert not client.send_scene(entries, None, arrays)
    client.send(a_view().message(1, growing=False))
    seen: dict[str, Any] = {}
    deadline = time.monotonic() + STUCK
    while "picture" not in seen:
        assert time.monotonic() < deadline
        seen |= {message["is"]: (message, found) for message, found in client.wait(0.1)}
    assert seen["ready"][0]["model"] == "light cache"
    assert seen["picture"][1]["pixels"].shape == (16, 24, 4)
    assert client.running
    # As if Blender had crashed while a picture is drawn.
    client.send(a_view(1200, 800).message(2, growing=True))
    process = client._process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(STUCK) == 0
    client.close()
    assert not client.running


def test_a_program_that_is_missing_or_ends_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(addon, "_usual_folders", list)
    with pytest.raises(addon.ClientError, match="renderformer is not found on PATH; pip install renderformer"):
        addon.command("")
    with pytest.raises(addon.ClientError, match="cannot be started; correct the path"):
        addon.command(str(tmp_path / "nothing"))
    program = tmp_path / "renderformer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert addon.command("") == [str(program), "serve"]
    for code, words in (
        ("import sys; sys.exit('error: model: has no weights')", "renderformer has ended: model: has no weights"),
        ("import os; os.kill(os.getpid(), 9)", "stopped it with SIGKILL; the machine may have run out of memory"),
        ("import renderformer_that_is_not_there", "No module named .*; pip install renderformer for that Python"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ):
        client = addon.Client([sys.executable, "-c", code])
        with pytest.raises(addon.ClientError, match=words):
            listen(client)
        client.close()


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = messages.packed({"is": "ready", "protocol": 99, "version": "9.0", "model": ""})
    code = f"import sys; sys.stdout.buffer.write({content!r}); sys.stdout.flush(); sys.stdin.read()"
    client = addon.Client([sys.executable, "-c", code])
    with pytest.raises(addon.ClientError, match=r"renderformer 9.0 and this add-on do not fit together"):
        listen(client)
    client.close()
