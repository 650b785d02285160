"""What was measured, as tables for a terminal, as plain data, and as a page that holds its pictures.

The page needs nothing but itself: no network, no scripts.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, UInt8Array
from renderformer.evaluation.equal_time import GUIDE_SPP, RIVALS, Contest
from renderformer.evaluation.evaluation import METHODS, METRICS, Measurement, SceneFacts, groups, interval

METRIC_NAMES = {"psnr": "PSNR, dB", "ssim": "SSIM", "flip": "FLIP", "relative_mse": "relative MSE"}
DIGITS = {"psnr": 2, "ssim": 4, "flip": 4, "relative_mse": 4}
KINDS = {
    "stage": "stage",
    "lights": "light triangles",
    "roughness": "roughness of the shiniest surface",
    "triangles": "triangles",
}
RIVAL_NAMES = {
    "model": "model",
    "mitsuba": "Mitsuba",
    "mitsuba_oidn": "Mitsuba + OIDN",
    "mitsuba_oidn_guided": "Mitsuba + OIDN with albedo, normals",
}
# Goals of issue 3 for the embedded model.
PSNR_GOALS = {64: 32.0, 128: 32.0, 256: 31.0}
SSIM_GOAL, GAIN_GOAL, EQUAL_TIME_RESOLUTION = 0.95, 5.0, 256
# FLIP that is drawn white.
ERROR_SCALE = 0.3


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of as many cells."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def text(self) -> str:
        """Aligned for a terminal: the first column to the left, the others to the right."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        padded = [
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
            for line in lines
        ]
        return "\n".join([self.title, *("  ".join(cells).rstrip() for cells in padded)])


def method_names(measurement: Measurement) -> dict[str, str]:
    """What METHODS are called."""
    return {
        "model": "model",
        "ambient": f"ray casting + ambient {measurement.ambient:g}",
        "best_ambient": "ray casting + best ambient of each view",
        "albedo": "albedo x best number of each view",
    }


def heading(measurement: Measurement) -> str:
    """The set in one line."""
    scenes, views, size = len(measurement.scenes), measurement.views, measurement.resolution
    return f"{measurement.folder}: {scenes} scenes, {scenes * views} views of {size} x {size} px"


def _spread(values: Float64Array, digits: int) -> str:
    mean, half = interval(values)
    return f"{mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def tables(measurement: Measurement, contests: Sequence[Contest] = ()) -> list[Table]:
    """Means with 95 % confidence over scenes: of all methods, of the model by group, and at equal time."""
    names = method_names(measurement)
    whole = Table(
        "Mean over scenes ± 95 % confidence",
        ("", *METRIC_NAMES.values()),
        [
            (names[method], *(_spread(measurement.per_scene(method, metric), DIGITS[metric]) for metric in METRICS))
            for method in METHODS
        ],
    )
    split = [
        Table(
            f"By {KINDS[kind]}",
            (KINDS[kind], "scenes", *METRIC_NAMES.values(), "dB over ambient"),
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
    what = "a single picture of a scene" if contest.views == 1 else f"each of {contest.views} pictures of a scene"
    return Table(
        f"At equal time on one CPU thread: {what}, {count} scenes",
        ("", "CPU s", "spp", "PSNR, dB", "SSIM", "FLIP", "model ahead, dB"),
        [
            (
                RIVAL_NAMES[method],
                f"{own['seconds'].mean():.3f}",
                f"{own['spp'].mean():.1f}" if method != "model" else "",
                *(_spread(own[metric], DIGITS[metric]) for metric in ("psnr", "ssim", "flip")),
                _spread(contest.results["model"]["psnr"] - own["psnr"], 2) if method != "model" else "",
            )
            for method, own in contest.results.items()
        ],
    )


@dataclass(frozen=True)
class Goal:
    """A figure that was wanted and what it came to, both in `unit`."""

    what: str
    wanted: float
    got: float
    unit: str = ""

    def __str__(self) -> str:
        digits = 4 if not self.unit else 2
        distance = f"{abs(self.got - self.wanted):.{digits}f}{self.unit}"
        verdict = f"met, by {distance}" if self.got >= self.wanted else f"missed by {distance}"
        return f"{self.what}: {self.got:.{digits}f}{self.unit}, goal {self.wanted:g}{self.unit}, {verdict}"


def goals(measurement: Measurement, contests: Sequence[Contest] = ()) -> list[Goal]:
    """The goals of the embedded model that apply to this set."""
    found = []
    if measurement.resolution in PSNR_GOALS:
        wanted = PSNR_GOALS[measurement.resolution]
        found.append(Goal("PSNR", wanted, float(measurement.per_scene("model", "psnr").mean()), " dB"))
    found.append(Goal("SSIM", SSIM_GOAL, float(measurement.per_scene("model", "ssim").mean())))
    found.append(Goal("over direct + ambient", GAIN_GOAL, float(measurement.gain().mean()), " dB"))
    if measurement.resolution == EQUAL_TIME_RESOLUTION:
        for contest in contests:
            best = max(contest.results[rival]["psnr"].mean() for rival in RIVALS if rival != "mitsuba")
            what = "one picture" if contest.views == 1 else f"each of {contest.views} pictures"
            gain = float(contest.results["model"]["psnr"].mean() - best)
            found.append(Goal(f"over Mitsuba + OIDN in equal time, {what}", 0.0, gain, " dB"))
    return found


def as_data(measurement: Measurement, contests: Sequence[Contest], model: str) -> dict[str, Any]:
    """Everything but the pictures, for `json.dumps`."""

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
        "ambient": measurement.ambient,
        "scores": scores(everything),
        "gain": summary(measurement.gain()),
        "groups": {
            kind: {name: {"scenes": len(rows), **scores(rows)} for name, rows in members.items()}
            for kind, members in groups(measurement.scenes).items()
        },
        "equal_time": [
            {
                "views": contest.views,
                **{m: {k: summary(v) for k, v in own.items()} for m, own in contest.results.items()},
            }
            for contest in contests
        ],
        "goals": [
            {"goal": g.what, "wanted": g.wanted, "got": g.got, "met": g.got >= g.wanted}
            for g in goals(measurement, contests)
        ],
    }


def page(measured: Sequence[tuple[Measurement, Sequence[Contest]]], model: str, date: str) -> str:
    """The HTML page: tables and pictures of every set.

    Args:
        measured: with pictures; date: for the head of the page.
    """
    sections = "\n".join(_section(measurement, contests) for measurement, contests in measured)
    title = f"Evaluation of {html.escape(model)}"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<p class="date">{html.escape(date)}</p>\n{_LEGEND}\n{sections}\n</main>\n</body>\n</html>\n'
    )


