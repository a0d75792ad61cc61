"""What SelfDZSR's Student learns by: C2-Matching's distillation and triplets (paper 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dualsr_cli.networks import Inputs, Outputs, pretrained_vgg
from dualsr_cli.training._losses_base import Loss, image_of, truth_of

_CELL = 4  # LR pixels of a place of the Student's query, and Ref's of one of its key


class Distillation(Loss):
    """KL(softmax(teacher / T) || softmax(student / T)), the mean over LR's places.

    Both are cosines of a place of LR with all places of Ref (Jiang et al., 2021, eq. 3 to 5; T =
    0.15). The Student sees LR, the teacher the truth, at that resolution: VGG16's relu3_1, which
    C2-Matching's own teacher starts from. Maps: "query", "key" (B, C, h, w).
    """

    def __init__(self, temperature: float = 0.15) -> None:
        super().__init__()
        self.temperature = temperature
        self.teacher = pretrained_vgg("vgg16", ["relu3_1"])

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        query, key = image_of(outputs, "query"), image_of(outputs, "key")
        with torch.no_grad():
            seen, shown = (
                F.adaptive_avg_pool2d(
                    self.teacher(image.float())["relu3_1"], (maps.shape[2], maps.shape[3])
                )
                for image, maps in ((truth_of(inputs), query), (inputs.ref, key))
            )
            wanted = (_cosines(seen, shown) / self.temperature).softmax(dim=2)
        found = (_cosines(query, key) / self.temperature).log_softmax(dim=2)
        places = found.shape[0] * found.shape[1]
        return F.kl_div(found, wanted, reduction="sum") / places


class Correspondence(Loss):
    """mean max(0, margin + positive - negative): C2-Matching's triplets (eq. 1 and 2).

    positive: the squared distance of a place of LR in the box from the one of Ref that shows the
    same; negative: the least one to any that is more than `radius` places away.
    """

    def __init__(self, margin: float = 1.0, radius: int = 4) -> None:
        super().__init__()
        self.margin, self.radius = margin, radius

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        query, key = image_of(outputs, "query"), image_of(outputs, "key")
        height, width = key.shape[2:]
        scale = inputs.ref.shape[2] // int(inputs.box[0, 2] - inputs.box[0, 0])
        rows = torch.arange(query.shape[2], device=query.device)
        columns = torch.arange(query.shape[3], device=query.device)
        places = torch.arange(height * width, device=query.device)
        losses = []
        for cosines, box in zip(_cosines(query, key), inputs.box.tolist(), strict=True):
            # The middle of a place of LR, in pixels of LR, is that of one in Ref.
            down, right = (
                (((at + 0.5) * _CELL - start) * scale / _CELL).floor().long()
                for at, start in ((rows, box[0]), (columns, box[1]))
            )
            inside = ((down >= 0) & (down < height))[:, None] & (right >= 0) & (right < width)
            if not bool(inside.any()):
                continue
            down, right = (axis[inside] for axis in torch.meshgrid(down, right, indexing="ij"))
            distance = 2 - 2 * cosines[inside.flatten()]  # (n, places)
            positive = distance.gather(1, (down * width + right)[:, None])[:, 0]
            apart = torch.maximum(
                (places // width - down[:, None]).abs(), (places % width - right[:, None]).abs()
            )
            negative = distance.masked_fill(apart <= self.radius, torch.inf).amin(dim=1)
            losses.append(F.relu(self.margin + positive - negative))  # none so far: infinite, 0
        return torch.cat(losses).mean() if losses else 0 * (query.sum() + key.sum())


def _cosines(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) and (B, C, h', w') -> (B, places of the query, places of the key)."""
    query, key = (F.normalize(maps.float().flatten(2), dim=1) for maps in (query, key))
    return query.transpose(1, 2) @ key
