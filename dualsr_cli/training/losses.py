"""The losses by name: each looks at a network's outputs and inputs and gives one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from dualsr_cli.errors import UsageError
from dualsr_cli.matching import detail_mask
from dualsr_cli.networks import Inputs, Outputs
from dualsr_cli.training._losses_adversarial import RelativisticGAN
from dualsr_cli.training._losses_base import Loss, image_of, truth_of
from dualsr_cli.training._losses_features import (
    Contextual,
    Fidelity,
    Lpips,
    Perceptual,
    SlicedWasserstein,
)
from dualsr_cli.training._losses_flow import EndPointError, Matching
from dualsr_cli.training._losses_matching import Correspondence, Distillation


class Charbonnier(Loss):
    """mean sqrt((X - Y)^2 + eps): KeDuSR's, SDDuSR's L_rec, DM3Net eq. 7; eps as published.

    image: a map of the outputs in place of sr, such as DM3Net's "sr_truth".
    """

    def __init__(self, image: str = "", eps: float = 1e-6) -> None:
        super().__init__()
        self.image, self.eps = image, eps

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        difference = image_of(outputs, self.image) - truth_of(inputs)
        return (difference.square() + self.eps).sqrt().mean()


class L1(Loss):
    """mean |X - Y|: AWnet eq. 11, SelfDZSR eq. 8 and 10. target: "hr" or "lr"."""

    def __init__(self, image: str = "", target: str = "hr") -> None:
        super().__init__()
        if target not in ("hr", "lr"):
            raise ValueError("target is hr or lr")
        self.image, self.target = image, target

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        target = truth_of(inputs) if self.target == "hr" else inputs.lr
        return F.l1_loss(image_of(outputs, self.image), target)


class BlurredL1(Loss):
    """mean |blur(SR) - blur(HR)|: the first term of DCSR eq. 5, in which the details are free.

    The blur is a 3 x 3 Gaussian; sigma 0.5 in the paper, 1 in the published code.
    """

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError("sigma is more than 0")
        self.sigma = sigma

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        # The blur of a difference is the difference of the blurs.
        return self._blurred(outputs.sr - truth_of(inputs)).abs().mean()

    def _blurred(self, image: torch.Tensor) -> torch.Tensor:
        line = torch.exp(-0.5 * (torch.arange(-1, 2, device=image.device) / self.sigma) ** 2)
        line = line / line.sum()
        kernel = (line[:, None] * line).to(image.dtype).expand(image.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), kernel, groups=image.shape[1])


class Adaptation(Loss):
    """mean |SR down - I^wide|: the first term of DCSR eq. 7 (SRA), for photos without a truth."""

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        size = (inputs.lr.shape[2], inputs.lr.shape[3])
        down = F.interpolate(outputs.sr, size, mode="bicubic", antialias=True)
        return F.l1_loss(down, inputs.lr)


class DomainAware(Loss):
    """mean |e_ref - e_truth| of DM3Net's embeddings; its eq. 9 is lost, l1 is the prototype's."""

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        return F.l1_loss(image_of(outputs, "embedding"), image_of(outputs, "embedding_truth"))


class MaskLabel(Loss):
    """mean (Mask - label)^2: SDDuSR 3.4; label: the half of HR that is richer in detail."""

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        mask = image_of(outputs, "mask")[:, 0]
        label = detail_mask(truth_of(inputs), (mask.shape[1], mask.shape[2]))
        return F.mse_loss(mask, label.to(mask.dtype))


class Centroid(Loss):
    """SelfDZSR eq. 9, which its degradation network sums over its kernels."""

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        return image_of(outputs, "centroid")


class Warping(Loss):
    """mean |I_gt - I_wref|: AWnet eq. 10; the mean over the references where there are several."""

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        warped = image_of(outputs, "warped")
        truth = truth_of(inputs)
        return F.l1_loss(warped, truth.repeat(1, warped.shape[1] // 3, 1, 1))


LOSSES: dict[str, Callable[..., Loss]] = {
    "charbonnier": Charbonnier,
    "l1": L1,
    "perceptual": Perceptual,
    "lpips": Lpips,
    "relativistic-gan": RelativisticGAN,
    "blurred-l1": BlurredL1,
    "contextual": Contextual,
    "fidelity": Fidelity,
    "adaptation": Adaptation,
    "domain": DomainAware,
    "mask": MaskLabel,
    "sliced-wasserstein": SlicedWasserstein,
    "centroid": Centroid,
    "distillation": Distillation,
    "correspondence": Correspondence,
    "warping": Warping,
    "end-point-error": EndPointError,
    "matching": Matching,
}


def build_loss(name: str, settings: Mapping[str, Any]) -> Loss:
    """A loss with settings. Raises UsageError, and InputError where its VGG has no weights."""
    if name not in LOSSES:
        raise UsageError(f"there is no loss {name[:100]!r}: choose among {', '.join(LOSSES)}")
    try:
        return LOSSES[name](**settings)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the loss {name} cannot be built ({error}): correct its settings"
        ) from error
