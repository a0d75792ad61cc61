"""Losses between the features of classifiers: perceptual, LPIPS, contextual, fidelity, sliced
Wasserstein.

VGG16 to relu3_3 is shipped. Where a paper takes VGG19 or deeper layers, `network` and `layers` name
them on a machine that has their weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from dualsr_cli.benchmark import load_lpips
from dualsr_cli.networks import Inputs, Outputs, pretrained_vgg
from dualsr_cli.training._losses_base import Loss, image_of, truth_of

_EPSILON = 1e-5


class _Features(Loss):
    """VGG's layers, each with a weight."""

    def __init__(self, network: str, layers: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(layers)
        self.vgg = pretrained_vgg(network, list(layers))

    def features(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = self.vgg(image.float())
        return found


class Perceptual(_Features):
    """sum_l w_l mean |phi_l(X) - phi_l(Y)| (Johnson et al., 2016; DM3Net eq. 8).

    KeDuSR's, DM3Net's and SDDuSR's is of VGG19's conv5_4. image: as for Charbonnier's.
    """

    def __init__(
        self,
        network: str = "vgg16",
        layers: Mapping[str, float] | None = None,
        image: str = "",
    ) -> None:
        super().__init__(network, layers or {"conv3_3": 1.0})
        self.image = image

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        found = self.features(image_of(outputs, self.image))
        with torch.no_grad():
            truth = self.features(truth_of(inputs))
        total = outputs.sr.new_zeros((), dtype=torch.float32)
        for layer, weight in self.weights.items():
            total = total + weight * F.l1_loss(found[layer], truth[layer])
        return total


class Lpips(Loss):
    """The mean perceptual distance of Zhang et al. (2018), by AlexNet, as the bench measures it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = copy.deepcopy(load_lpips("alex", "cpu"))

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        distance: torch.Tensor = self.network(
            outputs.sr.float(), truth_of(inputs).float(), normalize=True
        )
        return distance.mean()


class SlicedWasserstein(_Features):
    """sum_l w_l mean |sort(M U_l) - sort(M V_l)|: SelfDZSR algorithm A.

    U_l and V_l: features (C, H W) of the result and of the truth. M: C / 2 random directions of
    length 1, drawn anew each time. The published layers are VGG19's relu3_2, relu4_2 and relu5_2
    with weights 1, 1 and 2.
    """

    def __init__(self, network: str = "vgg16", layers: Mapping[str, float] | None = None) -> None:
        super().__init__(network, layers or {"relu2_2": 1.0, "relu3_3": 1.0})

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        found = self.features(outputs.sr)
        with torch.no_grad():
            truth = self.features(truth_of(inputs))
        total = outputs.sr.new_zeros((), dtype=torch.float32)
        for layer, weight in self.weights.items():
            channels = found[layer].shape[1]
            # Drawn on the processor, so that each device has the same ones.
            directions = F.normalize(torch.randn(channels // 2, channels), dim=1)
            total = total + weight * sliced(found[layer], truth[layer], directions)
        return total


def sliced(found: torch.Tensor, truth: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Algorithm A for features (B, C, H, W) of one size and directions (C', C)."""
    directions = directions.to(found)
    found, truth = ((directions @ maps.flatten(2)).sort(dim=2).values for maps in (found, truth))
    return F.l1_loss(found, truth)


class Contextual(_Features):
    """The second term of DCSR eq. 5: mean_i delta_i(SR, HR) + mean_j delta_j(HR, SR).

    See `contextual_distance`. The published layer is VGG19's relu3_4.
    """

    def __init__(
        self,
        network: str = "vgg16",
        layers: Mapping[str, float] | None = None,
        bandwidth: float = 0.5,
    ) -> None:
        super().__init__(network, layers or {"relu3_3": 1.0})
        self.bandwidth = bandwidth

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        found, truth = self.features(outputs.sr), self.features(truth_of(inputs))
        total = outputs.sr.new_zeros((), dtype=torch.float32)
        for layer, weight in self.weights.items():
            both = (found[layer], truth[layer])
            there = contextual_distance(*both, self.bandwidth).mean()
            back = contextual_distance(*both[::-1], self.bandwidth).mean()
            total = total + weight * (there + back)
        return total


class Fidelity(_Features):
    """sum_i delta_i(SR, Ref) c_i / sum_i c_i: DCSR eq. 6, and the second term of eq. 7.

    c_i: the network's matching confidence, brought to the features' grid; negative ones count as 0.
    It is a weight and takes no gradient, or the loss would fall by unlearning matches.
    """

    def __init__(
        self,
        network: str = "vgg16",
        layers: Mapping[str, float] | None = None,
        bandwidth: float = 0.5,
    ) -> None:
        super().__init__(network, layers or {"relu3_3": 1.0})
        self.bandwidth = bandwidth

    def forward(self, outputs: Outputs, inputs: Inputs) -> torch.Tensor:
        found = self.features(outputs.sr)
        with torch.no_grad():
            reference = self.features(inputs.ref)
        total = outputs.sr.new_zeros((), dtype=torch.float32)
        for layer, weight in self.weights.items():
            size = (found[layer].shape[2], found[layer].shape[3])
            distance = contextual_distance(found[layer], reference[layer], self.bandwidth)
            trust = F.adaptive_avg_pool2d(image_of(outputs, "confidence").detach().float(), size)
            trust = trust.clamp(min=0).flatten(1)
            mean = (distance * trust).sum(dim=1) / trust.sum(dim=1).clamp(min=_EPSILON)
            total = total + weight * mean.mean()
        return total


def contextual_distance(x: torch.Tensor, y: torch.Tensor, bandwidth: float) -> torch.Tensor:
    """delta_i(X, Y) = -log max_j CX_ij (Mechrez et al., 2018), (B, places of x).

    x: (B, C, H, W), y: (B, C, h, w). d_ij: 1 - cosine, features taken about the mean of y; w_ij =
    exp((1 - d_ij / (min_j d_ij + 1e-5)) / bandwidth); CX_ij = w_ij / sum_j w_ij.
    """
    middle = y.mean(dim=(2, 3), keepdim=True)
    x, y = (F.normalize((maps - middle).flatten(2), dim=1) for maps in (x, y))
    distance = 1 - x.transpose(1, 2) @ y  # (B, places of x, places of y)
    relative = distance / (distance.amin(dim=2, keepdim=True) + _EPSILON)
    scores = (1 - relative) / bandwidth
    return scores.logsumexp(dim=2) - scores.amax(dim=2)
