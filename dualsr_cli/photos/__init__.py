"""A file <-> a Photo: pixels in their own depth and colour space, with their metadata."""

from dualsr_cli.photos._exif import result_metadata
from dualsr_cli.photos.capture import Capture, parse_capture, zoom_ratio
from dualsr_cli.photos.pairing import (
    FoundPair,
    Known,
    Leftover,
    Pairing,
    find_pairs,
    read_pairs_table,
    write_pairs_table,
)
from dualsr_cli.photos.photo import Header, Metadata, Photo
from dualsr_cli.photos.reading import READ_SUFFIXES, read_header, read_photo, read_two
from dualsr_cli.photos.sources import Source, read_source, snapshot
from dualsr_cli.photos.writing import WRITE_SUFFIXES, check_target, result_suffix, write_photo

__all__ = [
    "READ_SUFFIXES",
    "WRITE_SUFFIXES",
    "Capture",
    "FoundPair",
    "Header",
    "Known",
    "Leftover",
    "Metadata",
    "Pairing",
    "Photo",
    "Source",
    "check_target",
    "find_pairs",
    "parse_capture",
    "read_header",
    "read_pairs_table",
    "read_photo",
    "read_source",
    "read_two",
    "result_metadata",
    "result_suffix",
    "snapshot",
    "write_pairs_table",
    "write_photo",
    "zoom_ratio",
]
