"""What alignment knows of a pair, and the tele photo as the wide photo's pixels see it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.photos import Photo

Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]


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
        low, high, part = down
        between = self.values[low] + part[:, None, None] * (self.values[high] - self.values[low])
        low, high, part = across
        first = between[:, low]
        result: Floats = first + part[None, :, None] * (between[:, high] - first)
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
        right, bottom = self.tele.width - 0.5, self.tele.height - 0.5
        corners = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
        points = np.column_stack([corners, np.ones(4)]) @ np.linalg.inv(self.homography).T
        result: npt.NDArray[np.float64] = points[:, :2] / points[:, 2:]
        return result

    def footprint_box(self) -> Box:
        """The part of the wide photo that the tele photo shows: top, left, bottom, right."""
        corners = self.corners()
        left, top = np.clip(np.rint(corners.min(axis=0)), 0, None).astype(int)
        right, bottom = np.rint(corners.max(axis=0)).astype(int) + 1
        return (
            int(top),
            int(left),
            min(int(bottom), self.wide.height),
            min(int(right), self.wide.width),
        )

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
        x, y = self._tele_points(
            (rows[:, None] + offsets).ravel(), (columns[:, None] + offsets).ravel()
        )
        colours = _sample(self.tele, x, y)
        valid = self._inside(x, y)
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

    def _inside(self, x: Floats, y: Floats) -> Floats:
        inside = (x >= 0) & (y >= 0) & (x <= self.tele.width - 1) & (y <= self.tele.height - 1)
        return inside.astype(np.float32)

    def _tele_points(
        self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
    ) -> tuple[Floats, Floats]:
        moved = self.displacement.at(rows, columns)
        # float64 for the large coordinates, float32 (24 bits) for the result: 1/1000 pixel at 16k
        x = columns[None, :] + moved[..., 0]
        y = rows[:, None] + moved[..., 1]
        h = self.homography
        scale = 1 / (h[2, 0] * x + h[2, 1] * y + h[2, 2])
        tele_x = (h[0, 0] * x + h[0, 1] * y + h[0, 2]) * scale
        tele_y = (h[1, 0] * x + h[1, 1] * y + h[1, 2]) * scale
        return tele_x.astype(np.float32), tele_y.astype(np.float32)


def _sample(photo: Photo, x: Floats, y: Floats) -> Floats:
    """Bicubic samples (m, n, 3) 0..1 at photo coordinates; only the part needed is converted."""
    left = int(np.clip(np.floor(x.min()) - 3, 0, photo.width - 1))
    top = int(np.clip(np.floor(y.min()) - 3, 0, photo.height - 1))
    right = int(np.clip(np.ceil(x.max()) + 4, left + 1, photo.width))
    bottom = int(np.clip(np.ceil(y.max()) + 4, top + 1, photo.height))
    part = photo.window(top, left, bottom - top, right - left)
    samples: Floats = cv2.remap(
        part, x - left, y - top, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return samples
