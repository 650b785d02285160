"""The paper's model, this package's extension of it, a model without a network, and the protocol that all answer.

The names resolve lazily, since torch takes seconds to load and the model without a network does without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from renderformer.model.physical import PhysicalModel
    from renderformer.model.protocol import Encoded, Model
    from renderformer.model.renderformer import RenderFormer
    from renderformer.model.shading import ShadingModel

_HOME = {
    "Encoded": "protocol",
    "Model": "protocol",
    "PhysicalModel": "physical",
    "RenderFormer": "renderformer",
    "ShadingModel": "shading",
}

__all__ = ["Encoded", "Model", "PhysicalModel", "RenderFormer", "ShadingModel"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'renderformer.model' has no attribute {name!r}")
    return getattr(importlib.import_module(f"renderformer.model.{_HOME[name]}"), name)
