"""What the bench finds: a row for each result that was scored, and tables of their means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dualsr_cli.benchmark.protocols import METRICS, REGIONS, Scores
from dualsr_cli.benchmark.published import PAPERS, Figure, published_figures

Place = tuple[str, str, str, int]
"""Data set, part, split, scale."""

_OTHER_PROTOCOLS = {("dcsr", "cufed5"): "dcsr-x4"}
"""By which protocol a paper scores on a data set, where it is not that of `PAPERS`."""


@dataclass(frozen=True)
class Row:
    """The scores of one result: what one method made of one case, by one protocol.

    dataset, part, split, scale, case: the case's own. width, height: of the result, pixels.
    scores: by region and metric; PSNR of equal images is infinite; a region or metric that the
    case does not have is not there. refused: why the reference could not be used, (code,
    sentence), the result was made without it then. device: "cpu", "cuda", ...; precision: of a
    network's arithmetic, "fp32", ...; "" for what is no network.

    Measured, and None where nothing was run (images made elsewhere): seconds: of the method alone,
    without reading, the alignment that all methods share, and scoring. memory: bytes that it took
    at its peak, on a GPU there, beside what was held before (weights, photos); None too where
    several ran at once, or the system does not tell. operations: floating point operations of a
    network, a multiply-add being two: those of convolutions, matrix products and searches for
    matches, each as the product of all its queries and keys.

    image: where the result lies as an 8-bit file, relative to the output folder; None: not saved.
    """

    dataset: str
    part: str
    split: str
    scale: int
    case: str
    method: str
    protocol: str
    width: int
    height: int
    scores: Scores
    refused: tuple[str, str] | None = None
    device: str = ""
    precision: str = ""
    seconds: float | None = None
    memory: int | None = None
    operations: int | None = None
    image: str | None = None


@dataclass(frozen=True)
class Missing:
    """A case that is not scored, for every method and protocol or for one, and why.

    code: a stable word; sentence: for people; method, protocol: "" for all of them.
    """

    case: str
    code: str
    sentence: str
    method: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class Efficiency:
    """What a method takes, over the cases that it was run on.

    parameters: numbers that its weights hold, None where it has none. seconds: the median, and the
    quartiles around it (`spread`); memory: bytes, the largest of the peaks; operations: the median;
    width, height: of the results where all have one size, else 0. None is what was not measured.
    """

    method: str
    device: str
    precision: str
    runs: int
    width: int
    height: int
    parameters: int | None
    operations: float | None
    seconds: float | None
    spread: tuple[float, float] | None
    memory: int | None


@dataclass(frozen=True)
class Entry:
    """One line of a table: the means of a method's scores, measured here or printed in a paper.

    scores: means by region and metric. counts: of how many cases each is the mean; empty for what
    is printed. missing: how many cases of those that there should be are not scored. refused: in
    how many the reference could not be used. paper: the key in `PAPERS` of who printed it and
    table: where; "" for what is measured. figures: what is printed, costs included.

    place: dataset, part, split and scale of an ablation's row, which are compared with those of the
    same place alone; None: the table's. absent: why such a row has no scores, a sentence.
    """

    method: str
    scores: Scores
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    missing: int = 0
    refused: int = 0
    efficiency: Efficiency | None = None
    paper: str = ""
    table: str = ""
    figures: tuple[Figure, ...] = ()
    place: Place | None = None
    absent: str = ""

    @property
    def measured(self) -> bool:
        return not self.paper


@dataclass(frozen=True)
class Planned:
    """A row of an ablation as it is to be scored.

    method: what it is called. place, absent: as of `Entry`. expected: how many cases it should
    have. figures: what the paper prints of it.
    """

    method: str
    place: Place
    expected: int
    absent: str = ""
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Table:
    """All methods on one part and split of a data set, at one scale and by one protocol.

    measured: in the order of methods; printed: what papers print of the same, by that protocol,
    in the order of papers. rows: what the measured means are of. missing: cases without a score,
    and why. expected: how many cases there should be.

    title: of an ablation, whose rows may be of several places: dataset, part and scale are "" or 0
    where they differ then, and `expected` is the most of any row.
    """

    dataset: str
    part: str
    split: str
    scale: int
    protocol: str
    measured: tuple[Entry, ...]
    printed: tuple[Entry, ...]
    rows: tuple[Row, ...]
    missing: tuple[Missing, ...]
    expected: int
    title: str = ""

    @property
    def place(self) -> Place:
        return self.dataset, self.part, self.split, self.scale

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.measured + self.printed

    def least_missing(self, entry: Entry) -> int:
        """How many cases all measured entries lack that this one is compared with."""
        alike = [one for one in self.measured if one.place == entry.place and not one.absent]
        return min(one.missing for one in alike)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The regions and metrics that any entry has, in their order."""
        return [
            (region, metric)
            for region in REGIONS
            for metric in (*METRICS, "lpips-vgg")
            if any(metric in entry.scores.get(region, {}) for entry in self.entries)
        ]


