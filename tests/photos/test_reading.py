"""Every kind of file a phone or a person can hand in, sound and unsound."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from dualsr_cli.errors import InputError
from dualsr_cli.photos import Metadata, read_header, read_photo, write_photo

from .conftest import avif, heic, picture, saved

FORMATS = {"jpg": "jpeg", "png": "png", "tif": "tiff", "webp": "webp", "heic": "heic"}
FORMATS["avif"] = "avif"
NAMES = ["8.jpg", "progressive.jpg", "8.png", "8.tif", "8.webp", "8.heic", "8.avif"]
NAMES += ["16.png", "16.tif", "10.heic", "10.avif", "12.avif"]


def file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- sound files ---


@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_depth_reads(tmp_path: Path, photos: dict[str, bytes], name: str) -> None:
    photo = read_photo(file(tmp_path, name, photos[name]))
    bits = int(name.split(".")[0]) if name[0].isdigit() else 8
    assert photo.header.format == FORMATS[name.split(".")[1]]
    assert photo.header.bit_depth == bits
    assert photo.bit_depth == (8 if bits == 8 else 16)
    assert photo.pixels.shape == (48, 64, 3)
    assert photo.pixels.flags.c_contiguous
    assert photo.notes == ()
    error = np.abs(photo.pixels / photo.max_value - picture() / 255)
    assert error.max() < (1e-9 if name[-3:] in ("png", "tif", "ebp") else 0.05)
    assert error.mean() < 0.006


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_the_same_without_decoding(
    tmp_path: Path, photos: dict[str, bytes], name: str
) -> None:
    path = file(tmp_path, name, photos[name])
    assert read_header(path) == read_photo(path).header


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_10_and_12_bits_is_white(tmp_path: Path, bits: int) -> None:
    white = np.full((48, 64, 3), 65535, np.uint16)
    photo = read_photo(file(tmp_path, "a.avif", avif(white, bits)))
    assert photo.pixels.min() >= 65535 - 2 * 65535 / (2**bits - 1)  # two steps: AVIF is lossy


def exif_with_orientation(orientation: int) -> bytes:
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)


def stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as a camera stores it so that `orientation` turns it upright."""
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: pixels.transpose(1, 0, 2)[:, ::-1],
    }
    return np.ascontiguousarray(turned[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "heic"])
def test_the_orientation_is_applied_once(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = exif_with_orientation(orientation)
    pixels = stored(picture(), orientation)
    image = Image.fromarray(pixels)
    if kind == "heic":  # libheif writes irot and imir boxes for it
        data = heic(pixels, exif=exif)
    elif kind == "tif":
        data = saved(image, "TIFF", tiffinfo={274: orientation})
    else:
        format = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind]
        prefix = b"Exif\0\0" if kind == "jpg" else b""
        data = saved(image, format, exif=prefix + exif, quality=95)
    path = file(tmp_path, f"a.{kind}", data)
    photo = read_photo(path)
    assert (photo.header.width, photo.header.height) == (64, 48)
    assert photo.pixels.flags.c_contiguous
    assert np.abs(photo.pixels.astype(int) - picture()).mean() < 1.5


def test_the_first_picture_of_an_mpo_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(picture()), Image.fromarray(picture()[::-1])
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
    photo = read_photo(file(tmp_path, "a.mpo", data))
    assert photo.header.format == "jpeg"
    assert np.abs(photo.pixels.astype(int) - picture()).mean() < 1.5


def test_what_phones_append_to_a_jpeg_is_no_damage(
    tmp_path: Path, photos: dict[str, bytes]
) -> None:
    photo = read_photo(file(tmp_path, "a.jpg", photos["8.jpg"] + b"MotionPhoto_Data" * 100))
    assert photo.pixels.shape == (48, 64, 3)


