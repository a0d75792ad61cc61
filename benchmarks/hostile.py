"""A folder of good pairs among malformed photos: `python -m benchmarks.hostile`.

Twenty small pairs of every format lie among 300 files that were real photos before bytes were cut
off, turned over, exchanged, zeroed or added, or another size was declared. Every one of these is
refused when it is read; many still have the EXIF of a good photo beside them, and some its name.
`dualsr upscale FOLDER -o OUT` runs as a process of its own, over the good pairs alone and over all.
Prints what came of it, and ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, TiffImagePlugin

from benchmarks._memory import MIB, Watch
from benchmarks._pairs import SAMPLES
from dualsr_cli.errors import InputError
from dualsr_cli.photos import read_photo

FORMATS = {
    "jpeg": ".jpg",
    "png": ".png",
    "tiff": ".tif",
    "heic": ".heic",
    "webp": ".webp",
    "avif": ".avif",
    "dng": ".dng",
}
_SCENES = ("phone-jpeg", "facade", "phone-heic")  # those with EXIF
_SHORT_SIDE = 112  # pixels of a small photo
_EXIF, _TAKEN, _ORIENTATION = 0x8769, 0x9003, 0x0112
_MORE_MEMORY = 256 * MIB
_PATIENCE = 1800.0  # seconds after which a run counts as hung


@dataclass(frozen=True)
class Run:
    """One run of the command.

    told: its lines on standard error; events: those of --json; results: the bytes of each file in
    OUT; own and worker: peak bytes of its two processes.
    """

    code: int
    seconds: float
    told: list[str]
    events: list[dict]
    results: dict[str, bytes]
    own: int
    worker: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--malformed", type=int, default=300)
    parser.add_argument("--good", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="make the folders here and leave them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.keep or Path(temporary)
        clean, album, ruins = home / "clean", home / "album", home / "ruins"
        add_good(clean, options.good)
        add_good(album, options.good)
        broken = add_malformed(album, options.malformed, options.seed)
        count = Counter(path.suffix for path in broken)
        print("malformed:", ", ".join(f"{number} {suffix}" for suffix, number in count.items()))
        alone = upscale(clean, home / "out-clean")
        among = upscale(album, home / "out-album")
        pairs = add_malformed_pairs(ruins, options.malformed // 4, options.seed)
        only = upscale(ruins, home / "out-ruins")
    print(f"{'run':28}exit code  results  seconds  driver MiB  worker MiB")
    rows = (("good pairs alone", alone), ("good among malformed", among), ("malformed pairs", only))
    for name, run in rows:
        print(
            f"{name:28}{run.code:9}{len(run.results):9}{run.seconds:9.1f}"
            f"{run.own / MIB:12.0f}{run.worker / MIB:12.0f}"
        )
    wrong = faults(alone, among, album, broken) + faults(None, only, ruins, pairs)
    kinds = Counter(kind for path in broken for kind in [fate(among, path)])
    print("of the malformed:", ", ".join(f"{number} {kind}" for kind, number in kinds.items()))
    print("\n".join(wrong) or "every promise is kept")
    return bool(wrong)


def faults(alone: Run | None, run: Run, folder: Path, broken: Sequence[Path]) -> list[str]:
    """Which promises a run over a folder with malformed files breaks.

    `alone` is the run over the good pairs by themselves; None where there are none.
    """
    expected = alone.results if alone else {}
    wrong = []
    if alone and max(run.own - alone.own, run.worker - alone.worker) > _MORE_MEMORY:
        wrong.append("much more memory than for the good pairs alone")
    if run.code != (3 if alone else 1):
        wrong.append(f"exit code {run.code}")
    for name in sorted(expected.keys() | run.results.keys()):
        if expected.get(name) != run.results.get(name):
            wrong.append(f"the result {name} is not that of the good pairs alone")
    if any("Traceback" in line or "unexpected error" in line for line in run.told):
        wrong.append("a traceback or an unexpected error")
    for path in broken:
        told = sentences(run, folder, path)
        if len(told) != 1:
            wrong.append(f"{path.relative_to(folder)} has {len(told)} sentences: {told}")
    return wrong


def sentences(run: Run, folder: Path, path: Path) -> list[str]:
    """What the lines on standard error say of a photo; of two in a pair that fails, one line."""
    names = (path, path.relative_to(folder).as_posix())
    starts = tuple(f"dualsr: {name} " for name in names) + tuple(f"{name} " for name in names)
    second = f"; and {path} "
    return [line for line in run.told if line.startswith(starts) or second in line]


def fate(run: Run, path: Path) -> str:
    """What the run says that a photo was: a leftover's reason, or part of a failed pair."""
    for event in run.events:
        if event["event"] == "leftover" and event["path"] == str(path):
            return str(event["reason"])
        if event["event"] == "failed" and str(path) in (event["wide"], event["tele"]):
            return "in a pair that failed"
    return "not named"


