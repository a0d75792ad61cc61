"""Which photos of a folder are the wide and the tele of one scene.

Four steps, from the surest evidence to the weakest; each works on what the steps before left over:

1. copies of one shot (edited, another format, another folder) are set aside for one that is whole;
2. names that say it: `x_wide.jpg` and `x_tele.jpg`, `wide/x.jpg` and `tele/x.jpg`;
3. EXIF: one camera, capture times at most `max_gap` apart, a zoom ratio of 1.5 to 10, places at
   most 100 m apart; among several possibilities the set of pairs that is worth the most;
4. photos whose EXIF is missing: neighbours in time or in numbering that show the same scene.

A file's modification time is never evidence: copying a folder changes it.
"""

from __future__ import annotations

import bisect
import csv as csvlib
import io
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from dualsr_cli.errors import AlignmentError, InputError, OutputError
from dualsr_cli.files import atomic_writer
from dualsr_cli.photos import _names
from dualsr_cli.photos._assignment import best_pairs
from dualsr_cli.photos._shots import Shot, Stamp, list_photos, read_shot, renamed, stamp_of
from dualsr_cli.photos.capture import Capture, zoom_ratio
from dualsr_cli.photos.reading import read_photo

SMALLEST_RATIO, LARGEST_RATIO = 1.5, 10.0
SAME_SCENE = 0.5  # the content score from which on two photos show one scene
SURE_GAP = 5.0  # seconds; a lone candidate that is further away is looked at as well
FARTHEST = 100.0  # metres between the two places where GPS knows both
ULTRA_WIDE = 20.0  # mm, 35-mm equivalent; main lenses of phones have 22 to 30
_NEIGHBOURS = 64  # in time, on either side of a photo: more are not considered
_FEW = 8  # so many for photos without EXIF, each of which costs a look at two pictures

SameScene = Callable[[Path, Path], float]
"""same_scene(wide, tele) -> 0..1: whether tele shows a part of what wide shows. It is low also
where the roles are swapped or both are framed alike; it may raise InputError or AlignmentError."""

Progress = Callable[[str, int, int], None]
"""progress(stage, done, total); a total of 0: unknown."""

Known = dict[Path, tuple[Stamp, Shot]]
"""What `find_pairs` remembers of one folder's photos from one call to the next; empty at first."""

_Candidate = tuple[float, str, str, str, int, int]  # rank, two names, evidence, two shots


@dataclass(frozen=True)
class FoundPair:
    """Two photos of one scene."""

    wide: Path
    tele: Path
    ratio: float | None  # how many times narrower the tele sees, from EXIF; None: unknown
    seconds_apart: float | None  # None: unknown
    evidence: str  # a list of: time, zoom, names, numbers, content; or table; or named


@dataclass(frozen=True)
class Leftover:
    """A photo without a partner."""

    path: Path
    reason: str
    """A stable code:
    unreadable         the file is no photo that can be read
    duplicate          another file is the same shot
    no-exif            no capture time or no focal length, and nothing else tells the partner
    no-partner-in-time no other photo of the same camera is close enough in time
    same-focal-length  the neighbours in time have (nearly) the same field of view
    ratio-too-large    the neighbour in time differs by more than 10 times
    too-far-apart      GPS says that the neighbour in time was taken elsewhere
    scene-differs      the neighbour in time shows something else
    partner-taken      each possible partner has a better one, or cannot be read
    """
    sentence: str


@dataclass(frozen=True)
class Pairing:
    """Every photo of a folder, once: in a pair or left over. Both sorted by name."""

    pairs: tuple[FoundPair, ...]
    leftovers: tuple[Leftover, ...]