def grey(bits: int) -> np.ndarray:
    values = picture()[..., 0]
    return values if bits == 8 else values.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", saved(Image.fromarray(grey(8)), "PNG")),
        ("b.png", saved(Image.fromarray(grey(16)), "PNG")),
        ("a.tif", saved(Image.fromarray(grey(8)), "TIFF")),
        ("b.tif", saved(Image.fromarray(grey(16)), "TIFF")),
        ("a.jpg", saved(Image.fromarray(grey(8)), "JPEG", quality=100)),
        ("a.heic", heic(grey(8)[..., None])),
    ],
)
def test_grey_is_read_as_rgb_and_said(tmp_path: Path, name: str, data: bytes) -> None:
    path = file(tmp_path, name, data)
    photo = read_photo(path)
    assert photo.notes == (f"{path} is grey: it is read as RGB",)
    assert np.abs(photo.pixels / photo.max_value - grey(8)[..., None] / 255).max() < 0.02


def test_a_palette_is_expanded(tmp_path: Path) -> None:
    image = Image.fromarray(picture()).convert("P", palette=Image.Palette.ADAPTIVE)
    photo = read_photo(file(tmp_path, "a.png", saved(image, "PNG")))
    assert np.array_equal(photo.pixels, np.asarray(image.convert("RGB")))


def test_a_tiff_with_a_thumbnail_as_its_second_page_is_read(tmp_path: Path) -> None:
    small = Image.fromarray(picture(12, 16))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # a reduced picture
    data = saved(IMAGE, "TIFF", save_all=True, append_images=[small])
    photo = read_photo(file(tmp_path, "a.tif", data))
    assert np.array_equal(photo.pixels, picture())


def test_garbage_between_the_segments_of_a_jpeg_is_no_damage(
    tmp_path: Path, photos: dict[str, bytes]
) -> None:
    data = photos["8.jpg"]
    at = data.index(b"\xff\xdb")
    assert read_photo(file(tmp_path, "a.jpg", data[:at] + bytes(7) + data[at:])).width == 64


def rgba(alpha: int) -> np.ndarray:
    result = np.dstack([picture(), np.full((48, 64), 255, np.uint8)])
    result[30, 40, 3] = alpha
    return result


def rgba_files(alpha: int) -> dict[str, bytes]:
    image = Image.fromarray(rgba(alpha))
    grey_alpha = Image.fromarray(rgba(alpha)[..., [0, 3]])
    return {
        "a.png": saved(image, "PNG"),
        "a.tif": saved(image, "TIFF"),
        "a.webp": saved(image, "WEBP", lossless=True, exact=True),
        "a.heic": heic(rgba(alpha)),
        "a.avif": saved(image, "AVIF", quality=95),
        "grey.png": saved(grey_alpha, "PNG"),
    }


@pytest.mark.parametrize("name", rgba_files(255))
def test_an_opaque_alpha_channel_is_dropped(tmp_path: Path, name: str) -> None:
    photo = read_photo(file(tmp_path, name, rgba_files(255)[name]))
    assert photo.pixels.shape == (48, 64, 3)
    if name in ("a.png", "a.tif", "a.webp"):
        assert np.array_equal(photo.pixels, picture())


@pytest.mark.parametrize("name", rgba_files(0))
def test_real_transparency_is_refused(tmp_path: Path, name: str) -> None:
    path = file(tmp_path, name, rgba_files(0)[name])
    with pytest.raises(InputError, match="is partly transparent"):
        read_photo(path)


@pytest.mark.parametrize("name", ["8.png", "8.heic", "8.tif"])
def test_a_misnamed_file_is_read_by_content_and_said(
    tmp_path: Path, photos: dict[str, bytes], name: str
) -> None:
    path = file(tmp_path, "holiday.jpg", photos[name])
    photo = read_photo(path)
    format = photo.header.format
    assert format == FORMATS[name.split(".")[1]]
    assert photo.notes == (f"{path} is a {format.upper()} file by its content: it is read as that",)


