"""Cases x methods x protocols -> scores: what `dualsr bench` does, resumable by each of them."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import dualsr_cli
from dualsr_cli import jobs
from dualsr_cli.benchmark._recent import Recent
from dualsr_cli.benchmark.layouts import Box, Case, Problem, Sample, dataset_root, find_cases, load
from dualsr_cli.benchmark.machine_facts import machine_facts
from dualsr_cli.benchmark.methods import (
    Alignment,
    Made,
    Method,
    Resources,
    align_sample,
    check_names,
    default_methods,
    find_method,
    find_result,
    results_method,
    run_method,
)
from dualsr_cli.benchmark.metrics import Array, levels
from dualsr_cli.benchmark.pictures import collect_pictures
from dualsr_cli.benchmark.protocols import METRICS, PROTOCOLS, score
from dualsr_cli.benchmark.report import write_report
from dualsr_cli.benchmark.results import Missing, Row, Table, efficiency_by_size, tabulate
from dualsr_cli.errors import DualsrError, InputError, UsageError
from dualsr_cli.files import atomic_writer
from dualsr_cli.photos import Metadata, read_header, write_photo
from dualsr_cli.plain import json_types
from dualsr_cli.reconstruction import load_restorer, resolve_device, restoring_memory

COMMAND = "bench"

_PROTOCOLS = {
    "dusr-real": "kedusr",
    "realmcvsr-real": "kedusr",
    "camerafusion-real": "kedusr",
    "camerafusion": "dcsr",
    "drealsr": "selfdzsr",
    "cufed5": "ttsr",
    "vimeo90k": "awnet",
    "kitti": "awnet",
    "light-field": "awnet",
    "city100": "city100",
}
"""By which protocol a data set is scored where none is asked for, else "half-size"."""

_PROTOCOLS_OF_PARTS = {("camerafusion", "selfdzsr"): "selfdzsr"}

_SCORING = 200  # bytes a pixel of the truth: result, maps and LPIPS
_MAKING = 600 << 20  # bytes: what enlarging without a network takes, with the libraries

_SAMPLES: Recent[Sample] = Recent(4)  # more than are read ahead
_ALIGNMENTS: Recent[Alignment] = Recent(4)
_RESULTS: Recent[Made] = Recent(4)


@dataclass(frozen=True)
class Work:
    """One result that is scored by a protocol; or, with none, saved as an image."""

    case: Case
    method: Method
    protocol: str


@dataclass(frozen=True, eq=False)
class Bench:
    """What is to be scored. `plan_bench` makes it.

    work: by the name of its item, in the order in which it is done: all of a case together.
    missing: cases that cannot be scored, and why. expected: how many cases of each scale there
    should be. skipped: a sentence for each method that does not fit the data set.
    """

    root: Path
    cases: tuple[Case, ...]
    methods: tuple[Method, ...]
    protocols: tuple[str, ...]
    metrics: tuple[str, ...]
    resources: Resources
    work: Mapping[str, Work]
    missing: tuple[Missing, ...] = ()
    expected: Mapping[int, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def items(self) -> list[jobs.Item]:
        return [self._item(name, work) for name, work in self.work.items()]

    def tables(self, rows: Sequence[Row], missing: Sequence[Missing] = ()) -> list[Table]:
        """The tables of rows that were scored; missing: what was found besides `self.missing`."""
        return tabulate(
            rows,
            expected=self.expected,
            missing=(*self.missing, *missing),
            parameters=self.parameters,
        )

    @property
    def parameters(self) -> dict[str, int | None]:
        """How many each method has."""
        return {method.name: method.parameters for method in self.methods}

    def row(self, result: jobs.Result) -> Row | None:
        """What became of an item; None where it was not scored. Its image may be still to come."""
        work = self.work[result.item.name]
        if result.problem or not work.protocol:
            return None
        image = _name(work.case, work.method, "")
        return _row(work, result.facts, image if image in self.work else None)

    def _item(self, name: str, work: Work) -> jobs.Item:
        case, method = work.case, work.method
        files = case.files if method.folder is None else (*case.files, find_result(method, case))
        settings = {
            "command": COMMAND,
            "version": dualsr_cli.__version__,
            "case": _described(case),
            "method": method.name,
            "kind": method.kind,
            "weights": method.weights,
            "protocol": work.protocol,
            "metrics": list(self.metrics),
            "device": self.resources.device,
            "precision": self.resources.precision,
        }
        return jobs.Item(name, files, tuple(_relative(path, self.root) for path in files), settings)


def plan_bench(
    dataset: str,
    root: Path | None = None,
    *,
    split: str | None = None,
    part: str | None = None,
    scale: int | None = None,
    methods: Sequence[str] = (),
    results: tuple[Path, str] | None = None,
    protocols: Sequence[str] = (),
    metrics: Sequence[str] = METRICS,
    subset: Sequence[str] = (),
    limit: int | None = None,
    resources: Resources | None = None,
    save_images: bool = False,
) -> Bench:
    """What `dualsr bench` was asked for, looked up and found to be possible.

    methods: names; without any, and without results, `default_methods`. results: a folder of images
    and what to call it. protocols: names; none: the data set's own. subset: names of cases, or
    shell patterns. limit: how many cases at most. Raises UsageError, InputError.
    """
    for kind, names, known in (
        ("protocol", protocols, PROTOCOLS),
        ("metric", metrics, (*METRICS, "lpips-vgg")),
    ):
        if unknown := next((name for name in names if name not in known), None):
            raise UsageError(f"there is no {kind} {unknown[:100]!r}: choose {', '.join(known)}")
    resources = resources or Resources()
    resources = replace(resources, device=resolve_device(resources.device))
    found = find_cases(dataset, root, split=split, part=part, scale=scale)
    cases = [case for case in found.cases if _is_in(case.name, subset)]
    problems = [problem for problem in found.problems if _is_in(problem.name, subset)]
    if subset and not cases and not problems:
        raise UsageError(f"{dataset} has no case that fits {', '.join(subset)[:100]!r}")
    if without := next((case for case in cases if case.truth is None), None):
        raise UsageError(
            f"{dataset}'s part {without.part} has no truth to score against: choose another --part"
        )
    cases = cases[:limit]
    whole = limit is None and not subset
    missing = [_missing_of(problem) for problem in problems] if limit is None else []
    scales = Counter(case.scale for case in cases)
    if scales:
        lacking = found.missing if whole else len(missing)
        scales[min(scales)] += lacking
    chosen = [find_method(name) for name in dict.fromkeys(methods)]
    if results:
        chosen.append(results_method(*results))
    if not chosen:
        chosen = default_methods(min(scales, default=2))
    check_names(chosen)
    skipped = [
        f"{method.name} enlarges {method.scale} times, {dataset} asks for "
        f"{' or '.join(map(str, sorted(scales)))}: left out"
        for method in chosen
        if scales and method.scale is not None and method.scale not in scales
    ]
    own = _PROTOCOLS_OF_PARTS.get((dataset, cases[0].part)) if cases else None
    rules = tuple(dict.fromkeys(protocols)) or (own or _PROTOCOLS.get(dataset, "half-size"),)
    work, unmade = _work(cases, chosen, rules, save_images)
    return Bench(
        dataset_root(dataset, root),
        tuple(cases),
        tuple(chosen),
        rules,
        tuple(metrics),
        resources,
        work,
        (*missing, *unmade),
        scales,
        tuple(skipped),
    )


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
        """Load the networks. Raises UsageError, InputError."""
        for name in dict.fromkeys(
            work.method.name for work in self.work.values() if work.method.kind == "network"
        ):
            load_restorer(name, self.resources.device, self.resources.precision)

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
            restorer = load_restorer(
                work.method.name, self.resources.device, self.resources.precision
            )
            making += restoring_memory(
                restorer,
                width // work.case.scale,
                height // work.case.scale,
                1.0,
                self.resources.memory,
            )
        return width * height * _SCORING + making

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
            **_place(work),
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

    Its page shows the results that were saved as images. Raises OutputError, and InputError for an
    image that cannot be read.
    """
    if not benched.tables:
        return []
    return write_report(
        folder,
        benched.tables,
        collect_pictures(folder, benched.tables, bench.cases),
        sizes=efficiency_by_size(benched.rows, bench.parameters),
        facts=machine_facts(bench.resources.device),
    )


