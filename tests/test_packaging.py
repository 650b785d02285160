"""The package as a whole: loaded modules, contents of the wheel, floors."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import renderformer

ROOT = Path(__file__).parents[1]
# Lowest first, see CONTRIBUTING.md.
FLOORS = {"kernels": 0, "data": 0, "renderformer": 1, "viewer": 2, "cli": 3}
# The floors inside data/, lowest first. A module belongs to the longest name that it begins with.
INNER_FLOORS = (
    ("errors", "arrays", "farm", "notes", "progress", "trained_range"),
    (
        "colour",
        "files",
        "declared",
        "camera",
        "environment",
        "environments",
        "geometry.triangles",
        "texture",
        "material",
        "appearance",
    ),  # fmt: skip
    ("scene",),
    ("unit_size",),
    ("geometry",),
    ("camera_path", "framing", "rays", "staging"),
    ("formats",),
    ("sets",),
)
# `Scene.load`, `save`, `from_pytorch3d` and `to_pytorch3d`, `Environment.load` and `of`, `Texture.load` import formats
# when they are called, `patches` their baking.
UPWARD = (
    ("renderformer.data.scene", "renderformer.data.environment", "renderformer.data.texture"),
    ("renderformer.data.formats", "renderformer.data.geometry.patches"),
)
NOT_PACKAGED = ("renderformer.kernels.experimental", "renderformer.viewer.blender")
HEAVY = {"torch", "triton", "open3d", "mitsuba", "imageio", "huggingface_hub", "trimesh", "h5py", "scipy", "OpenEXR"}


def sources() -> list[Path]:
    folders = ("renderformer", "data", "kernels", "viewer", "cli")
    files = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    # Some versions of Python follow the links of renderformer/.
    return sorted({path.resolve() for path in files})


def floor_of(module: str) -> str | None:
    """The floor of a dotted name, None outside the package."""
    parts = module.split(".")
    if parts[0] != "renderformer":
        return None
    # `python -m renderformer` starts the command line.
    if module == "renderformer.__main__":
        return "cli"
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "renderformer"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "renderformer" else ("renderformer", *parts))


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of every import of a file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module_of(path).split(".")[: -node.level]
                base = ".".join([*package, base]).rstrip(".")
            names += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return names


def test_every_floor_imports_only_from_its_own_or_below() -> None:
    wrong = []
    for path in sources():
        floor = floor_of(module_of(path))
        assert floor is not None
        for line, name in imports(path):
            imported_floor = floor_of(name)
            # Two floors of the same height, kernels and data, do not import each other.
            if imported_floor is None or imported_floor == floor or FLOORS[imported_floor] < FLOORS[floor]:
                continue
            # The version is no dependency on the engine.
            if name == "renderformer.__version__":
                continue
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {floor} imports {name}")
    assert wrong == []


def imports_inside_data() -> list[tuple[str, str]]:
    """(module, imported module) for modules of data/, without the upward imports."""
    files = {module_of(path).removesuffix(".__init__"): path for path in sources()}
    modules = {name: path for name, path in files.items() if name.startswith("renderformer.data.")}
    pairs = [
        # The last part of a dotted name is a module or something inside one.
        (module, name if name in modules else name.rpartition(".")[0])
        for module, path in modules.items()
        for _, name in imports(path)
    ]
    return [
        (module, other)
        for module, other in pairs
        if other in modules and not (module in UPWARD[0] and other.startswith(UPWARD[1]))
    ]


def inner_floor(module: str) -> int:
    name = f"{module.removeprefix('renderformer.data.')}."
    lengths = {
        len(prefix): number
        for number, prefixes in enumerate(INNER_FLOORS)
        for prefix in prefixes
        if name.startswith(f"{prefix}.")
    }
    assert lengths, f"{module} is on no floor of data/"
    return lengths[max(lengths)]


def test_every_floor_of_data_imports_only_from_its_own_or_below() -> None:
    pairs = imports_inside_data()
    assert len(pairs) > 100
    assert [pair for pair in pairs if inner_floor(pair[1]) > inner_floor(pair[0])] == []


def test_no_modules_of_data_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, other in imports_inside_data():
        graph.setdefault(module, set()).add(other)
    # Raises CycleError, which names the circle.
    tuple(TopologicalSorter(graph).static_order())


def test_training_and_evaluation_are_imported_by_the_command_line_alone() -> None:
    wings = ("renderformer.training", "renderformer.evaluation")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources()
        for line, name in imports(path)
        if name.startswith(wings) and floor_of(module_of(path)) != "cli" and not module_of(path).startswith(wings)
    ]
    assert wrong == []


def test_kernels_import_only_torch_triton_and_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names, "torch", "triton", "renderformer"}
    files = [path for path in sources() if floor_of(module_of(path)) == "kernels"]
    assert [name for path in files for _, name in imports(path) if name.split(".")[0] not in allowed] == []


def test_nothing_imports_experiments() -> None:
    experiments = "renderformer.kernels.experimental"
    files = [path for path in sources() if not module_of(path).startswith(experiments)]
    assert [path for path in files for _, name in imports(path) if name.startswith(experiments)] == []


def test_nothing_unpickles_or_evaluates() -> None:
    modules = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
    wrong = []
    for path in sources():
        wrong += [f"{path}:{line}: {name}" for line, name in imports(path) if name.split(".")[0] in modules]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in ("eval", "exec", "torch.load", "yaml.load") or arguments.get("allow_pickle") == "True":
                wrong.append(f"{path}:{node.lineno}: {called}")
    assert wrong == []


def test_public_names_resolve() -> None:
    for name in renderformer.__all__:
        assert getattr(renderformer, name).__name__ == name
        assert name in dir(renderformer)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = renderformer.Nothing


def test_the_version_is_the_same_everywhere() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == renderformer.__version__


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import renderformer") & {*HEAVY, "numpy"} == set()


def test_scenes_and_pictures_do_without_torch() -> None:
    light = loaded_by("from renderformer import Scene, Mesh, Camera, Material, Light, Image")
    assert light & HEAVY == set()


def test_a_picture_without_a_network_does_without_torch() -> None:
    draws = """
