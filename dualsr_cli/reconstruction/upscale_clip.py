"""Two video files -> one: open, find out how they lie in time, plan, restore, write; resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dualsr_cli
from dualsr_cli.errors import OutputError, UsageError
from dualsr_cli.networks import find_model
from dualsr_cli.plain import json_types
from dualsr_cli.reconstruction.choice import DETAIL_TRANSFER
from dualsr_cli.reconstruction.clip_groups import Group
from dualsr_cli.reconstruction.reconstruct import Progress
from dualsr_cli.reconstruction.restore import Restorer, load_restorer, references_of
from dualsr_cli.reconstruction.restore_clip import (
    Footage,
    plan_clip,
    restore_group,
)
from dualsr_cli.reconstruction.upscale import resolve_device

if TYPE_CHECKING:  # PyAV is loaded where a clip is opened
    from dualsr_cli.videos import Clip, FrameReader, Offset


@dataclass(frozen=True)
class ClipOptions:
    """What a person may ask of one upscaling of a clip.

    model, scale, device, precision, memory and strip_metadata: as in `UpscaleOptions`; scale None:
    the sharp clip's resolution. several: whether a frame takes both sharp frames around it or the
    nearest alone; None: as many as the network takes, and both without one. codec: FFmpeg's name
    of an encoder; crf: its constant quality; None: see `ClipWriter`. anew: what an earlier run has
    finished does not count.
    """

    model: str = DETAIL_TRANSFER
    scale: float | None = None
    several: bool | None = None
    device: str = "auto"
    precision: str = "auto"
    memory: int | None = None
    codec: str | None = None
    crf: int | None = None
    strip_metadata: bool = False
    anew: bool = False


@dataclass(frozen=True)
class GroupReport:
    """One group that was restored: its first frame, counted from 0, and how many there are.

    references: how many sharp frames could be laid on it.
    """

    first: int
    frames: int
    references: int
    seconds: float


@dataclass(frozen=True)
class ClipReport:
    """What was done to two clips. resumed: frames that an earlier run had finished; unreferenced:
    frames restored now that no sharp frame fits. offset: what the sharp clip shows at t the fast
    one shows at t + offset seconds; evidence: what told, `content`, `creation time` or `start`.
    """

    fast: Path
    sharp: Path
    output: Path
    width: int
    height: int
    scale: float
    references: int
    frames: int
    resumed: int
    unreferenced: int
    swapped: bool
    offset: float
    evidence: str
    seconds: dict[str, float]
    output_bytes: int
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The report in JSON's types, without the output's path."""
        told = asdict(self)
        del told["output"]
        plain: dict[str, Any] = json_types(told)
        return plain


