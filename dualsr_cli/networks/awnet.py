"""AWnet (Cheng et al., A Dual Camera System for High Spatiotemporal Resolution Video Acquisition).

A frame of a fast, small video takes the detail of one or more sharp frames: PWC-Net's flow lays
them on it, a U-net gives each pixel a filter of its own and its share in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks.contract import Inputs, Outputs
from dualsr_cli.networks.pwcnet import STRIDE, PWCNet, PWCNetConfig, warp

_KERNEL = 5  # pixels, the sides of a dynamic filter
_TAPS = _KERNEL**2


@dataclass(frozen=True)
class AWnetConfig:
    """The published network. scale: of the result to lr. references: sharp frames that it takes.

    features: of the U-net at 1, 1/2, 1/4 and 1/8 of the result's sides. flow_pyramid, flow_decoder
    and flow_context: of its PWC-Net, which is one for all references (see `PWCNetConfig`).
    noise_variance: of what is added to the upscaled lr in training, in squares of the range 0..1;
    0.01 for real cameras (section 5.2.2). Raises ValueError for what no network can be built of.
    """

    scale: int = 4
    references: int = 1
    features: tuple[int, ...] = (64, 128, 256, 512)
    flow_pyramid: tuple[int, ...] = PWCNetConfig.pyramid
    flow_decoder: tuple[int, ...] = PWCNetConfig.decoder
    flow_context: tuple[int, ...] = PWCNetConfig.context
    noise_variance: float = 0.0

    def __post_init__(self) -> None:
        if self.scale < 1 or self.references < 1 or self.noise_variance < 0:
            raise ValueError("scale and references are 1 or more, noise_variance 0 or more")
        if len(self.features) != 4:
            raise ValueError(f"features are four, not {len(self.features)}")
        self.flow()

    @classmethod
    def compact(cls, scale: int = 4, references: int = 1) -> AWnetConfig:
        """The same with fewer features; what two CPU cores can train and run."""
        flow = PWCNetConfig.compact()
        features = (16, 24, 32, 48)
        return cls(scale, references, features, flow.pyramid, flow.decoder, flow.context)

    def flow(self) -> PWCNetConfig:
        return PWCNetConfig(self.flow_pyramid, self.flow_decoder, self.flow_context)


@dataclass(frozen=True, eq=False)
class Scene:
    """One batch, aligned, once per image: N references on a frame of (H, W), multiples of 64.

    upscaled: (B, 3, H, W). warped: (B, 3 N, H, W), zero where a reference shows nothing. flow:
    (B, 2 N, H, W) in pixels of the result, x before y. inside: (B, N, H, W), 1 where the reference
    shows something and else 0. result: (top, left, bottom, right) of the result in the frame.
    """

    upscaled: torch.Tensor
    warped: torch.Tensor
    flow: torch.Tensor
    inside: torch.Tensor
    result: tuple[int, int, int, int]


class AWnet(nn.Module):
    """`Inputs` -> `Outputs`, RGB; the state dict has the names of the published files.

    `ref` and `more_refs` are the N references, all with the same box; what of a reference lies
    outside the box counts as out of frame. Maps beside the result, of its size: "flow" (B, 2 N),
    in pixels, x before y; "warped" (B, 3 N), the references where the flow puts them, which the
    warping loss takes (equation 10); "mask" (B, N), M of equations 6 and 9; "weight" (B, N), how
    much of a pixel comes from each reference, 0..1 (equation 12).
    """

    MARGIN = 128
    """Pixels that a window of `fuse` needs around what is kept of it; a multiple of 8."""

    def __init__(self, config: AWnetConfig) -> None:
        super().__init__()
        self.config = config
        self.FlowNet = PWCNet(config.flow())
        # Warped, flow and residual of each reference, and the upscaled image.
        taken = 8 * config.references + 3
        # Filters and logits; one reference has one logit, several have one each and the image one.
        shares = 1 if config.references == 1 else config.references + 1
        self.mask = FusionNet(taken, config.features, _TAPS * config.references + shares)

    def forward(self, inputs: Inputs) -> Outputs:
        """Any size. Raises ValueError where references are too few, too many or of a wrong size."""
        scene = self.align(inputs)
        return self.fuse(scene, scene.result)

    def align(self, inputs: Inputs) -> Scene:
        """What is done once per image: upscaling, flow and warping. Raises as `forward`.

        Mixed precision does not touch it: in half precision a flow is off by tenths of a pixel,
        and the fusion has most of the work.
        """
        references = self._references(inputs)
        with torch.autocast(inputs.lr.device.type, enabled=False):
            return self._align(inputs, references)

    def _align(self, inputs: Inputs, references: tuple[torch.Tensor, ...]) -> Scene:
        scale = self.config.scale
        upscaled = F.interpolate(inputs.lr, scale_factor=scale, mode="bicubic")
        if self.training and self.config.noise_variance:
            upscaled = upscaled + self.config.noise_variance**0.5 * torch.randn_like(upscaled)
        height, width = upscaled.shape[2:]
        top, left = (-height % STRIDE) // 2, (-width % STRIDE) // 2
        bottom, right = top + height, left + width
        padding = (left, -width % STRIDE - left, top, -height % STRIDE - top)
        boxes = [[scale * edge for edge in box] for box in inputs.box.tolist()]
        frame = torch.tensor(
            [_padded_box(box, (height, width), padding) for box in boxes], device=upscaled.device
        )
        first = F.pad(upscaled, padding, mode="replicate")
        encoded = self.FlowNet.encode(first)
        warped, flows, insides = [], [], []
        for reference in references:
            # The flow has to see something beyond the box: there, the image itself.
            placed = F.pad(_placed(reference, upscaled, boxes), padding, mode="replicate")
            flow = self.FlowNet.flows(encoded, self.FlowNet.encode(placed))[0]
            flow = F.interpolate(flow, scale_factor=4, mode="bilinear", align_corners=False)
            moved, inside = warp(placed, flow, frame)
            warped.append(moved * inside)
            flows.append(flow)
            insides.append(inside)
        return Scene(
            first,
            torch.cat(warped, 1),
            torch.cat(flows, 1),
            torch.cat(insides, 1),
            (top, left, bottom, right),
        )

    def fuse(self, scene: Scene, window: tuple[int, int, int, int]) -> Outputs:
        """The result in a window (top, left, bottom, right) of the scene's frame.

        A window that is not the whole result is right from `MARGIN` pixels inside its edges on,
        those of the frame aside; its edges are multiples of 8 then. Raises ValueError else.
        """
        frame = (0, 0, *scene.upscaled.shape[2:])
        seen = frame if window == scene.result else window
        if any(edge % FusionNet.STRIDE for edge in seen):
            raise ValueError(f"edges of the window {seen} are no multiples of {FusionNet.STRIDE}")
        part = (..., slice(seen[0], seen[2]), slice(seen[1], seen[3]))
        upscaled, warped, flow = scene.upscaled[part], scene.warped[part], scene.flow[part]
        count = self.config.references
        residual = warped - upscaled.repeat(1, count, 1, 1)
        # (B, 8 N + 3, H, W). The flow learns by the warped pixels alone.
        features = torch.cat((warped, upscaled, flow, residual), 1).detach()
        found = self.mask(features, seen[:2], frame[2:]).to(upscaled.dtype)
        filters, logits = found.split((_TAPS * count, found.shape[1] - _TAPS * count), 1)
        # Equations 6 and 9; what a reference cannot show is the image's share.
        shares = logits.sigmoid() if count == 1 else logits.softmax(1)[:, :count]
        shares = shares * scene.inside[part]
        own = 1 - shares.sum(1, keepdim=True)
        sr = own * upscaled  # equation 7
        sums = []
        for number in range(count):
            kernels = filters[:, _TAPS * number : _TAPS * (number + 1)]
            filtered = _filtered(warped[:, 3 * number : 3 * number + 3], kernels)
            sr = sr + shares[:, number : number + 1] * filtered
            sums.append(kernels.sum(1))
        # Equation 12, which takes for granted that no filter's sum is negative.
        weight = shares * torch.stack(sums, 1).clamp(min=0)
        whole = own + weight.sum(1, keepdim=True)
        weight = weight / whole.clamp(min=torch.finfo(whole.dtype).tiny)
        kept = (
            ...,
            slice(window[0] - seen[0], window[2] - seen[0]),
            slice(window[1] - seen[1], window[3] - seen[1]),
        )
        maps = {"flow": flow, "warped": warped, "mask": shares, "weight": weight}
        return Outputs(sr[kept], {name: values[kept] for name, values in maps.items()})

    def _references(self, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        references = (inputs.ref, *inputs.more_refs)
        if len(references) != self.config.references:
            raise ValueError(f"{len(references)} references where {self.config.references} belong")
        batch, channels = inputs.lr.shape[:2]
        top, left, bottom, right = (self.config.scale * edge for edge in inputs.box[0].tolist())
        expected = (batch, channels, bottom - top, right - left)
        for reference in references:
            if reference.shape != expected:
                raise ValueError(f"a reference is {tuple(reference.shape)}, not {expected}")
        return references


class FusionNet(nn.Module):
    """The U-net of section 3.2.3: (B, taken, H, W) -> (B, given, H, W), sides multiples of 8.

    Names are the checkpoint's. Beyond the paper, the published network adds what it had on the way
    down to what it has on the way up; its "residual" blocks add nothing.
    """

    STRIDE = 8

    def __init__(self, taken: int, features: tuple[int, ...], given: int) -> None:
        super().__init__()
        self.mask_head = _conv(taken, features[0])
        self.mask_Res1 = _Block(features[0], features[0])
        self.mask_Res2 = _Block(features[0], features[0])
        for level, (fine, coarse) in enumerate(pairwise(features), 1):
            self.add_module(f"down{level}", _conv(fine, coarse, stride=2))
            self.add_module(f"mask_Res{level}_1d", _Block(coarse, coarse))
            self.add_module(f"mask_Res{level}_2d", _Block(coarse, coarse))
            self.add_module(f"mask_Res{level}_1u", _Block(coarse, fine))
            self.add_module(f"mask_Res{level}_2u", _Block(fine, fine))
        self.mask_tail = _conv(features[0], given)

    def forward(
        self, values: torch.Tensor, corner: tuple[int, int], frame: tuple[int, int]
    ) -> torch.Tensor:
        """`values` are a window of a frame of this height and width, from this top, left on."""
        values = self.mask_Res2(self.mask_Res1(self.mask_head(values)))
        kept = [values]
        for level in (1, 2, 3):
            for name in (f"down{level}", f"mask_Res{level}_1d", f"mask_Res{level}_2d"):
                values = self.get_submodule(name)(values)
            kept.append(values)  # (B, features[level], H / 2^level, W / 2^level)
        for level in (3, 2, 1):
            coarse = 2**level
            values = _doubled(
                values,
                (corner[0] // coarse, corner[1] // coarse),
                (frame[0] // coarse, frame[1] // coarse),
            )
            for name in (f"mask_Res{level}_1u", f"mask_Res{level}_2u"):
                values = self.get_submodule(name)(values)
            values = values + kept[level - 1]
        result: torch.Tensor = self.mask_tail(values)
        return result


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = _conv(before, after)
        self.conv2 = _conv(after, after)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv2(self.conv1(values).relu())
        return result


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


def _filtered(image: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each pixel by its own filter (equation 8): (B, 3, H, W), (B, 25, H, W) -> (B, 3, H, W)."""
    height, width = image.shape[2:]
    padded = F.pad(image, (_KERNEL // 2,) * 4, mode="replicate")
    result = torch.zeros_like(image)
    for tap in range(_TAPS):
        top, left = divmod(tap, _KERNEL)
        pixels = padded[:, :, top : top + height, left : left + width]
        result = result + pixels * kernels[:, tap : tap + 1]
    return result


def _doubled(values: torch.Tensor, corner: tuple[int, int], frame: tuple[int, int]) -> torch.Tensor:
    """Twice the sides, bilinear, corners on corners, as the whole frame of which this is a window.

    Where corners lie on corners, what lies between two pixels depends on the frame's size.
    """
    if values.shape[2:] == frame:
        return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=True)
    for dim, start, length in zip((2, 3), corner, frame, strict=True):
        size = values.shape[dim]
        # In single precision, as in the branch above, so that both round alike.
        place = torch.arange(2 * start, 2 * (start + size), device=values.device).float()
        place = place * ((length - 1) / (2 * length - 1))
        share = place.frac().to(values.dtype)
        # Beyond the window there is nothing to go between: its margin is not kept.
        before = (place.long() - start).clamp(0, size - 1)
        after = (before + 1).clamp(max=size - 1)
        share = share[:, None] if dim == 2 else share
        low, high = values.index_select(dim, before), values.index_select(dim, after)
        values = low + share * (high - low)
    return values


def _placed(reference: torch.Tensor, image: torch.Tensor, boxes: list[list[int]]) -> torch.Tensor:
    """The references, each in its box, with the image around them: (B, 3, H, W)."""
    if reference.shape == image.shape:
        return reference
    placed = image.clone()
    for number, (top, left, bottom, right) in enumerate(boxes):
        placed[number, :, top:bottom, left:right] = reference[number]
    return placed


def _padded_box(
    box: list[int], size: tuple[int, int], padding: tuple[int, int, int, int]
) -> list[int]:
    """A box in the padded image; where it touches the image's border, the padding belongs to it."""
    top, left, bottom, right = box
    height, width = size
    return [
        top + padding[2] if top else 0,
        left + padding[0] if left else 0,
        bottom + padding[2] + (padding[3] if bottom == height else 0),
        right + padding[0] + (padding[1] if right == width else 0),
    ]
