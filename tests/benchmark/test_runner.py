"""What a run of the bench finds: right scores, whatever happens on the way."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualsr_cli import jobs
from dualsr_cli.benchmark import (
    Bench,
    Benched,
    Resources,
    Sample,
    find_cases,
    load,
    plan_bench,
    run_bench,
    runner,
    score,
)
from dualsr_cli.benchmark.methods import Alignment, align_sample
from dualsr_cli.errors import UsageError

from .miniatures import KEDUSR_BOXES, MINIATURES, half, save

Kept = dict[str, bytes]
FILTERS = ("bicubic", "lanczos")


@pytest.fixture(scope="module")
def dusr_real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dusr-real")
    MINIATURES["dusr-real"](root)
    return root


@pytest.fixture
def own(dusr_real: Path, tmp_path: Path) -> Path:
    """The same data set, to be damaged."""
    return Path(shutil.copytree(dusr_real, tmp_path / "own"))


def planned(dataset: str, root: Path, methods: tuple[str, ...] = FILTERS, **asked: Any) -> Bench:
    return plan_bench(dataset, root, methods=methods, resources=Resources("cpu"), **asked)


def benched(
    bench: Bench, folder: Path, report: Callable[[jobs.Result], None] = lambda _: None, **asked: Any
) -> Benched:
    """In this process."""
    options = jobs.RunOptions(**asked)
    return run_bench(bench, folder, jobs.InlineEngine, options=options, report=report)


def files(folder: Path) -> Kept:
    """All that lies there but the manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".dualsr" not in path.parts
    }


def test_a_tables_numbers_are_those_of_the_formulas(dusr_real: Path, tmp_path: Path) -> None:
    """KeDuSR's protocol: RGB, neither rounded nor shaved; corner is all but the centre's box."""
    bench = planned("dusr-real", dusr_real, metrics=("psnr", "ssim"))
    (table,) = benched(bench, tmp_path).tables
    errors: dict[str, list[float]] = {"full": [], "center": [], "corner": []}
    for name, (_, (top, bottom, left, right)) in KEDUSR_BOXES.items():
        folder = dusr_real / "DuSR-Real" / "test"
        truth = np.asarray(Image.open(folder / "HR" / name)).astype(float)
        with Image.open(folder / "LR" / name) as image:
            size = image.width * 2, image.height * 2
            result = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).astype(float)
        inside = np.zeros(truth.shape[:2], bool)
        inside[top:bottom, left:right] = True
        squares = (result - truth) ** 2
        for region, part in (
            ("full", squares),
            ("center", squares[inside]),
            ("corner", squares[~inside]),
        ):
            errors[region].append(20 * math.log10(255) - 10 * math.log10(part.mean()))
    bicubic, lanczos = table.measured
    assert (bicubic.method, lanczos.method) == FILTERS
    for region, values in errors.items():
        assert bicubic.scores[region]["psnr"] == pytest.approx(sum(values) / 2, abs=1e-9)
        assert bicubic.counts[region] == {"psnr": 2, "ssim": 2}
    assert table.protocol == "kedusr"
    assert (bicubic.missing, table.expected) == (53, 55), "the paper scored 55"
    assert {entry.paper for entry in table.printed} == {"dm3net", "sddusr"}
    assert [row.case for row in table.rows][::2] == sorted(Path(name).stem for name in KEDUSR_BOXES)
    assert all(row.seconds is not None and row.device == "cpu" for row in table.rows)


@pytest.mark.parametrize(
    ("dataset", "whole"),
    [
        ("realmcvsr-real", False),
        ("camerafusion", False),
        ("drealsr", False),
        ("cufed5", True),
        ("vimeo90k", True),
        ("kitti", True),
        ("light-field", True),
        ("city100", False),
    ],
)
def test_other_layouts(tmp_path: Path, dataset: str, whole: bool) -> None:
    """whole: the reference shows all of the photo, or another one: there is no corner."""
    MINIATURES[dataset](tmp_path)
    made = benched(planned(dataset, tmp_path, ("bicubic",), metrics=("psnr",)), tmp_path / "out")
    (table,) = made.tables
    rows = {row.case: row for row in table.rows}
    for case in find_cases(dataset, tmp_path).cases:
        sample = load(case)
        assert sample.hr is not None
        box = None if whole else sample.truth_box
        size = (sample.hr.width, sample.hr.height)
        eight = Image.fromarray(sample.lr.pixels).resize(size, Image.Resampling.BICUBIC)
        expected = score(np.asarray(eight), sample.hr.pixels, box, table.protocol, metrics=["psnr"])
        assert rows[case.name].scores == expected
    regions = {region for region, _ in table.columns}
    assert regions == ({"full"} if whole else {"full", "center", "corner"})


