"""The relativistic GAN loss, with its discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks import Inputs, Outputs
from dualsr_cli.training._losses_base import Loss, truth_of

_SLOPE = 0.2
_GROUPS = 8  # of channels that are normalised together


class RelativisticGAN(Loss):
    """The relativistic average GAN (Jolicoeur-Martineau, 2018), as in KeDuSR and SDDuSR.

    With D the discriminator and f(a, t) the cross-entropy of sigmoid(a) with t, the generator's is
    (f(D(SR) - mean D(HR), 1) + f(D(HR) - mean D(SR), 0)) / 2, the discriminator's the same with
    1 and 0 exchanged. The loop trains the discriminator at `rate`, with Adam's betas (0, 0.9) as
    published. Means are taken over the samples that pass at once.
    """

    def __init__(
        self, features: Sequence[int] = (64, 128, 256, 512, 512), rate: float = 1e-4
    ) -> None:
        super().__init__()
        self.discriminator = Discriminator(features)
        self.rate = rate

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        """The generator's; no gradient reaches the discriminator's weights."""
        held = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        made, real = (
            torch.func.functional_call(self.discriminator, held, (image.float(),))
            for image in (outputs.sr, truth_of(inputs))
        )
        return relativistic(made, real)

    def discriminate(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        """The discriminator's; no gradient reaches the network."""
        made = self.discriminator(outputs.sr.detach().float())
        real = self.discriminator(truth_of(inputs).float())
        return relativistic(real, made)


def relativistic(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """How far the `upper` scores (B,) are from lying above the mean of the `lower`, and so on."""
    return 0.5 * (F.softplus(lower.mean() - upper).mean() + F.softplus(lower - upper.mean()).mean())


class Discriminator(nn.Module):
    """VGG-style: in each step two convolutions, the second halving the sides; then one number.

    Groups of channels are normalised, not batches: so a sample's score does not depend on those
    beside it. Any size from 2^steps on.
    """

    def __init__(self, features: Sequence[int]) -> None:
        super().__init__()
        if not features or any(width < 1 or width % _GROUPS for width in features):
            raise ValueError(f"features are multiples of {_GROUPS}")
        self.body = nn.Sequential()
        channels = 3
        for width in features:
            self.body.extend(
                [
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.LeakyReLU(_SLOPE),
                    nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False),
                    nn.GroupNorm(_GROUPS, width),
                    nn.LeakyReLU(_SLOPE),
                ]
            )
            channels = width
        self.head = nn.Sequential(nn.Linear(channels, 100), nn.LeakyReLU(_SLOPE), nn.Linear(100, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B,)."""
        score: torch.Tensor = self.head(self.body(image).mean(dim=(2, 3)))
        return score[:, 0]
