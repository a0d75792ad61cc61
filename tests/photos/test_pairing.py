"""Folders of tiny photos with real EXIF, as phones and people leave them behind."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from dualsr_cli.errors import InputError, OutputError
from dualsr_cli.photos._assignment import best_pairs
from dualsr_cli.photos.pairing import (
    FoundPair,
    Pairing,
    find_pairs,
    read_pairs_table,
    write_pairs_table,
)

NOON = datetime(2024, 5, 17, 12, 0, 0)
FOCAL = {13: 1.57, 24: 6.86, 26: 5.7, 48: 6.86, 77: 9.0, 120: 15.7, 240: 27.2}
"""35-mm equivalent -> focal length of the lenses of a made-up phone, mm."""


def shoot(
    path: Path,
    seconds: float | None = 0.0,
    equivalent: int | None = 26,
    *,
    make: str | None = "Apple",
    model: str | None = "iPhone 13 Pro",
    lens: str | None = None,
    focal: float | None = None,
    zoom: float | None = None,
    offset: str | None = None,
    place: tuple[float, float] | None = None,
    orientation: int = 1,
    fractions: bool = True,
    picture: np.ndarray | None = None,
) -> Path:
    """Write a tiny photo taken `seconds` after noon (None: EXIF has no time)."""
    exif = Image.Exif()
    main: dict[int, Any] = {0x010F: make, 0x0110: model, 0x0112: orientation}
    shot: dict[int, Any] = {0xA434: lens, 0xA405: equivalent, 0x9011: offset}
    if focal or equivalent:
        shot[0x920A] = IFDRational(round(100 * (focal or FOCAL.get(equivalent or 0, 4.0))), 100)
    if zoom:
        shot[0xA404] = IFDRational(round(100 * zoom), 100)
    if seconds is not None:
        time = NOON + timedelta(seconds=seconds)
        shot[0x9003] = f"{time:%Y:%m:%d %H:%M:%S}"
        if fractions:
            shot[0x9291] = f"{time.microsecond // 1000:03}"
    exif.update({tag: value for tag, value in main.items() if value is not None})
    exif.get_ifd(0x8769).update({tag: value for tag, value in shot.items() if value is not None})
    if place:
        north, east = place
        exif.get_ifd(0x8825).update(
            {
                1: "N" if north >= 0 else "S",
                2: (abs(north), 0.0, 0.0),
                3: "E" if east >= 0 else "W",
                4: (abs(east), 0.0, 0.0),
            }
        )
    return save(path, picture, exif=exif)


def save(path: Path, picture: np.ndarray | None = None, **options: Any) -> Path:
    """Write a photo without EXIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((12, 16, 3), 90, np.uint8) if picture is None else picture
    Image.fromarray(picture).save(path, **options)
    return path


def names(pairing: Pairing, folder: Path) -> set[tuple[str, str]]:
    return {
        (pair.wide.relative_to(folder).as_posix(), pair.tele.relative_to(folder).as_posix())
        for pair in pairing.pairs
    }


def reasons(pairing: Pairing, folder: Path) -> dict[str, str]:
    return {
        leftover.path.relative_to(folder).as_posix(): leftover.reason
        for leftover in pairing.leftovers
    }


def sentence(pairing: Pairing, name: str) -> str:
    (found,) = (leftover for leftover in pairing.leftovers if leftover.path.name == name)
    return found.sentence


def scene(number: int) -> np.ndarray:
    """A wide picture (96, 128, 3) of scene `number`: random blobs."""
    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC)


def zoomed(wide: np.ndarray, ratio: float = 2.0) -> np.ndarray:
    """What a tele sees of it: its middle, enlarged."""
    height, width = (round(side / ratio) for side in wide.shape[:2])
    top, left = (wide.shape[0] - height) // 2 + 3, (wide.shape[1] - width) // 2 - 2
    part = wide[top : top + height, left : left + width]
    return cv2.resize(part, (128, 96), interpolation=cv2.INTER_CUBIC)


