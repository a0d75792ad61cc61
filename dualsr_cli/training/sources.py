"""What a person names to train on -> a source for each stage of a recipe, and held-out samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from dualsr_cli.alignment import align, same_scene
from dualsr_cli.benchmark import LAYOUTS, dataset_root, find_cases, load
from dualsr_cli.benchmark import Case as DatasetCase
from dualsr_cli.errors import DualsrError, InputError, UsageError
from dualsr_cli.files import atomic_writer
from dualsr_cli.networks import Inputs, build
from dualsr_cli.photos import Photo, find_pairs, read_pairs_table, read_photo
from dualsr_cli.training._batches import Source
from dualsr_cli.training._colours import Recoloured
from dualsr_cli.training._mixture import Mixture
from dualsr_cli.training._simulator_photographs import bytes_of
from dualsr_cli.training.flow_data import SyntheticFlow
from dualsr_cli.training.own_pairs import half_size, laid, real, telephoto
from dualsr_cli.training.patches import Triplet, cut
from dualsr_cli.training.recipe import Recipe, Stage
from dualsr_cli.training.simulator import (
    Photographs,
    SimulatorSettings,
    load_photographs,
    simulated,
)
from dualsr_cli.training.validation import held_out_part

Progress = Callable[[str, int, int], None]
"""progress(stage, done, total)."""

KINDS = ("pairs", "triplets", "photos", "phones")
"""What a folder may hold: a person's own wide and tele photos, triplets as LR/, Ref/ and HR/, sharp
photographs, of which pairs are simulated, or phones' photos, as sharp as wide photos are."""

_SIMULATED: Mapping[str, Mapping[str, Any]] = {"phones": {"taken": 0.5, "halved": 0.25}}
"""How the simulator's settings differ for a kind: a phone's photo is what a truth looks like."""

_EVERY = 10  # one in so many is held out, from _FEWEST on
_FEWEST = 5
_MOST_HELD = 16  # samples that validation looks at


@dataclass(frozen=True)
class Wanted:
    """Where samples come from.

    data: a folder, or a pairs table; None: where the data set is known to lie. dataset, part: of
    the bench's layouts. kind: of KINDS, "" for whatever it looks like. validate: what to measure
    on, of the same kind; None: some of `data` is held out. share: how often samples come from here
    where they come from several places.
    """

    data: Path | None
    dataset: str = ""
    part: str = ""
    kind: str = ""
    validate: Path | None = None
    share: float = 1.0

    @property
    def name(self) -> str:
        """Of the data set, or of the folder."""
        return self.dataset or (self.data or Path()).resolve().stem


@dataclass(frozen=True, eq=False)
class TrainingData:
    """kind: of KINDS, a data set's name, or "mixture". told: what it is, for people; doubt: what it
    may be in place of that, where nobody said. count: pairs, triplets or photographs to train on.
    left_out: a sentence for each that is of no use. held_out: batches of one with a truth, none
    where there is too little to hold any out; origins: the name of what each of them is from, of a
    mixture.
    """

    kind: str
    told: str
    doubt: str
    count: int
    left_out: tuple[str, ...]
    source: Callable[[Stage], Source]
    held_out: tuple[Inputs, ...]
    origins: tuple[str, ...] = ()


