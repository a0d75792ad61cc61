"""Data sets of a few small photos, in exactly the folders and file names of the published ones.

`MINIATURES[dataset](root)` lays one under `root`, which may be given to --root.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]  # (h, w, 3)

REPOSITORY = Path(__file__).parent.parent.parent

KEDUSR_BOXES = {
    # [top, bottom, left, right] in pixels of HR, half its sides, of a photo in each orientation.
    "0010_0000.png": ((64, 96), [14, 46, 28, 76]),
    "0026_0066.png": ((96, 64), [22, 70, 18, 50]),
}


def picture(height: int, width: int, seed: int) -> Pixels:
    """Soft shapes with some texture, unlike for each seed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 16
    channels = [
        128
        + 60
        * np.sin(random.uniform(0.3, 2) * x + random.uniform(0.3, 2) * y + random.uniform(0, 6))
        + 40 * np.sin(random.uniform(2, 6) * x - random.uniform(2, 6) * y)
        for _ in range(3)
    ]
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def half(pixels: Pixels, times: int = 2) -> Pixels:
    size = pixels.shape[1] // times, pixels.shape[0] // times
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=95, compress_level=1)


def kedusr(release: str) -> Callable[[Path], None]:
    def lay(root: Path) -> None:
        for split in ("test", "train"):
            folder = root / release / split
            for seed, (name, ((height, width), box)) in enumerate(KEDUSR_BOXES.items()):
                hr = picture(height, width, seed)
                top, bottom, left, right = box
                save(folder / "HR" / name, hr)
                save(folder / "LR" / name, half(hr))
                if split == "train":
                    save(folder / "Ref_full" / name, hr)
                else:
                    shown = half(hr)[top // 2 : bottom // 2, left // 2 : right // 2]
                    save(folder / "LR_center" / name, shown)
                    save(folder / "Ref_SIFT" / name, hr[top:bottom, left:right])
        boxes = {name: box for name, (_, box) in KEDUSR_BOXES.items()}
        path = root / "corrdinate" / f"corrdinate_{release}.json"
        path.parent.mkdir()
        path.write_text(json.dumps(boxes, indent=4))

    return lay


def camerafusion(root: Path) -> None:
    for split in ("train", "val", "test"):
        for number in (8, 17):
            wide, tele = picture(64, 96, number), picture(64, 96, number + 1)
            folder, name = root / "CameraFusion" / split, f"IMG_{number}.jpg"
            for inner, pixels in (
                ("HR", wide),
                ("LR/x1", wide),
                ("LR/x2", half(wide)),
                ("Ref/x1", tele),
                ("Ref/x2", half(tele)),
            ):
                save(folder / inner / name, pixels)
    for split in ("train", "test"):
        for number in (8, 17):
            wide = picture(64, 96, number)
            save(root / "CameraFusion" / f"{split}_HR" / f"IMG_{number}.png", wide)
            save(root / "CameraFusion" / f"{split}_LR" / f"IMG_{number}.png", half(wide))


def drealsr(root: Path) -> None:
    """The Nikon's photos as SelfDZSR has them, the other cameras' as DRealSR has them."""
    for split in ("train", "test"):
        for number in (1474, 1480):
            hr = picture(128, 192, number)
            save(root / "Nikon" / f"{split}_HR" / f"DSC_{number}_x4.png", hr)
            save(root / "Nikon" / f"{split}_LR" / f"DSC_{number}_x1.png", half(hr, 4))
    folder = root / "Test_x4"
    for seed, name in enumerate(("IMG_118", "P1100055", "panasonic_100", "sony_11", "DSC_1412")):
        hr = picture(128, 192, seed)
        save(folder / "test_HR" / f"{name}_x4.png", hr)
        save(folder / "test_LR" / f"{name}_x1.png", half(hr, 4))


def cufed5(root: Path) -> None:
    """No size is a multiple of 4, as in the real one."""
    for scene in range(2):
        save(root / "CUFED5" / f"{scene:03}_0.png", picture(67, 93, scene))
        for level in range(1, 6):
            ref = picture(61 + level, 102 - level, 10 * scene + level)
            save(root / "CUFED5" / f"{scene:03}_{level}.png", ref)
        save(root / "train" / "input" / f"{scene}.png", picture(64, 64, scene))
        save(root / "train" / "ref" / f"{scene}.png", picture(64, 60, scene + 5))


def vimeo90k(root: Path) -> None:
    sequences = "00001/0266", "00096/0936"
    for seed, sequence in enumerate(sequences):
        scene = picture(64, 110, seed)
        for frame in range(1, 8):
            save(root / "sequences" / sequence / f"im{frame}.png", scene[:, frame : frame + 96])
    for split in ("test", "train"):
        (root / f"sep_{split}list.txt").write_text("\n".join(sequences) + "\n\n")


def kitti(root: Path) -> None:
    """Frames of the real sizes: a part of fixed size is cut out of them."""
    for folder in ("testing", "training"):
        for seed, name in enumerate(("000000_10.png", "000000_11.png")):
            scene = picture(375, 1262, seed)
            save(root / folder / "image_2" / name, scene[:, 20:])
            save(root / folder / "image_3" / name, scene[:, :1242])


def light_field(root: Path) -> None:
    """Lenslets of 14 x 14 views of 48 x 64 pixels, each view a bit further; a gantry of 17."""
    for seed, path in enumerate(("Flowers_8bit/IMG_2190", "LFVideo/0001")):
        scene = picture(64, 80, seed)
        lenslets = np.empty((48, 14, 64, 14, 3), np.uint8)
        for row in range(14):
            for column in range(14):
                lenslets[:, row, :, column] = scene[row : row + 48, column : column + 64]
        save(root / f"{path}_eslf.png", lenslets.reshape(48 * 14, 64 * 14, 3))
    scene = picture(64, 130, 7)
    for scene_name in ("knights", "lego/rectified"):
        for column in range(17):
            name = f"out_00_{column:02}_-381.909271_{1103.376221 - 9 * column:.6f}.png"
            save(root / "stanford" / scene_name / name, scene[:, 2 * column : 2 * column + 96])


def city100(root: Path) -> None:
    for folder in ("City100_iPhoneX", "City100_NikonD5500"):
        for number in (1, 2):
            long = picture(120, 168, number)
            short = np.asarray(Image.fromarray(half(long)).resize((168, 120)))
            save(root / "City100" / folder / f"{number:03}H.PNG", long)
            save(root / "City100" / folder / f"{number:03}L.PNG", short)


def pairs(root: Path) -> None:
    """Real photos, that they be found without the table as well, which would not be needed."""
    for lens in ("wide", "tele"):
        root.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / "sample_pairs" / "city" / f"{lens}.png", root / f"029_{lens}.png")
    (root / "pairs.csv").write_text("wide,tele\n029_wide.png,029_tele.png\n")


def triplets(root: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        hr = picture(64, 96, seed)
        save(root / "HR" / f"{name}.png", hr)
        save(root / "LR" / f"{name}.png", half(hr))
        save(root / "Ref" / f"{name}.jpg", hr[10:50, 20:80])


def sample(root: Path) -> None:
    """Some of the shipped ones themselves: parts of fixed places are cut out of them."""
    for name in ("city", "statue", "other-scene"):
        shutil.copytree(REPOSITORY / "sample_pairs" / name, root / name)


MINIATURES: Mapping[str, Callable[[Path], None]] = {
    "dusr-real": kedusr("DuSR-Real"),
    "realmcvsr-real": kedusr("RealMCVSR-Real"),
    "camerafusion-real": kedusr("CameraFusion-Real"),
    "camerafusion": camerafusion,
    "drealsr": drealsr,
    "cufed5": cufed5,
    "vimeo90k": vimeo90k,
    "kitti": kitti,
    "light-field": light_field,
    "city100": city100,
    "pairs": pairs,
    "triplets": triplets,
    "sample": sample,
}
