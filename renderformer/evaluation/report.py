"""Measurements as tables for a terminal, as data for JSON, and as a self-contained HTML page with pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array, UInt8Array
from renderformer.data.files import atomic_path
from renderformer.evaluation.equal_time import GUIDE_SPP, RIVALS, Contest
from renderformer.evaluation.measurement import METHODS, METRICS, Measurement, SceneFacts, groups, interval
from renderformer.evaluation.metrics import DIGITS, METRIC_NAMES, heat

KINDS = {
    "stage": "stage",
    "lights": "light triangles",
    "roughness": "roughness of the shiniest surface",
    "triangles": "triangles",
}
METHOD_TITLES = {"model": "model", "light_cache": "light cache, no network"}
RIVAL_NAMES = {
    "model": "model",
    "mitsuba": "Mitsuba",
    "mitsuba_oidn": "Mitsuba + OIDN",
    "mitsuba_oidn_guided": "Mitsuba + OIDN with albedo, normals",
}
# Goals for the embedded model, in dB but for the SSIM: the mean and the worst view, what the network gains, and in
# equal time over Mitsuba + OIDN.
PSNR_GOALS = {64: 43.0, 128: 44.5, 256: 44.5}
SSIM_GOAL, WORST_GOAL, GAIN_GOAL, EQUAL_TIME_GOAL = 0.98, 36.0, 1.0, 3.0
EQUAL_TIME_RESOLUTION = 256
# The FLIP that is white in error maps.
ERROR_SCALE = 0.3


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of cells."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def text(self) -> str:
        """The table for a terminal, the first column aligned to the left, the others to the right."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        padded = [
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
            for line in lines
        ]
        return "\n".join([self.title, *("  ".join(cells).rstrip() for cells in padded)])


def heading(measurement: Measurement) -> str:
    """One line about the data set."""
    scenes, views, size = len(measurement.scenes), measurement.views, measurement.resolution
    return f"{measurement.folder}: {scenes} scenes, {scenes * views} views of {size} x {size} px"


def _spread(values: Float64Array, digits: int) -> str:
    mean, half = interval(values)
    return f"{mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def tables(measurement: Measurement, contests: Sequence[Contest] = ()) -> list[Table]:
    """Means over scenes with 95 % confidence: of all methods, of the model by group, and at equal time."""
    whole = Table(
        "Mean over scenes ± 95 % confidence",
        ("", *METRIC_NAMES.values()),
        [
            (
                METHOD_TITLES[method],
                *(_spread(measurement.per_scene(method, metric), DIGITS[metric]) for metric in METRICS),
            )
            for method in METHODS
        ],
    )
    split = [
        Table(
            f"By {KINDS[kind]}",
            (KINDS[kind], "scenes", *METRIC_NAMES.values(), "dB over no network"),
            [
                (
                    name,
                    str(len(rows)),
                    *(_spread(measurement.per_scene("model", m)[rows], DIGITS[m]) for m in METRICS),
                    _spread(measurement.gain()[rows], 2),
                )
                for name, rows in members.items()
            ],
        )
        for kind, members in groups(measurement.scenes).items()
    ]
    return [whole, *split, *map(_contest_table, contests)]


def _contest_table(contest: Contest) -> Table:
    count = len(contest.results["model"]["psnr"])
    subject = "a single picture of a scene" if contest.views == 1 else f"each of {contest.views} pictures of a scene"
    return Table(
        f"At equal time on one CPU thread: {subject}, {count} scenes",
        ("", "CPU s", "spp", "PSNR, dB", "SSIM", "FLIP", "model ahead, dB"),
        [
            (
                RIVAL_NAMES[method],
                f"{scores['seconds'].mean():.3f}",
                f"{scores['spp'].mean():.1f}" if method != "model" else "",
                *(_spread(scores[metric], DIGITS[metric]) for metric in ("psnr", "ssim", "flip")),
                _spread(contest.results["model"]["psnr"] - scores["psnr"], 2) if method != "model" else "",
            )
            for method, scores in contest.results.items()
        ],
    )


