"""Two clips of one scene, against a truth that is withheld: `python -m benchmarks.video`.

Photographs move (see `_moving`): a pan, a zoom, trees that pass a background, an object that flies
by. The fast camera sees every frame reduced 4x, the sharp one every eighth frame as it is, from
beside the fast one and in another tone. Columns are PSNR in dB over all frames and colours, then
flicker: the mean absolute difference, of 255, between the errors of successive frames.

  bicubic   each frame alone, by Pillow
  single    each frame alone, by `dualsr` without a reference
  photos    each frame alone with the nearest sharp frame, as `dualsr upscale` takes two photos
  clip 1    the clip with one reference
  clip 2    the clip with both sharp frames around each fast one

--data FOLDER takes photographs from a folder (or from several), else those of sample_pairs are
taken; --photographs N the first N of them. --same: the cameras stand in one place and have one
tone. --noise 0.1 adds noise to the fast clip, --quality 50 compresses its frames as JPEG, --crf 23
sends both clips through x264 at that quality. --model NAME restores the clip by a network of the
zoo, which takes as many references as it does.

`python -m benchmarks.video --keep FOLDER` measures nothing: it writes fast.mp4, sharp.mp4 and
truth.mp4 of the first scene there, for `dualsr upscale`.

`python -m benchmarks.video speed` prints seconds a frame, by the clock and of all cores, and peak
memory for 1280 x 720 -> 3840 x 2160.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import _memory
from benchmarks._moving import (
    EVERY,
    KINDS,
    RATE,
    Camera,
    Picture,
    Rgb,
    Scene,
    fast_frames,
    photograph,
    scene,
    sharp_frames,
)
from benchmarks._pairs import SAMPLES
from dualsr_cli.alignment import align
from dualsr_cli.errors import AlignmentError
from dualsr_cli.photos import Capture, Header, Metadata, Photo
from dualsr_cli.reconstruction import (
    Footage,
    Restorer,
    load_restorer,
    measure,
    plan_clip,
    reconstruct,
    references_of,
    restore_group,
)
from dualsr_cli.videos import Clip, ClipWriter, Colour, Frame, open_clip, read_frames

FACTOR = 4
PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}
FAST_STEP, SHARP_STEP = Fraction(1, RATE), Fraction(EVERY, RATE)  # seconds between frames
METHODS = ("bicubic", "single", "photos", "clip 1", "clip 2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=["quality", "speed"], default="quality")
    parser.add_argument("--data", type=Path, nargs="+", help="folders of photographs")
    parser.add_argument("--photographs", type=int, help="so many; default: all")
    parser.add_argument("--size", type=int, nargs=2, default=[960, 640], help="of the truth")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, of 1")
    parser.add_argument("--quality", type=int, default=0, help="of JPEG; 0: not compressed")
    parser.add_argument("--crf", type=int, help="of x264; default: not coded")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write a scene's clips there")
    parser.add_argument("--model", default="", help="a network; default: detail transfer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--without", nargs="+", choices=METHODS, default=[])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if options.keep:
        _keep(options)
        return
    restorer = load_restorer(options.model, options.device) if options.model else None
    (_speed if options.what == "speed" else _quality)(options, restorer)


def _photographs(options: argparse.Namespace, long_side: int) -> Iterator[tuple[str, Rgb, Rgb]]:
    """Pairs of photographs: what is filmed, and what passes by in front of it."""
    data: list[Path] | None = options.data
    if data:
        found = (path for folder in data for path in folder.iterdir())
        paths = sorted(path for path in found if path.suffix.lower() in PHOTOGRAPHS)
    else:
        paths = sorted(SAMPLES.glob("*/wide.jpg"))
    for first, second in list(zip(paths, paths[1:] + paths[:1], strict=True))[
        : options.photographs
    ]:
        name = first.stem if data else first.parent.name
        yield name, photograph(first, long_side), photograph(second, long_side)


def _scenes(options: argparse.Namespace) -> Iterator[tuple[str, Scene]]:
    width, height = options.size
    for name, first, second in _photographs(options, 5 * max(options.size) // 2):
        for kind in options.kinds:
            seen = scene(kind, first, second, width, height, apart=not options.same)
            yield f"{kind} {name}", seen


def _shots(seen: Scene, camera: Camera, frames: int) -> tuple[list[Rgb], list[Rgb], list[Rgb]]:
    """The frames of the truth, of the fast clip and of the sharp one."""
    truths = [seen.truth(number) for number in range(frames)]
    fast = [camera.shot(truth, number) for number, truth in enumerate(truths)]
    sharp = [picture.pixels for picture in sharp_frames(seen, 0, -(-frames // EVERY))]
    return truths, fast, sharp


def _keep(options: argparse.Namespace) -> None:
    _, seen = next(_scenes(options))
    camera = Camera(FACTOR, options.noise, options.quality)
    truths, fast, sharp = _shots(seen, camera, options.frames)
    options.keep.mkdir(parents=True, exist_ok=True)
    for name, frames, step in (
        ("fast.mp4", fast, FAST_STEP),
        ("sharp.mp4", sharp, SHARP_STEP),
        ("truth.mp4", truths, FAST_STEP),
    ):
        _film(options.keep / name, frames, step, options.crf)
        print(options.keep / name)


def _film(path: Path, frames: Sequence[Rgb], step: Fraction, crf: int | None) -> None:
    """Write a video in H.264; crf None: as good as its frames, by eye."""
    height, width = frames[0].shape[:2]
    times = tuple(number * step for number in range(len(frames)))
    like = Clip(
        path=path,
        width=width,
        height=height,
        rotation=0,
        times=times,
        end=len(frames) * step,
        time_base=step,
        colour=Colour("bt709", full_range=False, primaries=1, transfer=1),
        bit_depth=8,
        audio=False,
        metadata={},
        created=None,
        location=None,
        pixel_aspect=Fraction(1),
    )
    with ClipWriter(path, like, (width, height), "libx264", crf) as writer:
        for shown, pixels in zip(times, frames, strict=True):
            writer.write(Frame(pixels, shown))


def _coded(frames: Sequence[Rgb], step: Fraction, crf: int) -> list[Rgb]:
    """Frames as they come out of a video."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _film(path, frames, step, crf)
        return [frame.pixels for frame in read_frames(open_clip(path))]


