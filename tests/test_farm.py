"""Jobs on a Ray cluster. Most tests replace Ray, which CI does not install, by a stand-in that works at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.command import Run
from helpers.shapes import box

from renderformer import Split
from renderformer.cli.farm import with_address
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.farm import RETRIES, run_on_farm
from renderformer.data.scene import Light, Material, Scene


class RayError(Exception):
    pass


class StandIn:
    """Does a job when it is waited for, the newest first.

    Attributes:
        started, cancelled: numbers of jobs.
        lost: jobs whose workers die too often, by their number.
    """

    def __init__(self) -> None:
        self.started, self.cancelled = 0, 0
        self.lost: set[int] = set()
        self.options: dict[str, Any] = {}
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=KeyError)

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def put(self, value: Any) -> Any:
        return ("put", value)

    def remote(self, function: Any) -> Any:
        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=lambda *arguments: self._start(function, arguments))

        return SimpleNamespace(options=options)

    def _start(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        self.started += 1
        values = [a[1] if isinstance(a, tuple) and a[:1] == ("put",) else a for a in arguments]
        return SimpleNamespace(number=self.started, call=lambda: function(*values))

    def wait(self, running: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return [running[-1]], running[:-1]

    def get(self, job: Any) -> Any:
        if job.number in self.lost:
            raise RayError("the worker died")
        return job.call()

    def cancel(self, job: Any, force: bool) -> None:
        self.cancelled += 1


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    return stand_in


def square(offset: int, number: int) -> int:
    if number == 13:
        raise InputError("job", "is 13", "give another")
    return number * number + offset


def test_every_job_is_done_once_and_asked_for_late(ray: StandIn) -> None:
    asked = []

    def jobs() -> Iterator[tuple[int]]:
        for number in range(10):
            asked.append(number)
            yield (number,)

    results = run_on_farm(square, jobs(), (100,))
    assert next(results) == 109
    assert asked == [0, 1, 2, 3]
    assert sorted([109, *results]) == [100 + n * n for n in range(10)]
    assert ray.options == {"num_cpus": 1, "num_gpus": 0.0, "max_retries": RETRIES}


def test_an_error_and_a_lost_job_end_the_rest(ray: StandIn) -> None:
    with pytest.raises(InputError, match="job: is 13; give another"):
        list(run_on_farm(square, [(1,), (2,), (13,)], (0,)))
    assert ray.cancelled == 2
    ray.lost = {ray.started + 1}
    with pytest.raises(InputError, match="a job was lost 9 times"):
        list(run_on_farm(square, [(1,)], (0,)))


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    a_scene().save(tmp_path / "a.json")
    result = run("render", "a.json", "--turntable", 2, "-r", 8, "-o", "{frame}.png", "--no-network", "--ray", "local")
    assert (result.code, "pip install 'renderformer[farm]'" in result.err) == (1, True)
    assert run("render", "a.json", "-r", 8, "--ray", "local").code == 2
    result = run("render", "a.json", "-r", 8, "--turntable", 2, "--ray", "10.0.0.1")
    assert (result.code, "'10.0.0.1' is not host:port, auto or local" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a.json --ray", "a.json --ray=local"),
        ("--ray a.json -r 8", "--ray=local a.json -r 8"),
        ("a.json --ray -r 8", "a.json --ray=local -r 8"),
        ("a.json --ray auto", "a.json --ray auto"),
        ("--ray 10.0.0.1:6379 a.json", "--ray 10.0.0.1:6379 a.json"),
        ("--ray ray://head:10001 a.json", "--ray ray://head:10001 a.json"),
        ("--ray=auto a.json", "--ray=auto a.json"),
        ("a.json -- --ray", "a.json -- --ray"),
        ("a.json --raytrace", "a.json --raytrace"),
        ("--ray --ray", "--ray=local --ray=local"),
        ("--ray 10.0.0.1 a.json", "--ray 10.0.0.1 a.json"),
        ("--ray frames/*.obj", "--ray=local frames/*.obj"),
        ("a.json --ray head.example.org:80", "a.json --ray head.example.org:80"),
    ],
)
def test_the_address_of_a_farm_may_be_left_out(given: str, meant: str) -> None:
    assert with_address(given.split()) == meant.split()


def a_scene() -> Scene:
    return Scene(
        (box(0.4, Material((0.6, 0.3, 0.2))), Light((0, -1, 2), size=0.5, emission=(100, 100, 100)).mesh()),
        (Camera.from_angles(20),),
    )


def test_the_pictures_of_a_farm_are_those_of_one_process(ray: StandIn, run: Run, tmp_path: Path) -> None:
    from renderformer.sequences import farm
    from renderformer.sequences.drawing import Style

    a_scene().save(tmp_path / "a.json")
    options = ("render", "a.json", "--turntable", 3, "-r", 12, "--no-network")
    assert run(*options, "-o", "here_{frame}.png").code == 0
    assert run(*options, "--ray", "-o", "farm_{frame}.png").code == 0
    assert ray.started == 3
    for number in range(3):
        assert Path(f"here_{number}.png").read_bytes() == Path(f"farm_{number}.png").read_bytes()
    # The keys do not tell who drew, so that a sequence may go on elsewhere.
    assert "nothing to do" in run(*options, "-o", "farm_{frame}.png").err
    with pytest.raises(InputError, match="a worker has another model"):
        farm._draw_shot(
            '{"source": null, "network": false}', "another", Style((8, 8)), ("", 0), a_scene(), None, True,  # type: ignore[arg-type]
        )  # fmt: skip


def test_a_farm_splits_lights_as_one_process_does(ray: StandIn, run: Run, tmp_path: Path) -> None:
    a_scene().with_object(Light((1, -1, 1), size=0.2, emission=(9, 5, 1), name="warm").mesh()).save(tmp_path / "a.json")
    options = ("render", "a.json", "--turntable", 2, "-r", 12, "--no-network", "--split-lights")
    assert run(*options, "-o", "here_{frame}.exr").code == 0
    assert run(*options, "--ray", "-o", "farm_{frame}.exr").code == 0
    for number in range(2):
        assert Path(f"here_{number}.exr").read_bytes() == Path(f"farm_{number}.exr").read_bytes()
        assert list(Split.load(f"here_{number}.exr").lights) == ["light", "warm"]


@pytest.fixture
def two_nodes() -> Iterator[tuple[str, Any]]:
    """The address of a cluster of two nodes on this machine, and a function that kills the second."""
    ray = pytest.importorskip("ray", reason="a cluster needs the extra farm")
    from ray.cluster_utils import Cluster

    # With free ports, a node waits 15 seconds for its agents, which a busy machine may not meet.
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    first, second = ({name: 42000 + 10 * node + i for i, name in enumerate(names)} for node in (0, 1))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **first})
    node = cluster.add_node(num_cpus=1, **second)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield cluster.address, lambda: cluster.remove_node(node, allow_graceful=False)
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_dies_in_the_middle_changes_nothing(
    two_nodes: tuple[str, Any], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from renderformer.sequences import run as running

    address, kill = two_nodes
    a_scene().save(tmp_path / "a.json")
    options = ("render", "a.json", "--turntable", 12, "-r", 24, "--no-network")
    received = []
    receive = running._Run._receive

    def counted(self: Any, drawn: Any) -> None:
        receive(self, drawn)
        received.append(drawn)
        if len(received) == 3:
            kill()

    monkeypatch.setattr(running._Run, "_receive", counted)
    assert run(*options, "-o", "farm_{frame}.png", "--ray", address).code == 0
    assert len(received) == 12
    monkeypatch.setattr(running._Run, "_receive", receive)
    assert run(*options, "-o", "here_{frame}.png").code == 0
    for number in range(12):
        assert Path(f"farm_{number}.png").read_bytes() == Path(f"here_{number}.png").read_bytes()
    pytest.importorskip("mitsuba")
    data = ("data", "generate", "--scenes", 3, "--scenes-per-shard", 1, "--views", 1, "--resolution", 8, "--spp", 4)
    assert run(*data, "-o", "farm", "--ray", address).code == 0
    assert run(*data, "-o", "here").code == 0
    shards = sorted(path.name for path in Path("here").glob("*.safetensors"))
    assert len(shards) == 3
    for name in shards:
        assert Path("farm", name).read_bytes() == Path("here", name).read_bytes()
