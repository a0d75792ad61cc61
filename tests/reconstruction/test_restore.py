"""A network's result for a pair of photos: where it lies, what it keeps, what it is worth."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dualsr_cli.alignment import AlignedPair, align
from dualsr_cli.errors import DualsrError, UsageError
from dualsr_cli.machine import resident
from dualsr_cli.networks import Outputs, Window
from dualsr_cli.photos import Photo
from dualsr_cli.reconstruction import Restorer, restore

from ..alignment.conftest import Pixels, Truth
from .conftest import area_mean, photo, psnr
from .pasting import Pasted, Pasting

Look = Callable[..., Truth]


@pytest.fixture(scope="session")
def truth(scene: Pixels) -> Pixels:
    """What the wide photo should be at twice its size, (720, 960, 3)."""
    return cv2.resize(scene, (960, 720), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def seen(look: Look) -> Truth:
    """A wide photo of 480 x 360 pixels, and a tele of 2.2x that sees 220 x 160 of them."""
    return look(zoom=2.2, centre=(0.45, 0.55), size=(484, 352), reduction=6, turn=1.5)


@pytest.fixture(scope="session")
def aligned(seen: Truth) -> AlignedPair:
    return align(seen.wide, seen.tele)


def restorer(network: Pasting) -> Restorer:
    return Restorer("pasting", network.eval(), torch.device("cpu"), "fp32")


def bicubic(wide: Photo, width: int, height: int) -> Pixels:
    return cv2.resize(wide.pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def test_the_tele_photo_lies_where_it_belongs(
    truth: Pixels, seen: Truth, aligned: AlignedPair
) -> None:
    made = restore(aligned, restorer(Pasting()), 2.0)
    assert made.pixels.shape == (720, 960, 3)
    top, left, bottom, right = (2 * edge for edge in aligned.footprint_box())
    middle = np.s_[top + 40 : bottom - 40, left + 40 : right - 40]
    plain = bicubic(seen.wide, 960, 720)
    assert psnr(made.pixels[middle], truth[middle]) > psnr(plain[middle], truth[middle]) + 2.5
    corner = np.s_[: top - 8, : left - 8]
    assert psnr(made.pixels[corner], plain[corner]) > 45
    # Where the turned photo leaves a corner of its box free there is the wide photo.
    assert psnr(made.pixels, truth) > psnr(plain, truth) + 0.2


@pytest.mark.parametrize(("step", "scale"), [(2, 1.5), (2, 3.0), (4, 2.0), (4, 2.58), (2, 1.0)])
def test_at_any_scale_it_is_the_networks_picture(
    seen: Truth, aligned: AlignedPair, step: int, scale: float
) -> None:
    height, width = (int(np.ceil(n * scale - 0.5)) for n in (360, 480))
    made = restore(aligned, restorer(Pasting(step)), scale)
    assert made.pixels.shape == (height, width, 3)
    assert made.scale == scale
    own = restore(aligned, restorer(Pasting(step)), float(step)).pixels
    # Resized by another library, the corners of pixels on each other.
    y, x = (((np.arange(n) + 0.5) * step / scale - 0.5).astype(np.float32) for n in (height, width))
    sigma = max(0.0, 0.4 * (step / scale - 1))
    smooth = cv2.GaussianBlur(own, (0, 0), sigma) if sigma else own
    expected = cv2.remap(
        smooth, *np.meshgrid(x, y), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    assert psnr(made.pixels, expected) > 36


class _Sharing(Pasting):
    """Tells besides how much of a pixel it took from the reference: all of it, or nothing."""

    def render(self, encoded: Pasted, window: Window) -> Outputs:
        outputs = super().render(encoded, window)
        weight = torch.nn.functional.interpolate(outputs.maps["confidence"], scale_factor=2.0)
        return replace(outputs, maps={**outputs.maps, "weight": weight})


def test_above_its_own_scale_the_tele_photos_finest_detail_is_there(
    scene: Pixels, look: Look
) -> None:
    """A tele photo of 3.4x, a network of 2x, a result of 3x."""
    pair = look(zoom=3.4, centre=(0.45, 0.55), size=(484, 352), reduction=6, turn=1.5)
    truth = cv2.resize(scene, (1440, 1080), interpolation=cv2.INTER_AREA)
    found = align(pair.wide, pair.tele)
    with_it, without = (
        restore(found, restorer(network), 3.0).pixels for network in (_Sharing(), Pasting())
    )
    top, left, bottom, right = (3 * edge for edge in found.footprint_box())
    middle = np.s_[top + 60 : bottom - 60, left + 60 : right - 60]
    assert psnr(with_it[middle], truth[middle]) > psnr(without[middle], truth[middle]) + 1.5
    assert psnr(with_it, truth) > psnr(without, truth)
    for beside in (np.s_[: top - 12], np.s_[bottom + 12 :], np.s_[:, : left - 12]):
        np.testing.assert_array_equal(with_it[beside], without[beside])
    tiled = restore(found, restorer(_Sharing()), 3.0, memory=resident() + (384 << 20)).pixels
    assert np.abs(with_it.astype(int) - tiled).max() <= 1


@pytest.mark.parametrize("scale", [2.0, 2.58])
def test_tiles_do_not_show(aligned: AlignedPair, scale: float) -> None:
    network = Pasting()  # says that it takes 700 MB of a whole image
    whole = restore(aligned, restorer(network), scale)
    tiled = restore(aligned, restorer(network), scale, memory=resident() + (384 << 20))
    assert np.abs(whole.pixels.astype(int) - tiled.pixels).max() <= 1
    assert (whole.pixels != tiled.pixels).mean() < 0.001
    assert np.abs(whole.provenance.astype(int) - tiled.provenance).max() <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="no one tells a process's memory elsewhere")
def test_the_whole_process_stays_within_its_memory(sample_pairs: Path) -> None:
    """AWnet would take 500 MB of the image at once, and may take 180 MB of it."""
    script = """
