"""What a phone wrote is in the result: exiftool reads both, independently of this code."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.photos import Metadata, read_header, read_photo, result_metadata, write_photo

from .conftest import DATA, heic, saved

PHONES = sorted(DATA.glob("*.jpg"))
FORMATS = ["jpg", "png", "tif", "webp", "heic"]
PIXELS = np.full((30, 40, 3), 90, np.uint8)

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="exiftool is not installed"
)

# Groups that describe the container, the old thumbnail or derived values, and tags that a result
# has to change.
OF_THE_CONTAINER = ("System", "File", "ExifTool", "Composite", "JFIF", "IFD1", "PNG", "QuickTime")
OF_THE_CONTAINER += ("Meta", "RIFF", "ICC")
CHANGED = {"Orientation", "Software", "ImageWidth", "ImageHeight", "ExifImageWidth"}
CHANGED |= {"ExifImageHeight", "RelatedImageWidth", "RelatedImageHeight"}


def tags_of(path: Path) -> dict[str, Any]:
    """What exiftool finds, unknown maker note tags included: {"group:tag": value}."""
    command = ["exiftool", "-j", "-G1", "-a", "-u", "-n", "-b", str(path)]
    output = subprocess.run(command, capture_output=True, check=False).stdout
    tags = json.loads(output.decode("utf-8", "replace"))[0]
    return {
        name: value
        for name, value in tags.items()
        if ":" in name
        and not name.startswith(OF_THE_CONTAINER)
        and name.split(":")[1] not in CHANGED
    }


@needs_exiftool
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("phone", PHONES, ids=lambda path: path.stem)
def test_every_tag_of_the_phone_is_in_the_result(tmp_path: Path, phone: Path, format: str) -> None:
    metadata = result_metadata(read_header(phone).metadata, 40, 30, "dualsr 9.9")
    result = tmp_path / f"a.{format}"
    write_photo(result, PIXELS, metadata)
    before, after = tags_of(phone), tags_of(result)
    assert len(before) > 40
    assert any(name.startswith(("Apple:", "Samsung:", "Sony:")) for name in before)
    assert {name: after.get(name) for name in before} == before


@needs_exiftool
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("phone", PHONES, ids=lambda path: path.stem)
def test_a_heic_of_the_phone_keeps_its_tags_too(tmp_path: Path, phone: Path, format: str) -> None:
    taken = tmp_path / "taken.heic"
    taken.write_bytes(heic(PIXELS, exif=read_header(phone).metadata.exif))
    result = tmp_path / f"a.{format}"
    photo = read_photo(taken)
    write_photo(result, PIXELS, result_metadata(photo.header.metadata, 40, 30, "dualsr 9.9"))
    before, after = tags_of(taken), tags_of(result)
    assert {name: after.get(name) for name in before} == before


@needs_exiftool
@pytest.mark.parametrize("format", FORMATS)
def test_a_tiff_in_between_loses_nothing(tmp_path: Path, format: str) -> None:
    phone = DATA / "apple_iphone_6.jpg"
    between, result = tmp_path / "between.tif", tmp_path / f"a.{format}"
    metadata = read_header(phone).metadata
    write_photo(between, PIXELS, result_metadata(metadata, 40, 30, "dualsr 9.9"))
    write_photo(result, PIXELS, read_header(between).metadata)
    before, after = tags_of(phone), tags_of(result)
    assert {name: after.get(name) for name in before} == before


@needs_exiftool
@pytest.mark.parametrize("format", ["jpg", "png", "tif", "webp", "heic"])
def test_what_a_result_has_to_change_is_changed(tmp_path: Path, format: str) -> None:
    turned = saved(
        Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0" + exif_of("Orientation=6", tmp_path)
    )
    (tmp_path / "turned.jpg").write_bytes(turned)
    metadata = read_header(tmp_path / "turned.jpg").metadata
    result = tmp_path / f"a.{format}"
    write_photo(result, PIXELS, result_metadata(metadata, 40, 30, "dualsr 9.9"))
    command = ["exiftool", "-j", "-n", "-G1", "-a", str(result)]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    assert tags["IFD0:Orientation"] == 1
    assert tags["IFD0:Software"] == "dualsr 9.9"
    assert (tags["ExifIFD:ExifImageWidth"], tags["ExifIFD:ExifImageHeight"]) == (40, 30)
    assert not [name for name in tags if name.startswith("IFD1") or "Thumbnail" in name]
    assert read_photo(result).pixels.shape == (30, 40, 3)


def exif_of(setting: str, folder: Path) -> bytes:
    """The iPhone's EXIF block with one tag set by exiftool."""
    changed = folder / "changed.jpg"
    command = ["exiftool", "-n", f"-{setting}", "-o", str(changed), DATA / "apple_iphone_6.jpg"]
    subprocess.run(command, capture_output=True, check=True)
    exif = read_header(changed).metadata.exif
    assert exif is not None
    return exif


XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6" '
    b'exif:PixelXDimension="4000"><tiff:ImageLength>3000</tiff:ImageLength>'
    b"<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Fa\xc3\xa7ade</rdf:li></rdf:Alt></dc:title>"
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@pytest.mark.parametrize("format", FORMATS)
def test_xmp_is_carried_over_with_the_new_sizes(tmp_path: Path, format: str) -> None:
    metadata = result_metadata(Metadata(xmp=XMP), 40, 30, "dualsr 9.9")
    path = tmp_path / f"a.{format}"
    write_photo(path, PIXELS, metadata)
    xmp = read_header(path).metadata.xmp
    assert xmp == XMP.replace(b'"6"', b'"1"').replace(b"4000", b"40").replace(b"3000", b"30")


@needs_exiftool
@pytest.mark.parametrize("format", ["jpg", "tif"])
def test_iptc_is_carried_over_where_it_has_a_place(tmp_path: Path, format: str) -> None:
    taken = tmp_path / "taken.jpg"
    command = ["exiftool", "-IPTC:Headline=A facade", "-o", taken, DATA / "apple_iphone_6.jpg"]
    subprocess.run(command, capture_output=True, check=True)
    path = tmp_path / f"a.{format}"
    metadata = read_header(taken).metadata
    write_photo(path, PIXELS, metadata)
    assert read_header(path).metadata.iptc == metadata.iptc
    command = ["exiftool", "-s3", "-Headline", path]
    headline = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert headline.strip() == "A facade"


def test_a_photo_without_exif_gets_the_software_only(tmp_path: Path) -> None:
    metadata = result_metadata(Metadata(), 40, 30, "dualsr 9.9")
    write_photo(tmp_path / "a.jpg", PIXELS, metadata)
    with Image.open(tmp_path / "a.jpg") as image:
        assert dict(image.getexif()) == {305: "dualsr 9.9"}


def test_a_profile_larger_than_a_jpeg_segment_is_split(tmp_path: Path) -> None:
    profile = bytearray(np.random.default_rng(3).bytes(150_000))
    profile[16:20] = b"RGB "
    write_photo(tmp_path / "a.jpg", PIXELS, Metadata(icc=bytes(profile)))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == profile


@needs_exiftool
def test_of_exif_beyond_64_kb_a_jpeg_keeps_camera_time_and_place(tmp_path: Path) -> None:
    exif = Image.open(io.BytesIO((DATA / "apple_iphone_6.jpg").read_bytes())).getexif()
    exif.get_ifd(0x8769)[0x927C] = np.random.default_rng(4).bytes(100_000)  # the maker note
    metadata = Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    for format in ("png", "jpg"):
        write_photo(tmp_path / f"a.{format}", PIXELS, metadata)
    whole = tags_of(tmp_path / "a.png")
    kept = tags_of(tmp_path / "a.jpg")
    lost = {name for name in whole if kept.get(name) != whole[name]}
    assert len(whole) > 40
    assert all("Maker" in name for name in lost)
