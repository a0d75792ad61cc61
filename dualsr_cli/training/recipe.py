"""Recipes: YAML that says how a network is trained, read into checked, typed values."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.files import input_file

RECIPES = Path(__file__).parent / "recipes"

ALL = "all"
"""Among the parts of a stage: whatever no other line names."""

KINDS = ("triplets", "pairs", "flow")
REFERENCES = ("nearby", "around", "same", "laid", "inside")
WIDES = ("simulated", "reduced", "blurred", "sharp")
TELES = ("simulated", "frame")
SHAPES = ("constant", "cosine", "steps")

_MOST_BYTES = 64 << 10  # of a recipe
_MOST = 1 << 24  # iterations, samples, pixels: beyond it lies a slip of the pen
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_EXPONENT = re.compile(r"\d+(\.\d*)?[eE][+-]?\d{1,3}")  # 1e-4, which YAML 1.1 takes for a word


@dataclass(frozen=True)
class Data:
    """What a sample is; lengths in LR pixels.

    kind: "triplets" of LR, Ref and the truth; "pairs" without a truth; "flow", two views with the
    flow between them. patch: height and width of lr. reference: "nearby": `center` and ref show a
    patch of the same size beside it, `offset` (least and most) away along both axes and `border`
    inside the image, as in KeDuSR; "around": likewise, but half of the patches that `center` and
    ref show are lr itself, and what others have in common with it is laid on it; "same": ref shows
    what lr shows, moved by up to `offset`;
    "laid": lr lies anywhere and ref on it as far as the tele photo reaches, as `dualsr upscale`
    lays it; "inside": ref shows a part of lr that has 1 / scale of its sides, as in SelfDZSR.
    wide: of pairs that are simulated of photographs: "simulated", the wide photo is mostly shot
    through a lens; "reduced", it is the truth merely reduced, as in the papers' synthetic sets;
    "blurred", it is always shot through a lens, which blurs it, and the truth is as sharp as the
    tele's scene; "sharp", mostly the truth merely reduced, else shot through a lens as sharp as its
    pixels, with a sensor's noise and a file's losses.
    tele: of such pairs, too: "simulated", shot by another camera, and at times of no use; "frame",
    another frame of a clip by the camera that took the truth, moved but otherwise alike. frames:
    how many of those a sample has.
    flips: along both axes. rotations: degrees, one of which is drawn. recoloured: share of the
    samples in other colours, see `Recoloured`. reach: of the flow, see `SyntheticFlow`.
    """

    kind: str = "triplets"
    patch: tuple[int, ...] = (128, 128)
    reference: str = "nearby"
    wide: str = "simulated"
    tele: str = "simulated"
    frames: int = 1
    offset: tuple[int, ...] = (0, 0)
    border: int = 0
    flips: bool = True
    rotations: tuple[int, ...] = (0, 90, 180, 270)
    recoloured: float = 0.0
    reach: float = 12.0

    def __post_init__(self) -> None:
        _check(self.kind in KINDS, f"kind is one of {', '.join(KINDS)}")
        _check(self.reference in REFERENCES, f"reference is one of {', '.join(REFERENCES)}")
        _check(self.wide in WIDES, f"wide is one of {', '.join(WIDES)}")
        _check(self.tele in TELES, f"tele is one of {', '.join(TELES)}")
        _check(self.frames > 0, "frames are 1 or more")
        _check(self.frames == 1 or self.tele == "frame", "several frames have tele: frame")
        _check(len(self.patch) == 2 and min(self.patch) > 0, "patch is a height and a width")
        _check(len(self.offset) == 2 and 0 <= self.offset[0] <= self.offset[1], "offset is a range")
        _check(self.border >= 0, "border is 0 or more")
        _check({*self.rotations} <= {0, 90, 180, 270}, "rotations are 0, 90, 180 or 270")
        _check(len(self.rotations) > 0, "rotations have at least a 0")
        _check(0 <= self.recoloured <= 1, "recoloured is a share, 0 to 1")
        _check(not self.recoloured or self.kind != "flow", "flow's samples are not recoloured")
        _check(self.reach > 0, "reach is above 0")


@dataclass(frozen=True)
class Schedule:
    """The learning rate's factor over a stage's iterations.

    shape: "constant"; "cosine" from 1 down to `final`; "steps", times `factor` at each of `steps`
    iterations. Before it `warmup` iterations rise linearly from `warmup_from`.
    """

    shape: str = "constant"
    warmup: int = 0
    warmup_from: float = 0.1
    final: float = 0.01
    steps: tuple[int, ...] = ()
    factor: float = 0.5

    def __post_init__(self) -> None:
        _check(self.shape in SHAPES, f"shape is one of {', '.join(SHAPES)}")
        _check(self.warmup >= 0, "warmup is 0 or more")
        _check(min(self.warmup_from, self.final, self.factor) >= 0, "factors are 0 or more")
        _check(list(self.steps) == sorted(self.steps), "steps ascend")

    def at(self, iteration: int, iterations: int) -> float:
        """The factor for the `iteration`-th (from 0) of a stage's `iterations`."""
        if iteration < self.warmup:
            return self.warmup_from + (1 - self.warmup_from) * iteration / self.warmup
        if self.shape == "steps":
            return float(self.factor ** sum(step <= iteration for step in self.steps))
        if self.shape == "constant":
            return 1.0
        done = (iteration - self.warmup) / max(1, iterations - self.warmup)
        return max(self.final, 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Term:
    """One loss of a stage: its name in the table of losses, weight and settings.

    begin: the iteration of the stage from which it takes part.
    """

    loss: str
    weight: float = 1.0
    begin: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.weight >= 0 and self.begin >= 0, "weight and begin are 0 or more")


