"""Stand-ins for objects of PyTorch3D that compute as the package does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


class Matrix:
    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix

    def get_matrix(self) -> torch.Tensor:
        return self.matrix


class FoVPerspectiveCameras:
    """Field of view over the shorter side; the projection of OpenGL with +Z forward."""

    def __init__(self, R: Any, T: Any, fov: float = 60.0, aspect_ratio: float = 1.0, K: Any = None) -> None:
        self.R, self.T, self.fov, self.aspect_ratio, self.K = R, T, fov, aspect_ratio, K

    def in_ndc(self) -> bool:
        return True

    def get_projection_transform(self) -> Matrix:
        near, far = 1.0, 100.0
        k = torch.zeros(len(self.R), 4, 4)
        top = near * float(np.tan(np.radians(self.fov) / 2))
        k[:, 0, 0], k[:, 1, 1] = near / (top * self.aspect_ratio), near / top
        k[:, 2, 2], k[:, 2, 3], k[:, 3, 2] = far / (far - near), -far * near / (far - near), 1
        return Matrix((k if self.K is None else self.K).transpose(1, 2))


class PerspectiveCameras:
    """Focal length and principal point in NDC or in pixels; the size of the image is (height, width)."""

    def __init__(
        self, R: Any, T: Any, focal: Any, principal: Any = (0.0, 0.0), in_ndc: bool = True, image_size: Any = None
    ) -> None:
        self.R, self.T, self._ndc, self.image_size = R, T, in_ndc, image_size
        self.focal_length, self.principal_point = np.broadcast_to(focal, 2), principal

    def in_ndc(self) -> bool:
        return self._ndc

    def get_projection_transform(self) -> Matrix:
        k = torch.zeros(len(self.R), 4, 4)
        k[:, 0, 0], k[:, 1, 1] = float(self.focal_length[0]), float(self.focal_length[1])
        k[:, 0, 2], k[:, 1, 2] = float(self.principal_point[0]), float(self.principal_point[1])
        k[:, 2, 3] = k[:, 3, 2] = 1
        return Matrix(k.transpose(1, 2))


class OrthographicCameras(PerspectiveCameras):
    def get_projection_transform(self) -> Matrix:
        k = torch.eye(4)[None].repeat(len(self.R), 1, 1)
        return Matrix(k.transpose(1, 2))


@dataclass
class Meshes:
    verts: list[torch.Tensor]
    faces: list[torch.Tensor]
    textures: Any = None

    def verts_list(self) -> list[torch.Tensor]:
        return self.verts

    def faces_list(self) -> list[torch.Tensor]:
        return self.faces


@dataclass
class TexturesVertex:
    features: list[torch.Tensor]

    def verts_features_list(self) -> list[torch.Tensor]:
        return self.features


@dataclass
class TexturesAtlas:
    atlas: list[torch.Tensor]

    def atlas_list(self) -> list[torch.Tensor]:
        return self.atlas


@dataclass
class TexturesUV:
    maps: torch.Tensor
    faces_uvs: list[torch.Tensor]
    verts_uvs: list[torch.Tensor]
    align_corners: bool = True

    def maps_padded(self) -> torch.Tensor:
        return self.maps

    def faces_uvs_list(self) -> list[torch.Tensor]:
        return self.faces_uvs

    def verts_uvs_list(self) -> list[torch.Tensor]:
        return self.verts_uvs


def look_at(
    eye: np.ndarray[Any, Any], at: np.ndarray[Any, Any], up: tuple[float, ...] = (0.0, 1.0, 0.0)
) -> tuple[torch.Tensor, torch.Tensor]:
    """R, T as PyTorch3D's look_at_view_transform documents them: the columns of R are left, up and forward."""
    z = at - eye
    z = z / np.linalg.norm(z)
    x = np.cross(up, z)
    x = x / np.linalg.norm(x)
    r = np.stack([x, np.cross(z, x), z], axis=1)
    return torch.tensor(r[None]), torch.tensor((-r.T @ eye)[None])


def look_at_view_transform(
    eye: tuple[tuple[float, ...], ...], up: tuple[tuple[float, ...]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """R (N, 3, 3) and T (N, 3) of cameras at N places that look at the origin."""
    poses = [look_at(np.array(place), np.zeros(3), up[0]) for place in eye]
    return torch.cat([r for r, _ in poses]).float(), torch.cat([t for _, t in poses]).float()
