"""What flow networks learn by: the flow that is known of synthetic views."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs, Outputs
from dualsr_cli.training._losses_base import Loss
from dualsr_cli.training.flow_data import FlowInputs


class EndPointError(Loss):
    """Mean length of the error of flows, from coarse to fine: sum_k decay^(n - k) |f_k - f|.

    The sum that RAFT weighs its iterations by (its eq. 7, there with l1); PWC-Net's and SpyNet's
    levels are weighed alike. A coarse level is held against the mean of the flow over its pixels.
    The maps "flow/1", "flow/2", ... are in pixels of the image.
    """

    def __init__(self, decay: float = 0.8) -> None:
        super().__init__()
        self.decay = decay

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        truth = _known_flow(inputs)
        flows = _maps(outputs, "flow/")
        total = torch.zeros((), device=truth.device)
        for number, flow in enumerate(flows, 1):
            target = F.adaptive_avg_pool2d(truth, (flow.shape[2], flow.shape[3]))
            # A length's gradient has no direction at 0.
            error = ((flow - target).square().sum(dim=1) + 1e-8).sqrt().mean()
            total = total + self.decay ** (len(flows) - number) * error
        return total


class Matching(Loss):
    """Cross-entropy over cost volumes: features of a place are most like those that it moves to.

    InfoNCE (van den Oord et al., 2018, eq. 4), where the positive is what the flow leads to and the
    negatives lie around it: the mean over places of -sum_d w(d) log softmax_d(s(d)), s being
    `scale` times the volume and w the bilinear weights of the four offsets about the flow. Places
    that move beyond the offsets or out of the frame are left out. What this leaves open at each
    place is a number added to all s(d): `level` weighs (log mean_d exp s(d))^2, as Devlin et al.
    (2014) normalise theirs, so that s > 0 says "likelier than by chance" wherever it stands. A
    decoder that adds and rectifies reads other volumes badly.

    Maps "volume/1", ...: (B, (2 r + 1)^2, h, w), the likeness to what lies d away in pixels of that
    volume, dy before dx, each -r to r. The mean is that of the places of all volumes: coarse ones,
    which are learned at once, have few.
    """

    def __init__(self, scale: float = 1.0, level: float = 0.1) -> None:
        super().__init__()
        if scale <= 0 or level < 0:
            raise ValueError("scale is more than 0, level 0 or more")
        self.scale, self.level = scale, level

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        truth = _known_flow(inputs)
        sums = []
        for volume in _maps(outputs, "volume/"):
            weights, counts = _targets(truth, volume)
            scores = self.scale * volume
            entropy = -(weights * scores.log_softmax(dim=1)).sum(dim=1)
            mean = scores.logsumexp(dim=1) - math.log(volume.shape[1])
            cost = (entropy + self.level * mean.square()) * counts
            sums.append(torch.stack((cost.sum(), counts.sum())))
        both = torch.stack(sums).sum(dim=0)
        return both[0] / both[1].clamp(min=1)


def _targets(truth: torch.Tensor, volume: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The flow (B, 2, H, W) as weights of a volume's offsets, of its shape, and (B, h, w), where
    they hold.
    """
    height, width = volume.shape[2:]
    reach = math.isqrt(volume.shape[1]) // 2
    flow = F.adaptive_avg_pool2d(truth, (height, width))
    x, y = flow[:, 0] * width / truth.shape[3], flow[:, 1] * height / truth.shape[2]
    offsets = torch.arange(-reach, reach + 1, device=truth.device)[:, None, None]
    across, down = ((1 - (axis[:, None] - offsets).abs()).clamp(min=0) for axis in (x, y))
    weights = (down[:, :, None] * across[:, None]).flatten(1, 2)
    columns = torch.arange(width, device=truth.device) + x
    rows = torch.arange(height, device=truth.device)[:, None] + y
    inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
    return weights, inside & (x.abs() <= reach) & (y.abs() <= reach)


def _known_flow(inputs: Inputs) -> torch.Tensor:
    """(B, 2, H, W). Raises UsageError for inputs that have none."""
    if not isinstance(inputs, FlowInputs) or inputs.flow is None:
        raise UsageError("this loss needs data of the kind flow: correct the recipe")
    return inputs.flow


def _maps(outputs: Outputs, names: str) -> list[torch.Tensor]:
    """In their order. Raises UsageError where the network gave none."""
    found = [values for name, values in outputs.maps.items() if name.startswith(names)]
    if not found:
        raise UsageError(f"this loss needs maps named {names}..., which this forward does not give")
    return found
