"""The homography from wide to tele pixels, from features; and why there is none.

Coordinates: a pixel's centre lies at integer (x, y); a photo reduced by f has its pixel x at
(x + 0.5) / f - 0.5 of the photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.errors import AlignmentError
from dualsr_cli.photos import Photo

Matrix = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]

SEARCH_SIDE = 1600  # pixels on the long side of the pictures that features are searched in
MAX_ROTATION = 25.0  # degrees; phones' lenses are parallel, hands turn a few degrees
MIN_DENSITY = 1.15  # tele pixels per wide pixel, below which a tele photo has nothing to give
MAX_DENSITY = 14.0
MIN_OVERLAP = 0.2  # share of the tele photo that must lie inside the wide photo


@dataclass(frozen=True)
class Matches:
    """A homography (wide -> tele pixels) with the inlier points it stands on, (N, 2) each."""

    homography: Matrix
    wide: Points
    tele: Points


@dataclass(frozen=True)
class Reduced:
    """A part of a photo as 8-bit luma at a reduced size, and where its pixels lie in the photo."""

    luma: Grey
    to_photo: Matrix  # (3, 3): pixels of `luma` -> pixels of the photo


def reduce(photo: Photo, box: tuple[int, int, int, int] | None, side: int) -> Reduced:
    """`box` (top, left, bottom, right; None: all) of a photo, its long side at most `side`."""
    top, left, bottom, right = box or (0, 0, photo.height, photo.width)
    part = photo.pixels[top:bottom, left:right]
    height, width = part.shape[:2]
    factor = min(1.0, side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA) if factor < 1 else part
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    if luma.dtype != np.uint8:
        luma = (luma // 257).astype(np.uint8)
    fx, fy = size[0] / width, size[1] / height
    to_photo = np.array(
        [[1 / fx, 0, 0.5 / fx - 0.5 + left], [0, 1 / fy, 0.5 / fy - 0.5 + top], [0, 0, 1]]
    )
    return Reduced(luma, to_photo)


def find(wide: Photo, tele: Photo, zoom: float | None) -> Matches:
    """The homography from wide to tele; `zoom` is the field-of-view ratio where EXIF knows it.

    First in the whole wide photo, then in its middle parts at a higher resolution (a tele of 10x
    covers 160 of 1,600 pixels), then by correlating pictures that have too little texture for
    features; then once more, finer, in the part that the tele covers.

    Raises AlignmentError with a reason: "featureless", "noisy", "mirrored", "turned",
    "no-zoom", "too-much-zoom", "no-overlap" or "scene-differs".
    """
    small_tele = reduce(tele, None, 1200)
    _refuse_featureless(tele, small_tele.luma, "tele")
    wrong: AlignmentError | None = None
    for attempt in _attempts(wide, tele, small_tele, zoom):
        matches = attempt()
        if matches is None:
            continue
        try:
            check(matches.homography, wide, tele)
        except AlignmentError as error:
            wrong = wrong or error
            continue
        return _refined(matches, wide, tele)
    if wrong is not None:
        raise wrong
    raise _why_not(wide, tele, small_tele)


def _attempts(
    wide: Photo, tele: Photo, small_tele: Reduced, zoom: float | None
) -> Iterator[Callable[[], Matches | None]]:
    yield lambda: _by_features(reduce(wide, None, SEARCH_SIDE), small_tele)
    for share in (0.6, 0.3):
        if zoom is None or zoom * share > 1.1:
            box = _middle(wide, share)
            yield lambda box=box: _by_features(  # type: ignore[misc]
                reduce(wide, box, SEARCH_SIDE), small_tele
            )
    yield lambda: _by_correlation(wide, tele, zoom)


def _middle(photo: Photo, share: float) -> tuple[int, int, int, int]:
    height, width = (max(1, round(n * share)) for n in (photo.height, photo.width))
    top, left = (photo.height - height) // 2, (photo.width - width) // 2
    return top, left, top + height, left + width


def check(homography: Matrix, wide: Photo, tele: Photo) -> None:
    """Refuse a homography that no wide and tele lens of one phone can have.

    Raises AlignmentError ("mirrored", "turned", "scene-differs", "no-zoom", "too-much-zoom",
    "no-overlap"); a pair handed over the wrong way round is "swapped".
    """
    centre = np.array([(tele.width - 1) / 2, (tele.height - 1) / 2])
    inverse = np.linalg.inv(homography)
    x, y, z = inverse @ np.array([centre[0], centre[1], 1.0])
    middle = np.array([x / z, y / z])
    matrix = jacobian(homography, middle)
    determinant = np.linalg.det(matrix)
    name = tele.path.name
    if determinant <= 0:
        raise AlignmentError(
            "mirrored", f"{name} is a mirror image of the scene: flip it back and run again"
        )
    angle = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    if abs(angle) > MAX_ROTATION:
        raise AlignmentError(
            "turned",
            f"{name} is turned by {abs(angle):.0f} degrees against {wide.path.name}: turn it (or "
            "mend its EXIF orientation) and run again",
        )
    density = float(np.sqrt(determinant))
    if density < 1 / MIN_DENSITY:
        raise AlignmentError("swapped", f"{name} shows more of the scene than {wide.path.name}")
    if density < MIN_DENSITY:
        raise AlignmentError(
            "no-zoom",
            f"{name} shows the scene no larger than {wide.path.name} ({density:.2f}x): choose a "
            "photo taken with a longer lens",
        )
    if density > MAX_DENSITY:
        raise AlignmentError(
            "too-much-zoom",
            f"{name} shows the scene {density:.0f}x larger than {wide.path.name}, more than "
            f"{MAX_DENSITY:.0f}x: choose a photo taken with a shorter lens",
        )
    singular = np.linalg.svd(matrix, compute_uv=False)
    quadrilateral = footprint(homography, tele)
    if singular[0] / singular[1] > 1.5 or not cv2.isContourConvex(quadrilateral.astype(np.float32)):
        raise _scene_differs(wide, tele)
    if overlap(quadrilateral, wide) < MIN_OVERLAP:
        raise AlignmentError(
            "no-overlap",
            f"{name} lies for the most part outside {wide.path.name}: choose a photo of what the "
            "wide photo shows",
        )


def footprint(homography: Matrix, tele: Photo) -> Points:
    """The tele photo's corners in wide pixels, (4, 2), clockwise from its top left."""
    right, bottom = tele.width - 0.5, tele.height - 0.5
    corners = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
    return apply(np.linalg.inv(homography), corners)