def _quality(options: argparse.Namespace, restorer: Restorer | None) -> None:
    camera = Camera(FACTOR, options.noise, options.quality)
    left_out = set(options.without)
    if restorer:
        left_out.add("clip 2" if references_of(restorer) == 1 else "clip 1")
    methods = [name for name in METHODS if name not in left_out]
    if not options.json:
        print(f"{'scene':30}", *(f"{name:>9}" for name in methods), "  flicker",
              *(f"{name:>9}" for name in methods))  # fmt: skip
    rows = []
    for name, seen in _scenes(options):
        row = _row(name[:30], seen, camera, options, methods, restorer)
        rows.append(row)
        print(json.dumps(row) if options.json else _line(row), flush=True)
    mean = {
        "scene": f"mean of {len(rows)}",
        **{
            figure: {m: float(np.mean([row[figure][m] for row in rows])) for m in methods}
            for figure in ("psnr", "flicker")
        },
    }
    print(json.dumps(mean) if options.json else _line(mean))


def _line(row: dict) -> str:
    return (
        f"{row['scene']:30} "
        + " ".join(f"{value:9.2f}" for value in row["psnr"].values())
        + " " * 11
        + " ".join(f"{value:9.2f}" for value in row["flicker"].values())
    )


def _row(
    name: str,
    seen: Scene,
    camera: Camera,
    options: argparse.Namespace,
    methods: Sequence[str],
    restorer: Restorer | None,
) -> dict:
    truths, fast, sharp = _shots(seen, camera, options.frames)
    if options.crf is not None:
        fast, sharp = _coded(fast, FAST_STEP, options.crf), _coded(sharp, SHARP_STEP, options.crf)
    results = {
        method: _figures(MAKERS[method](fast, sharp, restorer), truths) for method in methods
    }
    return {
        "scene": name,
        "psnr": {method: values[0] for method, values in results.items()},
        "flicker": {method: values[1] for method, values in results.items()},
    }


def _figures(made: Iterator[Rgb], truths: Sequence[Rgb]) -> tuple[float, float]:
    """PSNR and flicker."""
    squares, changes, before = [], [], None
    for result, truth in zip(made, truths, strict=True):
        error = result.astype(np.float32) - truth
        squares.append(np.mean(error * error, dtype=np.float64))
        if before is not None:
            changes.append(np.mean(np.abs(error - before), dtype=np.float64))
        before = error
    psnr = 10 * np.log10(255**2 / max(float(np.mean(squares)), 1e-9))
    return float(psnr), float(np.mean(changes)) if changes else 0.0


