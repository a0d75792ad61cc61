"""What each method makes of a case, by itself and as others would have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dualsr_cli.benchmark import Case, Method, Resources, Sample, find_cases, load, methods
from dualsr_cli.benchmark._operations import Operations
from dualsr_cli.benchmark._recent import Recent
from dualsr_cli.benchmark.methods import (
    Alignment,
    align_sample,
    default_methods,
    find_method,
    find_result,
    results_method,
    run_method,
)
from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.matching import counted_searches
from dualsr_cli.networks import Network, add_model, build
from dualsr_cli.reconstruction import (
    Restorer,
    load_restorer,
    network_inputs,
    reconstruct,
    restore,
    run_network,
)

from ..reconstruction.pasting import Pasting
from .miniatures import MINIATURES, half, picture, save

CPU = Resources(device="cpu")


@pytest.fixture(scope="module")
def kedusr_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A case of 48 x 32 pixels whose reference lies on its box."""
    root = tmp_path_factory.mktemp("kedusr")
    MINIATURES["dusr-real"](root)
    return find_cases("dusr-real", root).cases[0]


@pytest.fixture(scope="module")
def city() -> Sample:
    """A real pair that has first to be aligned."""
    (case,) = (case for case in find_cases("sample").cases if case.name == "city")
    return load(case)


@pytest.fixture(scope="module")
def aligned(city: Sample) -> Alignment:
    return align_sample(city, "cpu")


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Network[Any]]:
    """network(name, architecture, **settings): the network of a model that a person has added."""
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "home"))
    load_restorer.cache_clear()

    def add(name: str, architecture: str, **settings: int) -> Network[Any]:
        torch.manual_seed(1)
        built = build(architecture, settings).eval()
        assert isinstance(built, Network)
        add_model(
            name, architecture, settings, built.state_dict(), licence="CC0-1.0", source="a test"
        )
        return built

    return add


def never() -> Alignment:
    raise AssertionError("nothing was to be aligned")


@pytest.mark.parametrize(
    ("name", "how"),
    [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)],
)
def test_filters_are_pillows(kedusr_case: Case, name: str, how: Image.Resampling) -> None:
    made = run_method(find_method(name), load(kedusr_case), never, CPU)
    with Image.open(kedusr_case.wide) as image:
        expected = np.asarray(image.resize((image.width * 2, image.height * 2), how))
    assert np.array_equal(made.pixels, expected)
    assert made.seconds is not None and made.operations is None


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    import cv2

    deep = (picture(64, 96, 0).astype(np.uint16) << 8) + 77
    for folder, pixels in (("HR", deep), ("LR", deep[::2, ::2]), ("Ref", deep[8:40, 8:72])):
        (tmp_path / folder).mkdir()
        assert cv2.imwrite(str(tmp_path / folder / "a.png"), pixels[..., ::-1])
    sample = load(find_cases("triplets", tmp_path).cases[0])
    made = run_method(find_method("bicubic"), sample, never, CPU)
    eight = Image.fromarray((deep[::2, ::2] >> 8).astype(np.uint8))
    expected = np.asarray(eight.resize((96, 64), Image.Resampling.BICUBIC)).astype(float)
    assert made.pixels.dtype == np.uint16
    inside = (expected > 2) & (expected < 253)
    assert np.abs((made.pixels - 77.0) / 256 - expected)[inside].max() < 2


def test_detail_transfer_is_what_upscale_does(city: Sample, aligned: Alignment) -> None:
    made = run_method(find_method("detail-transfer"), city, lambda: aligned, CPU)
    assert aligned.refused is None and made.refused is None
    alone = reconstruct(city.lr, aligned.pair, 2.0, agreement=aligned.agreement).pixels
    assert np.array_equal(made.pixels, alone)