def _section(measurement: Measurement, contests: Sequence[Contest]) -> str:
    whole, *rest = tables(measurement, contests)
    split, races = rest[: len(rest) - len(contests)], rest[len(rest) - len(contests) :]
    parts = [f"<section>\n<h2>{html.escape(heading(measurement))}</h2>", _tiles(measurement, contests)]
    parts += [_table(whole), *map(_table, races)]
    parts += ['<div class="split">', *map(_table, split), "</div>"]
    order = np.argsort(measurement.scores["model"]["psnr"].ravel(), kind="stable")
    middle = len(order) // 2
    for title, chosen in (
        ("Worst views", order[:2]),
        ("Best views", order[::-1][:2]),
        ("Views in the middle", order[max(0, middle - 1) : middle + 1]),
    ):
        rows = [_row(measurement, *divmod(int(i), measurement.views)) for i in chosen]
        parts += [f"<h3>{title}</h3>", *rows]
    every = [_row(measurement, i, 0) for i in range(len(measurement.scenes))]
    parts += ["<h3>First view of every scene</h3>", *every]
    for contest in contests:
        title = "the only picture of a scene" if contest.views == 1 else f"one of {contest.views} pictures of a scene"
        rows = [_race(contest, i, scene) for i, scene in enumerate(measurement.scenes)]
        parts += [f"<h3>In the model's time, {title}</h3>", *rows]
    return "\n".join([*parts, "</section>"])


