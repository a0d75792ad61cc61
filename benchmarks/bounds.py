"""What a protocol leaves to gain: `python -m benchmarks.bounds --protocol city100 --data FOLDER`.

Of each pair, dB over bicubic: beside the footprint, of the linear filter of 9 x 9 wide pixels that
comes nearest to the truth itself there (each pixel that a wide pixel becomes has its own); of the
whole picture, with the truth itself in the footprint and beside it bicubic, or that filter. No tele
photo gives more in the footprint; beside it only what is no such filter can. Pairs without a
footprint, whose homography is not found, are left out.

Protocols and pairs are those of `benchmarks.quality`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks._pairs import Mask, Rgb, psnr, resized
from benchmarks.quality import PROTOCOLS, plain_recipe

_RADIUS = 4  # wide pixels around each that the filter looks at


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with berlin/, buddha/, city100/")
    parser.add_argument("--protocol", choices=[*PROTOCOLS], default="half-size")
    options = parser.parse_args()
    if options.protocol != "half-size" and not options.data:
        parser.error(f"--protocol {options.protocol} needs --data")
    print(f"{'pair':22}{'beside':>8}{'truth, bicubic':>16}{'truth, filter':>15}")
    rows = []
    for pair in PROTOCOLS[options.protocol](options.data):
        truth = pair.truth
        bicubic = resized(pair.wide.pixels, (truth.shape[1], truth.shape[0]))
        _, inside = plain_recipe(pair, bicubic)
        if not inside.any() or inside.all():
            continue
        filtered = best_filtered(pair.wide.pixels, truth, ~inside)
        with_truth = (np.where(inside[..., None], truth, each) for each in (bicubic, filtered))
        whole = psnr(bicubic, truth)
        rows.append(
            [
                psnr(filtered, truth, ~inside) - psnr(bicubic, truth, ~inside),
                *(psnr(each, truth) - whole for each in with_truth),
            ]
        )
        print(_line(pair.name, rows[-1]), flush=True)
    print(_line(f"mean of {len(rows)}", np.mean(rows, axis=0).tolist()))


def best_filtered(wide: Rgb, truth: Rgb, where: Mask) -> Rgb:
    """The wide photo through the linear filter that is the nearest to the truth at a mask."""
    scale = truth.shape[0] // wide.shape[0]
    lr, hr = (torch.tensor(p).permute(2, 0, 1)[:, None].float() / 255 for p in (wide, truth))
    side = 2 * _RADIUS + 1
    around = F.unfold(F.pad(lr, (_RADIUS,) * 4, mode="replicate"), side)  # (3, side^2, h w)
    known = torch.cat([around, torch.ones_like(around[:, :1])], 1).transpose(1, 2)
    phases = F.pixel_unshuffle(hr, scale).flatten(2).transpose(1, 2)
    asked = torch.from_numpy(where.astype(np.float32))[None, None]
    used = (F.avg_pool2d(asked, scale) > 0.5).flatten()
    # Normal equations in double precision, colour by colour: the rows do not fit into memory.
    size = known.shape[2], known.shape[2] + phases.shape[2]
    sums = torch.zeros(size, dtype=torch.float64)
    for given, wanted in zip(known[:, used], phases[:, used], strict=True):
        sums += given.double().T @ torch.cat([given, wanted], 1).double()
    equations = sums[:, : size[0]] + 1e-9 * torch.eye(size[0])
    filters = torch.linalg.solve(equations, sums[:, size[0] :]).float()
    made = (known @ filters).transpose(1, 2).reshape(3, -1, *lr.shape[2:])
    pixels = F.pixel_shuffle(made, scale)[:, 0].permute(1, 2, 0).numpy() * 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _line(name: str, values: list[float]) -> str:
    return "{:22}{:8.2f}{:16.2f}{:15.2f}".format(name, *values)


if __name__ == "__main__":
    main()
