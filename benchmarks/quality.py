"""Quality in the half-size protocol, beside the plain recipe: `python -m benchmarks.quality`.

Both photos are halved (Pillow's antialiased bicubic), the original wide photo is the truth. The
plain recipe is SIFT homography, OpenCV's DIS flow, and the tele's Gaussian high band x 0.7 added
inside the footprint. Columns are dB over Pillow's bicubic; the footprint is that of the plain
recipe's homography, for all methods. Consistency is the mean difference, of 255, between the
result's area mean and the wide photo, where that is not clipped.

--data FOLDER adds the pairs of a folder with berlin/, buddha/ and city100/iphone, city100/nikon.
--scale 4 reduces the sample pairs 4x instead.
--protocol city100 takes City100 as it is: in is the short-focal photo halved, the truth is the
long-focal photo, the tele a shifted, slightly warped and re-toned crop of the truth's centre.
--protocol selfdzsr takes berlin/ as SelfDZSR measures real photos: in are the part of the wide
photo that the tele shows and the middle of the tele photo, the truth is the whole tele photo, laid
on the wide one. --protocol simulated simulates two pairs of each photo in photos/. --protocol
blurred blurs the middle of each (Gaussians of 0.8, 1.2 and 2 pixels), halves it, adds little noise
and JPEG; the tele is a crop of the sharp photo, as of City100's. --protocol noisy is the same with
blurs of 0.6, 1, 1.2 and 1.8 pixels, noise of 2, 5, 5 and 3 of 255, and JPEG of 92, 95, 85 and 90.

--model NAME measures detail-transfer or a network of the zoo in place of what dualsr does unasked;
the last column but one is its LPIPS beside bicubic's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks._pairs import (
    SCALE,
    Pair,
    Rgb,
    berlin,
    data_pairs,
    footprint,
    halved,
    middle_half,
    psnr,
    resized,
    rgb8,
    run,
    sample_pairs,
    whole,
    with_pixels,
)
from dualsr_cli.alignment import align
from dualsr_cli.benchmark import score
from dualsr_cli.photos import Photo, read_photo
from dualsr_cli.training import simulate_pair
from dualsr_cli.training._simulator_camera import compressed
from dualsr_cli.training.own_pairs import telephoto

SIGMA = 0.8  # output pixels; of 0.8, 1.2, 1.6 and 2.4 the one with the plain recipe's best means
COLUMNS = ("plain", "dualsr", "no tele")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder with berlin/, buddha/, city100/")
    parser.add_argument("--protocol", choices=[*PROTOCOLS], default="half-size")
    parser.add_argument("--model", default="auto", help="as of `dualsr upscale`")
    parser.add_argument("--precision", default="fp32", help="of the network: fp32, bf16 or fp16")
    parser.add_argument("--quick", action="store_true", help="every sixth pair of --data")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--scale", type=int, choices=[2, 4], default=SCALE, help="of half-size")
    options = parser.parse_args()
    if options.scale != SCALE and (options.protocol != "half-size" or options.data):
        parser.error("only the sample pairs in the half-size protocol have another scale")
    if options.protocol != "half-size" and not options.data:
        parser.error(f"--protocol {options.protocol} needs --data")
    rows = []
    if not options.json:
        print(
            f"{'pair':22}{'bicubic':>8}",
            *(f"{name + ' centre/corner/full':>28}" for name in COLUMNS),
            " consistency   LPIPS  refused as",
        )
    pairs = PROTOCOLS[options.protocol](options.data)
    if options.scale != SCALE:
        pairs = sample_pairs(options.scale)
    for number, pair in enumerate(pairs):
        if options.quick and number > 5 and number % 6:
            continue
        rows.append(_row(pair, options.model, options.precision))
        print(json.dumps(rows[-1]) if options.json else _line(rows[-1]), flush=True)
    groups = {row["group"]: [r for r in rows if r["group"] == row["group"]] for row in rows}
    if len(groups) > 1:
        groups["all"] = rows
    for group, members in groups.items():
        mean = _mean(group, members)
        print(json.dumps(mean) if options.json else _line(mean))


def _half_size(data: Path | None) -> Iterator[Pair]:
    yield from sample_pairs()
    if data:
        yield from data_pairs(data)


def _row(pair: Pair, model: str, precision: str) -> dict:
    height, width = pair.truth.shape[:2]
    bicubic = resized(pair.wide.pixels, (width, height))
    plain, mask = plain_recipe(pair, bicubic)
    scale = pair.scale
    ours = run(pair.wide, pair.tele, model, precision, scale)
    alone = run(pair.wide, None, scale=scale)
    reduced = cv2.resize(
        ours.pixels.astype(np.float32), (width // scale, height // scale),
        interpolation=cv2.INTER_AREA,
    )  # fmt: skip
    unclipped = (pair.wide.pixels > 2) & (pair.wide.pixels < 253)
    return {
        "pair": pair.name,
        "group": pair.group,
        "bicubic": psnr(bicubic, pair.truth),
        **{
            name: [
                psnr(pixels, pair.truth, part) - psnr(bicubic, pair.truth, part)
                for part in (mask, ~mask, None)
            ]
            for name, pixels in zip(COLUMNS, (plain, ours.pixels, alone.pixels), strict=True)
        },
        "consistency": float(np.abs(reduced - pair.wide.pixels)[unclipped].mean()),
        "lpips": [_lpips(pixels, pair.truth) for pixels in (ours.pixels, bicubic)],
        "refused": ours.refused,
    }


def _mean(group: str, rows: list[dict]) -> dict:
    """Without the parts that a pair does not have: no footprint where no homography was found."""
    return {
        "pair": f"mean of {len(rows)} {group}",
        "group": group,
        "bicubic": float(np.mean([row["bicubic"] for row in rows])),
        **{name: np.nanmean([row[name] for row in rows], axis=0).tolist() for name in COLUMNS},
        "consistency": float(np.mean([row["consistency"] for row in rows])),
        "lpips": np.mean([row["lpips"] for row in rows], axis=0).tolist(),
        "refused": "",
    }


def _line(row: dict) -> str:
    gains = ["{:>14.2f}{:>7.2f}{:>7.2f}".format(*row[name]) for name in COLUMNS]
    line = f"{row['pair']:22}{row['bicubic']:8.2f} {' '.join(gains)}{row['consistency']:13.2f}"
    return f"{line}{row['lpips'][0] / row['lpips'][1] - 1:+8.1%}  {row['refused']}"


def _lpips(result: Rgb, truth: Rgb) -> float:
    images = (pixels.astype(np.float32) / 255 for pixels in (result, truth))
    return score(*images, None, "half-size", metrics=("lpips",))["full"]["lpips"]


def plain_recipe(pair: Pair, bicubic: Rgb) -> tuple[Rgb, npt.NDArray[np.bool_]]:
    """The recipe's result, and the footprint of its homography; both as large as `bicubic`."""
    wide, tele, scale = pair.wide.pixels, pair.tele.pixels, pair.scale
    height, width = bicubic.shape[:2]
    homography = _sift(wide, tele)
    if homography is None:
        return bicubic, np.zeros((height, width), bool)
    mask = footprint(homography, pair.wide, pair.tele, scale)
    to_wide = np.array(
        [[1 / scale, 0, 0.5 / scale - 0.5], [0, 1 / scale, 0.5 / scale - 0.5], [0, 0, 1]]
    )
    to_tele = homography @ to_wide
    density = np.sqrt(abs(np.linalg.det(to_tele[:2, :2])))
    if density > 1.05:  # the tele is finer than the output: reduced first
        size = round(tele.shape[1] / density), round(tele.shape[0] / density)
        fx, fy = size[0] / tele.shape[1], size[1] / tele.shape[0]
        tele = cv2.resize(tele, size, interpolation=cv2.INTER_AREA)
        to_tele = np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5], [0, 0, 1]]) @ to_tele
    warped = cv2.warpPerspective(
        tele, to_tele, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    if not mask.any():
        return bicubic, mask
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    greys = [cv2.cvtColor(picture[box], cv2.COLOR_RGB2GRAY) for picture in (bicubic, warped)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*greys, None)
    y, x = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]].astype(np.float32)
    moved = cv2.remap(
        warped[box], x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float32)  # fmt: skip
    result = bicubic.astype(np.float32)
    high = moved - cv2.GaussianBlur(moved, (0, 0), SIGMA)
    result[box] += 0.7 * high * mask[box][..., None]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8), mask


