"""What of a network a stage runs: functions of a network and its inputs, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks import Inputs, Outputs

Forward = Callable[[Any, Inputs], Outputs]


def whole(network: nn.Module, inputs: Inputs) -> Outputs:
    """All of it, as at inference."""
    outputs: Outputs = network(inputs)
    return outputs


def selfdzsr(network: Any, inputs: Inputs) -> Outputs:
    """SelfDZSR with noise on its pseudo-LR (n of eq. 4)."""
    outputs: Outputs = network(inputs, pseudo_lr_noise(inputs))
    return outputs


def selfdzsr_bicubic(network: Any, inputs: Inputs) -> Outputs:
    """SelfDZSR with the truth, shrunk bicubically, in LR's place (its table 3)."""
    assert inputs.hr is not None
    size = (inputs.lr.shape[2], inputs.lr.shape[3])
    lr = F.interpolate(inputs.hr.float(), size, mode="bicubic", antialias=True).clamp(0, 1)
    outputs: Outputs = network(replace(inputs, lr=lr.to(inputs.lr.dtype)))
    return outputs


def awnet_upscaling(network: Any, inputs: Inputs) -> Outputs:
    """AWnet's upscaling alone (eq. 2)."""
    return Outputs(network.upscaled(inputs.lr))


def selfdzsr_degradation(network: Any, inputs: Inputs) -> Outputs:
    """The degradation network alone (KernelGen): "pseudo_lr" and "centroid" (eq. 8 and 9)."""
    pseudo = network.degradation(inputs.hr, inputs.lr)
    maps = {"pseudo_lr": pseudo, "centroid": network.degradation.centroid_loss()}
    return Outputs(pseudo, maps)


def selfdzsr_student(network: Any, inputs: Inputs) -> Outputs:
    """The matching features alone (Student): "query" of LR and "key" of Ref."""
    query, key = network.student(inputs.lr, inputs.ref)
    return Outputs(inputs.lr, {"query": query, "key": key})


def spynet(network: nn.Module, inputs: Inputs) -> Outputs:
    """SpyNet's flow from lr to ref at each of its levels, down to the finest one that is trained.

    That level sees the images at their own size, as if there were no finer ones.
    """
    found: list[torch.Tensor] = []
    levels = list(network.get_submodule("basic_module").children())
    trained = [
        number
        for number, level in enumerate(levels, 1)
        if any(weights.requires_grad for weights in level.parameters())
    ]
    watches = [
        level.register_forward_hook(lambda _level, _given, added: found.append(added))
        for level in levels
    ]
    try:
        network(inputs.lr, inputs.ref, levels=max(trained, default=len(levels)))
    finally:
        for watch in watches:
            watch.remove()
    flows = []
    flow = torch.zeros_like(found[0])
    for number, added in enumerate(found):
        if number > 0:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
        flow = flow + added
        flows.append(flow * 2 ** (len(found) - 1 - number))  # in pixels of the image
    return _flows(flows, inputs)


def raft(network: nn.Module, inputs: Inputs) -> Outputs:
    """RAFT's flow after each of its updates; it takes -1..1."""
    flows = network(2 * inputs.lr - 1, 2 * inputs.ref - 1)
    return _flows(flows, inputs)


def raft_short(network: nn.Module, inputs: Inputs) -> Outputs:
    """RAFT's flow after the first three of its updates, all of which have the same weights."""
    flows = network(2 * inputs.lr - 1, 2 * inputs.ref - 1, num_flow_updates=3)
    return _flows(flows, inputs)


def pwcnet(network: nn.Module, inputs: Inputs) -> Outputs:
    """PWC-Net's flow at each of its levels."""
    return _flows(network(inputs.lr, inputs.ref)[::-1], inputs)


