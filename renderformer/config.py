"""The configurations of the models, as the flat keys of `config.json`.

`ModelConfig` is the paper's model, `ShadingConfig` this package's extension of it (docs/embedded-model.md). Source of
the keys and of their defaults (RenderFormer V1 base): spec/model.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from renderformer.data.declared import Declared, shown
from renderformer.data.errors import InputError
from renderformer.data.rays.channels import RGB
from renderformer.data.trained_range import ANYWHERE, TrainedRange

V1 = TrainedRange()


def _trained_range(value: object) -> object:
    """The TrainedRange of an object in `config.json`."""
    if not isinstance(value, Mapping):
        return value
    unknown = value.keys() - {field.name for field in dataclasses.fields(TrainedRange)}
    if unknown:
        raise InputError("", f"{min(unknown)} is not a known key", "use the attributes of TrainedRange")
    try:
        # Strict types accept a list as a tuple only in JSON.
        return TypeAdapter(TrainedRange).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError("", f"{first['loc'][0]} is {shown(first['input'])}", "see TrainedRange") from None


Size: TypeAlias = Annotated[int, Field(ge=1, le=65536)]
# A damaged file must not build a model for hours.
Layers: TypeAlias = Annotated[int, Field(ge=1, le=1024)]
Frequencies: TypeAlias = Annotated[int, Field(ge=0, le=64)]
Norm: TypeAlias = Literal["rms_norm", "layer_norm"]


class TransformerConfig(Declared):
    """Sizes and switches of the triangle stage and of the view stage's layers, which both models have.

    Raises:
        InputError: a value of the wrong type or out of range, or an impossible combination.
    """

    declared_place: ClassVar[str] = "config"
    # Channels of the feature images, 0 for a model without them.
    pixel_channels: ClassVar[int] = 0
    # Keys of `config.json` that name the model, with their values.
    file_keys: ClassVar[dict[str, Any]] = {}

    latent_dim: Size = 768
    num_layers: Layers = 12
    num_heads: Size = 6
    dim_feedforward: Size = 3072
    num_register_tokens: Annotated[int, Field(ge=0, le=65536)] = 16
    dropout: float = 0.0
    activation: Literal["swiglu", "gelu"] = "swiglu"
    norm_type: Norm = "rms_norm"
    norm_first: bool = True
    view_indep_qk_norm: bool = True
    qk_norm: bool = True
    bias: bool = False
    pe_type: Literal["rope", "nerf"] = "rope"
    rope_type: Literal["triangle"] = "triangle"
    rope_double_max_freq: bool = False
    vertex_pe_num_freqs: Annotated[int, Field(ge=1, le=64)] = 12
    use_vn_encoder: bool = True
    vn_pe_num_freqs: Frequencies = 6
    vn_encoder_norm_type: Literal["rms_norm", "layer_norm", "none"] = "rms_norm"
    texture_encoder_norm_type: Norm = "rms_norm"
    view_transformer_latent_dim: Size = 768
    view_transformer_ffn_hidden_dim: Size = 3072
    view_transformer_n_heads: Size = 6
    view_transformer_n_layers: Layers = 6
    view_transformer_include_self_attn: bool = True
    view_transformer_use_swin_attn: bool = False
    vdir_pe_type: Literal["nerf"] = "nerf"
    vdir_num_freqs: Frequencies = 0
    patch_size: Size = 8
    trained: Annotated[TrainedRange, BeforeValidator(_trained_range)] = V1

    @property
    def head_dim(self) -> int:
        """Width of one head of the triangle stage."""
        return self.latent_dim // self.num_heads

    @property
    def view_head_dim(self) -> int:
        """Width of one head of the view stage."""
        return self.view_transformer_latent_dim // self.view_transformer_n_heads

    @property
    def view_rope_num_freqs(self) -> int:
        """`vertex_pe_num_freqs` for the view stage, whose heads may be narrower."""
        return min(self.vertex_pe_num_freqs, 2 * (self.view_head_dim // 18))

    @property
    def size_multiple(self) -> int:
        """The view stage draws multiples of this height and width, in pixels."""
        return self.patch_size * (8 if self.view_transformer_use_swin_attn else 1)

    @model_validator(mode="after")
    def _switches_fit(self) -> Self:
        if not self.norm_first:
            raise InputError("", "norm_first = False is not supported", "set it to true")
        if self.dropout != 0:
            raise InputError("", f"dropout {self.dropout} is not supported", "set it to 0")
        return self

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        widths = (
            ("latent_dim", self.latent_dim, "num_heads", self.num_heads),
            ("view_transformer_latent_dim", self.view_transformer_latent_dim,
             "view_transformer_n_heads", self.view_transformer_n_heads),
        )  # fmt: skip
        for width_key, width, heads_key, heads in widths:
            if width % heads:
                raise InputError("", f"{width_key} {width} must be a multiple of {heads_key} {heads}")
            if self.pe_type == "rope" and (width // heads) % 2:
                raise InputError("", f"{width_key} / {heads_key} = {width} / {heads} must be even for RoPE")
        if self.pe_type == "rope":
            self._check_rope()
        elif self.latent_dim != self.view_transformer_latent_dim:
            raise InputError(
                "",
                f"view_transformer_latent_dim {self.view_transformer_latent_dim} differs from latent_dim "
                f"{self.latent_dim}",
                "make them equal, as pe_type nerf needs it",
            )
        return self

    def _check_rope(self) -> None:
        if self.vertex_pe_num_freqs % 2:
            raise InputError("", f"vertex_pe_num_freqs {self.vertex_pe_num_freqs} must be even for RoPE")
        if 9 * self.vertex_pe_num_freqs > self.head_dim:
            raise InputError(
                "",
                f"9 x vertex_pe_num_freqs = {9 * self.vertex_pe_num_freqs} must not exceed the head width "
                f"latent_dim / num_heads = {self.head_dim}",
                f"use at most {2 * (self.head_dim // 18)} frequencies",
            )
        if self.view_head_dim < 18:
            raise InputError(
                "",
                "the view stage's head width view_transformer_latent_dim / view_transformer_n_heads = "
                f"{self.view_head_dim} must be at least 18 for RoPE",
            )

    @classmethod
    def from_dict(cls, data: object, where: str = "config") -> Self:
        """The configuration that the content of a `config.json` describes.

        An unknown key may have a value that means "off" (None, False, 0, "", "none", an empty list or object), since
        newer files have keys of features that a model does not use.

        Args:
            data: keys and values; missing keys take the defaults.
            where: the source in an error, for example the path of the file.

        Raises:
            InputError: not a mapping, an unknown key that is on, or a value that this class refuses.
        """
        if not isinstance(data, Mapping):
            raise InputError(where, f"holds {shown(data)}", "expected a JSON object of keys and values")
        for key, value in data.items():
            if key in cls.file_keys and value != cls.file_keys[key]:
                raise InputError(where, f"{key} is {shown(value)}", f"expected {shown(cls.file_keys[key])}")
            if key not in cls.model_fields and key not in cls.file_keys and value and value != "none":
                raise InputError(
                    where,
                    f"{key} = {value!r} is a feature that this version does not support",
                    "use a checkpoint without it or a newer version",
                )
        return cls.read({key: value for key, value in data.items() if key in cls.model_fields}, where)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`, with the trained range only where it is not the class's default."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in self if key != "trained"}
        if self.trained != type(self).model_fields["trained"].default:
            values["trained"] = json.loads(json.dumps(dataclasses.asdict(self.trained)))
        return values


class ModelConfig(TransformerConfig):
    """The paper's model; the defaults are the released V1 base model."""

    light_tokens: ClassVar[int] = 0

    texture_encode_patch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    # The last three are emission.
    texture_channels: Annotated[int, Field(ge=3, le=1024)] = 13
    include_alpha: bool = False
    use_dpt_decoder: bool = True
    dpt_features: Annotated[int, Field(ge=2, le=65536)] = 128
    dpt_out_channels: tuple[int, ...] = (96, 192, 384, 768)
    dpt_out_layers: tuple[int, ...] | None = None
    turn_to_cam_coord: bool = True
    use_ldr: bool = False

    @property
    def dpt_layers(self) -> tuple[int, ...]:
        """Indices of the four view layers whose features the DPT decoder reads."""
        if self.dpt_out_layers is not None:
            return self.dpt_out_layers
        return tuple(range(self.view_transformer_n_layers - 4, self.view_transformer_n_layers))

    @model_validator(mode="after")
    def _decoder_fits(self) -> Self:
        if not self.use_dpt_decoder:
            return self
        count = self.view_transformer_n_layers
        if len(self.dpt_out_channels) != 4 or min(self.dpt_out_channels) < 1:
            raise InputError("", f"dpt_out_channels {list(self.dpt_out_channels)} must be four positive numbers")
        if self.dpt_out_layers is None and count < 4:
            raise InputError("", f"view_transformer_n_layers {count} must be at least 4 for the DPT decoder")
        layers = self.dpt_layers
        if len(layers) != 4 or sorted(set(layers)) != list(layers) or layers[0] < 0 or layers[-1] >= count:
            raise InputError("", f"dpt_out_layers {list(layers)} must be four rising layer numbers in 0..{count - 1}")
        return self