def overlap(corners: Points, wide: Photo) -> float:
    """The share of a footprint (corners (4, 2) in wide pixels) inside the wide photo, 0..1."""
    right, bottom = wide.width - 0.5, wide.height - 0.5
    frame = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]], np.float32)
    area, _ = cv2.intersectConvexConvex(corners.astype(np.float32), frame)
    return float(area / cv2.contourArea(corners.astype(np.float32)))


def apply(
    homography: npt.NDArray[np.floating[Any]], points: npt.NDArray[np.floating[Any]]
) -> Points:
    """Points (N, 2) through a homography."""
    homogeneous = points @ homography[:, :2].T + homography[:, 2]
    result: Points = (homogeneous[:, :2] / homogeneous[:, 2:]).astype(np.float64)
    return result


def jacobian(homography: Matrix, point: Points) -> Matrix:
    """The derivative (2, 2) of the tele point by the wide point (x, y)."""
    numerator = homography[:2] @ np.append(point, 1.0)
    denominator = float(homography[2] @ np.append(point, 1.0))
    matrix: Matrix = (
        homography[:2, :2] - np.outer(numerator / denominator, homography[2, :2])
    ) / denominator
    return matrix


def _by_features(wide: Reduced, tele: Reduced) -> Matches | None:
    """SIFT features (RootSIFT distance), Lowe's ratio test, USAC with MAGSAC's scoring."""
    wide_points, wide_descriptors = _features(wide.luma)
    tele_points, tele_descriptors = _features(tele.luma)
    if len(wide_points) < 8 or len(tele_points) < 8:
        return None
    nearest = cv2.BFMatcher().knnMatch(tele_descriptors, wide_descriptors, k=2)
    good = [
        (pair[0].trainIdx, pair[0].queryIdx)
        for pair in nearest
        if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance
    ]
    if len(good) < 8:
        return None
    index = np.array(good)
    source, target = wide_points[index[:, 0]], tele_points[index[:, 1]]
    # The tolerance in tele pixels: parallax alone moves points by several.
    homography, inliers = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, 4.0, maxIters=5000, confidence=0.9999
    )
    if homography is None:
        return None
    kept = inliers.ravel() > 0
    # Brown and Lowe (IJCV 2007): n_inliers > alpha + beta n_matches separates true from chance.
    if kept.sum() < 8 + 0.2 * len(good):
        return None
    return Matches(
        _normalised(tele.to_photo @ homography @ np.linalg.inv(wide.to_photo)),
        apply(wide.to_photo, source[kept].astype(np.float64)),
        apply(tele.to_photo, target[kept].astype(np.float64)),
    )


