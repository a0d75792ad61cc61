"""The report of a run of the bench: CSV, JSON, Markdown and LaTeX tables, and a page to look at."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from dualsr_cli.benchmark._report_lines import (
    REGION_LABELS,
    Cell,
    Column,
    Line,
    Lines,
    counts_of,
    lines_of,
    notes_of,
    size_rows,
    title_of,
)
from dualsr_cli.benchmark.page import page
from dualsr_cli.benchmark.pictures import Picture
from dualsr_cli.benchmark.results import Efficiency, Row, Table
from dualsr_cli.files import atomic_writer
from dualsr_cli.plain import json_types

FORMAT = 1
"""Of results.json, in its field "format": a change that would break its readers raises it."""


@dataclass(frozen=True)
class Report:
    """What a report is made of.

    tables: one for each protocol, or part, at least one. pictures: what the page shows, the most
    telling first; it leaves out what would make it too large. sizes: what methods take by device
    and size. facts: of the machine, the versions and the run, by name, in order.
    """

    tables: Sequence[Table]
    pictures: Sequence[Picture] = ()
    sizes: Sequence[Efficiency] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return "; ".join(dict.fromkeys(title_of(table) for table in self.tables))


def write_report(
    folder: Path,
    tables: Sequence[Table],
    pictures: Sequence[Picture] = (),
    *,
    sizes: Sequence[Efficiency] = (),
    facts: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write results.csv, cases.csv, results.json, results.md, results.tex and index.html.

    What they are made of is in `Report`; the same gives the same bytes. Each file is there whole or
    as it was. Returns their paths. Raises ValueError for no table, OutputError for what cannot be
    written.
    """
    if not tables:
        raise ValueError("a report is of at least one table")
    report = Report(tables, pictures, sizes, facts or {})
    written = []
    for name, make in _FILES.items():
        with atomic_writer(folder / name) as file:
            file.write(make(report).encode("utf-8", "backslashreplace"))
        written.append(folder / name)
    return written


def terminal_table(table: Table) -> tuple[list[Text], list[list[Text]]]:
    """Header and rows for rich's Table: the best in bold, the second underlined, papers' dim.

    The columns after the first two are numbers.
    """
    shown = lines_of(table)
    header = ["Method", "Source", *(_heading(column, shown) for column in shown.columns)]
    rows = []
    for line in shown.lines:
        style = "" if line.entry.measured else "dim"
        numbers = [
            Text(cell.text, _RANK_STYLES[cell.rank] or style) if cell else Text("–", style)
            for cell in line.cells
        ]
        rows.append([Text(line.entry.method, style), Text(line.source, style), *numbers])
    return [Text(word) for word in header], rows


_RANK_STYLES = {0: "", 1: "bold", 2: "underline"}


def _heading(column: Column, shown: Lines) -> str:
    """On one line: the metric, with its region where there are several; of a cost, the unit."""
    metric = column.shown
    if not column.region:
        return f"{metric.label} ({metric.unit})"
    several = len({other.region for other in shown.columns if other.region}) > 1
    return f"{REGION_LABELS[column.region]} {metric.label}" if several else metric.label


# ---- CSV


def means_csv(report: Report) -> str:
    """One line for each number: what was measured, and what is printed in papers."""
    rows = []
    for table in report.tables:
        shown = lines_of(table)
        for line in shown.lines:
            entry = line.entry
            for column, cell in zip(shown.columns, line.cells, strict=True):
                if cell is None:
                    continue
                count = entry.counts.get(column.region, {}).get(column.metric)
                if entry.measured and not column.region and entry.efficiency:
                    count = entry.efficiency.runs
                place = entry.place or table.place
                rows.append(
                    {
                        **dict(zip(_PLACE, place, strict=True)),
                        "protocol": table.protocol,
                        "method": entry.method,
                        "source": "measured" if entry.measured else "printed",
                        "paper": entry.paper,
                        "paper_table": entry.table,
                        "region": column.region,
                        "metric": column.metric,
                        "value": cell.value,
                        "count": count,
                        "expected": table.expected if entry.measured else None,
                    }
                )
    return _csv(rows)


def cases_csv(report: Report) -> str:
    """One line for each result, its scores in columns like full_psnr."""
    columns = dict.fromkeys(column for table in report.tables for column in table.columns)
    rows = []
    for table in report.tables:
        for row in table.rows:
            scores = {
                f"{region}_{metric}": row.scores.get(region, {}).get(metric)
                for region, metric in columns
            }
            rows.append({**_place(row), **_case(row), **scores})
    return _csv(rows)


_PLACE = "dataset", "part", "split", "scale"


def _place(of: Table | Row) -> dict[str, Any]:
    return {name: getattr(of, name) for name in (*_PLACE, "protocol")}