def upscale_clip(
    fast: Path,
    sharp: Path,
    output: Path,
    options: ClipOptions,
    progress: Progress = lambda stage, done, total: None,
    finished: Callable[[GroupReport], None] = lambda report: None,
) -> ClipReport:
    """Give the fast clip the sharp one's resolution; told the wrong way round, they are exchanged.

    Killed at any time and started again with the same arguments, it goes on after the last
    finished group. Raises InputError, UsageError, OutputError (also where another run makes this
    result), AlignmentError where the clips do not show one scene, and DualsrError where they have
    no moment in common.
    """
    from dualsr_cli.videos import (
        Frame,
        FrameReader,
        ResumableClip,
        open_clip,
        sole_writer,
        synchronise,
    )

    begun = time.monotonic()
    restorer = None
    if options.model != DETAIL_TRANSFER:
        restorer = load_restorer(options.model, resolve_device(options.device), options.precision)
    several = _several(options, restorer)
    progress("read", 0, 1)
    first, second = open_clip(fast), open_clip(sharp)
    swapped = _wrong_way_round(first, second)
    if swapped:
        first, second = second, first
    for clip in (first, second):
        if output.exists() and clip.path.exists() and output.samefile(clip.path):
            raise OutputError(output, "is one of the clips themselves: choose another name")
    progress("read", 1, 1)
    with sole_writer(output), FrameReader(first) as one, FrameReader(second) as other:
        progress("synchronise", 0, 1)
        offset = synchronise(first, second)
        progress("synchronise", 1, 1)
        opened = time.monotonic()
        progress("align", 0, 1)
        clips = _footage(first, one), _footage(second, other)
        plan = plan_clip(*clips, offset=offset.seconds, several=several, scale=options.scale)
        progress("align", 1, 1)
        aligned = time.monotonic()
        key = _key(first, second, options, offset.seconds, several, plan.scale)
        writer = ResumableClip(
            output,
            first,
            (plan.width, plan.height),
            key,
            options.codec,
            options.crf,
            metadata=not options.strip_metadata,
        )
        if options.anew:
            writer.begin_anew()
        resumed, unreferenced = writer.finished, 0
        total = len(first.times)
        progress("restore", resumed, total)
        for group in plan.groups[writer.finished_groups :]:
            started, used = time.monotonic(), 0

            def frames(group: Group = group) -> Iterator[Frame]:
                nonlocal used
                made = restore_group(plan, group, *clips, restorer, memory=options.memory)
                for number, frame in enumerate(made, group.start + 1):
                    used = frame.references
                    yield Frame(frame.pixels, frame.time)
                    progress("restore", number, total)

            writer.add_group(frames())
            unreferenced += 0 if used else len(group)
            spent = time.monotonic() - started
            finished(GroupReport(group.start, len(group), used, round(spent, 3)))
        restored = time.monotonic()
        progress("write", 0, 1)
        writer.finish()
        progress("write", 1, 1)
    written = time.monotonic()
    return ClipReport(
        first.path,
        second.path,
        output,
        plan.width,
        plan.height,
        plan.scale,
        1 + several,
        total,
        resumed,
        unreferenced,
        swapped,
        float(offset.seconds),
        offset.evidence,
        {
            "read": round(opened - begun, 3),
            "align": round(aligned - opened, 3),
            "restore": round(restored - aligned, 3),
            "write": round(written - restored, 3),
        },
        output.stat().st_size if output.is_file() else 0,
        _notes(first, second, offset, swapped, writer.notes),
    )


def _several(options: ClipOptions, restorer: Restorer | None) -> bool:
    if restorer is None:
        return options.several is not False
    taken = references_of(restorer)
    if options.several is not None and options.several != (taken > 1):
        asked = "multi" if options.several else "single"
        raise UsageError(
            f"--reference {asked} does not fit {options.model}, which takes {taken} at a time: "
            "leave it out or choose another model"
        )
    return taken > 1


def _wrong_way_round(first: Clip, second: Clip) -> bool:
    sizes = [clip.width * clip.height for clip in (first, second)]
    return sizes[0] > sizes[1] or (sizes[0] == sizes[1] and first.rate < second.rate)


def _footage(clip: Clip, reader: FrameReader) -> Footage:
    return Footage(clip.path.name, clip.times, reader.frames)


def _key(
    first: Clip,
    second: Clip,
    options: ClipOptions,
    offset: Fraction,
    several: bool,
    scale: float,
) -> str:
    """All that decides the pixels."""
    weights = None
    if options.model != DETAIL_TRANSFER:
        weights = find_model(options.model).sha256, options.precision, options.device
    files = [_stamps(clip) for clip in (first, second)]
    return json.dumps(
        [dualsr_cli.__version__, files, options.model, weights, str(offset), several, scale]
    )


def _stamps(clip: Clip) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a clip's files: what is long is not read once more for its hash."""
    stamps = []
    for path in clip.pictures or (clip.path,):
        found = path.stat()
        stamps.append((str(path.absolute()), found.st_size, found.st_mtime_ns))
    return stamps


def _notes(
    first: Clip, second: Clip, offset: Offset, swapped: bool, written: tuple[str, ...]
) -> tuple[str, ...]:
    notes = [clip.warning for clip in (first, second) if clip.warning]
    if swapped:
        notes.append(
            f"{first.path.name} has smaller frames than {second.path.name}: taken as the fast clip"
        )
    if not offset.refined:
        notes.append(
            f"the clips show too little that tells when: laid on each other by {offset.evidence}"
        )
    return (*notes, *written)
