"""The data sets' layouts: found and loaded as published, and what is said of a faulty one."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from dualsr_cli.benchmark.layouts import (
    LAYOUTS,
    Case,
    Found,
    Sample,
    dataset_root,
    find_cases,
    load,
)
from dualsr_cli.errors import DualsrError, InputError, UsageError

sys.path.append(str(Path(__file__).parent))

from miniatures import MINIATURES, REPOSITORY, half, picture, save

Miniature = Callable[[str], Path]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """The root of a data set's miniature, made once. Not to be changed."""
    made: dict[str, Path] = {}

    def root(dataset: str) -> Path:
        if dataset not in made:
            made[dataset] = tmp_path_factory.mktemp(dataset)
            MINIATURES[dataset](made[dataset])
        return made[dataset]

    return root


@pytest.fixture
def own(tmp_path: Path, miniature: Miniature) -> Miniature:
    """A copy of a data set's miniature, to be damaged."""

    def root(dataset: str) -> Path:
        return Path(shutil.copytree(miniature(dataset), tmp_path / dataset))

    return root


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def names(found: Found) -> list[str]:
    return [case.name for case in found.cases]


def only(found: Found, name: str) -> Sample:
    return load(next(case for case in found.cases if case.name == name))


def fits(sample: Sample) -> None:
    """The sizes of a sample agree, and its inputs are what a network takes."""
    scale, lr = sample.case.scale, sample.lr
    if sample.hr is not None:
        assert (sample.hr.height, sample.hr.width) == (scale * lr.height, scale * lr.width)
    if sample.registration == "free" and sample.center is None:
        with pytest.raises(ValueError, match="aligned"):
            sample.inputs()
        return
    inputs = sample.inputs()
    assert inputs.lr.shape == (1, 3, lr.height, lr.width)
    assert inputs.lr.dtype == torch.float32
    assert float(inputs.lr.min()) >= 0 and float(inputs.lr.max()) <= 1
    assert inputs.ref.shape[2:] == torch.Size(scale * side for side in inputs.lr_center().shape[2:])
    assert len(inputs.more_refs) == len(sample.refs) - 1
    assert (inputs.hr is None) == (sample.hr is None)


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_each_part_of_each_data_set_is_found_and_loaded(dataset: str, miniature: Miniature) -> None:
    layout = LAYOUTS[dataset]
    for part in layout.parts:
        found = find_cases(dataset, miniature(dataset), part=part)
        assert found.cases and not found.problems
        assert len(set(names(found))) == len(found.cases)
        for case in found.cases:
            assert all(path.is_file() for path in case.files)
            assert case.scale == layout.scales[0]
            assert pickle.loads(pickle.dumps(case)) == case  # it goes to other processes
        fits(load(found.cases[0]))


@pytest.mark.parametrize("dataset", ["dusr-real", "realmcvsr-real", "camerafusion-real"])
def test_kedusrs_boxes_are_those_of_each_photo(dataset: str, miniature: Miniature) -> None:
    found = find_cases(dataset, miniature(dataset))
    assert names(found) == ["0010_0000", "0026_0066"]
    for name, box in (("0010_0000", (7, 14, 23, 38)), ("0026_0066", (11, 9, 35, 25))):
        sample = only(found, name)
        assert sample.box == box
        assert sample.registration == "aligned"
        inputs = sample.inputs()
        center = sample.case.wide.parent.parent / "LR_center" / f"{name}.png"
        shown = torch.from_numpy(pixels(center).astype(np.float32) / 255)
        assert torch.allclose(inputs.lr_center()[0].permute(1, 2, 0), shown, atol=1e-6)
        assert inputs.box.tolist() == [list(box)]
    assert (
        found.published == {"dusr-real": 55, "realmcvsr-real": 50, "camerafusion-real": 15}[dataset]
    )
    assert found.missing == found.published - 2


def test_kedusrs_data_set_may_lie_in_a_working_folder_of_its_repository(
    tmp_path: Path, miniature: Miniature
) -> None:
    root = miniature("dusr-real")
    shutil.copytree(root / "DuSR-Real", tmp_path / "dataset" / "DuSR-Real")
    shutil.copytree(root / "corrdinate", tmp_path / "corrdinate")
    for given in (tmp_path / "dataset", tmp_path / "dataset" / "DuSR-Real"):
        assert len(find_cases("dusr-real", given).cases) == 2


