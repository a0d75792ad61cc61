"""Makes the README's before/after picture: `python -m benchmarks.picture`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks._pairs import sample
from dualsr_cli.alignment import align
from dualsr_cli.reconstruction import AUTO, measure, reconstruct, restore, restorer_for

TARGET = Path(__file__).parent.parent / "docs" / "before_after.jpg"
PARTS = (("facade", 0.425, 0.555, 120), ("phone-heic", 0.40, 0.42, 90))  # left, top, side in wide
SIDE = 420


def main() -> None:
    rows = [_row(*part) for part in PARTS]
    picture = Image.fromarray(np.concatenate(rows))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(20)
    for column, text in enumerate(("wide photo, bicubic", "dualsr", "tele photo")):
        draw.text((column * SIDE + 10, 8), text, "white", font, stroke_width=2, stroke_fill="black")
    TARGET.parent.mkdir(exist_ok=True)
    picture.save(TARGET, quality=88)
    print(TARGET)


def _row(name: str, left: float, top: float, side: int) -> np.ndarray:
    """The same square, `side` wide pixels, of the enlarged wide photo, the result and the tele."""
    wide, tele = sample(name)
    aligned = align(wide, tele)
    scale = aligned.ratio
    found = measure(aligned, scale)
    network = restorer_for(AUTO, aligned, found, "cpu")
    if network is None:
        result = reconstruct(wide, aligned, scale, agreement=found).pixels
    else:
        result = restore(aligned, network, scale).pixels
    x, y = round(left * wide.width), round(top * wide.height)
    before = Image.fromarray(wide.pixels).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side)
    )
    box = tuple(round(value * scale) for value in (x, y, x + side, y + side))
    after = Image.fromarray(result).crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    steps = (np.arange(SIDE) + 0.5) / SIDE * side - 0.5
    warped, _ = aligned.tele_at(y + steps, x + steps, toned=False)
    seen = np.clip(np.rint(warped * 255), 0, 255).astype(np.uint8)
    return np.concatenate([np.asarray(before), np.asarray(after), seen], axis=1)


if __name__ == "__main__":
    main()
