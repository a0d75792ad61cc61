"""How fast one core makes training samples: `python -m benchmarks.simulator [PHOTOGRAPHS]`.

Beside it, in the same run, what most training of super-resolution does instead: the same patches
cut from the same photographs and reduced by a bicubic filter, the reference being the truth.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from dualsr_cli.networks import Inputs
from dualsr_cli.training.simulator import (
    Photographs,
    Simulator,
    SimulatorSettings,
    load_photographs,
)

STAGES = {
    "cut from the photographs": "_scene",
    "to linear light": "linear",
    "wide photo": "_wide",
    "reference": "_reference",
    "displacement": "displacement",
    "confidence": "_confidence",
}
PARTS = {
    "lens blur": "blurred",
    "sensor, noise, processing": "exposed",
    "  of it JPEG": "compressed",
    "  of it denoising": "_denoised",
    "colours of the reference": "toned",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path, nargs="?", help="a folder; noise without it")
    parser.add_argument("--cache", type=Path, help="for decoded photographs; temporary without it")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--count", type=int, default=400)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        photographs = _photographs(options.photographs, options.cache or Path(temporary))
        _measure(photographs, options.patch, options.scale, options.count)


def _photographs(folder: Path | None, cache: Path) -> Photographs:
    if folder is not None:
        start = time.perf_counter()
        loaded = load_photographs(folder, cache)
        print(f"{len(loaded)} photographs in {time.perf_counter() - start:.1f} s")
        return loaded
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2400, 3200, 3), np.uint8)
    return Photographs.of((cv2.GaussianBlur(noise, (0, 0), 1.5),))


def _measure(photographs: Photographs, patch: int, scale: int, count: int) -> None:
    settings = SimulatorSettings(scale=scale, patch=(patch, patch))
    print(f"patches of {patch} x {patch}, truth {scale * patch} x {scale * patch}, one core,")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    simulator = Simulator(photographs, settings)
    sources: dict[str, Callable[[int], Inputs]] = {
        "bicubic": lambda index: _bicubic(photographs, patch, scale, index),
        "simulator": lambda index: simulator.sample(index, 1),
    }
    for name, sample in sources.items():
        sample(count)
        start, cpu = time.perf_counter(), time.process_time()
        size = sum(_bytes(sample(index)) for index in range(count))
        wall, busy = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"{name:10s} {count / busy:7.1f} samples/s of CPU time, {count / wall:7.1f} by the "
            f"clock, {size / busy / 1e6:6.1f} MB/s"
        )
    _shares(simulator, count)


def _bicubic(photographs: Photographs, patch: int, scale: int, index: int) -> Inputs:
    rng = np.random.default_rng(index)
    pixels = photographs.pixels(int(rng.integers(len(photographs))))
    side = scale * patch
    top, left = rng.integers(0, np.array(pixels.shape[:2]) - side + 1)
    truth = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    small = np.asarray(Image.fromarray(truth).resize((patch, patch), Image.Resampling.BICUBIC))
    lr, hr = (torch.tensor(p).permute(2, 0, 1)[None].float() / 255 for p in (small, truth))
    return Inputs(lr, hr, torch.tensor([[0, 0, patch, patch]]), hr)


def _shares(simulator: Simulator, count: int) -> None:
    with cProfile.Profile(time.process_time) as profile:
        for index in range(count):
            simulator.simulate(index, 2)
    times: dict[str, float] = {}
    for (_, _, name), (_, _, _, total, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        times[name] = times.get(name, 0.0) + total
    whole = times["simulate"]
    for title, table in (("stage", STAGES), ("part", PARTS)):
        print(f"{title:30s} share   ms of CPU time a sample")
        for told, name in table.items():
            spent = times.get(name, 0.0)
            print(f"{told:30s} {spent / whole:5.0%}   {spent / count * 1000:6.2f}")


def _bytes(inputs: Inputs) -> int:
    images = (inputs.lr, inputs.ref, inputs.hr, inputs.center, inputs.confidence)
    return sum(image.nbytes for image in images if image is not None)


if __name__ == "__main__":
    main()
