"""What `dualsr bench --ablation` is to score: the rows of a grid, each on its own cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dualsr_cli.benchmark.ablations import ABLATIONS, Grid, Variant, model_name
from dualsr_cli.benchmark.layouts import dataset_root
from dualsr_cli.benchmark.methods import Method, Resources, find_method, varied_method
from dualsr_cli.benchmark.planning import (
    Ablation,
    Asked,
    Bench,
    Work,
    check_words,
    choose_cases,
    item_name,
    resolved,
)
from dualsr_cli.benchmark.protocols import METRICS
from dualsr_cli.benchmark.published import published_figures
from dualsr_cli.benchmark.results import Planned, protocol_by
from dualsr_cli.errors import UsageError
from dualsr_cli.networks import ARCHITECTURES, Model, list_models

_TRAINED_BEFORE = {"awnet": ("FlowNet", "flow-pwcnet")}
"""By recipe the part that starts from weights of another recipe, and that one."""

_Value = TypeVar("_Value", str, int)
_Place = tuple[str, str | None, int | None]  # data set, part and scale that are asked for


@dataclass(frozen=True)
class _Row:
    """A row with its cases, and with what makes its results or why nothing does."""

    variant: Variant
    place: _Place
    asked: Asked
    method: Method | None
    absent: str = ""


def find_ablation(name: str) -> Grid:
    """The grid of that name. Raises UsageError."""
    if name not in ABLATIONS:
        raise UsageError(
            f"there is no ablation {name[:100]!r}: choose among {', '.join(ABLATIONS)}"
        )
    return ABLATIONS[name]


def plan_ablation(
    name: str,
    dataset: str | None = None,
    root: Path | None = None,
    *,
    split: str | None = None,
    part: str | None = None,
    scale: int | None = None,
    method: str | None = None,
    protocols: Sequence[str] = (),
    metrics: Sequence[str] = METRICS,
    subset: Sequence[str] = (),
    limit: int | None = None,
    resources: Resources | None = None,
    save_images: bool = False,
) -> Bench:
    """The rows of a grid, looked up and found to be possible.

    dataset, part, scale: others than the paper's. method: what is varied, where rows are not models
    of their own; else the only model of the grid's network. A row whose model is not there stays,
    and says so. The rest as of `plan_bench`. Raises UsageError, InputError.
    """
    grid = _moved(name, find_ablation(name), dataset, part, scale)
    check_words(protocols, metrics)
    resources = resolved(resources)
    models = {model.name: model for model in list_models() if model.kind == "network"}
    base = _base(name, grid, method, models)
    places: dict[_Place, Asked] = {}
    for variant in grid.rows:
        place = where, of, times = grid.of(variant)
        if place not in places:
            places[place] = choose_cases(
                where, root, split=split, part=of, scale=times, subset=subset, limit=limit
            )
    rows = []
    for variant in grid.rows:
        place = grid.of(variant)
        made, absent = _made(name, variant, base, models, places[place])
        rows.append(_Row(variant, place, places[place], made, absent))
    rules = tuple(dict.fromkeys(protocols)) or (protocol_by(grid.paper, grid.dataset),)
    papers = base is None or _architecture(base, models) == grid.architecture
    return Bench(
        dataset_root(rows[0].place[0], root),
        tuple(case for asked in places.values() for case in asked.cases),
        tuple(row.method for row in rows if row.method is not None),
        rules,
        tuple(metrics),
        resources,
        dict(_work(rows, rules, save_images)),
        tuple(lack for asked in places.values() for lack in asked.missing),
        ablation=_ablation(name, grid, rows, papers),
    )


def _moved(name: str, grid: Grid, dataset: str | None, part: str | None, scale: int | None) -> Grid:
    """A grid on other data than the paper's. Raises UsageError where rows are about their data."""
    if dataset is not None or part is not None:
        if any(row.dataset or row.part is not None for row in grid.rows):
            raise UsageError(f"{name} compares data sets or parts: leave --dataset and --part out")
        if dataset not in (None, grid.dataset):
            grid = replace(grid, dataset=dataset or "", part=None, scale=None)
        grid = replace(grid, part=grid.part if part is None else part)
    if scale is not None:
        if any(row.scale for row in grid.rows):
            raise UsageError(f"{name} compares scales: leave --scale out")
        grid = replace(grid, scale=scale)
    return grid