def test_killed_and_started_again(dusr_real: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"protocols": ("kedusr", "selfdzsr"), "save_images": True}
    bench = planned("dusr-real", dusr_real, **asked)
    whole = benched(bench, tmp_path / "whole")
    assert (whole.tally.done, len(whole.rows)) == (2 * 2 * 3, 2 * 2 * 2)
    assert len(files(tmp_path / "whole")) == 2 * 2 * 3
    told: list[str] = []

    def stop(result: jobs.Result) -> None:
        told.append(result.state)
        if len(told) == 5:
            raise KeyboardInterrupt

    part = benched(bench, tmp_path / "part", stop)
    assert part.tally.interrupted and 4 <= len(files(tmp_path / "part")) < 12
    told.clear()
    again = benched(bench, tmp_path / "part", lambda result: told.append(result.state))
    assert told.count("unchanged") >= 4 and "done" in told
    assert files(tmp_path / "part") == files(tmp_path / "whole")
    scores = [(row.case, row.method, row.protocol, row.scores) for row in whole.rows]
    assert [(row.case, row.method, row.protocol, row.scores) for row in again.rows] == scores
    third = benched(bench, tmp_path / "part")
    assert third.tally.unchanged == 12
    assert third.rows == again.rows, "times too are what was measured"


def test_images_that_are_kept_score_the_same_as_results(dusr_real: Path, tmp_path: Path) -> None:
    bench = planned("dusr-real", dusr_real, ("bicubic",), save_images=True, protocols=("selfdzsr",))
    rows = benched(bench, tmp_path / "a").rows
    image = rows[0].image
    assert image is not None
    folder = (tmp_path / "a" / image).parent
    (folder / "0026_0066.png").unlink()
    peer = planned(
        "dusr-real", dusr_real, (), results=[(folder, "Peer")], protocols=("selfdzsr", "dcsr")
    )
    assert [method.name for method in peer.methods] == ["Peer"]
    assert [(lack.case, lack.code, lack.method) for lack in peer.missing] == [
        ("0026_0066", "no-result", "Peer")
    ]
    made = benched(peer, tmp_path / "b")
    assert made.rows[0].scores == rows[0].scores
    assert [row.protocol for row in made.rows] == ["selfdzsr", "dcsr"]
    assert made.rows[0].seconds is None
    assert [table.measured[0].missing for table in made.tables] == [54, 54]
    save(folder / "0010_0000.png", np.zeros((64, 96, 3), np.uint8))
    assert benched(peer, tmp_path / "b").rows[0].scores != rows[0].scores


def test_a_broken_case_costs_itself_alone(own: Path, tmp_path: Path) -> None:
    folder = own / "DuSR-Real" / "test"
    broken = folder / "HR" / "0010_0000.png"
    broken.write_bytes(broken.read_bytes()[:200])
    bench = planned("dusr-real", own, subset=["0010*", "0026_0066"])
    made = benched(bench, tmp_path / "out")
    assert (made.tally.done, made.tally.failed, made.tally.exit_code()) == (2, 2, 3)
    (table,) = made.tables
    assert [(entry.missing, table.expected) for entry in table.measured] == [(1, 2), (1, 2)]
    assert {(lack.case, lack.method, lack.protocol) for lack in table.missing} == {
        ("0010_0000", method, "kedusr") for method in FILTERS
    }
    assert all(str(broken) in lack.sentence for lack in table.missing)
    stopped = benched(bench, tmp_path / "stopped", keep_going=False)
    assert (stopped.tally.failed, stopped.tally.done, stopped.tables) == (1, 0, ())
    # Put right, it is scored; nothing of the broken file is remembered.
    good = np.asarray(Image.open(folder / "LR" / broken.name).resize((96, 64)))
    save(broken, good)
    again = benched(bench, tmp_path / "out")
    assert (again.tally.done, again.tally.unchanged, again.missing) == (2, 2, ())


