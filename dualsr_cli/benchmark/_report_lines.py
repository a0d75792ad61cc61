"""The lines of a table as they are shown: what each cell says, and which is the best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from dualsr_cli.benchmark.pictures import HIGHER_IS_BETTER
from dualsr_cli.benchmark.published import Figure
from dualsr_cli.benchmark.results import Efficiency, Entry, Place, Table, other_protocols
from dualsr_cli.networks import ARCHITECTURES


@dataclass(frozen=True)
class Metric:
    """How a number is shown: `factor` times it, with `digits` behind the point, in `unit`.

    digits None: three digits that count.
    """

    label: str
    unit: str
    higher_is_better: bool
    digits: int | None = None
    factor: float = 1.0

    def text(self, value: float) -> str:
        if math.isinf(value):
            return "∞"
        shown = value * self.factor
        digits = self.digits
        if digits is None:
            digits = max(0, 2 - math.floor(math.log10(shown))) if shown > 0 else 0
        return f"{shown:.{digits}f}".replace("-", "−")


QUALITY = {
    "psnr": Metric("PSNR", "dB", HIGHER_IS_BETTER["psnr"], 2),
    "ssim": Metric("SSIM", "", HIGHER_IS_BETTER["ssim"], 4),
    "lpips": Metric("LPIPS", "", HIGHER_IS_BETTER["lpips"], 3),
    "lpips-vgg": Metric("LPIPS (VGG)", "", HIGHER_IS_BETTER["lpips-vgg"], 3),
}
COST = {
    "seconds": Metric("Time", "s", False),
    "memory": Metric("Memory", "GB", False, 2, 1e-9),
    "parameters": Metric("Parameters", "M", False, factor=1e-6),
    "operations": Metric("Operations", "GFLOP", False, factor=1e-9),
}
REGION_LABELS = {"full": "Full", "center": "Center", "corner": "Corner", "": "Cost"}

_PRINTED_COST = {
    ("time", "s"): ("seconds", 1.0),
    ("memory", "GB"): ("memory", 1e9),
    ("memory", "MB"): ("memory", 1e6),
    ("parameters", "M"): ("parameters", 1e6),
    ("flops", "GFLOP"): ("operations", 1e9),
}


@dataclass(frozen=True)
class Column:
    """region: "" for what a method takes, whose `metric` is of COST."""

    region: str
    metric: str

    @property
    def shown(self) -> Metric:
        return QUALITY[self.metric] if self.region else COST[self.metric]


@dataclass(frozen=True)
class Cell:
    """value: in the units of `Entry`. rank: 1 for the best of what is measured, 2 for the second.

    difference: of a printed score, what is measured for the same method less what is printed.
    note: what is odd about it.
    """

    value: float
    text: str
    rank: int = 0
    difference: str = ""
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One entry; source: "measured", or the paper and its table."""

    entry: Entry
    source: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Lines:
    """A table as it is shown: what is measured, each followed by what papers print of it; then
    what they print of methods that are not measured."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The label of each group of columns, and how many there are of it."""
        regions = [column.region for column in self.columns]
        return [(REGION_LABELS[region], regions.count(region)) for region in dict.fromkeys(regions)]


def lines_of(table: Table) -> Lines:
    values = {id(entry): _values(entry, table) for entry in table.entries}
    scores = [Column(region, metric) for region, metric in table.columns]
    costs = [Column("", metric) for metric in COST]
    columns = tuple(
        column for column in [*scores, *costs] if any(column in found for found in values.values())
    )
    ranks = [_ranks(column, table) for column in columns]
    lines = []
    for entry in _side_by_side(table):
        found = values[id(entry)]
        own = _namesake(entry, table.measured) if not entry.measured else None
        cells = []
        for column, rank in zip(columns, ranks, strict=True):
            cell = found.get(column)
            if cell is not None and entry.measured:
                cell = Cell(cell.value, cell.text, rank.get(entry.method, 0), note=cell.note)
            elif cell is not None and own is not None and column in values[id(own)]:
                cell = _compared(cell, values[id(own)][column], column)
            cells.append(cell)
        lines.append(Line(entry, source_of(entry), tuple(cells)))
    return Lines(columns, tuple(lines))


def source_of(entry: Entry) -> str:
    """ "measured", "not trained", or who printed it where, as "DM3Net, table 2"."""
    if entry.absent:
        return "not trained"
    if entry.measured:
        return "measured"
    place = entry.table if entry.table.startswith("text") else f"table {entry.table}"
    return f"{ARCHITECTURES[entry.paper].title}, {place}"


