"""EXIF as phones write it, and as they should not."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from dualsr_cli.photos.capture import Capture, parse_capture, zoom_ratio

MAKE, MODEL, ORIENTATION, CHANGED = 0x010F, 0x0110, 0x0112, 0x0132
TIME, DIGITIZED, OFFSET, FRACTION = 0x9003, 0x9004, 0x9011, 0x9291
FOCAL, FOCAL_35, ZOOM, LENS_SPECIFICATION, LENS = 0x920A, 0xA405, 0xA404, 0xA432, 0xA434


def block(
    main: dict[int, Any], shot: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> bytes:
    """A TIFF-structured EXIF block made by Pillow: main tags, Exif tags, GPS tags."""
    exif = Image.Exif()
    exif.update(main)
    exif.get_ifd(0x8769).update(shot or {})
    exif.get_ifd(0x8825).update(gps or {})
    return exif.tobytes().removeprefix(b"Exif\0\0")


def shot(**tags: Any) -> Capture:
    """The capture of a block with these Exif tags, by the names above."""
    return parse_capture(block({}, {globals()[name]: value for name, value in tags.items()}))


def test_an_iphone_with_digital_zoom() -> None:
    # the values of an iPhone 6 that zoomed in 1.97 times, in Madrid
    capture = parse_capture(
        block(
            {MAKE: "Apple", MODEL: "iPhone 6", ORIENTATION: 6, CHANGED: "2015:04:10 20:13:00"},
            {
                TIME: "2015:04:10 20:12:23",
                FRACTION: "550",
                OFFSET: "+02:00",
                FOCAL: IFDRational(83, 20),
                FOCAL_35: 57,
                ZOOM: IFDRational(136, 69),
                LENS: "iPhone 6 back camera 4.15mm f/2.2",
            },
            {1: "N", 2: (40.0, 26.0, 49.1), 3: "W", 4: (3.0, 43.0, 29.11)},
        )
    )
    assert capture == Capture(
        make="Apple",
        model="iPhone 6",
        lens="iPhone 6 back camera 4.15mm f/2.2",
        focal_length=4.15,
        focal_length_35mm=57.0,
        digital_zoom=136 / 69,
        time=datetime(2015, 4, 10, 20, 12, 23, 550000),
        utc_offset=timedelta(hours=2),
        gps=(40 + 26 / 60 + 49.1 / 3600, -(3 + 43 / 60 + 29.11 / 3600)),
        orientation=6,
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    one_entry = struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    assert parse_capture(mark + one_entry).orientation == 8


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [
        ("5", 500000),
        ("55", 550000),
        ("0887", 88700),
        ("860627", 860627),
        ("123456789", 123456),
        ("012   ", 12000),
        ("    ", 0),
        ("", 0),
        ("x", 0),
    ],
)
def test_fractions_of_a_second_have_any_length(fraction: str, microseconds: int) -> None:
    time = shot(TIME="2017:02:09 19:51:38", FRACTION=fraction).time
    assert time == datetime(2017, 2, 9, 19, 51, 38, microseconds)


@pytest.mark.parametrize(
    ("text", "hours"),
    [("+02:00", 2), ("-03:30", -3.5), ("Z", 0), ("+0530", 5.5), ("   :  ", None), ("+99:00", None)],
)
def test_time_zones(text: str, hours: float | None) -> None:
    expected = None if hours is None else timedelta(hours=hours)
    assert shot(TIME="2017:02:09 19:51:38", OFFSET=text).utc_offset == expected


@pytest.mark.parametrize(
    "time",
    [
        "",
        "    :  :     :  :  ",
        "0000:00:00 00:00:00",
        "2020:13:01 10:00:00",
        "2002:12:08 12:00:00",
    ],
)
def test_a_time_that_is_none(time: str) -> None:
    assert shot(TIME=time).time is None


def test_the_next_best_time_stands_in() -> None:
    assert shot(TIME="0000:00:00 00:00:00", DIGITIZED="2020:01:02 03:04:05").time == datetime(
        2020, 1, 2, 3, 4, 5
    )
    assert parse_capture(block({CHANGED: "2011-05-06 07:08:09"})).time == datetime(
        2011, 5, 6, 7, 8, 9
    )


def test_numbers_that_mean_unknown() -> None:
    for nothing in (IFDRational(0, 1), IFDRational(0, 0), IFDRational(5, 0)):
        capture = shot(FOCAL=nothing, ZOOM=nothing)
        assert capture.focal_length is None
        assert capture.digital_zoom is None
    assert shot(FOCAL_35=0).focal_length_35mm is None
    assert shot(FOCAL_35=48388).focal_length_35mm is None  # a Samsung Digimax L85, 8 mm
    assert parse_capture(block({ORIENTATION: 0})).orientation == 1
    assert parse_capture(block({ORIENTATION: 9})).orientation == 1
    assert parse_capture(block({MAKE: "    ", MODEL: "\t"})) == Capture()


def test_padded_names_are_trimmed() -> None:
    capture = parse_capture(block({MAKE: "EASTMAN KODAK COMPANY  ", MODEL: "PIXPRO AZ521   "}))
    assert (capture.make, capture.model) == ("EASTMAN KODAK COMPANY", "PIXPRO AZ521")


def test_a_lens_without_a_name_is_told_by_its_specification() -> None:
    fixed = (IFDRational(107, 25), IFDRational(107, 25), IFDRational(12, 5), IFDRational(12, 5))
    assert shot(LENS_SPECIFICATION=fixed).lens == "4.28mm f/2.4"
    zoom = tuple(IFDRational(n, 1) for n in (24, 105, 4, 4))
    assert shot(LENS_SPECIFICATION=zoom).lens == "24-105mm f/4"
    assert shot(LENS_SPECIFICATION=(IFDRational(0, 0),) * 4).lens is None


@pytest.mark.parametrize(
    ("gps", "place"),
    [
        ({1: "S", 2: (33.0, 30.0, 0.0), 3: "E", 4: (151.0, 15.0, 0.0)}, (-33.5, 151.25)),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, None),  # no fix yet
        ({1: "N", 2: (IFDRational(0, 0),) * 3, 3: "E", 4: (IFDRational(0, 0),) * 3}, None),
        ({1: "N", 2: (97.0, 0.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0)}, None),
        ({2: (47.0, 0.0, 0.0), 4: (8.0, 0.0, 0.0)}, None),
    ],
)
def test_places(gps: dict[int, Any], place: tuple[float, float] | None) -> None:
    assert parse_capture(block({}, gps=gps)).gps == place


@pytest.mark.parametrize("exif", [None, b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"Exif\0\0junk"])
def test_no_exif(exif: bytes | None) -> None:
    assert parse_capture(exif) == Capture()


def test_a_forged_block_is_given_up_soon() -> None:
    # 5000 entries, each claiming 999 fractions: ten million reads if they were followed
    entry = struct.pack("<HHII", 0x9000, 5, 999, 8)
    assert parse_capture(b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entry * 5000) == Capture()


IPHONE = block(
    {MAKE: "Apple", MODEL: "iPhone 12 Pro", ORIENTATION: 1},
    {TIME: "2021:06:01 12:00:00", FOCAL: 4.2, FOCAL_35: 26, LENS: "iPhone 12 Pro back camera"},
    {1: "N", 2: (40.0, 26.0, 49.1), 3: "W", 4: (3.0, 43.0, 29.11)},
)


@settings(deadline=None)
@given(st.data())
def test_damage_never_raises(data: st.DataObject) -> None:
    damaged = bytearray(IPHONE)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(4, len(IPHONE) - 1))] = data.draw(st.integers(0, 255))
    capture = parse_capture(bytes(damaged[: data.draw(st.integers(0, len(IPHONE)))]))
    assert 1 <= capture.orientation <= 8
    assert zoom_ratio(capture, capture) in (None, 1.0)


def test_damage_is_not_talked_about(capfd: pytest.CaptureFixture[str]) -> None:
    for length in range(0, len(IPHONE), 7):
        parse_capture(IPHONE[:length])
    assert capfd.readouterr() == ("", "")


def test_zoom_ratio_of_two_lenses() -> None:
    wide = Capture(make="Apple", model="iPhone X", focal_length=4.0, focal_length_35mm=28.0)
    tele = Capture(make="Apple", model="iPhone X", focal_length=6.0, focal_length_35mm=52.0)
    assert zoom_ratio(wide, tele) == pytest.approx(52 / 28)
    assert zoom_ratio(tele, wide) == pytest.approx(28 / 52)


def test_digital_zoom_counts_once() -> None:
    # an iPhone's 35-mm equivalent rises with digital zoom, also where it is another lens
    wide = Capture(make="Apple", model="iPhone X", focal_length=4.0, focal_length_35mm=28.0)
    tele = Capture(
        make="Apple", model="iPhone X", focal_length=6.0, focal_length_35mm=78.0, digital_zoom=1.5
    )
    assert zoom_ratio(wide, tele) == pytest.approx(78 / 28)
    # a Samsung's does not
    wide = Capture(make="samsung", model="SM-G998B", focal_length=6.7, focal_length_35mm=24.0)
    tele = Capture(
        make="samsung",
        model="SM-G998B",
        focal_length=9.0,
        focal_length_35mm=72.0,
        digital_zoom=1.5,
    )
    assert zoom_ratio(wide, tele) == pytest.approx(4.5)
    one_lens = Capture(
        make="samsung", model="SM-G998B", focal_length=6.7, focal_length_35mm=24.0, digital_zoom=2.0
    )
    assert zoom_ratio(wide, one_lens) == pytest.approx(2.0)
    # whatever the make: one lens whose figure rises with the zoom includes it
    wide = Capture(make="X", model="Y", focal_length=5.0, focal_length_35mm=24.0)
    tele = Capture(make="X", model="Y", focal_length=5.0, focal_length_35mm=47.0, digital_zoom=2.0)
    assert zoom_ratio(wide, tele) == pytest.approx(47 / 24)


def test_focal_lengths_alone_need_one_sensor() -> None:
    def phone(focal: float) -> Capture:
        return Capture(make="OPPO", model="R11", focal_length=focal)

    assert zoom_ratio(phone(4.1), phone(5.9)) is None  # two sensors of unknown size
    assert zoom_ratio(phone(4.1), phone(4.1)) == 1.0
    body = Capture(make="NIKON", model="D5500", focal_length=18.0)
    assert zoom_ratio(body, Capture(make="NIKON", model="D5500", focal_length=55.0)) == (
        pytest.approx(55 / 18)
    )
    assert zoom_ratio(body, Capture(make="NIKON", model="D850", focal_length=55.0)) is None
    assert zoom_ratio(Capture(), Capture()) is None