@pytest.mark.parametrize("name", ["Frühling 🌸.jpg", "two words.jpg", "a[page=1].jpg", "no suffix"])
def test_any_name_will_do(tmp_path: Path, photos: dict[str, bytes], name: str) -> None:
    path = file(tmp_path, name, photos["8.jpg"])
    assert read_photo(path).path == path


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_not_unicode_will_do(tmp_path: Path, photos: dict[str, bytes]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(photos["8.jpg"])
    assert read_photo(path).width == 64


# --- colour ---


def test_a_display_p3_profile_goes_from_file_to_file_unchanged(tmp_path: Path) -> None:
    with_profile = heic(picture(), color_primaries=12, transfer_characteristic=13)
    profile = read_header(file(tmp_path, "a.heic", with_profile)).metadata.icc
    assert profile is not None
    for suffix in ("jpg", "png", "tif", "webp", "heic"):
        path = tmp_path / f"b.{suffix}"
        write_photo(path, picture(), Metadata(icc=profile))
        assert read_header(path).metadata.icc == profile
        if suffix != "heic":
            with Image.open(path) as image:
                assert image.info["icc_profile"] == profile


def test_display_p3_stated_by_number_only_becomes_a_profile(tmp_path: Path) -> None:
    data = heic(picture(), color_primaries=12, transfer_characteristic=13)
    profile = read_photo(file(tmp_path, "a.heic", data)).header.metadata.icc
    p3 = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
    assert ImageCms.getProfileDescription(p3).strip() == "Display P3"
    convert = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), p3, "RGB", "RGB")
    for srgb, expected in {(255, 0, 0): (234, 51, 35), (90, 90, 90): (90, 90, 90)}.items():
        pixel = ImageCms.applyTransform(Image.new("RGB", (1, 1), srgb), convert).getpixel((0, 0))
        assert np.abs(np.subtract(pixel, expected)).max() <= 1


def test_a_profile_for_grey_is_left_out_and_said(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    data = saved(Image.fromarray(grey(8)), "PNG", icc_profile=bytes(profile))
    photo = read_photo(file(tmp_path, "a.png", data))
    assert photo.header.metadata.icc is None
    assert any("profile" in note for note in photo.notes)


def test_hdr_is_said(tmp_path: Path) -> None:
    data = heic(picture().astype(np.uint16) * 257, color_primaries=9, transfer_characteristic=16)
    photo = read_photo(file(tmp_path, "a.heic", data))
    assert any("HDR" in note for note in photo.notes)


# --- unsound files: one sentence each ---


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG whose header promises a size that its pixels (none) do not keep."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_with_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.fromarray(picture()), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff_with_size(width: int, height: int) -> bytes:
    data = saved(Image.fromarray(picture()), "TIFF")
    for tag, old, new in ((256, 64, width), (257, 48, height)):
        record = struct.pack("<HHI", tag, 4, 1)
        if record + struct.pack("<I", old) not in data:
            record = struct.pack("<HHI", tag, 3, 1)
        assert record + struct.pack("<I", old) in data
        wanted = struct.pack("<HHII", tag, 4, 1, new)
        data = data.replace(record + struct.pack("<I", old), wanted)
    return data


def heif_with_size(data: bytes, width: int, height: int) -> bytes:
    """`data` is a HEIC or AVIF of 64 x 64 pixels."""
    old = b"ispe\0\0\0\0" + struct.pack(">II", 64, 64)
    assert old in data
    return data.replace(old, b"ispe\0\0\0\0" + struct.pack(">II", width, height))


def webp_with_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.fromarray(picture()), "WEBP", exif=exif_with_orientation(1)))
    assert data[12:16] == b"VP8X"
    data[24:27] = (width - 1).to_bytes(3, "little")
    data[27:30] = (height - 1).to_bytes(3, "little")
    return bytes(data)


def lab_tiff() -> bytes:
    encoded: bytes = pyvips.Image.black(64, 48, bands=3).colourspace("lab").tiffsave_buffer()
    return encoded


IMAGE = Image.fromarray(picture())
HEIC = heic(picture(64, 64))
AVIF = saved(Image.fromarray(picture(64, 64)), "AVIF")
TURNED = IMAGE.transpose(Image.Transpose.ROTATE_180)
ANIMATION: dict[str, object] = {"save_all": True, "append_images": [TURNED]}

UNSOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty.jpg": ("is empty", lambda: b""),
    "text.jpg": ("is a text file", lambda: "Grüße aus dem Urlaub, wo es schön ist.\n".encode() * 9),
    "noise.jpg": ("is not a photo", lambda: np.random.default_rng(5).bytes(5000)),
    "zeros.jpg": ("is not a photo", lambda: bytes(5000)),
    "one_byte.jpg": ("is not a photo", lambda: b"\xff"),
    "start_only.jpg": ("is truncated or damaged", lambda: b"\xff\xd8\xff"),
    "start_only.png": ("is truncated or damaged", lambda: b"\x89PNG\r\n\x1a\n"),
    "start_only.tif": ("is truncated or damaged", lambda: b"II*\0"),
    "start_only.heic": ("is truncated or damaged", lambda: heic(picture())[:40]),
    "start_only.webp": ("is truncated or damaged", lambda: b"RIFF\x10\0\0\0WEBP"),
    "gif.jpg": ("is a GIF", lambda: saved(IMAGE, "GIF")),
    "animated.gif": ("is a GIF", lambda: saved(IMAGE, "GIF", **ANIMATION)),
    "bmp.bmp": ("is a BMP", lambda: saved(IMAGE, "BMP")),
    "video.jpg": ("is a video", lambda: b"\0\0\0\x14ftypmp42\0\0\0\0isom" + bytes(100)),
    "animated.png": ("is animated", lambda: saved(IMAGE, "PNG", **ANIMATION)),
    "animated.webp": ("is animated", lambda: saved(IMAGE, "WEBP", **ANIMATION)),
    "animated.avif": ("is animated", lambda: saved(IMAGE, "AVIF", **ANIMATION)),
    "pages.tif": ("has several pages", lambda: saved(IMAGE, "TIFF", **ANIMATION)),
    "cmyk.jpg": ("is in CMYK", lambda: saved(IMAGE.convert("CMYK"), "JPEG")),
    "cmyk.tif": ("is in CMYK", lambda: saved(IMAGE.convert("CMYK"), "TIFF")),
    "lab.tif": ("is in the colour space lab", lab_tiff),
    "one_bit.png": ("has 1 bit", lambda: saved(IMAGE.convert("1"), "PNG")),
    "one_bit.tif": ("has 1 bit", lambda: saved(IMAGE.convert("1"), "TIFF")),
    "float.tif": ("pixels of type float", lambda: saved(IMAGE.convert("F"), "TIFF")),
    "raw_preview.tif": ("camera's raw file", lambda: saved(IMAGE, "TIFF", tiffinfo={254: 1})),
    "no_pixels.png": ("has no pixels", lambda: png_header(0, 0)),
    "no_pixels.jpg": ("has no pixels", lambda: jpeg_with_size(0, 0)),
    "no_height.jpg": ("has no pixels", lambda: jpeg_with_size(64, 0)),
    "no_pixels.tif": ("has no pixels", lambda: tiff_with_size(0, 0)),
    "wide.png": ("is 60000 x 40 pixels", lambda: png_header(60_000, 40)),
    "wide.jpg": ("is 60000 x 40 pixels", lambda: jpeg_with_size(60_000, 40)),
    "wide.tif": ("is 60000 x 40 pixels", lambda: tiff_with_size(60_000, 40)),
    "wide.heic": ("is 60000 x 40 pixels", lambda: heif_with_size(HEIC, 60_000, 40)),
    "wide.avif": ("is 900000000 x 4 pixels", lambda: heif_with_size(AVIF, 900_000_000, 4)),
    "no_pixels.heic": ("has no pixels", lambda: heif_with_size(HEIC, 0, 0)),
    "no_pixels.avif": ("has no pixels", lambda: heif_with_size(AVIF, 0, 0)),
    "bomb.png": ("megapixels", lambda: png_header(39_000, 39_000)),
    "bomb.jpg": ("megapixels", lambda: jpeg_with_size(39_000, 39_000)),
    "bomb.tif": ("megapixels", lambda: tiff_with_size(39_000, 39_000)),
    "bomb.heic": ("has 900 megapixels", lambda: heif_with_size(HEIC, 30_000, 30_000)),
    "bomb.avif": ("has 900 megapixels", lambda: heif_with_size(AVIF, 30_000, 30_000)),
    "bomb.webp": ("is truncated or damaged", lambda: webp_with_size(16_383, 16_383)),
    "2_000_000_000.png": ("is 2000000000 x 1", lambda: png_header(2_000_000_000, 1)),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_file_gets_its_sentence(tmp_path: Path, name: str) -> None:
    words, make = UNSOUND[name]
    path = file(tmp_path, name, make())
    with pytest.raises(InputError) as caught:
        read_photo(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} ")
    assert words in sentence
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 160
    assert caught.value.path == path


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused(
    tmp_path: Path, photos: dict[str, bytes], name: str, share: float
) -> None:
    data = photos[name]
    path = file(tmp_path, name, data[: int(len(data) * share)])
    with pytest.raises(InputError, match="is truncated or damaged"):
        read_photo(path)


