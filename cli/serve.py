"""`renderformer serve`: draws for a program that started it."""

from __future__ import annotations

import os
import sys

from renderformer.cli.model_options import ModelFlags

EXAMPLES = """[bold]Examples[/bold]

renderformer serve --no-network

Blender's add-on starts it: docs/blender.md has the messages.
"""


def serve(*, model: ModelFlags) -> None:
    """Draw for another program, such as Blender: requests on stdin, pictures on stdout.

    It keeps the model and the lit scene, and ends when stdin does. You need not call it: the add-on for Blender does.
    """
    # Whatever prints a line must not print it between the messages.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    from renderformer.renderer import Renderer
    from renderformer.viewer.serve import Server

    Server(Renderer.from_pretrained(model.model, **model.arguments()), sys.stdin.buffer, sink).run()