def _tiles(measurement: Measurement, contests: Sequence[Contest]) -> str:
    tiles = []
    for goal in goals(measurement, contests):
        state = "met" if goal.got >= goal.wanted else "missed"
        digits = 2 if goal.unit else 4
        tiles.append(
            f'<div class="tile {state}"><b>{goal.got:.{digits}f}{goal.unit}</b> {html.escape(goal.what)}'
            f"<small>goal {goal.wanted:g}{goal.unit}, {state}</small></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(table: Table) -> str:
    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    head = cells("th", table.header)
    body = "\n".join(f"<tr>{cells('th', row[:1])}{cells('td', row[1:])}</tr>" for row in table.rows)
    return (
        f'<div class="table"><table>\n<caption>{html.escape(table.title)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _row(measurement: Measurement, scene: int, view: int) -> str:
    """Reference, model, its error, the best picture without a model, and its error."""
    scores = {m: {k: float(v[scene, view]) for k, v in own.items()} for m, own in measurement.scores.items()}
    pictures, errors = measurement.pictures, measurement.errors

    def score(method: str) -> str:
        own = scores[method]
        return f"{own['psnr']:.2f} dB, SSIM {own['ssim']:.3f}"

    def error(method: str) -> str:
        return f"FLIP {scores[method]['flip']:.3f}"

    cells = [
        ("reference", "path traced", pictures["reference"][scene, view]),
        ("model", score("model"), pictures["model"][scene, view]),
        ("error of the model", error("model"), heat(errors["model"][scene, view])),
        ("best without a model", score("best_ambient"), pictures["best_ambient"][scene, view]),
        ("its error", error("best_ambient"), heat(errors["best_ambient"][scene, view])),
    ]
    return _figures(_facts(measurement.scenes[scene], view), cells)


def _race(contest: Contest, index: int, scene: SceneFacts) -> str:
    """Reference, model, and what each rival makes of the same time."""
    cells = [("reference", "path traced", contest.pictures["reference"][index])]
    for method, own in contest.results.items():
        spp = "" if method == "model" else f"{own['spp'][index]:.0f} spp, "
        figure = f"{own['psnr'][index]:.2f} dB, {spp}{own['seconds'][index]:.2f} s"
        cells.append((RIVAL_NAMES[method], figure, contest.pictures[method][index]))
    return _figures(_facts(scene, 0), cells)


def _figures(title: str, cells: Sequence[tuple[str, str, UInt8Array]]) -> str:
    """A row of pictures (h, w, 3), each with its name and a line about it."""
    # Small pictures are enlarged, and are to show their pixels.
    kind = "small" if cells[0][2].shape[1] < 200 else "large"
    figures = "\n".join(
        f'<figure><img class="{kind}" src="{_data_uri(picture)}" alt="{name}"><figcaption>{name}<br>{line}</figcaption>'
        "</figure>"
        for name, line, picture in cells
    )
    return f'<div class="row"><p>{html.escape(title)}</p>\n{figures}</div>'


def _facts(scene: SceneFacts, view: int) -> str:
    gloss = "nothing glossy" if scene.roughness is None else f"roughness from {scene.roughness:.2f}"
    lights = f"{scene.lights} light{'s' * (scene.lights != 1)}"
    return f"scene {scene.seed}, view {view}: {scene.stage}, {lights}, {scene.triangles:,} triangles, {gloss}"


def heat(error: AnyArray) -> UInt8Array:
    """(h, w, 3) colours of an error map (h, w): black, red, yellow, and white from ERROR_SCALE on."""
    level = error.astype(np.float32)[..., None] / ERROR_SCALE
    return (np.clip(3 * level - np.arange(3, dtype=np.float32), 0, 1) * 255).round().astype(np.uint8)


def _data_uri(picture: UInt8Array) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


_LEGEND = f"""<p>Scenes are the independent samples: a figure is the mean over scenes of the mean over their views, ±
half of its 95&nbsp;% confidence interval (Student's t). PSNR and SSIM are of clamp(x, 0, 1)<sup>1/2.2</sup>; FLIP is
LDR-FLIP at 67 pixels per degree; relative MSE is (p &minus; r)&sup2; / (r&sup2; + 0.01) of the radiance without the
worst 0.1&nbsp;% of the pixels. The best ambient light and the best number of each view are chosen with the reference at
hand, which no renderer has. At equal time, Mitsuba is given the model's CPU time on one thread; the denoiser's
time and that of its albedo and normals ({GUIDE_SPP} samples) count. Error maps show FLIP:
<span class="scale"></span> 0 to {ERROR_SCALE:g} and more.</p>"""

_STYLE = """
:root { color-scheme: light dark; --line: #d8dbe0; --soft: #6a7280; --back: #f6f7f9; --card: #fff; --ink: #16181d;
  --good: #1a7f4b; --bad: #b4451f; }
@media (prefers-color-scheme: dark) { :root { --line: #353a44; --soft: #9aa3b2; --back: #14161a; --card: #1d2026;
  --ink: #e8eaee; --good: #58c48a; --bad: #f08a5d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans",
  sans-serif; }
main { max-width: 1440px; margin: 0 auto; padding: 32px 24px 80px; }
h1 { font-size: 28px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 48px 0 16px; padding-top: 20px; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 36px 0 8px; }
p { max-width: 75em; }
.date { color: var(--soft); margin: 4px 0 20px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 20px; }
.tile { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--good); border-radius: 6px;
  padding: 10px 16px; min-width: 170px; color: var(--soft); font-size: 13px; }
.tile.missed { border-left-color: var(--bad); }
.tile b { display: block; font-size: 22px; color: var(--ink); }
.tile small { display: block; color: var(--good); }
.tile.missed small { color: var(--bad); }
.table { overflow-x: auto; margin: 16px 0; }
table { border-collapse: collapse; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  font-variant-numeric: tabular-nums; width: 100%; }
caption { text-align: left; font-weight: 600; padding: 0 0 6px; }
th, td { padding: 6px 12px; text-align: right; border-top: 1px solid var(--line); white-space: nowrap;
  font-weight: 400; }
thead th { color: var(--soft); font-size: 13px; border-top: 0; }
th:first-child { text-align: left; }
.row { display: grid; grid-template-columns: repeat(5, 1fr); gap: 6px 10px; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; padding: 10px 14px 12px; margin: 12px 0; }
.row p { grid-column: 1 / -1; margin: 0; font-size: 13px; color: var(--soft); }
figure { margin: 0; min-width: 0; }
img { width: 100%; display: block; border-radius: 3px; }
.small { image-rendering: pixelated; }
figcaption { font-size: 12px; line-height: 1.35; margin-top: 4px; color: var(--soft); }
.scale { display: inline-block; width: 110px; height: 11px; border: 1px solid var(--line);
  background: linear-gradient(90deg, #000, #f00 33.3%, #ff0 66.7%, #fff); }
@media (max-width: 640px) { .row { grid-template-columns: repeat(2, 1fr); } }
"""
