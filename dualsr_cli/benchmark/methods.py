"""What the bench compares, by name, and what each method makes of a case."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from dualsr_cli.alignment import AlignedPair, align
from dualsr_cli.benchmark._operations import Operations, Peak
from dualsr_cli.benchmark.layouts import Case, Sample
from dualsr_cli.benchmark.metrics import Array
from dualsr_cli.errors import AlignmentError, DualsrError, InputError, UsageError
from dualsr_cli.networks import (
    Inputs,
    Model,
    Network,
    build,
    count_parameters,
    find_model,
    list_models,
)
from dualsr_cli.photos import READ_SUFFIXES, Photo, read_photo
from dualsr_cli.reconstruction import (
    AUTO,
    DETAIL_TRANSFER,
    Agreement,
    Restorer,
    load_restorer,
    measure,
    network_inputs,
    networks_of,
    reconstruct,
    references_of,
    restore,
    restore_windows,
    restorer_for,
    run_network,
)

AFFORDABLE = 5_000_000
"""Operations for each pixel of a photo up to which a network is tried unasked: the sample's half a
million of them, at the 70 GFLOP/s of two cores, then take half a minute."""
_TRIED = 48, 96
"""Sides of the photos on which they are counted, of whose middle the tele shows half the sides."""
_PIXELS = 125_000
"""Of a photo of the sample: what is counted on small ones is brought to that size."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
_LONGEST_NAME = 100
_WINDOW = 256  # LR pixels along a side, of maps: of little memory


@dataclass(frozen=True)
class Method:
    """A way to enlarge LR, or images that were made in another place. Plain data.

    name: what tables call it, of its own among those that are compared. kind: what makes its
    results, a name in the table of `run_method`. scale: of a network, None for any scale. weights:
    their SHA-256; parameters: how many numbers they hold. folder: of images. model: of the zoo, and
    settings: of its network that are replaced, where the name is not the model's own, as in an
    ablation. slug: what its scores' folder is called, where that is not its name.
    """

    name: str
    kind: str
    scale: int | None = None
    weights: str = ""
    parameters: int | None = None
    folder: Path | None = None
    model: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    slug: str = ""


@dataclass(frozen=True)
class Resources:
    """What methods may use.

    device: a torch device; precision: of networks, "auto" or what `upscale` knows; memory: bytes
    that a network may take, on a processor all of the process; None: a share of what is free.
    alone: whether nothing else works in this process, so that its memory can be measured.
    """

    device: str = "cpu"
    precision: str = "auto"
    memory: int | None = None
    alone: bool = True


@dataclass(frozen=True, eq=False)
class Alignment:
    """What aligning LR and its first reference gave; `refused`: why it cannot be used."""

    pair: AlignedPair | None
    agreement: Agreement | None
    refused: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """A result, and what it took; the fields are those of `Row`.

    pixels: (H, W, 3) RGB: uint8, uint16, or floating with 1 as white, which may go beyond.
    """

    pixels: Array
    refused: tuple[str, str] | None = None
    device: str = ""
    precision: str = ""
    seconds: float | None = None
    memory: int | None = None
    operations: int | None = None


def find_method(name: str) -> Method:
    """The method of that name. Raises UsageError where there is none, InputError for its files."""
    if name in _PLAIN:
        return _plain_method(name)
    networks = {model.name: model for model in list_models() if model.kind == "network"}
    if name in networks:
        return _network_method(networks[name])
    known = ", ".join([*_PLAIN, *networks])
    raise UsageError(
        f"there is no method {name[:_LONGEST_NAME]!r}: choose among {known}, or name a folder of "
        "images by --results"
    )


def list_methods() -> list[Method]:
    """All that `find_method` knows. Raises InputError."""
    networks = [_network_method(model) for model in list_models() if model.kind == "network"]
    return [*map(_plain_method, _PLAIN), *networks]