def test_a_case_without_its_partner_is_missing(own: Path, tmp_path: Path) -> None:
    (own / "DuSR-Real/test/Ref_SIFT/0026_0066.png").unlink()
    bench = planned("dusr-real", own, subset=["0*"])
    assert [(lack.case, lack.code, lack.method) for lack in bench.missing] == [
        ("0026_0066", "input", "")
    ]
    (table,) = benched(bench, tmp_path / "out").tables
    assert [entry.missing for entry in table.measured] == [1, 1]


@pytest.mark.parametrize(
    ("lacking", "limit", "missing"),
    [("0010_0000", 1, ["0010_0000"]), ("0026_0066", 1, []), ("0026_0066", 2, ["0026_0066"])],
)
def test_a_limit_hides_no_missing_case_on_its_way(
    own: Path, lacking: str, limit: int, missing: list[str]
) -> None:
    (own / f"DuSR-Real/test/Ref_SIFT/{lacking}.png").unlink()
    bench = planned("dusr-real", own, limit=limit)
    assert {case.name for case in bench.cases} == {"0010_0000", "0026_0066"} - {lacking}
    assert [lack.case for lack in bench.missing] == missing
    assert bench.expected == {2: 1 + len(missing)}


def test_equal_images_are_infinitely_good_also_when_read_again(tmp_path: Path) -> None:
    flat = np.full((64, 96, 3), 99, np.uint8)
    for name, pixels in (("HR", flat), ("LR", half(flat)), ("Ref", flat[8:40, 8:72])):
        save(tmp_path / name / "a.png", pixels)
    bench = planned("triplets", tmp_path, ("bicubic",), metrics=("psnr",))
    for _ in range(2):
        (row,) = benched(bench, tmp_path / "out").rows
        assert row.scores == {"full": {"psnr": math.inf}}
        assert row.refused is None, "who needs no reference is not told of it"
    (text,) = files(tmp_path / "out").values()
    assert json.loads(text)["scores"] == {"full": {"psnr": None}}


def test_pairs_are_aligned_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def counting(sample: Sample, device: str) -> Alignment:
        counted.append(sample.case.name)
        return align_sample(sample, device)

    monkeypatch.setattr(runner, "align_sample", counting)
    MINIATURES["pairs"](tmp_path)
    bench = planned("pairs", tmp_path, (*FILTERS, "detail-transfer"), metrics=("psnr",), limit=1)
    rows = {row.method: row for row in benched(bench, tmp_path / "out").rows}
    assert counted == [bench.cases[0].name]
    center, plain = (rows[name].scores["center"] for name in ("detail-transfer", "bicubic"))
    assert center["psnr"] > plain["psnr"] + 1
    assert rows["bicubic"].scores.keys() == {"full", "center", "corner"}


def test_what_cannot_be_asked_for(dusr_real: Path, tmp_path: Path) -> None:
    for asked, sentence in (
        ({"protocols": ["psnr"]}, "no protocol 'psnr': choose kedusr, "),
        ({"metrics": ["fid"]}, "no metric 'fid': choose psnr, ssim, "),
        ({"methods": ("nearest",)}, "no method 'nearest'"),
        ({"subset": ["x*"]}, "no case that fits 'x"),
        ({"results": [(tmp_path, "bicubic")]}, "two methods are called bicubic"),
        ({"part": "x"}, "no part 'x'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            planned("dusr-real", dusr_real, **{"methods": FILTERS, **asked})  # type: ignore[arg-type]
    MINIATURES["camerafusion"](tmp_path)
    with pytest.raises(UsageError, match="part 8k has no truth"):
        planned("camerafusion", tmp_path, part="8k")