def _sift(wide: Rgb, tele: Rgb) -> npt.NDArray[np.float64] | None:
    sift = cv2.SIFT_create(nfeatures=8000, contrastThreshold=0.02)
    (wide_points, wide_words), (tele_points, tele_words) = (
        sift.detectAndCompute(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), None) for p in (wide, tele)
    )
    matches = cv2.BFMatcher().knnMatch(tele_words, wide_words, k=2)
    good = [first for first, second in matches if first.distance < 0.8 * second.distance]
    if len(good) < 8:
        return None
    source = np.array([wide_points[match.trainIdx].pt for match in good])
    target = np.array([tele_points[match.queryIdx].pt for match in good])
    homography, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, 3.0, maxIters=5000)
    return homography


def _city100(data: Path) -> Iterator[Pair]:
    for camera in ("iphone", "nikon"):
        for path in sorted((data / "city100" / camera).glob("*L.png")):
            short, long = read_photo(path), read_photo(path.with_name(path.name[:-5] + "H.png"))
            yield Pair(
                f"{camera}-{path.name[:3]}", camera, with_pixels(short, halved(short.pixels)),
                _reference(long, seed=int(path.name[:3])), long.pixels,
            )  # fmt: skip


def _selfdzsr(data: Path) -> Iterator[Pair]:
    for name, wide, tele in berlin(data / "berlin"):
        aligned = align(wide, tele)
        triplet = telephoto(aligned, SCALE)
        yield Pair(
            name, "selfdzsr", with_pixels(wide, triplet.lr),
            with_pixels(tele, middle_half(tele.pixels)), triplet.hr,
        )  # fmt: skip


