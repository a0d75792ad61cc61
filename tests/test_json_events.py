"""What `--json` prints is what docs/json.md and docs/events.schema.json say.

Each command runs for real and each of its lines is held against the schema; the page's tables and
examples are held against the schema too, for the events that are hard to bring about as well.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import dualsr_cli.errors
from dualsr_cli import commands

from .commands.conftest import Run, dualsr, pair, quick, small
from .conftest import ValidEvent

__all__ = ["dualsr", "pair", "quick", "small"]  # fixtures

Pair = tuple[Path, Path]
Event = dict[str, Any]

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "json.md").read_text(encoding="utf-8")
SCHEMA = json.loads((REPOSITORY / "docs" / "events.schema.json").read_text(encoding="utf-8"))
EVENTS: list[str] = SCHEMA["properties"]["event"]["enum"]
OBJECTS = ["fit", "agreement", "input", "output"]


def section(title: str) -> str:
    """The text of the page below `### title`."""
    (found,) = re.findall(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    return str(found)


def rows(title: str) -> Iterator[tuple[list[str], list[str]]]:
    """Each row of the section's table: the names in its first cell, the other cells."""
    for line in section(title).splitlines():
        if line.startswith("| `"):
            first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
            yield re.findall(r"`([\w-]+)`", first), others


def fields(title: str) -> dict[str, str]:
    """Each field of an event or object by the page: when it is there."""
    return {name: cells[1] for names, cells in rows(title) for name in names}


def examples() -> list[Event]:
    """Each example of the page, an object a line."""
    blocks = re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)
    return [json.loads(line) for block in blocks for line in block.splitlines()]


def valid(event: Event) -> bool:
    """As users check it: by the schema as it is."""
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(event)


# --- what the commands print -------------------------------------------------------------------


def test_pairs(dualsr: Run, sample_pairs: Path, valid_event: ValidEvent) -> None:
    code, out, _ = dualsr("pairs", sample_pairs, "--no-content-check", "--json")
    assert code == 0
    events = [valid_event(line) for line in out.splitlines()]
    assert [event["event"] for event in events].count("pair") >= 5
    assert events[-1]["event"] == "summary"
    ratios = {event["ratio"] is None for event in events if event["event"] == "pair"}
    assert ratios == {True, False}


def test_photos_left_over(dualsr: Run, tmp_path: Path, valid_event: ValidEvent) -> None:
    (tmp_path / "empty ü.jpg").touch()
    code, out, _ = dualsr("pairs", tmp_path, "--json")
    assert code == 1
    leftover, summary = map(valid_event, out.splitlines())
    assert (leftover["event"], leftover["reason"]) == ("leftover", "unreadable")
    assert summary == {"event": "summary", "pairs": 0, "leftovers": 1}


def test_upscale(
    dualsr: Run, small: Pair, quick: Pair, tmp_path: Path, valid_event: ValidEvent
) -> None:
    for photos, refused in ((small, None), (quick, "featureless")):
        words = ("upscale", *photos, "-o", tmp_path / "a.jpg", "--scale", "1", "--json")
        code, out, _ = dualsr(*words)
        assert code == 0
        (event,) = map(valid_event, out.splitlines())
        assert (event["event"], event["refused"]) == ("upscaled", refused)


def test_align(
    dualsr: Run, small: Pair, quick: Pair, tmp_path: Path, valid_event: ValidEvent
) -> None:
    for photos, code, name in ((small, 0, "aligned"), (quick, 1, "failed")):
        ended, out, _ = dualsr("align", *photos, "-o", tmp_path / "a", "--json")
        (event,) = map(valid_event, out.splitlines())
        assert (ended, event["event"]) == (code, name)


def test_a_folder_planned_worked_on_and_again(
    dualsr: Run, quick: Pair, tmp_path: Path, valid_event: ValidEvent
) -> None:
    album = tmp_path / "größeres Album"
    album.mkdir()
    for name in ("1", "2"):
        shutil.copy(quick[0], album / f"{name}_wide.jpg")
        shutil.copy(quick[1], album / f"{name}_tele.png")
    (album / "2_tele.png").write_bytes(quick[1].read_bytes()[:60])
    (album / "empty.jpg").touch()
    table = album / "pairs.csv"
    table.write_text("wide,tele\n1_wide.jpg,1_tele.png\n2_wide.jpg,2_tele.png\n")
    told: list[list[str]] = []
    for source, more in ((table, ["--dry-run"]), (table, []), (table, []), (album, [])):
        words = ["upscale", source, "-o", tmp_path / "out", "--json", "--no-content-check", *more]
        _, out, _ = dualsr(*words)
        events = [valid_event(line) for line in out.splitlines()]
        told.append([event["event"] + ":" + event.get("state", "") for event in events])
    assert [sorted(names) for names in told[:3]] == [
        ["planned:", "planned:"],
        ["batch:", "failed:failed", "upscaled:done"],
        ["batch:", "failed:failed", "upscaled:unchanged"],
    ]
    assert "leftover:" in told[3]
    assert {names[-1] for names in told[1:]} == {"batch:"}
    jobs = [
        valid_event(line) for line in dualsr("jobs", tmp_path / "out", "--json")[1].splitlines()
    ]
    assert {event["event"] for event in jobs} == {"job"}
    assert {"done", "failed"} <= {event["state"] for event in jobs}


