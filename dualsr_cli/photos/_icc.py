"""The Display P3 profile, for files that name this colour space by number only.

HEIF and AVIF may state it as code points (ITU-T H.273: primaries 12, transfer 13) with no profile;
PNG, JPEG, TIFF and WebP need one, or viewers would show the colours as sRGB's.
Source: ICC.1:2010; SMPTE EG 432-1 (primaries); IEC 61966-2-1 (curve).
"""

from __future__ import annotations

import struct

DISPLAY_P3_PRIMARIES, SRGB_TRANSFER = 12, 13

# XYZ of the primaries adapted to D50 (Bradford), and of D50 itself
_COLUMNS = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
    b"wtpt": (0.96420, 1.0, 0.82491),
}
_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # parametric, function type 3
_D65_TO_D50 = (1.04788, 0.02292, -0.05022, 0.02959, 0.99048, -0.01707, -0.00925, 0.01508, 0.75168)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(encoded), 28) + encoded


def display_p3() -> bytes:
    """A version 4 display profile of Display P3."""
    tags = {
        b"desc": _text("Display P3"),
        b"cprt": _text("Public domain"),
        b"chad": b"sf32\0\0\0\0" + _fixed(*_D65_TO_D50),
        **{name: b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in _COLUMNS.items()},
        **{name: b"para\0\0\0\0\0\3\0\0" + _fixed(*_CURVE) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, values = b"", b""
    first = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, first + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s12s48x",
        first + len(values),
        b"",
        0x04000000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        struct.pack(">6H", 2024, 1, 1, 0, 0, 0),
        b"acsp",
        b"",
        _fixed(0.9642, 1.0, 0.82491),
    )
    return header + struct.pack(">I", len(tags)) + table + values
