"""The list of recent files: what it holds, what it survives, and where it is shown."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.command import Run
from helpers.ray_engine import RayEngine, a_scene

from renderformer.viewer.dialogs import opening_recent
from renderformer.viewer.recent import MOST, recent, remember
from renderformer.viewer.session import Session

pytest.importorskip("platformdirs", reason="the viewer extra is not installed")
BOXES = Path(__file__).parents[1] / "examples" / "assets" / "boxes.glb"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "renderformer" / "recent.json"


def files(folder: Path, count: int) -> list[Path]:
    made = [folder / f"{number} ä.glb" for number in range(count)]
    for path in made:
        path.touch()
    return made


def test_the_newest_files_that_exist_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recent() == ([], "")
    made = files(tmp_path, MOST + 3)
    for path in made:
        remember(path)
    assert recent() == (made[:2:-1], "")
    monkeypatch.chdir(tmp_path)
    remember(made[5].name)
    assert recent()[0][0] == made[5]
    assert recent()[0].count(made[5]) == 1
    made[5].unlink()
    assert recent()[0][0] == made[-1]
    made[5].touch()
    assert recent()[0][0] == made[5]


@pytest.mark.parametrize(
    ("content", "note", "left"),
    [
        ("[", "it is not JSON", 0),
        ("[" * 100_000, "it is not JSON", 0),
        ("\ud800", "it is not JSON", 0),
        ("", "is empty", 0),
        ('{"a": 1}', "1 entries", 0),
        ('["FILE", 3, null, "relative.glb", "/a\\nb", "/\\u001b[31m", "", "/' + "x" * 5000 + '"]', "7 entries", 1),
        (json.dumps(["FILE", *["/x"] * 100]), "", 1),
    ],
)
def test_a_hostile_list_is_ignored_with_a_note_and_replaced(
    content: str, note: str, left: int, place: Path, tmp_path: Path
) -> None:
    (made,) = files(tmp_path, 1)
    place.parent.mkdir(parents=True)
    place.write_bytes(content.replace("FILE", str(made)).encode("utf-8", "surrogatepass"))
    found, said = recent()
    assert len(found) == left
    assert note in said
    assert bool(note) == bool(said)
    assert "\n" not in said
    remember(BOXES)
    assert recent()[0][0] == BOXES


def test_a_list_that_cannot_be_written_stops_nothing(place: Path, tmp_path: Path) -> None:
    place.parent.parent.write_text("a file where the folder should be")
    remember(BOXES)
    assert recent() == ([], "")


def test_viewers_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    made = files(tmp_path, MOST)
    threads = [threading.Thread(target=remember, args=(path,)) for path in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(recent()[0]) == made


def test_the_program_without_a_file_lists_them(run: Run, place: Path) -> None:
    nothing = run("view")
    assert nothing.code == 1
    assert "there are no recent files" in nothing.err
    remember(BOXES)
    listed = run("view")
    assert (listed.code, listed.out) == (0, f"{BOXES}{os.linesep}")
    assert "renderformer view FILE" in listed.err
    place.write_text("{}")
    damaged = run("view")
    assert damaged.code == 1
    assert "no paths" in damaged.err


def test_the_window_asks_by_short_names_and_the_page_opens_what_is_listed_and_nothing_else(tmp_path: Path) -> None:
    opened: list[Path] = []
    deep = tmp_path / ("folder" * 20) / "a.glb"
    question = opening_recent([BOXES, deep], opened.append)
    assert all(len(label) <= 60 for label in question.choices)
    for action in question.choices.values():
        action()
    assert opened == [BOXES, deep]
    # Two whose ends are the same keep their own lines.
    twins = [tmp_path / place / ("folder" * 20) / "a.glb" for place in ("one", "two")]
    assert len(opening_recent(twins, opened.append).choices) == 2

    web = pytest.importorskip("renderformer.viewer.web")
    from renderformer.viewer.page_controls import NOTHING

    (secret,) = files(tmp_path, 1)
    remember(BOXES)
    session = Session(a_scene(), RayEngine(), 64)  # type: ignore[arg-type]
    viewer = web.WebViewer(session, port=8775)
    try:
        viewer._show_recent()
        assert viewer._recent.options == (NOTHING, str(BOXES))
        said: list[Any] = []
        client = SimpleNamespace(add_notification=lambda *values, **options: said.append(values))
        for path in (secret, BOXES):
            viewer._recent_chosen(SimpleNamespace(client=client, target=SimpleNamespace(value=str(path))))
        assert session.document.undo_label.startswith("open")
        assert len(session.document._past) == 1
        assert viewer._recent.value == NOTHING
    finally:
        viewer.close()
