"""Never worse: what a useless or damaged tele photo does to the result.

    python -m benchmarks.robustness [--data FOLDER]

Half-size protocol: both photos of a pair halved, the original wide photo is the truth, scale 2.
The tele photo is then damaged or replaced. Each row is the PSNR of the result minus that of the
run without a tele photo, over the whole picture and inside the footprint, and the reason where
the tele photo was refused. Exit code 1 if a whole picture lost more than 0.05 dB.

--protocol takes the pairs of another protocol of `benchmarks.quality`, all of them or those that
--pairs names: of city100 and blurred a lens blurs the wide photos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks._pairs import (
    Pair,
    Rgb,
    footprint,
    half_size,
    psnr,
    run,
    sample,
    with_pixels,
)
from benchmarks.quality import PROTOCOLS

ALLOWED_LOSS = 0.05  # dB
PAIRS = ("city", "facade", "phone-jpeg", "statue", "berlin-01-02", "iphone-001", "nikon-001")

Damage = Callable[[Rgb], Rgb]


def blurred(sigma: float) -> Damage:
    return lambda tele: cv2.GaussianBlur(tele, (0, 0), sigma)


def noisy(sigma: float) -> Damage:
    def add(tele: Rgb) -> Rgb:
        noise = np.random.default_rng(1).normal(0, sigma, tele.shape)
        return np.clip(np.rint(tele + noise), 0, 255).astype(np.uint8)

    return add


def heavily_compressed(tele: Rgb) -> Rgb:
    _, data = cv2.imencode(".jpg", tele, [cv2.IMWRITE_JPEG_QUALITY, 5])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def over_exposed(tele: Rgb) -> Rgb:
    return np.clip(tele.astype(np.float32) * 4, 0, 255).astype(np.uint8)


def half_defocused(tele: Rgb) -> Rgb:
    result = cv2.GaussianBlur(tele, (0, 0), 6)
    left = tele.shape[1] // 2
    result[:, :left] = tele[:, :left]
    return result


def moving_object(tele: Rgb) -> Rgb:
    """A third of each side, taken from the top left, stands in the middle as well."""
    height, width = tele.shape[0] // 3, tele.shape[1] // 3
    result = tele.copy()
    result[height : 2 * height, width : 2 * width] = tele[:height, :width]
    return result


def black_bar(tele: Rgb) -> Rgb:
    result = tele.copy()
    result[-(tele.shape[0] // 4) :] = 0
    return result


def watermark(tele: Rgb) -> Rgb:
    result = tele.copy()
    size = tele.shape[1] / 250
    for line in range(1, 4):
        place = (0, tele.shape[0] * line // 4)
        cv2.putText(
            result, "SPECIMEN", place, cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3, round(3 * size)
        )
    return result


def random_noise(tele: Rgb) -> Rgb:
    return np.random.default_rng(2).integers(0, 256, tele.shape, np.uint8)


DAMAGES: dict[str, Damage] = {
    "as taken": lambda tele: tele,
    "black": np.zeros_like,
    "white": lambda tele: np.full_like(tele, 255),
    **{f"blurred, sigma {sigma}": blurred(sigma) for sigma in (2, 4, 8, 16)},
    **{f"noisy, sigma {sigma}": noisy(sigma) for sigma in (10, 25, 50, 100)},
    "upside down": lambda tele: tele[::-1, ::-1],
    "mirrored left to right": lambda tele: tele[:, ::-1],
    "mirrored top to bottom": lambda tele: tele[::-1],
    "turned by 90 degrees": np.rot90,
    "JPEG quality 5": heavily_compressed,
    "over-exposed, 2 stops": over_exposed,
    "right half defocused": half_defocused,
    "a moving object": moving_object,
    "black bar, a quarter": black_bar,
    "watermark": watermark,
    "random noise": random_noise,
}


def rows(pair: Pair, other_scene: Rgb, model: str) -> Iterator[tuple[str, float, float, str]]:
    """Damage, whole picture in dB, footprint in dB, reason of the refusal."""
    plain = run(pair.wide, None).pixels
    aligned = run(pair.wide, pair.tele, "detail-transfer").aligned
    inside = footprint(aligned.homography, pair.wide, pair.tele) if aligned else None
    cases = {**DAMAGES, "another scene": lambda tele: other_scene}
    for name, damage in cases.items():
        tele = with_pixels(pair.tele, damage(pair.tele.pixels))
        result = run(pair.wide, tele, model)
        whole, part = (
            psnr(result.pixels, pair.truth, mask) - psnr(plain, pair.truth, mask)
            for mask in (None, inside)
        )
        yield name, whole, part, result.refused


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.robustness", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="berlin/ and city100/")
    parser.add_argument("--pairs", nargs="+", metavar="NAME", help=" ".join(PAIRS))
    parser.add_argument("--protocol", choices=[*PROTOCOLS], default="half-size")
    parser.add_argument("--model", default="auto", help="as of `dualsr upscale`")
    options = parser.parse_args()
    names = options.pairs or (PAIRS if options.protocol == "half-size" else ())
    if options.protocol != "half-size" and not options.data:
        parser.error(f"--protocol {options.protocol} needs --data")

    # Its wide photo: its tele photo is of the house that the facade pairs show as well.
    other_scene = half_size("other-scene", "samples", *sample("other-scene")).wide.pixels
    pairs = PROTOCOLS[options.protocol](options.data)
    print("dB against the same run without a tele photo")
    print(f"{'pair':<14}{'tele photo':<26}{'whole':>8}{'footprint':>11}  refused as")
    losses = 0
    for pair in pairs:
        if names and pair.name not in names:
            continue
        for damage, whole, part, refused in rows(pair, other_scene, options.model):
            lost = whole < -ALLOWED_LOSS
            losses += lost
            mark = "  <-- worse" if lost else ""
            print(f"{pair.name:<14}{damage:<26}{whole:>8.2f}{part:>11.2f}  {refused or '-'}{mark}",
                  flush=True)  # fmt: skip
    print(f"{losses} rows lost more than {ALLOWED_LOSS} dB")
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
