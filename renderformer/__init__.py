"""RenderFormer: a triangle mesh in, a globally lit picture out (arXiv 2505.21925).

The names below are the whole public interface. They resolve lazily (PEP 562): an import loads no other part of the
package and never opens the network.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from renderformer.config import ModelConfig
    from renderformer.data.appearance import Appearance
    from renderformer.data.camera import Camera
    from renderformer.data.environment import Environment, Sun
    from renderformer.data.errors import InputError
    from renderformer.data.material import Textures
    from renderformer.data.scene import Light, Material, Mesh, Scene
    from renderformer.data.texture import Texture
    from renderformer.differentiable.tensors import SceneTensors
    from renderformer.image import Image
    from renderformer.model import RenderFormer
    from renderformer.pipeline import RenderFormerRenderingPipeline
    from renderformer.renderer import LitScene, Renderer
    from renderformer.split import Split

__version__ = "0.1.0"

_HOME = {
    "Appearance": "renderformer.data.appearance",
    "Camera": "renderformer.data.camera",
    "Environment": "renderformer.data.environment",
    "Image": "renderformer.image",
    "InputError": "renderformer.data.errors",
    "Light": "renderformer.data.scene",
    "LitScene": "renderformer.renderer",
    "Material": "renderformer.data.scene",
    "Mesh": "renderformer.data.scene",
    "ModelConfig": "renderformer.config",
    "RenderFormer": "renderformer.model",
    "RenderFormerRenderingPipeline": "renderformer.pipeline",
    "Renderer": "renderformer.renderer",
    "Scene": "renderformer.data.scene",
    "SceneTensors": "renderformer.differentiable.tensors",
    "Split": "renderformer.split",
    "Sun": "renderformer.data.environment",
    "Texture": "renderformer.data.texture",
    "Textures": "renderformer.data.material",
    "view": "renderformer.viewer.launch",
}

__all__ = [
    "Appearance",
    "Camera",
    "Environment",
    "Image",
    "InputError",
    "Light",
    "LitScene",
    "Material",
    "Mesh",
    "ModelConfig",
    "RenderFormer",
    "RenderFormerRenderingPipeline",
    "Renderer",
    "Scene",
    "SceneTensors",
    "Split",
    "Sun",
    "Texture",
    "Textures",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'renderformer' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
