"""What `dualsr bench` is to score: cases x methods x protocols, as items to be worked on."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import dualsr_cli
from dualsr_cli import jobs
from dualsr_cli.benchmark.layouts import Case, Problem, dataset_root, find_cases, natural
from dualsr_cli.benchmark.methods import (
    Method,
    Resources,
    check_names,
    default_methods,
    find_method,
    find_result,
    results_method,
)
from dualsr_cli.benchmark.protocols import METRICS, PROTOCOLS
from dualsr_cli.benchmark.results import (
    Missing,
    Planned,
    Row,
    Table,
    tabulate,
    tabulate_ablation,
)
from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.plain import json_types
from dualsr_cli.reconstruction import resolve_device

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


@dataclass(frozen=True)
class Work:
    """One result that is scored by a protocol; or, with none, saved as an image.

    map: of a network's maps one that is saved in the result's place.
    """

    case: Case
    method: Method
    protocol: str
    map: str = ""

    @property
    def place(self) -> dict[str, Any]:
        """The fields of a row that tell it from others."""
        case = self.case
        return {
            "dataset": case.dataset,
            "part": case.part,
            "split": case.split,
            "scale": case.scale,
            "case": case.name,
            "method": self.method.name,
            "protocol": self.protocol,
        }


@dataclass(frozen=True)
class Ablation:
    """What a bench of a grid has beside its work.

    title: of its table; dataset, part, split, scale: that its rows have in common, else "" or 0.
    rows: in their order, those that have no model among them.
    """

    name: str
    title: str
    dataset: str
    part: str
    split: str
    scale: int
    rows: tuple[Planned, ...]


@dataclass(frozen=True, eq=False)
class Bench:
    """What is to be scored. `plan_bench` makes it, or `plan_ablation`.

    work: by the name of its item, in the order in which it is done: all of a case together.
    missing: cases that cannot be scored, and why. expected: how many cases of each scale there
    should be. skipped: a sentence for each method that does not fit the data set, or that takes too
    long to be tried unasked. ablation: what its rows are of, None where methods are compared.
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
    ablation: Ablation | None = None

    def items(self) -> list[jobs.Item]:
        return [self._item(name, work) for name, work in self.work.items()]

    def tables(self, rows: Sequence[Row], missing: Sequence[Missing] = ()) -> list[Table]:
        """The tables of rows that were scored; missing: what was found besides `self.missing`."""
        missing = (*self.missing, *missing)
        if (grid := self.ablation) is not None:
            place = grid.dataset, grid.part, grid.split, grid.scale
            return tabulate_ablation(
                grid.title,
                place,
                self.protocols,
                grid.rows,
                rows,
                missing=missing,
                parameters=self.parameters,
                metrics=self.metrics,
            )
        return tabulate(
            rows,
            expected=self.expected,
            missing=missing,
            parameters=self.parameters,
            metrics=self.metrics,
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
        image = item_name(work.case, work.method, "")
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
            "settings": json_types(dict(method.settings)),
            "protocol": work.protocol,
            "map": work.map,
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
    results: Sequence[tuple[Path, str]] = (),
    protocols: Sequence[str] = (),
    metrics: Sequence[str] = METRICS,
    subset: Sequence[str] = (),
    limit: int | None = None,
    resources: Resources | None = None,
    save_images: bool = False,
) -> Bench:
    """What `dualsr bench` was asked for, looked up and found to be possible.

    methods: names; without any, and without results, `default_methods`. results: folders of images
    and what to call each. protocols: names; none: the data set's own. subset: names of cases, or
    shell patterns. limit: how many cases at most, and those that are missing before the last of
    them. Raises UsageError, InputError.
    """
    check_words(protocols, metrics)
    resources = resolved(resources)
    asked = choose_cases(
        dataset, root, split=split, part=part, scale=scale, subset=subset, limit=limit
    )
    cases, scales = asked.cases, asked.expected
    chosen = [find_method(name) for name in dict.fromkeys(methods)]
    chosen += [results_method(folder, name) for folder, name in results]
    skipped: list[str] = []
    if not chosen:
        chosen = default_methods(min(scales, default=2), skipped.append)
    check_names(chosen)
    skipped += [
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
        cases,
        tuple(chosen),
        rules,
        tuple(metrics),
        resources,
        work,
        (*asked.missing, *unmade),
        scales,
        tuple(skipped),
    )


@dataclass(frozen=True)
class Asked:
    """The cases of a data set that were asked for; missing, expected: as of `Bench`."""

    cases: tuple[Case, ...]
    missing: tuple[Missing, ...]
    expected: Mapping[int, int]


def choose_cases(
    dataset: str,
    root: Path | None,
    *,
    split: str | None = None,
    part: str | None = None,
    scale: int | None = None,
    subset: Sequence[str] = (),
    limit: int | None = None,
) -> Asked:
    """Cases as `plan_bench` takes them. Raises UsageError, InputError."""
    found = find_cases(dataset, root, split=split, part=part, scale=scale)
    cases = [case for case in found.cases if _is_in(case.name, subset)]
    problems = [problem for problem in found.problems if _is_in(problem.name, subset)]
    if subset and not cases and not problems:
        raise UsageError(f"{dataset} has no case that fits {', '.join(subset)[:100]!r}")
    if without := next((case for case in cases if case.truth is None), None):
        raise UsageError(
            f"{dataset}'s part {without.part} has no truth to score against: choose another --part"
        )
    if limit is not None and limit <= len(cases):
        cases = cases[:limit]
        last = natural(cases[-1].name)
        problems = [problem for problem in problems if natural(problem.name) < last]
    whole = limit is None and not subset
    missing = [_missing_of(problem) for problem in problems]
    scales = Counter(case.scale for case in cases)
    if scales:
        scales[min(scales)] += found.missing if whole else len(missing)
    return Asked(tuple(cases), tuple(missing), scales)


def check_words(protocols: Sequence[str], metrics: Sequence[str]) -> None:
    """Raise UsageError for a protocol or metric that there is not."""
    for kind, names, known in (
        ("protocol", protocols, PROTOCOLS),
        ("metric", metrics, (*METRICS, "lpips-vgg")),
    ):
        if unknown := next((name for name in names if name not in known), None):
            raise UsageError(f"there is no {kind} {unknown[:100]!r}: choose {', '.join(known)}")


def resolved(resources: Resources | None) -> Resources:
    """With a device that PyTorch knows. Raises UsageError."""
    resources = resources or Resources()
    return replace(resources, device=resolve_device(resources.device))


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
                work[item_name(case, method, protocol)] = Work(case, method, protocol)
    return work, missing


def item_name(case: Case, method: Method, protocol: str, map: str = "") -> str:
    """Where the scores of a case lie in the output folder, or with no protocol its image or map."""
    parts = (case.dataset, case.part, case.split if case.split != "all" else "", f"x{case.scale}")
    folder = "-".join(part for part in parts if part)
    inner = protocol or map or "images"
    maker = method.slug or method.name
    return f"{folder}/{inner}/{maker}/{case.name}.{'json' if protocol else 'png'}"


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
        **work.place,
        scores=scores,
        refused=(refused[0], refused[1]) if refused else None,
        image=image,
        **measured,
    )


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
            "changes": case.changes,
        }
    )
    return described


def _is_in(name: str, subset: Sequence[str]) -> bool:
    return not subset or any(fnmatchcase(name, pattern) for pattern in subset)


def _missing_of(problem: Problem) -> Missing:
    return Missing(problem.name, "input", str(problem.error))


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root if root.is_dir() else root.parent)).as_posix()
