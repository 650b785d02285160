"""Configurations and model folders: what loads, what is refused, and the messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from renderformer.checkpoints import find_checkpoint, inspect_checkpoint, load_model, read_config, save_model
from renderformer.config import ModelConfig, ShadingConfig, config_from_dict
from renderformer.data.declared import shown
from renderformer.data.errors import InputError
from renderformer.data.trained_range import TrainedRange
from renderformer.model import RenderFormer

TINY = ModelConfig(
    latent_dim=18,
    num_layers=1,
    num_heads=1,
    dim_feedforward=8,
    num_register_tokens=2,
    vertex_pe_num_freqs=2,
    texture_encode_patch_size=2,
    view_transformer_latent_dim=18,
    view_transformer_ffn_hidden_dim=8,
    view_transformer_n_heads=1,
    view_transformer_n_layers=4,
    dpt_features=4,
    dpt_out_channels=(2, 2, 2, 2),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model, saved."""
    torch.manual_seed(0)
    save_model(RenderFormer(TINY), tmp_path / "model")
    return tmp_path / "model"


def refusal(call: Callable[[], object]) -> str:
    """The message of a refused call, one line."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_the_released_base(goldens: Path) -> None:
    stored = json.loads((goldens / "full_base" / "config.json").read_text())
    assert ModelConfig.from_dict(stored) == ModelConfig()
    assert ModelConfig().to_dict() == stored


@pytest.mark.parametrize("off", [None, False, 0, 0.0, "", "none", [], {}])
def test_unknown_keys_that_are_off_are_accepted(off: Any) -> None:
    assert ModelConfig.from_dict({"fog_layers": off}) == ModelConfig()


@pytest.mark.parametrize("on", [True, 1, 0.5, "dense", [0], {"a": 1}])
def test_unknown_keys_that_are_on_are_refused_by_name(on: Any) -> None:
    message = refusal(lambda: ModelConfig.from_dict({"fog_layers": on}, where="a/config.json"))
    assert message.startswith("a/config.json: fog_layers = ")
    assert repr(on) in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent_dim", "768"),
        ("latent_dim", 768.0),
        ("latent_dim", True),
        ("latent_dim", 0),
        ("latent_dim", None),
        ("num_layers", -1),
        ("num_layers", 10**9),
        ("latent_dim", 10**15),
        ("dim_feedforward", float("nan")),
        ("dropout", float("nan")),
        ("texture_channels", 2),
        ("vn_pe_num_freqs", 65),
        ("num_heads", 5),
        ("num_heads", 256),
        ("view_transformer_n_heads", 7),
        ("vertex_pe_num_freqs", 16),
        ("vertex_pe_num_freqs", 5),
        ("norm_first", False),
        ("norm_first", 1),
        ("bias", "yes"),
        ("dropout", 0.1),
        ("dropout", "0"),
        ("activation", "relu"),
        ("activation", None),
        ("activation", ["gelu"]),
        ("norm_type", "none"),
        ("pe_type", "learned"),
        ("rope_type", "triangle_mixed"),
        ("vdir_pe_type", "sh"),
        ("ray_features", "fog"),
        ("output", "ldr"),
        ("dpt_out_channels", [1, 2, 3]),
        ("dpt_out_channels", [1, 2, 3, 0]),
        ("dpt_out_channels", 96),
        ("dpt_out_channels", [1, 2, 3, 4.0]),
        ("dpt_out_channels", None),
        ("dpt_out_layers", [0, 1, 2]),
        ("dpt_out_layers", [2, 3, 4, 6]),
        ("dpt_out_layers", [3, 2, 4, 5]),
        ("dpt_out_layers", [-1, 3, 4, 5]),
        ("view_transformer_n_layers", 3),
    ],
)
def test_values_that_no_model_can_have_are_refused_by_name(key: str, value: Any) -> None:
    message = refusal(lambda: ModelConfig.from_dict({key: value}))
    assert key in message
    # The message names only the wrong entry of a list.
    named = [value, *value] if isinstance(value, list) else [value]
    assert any(shown(part) in message or str(part) in message for part in named) or "head width" in message


def test_a_config_that_is_not_an_object_is_refused() -> None:
    assert "JSON object" in refusal(lambda: ModelConfig.from_dict([1, 2]))  # type: ignore[arg-type]


def test_extension_keys_are_written_only_when_on() -> None:
    assert not {"ray_features", "output", "light_tokens", "trained"} & ModelConfig().to_dict().keys()
    extended = ShadingConfig(light_tokens=5)
    assert extended.to_dict()["ray_features"] == "light_cache"
    assert config_from_dict(json.loads(json.dumps(extended.to_dict()))) == extended
    assert config_from_dict({"ray_features": "none", "output": "hdr", "light_tokens": 0}) == ModelConfig()


@pytest.mark.parametrize("kind", [ModelConfig, ShadingConfig])
def test_a_trained_range_is_written_only_if_it_is_not_the_default(
    kind: type[ModelConfig] | type[ShadingConfig],
) -> None:
    assert "trained" not in kind().to_dict()
    narrow = kind(trained=TrainedRange(box=0.25, lights=None))
    stored = json.loads(json.dumps(narrow.to_dict()))
    assert stored["trained"]["box"] == 0.25
    assert config_from_dict(stored) == narrow


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        ({"boxy": 1}, "boxy"),
        ({"box": "a"}, 'box is "a"'),
        ({"fov": [1, 2, 3]}, "fov is [1, 2, 3]"),
        (3, "trained is 3"),
    ],
)
def test_a_trained_range_that_is_none_is_refused_by_name(trained: object, words: str) -> None:
    message = refusal(lambda: config_from_dict({"trained": trained}, "a/config.json"))
    assert message.startswith("a/config.json: trained")
    assert words in message


def test_the_embedded_models_file_is_that_of_a_shading_model() -> None:
    folder = find_checkpoint()
    stored = json.loads((folder / "config.json").read_text())
    config = read_config(folder)
    assert isinstance(config, ShadingConfig)
    # The keys of the paper's decoder are missing, because the extension has no such decoder.
    assert {key: stored[key] for key in config.to_dict()} == config.to_dict()
    facts = inspect_checkpoint(folder)
    assert facts.config == config
    assert facts.types == ("F16", "F32")
    assert facts.parameters == sum(tensor.numel() for tensor in load_model(folder).state_dict().values())


def test_narrow_view_heads_take_fewer_frequencies() -> None:
    config = ModelConfig(view_transformer_latent_dim=80, view_transformer_n_heads=2)
    assert config.view_rope_num_freqs == 4
    assert ModelConfig().view_rope_num_freqs == 12


def test_saved_models_load_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    assert not model.training
    assert model.config == TINY
    save_model(model, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("case", ["base_like", "swin_like", "base_p32"])
def test_a_released_checkpoint_survives_loading_and_saving(goldens: Path, tmp_path: Path, case: str) -> None:
    """Same names, types, values and keys: what the original program reads."""
    save_model(load_model(goldens / case), tmp_path)
    ours, theirs = load_file(tmp_path / "model.safetensors"), load_file(goldens / case / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]) for key in theirs)
    stored = json.loads((goldens / case / "config.json").read_text())
    assert json.loads((tmp_path / "config.json").read_text()) == stored


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load_as_float32(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = load_model(folder)
    save_model(model, tmp_path / "half", dtype)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert stored["tri_token"].dtype == dtype
    assert stored["transformer.rope_emb.freqs"].dtype == torch.float32
    loaded = load_model(tmp_path / "half")
    for key, tensor in model.state_dict().items():
        half = tensor if key.endswith("freqs") else tensor.to(dtype)
        assert torch.equal(loaded.state_dict()[key], half.float())


def test_loaded_weights_can_be_trained_and_the_file_stays(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before


def test_weights_that_are_not_finite_or_overflow_are_not_written(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    with torch.no_grad():
        model.tri_token[0, 0, 0] = 1e6
    target = tmp_path / "out"
    assert "tri_token" in refusal(lambda: save_model(model, target, torch.float16))
    assert not list(target.iterdir())
    with pytest.raises(ValueError, match="float64"):
        save_model(model, target, torch.float64)


def test_an_unwritable_target_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    assert "taken" in refusal(lambda: save_model(load_model(folder), tmp_path / "taken"))


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "weights")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    message = refusal(lambda: load_model(folder))
    assert str(folder / "model.safetensors") in message
    assert "pytorch_model.bin is not read" in message
    (folder / "config.json").unlink()
    assert str(folder / "config.json") in refusal(lambda: load_model(folder))


@pytest.mark.parametrize("content", ["", "{", "[]", "nan nan", '{"latent_dim": }', "[" * 100_000])
def test_a_broken_config_is_refused_with_its_path(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert str(folder / "config.json") in refusal(lambda: load_model(folder))


def test_a_config_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe{\x00}\x00")
    assert str(folder / "config.json") in refusal(lambda: load_model(folder))


def test_an_unsupported_feature_is_refused_with_the_file_and_the_key(folder: Path) -> None:
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | {"fog": "dense"}))
    message = refusal(lambda: load_model(folder))
    assert message.startswith(f"{folder / 'config.json'}: fog = 'dense'")
    (folder / "config.json").write_text(json.dumps(stored | {"dropout": 0.5}))
    assert refusal(lambda: load_model(folder)).startswith(f"{folder / 'config.json'}: dropout 0.5")


def test_a_config_of_impossible_size_is_refused(folder: Path) -> None:
    config = TINY.replace(texture_channels=1024, texture_encode_patch_size=1024, latent_dim=65536, num_heads=1)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    assert refusal(lambda: load_model(folder)).startswith(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(lambda: load_model(folder))
    assert str(path) in message
    assert "safetensors" in message


def test_garbage_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    for content in (b"\x80\x04pickle", b"\xff" * 4096, b"PK\x03\x04" + b"0" * 500):
        path.write_bytes(content)
        assert str(path) in refusal(lambda: load_model(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("reg_tokens"), "does not have reg_tokens"),
        (lambda t: t.update(extra=torch.ones(1)), "has unexpected extra"),
        (lambda t: t.update(reg_tokens=torch.ones(1, 3, 18)), "reg_tokens has shape (1, 3, 18)"),
        (lambda t: t.update(tri_token=torch.ones(18)), "tri_token has shape (18,)"),
        (lambda t: t.update(tri_token=torch.ones(1, 1, 18, dtype=torch.int32)), "tri_token has type torch.int32"),
        (lambda t: t.update(a=torch.ones(1), b=torch.ones(1)), "has unexpected a and 1 more"),
    ],
)
def test_tensors_must_be_those_of_the_config(folder: Path, change: Callable[[dict[str, Any]], Any], words: str) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    message = refusal(lambda: load_model(folder))
    assert message.startswith(str(path))
    assert words in message


def test_a_config_of_another_size_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(TINY.replace(dim_feedforward=16).to_dict()))
    assert "config.json asks for" in refusal(lambda: load_model(folder))


def test_sources_that_do_not_exist_are_named(folder: Path) -> None:
    for source in ("nowhere", "./no/where", "/no/where", "a/b/c"):
        assert refusal(lambda source=source: load_model(source)).startswith(f"{source}: no such folder")
    assert "is a file" in refusal(lambda: load_model(folder / "config.json"))
    assert "revision" in refusal(lambda: load_model(folder, revision="main"))


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache with owner/name at one commit, and no network."""
    cache = tmp_path / "hub"
    repository = cache / "models--owner--name"
    shutil.copytree(folder, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "refs" / "v1").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(cache), raising=False)
    return cache


