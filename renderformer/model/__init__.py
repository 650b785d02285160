"""The paper's model, this package's extension of it, a model without a network, and the protocol that all answer."""

from renderformer.model.physical import PhysicalModel
from renderformer.model.protocol import Encoded, Model
from renderformer.model.renderformer import RenderFormer
from renderformer.model.shading import ShadingModel

__all__ = ["Encoded", "Model", "PhysicalModel", "RenderFormer", "ShadingModel"]
