"""A network whose result is known: the LR enlarged, with the reference laid into its box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dualsr_cli.networks import Inputs, Memory, Network, Outputs, Window

Stage = Callable[[str, int], None]


@dataclass(frozen=True, eq=False)
class Pasted:
    image: torch.Tensor  # (B, 3, s * H, s * W)
    taken: torch.Tensor  # (B, 1, H, W)


class Pasting(Network[Pasted]):
    """`asked` hears of each stage with the side of what it works on, and may raise.

    `gain` and `offset` change all values.
    """

    def __init__(
        self,
        scale: int = 2,
        *,
        asked: Stage = lambda stage, side: None,
        gain: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self._scale, self.asked, self.gain, self.offset = scale, asked, gain, offset

    @property
    def scale(self) -> int:
        return self._scale

    @property
    def margin(self) -> int:
        return 4

    @property
    def memory(self) -> Memory:
        return Memory(image=24, reference=12, window=1000)

    def encode(self, inputs: Inputs, tile: int | None = None) -> Pasted:
        self.asked("encode", tile or max(inputs.lr.shape[2:]))
        image = F.interpolate(inputs.lr, scale_factor=self.scale, mode="bicubic")
        taken = torch.zeros_like(inputs.lr[:, :1])
        for n, (top, left, bottom, right) in enumerate(inputs.box.tolist()):
            taken[n, :, top:bottom, left:right] = 1
            rows, columns = (
                slice(self.scale * low, self.scale * high)
                for low, high in ((top, bottom), (left, right))
            )
            image[n, :, rows, columns] = inputs.ref[n]
        return Pasted(image * self.gain + self.offset, taken)

    def render(self, encoded: Pasted, window: Window) -> Outputs:
        top, left, bottom, right = window
        self.asked("render", max(bottom - top, right - left))
        up = [self.scale * edge for edge in window]
        sr = encoded.image[:, :, up[0] : up[2], up[1] : up[3]]
        return Outputs(sr, {"confidence": encoded.taken[:, :, top:bottom, left:right]})

    def forward(self, inputs: Inputs) -> Outputs:
        return self.render(self.encode(inputs), (0, 0, *inputs.lr.shape[2:]))
