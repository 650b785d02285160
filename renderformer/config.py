"""The model's configuration: the flat keys of `config.json`, checked when made.

Source of the keys, their meaning and their defaults (RenderFormer V1 base): spec/model.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from renderformer.data.errors import InputError

_CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("swiglu", "gelu"),
    "norm_type": ("rms_norm", "layer_norm"),
    "pe_type": ("rope", "nerf"),
    "rope_type": ("triangle",),
    "vn_encoder_norm_type": ("rms_norm", "layer_norm", "none"),
    "texture_encoder_norm_type": ("rms_norm", "layer_norm"),
    "vdir_pe_type": ("nerf",),
    "ray_features": ("none", "direct"),
    "output": ("hdr", "shading"),
}

# Keys that only our files have, with the value at which the model is V1.
_EXTENSIONS: dict[str, Any] = {"ray_features": "none", "output": "hdr", "token_triangles": 0}

# Where a number may be other than 1 to 65536. The layers' bound keeps a damaged file from building for hours; emission
# takes three texture channels.
_RANGES = {
    "num_layers": (1, 1024),
    "view_transformer_n_layers": (1, 1024),
    "num_register_tokens": (0, 65536),
    "token_triangles": (0, 1 << 30),
    "vn_pe_num_freqs": (0, 64),
    "vdir_num_freqs": (0, 64),
    "vertex_pe_num_freqs": (1, 64),
    "texture_channels": (3, 1024),
    "texture_encode_patch_size": (1, 1024),
    "dpt_features": (2, 65536),
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of a RenderFormer; the defaults are the released V1 base model.

    Raises:
        InputError: a value of the wrong type, out of range, or a combination that no model can have.
    """

    latent_dim: int = 768
    num_layers: int = 12
    num_heads: int = 6
    dim_feedforward: int = 3072
    num_register_tokens: int = 16
    dropout: float = 0.0
    activation: str = "swiglu"
    norm_type: str = "rms_norm"
    norm_first: bool = True
    view_indep_qk_norm: bool = True
    qk_norm: bool = True
    bias: bool = False
    pe_type: str = "rope"
    rope_type: str = "triangle"
    rope_double_max_freq: bool = False
    vertex_pe_num_freqs: int = 12
    use_vn_encoder: bool = True
    vn_pe_num_freqs: int = 6
    vn_encoder_norm_type: str = "rms_norm"
    texture_encode_patch_size: int = 32
    texture_channels: int = 13
    texture_encoder_norm_type: str = "rms_norm"
    view_transformer_latent_dim: int = 768
    view_transformer_ffn_hidden_dim: int = 3072
    view_transformer_n_heads: int = 6
    view_transformer_n_layers: int = 6
    view_transformer_include_self_attn: bool = True
    view_transformer_use_swin_attn: bool = False
    vdir_pe_type: str = "nerf"
    vdir_num_freqs: int = 0
    patch_size: int = 8
    include_alpha: bool = False
    use_dpt_decoder: bool = True
    dpt_features: int = 128
    dpt_out_channels: tuple[int, ...] = (96, 192, 384, 768)
    dpt_out_layers: tuple[int, ...] | None = None
    turn_to_cam_coord: bool = True
    use_ldr: bool = False
    # Extensions of this project, absent in V1 files: what a ray bundle knows beside its directions ("direct": the
    # primary hit and the direct light there), and what the decoder's channels mean ("shading": factors of the picture).
    ray_features: str = "none"
    output: str = "hdr"
    # Most triangles that the extension was trained to encode; a larger scene's tokens stand for a simplified copy of
    # it, while its rays see every triangle. 0: no limit.
    token_triangles: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, str(field.type), getattr(self, field.name)))
        self._check_widths()
        self._check_decoder()

    @property
    def view_rope_num_freqs(self) -> int:
        """RoPE frequencies times two per coordinate in the view stage, whose heads may be narrower."""
        return min(self.vertex_pe_num_freqs, 2 * (self.view_head_dim // 18))

    @property
    def head_dim(self) -> int:
        """Width of one head of the triangle stage."""
        return self.latent_dim // self.num_heads

    @property
    def view_head_dim(self) -> int:
        """Width of one head of the view stage."""
        return self.view_transformer_latent_dim // self.view_transformer_n_heads

    @property
    def dpt_layers(self) -> tuple[int, ...]:
        """Indices of the four view layers whose features the DPT decoder reads."""
        if self.dpt_out_layers is not None:
            return self.dpt_out_layers
        return tuple(range(self.view_transformer_n_layers - 4, self.view_transformer_n_layers))

    @property
    def size_multiple(self) -> int:
        """Height and width on which the view stage works are multiples of this, in pixels."""
        return self.patch_size * (8 if self.view_transformer_use_swin_attn else 1)

    def _check_widths(self) -> None:
        for width_key, heads_key in (
            ("latent_dim", "num_heads"),
            ("view_transformer_latent_dim", "view_transformer_n_heads"),
        ):
            width, heads = getattr(self, width_key), getattr(self, heads_key)
            if width % heads:
                raise InputError("config", f"{width_key} {width} must be a multiple of {heads_key} {heads}")
            if self.pe_type == "rope" and (width // heads) % 2:
                raise InputError("config", f"{width_key} / {heads_key} = {width} / {heads} must be even for RoPE")
        if not self.norm_first:
            raise InputError("config", "norm_first = False is not supported", "set it to true")
        if self.pe_type != "rope":
            if self.latent_dim != self.view_transformer_latent_dim:
                raise InputError(
                    "config",
                    f"with pe_type nerf, view_transformer_latent_dim {self.view_transformer_latent_dim} must "
                    f"equal latent_dim {self.latent_dim}",
                )
            return
        if self.vertex_pe_num_freqs % 2:
            raise InputError("config", f"vertex_pe_num_freqs {self.vertex_pe_num_freqs} must be even for RoPE")
        if 9 * self.vertex_pe_num_freqs > self.head_dim:
            raise InputError(
                "config",
                f"9 x vertex_pe_num_freqs = {9 * self.vertex_pe_num_freqs} must not exceed the head width "
                f"latent_dim / num_heads = {self.head_dim}",
                f"use at most {2 * (self.head_dim // 18)} frequencies",
            )
        if self.view_head_dim < 18:
            raise InputError(
                "config",
                "the view stage's head width view_transformer_latent_dim / view_transformer_n_heads = "
                f"{self.view_head_dim} must be at least 18 for RoPE",
            )

    def _check_decoder(self) -> None:
        if self.dropout != 0:
            raise InputError("config", f"dropout {self.dropout} is not supported", "set it to 0")
        if (self.ray_features == "none") != (self.output == "hdr"):
            raise InputError(
                "config",
                f"ray_features {self.ray_features!r} does not go with output {self.output!r}",
                "use direct with shading, or none with hdr",
            )
        if self.output == "shading":
            self._check_shading()
            return
        if not self.use_dpt_decoder:
            return
        count = self.view_transformer_n_layers
        if len(self.dpt_out_channels) != 4 or min(self.dpt_out_channels) < 1:
            raise InputError("config", f"dpt_out_channels {list(self.dpt_out_channels)} must be four positive numbers")
        if self.dpt_out_layers is None:
            if count < 4:
                raise InputError("config", f"view_transformer_n_layers {count} must be at least 4 for the DPT decoder")
            return
        layers = self.dpt_out_layers
        if len(layers) != 4 or sorted(set(layers)) != list(layers) or layers[0] < 0 or layers[-1] >= count:
            raise InputError(
                "config", f"dpt_out_layers {list(layers)} must be four rising layer numbers in 0..{count - 1}"
            )

    def _check_shading(self) -> None:
        if self.patch_size not in (2, 4, 8):
            raise InputError("config", f"patch_size {self.patch_size} must be 2, 4 or 8 for output 'shading'")
        if not self.turn_to_cam_coord or self.use_ldr or self.include_alpha or self.texture_channels != 13:
            raise InputError(
                "config",
                "output 'shading' needs turn_to_cam_coord true, use_ldr false, include_alpha false and "
                "texture_channels 13",
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "config") -> ModelConfig:
        """Make a config from the content of a `config.json`.

        An unknown key is accepted when its value means "off" (None, False, 0, "", "none", an empty list or object),
        since newer files carry keys for features that a model does not use.

        Args:
            data: key to value; missing keys take the defaults.
            where: what to call the source in an error, for example the path of the file.

        Raises:
            InputError: not a mapping, an unknown key that is on, or a value that `ModelConfig` refuses.
        """
        if not isinstance(data, Mapping):
            raise InputError(where, f"must be a JSON object of keys and values, not {type(data).__name__}")
        known = {field.name for field in fields(cls)}
        for key, value in data.items():
            if key not in known and value and value != "none":
                raise InputError(
                    where,
                    f"{key} = {value!r} is a feature that this version does not support",
                    "use a checkpoint without it or a newer version",
                )
        try:
            return cls(**{key: value for key, value in data.items() if key in known})
        except InputError as error:
            raise error.at(where) from None

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`. Extension keys appear only when they are on, so V1 programs read V1 models."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if key not in _EXTENSIONS or value != _EXTENSIONS[key]
        }


def _checked(key: str, kind: str, value: Any) -> Any:
    """The value of `key` in its own type, or an InputError that names the key and the value."""
    if kind == "bool":
        if not isinstance(value, bool):
            raise InputError("config", f"{key} = {value!r} must be true or false")
    elif kind == "int":
        least, most = _RANGES.get(key, (1, 65536))
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InputError("config", f"{key} = {value!r} must be a whole number from {least} to {most}")
    elif kind == "float":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError("config", f"{key} = {value!r} must be a number")
        return float(value)
    elif kind == "str":
        if value not in _CHOICES[key]:
            raise InputError("config", f"{key} = {value!r} is not supported", f"use one of {', '.join(_CHOICES[key])}")
    elif value is not None or not kind.endswith("None"):
        if not isinstance(value, list | tuple) or any(isinstance(n, bool) or not isinstance(n, int) for n in value):
            raise InputError("config", f"{key} = {value!r} must be a list of whole numbers")
        return tuple(value)
    return value
