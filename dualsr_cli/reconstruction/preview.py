"""One self-contained HTML page to look at a result: before and after, footprint, provenance."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

from dualsr_cli.files import atomic_writer

__all__ = ["PAGE_PIXELS", "Crop", "write_preview"]

Pixels = npt.NDArray[np.uint8]

PAGE_PIXELS = 12_000_000
"""All pictures of a page together have about this many pixels, so that browsers stay quick."""

_SOURCES = (
    ("from the tele photo directly", (0x1F, 0x7A, 0xE0)),
    ("from a matching patch of the tele photo", (0xF2, 0x9A, 0x1A)),
    ("from the wide photo alone", (0x8B, 0x8F, 0x96)),
)
_OVERLAY_OPACITY = 0.55
_OVERLAY_SIDE = 1024
_SMALLEST_OVERVIEW = 250_000  # pixels: with many large crops, an overview is still worth a look


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of the photo shown pixel for pixel: `before` and `after`, (h, w, 3) uint8 alike."""

    title: str
    before: Pixels
    after: Pixels


def write_preview(
    path: Path,
    *,
    title: str,
    before: Pixels,
    after: Pixels,
    footprint: Sequence[tuple[float, float]] | None,
    provenance: npt.NDArray[Any] | None,
    facts: Mapping[str, str],
    crops: Sequence[Crop] = (),
    icc: bytes | None = None,
) -> None:
    """Write the page to `path`.

    before, after: (H, W, 3) uint8 of one size, the wide photo enlarged and the result; they are
    reduced to what a browser shows quickly. footprint: the tele photo's four corners in pixels of
    `after`, in order around it; None when there is no tele photo in the result. provenance: where
    each pixel's detail came from, at any size over the whole photo: (h, w) codes 0 tele, 1 matched
    patch, 2 wide alone, or (h, w, 3) shares of these three in 0..1. facts: what the table tells,
    in order. icc: the colour profile of all the pixels, sRGB when None.

    Raises OutputError when the file cannot be written, ValueError for sizes that do not match.
    """
    for first, second in [(before, after), *((crop.before, crop.after) for crop in crops)]:
        if first.shape != second.shape or first.ndim != 3 or first.shape[2] != 3:
            raise ValueError(f"before {first.shape} and after {second.shape} must match")
    page = _template().substitute(
        title=escape(title),
        overview=_overview(before, after, footprint, provenance, crops, icc),
        crops=_crops(crops, icc),
        facts=_facts(facts),
    )
    with atomic_writer(path) as file:
        file.write(page.encode("utf-8"))


def _template() -> Template:
    page = resources.files("dualsr_cli.reconstruction").joinpath("preview.html")
    return Template(page.read_text(encoding="utf-8"))


def _overview(
    before: Pixels,
    after: Pixels,
    footprint: Sequence[tuple[float, float]] | None,
    provenance: npt.NDArray[Any] | None,
    crops: Sequence[Crop],
    icc: bytes | None,
) -> str:
    height, width = after.shape[:2]
    budget = PAGE_PIXELS - 2 * sum(crop.after.shape[0] * crop.after.shape[1] for crop in crops)
    reduction = max(1.0, math.sqrt(2 * width * height / max(budget, 2 * _SMALLEST_OVERVIEW)))
    size = (max(1, round(width / reduction)), max(1, round(height / reduction)))
    overlays, switches, notes = [], [], []
    if provenance is not None:
        overlays.append(f'<img class="provenance" alt="" hidden src="{_overlay(provenance)}">')
        switches.append(_switch("provenance", "Where the detail comes from"))
        notes.append(_legend(provenance))
    if footprint is not None:
        overlays.append(_outline(footprint, width, height))
        switches.append(_switch("footprint", "Outline of the tele photo"))
    if reduction > 1:
        notes.append(
            f"<p>The photo has {width} × {height} pixels and is shown here at {size[0]} × {size[1]}"
            f"{', with parts at full size below' if crops else ''}.</p>"
        )
    viewer = _viewer(
        _picture(before, size, icc), _picture(after, size, icc), size, "".join(overlays), "tools"
    )
    buttons = "".join(
        f'<button value="{value}" title="{hint}">{label}</button>'
        for value, label, hint in (
            ("fit", "Fit", "Whole picture (key 0)"),
            ("full", "1:1", "Pixel for pixel (key 1)"),
            ("farther", "−", "Zoom out (key -)"),
            ("closer", "+", "Zoom in (key +)"),
        )
    )
    tools = (
        f'<div class="tools" id="tools"><div>{buttons}</div><span class="zoom"></span>'
        f"{''.join(switches)}</div>"
    )
    return f"{viewer}\n{tools}\n{''.join(notes)}"


