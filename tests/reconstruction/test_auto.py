"""What `dualsr upscale` takes unasked: a network by what the photos show, or detail transfer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from dualsr_cli.alignment import align
from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs
from dualsr_cli.photos import read_photo
from dualsr_cli.reconstruction import (
    UpscaleOptions,
    UpscaleReport,
    load_restorer,
    measure,
    reconstruct,
    restore,
    restorer_for,
    upscale,
)
from dualsr_cli.training import simulate_pair

from .conftest import blurred, photo, psnr

Pixels = npt.NDArray[np.uint8]


def halved(pixels: Pixels) -> Pixels:
    size = pixels.shape[1] // 2, pixels.shape[0] // 2
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def city(sample_pairs: Path) -> tuple[Path, Path]:
    """A phone's two lenses, the wide one's photo soft at its pixels."""
    return sample_pairs / "city" / "wide.png", sample_pairs / "city" / "tele.png"


@pytest.fixture(scope="module")
def small_city(city: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same at half its size, where the lens's blur is not seen any more."""
    folder = tmp_path_factory.mktemp("halved")
    for path in city:
        Image.fromarray(halved(read_photo(path).pixels)).save(folder / path.name)
    return [folder / path.name for path in city]


def test_a_soft_wide_photo_is_for_the_network(city: tuple[Path, Path], tmp_path: Path) -> None:
    made = both(*city, tmp_path, "dualsr")
    assert made.agreement is not None and made.agreement.fineness < 0.8


def test_a_sharp_wide_photo_is_for_another(small_city: list[Path], tmp_path: Path) -> None:
    made = both(*small_city, tmp_path, "dualsr-sharp")
    assert made.agreement is not None and made.agreement.fineness > 1


@pytest.mark.parametrize("seed", [5, 9])
def test_a_noisy_wide_photo_is_for_the_network_that_takes_noise_away(
    sample_pairs: Path, seed: int
) -> None:
    """Two of the simulator's pairs whose wide photo no lens blurs."""
    scene = read_photo(sample_pairs / "phone-jpeg" / "tele.jpg").pixels[:800, :1200]
    made = simulate_pair(scene, seed)
    pair = align(photo(made.wide), photo(made.tele))
    found = measure(pair)
    assert not found.lens_blurs and found.agrees
    network = restorer_for("auto", pair, found, "cpu")
    assert network is not None and network.model == "dualsr"
    other = load_restorer("dualsr-sharp", "cpu")
    ours, noisy = (psnr(restore(pair, each, 2.0).pixels, made.truth) for each in (network, other))
    assert ours > noisy + 2