def _features(luma: Grey) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    sift = cv2.SIFT_create(nfeatures=8000, contrastThreshold=0.02)
    points, descriptors = sift.detectAndCompute(luma, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    # RootSIFT (Arandjelovic and Zisserman 2012): Hellinger distance between the histograms.
    descriptors = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-9))
    return np.array([point.pt for point in points], np.float32), descriptors.astype(np.float32)


def _by_correlation(wide: Photo, tele: Photo, zoom: float | None) -> Matches | None:
    """Coarse-to-fine for soft or repetitive scenes: template search over scales, then ECC."""
    big = reduce(wide, None, 512)
    picture = _edges(big.luma)
    best: tuple[float, Matrix] | None = None
    zooms = [zoom * f for f in (0.85, 0.92, 1.0, 1.08, 1.17)] if zoom else list(_geometric())
    long_side = max(big.luma.shape)
    for candidate in zooms:
        small = reduce(tele, None, max(24, round(long_side / candidate)))
        template = _edges(small.luma)
        if any(t >= p for t, p in zip(template.shape, picture.shape, strict=True)):
            continue
        scores = cv2.matchTemplate(picture, template, cv2.TM_CCOEFF_NORMED)
        _, score, _, place = cv2.minMaxLoc(scores)
        if best is None or score > best[0]:
            shift = np.array([[1, 0, -place[0]], [0, 1, -place[1]], [0, 0, 1]], np.float64)
            best = score, small.to_photo @ shift @ np.linalg.inv(big.to_photo)
    if best is None or best[0] < 0.4:
        return None
    refined = _ecc(wide, tele, best[1])
    if refined is None:
        return None
    # Points on a grid stand in for features in what follows.
    corners = footprint(refined, tele)
    steps = np.linspace(0.1, 0.9, 7)
    u, v = (axis.ravel()[:, None] for axis in np.meshgrid(steps, steps))
    grid = (corners[0] * (1 - u) + corners[1] * u) * (1 - v) + (
        corners[3] * (1 - u) + corners[2] * u
    ) * v
    return Matches(_normalised(refined), grid, apply(refined, grid))


