"""Recipes: the shipped ones, and what a file may not say."""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.networks import ARCHITECTURES, build, pretrained_vgg
from dualsr_cli.training import (
    LOSSES,
    Recipe,
    Schedule,
    Triplet,
    build_loss,
    build_network,
    cut,
    find_recipe,
    list_recipes,
    read_recipe,
)
from dualsr_cli.training.forwards import FORWARDS

SYSTEMS = ["awnet", "dcsr", "dcsr-sra", "dm3net", "kedusr", "sddusr", "selfdzsr"]
FLOWS = ["flow-pwcnet", "flow-raft-small", "flow-spynet"]

WHOLE = """
source: a test
architecture: kedusr
data: {patch: [16, 16], rotations: [0]}
batch: 2
stages:
  - name: train
    iterations: 10
    rates: {all: 1e-4}
    losses:
      - loss: l1
"""


def test_each_paper_and_each_flow_has_a_recipe_and_a_compact_one() -> None:
    names = {name for each in SYSTEMS + FLOWS for name in (each, f"{each}-compact")}
    assert names <= set(list_recipes())


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_can_be_trained(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name and recipe.source
    network = build(recipe.architecture, recipe.settings) if "dm3net" not in name else None
    for stage in recipe.stages:
        assert stage.forward in FORWARDS
        for term in stage.losses:
            assert term.loss in LOSSES
            if term.loss != "relativistic-gan":  # of many weights
                build_loss(term.loss, term.settings)
        parts = set(stage.rates) - {"all"}
        if network is not None and not recipe.part:
            assert parts <= {part for part, _ in network.named_modules()}


@pytest.mark.parametrize("name", list_recipes())
def test_each_line_of_a_recipe_says_where_it_is_from(name: str) -> None:
    """Numbers and choices have a comment, on their line or the head of their block."""
    path = Path(__file__).parents[2] / "dualsr_cli" / "training" / "recipes" / f"{name}.yaml"
    values = re.compile(r"^ *(iterations|patch|batch|clip|weight|begin|all|final|warmup): ")
    silent = [
        line for line in path.read_text().splitlines() if values.match(line) and "#" not in line
    ]
    assert silent == []


@pytest.mark.parametrize(
    "name", ["awnet", "dcsr", "dm3net", "dualsr", "kedusr", "sddusr", "selfdzsr"]
)
def test_compact_recipes_have_the_compact_configurations(name: str) -> None:
    row = ARCHITECTURES[name]
    config = getattr(importlib.import_module(f"dualsr_cli.networks.{row.module}"), row.config)
    settings = find_recipe(f"{name}-compact").settings
    own = ("scale", "scales", "identity_drop", "lenses")
    chosen = {key: settings[key] for key in own if key in settings}
    assert replace(config(), **settings) == replace(config.compact(), **chosen)


def test_kedusrs_numbers_are_the_published_ones() -> None:
    recipe = find_recipe("kedusr")
    (stage,) = recipe.stages
    assert (stage.iterations, stage.batch, stage.data.patch) == (250_000, 4, (128, 128))
    assert (stage.data.offset, stage.data.border) == ((32, 96), 10)
    assert {term.loss: (term.weight, term.begin) for term in stage.losses} == {
        "charbonnier": (1.0, 0),
        "perceptual": (1e-3, 10_000),
        "relativistic-gan": (1e-4, 10_000),
    }
    rates = [1e-4 * stage.schedule.at(n, stage.iterations) for n in (0, 5_000, 10_000, 249_999)]
    assert rates == pytest.approx([1e-5, 5.5e-5, 1e-4, 1e-6])


def test_stages_that_a_paper_trains_first_come_first() -> None:
    assert [stage.name for stage in find_recipe("awnet").stages] == ["flow", "fusion", "joint"]
    assert [list(stage.rates) for stage in find_recipe("selfdzsr").stages] == [
        ["degradation"],
        ["student"],
        ["refsr", "degradation"],
    ]
    train, adapt = find_recipe("dcsr-sra").stages
    assert (train.data.kind, adapt.data.kind) == ("triplets", "pairs")
    assert adapt.data.patch == train.data.patch  # only what differs is said again


def test_schedules() -> None:
    steps = Schedule("steps", steps=(10, 20))
    assert [steps.at(n, 30) for n in (0, 9, 10, 20, 29)] == [1.0, 1.0, 0.5, 0.25, 0.25]
    cosine = Schedule("cosine", final=0.0)
    assert cosine.at(0, 100) == 1.0 and cosine.at(50, 100) == pytest.approx(0.5)
    assert cosine.at(25, 100) == pytest.approx(0.5 + math.sqrt(0.125))
    assert Schedule(warmup=10, warmup_from=0.0).at(5, 100) == 0.5


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    recipe = find_recipe(str(path))
    assert recipe.name == "mine" and recipe.iterations == 10
    (stage,) = recipe.stages
    assert stage.rates == {"all": 1e-4}  # which YAML 1.1 reads as a word
    assert stage.data.patch == (16, 16) and stage.batch == 2


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("batch: 2", "batch: 0", "iterations and batch are 1 or more"),
        ("batch: 2", "batch: 1.5", "batch is a whole number, not '1.5'"),
        ("batch: 2", "batch: true", "batch is a whole number"),
        ("batch: 2", "batsch: 2", "has unknown keys: 'batsch'"),
        ("batch: 2", "batch: 99999999", "batch is 16777216 at most"),
        ("    iterations: 10\n", "", "lacks iterations"),
        ("iterations: 10", "iterations: .inf", "iterations is a whole number"),
        ("1e-4", ".nan", "rates, all, is a finite number"),
        ("1e-4", "-1.0", "rates are 0 or more"),
        ("1e-4", "fast", "rates, all, is a number, not 'fast'"),
        ("[16, 16]", "[16]", "patch is a height and a width"),
        ("[16, 16]", "big", "patch is a list"),
        ("rotations: [0]", "rotations: [45]", "rotations are 0, 90, 180 or 270"),
        ("rotations: [0]", "recoloured: 2", "recoloured is a share, 0 to 1"),
        ("rotations: [0]", "kind: flow, recoloured: 1", "flow's samples are not recoloured"),
        ("rotations: [0]", "kind: secret", "kind is one of"),
        ("{patch: [16, 16], rotations: [0]}", "7", "data is a mapping"),
        ("- loss: l1", "- loss: l1\n      - loss: l1", "two losses are the same"),
        ("- loss: l1", "- l1", "losses is a mapping"),
        ("- loss: l1", "- {loss: l1, settings: {a: [[1]]}}", "no numbers, words or lists"),
        ("source: a test", "source: [a]", "source is a line of text"),
        ("source: a test", 'source: "a\\u001b[2J"', "source is a line of text"),
        ("stages:", "stages: 3\nrest:", "stages are a list of mappings"),
        ("source: a test", "source: !!python/object/apply:os.system [ls]", "is no YAML"),
        ("source: a test", "source: {", "is no YAML"),
        ("source: a test", "3: 3\nsource: a test", "unknown keys: '3'"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert WHOLE.count(old) == 1
    path = written(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(str(path))


def test_hostile_files_are_refused_quickly(tmp_path: Path) -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
    )
    deep = "source: " + "[" * 1200 + "]" * 1200
    laughing = [
        laughs + WHOLE.replace(old, new)
        for old, new in (
            ("a test", "*k"),
            ("{all: 1e-4}", "*k"),
            ("{all: 1e-4}", "{all: *k}"),
            ("[16, 16]", "*k"),
            ("- loss: l1", "- {loss: l1, settings: {a: *k}}"),
            ("batch: 2", "batch: *k"),
        )
    ]
    for text in (laughs, *laughing, deep, "x" * (1 << 17)):
        with pytest.raises(InputError):
            read_recipe(written(tmp_path, text))
    with pytest.raises(InputError, match="does not exist"):
        find_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="there is no recipe 'kedsur': choose among"):
        find_recipe("kedsur")
    with pytest.raises(UsageError, match="there is no recipe"):
        find_recipe("../recipes/kedusr")


def recipe_of(**changes: Any) -> Recipe:
    recipe = find_recipe("kedusr-compact")
    return Recipe(**({each.name: getattr(recipe, each.name) for each in fields(recipe)} | changes))


def test_vggs_layers_are_where_training_starts() -> None:
    network = build_network(find_recipe("kedusr-compact"))
    vgg = pretrained_vgg("vgg16", ["relu2_2"]).state_dict()
    own = network.state_dict()
    for name, values in vgg.items():
        found = own[name.replace("features.", "feature_match.feature_extract.")]
        assert (found == values).all()


def test_parts_start_from_files(tmp_path: Path) -> None:
    other = build_network(recipe_of(start={}))
    path = tmp_path / "flow.safetensors"
    save_file(other.get_submodule("spynet").state_dict(), path)
    own = build_network(find_recipe("kedusr-compact"), {"spynet": str(path)})
    for name, values in other.get_submodule("spynet").state_dict().items():
        assert (own.get_submodule("spynet").state_dict()[name] == values).all()
    save_file(other.state_dict(), tmp_path / "whole.safetensors")
    again = build_network(recipe_of(start={}), {"all": str(tmp_path / "whole.safetensors")})
    assert all((again.state_dict()[name] == v).all() for name, v in other.state_dict().items())
    part = build_network(recipe_of(start={}), {"spynet": str(tmp_path / "whole.safetensors")})
    for name, values in other.get_submodule("spynet").state_dict().items():
        assert (part.get_submodule("spynet").state_dict()[name] == values).all()
    with pytest.raises(InputError, match="does not fit"):
        build_network(find_recipe("kedusr-compact"), {"decoder": str(path)})
    with pytest.raises(UsageError, match="no part 'spinet'"):
        build_network(find_recipe("kedusr-compact"), {"spinet": str(path)})
    with pytest.raises(UsageError, match="no convolutions like those of vgg16"):
        build_network(recipe_of(start={"decoder": "vgg16"}))
    with pytest.raises(UsageError, match="there is no model 'flow-none'"):
        build_network(recipe_of(start={"spynet": "flow-none"}))


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if "compact" in name and "flow" not in name]
)
def test_patches_can_be_cut_as_each_stage_asks_for_them(name: str) -> None:
    recipe = find_recipe(name)
    scale = int(recipe.settings.get("scale", 2))
    random = np.random.default_rng(0)
    lr, ref, hr = (
        random.integers(0, 256, (side, side, 3)).astype(np.uint8)
        for side in (160, scale * 120, scale * 160)
    )
    case = Triplet(lr, ref, (20, 20, 140, 140), hr)
    for stage in recipe.stages:
        sample = cut([case], stage.data).sample(0, 0)
        assert sample.lr.shape == (1, 3, *stage.data.patch)
        assert (sample.hr is None) == (stage.data.kind == "pairs")
        assert (sample.center is not None) == (stage.data.offset[1] > 0)
        height = int(sample.box[0, 2] - sample.box[0, 0])
        assert sample.ref.shape[2] == scale * height
