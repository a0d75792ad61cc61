"""The sample pairs: readable, as their README says, each with its licence."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dualsr_cli.photos import READ_SUFFIXES, read_photo, zoom_ratio

FOLDER = Path(__file__).parent.parent / "sample_pairs"
PHOTOS = sorted(path for path in FOLDER.rglob("*") if path.suffix in READ_SUFFIXES)


def licences() -> dict[str, dict[str, str]]:
    with open(FOLDER / "LICENCES.csv", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_each_photo_has_its_licence_and_each_licence_its_photo() -> None:
    assert {path.relative_to(FOLDER).as_posix() for path in PHOTOS} == set(licences())
    assert all(row["source"] and row["licence"] for row in licences().values())


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in PHOTOS) < 6_000_000


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_photo_is_read(path: Path) -> None:
    photo = read_photo(path)
    row = licences()[path.relative_to(FOLDER).as_posix()]
    assert {photo.width, photo.height} == {int(row["width"]), int(row["height"])}
    assert photo.pixels.std() > 10
    assert photo.notes == ()


def test_the_heic_pair_stands_upright() -> None:
    for name in "wide", "tele":
        photo = read_photo(FOLDER / "phone-heic" / f"{name}.heic")
        assert photo.height > photo.width


@pytest.mark.parametrize(
    ("folder", "ratio"),
    [
        ("facade", 2.0),
        ("phone-jpeg", 2.58),
        ("phone-heic", 2.72),
        ("city", None),
        ("statue", None),
        ("other-scene", None),
    ],
)
def test_exif_tells_the_zoom(folder: str, ratio: float | None) -> None:
    wide, tele = (
        read_photo(next((FOLDER / folder).glob(f"{name}.*"))).header.capture
        for name in ("wide", "tele")
    )
    found = zoom_ratio(wide, tele)
    assert found == (None if ratio is None else pytest.approx(ratio, abs=0.02))