@dataclass(frozen=True)
class Stage:
    """Some iterations with one optimiser (Adam).

    rates: learning rates by the name of a part of the network, or "all"; what is not named is not
    trained. forward: what of the network runs, a name in `FORWARDS`. batch: samples of one step,
    over all processes. clip: the largest norm of the gradients, 0 for any. copies: by the name of a
    part that of another one, whose weights it has when the stage begins.
    """

    name: str
    iterations: int
    batch: int
    losses: tuple[Term, ...]
    rates: Mapping[str, float]
    data: Data = field(default_factory=Data)
    schedule: Schedule = field(default_factory=Schedule)
    forward: str = "network"
    clip: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    copies: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(bool(_NAME.fullmatch(self.name)), "a stage's name has letters, digits and dashes")
        _check(min(self.iterations, self.batch) > 0, "iterations and batch are 1 or more")
        _check(len(self.losses) > 0, "a stage has at least one loss")
        _check(len({self.label(n) for n in range(len(self.losses))}) == len(self.losses),
               "two losses are the same")  # fmt: skip
        _check(bool(self.rates) and min(self.rates.values()) >= 0, "rates are 0 or more")
        _check(self.clip >= 0, "clip is 0 or more")
        _check(len(self.betas) == 2 and 0 <= min(self.betas) <= max(self.betas) < 1,
               "betas are two numbers from 0 on, below 1")  # fmt: skip

    def label(self, number: int) -> str:
        """A loss as logs call it: its name, with the image that it looks at if that is told."""
        term = self.losses[number]
        image = term.settings.get("image")
        return f"{term.loss}-{image}" if image else term.loss


