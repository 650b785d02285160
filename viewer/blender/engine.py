"""The render engine: final pictures and the rendered viewport."""

from __future__ import annotations

import weakref
from typing import Any

import bpy
import numpy as np

from . import preferences
from .camera import View, view_of
from .client import Client, ClientError
from .export import Exporter
from .picture import exposed, exposure_of, filled

NAME = "RENDERFORMER"
# Seconds between two looks for pictures.
PAUSE = 0.05
# Panels of other engines that make sense for this one, too.
_PANELS = (
    "EEVEE_MATERIAL_PT_context_material", "EEVEE_MATERIAL_PT_surface", "MATERIAL_PT_preview", "EEVEE_WORLD_PT_surface",
    "DATA_PT_EEVEE_light", "NODE_DATA_PT_EEVEE_light",
)  # fmt: skip
_HIDDEN_PANELS = ("VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes", "RENDER_PT_simplify_greasepencil")
# The process of final pictures, which stays for the next one: an animation loads the model once.
_final: Client | None = None


class RenderformerEngine(bpy.types.RenderEngine):
    """Draws by a process of renderformer."""

    bl_idname = NAME
    bl_label = "renderformer"
    bl_use_preview = False
    bl_use_shading_nodes_custom = False
    bl_use_eevee_viewport = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._viewport: Viewport | None = None

    def render(self, depsgraph: Any) -> None:
        """Draw a final picture, Blender's F12."""
        try:
            self._render(depsgraph)
        # ValueError is a camera that cannot be drawn.
        except (ClientError, ValueError) as error:
            self.report({"ERROR"}, str(error))

    def _render(self, depsgraph: Any) -> None:
        scene = depsgraph.scene
        view = final_view(scene, depsgraph)
        self.update_stats("renderformer", "starting")
        client = final_client()
        exporter = Exporter()
        client.send_scene(*exporter.scene(depsgraph))
        for line in (*view.notes, *exporter.notes):
            self.report({"WARNING"}, line)
        number = next_number()
        client.send(view.message(number, growing=not bpy.app.background))
        width, height = view.shown
        while True:
            if self.test_break():
                client.send({"do": "stop"})
                return
            for message, arrays in client.wait(PAUSE):
                self._tell(message)
                if message.get("number") != number:
                    if message["is"] == "error" and message.get("number") is None:
                        raise ClientError(message["line"])
                    continue
                if message["is"] == "error":
                    raise ClientError(message["line"])
                if message["is"] == "picture":
                    pixels = filled(arrays["pixels"], view.place(message["place"]), width, height)
                    self._show(exposed(pixels, exposure_of(scene)), depsgraph.view_layer.name)
                    if message["final"]:
                        return

    def _tell(self, message: dict[str, Any]) -> None:
        """Progress, for the line above the picture."""
        if message["is"] == "progress" and message["total"]:
            share = message["done"] / message["total"]
            self.update_stats("renderformer", f"{message['stage']} {share:.0%}")
            self.update_progress(share)
        if message["is"] in ("scene", "picture"):
            for line in message.get("notes", ()):
                self.report({"WARNING"}, line)

    def _show(self, pixels: np.ndarray, layer: str) -> None:
        """Show (height, width, 4) pixels, row 0 at the bottom, in the Combined pass of a view layer."""
        height, width = pixels.shape[:2]
        result = self.begin_result(0, 0, width, height, layer=layer)
        result.layers[0].passes["Combined"].rect.foreach_set(pixels.reshape(-1))
        self.end_result(result)

    def view_update(self, context: Any, depsgraph: Any) -> None:
        """Called in a rendered viewport when the scene has changed."""
        if self._viewport is None:
            self._viewport = Viewport(self)
        self._viewport.update(depsgraph, context.space_data)

    def view_draw(self, context: Any, depsgraph: Any) -> None:
        """Called in a rendered viewport to draw it."""
        if self._viewport is None:
            self._viewport = Viewport(self)
            self._viewport.update(depsgraph, context.space_data)
        region, data = context.region, context.region_data
        self._viewport.look(data.window_matrix, data.view_matrix.inverted(), region.width, region.height)
        self.bind_display_space_shader(depsgraph.scene)
        self._viewport.draw(region.width, region.height)
        self.unbind_display_space_shader()


