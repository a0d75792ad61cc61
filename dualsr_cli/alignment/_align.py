"""PhotoPair -> AlignedPair: homography, mesh, flow, tone and confidence, in this order."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from dualsr_cli.alignment import _flow, _homography, _mesh, _tone
from dualsr_cli.alignment.aligned_pair import AlignedPair, Fit, Grid, Tone
from dualsr_cli.errors import AlignmentError
from dualsr_cli.photos import Header, Photo, read_photo, zoom_ratio

_LIBRARIES = 350 << 20  # bytes, measured
_SAMPLE_BYTES = 64  # measured: coordinates, colours, luma, flow


def align(wide: Photo, tele: Photo) -> AlignedPair:
    """Lay `tele` over `wide`; exchanged where `wide` turns out to be the tele photo.

    Zoom ratios from 1.15 to 14, any focal lengths, hands that turned by up to 25 degrees.
    Raises AlignmentError with a reason and a sentence; nothing is guessed.
    """
    zoom = zoom_ratio(wide.header.capture, tele.header.capture)
    if zoom is not None and zoom < 1:
        return replace(_align(tele, wide, 1 / zoom), swapped=True)
    try:
        return _align(wide, tele, zoom)
    except AlignmentError as error:
        if error.reason != "swapped":
            raise
        return replace(_align(tele, wide, None), swapped=True)


def _align(wide: Photo, tele: Photo, zoom: float | None) -> AlignedPair:
    matches = _homography.find(wide, tele, zoom)
    homography = matches.homography
    corners = _homography.footprint(homography, tele)
    # Mesh and flow may reach past the homography's footprint, and sharp edges need surroundings.
    box = _homography.inside(corners, wide, margin=0.02)
    mesh = Grid(_mesh.fit(matches, box), box)
    blank = Fit(len(matches.wide), *_shape(homography, wide, tele), 0.0, 255.0, 0.0)
    nothing = Grid(np.zeros((2, 2, 1), np.float32), box)
    aligned = AlignedPair(wide, tele, homography, box, mesh, Tone.identity(box), nothing, blank)
    small = _flow.with_small_tele(aligned)
    # Twice: flow needs matched tones to be right, and tones need matched pixels.
    for _ in range(2):
        following, evidence, wide_colours, tele_colours = _flow.coarse(small)
        tone = _tone.fit(wide_colours, tele_colours, evidence.valid, box)
        small = replace(following, tone=tone)
    aligned, residual = _flow.fine(
        replace(aligned, displacement=small.displacement, tone=small.tone)
    )
    return replace(aligned, fit=_measured(aligned, residual))


def _shape(homography: _homography.Matrix, wide: Photo, tele: Photo) -> tuple[float, float, float]:
    """Density, rotation in degrees and overlap of a homography."""
    corners = _homography.footprint(homography, tele)
    jacobian = _homography.jacobian(homography, corners.mean(axis=0))
    density = float(np.sqrt(abs(np.linalg.det(jacobian))))
    rotation = float(np.degrees(np.arctan2(jacobian[1, 0], jacobian[0, 0])))
    return density, rotation, _homography.overlap(corners, wide)


def _measured(aligned: AlignedPair, residual: float) -> Fit:
    sure = aligned.confidence.values[..., 0]
    length = np.linalg.norm(aligned.displacement.values, axis=-1)
    covered = sure > 0
    confident = float((sure > 0.5).sum() / max(covered.sum(), 1))
    moved = float(np.median(length[covered])) if covered.any() else 0.0
    return replace(aligned.fit, displacement=moved, residual=residual, confident=confident)


def same_scene(wide: Path, tele: Path) -> float:
    """How surely `tele` shows a part of the scene of `wide`, 0..1: for pairing.

    0 as well where they do so the other way round. Raises InputError for an unreadable file.
    """
    photos = read_photo(wide), read_photo(tele)
    zoom = zoom_ratio(photos[0].header.capture, photos[1].header.capture)
    try:
        matches = _homography.find(*photos, zoom)
    except AlignmentError:
        return 0.0
    return float(min(1.0, len(matches.wide) / 40))


def expected_ratio(wide: Header, tele: Header) -> float | None:
    """Tele pixels per wide pixel by EXIF, below 1 where the wide photo is the tele; None: unknown.

    `AlignedPair.ratio` is what the photos themselves say.
    """
    zoom = zoom_ratio(wide.capture, tele.capture)
    if zoom is None:
        return None
    return zoom * math.sqrt(tele.width * tele.height / (wide.width * wide.height))


def working_memory(wide: Header, tele: Header) -> int:
    """About the bytes that `align` takes at its peak beside the photos' pixels, libraries included.

    Samples of the tele photo, of which each tile in the making holds its own, take the most.
    """
    ratio = expected_ratio(wide, tele)
    samples = max(header.width * header.height for header in (wide, tele))
    if ratio is not None:
        taps = math.ceil(max(ratio, 1 / ratio))
        samples = min(samples, _flow.THREADS * (_flow.WINDOW * taps) ** 2)
    return _LIBRARIES + samples * _SAMPLE_BYTES