from renderformer import Camera, Light, Mesh, Renderer, Scene
import numpy as np
mesh = Mesh("a", np.eye(3, dtype=np.float32)[None] / 2)
scene = Scene((mesh, Light((2, 2, 2)).mesh()), (Camera.look_at((2, 2, 1), (0, 0, 0)),))
renderer = Renderer.from_pretrained()
assert renderer.render(scene, 8)[0].hdr.max() > 0
assert len(renderer.split(scene, 8)[0].lights) == 1 and renderer.digest and renderer.device == "cpu"
"""
    # Loading torch takes longer than a small picture.
    assert loaded_by(draws) & HEAVY <= {"scipy"}


def test_a_glb_does_without_trimesh() -> None:
    path = ROOT / "examples" / "assets" / "boxes.glb"
    loaded = loaded_by(f"from renderformer import Scene; assert len(Scene.load({str(path)!r})) > 12")
    assert loaded.isdisjoint({"trimesh", "torch"})


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    assert loaded_by("import renderformer.cli.main") & {*HEAVY, "numpy"} == set()
    code = "import sys; sys.argv = ['renderformer', '--help']; from renderformer.cli.main import main; main()"
    libraries = "import typer, typer.rich_utils, rich.markdown, rich.traceback"

    def seconds(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The first calls write the byte code and are not measured.
    seconds(code)
    seconds(libraries)
    # Typer and rich take more than half of it; on a busy machine, both take longer alike.
    assert any(seconds(code) < 2.5 * seconds(libraries) for _ in range(3))


def test_the_package_is_the_program() -> None:
    def says(*program: str) -> str:
        called = [sys.executable, "-m", *program, "--version"]
        return subprocess.run(called, check=True, capture_output=True, text=True).stdout

    assert says("renderformer") == says("renderformer.cli.main") == f"renderformer {renderformer.__version__}\n"


def test_the_wheel_holds_every_floor_and_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    # A copy of what git tracks, since setuptools leaves build/ behind and a working tree holds more.
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tree = tmp_path / "tree"
    for name in listed.stdout.rstrip("\0").split("\0"):
        source, target = ROOT / name, tree / name
        if not (source.exists() or source.is_symlink()) or name.startswith("tests/"):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        else:
            target.write_bytes(source.read_bytes())
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tree)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = set(listed.stdout.split("\0"))
    for path in sources():
        if str(path.relative_to(ROOT)) in tracked:
            module = module_of(path)
            assert (module.replace(".", "/") + ".py" in names) != module.startswith(NOT_PACKAGED)
    assert {"renderformer/py.typed", "renderformer/evaluation/report.html.jinja"} <= names
    assert {name for name in tracked if name.startswith("renderformer/weights/")} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"renderformer", f"renderformer-{renderformer.__version__}.dist-info"}


def test_constraints_pin_every_dependency_within_its_range() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # The list of pins is made without the viewer's packages.
    names = ("dev", "reference", "train", "cuda", "metrics", "denoise", "compression", "farm")
    requirements = [*project["dependencies"], *(requirement for name in names for requirement in extras[name])]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if not line.startswith("#"))
    }
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name == "renderformer":
            continue
        assert name in pins, f"{name} has no pin in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} does not allow {pins[name]}"
