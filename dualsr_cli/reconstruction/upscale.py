"""Two files -> one file: read, align, judge, reconstruct, write. The job of `dualsr upscale`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import dualsr_cli
from dualsr_cli.alignment import AlignedPair, Box, Fit, align, expected_ratio, working_memory
from dualsr_cli.errors import AlignmentError, DualsrError, InputError, OutputError, UsageError
from dualsr_cli.files import check_writable
from dualsr_cli.machine import default_memory
from dualsr_cli.photos import (
    Header,
    Photo,
    check_target,
    read_header,
    read_two,
    result_metadata,
    write_photo,
)
from dualsr_cli.plain import json_types
from dualsr_cli.reconstruction.canvas import Reconstruction
from dualsr_cli.reconstruction.choice import (
    AUTO,
    DETAIL_TRANSFER,
    networks_of,
    photo_restorer,
    restorer_for,
)
from dualsr_cli.reconstruction.detail_transfer import Agreement
from dualsr_cli.reconstruction.preview_page import write_result_page
from dualsr_cli.reconstruction.reconstruct import (
    MAX_DEFAULT_PIXELS,
    MAX_DEFAULT_SCALE,
    TILE,
    TILE_THREADS,
    Progress,
    default_scale,
    measure,
    reconstruct,
)
from dualsr_cli.reconstruction.restore import (
    Restorer,
    restore,
    restoring_memory,
)

# Measured: what reconstructing takes beside the pixels of photos and result.
_LIBRARIES = 400 << 20  # bytes, with what aligning left behind
_TILE_BYTES = 130 << 20  # a tile in the making, by the scale


@dataclass(frozen=True)
class UpscaleOptions:
    """What a person may ask of one upscaling.

    model: AUTO, DETAIL_TRANSFER, or a network of the zoo, which works in `precision` ("auto" or of
    PRECISIONS) and may take `memory` bytes on its device (None: a share of what is free). scale:
    output pixels per wide pixel; None: the pair's ratio, at most 4 and 200 megapixels.
    crop_to_tele: only the part that the tele photo shows. format, quality and bit_depth are
    `write_photo`'s. strip_metadata: nothing but the colour profile goes into the result.
    """

    model: str = AUTO
    scale: float | None = None
    crop_to_tele: bool = False
    device: str = "auto"
    precision: str = "auto"
    memory: int | None = None
    format: str | None = None
    quality: int | None = None
    bit_depth: int | None = None
    strip_metadata: bool = False
    preview: Path | None = None


@dataclass(frozen=True)
class UpscaleReport:
    """What was done to one pair; `refused` is why the tele photo was not used, (code, sentence).

    made_by: DETAIL_TRANSFER, or the network that reconstructed.
    """

    wide: Path
    tele: Path
    output: Path
    width: int
    height: int
    scale: float
    made_by: str
    tele_used: bool
    refused: tuple[str, str] | None
    swapped: bool
    fit: Fit | None
    agreement: Agreement | None
    shares: tuple[float, float, float]
    seconds: dict[str, float]
    output_bytes: int
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """The report in JSON's types, without the output's path; `refused` in two: code, reason."""
        code, sentence = self.refused or (None, None)
        told = {**asdict(self), "refused": code, "reason": sentence}
        del told["output"]
        plain: dict[str, Any] = json_types(told)
        return plain


def described(summary: Mapping[str, Any]) -> dict[str, str]:
    """`UpscaleReport.summary` as a table for people."""
    facts = {
        "wide photo": str(summary["wide"]),
        "tele photo": str(summary["tele"]),
        "result": f"{summary['width']} x {summary['height']} pixels, {summary['scale']:.2f}x",
        "made by": str(summary["made_by"]),
    }
    if summary["reason"]:
        facts["tele photo refused"] = summary["reason"]
    fit, agreement = summary["fit"], summary["agreement"]
    if fit and agreement:
        density, rotation, overlap = (_real(fit[n]) for n in ("density", "rotation", "overlap"))
        facts["tele against wide"] = (
            f"{density:.2f}x, turned by {rotation:.1f} degrees, {overlap:.0%} inside"
        )
        finest, coarser = map(_real, agreement["correlation"])
        facts["agreement"] = (
            f"{finest:.2f} in the finest common detail, {coarser:.2f} an octave below"
        )
    names = ("from the tele photo", "from matched patches", "from the wide photo alone")
    facts["detail"] = ", ".join(
        f"{share:.0%} {name}" for share, name in zip(summary["shares"], names, strict=True)
    )
    spent = summary["seconds"].items()
    facts["time"] = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in spent)
    return facts


def _real(value: float | None) -> float:
    """A figure of JSON, where NaN is null."""
    return math.nan if value is None else value


@dataclass(frozen=True, eq=False)
class Pair:
    """Two photos that were read, the wide one as given first, and the seconds it took."""

    wide: Photo
    tele: Photo
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Upscaled:
    """A result that is not written yet, and how it came about; `seconds` of each stage so far.

    `wide` and `tele` are what they turned out to be. `aligned` and `agreement` are None where the
    tele photo was refused, `refused` is (code, sentence) then. made_by: as in `UpscaleReport`.
    """

    wide: Photo
    tele: Photo
    aligned: AlignedPair | None
    agreement: Agreement | None
    refused: tuple[str, str] | None
    reconstruction: Reconstruction
    made_by: str
    notes: tuple[str, ...]
    seconds: dict[str, float]


def _silent(stage: str, done: int, total: int) -> None:
    pass


def upscale(
    wide_path: Path,
    tele_path: Path,
    output: Path,
    options: UpscaleOptions = UpscaleOptions(),
    progress: Progress = _silent,
) -> UpscaleReport:
    """Make the wide photo as sharp as the tele photo and write the result to `output`.

    A tele photo that cannot help (another scene, blurred, black, mirrored, unreadable in no way
    but useless) is refused with its reason, and the wide photo is enlarged without it. Raises
    InputError, OutputError or UsageError before anything is written.
    """
    check_target(output, format=options.format, bit_depth=options.bit_depth)
    _check_options(options)
    for path in (wide_path, tele_path):
        if _same_file(path, output):
            raise OutputError(output, "is one of the photos themselves: choose another name")
    pair = _read(wide_path, tele_path, progress)
    return _write(_compute(pair, options, progress), output, options)


class _Inputs(Protocol):
    """What an `UpscaleTask` needs to know of an item: the wide and the tele photo, in this order.

    Where they were given in the wrong order they change roles; the item stays what it is called.
    """

    @property
    def inputs(self) -> tuple[Path, ...]: ...


@dataclass(frozen=True)
class UpscaleTask:
    """`upscale` as steps that run side by side for different pairs; see the room `jobs`.

    A pair's result does not depend on what runs beside it. `progress` is for a pair alone.
    """

    options: UpscaleOptions = UpscaleOptions()
    progress: Progress = _silent

    def prepare(self) -> None:
        """Raises UsageError for a device that is not there, OutputError for the preview."""
        _check_options(self.options)

    def memory(self, item: _Inputs) -> int:
        """About the bytes at the peak of one pair; 0 where a header cannot be read."""
        try:
            wide, tele = (read_header(path) for path in item.inputs)
        except DualsrError:
            return 0
        return _memory(wide, tele, self.options)

    def read(self, item: _Inputs) -> Pair:
        """Both photos. Raises InputError."""
        wide_path, tele_path = item.inputs
        return _read(wide_path, tele_path, self.progress)

    def compute(self, item: _Inputs, data: Pair) -> Upscaled:
        """Everything up to the result's pixels.

        Raises UsageError for an impossible scale, AlignmentError where the tele's part is asked
        for and there is none.
        """
        return _compute(data, self.options, self.progress)

    def write(self, item: _Inputs, result: Upscaled, target: Path) -> dict[str, Any]:
        """Write the file `target`; return `UpscaleReport.summary`. Raises OutputError."""
        return _write(result, target, self.options).summary()


def _check_options(options: UpscaleOptions) -> None:
    _restorers(options)
    if options.preview:
        check_writable(options.preview)


def _restorers(options: UpscaleOptions) -> list[Restorer]:
    """The networks that may be needed, loaded once; none for detail transfer."""
    device = resolve_device(options.device)
    return [photo_restorer(name, device, options.precision) for name in networks_of(options.model)]


def _memory(wide: Header, tele: Header, options: UpscaleOptions) -> int:
    """Bytes: both photos, the result, and what the work takes at its scale."""
    ratio = expected_ratio(wide, tele)
    held = wide.decoded_size + tele.decoded_size
    if ratio is not None and ratio < 1:
        wide, tele, ratio = tele, wide, 1 / ratio
    pixels = wide.width * wide.height
    room = math.sqrt(MAX_DEFAULT_PIXELS / pixels)
    ratio = ratio or MAX_DEFAULT_SCALE
    scale = options.scale or max(1.0, min(ratio, MAX_DEFAULT_SCALE, room))
    tiles = min(TILE_THREADS, math.ceil(wide.width / TILE) * math.ceil(wide.height / TILE))
    making = wide.decoded_size * scale**2 + _LIBRARIES
    ways: list[float] = []
    if options.model in (AUTO, DETAIL_TRANSFER):
        ways.append(tiles * scale * _TILE_BYTES)
    for restorer in _restorers(options):
        ways.append(restoring_memory(restorer, wide.width, wide.height, ratio, options.memory))
    making += max(ways)
    return round(held + max(making, working_memory(wide, tele)))


def _read(wide_path: Path, tele_path: Path, progress: Progress) -> Pair:
    clock = _Clock({})
    if _same_file(wide_path, tele_path):
        raise InputError(tele_path, "was given as wide and as tele photo: name two photos")
    progress("read", 0, 2)
    wide, tele = read_two(wide_path, tele_path)
    progress("read", 2, 2)
    clock.lap("read")
    return Pair(wide, tele, clock.laps)


def _compute(pair: Pair, options: UpscaleOptions, progress: Progress) -> Upscaled:
    clock = _Clock(pair.seconds)
    wide, tele = pair.wide, pair.tele
    notes = [*wide.notes, *tele.notes]
    device = resolve_device(options.device)
    progress("align", 0, 1)
    aligned, agreement, refused = _aligned(wide, tele, options.scale, device)
    progress("align", 1, 1)
    clock.lap("align")
    if aligned is not None and aligned.swapped:
        notes.append(
            f"{wide.path.name} shows less of the scene than {tele.path.name}: taken as the tele "
            "photo"
        )
        wide, tele = aligned.wide, aligned.tele

    scale, note = _scale(wide, aligned, options.scale)
    if note:
        notes.append(note)
    box = _crop(aligned, refused) if options.crop_to_tele else None
    restorer, reconstruction = None, None
    if aligned is not None and agreement is not None:
        restorer = restorer_for(options.model, aligned, agreement, device, options.precision)
    if restorer and aligned is not None:
        try:
            _check_room(restorer, aligned, options)
            reconstruction = restore(
                aligned, restorer, scale, memory=options.memory, box=box, progress=progress
            )
        except (MemoryError, UsageError):  # of usage, only too little --max-memory
            if options.model != AUTO:
                raise
            notes.append(f"made by {DETAIL_TRANSFER}, for {restorer.model} needs more memory")
    made_by = restorer.model if restorer and reconstruction else DETAIL_TRANSFER
    if reconstruction is None:
        reconstruction = reconstruct(
            wide, aligned, scale, agreement=agreement, box=box, device=device, progress=progress
        )
    clock.lap("reconstruct")
    return Upscaled(
        wide, tele, aligned, agreement, refused, reconstruction, made_by, tuple(notes), clock.laps
    )


def _check_room(restorer: Restorer, aligned: AlignedPair, options: UpscaleOptions) -> None:
    """Raise MemoryError where nobody asked for a network and it would hardly fit."""
    if options.model != AUTO:
        return
    wide = aligned.wide
    needs = restoring_memory(restorer, wide.width, wide.height, aligned.ratio, options.memory)
    allowed = options.memory if restorer.device.type == "cpu" else None
    if needs > (allowed or default_memory()):
        raise MemoryError


def _write(made: Upscaled, output: Path, options: UpscaleOptions) -> UpscaleReport:
    clock = _Clock(made.seconds)
    size = _write_result(output, made.wide, made.reconstruction, options)
    clock.lap("write")
    aligned, reconstruction = made.aligned, made.reconstruction
    report = UpscaleReport(
        made.wide.path,
        made.tele.path,
        output,
        reconstruction.pixels.shape[1],
        reconstruction.pixels.shape[0],
        reconstruction.scale,
        made.made_by,
        aligned is not None,
        made.refused,
        aligned is not None and aligned.swapped,
        aligned.fit if aligned else None,
        made.agreement,
        reconstruction.shares,
        clock.laps,
        size,
        made.notes,
    )
    if options.preview:
        write_result_page(
            options.preview, made.wide, aligned, reconstruction, described(report.summary())
        )
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


def _write_result(
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
    """Seconds of each stage, beside those of the stages before."""

    def __init__(self, before: Mapping[str, float]) -> None:
        self.laps = dict(before)
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now