def test_a_cached_repository_loads_offline(hub: Path, folder: Path) -> None:
    expected = load_model(folder).state_dict()
    for kwargs in ({}, {"revision": "v1"}, {"revision": "a" * 40}):
        loaded = load_model("owner/name", offline=True, **kwargs).state_dict()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_what_is_not_cached_is_refused_offline(hub: Path) -> None:
    message = refusal(lambda: load_model("owner/name", revision="v2", offline=True))
    assert message.startswith("owner/name @ v2: ")
    assert "cache" in message
    assert refusal(lambda: load_model("owner/other", offline=True)).startswith("owner/other: ")


def test_the_offline_variable_of_the_hub_is_honoured(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_model("owner/name")
    assert "without offline mode" in refusal(lambda: load_model("owner/other"))


def test_only_the_two_files_of_one_commit_are_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    commit = folder.rename(folder.with_name("b" * 40))

    def download(repository: str, filename: str, *, revision: str | None, local_files_only: bool) -> str:
        requests.append((repository, filename, revision, local_files_only))
        return str(commit / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    load_model("owner/name", revision="main")
    assert requests == [
        ("owner/name", "config.json", "main", False),
        ("owner/name", "model.safetensors", "b" * 40, False),
    ]


def test_errors_of_the_hub_become_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    def http(kind: type[Exception]) -> Exception:
        # The constructors need a response object, which differs between versions; only the type matters here.
        error = kind.__new__(kind)
        error.args = ("404 Client Error.\n\nEntry Not Found for url: https://huggingface.co/…",)
        return error

    for error, words in (
        (http(errors.RepositoryNotFoundError), "no such Hub repository"),
        (http(errors.RevisionNotFoundError), "no such revision"),
        (http(errors.GatedRepoError), "must be asked for"),
        (errors.EntryNotFoundError("config.json is\nnot there"), "must hold config.json and model.safetensors"),
        (errors.LocalEntryNotFoundError("no\nconnection"), "cannot be reached"),
        (errors.HFValidationError("bad\nid"), "bad id"),
        (ConnectionError("reset\nby peer"), "reset by peer"),
    ):

        def fail(*args: Any, error: Exception = error, **kwargs: Any) -> str:
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        message = refusal(lambda: load_model("owner/name"))
        assert message.startswith("owner/name: ")
        assert words in message


def test_the_embedded_model_is_the_default(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path / "package")
    assert "no embedded model" in refusal(lambda: load_model())
    shutil.copytree(folder, tmp_path / "package" / "weights" / "embedded")
    assert load_model().config == TINY