class Correlation:
    """A content check that really looks, if only for zooms of 2 and 3; it counts its looks."""

    def __init__(self) -> None:
        self.looks: list[tuple[str, str]] = []

    def __call__(self, wide: Path, tele: Path) -> float:
        self.looks.append((wide.name, tele.name))
        large, small = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (wide, tele))
        assert large is not None
        assert small is not None
        scores = []
        for ratio in (2.0, 3.0):
            size = (round(small.shape[1] / ratio), round(small.shape[0] / ratio))
            part = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
            scores.append(float(cv2.matchTemplate(large, part, cv2.TM_CCOEFF_NORMED).max()))
        return max(0.0, *scores)


# --- by time and zoom


def test_a_wide_and_a_tele_of_one_moment(tmp_path: Path) -> None:
    shoot(tmp_path / "IMG_0001.jpg", 0.1, 26)
    shoot(tmp_path / "IMG_0002.jpg", 3.35, 77)
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.wide == tmp_path / "IMG_0001.jpg"
    assert pair.tele == tmp_path / "IMG_0002.jpg"
    assert pair.ratio == pytest.approx(77 / 26)
    assert pair.seconds_apart == pytest.approx(3.25)
    assert pair.evidence == "time, zoom"


def test_the_tele_may_come_first_and_be_turned(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 77, orientation=6)
    shoot(tmp_path / "b.jpg", 2, 26)
    assert names(find_pairs(tmp_path), tmp_path) == {("b.jpg", "a.jpg")}


def test_by_hand_15_seconds_are_near_and_25_are_not_unless_asked_for(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 15, 77)
    shoot(tmp_path / "c.jpg", 300, 26)
    shoot(tmp_path / "d.jpg", 325, 77)
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("a.jpg", "b.jpg")}
    assert reasons(pairing, tmp_path) == dict.fromkeys(("c.jpg", "d.jpg"), "no-partner-in-time")
    assert sentence(pairing, "c.jpg") == (
        "c.jpg has no partner: the nearest photo of its camera, d.jpg, is 25 s away, "
        "and a pair is at most 20 s apart"
    )
    assert len(find_pairs(tmp_path, max_gap=30.0).pairs) == 2


def test_two_phones_side_by_side_are_kept_apart(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 1, 72, make="samsung", model="SM-G998B")
    pairing = find_pairs(tmp_path)
    assert not pairing.pairs
    assert sentence(pairing, "a.jpg") == (
        "a.jpg has no partner: it is the only photo of its camera"
    )


def test_the_camera_on_the_front_is_another_camera(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 13, lens="iPhone 13 Pro back triple camera 1.57mm f/1.8")
    shoot(tmp_path / "b.jpg", 1, 26, lens="iPhone 13 Pro front camera 2.71mm f/2.2")
    assert not find_pairs(tmp_path).pairs


def test_zooms_that_are_too_small_or_too_large(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 2, 26)
    shoot(tmp_path / "c.jpg", 100, 13)
    shoot(tmp_path / "d.jpg", 102, 240)
    pairing = find_pairs(tmp_path)
    assert reasons(pairing, tmp_path) == {
        "a.jpg": "same-focal-length",
        "b.jpg": "same-focal-length",
        "c.jpg": "ratio-too-large",
        "d.jpg": "ratio-too-large",
    }
    assert sentence(pairing, "d.jpg") == (
        "d.jpg has no partner: c.jpg differs by a zoom of 18.5, and at most 10 is of use"
    )


def test_digital_zoom_makes_a_tele_where_there_is_no_better_one(tmp_path: Path) -> None:
    samsung: dict[str, Any] = {"make": "samsung", "model": "SM-G998B"}
    shoot(tmp_path / "a.jpg", 0, 24, focal=6.7, **samsung)
    shoot(tmp_path / "b.jpg", 2, 24, focal=6.7, zoom=2.0, **samsung)
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.ratio == pytest.approx(2.0)
    shoot(tmp_path / "c.jpg", 4, 72, focal=9.0, **samsung)
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("a.jpg", "c.jpg")}
    assert reasons(pairing, tmp_path) == {"b.jpg": "partner-taken"}


