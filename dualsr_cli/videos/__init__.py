"""A file <-> a clip's frames with their times."""

from dualsr_cli.videos._encoders import WRITE_CLIP_SUFFIXES
from dualsr_cli.videos._lock import sole_writer
from dualsr_cli.videos.clip import Clip, Colour, Frame
from dualsr_cli.videos.reading import FrameReader, open_clip, read_frames
from dualsr_cli.videos.resuming import ResumableClip
from dualsr_cli.videos.synchronising import Offset, synchronise
from dualsr_cli.videos.writing import ClipWriter

__all__ = [
    "WRITE_CLIP_SUFFIXES",
    "Clip",
    "ClipWriter",
    "Colour",
    "Frame",
    "FrameReader",
    "Offset",
    "ResumableClip",
    "open_clip",
    "read_frames",
    "sole_writer",
    "synchronise",
]
