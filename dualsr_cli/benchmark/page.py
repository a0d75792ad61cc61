"""The report's page: one self-contained HTML file with tables, plots and before/after sliders."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import pairwise
from string import Template
from typing import Any

from dualsr_cli.benchmark._report_lines import (
    COST,
    QUALITY,
    REGION_LABELS,
    Cell,
    Column,
    Line,
    Lines,
    Metric,
    counts_of,
    lines_of,
    notes_of,
    size_rows,
    title_of,
)
from dualsr_cli.benchmark.pictures import TRUTH, WORST, Picture, Pixels
from dualsr_cli.benchmark.results import Efficiency, Table

PICTURE_BYTES = 10_000_000
"""All pictures of a page together, as they stand in it."""

_QUALITY_OF_JPEG = 90


def page(
    title: str,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    sizes: Sequence[Efficiency],
    facts: Mapping[str, str],
) -> str:
    """The page of a `Report`, whose parts these are.

    It asks for nothing from anywhere. Pictures beyond PICTURE_BYTES are left out, the first are
    kept, and the page says how many.
    """
    shown = [lines_of(table) for table in tables]
    kept = _embedded(pictures)
    data = {
        "worst": WORST,
        "metrics": {**_metrics(QUALITY), **_metrics(COST)},
        "regions": REGION_LABELS,
        "methods": list(
            dict.fromkeys(
                entry.method for table in tables for entry in table.measured if not entry.absent
            )
        ),
        "truth": TRUTH,
        "tables": [_payload(table, lines) for table, lines in zip(tables, shown, strict=True)],
        "pictures": kept,
    }
    return Template(_resource("page.html")).substitute(
        title=escape(title),
        lead=_lead(tables),
        tables="\n".join(
            _table(table, lines, number, heading=len(tables) > 1)
            for number, (table, lines) in enumerate(zip(tables, shown, strict=True))
        ),
        pictures=_about(len(kept), len(pictures)),
        sizes=_sizes(sizes),
        facts=_facts(facts),
        # "<" would end the element in "</script>".
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        script=_resource("page.js"),
    )


def _resource(name: str) -> str:
    return resources.files("dualsr_cli.benchmark").joinpath(name).read_text(encoding="utf-8")


def _lead(tables: Sequence[Table]) -> str:
    methods = len({row.method for table in tables for row in table.rows})
    protocols = list(dict.fromkeys(table.protocol for table in tables))
    words = [
        "dualsr bench",
        f"{methods} methods" if methods != 1 else "1 method",
        ", ".join(dict.fromkeys(counts_of(table) for table in tables)),
        f"{'protocol' if len(protocols) == 1 else 'protocols'} {', '.join(protocols)}",
    ]
    return escape(" · ".join(words))


# ---- tables


def _table(table: Table, shown: Lines, number: int, heading: bool) -> str:
    name = f"{title_of(table)}, protocol {table.protocol}"
    how = "Bold is the best of what is measured, underlined the second."
    if any(cell and cell.difference for line in shown.lines for cell in line.cells):
        how += " Under what papers print: what is measured for the same method, less that."
    body = "".join(_row(line, shown.columns) for line in shown.lines)
    notes = "".join(f"<li>{escape(note)}</li>" for note in notes_of(table))
    title = f"<h3>{escape(name)}</h3>" if heading else ""
    return (
        f'<div class="results" data-table="{number}">{title}'
        f'<p class="soft">{escape(counts_of(table))}. {how}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
        f'<table class="sortable">{_head(shown)}<tbody>{body}</tbody></table></div>'
        f'<ul class="notes">{notes}</ul>{_missing(table)}</div>'
    )


def _head(shown: Lines) -> str:
    groups = "".join(
        f'<th class="group" scope="colgroup" colspan="{count}">{label}</th>'
        for label, count in shown.groups
    )
    firsts = _firsts(shown.columns)
    heads = "".join(
        f'<th scope="col"{_class("first" if first else "")} '
        f'data-better="{"high" if column.shown.higher_is_better else "low"}">'
        f"<button>{escape(column.shown.label)}</button>{_unit(column.shown)}</th>"
        for column, first in zip(shown.columns, firsts, strict=True)
    )
    return (
        f'<thead><tr><td></td><td></td>{groups}</tr><tr><th scope="col" class="text">'
        '<button>Method</button></th><th scope="col" class="text"><button>Source</button></th>'
        f"{heads}</tr></thead>"
    )


def _unit(metric: Metric) -> str:
    return f"<small>{metric.unit}</small>" if metric.unit else ""


def _firsts(columns: Sequence[Column]) -> list[bool]:
    """Whether each column begins a group."""
    regions = [None, *(column.region for column in columns)]
    return [one != other for one, other in pairwise(regions)]


def _row(line: Line, columns: Sequence[Column]) -> str:
    cells = "".join(
        _cell(cell, first) for cell, first in zip(line.cells, _firsts(columns), strict=True)
    )
    kind = "" if line.entry.measured else "paper"
    return (
        f'<tr{_class(kind)}><th scope="row" class="text">{escape(line.entry.method)}</th>'
        f'<td class="text">{escape(line.source)}</td>{cells}</tr>'
    )


_RANK_CLASSES = {0: "", 1: "best", 2: "second"}


def _cell(cell: Cell | None, first: bool) -> str:
    place = _class("first" if first else "")
    if cell is None:
        return f"<td{place}>–</td>"
    note = f' title="{escape(cell.note)}"' if cell.note else ""
    text = f"<span{_class(_RANK_CLASSES[cell.rank])}{note}>{cell.text}</span>"
    beside = (
        f'<small title="measured less printed">{cell.difference}</small>' if cell.difference else ""
    )
    return f'<td{place} data-value="{cell.value:.9g}">{text}{beside}</td>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _missing(table: Table) -> str:
    if not table.missing:
        return ""
    rows = "".join(
        f'<tr><th scope="row" class="text">{escape(lack.case)}</th>'
        f"<td>{escape(lack.method or 'all methods')}</td><td>{escape(lack.sentence)}</td></tr>"
        for lack in table.missing
    )
    count = len({lack.case for lack in table.missing})
    words = "1 case is" if count == 1 else f"{count} cases are"
    return (
        f'<details class="missing"><summary>{words} missing</summary><div class="scroll">'
        f'<table class="wrap"><tbody>{rows}</tbody></table></div></details>'
    )


def _sizes(sizes: Sequence[Efficiency]) -> str:
    if not sizes:
        return ""
    header, rows = size_rows(sizes)
    kinds = [_class("text" if at < 4 else "") for at in range(len(header))]
    heads = "".join(
        f'<th scope="col"{kind}><button>{escape(word)}</button></th>'
        for word, kind in zip(header, kinds, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_size_cells(row, size, kinds)) + "</tr>"
        for row, size in zip(rows, sizes, strict=True)
    )
    return (
        '<section aria-labelledby="sizes-title"><h2 id="sizes-title">Time and memory</h2>'
        '<div class="scroll"><table class="sortable"><thead><tr>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _size_cells(row: Sequence[str], size: Efficiency, kinds: Sequence[str]) -> Iterable[str]:
    keys: dict[int, float | None] = {
        3: size.width * size.height,
        4: size.runs,
        5: size.seconds,
        6: size.spread[1] - size.spread[0] if size.spread else None,
        7: size.memory,
        8: size.parameters,
        9: size.operations,
    }
    for at, (text, kind) in enumerate(zip(row, kinds, strict=True)):
        if at == 0:
            yield f'<th scope="row"{kind}>{escape(text)}</th>'
            continue
        key = keys.get(at)
        value = "" if key is None else f' data-value="{key:.9g}"'
        yield f"<td{kind}{value}>{escape(text)}</td>"


def _facts(facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row" class="text">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        '<section aria-labelledby="facts-title"><h2 id="facts-title">Machine and versions</h2>'
        f'<div class="scroll facts"><table class="wrap">{rows}</table></div></section>'
    )


# ---- what plots and pictures are made of


def _metrics(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {
        name: {
            "label": metric.label,
            "unit": metric.unit,
            "high": metric.higher_is_better,
            "digits": metric.digits,
            "factor": metric.factor,
        }
        for name, metric in metrics.items()
    }


def _payload(table: Table, shown: Lines) -> dict[str, Any]:
    """points: each entry, `values` by column; scores: by column and method, a value a case."""
    cases = list(dict.fromkeys(row.case for row in table.rows))
    place = {case: at for at, case in enumerate(cases)}
    methods = [entry.method for entry in table.measured if not entry.absent]
    scores: dict[str, dict[str, list[Any]]] = {
        _key(Column(*column)): {method: [None] * len(cases) for method in methods}
        for column in table.columns
    }
    for row in table.rows:
        for region, metrics in row.scores.items():
            for metric, value in metrics.items():
                scores[_key(Column(region, metric))][row.method][place[row.case]] = _number(value)
    return {
        "name": f"{title_of(table)}, {table.protocol}",
        "part": table.part,
        "scale": table.scale,
        "cases": cases,
        "methods": methods,
        "columns": [[region, metric] for region, metric in table.columns],
        "costs": [column.metric for column in shown.columns if not column.region],
        "points": [
            {
                "method": line.entry.method,
                "source": "" if line.entry.measured else line.source,
                "values": {
                    _key(column): _number(cell.value)
                    for column, cell in zip(shown.columns, line.cells, strict=True)
                    if cell is not None
                },
            }
            for line in shown.lines
        ],
        "scores": scores,
    }


def _key(column: Column) -> str:
    return f"{column.region} {column.metric}".strip()


def _number(value: float) -> float | str:
    """Six digits are enough to look at; JSON has no infinity."""
    return "inf" if math.isinf(value) else float(f"{value:.6g}")


def _embedded(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """The first pictures that fit, with their images as data URIs."""
    kept = []
    left = PICTURE_BYTES
    for picture in pictures:
        images = {name: _data_uri(image) for name, image in picture.images.items()}
        left -= sum(map(len, images.values()))
        if left < 0:
            break
        height, width = next(iter(picture.images.values())).shape[:2]
        kept.append(
            {
                "part": picture.part,
                "scale": picture.scale,
                "case": picture.case,
                "top": picture.top,
                "left": picture.left,
                "width": width,
                "height": height,
                "images": images,
            }
        )
    return kept


def _data_uri(image: Pixels) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=_QUALITY_OF_JPEG, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getbuffer()).decode('ascii')}"


def _about(kept: int, given: int) -> str:
    words = (
        "The window of each case in which the results are farthest from the truth, in JPEG of high "
        "quality; scores are of the whole case."
    )
    if kept < given:
        words += f" {given - kept} of {given} cases are left out, so that the page stays small."
    return words