def test_places_far_apart(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26, place=(48.0, 11.0))
    shoot(tmp_path / "b.jpg", 4, 77, place=(48.0, 11.004))  # 298 m to the east
    shoot(tmp_path / "c.jpg", 100, 26, place=(-48.0, 180.0))
    shoot(tmp_path / "d.jpg", 104, 77, place=(-48.0, -179.9995))  # 37 m, over the date line
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("c.jpg", "d.jpg")}
    assert sentence(pairing, "a.jpg") == "a.jpg has no partner: b.jpg was taken 298 m away"


def test_three_lenses_at_one_moment(tmp_path: Path) -> None:
    for order in itertools.permutations((13, 26, 77)):
        folder = tmp_path / "-".join(map(str, order))
        for second, equivalent in enumerate(order):
            shoot(folder / f"{equivalent}.jpg", 4 * second, equivalent)
        pairing = find_pairs(folder)
        assert names(pairing, folder) == {("26.jpg", "77.jpg")}
        assert reasons(pairing, folder) == {"13.jpg": "partner-taken"}
        (folder / "77.jpg").unlink()  # now the ultra-wide is of use
        assert names(find_pairs(folder), folder) == {("13.jpg", "26.jpg")}


def test_four_lenses_at_one_moment(tmp_path: Path) -> None:
    for equivalent in (13, 24, 77, 240):
        shoot(tmp_path / f"{equivalent}.jpg", 0, equivalent)
    pairing = find_pairs(tmp_path)
    assert ("13.jpg", "240.jpg") not in names(pairing, tmp_path)
    assert len(pairing.pairs) * 2 + len(pairing.leftovers) == 4


def test_a_burst_is_matched_in_order(tmp_path: Path) -> None:
    for shot in range(4):
        shoot(tmp_path / f"w{shot}.jpg", shot, 26)
        shoot(tmp_path / f"t{shot}.jpg", 5 + shot, 77)
    assert names(find_pairs(tmp_path), tmp_path) == {
        (f"w{shot}.jpg", f"t{shot}.jpg") for shot in range(4)
    }


def test_the_sum_of_the_gaps_counts_not_the_shortest_one(tmp_path: Path) -> None:
    for name, seconds, equivalent in (("w1", 0, 26), ("t1", 5, 77), ("w2", 6, 26), ("t2", 11, 77)):
        shoot(tmp_path / f"{name}.jpg", seconds, equivalent)
    assert names(find_pairs(tmp_path), tmp_path) == {("w1.jpg", "t1.jpg"), ("w2.jpg", "t2.jpg")}
    # but one close pair is worth more than two loose ones
    for name, seconds, equivalent in (("t3", 100, 77), ("w3", 115, 26), ("t4", 116, 77)):
        shoot(tmp_path / f"{name}.jpg", seconds, equivalent)
    shoot(tmp_path / "w4.jpg", 131, 26)
    assert ("w3.jpg", "t4.jpg") in names(find_pairs(tmp_path), tmp_path)


def brute_force(row: list[int], worth: dict[tuple[int, int], int]) -> int:
    if not row:
        return 0
    first, rest = row[0], row[1:]
    return max(
        brute_force(rest, worth),
        *(
            worth[first, other] + brute_force([i for i in rest if i != other], worth)
            for other in rest
            if worth.get((first, other), 0) > 0
        ),
        0,
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=8))
def test_the_best_set_of_pairs_is_what_trying_all_finds(shots: list[tuple[int, int]]) -> None:
    shots.sort()
    worth = {
        (a, b): 21 - abs(shots[a][0] - shots[b][0])
        for a, b in itertools.combinations(range(len(shots)), 2)
        if shots[a][1] != shots[b][1] and abs(shots[a][0] - shots[b][0]) <= 20
    }
    row = list(range(len(shots)))
    found = best_pairs(
        row, lambda a, b: shots[b][0] - shots[a][0] <= 20, lambda a, b: worth.get((a, b), 0)
    )
    assert len({index for pair in found for index in pair}) == 2 * len(found)
    assert sum(worth[pair] for pair in found) == brute_force(row, worth)