def default_methods(
    scale: int, left_out: Callable[[str], None] = lambda sentence: None
) -> list[Method]:
    """Those that need no choice, and every shipped network of that scale that two cores can afford.

    left_out: told of each that they cannot, see AFFORDABLE. Raises InputError.
    """
    methods = [*map(_plain_method, _PLAIN)]
    for model in list_models():
        if model.kind != "network" or not model.shipped:
            continue
        method = _network_method(model)
        if method.scale != scale:
            continue
        if (taken := references_of(load_restorer(model.name, "cpu", "fp32"))) > 1:
            left_out(f"{model.name} takes {taken} references: left out, --method names it")
            continue
        operations = _operations_a_pixel(method)
        if operations <= AFFORDABLE:
            methods.append(method)
        else:
            left_out(
                f"{model.name} takes {operations / 1e6:.1f} MFLOP for each pixel, more than the "
                f"{AFFORDABLE / 1e6:g} that are tried unasked: left out, --method names it"
            )
    return methods


def _operations_a_pixel(method: Method) -> float:
    """Of a network, for each pixel of a photo of _PIXELS.

    Convolutions take the same for each pixel; a search for matches compares it with all others, and
    so takes more in proportion to the photo.
    """
    few, many = (side**2 for side in _TRIED)
    small, large = (_operations(method, side) / side**2 for side in _TRIED)
    return large + max(0.0, large - small) * (_PIXELS - many) / (many - few)


def _operations(method: Method, side: int) -> int:
    """Of a network, on a photo of noise."""
    assert method.scale is not None
    noise, first, last = torch.Generator().manual_seed(0), side // 4, 3 * side // 4
    shown = method.scale * (last - first)
    inputs = Inputs(
        torch.rand(1, 3, side, side, generator=noise),
        torch.rand(1, 3, shown, shown, generator=noise),
        torch.tensor([[first, first, last, last]]),
    )
    operations = Operations()
    with operations:
        run_network(load_restorer(method.name, "cpu", "fp32"), inputs)
    return operations.total


def results_method(folder: Path, name: str) -> Method:
    """Images that were made elsewhere, one for each case. Raises UsageError, InputError."""
    if not folder.is_dir():
        raise InputError(folder, "is no folder: name the one that holds the results")
    if not name.strip(". ") or not name.isprintable() or {"/", "\\"} & set(name):
        raise UsageError(f"--name {name!r} is no name for a method: use letters, digits, dashes")
    return Method(name[:_LONGEST_NAME], "results", folder=folder)


def find_result(method: Method, case: Case) -> Path:
    """The image of a case: FOLDER/CASE with any suffix, or the only one that is FOLDER/CASE_*.

    Raises InputError where there is none, or more than one.
    """
    assert method.folder is not None
    wanted = method.folder / case.name
    named = [wanted.with_name(wanted.name + suffix) for suffix in sorted(READ_SUFFIXES)]
    found = [path for path in named if path.is_file()]
    if not found and wanted.parent.is_dir():  # which may hold thousands of files
        there = [
            path for path in sorted(wanted.parent.iterdir()) if path.suffix.lower() in READ_SUFFIXES
        ]
        found = [path for path in there if path.stem == wanted.name]
        found = found or [path for path in there if path.name.startswith(f"{wanted.name}_")]
    if len(found) == 1:
        return found[0]
    if found:
        both = f"{found[0].name} and {found[1].name}"
        raise InputError(method.folder, f"holds {both} for {case.name}: leave one of them there")
    raise InputError(
        method.folder, f"holds no image {case.name}.* for that case: add it, or leave the case out"
    )


def align_sample(sample: Sample, device: str) -> Alignment:
    """LR and its first reference, as `upscale` aligns them, with its reasons to refuse one."""
    if not sample.refs:
        return Alignment(None, None, ("no-reference", "there is no reference"))
    lr, ref = sample.lr, sample.refs[0]
    try:
        pair = align(lr, ref)
        if pair.swapped:
            raise AlignmentError(
                "no-zoom", f"{ref.path.name} shows the scene no larger than {lr.path.name}"
            )
        return Alignment(pair, measure(pair, float(sample.case.scale), device))
    except AlignmentError as error:
        return Alignment(None, None, (error.reason, str(error)))


def run_method(
    method: Method, sample: Sample, alignment: Callable[[], Alignment], resources: Resources
) -> Made:
    """A method's result for a case, s times as large as LR, and what it took.

    alignment: gives what `align_sample` has for the sample, once it is asked for. Raises
    DualsrError for what cannot be made: too little memory, images of a wrong size, no numbers.
    """
    return _MAKERS[method.kind](method, sample, alignment, resources)