def open_data(
    recipe: Recipe,
    wanted: Sequence[Wanted],
    cache: Path,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> TrainingData:
    """Sources for all of a recipe's stages, of a data set's training part or a person's own files.

    cache: a folder that decoded and aligned pixels are written to and mapped from: all processes
    share them, and a second start has them at once. Raises UsageError for data that the recipe
    cannot be trained on, InputError where nothing in it is of use, OutputError.
    """
    parts = [_opened(recipe, each, cache, seed, progress) for each in wanted]
    data = parts[0] if len(parts) == 1 else _mixed(wanted, parts, seed)
    return replace(data, source=partial(_recoloured, data.source, seed))


def _recoloured(source: Callable[[Stage], Source], seed: int, stage: Stage) -> Source:
    share = stage.data.recoloured
    return Recoloured(source(stage), share, seed) if share else source(stage)


def _mixed(wanted: Sequence[Wanted], parts: Sequence[TrainingData], seed: int) -> TrainingData:
    shares = [each.share for each in wanted]
    return TrainingData(
        "mixture",
        "; ".join(f"{each.name}: {part.told}" for each, part in zip(wanted, parts, strict=True)),
        " ".join(part.doubt for part in parts if part.doubt),
        sum(part.count for part in parts),
        tuple(chain.from_iterable(part.left_out for part in parts)),
        lambda stage: Mixture([part.source(stage) for part in parts], shares, seed),
        tuple(chain.from_iterable(part.held_out for part in parts)),
        tuple(each.name for each, part in zip(wanted, parts, strict=True) for _ in part.held_out),
    )


def _opened(
    recipe: Recipe, wanted: Wanted, cache: Path, seed: int, progress: Progress
) -> TrainingData:
    """What is in one place."""
    flow = all(stage.data.kind == "flow" for stage in recipe.stages)
    scale = 1 if flow else build(recipe.architecture, recipe.settings).scale
    if wanted.dataset:
        root = dataset_root(wanted.dataset, wanted.data)
        opened = _Cases(wanted.dataset, wanted.part, root, scale)
        kind, doubt = wanted.dataset, ""
        if scenes := _scenes(recipe, wanted, root, scale, cache, seed, progress):
            return scenes
    else:
        root = _named(wanted)
        kind, doubt = (wanted.kind, "") if wanted.kind else _looked_at(root)
        kind = "photos" if flow else kind
        if kind in ("photos", "phones"):
            return _photographs(recipe, wanted, root, scale, cache, seed, kind, doubt)
        opened = _Cases("", "", root, scale) if kind == "pairs" else _Cases(kind, "", root, scale)

    folder = cache / "cases"
    items = list(opened.items(root, progress))
    if wanted.validate is not None:
        held = list(opened.items(wanted.validate, progress))
    else:
        held = [items[index] for index in _held(len(items))]
        items = [item for item in items if item not in held]
    left_out = list(opened.left_out)
    shelves: dict[str, Shelf] = {}
    for stage in recipe.stages:
        shelf = _shelf(items, _way(stage, kind), folder, scale, left_out, progress)
        shelves[stage.name] = _fitting(shelf, stage, seed, left_out)
        if not shelves[stage.name].names:
            reason = f": {left_out[0]}" if left_out else ""
            raise InputError(root, f"holds nothing that {recipe.name} can be trained on{reason}")
    judged = _judged(recipe)
    samples: list[Inputs] = []
    if judged is not None:
        way = _way(judged, kind)
        parts = _shelf(held[:_MOST_HELD], way, folder, scale, left_out, progress)
        samples = [held_out_part(case) for case in parts if case.hr is not None]
    count = len(shelves[recipe.stages[-1].name].names)
    what = "pairs of wide and tele photos" if kind == "pairs" else f"cases of {kind}"
    return TrainingData(
        kind,
        f"{count} {what}, {len(samples)} held out",
        doubt,
        count,
        tuple(dict.fromkeys(left_out)),
        lambda stage: cut(shelves[stage.name], stage.data, seed),
        tuple(samples),
    )


@dataclass(frozen=True)
class _Item:
    """Something that a triplet is made of. files: all that it depends on."""

    name: str
    files: tuple[Path, ...]
    make: Callable[[str, int], Triplet]  # of a way, see `_WAYS`, and a scale


@dataclass(eq=False)
class _Cases:
    """Where items are found: a layout of the bench, or without one a person's own pairs."""

    dataset: str
    part: str
    root: Path
    scale: int

    def __post_init__(self) -> None:
        self.left_out: list[str] = []

    def items(self, root: Path, progress: Progress) -> Iterator[_Item]:
        if not self.dataset:
            yield from self._own(root, progress)
            return
        layout = LAYOUTS[self.dataset]
        split = "train" if "train" in layout.splits else layout.splits[0]
        scale = self.scale if len(layout.scales) > 1 else None
        found = find_cases(self.dataset, root, split=split, part=self.part or None, scale=scale)
        self.left_out += [str(problem.error) for problem in found.problems]
        for case in found.cases:
            yield _Item(case.name, case.files, partial(_of_case, case))

    def scenes(self, root: Path) -> Iterator[_Item]:
        """Those of all parts, or of the one that is named, that two lenses took, but no third."""
        layout = LAYOUTS[self.dataset]
        split = "train" if "train" in layout.splits else layout.splits[0]
        scale = self.scale if self.scale in layout.scales else None
        for part in [self.part] if self.part else layout.parts:
            try:
                found = find_cases(self.dataset, root, split=split, part=part, scale=scale)
            except InputError:  # another camera's photos
                continue
            cases = [case for case in found.cases if _lacks_reference(case)]
            if not cases:
                return
            self.left_out += [str(problem.error) for problem in found.problems]
            for case in cases:
                name = f"{part}/{case.name}" if part else case.name
                yield _Item(name, case.files, partial(_of_case, case))

    def _own(self, root: Path, progress: Progress) -> Iterator[_Item]:
        if root.is_file():
            pairs = read_pairs_table(root)
        else:
            pairing = find_pairs(root, same_scene=same_scene, progress=progress)
            pairs = pairing.pairs
            self.left_out += [each.sentence for each in pairing.leftovers]
        if not pairs:
            raise InputError(
                root,
                "holds no wide and tele photo of one scene: see `dualsr pairs`, or train on sharp "
                "photographs with --kind photos",
            )
        for pair in pairs:
            make = partial(_of_pair, pair.wide, pair.tele)
            yield _Item(pair.wide.name, (pair.wide, pair.tele), make)


def _named(wanted: Wanted) -> Path:
    if wanted.data is None:
        raise UsageError("it is not said what to train on: give --data DIR")
    for path in (wanted.data, *([] if wanted.validate is None else [wanted.validate])):
        if not path.exists():
            raise InputError(path, "does not exist: check the path")
        if path.is_file() and path.suffix.lower() != ".csv":
            raise InputError(path, "is one file: name a folder, or a pairs table (CSV)")
    return wanted.data


def _looked_at(root: Path) -> tuple[str, str]:
    """What a folder holds, and a sentence where that may be wrong."""
    if root.is_file():
        return "pairs", ""
    if all((root / name).is_dir() for name in ("LR", "Ref", "HR")):
        return "triplets", ""
    # By names and EXIF alone: pictures of thousands of photographs take hours to compare.
    pairing = find_pairs(root)
    photos = 2 * len(pairing.pairs) + len(pairing.leftovers)
    if not photos:
        raise InputError(
            root, "holds no photo: name a folder of photos, or a data set by --dataset"
        )
    if 4 * len(pairing.pairs) >= photos:
        return "pairs", ""
    return "photos", (
        f"{2 * len(pairing.pairs)} of the {photos} photos in {root} are in pairs by their EXIF or "
        "names, so all are taken for sharp photographs: --kind pairs trains on pairs"
    )


def _way(stage: Stage, kind: str) -> str:
    """How a stage has a person's own pair prepared."""
    if stage.data.kind == "flow":
        raise UsageError(f"the stage {stage.name} learns flow from photographs: give --kind photos")
    if kind != "pairs":
        # Networks that search for matches need no reference that lies on the photo.
        searched = stage.data.offset[1] > 0 or stage.data.reference == "inside"
        return "searched" if searched and stage.data.reference != "laid" else "case"
    if stage.data.kind == "pairs":
        return "real"
    return "telephoto" if stage.data.reference == "inside" else "half"


def _of_pair(wide_file: Path, tele_file: Path, way: str, scale: int) -> Triplet:
    wide, tele = read_photo(wide_file), read_photo(tele_file)
    if way == "half":
        if scale != 2:
            raise ValueError(
                f"halved photos teach a scale of 2, not {scale}: train on sharp photographs"
            )
        try:
            return half_size(wide, tele)
        except ValueError:  # the one is the other
            return half_size(tele, wide)
    aligned = align(wide, tele)
    return real(aligned, scale) if way == "real" else telephoto(aligned, scale)


def _of_case(case: DatasetCase, way: str, scale: int) -> Triplet:
    """A data set's case; a reference that lies freely is aligned as in `dualsr upscale`.

    But not where it is another photo that is only to be searched for matches.
    """
    if case.scale != scale:
        raise ValueError(f"its scale is {case.scale}, and the network's is {scale}")
    sample = load(case)
    if way == "scene" and sample.hr is not None:  # as a reference that shows all of it
        lr = bytes_of(sample.lr)
        return Triplet(lr, bytes_of(sample.hr), (0, 0, *lr.shape[:2]))
    hr = None if sample.hr is None else bytes_of(sample.hr)
    if way == "searched" and sample.center is not None:
        center = bytes_of(sample.center)
        box = (0, 0, *center.shape[:2])
        return Triplet(bytes_of(sample.lr), bytes_of(sample.refs[0]), box, hr, center=center)
    if sample.registration == "free" or sample.box is None:
        aligned = align(_bytes(sample.lr), _bytes(sample.refs[0]))
        if aligned.swapped:
            raise ValueError("its reference shows more of the scene than it does")
        box = aligned.footprint_box()
        ref, confidence = laid(aligned, box, scale)
        return Triplet(bytes_of(sample.lr), ref, box, hr, confidence)
    refs = np.concatenate([bytes_of(ref) for ref in sample.refs], axis=2)
    return Triplet(bytes_of(sample.lr), refs, sample.box, hr)


def _lacks_reference(case: DatasetCase) -> bool:
    """Whether wide photo and truth are two photos, and the reference a part of the truth."""
    return case.truth not in (None, case.wide) and set(case.refs) <= {case.truth}


def _bytes(photo: Photo) -> Photo:
    return replace(photo, pixels=bytes_of(photo), header=replace(photo.header, bit_depth=8))


# --- triplets on the disk


@dataclass(frozen=True)
class Shelf(Sequence[Triplet]):
    """Triplets whose pixels are mapped from files: another process is handed their paths only."""

    folders: tuple[Path, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Triplet:  # type: ignore[override]
        return _mapped(self.folders[index])


def _shelf(
    items: Sequence[_Item],
    way: str,
    cache: Path,
    scale: int,
    left_out: list[str],
    progress: Progress,
) -> Shelf:
    folders, names = [], []
    for number, item in enumerate(items):
        progress("preparing", number, len(items))
        try:
            folders.append(_stored(item, way, scale, cache))
            names.append(item.name)
        except (DualsrError, ValueError) as error:
            sentence = str(error)
            left_out.append(sentence if item.name in sentence else f"{item.name}: {sentence}")
    if items:
        progress("preparing", len(items), len(items))
    return Shelf(tuple(folders), tuple(names))


def _stored(item: _Item, way: str, scale: int, cache: Path) -> Path:
    """The folder that holds an item's triplet; it is made where it is not there."""
    stamps = [(str(path.resolve()), *_stamp(path)) for path in item.files]
    folder = cache / hashlib.sha256(repr((way, scale, stamps)).encode()).hexdigest()[:20]
    try:
        _mapped(folder)
        return folder
    except (OSError, ValueError):  # not there yet, or not what was written
        made = item.make(way, scale)
    parts = {name: getattr(made, name) for name in ("lr", "ref", "hr", "confidence", "center")}
    for name, pixels in (parts | {"box": np.array(made.box)}).items():  # the box says that all is
        if pixels is not None:
            with atomic_writer(folder / f"{name}.npy") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(pixels), allow_pickle=False)
    return folder


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(path, "does not exist: check the path") from error
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _mapped(folder: Path) -> Triplet:
    top, left, bottom, right = np.load(folder / "box.npy", allow_pickle=False).tolist()
    # Copied on write: PyTorch warns of memory that may not be written to.
    lr, ref = (
        np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in ("lr", "ref")
    )
    hr, confidence, center = (
        np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        if (folder / f"{name}.npy").exists()
        else None
        for name in ("hr", "confidence", "center")
    )
    return Triplet(lr, ref, (top, left, bottom, right), hr, confidence, center)


def _fitting(shelf: Shelf, stage: Stage, seed: int, left_out: list[str]) -> Shelf:
    """Those of which a stage's patches can be cut."""
    fitting = []
    for index, name in enumerate(shelf.names):
        try:
            cut([shelf[index]], stage.data, seed).sample(0, 0)
            fitting.append(index)
        except ValueError as error:
            left_out.append(f"{name}: {error}; smaller ones may, see --patch")
    return Shelf(
        tuple(shelf.folders[index] for index in fitting),
        tuple(shelf.names[index] for index in fitting),
    )


# --- photographs


def _photographs(
    recipe: Recipe,
    wanted: Wanted,
    root: Path,
    scale: int,
    cache: Path,
    seed: int,
    kind: str,
    doubt: str,
) -> TrainingData:
    """Pairs, or views with their flow, are made of photographs."""
    for stage in recipe.stages:
        if stage.data.kind == "pairs":
            raise UsageError(
                f"the stage {stage.name} trains on real pairs: name a folder of wide and tele "
                "photos, or give --kind pairs"
            )
    folder, side = cache / "photographs", _side(recipe, scale)
    found = load_photographs(root, folder, side)
    held = None
    if _judged(recipe) is not None and wanted.validate is not None:
        held = load_photographs(wanted.validate, folder, side)
    return _taken_again(recipe, found, held, scale, seed, kind, doubt)


def _scenes(
    recipe: Recipe,
    wanted: Wanted,
    root: Path,
    scale: int,
    cache: Path,
    seed: int,
    progress: Progress,
) -> TrainingData | None:
    """References are made of the truth of a data set that has wide photos, but no references.

    None for other data sets and for recipes whose references do not lie "around".
    """
    if any(stage.data.reference != "around" for stage in recipe.stages):
        return None
    opened = _Cases(wanted.dataset, wanted.part, root, scale)
    side = _side(recipe, scale)

    def photographs(folder: Path) -> Photographs | None:
        left_out = opened.left_out
        items = list(opened.scenes(folder))
        shelf = _shelf(items, "scene", cache / "cases", scale, left_out, progress)
        large = []
        for index, name in enumerate(shelf.names):
            height, width = shelf[index].ref.shape[:2]
            if min(height, width) >= side:
                large.append(index)
            else:
                left_out.append(f"{name} has {width} x {height} pixels: {side} a side are needed")
        found = Photographs(
            tuple((folder / "ref.npy",) for folder in shelf.folders),
            shelf.names,
            tuple(left_out),
            tuple(folder / "lr.npy" for folder in shelf.folders),
        )
        return found.only(large) if large else None

    found = photographs(root)
    held = None if wanted.validate is None else photographs(wanted.validate)
    if found is None:
        return None
    return _taken_again(recipe, found, held, scale, seed, wanted.dataset, "")


def _taken_again(
    recipe: Recipe,
    found: Photographs,
    held: Photographs | None,
    scale: int,
    seed: int,
    kind: str,
    doubt: str,
) -> TrainingData:
    """What the simulator makes of photographs. held: to measure on, if they are not of `found`."""
    judged = _judged(recipe)
    if held is None and judged is not None:
        chosen = _held(len(found))
        held = found.only(chosen)
        found = found.only([n for n in range(len(found)) if n not in chosen])
    settings = SimulatorSettings(scale=max(scale, 2), **_SIMULATED.get(kind, {}))

    def source(stage: Stage) -> Source:
        if stage.data.kind == "flow":
            size = stage.data.patch[0], stage.data.patch[1]
            return SyntheticFlow(found, size, stage.data.reach, seed)
        return simulated(found, stage.data, settings, seed)

    samples: tuple[Inputs, ...] = ()
    if judged is not None and held:
        data = judged.data
        if data.reference not in ("inside", "around"):  # as at inference
            data = replace(data, reference="laid", offset=(0, 0))
        simulator = simulated(held, data, settings, seed, _MOST_HELD)
        samples = tuple(simulator.sample(index, 0) for index in range(_MOST_HELD))
    what = "sharp photographs" if judged is None else "sharp photographs to simulate pairs of"
    if found.wides:
        what = f"scenes of {kind} to simulate references of"
    told = f"{len(found)} {what}, {len(held or ())} held out"
    return TrainingData(kind, told, doubt, len(found), found.left_out, source, samples)


def _side(recipe: Recipe, scale: int) -> int:
    """Pixels that the patches of all stages need on a photograph's short side."""
    sides = []
    for stage in recipe.stages:
        patch = (stage.data.patch[0], stage.data.patch[1])
        sides.append(max(patch))
        if stage.data.kind != "flow":
            reach = (0, stage.data.offset[1])
            sides.append(SimulatorSettings(scale, patch, layout="beside", offset=reach).side)
    return max(sides)


def _held(count: int) -> range:
    """The numbers of those that are held out."""
    return range(_FEWEST - 1, count, _EVERY)


def _judged(recipe: Recipe) -> Stage | None:
    """The last stage that has a truth to measure against; none of a part of a network."""
    stages = [stage for stage in recipe.stages if stage.data.kind == "triplets"]
    return stages[-1] if stages and not recipe.part else None