def _bicubic(fast: list[Rgb], sharp: list[Rgb], restorer: Restorer | None) -> Iterator[Rgb]:
    for frame in fast:
        size = frame.shape[1] * FACTOR, frame.shape[0] * FACTOR
        yield np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def _alone(fast: list[Rgb], sharp: list[Rgb], restorer: Restorer | None) -> Iterator[Rgb]:
    for frame in fast:
        yield reconstruct(_photo(frame), None, FACTOR).pixels


def _as_photos(fast: list[Rgb], sharp: list[Rgb], restorer: Restorer | None) -> Iterator[Rgb]:
    for number, frame in enumerate(fast):
        nearest = sharp[min(round(number / EVERY), len(sharp) - 1)]
        try:
            aligned = align(_photo(frame), _photo(nearest))
            agreement = measure(aligned, FACTOR)
        except AlignmentError:
            aligned = agreement = None
        yield reconstruct(_photo(frame), aligned, FACTOR, agreement=agreement).pixels


def _clip(several: bool) -> Callable[[list[Rgb], list[Rgb], Restorer | None], Iterator[Rgb]]:
    def made(fast: list[Rgb], sharp: list[Rgb], restorer: Restorer | None) -> Iterator[Rgb]:
        clips = (
            _footage("fast", fast, FAST_STEP),
            _footage("sharp", sharp, SHARP_STEP),
        )
        plan = plan_clip(*clips, several=several, scale=FACTOR)
        for group in plan.groups:
            for frame in restore_group(plan, group, *clips, restorer):
                yield frame.pixels

    return made


MAKERS = {
    "bicubic": _bicubic,
    "single": _alone,
    "photos": _as_photos,
    "clip 1": _clip(False),
    "clip 2": _clip(True),
}


def _footage(name: str, frames: list[Rgb], step: Fraction) -> Footage:
    return Footage(
        name,
        [number * step for number in range(len(frames))],
        lambda start, stop: [Picture(frames[n], n * step) for n in range(start, stop)],
    )


def _photo(pixels: Rgb) -> Photo:
    height, width = pixels.shape[:2]
    return Photo(pixels, Header(Path("frame"), "png", width, height, 8, Metadata(), Capture()))


def _speed(options: argparse.Namespace, restorer: Restorer | None) -> None:
    """A pan; both clips are made before, and what holds them is not counted."""
    name, first, second = next(_photographs(options, 5000))
    seen = replace(scene("pan", first, second, 3840, 2160, apart=not options.same), finer=1)
    camera = Camera(3, options.noise, options.quality)
    count = max(options.frames, EVERY + 1)
    fast = [picture.pixels for picture in fast_frames(seen, camera, 0, count)]
    sharp = [picture.pixels for picture in sharp_frames(seen, 0, -(-count // EVERY))]
    for several in (False, True):
        if restorer and several != (references_of(restorer) > 1):
            continue
        clips = (
            _footage("fast", fast, FAST_STEP),
            _footage("sharp", sharp, SHARP_STEP),
        )
        _memory.give_back()
        _memory.forget_peak()
        held = _memory.resident()
        begun = time.perf_counter()
        plan = plan_clip(*clips, several=several, scale=3)
        planned, worked = time.perf_counter(), time.process_time()
        frames = sum(
            1 for group in plan.groups for _ in restore_group(plan, group, *clips, restorer)
        )
        ended, worked = time.perf_counter(), time.process_time() - worked
        row = {
            "references": 1 + several,
            "frames": frames,
            "plan_seconds": round(planned - begun, 2),
            "seconds_a_frame": round((ended - planned) / frames, 3),
            "cpu_seconds_a_frame": round(worked / frames, 3),
            "peak_mib": round((_memory.peak() - held) / _memory.MIB),
            "process_mib": round(_memory.peak() / _memory.MIB),
        }
        line = (
            f"1280 x 720 -> 3840 x 2160, {row['references']} reference(s), {name}: "
            f"{row['seconds_a_frame']} s a frame ({row['cpu_seconds_a_frame']} s of all cores, "
            f"{frames} frames), {row['plan_seconds']} s before the first; {row['peak_mib']} MiB "
            f"beside the clips, {row['process_mib']} MiB in all"
        )
        print(json.dumps(row) if options.json else line, flush=True)


if __name__ == "__main__":
    main()
