"""A fast and a sharp clip of one scene -> where each pixel of a fast frame lies in a sharp frame.

The cameras hardly move against each other, so that homography and mesh are found once for a clip,
from several pairs of frames. A sharp frame is then laid on the fast frame that was taken with it,
and on that one's neighbours, each beginning where the last one lay: but for what moved since,
the flow is known. It is found anew against the sharp frame itself, never against what was made of
it, so that errors do not add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.alignment import _flow, _homography, _mesh, _tone
from dualsr_cli.alignment.aligned_pair import Floats, Grid
from dualsr_cli.errors import AlignmentError
from dualsr_cli.photos import Capture, Header, Metadata, Photo

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Matrix = npt.NDArray[np.float64]

FINER = 2
"""Pixels of a reference's small picture per fast pixel, along both axes."""

# What a fast pixel sees of the small picture, along each axis: half of a box and half of the
# antialiased bicubic kernel, as `reconstruction` has it, to 2 % of any frequency.
_SEEN = np.array([-0.035, 0.25, 0.57, 0.25, -0.035], np.float32)
_WINDOW = 4.0  # fast pixels, of the Gaussian that the last correction of the flow looks through
_LEAST_SLOPE = 4.0  # grey levels a pixel, squared, below which a slope tells no motion
_FAR = 0.5  # fast pixels that the last correction may go
_ALIKE = 0.5  # correlation with the frame below which a sharp frame counts as not found
_POINTS = 24  # along the long side, at which a group's homography is corrected

_REASONS = {
    "no-zoom": "shows the scene no finer than {fast}: name the fast, small clip first",
    "swapped": "shows the scene less finely than {fast}: name the fast, small clip first",
    "too-much-zoom": "shows the scene more than 14 times larger than {fast}: film it wider",
    "no-overlap": "lies for the most part outside {fast}: film what that clip shows",
    "mirrored": "is a mirror image of {fast}: flip one of them and run again",
    "turned": "is turned against {fast}: turn one of them upright and run again",
    "featureless": "or {fast} is without any structure where they were compared: choose others",
}


@dataclass(frozen=True, eq=False)
class Rig:
    """How two cameras stand to each other: fast point p -> sharp point homography(p + mesh(p)).

    Points are x, y in pixels, centres at integers. width and height are those of the fast frames,
    density sharp pixels per fast pixel, inliers the features that agree.
    """

    homography: Matrix
    mesh: Grid
    width: int
    height: int
    density: float
    inliers: int

    def points(self) -> Floats:
        """Where the fast pixels lie in the sharp frame, (h, w, 2) x, y."""
        rows, columns = np.arange(self.height, dtype=float), np.arange(self.width, dtype=float)
        moved = self.mesh.at(rows, columns)
        moved[..., 0] += columns.astype(np.float32)
        moved[..., 1] += rows.astype(np.float32)[:, None]
        points: Floats = cv2.perspectiveTransform(moved, self.homography)
        return points

    def reduced(self, factor: float) -> Rig:
        """The same for sharp frames whose sides were multiplied by `factor`."""
        shift = 0.5 * factor - 0.5
        shrink = np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])
        return replace(self, homography=shrink @ self.homography, density=self.density * factor)


