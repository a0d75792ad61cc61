"""`dualsr upscale` as a person and a script see it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from dualsr_cli.photos import read_photo

from .conftest import Run

Pair = tuple[Path, Path]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_pair_becomes_one_sharper_photo(dualsr: Run, pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "schärfer.png"
    code, stdout, stderr = dualsr("upscale", *pair, "-o", out)
    assert code == 0
    assert stdout == f"{out}\n"
    assert re.search(r"^upscale: done in", stderr, re.M)
    assert left_in(out.parent) == ["schärfer.png"]
    result = read_photo(out)
    assert (result.width, result.height) == (2064, 1161)  # 2.58 times 800 x 450
    with Image.open(pair[0]) as wide:
        bigger = np.asarray(wide.resize((2064, 1161), Image.Resampling.BICUBIC), float)
    # The same picture, and in its middle, where the tele looks, a sharper one.
    assert np.abs(result.pixels - bigger).mean() < 6
    middle = np.s_[400:760, 700:1360]
    slopes = [
        np.abs(np.diff(p[middle].astype(float), axis=1)).mean() for p in (result.pixels, bigger)
    ]
    assert slopes[0] > 1.15 * slopes[1]


def test_what_scripts_read(dualsr: Run, pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "a.jpg"
    code, stdout, _ = dualsr("upscale", *pair, "-o", out, "--json", "--scale", "1.5")
    assert code == 0
    (line,) = stdout.splitlines()
    told = json.loads(line)
    assert list(told) == [
        "event", "item", "state", "output", "files", "wide", "tele", "width", "height", "scale",
        "made_by", "tele_used", "refused", "swapped", "fit", "agreement", "shares", "seconds",
        "output_bytes", "notes", "reason", "model",
    ]  # fmt: skip
    assert told["event"] == "upscaled"
    assert (told["wide"], told["tele"], told["output"]) == (str(pair[0]), str(pair[1]), str(out))
    assert (told["width"], told["height"], told["scale"]) == (1200, 675, 1.5)
    assert told["tele_used"] is True
    assert (told["refused"], told["reason"]) == (None, None)
    assert told["fit"]["density"] == pytest.approx(2.58, abs=0.02)
    assert sum(told["shares"]) == pytest.approx(1, abs=0.01)
    assert told["output_bytes"] == out.stat().st_size
    assert (told["model"], told["made_by"]) == ("auto", "dualsr-sharp")
    assert set(told["seconds"]) >= {"read", "align", "reconstruct", "write"}


def test_a_refused_tele_is_told_and_the_wide_photo_enlarged(
    dualsr: Run, quick: Pair, tmp_path: Path
) -> None:
    code, stdout, stderr = dualsr("upscale", *quick, "-o", tmp_path / "a.png", "--json", "-q")
    assert code == 0
    told = json.loads(stdout)
    assert (told["tele_used"], told["refused"]) == (False, "featureless")
    assert (told["scale"], told["width"], told["height"]) == (2, 240, 180)
    assert told["reason"] == "black.png is black: choose another tele photo"
    assert stderr == (
        "dualsr: warning: black.png is black: choose another tele photo; enlarged without a tele "
        "photo\n"
    )


def test_another_scenes_tele_is_told(dualsr: Run, sample_pairs: Path, tmp_path: Path) -> None:
    for name in ("wide.jpg", "tele.jpg"):
        with Image.open(sample_pairs / "other-scene" / name) as image:
            image.reduce(2).save(tmp_path / name, quality=95, exif=image.info["exif"])
    photos = tmp_path / "wide.jpg", tmp_path / "tele.jpg"
    code, _, stderr = dualsr("upscale", *photos, "-o", tmp_path / "a.jpg", "-q", "--scale", "1")
    assert code == 0
    assert "tele.jpg does not show the scene of wide.jpg" in stderr


def test_quiet_and_verbose(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    words = ("upscale", *small, "-o", tmp_path / "a.jpg", "--scale", "1")
    assert dualsr(*words, "-q")[2] == ""
    told = dualsr(*words, "-v")[2]
    assert "agreement: " in told
    assert "tele against wide: 2.58x" in told
    assert "time: read " in told


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "tif", "tiff", "webp", "heic", "PNG"])
def test_each_format(dualsr: Run, quick: Pair, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a.{suffix}"
    assert dualsr("upscale", *quick, "-o", out)[0] == 0
    pillow_heif.register_heif_opener()
    with Image.open(out) as image:
        assert image.size == (240, 180)
        expected = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}.get(suffix, suffix.upper())
        assert image.format == expected
        assert image.getexif()[0x0110] == "SAMSUNG-SM-N900A"
        assert image.getexif().get(0x0112, 1) == 1


def test_format_quality_and_depth_as_asked(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    sizes = []
    for quality in (30, 95):
        out = tmp_path / f"{quality}.jpg"
        assert dualsr("upscale", *quick, "-o", out, "--quality", quality)[0] == 0
        sizes.append(out.stat().st_size)
    assert sizes[0] < 0.7 * sizes[1]
    deep = tmp_path / "deep.png"
    assert dualsr("upscale", *quick, "-o", deep, "--bit-depth", "16")[0] == 0
    assert read_photo(deep).bit_depth == 16
    odd = tmp_path / "picture.dat"
    assert dualsr("upscale", *quick, "-o", odd, "--format", "png")[0] == 0
    assert odd.read_bytes().startswith(b"\x89PNG")


def test_sixteen_bits_in_are_sixteen_bits_out(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    import cv2

    wide = cv2.imread(str(quick[0])).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.tif"), wide)
    assert dualsr("upscale", tmp_path / "deep.tif", quick[1], "-o", tmp_path / "a.tif")[0] == 0
    assert read_photo(tmp_path / "a.tif").bit_depth == 16


def test_metadata_goes_along_unless_stripped(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    kept, bare = tmp_path / "kept.jpg", tmp_path / "bare.jpg"
    assert dualsr("upscale", *quick, "-o", kept)[0] == 0
    assert dualsr("upscale", *quick, "-o", bare, "--strip-metadata")[0] == 0
    with Image.open(kept) as image:
        exif = image.getexif()
        assert exif[0x0131].startswith("dualsr ")
        assert exif.get_ifd(0x8769)[0xA002] == 240
    with Image.open(bare) as image:
        assert "exif" not in image.info
    assert b"SM-N900A" not in bare.read_bytes()


def test_crop_to_tele(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    part, whole = tmp_path / "part.png", tmp_path / "whole.png"
    assert dualsr("upscale", *small, "-o", whole, "--scale", "2")[0] == 0
    code, stdout, _ = dualsr(
        "upscale", *small, "-o", part, "--scale", "2", "--crop-to", "tele", "--json"
    )
    assert code == 0
    told = json.loads(stdout)
    assert told["width"] == pytest.approx(400 / 2.58 * 2, abs=6)
    assert told["height"] == pytest.approx(225 / 2.58 * 2, abs=6)
    cut, full = read_photo(part).pixels.astype(int), read_photo(whole).pixels.astype(int)
    # Where it was cut from, found by looking for it.
    found = [
        (top, left)
        for top in range(0, full.shape[0] - cut.shape[0], 2)
        for left in range(0, full.shape[1] - cut.shape[1], 2)
        if np.abs(full[top + 40, left + 40 : left + 240] - cut[40, 40:240]).mean() < 2
    ]
    top, left = found[0]
    window = full[top : top + cut.shape[0], left : left + cut.shape[1]]
    assert np.abs(window - cut).mean() < 0.5


def test_crop_to_a_refused_tele_is_impossible(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    words = ("upscale", *quick, "-o", tmp_path / "a.png", "--crop-to", "tele", "-q")
    code, stdout, stderr = dualsr(*words)
    assert (code, stdout) == (1, "")
    assert "there is nothing to crop to: black.png is black" in stderr
    assert left_in(tmp_path) == []


def test_the_order_does_not_matter(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    one, two = tmp_path / "1.png", tmp_path / "2.png"
    words = ("--scale", "1.5")
    assert dualsr("upscale", *small, "-o", one, *words)[0] == 0
    code, stdout, stderr = dualsr("upscale", small[1], small[0], "-o", two, *words, "--json")
    assert code == 0
    assert json.loads(stdout)["swapped"] is True
    assert json.loads(stdout)["wide"] == str(small[0])
    assert "tele.jpg shows less of the scene than wide.jpg: taken as the tele photo" in stderr
    assert one.read_bytes() == two.read_bytes()


def test_orientation_of_one_of_the_two(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    """The same pixels, stored on their side with the tag that says so, make the same result."""
    for name, path in zip(("wide", "tele"), small, strict=True):
        with Image.open(path) as image:
            upright = image.convert("RGB")
        upright.save(tmp_path / f"{name}-upright.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(
            tmp_path / f"{name}-turned.png", exif=exif
        )
    results = []
    for wide, tele in (("upright", "upright"), ("turned", "upright"), ("upright", "turned")):
        words = tmp_path / f"wide-{wide}.png", tmp_path / f"tele-{tele}.png"
        assert dualsr("upscale", *words, "-o", tmp_path / "out.png", "--scale", "1.5")[0] == 0
        results.append(read_photo(tmp_path / "out.png").pixels)
    assert (results[1] == results[0]).all()
    assert (results[2] == results[0]).all()


def test_the_preview_needs_nothing_but_itself(dualsr: Run, small: Pair, tmp_path: Path) -> None:
    page = tmp_path / "look here.html"
    words = ("upscale", *small, "-o", tmp_path / "a.jpg", "--scale", "2", "--preview", page)
    assert dualsr(*words)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.lower().startswith("<!doctype html>")
    assert "data:image/" in text
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//|file:)""", text)
    assert "wide.jpg" in text