class ShadingConfig(TransformerConfig):
    """The extension: ray casting and a light cache for the first answer, a network to correct it.

    Attributes:
        light_tokens: largest number of clusters of surfels in the triangle stage.
    """

    pixel_channels: ClassVar[int] = RGB.total
    use_ldr: ClassVar[bool] = False
    file_keys: ClassVar[dict[str, Any]] = {
        "ray_features": "light_cache",
        "output": "correction",
        "texture_channels": 13,
        "texture_encode_patch_size": 1,
        "turn_to_cam_coord": True,
        "use_ldr": False,
        "include_alpha": False,
    }
    # Keys of the paper's decoder, which this model does not have.
    _IGNORED: ClassVar[tuple[str, ...]] = ("use_dpt_decoder", "dpt_features", "dpt_out_channels", "dpt_out_layers")

    pe_type: Literal["rope"] = "rope"
    patch_size: Literal[2, 4, 8] = 8
    # What this model has one way of doing only.
    use_vn_encoder: Literal[True] = True
    vdir_num_freqs: Literal[0] = 0
    view_transformer_use_swin_attn: Literal[False] = False
    light_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 1024
    # The first answer is right anywhere, and the correction has bounds.
    trained: Annotated[TrainedRange, BeforeValidator(_trained_range)] = ANYWHERE

    @classmethod
    def from_dict(cls, data: object, where: str = "config") -> Self:
        """See `TransformerConfig.from_dict`."""
        if isinstance(data, Mapping):
            data = {key: value for key, value in data.items() if key not in cls._IGNORED}
        return super().from_dict(data, where)

    def to_dict(self) -> dict[str, Any]:
        """See `TransformerConfig.to_dict`; with the keys that name the model."""
        return super().to_dict() | self.file_keys


Config: TypeAlias = ModelConfig | ShadingConfig


def config_from_dict(data: object, where: str = "config") -> Config:
    """The configuration that the content of a `config.json` describes, of either model.

    Raises:
        InputError: see `TransformerConfig.from_dict`.
    """
    if not isinstance(data, Mapping):
        return ModelConfig.from_dict(data, where)
    rays, output = data.get("ray_features", "none"), data.get("output", "hdr")
    if rays == "none" and output == "hdr":
        paper = {key: value for key, value in data.items() if key not in ("ray_features", "output")}
        return ModelConfig.from_dict(paper, where)
    if (rays, output) in (("none", "correction"), ("light_cache", "hdr")):
        raise InputError(
            where,
            f"ray_features {rays!r} does not go with output {output!r}",
            "use light_cache with correction, or none with hdr",
        )
    return ShadingConfig.from_dict(data, where)