def pwcnet_matching(network: Any, inputs: Inputs) -> Outputs:
    """PWC-Net's features alone, as cost volumes of its levels: "volume/1" is the finest."""
    volumes = network.volumes(network.encode(inputs.lr), network.encode(inputs.ref))
    return _volumes(volumes, inputs)


def raft_matching(network: Any, inputs: Inputs) -> Outputs:
    """RAFT's matching features alone: what an update first looks up, at 1/8, is "volume/1"."""
    images = torch.cat((2 * inputs.lr - 1, 2 * inputs.ref - 1))
    first, second = network.feature_encoder(images).chunk(2)
    batch, _, height, width = first.shape
    rows, columns = torch.arange(height), torch.arange(width)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack((x, y)).float().to(first.device).expand(batch, 2, height, width)
    network.corr_block.build_pyramid(first, second)
    likeness = network.corr_block.index_pyramid(places)
    side = 2 * network.corr_block.radius + 1
    # Of the finest of the pyramid; dx before dy there.
    finest = likeness[:, : side**2].unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2)
    return _volumes([finest], inputs)


FORWARDS: dict[str, Forward] = {
    "network": whole,
    "selfdzsr": selfdzsr,
    "selfdzsr-bicubic": selfdzsr_bicubic,
    "selfdzsr-degradation": selfdzsr_degradation,
    "selfdzsr-student": selfdzsr_student,
    "awnet-upscaling": awnet_upscaling,
    "spynet": spynet,
    "raft": raft,
    "raft-short": raft_short,
    "raft-matching": raft_matching,
    "pwcnet": pwcnet,
    "pwcnet-matching": pwcnet_matching,
}


def pseudo_lr_noise(inputs: Inputs) -> torch.Tensor:
    """(B, 3, H, W): what noise and JPEG, in random order, do to the truth at LR's size.

    Gaussian noise of 5 to 30 of 255, JPEG of quality 60 to 95 (SelfDZSR, suppl. B; the sensor's
    noise of the paper is not in its published code).
    """
    assert inputs.hr is not None
    size = (inputs.lr.shape[2], inputs.lr.shape[3])
    clean = F.interpolate(inputs.hr.detach().float(), size, mode="bilinear", antialias=True)
    noises = []
    for image in clean.cpu():
        deviation, quality, order = torch.rand(3).tolist()
        noisy = image
        for step in ("noise", "jpeg") if order < 0.5 else ("jpeg", "noise"):
            if step == "noise":
                noisy = noisy + (5 + 25 * deviation) / 255 * torch.randn(image.shape)
            else:
                noisy = _jpeg(noisy, 60 + int(36 * quality))
        noises.append(noisy.clamp(0, 1) - image)
    return torch.stack(noises).to(inputs.lr)


def _jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    """(3, H, W), RGB, 0..1, written as a JPEG and read again."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).flip(2).numpy()
    _, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return torch.from_numpy(read).flip(2).permute(2, 0, 1) / 255


def _volumes(volumes: Sequence[torch.Tensor], inputs: Inputs) -> Outputs:
    return Outputs(inputs.lr, {f"volume/{number}": v for number, v in enumerate(volumes, 1)})


def _flows(flows: list[torch.Tensor], inputs: Inputs) -> Outputs:
    """From coarse to fine as "flow/1", "flow/2", ...; sr: ref where the last one points to."""
    last = flows[-1].detach().float()
    size = inputs.lr.shape[2:]
    if last.shape[2:] != size:
        last = F.interpolate(last, (size[0], size[1]), mode="bilinear")
    rows = torch.arange(size[0], device=last.device)[:, None] + last[:, 1] + 0.5
    columns = torch.arange(size[1], device=last.device) + last[:, 0] + 0.5
    grid = torch.stack([2 * columns / size[1] - 1, 2 * rows / size[0] - 1], dim=3)
    warped = F.grid_sample(inputs.ref.float(), grid, align_corners=False)
    return Outputs(warped, {f"flow/{number}": flow for number, flow in enumerate(flows, 1)})