@pytest.mark.parametrize(
    "name", ['quotes " and \\', "tab\tand\nline", "del\x7f\x9b", "日本 📷", "\udcff"]
)
def test_any_file_name_is_json(
    dualsr: Run, tmp_path: Path, valid_event: ValidEvent, name: str
) -> None:
    file = tmp_path / f"{name}.jpg"
    try:
        file.touch()
    except (OSError, ValueError):
        pytest.skip("no such name on this file system")
    leftover, _ = map(valid_event, dualsr("pairs", tmp_path, "--json")[1].splitlines())
    assert Path(leftover["path"]) == file


def test_nothing_but_an_error_where_a_command_ends_early(dualsr: Run, tmp_path: Path) -> None:
    for words, code in (
        (["pairs", tmp_path / "none"], 1),
        (["upscale", tmp_path / "none", "-o", tmp_path / "c"], 1),
        (["align", tmp_path / "none", "-o", tmp_path / "c"], 1),
        (["upscale", "a.jpg", "b.jpg", "-o", tmp_path / "c.odd"], 2),
    ):
        ended, out, err = dualsr(*words, "--json", "-q")
        assert (ended, out) == (code, "")
        assert err.count("\n") == 1


def test_each_command_with_json_has_its_place_on_the_page() -> None:
    for name, row in commands._SUBCOMMANDS.items():
        source = Path(commands.__file__).parent / f"{row.module.rsplit('.', 1)[1]}.py"
        if "emit_json" in source.read_text(encoding="utf-8"):
            assert re.search(rf"^## .*`dualsr {name}`", PAGE, re.M), name


def test_the_commands_name_the_events_of_the_schema() -> None:
    told = set()
    for file in Path(commands.__file__).parent.glob("*.py"):
        told |= set(re.findall(r'\bevent"?[:=] ?"([^"]*)"', file.read_text(encoding="utf-8")))
    assert told == set(EVENTS)


# --- the page and the schema -------------------------------------------------------------------


def test_the_page_and_the_schema_know_the_same_events() -> None:
    titles = re.findall(r"^### ([a-z]+)$", PAGE, re.M)
    assert sorted(titles) == sorted([*EVENTS, *OBJECTS])
    assert {event["event"] for event in examples()} == set(EVENTS)
    used = [step["then"]["$ref"].rsplit("/", 1)[1] for step in SCHEMA["allOf"]]
    assert used == EVENTS
    assert {step["if"]["properties"]["event"]["const"] for step in SCHEMA["allOf"]} == set(EVENTS)