def test_kedusrs_training_references_cover_the_truth(miniature: Miniature) -> None:
    found = find_cases("dusr-real", miniature("dusr-real"), split="train")
    sample = only(found, "0026_0066")
    assert sample.box == (0, 0, 48, 32)
    assert sample.inputs().ref.shape == sample.inputs().hr.shape  # type: ignore[union-attr]


def test_camerafusion_halved_whole_and_cut(miniature: Miniature) -> None:
    root = miniature("camerafusion")
    halved = find_cases("camerafusion", root)
    assert names(halved) == ["IMG_8", "IMG_17"]
    sample = load(halved.cases[0])
    assert sample.box == (8, 12, 24, 36)
    assert (sample.registration, sample.hr is None) == ("framed", False)
    whole = load(find_cases("camerafusion", root, part="8k", split="val").cases[0])
    assert (whole.lr.width, whole.lr.height, whole.hr) == (96, 64, None)
    assert (whole.refs[0].width, whole.box) == (96, (16, 24, 48, 72))
    cut = find_cases("camerafusion", root, part="selfdzsr", split="train")
    assert cut.published == 112
    assert (pixels(cut.cases[0].files[-1])[16:48, 24:72] == load(cut.cases[0]).refs[0].pixels).all()


def test_a_tele_photo_of_another_size_has_to_be_aligned(own: Miniature) -> None:
    root = own("camerafusion")
    save(root / "CameraFusion/test/Ref/x2/IMG_8.jpg", picture(40, 40, 1))
    sample = load(find_cases("camerafusion", root).cases[0])
    assert sample.registration == "free"
    assert sample.box == (8, 12, 24, 36)


def test_drealsrs_reference_is_the_middle_of_the_truth(miniature: Miniature) -> None:
    root = miniature("drealsr")
    found = find_cases("drealsr", root)
    assert names(found) == ["DSC_1474_x4", "DSC_1480_x4"]
    sample = load(found.cases[0])
    assert sample.box == (12, 18, 20, 30)
    assert sample.hr is not None
    assert (sample.refs[0].pixels == sample.hr.pixels[48:80, 72:120]).all()
    assert len(sample.case.files) == 2


@pytest.mark.parametrize(
    "camera, name",
    [
        ("canon", "IMG_118_x4"),
        ("olympus", "P1100055_x4"),
        ("panasonic", "panasonic_100_x4"),
        ("sony", "sony_11_x4"),
    ],
)
def test_drealsrs_cameras_are_told_apart_by_names(
    camera: str, name: str, miniature: Miniature
) -> None:
    assert names(find_cases("drealsr", miniature("drealsr"), part=camera)) == [name]


def test_a_folder_for_each_camera_of_drealsr_holds_whatever_names(own: Miniature) -> None:
    root = own("drealsr")
    (root / "Nikon").rename(root / "Sony")
    assert names(find_cases("drealsr", root, part="sony")) == ["DSC_1474_x4", "DSC_1480_x4"]