_Maker = Callable[[Method, Sample, Callable[[], Alignment], Resources], Made]


def _resized(
    method: Method, sample: Sample, alignment: Callable[[], Alignment], resources: Resources
) -> Made:
    work = partial(_enlarged, sample.lr, sample.case.scale, _FILTERS[method.kind])
    return _timed(work, None, "cpu", resources)


def _detail_transfer(
    method: Method, sample: Sample, alignment: Callable[[], Alignment], resources: Resources
) -> Made:
    found = alignment()

    def work() -> Array:
        scale = float(sample.case.scale)
        return reconstruct(
            sample.lr, found.pair, scale, agreement=found.agreement, device=resources.device
        ).pixels

    return _timed(work, found.refused, resources.device, resources)


def _auto(
    method: Method, sample: Sample, alignment: Callable[[], Alignment], resources: Resources
) -> Made:
    """What `upscale` does unasked: mostly a network, corrected as there."""
    found = alignment()
    pair, agreement, scale = found.pair, found.agreement, float(sample.case.scale)
    if pair is None or agreement is None:
        return _detail_transfer(method, sample, alignment, resources)

    def chosen() -> Restorer | None:
        return restorer_for(AUTO, pair, agreement, resources.device, resources.precision)

    restorer = chosen()
    if restorer is None:
        return _detail_transfer(method, sample, alignment, resources)

    def work() -> Array:
        chosen()  # it tries networks out, which takes its time
        return restore(pair, restorer, scale, memory=resources.memory).pixels

    return _timed(work, None, resources.device, resources, restorer.precision)


def _network(
    method: Method, sample: Sample, alignment: Callable[[], Alignment], resources: Resources
) -> Made:
    """The network alone, neither clamped nor corrected.

    A reference that cannot be aligned leaves nothing to it: LR is enlarged as `upscale` does.
    """
    restorer = restorer_of(method, resources)
    inputs = _inputs(sample, alignment)
    if inputs is None:
        return _detail_transfer(method, sample, alignment, resources)

    def work() -> Array:
        try:
            result = run_network(restorer, inputs, resources.memory)
        except (UsageError, ValueError) as error:  # of this image; the next may fit
            raise DualsrError(
                f"{method.name} cannot take {sample.lr.path} and its reference ({error}): leave "
                "one of them out"
            ) from error
        if not bool(result.isfinite().all()):
            raise DualsrError(
                f"{method.name} gives no numbers for {sample.lr.path} in {restorer.precision}: "
                "choose another --precision, or other weights"
            )
        pixels: Array = result.permute(1, 2, 0).numpy()
        return pixels

    return _timed(work, None, resources.device, resources, restorer.precision)


def _inputs(sample: Sample, alignment: Callable[[], Alignment]) -> Inputs | None:
    """A batch of one for a network; None where the reference cannot be aligned."""
    if sample.registration != "free" or sample.center is not None:
        return sample.inputs()
    pair = alignment().pair
    return None if pair is None else network_inputs(pair, sample.case.scale)


def take_map(
    method: Method,
    sample: Sample,
    alignment: Callable[[], Alignment],
    resources: Resources,
    name: str,
) -> Array:
    """One of a network's maps, 0..1, as a grey picture of LR's size: (H, W, 3) uint8.

    Black where the reference cannot be aligned, and so nothing comes of it. Raises DualsrError.
    """
    restorer, inputs = restorer_of(method, resources), _inputs(sample, alignment)
    values = torch.zeros(sample.lr.height, sample.lr.width)
    if inputs is not None:
        inputs = inputs.to(restorer.device, restorer.dtype)
        for window, _, outputs in restore_windows(restorer.network, inputs, _WINDOW):
            top, left, bottom, right = window
            found = outputs.maps[name][:1, :1].float()
            values[top:bottom, left:right] = F.interpolate(found, (bottom - top, right - left))[
                0, 0
            ]
    grey = (values.clamp(0, 1) * 255).round().byte()
    pixels: Array = grey[..., None].expand(-1, -1, 3).contiguous().numpy()
    return pixels