def test_the_preview_of_a_refused_tele(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    page = tmp_path / "look.html"
    assert dualsr("upscale", *quick, "-o", tmp_path / "a.jpg", "--preview", page)[0] == 0
    assert "black.png is black" in page.read_text(encoding="utf-8")


WRONG_USAGE: dict[str, tuple[list[str], str]] = {
    "suffix": (["-o", "{tmp}/a.gif"], "a.gif"),
    "no suffix": (["-o", "{tmp}/a"], "suffix"),
    "no output": ([], "'-o'"),
    "scale too small": (["-o", "{tmp}/a.png", "--scale", "0.5"], "between 1 and 16"),
    "scale too large": (["-o", "{tmp}/a.png", "--scale", "99"], "between 1 and 16"),
    "scale nan": (["-o", "{tmp}/a.png", "--scale", "nan"], "between 1 and 16"),
    "scale no number": (["-o", "{tmp}/a.png", "--scale", "big"], "'--scale'"),
    "device": (["-o", "{tmp}/a.png", "--device", "toaster"], "--device toaster is unknown"),
    "device 99": (["-o", "{tmp}/a.png", "--device", "cuda:99"], "not on this machine"),
    "model": (["-o", "{tmp}/a.png", "--model", "magic"], "there is no model 'magic'"),
    "crop": (["-o", "{tmp}/a.png", "--crop-to", "moon"], "'--crop-to'"),
    "16-bit jpeg": (["-o", "{tmp}/a.jpg", "--bit-depth", "16"], "16"),
    "depth": (["-o", "{tmp}/a.png", "--bit-depth", "12"], "12"),
    "quality": (["-o", "{tmp}/a.jpg", "--quality", "0"], "quality"),
    "format": (["-o", "{tmp}/a.jpg", "--format", "gif"], "gif"),
    "option": (["-o", "{tmp}/a.jpg", "--frobnicate"], "--frobnicate"),
}


@pytest.mark.parametrize("name", WRONG_USAGE)
def test_wrong_usage_is_told_in_one_sentence(
    dualsr: Run, quick: Pair, tmp_path: Path, name: str
) -> None:
    words, sentence = WRONG_USAGE[name]
    words = [word.format(tmp=tmp_path) for word in words]
    code, stdout, stderr = (
        dualsr("upscale", *quick, *words, "-q") if words else dualsr("upscale", *quick)
    )
    assert (code, stdout) == (2, "")
    assert stderr.startswith("dualsr: ")
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert left_in(tmp_path) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    words = ("upscale", *quick, "-o", tmp_path / "a.png", "--device", "cuda")
    code, _, stderr = dualsr(*words)
    assert code == 2
    assert stderr == "dualsr: --device cuda is not on this machine: choose auto or cpu\n"


def test_the_tele_left_out(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    code, _, stderr = dualsr("upscale", quick[0], "-o", tmp_path / "a")
    assert code == 2
    assert "small.jpg is neither a folder nor a pairs table: name two photos" in stderr


def test_one_photo_twice(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    code, _, stderr = dualsr("upscale", quick[0], quick[0], "-o", tmp_path / "a.png")
    assert code == 1
    assert "small.jpg was given as wide and as tele photo" in stderr
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("which", [0, 1])
def test_an_input_is_never_written_over(
    dualsr: Run, quick: Pair, tmp_path: Path, which: int
) -> None:
    copies = [tmp_path / path.name for path in quick]
    for path, copy in zip(quick, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    target = copies[which].parent / "." / copies[which].name
    code, _, stderr = dualsr("upscale", *copies, "-o", target)
    assert code == 1
    assert "is one of the photos themselves" in stderr
    assert [copy.read_bytes() for copy in copies] == [path.read_bytes() for path in quick]
    os.symlink(copies[which], tmp_path / "link.png")
    assert dualsr("upscale", *copies, "-o", tmp_path / "link.png")[0] == 1
    assert copies[which].read_bytes() == quick[which].read_bytes()


@pytest.mark.parametrize("target", ["/dev/null/a.png", "/proc/a.png"])
def test_a_target_that_cannot_be_written(
    dualsr: Run, quick: Pair, tmp_path: Path, target: str
) -> None:
    code, stdout, stderr = dualsr("upscale", *quick, "-o", tmp_path / target, "-q")
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"dualsr: {tmp_path / target} cannot be written: ")
    assert stderr.count("\n") == 1
    assert left_in(tmp_path) == []


def test_a_preview_that_cannot_be_written(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    words = ("upscale", *quick, "-o", tmp_path / "a.png", "--preview", "/dev/null/a.html", "-q")
    code, _, stderr = dualsr(*words)
    assert code == 1
    assert stderr.splitlines()[-1].startswith("dualsr: /dev/null/a.html cannot be written: ")


def test_an_earlier_result_is_replaced(dualsr: Run, quick: Pair, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"old")
    assert dualsr("upscale", *quick, "-o", out)[0] == 0
    assert read_photo(out).width == 240
    assert left_in(tmp_path) == ["a.png"]


PICTURE = Image.fromarray(
    np.add.outer(np.arange(60) * 2, np.arange(80))[..., None].repeat(3, 2).astype(np.uint8)
)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def huge_png() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 40, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    return png + saved(PICTURE, "PNG")[33:]


def corrupted() -> bytes:
    data = bytearray(saved(PICTURE, "PNG"))
    middle = len(data) // 2
    data[middle : middle + 20] = b"\xff" * 20
    return bytes(data)


UNSOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty.jpg": ("is empty (0 bytes)", bytes),
    "cut.jpg": ("is truncated or damaged", lambda: saved(PICTURE, "JPEG")[:700]),
    "cut.png": ("is truncated or damaged", lambda: saved(PICTURE, "PNG")[:-60]),
    "cut.tif": ("is truncated or damaged", lambda: saved(PICTURE, "TIFF")[:2000]),
    "corrupted.png": ("is truncated or damaged", corrupted),
    "cmyk.jpg": ("is in CMYK", lambda: saved(PICTURE.convert("CMYK"), "JPEG")),
    "one bit.png": ("has 1 bit per pixel", lambda: saved(PICTURE.convert("1"), "PNG")),
    "one bit.tif": ("has 1 bit per pixel", lambda: saved(PICTURE.convert("1"), "TIFF")),
    "animated.png": (
        "is animated",
        lambda: saved(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)]),
    ),
    "animated.webp": (
        "is animated",
        lambda: saved(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)]),
    ),
    "text.jpg": ("is a text file", lambda: b"These are not the pixels that you look for."),
    "film.heic": ("is a video", lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100)),
    "very wide.png": ("is 60000 x 40 pixels", huge_png),
    "missing.jpg": ("does not exist", bytes),
}