def _simulated(data: Path) -> Iterator[Pair]:
    for path in sorted((data / "photos").glob("*.jpg")):
        photo = read_photo(path)
        height, width = photo.pixels.shape[:2]
        shrink = 1600 / max(height, width)  # so that a photograph is sharp at its pixels
        truth = resized(rgb8(photo), (int(width * shrink) // 4 * 4, int(height * shrink) // 4 * 4))
        for seed in (0, 1):
            pair = simulate_pair(truth, seed)
            yield Pair(
                f"{path.stem[:18]}-{seed}", "simulated", with_pixels(photo, pair.wide),
                with_pixels(photo, pair.tele), pair.truth,
            )  # fmt: skip


def _shot(data: Path, shots: tuple[tuple[float, float, int], ...]) -> Iterator[Pair]:
    """shots: of each photograph; the blur's sigma, the noise's, of 255, and JPEG's quality."""
    random = np.random.default_rng(0)
    for path in sorted((data / "photos").glob("*.jpg")):
        photo = read_photo(path)
        height, width = photo.pixels.shape[:2]
        top, left = (
            max(0, side - most) // 2
            for side, most in zip((height, width), (1200, 1600), strict=True)
        )
        middle = rgb8(photo)[top : top + 1200, left : left + 1600]
        truth = np.ascontiguousarray(whole(middle))
        for sigma, noise, quality in shots:
            seen = cv2.GaussianBlur(truth, (0, 0), sigma)
            size = truth.shape[1] // SCALE, truth.shape[0] // SCALE
            small = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
            noisy = np.clip(np.rint(small + random.normal(0, noise, small.shape)), 0, 255)
            wide = compressed(noisy.astype(np.uint8), quality)
            sharp = with_pixels(photo, truth)
            yield Pair(
                f"{path.stem[:16]}-{sigma}", f"sigma {sigma}", with_pixels(photo, wide),
                _reference(sharp, seed=0), truth,
            )  # fmt: skip


def _reference(long: Photo, seed: int) -> Photo:
    """A crop of half the sides from the centre, as another camera held by hand would see it."""
    random = np.random.default_rng(seed)
    height, width = long.pixels.shape[:2]
    size = width // 2, height // 2
    angle, zoom = np.radians(random.uniform(-1, 1)), random.uniform(0.99, 1.01)
    shift = random.uniform(-0.03, 0.03, 2) * size
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([width, height]) / 2 + shift
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = centre - turn @ (np.array(size) / 2)
    matrix[2, :2] = random.uniform(-1e-5, 1e-5, 2)
    crop = cv2.warpPerspective(
        long.pixels, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    tone = random.uniform(0.9, 1.1, 3) * (crop / 255.0) ** random.uniform(0.9, 1.1)
    return with_pixels(long, np.clip(np.rint(tone * 255), 0, 255).astype(np.uint8))


PROTOCOLS = {
    "half-size": _half_size,
    "city100": _city100,
    "selfdzsr": _selfdzsr,
    "simulated": _simulated,
    "blurred": partial(_shot, shots=((0.8, 1, 95), (1.2, 1, 95), (2.0, 1, 95))),
    "noisy": partial(_shot, shots=((0.6, 2, 92), (1.0, 5, 95), (1.2, 5, 85), (1.8, 3, 90))),
}

if __name__ == "__main__":
    main()
