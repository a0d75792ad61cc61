"""Videos and sequences of pictures -> frames."""

from __future__ import annotations

import itertools
import os
import struct
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dualsr_cli.errors import InputError
from dualsr_cli.photos import Metadata, write_photo
from dualsr_cli.videos import FrameReader, open_clip, read_frames

from .conftest import HEIGHT, WIDTH, MakeClip, picture, yuv

LUMA = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # Kr, Kb


def exact_rgb(
    values: tuple[int, int, int], matrix: int, full: bool, bits: int
) -> tuple[float, ...]:
    """Y'CbCr -> R'G'B' in 0..1 after ITU-T H.273, section 8.3."""
    red, blue = LUMA[matrix]
    unit = 1 << (bits - 8)
    top = (1 << bits) - 1
    y = values[0] / top if full else (values[0] - 16 * unit) / (219 * unit)
    chroma = top if full else 224 * unit
    cb, cr = ((value - 128 * unit) / chroma for value in values[1:])
    r = y + 2 * (1 - red) * cr
    b = y + 2 * (1 - blue) * cb
    return r, (y - red * r - blue * b) / (1 - red - blue), b


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", LUMA)
def test_colours_follow_the_clips_matrix_and_range(
    make_clip: MakeClip, matrix: int, full: bool, bits: int
) -> None:
    unit = 1 << (bits - 8)
    colours = [
        tuple(value * unit for value in colour)
        for colour in ((90, 110, 150), (180, 140, 100), (60, 128, 128), (235, 128, 128))
    ]
    format = "yuv444p" if bits == 8 else "yuv444p10le"
    path = make_clip(
        "clip.mp4",
        [yuv(colour, format) for colour in colours],
        codec="libx264",
        format=format,
        options={"qp": "0"},
        colours=(matrix, 2 if full else 1, 1, 1),
    )
    clip = open_clip(path)
    assert clip.bit_depth == bits
    white = 255 if bits == 8 else 65535
    for colour, frame in zip(colours, read_frames(clip), strict=True):
        expected = np.clip(exact_rgb(colour, matrix, full, bits), 0, 1) * white
        assert frame.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        error = np.abs(frame.pixels.reshape(-1, 3) - expected).max()
        assert error <= 0.51


def test_a_clip_that_does_not_say_is_limited_and_by_its_size_601_or_709(
    make_clip: MakeClip,
) -> None:
    colour = (90, 110, 150)
    for rows, matrix in ((48, 6), (720, 1)):
        frame = yuv(colour, size=(64, rows))
        path = make_clip(f"{rows}.mkv", [frame], codec="ffv1", format="yuv444p", size=(64, rows))
        (seen,) = read_frames(open_clip(path))
        expected = np.array(exact_rgb(colour, matrix, False, 8)) * 255
        assert np.abs(seen.pixels[0, 0] - expected).max() <= 1