def _crops(crops: Sequence[Crop], icc: bytes | None) -> str:
    if not crops:
        return ""
    figures = []
    for crop in crops:
        size = (crop.after.shape[1], crop.after.shape[0])
        viewer = _viewer(_picture(crop.before, size, icc), _picture(crop.after, size, icc), size)
        figures.append(f"<figure>{viewer}<figcaption>{escape(crop.title)}</figcaption></figure>")
    return f'<h2>Pixel for pixel</h2>\n<div class="crops">{"".join(figures)}</div>'


def _viewer(
    before: str, after: str, size: tuple[int, int], overlays: str = "", tools: str = ""
) -> str:
    """A slider over two pictures; with `tools`, the id of its toolbar, the picture fits the page,
    without, its pixels are the screen's."""
    width, height = size
    fits = f'data-tools="{tools}"' if tools else "data-full"
    bound = "width: 100%; max-height: max(16rem, 86vh)" if tools else f"max-width: {width}px"
    layers = [
        ("before", f'<img alt="Before" src="{before}">'),
        ("after", f'<img alt="After" src="{after}">'),
        ("overlays", overlays),
    ]
    return (
        f'<div class="viewer" data-width="{width}" data-height="{height}" {fits} '
        f'style="aspect-ratio: {width} / {height}; {bound}">'
        + "".join(
            f'<div class="layer {name}"><div class="stage">{content}</div></div>'
            for name, content in layers
            if content
        )
        + '<span class="tag left">Before</span><span class="tag right">After</span>'
        '<div class="handle" role="slider" tabindex="0" aria-label="Border of before and after" '
        'aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"></div></div>'
    )


def _switch(layer: str, label: str) -> str:
    return f'<label><input type="checkbox" value="{layer}">{label}</label>'


def _outline(footprint: Sequence[tuple[float, float]], width: int, height: int) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in footprint)
    shape = f'<polygon points="{points}" fill="none" vector-effect="non-scaling-stroke"'
    return (
        f'<svg class="footprint" hidden viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        f'{shape} stroke="#000" stroke-opacity=".6" stroke-width="4"/>'
        f'{shape} stroke="#fff" stroke-width="2"/></svg>'
    )


def _shares(provenance: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(h, w, 3) shares that add up to 1."""
    if provenance.ndim == 2:
        codes = np.clip(provenance, 0, len(_SOURCES) - 1).astype(np.intp)
        return np.asarray(np.eye(len(_SOURCES), dtype=np.float32)[codes])
    shares: npt.NDArray[np.float32] = np.clip(provenance, 0, None).astype(np.float32)
    shares /= np.maximum(shares.sum(axis=2, keepdims=True), np.finfo(np.float32).tiny)
    return shares


def _legend(provenance: npt.NDArray[Any]) -> str:
    means = _shares(provenance).mean(axis=(0, 1), dtype=np.float64)
    rows = "".join(
        f'<li><span style="background: rgb{colour}"></span>{label}: {100 * mean:.0f} %</li>'
        for (label, colour), mean in zip(_SOURCES, means, strict=True)
    )
    return f'<ul class="legend provenance" hidden>{rows}</ul>'


def _overlay(provenance: npt.NDArray[Any]) -> str:
    from PIL import Image

    colours = np.array([colour for _, colour in _SOURCES], np.float32)
    step = max(1, math.ceil(max(provenance.shape[:2]) / _OVERLAY_SIDE))
    shares = _shares(provenance[::step, ::step])
    picture = np.empty((*shares.shape[:2], 4), np.uint8)
    picture[..., :3] = np.rint(shares @ colours)
    picture[..., 3] = round(255 * _OVERLAY_OPACITY)
    return _data_uri(Image.fromarray(picture), "png", optimize=True)


def _picture(pixels: Pixels, size: tuple[int, int], icc: bytes | None) -> str:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    profile = {"icc_profile": icc} if icc else {}
    return _data_uri(picture, "jpeg", quality=91, subsampling=0, **profile)


def _data_uri(picture: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getbuffer()).decode('ascii')}"


def _facts(facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<h2>Facts</h2>\n<table>{rows}</table>"
