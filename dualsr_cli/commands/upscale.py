"""`dualsr upscale`: two photos in, one sharper photo out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from dualsr_cli.commands._batch import Work, is_one_file, work_on
from dualsr_cli.commands._batch_options import Batch, Inputs, takes_batch
from dualsr_cli.commands._clip import Reference, are_clips, upscale_clips
from dualsr_cli.commands.options import Precision
from dualsr_cli.console import Console, Progress
from dualsr_cli.errors import UsageError
from dualsr_cli.jobs import Task
from dualsr_cli.machine import parse_memory


class Part(str, Enum):
    tele = "tele"


@takes_batch
def upscale(
    inputs: Inputs,
    batch: Batch,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="The result, whose suffix is the format; or the folder that results go to.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What reconstructs: detail-transfer, which needs no weights, or a network that "
            "`dualsr models` lists; auto: dualsr where the wide photo is soft or noisy, else "
            "dualsr-sharp.",
        ),
    ] = "auto",
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Output pixels per pixel of the wide photo, or of the fast clip, 1 to 16.  "
            "[default: the pair's ratio, of photos at most 4 and 200 megapixels]",
            show_default=False,
        ),
    ] = None,
    crop_to: Annotated[
        Part | None,
        typer.Option(help="Only the part that the tele photo shows.", show_default=False),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of a network's arithmetic; auto: bf16 on GPUs that have it.")
    ] = Precision.auto,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="png, jpeg, tiff, webp or heic.  [default: OUT's suffix, or the wide photo's]",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(metavar="1..100", help="Of JPEG, WebP and HEIC.", show_default=False),
    ] = None,
    bit_depth: Annotated[
        int | None,
        typer.Option(
            metavar="8|16", help="Bits per colour.  [default: the wide photo's]", show_default=False
        ),
    ] = None,
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Leave EXIF, GPS and XMP out of the result.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page to look at the result of two photos.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Reference | None,
        typer.Option(
            help="Of clips: for each frame the nearest sharp frame, or those before and after it.  "
            "[default: multi, or what the model takes]",
            show_default=False,
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of clips: an encoder of FFmpeg.  [default: libx264, for more than 8 bits "
            "libx265]",
            show_default=False,
        ),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Of clips: the encoder's constant quality, less is better.  [default: 17 for "
            "libx264]",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Make the wide photo as sharp as the tele photo of the same scene.

    Takes two photos, or a folder or table of them; results of a folder keep its tree, and a
    manifest in OUT remembers them: the same command again does what is new, changed or failed. A
    tele photo that cannot help is refused with the reason, and the wide photo is enlarged without
    it. Of two clips the fast, small one gets the resolution of the slow, sharp one; killed, the
    same command goes on where it was.

    \b
    Examples:
      dualsr upscale wide.jpg tele.jpg -o out.png
      dualsr upscale wide.heic tele.heic -o out.heic --scale 2 --preview look.html
      dualsr upscale ~/Pictures/2024 -o sharp
      dualsr upscale pairs.csv -o sharp --format png --jobs 2
      dualsr upscale wide.jpg tele.jpg -o out.png --model kedusr --max-memory 4G
      dualsr upscale fast.mp4 sharp.mp4 -o out.mp4
    """
    if are_clips(inputs):
        settings = {
            "model": "detail-transfer" if model == "auto" else model,
            "scale": scale, "device": device, "precision": precision.value,
            "codec": codec, "crf": crf, "strip_metadata": strip_metadata,
        }  # fmt: skip
        photos = {
            "--crop-to": crop_to, "--format": format, "--quality": quality,
            "--bit-depth": bit_depth, "--preview": preview,
        }  # fmt: skip
        return upscale_clips(inputs, Path(output), batch, settings, reference, photos)
    for name, given in (("--reference", reference), ("--codec", codec), ("--crf", crf)):
        if given is not None:
            raise UsageError(f"{name} is for clips: leave it out for photos")
    from dualsr_cli.photos import check_target, result_suffix
    from dualsr_cli.reconstruction import UpscaleOptions, UpscaleTask

    one = is_one_file(inputs, output)
    if preview and not one:
        raise UsageError("--preview is for two photos and a result file: name them")
    options = UpscaleOptions(
        model=model,
        scale=scale,
        crop_to_tele=crop_to is not None,
        device=device,
        precision=precision.value,
        memory=parse_memory(batch.max_memory) if batch.max_memory else None,
        format=format,
        quality=quality,
        bit_depth=bit_depth,
        strip_metadata=strip_metadata,
        preview=preview,
    )

    def task(progress: Progress | None) -> Task:
        return UpscaleTask(options, progress) if progress else UpscaleTask(options)

    work = Work(
        command="upscale",
        event="upscaled",
        task=task,
        settings={
            "model": model,
            **_weights(model, precision),
            "scale": scale,
            "crop_to": crop_to and crop_to.value,
            "format": format,
            "quality": quality,
            "bit_depth": bit_depth,
            "strip_metadata": strip_metadata,
        },
        suffix=lambda wide: result_suffix(wide, format),
        tell=_tell,
        check=lambda path: check_target(path, format=format, bit_depth=bit_depth),
        named=("model",),
    )
    return work_on(work, inputs, output, batch, one=one)


def _weights(model: str, precision: Precision) -> dict[str, str]:
    """What else decides a result that a network may have a part in."""
    from dualsr_cli.networks import find_model
    from dualsr_cli.reconstruction import networks_of

    weights = "+".join(find_model(network).sha256 for network in networks_of(model))
    return {"weights": weights, "precision": precision.value} if weights else {}


def _tell(console: Console, facts: Mapping[str, Any], start: str) -> None:
    from dualsr_cli.reconstruction import described

    for note in facts["notes"]:
        console.say(f"dualsr: {start}{note}")
    if facts["refused"]:
        console.warn(f"{start}{facts['reason']}; enlarged without a tele photo")
    for name, value in described(facts).items():
        console.detail(f"{name}: {value}")
