"""The papers' ablations: grids that are possible, and tables that say what was measured."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualsr_cli import jobs
from dualsr_cli.benchmark import (
    ABLATIONS,
    LAYOUTS,
    PAPERS,
    Bench,
    Benched,
    Resources,
    Training,
    find_cases,
    load,
    model_name,
    plan_ablation,
    psnr,
    published_figures,
    report_bench,
    run_bench,
)
from dualsr_cli.benchmark.methods import find_method, run_method
from dualsr_cli.commands._bench_recipes import write_recipes
from dualsr_cli.errors import UsageError
from dualsr_cli.networks import add_model, build, zoo
from dualsr_cli.photos import read_photo
from dualsr_cli.reconstruction import load_restorer
from dualsr_cli.training import build_loss, find_recipe, list_recipes, read_recipe
from dualsr_cli.training.forwards import FORWARDS

from .miniatures import MINIATURES

TRAINED = [name for name, grid in ABLATIONS.items() if grid.is_trained]
DM3NET = {
    "features": 8,
    "blocks": 1,
    "vgg": "vgg16",
    "matching_features": 4,
    "prior_features": 8,
    "prior_blocks": 1,
    "flow_updates": 1,
}
SDDUSR = {
    "features": 8,
    "lr_blocks": 1,
    "blocks": 1,
    "fusion_blocks": 1,
    "tokens": 8,
    "mask_features": 4,
    "groups": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root for each data set, named like it."""
    root = tmp_path_factory.mktemp("data")
    for name in ("camerafusion-real", "dusr-real", "vimeo90k", "cufed5", "camerafusion"):
        (root / name).mkdir()
        MINIATURES[name](root / name)
    return root


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "home"))
    load_restorer.cache_clear()


