"""What EXIF says about one shot, as far as it decides which photos belong together.

Source: Exif 2.32 (CIPA DC-008), sections 4.6.4 to 4.6.6, and what phones write in its place.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import exifread

logging.getLogger("exifread").addHandler(logging.NullHandler())  # else it warns on stderr

_LONGEST_LENS = 4000.0  # mm; longer 35-mm equivalents exist only as a known fault of old compacts
_MOST_READS = 200_000  # phones need some hundreds; a forged block could take hours
_ANDROID_PLACEHOLDER = datetime(2002, 12, 8, 12, 0, 0)  # a time that some Androids write always
_FAMILIES = (  # (time, its fraction of a second, its offset from UTC), the most trusted first
    ("EXIF DateTimeOriginal", "EXIF SubSecTimeOriginal", "EXIF OffsetTimeOriginal"),
    ("EXIF DateTimeDigitized", "EXIF SubSecTimeDigitized", "EXIF OffsetTimeDigitized"),
    ("Image DateTime", "EXIF SubSecTime", "EXIF OffsetTime"),
)


@dataclass(frozen=True)
class Capture:
    """One shot according to its EXIF; None where EXIF says nothing (or nonsense)."""

    make: str | None = None
    model: str | None = None
    lens: str | None = None  # LensModel, or the lens specification in words
    focal_length: float | None = None  # mm
    focal_length_35mm: float | None = None  # mm
    digital_zoom: float | None = None  # >= 1
    time: datetime | None = None  # naive local time, with the fraction of a second
    utc_offset: timedelta | None = None
    gps: tuple[float, float] | None = None  # degrees, north and east positive
    orientation: int = 1  # 1..8


def parse_capture(exif: bytes | None) -> Capture:
    """Read a raw TIFF-structured EXIF block (`II*\\0...` or `MM\\0*...`).

    Never raises: a field that is absent, blank or impossible (0/0, a focal length of 0, a month 13)
    is None, and a block that no reader gets through gives an empty Capture.
    """
    if not exif or exif[:4] not in (b"II*\0", b"MM\0*"):
        return Capture()
    try:
        tags = exifread.process_file(_Bounded(exif), details=False, extract_thumbnail=False)
    except Exception:  # exifread meets damaged offsets with whatever Python raises
        return Capture()
    time, utc_offset = _time(tags)
    focal_length = _positive(tags, "EXIF FocalLength")
    focal_length_35mm = _positive(tags, "EXIF FocalLengthIn35mmFilm")
    digital_zoom = _positive(tags, "EXIF DigitalZoomRatio")
    orientation = _number(_first(tags, "Image Orientation")) or 1.0
    return Capture(
        make=_text(tags, "Image Make"),
        model=_text(tags, "Image Model"),
        lens=_text(tags, "EXIF LensModel") or _lens_specification(tags),
        focal_length=_at_most(focal_length, _LONGEST_LENS),
        focal_length_35mm=_at_most(focal_length_35mm, _LONGEST_LENS),
        digital_zoom=digital_zoom if digital_zoom is not None and digital_zoom >= 1 else None,
        time=time,
        utc_offset=utc_offset,
        gps=_gps(tags),
        orientation=int(orientation) if orientation in range(1, 9) else 1,
    )


def zoom_ratio(wide: Capture, tele: Capture) -> float | None:
    """How many times narrower `tele` sees than `wide`; above 1 when `tele` is the longer shot.

    - 35-mm equivalents decide where both shots have one. On an Apple phone that figure already
      includes digital zoom; on others it does not, unless the two shots themselves show that it
      does: one lens, and the figure rises with the digital zoom.
    - Without them, focal lengths compare only in front of the same sensor, since each lens of a
      phone has a sensor of its own: one camera with the same focal length, the same lens, or
      focal lengths of 10 mm and more (cameras that change lenses).

    None when EXIF does not tell.
    """
    zoom = (tele.digital_zoom or 1.0) / (wide.digital_zoom or 1.0)
    if wide.focal_length_35mm and tele.focal_length_35mm:
        ratio = tele.focal_length_35mm / wide.focal_length_35mm
        return ratio if _zoom_is_included(wide, tele, ratio, zoom) else ratio * zoom
    if wide.focal_length and tele.focal_length and _one_sensor(wide, tele):
        return tele.focal_length / wide.focal_length * zoom
    return None


class _Bounded(BytesIO):
    """Bytes that can be read a limited number of times: overlapping IFDs multiply the work."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError("the EXIF block refers to more values than it can hold")
        return super().read(size)