class Viewport:
    """A rendered viewport: its process, what it shows, and its newest picture.

    Args:
        engine: is asked to redraw when a picture comes. The viewport ends with it.
    """

    def __init__(self, engine: Any) -> None:
        # Blender frees engines without a call; their attributes are gone by then.
        self._engine = weakref.ref(engine)
        weakref.finalize(engine, self.close)
        self._client: Client | None = None
        self._exporter = Exporter()
        self._view: View | None = None
        self._number = 0
        self._picture: tuple[np.ndarray, list[float]] | None = None
        self._texture: Any = None
        self._exposure = 1.0
        self._problem = ""
        self._stage = ""

    def update(self, depsgraph: Any, space: Any) -> None:
        """Send the scene, if it is another one."""
        if exposure_of(depsgraph.scene) != self._exposure:
            self._exposure, self._texture = exposure_of(depsgraph.scene), None
        try:
            if self._client is None:
                self._client = Client(preferences.command())
                bpy.app.timers.register(self.poll, first_interval=PAUSE)
            self._exporter.forget(depsgraph.updates)
            if self._client.send_scene(*self._exporter.scene(depsgraph, space)):
                self._view, self._problem = None, ""
        except ClientError as error:
            self._fail(str(error))

    def look(self, projection: Any, to_world: Any, width: int, height: int) -> None:
        """Ask for pictures of a view, if it is another one."""
        if self._client is None or not self._client.scene:
            return
        try:
            view = view_of(projection, to_world, width, height)
            if self._view is not None and same(view, self._view):
                return
            self._view, self._number = view, next_number()
            self._client.send(view.message(self._number, growing=True))
        except (ClientError, ValueError) as error:
            self._fail(str(error))

    def poll(self) -> float | None:
        """Take what the process has sent; called by a timer until the viewport is closed."""
        engine = self._engine()
        if self._client is None or engine is None:
            return None
        try:
            messages = self._client.wait(0)
            if messages:
                for message, arrays in messages:
                    self._take(message, arrays)
                self._tell(engine)
                engine.tag_redraw()
        except ClientError as error:
            self._fail(str(error))
        # Blender has freed the engine, but something still holds it.
        except ReferenceError:
            self.close()
        return None if self._client is None else PAUSE

    def _take(self, message: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if message["is"] == "picture":
            self._picture, self._texture = (arrays["pixels"], message["place"]), None
            self._stage = "" if message["final"] else "refining"
        elif message["is"] == "progress" and not self._picture:
            self._stage = message["stage"]
        elif message["is"] == "error":
            self._problem = message["line"]

    def _tell(self, engine: Any) -> None:
        """The lines at the top of the viewport."""
        notes = [*(self._view.notes if self._view else ()), *self._exporter.notes]
        more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
        hint = f"{notes[0]}{more}" if notes else ""
        engine.update_stats(self._problem or self._stage, hint)

    def _fail(self, line: str) -> None:
        """Show a problem; the next change of the scene tries again."""
        self._problem = line
        self.close()
        engine = self._engine()
        if engine is not None:
            engine.update_stats(line, "")
            engine.report({"ERROR"}, line)

    def draw(self, width: int, height: int) -> None:
        """Draw the newest picture into the region."""
        if self._picture is None:
            return
        # Not there in a Blender without windows.
        import gpu
        from gpu_extras.presets import draw_texture_2d

        pixels, (left, top, right, bottom) = self._picture
        rows, columns = pixels.shape[:2]
        if self._texture is None:
            lit = np.ascontiguousarray(exposed(pixels, self._exposure)[::-1])
            values = gpu.types.Buffer("FLOAT", rows * columns * 4, lit.reshape(-1))
            self._texture = gpu.types.GPUTexture((columns, rows), format="RGBA16F", data=values)
        gpu.state.blend_set("ALPHA_PREMULT")
        draw_texture_2d(self._texture, (left, height - bottom), right - left, bottom - top)
        gpu.state.blend_set("NONE")

    def close(self) -> None:
        """End the process."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def final_view(scene: Any, depsgraph: Any) -> View:
    """What a final picture shows.

    Raises:
        ValueError: there is no camera, or one of a kind that is not drawn.
    """
    camera = scene.camera
    if camera is None:
        raise ValueError("the scene has no camera")
    render = scene.render
    share = render.resolution_percentage / 100
    width, height = max(1, int(render.resolution_x * share)), max(1, int(render.resolution_y * share))
    evaluated = camera.evaluated_get(depsgraph)
    if evaluated.type == "CAMERA" and evaluated.data.type == "PANO":
        raise ValueError("panoramic cameras are not drawn, only perspective and orthographic ones")
    projection = evaluated.calc_matrix_camera(
        depsgraph, x=width, y=height, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y
    )
    view = view_of(projection, evaluated.matrix_world, width, height)
    if evaluated.type == "CAMERA" and evaluated.data.dof.use_dof:
        view = view.noting("depth of field is not drawn")
    if render.use_multiview:
        view = view.noting("stereoscopy is not drawn")
    if not render.use_border:
        return view
    left, right = int(render.border_min_x * width), int(render.border_max_x * width)
    top, bottom = height - int(render.border_max_y * height), height - int(render.border_min_y * height)
    return view.part(left, top, max(right, left + 1), max(bottom, top + 1))


def final_client() -> Client:
    """The process of final pictures, started if it is needed."""
    global _final
    arguments = preferences.command()
    if _final is not None and (not _final.running or _final.arguments != arguments):
        _final.close()
        _final = None
    if _final is None:
        _final = Client(arguments)
    return _final


_numbers = iter(range(1, 1 << 62))


def next_number() -> int:
    """A number for a request that no other one has."""
    return next(_numbers)


def same(first: View, second: View) -> bool:
    """Whether two views show the same."""
    sizes = (first.size, first.window, first.fov) == (second.size, second.window, second.fov)
    return sizes and np.array_equal(first.c2w, second.c2w)


def _panels() -> list[Any]:
    """Panels of Blender that this engine uses."""
    every = bpy.types.Panel.__subclasses__()
    return [
        panel for panel in every
        if panel.__name__ in _PANELS
        or ("BLENDER_RENDER" in getattr(panel, "COMPAT_ENGINES", ()) and panel.__name__ not in _HIDDEN_PANELS)
    ]  # fmt: skip


def register() -> None:
    """Called when the add-on is switched on."""
    bpy.utils.register_class(RenderformerEngine)
    for panel in _panels():
        panel.COMPAT_ENGINES.add(NAME)


def unregister() -> None:
    """Called when the add-on is switched off."""
    global _final
    for panel in _panels():
        panel.COMPAT_ENGINES.discard(NAME)
    bpy.utils.unregister_class(RenderformerEngine)
    if _final is not None:
        _final.close()
        _final = None
