"""Folders as they come from failing cards and careless copies: good pairs among what is none."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))  # the long version is a benchmark

from benchmarks import hostile

Run = Callable[..., tuple[int, str, str]]


def add_pair(folder: Path, number: int, wide: str = "a.jpg", tele: str = "b.jpg") -> None:
    """A pair that its EXIF tells, in minute `number`; the suffixes decide the formats.

    The tele photo shows nothing: it is refused, in no time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, lens in ((wide, "wide"), (tele, "tele")):
        format = "png" if name.endswith(".png") else "jpeg"
        (folder / name).write_bytes(hostile.small_photo(number, lens, format))
    with Image.open(folder / tele) as image:
        exif = image.getexif()
        Image.new("RGB", image.size, "grey").save(folder / tele, exif=exif)


def test_malformed_files_cost_a_sentence_each_and_nothing_else(tmp_path: Path) -> None:
    clean, album = tmp_path / "clean", tmp_path / "album"
    for folder in (clean, album):
        hostile.add_good(folder, 6)
    broken = hostile.add_malformed(album, 28, seed=2)
    alone = hostile.upscale(clean, tmp_path / "out-clean")
    assert alone.code == 0
    assert len(alone.results) == 6
    among = hostile.upscale(album, tmp_path / "out-album")
    assert hostile.faults(alone, among, album, broken) == []
    assert sum(event["event"] == "upscaled" for event in among.events) == 6


def test_nothing_but_malformed_pairs(tmp_path: Path) -> None:
    broken = hostile.add_malformed_pairs(tmp_path / "ruins", 14, seed=3)
    run = hostile.upscale(tmp_path / "ruins", tmp_path / "out")
    assert hostile.faults(None, run, tmp_path / "ruins", broken) == []


def test_a_damaged_photo_does_not_displace_a_good_one(dualsr: Run, tmp_path: Path) -> None:
    """Their headers are sound: they look like copies, rivals or neighbours of good photos."""
    album = tmp_path / "album"
    broken = {
        "wide/a.jpg": "x/y/a.jpg",  # a copy that is preferred, for it lies nearer
        "tele/x/b.jpg": "x/y/b.jpg",
        "names/a_wide.jpg": "a_wide.png",  # the same role
        "neighbour/c.jpg": "b.jpg",  # with it near, time alone does not tell the pair
    }
    good = {}
    for number, (name, model) in enumerate(broken.items()):
        folder = album / Path(name).parts[0]
        place = (folder / model).parent
        wide, tele = ("a_wide.png", "a_tele.png") if model.endswith("png") else ("a.jpg", "b.jpg")
        add_pair(place, 7 * number, wide, tele)
        good[str(place / wide)] = str(place / tele)
        lens = "tele" if "b" in Path(model).name else "wide"
        data = hostile.small_photo(7 * number, lens, "jpeg")
        (album / name).parent.mkdir(exist_ok=True)
        (album / name).write_bytes(data[: len(data) * 2 // 3])
    code, out, err = dualsr("upscale", album, "-o", tmp_path / "out", "--json", "-q")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert {line["wide"]: line["tele"] for line in lines if line["event"] == "upscaled"} == good
    left = {line["path"]: line["reason"] for line in lines if line["event"] == "leftover"}
    assert left == {str(album / name): "unreadable" for name in broken}
    for name in broken:
        assert f"dualsr: {name} is truncated or damaged" in err


def test_what_is_no_file(dualsr: Run, tmp_path: Path) -> None:
    album = tmp_path / "album"
    add_pair(album / "folder.jpg", 0)
    (album / "folder.jpg" / "again").symlink_to(album, target_is_directory=True)
    (album / "loop.jpg").symlink_to("loop.jpg")
    (album / "gone.jpg").symlink_to("nowhere.jpg")
    (album / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(album / "pipe.jpg")
    unreadable = {"loop.jpg", "gone.jpg", "device.jpg", "pipe.jpg"}
    if os.geteuid():  # root may read everything
        (album / "locked.jpg").write_bytes((album / "folder.jpg" / "a.jpg").read_bytes())
        (album / "locked.jpg").chmod(0)
        unreadable.add("locked.jpg")
    code, out, err = dualsr("upscale", album, "-o", tmp_path / "out", "-q")
    assert code == 3
    told = [line.split()[1] for line in err.splitlines() if "warning" not in line]
    assert sorted(told) == sorted(unreadable)
    assert out == f"{tmp_path / 'out' / 'folder.jpg' / 'a.jpg'}\n"


NAMES = {
    "newline": b"a\nb",
    "terminal": b"a\x1b[2Jb",
    "latin-1": b"\xfcber \x80",
    "surrogate": b"\xed\xb0\x80",
    "longest": b"n" * 251,
    "longest, not ASCII": "名".encode() * 83,
    "option": b"-o",
    "glob": b"*[a]?",
    "quotes": b"'\"$(echo)`;",
}


def test_names(tmp_path: Path) -> None:
    """Each name is in a folder of its own beside a tele photo with a plain one."""
    album, out = tmp_path / "album", tmp_path / "out"
    expected = set()
    for number, name in enumerate(NAMES.values()):
        wide = os.fsdecode(name + b".jpg")
        add_pair(album / str(number), number, wide)
        expected.add(f"{number}/{wide}")
    for state in ("done", "unchanged"):
        run = hostile.upscale(album, out)
        assert run.code == 0, run.told
        assert run.results.keys() == expected
        told = {event["item"]: event["state"] for event in run.events if "item" in event}
        assert told == dict.fromkeys(expected, state)


def test_a_photo_is_told_that_its_partner_cannot_be_read(dualsr: Run, tmp_path: Path) -> None:
    album = tmp_path / "album"
    add_pair(album, 0)
    data = hostile.small_photo(0, "tele", "jpeg").replace(b" 12:00:02", b" 12:00:14")
    (album / "b.jpg").write_bytes(data[: len(data) * 2 // 3])
    code, out, err = dualsr("upscale", album, "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert "\na.jpg has no partner: b.jpg cannot be read\n" in f"\n{err}"