def _case(row: Row) -> dict[str, Any]:
    return {
        "method": row.method,
        "case": row.case,
        "width": row.width,
        "height": row.height,
        "device": row.device,
        "precision": row.precision,
        "seconds": row.seconds,
        "memory": row.memory,
        "operations": row.operations,
        "refused": row.refused[0] if row.refused else None,
        "image": row.image,
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# ---- JSON


def results_json(report: Report) -> str:
    """docs/json.md tells its fields."""
    content = {
        "format": FORMAT,
        "title": report.title,
        "facts": dict(report.facts),
        "tables": [
            {
                **_place(table),
                "title": title_of(table),
                "expected": table.expected,
                "entries": [_entry(line, table) for line in lines_of(table).lines],
                "cases": [
                    {
                        **_place(row),
                        **_case(row),
                        "refused": dict(zip(("code", "sentence"), row.refused, strict=True))
                        if row.refused
                        else None,
                        "scores": row.scores,
                    }
                    for row in table.rows
                ],
                "missing": [
                    {
                        "case": lack.case,
                        "method": lack.method or None,
                        "code": lack.code,
                        "sentence": lack.sentence,
                    }
                    for lack in table.missing
                ],
            }
            for table in report.tables
        ],
        "sizes": [
            {"method": size.method, **_efficiency(size), "width": size.width, "height": size.height}
            for size in report.sizes
        ],
    }
    return json.dumps(json_types(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(line: Line, table: Table) -> dict[str, Any]:
    entry = line.entry
    common = {
        "method": entry.method,
        "source": "measured" if entry.measured else "printed",
        "scores": entry.scores,
    }
    if not entry.measured:
        return {**common, "paper": entry.paper, "paper_table": entry.table}
    return {
        **common,
        "counts": entry.counts,
        "missing": entry.missing,
        "refused": entry.refused,
        "absent": entry.absent or None,
        "efficiency": _efficiency(entry.efficiency) if entry.efficiency else None,
    }


def _efficiency(size: Efficiency) -> dict[str, Any]:
    return {
        "device": size.device,
        "precision": size.precision,
        "runs": size.runs,
        "seconds": size.seconds,
        "quartiles": size.spread,
        "memory": size.memory,
        "parameters": size.parameters,
        "operations": size.operations,
    }


# ---- Markdown


def results_md(report: Report) -> str:
    """Tables as GitHub shows them: the best in bold, the second in italics."""
    parts = [f"# {_md(report.title)}"]
    for table in report.tables:
        shown = lines_of(table)
        header = ["Method", "Source", *(_heading(column, shown) for column in shown.columns)]
        rows = [
            [
                _md(line.entry.method),
                _md(line.source),
                *(_md_cell(cell) for cell in line.cells),
            ]
            for line in shown.lines
        ]
        parts += [
            f"## {_md(title_of(table))}, protocol {table.protocol}",
            f"{counts_of(table)}.",
            _md_table(header, rows, left=2),
            *(f"- {_md(note)}" for note in notes_of(table)),
        ]
        parts += [f"- {_md(lack)}" for lack in missing_lines(table)]
    if report.sizes:
        header, sizes = size_rows(report.sizes)
        rows = [[_md(word) for word in row] for row in sizes]
        parts += ["## Time and memory", _md_table(header, rows, left=4)]
    if report.facts:
        facts = [[_md(name), _md(value)] for name, value in report.facts.items()]
        parts += ["## Machine and versions", _md_table(["", ""], facts, left=2)]
    text = "\n\n".join(parts)
    return re.sub(r"(?m)^(- .*)\n\n(?=- )", r"\1\n", text) + "\n"


def missing_lines(table: Table) -> list[str]:
    """A line for each case that is not scored."""
    return [
        f"{lack.case}{f' ({lack.method})' if lack.method else ''} is missing: {lack.sentence}"
        for lack in table.missing
    ]


def _md_cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = cell.text + (f" ({cell.difference})" if cell.difference else "")
    return {0: text, 1: f"**{text}**", 2: f"*{text}*"}[cell.rank]


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    rule = ["---" if at < left else "---:" for at in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def _md(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", _one_line(text))


# ---- LaTeX


def results_tex(report: Report) -> str:
    """A table* environment for each table: the best in bold, the second underlined."""
    parts = ["% Needs \\usepackage{booktabs}."]
    for number, table in enumerate(report.tables, 1):
        shown = lines_of(table)
        parts.append(_tex_table(table, shown, number))
    return "\n\n".join(parts) + "\n"


def _tex_table(table: Table, shown: Lines, number: int) -> str:
    groups, rules, at = ["", ""], [], 3
    for label, count in shown.groups:
        groups.append(f"\\multicolumn{{{count}}}{{c}}{{{label}}}")
        rules.append(f"\\cmidrule(lr){{{at}-{at + count - 1}}}")
        at += count
    heads = ["Method", "Source", *(_tex_heading(column) for column in shown.columns)]
    body = []
    for line in shown.lines:
        cells = [_tex_cell(cell) for cell in line.cells]
        body.append([_tex(line.entry.method), _tex(line.source), *cells])
    caption = f"{title_of(table)}, protocol {table.protocol}, {counts_of(table)}."
    return "\n".join(
        [
            "\\begin{table*}",
            "  \\centering",
            f"  \\caption{{{_tex(' '.join([caption, *notes_of(table)]))}}}",
            f"  \\label{{tab:dualsr-{number}}}",
            f"  \\begin{{tabular}}{{ll{'r' * len(shown.columns)}}}",
            "    \\toprule",
            f"    {' & '.join(groups)} \\\\",
            f"    {' '.join(rules)}",
            f"    {' & '.join(heads)} \\\\",
            "    \\midrule",
            *(f"    {' & '.join(row)} \\\\" for row in body),
            "    \\bottomrule",
            "  \\end{tabular}",
            "\\end{table*}",
        ]
    )


def _tex_heading(column: Column) -> str:
    metric = column.shown
    if not column.region:
        return _tex(f"{metric.label} ({metric.unit})")
    arrow = "\\uparrow" if metric.higher_is_better else "\\downarrow"
    return f"{_tex(metric.label)}${arrow}$"


def _tex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    text = _tex(cell.text)
    return {0: text, 1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}[cell.rank]


_TEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "×": "$\\times$",
    "−": "$-$",
    "–": "--",
    "∞": "$\\infty$",
    **{character: f"\\{character}" for character in "&%$#_"},
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


_FILES: dict[str, Callable[[Report], str]] = {
    "results.csv": means_csv,
    "cases.csv": cases_csv,
    "results.json": results_json,
    "results.md": results_md,
    "results.tex": results_tex,
    "index.html": lambda report: page(
        report.title, report.tables, report.pictures, report.sizes, report.facts
    ),
}
