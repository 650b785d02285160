"""Sheets of sample pictures, for a person to follow a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from renderformer.data.arrays import Float32Array
from renderformer.data.files import atomic_path
from renderformer.evaluation.measurement import predict
from renderformer.evaluation.metrics import display, psnr
from renderformer.model import Model
from renderformer.training.dataset import Example, collate

COLUMNS = 8
# Makes small differences of display values visible.
GAIN = 4
TILE, MARGIN, HEADER = 128, 84, 16


@torch.inference_mode()
def write_sheet(model: Model, examples: Sequence[Example], path: Path) -> None:
    """Write a PNG of the first views of up to 8 evenly spaced scenes: reference, prediction, and 4 times the difference
    of their display values."""
    indices = sorted({int(i) for i in np.linspace(0, len(examples) - 1, COLUMNS)})
    sheet = Image.new("RGB", (MARGIN + TILE * len(indices), HEADER + 3 * TILE), "white")
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(("reference", "prediction", f"difference x{GAIN}")):
        draw.text((4, HEADER + TILE * row + TILE // 2), label, fill="black")
    for column, index in enumerate(indices):
        batch = collate([examples[index]]).to(model.device)
        picture, reference = predict(model, batch)[0, :1, ..., :3].float(), batch.hdr[0, :1]
        rows = [display(reference), display(picture)]
        rows.append((GAIN * (rows[1] - rows[0]).abs()).clamp(max=1))
        left = MARGIN + TILE * column
        draw.text((left + 4, 2), f"scene {index}, {float(psnr(picture, reference)):.1f} dB", fill="black")
        for row, values in enumerate(rows):
            sheet.paste(_tile(values[0].cpu().numpy()), (left, HEADER + TILE * row))
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _tile(values: Float32Array) -> Image.Image:
    """Values in [0, 1] as a tile; enlarged pixels stay squares."""
    image = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    smooth = image.width > TILE
    return image.resize((TILE, TILE), Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)