@dataclass(frozen=True)
class Recipe:
    """name: as the command line knows it. architecture, settings: as for `build`; part: what of
    that network is trained and kept, all of it if empty. start: by a part's name the weights that
    it starts from: "vgg16" or "vgg19", "gradients" for SpyNet and "cost-volumes" for PWC-Net (see
    `_flow_start`), a model of the zoo or a file. ema: decay of the averaged weights, 0 for none.
    source: what it follows, for the model's card.
    """

    name: str
    source: str
    architecture: str
    stages: tuple[Stage, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    start: Mapping[str, str] = field(default_factory=dict)
    ema: float = 0.0

    def __post_init__(self) -> None:
        _check(0 < len(self.stages) <= 16, "a recipe has 1 to 16 stages")
        _check(len({stage.name for stage in self.stages}) == len(self.stages),
               "two stages have one name")  # fmt: skip
        _check(0 <= self.ema < 1, "ema is 0 or more, below 1")

    @property
    def iterations(self) -> int:
        """Of all stages."""
        return sum(stage.iterations for stage in self.stages)


def list_recipes() -> list[str]:
    """The names of the recipes that are shipped."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Recipe:
    """A shipped recipe by its name, or that of a file. Raises UsageError, InputError."""
    if name in list_recipes():
        return read_recipe(RECIPES / f"{name}.yaml")
    if name.endswith((".yaml", ".yml")):
        return read_recipe(Path(name))
    raise UsageError(
        f"there is no recipe {name[:100]!r}: choose among {', '.join(list_recipes())}, or name a "
        "file that ends in .yaml"
    )


def read_recipe(path: Path) -> Recipe:
    """The recipe of a YAML file.

    Each key of `Recipe` and of what is in it may be given, and no other. `data` and `batch` beside
    the stages hold for all of them; a stage's own `data` replaces single keys. Raises InputError.
    """
    given = _yaml(path)
    given.setdefault("name", path.stem)
    data, batch = given.pop("data", {}), given.pop("batch", None)
    try:
        for stage in _stages(given):
            if not isinstance(data, dict) or not isinstance(stage.get("data", {}), dict):
                raise ValueError("data is a mapping")
            stage["data"] = data | stage.get("data", {})
            if batch is not None:
                stage.setdefault("batch", batch)
        recipe: Recipe = _typed(given, Recipe, "the recipe")
    except ValueError as error:
        raise InputError(path, f"is no recipe ({error}): correct it") from error
    return recipe


def changed(
    recipe: Recipe,
    iterations: int | None = None,
    batch: int | None = None,
    patch: int | None = None,
) -> Recipe:
    """A recipe with other sizes; what depends on them changes in proportion.

    iterations: of all stages together, dealt as before, with warm-ups, steps and beginnings. batch:
    of each stage. patch: height and width, with offsets, border and reach.
    """
    share = 1.0 if iterations is None else iterations / recipe.iterations
    stages: list[Stage] = []
    end = dealt = 0
    for stage in recipe.stages:
        end += stage.iterations
        count = max(1, round(share * end) - dealt)
        stages.append(_changed(stage, count, batch, patch))
        dealt += count
    return dataclasses.replace(recipe, stages=tuple(stages))


def _changed(stage: Stage, iterations: int, batch: int | None, patch: int | None) -> Stage:
    share = iterations / stage.iterations
    data, schedule = stage.data, stage.schedule
    if patch is not None:
        size = patch / min(data.patch)
        data = dataclasses.replace(
            data,
            patch=(patch, patch),
            offset=tuple(round(size * offset) for offset in data.offset),
            border=round(size * data.border),
            reach=size * data.reach,
        )
    return dataclasses.replace(
        stage,
        iterations=iterations,
        batch=batch or stage.batch,
        data=data,
        schedule=dataclasses.replace(
            schedule,
            warmup=int(share * schedule.warmup),
            steps=tuple(int(share * step) for step in schedule.steps),
        ),
        losses=tuple(
            dataclasses.replace(term, begin=int(share * term.begin)) for term in stage.losses
        ),
    )


def _stages(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Copies of the stages' mappings, put in the recipe's place: YAML may name one twice."""
    stages = given.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise ValueError("stages are a list of mappings")
    copies = [dict(stage) for stage in stages[:17]]
    given["stages"] = copies
    return copies


def _yaml(path: Path) -> dict[str, Any]:
    with input_file(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(path, "is larger than 64 KiB, too large for a recipe: name another file")
    import yaml

    try:
        given = yaml.safe_load(data)
    except Exception as error:  # ill-formed values escape PyYAML as exceptions of many types
        problem = getattr(error, "problem", None) or type(error).__name__
        raise InputError(path, f"is no YAML ({problem}): correct it") from error
    if not isinstance(given, dict):
        raise InputError(path, "is no YAML mapping: write one key and its value a line")
    return given


def _typed(value: Any, kind: Any, where: str) -> Any:
    """A value that YAML gave as the type that a field has. Raises ValueError."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _built(value, kind, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > 64:
            raise ValueError(f"{where} is a list of 64 values at most")
        return tuple(_typed(item, arguments[0], where) for item in value)
    if origin is Mapping:
        if not isinstance(value, dict) or len(value) > 64:
            raise ValueError(f"{where} is a mapping with 64 keys at most")
        return {
            _key(key): _typed(item, arguments[1], f"{where}, {_key(key)},")
            for key, item in value.items()
        }
    if kind is Any:
        return _plain(value, where)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        _check(abs(value) <= _MOST, f"{where} is {_MOST} at most")
        return value
    if kind is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        _check(math.isfinite(value), f"{where} is a finite number")
        return float(value)
    if kind is str and isinstance(value, str) and value.isprintable() and len(value) <= 1000:
        return value
    name = {bool: "true or false", int: "a whole number", float: "a number", str: "a line of text"}
    # A list may have been made of few bytes and be endless when it is written out.
    shown = repr(str(value)[:50]) if isinstance(value, str | int | float) else "that"
    raise ValueError(f"{where} is {name[kind]}, not {shown}")


def _built(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a mapping")
    hints = typing.get_type_hints(kind)
    known = {each.name: each for each in dataclasses.fields(kind)}
    if unknown := [repr(_key(key)) for key in value if key not in known]:
        raise ValueError(f"{where} has unknown keys: {', '.join(unknown[:3])}")
    needed = [
        name
        for name, each in known.items()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in needed if name not in value]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return kind(**{key: _typed(item, hints[key], key) for key, item in value.items()})


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """A setting: a number, a word, a list or mapping of such; lists become tuples."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list) and depth < 1 and len(value) <= 64:
        return tuple(_plain(item, where, depth + 1) for item in value)
    if isinstance(value, dict) and depth < 1 and len(value) <= 64:
        return {_key(key): _plain(item, where, depth + 1) for key, item in value.items()}
    raise ValueError(f"{where} has settings that are no numbers, words or lists of them")


def _key(key: Any) -> str:
    """The key of a mapping: a word, or what YAML makes of one, such as 4."""
    if not isinstance(key, str | int | float):
        raise ValueError("keys are words")
    return str(key)[:50]


def _check(fits: bool, sentence: str) -> None:
    if not fits:
        raise ValueError(sentence)