@pytest.mark.parametrize("name", ["8.png", "16.png"])
def test_a_flipped_byte_in_a_png_is_noticed_by_its_checksum(
    tmp_path: Path, photos: dict[str, bytes], name: str
) -> None:
    data = bytearray(photos[name])
    data[data.index(b"IDAT") + 60] ^= 0xFF
    with pytest.raises(InputError, match="damaged"):
        read_photo(file(tmp_path, name, bytes(data)))


def test_a_jpeg_with_a_hole_of_zeros_is_noticed(tmp_path: Path, photos: dict[str, bytes]) -> None:
    data = bytearray(saved(Image.fromarray(picture(480, 640)), "JPEG", quality=98))
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    with pytest.raises(InputError, match="damaged"):
        read_photo(file(tmp_path, "a.jpg", bytes(data)))


def test_damaged_exif_is_left_out_and_said(tmp_path: Path) -> None:
    data = saved(IMAGE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    path = file(tmp_path, "a.jpg", data)
    photo = read_photo(path)
    assert photo.header.metadata.exif is None
    assert photo.notes == (f"{path} has damaged EXIF: it is not carried over",)


def test_what_is_no_file_gets_its_sentence(tmp_path: Path) -> None:
    cases = {
        tmp_path: "is a folder",
        tmp_path / "missing.jpg": "does not exist",
        tmp_path / "missing" / "a.jpg": "does not exist",
        Path("a\0b.jpg"): "is not a possible path",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        cases[tmp_path / "pipe.jpg"] = "is not a file"
        cases[Path("/dev/zero")] = "is not a file"
    for path, words in cases.items():
        for read in (read_header, read_photo):
            with pytest.raises(InputError, match=words):
                read(path)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs Unix users")
def test_a_file_of_somebody_else_gets_its_sentence(
    tmp_path: Path, photos: dict[str, bytes]
) -> None:
    path = file(tmp_path, "a.jpg", photos["8.jpg"])
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(InputError, match="permission denied"):
            read_photo(path)
    finally:
        os.seteuid(user)


def test_a_dng_without_its_reader_says_what_to_install(tmp_path: Path) -> None:
    data = saved(IMAGE, "TIFF", tiffinfo={0xC612: b"\1\4\0\0"})
    path = file(tmp_path, "a.dng", data)
    try:
        import rawpy  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pip install 'dualsr\[raw\]'"):
            read_photo(path)


def test_200_megapixels_are_allowed_and_221_are_not(tmp_path: Path) -> None:
    phone, beyond = tmp_path / "phone.png", tmp_path / "beyond.png"
    for path, height in ((phone, 12_240), (beyond, 13_600)):
        black = pyvips.Image.black(16_320, height, bands=3).copy(interpretation="srgb")
        black.pngsave(str(path), compression=1, filter="none")
    assert (read_header(phone).width, read_header(phone).height) == (16_320, 12_240)
    with pytest.raises(InputError, match="has 222 megapixels"):
        read_header(beyond)


# --- memory ---

_PEAK = """
import sys
from dualsr_cli.photos import Metadata, read_photo, write_photo
import pyvips
import numpy as np
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
pixels = np.tile(np.arange(251, dtype=np.uint8), 8000 * 6000 * 3 // 251 + 1)[: 8000 * 6000 * 3]
pixels = pixels.reshape(6000, 8000, 3)
before = peak()
for name in sys.argv[1:]:
    write_photo(name, pixels, Metadata())
print(peak() - before)
del pixels
open("/proc/self/clear_refs", "w").write("5")
before = peak()
for name in sys.argv[1:]:
    read_photo(name)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured through /proc")
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_memory_holds_the_pixels_and_little_more(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    command = [sys.executable, "-c", _PEAK, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    writing, reading = (float(line) for line in output.split())
    pixels = 8000 * 6000 * 3 / 2**20  # MiB
    assert writing < 50
    compressed = path.stat().st_size / 2**20  # mapped into memory, which counts in /proc
    assert reading < pixels + compressed + 60
