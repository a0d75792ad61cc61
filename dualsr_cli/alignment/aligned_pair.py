"""What alignment knows of a pair, and the tele photo as the wide photo's pixels see it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.alignment import _homography
from dualsr_cli.photos import Photo

Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

# A tilted photo's plane has a horizon in the wide photo; on it the homography's denominator is 0,
# beyond it the sign is another. Below this share of what it is in the footprint, nothing is seen.
_HORIZON = 0.02


@dataclass(frozen=True, eq=False)
class Grid:
    """Smooth values over a box of the wide photo: (rows, columns, channels) float32 at vertices.

    The first and last vertices lie on the box's first and last pixels; between vertices the
    values are bilinear, outside the box they go on as at its edge.
    """

    values: Floats
    box: Box  # top, left, bottom, right in wide pixels

    def at(self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Floats:
        """Values at the crossings of wide rows (m,) and columns (n,): (m, n, channels)."""
        top, left, bottom, right = self.box
        down = _weights(rows, top, bottom, self.values.shape[0])
        across = _weights(columns, left, right, self.values.shape[1])
        low, high, part = across
        begin, end = down[0].min(), down[1].max() + 1  # the rows of vertices that are asked for
        first = self.values[begin:end, low]
        between = first + part[None, :, None] * (self.values[begin:end, high] - first)
        low, high, part = down
        first = between[low - begin]
        result: Floats = first + part[:, None, None] * (between[high - begin] - first)
        return result


def _weights(
    positions: npt.NDArray[np.float64], start: int, stop: int, count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    place = (positions - start) * ((count - 1) / max(stop - 1 - start, 1))
    place = np.clip(place, 0, count - 1)
    low = np.minimum(place.astype(np.intp), max(count - 2, 0))
    return low, np.minimum(low + 1, count - 1), (place - low).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Tone:
    """From the tele photo's colours to the wide photo's, both 0..1.

    First `matrix` and `offset` (global: sensors, white balance, exposure), then `local`: gain and
    offset of each channel over the footprint (vignetting, flare, local tone mapping), 6 channels.
    """

    matrix: Floats  # (3, 3), tele row vector @ matrix
    offset: Floats  # (3,)
    local: Grid

    @staticmethod
    def identity(box: Box) -> Tone:
        values = np.tile(np.array([1, 1, 1, 0, 0, 0], np.float32), (2, 2, 1))
        return Tone(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), Grid(values, box))


@dataclass(frozen=True)
class Fit:
    """How well the tele photo lies on the wide photo; all that `alignment.json` tells of it."""

    inliers: int  # features that agree with the homography
    density: float  # tele pixels per wide pixel at the footprint's centre
    rotation: float  # degrees, tele against wide
    overlap: float  # share of the tele photo inside the wide photo
    displacement: float  # median length of mesh and flow together, wide pixels
    residual: float  # median absolute luma difference after alignment and tone, of 255
    confident: float  # share of the overlap with confidence over one half


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """Two photos of one scene and the transforms between them; no warped copy is held.

    A wide point p (x, y in pixels, centres at integers) is the tele point
    homography(p + displacement(p)), where displacement is mesh and optical flow together.
    `confidence` is 0 outside the tele photo and where it is occluded, out of focus or does not
    fit, up to 1; `box` is (top, left, bottom, right) of the footprint inside the wide photo.
    `swapped` tells that the photos were handed over the wrong way round.
    """

    wide: Photo
    tele: Photo
    homography: npt.NDArray[np.float64]
    box: Box
    displacement: Grid
    tone: Tone
    confidence: Grid
    fit: Fit
    swapped: bool = False

    @property
    def ratio(self) -> float:
        """Tele pixels per wide pixel: what the wide photo gains at the tele's resolution."""
        return self.fit.density

    def corners(self) -> npt.NDArray[np.float64]:
        """The tele photo's corners in wide pixels by the homography, (4, 2) x, y."""
        return _homography.footprint(self.homography, self.tele)

    def footprint_box(self) -> Box:
        """The part of the wide photo that the tele photo shows: top, left, bottom, right."""
        return _homography.inside(self.corners(), self.wide)

    def tele_at(
        self,
        rows: npt.NDArray[np.float64],
        columns: npt.NDArray[np.float64],
        *,
        toned: bool = True,
    ) -> tuple[Floats, Floats]:
        """The tele photo at the crossings of wide rows (m,) and columns (n,), evenly spaced.

        Where the crossings lie wider apart than the tele's pixels, each is the mean over its
        share of the tele, so that nothing aliases. Returns colours (m, n, 3) 0..1, in the wide
        photo's tone with `toned`, and validity (m, n) 0..1, the share inside the tele photo.
        """
        step = float(rows[1] - rows[0]) if len(rows) > 1 else 1.0
        taps = max(1, int(np.ceil(step * self.ratio - 0.1)))
        offsets = ((np.arange(taps) + 0.5) / taps - 0.5) * step
        points = self._tele_points(
            (rows[:, None] + offsets).ravel(), (columns[:, None] + offsets).ravel()
        )
        colours = _sample(self.tele, *points)
        valid = self._inside(*points)
        if taps > 1:
            size = (len(columns), len(rows))
            colours = cv2.resize(colours, size, interpolation=cv2.INTER_AREA)
            valid = cv2.resize(valid, size, interpolation=cv2.INTER_AREA)
        if toned:
            local = self.tone.local.at(rows, columns)
            colours = colours @ self.tone.matrix + self.tone.offset
            colours = colours * local[..., :3] + local[..., 3:]
        return colours, valid

    def valid_at(self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Floats:
        """1 where the crossings of wide rows and columns lie in the tele photo, else 0."""
        return self._inside(*self._tele_points(rows, columns))

    def _tele_points(
        self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
    ) -> tuple[Floats, Floats, npt.NDArray[np.float64]]:
        """Tele x and y (m, n) at the crossings, counted from a tele point (2,) among them.

        Counted so, float32 (fast) is exact to 1/10,000 pixel in a photo of any size.
        """
        x0, y0 = float(columns[len(columns) // 2]), float(rows[len(rows) // 2])
        moved = self.displacement.at(rows, columns)
        dx = moved[..., 0] + (columns - x0).astype(np.float32)
        dy = moved[..., 1] + (rows - y0).astype(np.float32)[:, None]
        h = self.homography
        start = h @ np.array([x0, y0, 1.0])
        depth = dx * np.float32(h[2, 0]) + dy * np.float32(h[2, 1]) + np.float32(start[2])
        nearest = _HORIZON * self._facing()
        beyond = depth / np.float32(nearest) < 1
        if start[2] / nearest >= 1:
            origin, start = start[:2] / start[2], np.zeros(2)
        else:
            origin = np.zeros(2)
        depth[beyond] = np.inf
        scale = 1 / depth
        slope = (h[:2, :2] - origin[:, None] * h[2, :2]).astype(np.float32)
        x = (dx * slope[0, 0] + dy * slope[0, 1] + np.float32(start[0])) * scale
        y = (dx * slope[1, 0] + dy * slope[1, 1] + np.float32(start[1])) * scale
        x[beyond] = -1e6 - origin[0]  # where no photo reaches
        return x, y, origin

    def _facing(self) -> float:
        """The homography's denominator in the middle of the footprint's box."""
        top, left, bottom, right = self.box
        x, y, one = self.homography[2]
        return float(x * (left + right - 1) / 2 + y * (top + bottom - 1) / 2 + one)

    def _inside(self, x: Floats, y: Floats, origin: npt.NDArray[np.float64]) -> Floats:
        right, bottom = self.tele.width - 1 - origin[0], self.tele.height - 1 - origin[1]
        inside = (x >= -origin[0]) & (y >= -origin[1]) & (x <= right) & (y <= bottom)
        result: Floats = inside.astype(np.float32)
        return result


def _sample(photo: Photo, x: Floats, y: Floats, origin: npt.NDArray[np.float64]) -> Floats:
    """Bicubic samples (m, n, 3) 0..1 at photo points counted from `origin`.

    Only the part of the photo that is needed is converted to floating point.
    """
    low = [int(np.floor(v.min() + o)) - 3 for v, o in ((x, origin[0]), (y, origin[1]))]
    high = [int(np.ceil(v.max() + o)) + 4 for v, o in ((x, origin[0]), (y, origin[1]))]
    left, right = np.clip([low[0], high[0]], [0, 1], [photo.width - 1, photo.width])
    top, bottom = np.clip([low[1], high[1]], [0, 1], [photo.height - 1, photo.height])
    left, top = min(left, right - 1), min(top, bottom - 1)
    part = photo.window(int(top), int(left), int(bottom - top), int(right - left))
    shift = origin - [left, top]
    samples: Floats = cv2.remap(
        part,
        x + np.float32(shift[0]),
        y + np.float32(shift[1]),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return samples
