"""The recipes of an ablation's rows, as files for `dualsr train --recipe`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dualsr_cli.errors import UsageError
from dualsr_cli.files import atomic_writer

if TYPE_CHECKING:
    from dualsr_cli.benchmark import Training
    from dualsr_cli.training import Recipe, Stage


def write_recipes(ablation: str, folder: Path, compact: bool = False) -> list[Path]:
    """Write a recipe for each row that is a model of its own, called as that model has to be.

    compact: from the recipes for two processor cores. Raises UsageError where rows are no models of
    their own, or those recipes, which have fewer losses, leave no difference between two of them;
    OutputError.
    """
    import yaml

    from dualsr_cli.benchmark import find_ablation, model_name
    from dualsr_cli.training import find_recipe

    grid = find_ablation(ablation)
    if not grid.is_trained:
        raise UsageError(
            f"{ablation} varies a model that is there already, which --method names: leave "
            "--write-recipes out"
        )
    texts: dict[str, str] = {}
    made: dict[str, Recipe] = {}
    for row in grid.rows:
        assert row.training is not None
        base = find_recipe(row.training.recipe + ("-compact" if compact else ""))
        name, recipe = model_name(ablation, row), _varied(base, row.training)
        if alike := [other for other, known in made.items() if other != name and known == recipe]:
            raise UsageError(
                f"compact recipes have fewer losses: {alike[0]} and {name} would be the same: "
                "leave --compact out"
            )
        made[name] = recipe
        # As JSON has it: its tuples are lists then.
        plain = json.loads(json.dumps(asdict(replace(recipe, name=name))))
        about = f"# {base.name}, for the ablation {ablation} ({grid.source}): {row.label}.\n"
        texts[name] = about + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    for name, text in texts.items():
        with atomic_writer(folder / f"{name}.yaml") as file:
            file.write(text.encode())
    return [folder / f"{name}.yaml" for name in texts]


def _varied(recipe: Recipe, training: Training) -> Recipe:
    from dualsr_cli.training import Term

    stages = [stage for each in recipe.stages if (stage := _changed(each, training))]
    if training.first:
        losses = tuple(Term(**term) for term in training.first["losses"])
        stages.insert(0, replace(stages[0], **{**training.first, "losses": losses}))
    return replace(
        recipe,
        settings={**recipe.settings, **training.settings},
        start={**recipe.start, **training.start},
        stages=tuple(stages),
    )


def _changed(stage: Stage, training: Training) -> Stage | None:
    """None where nothing is left for the stage to do."""
    from dualsr_cli.training import Term

    losses = [term for n, term in enumerate(stage.losses) if stage.label(n) not in training.without]
    rates = {part: rate for part, rate in stage.rates.items() if part not in training.untrained}
    patch = tuple(round(training.patch * side) for side in stage.data.patch)
    data, forward = replace(stage.data, patch=patch), stage.forward
    if stage.name == "train":
        there = {term.loss for term in losses}
        losses += [Term(**term) for term in training.added if term["loss"] not in there]
        data, forward = replace(data, **training.data), training.forward or forward
    if not losses or not rates:
        return None
    return replace(stage, losses=tuple(losses), rates=rates, data=data, forward=forward)