def test_colour_at_half_resolution_is_not_shifted(make_clip: MakeClip) -> None:
    columns = np.arange(WIDTH)
    ramp = np.broadcast_to(
        np.stack([2 * columns + 60, 120 - columns // 2, 190 - 2 * columns], -1), (HEIGHT, WIDTH, 3)
    ).astype(np.uint8)
    path = make_clip(frames=[ramp], options={"qp": "0"})
    (seen,) = read_frames(open_clip(path))
    inside = seen.pixels[4:-4, 4:-4].astype(float) - ramp[4:-4, 4:-4]
    assert np.abs(inside.mean((0, 1))).max() < 1.5  # half a pixel of this ramp's blue is 2 levels
    assert np.abs(inside).max() <= 4


def test_times_are_exact_at_a_variable_rate(make_clip: MakeClip) -> None:
    stamps = [0, 3003, 6006, 6500, 12000, 12001, 90007, 90100]
    base = Fraction(1, 90000)
    path = make_clip(
        frames=[picture(at) for at in range(8)], stamps=stamps, base=base, options={"bf": "2"}
    )
    clip = open_clip(path)
    assert clip.times == tuple(stamp * base for stamp in stamps)
    assert clip.end > clip.times[-1]
    assert [frame.time for frame in read_frames(clip)] == list(clip.times)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi", "clip.nut"])
def test_any_part_is_what_reading_from_the_start_gives(make_clip: MakeClip, name: str) -> None:
    path = make_clip(name, count=30, options={"g": "8", "bf": "2", "x264-params": "open-gop=1"})
    clip = open_clip(path)
    whole = list(read_frames(clip))
    assert len(whole) == len(clip.times) == 30
    assert clip.warning is None
    for at, frame in enumerate(whole):  # each frame is the one that was written there
        errors = [np.abs(frame.pixels - picture(other).astype(float)).mean() for other in range(30)]
        assert np.argmin(errors) % 16 == at % 16
    for start, stop in (
        (0, 1),
        (7, 9),
        (8, 9),
        (9, 17),
        (23, None),
        (29, 30),
        (30, 30),
        (-2, None),
    ):
        part = list(read_frames(clip, start, stop))
        expected = whole[slice(start, stop)]
        assert [frame.time for frame in part] == [frame.time for frame in expected]
        for one, other in zip(part, expected, strict=True):
            assert np.array_equal(one.pixels, other.pixels)


def shown_as(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """A copy of an MP4 file with these entries in its display matrix."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # behind name, version, times, number, duration, layer, volume
    for place, entry in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        data[at + place : at + place + 4] = struct.pack(">i", entry << 16)
    copy = path.with_name(f"shown-{a}{b}{c}{d}.mp4")
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize(
    ("rotation", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))]
)
def test_frames_stand_upright(
    make_clip: MakeClip, rotation: int, matrix: tuple[int, int, int, int]
) -> None:
    path = make_clip(count=2, aspect=Fraction(4, 3))
    plain, clip = open_clip(path), open_clip(shown_as(path, *matrix))
    assert clip.rotation == rotation
    sides = (WIDTH, HEIGHT) if rotation == 180 else (HEIGHT, WIDTH)
    assert (clip.width, clip.height) == sides
    assert clip.pixel_aspect == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))
    for stored, frame in zip(read_frames(plain), read_frames(clip), strict=True):
        clockwise = np.rot90(stored.pixels, -rotation // 90)
        assert np.array_equal(frame.pixels, clockwise)


def test_a_mirrored_clip(make_clip: MakeClip) -> None:
    path = make_clip(count=1)
    mirrored = shown_as(path, -1, 0, 0, 1)
    (plain,), (seen,) = read_frames(open_clip(path)), read_frames(open_clip(mirrored))
    assert np.array_equal(seen.pixels, plain.pixels[:, ::-1])


def test_what_the_header_says(make_clip: MakeClip) -> None:
    path = make_clip(
        sound="aac",
        colours=(9, 1, 9, 18),
        metadata={
            "creation_time": "2024-05-01T12:30:15.000000Z",
            "location": "+48.8577+002.2950/",
            "title": "Été à Paris",
        },
    )
    clip = open_clip(path)
    assert clip.audio
    assert clip.created == datetime(2024, 5, 1, 12, 30, 15, tzinfo=timezone.utc)
    assert clip.location == "+48.8577+002.2950/"
    assert clip.metadata["title"] == "Été à Paris"
    colour = clip.colour
    assert (colour.matrix, colour.full_range) == ("bt2020", False)
    assert (colour.primaries, colour.transfer) == (9, 18)
    assert clip.rate == 30
    assert clip.warning is None
    assert not open_clip(make_clip("silent.mp4")).audio


def test_one_frame_of_no_duration(make_clip: MakeClip) -> None:
    for name in ("one.mp4", "one.mkv", "one.avi"):
        clip = open_clip(make_clip(name, count=1))
        assert len(clip.times) == 1
        assert clip.end > clip.times[0]
        assert len(list(read_frames(clip))) == 1


def test_stamps_below_zero_and_a_late_start(make_clip: MakeClip) -> None:
    base = Fraction(1, 1000)
    late = open_clip(make_clip("late.mp4", count=3, stamps=[500, 533, 566], base=base))
    assert late.times == (Fraction(1, 2), Fraction(533, 1000), Fraction(566, 1000))
    early = make_clip(
        "early.mkv",
        count=3,
        stamps=[-50, -10, 30],
        base=base,
        codec="ffv1",
        container_options={"avoid_negative_ts": "disabled"},
    )
    clip = open_clip(early)
    assert clip.times[0] < 0 < clip.times[2] == Fraction(3, 100)
    assert [frame.time for frame in read_frames(clip)] == list(clip.times)


def test_stamps_that_start_again(make_clip: MakeClip) -> None:
    """Two recordings, one file after the other: the second goes on where the first ends."""
    path = make_clip("one.ts", count=12, options={"g": "6", "bf": "2"})
    both = path.with_name("both.ts")
    both.write_bytes(path.read_bytes() * 2)
    once = list(read_frames(open_clip(path)))
    clip = open_clip(both)
    assert len(clip.times) == 24
    gaps = {later - sooner for sooner, later in itertools.pairwise(clip.times)}
    assert gaps == {Fraction(1, 30)}
    twice = list(read_frames(clip))
    for frame, other in zip(twice, once + once, strict=True):
        assert np.array_equal(frame.pixels, other.pixels)
    (middle,) = read_frames(clip, 15, 16)
    assert np.array_equal(middle.pixels, once[3].pixels)


def test_raw_pictures_without_stamps(make_clip: MakeClip) -> None:
    clip = open_clip(make_clip("raw.h264", count=12, options={"bf": "2"}))
    assert len(clip.times) == 12
    assert all(sooner < later for sooner, later in itertools.pairwise(clip.times))
    frames = list(read_frames(clip))
    assert np.abs(frames[5].pixels - picture(5).astype(float)).mean() < 4
    (frame,) = read_frames(clip, 5, 6)
    assert np.array_equal(frame.pixels, frames[5].pixels)


def test_two_frames_at_one_time_are_both_there(make_clip: MakeClip) -> None:
    """Frames closer than a container's unit (here 1 ms) come one unit apart."""
    base = Fraction(1, 90000)
    path = make_clip("dense.mkv", count=4, stamps=[0, 30, 60, 9000], base=base, codec="ffv1")
    clip = open_clip(path)
    assert clip.times[0] < clip.times[1] < clip.times[2] < clip.times[3] == Fraction(1, 10)
    assert len(list(read_frames(clip))) == 4


def test_an_edit_list_hides_frames(make_clip: MakeClip) -> None:
    path = make_clip("edited.mp4", count=12, options={"bf": "0", "g": "6"}, base=Fraction(1, 30))
    clip = open_clip(path)
    frames = list(read_frames(clip))
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    media_time = at + 16  # behind version, count and one duration
    data[media_time : media_time + 4] = (3 * 512).to_bytes(4, "big")  # 3 frames later
    cut = path.with_name("cut.mp4")
    cut.write_bytes(data)
    edited = open_clip(cut)
    assert len(edited.times) == 9
    assert edited.times[0] == 0
    for frame, other in zip(read_frames(edited), frames[3:], strict=True):
        assert np.array_equal(frame.pixels, other.pixels)


def test_a_clip_that_breaks_off_is_read_as_far_as_it_goes(make_clip: MakeClip) -> None:
    frames = [
        np.random.default_rng(at).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for at in range(30)
    ]
    path = make_clip(
        frames=frames, options={"g": "5"}, container_options={"movflags": "+faststart"}
    )
    data = path.read_bytes()
    short = path.with_name("short.mp4")
    short.write_bytes(data[: len(data) * 2 // 3])
    clip = open_clip(short)
    assert 10 < len(clip.times) < 25
    assert clip.warning is not None
    assert str(short) in clip.warning and "breaks off" in clip.warning
    whole = list(read_frames(open_clip(path)))
    read = list(read_frames(clip))
    assert len(read) == len(clip.times)
    for frame, other in zip(read[:10], whole, strict=False):
        assert np.array_equal(frame.pixels, other.pixels)


def test_damage_in_the_middle_loses_no_frame(make_clip: MakeClip) -> None:
    path = make_clip("clip.mp4", count=24, options={"g": "6", "bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data[places[8] : places[10]] = b"\xff" * (places[10] - places[8])
    damaged = path.with_name("damaged.mp4")
    damaged.write_bytes(data)
    clip = open_clip(damaged)
    frames = list(read_frames(clip))
    assert [frame.time for frame in frames] == [Fraction(at, 30) for at in range(24)]
    whole = list(read_frames(open_clip(path)))
    assert all(np.array_equal(frames[at].pixels, whole[at].pixels) for at in (0, 5, 12, 23))


def test_other_pixel_formats(make_clip: MakeClip) -> None:
    exact = picture(3)
    for format, codec, tolerance in (
        ("bgr0", "ffv1", 0),
        ("rgb24", "png", 0),
        ("gray", "ffv1", 40),
        ("yuv422p10le", "prores_ks", 6),
        ("yuvj420p", "mjpeg", 12),
    ):
        path = make_clip(
            f"{format}.mov" if codec != "ffv1" else f"{format}.mkv",
            [exact],
            codec=codec,
            format=format,
        )
        clip = open_clip(path)
        (frame,) = read_frames(clip)
        scale = 1 if clip.bit_depth == 8 else 257
        error = np.abs(frame.pixels / scale - exact).mean()
        assert error <= tolerance, (format, error)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("absent.mp4", None, "does not exist"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", "Grüße von der Küste\n".encode() * 20, "is a text file"),
        ("noise.mp4", bytes(range(256)) * 16, "is not a video"),
        ("cut.mp4", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\x10\0mdat" + bytes(64), "cut off"),
        ("list.mp4", b"ffconcat version 1.0\nfile other.mp4\n", "text file"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://example.com/a.ts\n", "text file"),
    ],
)
def test_what_is_no_video_is_refused_in_a_sentence(
    tmp_path: Path, name: str, data: bytes | None, sentence: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=sentence) as raised:
        open_clip(path)
    assert str(path) in str(raised.value)


def test_a_list_of_files_opens_none_of_them(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip("other.mp4")
    listing = tmp_path / "list.ffconcat"
    listing.write_text("ffconcat version 1.0\nfile other.mp4\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"list of other files|text file"):
        open_clip(listing)


def test_folders_pictures_and_sound_are_no_videos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        open_clip(tmp_path)
    photo = tmp_path / "photo.png"
    write_photo(photo, picture(0), Metadata())
    with pytest.raises(InputError, match="is a picture"):
        open_clip(photo)


def test_sound_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        try:
            cover.disposition = av.stream.Disposition.attached_pic
        except TypeError:
            pytest.skip("this PyAV marks no covers")
        noise = output.add_stream("aac", rate=48000)
        frame = av.VideoFrame.from_ndarray(picture(0, 32, 32), "rgb24")
        output.mux(cover.encode(frame))
        output.mux(cover.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 2048), np.float32), "fltp", "stereo")
        samples.sample_rate = 48000
        output.mux(noise.encode(samples))
        output.mux(noise.encode(None))
    with pytest.raises(InputError, match="only sound"):
        open_clip(path)


def test_a_huge_declared_size_is_refused_before_it_is_believed(make_clip: MakeClip) -> None:
    path = make_clip("huge.avi", count=1, codec="rawvideo", format="yuv420p")
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 12  # width and height of the bitmap header
    data[at : at + 8] = (39000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(InputError, match="no picture that can be decoded"):
        open_clip(path)


def test_a_name_with_a_colon_is_a_file(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip("file:über alles 100%.mp4", count=2)
    monkeypatch.chdir(path.parent)
    assert len(list(read_frames(open_clip(path.name)))) == 2


@pytest.mark.parametrize("bits", [8, 16])
def test_a_sequence_of_pictures(tmp_path: Path, bits: int) -> None:
    pictures = [
        picture(at).astype(np.uint16) * 257 if bits == 16 else picture(at) for at in (0, 1, 3)
    ]
    for number, pixels in zip((8, 9, 11), pictures, strict=True):
        write_photo(tmp_path / f"shot_{number:04d}.png", pixels, Metadata())
    (tmp_path / "shot_7.png").write_bytes(b"another number of digits")
    clip = open_clip(tmp_path / "shot_%04d.png", rate=10)
    assert clip.times == (0, Fraction(1, 10), Fraction(3, 10))  # number 10 is missing
    assert clip.end == Fraction(4, 10)
    assert (clip.width, clip.height, clip.bit_depth) == (WIDTH, HEIGHT, bits)
    assert not clip.audio
    for frame, time, pixels in zip(read_frames(clip), clip.times, pictures, strict=True):
        assert frame.time == time
        assert np.array_equal(frame.pixels, pixels)
    (last,) = read_frames(clip, 2)
    assert np.array_equal(last.pixels, pictures[2])
    assert open_clip(tmp_path / "shot_%04d.png").times[1] == Fraction(1, 30)


def test_sequences_that_do_not_hold_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no picture"):
        open_clip(tmp_path / "%05d.png")
    with pytest.raises(InputError, match="cannot be read"):
        open_clip(tmp_path / "nowhere" / "%05d.png")
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="frames a second"):
            open_clip(tmp_path / "%05d.png", rate)
    write_photo(tmp_path / "00000.png", picture(0), Metadata())
    write_photo(tmp_path / "00001.png", picture(1, 32, 32), Metadata())
    clip = open_clip(tmp_path / "%05d.png")
    with pytest.raises(InputError, match="make them alike"):
        list(read_frames(clip))


@pytest.mark.parametrize("pictures", [False, True])
def test_parts_are_the_frames_of_the_whole(
    make_clip: MakeClip, tmp_path: Path, pictures: bool
) -> None:
    clip = open_clip(make_clip(count=30, options={"g": "7"}))
    if pictures:
        for number in range(30):
            write_photo(tmp_path / f"{number:02d}.png", picture(number), Metadata())
        clip = open_clip(tmp_path / "%02d.png")
    whole = [frame.pixels for frame in read_frames(clip)]
    # On, again, past some, back, beyond the end.
    parts = [(0, 4), (4, 6), (5, 7), (6, 7), (15, 17), (2, 3), (3, 5), (28, 40), (35, 36)]
    with FrameReader(clip) as reader:
        for start, stop in parts:
            frames = list(reader.frames(start, stop))
            assert [frame.time for frame in frames] == list(clip.times[start:stop])
            for frame, pixels in zip(frames, whole[start:stop], strict=True):
                assert np.array_equal(frame.pixels, pixels)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps open files in their place")
def test_a_reader_opens_its_clip_once(make_clip: MakeClip) -> None:
    clip = open_clip(make_clip(count=30))
    with FrameReader(clip) as reader:
        next(iter(reader.frames(0, 1)))
        clip.path.unlink()
        times = [
            frame.time for start in range(0, 30, 5) for frame in reader.frames(start, start + 6)
        ]
    assert times == [time for start in range(0, 30, 5) for time in clip.times[start : start + 6]]


def test_a_clip_that_is_replaced_meanwhile(make_clip: MakeClip) -> None:
    path = make_clip(count=6)
    clip = open_clip(path)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        list(read_frames(clip))
