"""Facts about a scene, a picture and this machine, as dictionaries for `renderformer info` and for programs."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.aovs import LIGHT
from renderformer.data.camera import Camera
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Mesh, Scene


def inspect_scene(scene: Scene) -> dict[str, Any]:
    """Name, objects, lights, cameras, triangles, bounds and notes of a scene; lengths are in scene units."""
    return {
        "name": scene.name,
        "objects": [_object(mesh) for mesh in scene.objects if not mesh.emits],
        "lights": [_light(mesh) for mesh in scene.objects if mesh.emits],
        "cameras": [_camera(camera) for camera in scene.cameras],
        "triangles": len(scene),
        "bounds": [_rounded(corner) for corner in scene.bounds.tolist()],
        "notes": list(scene.notes),
    }


def inspect_picture(path: Path) -> dict[str, Any]:
    """Size, light, layers and lights, camera and what else the header of a picture in linear light tells.

    Raises:
        InputError: as `Image.load`.
    """
    from renderformer.image import Image
    from renderformer.split import Split

    image = Image.load(path)
    finite = image.hdr[np.isfinite(image.hdr)]
    header = {name: value for name, value in image.metadata.items() if name not in ("lights", "objects", "background")}
    facts: dict[str, Any] = {
        "width": image.width,
        "height": image.height,
        "mean": _digits(finite.mean()) if finite.size else None,
        "largest": _digits(finite.max()) if finite.size else None,
        "not_finite": int((~np.isfinite(image.hdr)).any(axis=2).sum()),
        "transparent": image.alpha is not None,
        "layers": [name for name in image.layers if not name.startswith(LIGHT)],
        "cameras": [] if image.camera is None else [_camera(image.camera)],
        "header": header,
    }
    if "lights" in image.metadata:
        lights = Split.load(path).lights
        facts["lights"] = [{"name": name, "mean": _digits(float(np.nanmean(light)))} for name, light in lights.items()]
    return facts


def _digits(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _camera(camera: Camera) -> dict[str, Any]:
    return {
        "name": camera.name,
        "position": _rounded(camera.position.tolist()),
        "forward": _rounded(camera.forward.tolist()),
        "fov": round(camera.fov, 3),
    }


def _object(mesh: Mesh) -> dict[str, Any]:
    rows = mesh.materials
    indices = (mesh.patch_index, None if mesh.appearance is None else mesh.appearance.index)
    return {
        "name": mesh.name,
        "triangles": len(mesh),
        "bounds": [_rounded(corner) for corner in mesh.bounds.tolist()],
        "diffuse": _rounded(rows[:, DIFFUSE].mean(0).tolist()),
        "specular": _rounded(rows[:, SPECULAR].mean(0).tolist()),
        "roughness": round(float(rows[:, ROUGHNESS].mean()), 4),
        "uniform": bool((rows == rows[0]).all()) and mesh.patches is None and mesh.appearance is None,
        "textured_triangles": sum(int((index >= 0).sum()) for index in indices if index is not None),
    }


def _light(mesh: Mesh) -> dict[str, Any]:
    lit = (mesh.materials[:, EMISSION] > 0).any(axis=1)
    return {
        "name": mesh.name,
        "triangles": int(lit.sum()),
        "centre": _rounded(mesh.triangles[lit].mean((0, 1)).tolist()),
        "emission": _rounded(mesh.materials[lit][:, EMISSION].mean(0).tolist()),
    }


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def inspect_machine(device: str | None = None) -> dict[str, Any]:
    """Versions, devices, the attention of each stage with the reason, and the path of the embedded model.

    Args:
        device: the device to report attention for; by default every device of the machine.

    Raises:
        InputError: an unknown device.
    """
    import torch

    from renderformer import __version__
    from renderformer.devices import attention_report

    cuda = [
        {
            "name": torch.cuda.get_device_name(i),
            "memory_gib": round(torch.cuda.get_device_properties(i).total_memory / 2**30, 1),
            "capability": ".".join(map(str, torch.cuda.get_device_capability(i))),
        }
        for i in range(torch.cuda.device_count())
    ]
    devices = ["cpu", *(f"cuda:{i}" for i in range(len(cuda))), *["mps"] * torch.backends.mps.is_available()]
    reports = [attention_report(name) for name in (devices if device is None else [device])]
    return {
        "kind": "machine",
        "renderformer": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "embreex": _version("embreex"),
        "cpu_threads": torch.get_num_threads(),
        "cuda": cuda,
        "mps": torch.backends.mps.is_available(),
        "attention": {report.pop("device"): report for report in reports},
        "embedded_model": _embedded_model(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _embedded_model() -> str | None:
    from renderformer.checkpoints import find_checkpoint
    from renderformer.data.errors import InputError

    try:
        return str(find_checkpoint())
    except InputError:
        return None
