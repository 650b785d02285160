"""The add-on for Blender: a render engine that has an installed renderformer draw, see docs/blender.md.

It is no part of the package and imports nothing of it; `make blender` zips this folder.
"""

from __future__ import annotations


def register() -> None:
    """Called by Blender when the add-on is switched on."""
    from . import engine, preferences

    preferences.register()
    engine.register()


def unregister() -> None:
    """Called by Blender when the add-on is switched off."""
    from . import engine, preferences

    engine.unregister()
    preferences.unregister()
