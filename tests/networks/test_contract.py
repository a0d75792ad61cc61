"""What networks refuse to be given."""

from __future__ import annotations

import pytest
import torch

from dualsr_cli.networks import Inputs

LR, REF = torch.rand(2, 3, 12, 16), torch.rand(2, 3, 12, 16)
BOX = torch.tensor([[3, 4, 9, 12], [0, 8, 6, 16]])


def test_the_centre_is_cut_at_each_images_own_box() -> None:
    center = Inputs(LR, REF, BOX).lr_center()
    assert torch.equal(center[0], LR[0, :, 3:9, 4:12])
    assert torch.equal(center[1], LR[1, :, 0:6, 8:16])


@pytest.mark.parametrize(
    ("lr", "ref", "box", "sentence"),
    [
        (LR[0], REF, BOX, "lr "),
        (LR, REF[:1], BOX, "ref "),
        (LR, REF, BOX[:1], "box is"),
        (LR, REF, BOX.float(), "box is"),
        (LR, REF, BOX + 1, "does not lie in"),
        (LR, REF, BOX - 1, "does not lie in"),
        (LR, REF, torch.tensor([[3, 4, 9, 12], [0, 8, 7, 16]]), "does not lie in"),
        (LR, REF, torch.tensor([[3, 4, 3, 12], [0, 8, 0, 16]]), "does not lie in"),
    ],
)
def test_what_does_not_fit_is_told(
    lr: torch.Tensor, ref: torch.Tensor, box: torch.Tensor, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Inputs(lr, ref, box)