def _work(
    cases: Sequence[Case], methods: Sequence[Method], protocols: Sequence[str], save_images: bool
) -> tuple[dict[str, Work], list[Missing]]:
    """The work by the names of its items, and the cases that images from elsewhere lack."""
    work: dict[str, Work] = {}
    missing = []
    for case in cases:
        for method in methods:
            if method.scale not in (None, case.scale):
                continue
            try:
                if method.folder is not None:
                    find_result(method, case)
            except InputError as error:
                missing.append(Missing(case.name, "no-result", str(error), method.name))
                continue
            own_images = save_images and method.folder is None
            for protocol in (*protocols, *([""] if own_images else [])):
                work[_name(case, method, protocol)] = Work(case, method, protocol)
    return work, missing


def _name(case: Case, method: Method, protocol: str) -> str:
    """Where the scores of a case lie in the output folder, or with no protocol its image."""
    parts = (case.dataset, case.part, case.split if case.split != "all" else "", f"x{case.scale}")
    folder = "-".join(part for part in parts if part)
    inner = protocol or "images"
    return f"{folder}/{inner}/{method.name}/{case.name}.{'json' if protocol else 'png'}"


def _place(work: Work) -> dict[str, Any]:
    case = work.case
    return {
        "dataset": case.dataset,
        "part": case.part,
        "split": case.split,
        "scale": case.scale,
        "case": case.name,
        "method": work.method.name,
        "protocol": work.protocol,
    }


def _row(work: Work, facts: Mapping[str, Any], image: str | None) -> Row:
    """A row from what the manifest keeps of an item, where infinity is null."""
    scores = {
        region: {name: math.inf if value is None else value for name, value in metrics.items()}
        for region, metrics in facts["scores"].items()
    }
    refused = facts["refused"]
    measured = {
        name: facts[name]
        for name in (
            "width",
            "height",
            "device",
            "precision",
            "seconds",
            "memory",
            "operations",
        )
    }
    return Row(
        **_place(work),
        scores=scores,
        refused=(refused[0], refused[1]) if refused else None,
        image=image,
        **measured,
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


def _described(case: Case) -> dict[str, Any]:
    """What decides the pixels of a case beside its files."""
    described: dict[str, Any] = json_types(
        {
            "name": case.name,
            "part": case.part,
            "scale": case.scale,
            "recipe": case.recipe,
            "footprint": case.footprint,
            "registration": case.registration,
            "view": case.view,
            "window": case.window,
            "crops": case.crops,
        }
    )
    return described


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


def _is_in(name: str, subset: Sequence[str]) -> bool:
    return not subset or any(fnmatchcase(name, pattern) for pattern in subset)


def _missing_of(problem: Problem) -> Missing:
    return Missing(problem.name, "input", str(problem.error))


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root if root.is_dir() else root.parent)).as_posix()
