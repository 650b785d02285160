"""Materials by name, as far as the shading model goes: diffuse plus GGX specular, and metals.

Colours are linear RGB. The reflectances of metals are those at normal incidence under the D65 illuminant, from the
refractive indices in the literature (rounded).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from renderformer.data.material import DIELECTRIC, Material

# What a material is called that is none of them.
OWN = "its own"
WHITE = (1.0, 1.0, 1.0)
PRESETS: dict[str, dict[str, Any]] = {
    "matte": {"metallic": 0.0, "specular": 0.0, "roughness": 1.0, "alpha": 1.0},
    "satin": {"metallic": 0.0, "specular": DIELECTRIC, "roughness": 0.5, "alpha": 1.0},
    "glossy plastic": {"metallic": 0.0, "specular": DIELECTRIC, "roughness": 0.15, "alpha": 1.0},
    "lacquer": {"metallic": 0.0, "specular": DIELECTRIC, "roughness": 0.03, "alpha": 1.0},
    "coloured metal": {"metallic": 1.0, "specular": DIELECTRIC, "roughness": 0.3, "alpha": 1.0},
    "steel": {"metallic": 1.0, "diffuse": (0.56, 0.57, 0.58), "specular": DIELECTRIC, "roughness": 0.35, "alpha": 1.0},
    "silver": {"metallic": 1.0, "diffuse": (0.97, 0.96, 0.91), "specular": DIELECTRIC, "roughness": 0.15, "alpha": 1.0},
    "gold": {"metallic": 1.0, "diffuse": (1.0, 0.71, 0.29), "specular": DIELECTRIC, "roughness": 0.2, "alpha": 1.0},
    "copper": {"metallic": 1.0, "diffuse": (0.96, 0.64, 0.54), "specular": DIELECTRIC, "roughness": 0.25, "alpha": 1.0},
    "mirror": {"metallic": 1.0, "diffuse": WHITE, "specular": DIELECTRIC, "roughness": 0.01, "alpha": 1.0},
}


def preset_of(material: Material) -> str:
    """The name of the preset that a material is like; `OWN` if there is none."""
    return next((name for name, values in PRESETS.items() if _like(material, values)), OWN)


def changes(name: str, material: Material) -> dict[str, Any]:
    """The properties of `Material` to set for a preset. What needs neither metal nor opacity keeps to rows, which
    every model knows."""
    values = dict(PRESETS[name])
    if values["metallic"] == 0 and material.metallic is None:
        del values["metallic"]
    if material.alpha == 1:
        del values["alpha"]
    return values


def _like(material: Material, values: dict[str, Any]) -> bool:
    known = {**vars(material), "metallic": material.metallic or 0.0}
    # Of a metal, the dielectric part does not show.
    compared = {key: value for key, value in values.items() if not (key == "specular" and values["metallic"] == 1)}
    return all(np.allclose(known[key], value, atol=2e-3) for key, value in compared.items())