def test_links_on_the_page_lead_somewhere() -> None:
    titles = {
        title.lower().replace(" ", "-") for title in re.findall(r"^#+ ([\w -]+)$", PAGE, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= titles
    files = re.findall(r"\]\(([^#)]+)\)", PAGE)
    assert files
    assert [name for name in files if not (REPOSITORY / "docs" / name).is_file()] == []


@pytest.mark.parametrize("name", [*EVENTS, *OBJECTS])
def test_the_page_and_the_schema_know_the_same_fields(name: str) -> None:
    known = set(SCHEMA["$defs"][name]["properties"]) - {"event"}
    assert set(fields(name)) == known
    always = {field for field, when in fields(name).items() if when == "always"}
    assert always == set(SCHEMA["$defs"][name]["required"]) - {"event"}


def test_the_page_names_each_choice() -> None:
    for name in EVENTS:
        for field, part in SCHEMA["$defs"][name]["properties"].items():
            row = next((cells for names, cells in rows(name) if field in names), [])
            for choice in part.get("enum", []):
                assert f"`{choice}`" in row[-1], (name, field)


@pytest.mark.parametrize("name", [*EVENTS, *OBJECTS])
def test_the_types_on_the_page_are_the_schemas(name: str) -> None:
    """null exactly where the page says so, and the plain types."""
    words = {"text": "string", "integer": "integer", "number": "number", "object": "object",
             "true or false": "boolean"}  # fmt: skip
    for names, (kind, *_) in rows(name):
        for field in names:
            types = set(_types(SCHEMA["$defs"][name]["properties"][field]))
            assert ("null" in types) == kind.endswith(" or null"), field
            plain = kind.removesuffix(" or null")
            assert types - {"null"} == {words.get(plain, "array")}, field


def _types(part: dict[str, Any]) -> list[str]:
    """Every type that a field may have; a choice's and a reference's too."""
    found = part.get("type", [])
    found = [found] if isinstance(found, str) else list(found)
    found += ["string" for choice in part.get("enum", []) if isinstance(choice, str)]
    for choice in part.get("anyOf", []):
        found += _types(choice)
    if "$ref" in part:
        found += _types(SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[1]])
    return found


@pytest.mark.parametrize("event", examples(), ids=lambda event: event["event"])
def test_each_example_is_valid_and_each_wrong_one_is_not(
    event: Event, valid_event: ValidEvent
) -> None:
    assert valid_event(json.dumps(event)) == event
    assert valid({**event, "a_field_to_come": 1}), "objects may grow"
    with pytest.raises(jsonschema.ValidationError, match="a_field_to_come"):
        valid_event(json.dumps({**event, "a_field_to_come": 1}))
    there = {"always", event.get("state")}
    when = {"event": "always", **fields(event["event"])}
    assert {field for field, time in when.items() if time in there} == set(event)
    for field, value in event.items():
        assert not valid({name: event[name] for name in event if name != field}), field
        wrong = "no object" if isinstance(value, dict) else {"no": "such value"}
        assert not valid({**event, field: wrong}), field


@pytest.mark.parametrize(
    ("name", "part", "wrong"),
    [
        ("upscaled", "fit", {}),
        ("upscaled", "fit", {"inliers": 1.5}),
        ("upscaled", "agreement", {"sharpness": 1}),
        ("upscaled", "seconds", {"read": 1}),
        ("upscaled", "shares", [0.5, 0.5]),
        ("upscaled", "notes", [1]),
        ("upscaled", "width", 0),
        ("upscaled", "refused", "Not a code"),
        ("aligned", "files", [None]),
        ("batch", "done", -1),
        ("batch", "done", True),
        ("failed", "state", "done"),
        ("planned", "action", "redo"),
        ("job", "key", "12"),
        ("job", "inputs", [{"path": "a"}]),
        ("job", "outputs", [{"path": "a", "sha256": None, "size": 1}]),
        ("job", "started", "yesterday"),
        ("job", "started", "2024-05-17T12:00:00"),
        ("job", "started", 1715947200.0),
        ("leftover", "reason", ""),
    ],
)
def test_wrong_values_are_told(name: str, part: str, wrong: object) -> None:
    event = next(event for event in examples() if event["event"] == name)
    assert valid(event)
    assert not valid({**event, part: wrong})


def test_what_is_no_event_is_told() -> None:
    for wrong in ({}, {"event": "dance"}, {"event": None}, [], "pair", None):
        assert not valid(wrong)  # type: ignore[arg-type]


# --- the codes ---------------------------------------------------------------------------------


def codes(title: str) -> set[str]:
    return {name for names, _ in rows(title) for name in names}


def calls(name: str) -> Iterator[ast.Call]:
    """Each call of `name` in the package."""
    for file in Path(dualsr_cli.errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
                yield node


def test_each_reason_to_refuse_a_tele_photo_is_on_the_page() -> None:
    raised = {
        call.args[0].value
        for call in calls("AlignmentError")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    assert raised - {"swapped"} == codes("Why a tele photo is refused")  # swapped: is put right


def test_each_reason_to_leave_a_photo_over_is_on_the_page() -> None:
    source = (REPOSITORY / "dualsr_cli" / "photos" / "pairing.py").read_text(encoding="utf-8")
    (listed,) = re.findall(r'"""A stable code:\n(.*?)"""', source, re.S)
    assert set(re.findall(r"^ {4}([a-z-]+) ", listed, re.M)) == codes("Why a photo is left over")


def test_each_kind_of_error_is_on_the_page() -> None:
    kinds = {
        kind.__name__.removesuffix("Error").lower()
        for kind in dualsr_cli.errors.DualsrError.__subclasses__()
        if kind.__module__ == "dualsr_cli.errors"
    }
    told = codes("Why an item failed")
    assert kinds - {"alignment"} <= told  # alignment has codes of its own
    assert not told & codes("Why a tele photo is refused")
