"""The dense prediction decoder (DPT): features of four layers, fused from coarse to fine, to an image.

Shape suffixes: B images, T tokens, D width, C channels, h x w a level's grid.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def resize(x_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x_BChw, size=size, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.silu(self.conv1(F.silu(x)))) + x


class FusionBlock(nn.Module):
    """Adds a finer level to the coarser result and resizes the sum; the deepest block starts from one level alone."""

    def __init__(self, channels: int, deepest: bool) -> None:
        super().__init__()
        if not deepest:
            self.resConvUnit1 = ResidualUnit(channels)
        self.resConvUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, finer: Tensor | None, size: tuple[int, int]) -> Tensor:
        if finer is not None:
            x = x + self.resConvUnit1(finer)
        return self.out_conv(resize(self.resConvUnit2(x), size))


class Scratch(nn.Module):
    """The part of the decoder that a checkpoint names `scratch`."""

    def __init__(self, level_channels: tuple[int, ...], features: int, out_channels: int) -> None:
        super().__init__()
        for level, channels in enumerate(level_channels, start=1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(channels, features, 3, padding=1, bias=False))
            self.add_module(f"refinenet{level}", FusionBlock(features, deepest=level == 4))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, out_channels, 1)
        )

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Fuse four levels, finest first, to (B, C, *size)."""
        levels = [self.get_submodule(f"layer{i}_rn")(x) for i, x in enumerate(levels, start=1)]
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *((x.shape[-2], x.shape[-1]) for x in levels[:3])]
        path = self.get_submodule("refinenet4")(levels[3], None, sizes[3])
        for i in (3, 2, 1):
            path = self.get_submodule(f"refinenet{i}")(path, levels[i - 1], sizes[i - 1])
        return self.output_conv2(resize(self.output_conv1(path), size))


class DPT(nn.Module):
    """Tokens after four view layers, (B, T, D) each, to an image (B, C, h patch, w patch)."""

    def __init__(
        self, width: int, level_channels: tuple[int, ...], features: int, out_channels: int, patch_size: int
    ) -> None:
        super().__init__()
        c1, c2, _, c4 = level_channels
        self.patch_size = patch_size
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in level_channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(c1, c1, 4, stride=4),
                nn.ConvTranspose2d(c2, c2, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(c4, c4, 3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(level_channels, features, out_channels)

    def forward(self, features_BTD: list[Tensor], grid: tuple[int, int]) -> Tensor:
        levels = [
            resize_layer(project(x_BTD.transpose(1, 2).unflatten(2, grid)))
            for x_BTD, project, resize_layer in zip(features_BTD, self.projects, self.resize_layers, strict=True)
        ]
        return self.scratch(levels, (grid[0] * self.patch_size, grid[1] * self.patch_size))
