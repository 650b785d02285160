"""The paper's model, this package's extension of it, and the protocol of both."""

from renderformer.model.protocol import Encoded, Model
from renderformer.model.renderformer import RenderFormer
from renderformer.model.shading import ShadingModel

__all__ = ["Encoded", "Model", "RenderFormer", "ShadingModel"]