@pytest.fixture
def no_twins(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None but the test's own."""
    shutil.copytree(
        repository / "models", tmp_path / "shipped", ignore=shutil.ignore_patterns("*-compact")
    )
    monkeypatch.setattr(zoo, "shipped_folder", lambda: tmp_path / "shipped")


def keep(name: str, architecture: str, settings: dict[str, Any], seed: int = 1) -> None:
    torch.manual_seed(seed)
    weights = build(architecture, settings).state_dict()
    add_model(name, architecture, settings, weights, licence="CC0-1.0", source="a test")


def benched(bench: Bench, folder: Path) -> Benched:
    return run_bench(bench, folder, jobs.InlineEngine)


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_grid_asks_for_what_there_is(name: str) -> None:
    grid = ABLATIONS[name]
    assert grid.paper in PAPERS and len({row.label for row in grid.rows}) == len(grid.rows)
    assert len({row.slug for row in grid.rows}) == len(grid.rows)
    assert {row.training is not None for row in grid.rows} == {grid.is_trained}
    with torch.device("meta"):
        for settings in {tuple(row.settings.items()) for row in grid.rows}:
            build(grid.architecture, {"compact": True, **dict(settings)})
    for row in grid.rows:
        dataset, part, scale = grid.of(row)
        layout = LAYOUTS[dataset]
        assert part in (None, *layout.parts) and scale in (None, *layout.scales)
        if row.training:
            assert row.training.recipe in list_recipes()


UNPRINTED = {
    "awnet-interpolation": [f"frames 3 and 5, with 1/{count} of frame 4" for count in (64, 16)],
    "dcsr-losses": ["without fidelity loss"],
}


@pytest.mark.parametrize("name", [name for name, grid in ABLATIONS.items() if grid.table])
def test_the_papers_figures_of_a_grid_are_known(name: str) -> None:
    """Of all of its rows but those that a paper does not print, or shows in pictures alone."""
    grid = ABLATIONS[name]
    without = [
        row.label
        for row in grid.rows
        if not published_figures(
            **{
                "paper": grid.paper,
                "table": grid.table,
                "setting": row.label,
                "dataset": row.dataset or grid.dataset,
                **row.printed,
            }
        )
    ]
    assert without == UNPRINTED.get(name, [])


@pytest.mark.parametrize("name", TRAINED)
def test_recipes_of_rows_can_be_trained(name: str, tmp_path: Path) -> None:
    """What is written is read as it was meant, and differs from the shipped one."""
    paths = write_recipes(name, tmp_path)
    read = [read_recipe(path) for path in paths]
    assert [recipe.name for recipe in read] == list(
        dict.fromkeys(model_name(name, row) for row in ABLATIONS[name].rows)
    )
    for recipe in read:
        row = next(row for row in ABLATIONS[name].rows if model_name(name, row) == recipe.name)
        assert row.training is not None
        shipped = find_recipe(row.training.recipe)
        labels = [stage.label(n) for stage in recipe.stages for n in range(len(stage.losses))]
        there = {stage.label(n) for stage in shipped.stages for n in range(len(stage.losses))}
        assert set(row.training.without) <= there
        added = [term["loss"] for term in row.training.added]
        added += [term["loss"] for term in row.training.first.get("losses", ())]
        assert sorted(labels) == sorted(
            added
            + [
                stage.label(n)
                for stage in shipped.stages
                for n in range(len(stage.losses))
                if stage.label(n) not in row.training.without
                and not stage.rates.keys() <= set(row.training.untrained)
            ]
        )
        with torch.device("meta"):
            network = build(recipe.architecture, recipe.settings)
        for stage in recipe.stages:
            assert stage.forward in FORWARDS
            assert all(network.get_submodule(part) for part in stage.rates if part != "all")
        for term in row.training.added:
            build_loss(str(term["loss"]), dict(term.get("settings", {})))
        assert recipe.settings == {**shipped.settings, **row.training.settings}
        plain = Training(row.training.recipe)
        if replace(row.training, name="", dataset=None) == plain:
            assert replace(recipe, name=shipped.name) == shipped


def test_compact_recipes_that_would_be_alike_are_refused(tmp_path: Path) -> None:
    (_, row, *_) = write_recipes("sddusr-tokens", tmp_path, compact=True)
    assert read_recipe(row).settings["tokens"] == 128
    assert read_recipe(row).settings["features"] == 24
    with pytest.raises(UsageError, match="would be the same"):
        write_recipes("dm3net-losses", tmp_path / "none", compact=True)
    with pytest.raises(UsageError, match="varies a model that is there already"):
        write_recipes("dm3net-pruning", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_twins")
def test_settings_of_one_model_are_varied(data: Path, tmp_path: Path) -> None:
    """Each row is the network with that setting; the paper's row stands beside it."""
    keep("mine", "dm3net", DM3NET)
    root = data / "camerafusion-real"
    plan = plan_ablation("dm3net-pruning", root=root, metrics=["psnr"], limit=1)
    made = benched(plan, tmp_path / "out")
    (table,) = made.tables
    assert [entry.method for entry in table.measured] == ["before Key Pruning", "after Key Pruning"]
    sample = load(plan.cases[0])
    assert sample.hr is not None
    for entry, prune in zip(table.measured, (False, True), strict=True):
        network = build("dm3net", {**DM3NET, "prune": prune}).eval()
        network.load_state_dict(load_restorer("mine", "cpu").network.state_dict())
        with torch.inference_mode():
            sr = network(sample.inputs()).sr[0].permute(1, 2, 0).numpy()
        error = float(((255.0 * sr - sample.hr.pixels) ** 2).mean())
        assert entry.scores["full"]["psnr"] == pytest.approx(psnr(error), abs=1e-3)
    before, after = (entry.efficiency for entry in table.measured)
    assert before and after and before.parameters == after.parameters
    assert [(entry.method, entry.scores["full"]["psnr"]) for entry in table.printed] == [
        ("before Key Pruning", 27.87),
        ("after Key Pruning", 27.75),
    ]
    again = benched(plan, tmp_path / "out")
    assert (again.tally.unchanged, again.tally.done) == (2, 0)
    assert [entry.scores for entry in again.tables[0].entries] == [
        entry.scores for entry in table.entries
    ]


def test_a_row_without_its_model_says_how_to_train_it(data: Path, tmp_path: Path) -> None:
    keep("sddusr-tokens-128-tokens", "sddusr", SDDUSR)
    root = data / "dusr-real"
    plan = plan_ablation("sddusr-tokens", root=root, metrics=["psnr"], limit=1)
    made = benched(plan, tmp_path)
    report_bench(plan, made, tmp_path)
    lines = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
    rows = [
        line.split(" | ")[:2] for line in lines if re.search(r"tokens \| (\w+ trained|m|S)", line)
    ]
    assert rows == [
        row
        for count in (64, 128, 192, 256)
        for row in (
            [f"| {count} tokens", "measured" if count == 128 else "not trained"],
            [f"| {count} tokens", "SDDuSR, table 2"],
        )
    ]
    (note,) = (line for line in lines if line.startswith("- 64 tokens"))
    assert "dualsr train --recipe recipes/sddusr-tokens-64-tokens.yaml" in note
    assert "--name sddusr-tokens-64-tokens --dataset dusr-real" in note
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["title"].startswith("sddusr-tokens: tokens in each dictionary (SDDuSR, ")
    assert [entry["absent"] is None for entry in found["tables"][0]["entries"][::2]] == [
        False,
        True,
        False,
        False,
    ]
    assert "not trained" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "dataset", "said"),
    [
        (
            "awnet-noise-training",
            "vimeo90k",
            "dualsr train --recipe flow-pwcnet --data PHOTOS -o runs/flow-pwcnet; dualsr train "
            "--recipe recipes/awnet-noise-training-variance-0.yaml --name "
            "awnet-noise-training-variance-0 --start FlowNet=runs/flow-pwcnet/weights.safetensors "
            "--dataset vimeo90k --part single --data DIR -o runs/",
        ),
        (
            "dcsr-fusion",
            "cufed5",
            "--dataset cufed5 --part L1 --data DIR -o runs/dcsr-fusion-element-wise",
        ),
        ("dcsr-adaptation", "camerafusion", "--name dcsr-adaptation-without-sra --data DIR --kind"),
    ],
)
def test_what_a_row_is_trained_with_is_said(name: str, dataset: str, said: str, data: Path) -> None:
    plan = plan_ablation(name, root=data / dataset, metrics=["psnr"], limit=1)
    assert plan.ablation is not None and said in plan.ablation.rows[0].absent