import pathlib, sys, torch
torch.set_num_threads(1)
from dualsr_cli.alignment import align
from dualsr_cli.machine import resident
from dualsr_cli.networks import build
from dualsr_cli.photos import read_photo
from dualsr_cli.reconstruction import Restorer, restore
network = build("awnet", {"compact": True, "scale": 2}).eval().requires_grad_(False)
aligned = align(*(read_photo(pathlib.Path(name)) for name in sys.argv[1:]))
limit = resident() + (440 << 20)
restorer = Restorer("untrained", network, torch.device("cpu"), "fp32")
restore(aligned, restorer, 2.0, memory=limit, box=(0, 0, 32, 32))
# getrusage would tell of the process that started this one, too.
status = pathlib.Path("/proc/self/status").read_text()
print(limit, int(status.split("VmHWM:")[1].split()[0]) << 10)
"""
    photos = [sample_pairs / "city" / f"{lens}.png" for lens in ("wide", "tele")]
    done = subprocess.run(
        [sys.executable, "-c", script, *photos], capture_output=True, text=True, check=True
    )
    limit, most = map(int, done.stdout.split())
    assert most < limit


@pytest.mark.parametrize("scale", [2.0, 1.7])
def test_a_network_that_changes_the_light_is_corrected(
    seen: Truth, aligned: AlignedPair, scale: float
) -> None:
    made = restore(aligned, restorer(Pasting(gain=0.9, offset=0.06)), scale)
    missing = seen.wide.pixels - area_mean(made.pixels, 360, 480, scale)
    missing[(seen.wide.pixels == 0) | (seen.wide.pixels == 255)] = 0
    assert np.abs(cv2.GaussianBlur(missing, (0, 0), 4)).mean() <= 1


def test_what_a_network_sharpens_stays_sharp(seen: Truth, aligned: AlignedPair) -> None:
    plain = restore(aligned, restorer(Pasting()), 2.0).pixels.astype(float)
    soft = replace(seen.wide, pixels=cv2.GaussianBlur(seen.wide.pixels, (0, 0), 1.0))
    made = restore(replace(aligned, wide=soft), restorer(Pasting()), 2.0).pixels.astype(float)
    top, left, bottom, right = (2 * edge for edge in aligned.footprint_box())
    middle = np.s_[top + 40 : bottom - 40, left + 40 : right - 40]
    assert np.abs(made[middle] - plain[middle]).mean() < 1


def test_a_small_difference_is_the_networks_own(aligned: AlignedPair) -> None:
    plain = restore(aligned, restorer(Pasting()), 2.0)
    made = restore(aligned, restorer(Pasting(offset=0.5 / 255)), 2.0)
    assert 0.3 < (made.pixels.astype(float) - plain.pixels).mean() < 0.7


def test_a_part_is_the_part_of_the_whole(aligned: AlignedPair) -> None:
    box = aligned.footprint_box()
    top, left, bottom, right = (2 * edge for edge in box)
    whole = restore(aligned, restorer(Pasting()), 2.0)
    part = restore(aligned, restorer(Pasting()), 2.0, box=box)
    # Each is corrected as far as it differs from the wide photo itself.
    difference = np.abs(part.pixels.astype(int) - whole.pixels[top:bottom, left:right])
    assert difference.mean() < 1
    assert part.box == box


def test_sixteen_bits_stay(aligned: AlignedPair) -> None:
    deep = photo(aligned.wide.pixels.astype(np.uint16) * 257)
    made = restore(replace(aligned, wide=deep), restorer(Pasting()), 2.0)
    shallow = restore(aligned, restorer(Pasting()), 2.0)
    assert made.pixels.dtype == np.uint16
    assert np.abs(made.pixels / 257 - shallow.pixels).max() <= 1.01


def test_provenance_tells_the_tele_from_the_rest(aligned: AlignedPair) -> None:
    made = restore(aligned, restorer(Pasting()), 2.0)
    top, left, bottom, right = aligned.footprint_box()
    middle = made.provenance[(top + bottom) // 8, (left + right) // 8]
    assert tuple(middle) == (255, 0, 0)
    assert tuple(made.provenance[0, 0]) == (0, 0, 255)
    assert sum(made.shares) == pytest.approx(1)


def test_results_that_are_no_numbers_are_an_error(aligned: AlignedPair) -> None:
    with pytest.raises(DualsrError, match="gives no numbers in fp32"):
        restore(aligned, restorer(Pasting(gain=float("nan"))), 2.0)
    half = replace(restorer(Pasting(gain=float("inf"))), precision="bf16")
    with pytest.raises(DualsrError, match="--precision fp32"):
        restore(aligned, half, 2.0)


def test_an_impossible_scale_is_refused(aligned: AlignedPair) -> None:
    with pytest.raises(UsageError, match="--scale 17 is not between 1 and 16"):
        restore(aligned, restorer(Pasting()), 17)
