"""Hands in the window: selection, handles and the tree, with a real pointer and real keys under Xvfb."""

from __future__ import annotations

from pathlib import Path

from helpers.window import PRELUDE, needs_a_screen, run

SETUP = """
from dataclasses import replace
from renderformer.data.scene import Light, Material, Mesh
from renderformer.viewer.gizmo import MODES
from renderformer.viewer.overlay import OUTLINE

block = np.array([[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, -1, 1], [1, -1, 1], [1, 1, 1]]) * 0.2
faces = [[0, 2, 1], [3, 4, 5], [0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4], [2, 0, 3], [2, 3, 5]]
block = Mesh("block", block[faces].astype(np.float32)).with_material(Material((0.2, 0.4, 0.8)))
scene = a_scene()
walls = [replace(mesh, camera_sides="front") for mesh in scene.objects if not mesh.emits]
lamp = Light((-0.2, -0.3, 0.25), size=0.1, name="lamp").mesh()
scene = scene.replace(objects=(*walls, *scene.objects[len(walls):], block, lamp))
session = Session(scene, RayEngine(), (300, 200))
window = Window(session, 900, 700)
document, hands, panel = session.document, window.hands, window.panel

def lens():
    box = window.rectangle()
    return hands._lens(box.width, box.height)

def on_screen(point):
    (pixel,), _ = lens().project(np.asarray(point)[None])
    return tuple(int(value) for value in on_view(pixel))

def on_view(pixel):
    box, frame = window.rectangle(), window.window.os_frame
    return frame.x + box.x + pixel[0], frame.y + box.y + pixel[1]

def handle(name):
    (found,) = [handle for handle in hands._gizmo(lens()).handles if handle.name == name]
    pixel = found.line.mean(axis=0) if len(found.line) < 9 else found.line[len(found.line) // 3]
    return tuple(int(value) for value in on_view(pixel))

def outline_pixels():
    return int((np.abs(view() - OUTLINE).max(axis=2) < 40).sum())

until(shows_the_picture, "the picture is on the screen")
assert panel.selected is None and not outline_pixels()
"""