@dataclass(frozen=True)
class Goal:
    """A target for a figure, and the figure's value, both in `unit`."""

    name: str
    target: float
    value: float
    unit: str = ""

    @property
    def state(self) -> str:
        """Whether it is "met" or "missed"."""
        return "met" if self.value >= self.target else "missed"

    @property
    def value_text(self) -> str:
        """The value with its unit."""
        return self._with_unit(self.value)

    @property
    def target_text(self) -> str:
        """The target with its unit."""
        return f"{self.target:g}{self.unit}"

    def __str__(self) -> str:
        verdict = "met, by" if self.state == "met" else "missed by"
        distance = self._with_unit(abs(self.value - self.target))
        return f"{self.name}: {self.value_text}, goal {self.target_text}, {verdict} {distance}"

    def _with_unit(self, number: float) -> str:
        return f"{number:.{2 if self.unit else 4}f}{self.unit}"


def goals(measurement: Measurement, contests: Sequence[Contest] = ()) -> list[Goal]:
    """The goals of the embedded model that apply to this set."""
    result = []
    if measurement.resolution in PSNR_GOALS:
        target = PSNR_GOALS[measurement.resolution]
        result.append(Goal("PSNR", target, float(measurement.per_scene("model", "psnr").mean()), " dB"))
    result.append(Goal("SSIM", SSIM_GOAL, float(measurement.per_scene("model", "ssim").mean())))
    result.append(Goal("worst view", WORST_GOAL, float(measurement.scores["model"]["psnr"].min()), " dB"))
    result.append(Goal("over the picture without a network", GAIN_GOAL, float(measurement.gain().mean()), " dB"))
    if measurement.resolution == EQUAL_TIME_RESOLUTION:
        for contest in contests:
            best = max(contest.results[rival]["psnr"].mean() for rival in RIVALS if rival != "mitsuba")
            subject = "one picture" if contest.views == 1 else f"each of {contest.views} pictures"
            gain = float(contest.results["model"]["psnr"].mean() - best)
            result.append(Goal(f"over Mitsuba + OIDN in equal time, {subject}", EQUAL_TIME_GOAL, gain, " dB"))
    return result


def as_text(measurement: Measurement, contests: Sequence[Contest], with_goals: bool) -> str:
    """The tables for a terminal, with or without the goals."""
    parts = [heading(measurement), *(table.text() for table in tables(measurement, contests))]
    if with_goals:
        parts.append("\n".join(["Goals", *map(str, goals(measurement, contests))]))
    return "\n\n".join(parts)


def as_data(measurement: Measurement, contests: Sequence[Contest], model: str) -> dict[str, Any]:
    """All results except the pictures, for `json.dumps`."""

    def summary(values: Float64Array) -> dict[str, float | None]:
        mean, half = interval(values)
        return {"mean": mean, "confidence": half}

    def scores(rows: list[int]) -> dict[str, Any]:
        return {m: {k: summary(measurement.per_scene(m, k)[rows]) for k in METRICS} for m in METHODS}

    everything = list(range(len(measurement.scenes)))
    return {
        "model": model,
        "data": str(measurement.folder),
        "resolution": measurement.resolution,
        "scenes": len(measurement.scenes),
        "views": len(measurement.scenes) * measurement.views,
        "scores": scores(everything),
        "gain": summary(measurement.gain()),
        "groups": {
            kind: {name: {"scenes": len(rows), **scores(rows)} for name, rows in members.items()}
            for kind, members in groups(measurement.scenes).items()
        },
        "equal_time": [
            {
                "views": contest.views,
                **{m: {k: summary(v) for k, v in by_metric.items()} for m, by_metric in contest.results.items()},
            }
            for contest in contests
        ],
        "goals": [
            {"goal": g.name, "wanted": g.target, "got": g.value, "met": g.state == "met"}
            for g in goals(measurement, contests)
        ],
    }