# --- clocks


def test_a_time_zone_crossed_between_two_shots(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26, offset="+02:00")
    shoot(tmp_path / "b.jpg", -3600 + 4, 77, offset="+01:00")
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.seconds_apart == pytest.approx(4.0)
    # and a shot without an offset has that of the shots around it
    shoot(tmp_path / "c.jpg", 600, 26, offset="+02:00")
    shoot(tmp_path / "d.jpg", 603, 77)
    assert len(find_pairs(tmp_path).pairs) == 2


def test_one_local_time_in_two_time_zones_is_two_moments(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26, offset="+02:00")
    shoot(tmp_path / "b.jpg", 1, 77, offset="+01:00")
    assert not find_pairs(tmp_path).pairs


def test_names_of_pixels_tell_utc(tmp_path: Path) -> None:
    pixel: dict[str, Any] = {"make": "Google", "model": "Pixel 7 Pro", "fractions": False}
    shoot(tmp_path / "PXL_20240517_100000250.jpg", 0, 24, **pixel)  # local time is UTC + 2
    shoot(tmp_path / "PXL_20240517_100003750.jpg", -3600 + 3, 120, **pixel)  # and now UTC + 1
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.seconds_apart == pytest.approx(3.5)


def test_names_give_the_fraction_of_a_second_that_exif_lacks(tmp_path: Path) -> None:
    shoot(tmp_path / "IMG_20240517_120000_100.jpg", 0, 26, fractions=False)
    shoot(tmp_path / "IMG_20240517_120001_350.jpg", 1, 77, fractions=False)
    assert find_pairs(tmp_path).pairs[0].seconds_apart == pytest.approx(1.25)


# --- copies


def test_copies_of_one_shot_are_left_out(tmp_path: Path) -> None:
    shoot(tmp_path / "IMG_1234.jpg", 0.123, 26)
    shoot(tmp_path / "IMG_E1234.jpg", 0.123, 26)  # edited on the phone
    shoot(tmp_path / "IMG_1234.png", 0.123, 26)  # another format
    shoot(tmp_path / "backup" / "IMG_1234.jpg", 0.123, 26)
    shoot(tmp_path / "IMG_1235.jpg", 2, 77)
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("IMG_1234.jpg", "IMG_1235.jpg")}
    assert set(reasons(pairing, tmp_path).values()) == {"duplicate"}
    assert sentence(pairing, "IMG_E1234.jpg") == (
        "IMG_E1234.jpg is the same shot as IMG_1234.jpg, which is used in its place"
    )


def test_heic_beside_jpeg(tmp_path: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    shoot(tmp_path / "IMG_1.jpg", 0.5, 26)
    shoot(tmp_path / "IMG_1.heic", 0.5, 26)
    shoot(tmp_path / "IMG_2.heic", 1.5, 77)
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("IMG_1.heic", "IMG_2.heic")}
    assert reasons(pairing, tmp_path) == {"IMG_1.jpg": "duplicate"}


def test_shots_of_one_whole_second_are_copies_only_if_their_names_say_so(tmp_path: Path) -> None:
    for name in ("IMG_1", "IMG_2"):
        shoot(tmp_path / f"{name}.jpg", 0, 26, fractions=False)
    for name in ("IMG_3", "IMG_4", "IMG_4 (1)", "IMG_4-edited"):
        shoot(tmp_path / f"{name}.jpg", 1, 77, fractions=False)
    pairing = find_pairs(tmp_path)
    assert len(pairing.pairs) == 2
    assert reasons(pairing, tmp_path) == dict.fromkeys(
        ("IMG_4 (1).jpg", "IMG_4-edited.jpg"), "duplicate"
    )


