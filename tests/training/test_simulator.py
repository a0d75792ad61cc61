"""The dual-camera simulator: what it makes is what it says, and the same every time."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dualsr_cli.errors import InputError
from dualsr_cli.training import Data
from dualsr_cli.training import _simulator_camera as camera
from dualsr_cli.training.simulator import (
    CameraSettings,
    PairSettings,
    Photographs,
    Simulator,
    SimulatorSettings,
    ViewSettings,
    load_photographs,
    simulate_pair,
    simulated,
)

Rgb = npt.NDArray[np.uint8]

CLEAN = CameraSettings(
    lens=(0.3, 0.3),
    growth=(0.0, 0.0),
    tail=(0.0, 0.0),
    fringe=(0.0, 0.0),
    shake=(0.0, 0.0),
    density=(1.0, 1.0),
    shot=(1e-9, 1e-9),
    read=(1e-9, 1e-9),
    mosaic=0.0,
    denoise=0.0,
    sharpen=(0.0, 0.0),
    jpeg=0.0,
    plain=0.0,
)
PLAIN = CameraSettings(plain=1.0)
EXACT = ViewSettings(
    residual=(1e-6, 1e-6),
    edge=0,
    outside=0,
    border=0,
    gain=0,
    defocus=0,
    useless=0,
    spoilt=0,
)


def textured(height: int, width: int, seed: int = 0) -> Rgb:
    """Smooth and fine texture in colours, away from black and white."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for sigma, weight in ((1.2, 0.5), (4.0, 1.0), (20.0, 1.5)):
        noise = rng.standard_normal((height, width, 3)).astype(np.float32)
        layer = cv2.GaussianBlur(noise, (0, 0), sigma)
        total += weight * layer / layer.std()
    return np.clip(128 + 30 * total, 10, 245).astype(np.uint8)


