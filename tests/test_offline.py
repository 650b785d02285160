"""Offline training without wheels: parts, and collecting and joining runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "offline_training.sh"
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "split", "tar"))), reason="needs bash, split and tar, as Linux has them"
)


def step(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WORK": str(work)}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_weights_and_runs_come_out_in_small_files_and_go_back_in(tmp_path: Path) -> None:
    run = tmp_path / "there" / "runs" / "large"
    (run / "model").mkdir(parents=True)
    content = {"model/model.safetensors": os.urandom(20_000_000), "state.safetensors": os.urandom(30_000_000)}
    for name, data in content.items():
        (run / name).write_bytes(data)
    for option, files, names in (([], 2, ["model/model.safetensors"]), (["--state"], 4, list(content))):
        assert step(tmp_path / "there", "collect", *option, "runs/large", str(tmp_path / "out")).returncode == 0
        sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
        assert len(sizes) == files
        assert max(sizes) <= 16_000_000
        back = tmp_path / f"back{files}"
        assert step(back, "join", str(tmp_path / "out"), "again").returncode == 0
        joined = [str(path.relative_to(back / "again")) for path in sorted((back / "again").rglob("*.safetensors"))]
        assert joined == names
        assert all((back / "again" / name).read_bytes() == content[name] for name in names)
    missing = step(tmp_path / "there", "collect", "runs/none", str(tmp_path / "out"))
    assert missing.returncode == 1
    assert "runs/none holds no model yet" in missing.stderr


def test_parts_come_one_by_one_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "part_1_of_2").write_bytes(b"not a tar file")
    (tmp_path / "part_2_of_2").write_bytes(b"nor this")
    first = step(tmp_path / "there", "unpack", str(tmp_path / "part_1_of_2"))
    assert (first.returncode, first.stdout) == (0, "1 of 2 parts are here\n")
    early = step(tmp_path / "there", "train")
    assert early.returncode == 1
    assert "call unpack first" in early.stderr
    second = step(tmp_path / "there", "unpack", str(tmp_path / "part_2_of_2"))
    assert second.returncode == 1
    assert "do not fit together" in second.stderr


def test_without_a_command_it_lists_the_commands(tmp_path: Path) -> None:
    result = step(tmp_path)
    assert result.returncode == 2
    for name in ("unpack", "generate", "train", "collect", "join"):
        assert f"offline_training.sh {name}" in result.stderr
