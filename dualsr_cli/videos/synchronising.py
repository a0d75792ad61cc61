"""How much later one clip's clock runs than another's: by time stamps, then by what they show.

Both clips are seen as small grey pictures. Where the cameras move, flicker or see something move,
several signals of these pictures go up and down together: overall brightness, overall motion, the
amount of change, and the pictures themselves once it is known which part of one the other shows.
The offset at which all of them agree best is found on a grid of the faster clip's rate, and between
its points by a parabola. It counts where two of them alone tell the same, and no other offset is
nearly as good.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.videos.clip import Clip
from dualsr_cli.videos.reading import read_small

Pictures = npt.NDArray[np.float32]
Signal = npt.NDArray[np.float32]

SURE = 0.15  # the certainty from which on content overrules time stamps
_LONGEST = 10.0  # seconds that are looked at of the clip with the lower rate
_MARGIN = 3.0  # seconds by which time stamps may be wrong where clips are longer than that
_FINEST = 1 / 480  # seconds of the grid
_SLOWEST = 1.0  # seconds; slower changes are left out: exposure and white balance make them, too
_CELLS = (16, 12)  # columns and rows to which pictures are reduced once their views agree
_SCALES = np.geomspace(0.2, 1.0, 15)  # of the narrower view in the wider one
_FLAT = 0.01  # the deviation (of 1 for white) below which a picture shows nothing
_SAME_VIEW = 0.6  # the correlation from which on two pictures show one scene
_RIVALS = 5  # offsets at which the views are compared
_MOMENTS = 5  # pictures of each clip that are compared then
_FEWEST = 8  # frames of a clip: fewer agree with anything by chance
_LEAST = 3  # moments of a signal, and offsets
_WITNESSES = 2  # signals that, each alone, tell the same offset, to half a gap of the slower clip
_NOISE = 1e-3  # the root mean square up to which a signal is none (of 1 for white; of pixels)


@dataclass(frozen=True)
class Offset:
    """How two clips lie in time: what the second shows at `t`, the first shows at `t + seconds`."""

    seconds: Fraction
    refined: bool  # by content; else `seconds` is `stamped`
    certainty: float  # 0..1: by how much this offset agrees better than any other
    stamped: Fraction  # what time stamps alone say
    evidence: str  # "content", "creation time" (of both files) or "start" (both begin together)


def synchronise(first: Clip, second: Clip) -> Offset:
    """Estimate the offset of two clips of one scene. Decodes up to about 16 s of both.

    Time stamps are the first guess: both files' creation times, where they let the clips overlap;
    else both begin together. Of short clips all offsets at which half of the shorter one overlaps
    are tried; of longer ones those up to 3 s from the guess. Where nothing moves, where all moves
    evenly or again and again alike, and from a few frames, content does not tell: time stamps
    stand.

    Rates, sizes and exposure may differ, and one clip may show a part of what the other shows.

    Raises InputError where a clip cannot be read.
    """
    stamped, evidence = _by_stamps(first, second)
    seconds, certainty = _by_content(first, second, float(stamped))
    if certainty < SURE:
        return Offset(stamped, False, certainty, stamped, evidence)
    exact = Fraction(round(seconds * 1_000_000), 1_000_000)
    return Offset(exact, True, certainty, stamped, "content")


def _by_stamps(first: Clip, second: Clip) -> tuple[Fraction, str]:
    if first.created and second.created:
        apart = Fraction((second.created - first.created).total_seconds())
        if second.times[0] + apart < first.end and first.times[0] < second.end + apart:
            return apart, "creation time"
    return first.times[0] - second.times[0], "start"


def _by_content(first: Clip, second: Clip, guess: float) -> tuple[float, float]:
    """The offset in seconds and its certainty; 0 where there is too little to see."""
    if min(len(first.times), len(second.times)) < _FEWEST:
        return 0.0, 0.0
    spans = _spans(first, second, guess)
    gaps = [_gap(clip) for clip in (first, second)]
    step, slow = max(min(gaps), _FINEST), max(gaps)
    views = [
        _View.of(clip, span, step, slow if gap < slow else 0.0)
        for clip, span, gap in zip((first, second), spans, gaps, strict=True)
    ]
    half = max(round(slow / step / 2), 1)
    if min(len(view.pictures) for view in views) < 2 * half + _LEAST:
        return 0.0, 0.0
    ahead = views[0].start - views[1].start
    signals = list(zip(*(view.signals(half) for view in views), strict=True))
    lags, scores = _agreement(signals, step)
    rivals = [int(lags[at]) for at in _peaks(scores.mean(0))[:_RIVALS]] if len(scores) else []
    window = _common_view(views[0].pictures, views[1].pictures, rivals)
    if window is not None:
        signals.append((window[0][half:-half], window[1][half:-half]))
        lags, scores = _agreement(signals, step)
    if len(scores) < _WITNESSES or len(lags) < _LEAST:
        return 0.0, 0.0
    lag, certainty = _best(lags, scores.mean(0))
    alike = np.abs(lags[scores.argmax(1)] - lag) <= half
    return ahead + lag * step, certainty if alike.sum() >= _WITNESSES else 0.0


def _gap(clip: Clip) -> float:
    """The usual distance of two frames in seconds."""
    gaps = [float(later - sooner) for sooner, later in pairwise(clip.times)]
    return median(gaps) if gaps else float(clip.end - clip.times[0])


def _spans(first: Clip, second: Clip, guess: float) -> list[tuple[float, float]]:
    """From when to when each clip is looked at, on its own clock."""
    whole = [(float(clip.times[0]), float(clip.end)) for clip in (first, second)]
    if max(end - start for start, end in whole) <= _LONGEST + 2 * _MARGIN:
        return whole
    start = max(whole[0][0], whole[1][0] + guess)
    end = min(whole[0][1], whole[1][1] + guess)
    middle, reach = (start + end) / 2, min(_LONGEST, end - start) / 2
    reaches = [reach, reach]
    reaches[0 if _gap(first) <= _gap(second) else 1] += _MARGIN
    return [
        (middle - reaches[0], middle + reaches[0]),
        (middle - guess - reaches[1], middle - guess + reaches[1]),
    ]


@dataclass(frozen=True)
class _View:
    """What a clip shows, on an even grid of times."""

    start: float  # seconds on the clip's clock
    pictures: Pictures  # (moments, height, width), grey, 0..1

    @classmethod
    def of(cls, clip: Clip, span: tuple[float, float], step: float, blur: float) -> _View:
        """The frames of a span, each moment between two of them a mixture of both.

        `blur` seconds, where not 0, are the gap between the other clip's frames: what is mixed from
        those is smooth over so long, and this is made so, too; its ends, where it cannot, are cut.
        """
        first = max(bisect_left(clip.times, Fraction(span[0])) - 1, 0)
        last = bisect_left(clip.times, Fraction(span[1])) + 1
        times, pictures = zip(*read_small(clip, first, last), strict=True)
        grid = np.arange(float(times[0]), float(times[-1]) + step / 2, step)
        at = np.interp(grid, [float(time) for time in times], np.arange(len(times)))
        below = np.floor(at).astype(int)
        above = np.minimum(below + 1, len(times) - 1)
        part = (at - below)[:, None, None].astype(np.float32)
        stack = np.stack(pictures)
        mixed = stack[below] * (1 - part) + stack[above] * part
        if not blur:
            return cls(float(times[0]), mixed)
        width = max(round(blur / step), 1)
        # The second time backwards: over an even number of moments, the mean lies half of one off.
        mixed = _mean_over(_mean_over(mixed, width)[::-1], width)[::-1]
        ends = width - 1
        return cls(float(times[0]) + ends * step, mixed[ends : len(mixed) - ends])

    def signals(self, half: int) -> list[Signal]:
        """Brightness, motion and change: each (moments - 2 half, values), for `half` moments to
        either side of one are compared."""
        brightness = np.log(self.pictures[half:-half].mean((1, 2)) + 0.02)[:, None]
        # Copies: where no side needs padding, phaseCorrelate multiplies its inputs by the window.
        before, after = self.pictures[: -2 * half].copy(), self.pictures[2 * half :].copy()
        change = np.abs(after - before).mean((1, 2))[:, None]
        taper = cv2.createHanningWindow(self.pictures.shape[:0:-1], cv2.CV_32F)
        motion = [
            cv2.phaseCorrelate(one, other, taper)[0]
            for one, other in zip(before, after, strict=True)
        ]
        return [brightness.astype(np.float32), np.array(motion, np.float32), change]


def _mean_over(values: Pictures, width: int) -> Pictures:
    """The mean over `width` moments around each (fewer at the ends)."""
    sums = np.concatenate([np.zeros_like(values[:1], np.float64), np.cumsum(values, 0, np.float64)])
    moments = np.arange(len(values))
    low = np.maximum(moments - width // 2, 0)
    high = np.minimum(moments - width // 2 + width, len(values))
    counts = (high - low).reshape(-1, *[1] * (values.ndim - 1))
    means: Pictures = ((sums[high] - sums[low]) / counts).astype(np.float32)
    return means


def _agreement(
    signals: list[tuple[Signal, Signal]], step: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Lags in moments of the grid, and how well each signal agrees: (signals, lags), -1..1.

    A lag is by how many moments the second is to be moved. Of lags, those at which half of the
    shorter clip overlaps; of signals, those that do change in both.
    """
    width = max(round(_SLOWEST / step), 3)
    lengths = [len(signal) for signal in signals[0]]
    lags = np.arange(-lengths[1] + 1, lengths[0])
    first, last = np.maximum(lags, 0), np.minimum(lengths[0], lags + lengths[1])
    overlap = last - first
    scores = []
    for pair in signals:
        one, other = ((signal - _mean_over(signal, width)).astype(np.float64) for signal in pair)
        if min(np.sqrt(np.mean(one**2)), np.sqrt(np.mean(other**2))) <= _NOISE:
            continue
        # The correlation coefficient over what overlaps, all values taken together.
        sums = _sums(one, first, last), _sums(other, first - lags, last - lags)
        squares = _sums(one**2, first, last), _sums(other**2, first - lags, last - lags)
        product = _correlation(one, other) - (sums[0] * sums[1]).sum(1) / overlap
        energies = [
            (square - total**2 / overlap[:, None]).sum(1)
            for square, total in zip(squares, sums, strict=True)
        ]
        scores.append(product / np.sqrt(np.maximum(energies[0] * energies[1], 1e-12)))
    enough = overlap >= max(min(lengths) / 2, _LEAST)
    return lags[enough], np.array(scores).reshape(-1, len(lags))[:, enough]


