"""Two clips of one scene whose truth is known, small and quick to make."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

FACTOR = 4
WIDTH, HEIGHT = 512, 320
RATE, EVERY = 240, 8


@dataclass(frozen=True)
class Shot:
    """A frame."""

    pixels: Pixels
    time: Fraction


def place(frame: float, view: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float64]:
    """From pixels of the truth to those of the scene at half size, (3, 3)."""
    angle = np.radians(0.15 * frame)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = 300 + 4.3 * frame, 200 + 1.9 * frame
    return matrix if view is None else matrix @ view


def truth(
    scene: Pixels, frame: float, view: npt.NDArray[np.float64] | None = None, *, ball: bool = True
) -> Pixels:
    """(HEIGHT, WIDTH, 3): the scene moves, and a ball with its own texture flies by."""
    twice = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    half = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    size = 2 * WIDTH, 2 * HEIGHT
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(
        scene, half @ place(frame, view) @ twice, size, flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    if ball:
        shift = np.array([[1, 0, 900 - 9.3 * frame], [0, 1, 1500 + 3.1 * frame], [0, 0, 1]])
        way = shift @ (twice if view is None else view @ twice)
        other = cv2.warpPerspective(scene, way, size, flags=flags)
        disc = np.zeros(scene.shape[:2], np.float32)
        cv2.circle(disc, (1150, 1650), 50, 1, -1, cv2.LINE_AA)
        share = cv2.warpPerspective(disc, way, size, flags=flags)[..., None].clip(0, 1)
        picture = np.rint(picture + share * (other.astype(np.float32) - picture)).astype(np.uint8)
    return cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def small(picture: Pixels, noise: float = 0.0, seed: int = 0) -> Pixels:
    """As the fast camera sees it; noise: a standard deviation, of 0..1."""
    size = picture.shape[1] // FACTOR, picture.shape[0] // FACTOR
    reduced = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if not noise:
        return reduced
    random = np.random.default_rng(seed)
    return np.clip(np.rint(reduced + random.normal(0, 255 * noise, reduced.shape)), 0, 255).astype(
        np.uint8
    )


def film(path: Path, frames: list[Pixels], rate: int) -> Path:
    """A video of 8-bit frames, nearly without loss."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
