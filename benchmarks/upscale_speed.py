"""Time and memory of `dualsr upscale` by size: `python -m benchmarks.upscale_speed PHOTO`.

Whole processes, from two JPEG files to a PNG at twice the wide photo's sides. PHOTO is any sharp
photograph; it is enlarged to the sizes asked for: the wide photo is it at half size, the tele
photo its middle. Without PHOTO the tele photo of a sample pair is used. Time depends on the scene:
foliage takes much longer than a clear sky, for more of it is worth taking from the tele
photo. `detail` is how much was, directly and from matched patches; where the tele photo was refused
it is 0, and the time is not that of the whole job.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks._pairs import SAMPLES

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="?", default=SAMPLES / "phone-jpeg" / "tele.jpg", type=Path)
    parser.add_argument("--sizes", nargs="+", type=float, default=[3, 6, 12, 24, 48])
    parser.add_argument("--model", default="auto")
    options = parser.parse_args()
    print("wide MP  seconds  s/MP   align  reconstruct  write  peak MiB  pixels MiB  beyond  ratio"
          "  detail")  # fmt: skip
    first = None
    for megapixels in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            wide, tele = write_pair(options.photo, megapixels, Path(folder))
            seconds, peak, report = _run(wide, tele, Path(folder) / "out.png", options.model)
        pixels = 3 * (2 * megapixels * 1e6 + report["width"] * report["height"])
        beyond = peak - pixels
        first = first or beyond
        stages = report["seconds"]
        print(
            f"{megapixels:7g}{seconds:9.1f}{seconds / megapixels:6.2f}{stages['align']:8.1f}"
            f"{stages['reconstruct']:13.1f}{stages['write']:7.1f}{peak / MIB:10.0f}"
            f"{pixels / MIB:12.0f}{beyond / MIB:8.0f}{beyond / first:7.2f}"
            f"{sum(report['shares'][:2]):8.1%}",
            flush=True,
        )


def write_pair(photo: Path, megapixels: float, folder: Path) -> tuple[Path, Path]:
    """A wide and a tele photo of `megapixels` each, with a 4:3 view and a zoom of 2."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5 / 4) * 4
    size = width, width * 3 // 4
    with Image.open(photo) as picture:
        whole = picture.convert("RGB").resize((2 * size[0], 2 * size[1]), Image.Resampling.LANCZOS)
    wide, tele = folder / "wide.jpg", folder / "tele.jpg"
    whole.resize(size, Image.Resampling.BICUBIC).save(wide, quality=95)
    left, top = size[0] // 2, size[1] // 2
    whole.crop((left, top, left + size[0], top + size[1])).save(tele, quality=95)
    return wide, tele


def _run(wide: Path, tele: Path, out: Path, model: str) -> tuple[float, int, dict]:
    """Seconds and peak bytes of a process of its own, and what it reports."""
    words = ["-m", "dualsr_cli", "upscale", wide, tele, "-o", out, "--scale", "2", "--json", "-q"]
    words += ["--model", model]
    # A process in between, so that the peak is this run's and not an earlier child's.
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, *map(str, words)],
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds = time.perf_counter() - start
    report, peak = done.stdout.decode().strip().splitlines()
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, int(peak) * unit, json.loads(report)


if __name__ == "__main__":
    main()
