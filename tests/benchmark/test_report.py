"""The report's files, as a person, a spreadsheet and a script read them."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualsr_cli.benchmark import notes_of
from dualsr_cli.benchmark.pictures import TRUTH, Picture
from dualsr_cli.benchmark.published import published_figures
from dualsr_cli.benchmark.report import terminal_table, write_report
from dualsr_cli.benchmark.results import Table, efficiency_by_size, tabulate
from dualsr_cli.errors import OutputError

sys.path.append(str(Path(__file__).parent))

from example_tables import PSNR, paper_table, psnr_table, row

FACTS = {"Processor": "two cores", "torch": "2.6"}


@pytest.fixture(scope="module")
def table() -> Table:
    return paper_table()


@pytest.fixture(scope="module")
def written(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "out"
    image = np.zeros((8, 8, 3), np.uint8)
    picture = Picture("", 2, "0000", 0, 0, {"kedusr": image, TRUTH: image})
    paths = write_report(
        folder, [table], [picture], sizes=efficiency_by_size(table.rows), facts=FACTS
    )
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_means_say_what_was_measured_and_what_was_printed(written: Path) -> None:
    rows = read_csv(written / "results.csv")
    found = {
        (row["method"], row["source"], row["region"], row["metric"], row["paper"]): row
        for row in rows
    }
    assert len(found) == len(rows)
    ours = found["kedusr", "measured", "full", "psnr", ""]
    assert float(ours["value"]) == pytest.approx(np.mean(PSNR["kedusr"]))
    assert (ours["count"], ours["expected"]) == ("3", "4")
    assert found["dm3net", "measured", "full", "psnr", ""]["count"] == "2"
    (figure,) = published_figures(
        paper="dm3net",
        table="2",
        method="KeDuSR",
        dataset="dusr-real",
        region="full",
        metric="psnr",
        setting="",
    )
    theirs = found["KeDuSR", "printed", "full", "psnr", "dm3net"]
    assert float(theirs["value"]) == figure.value
    assert (theirs["paper_table"], theirs["count"]) == ("2", "")
    assert float(found["kedusr", "measured", "", "seconds", ""]["value"]) == pytest.approx(2.2)
    assert float(found["kedusr", "measured", "", "parameters", ""]["value"]) == 5_600_000
    assert float(found["KeDuSR", "printed", "", "seconds", "dm3net"]["value"]) == 0.836


def test_each_case_is_a_line(written: Path, table: Table) -> None:
    rows = read_csv(written / "cases.csv")
    assert [(row["method"], row["case"]) for row in rows] == [
        (row.method, row.case) for row in table.rows
    ]
    assert float(rows[0]["full_psnr"]) == PSNR["bicubic"][0]
    assert rows[0]["center_psnr"] == ""


def test_the_json_has_all_of_it(written: Path, table: Table) -> None:
    found = json.loads((written / "results.json").read_text(encoding="utf-8"))
    assert found["format"] == 1
    assert found["facts"] == FACTS
    (one,) = found["tables"]
    assert [one[name] for name in ("dataset", "part", "split", "scale", "protocol")] == [
        "dusr-real",
        "",
        "test",
        2,
        "kedusr",
    ]
    assert one["expected"] == 4
    entries = {(entry["method"], entry["source"]): entry for entry in one["entries"]}
    own = entries["dm3net", "measured"]
    assert own["scores"]["full"]["psnr"] == pytest.approx(28.25)
    assert own["counts"]["full"]["psnr"] == 2
    assert own["missing"] == 2
    assert own["efficiency"]["operations"] == 3e9
    assert own["efficiency"]["quartiles"] == pytest.approx([4.1, 4.3])
    assert {entry["paper"] for entry in one["entries"] if entry["source"] == "printed"} == {
        "dm3net",
        "sddusr",
    }
    assert len(one["cases"]) == len(table.rows)
    assert one["cases"][4]["refused"] == {"code": "featureless", "sentence": "it has no structure"}
    assert [lack["method"] for lack in one["missing"]] == ["dm3net", None]
    assert [(size["method"], size["runs"]) for size in found["sizes"]] == [
        ("bicubic", 3),
        ("kedusr", 3),
        ("dm3net", 2),
    ]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_markdown_puts_paper_and_ours_side_by_side(written: Path) -> None:
    text = (written / "results.md").read_text(encoding="utf-8")
    lines = [cells(line) for line in text.splitlines() if line.startswith("| ")]
    methods = [line[0] for line in lines]
    at = methods.index("kedusr")
    assert methods[at + 1 : at + 3] == ["KeDuSR", "KeDuSR"]
    assert [line[1] for line in lines[at : at + 3]] == [
        "measured",
        "DM3Net, table 2",
        "SDDuSR, table 1",
    ]
    psnr = lines[0].index("Full PSNR")
    assert lines[at][psnr] == "**28.67**"
    assert lines[at + 1][psnr] == "27.18 (+1.49)"
    assert lines[methods.index("bicubic")][psnr] == "*27.00*"
    assert lines[methods.index("dm3net")][psnr] == "28.25", "it lacks a case: no rank"
    assert methods.index("SwinIR") > methods.index("dm3net")
    assert "3 of 4 cases" in text
    assert "dm3net lacks 1 case that others have" in text
    assert "0003 is missing: 0003.png is damaged" in text
    assert "do not measure it alike" in text
    assert "the alignment of the two photos, which is made once for all methods, are not in" in text
    assert "two cores" in text


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ("ttsr", ["The figures of DCSR are by other rules: --protocol dcsr-x4 shows them."]),
        ("dcsr-x4", []),
    ],
)
def test_a_table_names_the_rules_of_figures_that_are_not_in_it(
    protocol: str, told: list[str]
) -> None:
    of = {"dataset": "cufed5", "part": "L1", "scale": 4, "protocol": protocol}
    (table,) = tabulate([replace(row("bicubic", "000", 25), **of)], expected={4: 1})  # type: ignore[arg-type]
    assert bool(table.printed) == (not told)
    assert [note for note in notes_of(table) if "rules" in note] == told


def test_latex_has_as_many_cells_in_each_row(written: Path) -> None:
    text = (written / "results.tex").read_text(encoding="utf-8")
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    rows = re.findall(r"^    (?!\\cmid)(.*&.*) \\\\$", text, re.MULTILINE)
    spans = [sum(map(int, re.findall(r"multicolumn\{(\d+)\}", row))) for row in rows]
    counts = [
        len(row.split(" & ")) + span - row.count("multicolumn")
        for row, span in zip(rows, spans, strict=True)
    ]
    assert set(counts) == {len(columns)}
    assert "\\textbf{28.67}" in text
    assert "\\underline{27.00}" in text
    assert text.count("{") == text.count("}")


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    evil = "a|b*_\\<i>{x}$%&#~^"
    table = psnr_table({evil: [20, 21], "b": [22, math.inf]})
    write_report(tmp_path, [table], facts={evil: evil})
    line = next(
        line
        for line in (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| a")
    )
    assert line.startswith("| a\\|b\\*\\_\\\\\\<i\\>{x}$%&#~^ | measured |")
    tex = (tmp_path / "results.tex").read_text(encoding="utf-8")
    assert (
        "a|b*\\_\\textbackslash{}<i>\\{x\\}\\$\\%\\&\\#\\textasciitilde{}\\textasciicircum{} & "
        "measured"
    ) in tex


def test_equal_images_have_an_infinite_psnr_everywhere(tmp_path: Path) -> None:
    write_report(tmp_path, [psnr_table({"a": [20, math.inf]})])
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["tables"][0]["entries"][0]["scores"]["full"] == {"psnr": None}
    assert read_csv(tmp_path / "results.csv")[0]["value"] == "inf"
    assert "∞" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "$\\infty$" in (tmp_path / "results.tex").read_text(encoding="utf-8")


def test_the_same_gives_the_same_bytes(written: Path, table: Table, tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    picture = Picture("", 2, "0000", 0, 0, {"kedusr": image, TRUTH: image})
    again = write_report(
        tmp_path, [replace(table)], [picture], sizes=efficiency_by_size(table.rows), facts=FACTS
    )
    for path in again:
        assert path.read_bytes() == (written / path.name).read_bytes()


def test_a_report_that_cannot_be_written_says_so(table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_report(tmp_path / "file", [table])


def test_the_terminal_shows_the_best_in_bold(table: Table) -> None:
    header, rows = terminal_table(table)
    assert [word.plain for word in header][:3] == ["Method", "Source", "Full PSNR"]
    best = next(row for row in rows if row[0].plain == "kedusr")[2]
    assert (best.plain, best.style) == ("28.67", "bold")
    assert next(row for row in rows if row[0].plain == "KeDuSR")[2].style == "dim"
    assert {len(row) for row in rows} == {len(header)}


def test_the_json_has_the_fields_that_its_page_says(written: Path, repository: Path) -> None:
    text = (repository / "docs" / "json.md").read_text(encoding="utf-8")
    text = text[text.index("## What `dualsr bench` writes") :]
    told = {
        title: {
            name
            for cell in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
            for name in re.findall(r"`([\w-]+)`", cell)
        }
        for title, part in re.findall(r"^### (.*)\n((?:(?!^##).*\n?)*)", text, re.MULTILINE)
    }
    found = json.loads((written / "results.json").read_text(encoding="utf-8"))
    table = found["tables"][0]
    measured, printed = (
        next(entry for entry in table["entries"] if entry["source"] == source)
        for source in ("measured", "printed")
    )
    assert set(found) == told["The file"]
    assert set(table) == told["A table"]
    assert set(measured) | set(printed) == told["An entry"]
    assert set(table["cases"][0]) == told["A case"]
    assert set(table["missing"][0]) == told["A missing case"]
    assert set(measured["efficiency"]) | set(found["sizes"][0]) == told["Efficiency"]