DRAGS = """
# A click chooses, in picture, panel and tree alike.
click(*on_screen((0.05, -0.05, 0.2)))
assert panel.selected is document["block"], window.message
until(lambda: outline_pixels() > 100, "an outline is drawn")
assert window.controls["object object"].selected_text == "block"
assert window.message.endswith(" units away"), window.message
# Its controls are in view, in a window no larger than this.
column, field = window._column.frame, window.controls["object turn"]
until(lambda: column.y < field.frame.y < column.get_bottom() - 20, "the controls of the object are in view")

# The outline follows the camera.
session.move(lambda orbit: orbit.orbit(20, 0))
until(final, "turned")
until(lambda: outline_pixels() > 100, "the outline follows")

# A drag of an arrow moves, whatever time it takes, in one step; the camera stays.
before, view_before = document.scene, session.orbit.view
drag(*handle("x"), (20, 8), (20, 8))
until(final, "moved")
moved = document["block"].placement.translation
assert abs(moved[0]) > 0.05 and moved[1:] == (0.0, 0.0), moved
assert session.orbit.view == view_before
until(lambda: "move" not in window.message, "the drag is no longer described")
pointer("key", "ctrl+z", "sleep", "0.5")
assert document.scene is before

# The right button gives a drag up.
x, y = handle("z")
pointer("mousemove", x, y, "sleep", "0.6", "mousedown", "1", "sleep", "0.6")
pointer("mousemove_relative", "--", 0, -30, "sleep", "0.6")
assert document["block"].placement.translation[2] > 0.02, window.message
assert window.message.startswith("move by 0, 0, 0.") and window.message.endswith(" units"), window.message
pointer("mousedown", "3", "sleep", "0.6", "mouseup", "3", "sleep", "0.3")
assert document.scene is before and not hands.dragging
pointer("mousemove_relative", "--", 30, 0, "sleep", "0.6", "mouseup", "1", "sleep", "0.3")
assert document.scene is before and session.orbit.view == view_before and panel.selected is document["block"]

# G, R and S take it into the hand without a button; X, Y, Z choose an axis, Escape gives up, a click keeps.
def hold(key, *steps):
    pointer("mousemove", x, y, "sleep", "0.5", "key", key, "sleep", "0.5")
    for dx, dy in steps:
        pointer("mousemove_relative", "--", dx, dy, "sleep", "0.4")

hold("g", (20, -10), (20, -10))
assert np.abs(document["block"].placement.translation).min() > 0.001, document["block"].placement
pointer("key", "x", "sleep", "0.5")
assert document["block"].placement.translation[1:] == (0.0, 0.0), document["block"].placement
pointer("key", "Escape", "sleep", "0.5")
assert document.scene is before and not window.closed and not hands.dragging
hold("r", (20, 5), (20, 5))
pointer("mousedown", "1", "sleep", "0.6", "mouseup", "1", "sleep", "0.3")
turned = document["block"].placement
assert panel.mode == "turn" and np.abs(turned.rotation).max() > 5 and turned.translation == (0, 0, 0), turned
assert not hands.dragging and session.orbit.view == view_before and panel.selected is document["block"]
drag(*handle("z"), (20, 5), (20, 5))
assert document["block"].placement.rotation != turned.rotation
hold("s", (0, -20), (0, -20))
pointer("mousedown", "1", "sleep", "0.6", "mouseup", "1", "sleep", "0.3")
assert document["block"].placement.scale > 1.2 and window.dialog is None, document["block"].placement
for step in range(3):
    assert document.scene is not before
    pointer("key", "ctrl+z", "sleep", "0.5")
assert document.scene is before

# At its usual width, all facts have room.
window.window.size = gui.Size(1200, 700)
until(lambda: "latency" in window._facts.text and "..." not in window._facts.text, "nothing is cut off")
leave()
"""

TREE = """
# The mark of a light takes a click; its handle moves it, and it keeps facing its target.
session.move(lambda orbit: orbit.orbit(20, 0))
until(final, "turned")
click(*on_screen(document["lamp"].centre))
assert panel.selected is document["lamp"] and panel.light is document["lamp"]
lamp = document["lamp"].light
drag(*handle("z"), (0, -15), (0, -15))
there = document["lamp"].light
assert there.position[2] > lamp.position[2] + 0.02, (there, lamp, window.message)
assert np.allclose(there.position[:2], lamp.position[:2], atol=1e-4), (there, lamp)
# It faces the same point from its new place.
aim = np.subtract(lamp.target, there.position)
toward = np.subtract(there.target, there.position)
assert np.dot(aim, toward) > 0.999 * np.linalg.norm(aim) * np.linalg.norm(toward), (there, lamp)

# The tree shows what is chosen, and chooses; a check hides, a camera is gone to.
tree = window.tree
assert tree.widget.selected_item == tree.row("lamp")

def in_tree(row, right):
    frame, area = window.window.os_frame, tree.widget.frame
    return frame.x + area.x + right, frame.y + area.y + 8 + 26 * row

names = [item.name for item in document.items if not item.base.emits]
row = 1 + names.index(names[1])
click(*in_tree(row, 100))
assert panel.selected is document[names[1]], (panel.selected and panel.selected.name, names)
assert tree.widget.selected_item == tree.row(names[1])
click(*in_tree(row, 47))
assert not document[names[1]].visible and not tree.cell(names[1]).checkbox.checked
pointer("key", "ctrl+z", "sleep", "0.5")
assert document[names[1]].visible and tree.cell(names[1]).checkbox.checked
assert session.orbit.view.azimuth > 50
pointer("mousemove", *in_tree(5, 100), "sleep", "0.5", "click", "--repeat", "15", "5", "sleep", "0.5")
frame, area = window.window.os_frame, tree.widget.frame
click(frame.x + area.x + 70, frame.y + area.y + area.height - 8)
assert abs(session.orbit.view.azimuth - 40) < 1e-3, session.orbit.view

until(final, "the view of the camera")
# Escape chooses nothing, Delete removes what is chosen, undo brings it back.
click(*on_screen((0.05, -0.05, 0.2)))
pointer("key", "Escape", "sleep", "0.5")
assert panel.selected is None
until(lambda: not outline_pixels(), "no outline")
click(*on_screen((0.05, -0.05, 0.2)))
pointer("key", "Delete", "sleep", "0.5")
assert "block" not in [item.name for item in document.items]
pointer("key", "ctrl+z", "sleep", "0.5")
assert panel.selected is document["block"]
session.undo(), session.undo()
leave()
"""