def tabulate(
    rows: Sequence[Row],
    *,
    expected: Mapping[int, int],
    missing: Sequence[Missing] = (),
    parameters: Mapping[str, int | None] | None = None,
    metrics: Collection[str] = METRICS,
) -> list[Table]:
    """A table for each data set, part, split, scale and protocol of the rows, in their order.

    expected: how many cases each method should have scored, by scale. parameters: of the methods.
    metrics: those of the rows; what papers print of others is left out.
    """
    tables = []
    for place in dict.fromkeys(map(_place, rows)):
        own = tuple(row for row in rows if _place(row) == place)
        dataset, part, split, scale, protocol = place
        methods = dict.fromkeys(row.method for row in own)
        tables.append(
            Table(
                *place,
                tuple(
                    _entry(
                        [row for row in own if row.method == method],
                        expected[scale],
                        (parameters or {}).get(method),
                    )
                    for method in methods
                ),
                printed(dataset, part, split, scale, protocol, metrics),
                own,
                tuple(lack for lack in missing if lack.protocol in ("", protocol)),
                expected[scale],
            )
        )
    return tables


def tabulate_ablation(
    title: str,
    place: Place,
    protocols: Sequence[str],
    planned: Sequence[Planned],
    rows: Sequence[Row],
    *,
    missing: Sequence[Missing] = (),
    parameters: Mapping[str, int | None] | None = None,
    metrics: Collection[str] = METRICS,
) -> list[Table]:
    """One table for each protocol, with all rows of the ablation in their order.

    place: dataset, part, split and scale of the table. metrics: as of `tabulate`.
    """
    tables = []
    for protocol in protocols:
        own = tuple(row for row in rows if row.protocol == protocol)
        measured = []
        for plan in planned:
            found = [row for row in own if row.method == plan.method]
            if found:
                entry = _entry(found, plan.expected, (parameters or {}).get(plan.method))
            else:
                entry = Entry(plan.method, {}, missing=plan.expected)
            measured.append(replace(entry, place=plan.place, absent=plan.absent))
        beside = [
            replace(printed, place=plan.place)
            for plan in planned
            for printed in _printed(
                [
                    figure
                    for figure in plan.figures
                    if protocol_of(figure) == protocol and _is_of(figure, metrics)
                ],
                plan.method,
            )
        ]
        tables.append(
            Table(
                *place,
                protocol,
                tuple(measured),
                tuple(beside),
                own,
                tuple(lack for lack in missing if lack.protocol in ("", protocol)),
                max((plan.expected for plan in planned), default=0),
                title,
            )
        )
    return tables


def efficiency(rows: Sequence[Row], parameters: int | None = None) -> Efficiency:
    """What one method took on one device, over all sizes; each case counts once."""
    once = list({row.case: row for row in rows}.values())
    first = once[0]
    sizes = {(row.width, row.height) for row in once}
    width, height = sizes.pop() if len(sizes) == 1 else (0, 0)
    seconds = sorted(row.seconds for row in once if row.seconds is not None)
    memory = [row.memory for row in once if row.memory is not None]
    operations = [row.operations for row in once if row.operations is not None]
    return Efficiency(
        first.method,
        first.device,
        first.precision,
        len(seconds),
        width,
        height,
        parameters,
        statistics.median(operations) if operations else None,
        statistics.median(seconds) if seconds else None,
        _quartiles(seconds) if seconds else None,
        max(memory, default=None),
    )