def _base(name: str, grid: Grid, asked: str | None, models: Mapping[str, Model]) -> Method | None:
    """What the rows vary, None where each is a model of its own. Raises UsageError, InputError."""
    if grid.is_trained:
        if asked is not None:
            raise UsageError(f"the rows of {name} are models of their own: leave --method out")
        return None
    title = ARCHITECTURES[grid.architecture].title
    if asked is None:
        fitting = [model for model in models.values() if model.architecture == grid.architecture]
        if not fitting:
            raise UsageError(
                f"{name} varies a {title}, and none is there: train one (dualsr train --recipe "
                f"{grid.architecture}), or add one (dualsr models add)"
            )
        if len(fitting) > 1:
            known = ", ".join(model.name for model in fitting)
            raise UsageError(f"{name} varies one {title}: say by --method which of {known}")
        asked = fitting[0].name
    base = find_method(asked)
    own = any(row.settings or row.maps for row in grid.rows)
    if own and _architecture(base, models) != grid.architecture:
        raise UsageError(f"{name} is about a {title}, and {asked} is none: name one")
    return base


def _architecture(method: Method, models: Mapping[str, Model]) -> str:
    """ "" of what is no network."""
    return models[method.name].architecture if method.kind == "network" else ""


def _made(
    name: str, variant: Variant, base: Method | None, models: Mapping[str, Model], asked: Asked
) -> tuple[Method | None, str]:
    """What makes a row's results; or None, and why. Raises UsageError."""
    if base is not None:
        method = varied_method(base, variant.label, variant.slug, variant.settings)
    else:
        own = model_name(name, variant)
        if own not in models:
            return None, _not_trained(name, variant)
        method = varied_method(find_method(own), variant.label, variant.slug, {})
    wrong = [scale for scale in asked.expected if method.scale not in (None, scale)]
    if wrong:
        raise UsageError(
            f"{method.model} enlarges {method.scale} times, {name} asks for {wrong[0]}: take "
            "another --method, or --dataset"
        )
    return method, ""


def _not_trained(name: str, variant: Variant) -> str:
    grid, training, own = ABLATIONS[name], variant.training, model_name(name, variant)
    assert training is not None
    dataset, part, _ = grid.of(variant)
    if training.dataset == "":
        data = "--data DIR --kind pairs"
    else:
        of = f" --part {part}" if part and training.dataset is None else ""
        data = f"--dataset {training.dataset or dataset}{of} --data DIR"
    before = start = ""
    if training.recipe in _TRAINED_BEFORE:
        part, recipe = _TRAINED_BEFORE[training.recipe]
        before = f"dualsr train --recipe {recipe} --data PHOTOS -o runs/{recipe}; "
        start = f" --start {part}=runs/{recipe}/weights.safetensors"
    return (
        f"{variant.label} is not trained: dualsr bench --ablation {name} --write-recipes recipes; "
        f"{before}dualsr train --recipe recipes/{own}.yaml --name {own}{start} {data} -o runs/{own}"
    )


def _work(
    rows: Sequence[_Row], protocols: Sequence[str], save_images: bool
) -> Iterator[tuple[str, Work]]:
    """All rows of a case together."""
    for place in dict.fromkeys(row.place for row in rows):
        alike = [row for row in rows if row.place == place]
        for case in alike[0].asked.cases:
            for row in alike:
                if row.method is None:
                    continue
                changed = replace(case, changes=row.variant.changes)
                wanted = [(protocol, "") for protocol in protocols]
                wanted += [("", "")] if save_images else []
                wanted += [("", map) for map in row.variant.maps]
                for protocol, shown in wanted:
                    work = Work(changed, row.method, protocol, shown)
                    yield item_name(changed, row.method, protocol, shown), work


def _ablation(name: str, grid: Grid, rows: Sequence[_Row], papers: bool) -> Ablation:
    """papers: whether the figures that the paper prints are of the same network."""
    title = f"{name}: {grid.varies} ({ARCHITECTURES[grid.paper].title}, {grid.source})"
    cases = [case for row in rows for case in row.asked.cases]
    return Ablation(
        name,
        title,
        _common([case.dataset for case in cases], ""),
        _common([case.part for case in cases], ""),
        _common([case.split for case in cases], ""),
        _common([case.scale for case in cases], 0),
        tuple(_planned(grid, row, papers) for row in rows),
    )


def _common(values: Sequence[_Value], otherwise: _Value) -> _Value:
    return values[0] if len(set(values)) == 1 else otherwise


def _planned(grid: Grid, row: _Row, papers: bool) -> Planned:
    dataset, part, scale = row.place
    place = dataset, part or "", "", scale or 0
    figures = []
    if row.asked.cases:
        case = row.asked.cases[0]
        place = case.dataset, case.part, case.split, case.scale
        asked: dict[str, Any] = {
            "paper": grid.paper,
            "table": grid.table,
            "method": grid.method or ARCHITECTURES[grid.architecture].title,
            "setting": row.variant.label,
            "dataset": case.dataset,
            "part": case.part,
            "scale": case.scale,
            **row.variant.printed,
        }
        figures = published_figures(**asked) if papers else []
    expected = sum(row.asked.expected.values())
    return Planned(row.variant.label, place, expected, row.absent, tuple(figures))