def _elsewhere(
    method: Method, sample: Sample, alignment: Callable[[], Alignment], resources: Resources
) -> Made:
    photo = read_photo(find_result(method, sample.case))
    width, height = (side * sample.case.scale for side in (sample.lr.width, sample.lr.height))
    if (photo.width, photo.height) != (width, height):
        raise InputError(
            photo.path,
            f"is {photo.width} x {photo.height} pixels, not the {width} x {height} of the truth: "
            f"make it at a scale of {sample.case.scale}",
        )
    return Made(photo.pixels)


_PLAIN = ("bicubic", "lanczos", DETAIL_TRANSFER, AUTO)
_MAKERS: Mapping[str, _Maker] = {
    "bicubic": _resized,
    "lanczos": _resized,
    DETAIL_TRANSFER: _detail_transfer,
    AUTO: _auto,
    "network": _network,
    "results": _elsewhere,
}


def _timed(
    work: Callable[[], Array],
    refused: tuple[str, str] | None,
    device: str,
    resources: Resources,
    precision: str = "",
) -> Made:
    """Do the work, and measure it; operations are counted of what has a precision, networks.

    Counting costs an operation some 10 microseconds: on a GPU it is done in a second run.
    """
    operations = Operations()
    counted = bool(precision) and device == "cpu"
    peak = Peak(device if resources.alone or device.startswith("cuda") else "")
    start = time.perf_counter()
    if counted:
        with operations:
            pixels = work()
    else:
        pixels = work()
    seconds = time.perf_counter() - start
    memory = peak.bytes()
    if precision and not counted:
        with operations:
            work()
    return Made(
        pixels,
        refused,
        device,
        precision,
        round(seconds, 4),
        memory,
        operations.total if precision else None,
    )


def _enlarged(photo: Photo, scale: int, how: Image.Resampling) -> Array:
    """By Pillow's filter, in the photo's depth."""
    size = photo.width * scale, photo.height * scale
    if photo.pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(photo.pixels).resize(size, how))
    channels = [  # Pillow has no RGB of 16 bits
        np.asarray(Image.fromarray(photo.pixels[..., band].astype(np.float32)).resize(size, how))
        for band in range(3)
    ]
    values = np.clip(np.stack(channels, -1), 0, photo.max_value)
    pixels: Array = np.rint(values).astype(np.uint16)
    return pixels


def _plain_method(name: str) -> Method:
    networks = networks_of(AUTO) if name == AUTO else ()
    return Method(name, name, weights="+".join(find_model(one).sha256 for one in networks))


def _network_method(model: Model) -> Method:
    with torch.device("meta"):  # without memory for weights
        network = build(model.architecture, model.settings)
    assert isinstance(network, Network)
    return Method(model.name, "network", network.scale, model.sha256, count_parameters(model))


def varied_method(method: Method, name: str, slug: str, settings: Mapping[str, Any]) -> Method:
    """A method under another name, its network with other settings, which its weights fit."""
    return replace(
        method, name=name, slug=slug, model=method.name, settings=tuple(settings.items())
    )


def restorer_of(method: Method, resources: Resources) -> Restorer:
    """The network of a method. Raises UsageError, InputError."""
    model = method.model or method.name
    if not method.settings:
        return load_restorer(model, resources.device, resources.precision)
    return _varied(model, method.settings, resources.device, resources.precision)


@lru_cache(maxsize=16)  # the rows of an ablation take turns
def _varied(
    model: str, settings: tuple[tuple[str, Any], ...], device: str, precision: str
) -> Restorer:
    """A model with other settings, which its weights fit all the same; it shares their memory."""
    restorer, found = load_restorer(model, device, precision), find_model(model)
    network = build(found.architecture, {**found.settings, **dict(settings)})
    network.load_state_dict(restorer.network.state_dict(), assign=True)
    network.eval().requires_grad_(False)
    network.to(restorer.device, restorer.dtype)  # what is in no state dict
    return replace(restorer, network=network)


def check_names(methods: Sequence[Method]) -> None:
    """Raise UsageError where two methods have one name."""
    names = [method.name for method in methods]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two methods are called {twice}: name each once, results by --name")
