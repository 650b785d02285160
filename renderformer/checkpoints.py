"""Models as folders with `config.json` and `model.safetensors`: the format of the released checkpoints.

A missing, extra or misshapen tensor is an error. Source: spec/model.md, "Checkpoint files".
"""

from __future__ import annotations

import importlib.resources
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from renderformer.config import Config, ShadingConfig, config_from_dict
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_CONFIG_BYTES, atomic_path, make_folder, read_bytes
from renderformer.model import RenderFormer, ShadingModel

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class CheckpointFacts:
    """The content of a checkpoint.

    Attributes:
        config: of `config.json`, with defaults for missing keys.
        parameters: count of numbers in all tensors; tensors: count of tensors; types: safetensors' names.
        bytes: size of the weights' file.
    """

    config: Config
    parameters: int
    tensors: int
    types: tuple[str, ...]
    bytes: int


def load_model(
    source: str | os.PathLike[str] | None = None, *, revision: str | None = None, offline: bool = False
) -> RenderFormer | ShadingModel:
    """Load a model, in float32, on the CPU, ready for inference.

    Args:
        source: a folder with `config.json` and `model.safetensors`; or the id of a Hugging Face repository
            ("owner/name"); or None for the model that is part of this package.
        revision: branch, tag or commit of the repository; only with an id.
        offline: use only downloaded files, as with the environment variable HF_HUB_OFFLINE=1.

    Raises:
        InputError: the source does not exist or cannot be reached, a file is missing or damaged, the configuration has
            an unsupported feature, or the tensors do not match the configuration.
    """
    folder = find_checkpoint(source, revision=revision, offline=offline)
    config = read_config(folder)
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    try:
        with torch.device("meta"):
            model = build_model(config)
    except RuntimeError as error:
        raise InputError(folder / CONFIG_FILE, f"asks for an impossible size ({_one_line(error)})") from None
    _check_names_and_shapes(model.state_dict(), tensors, folder / WEIGHTS_FILE)
    # `assign` makes the tensors the parameters, so that a large model is in memory once.
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return model.eval()


def build_model(config: Config) -> RenderFormer | ShadingModel:
    """The model of a configuration, with random weights."""
    return ShadingModel(config) if isinstance(config, ShadingConfig) else RenderFormer(config)