def efficiency_by_size(
    rows: Sequence[Row], parameters: Mapping[str, int | None] | None = None
) -> list[Efficiency]:
    """What each method took, apart for each device, precision and size of the result."""
    groups = _grouped(
        [row for row in rows if row.seconds is not None],
        lambda row: (row.method, row.device, row.precision, row.width, row.height),
    )
    return [efficiency(group, (parameters or {}).get(group[0].method)) for group in groups]


def printed(
    dataset: str,
    part: str,
    split: str,
    scale: int,
    protocol: str,
    metrics: Collection[str] = METRICS,
) -> tuple[Entry, ...]:
    """What papers print in their main comparisons, as far as they score by that protocol."""
    figures = [
        figure
        for figure in _compared((dataset, part, split, scale))
        if protocol_of(figure) == protocol and _is_of(figure, metrics)
    ]
    return tuple(entry for entry in _printed(figures) if entry.scores)


def other_protocols(place: Place, protocol: str) -> dict[str, list[str]]:
    """By which others papers score at a place in their main comparisons, and which papers."""
    found: dict[str, list[str]] = {}
    for figure in _compared(place):
        papers = found.setdefault(protocol_of(figure), [])
        if figure.region and figure.paper not in papers:
            papers.append(figure.paper)
    return {name: papers for name, papers in found.items() if papers and name != protocol}


def _compared(place: Place) -> list[Figure]:
    """The figures of papers' main comparisons."""
    dataset, part, split, scale = place
    if split != "test":
        return []
    figures = published_figures(dataset=dataset, part=part, setting="")
    # A frame that is interpolated is of no scale.
    return [figure for figure in figures if figure.scale in (None, scale)]


def _is_of(figure: Figure, metrics: Collection[str]) -> bool:
    """Whether it is a score by one of the metrics, or no score at all."""
    return not figure.region or figure.metric in metrics


def protocol_of(figure: Figure) -> str:
    """The protocol that a printed figure was scored by."""
    return protocol_by(figure.paper, figure.dataset)


def protocol_by(paper: str, dataset: str) -> str:
    """The protocol by which a paper scores on a data set."""
    return _OTHER_PROTOCOLS.get((paper, dataset), PAPERS[paper])


def _place(row: Row) -> tuple[str, str, str, int, str]:
    return row.dataset, row.part, row.split, row.scale, row.protocol


def _entry(rows: Sequence[Row], expected: int, parameters: int | None) -> Entry:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for region, metrics in row.scores.items():
            for metric, value in metrics.items():
                found.setdefault((region, metric), []).append(value)
    return Entry(
        rows[0].method,
        _nested({place: math.fsum(values) / len(values) for place, values in found.items()}),
        _nested({place: len(values) for place, values in found.items()}),
        max(0, expected - len(rows)),
        sum(row.refused is not None for row in rows),
        efficiency(rows, parameters),
    )


def _printed(figures: Sequence[Figure], method: str = "") -> list[Entry]:
    """An entry for each table and method of papers; method: what to call it instead."""
    groups = _grouped(figures, lambda figure: (figure.paper, figure.table, figure.method))
    return [
        Entry(
            method or group[0].method,
            _nested({(f.region, f.metric): f.value for f in group if f.region}),
            paper=group[0].paper,
            table=group[0].table,
            figures=tuple(group),
        )
        for group in groups
    ]


def _nested(values: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (region, metric), value in values.items():
        nested.setdefault(region, {})[metric] = value
    return nested


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    if len(ordered) == 1:
        return ordered[0], ordered[0]
    low, _, high = statistics.quantiles(ordered, method="inclusive")
    return low, high


def _grouped(values: Sequence[Any], key: Callable[[Any], Any]) -> list[list[Any]]:
    """Values that share a key together, in the order in which keys come."""
    groups: dict[Any, list[Any]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return list(groups.values())