BEHIND = """
# Walls do not hide the block from a camera behind them, in no view; that camera sees it in front of the floor.
def block_pixels(picture):
    return int((picture[..., 2] > picture[..., 0] + 25).sum())

panel.choose("block")
for azimuth in (40, 130, 220, 310):
    window._apply("", lambda: panel.set_view(azimuth=azimuth))
    until(shows_the_picture, f"the picture from {azimuth} degrees")
    expected = block_pixels(session.picture())
    assert expected > 500, (azimuth, expected)
    x, y = on_screen((0.05, -0.05, 0.2))
    click(x, y)
    assert panel.selected is document["block"], window.message

# Handles lie over the preview, too, and act there.
for kind in ("split", "preview"):
    window._apply("", lambda: panel.show(kind))
    for _ in range(5):
        pointer("sleep", "0.2")
    assert block_pixels(view()) > 500
    until(lambda: outline_pixels() > 100, f"an outline in the {kind}")
    before = document["block"].placement.translation
    drag(*handle("x"), (12, 5), (12, 5))
    moved = np.subtract(document["block"].placement.translation, before)
    assert abs(moved[0]) > 0.02 and not moved[1:].any(), (kind, moved, window.message)
    until(final, "moved")
drag(*at(0.9, 0.9), (15, 0))
until(lambda: outline_pixels() > 100, "the outline follows the camera in the preview")
session.undo(), session.undo()
leave()
"""

HEAVY = """
# An object whose moves take long follows the pointer to where it is, not along all places where it was.
click(*on_screen((0.05, -0.05, 0.2)))
places, place = [], document.place

def slowly(name, placement):
    places.append(placement)
    time.sleep(0.15)
    place(name, placement)

document.place = slowly
x, y = handle("x")
steps = [word for _ in range(60) for word in ("mousemove_relative", "--", "1", "0", "sleep", "0.01")]
pointer("mousemove", x, y, "sleep", "0.6", "mousedown", "1", "sleep", "0.6", *steps)
end = x + 60
pointer("sleep", "0.3")
assert 1 < len(places) < 40, len(places)
assert hands.dragging and abs(window.pointer._last[0] + window.window.os_frame.x - end) <= 2
count = len(places)
pointer("sleep", "0.5", "mouseup", "1", "sleep", "0.3")
assert len(places) - count <= 1 and document["block"].placement == places[-1]
assert not hands.dragging and np.abs(places[-1].translation).max() > 0.1
session.undo()
leave()
"""

