"""A clip written group by group survives kills at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dualsr_cli.errors import OutputError
from dualsr_cli.videos import Clip, Frame, ResumableClip, open_clip, read_frames

from .conftest import HEIGHT, WIDTH, MakeClip

SIZE = (2 * WIDTH, 2 * HEIGHT)


def groups(clip: Clip, size: int = 7) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    for frame in read_frames(clip):
        group.append(Frame(frame.pixels.repeat(2, 0).repeat(2, 1), frame.time))
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def make(path: Path, clip: Clip, key: str = "", most: int | None = None) -> ResumableClip:
    """Go on with a result; finish it unless it stops after `most` groups."""
    writer = ResumableClip(path, clip, SIZE, key)
    left = list(groups(clip))[writer.finished_groups :]
    for group in left[:most]:
        writer.add_group(iter(group))
    if most is None:
        writer.finish()
    return writer


def frames(path: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [frame.pixels for frame in read_frames(open_clip(path))]


def same(first: Path, second: Path) -> bool:
    one, other = frames(first), frames(second)
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def test_a_result_does_not_depend_on_where_it_was_cut_off(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = open_clip(make_clip(count=110, sound="aac", stamps=[at * at for at in range(110)]))
    make(tmp_path / "whole.mp4", clip)
    whole = open_clip(tmp_path / "whole.mp4")
    assert whole.times == clip.times
    assert whole.audio
    path = tmp_path / "parts.mp4"
    done = 0
    for more in (1, 5, 3, 0, 4):  # 7 groups make a segment
        writer = make(path, clip, most=more)
        done += more
        assert writer.finished_groups == done
        assert writer.finished == 7 * done
        assert not path.exists()
    assert ResumableClip(path, clip, SIZE).finished == 7 * done
    make(path, clip)
    assert same(path, tmp_path / "whole.mp4")
    assert open_clip(path).times == clip.times
    assert not (tmp_path / ".dualsr").exists()


def test_segments_are_long(make_clip: MakeClip, tmp_path: Path) -> None:
    import av

    clip = open_clip(make_clip(count=110))
    make(tmp_path / "result.mp4", clip)
    with av.open(str(tmp_path / "result.mp4")) as container:
        keys = [
            packet.pts * packet.time_base
            for packet in container.demux(video=0)
            if packet.size and packet.is_keyframe
        ]
    assert keys == [clip.times[0], clip.times[49], clip.times[98]]


def test_another_key_begins_anew(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=20))
    path = tmp_path / "result.mp4"
    make(path, clip, key="one", most=2)
    assert ResumableClip(path, clip, SIZE, "one").finished == 14
    assert ResumableClip(path, clip, SIZE, "two").finished == 0
    assert ResumableClip(path, clip, SIZE, "one").finished == 0


def test_what_is_finished_is_forgotten_on_demand(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=20))
    path = tmp_path / "result.mp4"
    writer = make(path, clip, most=2)
    writer.begin_anew()
    assert (writer.finished, ResumableClip(path, clip, SIZE).finished) == (0, 0)
    writer.add_group(next(groups(clip)))
    assert ResumableClip(path, clip, SIZE).finished == 7


def test_a_part_of_a_clip(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=30))
    path = tmp_path / "result.mp4"
    for start in (5, 10, 15):
        writer = ResumableClip(path, clip, (WIDTH, HEIGHT))
        assert writer.finished == start - 5
        writer.add_group(read_frames(clip, start, start + 5))
    writer.finish()
    assert open_clip(path).times == clip.times[5:20]


def test_frames_that_are_not_the_next_ones(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=9))
    writer = ResumableClip(tmp_path / "result.mp4", clip, (WIDTH, HEIGHT))
    with pytest.raises(OutputError, match="no frame"):
        writer.finish()
    writer.add_group(read_frames(clip, 0, 3))
    for wrong in (read_frames(clip, 4, 6), read_frames(clip, 2, 4)):
        with pytest.raises(ValueError, match="not the next one"):
            writer.add_group(wrong)
    assert ResumableClip(tmp_path / "result.mp4", clip, (WIDTH, HEIGHT)).finished == 3
    writer.add_group(read_frames(clip, 3))
    writer.finish()
    assert open_clip(tmp_path / "result.mp4").times == clip.times


def test_pictures_go_on_too(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=20))
    pattern = tmp_path / "out" / "%05d.png"
    make(pattern, clip, most=2)
    assert len(list((tmp_path / "out").glob("*.png"))) == 14
    (tmp_path / "out" / "00008.png").unlink()  # of the second group
    assert ResumableClip(pattern, clip, SIZE).finished == 7
    make(pattern, clip)
    assert len(list((tmp_path / "out").iterdir())) == 20
    for got, group in zip(frames(pattern), (f for g in groups(clip) for f in g), strict=True):
        assert np.array_equal(got, group.pixels)


SCRIPT = """
import sys
from dualsr_cli.videos import ResumableClip, open_clip, read_frames
clip = open_clip(sys.argv[1])
writer = ResumableClip(sys.argv[2], clip, (clip.width, clip.height))
for start in range(writer.finished, len(clip.times), 6):
    print(start, flush=True)
    input()
    writer.add_group(read_frames(clip, start, start + 6))
print("finishing", flush=True)
input()
writer.finish()
print("done", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_loses_at_most_one_group(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(count=66)
    path = tmp_path / "killed.mp4"
    last_begun = 0
    for groups_more in (3, 5, 2, None):  # the second ends while a segment is made
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(source), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line.strip())
                if line == "done\n":
                    break
                process.stdin.write("\n")
                process.stdin.flush()
                if len(said) == groups_more:
                    process.kill()  # somewhere in the group that was just begun
        if groups_more is None:
            assert said[-2:] == ["finishing", "done"]
            break
        assert int(said[0]) - last_begun in (0, 6)  # what was finished before is there
        last_begun = int(said[-1])
    make_in_one_go(source, tmp_path / "whole.mp4")
    assert same(path, tmp_path / "whole.mp4")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "clip.mp4",
        "killed.mp4",
        "whole.mp4",
    ]


def make_in_one_go(source: Path, path: Path) -> None:
    clip = open_clip(source)
    writer = ResumableClip(path, clip, (clip.width, clip.height))
    for start in range(0, len(clip.times), 6):
        writer.add_group(read_frames(clip, start, start + 6))
    writer.finish()