def write_page(path: Path, measured: Sequence[tuple[Measurement, Sequence[Contest]]], model: str) -> None:
    """Write the HTML page with the tables and pictures of each set.

    Args:
        measured: measurements with pictures.
        model: its name.

    Raises:
        InputError: an unwritable file.
    """
    from jinja2 import Environment, StrictUndefined

    text = files("renderformer.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page = environment.from_string(text).render(
        model=model,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        guide_spp=GUIDE_SPP,
        error_scale=ERROR_SCALE,
        sections=[_section(measurement, contests) for measurement, contests in measured],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _section(measurement: Measurement, contests: Sequence[Contest]) -> dict[str, Any]:
    """The variables of the template for one set."""
    whole, *others = tables(measurement, contests)
    split = len(others) - len(contests)
    by_group, races = others[:split], others[split:]
    order = np.argsort(measurement.scores["model"]["psnr"].ravel(), kind="stable")
    middle = len(order) // 2
    selections = {
        "Worst views": order[:2],
        "Best views": order[::-1][:2],
        "Views in the middle": order[max(0, middle - 1) : middle + 1],
        "First view of every scene": np.arange(0, len(order), measurement.views),
    }
    views = [
        (title, [_row(measurement, *divmod(i, measurement.views)) for i in indices.tolist()])
        for title, indices in selections.items()
    ]
    for contest in contests:
        title = "the only picture of a scene" if contest.views == 1 else f"one of {contest.views} pictures of a scene"
        rows = [_race(contest, i, scene) for i, scene in enumerate(measurement.scenes)]
        views.append((f"In the model's time, {title}", rows))
    return {
        "heading": heading(measurement),
        "goals": goals(measurement, contests),
        "tables": [whole, *races],
        "groups": by_group,
        "views": views,
    }


def _row(measurement: Measurement, scene: int, view: int) -> dict[str, Any]:
    """Reference, model, its error, the picture without a network, and its error."""
    scores, pictures, errors = measurement.scores, measurement.pictures, measurement.errors

    def score(method: str) -> str:
        return f"{scores[method]['psnr'][scene, view]:.2f} dB, SSIM {scores[method]['ssim'][scene, view]:.3f}"

    def error(method: str) -> str:
        return f"FLIP {scores[method]['flip'][scene, view]:.3f}"

    cells = [
        ("reference", "path traced", pictures["reference"][scene, view]),
        ("model", score("model"), pictures["model"][scene, view]),
        ("error of the model", error("model"), heat(errors["model"][scene, view], ERROR_SCALE)),
        ("light cache, no network", score("light_cache"), pictures["light_cache"][scene, view]),
        ("its error", error("light_cache"), heat(errors["light_cache"][scene, view], ERROR_SCALE)),
    ]
    return _figures(measurement.scenes[scene], view, cells)


def _race(contest: Contest, index: int, scene: SceneFacts) -> dict[str, Any]:
    """Reference, model, and each rival in the model's time."""
    cells = [("reference", "path traced", contest.pictures["reference"][index])]
    for method, scores in contest.results.items():
        spp = "" if method == "model" else f"{scores['spp'][index]:.0f} spp, "
        line = f"{scores['psnr'][index]:.2f} dB, {spp}{scores['seconds'][index]:.2f} s"
        cells.append((RIVAL_NAMES[method], line, contest.pictures[method][index]))
    return _figures(scene, 0, cells)


def _figures(scene: SceneFacts, view: int, cells: Sequence[tuple[str, str, UInt8Array]]) -> dict[str, Any]:
    """A row of pictures (h, w, 3) of one size; the page enlarges small ones without interpolation."""
    gloss = "nothing glossy" if scene.roughness is None else f"roughness from {scene.roughness:.2f}"
    lights = f"{scene.lights} light{'s' * (scene.lights != 1)}"
    title = f"scene {scene.seed}, view {view}: {scene.stage}, {lights}, {scene.triangles:,} triangles, {gloss}"
    size = "small" if cells[0][2].shape[1] < 200 else "large"
    pictures = [{"name": name, "line": line, "uri": _data_uri(picture)} for name, line, picture in cells]
    return {"title": title, "size": size, "pictures": pictures}


def _data_uri(picture: UInt8Array) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