def title_of(table: Table) -> str:
    """What it is of, as "dusr-real, test, 2×"; the protocol is not in it."""
    if table.title:
        return table.title
    words = [table.dataset, table.part, table.split if table.split != "all" else ""]
    return ", ".join([*filter(None, words), f"{table.scale}×"])


def counts_of(table: Table) -> str:
    """How many cases are scored, of how many; for each row where they are not of one place."""
    if len({entry.place for entry in table.measured}) > 1:
        return _counts_of_rows(table)
    cases = len({row.case for row in table.rows})
    if cases >= table.expected:
        return f"{cases} {_cases(cases)}"
    return f"{cases} of {table.expected} cases"


def _counts_of_rows(table: Table) -> str:
    counts = Counter(row.method for row in table.rows)
    there = [entry for entry in table.measured if not entry.absent]
    found = sorted({counts[entry.method] for entry in there}) or [0]
    text = f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"
    missing = sum(entry.missing for entry in there)
    return f"{text} {_cases(found[-1])} a row" + (f", {missing} missing" if missing else "")


def notes_of(table: Table) -> list[str]:
    """What a reader must know of the numbers, as sentences."""
    notes = []
    if table.printed:
        notes.append(
            "What is not measured is as printed in its paper, of all the cases that it had; "
            "times there are of the papers' own machines."
        )
        notes += _disagreements(table)
    if not table.title:
        for protocol, papers in other_protocols(table.place, table.protocol).items():
            names = " and ".join(ARCHITECTURES[paper].title for paper in papers)
            notes.append(
                f"The figures of {names} are by other rules: --protocol {protocol} shows them."
            )
    for entry in table.measured:
        if entry.absent:
            notes.append(entry.absent)
            continue
        if more := entry.missing - table.least_missing(entry):
            notes.append(
                f"{entry.method} lacks {more} {_cases(more)} that others have: its means are of "
                "the rest, and it has no rank."
            )
        if entry.refused:
            notes.append(
                f"{entry.method} could not use the reference in {entry.refused} "
                f"{_cases(entry.refused)}."
            )
    if any(entry.efficiency and entry.efficiency.seconds for entry in table.measured):
        notes.append(
            "Time is each method's own: reading, scoring and the alignment of the two photos, "
            "which is made once for all methods, are not in it."
        )
    if any(entry.efficiency and entry.efficiency.operations for entry in table.measured):
        notes.append(
            "Operations are those of convolutions, matrix products and searches for matches, each "
            "as the product of all its queries and keys; a multiply-add is two."
        )
    return notes


def _cases(count: int) -> str:
    return "case" if count == 1 else "cases"


def _disagreements(table: Table) -> list[str]:
    """Where two papers print the same PSNR and SSIM of a method, but not the same LPIPS."""
    notes = []
    for one, other in combinations(table.printed, 2):
        first, second = (entry.scores.get("full", {}) for entry in (one, other))
        alike = one.method == other.method and all(
            first.get(metric) == second.get(metric) is not None for metric in ("psnr", "ssim")
        )
        if alike and first.get("lpips", 0) != second.get("lpips", 0):
            notes.append(
                f"Of the same {one.method}, {source_of(one)} has {first.get('lpips', 0):.3f} as "
                f"LPIPS and {source_of(other)} {second.get('lpips', 0):.3f}: they do not measure "
                "it alike."
            )
    return notes