def _ecc(wide: Photo, tele: Photo, start: Matrix) -> Matrix | None:
    """ECC (Evangelidis and Psarakis 2008) on the footprint at 512 pixels; None: not one scene."""
    corners = footprint(start, tele)
    box = inside(corners, wide, margin=0.15)
    big, small = reduce(wide, box, 512), reduce(tele, None, 512)
    warp = np.linalg.inv(small.to_photo) @ start @ big.to_photo
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-5)
    try:
        correlation, matrix = cv2.findTransformECC(
            big.luma, small.luma, warp.astype(np.float32), cv2.MOTION_HOMOGRAPHY, criteria, None, 5
        )
    except cv2.error:  # it did not converge
        return None
    if correlation < 0.7:
        return None
    return _normalised(small.to_photo @ matrix.astype(np.float64) @ np.linalg.inv(big.to_photo))


def _edges(luma: Grey) -> npt.NDArray[np.float32]:
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 1.0)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    edges: npt.NDArray[np.float32] = np.sqrt(cv2.magnitude(dx, dy))
    return edges


def _geometric() -> Iterator[float]:
    zoom = 1.4
    while zoom < 10.5:
        yield zoom
        zoom *= 1.12


def inside(corners: Points, photo: Photo, margin: float = 0.0) -> tuple[int, int, int, int]:
    """The box (top, left, bottom, right) around corners (N, 2), widened, cut to the photo."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    border = (high - low) * margin
    left, top = np.floor(low - border).astype(int)
    right, bottom = np.ceil(high + border).astype(int) + 1
    return (
        max(0, int(top)),
        max(0, int(left)),
        min(photo.height, int(bottom)),
        min(photo.width, int(right)),
    )


def _refined(matches: Matches, wide: Photo, tele: Photo) -> Matches:
    """The same once more in the footprint alone, at a higher resolution; kept if it is no worse."""
    box = inside(footprint(matches.homography, tele), wide, margin=0.05)
    finer = _by_features(reduce(wide, box, SEARCH_SIDE), reduce(tele, None, SEARCH_SIDE))
    if finer is None or len(finer.wide) < len(matches.wide):
        return matches
    try:
        check(finer.homography, wide, tele)
    except AlignmentError:
        return matches
    return finer


def _why_not(wide: Photo, tele: Photo, small_tele: Reduced) -> AlignmentError:
    """The likeliest reason for which no homography was found."""
    _refuse_featureless(wide, reduce(wide, None, 1200).luma, "wide")
    mirrored = Reduced(np.ascontiguousarray(small_tele.luma[:, ::-1]), np.eye(3))
    if _by_features(reduce(wide, None, SEARCH_SIDE), mirrored) is not None:
        return AlignmentError(
            "mirrored",
            f"{tele.path.name} is a mirror image of the scene: flip it back and run again",
        )
    noise = noise_level(small_tele.luma)
    if noise > 20:
        return AlignmentError(
            "noisy",
            f"{tele.path.name} is too noisy to be matched (standard deviation {noise:.0f} of 255): "
            "choose a cleaner tele photo",
        )
    return _scene_differs(wide, tele)


def _scene_differs(wide: Photo, tele: Photo) -> AlignmentError:
    return AlignmentError(
        "scene-differs",
        f"{tele.path.name} does not show the scene of {wide.path.name}: choose the tele photo "
        "that was taken with it",
    )


def noise_level(luma: Grey) -> float:
    """Standard deviation of the noise in grey levels (Immerkaer 1996, with a median)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(luma.astype(np.float32), cv2.CV_32F, kernel)
    return float(np.median(np.abs(response)) / 0.6745 / 6)


def _refuse_featureless(photo: Photo, luma: Grey, lens: str) -> None:
    low, high = np.percentile(luma, (1, 99))
    points = len(cv2.SIFT_create(nfeatures=50, contrastThreshold=0.02).detect(luma, None))
    if high - low < 8 or (points < 8 and high - low < 40):
        what = "black" if high < 24 else "white" if low > 231 else "without any structure"
        raise AlignmentError(
            "featureless", f"{photo.path.name} is {what}: choose another {lens} photo"
        )


def _normalised(homography: Matrix) -> Matrix:
    result: Matrix = np.asarray(homography, np.float64) / homography[2, 2]
    return result
