"""A file <-> a clip's frames with their times."""

from dualsr_cli.videos.clip import Clip, Colour, Frame
from dualsr_cli.videos.reading import open_clip, read_frames

__all__ = ["Clip", "Colour", "Frame", "open_clip", "read_frames"]