LIGHTS = """
# A light that is added is told to be out of sight, its controls are in view, and a mark at the edge leads to it.
from renderformer.viewer import beyond

window.controls.unfold("Light")
window.window.set_needs_layout()
pointer("sleep", "1")
press(window.controls["light add"], lambda: document.undo_label == "add light_2", "a light is added")
assert window.message.endswith("light_2 is outside the picture; F turns to it"), window.message
column, field = window._column.frame, window.controls["light remove"]
until(lambda: column.y < field.frame.y < column.get_bottom() - 20, "the controls of the light are in view")
until(lambda: outline_pixels() > 80, "a mark at the edge")
corners = beyond.mark(lens(), document["light_2"].centre)
click(*(int(value) for value in on_view(corners.mean(axis=0))))
assert session.orbit.view.target == tuple(document["light_2"].centre), (session.orbit.view, window.message)
until(final, "turned to it")
(pixel,), _ = lens().project(document["light_2"].centre[None])
box = window.rectangle()
assert np.allclose(pixel, (box.width / 2, box.height / 2), atol=2), pixel

# Strength, place and existence are each one step of undo.
lamp = document["light_2"].light
click(*middle(window.controls["light strength"]))
pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "300", "70")
pointer("keydown", "Return", "sleep", "0.3", "keyup", "Return", "sleep", "0.3")
until(lambda: max(document["light_2"].light.emission) == 70, "the strength that was typed")
until(final, "dimmed")
drag(*handle("z"), (0, -15), (0, -15))
assert document["light_2"].light.position[2] > lamp.position[2] + 0.02, window.message
click(*at(0.1, 0.1))
window._apply("", lambda: panel.choose("light_2"))
window.window.set_focus_widget(window.scene)
pointer("key", "Delete", "sleep", "0.5")
assert [item.name for item in document.lights] == ["light", "lamp"], window.message
steps = []
for _ in range(4):
    pointer("key", "ctrl+z", "sleep", "0.5")
    steps.append(document["light_2"].light if len(document.lights) > 2 else None)
assert steps[0].position[2] > lamp.position[2] + 0.02 and max(steps[0].emission) == 70
assert steps[1].position == lamp.position and max(steps[1].emission) == 70
assert steps[2].emission == lamp.emission and steps[3] is None and document.scene is scene
leave()
"""


@needs_a_screen
def test_a_light_is_added_found_dimmed_moved_deleted_and_each_is_undone(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + LIGHTS, tmp_path, display)


COMING = """
# A large object comes into the preview when it is coloured; the window lives meanwhile, and shows what it had.
from renderformer.viewer import preview_scene

held, colour = threading.Event(), preview_scene.coloured

def slowly(mesh, *light):
    if mesh.name == "block":
        held.wait(60)
    return colour(mesh, *light)

def block_pixels(picture):
    return int((picture[..., 2] > picture[..., 0] + 25).sum())

preview_scene.LARGE, preview_scene.coloured = len(document["block"].base), slowly
window._apply("", lambda: panel.show("preview"))
window._apply("", lambda: session.edit(lambda document: document.set_visible("block", False)))
until(lambda: block_pixels(view()) < 50, "the rest is in the preview")
window._apply("", lambda: session.undo())
before = session.orbit.view
drag(*at(0.9, 0.9), (15, 0))
assert session.orbit.view != before
assert view().mean() > 5 and block_pixels(view()) < 50
held.set()
until(lambda: block_pixels(view()) > 500, "the block came")
held.clear()
window._apply("", lambda: session.edit(lambda document: document.set_material("block", diffuse=(0.8, 0.1, 0.1))))
pointer("sleep", "1")
assert block_pixels(view()) > 500
held.set()
until(lambda: block_pixels(view()) < 50, "it has its new colour")
window._apply("", lambda: session.undo())
until(lambda: block_pixels(view()) > 500, "undone")
leave()
"""


@needs_a_screen
def test_a_large_object_is_coloured_for_the_preview_while_the_window_lives(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + COMING, tmp_path, display)


@needs_a_screen
def test_a_heavy_object_follows_the_pointer_without_delay(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + HEAVY, tmp_path, display)


@needs_a_screen
def test_a_click_chooses_and_handles_move_turn_and_scale(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + DRAGS, tmp_path, display)


@needs_a_screen
def test_marks_choose_lights_and_the_tree_chooses_hides_and_goes_to_cameras(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + TREE, tmp_path, display)


@needs_a_screen
def test_walls_hide_nothing_from_behind_and_handles_act_in_the_preview(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + BEHIND, tmp_path, display)
