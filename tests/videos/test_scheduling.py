"""Writing a clip leaves the process scheduled as it was, whoever encodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dualsr_cli.videos import ClipWriter, Frame, open_clip, read_frames

from .conftest import HEIGHT, WIDTH, MakeClip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="policies are Linux's")
@pytest.mark.parametrize("codec", ["libsvtav1", "libx265"])
def test_no_thread_becomes_a_real_time_one(make_clip: MakeClip, tmp_path: Path, codec: str) -> None:
    def policies() -> set[int]:
        return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}

    clip = open_clip(make_clip(count=2))
    before, mine = policies(), os.sched_getscheduler(0)
    with ClipWriter(tmp_path / "result.mkv", clip, (WIDTH, HEIGHT), codec) as writer:
        for frame in read_frames(clip):
            writer.write(Frame(frame.pixels, frame.time))
            assert policies() <= before
    assert os.sched_getscheduler(0) == mine
    assert policies() <= before
