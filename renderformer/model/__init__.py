"""The networks: the paper's model, this package's extension of it, what draws without a network, and the protocol that both answer."""

from renderformer.model.physical import PhysicalModel
from renderformer.model.protocol import Encoded, Model
from renderformer.model.renderformer import RenderFormer
from renderformer.model.shading import ShadingModel

__all__ = ["Encoded", "Model", "PhysicalModel", "RenderFormer", "ShadingModel"]