@pytest.mark.parametrize(
    ("folder", "sigma", "noise"),
    [("facade", 1, 8), ("statue", 1, 7), ("phone-jpeg", 1, 12), ("facade", 0, 12)],
)
def test_noise_in_the_finest_band_is_taken_away(
    sample_pairs: Path, folder: str, sigma: float, noise: float
) -> None:
    """Where it is most of that band the tele photo looks as if it were out of focus."""
    (file,) = (sample_pairs / folder).glob("tele.*")
    truth = read_photo(file).pixels[:600, :900]
    seen = blurred(truth, sigma) if sigma else truth
    light = cv2.resize(seen, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    grain = np.random.default_rng(0).normal(0, noise, light.shape)
    wide = np.clip(np.rint(light + grain), 0, 255).astype(np.uint8)
    pair = align(photo(wide), photo(np.ascontiguousarray(truth[150:450, 225:675])))
    found = measure(pair)
    assert found.fineness > 1.3  # as if it were sharp
    network = restorer_for("auto", pair, found, "cpu")
    assert network is not None and network.model == "dualsr"
    ours, transfer = (
        psnr(made.pixels, truth)
        for made in (restore(pair, network, 2.0), reconstruct(pair.wide, pair, 2.0))
    )
    assert ours > transfer + 2


def test_a_coarse_tele_does_not_make_a_wide_photo_soft(small_city: list[Path]) -> None:
    """JPEG of quality 5: what is sharp is not to be seen there, either."""
    wide, tele = map(read_photo, small_city)
    _, file = cv2.imencode(".jpg", tele.pixels, [cv2.IMWRITE_JPEG_QUALITY, 5])
    pair = align(wide, replace(tele, pixels=cv2.imdecode(file, cv2.IMREAD_COLOR)))
    network = restorer_for("auto", pair, measure(pair), "cpu")
    assert network is not None and network.model == "dualsr-sharp"


def test_photos_that_hardly_agree_are_for_detail_transfer(
    sample_pairs: Path, tmp_path: Path
) -> None:
    """Two views of a statue, which lie on each other only roughly."""
    for name in ("wide", "tele"):
        with Image.open(sample_pairs / "statue" / f"{name}.jpg") as image:
            image.reduce(2).save(tmp_path / f"{name}.png")
    made = both(tmp_path / "wide.png", tmp_path / "tele.png", tmp_path, "detail-transfer")
    assert made.agreement is not None and made.agreement.correlation[0] < 0.6


def both(wide: Path, tele: Path, folder: Path, expected: str) -> UpscaleReport:
    """What is made unasked is to the byte what the expected model makes."""
    unasked = upscale(wide, tele, folder / "unasked.png")
    asked = upscale(wide, tele, folder / "asked.png", UpscaleOptions(model=expected))
    assert unasked.made_by == asked.made_by == expected
    assert (folder / "unasked.png").read_bytes() == (folder / "asked.png").read_bytes()
    return unasked


def test_too_little_memory_for_a_network_is_enough_for_detail_transfer(
    city: tuple[Path, Path], tmp_path: Path
) -> None:
    little = UpscaleOptions(memory=1 << 20)
    report = upscale(*city, tmp_path / "a.png", little)
    assert report.made_by == "detail-transfer"
    assert report.notes == ("made by detail-transfer, for dualsr needs more memory",)
    with pytest.raises(UsageError, match="--max-memory"):
        upscale(*city, tmp_path / "b.png", replace(little, model="dualsr"))


@pytest.mark.parametrize("sigma", [10, 25, 50, 100])
def test_a_noisy_tele_does_not_make_a_wide_photo_soft(small_city: list[Path], sigma: int) -> None:
    """Noise lowers the contrast of the wide against the tele photo as a lens would."""
    wide, tele = map(read_photo, small_city)
    noise = np.random.default_rng(0).normal(0, sigma, tele.pixels.shape)
    noisy = np.clip(np.rint(tele.pixels + noise), 0, 255).astype(np.uint8)
    found = measure(align(wide, replace(tele, pixels=noisy)))
    assert not found.lens_blurs
    if sigma == 100:
        assert found.contrast[0] < 0.6


def test_a_soft_tele_photo_is_of_no_use_to_a_soft_wide_photo(sample_pairs: Path) -> None:
    """Neither undoes a blur that the tele photo has as well, nor keeps it as if it were sharp."""
    scene = read_photo(sample_pairs / "phone-jpeg" / "tele.jpg").pixels[:800, :1200]
    soft = cv2.GaussianBlur(scene, (0, 0), 2.0)
    wide = cv2.resize(soft, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    pairs = {name: align(photo(wide), photo(tele[200:600, 300:900]))
             for name, tele in (("soft", soft), ("sharp", scene))}  # fmt: skip
    found = {name: measure(pair) for name, pair in pairs.items()}
    assert found["soft"].agrees and found["soft"].soft and not found["soft"].lens_blurs
    assert restorer_for("auto", pairs["soft"], found["soft"], "cpu") is None
    network = restorer_for("auto", pairs["sharp"], found["sharp"], "cpu")
    assert network is not None and network.model == "dualsr"


def test_a_network_for_clips_takes_no_two_photos(city: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="awnet-multi-compact takes 2 tele photos at a time"):
        upscale(*city, tmp_path / "a.png", UpscaleOptions(model="awnet-multi-compact"))
    assert not (tmp_path / "a.png").exists()


def test_no_tele_no_network(city: tuple[Path, Path], tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(black)
    report = upscale(city[0], black, tmp_path / "a.png")
    assert (report.made_by, report.tele_used) == ("detail-transfer", False)


@pytest.mark.parametrize(("sigma", "more"), [(0.9, 2.0), (1.5, 3.0)])
def test_the_network_undoes_a_lens(sample_pairs: Path, sigma: float, more: float) -> None:
    """In the centre by so many dB more than detail transfer, and nowhere at a loss."""
    truth = read_photo(sample_pairs / "phone-jpeg" / "tele.jpg").pixels[100:740, 300:1260]
    height, width = truth.shape[:2]
    noise = np.random.default_rng(0).normal(0, 2, (height // 2, width // 2, 3))
    soft = halved(blurred(truth, sigma)) + noise
    wide = photo(np.clip(np.rint(soft), 0, 255).astype(np.uint8))
    pair = align(wide, photo(np.ascontiguousarray(truth[160:480, 240:720])))
    found = measure(pair)
    network = restorer_for("auto", pair, found, "cpu")
    assert network is not None and network.model == "dualsr"
    plain = cv2.resize(wide.pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    ours, transfer = (
        made.pixels for made in (restore(pair, network, 2.0), reconstruct(pair.wide, pair, 2.0))
    )
    centre = np.s_[180:460, 260:700]
    assert psnr(ours[centre], truth[centre]) > psnr(transfer[centre], truth[centre]) + more
    for edge in (np.s_[:140], np.s_[500:], np.s_[:, :220], np.s_[:, 740:]):
        assert psnr(ours[edge], truth[edge]) > psnr(plain[edge], truth[edge])


def test_the_tele_photo_does_not_end_in_a_line() -> None:
    """A tele photo of another tone on an even sky: what is left of its tone fades out."""
    network = load_restorer("dualsr", "cpu", "fp32").network
    lines = []
    for seed in range(4):
        noise = torch.Generator().manual_seed(seed)
        wide, tele = (
            light + 0.004 * torch.randn(1, 3, 96, 96, generator=noise) for light in (0.5, 0.54)
        )
        with torch.inference_mode():
            sr = network(Inputs(wide, tele, torch.tensor([[24, 24, 72, 72]]))).sr[0]
        lines += [torch.rot90(sr, turn, (1, 2))[..., 64:128].mean((0, 2)) for turn in range(4)]

    def step(rows: torch.Tensor) -> float:
        return float((rows[1:] - rows[:-1])[40:56].abs().max())

    assert step(lines[0]) < 0.003
    # A line, unlike noise, is what all edges have in common.
    assert step(torch.stack(lines).mean(0)) < 0.0015