# --- what lies in a folder


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    shoot(tmp_path / "a.JPG", 0, 26)
    shoot(tmp_path / "Bilder vom Mai" / "b 'ü'.jpeg", 1, 77)
    shoot(tmp_path / "._a.jpg", 0, 77)
    shoot(tmp_path / ".dualsr" / "c.jpg", 0, 77)
    (tmp_path / "IMG_0001.MOV").write_bytes(b"live")
    (tmp_path / "notes.txt").write_text("x")
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("a.JPG", "Bilder vom Mai/b 'ü'.jpeg")}
    assert not pairing.leftovers


def test_files_that_cannot_be_read_are_left_over_with_the_reason(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 1, 77)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.jpg").touch()
    (tmp_path / "in" / "text.jpg").write_text("no photo at all")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    pairing = find_pairs(tmp_path)
    assert len(pairing.pairs) == 1
    assert set(reasons(pairing, tmp_path).items()) == {
        ("in/empty.jpg", "unreadable"),
        ("in/text.jpg", "unreadable"),
        ("gone.jpg", "unreadable"),
    }
    assert sentence(pairing, "empty.jpg").startswith("in/empty.jpg is ")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        find_pairs(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot be opened"):
        find_pairs(save(tmp_path / "a.jpg"))
    (tmp_path / "empty").mkdir()
    assert find_pairs(tmp_path / "empty") == Pairing((), ())


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens every folder")
def test_a_closed_folder_inside(tmp_path: Path) -> None:
    closed = shoot(tmp_path / "closed" / "a.jpg").parent
    closed.chmod(0)
    try:
        assert reasons(find_pairs(tmp_path), tmp_path) == {"closed": "unreadable"}
    finally:
        closed.chmod(0o700)


# --- content, where time leaves a doubt


def test_a_lone_candidate_close_in_time_is_not_looked_at(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 3, 77)
    look = Correlation()
    assert len(find_pairs(tmp_path, same_scene=look).pairs) == 1
    assert look.looks == []


def test_of_several_candidates_the_one_that_shows_the_scene_wins(tmp_path: Path) -> None:
    shoot(tmp_path / "w1.jpg", 0, 26, picture=scene(1))
    shoot(tmp_path / "w2.jpg", 2, 26, picture=scene(2))
    shoot(tmp_path / "t.jpg", 3, 77, picture=zoomed(scene(1)))
    assert names(find_pairs(tmp_path), tmp_path) == {("w2.jpg", "t.jpg")}
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {("w1.jpg", "t.jpg")}
    assert pairing.pairs[0].evidence == "time, zoom, content"
    assert reasons(pairing, tmp_path) == {"w2.jpg": "scene-differs"}
    assert sentence(pairing, "w2.jpg") == "w2.jpg does not show the same scene as t.jpg"


def test_nested_pairs_are_found_by_content(tmp_path: Path) -> None:
    for name, seconds, equivalent, picture in (
        ("w1", 0, 26, scene(1)),
        ("w2", 2, 26, scene(2)),
        ("t2", 4, 77, zoomed(scene(2))),
        ("t1", 6, 77, zoomed(scene(1))),
    ):
        shoot(tmp_path / f"{name}.jpg", seconds, equivalent, picture=picture)
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {("w1.jpg", "t1.jpg"), ("w2.jpg", "t2.jpg")}


def test_a_lone_candidate_far_in_time_is_looked_at(tmp_path: Path) -> None:
    shoot(tmp_path / "w.jpg", 0, 26, picture=scene(1))
    shoot(tmp_path / "t.jpg", 12, 77, picture=zoomed(scene(1)))
    shoot(tmp_path / "w2.jpg", 100, 26, picture=scene(2))
    shoot(tmp_path / "t2.jpg", 112, 77, picture=zoomed(scene(3)))
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {("w.jpg", "t.jpg")}
    assert reasons(pairing, tmp_path) == dict.fromkeys(("w2.jpg", "t2.jpg"), "scene-differs")


def test_a_photo_that_breaks_when_it_is_looked_at(tmp_path: Path) -> None:
    shoot(tmp_path / "w1.jpg", 0, 26)
    shoot(tmp_path / "w2.jpg", 1, 26)
    shoot(tmp_path / "t.jpg", 2, 77)

    def look(wide: Path, tele: Path) -> float:
        if wide.name == "w2.jpg":
            raise InputError(wide, "is truncated: copy it again from the phone")
        return 1.0

    pairing = find_pairs(tmp_path, same_scene=look)
    assert names(pairing, tmp_path) == {("w1.jpg", "t.jpg")}
    assert reasons(pairing, tmp_path) == {"w2.jpg": "unreadable"}
    assert sentence(pairing, "w2.jpg") == "w2.jpg is truncated: copy it again from the phone"


def test_a_photo_without_exif_that_breaks_is_not_looked_at_again(tmp_path: Path) -> None:
    save(tmp_path / "1.jpg")
    save(tmp_path / "2.jpg")
    looks = []

    def look(wide: Path, tele: Path) -> float:
        looks.append((wide.name, tele.name))
        if wide.name == "1.jpg":
            raise InputError(wide, "is truncated")
        return 1.0

    pairing = find_pairs(tmp_path, same_scene=look)
    assert reasons(pairing, tmp_path) == {"1.jpg": "unreadable", "2.jpg": "no-exif"}
    assert len(looks) == 1


# --- missing EXIF


@pytest.mark.parametrize(
    ("wide", "tele"),
    [
        ("IMG_7_wide.jpg", "IMG_7_tele.jpg"),
        ("IMG_7_W.jpg", "IMG_7_T.jpg"),
        ("wide-7.jpg", "tele-7.png"),
        ("wide/7.jpg", "tele/7.jpg"),
        ("set/Wide/a/7.jpg", "set/Tele/a/7.jpg"),
        ("7/wide.jpg", "7/tele.jpg"),
        ("wide/IMG_20240517_120000_100.jpg", "tele/IMG_20240517_120000_100.jpg"),
    ],
)
def test_names_that_say_it(tmp_path: Path, wide: str, tele: str) -> None:
    save(tmp_path / tele)
    save(tmp_path / wide)
    save(tmp_path / "IMG_8_wide.jpg")
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {(wide, tele)}
    assert pairing.pairs[0].evidence == "names"
    assert reasons(pairing, tmp_path) == {"IMG_8_wide.jpg": "no-exif"}


def test_names_without_exif_are_not_taken_on_trust_where_one_can_look(tmp_path: Path) -> None:
    save(tmp_path / "1_wide.png", scene(1))
    save(tmp_path / "1_tele.png", zoomed(scene(1)))
    save(tmp_path / "2_wide.png", scene(2))
    save(tmp_path / "2_tele.png", zoomed(scene(3)))
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {("1_wide.png", "1_tele.png")}
    assert pairing.pairs[0].evidence == "names, content"
    assert reasons(pairing, tmp_path) == dict.fromkeys(
        ("2_wide.png", "2_tele.png"), "scene-differs"
    )


def test_exif_corrects_names(tmp_path: Path) -> None:
    shoot(tmp_path / "x_wide.jpg", 0, 77)
    shoot(tmp_path / "x_tele.jpg", 1, 26)
    shoot(tmp_path / "y_wide.jpg", 100, 26)
    shoot(tmp_path / "y_tele.jpg", 101, 26)
    pairing = find_pairs(tmp_path)
    assert names(pairing, tmp_path) == {("x_tele.jpg", "x_wide.jpg")}
    assert reasons(pairing, tmp_path) == dict.fromkeys(
        ("y_wide.jpg", "y_tele.jpg"), "same-focal-length"
    )


def test_stripped_photos_are_paired_by_number_and_content(tmp_path: Path) -> None:
    save(tmp_path / "IMG-20240517-WA0001.jpg", scene(1))
    save(tmp_path / "IMG-20240517-WA0002.jpg", zoomed(scene(1)))
    save(tmp_path / "IMG-20240517-WA0003.jpg", zoomed(scene(2), 3.0))
    save(tmp_path / "IMG-20240517-WA0004.jpg", scene(2))
    save(tmp_path / "IMG-20240517-WA0005.jpg", scene(3))
    save(tmp_path / "IMG-20240517-WA0007.jpg", zoomed(scene(3)))  # 2 on: no neighbour
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {
        ("IMG-20240517-WA0001.jpg", "IMG-20240517-WA0002.jpg"),
        ("IMG-20240517-WA0004.jpg", "IMG-20240517-WA0003.jpg"),
    }
    assert {pair.evidence for pair in pairing.pairs} == {"numbers, content"}
    assert {pair.ratio for pair in pairing.pairs} == {None}
    without = find_pairs(tmp_path)
    assert not without.pairs
    assert set(reasons(without, tmp_path).values()) == {"no-exif"}
    assert sentence(without, "IMG-20240517-WA0001.jpg") == (
        "IMG-20240517-WA0001.jpg has no capture time and no focal length in its EXIF, "
        "and nothing else tells its partner"
    )


def test_a_stripped_tele_finds_its_wide_by_the_time_in_its_name(tmp_path: Path) -> None:
    shoot(tmp_path / "DSC1.jpg", 0, 26, picture=scene(1))
    save(tmp_path / "IMG_20240517_120004.jpg", zoomed(scene(1)))
    save(tmp_path / "IMG_20240517_120102.jpg", zoomed(scene(1)))
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {("DSC1.jpg", "IMG_20240517_120004.jpg")}
    assert pairing.pairs[0].evidence == "time, content"
    assert pairing.pairs[0].seconds_apart == pytest.approx(4.0)


def test_focal_lengths_that_cannot_be_compared_are_settled_by_content(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, None, focal=4.1, model="R11", picture=scene(1))
    shoot(tmp_path / "b.jpg", 2, None, focal=5.9, model="R11", picture=zoomed(scene(1)))
    assert set(reasons(find_pairs(tmp_path), tmp_path).values()) == {"no-exif"}
    pairing = find_pairs(tmp_path, same_scene=Correlation())
    assert names(pairing, tmp_path) == {("a.jpg", "b.jpg")}


def test_two_photos_framed_alike_are_no_pair(tmp_path: Path) -> None:
    save(tmp_path / "1.png", scene(1))
    save(tmp_path / "2.png", scene(1))
    assert not find_pairs(tmp_path, same_scene=Correlation()).pairs


# --- whatever the folder


SHOTS = st.lists(
    st.tuples(
        st.integers(0, 90_000),  # milliseconds
        st.sampled_from([13, 26, 77, None]),
        st.sampled_from(["iPhone 13 Pro", "SM-G998B"]),
    ),
    max_size=7,
    unique_by=lambda shot: shot[0],
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shots=SHOTS, seed=st.integers(0, 999))
def test_each_photo_once_whatever_its_name_and_wherever_it_lies(
    shots: list[tuple[int, int | None, str]], seed: int, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path)
    letters = "abcdefgh"[: len(shots)]
    shuffled = random.Random(seed).sample(letters, len(letters))

    def found(folder: Path, order: Iterable[str]) -> tuple[set[tuple[int, int]], dict[int, str]]:
        folder.mkdir(parents=True)
        at = {}
        for name, (milliseconds, equivalent, model) in zip(order, shots, strict=True):
            path = folder / f"{name}.jpg"
            shoot(path, milliseconds / 1000, equivalent, model=model, make="x")
            at[path] = milliseconds
        pairing = find_pairs(folder)
        used = [path for pair in pairing.pairs for path in (pair.wide, pair.tele)]
        used += [leftover.path for leftover in pairing.leftovers]
        assert sorted(used) == sorted(at)
        pairs = {(at[pair.wide], at[pair.tele]) for pair in pairing.pairs}
        return pairs, {at[leftover.path]: leftover.reason for leftover in pairing.leftovers}

    first = found(tmp_path / "one", letters)
    assert found(tmp_path / "two", shuffled) == first
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere" / "deep")  # new modification times
    moved = find_pairs(tmp_path / "elsewhere" / "deep")
    here = find_pairs(tmp_path / "one")
    assert names(moved, tmp_path / "elsewhere" / "deep") == names(here, tmp_path / "one")
    assert [leftover.sentence for leftover in moved.leftovers] == [
        leftover.sentence for leftover in here.leftovers
    ]


# --- the table


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    paths = [save(tmp_path / name) for name in ('a "x", y.jpg', "ü b.jpg", "in/c\nd.jpg", "e.jpg")]
    pairs = [
        FoundPair(paths[0], paths[1], 2.0, 1.0, "time, zoom"),
        FoundPair(paths[2], paths[3], None, None, "names"),
    ]
    table = tmp_path / "tables" / "pairs.csv"
    write_pairs_table(pairs, table)
    assert table.read_text(encoding="utf-8").startswith('wide,tele\n"../a ""x"", y.jpg",../ü b.jpg')
    read = read_pairs_table(table)
    assert [(pair.wide.resolve(), pair.tele.resolve()) for pair in read] == [
        (pair.wide.resolve(), pair.tele.resolve()) for pair in pairs
    ]
    assert {(pair.ratio, pair.evidence) for pair in read} == {(None, "table")}


def test_tables_of_office_programs(tmp_path: Path) -> None:
    wide, tele = save(tmp_path / "a.jpg"), save(tmp_path / "b.jpg")
    table = tmp_path / "pairs.csv"
    table.write_bytes(b"\xef\xbb\xbfWide,Tele\r\na.jpg,b.jpg\r\n,\r\n\r\n")
    assert read_pairs_table(table) == (FoundPair(wide, tele, None, None, "table"),)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "must begin with the line wide,tele"),
        (b"a.jpg,b.jpg\n", "must begin with the line wide,tele"),
        (b"wide;tele\na.jpg;b.jpg\n", "must begin with the line wide,tele"),
        (b"wide,tele\na.jpg\n", "line 2: needs a wide and a tele"),
        (b"wide,tele\na.jpg,b.jpg,c.jpg\n", "line 2: needs a wide and a tele"),
        (b"wide,tele\na.jpg,\n", "line 2: needs a wide and a tele"),
        (b"wide,tele\na.jpg,b.jpg\na.jpg,c.jpg\n", "line 3: c.jpg is not there"),
        (b"wide,tele\na.jpg,a.jpg\n", "line 2: wide and tele are the same file"),
        (b"wide,tele\na.jpg,b.jpg\n\na.jpg,b.jpg\n", "line 4: repeats line 2"),
        (b'wide,tele\n"a.jpg,b.jpg\n', "line 2: is no CSV"),
        (b"wide,tele\na.jpg,b\0.jpg\n", "line 2: "),
        (b"wide,tele\nb\xfc.jpg,b.jpg\n", "is not UTF-8 text"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: bytes, complaint: str) -> None:
    save(tmp_path / "a.jpg")
    save(tmp_path / "b.jpg")
    table = tmp_path / "pairs.csv"
    table.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pairs_table(table)
    assert str(caught.value).startswith(f"{table} {complaint}")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs_table(tmp_path / "pairs.csv")
    with pytest.raises(OutputError, match="folder"):
        write_pairs_table([], tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_not_unicode_has_no_place_in_a_table(tmp_path: Path) -> None:
    pair = FoundPair(Path(os.fsdecode(b"\xff.jpg")), Path("b.jpg"), None, None, "names")
    with pytest.raises(OutputError, match="not Unicode"):
        write_pairs_table([pair], tmp_path / "pairs.csv")
    assert not list(tmp_path.iterdir())