def size_rows(sizes: Sequence[Efficiency]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what each method takes, by device and size."""
    header = [
        "Method",
        "Device",
        "Precision",
        "Result",
        "Runs",
        "Time (s)",
        "Quartiles (s)",
        "Memory (GB)",
        "Parameters (M)",
        "Operations (GFLOP)",
    ]
    rows = []
    for size in sizes:
        low_high = " to ".join(_quartiles(size))
        rows.append(
            [
                size.method,
                size.device or "–",
                size.precision or "–",
                f"{size.width} × {size.height}" if size.width else "several",
                str(size.runs),
                _cost_text("seconds", size.seconds),
                low_high or "–",
                _cost_text("memory", size.memory),
                _cost_text("parameters", size.parameters),
                _cost_text("operations", size.operations),
            ]
        )
    return header, rows


def _cost_text(metric: str, value: float | None) -> str:
    return "–" if value is None else COST[metric].text(value)


def _values(entry: Entry, table: Table) -> Mapping[Column, Cell]:
    return _measured(entry, table) if entry.measured else _printed(entry)


def _measured(entry: Entry, table: Table) -> dict[Column, Cell]:
    cells = {}
    for region, metric in table.columns:
        value = entry.scores.get(region, {}).get(metric)
        if value is None:
            continue
        count = entry.counts.get(region, {}).get(metric, 0)
        most = _most(table, entry.place, region, metric)
        note = f"of {count} of {most} cases" if count < most else ""
        cells[Column(region, metric)] = Cell(value, QUALITY[metric].text(value), note=note)
    for metric in COST:
        cost = getattr(entry.efficiency, metric, None)
        if cost is not None:
            cells[Column("", metric)] = Cell(
                cost, COST[metric].text(cost), note=_spread(entry, metric)
            )
    return cells


def _spread(entry: Entry, metric: str) -> str:
    if metric != "seconds" or entry.efficiency is None:
        return ""
    quartiles = " and ".join(_quartiles(entry.efficiency))
    return f"median of {entry.efficiency.runs}, quartiles {quartiles} s" if quartiles else ""


def _quartiles(size: Efficiency) -> list[str]:
    """None of a single run."""
    if size.spread is None or size.runs < 2:
        return []
    return [COST["seconds"].text(value) for value in size.spread]


def _most(table: Table, place: Place | None, region: str, metric: str) -> int:
    counts = (
        entry.counts.get(region, {}).get(metric, 0)
        for entry in table.measured
        if entry.place == place
    )
    return max(counts, default=0)


def _printed(entry: Entry) -> dict[Column, Cell]:
    """Its figures with the digits that the paper gives them, and what it prints of its costs."""
    cells = {}
    for figure in entry.figures:
        column, value = _place(figure)
        if column is not None:
            cells[column] = Cell(value, figure.printed, note=figure.note)
    return cells


def _place(figure: Figure) -> tuple[Column | None, float]:
    if figure.region:
        return Column(figure.region, figure.metric), figure.value
    metric, factor = _PRINTED_COST.get((figure.metric, figure.unit), ("", 0.0))
    return (Column("", metric) if metric else None), figure.value * factor


def _ranks(column: Column, table: Table) -> dict[str, int]:
    """The rank of the best two methods, of those measured on all the cases that any is."""
    if not column.region:
        return {}
    region, metric = column.region, column.metric
    ranks: dict[str, int] = {}
    for place in dict.fromkeys(entry.place for entry in table.measured):
        most = _most(table, place, region, metric)
        values = {
            entry.method: entry.scores[region][metric]
            for entry in table.measured
            if entry.place == place and entry.counts.get(region, {}).get(metric, 0) == most > 0
        }
        ranks |= _ranked(values, column)
    return ranks


def _ranked(values: Mapping[str, float], column: Column) -> dict[str, int]:
    if len(values) < 2:
        return {}
    texts = {method: column.shown.text(value) for method, value in values.items()}
    order = sorted(values, key=values.__getitem__, reverse=column.shown.higher_is_better)
    places = list(dict.fromkeys(texts[method] for method in order))  # what looks alike ties
    return {
        method: places.index(text) + 1 for method, text in texts.items() if places.index(text) < 2
    }


def _compared(printed: Cell, measured: Cell, column: Column) -> Cell:
    if not column.region or math.isinf(measured.value):
        return printed
    digits = len(printed.text.partition(".")[2])
    rounded = round(measured.value - printed.value, digits)
    difference = f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"
    return Cell(printed.value, printed.text, difference=difference, note=printed.note)


def _side_by_side(table: Table) -> list[Entry]:
    beside = {
        entry.method: [other for other in table.printed if _same(entry, other)]
        for entry in table.measured
    }
    paired = {id(entry) for entry in chain.from_iterable(beside.values())}
    together = [entry for own in table.measured for entry in (own, *beside[own.method])]
    return together + [entry for entry in table.printed if id(entry) not in paired]


def _namesake(entry: Entry, others: Sequence[Entry]) -> Entry | None:
    return next((other for other in others if _same(entry, other)), None)


def _same(one: Entry, other: Entry) -> bool:
    """Whether both are one method: ours has the paper's name in lower case."""
    return one.method.casefold() == other.method.casefold()