def test_cufed5s_levels(miniature: Miniature) -> None:
    root = miniature("cufed5")
    for level in (1, 4):
        sample = only(find_cases("cufed5", root, part=f"L{level}"), "001")
        truth, ref = (pixels(root / "CUFED5" / f"001_{n}.png") for n in (0, level))
        assert sample.hr is not None and sample.center is not None
        assert (sample.hr.pixels == truth[:64, :92]).all()
        assert (sample.lr.pixels == half(truth[:64, :92], 4)).all()
        height, width = (side // 4 * 4 for side in ref.shape[:2])
        assert (sample.refs[0].pixels == ref[:height, :width]).all()
        assert (sample.center.pixels == half(ref[:height, :width], 4)).all()
    assert names(find_cases("cufed5", root, split="train")) == ["0", "1"]


def test_vimeos_frames(miniature: Miniature) -> None:
    root = miniature("vimeo90k")
    found = find_cases("vimeo90k", root, scale=8)
    assert names(found) == ["00001/0266", "00096/0936"]
    assert [path.name for path in found.cases[0].files] == ["im4.png", "im5.png"]
    sample = load(found.cases[0])
    assert (sample.lr.width, sample.lr.height, sample.box) == (12, 8, (0, 0, 8, 12))
    multi = find_cases("vimeo90k", root, part="multi")
    assert names(multi)[:5] == [f"00001/0266/im{frame}" for frame in range(2, 7)]
    inputs = load(multi.cases[0]).inputs()
    assert len(inputs.more_refs) == 1
    assert inputs.more_refs[0].shape == inputs.ref.shape
    train = find_cases("vimeo90k", root, split="train")
    assert [path.name for path in train.cases[1].files] == ["im3.png", "im2.png"]
    between = [find_cases("vimeo90k", root, part="between", split=s) for s in ("test", "train")]
    assert [[path.name for path in found.cases[1].files] for found in between] == [
        ["im4.png", "im3.png", "im5.png"],
        ["im3.png", "im2.png", "im4.png"],
    ]
    sample = load(between[0].cases[0])
    assert (sample.registration, sample.box, len(sample.refs)) == ("framed", (0, 0, 16, 24), 2)


def test_kittis_right_view_is_cut_out_of_its_middle(miniature: Miniature) -> None:
    root = miniature("kitti")
    found = find_cases("kitti", root)
    assert names(found) == ["000000_10", "000000_11"]
    sample = load(found.cases[0])
    right, left = (pixels(root / "testing" / f"image_{n}" / "000000_10.png") for n in (3, 2))
    assert sample.hr is not None
    assert (sample.hr.pixels == right[27:347, 13:1229]).all()
    assert (sample.refs[0].pixels == left[27:347, 13:1229]).all()


def test_light_fields_views(miniature: Miniature) -> None:
    root = miniature("light-field")
    for step in (1, 7):
        found = find_cases("light-field", root, part=f"flower-{step}")
        assert names(found) == ["IMG_2190"]
        sample = load(found.cases[0])
        lenslets = pixels(root / "Flowers_8bit" / "IMG_2190_eslf.png")
        views = lenslets.reshape(48, 14, 64, 14, 3)
        assert sample.hr is not None
        assert (sample.hr.pixels == views[:, 3 + step, :, 3 + step]).all()
        assert (sample.refs[0].pixels == views[:, 3, :, 3]).all()
    found = find_cases("light-field", root, part="stanford-5", scale=8)
    assert names(found) == ["knights", "lego"]
    assert [path.name[:9] for path in found.cases[1].files] == ["out_00_05", "out_00_00"]


def test_city100s_reference_is_another_photo_of_the_middle(miniature: Miniature) -> None:
    found = find_cases("city100", miniature("city100"), part="nikon")
    assert names(found) == ["001", "002"]
    first, second = map(load, found.cases)
    again = load(found.cases[0])
    assert (first.refs[0].pixels == again.refs[0].pixels).all()
    assert first.hr is not None and first.box is not None
    assert (first.lr.width, first.hr.width, first.refs[0].width) == (84, 168, 84)
    assert (first.lr.pixels == half(pixels(found.cases[0].wide))).all()
    assert first.box != second.box
    top, left, bottom, right = (2 * side for side in first.box)
    assert abs(top - 30) <= 6 and abs(left - 42) <= 8
    assert abs(bottom - top - 60) <= 4 and abs(right - left - 84) <= 6
    # It shows the box, in nearly its tones, and is not a mere copy of it.
    shown = cv2.resize(first.hr.pixels[top:bottom, left:right], (84, 60)).astype(np.float64)
    ref = first.refs[0].pixels.astype(np.float64)
    assert np.corrcoef(shown.ravel(), ref.ravel())[0, 1] > 0.95
    assert 1 < np.abs(shown - ref).mean() < 40


def test_city100_may_be_lettered_otherwise(own: Miniature) -> None:
    root = own("city100")
    folder = (root / "City100" / "City100_iPhoneX").rename(root / "iphone")
    (folder / "001H.PNG").rename(folder / "001H.png")
    assert names(find_cases("city100", root)) == ["001", "002"]


def test_pairs_are_found(own: Miniature) -> None:
    root = own("pairs")
    (root / "pairs.csv").unlink()
    save(root / "alone.jpg", picture(48, 64, 3))
    found = find_cases("pairs", root)
    assert names(found) == ["029_wide"]
    sample = load(found.cases[0])
    assert sample.hr is not None
    assert (sample.lr.width, sample.hr.width, sample.refs[0].width) == (210, 420, 210)
    assert (found.problems[0].name, found.missing) == ("alone.jpg", 1)
    assert str(found.problems[0].error).count("alone.jpg") == 1


def test_pairs_of_a_table(own: Miniature) -> None:
    root = own("pairs")
    whole = load(find_cases("pairs", root, part="full").cases[0])
    assert (whole.lr.width, whole.refs[0].width, whole.hr) == (420, 420, None)
    save(root / "in" / "029_wide.jpg", picture(61, 41, 1))
    save(root / "in" / "b.jpg", picture(40, 60, 2))
    table = root / "pairs.csv"
    table.write_text("wide,tele\nin/029_wide.jpg,in/b.jpg\n029_wide.png,in/b.jpg\n")
    for given in (root, table):
        assert names(find_cases("pairs", given)) == ["029_wide", "in/029_wide"]
    odd = only(find_cases("pairs", root), "in/029_wide")
    assert odd.hr is not None
    assert (odd.hr.width, odd.hr.height, odd.lr.width, odd.lr.height) == (40, 60, 20, 30)


def test_triplets_of_one_name(miniature: Miniature) -> None:
    sample = only(find_cases("triplets", miniature("triplets")), "b")
    assert (sample.case.scale, sample.box, sample.registration) == (2, None, "free")
    assert (sample.refs[0].width, sample.refs[0].height) == (60, 40)


def test_the_shipped_sample_is_there_without_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALSR_DATA", raising=False)
    found = find_cases("sample")
    assert names(found) == ["city", "facade", "phone-heic", "phone-jpeg", "statue"]
    assert all(path.is_relative_to(REPOSITORY / "sample_pairs") for path in found.cases[0].files)
    for case in found.cases:
        sample = load(case)
        assert sample.hr is not None
        assert 0.1e6 < sample.hr.width * sample.hr.height <= 0.5e6
        assert sample.hr.header.capture.focal_length is None  # it is another field of view
    whole = only(find_cases("sample", part="full"), "phone-jpeg")
    assert whole.hr is not None
    assert (whole.hr.width, whole.lr.width, whole.lr.height) == (1600, 800, 450)
    assert whole.lr.header.capture.focal_length  # what aligning begins with


def test_sixteen_bits_stay_sixteen_bits(own: Miniature) -> None:
    root = own("triplets")
    deep = picture(64, 96, 1).astype(np.uint16) * 257 + 3
    for folder in ("LR", "HR", "Ref"):
        for old in (root / folder).iterdir():
            old.unlink()
        cv2.imwrite(str(root / folder / "a.png"), deep)
    (root / "LR" / "a.png").unlink()
    cv2.imwrite(str(root / "LR" / "a.png"), deep[::2, ::2])
    sample = load(find_cases("triplets", root).cases[0])
    assert sample.hr is not None
    assert (sample.hr.bit_depth, sample.lr.bit_depth) == (16, 16)
    (root / "pairs.csv").write_text("wide,tele\nHR/a.png,Ref/a.png\n")
    halved = load(find_cases("pairs", root).cases[0])
    assert halved.lr.bit_depth == 16
    coarse = half((deep // 257).astype(np.uint8))[..., ::-1].astype(np.float64) * 257
    assert np.abs(halved.lr.pixels - coarse).max() < 2 * 257


# --- where a data set lies ---------------------------------------------------------------------


def test_the_root_is_given_or_in_the_environment(
    tmp_path: Path, miniature: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUALSR_DATA", str(tmp_path))
    shutil.copytree(miniature("dusr-real"), tmp_path / "dusr-real")
    assert dataset_root("dusr-real") == tmp_path / "dusr-real"
    assert dataset_root("dusr-real", tmp_path / "dusr-real" / "DuSR-Real") != tmp_path / "dusr-real"
    assert len(find_cases("dusr-real").cases) == 2
    assert dataset_root("sample") == REPOSITORY / "sample_pairs"


@pytest.mark.parametrize("dataset", [name for name in LAYOUTS if name != "sample"])
def test_without_a_root_it_is_said_where_the_data_is_got(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DUALSR_DATA", raising=False)
    with pytest.raises(UsageError) as error:
        find_cases(dataset)
    assert "--root" in str(error.value)
    assert LAYOUTS[dataset].where in str(error.value)


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_folder_that_is_not_there_or_holds_something_else(dataset: str, tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError) as error:
            find_cases(dataset, root)
        assert str(error.value).startswith(str(root))
        assert LAYOUTS[dataset].where in str(error.value)


@pytest.mark.parametrize(
    "options, word",
    [
        ({"dataset": "dusr"}, "dusr-real"),
        ({"dataset": "dusr-real", "split": "valid"}, "test, train"),
        ({"dataset": "dusr-real", "part": "nikon"}, "none"),
        ({"dataset": "cufed5", "part": "L6"}, "L1, L2"),
        ({"dataset": "kitti", "scale": 3}, "4, 8"),
    ],
)
def test_what_a_data_set_does_not_have(
    options: dict[str, object], word: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=word):
        find_cases(root=tmp_path, **options)  # type: ignore[arg-type]


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset, options, lost, told",
    [
        ("dusr-real", {}, "DuSR-Real/test/HR/0010_0000.png", "DuSR-Real/test/HR"),
        ("dusr-real", {}, "DuSR-Real/test/LR/0010_0000.png", "DuSR-Real/test/LR"),
        ("dusr-real", {}, "DuSR-Real/test/Ref_SIFT/0010_0000.png", "DuSR-Real/test/Ref_SIFT"),
        ("dusr-real", {"split": "train"}, "DuSR-Real/train/Ref_full/0010_0000.png", "Ref_full"),
        ("camerafusion", {}, "CameraFusion/test/Ref/x2/IMG_8.jpg", "Ref/x2"),
        ("drealsr", {}, "Nikon/test_HR/DSC_1474_x4.png", "test_HR"),
        ("cufed5", {"part": "L3"}, "CUFED5/000_3.png", "000_3.png"),
        ("vimeo90k", {}, "sequences/00001/0266/im5.png", "im5.png"),
        ("kitti", {}, "testing/image_2/000000_10.png", "image_2"),
        ("city100", {}, "City100/City100_iPhoneX/001L.PNG", "001L"),
        ("triplets", {}, "Ref/a.jpg", "Ref"),
        ("sample", {}, "statue/tele.jpg", "statue holds no tele"),
        ("sample", {}, "statue/wide.jpg", "statue holds no wide"),
    ],
)
def test_a_missing_partner_is_named_and_the_rest_is_found(
    dataset: str, options: dict[str, str], lost: str, told: str, own: Miniature
) -> None:
    root = own(dataset)
    before = find_cases(dataset, root, **options)  # type: ignore[arg-type]
    (root / lost).unlink()
    found = find_cases(dataset, root, **options)  # type: ignore[arg-type]
    assert len(found.cases) == len(before.cases) - 1
    assert found.missing == before.missing + 1
    assert len(found.problems) == 1
    assert told in str(found.problems[0].error)
    load(found.cases[0])


def test_a_missing_view_of_the_gantry(own: Miniature) -> None:
    root = own("light-field")
    next((root / "stanford" / "knights").glob("out_00_03_*")).unlink()
    found = find_cases("light-field", root, part="stanford-3")
    assert names(found) == ["lego"]
    assert "out_00_03_" in found.problems[0].sentence


def refused(case: Case, *words: str) -> None:
    with pytest.raises(InputError) as error:
        load(case)
    for word in words:
        assert word in str(error.value)


def test_an_odd_size_is_told_with_what_was_expected(own: Miniature) -> None:
    root = own("dusr-real")
    test = root / "DuSR-Real" / "test"
    cases = find_cases("dusr-real", root).cases
    save(test / "HR" / "0010_0000.png", picture(63, 96, 1))
    refused(cases[0], "HR/0010_0000.png", "96 x 63", "not 96 x 64", "LR/0010_0000.png")
    save(test / "Ref_SIFT" / "0026_0066.png", picture(32, 48, 1))
    refused(cases[1], "Ref_SIFT/0026_0066.png", "48 x 32", "not 32 x 48")


def test_sizes_of_photos_that_must_agree(own: Miniature) -> None:
    root = own("vimeo90k")
    save(root / "sequences/00001/0266/im5.png", picture(64, 92, 1))
    refused(find_cases("vimeo90k", root).cases[0], "im5.png", "92 x 64", "not 96 x 64", "im4.png")
    root = own("kitti")
    save(root / "testing/image_2/000000_10.png", picture(300, 1242, 1))
    refused(find_cases("kitti", root).cases[0], "image_2", "1242 x 300", "1216 x 320")
    root = own("city100")
    save(root / "City100/City100_iPhoneX/002L.PNG", picture(100, 168, 1))
    refused(find_cases("city100", root).cases[1], "002L.PNG", "168 x 100", "not 168 x 120")
    root = own("cufed5")
    save(root / "CUFED5/000_1.png", picture(3, 90, 1))
    refused(find_cases("cufed5", root).cases[0], "000_1.png", "90 x 3", "too small")
    root = own("sample")
    save(root / "statue" / "wide.jpg", picture(90, 60, 1))
    refused(find_cases("sample", root).cases[1], "wide.jpg", "60 x 90", "columns 0 to 768")
    root = own("light-field")
    save(root / "Flowers_8bit/IMG_2190_eslf.png", picture(30, 90, 1))
    refused(find_cases("light-field", root).cases[0], "eslf.png", "90 x 30", "14 x 14")


def test_triplets_whose_truth_is_no_multiple(own: Miniature) -> None:
    root = own("triplets")
    save(root / "HR" / "a.png", picture(66, 96, 1))
    found = find_cases("triplets", root)
    assert names(found) == ["b"]
    assert "96 x 66" in found.problems[0].sentence


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_an_unreadable_file_is_named(dataset: str, own: Miniature) -> None:
    root = own(dataset)
    case = find_cases(dataset, root).cases[0]
    for path in case.files:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        refused(case, str(path))
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "boxes, problem",
    [
        ({}, True),
        ({"0010_0000.png": [14, 46, 28]}, True),
        ({"0010_0000.png": [14, 46, 28, 77]}, True),
        ({"0010_0000.png": [46, 14, 28, 76]}, True),
        ({"0010_0000.png": ["14", "46", "28", "76"]}, True),
        ({"0010_0000.png": [14, 46, 60, 108]}, False),
    ],
)
def test_boxes_that_are_none(boxes: dict[str, object], problem: bool, own: Miniature) -> None:
    root = own("dusr-real")
    path = root / "corrdinate" / "corrdinate_DuSR-Real.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "0010_0000.png": None, **boxes}))
    found = find_cases("dusr-real", root)
    if problem:
        assert names(found) == ["0026_0066"]
        assert found.problems[0].path == path
        assert "0010_0000.png" in found.problems[0].sentence
    else:
        refused(found.cases[0], "LR/0010_0000.png", "columns 30 to 54")


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "\xff\xfe", '{"a": 1}' * 200_000])
def test_a_table_of_boxes_that_is_none(text: str, own: Miniature) -> None:
    root = own("dusr-real")
    path = root / "corrdinate" / "corrdinate_DuSR-Real.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="no table of boxes"):
        find_cases("dusr-real", root)
    path.unlink()
    with pytest.raises(InputError, match="is not there"):
        find_cases("dusr-real", root)


@pytest.mark.parametrize("text", ["", "00001/0266\n../../secret\n", "\0\n"])
def test_a_list_of_sequences_that_is_none(text: str, own: Miniature) -> None:
    root = own("vimeo90k")
    (root / "sep_testlist.txt").write_text(text)
    with pytest.raises(InputError, match=r"sep_testlist\.txt"):
        find_cases("vimeo90k", root)


def test_folders_of_other_names_pair_by_order(own: Miniature) -> None:
    root = own("camerafusion")
    refs = root / "CameraFusion/test/Ref/x2"
    for number, path in enumerate(sorted(refs.iterdir())):
        path.rename(refs / f"IMG_{2000 + number}.jpg")
    found = find_cases("camerafusion", root)
    assert [[path.name for path in case.files][:2] for case in found.cases] == [
        ["IMG_8.jpg", "IMG_2001.jpg"],
        ["IMG_17.jpg", "IMG_2000.jpg"],
    ]
    (refs / "IMG_2000.jpg").unlink()
    with pytest.raises(InputError, match=r"2 in LR/x2, 1 in Ref/x2, 2 in HR"):
        find_cases("camerafusion", root)


def test_two_files_for_one_case(own: Miniature) -> None:
    root = own("triplets")
    save(root / "LR" / "a.jpg", picture(32, 48, 1))
    with pytest.raises(DualsrError, match="two files"):
        find_cases("triplets", root)