def test_auto_is_what_upscale_does_unasked(
    city: Sample, aligned: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this sharp photo what one network makes, of a soft one what another does, and of one that
    the tele photo hardly agrees with what detail transfer makes."""
    method = find_method("auto")
    assert aligned.pair is not None and aligned.agreement is not None
    soft = replace(aligned.agreement, contrast=(0.4, 0.9), fineness=0.6)
    for told, model in ((aligned.agreement, "dualsr-sharp"), (soft, "dualsr")):
        found = replace(aligned, agreement=told)
        made = run_method(method, city, partial(lambda each: each, found), CPU)
        expected = restore(aligned.pair, load_restorer(model, "cpu"), 2.0).pixels
        assert made.precision == "fp32" and made.pixels.dtype == expected.dtype
        # Operations that are counted may take another kernel.
        assert np.abs(made.pixels.astype(int) - expected).max() <= 1
    apart = replace(aligned, agreement=replace(aligned.agreement, correlation=(0.4, 0.7)))
    made = run_method(method, city, lambda: apart, CPU)
    plain = reconstruct(city.lr, aligned.pair, 2.0, agreement=apart.agreement).pixels
    assert np.array_equal(made.pixels, plain) and not made.precision


def test_a_network_has_the_sample_as_it_lies(
    kedusr_case: Case, network: Callable[..., Network[Any]]
) -> None:
    """Raw: neither clamped nor corrected, whatever windows memory asks for."""
    built = network("tiny-lies", "kedusr", features=8, lr_blocks=1, blocks=1, groups=2)
    sample = load(kedusr_case)
    made = run_method(find_method("tiny-lies"), sample, never, CPU)
    with torch.inference_mode():
        expected = built(sample.inputs()).sr[0].permute(1, 2, 0).numpy()
    with FlopCounterMode(display=False) as flops, counted_searches() as searches:
        run_network(load_restorer("tiny-lies", "cpu"), sample.inputs())
    assert made.pixels.dtype == np.float32
    np.testing.assert_allclose(made.pixels, expected, atol=1e-4)
    assert made.operations == flops.get_total_flops() + searches.operations
    assert made.precision == "fp32" and made.device == "cpu"


def test_a_network_has_the_tele_laid_on_the_photo_first(
    city: Sample, aligned: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result is not corrected as that of upscale is, which keeps the photo's light."""
    pasting = Restorer("pasting", Pasting(offset=0.2).eval(), torch.device("cpu"), "fp32")
    monkeypatch.setattr(methods, "load_restorer", lambda *names: pasting)
    made = run_method(Method("pasting", "network", 2), city, lambda: aligned, CPU)
    assert aligned.pair is not None and city.hr is not None
    top, left, bottom, right = (2 * edge for edge in aligned.pair.footprint_box())
    tele = network_inputs(aligned.pair, 2).ref[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(made.pixels[top:bottom, left:right], tele + 0.2, atol=1e-6)
    assert made.pixels.max() > 1
    assert np.abs(made.pixels - 0.2 - city.hr.pixels / 255).mean() < 0.05
    light = restore(aligned.pair, pasting, 2.0).pixels.mean() / 255
    assert abs(light - city.lr.pixels.mean() / 255) < 0.01


def test_what_cannot_be_aligned_is_enlarged_without_it(
    tmp_path: Path, network: Callable[..., Network[Any]]
) -> None:
    network("tiny-refused", "kedusr", features=8, lr_blocks=1, blocks=1, groups=2)
    MINIATURES["triplets"](tmp_path)
    sample = load(find_cases("triplets", tmp_path).cases[0])
    found = align_sample(sample, "cpu")
    assert found.pair is None and found.refused is not None
    alone = reconstruct(sample.lr, None, 2.0).pixels
    for name in ("tiny-refused", "detail-transfer"):
        made = run_method(find_method(name), sample, lambda: found, CPU)
        assert made.refused == found.refused
        assert np.array_equal(made.pixels, alone)


@pytest.mark.parametrize("architecture", ["awnet", "dcsr", "selfdzsr"])
def test_a_reference_of_another_scene_needs_no_place(
    tmp_path: Path, network: Callable[..., Network[Any]], architecture: str
) -> None:
    """CUFED5's, which no alignment could lay on the photo."""
    name = f"{architecture}-x4"
    network(name, architecture, compact=True, scale=4)
    MINIATURES["cufed5"](tmp_path)
    results = []
    for part in ("L1", "L4"):
        sample = load(find_cases("cufed5", tmp_path, part=part).cases[0])
        results.append(run_method(find_method(name), sample, never, CPU).pixels)
        assert sample.hr is not None and results[-1].shape == sample.hr.pixels.shape
    assert not np.array_equal(*results)


def test_who_is_asked_for_and_who_is_there(network: Callable[..., Network[Any]]) -> None:
    network("own-x4", "dcsr", scale=4, n_feats=8, blocks=2, match_feats=8)
    found = find_method("own-x4")
    assert (found.kind, found.scale, found.name) == ("network", 4, "own-x4")
    assert found.parameters is not None and found.parameters > 1000
    plain = ["bicubic", "lanczos", "detail-transfer", "auto"]
    told: list[str] = []
    names = [method.name for method in default_methods(4, told.append)]
    assert names[:4] == plain
    assert "own-x4" not in names, "it is not shipped"
    assert "awnet-multi-compact takes 2 references: left out, --method names it" in told
    with pytest.raises(UsageError, match=r"no method 'nearest': choose among bicubic, .*own-x4"):
        find_method("nearest")


def test_images_of_another_program(tmp_path: Path, kedusr_case: Case) -> None:
    name, pixels = kedusr_case.name, half(picture(128, 192, 3))
    method = results_method(tmp_path, "Real-ESRGAN")
    sample = load(kedusr_case)

    def made() -> bool:
        return np.array_equal(run_method(method, sample, never, CPU).pixels, pixels)

    with pytest.raises(InputError, match=rf"holds no image {name}\.\*"):
        made()
    save(tmp_path / f"{name}_out.png", pixels)
    assert made()
    save(tmp_path / f"{name}_x2.png", pixels)
    with pytest.raises(InputError, match=f"holds {name}_out.png and {name}_x2.png"):
        made()
    save(tmp_path / f"{name}.png", pixels)
    assert made()
    assert find_result(method, kedusr_case) == tmp_path / f"{name}.png"
    save(tmp_path / f"{name}.png", pixels[:-1])
    with pytest.raises(InputError, match="is 96 x 63 pixels, not the 96 x 64 of the truth"):
        made()
    with pytest.raises(InputError, match="is no folder"):
        results_method(tmp_path / "none", "a")
    with pytest.raises(UsageError, match="no name for a method"):
        results_method(tmp_path, "../a")


def test_operations_are_pytorchs_count_at_inference() -> None:
    """Also where PyTorch has not yet told what a function is made of."""
    layer, image = torch.nn.Conv2d(3, 8, 3), torch.rand(1, 3, 20, 20)
    counted = Operations()
    with torch.inference_mode(), counted:
        torch.einsum("bchw,c->bhw", image, torch.rand(3))
        layer(image)
    assert counted.total == 2 * 3 * 400 + 2 * 8 * 18 * 18 * 27


def test_what_was_made_is_made_again_only_after_others() -> None:
    made: list[str] = []
    recent: Recent[str] = Recent(2)

    def make(name: str) -> Callable[[], str]:
        def work() -> str:
            made.append(name)
            return name

        return work

    for name in "aabacb":
        assert recent.get(name, make(name)) == name
    assert made == ["a", "b", "c"]
    recent.get("a", make("a"))
    assert made == ["a", "b", "c", "a"]

    def fails() -> str:
        raise InputError("x", "is gone")

    for _ in range(2):
        with pytest.raises(InputError):
            recent.get("d", fails)
    assert recent.get("d", make("d")) == "d"