def upscale(folder: Path, out: Path, *options: str) -> Run:
    """`dualsr upscale FOLDER -o OUT --json` in processes of its own."""
    words = [sys.executable, "-m", "dualsr_cli", "upscale", str(folder), "-o", str(out), "--json"]
    with tempfile.TemporaryFile() as events, tempfile.TemporaryFile() as told:
        start = time.perf_counter()
        process = subprocess.Popen([*words, *options], stdout=events, stderr=told)
        watch = Watch(process.pid)
        try:
            code = process.wait(_PATIENCE)
        finally:
            process.kill()
            watch.stop()
        seconds = time.perf_counter() - start
        events.seek(0)
        told.seek(0)
        return Run(
            code,
            seconds,
            told.read().decode(errors="surrogateescape").splitlines(),
            [json.loads(line) for line in events.read().splitlines()],
            {
                path.relative_to(out).as_posix(): path.read_bytes()
                for path in out.rglob("*")
                if path.is_file() and ".dualsr" not in path.parts
            },
            watch.own,
            watch.worker,
        )


# --- good pairs ---


def add_good(folder: Path, count: int) -> list[Path]:
    """`count` pairs of small photos that show one scene, a minute apart, in several formats."""
    made = []
    for number in range(count):
        for lens in ("wide", "tele"):
            format = ("jpeg", "heic", "png", "tiff", "webp", "avif")[number % 6]
            path = folder / f"day {number % 2}" / f"{_name(number, lens)}{FORMATS[format]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(small_photo(number, lens, format))
            made.append(path)
    return made


def _name(number: int, lens: str) -> str:
    return f"IMG_{2 * number + 100 + (lens == 'tele'):04}"


def small_photo(number: int, lens: str, format: str) -> bytes:
    """The wide or tele photo of a real pair, reduced, as if taken in minute `number`."""
    image, tags = _sample(_SCENES[number % len(_SCENES)], lens)
    exif = Image.Exif()
    exif.load(tags)
    exif.get_ifd(_EXIF)[_TAKEN] = f"2024:05:17 12:{number:02}:{2 * (lens == 'tele'):02}"
    short = _SHORT_SIDE + number // len(_SCENES)
    share = short / min(image.size)
    image = image.resize((round(image.width * share), round(image.height * share)))
    if format == "dng":
        return _dng(image, exif)
    file = io.BytesIO()
    if format == "heic":
        heif = pillow_heif.from_pillow(image)
        heif.save(file, quality=90, exif=exif.tobytes())
    else:
        quality = {"quality": 90} if format in ("jpeg", "webp", "avif") else {}
        image.save(file, format, exif=exif, **quality)
    return file.getvalue()