@dataclass(frozen=True, eq=False)
class Reference:
    """A sharp frame, ready to be laid on fast frames, in their tone.

    pixels: (H, W, 3) in its own depth. small: (h', w', 3) float32 0..1, at FINER pixels per fast
    pixel, each as blurred as a fast pixel sees it. density: pixels per fast pixel.
    """

    pixels: Pixels
    small: Floats
    density: float

    @property
    def white(self) -> int:
        return int(np.iinfo(self.pixels.dtype).max)

    def seen(self, points: Floats) -> Floats:
        """What a fast camera would have seen of it at points (h, w, 2): (h, w, 3) 0..1."""
        height, width = self.pixels.shape[:2]
        scale = self.small.shape[1] / width, self.small.shape[0] / height
        x = points[..., 0] * np.float32(scale[0]) + np.float32(0.5 * scale[0] - 0.5)
        y = points[..., 1] * np.float32(scale[1]) + np.float32(0.5 * scale[1] - 0.5)
        colours: Floats = cv2.remap(
            self.small, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return colours

    def shows(self, points: Floats) -> Floats:
        """(h, w): 1 where points lie in it, or up to half a fast pixel beside it, else 0."""
        height, width = self.pixels.shape[:2]
        low = np.float32(-0.5 * self.density)
        high = np.array([width - 1, height - 1], np.float32) - low
        result: Floats = ((points >= low) & (points <= high)).min(axis=-1).astype(np.float32)
        return result


@dataclass(frozen=True, eq=False)
class Laid:
    """A reference on one fast frame: (h, w, ...) at its pixels.

    points: x, y in the reference. seen: (h, w, 3) 0..1, what the fast camera would have seen of
    it. valid: (h, w), 1 where the reference shows something. motion: (h, w, 2) x, y, from here to
    the neighbour that it was followed from, fast pixels.
    """

    points: Floats
    seen: Floats
    valid: Floats
    motion: Floats


def find_rig(pairs: Iterable[tuple[Pixels, Pixels]], fast: str, sharp: str) -> Rig:
    """From frames that were taken at the same time, (h, w, 3) each; two or three pairs will do.

    fast, sharp: what the clips are called. Raises AlignmentError where no pair fits.
    """
    found: list[_homography.Matches] = []
    wrong: AlignmentError | None = None
    size = None
    for first, second in pairs:
        wide, tele = _photo(first, fast), _photo(second, sharp)
        size = size or (wide, tele)
        try:
            found.append(_homography.find(wide, tele, None))
        except AlignmentError as error:
            wrong = wrong or error
    if size is None or not found:
        reason = wrong.reason if wrong else "scene-differs"
        sentence = _REASONS.get(reason, "does not show the scene of {fast}: film both at once")
        raise AlignmentError(reason, f"{sharp} {sentence.format(fast=fast)}")
    return _rig(_pooled(found), *size)


def _pooled(found: list[_homography.Matches]) -> _homography.Matches:
    """One homography for the points of several pairs, of which some may be wrong."""
    if len(found) == 1:
        return found[0]
    wide = np.concatenate([matches.wide for matches in found])
    tele = np.concatenate([matches.tele for matches in found])
    homography, inliers = cv2.findHomography(
        wide, tele, cv2.USAC_MAGSAC, 4.0, maxIters=5000, confidence=0.9999
    )
    if homography is None:
        return max(found, key=lambda matches: len(matches.wide))
    kept = inliers.ravel() > 0
    return _homography.Matches(homography / homography[2, 2], wide[kept], tele[kept])


def _rig(matches: _homography.Matches, wide: Photo, tele: Photo) -> Rig:
    corners = _homography.footprint(matches.homography, tele)
    box = _homography.inside(corners, wide, margin=0.02)
    jacobian = _homography.jacobian(matches.homography, corners.mean(axis=0))
    density = float(np.sqrt(abs(np.linalg.det(jacobian))))
    mesh = Grid(_mesh.fit(matches, box), box)
    return Rig(matches.homography, mesh, wide.width, wide.height, density, len(matches.wide))


def prepare(sharp: Pixels, density: float) -> Reference:
    """A sharp frame (H, W, 3) that has `density` pixels per fast pixel, in its own tone."""
    height, width = sharp.shape[:2]
    factor = FINER / density
    size = max(2, round(width * factor)), max(2, round(height * factor))
    small = cv2.resize(sharp, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small *= np.float32(1 / np.iinfo(sharp.dtype).max)
    small = cv2.sepFilter2D(small, -1, _SEEN, _SEEN, borderType=cv2.BORDER_REFLECT_101)
    return Reference(sharp, small, density)


def begin(frame: Pixels, sharp: Pixels, rig: Rig) -> tuple[Reference, Laid] | None:
    """Lay a sharp frame on the fast frame that was taken with it, or nearly; None: it shows
    something else.

    The rig's homography is corrected for this pair; where that is not enough, features are
    searched in the two.
    """
    reference = prepare(sharp, rig.density)
    found = _corrected(frame, reference, rig.points())
    if found is None:
        try:
            photos = _photo(frame, "fast"), _photo(sharp, "sharp")
            own = _rig(_homography.find(*photos, None), *photos)
        except AlignmentError:
            return None
        found = _corrected(frame, reference, own.points())
        if found is None:
            return None
    reference, points = found
    laid = follow(frame, reference, points)
    return reference, replace(laid, motion=np.zeros_like(laid.motion))


def _corrected(
    frame: Pixels, reference: Reference, points: Floats
) -> tuple[Reference, Floats] | None:
    """The reference in the frame's tone, and points (h, w, 2) with a homography's correction."""
    height, width = frame.shape[:2]
    factor = min(1.0, _flow.COARSE_SIDE / max(height, width))
    size = max(8, round(width * factor)), max(8, round(height * factor))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small /= np.float32(np.iinfo(frame.dtype).max)
    scale = np.array([width / size[0], height / size[1]], np.float32)
    tone = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    for _ in range(2):  # flow needs matched tones to be right, and tones need matched pixels
        valid = cv2.resize(reference.shows(points), size, interpolation=cv2.INTER_AREA)
        colours = cv2.resize(reference.seen(points), size, interpolation=cv2.INTER_AREA)
        toned = colours @ tone[0] + tone[1]
        evidence = _flow.compare(small, toned.astype(np.float32), valid)
        points = _followed(points, _plane(evidence) * scale, (height, width))
        x, y = _grid(evidence.flow)
        moved = cv2.remap(colours, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        fitted = _tone.fit(small, moved, evidence.valid, (0, 0, size[1], size[0]))
        tone = fitted.matrix, fitted.offset
    colours = cv2.resize(reference.seen(points), size, interpolation=cv2.INTER_AREA)
    valid = cv2.resize(reference.shows(points), size, interpolation=cv2.INTER_AREA)
    if _likeness(small, colours @ tone[0] + tone[1], valid) < _ALIKE:
        return None
    return _toned(reference, *tone), points


def _plane(evidence: _flow.Evidence) -> Floats:
    """The homography nearest to a flow, as a flow (h, w, 2): what moved by itself is left out."""
    height, width = evidence.flow.shape[:2]
    step = max(1, max(height, width) // _POINTS)
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    sure = evidence.confidence[y, x] > 0.3
    source = np.column_stack([x[sure], y[sure]]).astype(np.float64)
    if len(source) < 12:
        return np.zeros_like(evidence.flow)
    target = source + evidence.flow[y, x][sure]
    matrix, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, 0.5, maxIters=2000)
    if matrix is None or inliers.sum() < 12:
        return np.zeros_like(evidence.flow)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    here = np.stack([columns, rows], axis=-1).astype(np.float32)
    plane: Floats = cv2.perspectiveTransform(here, matrix) - here
    return plane


def _likeness(frame: Floats, seen: npt.NDArray[Any], valid: Floats) -> float:
    """Correlation of their luma without what is coarse, where both show something."""
    first, second = (
        picture - cv2.GaussianBlur(picture, (0, 0), 8.0)
        for picture in (
            cv2.cvtColor(colours.astype(np.float32), cv2.COLOR_RGB2GRAY)
            for colours in (frame, seen)
        )
    )
    inside = valid > 0.99
    if inside.sum() < 64:
        return 0.0
    a, b = first[inside], second[inside]
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9))


def _toned(reference: Reference, matrix: Floats, offset: Floats) -> Reference:
    """In another tone: colours (row vectors) @ matrix + offset, 0..1.

    Its small picture is made of the pixels anew: where they clip, it has to show that.
    """
    whole = np.column_stack([matrix.T, offset * np.float32(reference.white)])
    return prepare(cv2.transform(reference.pixels, whole), reference.density)


def follow(frame: Pixels, reference: Reference, before: Floats) -> Laid:
    """Lay a reference on a fast frame, from where it lies on a neighbour: points (h, w, 2)."""
    target = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    target *= np.float32(255 / np.iinfo(frame.dtype).max)
    guess = _grey(reference.seen(before))
    flow = _dis().calc(_bytes(target), _bytes(guess), None)
    points = _followed(before, flow)
    more = _correction(target, _grey(reference.seen(points)))
    points = _followed(points, more)
    return Laid(points, reference.seen(points), reference.shows(points), flow + more)


def _followed(points: Floats, flow: Floats, size: tuple[int, int] | None = None) -> Floats:
    """points (h, w, 2) at p + flow(p); beyond the frame they go on evenly.

    The flow may be that of a smaller picture of `size` pixels, though in pixels of this one.
    """
    height, width = points.shape[:2]
    if size is not None and flow.shape[:2] != size:
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
    x, y = _grid(flow)
    inner_x, inner_y = x.clip(0, width - 1), y.clip(0, height - 1)
    result: Floats = cv2.remap(
        points, inner_x, inner_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    across = (points[height // 2, -1] - points[height // 2, 0]) / np.float32(max(width - 1, 1))
    down = (points[-1, width // 2] - points[0, width // 2]) / np.float32(max(height - 1, 1))
    result += (x - inner_x)[..., None] * across + (y - inner_y)[..., None] * down
    return result


def _grid(flow: Floats) -> tuple[Floats, Floats]:
    """p + flow(p), x and y (h, w) each."""
    height, width = flow.shape[:2]
    columns, rows = (np.arange(count).astype(np.float32) for count in (width, height))
    return flow[..., 0] + columns, flow[..., 1] + rows[:, None]


def _correction(target: Floats, moved: Floats) -> Floats:
    """The last fraction of a pixel: one step of Lucas and Kanade's (1981), (h, w, 2).

    In floating point and with what the fast camera sees, where DIS has bytes and bilinear samples.
    """
    error = target - moved
    error -= cv2.GaussianBlur(error, (0, 0), 2 * _WINDOW)  # light and tone are no motion
    kernel = np.array([-0.5, 0, 0.5], np.float32)
    one = np.ones(1, np.float32)
    slope_x = cv2.sepFilter2D(moved, -1, kernel, one)
    slope_y = cv2.sepFilter2D(moved, -1, one, kernel)
    sums = np.stack(
        [slope_x * slope_x, slope_x * slope_y, slope_y * slope_y, slope_x * error, slope_y * error],
        axis=-1,
    )
    # Channels beyond four are blurred one by one elsewhere; here they are few.
    xx, xy, yy, xe, ye = (
        cv2.GaussianBlur(np.ascontiguousarray(sums[..., c]), (0, 0), _WINDOW) for c in range(5)
    )
    xx, yy = xx + _LEAST_SLOPE, yy + _LEAST_SLOPE
    determinant = xx * yy - xy * xy
    step = np.stack([yy * xe - xy * ye, xx * ye - xy * xe], axis=-1) / determinant[..., None]
    result: Floats = step.clip(-_FAR, _FAR).astype(np.float32)
    return result


def _dis() -> Any:
    """DIS (Kroeger et al., 2016) down to full resolution."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    return dis


def _grey(colours: Floats) -> Floats:
    grey: Floats = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY) * np.float32(255)
    return grey


def _bytes(grey: Floats) -> npt.NDArray[np.uint8]:
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return rounded


def _photo(pixels: Pixels, name: str) -> Photo:
    """Frames are looked at by what looks at photos."""
    height, width = pixels.shape[:2]
    depth = 8 * pixels.dtype.itemsize
    return Photo(pixels, Header(Path(name), "png", width, height, depth, Metadata(), Capture()))