def find_checkpoint(
    source: str | os.PathLike[str] | None = None, *, revision: str | None = None, offline: bool = False
) -> Path:
    """The folder of a checkpoint, downloaded if necessary; arguments and errors as in `load_model`."""
    if source is None:
        folder = Path(str(importlib.resources.files("renderformer"))) / "weights" / "embedded"
        if not folder.is_dir():
            raise InputError(folder, "this installation has no embedded model", "give a model folder or a Hub id")
    else:
        folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise InputError(folder, f"revision {revision!r} applies to a Hub id, not to a folder", "leave it out")
        return folder
    if folder.exists():
        raise InputError(folder, "is a file", f"give the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    return _download(str(source), revision, offline)


def read_config(folder: Path) -> Config:
    """The configuration of a checkpoint folder.

    Raises:
        InputError: no file, not JSON, or refused by `config_from_dict`.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise InputError(path, "not found", f"a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    text = read_bytes(path, MAX_CONFIG_BYTES)
    try:
        data = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({_one_line(error)})", "download the model again") from None
    return config_from_dict(data, where=str(path))


def save_model(
    model: RenderFormer | ShadingModel, folder: str | os.PathLike[str], dtype: torch.dtype | None = None
) -> None:
    """Write `config.json` and `model.safetensors`, each whole or not at all.

    The original program loads a V1 model that is saved in float32.

    Args:
        model: to be written.
        folder: made if missing; its files of these names are replaced.
        dtype: the stored type, float32 (also None), float16 or bfloat16. RoPE frequencies stay float32.

    Raises:
        InputError: the folder cannot be made or written, or a weight is not finite in `dtype`.
        ValueError: another dtype.
    """
    dtype = dtype or torch.float32
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype} cannot be stored; use one of {', '.join(map(str, _DTYPES))}")
    folder = Path(folder)
    make_folder(folder)
    tensors = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().to("cpu", torch.float32 if name.endswith("rope_emb.freqs") else dtype)
        if not bool(torch.isfinite(stored).all()):
            raise InputError(
                folder / WEIGHTS_FILE, f"{name} holds values that are not finite as {dtype}", "not written"
            )
        tensors[name] = stored.contiguous()

    from safetensors.torch import save_file

    with atomic_path(folder / WEIGHTS_FILE) as path:
        save_file(tensors, path, metadata={"format": "pt"})
        # safetensors makes files that only their owner can read; others read a shared or packaged model.
        path.chmod(0o644)
    with atomic_path(folder / CONFIG_FILE) as path:
        path.write_text(json.dumps(model.config.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def inspect_checkpoint(folder: Path) -> CheckpointFacts:
    """The facts of a checkpoint folder, without reading its tensors.

    Raises:
        InputError: a file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    config, weights = read_config(folder), folder / WEIGHTS_FILE
    if not weights.is_file():
        raise InputError(weights, "not found", f"a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        with safe_open(weights, framework="numpy") as file:
            views = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - not a dict
            shapes = [view.get_shape() for view in views]
            types = tuple(sorted({str(view.get_dtype()) for view in views}))
    except SafetensorError as error:
        raise InputError(weights, f"is not a whole safetensors file ({_one_line(error)})", "copy it again") from None
    return CheckpointFacts(config, sum(map(math.prod, shapes)), len(shapes), types, weights.stat().st_size)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        pickles = sorted(p.name for p in path.parent.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        hint = f"; {pickles[0]} is not read, since pickle can run code" if pickles else ""
        raise InputError(path, "not found", f"weights must be one safetensors file of this name{hint}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(
            path,
            f"is not a whole safetensors file ({path.stat().st_size} bytes, {_one_line(error)})",
            "download or copy it again",
        ) from None
    except OSError as error:
        raise InputError(path, f"cannot be read, {error.strerror or error}") from None
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise InputError(path, f"{name} has type {tensor.dtype}", "store it as float32, float16 or bfloat16")
    return tensors


def _check_names_and_shapes(expected: dict[str, Tensor], stored: dict[str, Tensor], path: Path) -> None:
    for problem, names in (
        ("does not have", sorted(expected.keys() - stored.keys())),
        ("has unexpected", sorted(stored.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                path, f"{problem} {names[0]}{more}", f"the file does not belong to the {CONFIG_FILE} beside it"
            )
    for name, tensor in expected.items():
        if tensor.shape != stored[name].shape:
            raise InputError(
                path, f"{name} has shape {tuple(stored[name].shape)}, {CONFIG_FILE} asks for {tuple(tensor.shape)}"
            )


def _download(repository: str, revision: str | None, offline: bool) -> Path:
    """Fetch a repository's configuration and weights into the Hub's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{repository} @ {revision}" if revision else repository
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise InputError(repository, "no such folder, and not a Hub id of the form owner/name")
    # The Hub's warnings about each retry would bury the error message.
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        folder = Path(hf_hub_download(repository, CONFIG_FILE, revision=revision, local_files_only=offline)).parent
        # The folder is named after the commit, which the weights must share.
        hf_hub_download(repository, WEIGHTS_FILE, revision=folder.name, local_files_only=offline)
    except LocalEntryNotFoundError as error:
        if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise InputError(
                where, "no such folder, and not in the Hub's local cache", "download it once without offline mode"
            ) from None
        raise InputError(
            where,
            f"no such folder, and huggingface.co cannot be reached ({_one_line(error.__cause__ or error)})",
            "check the connection or give a folder",
        ) from None
    except GatedRepoError:
        raise InputError(where, "access to this Hub repository must be asked for on huggingface.co first") from None
    except RevisionNotFoundError:
        raise InputError(where, "the Hub repository has no such revision") from None
    except RepositoryNotFoundError:
        raise InputError(where, "no such folder and no such Hub repository (or it is private: log in first)") from None
    except EntryNotFoundError as error:
        raise InputError(
            where, f"the Hub repository must hold {CONFIG_FILE} and {WEIGHTS_FILE} ({_one_line(error)})"
        ) from None
    except (HFValidationError, OSError) as error:
        raise InputError(where, f"cannot be loaded from the Hub, {_one_line(error)}") from None
    finally:
        hub_logging.set_verbosity(verbosity)
    return folder


def _one_line(error: BaseException) -> str:
    """The message of an error of another library, short enough to quote."""
    message = " ".join(str(error).split())
    return message[:160] or type(error).__name__