def test_rows_on_several_parts_make_one_table(data: Path, tmp_path: Path) -> None:
    root = data / "cufed5"
    plan = plan_ablation("dcsr-similarity", root=root, method="bicubic", metrics=["psnr"])
    made = benched(plan, tmp_path)
    (table,) = made.tables
    assert (table.dataset, table.part, table.protocol) == ("cufed5", "", "dcsr-x4")
    assert [entry.method for entry in table.measured] == ["L1", "L2", "L3", "L4"]
    assert [entry.counts["full"]["psnr"] for entry in table.measured] == [2] * 4
    assert len({entry.scores["full"]["psnr"] for entry in table.measured}) == 1
    assert table.printed == (), "the paper's are not bicubic's"
    report_bench(plan, made, tmp_path)
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == [row["method"] for row in rows]
    assert sorted({row["part"] for row in rows}) == ["L1", "L2", "L3", "L4"]


@pytest.mark.parametrize("name", ["awnet-noise", "awnet-exposure"])
def test_photos_are_changed_as_the_rows_say(name: str, data: Path, tmp_path: Path) -> None:
    """The more, the worse; the same at each run."""
    root = data / "vimeo90k"
    plan = plan_ablation(name, root=root, method="bicubic", metrics=["psnr"], limit=1)
    first, again = (benched(plan, tmp_path / where).tables[0] for where in ("a", "b"))
    values = [entry.scores["full"]["psnr"] for entry in first.measured]
    assert values == sorted(values, reverse=True) and len(set(values)) == len(values)
    assert values == [entry.scores["full"]["psnr"] for entry in again.measured]
    clean = find_cases("vimeo90k", root, part="single", scale=4).cases[0]
    changed = load(replace(clean, changes=(("noise", 0.01),)))
    added = changed.lr.pixels / 255 - load(clean).lr.pixels / 255
    middle = np.abs(load(clean).lr.pixels / 255 - 0.5) < 0.2  # what is not clipped
    assert added[middle].var() == pytest.approx(0.01, rel=0.2)
    assert np.array_equal(changed.refs[0].pixels, load(clean).refs[0].pixels)


@pytest.mark.usefixtures("no_twins")
def test_masks_are_saved_as_pictures(data: Path, tmp_path: Path) -> None:
    keep("mine", "sddusr", SDDUSR, seed=3)
    root = data / "dusr-real"
    plan = plan_ablation("sddusr-masks", root=root, metrics=["psnr"], limit=1)
    made = benched(plan, tmp_path)
    assert len(made.rows) == 1
    sample = load(plan.cases[0])
    with torch.inference_mode():
        maps = load_restorer("mine", "cpu").network(sample.inputs()).maps
    mask = maps["mask"].repeat_interleave(2, 2).repeat_interleave(2, 3)
    for name, expected in {"mask": mask, "center_mask": maps["center_mask"]}.items():
        (path,) = tmp_path.glob(f"**/{name}/**/*.png")
        shown = read_photo(path).pixels[..., 0]
        assert np.array_equal(shown, 255 * expected[0, 0].byte().numpy())
    assert run_method(find_method("mine"), sample, lambda: 1 / 0, Resources("cpu")).operations


@pytest.mark.parametrize(
    ("name", "asked", "sentence"),
    [
        ("dm3net-depth", {}, "there is no ablation 'dm3net-depth': choose among awnet-exposure"),
        ("dm3net-pruning", {}, "varies a DM3Net, and none is there"),
        ("dm3net-pruning", {"method": "bicubic"}, "is about a DM3Net, and bicubic is none"),
        ("sddusr-tokens", {"method": "bicubic"}, "are models of their own: leave --method out"),
        ("dcsr-similarity", {"part": "L1", "method": "bicubic"}, "leave --dataset and --part out"),
        ("awnet-interpolation", {"scale": 4}, "compares scales: leave --scale out"),
    ],
)
@pytest.mark.usefixtures("no_twins")
def test_what_no_grid_can_do(name: str, asked: dict[str, Any], sentence: str, data: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        plan_ablation(name, root=data / "dusr-real", **asked)


@pytest.mark.usefixtures("no_twins")
def test_which_model_is_varied_has_to_be_said(data: Path) -> None:
    for number in (1, 2):
        keep(f"mine-{number}", "dm3net", DM3NET)
    with pytest.raises(UsageError, match="say by --method which of mine-1, mine-2"):
        plan_ablation("dm3net-pruning", root=data / "camerafusion-real")
    keep("times-four", "dcsr", {"scale": 4, "n_feats": 8, "blocks": 2, "match_feats": 8})
    with pytest.raises(UsageError, match="times-four enlarges 4 times, awnet-noise asks for 2"):
        plan_ablation("awnet-noise", "dusr-real", data / "dusr-real", method="times-four")