@cache
def _sample(name: str, lens: str) -> tuple[Image.Image, bytes]:
    """A sample photo at a quarter of its sides, and its EXIF."""
    path = next((SAMPLES / name).glob(f"{lens}.*"))
    heic = path.suffix == ".heic"
    with pillow_heif.open_heif(path).to_pillow() if heic else Image.open(path) as image:
        exif = image.getexif()
        exif.get_ifd(_EXIF).pop(0x9291, None)  # fractions of the second
        for tag in (0x0100, 0x0101):  # the size, which is another one soon
            exif.pop(tag, None)
        exif[_ORIENTATION] = 1
        small = image.convert("RGB").resize((image.width // 4, image.height // 4))
        return small, exif.tobytes()


def _dng(image: Image.Image, exif: Image.Exif) -> bytes:
    """A raw file with the photo's pixels as an RGGB mosaic of 16 bits."""
    rgb = np.asarray(image)
    height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
    mosaic = np.empty((height, width), np.uint16)
    for y, x, colour in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[y::2, x::2] = rgb[y:height:2, x:width:2, colour].astype(np.uint16) * 257
    fields = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (0x010F, 0x0110):  # make and model
        fields[tag] = exif[tag]
    fields[_EXIF] = {
        tag: value for tag, value in exif.get_ifd(_EXIF).items() if tag in (_TAKEN, 0x920A, 0xA405)
    }
    for tag, kind, value in (
        (0x828D, 3, (2, 2)),  # the mosaic's period
        (0x828E, 1, b"\0\1\1\2"),
        (0xC612, 1, b"\1\4\0\0"),  # DNG 1.4
        (0xC614, 2, "Phone"),
        (0xC61D, 4, 65535),
        (0xC621, 10, (1, 0, 0, 0, 1, 0, 0, 0, 1)),
        (0xC628, 5, (1, 1, 1)),
        (0xC65A, 3, 21),
    ):
        fields.tagtype[tag] = kind
        fields[tag] = value
    file = io.BytesIO()
    Image.fromarray(mosaic).save(file, "TIFF", tiffinfo=fields)
    data = bytearray(file.getvalue())
    at = data.find(struct.pack("<HHI", 262, 3, 1))  # what the pixels mean: a mosaic, not grey
    struct.pack_into("<H", data, at + 8, 32803)
    return bytes(data)


# --- malformed photos ---


def add_malformed(folder: Path, count: int, seed: int) -> list[Path]:
    """`count` files among the good pairs of `add_good`, made of such pairs and of whole samples.

    By turns: under a name of its own, as a copy "IMG_0100 (1)" beside the good photo, by the good
    photo's name above it, or by its name in another folder.
    """
    chance = random.Random(seed)
    made = []
    for index in range(count):
        format = list(FORMATS)[index % len(FORMATS)]
        number, lens = chance.randrange(20), chance.choice(["wide", "tele"])
        name = _name(number, lens)
        path = (
            folder
            / (
                f"broken {index:03}",
                f"day {number % 2}/{name} ({index})",
                name,
                f"again {index:03}/{name}",
            )[index // len(FORMATS) % 4]
        )
        path = path.with_name(path.name + FORMATS[format])
        while path.exists():
            path = path.with_name(f"{path.stem} ({index}){path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_malformed(path, _real(format, number, lens, chance), chance)
        made.append(path)
    return made


def add_malformed_pairs(folder: Path, count: int, seed: int) -> list[Path]:
    """`count` files in pairs of one time each, by names of phones, all malformed."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count // 2):
        for lens in ("wide", "tele"):
            format = list(FORMATS)[number % len(FORMATS)]
            path = folder / (_name(number, lens) + FORMATS[format])
            _write_malformed(path, small_photo(number, lens, format), chance)
            made.append(path)
    return made


def _real(format: str, number: int, lens: str, chance: random.Random) -> bytes:
    """A sound photo of that format: a sample as it is now and then, or a small one."""
    samples = sorted(path for path in SAMPLES.glob(f"*/*{FORMATS[format]}") if path.is_file())
    if samples and chance.random() < 0.3:
        return chance.choice(samples).read_bytes()
    return small_photo(number, lens, format)


def _write_malformed(path: Path, sound: bytes, chance: random.Random) -> None:
    """Damage a photo, more and more, until it is refused."""
    data = sound
    for _ in range(100):
        data = chance.choice(_MUTATIONS)(data, chance)
        path.write_bytes(data)
        try:
            read_photo(path)
        except InputError:
            return
        if chance.random() < 0.5:
            data = sound
    raise RuntimeError(f"{path} cannot be made unreadable")


def _truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: int(len(data) * chance.random())]


def _without_head(data: bytes, chance: random.Random) -> bytes:
    return data[chance.randrange(1, 64) :]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    """Some bytes are others, half of them in the header."""
    changed = bytearray(data)
    for _ in range(chance.choice([4, 32, 256])):
        end = chance.choice([len(data), min(len(data), 600)])
        if end:
            changed[chance.randrange(end)] = chance.randrange(256)
    return bytes(changed)


def _zeroed(data: bytes, chance: random.Random) -> bytes:
    size = min(len(data), chance.choice([64, 512, 4096]))
    at = chance.randrange(len(data) - size + 1)
    return data[:at] + bytes(size) + data[at + size :]


def _swapped(data: bytes, chance: random.Random) -> bytes:
    """Two blocks have changed places, as on a failing card."""
    size = chance.choice([16, 128, 512])
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    if len(blocks) > 1:
        first, second = chance.sample(range(len(blocks)), 2)
        blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


def _resized(data: bytes, chance: random.Random) -> bytes:
    """The header declares another size, where it is found."""
    for mark, shift, kind in (
        (b"IHDR", 4, ">II"),  # PNG
        (b"\xff\xc0\0\x11\x08", 5, ">HH"),  # JPEG
        (b"ispe\0\0\0\0", 8, ">II"),  # HEIC and AVIF
        (b"\x9d\x01\x2a", 3, "<HH"),  # WebP
        (struct.pack("<HHI", 256, 4, 1), 8, "<I"),  # TIFF and DNG
        (struct.pack("<HHI", 257, 4, 1), 8, "<I"),
    ):
        at = data.find(mark) + shift
        if at >= shift and at + struct.calcsize(kind) <= len(data):
            changed = bytearray(data)
            sizes = [chance.choice([0, 1, 65535, 30000]) for _ in kind[1:]]
            struct.pack_into(kind, changed, at, *sizes)
            data = bytes(changed)
    return data


def _followed(data: bytes, chance: random.Random) -> bytes:
    """Only a part is left, and something else follows."""
    return _truncated(data, chance) + chance.randbytes(chance.choice([10, 1000, 100_000]))


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _truncated,
    _without_head,
    _flipped,
    _zeroed,
    _swapped,
    _resized,
    _followed,
)


if __name__ == "__main__":
    sys.exit(main())