def _zoom_is_included(wide: Capture, tele: Capture, ratio: float, zoom: float) -> bool:
    makes = {(capture.make or "").casefold() for capture in (wide, tele)}
    if makes == {"apple"} or all("iphone" in (c.lens or "").casefold() for c in (wide, tele)):
        return True
    # 35-mm equivalents are whole millimetres, 2 % of a wide lens each: hence the 8 %
    return _one_lens(wide, tele) and zoom != 1.0 and abs(math.log(ratio / zoom)) < 0.08


def _one_lens(first: Capture, second: Capture) -> bool:
    if first.model != second.model or not first.focal_length or not second.focal_length:
        return False
    return math.isclose(first.focal_length, second.focal_length, rel_tol=0.01)


def _one_sensor(first: Capture, second: Capture) -> bool:
    if first.model is None or (first.make, first.model) != (second.make, second.model):
        return False
    if _one_lens(first, second) or (first.lens is not None and first.lens == second.lens):
        return True
    return min(first.focal_length or 0.0, second.focal_length or 0.0) >= 10.0


def _first(tags: Mapping[str, Any], name: str) -> Any:
    values = _values(tags, name)
    return values[0] if values else None


def _values(tags: Mapping[str, Any], name: str) -> list[Any]:
    values = getattr(tags.get(name), "values", None)
    return values if isinstance(values, list) else []


def _number(value: Any) -> float | None:
    """A finite float from exifread's int, Ratio (perhaps n/0) or one-tuple of a float."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def _positive(tags: Mapping[str, Any], name: str) -> float | None:
    number = _number(_first(tags, name))
    return number if number is not None and number > 0 else None


def _at_most(number: float | None, limit: float) -> float | None:
    return number if number is not None and number <= limit else None


def _text(tags: Mapping[str, Any], name: str) -> str | None:
    values = getattr(tags.get(name), "values", None)
    if isinstance(values, bytes):
        values = values.decode("latin-1")
    if not isinstance(values, str):
        return None
    text = " ".join("".join(c if c.isprintable() else " " for c in values).split())
    return text or None


def _lens_specification(tags: Mapping[str, Any]) -> str | None:
    """ "4.28mm f/2.4" or "24-105mm f/4": shortest and longest focal length, their f-numbers."""
    numbers = [_number(value) or 0.0 for value in _values(tags, "EXIF LensSpecification")]
    if len(numbers) != 4 or numbers[0] <= 0:
        return None
    focal, f_number = (
        f"{low:.4g}" if high in (0.0, low) else f"{low:.4g}-{high:.4g}"
        for low, high in (numbers[:2], numbers[2:])
    )
    return f"{focal}mm" + (f" f/{f_number}" if numbers[2] > 0 else "")


def _time(tags: Mapping[str, Any]) -> tuple[datetime | None, timedelta | None]:
    for time_name, fraction_name, offset_name in _FAMILIES:
        match = re.match(
            r"(\d{4})\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)(?:\D(\d\d))?", _text(tags, time_name) or ""
        )
        if not match:
            continue
        try:
            time = datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]
        except ValueError:
            continue
        if time == _ANDROID_PLACEHOLDER:
            continue
        digits = re.match(r"\d+", _text(tags, fraction_name) or "")
        microseconds = int(f"{digits.group():0<6}"[:6]) if digits else 0
        return time.replace(microsecond=microseconds), _utc_offset(_text(tags, offset_name))
    return None, None


def _utc_offset(text: str | None) -> timedelta | None:
    if text in ("Z", "z"):
        return timedelta(0)
    match = re.fullmatch(r"([+-])(\d\d):?(\d\d)", text or "")
    if not match or int(match[2]) > 14 or int(match[3]) > 59:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset


def _gps(tags: Mapping[str, Any]) -> tuple[float, float] | None:
    latitude = _degrees(tags, "GPS GPSLatitude", "NS", 90.0)
    longitude = _degrees(tags, "GPS GPSLongitude", "EW", 180.0)
    if latitude is None or longitude is None or (latitude == 0.0 and longitude == 0.0):
        return None  # 0, 0 in the Atlantic is what phones write before they have a fix
    return latitude, longitude


def _degrees(tags: Mapping[str, Any], name: str, directions: str, limit: float) -> float | None:
    reference = (_text(tags, f"{name}Ref") or " ")[0].upper()
    parts = [_number(value) for value in _values(tags, name)[:3]]
    if not parts or None in parts or reference not in directions:
        return None
    degrees = sum(part / 60.0**power for power, part in enumerate(parts) if part is not None)
    if not 0.0 <= degrees <= limit:
        return None
    return -degrees if reference == directions[1] else degrees
