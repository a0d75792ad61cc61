"""A plan of the bench -> scores: each result made once, scored, kept; killed, it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dualsr_cli import jobs
from dualsr_cli.benchmark._recent import Recent
from dualsr_cli.benchmark.layouts import Box, Sample, load
from dualsr_cli.benchmark.machine_facts import machine_facts
from dualsr_cli.benchmark.methods import (
    Alignment,
    Made,
    Resources,
    align_sample,
    restorer_of,
    run_method,
    take_map,
)
from dualsr_cli.benchmark.metrics import Array, levels
from dualsr_cli.benchmark.pictures import collect_pictures
from dualsr_cli.benchmark.planning import Bench, Work
from dualsr_cli.benchmark.protocols import load_metrics, score
from dualsr_cli.benchmark.report import write_report
from dualsr_cli.benchmark.results import Missing, Row, Table, efficiency_by_size
from dualsr_cli.errors import DualsrError
from dualsr_cli.files import atomic_writer
from dualsr_cli.photos import Metadata, read_header, write_photo
from dualsr_cli.plain import json_types
from dualsr_cli.reconstruction import restoring_memory

_SCORING = 200  # bytes a pixel of the truth: result, maps and LPIPS
_SCORING_VGG = 1700  # likewise, with LPIPS by VGG
_MAKING = 600 << 20  # bytes: what enlarging without a network takes, with the libraries

_SAMPLES: Recent[Sample] = Recent(4)  # more than are read ahead
_ALIGNMENTS: Recent[Alignment] = Recent(4)
_RESULTS: Recent[Made] = Recent(4)


@dataclass(frozen=True)
class BenchTask:
    """Makes results, and scores them: what a bench's items are given to; see the room `jobs`.

    What items share (a case's pixels, its alignment, a method's result) is made once, as long as
    they come one after the other.
    """

    work: Mapping[str, Work]
    resources: Resources
    metrics: tuple[str, ...]

    def prepare(self) -> None:
        """Load the networks, LPIPS's among them. Raises UsageError, InputError."""
        load_metrics(self.metrics, self.resources.device)
        for method in dict.fromkeys(work.method for work in self.work.values()):
            if method.kind == "network":
                restorer_of(method, self.resources)

    def memory(self, item: jobs.Item) -> int:
        """About the bytes at the peak of one item; 0 where a header cannot be read."""
        work = self.work[item.name]
        assert work.case.truth is not None
        try:
            header = read_header(work.case.truth)
        except DualsrError:
            return 0
        width, height = header.width, header.height
        if work.case.crops:
            top, left, bottom, right = work.case.crops[0]
            width, height = right - left, bottom - top
        making = _MAKING
        if work.method.kind == "network":
            restorer = restorer_of(work.method, self.resources)
            making += restoring_memory(
                restorer,
                width // work.case.scale,
                height // work.case.scale,
                1.0,
                self.resources.memory,
            )
        scoring = _SCORING_VGG if "lpips-vgg" in self.metrics else _SCORING
        return width * height * scoring + making

    def read(self, item: jobs.Item) -> Sample:
        """The case. Raises InputError."""
        case = self.work[item.name].case
        return _SAMPLES.get((case, _stamps(item)), partial(load, case))

    def compute(self, item: jobs.Item, data: Sample) -> dict[str, Any] | Array:
        """The facts of a row; or, without a protocol, the pixels of an image. Raises DualsrError.

        The regions are told apart by the case's own box, else by the footprint that aligning finds.
        """
        work, resources = self.work[item.name], self.resources

        def alignment() -> Alignment:
            key = data.case, _stamps(item)[: len(data.case.files)], resources.device
            return _ALIGNMENTS.get(key, partial(align_sample, data, resources.device))

        if work.map:
            return take_map(work.method, data, alignment, resources, work.map)
        made = _RESULTS.get(
            (work.case, work.method, resources, _stamps(item)),
            partial(run_method, work.method, data, alignment, resources),
        )
        if not work.protocol:
            return levels(made.pixels, "half-even")
        assert data.hr is not None
        scores = score(
            made.pixels,
            data.hr.pixels,
            _truth_box(data, alignment),
            work.protocol,
            metrics=self.metrics,
            device=resources.device,
        )
        height, width = made.pixels.shape[:2]
        return {
            "width": width,
            "height": height,
            "scores": scores,
            "refused": made.refused,
            "device": made.device,
            "precision": made.precision,
            "seconds": made.seconds,
            "memory": made.memory,
            "operations": made.operations,
        }

    def write(
        self, item: jobs.Item, result: dict[str, Any] | Array, target: Path
    ) -> dict[str, Any]:
        """Write the scores, or the image; return the facts of a row. Raises OutputError.

        What was measured of time and memory is not in the file: that is the same at every run.
        """
        if not isinstance(result, dict):
            write_photo(target, result, Metadata())
            return {}
        work = self.work[item.name]
        record = {
            "version": 1,
            **work.place,
            "scores": result["scores"],
            "refused": result["refused"] and result["refused"][0],
        }
        with atomic_writer(target) as file:
            file.write((json.dumps(json_types(record), indent=1) + "\n").encode())
        return result


