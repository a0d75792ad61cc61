"""What a person names to train on, as a recipe's stages get it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.networks import build
from dualsr_cli.training import (
    Recipe,
    TrainingData,
    Triplet,
    Wanted,
    changed,
    find_recipe,
    held_out_part,
    measure,
    open_data,
    sources,
)
from dualsr_cli.training._batches import joined

SAMPLES = Path(__file__).parents[2] / "sample_pairs"


def recipe_of(name: str, patch: int = 16) -> Recipe:
    return changed(find_recipe(name), patch=patch)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs that differ in brightness."""
    folder = tmp_path_factory.mktemp("city")
    for lens in ("wide", "tele"):
        with Image.open(SAMPLES / "city" / f"{lens}.png") as image:
            for number in range(2):
                darker = image.convert("RGB").point([v - v * number // 20 for v in range(256)] * 3)
                darker.save(folder / f"{number}_{lens}.png")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def opened(recipe: Recipe, cache: Path, folder: Path | None, **wanted: str) -> TrainingData:
    return open_data(recipe, [Wanted(folder, **wanted)], cache)  # type: ignore[arg-type]


def test_ones_own_pairs_are_found_and_some_are_held_out(
    city: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_FEWEST", 2)
    recipe = recipe_of("kedusr-compact")
    data = opened(recipe, cache, city)
    assert (data.kind, data.count, data.left_out, data.doubt) == ("pairs", 1, (), "")
    sample = data.source(recipe.stages[0]).sample(0, 0)
    assert sample.lr.shape == (1, 3, 16, 16)
    assert sample.center is not None and sample.hr is not None
    (held,) = data.held_out
    assert held.hr is not None and held.hr.shape[2] == 2 * held.lr.shape[2]
    again = opened(recipe, cache, city).source(recipe.stages[0]).sample(0, 0)
    assert torch.equal(again.lr, sample.lr) and torch.equal(again.ref, sample.ref)


def test_each_stage_has_its_pairs_prepared_as_it_needs_them(city: Path, cache: Path) -> None:
    table = city / "two.csv"
    table.write_text("wide,tele\n0_wide.png,0_tele.png\n1_wide.png,1_tele.png\n")
    recipe = recipe_of("dcsr-sra-compact")
    data = opened(recipe, cache, table)
    train, adapt = (data.source(stage).sample(0, 0) for stage in recipe.stages)
    assert train.hr is not None and adapt.hr is None
    assert data.held_out == ()
    recipe = recipe_of("selfdzsr-compact")
    inside = opened(recipe, cache, table).source(recipe.stages[-1]).sample(0, 0)
    assert inside.ref.shape[2:] == inside.lr.shape[2:]  # of the truth, half its sides


def test_pairs_are_simulated_of_photographs(tmp_path: Path, city: Path, cache: Path) -> None:
    folder = tmp_path / "sharp"
    folder.mkdir()
    for number in range(5):
        (folder / f"photo {number}.png").write_bytes((city / "0_wide.png").read_bytes())
    recipe = recipe_of("dualsr-compact")
    data = opened(recipe, cache, folder)
    assert (data.kind, data.count, len(data.held_out)) == ("photos", 4, 16)
    assert "0 of the 5 photos" in data.doubt and "--kind pairs" in data.doubt
    assert data.source(recipe.stages[0]).sample(0, 0).center is not None
    flow = recipe_of("flow-spynet-compact", 32)
    assert opened(flow, cache, folder).source(flow.stages[0]).sample(0, 0).lr.shape[2] == 32
    with pytest.raises(UsageError, match="adapt trains on real pairs"):
        opened(recipe_of("dcsr-sra-compact"), cache, folder)


@pytest.fixture(scope="module")
def city100(tmp_path_factory: pytest.TempPathFactory, city: Path) -> Path:
    """A data set of two cameras; the second lies there, with five scenes."""
    root = tmp_path_factory.mktemp("city100")
    (root / "nikon").mkdir()
    with Image.open(city / "0_wide.png") as image:
        for number in range(5):
            image.save(root / "nikon" / f"00{number}H.png")
            image.point([v * 9 // 10 for v in range(256)] * 3).save(root / f"nikon/00{number}L.png")
    return root


def test_real_wide_photos_are_joined_by_references_made_of_the_truth(
    city100: Path, cache: Path
) -> None:
    recipe = recipe_of("dualsr-compact")
    data = opened(recipe, cache, city100, dataset="city100")
    assert (data.kind, data.count, len(data.held_out)) == ("city100", 4, 16)
    sample = data.source(recipe.stages[0]).sample(0, 0)
    assert sample.hr is not None and sample.center is not None
    # The wide photo is the truth, a tenth darker.
    assert float(sample.lr.mean() / sample.hr.mean()) == pytest.approx(0.9, abs=0.02)


def test_samples_of_several_places_are_mixed_by_their_shares(
    tmp_path: Path, city: Path, city100: Path, cache: Path
) -> None:
    folder = tmp_path / "sharp"
    folder.mkdir()
    for number in range(5):
        with Image.open(city / "0_wide.png") as image:
            image.convert("L").convert("RGB").save(folder / f"{number}.png")
    recipe = recipe_of("dualsr-compact")
    wanted = [
        Wanted(folder, kind="photos", share=3),
        Wanted(city100, dataset="city100"),
        Wanted(city, kind="pairs"),
    ]
    data = open_data(recipe, wanted, cache)
    assert (data.kind, data.count) == ("mixture", 4 + 4 + 2)
    assert data.told.startswith("sharp: 4 sharp photographs") and "city100: 4 scenes" in data.told
    assert data.origins == ("sharp",) * 16 + ("city100",) * 16
    source = data.source(recipe.stages[0])
    grey = [
        float((sample.hr[:, 0] - sample.hr[:, 2]).abs().mean()) < 0.04  # noise of a lens's truth
        for sample in (source.sample(index, 0) for index in range(40))
        if sample.hr is not None
    ]
    assert 16 <= sum(grey) <= 32  # of 24
    again = open_data(recipe, wanted, cache).source(recipe.stages[0])
    joined([source.sample(index, 1) for index in range(8)])  # all have the same tensors
    for index in (5, 0, len(source) - 1):
        assert torch.equal(source.sample(index, 1).ref, again.sample(index, 1).ref)
    network = build("dualsr", {"compact": True}).eval()
    with torch.no_grad():
        found = measure(network, data.held_out[14:18], data.origins[14:18])
    assert found["gain"] == pytest.approx((found["gain-sharp"] + found["gain-city100"]) / 2)


def test_data_sets_and_triplets_are_taken_in_the_benchs_layouts(
    tmp_path: Path, city: Path, cache: Path
) -> None:
    with Image.open(city / "0_wide.png") as hr, Image.open(city / "0_tele.png") as ref:
        small = hr.reduce(2)
        for folder, image in (("LR", small), ("HR", hr), ("Ref", ref.reduce(2))):
            (tmp_path / folder).mkdir()
            image.crop((0, 0, 2 * image.width // 2, image.height)).save(
                tmp_path / folder / "one.png"
            )
    recipe = recipe_of("kedusr-compact")
    data = opened(recipe, cache, tmp_path)
    assert (data.kind, data.count) == ("triplets", 1)
    assert data.source(recipe.stages[0]).sample(0, 0).confidence is not None  # it was aligned
    with pytest.raises(InputError, match="its scale is 2, and the network's is 4"):
        opened(
            replace(recipe_of("dcsr-compact"), settings={"scale": 4, "n_feats": 8, "blocks": 2}),
            cache,
            tmp_path,
        )
    with pytest.raises(UsageError, match="no data set 'dusr'"):
        opened(recipe, cache, tmp_path, dataset="dusr")


def test_other_photos_are_references_of_networks_that_search_them(
    tmp_path: Path, cache: Path
) -> None:
    """CUFED5's pairs, of which most cannot be aligned: these two show nothing in common."""
    random = np.random.default_rng(0)
    for number in range(5):
        for folder, size in (("input", (160, 152)), ("ref", (144, 160))):
            place = tmp_path / "train" / folder / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place)
    small = {"scale": 4, "n_feats": 8, "blocks": 2}
    recipe = replace(recipe_of("dcsr-compact", 32), settings=small)
    data = opened(recipe, cache, tmp_path, dataset="cufed5")
    assert (data.count, data.left_out) == (4, ())
    sample, held = data.source(recipe.stages[0]).sample(0, 0), data.held_out[0]
    assert sample.center is not None and sample.center.shape == sample.lr.shape
    assert held.center is not None and held.center.shape[2:] == (36, 40)
    assert held.lr.shape[2:] == (40, 38) and not held.box.any()
    with torch.no_grad():
        assert measure(build("dcsr", small).eval(), [held])["psnr"] > 0


def test_a_case_has_all_of_its_references(tmp_path: Path, city: Path, cache: Path) -> None:
    """vimeo90k's part "multi": each frame between the first and the last one."""
    (tmp_path / "sequences" / "00001" / "0001").mkdir(parents=True)
    with Image.open(city / "0_wide.png") as scene:
        for frame in range(1, 8):
            part = scene.crop((4 * frame, 0, 4 * frame + 256, 192))
            part.save(tmp_path / "sequences" / "00001" / "0001" / f"im{frame}.png")
    for split in ("train", "test"):
        (tmp_path / f"sep_{split}list.txt").write_text("00001/0001\n", encoding="ascii")
    recipe = recipe_of("awnet-compact")
    recipe = replace(recipe, settings={**recipe.settings, "scale": 4})
    data = opened(recipe, cache, tmp_path, dataset="vimeo90k", part="multi")
    sample = data.source(recipe.stages[-1]).sample(0, 0)
    (other,) = sample.more_refs
    assert other.shape == sample.ref.shape
    assert not torch.equal(other, sample.ref)
    assert len(data.held_out[0].more_refs) == 1
    assert joined([sample, sample]).more_refs[0].shape[0] == 2


def test_what_cannot_be_trained_on_is_a_sentence(tmp_path: Path, city: Path, cache: Path) -> None:
    recipe = recipe_of("kedusr-compact")
    with pytest.raises(InputError, match="holds no photo"):
        opened(recipe, cache, tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        opened(recipe, cache, tmp_path / "none")
    with pytest.raises(UsageError, match="give --data"):
        opened(recipe, cache, None)
    with pytest.raises(InputError, match="one file"):
        opened(recipe, cache, city / "0_wide.png")
    with pytest.raises(InputError, match=r"patches of 150 x 150 .* --patch"):
        opened(recipe_of("kedusr-compact", 150), cache, city)
    with pytest.raises(InputError, match="a scale of 2, not 4"):
        opened(
            replace(recipe_of("dcsr-compact"), settings={"scale": 4, "n_feats": 8, "blocks": 2}),
            cache,
            city,
        )


def test_what_is_held_out_lies_about_the_references_edge() -> None:
    lr = torch.arange(100 * 120 * 3).remainder(251).byte().reshape(100, 120, 3).numpy()
    hr = lr.repeat(2, axis=0).repeat(2, axis=1)
    case = Triplet(lr, hr[60:160, 80:200], (30, 40, 80, 100), hr)
    part = held_out_part(case, 32)
    assert part.box.tolist() == [[16, 16, 32, 32]]
    assert part.hr is not None
    assert torch.equal(part.hr[:, :, 32:, 32:], part.ref)
    whole = held_out_part(case, 500)
    assert whole.lr.shape[2:] == (100, 120) and whole.box.tolist() == [list(case.box)]
    network = build("dualsr", {"compact": True}).eval()
    with torch.no_grad():
        found = measure(network, [part, whole])
    assert set(found) == {
        "gain", "psnr", "psnr-center", "psnr-corner", "ssim", "ssim-center", "ssim-corner",
    }  # fmt: skip


def test_a_recipes_sizes_are_changed_in_proportion() -> None:
    recipe = changed(find_recipe("dm3net"), 250, 2, 32)
    (stage,) = recipe.stages
    assert (stage.iterations, stage.batch, stage.data.patch) == (250, 2, (32, 32))
    assert (stage.data.offset, stage.data.border) == ((8, 24), 2)
    assert stage.schedule.warmup == 10
    assert {term.begin for term in stage.losses} == {0, 10}
    stages = changed(find_recipe("selfdzsr-compact"), 21).stages
    assert [stage.iterations for stage in stages] == [11, 2, 8]
    assert changed(recipe) == recipe


def test_a_recipe_has_its_samples_recoloured(city: Path, cache: Path) -> None:
    plain = recipe_of("kedusr-compact")
    stage = plain.stages[0]
    recoloured = replace(
        plain, stages=(replace(stage, data=replace(stage.data, recoloured=1.0)), *plain.stages[1:])
    )
    first, second = (
        opened(recipe, cache, city).source(recipe.stages[0]).sample(0, 0)
        for recipe in (plain, recoloured)
    )
    assert not torch.equal(first.lr, second.lr)
    assert torch.equal(first.box, second.box)