def find_pairs(
    folder: Path,
    *,
    same_scene: SameScene | None = None,
    max_gap: float = 20.0,
    leave_out: Path | None = None,
    known: Known | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Pairing:
    """Pair the photos of `folder` and all folders in it but `leave_out`.

    Hidden files and folders and files without a photo's suffix are passed over. `max_gap` is in
    seconds. `same_scene` is asked only where time leaves a doubt (several candidates, or more than
    5 s apart) or EXIF is missing; without it time decides alone, and photos without EXIF are
    paired by names that say it, or not at all. `progress` is told of two
    stages, reading and comparing.

    The result depends on names (relative to `folder`) and contents only. With the same `known` in
    each call for this folder, only new and changed photos are opened.

    Raises InputError where `folder` is no folder that can be read.
    """
    folder = Path(folder)
    paths, unreadable = list_photos(folder, leave_out)
    known = {} if known is None else known
    for path in known.keys() - set(paths):
        del known[path]
    shots: list[Shot] = []
    with ThreadPoolExecutor(max_workers=min(16, 4 * (os.cpu_count() or 1))) as pool:
        for path, shot in zip(
            paths, pool.map(lambda path: _shot(path, folder, known), paths), strict=True
        ):
            if isinstance(shot, Shot):
                shots.append(shot)
            else:
                unreadable[path] = shot
            progress("reading", len(shots) + len(unreadable), len(paths))
    work = _Work(shots, same_scene, max_gap, progress)
    pairing = work.done()
    for path in work.whole & known.keys():
        stamp, shot = known[path]
        known[path] = stamp, replace(shot, whole=True)
    leftovers = [
        *pairing.leftovers,
        *(Leftover(path, "unreadable", sentence) for path, sentence in unreadable.items()),
    ]
    return Pairing(pairing.pairs, tuple(sorted(leftovers, key=lambda leftover: leftover.path)))


def _shot(path: Path, folder: Path, known: Known) -> Shot | str:
    """`read_shot`, or what is known of the file; what cannot be read is tried each time."""
    stamp = stamp_of(path)  # before reading: a change meanwhile shows next time
    if stamp is not None and path in known and known[path][0] == stamp:
        return known[path][1]
    shot = read_shot(path, folder)
    if stamp is not None and isinstance(shot, Shot):
        known[path] = stamp, shot
    return shot


def read_pairs_table(csv: Path, *, must_exist: bool = True) -> tuple[FoundPair, ...]:
    """Read a CSV with the header `wide,tele`; paths are relative to the folder it lies in.

    Raises InputError, naming the line, for anything but two existing files a line. Without
    `must_exist` the files are not looked for.
    """
    try:
        text = csv.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(csv, "is not UTF-8 text: save it as CSV in UTF-8") from error
    except OSError as error:
        raise InputError(csv, f"cannot be read: {error.strerror or error}") from error
    lines = csvlib.reader(io.StringIO(text, newline=""), strict=True)
    pairs: dict[tuple[Path, Path], int] = {}
    try:
        header = [cell.strip().lower() for cell in next(lines, [])]
        if header != ["wide", "tele"]:
            raise InputError(csv, f"must begin with the line wide,tele, not {','.join(header)!r}")
        for cells in lines:
            if not any(cells):
                continue
            if len(cells) != 2 or not all(cells):
                raise InputError(csv, f"line {lines.line_num}: needs a wide and a tele, two cells")
            wide, tele = (csv.parent / cell for cell in cells)
            for path, cell in zip((wide, tele), cells, strict=True):
                if must_exist and not path.is_file():
                    raise InputError(csv, f"line {lines.line_num}: {cell} is not there")
            if wide == tele:
                raise InputError(csv, f"line {lines.line_num}: wide and tele are the same file")
            if (wide, tele) in pairs:
                raise InputError(
                    csv, f"line {lines.line_num}: repeats line {pairs[wide, tele]}; remove one"
                )
            pairs[wide, tele] = lines.line_num
    except (csvlib.Error, ValueError) as error:  # ValueError: a NUL in a path
        raise InputError(csv, f"line {lines.line_num}: is no CSV ({error})") from error
    return tuple(FoundPair(wide, tele, None, None, "table") for wide, tele in pairs)


def write_pairs_table(pairs: Iterable[FoundPair], csv: Path) -> None:
    """Write what `read_pairs_table` reads. Raises OutputError."""
    csv = Path(csv)
    text = io.StringIO(newline="")
    table = csvlib.writer(text, lineterminator="\n")
    table.writerow(["wide", "tele"])
    for pair in pairs:
        table.writerow([_relative(pair.wide, csv.parent), _relative(pair.tele, csv.parent)])
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError as error:
        name = ascii(text.getvalue()[error.start - 20 : error.end + 20])
        raise OutputError(
            csv, f"cannot hold a file name that is not Unicode ({name}): rename that photo"
        ) from error
    with atomic_writer(csv) as file:
        file.write(data)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return path.absolute().as_posix()


# --- the four steps ----------------------------------------------------------------------------


@dataclass
class _Work:
    """One run of the pairing: what is decided so far. Shots are known by their index."""

    shots: Sequence[Shot]
    same_scene: SameScene | None
    max_gap: float  # seconds
    progress: Progress
    looks: int = 0
    pairs: list[FoundPair] = field(default_factory=list)
    partner: dict[int, int] = field(default_factory=dict)
    leftovers: dict[int, Leftover] = field(default_factory=dict)
    different: dict[int, int] = field(default_factory=dict)  # shot -> one that shows something else
    refused: set[frozenset[int]] = field(default_factory=set)  # all of these
    whole: set[Path] = field(default_factory=set)  # was read to its end
    moments: dict[int, int] = field(default_factory=dict)  # microseconds of UTC, as far as known
    place: dict[int, tuple[list[int], int]] = field(default_factory=dict)  # see _clusters
    kinds: list[int] = field(default_factory=list)  # per shot: equal where the framing is equal
    ratios: dict[tuple[int, int], float | None] = field(default_factory=dict)  # of two kinds

    def __post_init__(self) -> None:
        known: dict[Capture, int] = {}
        self.kinds = [known.setdefault(shot.framing, len(known)) for shot in self.shots]

    def done(self) -> Pairing:
        self._set_copies_aside()
        self._pair_by_names()
        for cluster in self._clusters():
            self._pair_by_time(cluster)
        if self.same_scene is not None:
            self._pair_by_content()
        for index in self._free():
            self._leave(index, *self._reason(index))
        return Pairing(
            tuple(sorted(self.pairs, key=lambda pair: (pair.wide, pair.tele))),
            tuple(sorted(self.leftovers.values(), key=lambda leftover: leftover.path)),
        )

    def _set_copies_aside(self) -> None:
        """One camera, one moment, one framing: one shot.

        Where the moment is known to the second only, the names must agree as well: a burst has
        several shots a second.
        """
        copies: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for index, shot in enumerate(self.shots):
            if shot.local is not None:
                exact = shot.framed and shot.capture.time and shot.local.microsecond
                stem = None if exact else _names.original_stem(shot.name)
                role = _names.role(shot.name)
                key = shot.camera, shot.local, self.kinds[index], stem, role and role.tele
                copies[key].append(index)
        for indices in copies.values():
            if len(indices) == 1:
                continue
            indices.sort(key=lambda index: self.shots[index].preference)
            best = next(filter(self._is_whole, indices), None)
            for index in indices:
                if best is not None and index != best and not self._taken(index):
                    text = f"is the same shot as {self._name(best)}, which is used in its place"
                    self._leave(index, "duplicate", text)

    def _pair_by_names(self) -> None:
        """A wide and a tele of one name. Where EXIF does not say the same, they are looked at."""
        scenes: dict[tuple[str, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for index in self._free():
            if role := _names.role(self.shots[index].name):
                scenes[role.scene][role.tele].append(index)
        for scene in scenes.values():
            wides, teles = scene
            if wides and teles and len(wides + teles) > 2:
                wides, teles = (list(filter(self._is_whole, photos)) for photos in scene)
            if len(wides) != 1 or len(teles) != 1:
                continue
            wide, tele = self._ordered(wides[0], teles[0])
            if not self._related(wide, tele) or self._obstacle(wide, tele):
                continue
            gap = self._local_gap(wide, tele)
            known = self._ratio(wide, tele) is not None and gap is not None and gap <= self.max_gap
            if known or self.same_scene is None:
                self._join(wide, tele, gap, "names")
            elif self._shows_same(wide, tele):
                self._join(wide, tele, gap, "names, content")

    def _clusters(self) -> list[list[int]]:
        """The shots of one camera in the order of time, cut where a gap is too long for a pair.

        Fills `moments`, and `place` with all shots of the camera in that order and the position.
        """
        cameras: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
        for index, shot in enumerate(self.shots):
            if shot.local is not None and index not in self.leftovers:
                cameras[shot.camera].append(index)
        clusters: list[list[int]] = []
        for indices in cameras.values():
            self._set_moments(indices)
            indices.sort(key=lambda index: (self.moments[index], self.shots[index].name))
            for at, index in enumerate(indices):
                self.place[index] = indices, at
                if at == 0 or not self._near(indices[at - 1], index):
                    clusters.append([])
                clusters[-1].append(index)
        return clusters

    def _set_moments(self, indices: Iterable[int]) -> None:
        """Local times become UTC; a shot without an offset has that of its neighbour in time."""
        times = [(index, self.shots[index].local or datetime.min) for index in indices]
        known = sorted(
            (local, offset)
            for index, local in times
            if (offset := self.shots[index].utc_offset) is not None
        )
        for index, local in times:
            offset = self.shots[index].utc_offset
            if offset is None and known:
                at = bisect.bisect_left(known, (local, timedelta.min))
                near = known[max(at - 1, 0) : at + 1]
                offset = min(near, key=lambda other: abs(other[0] - local))[1]
            since = local - (offset or timedelta(0)) - datetime(1970, 1, 1)
            self.moments[index] = since // timedelta(microseconds=1)

    def _pair_by_time(self, cluster: list[int]) -> None:
        """The best set of pairs; doubtful ones are looked at, and what is refused tried no more."""
        while True:
            free = [i for i in cluster if i not in self.partner and i not in self.leftovers]
            found = best_pairs(free, self._near, self._worth)
            for first, second in found:
                if self._taken(first) or self._taken(second):
                    continue  # has just proved broken
                wide, tele = self._ordered(first, second)
                gap = self._gap(first, second)
                if not self._in_doubt(first, second):
                    self._join(wide, tele, gap, "time, zoom")
                elif self._shows_same(wide, tele):
                    self._join(wide, tele, gap, "time, zoom, content")
            if all(first in self.partner for first, _ in found):
                return

    def _pair_by_content(self) -> None:
        """Photos without a time or a focal length: neighbours that show the same scene."""
        free = self._free()
        candidates = sorted([*self._neighbours_in_time(free), *self._neighbours_in_number(free)])
        for _, _, _, evidence, first, second in candidates:
            for wide, tele in ((first, second), (second, first)):
                if self._taken(first) or self._taken(second):
                    break  # by an earlier candidate, or broken at the first look
                swapped = (self._ratio(wide, tele) or SMALLEST_RATIO) < 1
                if not swapped and self._shows_same(wide, tele):
                    self._join(wide, tele, self._local_gap(wide, tele), evidence)

    def _neighbours_in_time(self, free: Iterable[int]) -> Iterator[_Candidate]:
        timed = sorted(
            (local, self._name(index), index)
            for index in free
            if (local := self.shots[index].local) is not None
        )
        for at, (_, name, first) in enumerate(timed):
            for _, other, second in timed[at + 1 : at + 1 + _FEW]:
                gap = self._local_gap(first, second) or 0.0
                if gap > self.max_gap:
                    break
                if self._may_be_looked_at(first, second):
                    yield gap, name, other, "time, content", first, second

    def _neighbours_in_number(self, free: Iterable[int]) -> Iterator[_Candidate]:
        series: dict[tuple[str, str], list[tuple[int, str, int]]] = defaultdict(list)
        for index in free:
            if numbered := _names.number(self.shots[index].name):
                series[numbered[0]].append((numbered[1], self._name(index), index))
        for members in series.values():
            members.sort()
            for at, (number, name, first) in enumerate(members):
                for next_number, other, second in members[at + 1 : at + 1 + _FEW]:
                    if next_number > number + 1:
                        break
                    timed = self._local_gap(first, second) is not None
                    if not timed and self._may_be_looked_at(first, second):
                        rank = self.max_gap + 1 + next_number - number  # behind those near in time
                        yield rank, name, other, "numbers, content", first, second

    # --- what may be said of two shots

    def _may_be_looked_at(self, first: int, second: int) -> bool:
        """Whether EXIF leaves it to the content to tell if these two are a pair."""
        return (
            (self._ratio(first, second) is None or self._local_gap(first, second) is None)
            and frozenset((first, second)) not in self.refused
            and self._related(first, second)
            and self._obstacle(first, second) is None
        )

    def _related(self, first: int, second: int) -> bool:
        """Whether one camera may have taken both: it did unless both tell, and differ."""
        one, other = self.shots[first].camera, self.shots[second].camera
        return all(not a or not b or a == b for a, b in zip(one, other, strict=True))

    def _ratio(self, wide: int, tele: int) -> float | None:
        key = self.kinds[wide], self.kinds[tele]
        if key not in self.ratios:
            self.ratios[key] = zoom_ratio(self.shots[wide].framing, self.shots[tele].framing)
        return self.ratios[key]

    def _ordered(self, first: int, second: int) -> tuple[int, int]:
        """Wide first, where EXIF tells; else as they are."""
        return (second, first) if (self._ratio(first, second) or 1.0) < 1 else (first, second)

    def _obstacle(self, first: int, second: int) -> str | None:
        """Why these two are no pair, times aside: a reason code."""
        ratio = self._ratio(*self._ordered(first, second))
        if ratio is not None and ratio < SMALLEST_RATIO:
            return "same-focal-length"
        if ratio is not None and ratio > LARGEST_RATIO:
            return "ratio-too-large"
        apart = _metres(self.shots[first].capture.gps, self.shots[second].capture.gps)
        return "too-far-apart" if apart > FARTHEST else None

    def _gap(self, first: int, second: int) -> float:
        """Seconds between two shots of one camera."""
        return abs(self.moments[first] - self.moments[second]) / 1e6

    def _local_gap(self, first: int, second: int) -> float | None:
        """Seconds between two local times; None where one is unknown."""
        one, other = self.shots[first].local, self.shots[second].local
        return None if one is None or other is None else abs((one - other).total_seconds())

    def _near(self, first: int, second: int) -> bool:
        return self._gap(first, second) <= self.max_gap

    def _worth(self, first: int, second: int) -> int:
        """How good a pair two shots near in time are, 0 for no pair: microseconds.

        It is what is left of `max_gap`; halved where the wide is an ultra-wide or zoomed in
        digitally, since the main lens shows the same better; and halved where the tele is the
        wide's own lens with digital zoom, since that adds little detail.
        """
        if frozenset((first, second)) in self.refused or self._obstacle(first, second):
            return 0
        wide, tele = self._ordered(first, second)
        ratio = self._ratio(wide, tele)
        if ratio is None:
            return 0
        gap = self._gap(first, second)
        left = self.max_gap - gap
        # Two trifles break ties: evenly spaced pairs before a short and a long one,
        # and of two teles at one moment the nearer one.
        left -= 1e-3 * gap * gap / max(self.max_gap, gap, 1e-6) + 1e-4 * ratio
        short, long = self.shots[wide].capture, self.shots[tele].capture
        if (short.focal_length_35mm or ULTRA_WIDE) < ULTRA_WIDE or (short.digital_zoom or 1) > 1.1:
            left /= 2
        if short.focal_length is not None and short.focal_length == long.focal_length:
            left /= 2
        return max(1, round(left * 1e6))

    def _around(self, index: int) -> list[int]:
        """The shots of the same camera near in time, the nearest first."""
        row, at = self.place[index]
        low, high = max(at - _NEIGHBOURS, 0), at + _NEIGHBOURS + 1
        others = [i for i in row[low:high] if i != index and self._near(i, index)]
        return sorted(others, key=lambda other: (self._gap(other, index), self._name(other)))

    def _in_doubt(self, first: int, second: int) -> bool:
        """Whether time alone does not settle that these two are a pair."""
        if self.same_scene is None:
            return False
        return self._gap(first, second) > SURE_GAP or any(
            not self._taken(other)
            and other not in (first, second)
            and self._ratio(index, other) is not None
            and self._obstacle(index, other) is None
            and self._is_whole(other)
            for index in (first, second)
            for other in self._around(index)
        )

    def _shows_same(self, wide: int, tele: int) -> bool:
        """Ask the content. A file that proves broken is left over; a refusal is remembered."""
        assert self.same_scene is not None
        self.progress("comparing", self.looks, 0)
        self.looks += 1
        try:
            if self.same_scene(self.shots[wide].path, self.shots[tele].path) >= SAME_SCENE:
                return True
        except AlignmentError:
            pass
        except InputError as error:
            for index in (wide, tele):
                if self.shots[index].path == error.path:
                    self._leave_unreadable(index, error)
        self.refused.add(frozenset((wide, tele)))
        if not self._taken(wide) and not self._taken(tele):
            self.different.setdefault(wide, tele)
            self.different.setdefault(tele, wide)
        return False

    def _is_whole(self, index: int) -> bool:
        """Whether a photo that others stand back for can be read; if not, it is left over.

        A header may be sound and the pixels cut off. True where contents are not to be looked at.
        """
        shot = self.shots[index]
        if self.same_scene is None or shot.whole or shot.path in self.whole:
            return True
        self.progress("comparing", self.looks, 0)
        self.looks += 1
        try:
            read_photo(shot.path)
        except InputError as error:
            self._leave_unreadable(index, error)
            return False
        self.whole.add(shot.path)
        return True

    # --- bookkeeping

    def _name(self, index: int) -> str:
        return str(self.shots[index].name)

    def _taken(self, index: int) -> bool:
        return index in self.partner or index in self.leftovers

    def _free(self) -> list[int]:
        return [index for index in range(len(self.shots)) if not self._taken(index)]

    def _join(self, wide: int, tele: int, seconds_apart: float | None, evidence: str) -> None:
        self.partner[wide], self.partner[tele] = tele, wide
        paths = self.shots[wide].path, self.shots[tele].path
        self.pairs.append(FoundPair(*paths, self._ratio(wide, tele), seconds_apart, evidence))

    def _leave(self, index: int, reason: str, text: str) -> None:
        shot = self.shots[index]
        self.leftovers[index] = Leftover(shot.path, reason, f"{shot.name} {text}")

    def _leave_unreadable(self, index: int, error: InputError) -> None:
        shot = self.shots[index]
        self.leftovers[index] = Leftover(shot.path, "unreadable", renamed(error, shot.name))

    # --- why a photo is left over

    def _reason(self, index: int) -> tuple[str, str]:
        """The code and the end of the sentence; of several hurdles the last one."""
        shot = self.shots[index]
        if index in self.different:
            looked_at = self._name(self.different[index])
            return "scene-differs", f"does not show the same scene as {looked_at}"
        lacks = ["capture time"] * (shot.local is None) + ["focal length"] * (not shot.framed)
        if lacks:
            text = (
                f"has no {' and no '.join(lacks)} in its EXIF, and nothing else tells its partner"
            )
            return "no-exif", text
        hurdles: dict[str, int] = {}
        for other in self._around(index):
            known = self._ratio(index, other) is not None
            hurdle = (self._obstacle(index, other) or "partner-taken") if known else "no-exif"
            hurdles.setdefault(hurdle, other)
        for hurdle, text in _HURDLES.items():
            if hurdle in hurdles:
                return hurdle, text.format(**self._facts(index, hurdles[hurdle]))
        row, at = self.place[index]
        beside = row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
        if not beside:
            return "no-partner-in-time", "has no partner: it is the only photo of its camera"
        nearest = min(beside, key=lambda other: self._gap(index, other))
        away, limit = _span(self._gap(index, nearest)), _span(self.max_gap)
        return "no-partner-in-time", (
            f"has no partner: the nearest photo of its camera, {self._name(nearest)}, is {away} "
            f"away, and a pair is at most {limit} apart"
        )

    def _facts(self, index: int, other: int) -> dict[str, object]:
        """What the sentences of _HURDLES are filled with."""
        third = self.partner.get(other)
        broken = other in self.leftovers and self.leftovers[other].reason == "unreadable"
        fate = "another photo" if third is None else self._name(third)
        return {
            "other": self._name(other),
            "fate": "cannot be read" if broken else f"is paired with {fate}",
            "ratio": self._ratio(*self._ordered(index, other)),
            "metres": _metres(self.shots[index].capture.gps, self.shots[other].capture.gps),
        }


_HURDLES = {  # the last hurdle first
    "partner-taken": "has no partner: {other} {fate}",
    "too-far-apart": "has no partner: {other} was taken {metres:,.0f} m away",
    "ratio-too-large": (
        f"has no partner: {{other}} differs by a zoom of {{ratio:.1f}}, and at most "
        f"{LARGEST_RATIO:.0f} is of use"
    ),
    "same-focal-length": (
        f"has no partner: {{other}} differs by a zoom of {{ratio:.2f}} only, and a pair needs "
        f"{SMALLEST_RATIO}"
    ),
    "no-exif": "has no partner: its EXIF does not tell the zoom between it and {other}",
}


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:g} s" if seconds < 10 else f"{seconds:.0f} s"


def _metres(first: tuple[float, float] | None, second: tuple[float, float] | None) -> float:
    """The distance of two places (degrees) on the globe; 0 where one is unknown."""
    if first is None or second is None:
        return 0.0
    (south, west), (north, east) = ((math.radians(d) for d in place) for place in (first, second))
    chord = (
        math.sin((north - south) / 2) ** 2
        + math.cos(south) * math.cos(north) * math.sin((east - west) / 2) ** 2
    )
    return 2 * 6_371_000 * math.asin(min(1.0, math.sqrt(chord)))
