"""Where the installed renderformer is, and what it draws with."""

# Blender reads the annotations of properties, so they must not be text.
from typing import Any

import bpy

from . import client


class RenderformerPreferences(bpy.types.AddonPreferences):
    """The preferences of the add-on."""

    bl_idname = __package__

    program: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Program",
        description="The program renderformer, or a Python that has the package; empty: the one on PATH",
        subtype="FILE_PATH",
    )
    network: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Network",
        description="Correct the ray-cast picture with the neural network; without, pictures are ready sooner",
        default=False,
    )
    model: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Model",
        description="Folder with config.json and model.safetensors, or a Hub id; empty: the embedded one",
    )

    def draw(self, context: Any) -> None:
        """Show the settings, and whether the program is found."""
        layout = self.layout
        layout.label(text="This add-on needs the program renderformer, which is installed apart from Blender:")
        layout.label(text=client.INSTALL)
        try:
            layout.label(text=f"Found: {client.command(bpy.path.abspath(self.program))[0]}", icon="CHECKMARK")
        except client.ClientError as error:
            layout.label(text=str(error), icon="ERROR")
        layout.prop(self, "program")
        layout.prop(self, "network")
        if self.network:
            layout.prop(self, "model")


def command() -> list[str]:
    """The command that starts the process, by the preferences.

    Raises:
        ClientError: the program is not found.
    """
    addon = bpy.context.preferences.addons.get(__package__)
    if addon is None:
        return client.command("")
    chosen = addon.preferences
    options = ["--network" if chosen.network else "--no-network"]
    if chosen.network and chosen.model:
        options = ["--model", chosen.model]
    return client.command(bpy.path.abspath(chosen.program), options)


def register() -> None:
    """Called when the add-on is switched on."""
    bpy.utils.register_class(RenderformerPreferences)


def unregister() -> None:
    """Called when the add-on is switched off."""
    bpy.utils.unregister_class(RenderformerPreferences)