def psnr(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> float:
    """Of values 0..1."""
    return float(-10 * np.log10(np.mean((np.float64(first) - np.float64(second)) ** 2)))


def planes(image: object) -> npt.NDArray[np.float32]:
    """(1, 3, h, w) to (h, w, 3)."""
    return image[0].permute(1, 2, 0).numpy()  # type: ignore[index]


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    return Photographs.of((textured(720, 900), textured(700, 700, 1)))


def small(**changes: object) -> SimulatorSettings:
    return SimulatorSettings(**{"patch": (48, 48), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("layout", ["on", "beside"])
def test_a_sample_has_the_shapes_that_networks_take(
    photographs: Photographs, scale: int, layout: str
) -> None:
    simulator = Simulator(photographs, small(scale=scale, layout=layout, offset=(8, 24)), length=7)
    assert len(simulator) == 7
    for index in range(4):
        made = simulator.simulate(index, 0)
        inputs = made.inputs
        assert inputs.lr.shape == (1, 3, 48, 48)
        assert inputs.hr is not None
        assert inputs.ref.shape == inputs.hr.shape == (1, 3, 48 * scale, 48 * scale)
        assert inputs.lr_center().shape == (1, 3, 48, 48)
        assert made.valid.shape == made.confidence.shape == (48, 48)
        assert made.displacement.shape == (48, 48, 2)
        for image in (inputs.lr, inputs.ref, inputs.hr):
            assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert 0 <= made.confidence.min() <= made.confidence.max() <= 1


def test_a_sample_is_what_a_recipe_asks_for(photographs: Photographs) -> None:
    stages = {
        "nearby": Data(patch=(32, 48), reference="nearby", offset=(8, 16)),
        "same": Data(patch=(32, 48), reference="same"),
        "inside": Data(patch=(32, 48), reference="inside"),
    }
    made = {name: simulated(photographs, data).sample(0, 0) for name, data in stages.items()}
    assert all(inputs.lr.shape == (1, 3, 32, 48) for inputs in made.values())
    assert made["nearby"].center is not None and made["same"].center is None
    top, left, bottom, right = made["inside"].box[0].tolist()
    hr = made["inside"].hr
    assert hr is not None and (bottom - top, right - left) == (16, 24)
    part = hr[..., 2 * top : 2 * bottom, 2 * left : 2 * right]
    assert made["inside"].ref.equal(part)
    with pytest.raises(ValueError, match="triplets"):
        simulated(photographs, Data(kind="flow"))


def test_a_reduced_wide_photo_is_its_truth_made_smaller(photographs: Photographs) -> None:
    simulator = simulated(photographs, Data(patch=(32, 40), reference="same", wide="reduced"))
    for index in range(4):
        made = simulator.sample(index, 0)
        assert made.hr is not None
        truth = np.round(255 * made.hr[0].permute(1, 2, 0).numpy()).astype(np.uint8)
        small = Image.fromarray(truth).resize((40, 32), Image.Resampling.BICUBIC)
        lr = 255 * made.lr[0].permute(1, 2, 0).numpy()
        inner = slice(2, -2), slice(2, -2)  # beyond its sides the photo goes on, the patch does not
        np.testing.assert_allclose(np.asarray(small)[inner], lr[inner], rtol=0, atol=0.6)


def crispness(simulator: Simulator) -> list[float]:
    """Of twelve wide photos: their finest band's contrast against the truth's, made smaller."""
    shares = []
    for index in range(12):
        made = simulator.sample(index, 0)
        assert made.hr is not None
        truth = np.round(255 * made.hr[0].permute(1, 2, 0).numpy()).astype(np.uint8)
        small = np.asarray(Image.fromarray(truth).resize((48, 48), Image.Resampling.BICUBIC))
        bands = [
            (image - cv2.GaussianBlur(image, (0, 0), 0.8))[4:-4, 4:-4].ravel()
            for image in (255 * made.lr[0].permute(1, 2, 0).numpy(), small.astype(np.float32))
        ]
        shares.append(float(bands[0] @ bands[1] / (bands[1] @ bands[1])))
    return shares


def test_a_blurred_wide_photo_is_softer_than_its_truth_made_smaller(
    photographs: Photographs,
) -> None:
    shares = crispness(
        simulated(photographs, Data(patch=(48, 48), reference="same", wide="blurred"))
    )
    assert np.median(shares) < 0.7  # a few are as crisp, by the camera's own sharpening


def test_a_sharp_wide_photo_is_as_crisp_as_its_truth_made_smaller(photographs: Photographs) -> None:
    shares = crispness(simulated(photographs, Data(patch=(48, 48), reference="same", wide="sharp")))
    reduced = [abs(share - 1) < 0.02 for share in shares]
    assert 4 <= sum(reduced) < 12  # the others were shot, with noise and JPEG
    assert np.mean(shares) > 0.85


def test_another_frame_of_a_clip_is_the_truth_moved(photographs: Photographs) -> None:
    """Of the same sharpness and nearly the same tone, and never of another scene."""
    data = Data(patch=(48, 48), reference="same", wide="reduced")
    apart = {}
    for tele in ("simulated", "frame"):
        simulator = simulated(photographs, replace(data, tele=tele))
        found = []
        for index in range(16):
            made = simulator.simulate(index, 0)
            assert made.inputs.hr is not None
            plain = F.interpolate(made.inputs.lr, scale_factor=2, mode="bicubic")
            found.append(
                float((made.inputs.ref - made.inputs.hr).abs().mean())
                / float((plain - made.inputs.hr).abs().mean())
            )
            if tele == "frame":
                assert made.useful and made.valid.min() == 1
        apart[tele] = float(np.median(found))
    assert apart["frame"] < 0.6 * apart["simulated"]


def test_several_frames_of_a_clip_are_each_moved_on_their_own(photographs: Photographs) -> None:
    data = Data(patch=(48, 48), reference="same", wide="reduced", tele="frame")
    one, two = (simulated(photographs, replace(data, frames=frames)) for frames in (1, 2))
    apart = []
    for index in range(8):
        single, several = one.sample(index, 0), two.sample(index, 0)
        assert not single.more_refs
        (other,) = several.more_refs
        assert torch.equal(single.ref, several.ref)
        assert several.hr is not None and other.shape == several.hr.shape
        assert not torch.equal(other, several.ref)
        plain = F.interpolate(several.lr, scale_factor=2, mode="bicubic")
        apart.append(float((other - several.hr).abs().mean() / (plain - several.hr).abs().mean()))
    assert min(apart) < 1  # of the same scene


def test_around_the_patch_the_box_tells_where_the_reference_lies(photographs: Photographs) -> None:
    data = Data(patch=(32, 48), reference="around", offset=(0, 40))
    simulator = simulated(photographs, data)
    boxes = set()
    for index in range(24):
        inputs = simulator.sample(index, 0)
        assert inputs.center is not None and inputs.confidence is not None
        top, left, bottom, right = inputs.box[0].tolist()
        assert (bottom - top, right - left) == (32, 48) and max(abs(top), abs(left)) <= 40
        own = inputs.lr[..., max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        part = inputs.center[
            ..., max(0, -top) : max(0, 32 - top), max(0, -left) : max(0, 48 - left)
        ]
        assert torch.equal(own, part)
        boxes.add((top, left))
    assert (0, 0) in boxes and 8 < len(boxes) < 20


def test_a_real_wide_photo_is_cut_with_its_truth(photographs: Photographs) -> None:
    sharp = tuple(photographs.pixels(index) for index in range(2))
    wides = tuple(photo[::2, ::2] for photo in sharp)
    scenes = replace(Photographs.of(sharp), wides=wides)
    view = replace(EXACT, useless=0.5)
    simulator = Simulator(
        scenes,
        small(zoom=(2.0, 2.0), tele=PLAIN, view=view, layout="beside", offset=(0, 60), on=0.5),
    )
    for index in range(12):
        made = simulator.simulate(index, 0)
        hr = made.inputs.hr
        assert hr is not None
        phases = [hr[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]  # it may be turned
        assert any(torch.equal(made.inputs.lr, phase) for phase in phases)
    with pytest.raises(ValueError, match="is not 2 times its wide photo"):
        Simulator(replace(scenes, wides=wides[::-1]), small())
    assert scenes.only([1]).wide(0) is wides[1] and photographs.wide(0) is None


def test_same_seeds_give_the_same_bytes_in_any_order_and_process(photographs: Photographs) -> None:
    first = Simulator(photographs, small(), seed=3)
    other = pickle.loads(pickle.dumps(Simulator(photographs, small(), seed=3)))

    def told(simulator: Simulator, index: int, epoch: int) -> bytes:
        made = simulator.simulate(index, epoch)
        images = (made.inputs.lr, made.inputs.ref, made.inputs.hr)
        arrays = [image.numpy() for image in images if image is not None]
        return b"".join(a.tobytes() for a in (*arrays, made.valid, made.confidence))

    forward = [told(first, index, 1) for index in range(6)]
    backward = [told(other, index, 1) for index in reversed(range(6))]
    assert forward == backward[::-1]
    assert len({*forward, told(first, 0, 2), told(Simulator(photographs, small()), 0, 1)}) == 8


def test_with_nothing_in_the_way_the_reference_is_the_truth(photographs: Photographs) -> None:
    settings = small(zoom=(2.0, 2.0), wide=PLAIN, tele=PLAIN, view=EXACT, taken=0)
    made = Simulator(photographs, settings).simulate(0, 0)
    assert made.inputs.hr is not None and made.useful
    assert psnr(made.inputs.ref, made.inputs.hr) > 55
    half = Image.fromarray((planes(made.inputs.hr) * 255).round().astype(np.uint8))
    reduced = np.asarray(half.resize((48, 48), Image.Resampling.BICUBIC)) / 255
    inner = np.s_[6:-6, 6:-6]
    assert psnr(planes(made.inputs.lr)[inner], reduced[inner]) > 50
    assert made.valid.min() == 1
    assert made.confidence[8:-8, 8:-8].mean() > 0.6


def test_a_truth_that_a_wide_lens_took_is_less_sharp_than_the_reference(
    photographs: Photographs,
) -> None:
    softer = CameraSettings(plain=1.0, lens=(1.0, 1.0), sharpen=(0, 0), shot=(1e-9, 1e-9), jpeg=0)
    settings = small(zoom=(2.0, 2.0), wide=softer, tele=PLAIN, view=EXACT, taken=1)
    made = Simulator(photographs, settings).simulate(0, 0)
    assert made.inputs.hr is not None
    truth, seen = planes(made.inputs.hr), planes(made.inputs.ref)
    contrast = [float((p - cv2.GaussianBlur(p, (0, 0), 0.8)).std()) for p in (truth, seen)]
    assert contrast[0] < 0.7 * contrast[1]
    reduced = cv2.resize(truth, planes(made.inputs.lr).shape[1::-1], interpolation=cv2.INTER_AREA)
    assert psnr(reduced, planes(made.inputs.lr)) > 38  # merely reduced


def test_a_bare_shot_has_lost_nothing_to_processing_and_its_lens_is_the_same() -> None:
    every = CameraSettings(mosaic=1, denoise=1, sharpen=(1, 1), plain=0)
    processed = camera.draw(every, np.random.default_rng(3))
    bare = camera.draw(replace(every, bare=1), np.random.default_rng(3))
    assert processed.demosaic and processed.denoise and processed.sharpen == 1
    assert (bare.demosaic, bare.denoise, bare.sharpen) == (None, 0, 0)
    assert (bare.lens, bare.shot, bare.quality) == (
        processed.lens, processed.shot, processed.quality,
    )  # fmt: skip


def test_the_reference_shows_what_belongs_to_the_place_moved_by_the_displacement(
    photographs: Photographs,
) -> None:
    view = ViewSettings(
        residual=(1.0, 1.0), edge=1, parallax=(6, 6), outside=0, border=0, gain=0, defocus=0,
        useless=0,
    )  # fmt: skip
    settings = small(zoom=(2.0, 2.0), wide=PLAIN, tele=PLAIN, view=view, taken=0)
    for index in range(3):
        made = Simulator(photographs, settings).simulate(index, 0)
        assert made.inputs.hr is not None
        moved = cv2.resize(made.displacement, (96, 96), interpolation=cv2.INTER_LINEAR)
        y, x = np.mgrid[0:96, 0:96].astype(np.float32)
        seen = cv2.remap(
            planes(made.inputs.hr), x + moved[..., 0], y + moved[..., 1], cv2.INTER_CUBIC
        )
        inside = np.s_[16:-16, 16:-16]
        laid = planes(made.inputs.ref)
        assert psnr(laid[inside], seen[inside]) > 38
        assert psnr(laid[inside], planes(made.inputs.hr)[inside]) < 32


def test_outside_the_tele_photo_there_is_nothing(photographs: Photographs) -> None:
    view = ViewSettings(outside=0.3, border=0.7)
    made = [Simulator(photographs, small(view=view)).simulate(index, 0) for index in range(12)]
    assert any(m.valid.max() == 0 for m in made)
    assert any(0 < m.valid.mean() < 1 for m in made)
    for m in made:
        fine = cv2.resize(m.valid, (96, 96), interpolation=cv2.INTER_LINEAR)
        enlarged = cv2.resize(planes(m.inputs.lr), (96, 96), interpolation=cv2.INTER_CUBIC)
        assert np.abs(planes(m.inputs.ref) - enlarged)[fine == 0].sum() < 0.01 * 96 * 96
        assert m.inputs.confidence is not None
        sure = m.inputs.confidence[0, 0].numpy()
        assert (sure[fine == 0] == 0).all() and (sure[fine == 1] > 0.003).all()
        far = cv2.erode((m.valid == 0).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
        assert m.confidence[far].sum() < 0.05 * far.sum() + 1e-6


def test_confidence_falls_where_the_reference_is_off(photographs: Photographs) -> None:
    view = ViewSettings(
        edge=1, parallax=(8, 16), outside=0, border=0, useless=0, spoilt=0, overlooked=0
    )
    simulator = Simulator(photographs, small(view=view, wide=CLEAN, tele=CLEAN))
    near, off = [], []
    for index in range(8):
        made = simulator.simulate(index, 0)
        length = np.linalg.norm(made.displacement, axis=-1)
        near.append(made.confidence[length < 0.5])
        off.append(made.confidence[length > 5])
    assert np.concatenate(off).mean() < 0.3 * np.concatenate(near).mean()


@pytest.mark.parametrize("change", [{"noise": (40, 40), "quality": (95, 95)}, {"quality": (5, 5)}])
def test_a_spoilt_reference_shows_the_same_scene_badly(
    photographs: Photographs, change: dict[str, tuple[float, float]]
) -> None:
    view = replace(EXACT, spoilt=1, **{"noise": (0.1, 0.1), **change})
    errors = []
    for index in range(6):
        inputs = Simulator(photographs, small(view=view, tele=PLAIN, zoom=(2, 2))).sample(index, 0)
        assert inputs.hr is not None
        errors.append(float((inputs.ref - inputs.hr).square().mean().sqrt()) * 255)
    assert 5 < max(errors) < 45  # of grey levels: about what was asked for, half of the time


def test_a_useless_reference_is_hardly_trusted(photographs: Photographs) -> None:
    view = ViewSettings(useless=1, outside=0, border=0)
    simulator = Simulator(photographs, small(view=view, wide=CLEAN))
    made = [simulator.simulate(index, 0) for index in range(9)]
    assert not any(m.useful for m in made)
    assert np.mean([m.confidence.mean() for m in made]) < 0.15
    assert any(float(m.inputs.ref.max()) < 0.05 for m in made)  # black


def shot(seed: int = 0, **changes: object) -> camera.Shot:
    settings = CameraSettings(**{**vars(CLEAN), **changes})  # type: ignore[arg-type]
    return camera.draw(settings, np.random.default_rng(seed))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_flat_colours_stay_what_they_are(mosaic: float, seed: int) -> None:
    """Through lens, demosaicing, denoising, sharpening and JPEG."""
    flat = np.full((80, 96, 3), (200, 90, 40), np.uint8)
    taken = shot(
        seed, lens=(0.8, 0.8), tail=(0.4, 0.4), growth=(0.3, 0.3), stretch=(1.3, 1.3),
        shake=(1.0, 1.0), mosaic=mosaic, denoise=1.0, sharpen=(0.8, 0.8), jpeg=1.0,
        quality=(95, 95),
    )  # fmt: skip
    light = camera.blurred(camera.linear(flat), taken, (0.5, 0.5), 2)
    made = camera.exposed(light, (40, 48), taken, 1.0, np.random.default_rng(0))
    assert np.abs(made[4:-4, 4:-4].astype(int) - flat[0, 0]).max() <= 3


def test_noise_is_shot_noise_and_read_noise() -> None:
    taken = shot(shot=(1e-3, 1e-3), read=(4e-3, 4e-3))
    for level in (30, 130, 220):
        light = camera.linear(np.full((256, 256, 3), level, np.uint8))
        made = camera.exposed(light, (256, 256), taken, 1.0, np.random.default_rng(0))
        expected = 1e-3 * float(light[0, 0, 0]) + 4e-3**2
        assert float(camera.linear(made).var()) == pytest.approx(expected, rel=0.1)


def test_a_point_spreads_as_the_lens_and_the_shake_say() -> None:
    taken = shot(lens=(1.0, 1.0), growth=(0.5, 0.5), stretch=(1.44, 1.44))
    kernel = taken.spread((0.6, 0.8), unit=2)
    assert kernel.sum() == pytest.approx(1)
    radius = len(kernel) // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    radial = (kernel * (0.6 * x + 0.8 * y) ** 2).sum()
    across = (kernel * (0.8 * x - 0.6 * y) ** 2).sum()
    assert radial == pytest.approx((2 * 1.5) ** 2 * 1.44, rel=0.05)
    assert across == pytest.approx((2 * 1.5) ** 2 / 1.44, rel=0.05)
    red, blue = (shot(fringe=(1.0, 1.0)).spread((0.6, 0.8), 2, c) for c in (0, 2))
    places = np.arange(len(red)) - len(red) // 2
    assert float((red.sum(axis=0) * places).sum()) == pytest.approx(-1.2, abs=0.1)
    assert float((blue.sum(axis=1) * places).sum()) == pytest.approx(1.6, abs=0.1)


def test_many_separable_kernels_are_one_convolution() -> None:
    taken = shot(lens=(0.7, 0.7), stretch=(1.6, 1.6), tail=(0.4, 0.4), shake=(2.0, 2.0))
    kernel = taken.spread((0.6, -0.8), 2)
    light = camera.linear(textured(64, 64))
    expected = cv2.filter2D(light, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT_101)
    assert psnr(camera.convolved(light, kernel), expected) > 50


def test_whole_pairs_know_where_each_pixel_lies_in_the_tele_photo() -> None:
    settings = PairSettings(
        zoom=(2.0, 2.0), things=(2, 2), near=(16, 16), exposure=(0, 0), balance=0, curve=(1, 1),
        wide=CLEAN, tele=CLEAN,
    )  # fmt: skip
    made = simulate_pair(textured(640, 800), 5, settings)
    assert made.wide.shape == made.tele.shape == (320, 400, 3)
    assert made.truth.shape == (640, 800, 3)
    assert 0.15 < made.visible.mean() < 0.3  # a quarter, less what is hidden
    soft = cv2.GaussianBlur(made.tele, (0, 0), 0.8)
    seen = cv2.remap(soft, made.points[..., 0], made.points[..., 1], cv2.INTER_LINEAR) / 255
    wide = made.wide / 255
    # Where something nearer begins, a pixel shows both.
    clear = cv2.erode(made.visible.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert psnr(seen[clear], wide[clear]) > 30
    assert np.array_equal(simulate_pair(textured(640, 800), 5, settings).tele, made.tele)


def test_photographs_are_decoded_once(tmp_path: Path) -> None:
    folder, cache = tmp_path / "photographs", tmp_path / "cache"
    (folder / "below").mkdir(parents=True)
    pixels = textured(300, 400)
    Image.fromarray(pixels).save(folder / "below" / "one.png")
    Image.fromarray(pixels[:100]).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"no photograph")
    for held in (None, cache, cache):
        loaded = load_photographs(folder, held, smallest=256)
        assert loaded.names == (str(Path("below", "one.png")),)
        assert np.array_equal(loaded.pixels(0), pixels)
        assert loaded.pixels(0, 1).shape == (150, 200, 3)
        assert [Path(s.split(" ")[0]).name for s in loaded.left_out] == ["broken.jpg", "small.png"]
    assert len(pickle.dumps(loaded)) < 2000
    kept = sorted(cache.glob("*.npy"))
    times = [path.stat().st_mtime_ns for path in kept]
    load_photographs(folder, cache, smallest=256)
    assert [path.stat().st_mtime_ns for path in kept] == times
    with pytest.raises(InputError, match="sharp photographs"):
        load_photographs(cache)


def test_settings_that_make_no_sense_are_refused(photographs: Photographs) -> None:
    for wrong in ({"scale": 5}, {"patch": (8, 16)}, {"layout": "over"}, {"zoom": (3.0, 2.0)}):
        with pytest.raises(ValueError):
            SimulatorSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="need 1088"):
        Simulator(photographs, SimulatorSettings(scale=4, patch=(256, 64)))