@pytest.mark.parametrize("place", ["wide", "tele"])
@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_photo_is_told_in_one_sentence(
    dualsr: Run, quick: Pair, tmp_path: Path, name: str, place: str
) -> None:
    sentence, content = UNSOUND[name]
    bad = tmp_path / name
    if name != "missing.jpg":
        bad.write_bytes(content())
    words = (bad, quick[1]) if place == "wide" else (quick[0], bad)
    code, stdout, stderr = dualsr("upscale", *words, "-o", tmp_path / "out.png", "-q")
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"dualsr: {bad} {sentence}")
    assert stderr.count("\n") == 1
    assert left_in(tmp_path) == ([] if name == "missing.jpg" else [name])


def test_a_misnamed_and_a_grey_photo_are_read_and_told(
    dualsr: Run, quick: Pair, tmp_path: Path
) -> None:
    (tmp_path / "misnamed.jpg").write_bytes(saved(PICTURE, "PNG"))
    (tmp_path / "grey.png").write_bytes(saved(PICTURE.convert("L"), "PNG"))
    words = (tmp_path / "misnamed.jpg", tmp_path / "grey.png", "-o", tmp_path / "a.png")
    code, _, stderr = dualsr("upscale", *words)
    assert code == 0
    assert "misnamed.jpg is a PNG file by its content" in stderr
    assert "grey.png is grey" in stderr


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 3), (300, 17)])
def test_tiny_photos(dualsr: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    PICTURE.resize(size).save(tmp_path / "wide.png")
    PICTURE.resize((size[1], size[0])).save(tmp_path / "tele.png")
    words = (tmp_path / "wide.png", tmp_path / "tele.png", "-o", tmp_path / "a.png")
    code, _, stderr = dualsr("upscale", *words, "-q")
    assert code == 0
    assert "enlarged without a tele photo" in stderr
    assert read_photo(tmp_path / "a.png").width == 2 * size[0]


_KILLED = """
import sys
from pathlib import Path
from benchmarks._kill_points import killed_at
from dualsr_cli.commands import run
import cv2, pyvips, torch, dualsr_cli.commands.upscale
from dualsr_cli import alignment, reconstruction

wide, tele, folder = map(Path, sys.argv[1:])
out, page = folder / "a.png", folder / "a.html"
words = ["upscale", wide, tele, "-o", out, "--preview", page, "-q"]
killed, step = True, 0
while killed:
    for path in (out, page):
        path.unlink(missing_ok=True)
    killed = killed_at(step, lambda: run([str(word) for word in words]))
    print("sizes", *(path.stat().st_size if path.exists() else 0 for path in (out, page)))
    step += 3
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix processes")
def test_a_kill_at_any_write_leaves_no_result_or_the_whole_one(
    quick: Pair, tmp_path: Path, repository: Path
) -> None:
    command = [sys.executable, "-c", _KILLED, *map(str, quick), str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=repository)
    assert printed.returncode == 0, printed.stderr
    lines = [line.split()[1:] for line in printed.stdout.splitlines() if line.startswith("sizes")]
    *killed, whole = ([int(n) for n in line] for line in lines)
    assert len(killed) >= 8
    assert min(whole) > 1000
    for sizes in killed:
        assert all(size in (0, full) for size, full in zip(sizes, whole, strict=True))
    assert {sizes[0] for sizes in killed} == {0, whole[0]}  # before and after the rename


def test_interrupted_by_the_person_at_the_keyboard(pair: Pair, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dualsr_cli", "upscale", *map(str, pair)]
    command += ["-o", str(tmp_path / "a.png"), "--scale", "8"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the reading is done, the work has begun
        process.send_signal(signal.SIGINT)
        stderr = first + process.communicate()[1]
    assert process.returncode == 130, stderr
    assert stderr.endswith("dualsr: interrupted\n")
    assert "Traceback" not in stderr
    assert left_in(tmp_path) == []
