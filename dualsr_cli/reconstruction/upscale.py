"""Two files -> one file: read, align, judge, reconstruct, write. The job of `dualsr upscale`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import dualsr_cli
from dualsr_cli.alignment import AlignedPair, Box, Fit, align
from dualsr_cli.errors import AlignmentError, InputError, OutputError, UsageError
from dualsr_cli.files import check_writable
from dualsr_cli.photos import Photo, check_target, read_photo, result_metadata, write_photo
from dualsr_cli.reconstruction.detail_transfer import Agreement
from dualsr_cli.reconstruction.preview_page import write_result_page
from dualsr_cli.reconstruction.reconstruct import (
    Progress,
    Reconstruction,
    default_scale,
    measure,
    reconstruct,
)


@dataclass(frozen=True)
class UpscaleOptions:
    """What a person may ask of one upscaling.

    scale: output pixels per wide pixel; None: the pair's ratio, at most 4 and 200 megapixels.
    crop_to_tele: only the part that the tele photo shows. format, quality and bit_depth are
    `write_photo`'s. strip_metadata: nothing but the colour profile goes into the result.
    """

    scale: float | None = None
    crop_to_tele: bool = False
    device: str = "auto"
    format: str | None = None
    quality: int | None = None
    bit_depth: int | None = None
    strip_metadata: bool = False
    preview: Path | None = None


@dataclass(frozen=True)
class UpscaleReport:
    """What was done to one pair; `refused` is why the tele photo was not used, (code, sentence)."""

    wide: Path
    tele: Path
    output: Path
    width: int
    height: int
    scale: float
    tele_used: bool
    refused: tuple[str, str] | None
    swapped: bool
    fit: Fit | None
    agreement: Agreement | None
    shares: tuple[float, float, float]
    seconds: dict[str, float]
    output_bytes: int
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, str]:
        """The report as a table for people."""
        facts = {
            "wide photo": str(self.wide),
            "tele photo": str(self.tele),
            "result": f"{self.width} x {self.height} pixels, {self.scale:.2f}x",
        }
        if self.refused:
            facts["tele photo refused"] = self.refused[1]
        if self.fit and self.agreement:
            facts["tele against wide"] = (
                f"{self.fit.density:.2f}x, turned by {self.fit.rotation:.1f} degrees, "
                f"{self.fit.overlap:.0%} inside"
            )
            facts["agreement"] = (
                f"{self.agreement.correlation[0]:.2f} in the finest common detail, "
                f"{self.agreement.correlation[1]:.2f} an octave below"
            )
        names = ("from the tele photo", "from matched patches", "from the wide photo alone")
        facts["detail"] = ", ".join(
            f"{share:.0%} {name}" for share, name in zip(self.shares, names, strict=True)
        )
        facts["time"] = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in self.seconds.items())
        return facts


def upscale(
    wide_path: Path,
    tele_path: Path,
    output: Path,
    options: UpscaleOptions = UpscaleOptions(),
    progress: Progress = lambda stage, done, total: None,
) -> UpscaleReport:
    """Make the wide photo as sharp as the tele photo and write the result to `output`.

    A tele photo that cannot help (another scene, blurred, black, mirrored, unreadable in no way
    but useless) is refused with its reason, and the wide photo is enlarged without it. Raises
    InputError, OutputError or UsageError before anything is written.
    """
    clock = _Clock()
    check_target(output, format=options.format, bit_depth=options.bit_depth)
    if options.preview:
        check_writable(options.preview)
    device = resolve_device(options.device)
    for path in (wide_path, tele_path):
        if _same_file(path, output):
            raise OutputError(output, "is one of the photos themselves: choose another name")
    if _same_file(wide_path, tele_path):
        raise InputError(tele_path, "was given as wide and as tele photo: name two photos")
    progress("read", 0, 2)
    wide = read_photo(wide_path)
    progress("read", 1, 2)
    tele = read_photo(tele_path)
    progress("read", 2, 2)
    notes = [*wide.notes, *tele.notes]
    clock.lap("read")

    progress("align", 0, 1)
    aligned, agreement, refused = _aligned(wide, tele, options.scale, device)
    progress("align", 1, 1)
    clock.lap("align")
    if aligned is not None and aligned.swapped:
        notes.append(
            f"{wide_path.name} shows less of the scene than {tele_path.name}: taken as the tele "
            "photo"
        )
        wide, tele = aligned.wide, aligned.tele

    scale, note = _scale(wide, aligned, options.scale)
    if note:
        notes.append(note)
    reconstruction = reconstruct(
        wide,
        aligned,
        scale,
        agreement=agreement,
        box=_crop(aligned, refused) if options.crop_to_tele else None,
        device=device,
        progress=progress,
    )
    clock.lap("reconstruct")
    size = _write(output, wide, reconstruction, options)
    clock.lap("write")
    report = UpscaleReport(
        wide.path,
        tele.path,
        output,
        reconstruction.pixels.shape[1],
        reconstruction.pixels.shape[0],
        scale,
        aligned is not None,
        refused,
        aligned is not None and aligned.swapped,
        aligned.fit if aligned else None,
        agreement,
        reconstruction.shares,
        clock.laps,
        size,
        tuple(notes),
    )
    if options.preview:
        write_result_page(options.preview, wide, aligned, reconstruction, report.facts())
    return report


def _aligned(
    wide: Photo, tele: Photo, scale: float | None, device: str
) -> tuple[AlignedPair | None, Agreement | None, tuple[str, str] | None]:
    try:
        aligned = align(wide, tele)
        scale = scale or default_scale(aligned.wide, aligned)
        return aligned, measure(aligned, scale, device), None
    except AlignmentError as error:
        return None, None, (error.reason, str(error))


def _scale(wide: Photo, aligned: AlignedPair | None, asked: float | None) -> tuple[float, str]:
    """The scale and, where it is not what the pair's ratio says, a sentence about it."""
    if asked is not None:
        return asked, ""
    scale = default_scale(wide, aligned)
    if aligned is not None and scale < 0.97 * aligned.ratio:
        return scale, (
            f"the tele photo is {aligned.ratio:.2f}x sharper; the result is made at {scale:.2f}x "
            "(at most 4x and 200 megapixels unless --scale says otherwise)"
        )
    return scale, ""


def _crop(aligned: AlignedPair | None, refused: tuple[str, str] | None) -> Box:
    """What the tele photo shows; without it there is nothing to crop to."""
    if aligned is None:
        reason, sentence = refused or ("", "")
        raise AlignmentError(reason, f"there is nothing to crop to: {sentence}")
    return aligned.footprint_box()


def _write(
    output: Path, wide: Photo, reconstruction: Reconstruction, options: UpscaleOptions
) -> int:
    height, width = reconstruction.pixels.shape[:2]
    software = f"dualsr {dualsr_cli.__version__}"
    metadata = result_metadata(wide.header.metadata, width, height, software)
    if options.strip_metadata:
        metadata = type(metadata)(icc=metadata.icc)
    return write_photo(
        output,
        reconstruction.pixels,
        metadata,
        format=options.format,
        quality=options.quality,
        bit_depth=options.bit_depth,
    )


def resolve_device(name: str) -> str:
    """The torch device for "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises UsageError where this machine does not have it.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in counts or (index and not (kind == "cuda" and index.isdecimal())):
        raise UsageError(f"--device {name} is unknown: choose auto, cpu, cuda, cuda:N or mps")
    if int(index or 0) >= counts[kind]:
        raise UsageError(f"--device {name} is not on this machine: choose auto or cpu")
    return name


def _same_file(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now
