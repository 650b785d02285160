"""Materials of glTF as far as the renderer draws them; docs/formats.md lists what each extension becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.images import Images
from renderformer.data.formats.gltf.values import child, number, numbers
from renderformer.data.formats.parts import Notes
from renderformer.data.material import DIELECTRIC, MAX_RADIANCE, RGB, Material, Textures
from renderformer.data.texture import Texture

_SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
_TRANSMISSION = "KHR_materials_transmission"
_DRAWN = {
    "KHR_materials_emissive_strength",
    "KHR_materials_ior",
    "KHR_materials_specular",
    _SPECULAR_GLOSSINESS,
    _TRANSMISSION,
}
# What is not drawn, and the factor without which it has no effect.
_NOT_DRAWN: Mapping[str, tuple[str, str | None]] = {
    "KHR_materials_anisotropy": ("anisotropy", "anisotropyStrength"),
    "KHR_materials_clearcoat": ("clearcoat", "clearcoatFactor"),
    "KHR_materials_diffuse_transmission": ("diffuse transmission", "diffuseTransmissionFactor"),
    "KHR_materials_dispersion": ("dispersion", "dispersion"),
    "KHR_materials_iridescence": ("iridescence", "iridescenceFactor"),
    "KHR_materials_sheen": ("sheen", "sheenColorFactor"),
    "KHR_materials_unlit": ("unlit (matt instead)", None),
    "KHR_materials_volume": ("volume", "thicknessFactor"),
}
# Clear glass reflects about this share of the light of all directions.
_GLASS = 0.1


class Materials:
    """The materials of a file.

    Args:
        notes: counts and lines about what is not drawn are added here.
    """

    def __init__(self, document: Document, notes: Notes) -> None:
        self._document, self._notes = document, notes
        self._images = Images(document, notes)
        self._materials: dict[int, Material] = {}
        # Materials with each feature that is not drawn.
        self._not_drawn: Counter[str] = Counter()

    def get(self, index: Any) -> Material:
        """Item `index` of the file's materials.

        Raises:
            InputError: it is damaged.
        """
        if index not in self._materials:
            self._materials[index] = self._read(self._document.get("materials", index), index)
        return self._materials[index]

    def opaque(self, index: Any) -> bool:
        """Whether a material ignores alpha."""
        return bool(self._document.get("materials", index).get("alphaMode", "OPAQUE") == "OPAQUE")

    def note(self) -> str:
        """One line about the features of all materials that were read that are not drawn; empty if there are none."""
        listed = [f"{name} ({n} material{'s' * (n > 1)})" for name, n in sorted(self._not_drawn.items())]
        return f"not drawn: {', '.join(listed)}" if listed else ""

    def _read(self, entry: dict[str, Any], index: int) -> Material:
        place = f"materials[{index}]"
        extensions = child(entry, "extensions", place)
        alpha_mode = entry.get("alphaMode", "OPAQUE")
        if _SPECULAR_GLOSSINESS in extensions:
            material = self._specular_glossiness(child(extensions, _SPECULAR_GLOSSINESS, place), place, alpha_mode)
        else:
            material = self._metallic_roughness(entry, extensions, place, alpha_mode)
        if "KHR_materials_unlit" in extensions:
            material = replace(material, metallic=None, specular=(0.0, 0.0, 0.0), roughness=1.0)
        normal = entry.get("normalTexture")
        textures = replace(
            material.textures,
            emission=self._images.texture(entry.get("emissiveTexture"), "emission texture", srgb=True),
            normal=self._images.texture(normal, "normal texture", srgb=False),
        )
        scale = normal.get("scale", 1.0) if isinstance(normal, dict) else 1.0
        material = replace(
            material,
            emission=self._emission(entry, extensions, place),
            textures=textures,
            normal_scale=number(scale, f"{place}.normalTexture.scale"),
            two_sided=entry.get("doubleSided") is True,
        )
        if alpha_mode == "MASK":
            cutoff = number(entry.get("alphaCutoff", 0.5), f"{place}.alphaCutoff")
            material = replace(material, alpha_cutoff=max(cutoff, 0.0))
        self._count_not_drawn(extensions, place)
        return self._transmissive(material, child(extensions, _TRANSMISSION, place), place)

    def _metallic_roughness(
        self, entry: dict[str, Any], extensions: dict[str, Any], place: str, alpha_mode: Any
    ) -> Material:
        pbr = child(entry, "pbrMetallicRoughness", place)
        base = _unit(pbr.get("baseColorFactor", [1.0] * 4), 4, f"{place}.baseColorFactor")
        metallic = float(_unit(pbr.get("metallicFactor", 1.0), 1, f"{place}.metallicFactor")[0])
        roughness = float(_unit(pbr.get("roughnessFactor", 1.0), 1, f"{place}.roughnessFactor")[0])
        reflectance, tint = self._reflectance(extensions, place)
        textures = Textures(
            base=self._base_texture(pbr.get("baseColorTexture"), alpha_mode),
            metallic_roughness=self._images.texture(
                pbr.get("metallicRoughnessTexture"), "roughness texture", srgb=False
            ),
            specular=tint,
        )
        alpha = 1.0 if alpha_mode == "OPAQUE" else float(base[3])
        return Material(_rgb(base), reflectance, roughness, metallic=metallic, alpha=alpha, textures=textures)

    def _base_texture(self, reference: Any, alpha_mode: Any) -> Texture | None:
        return self._images.texture(reference, "base texture", srgb=True, alpha=alpha_mode != "OPAQUE")

    def _reflectance(self, extensions: dict[str, Any], place: str) -> tuple[RGB, Texture | None]:
        """Reflectance of the dielectric part at normal incidence by KHR_materials_ior and _specular, and a texture."""
        ior = number(child(extensions, "KHR_materials_ior", place).get("ior", 1.5), f"{place}.ior")
        if ior != 0 and ior < 1:
            raise InputError("", f"{place}.ior is {ior:g}", "expected 0, or 1 or more")
        # 0 stands for infinity.
        reflectance = 1.0 if ior == 0 else DIELECTRIC if ior == 1.5 else ((ior - 1) / (ior + 1)) ** 2
        entry = child(extensions, "KHR_materials_specular", place)
        factor = float(_unit(entry.get("specularFactor", 1.0), 1, f"{place}.specularFactor")[0])
        colour = numbers(entry.get("specularColorFactor", [1.0] * 3), 3, f"{place}.specularColorFactor")
        if colour.min() < 0:
            raise InputError("", f"{place}.specularColorFactor is {colour.tolist()}", "expected 0 or more")
        tint = self._images.texture(entry.get("specularColorTexture"), "specular colour texture", srgb=True)
        strength = self._images.texture(entry.get("specularTexture"), "specular texture", srgb=False, channels="alpha")
        if tint is not None and strength is not None:
            self._not_drawn["strength of specular by texture"] += 1
        return _rgb(np.minimum(reflectance * factor * colour, 1.0)), tint or strength

    def _specular_glossiness(self, entry: dict[str, Any], place: str, alpha_mode: Any) -> Material:
        base = _unit(entry.get("diffuseFactor", [1.0] * 4), 4, f"{place}.diffuseFactor")
        gloss = float(_unit(entry.get("glossinessFactor", 1.0), 1, f"{place}.glossinessFactor")[0])
        specular = _unit(entry.get("specularFactor", [1.0] * 3), 3, f"{place}.specularFactor")
        reference, name = entry.get("specularGlossinessTexture"), "specular texture"
        textures = Textures(
            base=self._base_texture(entry.get("diffuseTexture"), alpha_mode),
            specular=self._images.texture(reference, name, srgb=True),
            metallic_roughness=self._images.texture(reference, name, srgb=False, channels="gloss", gloss=gloss),
        )
        # Without a texture the diffuse part gets what the specular part leaves.
        rest = 1.0 if textures.specular is not None else 1.0 - float(specular.max())
        roughness = 1.0 if textures.metallic_roughness is not None else 1.0 - gloss
        alpha = 1.0 if alpha_mode == "OPAQUE" else float(base[3])
        return Material(_rgb(rest * base), _rgb(specular), roughness, alpha=alpha, textures=textures)

    def _emission(self, entry: dict[str, Any], extensions: dict[str, Any], place: str) -> RGB:
        strength = child(extensions, "KHR_materials_emissive_strength", place).get("emissiveStrength", 1.0)
        emission = numbers(entry.get("emissiveFactor", [0.0] * 3), 3, f"{place}.emissiveFactor")
        emission = emission * number(strength, f"{place}.emissiveStrength")
        if emission.min() < 0:
            raise InputError("", f"{place} emits {emission.tolist()}", "expected 0 or more")
        if emission.max() > MAX_RADIANCE:
            self._notes.counts[f"materials dimmed to the radiance {MAX_RADIANCE:g}"] += 1
            emission = np.minimum(emission * (MAX_RADIANCE / emission.max()), MAX_RADIANCE)
        return _rgb(emission)

    def _transmissive(self, material: Material, entry: dict[str, Any], place: str) -> Material:
        """A material through which a share of the light goes on straight: thin clear glass."""
        share = float(_unit(entry.get("transmissionFactor", 0.0), 1, f"{place}.transmissionFactor")[0])
        if not share:
            return material
        if "transmissionTexture" in entry:
            self._not_drawn["transmission by texture"] += 1
            return material
        self._not_drawn["refraction (thin glass instead)"] += 1
        if material.metallic == 1:
            return material
        # Of the light that meets the material, the share that would be transmitted leaves a mirror behind.
        left = 1.0 - (1.0 - _GLASS) * share
        mirror = _GLASS * share / left
        # The diffuse part of glTF's own model loses what specular gains.
        scale = 1.0 if material.metallic is not None else 1 - mirror
        diffuse = _rgb(scale * np.array(material.diffuse))
        specular = _rgb(np.minimum((1 - mirror) * np.array(material.specular) + mirror, 1.0))
        return replace(material, diffuse=diffuse, specular=specular, alpha=material.alpha * left)

    def _count_not_drawn(self, extensions: dict[str, Any], place: str) -> None:
        for name in extensions.keys() - _DRAWN:
            label, factor = _NOT_DRAWN.get(name, (name[:60], None))
            entry = child(extensions, name, place)
            if factor is None or np.any(entry.get(factor, 0)):
                self._not_drawn[label] += 1


def _unit(value: Any, count: int, label: str) -> Float64Array:
    values = numbers(value, count, label)
    if values.min() < 0 or values.max() > 1:
        raise InputError("", f"{label} is {values.tolist()}", "expected 0 … 1")
    return values


def _rgb(values: Float64Array) -> RGB:
    return float(values[0]), float(values[1]), float(values[2])