@dataclass(frozen=True, eq=False)
class Benched:
    """What a run found: rows in the order of the bench's work, cases that failed, tables of all."""

    rows: tuple[Row, ...]
    missing: tuple[Missing, ...]
    tables: tuple[Table, ...]
    tally: jobs.Tally


def run_bench(
    bench: Bench,
    folder: Path,
    engine: Callable[[jobs.Task], jobs.Engine],
    *,
    options: jobs.RunOptions | None = None,
    report: Callable[[jobs.Result], None] = lambda result: None,
    stop: jobs.Stop | None = None,
) -> Benched:
    """Score what is not scored yet, into `folder`; tell `report` of each item as it ends.

    A run that was killed goes on, and gives the files of one that was not. Raises OutputError,
    InputError where the folder's manifest cannot be used.
    """
    results: dict[str, jobs.Result] = {}

    def keep(result: jobs.Result) -> None:
        results[result.item.name] = result
        report(result)

    manifest = jobs.Manifest(folder)
    worker = engine(BenchTask(bench.work, bench.resources, bench.metrics))
    try:
        tally = jobs.run(bench.items(), folder, worker, manifest, options, keep, stop)
    finally:
        worker.stop()
        manifest.close()
    ordered = [results[name] for name in bench.work if name in results]
    saved = {result.item.name for result in ordered if not result.problem}
    rows = [
        row if row.image in saved else replace(row, image=None)
        for row in map(bench.row, ordered)
        if row is not None
    ]
    failed = [
        Missing(work.case.name, problem.code, problem.sentence, work.method.name, work.protocol)
        for result in ordered
        for work, problem in [(bench.work[result.item.name], result.problem)]
        if problem and work.protocol
    ]
    return Benched(tuple(rows), tuple(failed), tuple(bench.tables(rows, failed)), tally)


def report_bench(bench: Bench, benched: Benched, folder: Path) -> list[Path]:
    """Write the report of a run beside its scores, see `write_report`; returns its files.

    Its page shows the results that were saved as images, and those that were made elsewhere.
    Raises OutputError, and InputError for an image that cannot be read.
    """
    if not benched.rows:
        return []
    return write_report(
        folder,
        benched.tables,
        collect_pictures(folder, benched.tables, bench.cases, bench.methods),
        sizes=efficiency_by_size(benched.rows, bench.parameters),
        facts=machine_facts(bench.resources.device),
    )


def _truth_box(sample: Sample, alignment: Callable[[], Alignment]) -> Box | None:
    """What the reference shows, in pixels of the truth; None for all of it, or another scene."""
    box = sample.box
    if box is None and sample.center is None:
        pair = alignment().pair
        box = None if pair is None else pair.footprint_box()
    if box is None or box == (0, 0, sample.lr.height, sample.lr.width):
        return None
    top, left, bottom, right = (side * sample.case.scale for side in box)
    return top, left, bottom, right


def _stamps(item: jobs.Item) -> tuple[tuple[int, int], ...]:
    """Size and time of the inputs: those that have changed are read again."""
    found = []
    for path in item.inputs:
        try:
            status = os.stat(path)
            found.append((status.st_size, status.st_mtime_ns))
        except OSError:  # reading it will tell
            found.append((0, 0))
    return tuple(found)