def _sums(
    values: npt.NDArray[np.float64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(lags, values): the sum over the moments `first` to `last` (not included) of each lag."""
    so_far = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    result: npt.NDArray[np.float64] = so_far[last] - so_far[first]
    return result


def _correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sum over moments and values of one[moment + lag] * other[moment], for each lag from
    -len(other) + 1 to len(one) - 1."""
    size = 1 << (len(one) + len(other) - 1).bit_length()
    spectrum = (np.fft.rfft(one, size, axis=0) * np.fft.rfft(other, size, axis=0).conj()).sum(1)
    circular = np.fft.irfft(spectrum, size)
    return np.concatenate([circular[size - len(other) + 1 :], circular[: len(one)]])


def _peaks(scores: npt.NDArray[np.float64]) -> list[int]:
    """Where the scores are higher than beside, the highest first."""
    padded = np.pad(scores, 1, constant_values=-np.inf)
    tops = np.flatnonzero((scores >= padded[:-2]) & (scores > padded[2:]))
    return [int(top) for top in tops[np.argsort(-scores[tops], kind="stable")]]


def _best(lags: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The lag of the highest score, between moments, and how far it is above all other peaks."""
    top = int(np.argmax(scores))
    below = np.flatnonzero(scores < scores[top] / 2)
    left = below[below < top].max(initial=-1)
    right = below[below > top].min(initial=len(scores))
    others = np.concatenate([scores[: left + 1], scores[right:]])
    certainty = max(float(scores[top] - max(others.max(initial=0.0), 0.0)), 0.0)
    if not 0 < top < len(scores) - 1:
        return float(lags[top]), certainty
    before, peak, after = scores[top - 1 : top + 2]
    bend = before - 2 * peak + after
    return float(lags[top]) + (0.5 * (before - after) / bend if bend < 0 else 0.0), certainty


def _common_view(
    first: Pictures, second: Pictures, lags: list[int]
) -> tuple[Signal, Signal] | None:
    """What both clips show, as signals: the wider one's pictures are cut to the narrower's view.

    Where the view lies is looked for at the offsets `lags`. None where no view is alike.
    """
    best: tuple[float, bool, float, tuple[int, int]] = (_SAME_VIEW, False, 1.0, (0, 0))
    found = False
    for lag in lags:
        moments = np.arange(max(lag, 0), min(len(first), len(second) + lag))
        some = moments[np.linspace(0, len(moments) - 1, _MOMENTS).astype(int)]
        for swapped in (False, True):
            pairs = [(first[at], second[at - lag]) for at in some]
            if swapped:
                pairs = [pair[::-1] for pair in pairs]
            if min(float(narrow.std()) for _, narrow in pairs) < _FLAT:
                continue
            for scale in _SCALES:
                height, width = (round(side * scale) for side in pairs[0][1].shape)
                if height > pairs[0][0].shape[0] or width > pairs[0][0].shape[1]:
                    continue
                maps = [
                    cv2.matchTemplate(
                        wide,
                        cv2.resize(narrow, (width, height), interpolation=cv2.INTER_AREA),
                        cv2.TM_CCOEFF_NORMED,
                    )
                    for wide, narrow in pairs
                ]
                _, score, _, place = cv2.minMaxLoc(np.mean(maps, axis=0))
                if score > best[0]:
                    best, found = (score, swapped, float(scale), (place[0], place[1])), True
    if not found:
        return None
    _, swapped, scale, (left, top) = best
    wide, narrow = (second, first) if swapped else (first, second)
    height, width = (round(side * scale) for side in narrow.shape[1:])
    cut = _cells(wide[:, top : top + height, left : left + width])
    whole = _cells(narrow)
    return (whole, cut) if swapped else (cut, whole)


def _cells(pictures: Pictures) -> Signal:
    """Pictures of mean 0 and deviation 1 at few pixels, each as one row."""
    small = np.stack(
        [cv2.resize(one, _CELLS, interpolation=cv2.INTER_AREA).ravel() for one in pictures]
    )
    small -= small.mean(1, keepdims=True)
    result: Signal = small / (small.std(1, keepdims=True) + 1e-3)
    return result
