"""AWnet (Cheng et al., A Dual Camera System for High Spatiotemporal Resolution Video Acquisition).

A frame of a fast, small video takes the detail of one or more sharp frames: PWC-Net's flow lays
them on it, a U-net gives each pixel a filter of its own and its share in the result.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.networks._awnet_upscaling import EDSR
from dualsr_cli.networks._corners import stretched
from dualsr_cli.networks._windows import cut, grown, moved, reduced, scaled, within
from dualsr_cli.networks.contract import CELL, Inputs, Memory, Network, Outputs, Window
from dualsr_cli.networks.pwcnet import (
    STRIDE,
    PWCNet,
    PWCNetConfig,
    lies_within,
    pointed_at,
    sample,
)

_KERNEL = 5  # pixels, the sides of a dynamic filter
_TAPS = _KERNEL**2
_FLOW_CELL = 4  # pixels of the result to one of the flow

UPSCALES = ("bicubic", "bilinear", "edsr")
"""Of lr, U of equation 2; EDSR has to be trained before the rest."""


@dataclass(frozen=True)
class AWnetConfig:
    """The published network. scale: of the result to lr. references: sharp frames that it takes.

    features: of the U-net at 1, 1/2, 1/4 and 1/8 of the result's sides. flow_pyramid, flow_decoder
    and flow_context: of its PWC-Net, which is one for all references (see `PWCNetConfig`).
    noise_variance: of what is added to the upscaled lr in training, in squares of the range 0..1;
    0.01 for real cameras (section 5.2.2). upscale: one of UPSCALES (table 4). direct: whether
    stacked convolutions predict pixels, in place of filters and shares by a U-net (table 6). Raises
    ValueError for what no network can be built of.
    """

    scale: int = 4
    references: int = 1
    features: tuple[int, ...] = (64, 128, 256, 512)
    flow_pyramid: tuple[int, ...] = PWCNetConfig.pyramid
    flow_decoder: tuple[int, ...] = PWCNetConfig.decoder
    flow_context: tuple[int, ...] = PWCNetConfig.context
    noise_variance: float = 0.0
    upscale: str = UPSCALES[0]
    direct: bool = False

    def __post_init__(self) -> None:
        if self.scale < 1 or self.references < 1 or self.noise_variance < 0:
            raise ValueError("scale and references are 1 or more, noise_variance 0 or more")
        if len(self.features) != 4:
            raise ValueError(f"features are four, not {len(self.features)}")
        if self.upscale not in UPSCALES:
            raise ValueError(f"upscale is one of {UPSCALES}, not {self.upscale!r}")
        if self.upscale == "edsr" and self.scale.bit_count() > 1:
            raise ValueError(f"EDSR doubles some times: a scale of {self.scale} it cannot give")
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
class Encoded:
    """One batch, aligned: N references on a frame of (H, W), multiples of 64.

    upscaled: (B, 3, H, W). references: N of (B, 3, s h, s w); boxes: (B, 4), where they lie in the
    frame, and shown: (B, 4), the same with the frame's padding where they touch the result's
    border. flow: (B, 2 N, H / 4, W / 4) in pixels of the result, x before y. result: (top, left,
    bottom, right) of the result in the frame.
    """

    upscaled: torch.Tensor
    references: tuple[torch.Tensor, ...]
    boxes: torch.Tensor
    shown: torch.Tensor
    flow: torch.Tensor
    result: Window


class AWnet(Network[Encoded]):
    """`Inputs` -> `Outputs`, RGB; the state dict has the names of the published files.

    `ref` and `more_refs` are the N references, all with the same box; what of a reference lies
    outside the box counts as out of frame. References that come with a `center` are stretched to
    the result's size. Maps beside the result, of its size: "flow" (B, 2 N), in pixels, x before y;
    "warped" (B, 3 N), the references where the flow puts them, which the warping loss takes
    (equation 10); "mask" (B, N), M of equations 6 and 9; "weight" (B, N), how much of a pixel comes
    from each reference, 0..1 (equation 12). Direct prediction has no "mask", and its "weight" is 1
    wherever a reference shows anything.
    """

    def __init__(self, config: AWnetConfig) -> None:
        super().__init__()
        self.config = config
        self.FlowNet = PWCNet(config.flow())
        # Warped, flow and residual of each reference, and the upscaled image.
        taken = 8 * config.references + 3
        # Filters and logits; one reference has one logit, several have one each and the image one.
        shares = 1 if config.references == 1 else config.references + 1
        self.mask: FusionNet | DirectNet
        if config.direct:
            self.mask = DirectNet(taken, config.features[0])
        else:
            self.mask = FusionNet(taken, config.features, _TAPS * config.references + shares)
            _hand_on(self.mask.mask_tail, config.references)
        self.upscaler: EDSR | None = None
        if config.upscale == "edsr":
            self.upscaler = EDSR(config.scale, config.features[0])

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def _dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.parameters()).dtype

    @property
    def margin(self) -> int:
        """What the fusion sees, and up to where its windows may begin."""
        return -(-(self.mask.RADIUS + self.mask.STRIDE - 1) // self.config.scale)

    @property
    def memory(self) -> Memory:
        """From the peaks of processes that encoded photos and rendered windows of two sizes."""
        config, pixels = self.config, self.config.scale**2
        matched = sum(width / 4**level for level, width in enumerate(config.flow_pyramid[1:], 2))
        return Memory(
            image=pixels * (9 + 2 * matched),  # both frames, in pixels and in features
            reference=0,
            window=pixels * (11 * config.features[0] + 35 * config.references + 25),
        )

    def forward(self, inputs: Inputs) -> Outputs:
        """Any size. Raises ValueError where references are too few, too many or of a wrong size."""
        encoded = self.encode(inputs)
        return self.render(encoded, (0, 0, *inputs.lr.shape[2:]))

    def upscaled(self, lr: torch.Tensor, tile: int | None = None) -> torch.Tensor:
        """Equation 2: (B, 3, H, W) -> (B, 3, s H, s W)."""
        if self.upscaler is None:
            scale = self.config.scale
            return F.interpolate(lr, scale_factor=scale, mode=self.config.upscale)
        large: torch.Tensor = self.upscaler(lr.to(self._dtype), tile)
        return large

    def encode(self, inputs: Inputs, tile: int | None = None) -> Encoded:
        """Upscaling and flow. Raises as `forward`.

        The flow is found in single precision at least, whatever that of the weights or of autocast:
        in half precision it is off by tenths of a pixel, and the fusion has most of the work.
        """
        references, boxes = self._references(inputs)
        with torch.autocast(inputs.lr.device.type, enabled=False):
            return self._aligned(inputs.lr, references, boxes, tile)

    def _aligned(
        self,
        lr: torch.Tensor,
        references: tuple[torch.Tensor, ...],
        boxes: list[list[int]],
        tile: int | None,
    ) -> Encoded:
        scale = self.config.scale
        upscaled = self.upscaled(lr, tile)
        if self.training and self.config.noise_variance:
            upscaled = upscaled + self.config.noise_variance**0.5 * torch.randn_like(upscaled)
        height, width = upscaled.shape[2:]
        top, left = (-height % STRIDE) // 2, (-width % STRIDE) // 2
        padding = (left, -width % STRIDE - left, top, -height % STRIDE - top)
        shown = [_padded_box(box, (height, width), padding) for box in boxes]
        # A pixel of the flow takes as many numbers as some dozen pixels of the result in the U-net.
        pixels = None if tile is None else scale * tile
        side = None if pixels is None else max(CELL, pixels // 2 // CELL * CELL)
        first = F.pad(upscaled, padding, mode="replicate")
        precise = torch.promote_types(upscaled.dtype, torch.float32)
        network = self.FlowNet
        if self._dtype != precise:
            network = copy.deepcopy(network).to(precise)
        encoded = network.encode(first.to(precise), pixels)
        flows = []
        for reference in references:
            # The flow has to see something beyond the box: there, the image itself.
            placed = F.pad(_placed(reference, upscaled, boxes), padding, mode="replicate")
            other = network.encode(placed.to(precise), pixels)
            flows.append(network.flows(encoded, other, side)[0])
        return Encoded(
            first,
            references,
            torch.tensor([moved((b[0], b[1], b[2], b[3]), top, left) for b in boxes]),
            torch.tensor(shown),
            torch.cat(flows, 1),
            (top, left, top + height, left + width),
        )

    def render(self, encoded: Encoded, window: Window) -> Outputs:
        """The contract's; maps: those of the class, of the window."""
        top, left = encoded.result[:2]
        own = moved(scaled(window, self.config.scale), top, left)
        seen = self._seen(encoded, own)
        outputs = self._fused(encoded, seen)
        inner = within(own, seen)
        maps = {name: cut(values, inner) for name, values in outputs.maps.items()}
        return Outputs(cut(outputs.sr, inner), maps)

    def _seen(self, encoded: Encoded, window: Window) -> Window:
        """The window with all that it depends on, as far as the frame goes, in whole strides."""
        size, stride = encoded.upscaled.shape[2:], self.mask.STRIDE
        top, left, bottom, right = grown(window, self.mask.RADIUS, size)
        return (
            top // stride * stride,
            left // stride * stride,
            -(-bottom // stride) * stride,
            -(-right // stride) * stride,
        )

    def _fused(self, encoded: Encoded, window: Window) -> Outputs:
        """The result in a window of the frame, right but for what its border lacks beyond it."""
        frame = encoded.upscaled.shape[2:]
        upscaled = cut(encoded.upscaled, window)
        flow = _enlarged(encoded.flow, window)
        warped, inside = self._warped(encoded, flow, window)
        count = self.config.references
        residual = warped - upscaled.repeat(1, count, 1, 1)
        # (B, 8 N + 3, H, W)
        features = torch.cat((warped, upscaled, flow, residual), 1).to(self._dtype)
        if self.config.direct:
            sr = self.mask(features).to(upscaled.dtype)
            return Outputs(sr, {"flow": flow, "warped": warped, "weight": inside})
        # The flow learns by the warped pixels alone.
        features = features.detach()
        found = self.mask(features, window[:2], (frame[0], frame[1])).to(upscaled.dtype)
        filters, logits = found.split((_TAPS * count, found.shape[1] - _TAPS * count), 1)
        # Equations 6 and 9; what a reference cannot show is the image's share.
        shares = logits.sigmoid() if count == 1 else logits.softmax(1)[:, :count]
        shares = shares * inside
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
        return Outputs(sr, {"flow": flow, "warped": warped, "mask": shares, "weight": weight})

    def _warped(
        self, encoded: Encoded, flow: torch.Tensor, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The references where the flow (B, 2 N, h, w) of a window puts them: (B, 3 N, h, w), zero
        where they show nothing, and (B, N, h, w), 1 where they do and else 0.
        """
        top, left = encoded.boxes.to(flow.device)[:, :2, None, None].unbind(1)
        warped, insides = [], []
        for number, reference in enumerate(encoded.references):
            x, y = pointed_at(flow[:, 2 * number : 2 * number + 2], window[:2])
            inside = lies_within(x, y, encoded.shown).to(reference.dtype)
            # The border goes on into the frame's padding.
            warped.append(sample(reference, x - left, y - top, "border") * inside)
            insides.append(inside)
        return torch.cat(warped, 1), torch.cat(insides, 1)

    def _references(self, inputs: Inputs) -> tuple[tuple[torch.Tensor, ...], list[list[int]]]:
        """The references, and the box of each image in pixels of the result."""
        references = (inputs.ref, *inputs.more_refs)
        if len(references) != self.config.references:
            raise ValueError(f"{len(references)} references where {self.config.references} belong")
        scale, batch = self.config.scale, len(inputs.lr)
        expected = (batch, 3, *(scale * side for side in inputs.lr_center().shape[2:]))
        for reference in references:
            if reference.shape != expected:
                raise ValueError(f"a reference is {tuple(reference.shape)}, not {expected}")
        if inputs.center is None:
            return references, [[scale * edge for edge in box] for box in inputs.box.tolist()]
        # Where in the frame they belong the flow alone can tell: they are laid on all of it.
        size = [scale * side for side in inputs.lr.shape[2:]]
        laid = (F.interpolate(reference, size, mode="bicubic") for reference in references)
        return tuple(laid), [[0, 0, *size]] * batch


class FusionNet(nn.Module):
    """The U-net of section 3.2.3: (B, taken, H, W) -> (B, given, H, W), sides multiples of 8.

    Names are the checkpoint's. Beyond the paper, the published network adds what it had on the way
    down to what it has on the way up; its "residual" blocks add nothing.
    """

    STRIDE = 8
    RADIUS = 112
    """Pixels that it sees to each side, a multiple of the stride."""

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
            start = corner[0] // coarse, corner[1] // coarse
            size = frame[0] // coarse, frame[1] // coarse
            own = (0, 0, values.shape[2], values.shape[3])
            doubled = scaled(moved(own, *start), 2)
            values = stretched(values, size, (2 * size[0], 2 * size[1]), doubled, start)
            for name in (f"mask_Res{level}_1u", f"mask_Res{level}_2u"):
                values = self.get_submodule(name)(values)
            values = values + kept[level - 1]
        result: torch.Tensor = self.mask_tail(values)
        return result


class DirectNet(nn.Module):
    """Convolution-based direct prediction (section 6): (B, taken, H, W) -> (B, 3, H, W)."""

    STRIDE = _FLOW_CELL  # its windows hold whole places of the flow
    RADIUS = 36
    """Pixels that it sees to each side, one for each convolution, and a multiple of the stride."""

    def __init__(self, taken: int, features: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_conv(taken, features))
        for _ in range(self.RADIUS - 2):
            self.convs.extend([nn.ReLU(inplace=True), _conv(features, features)])
        self.convs.extend([nn.ReLU(inplace=True), _conv(features, 3)])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        sr: torch.Tensor = self.convs(values)
        return sr


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


def _hand_on(tail: nn.Conv2d, references: int) -> None:
    """Have training begin with filters that give the reference as it is, and shares of a half.

    From filters drawn by chance the mask shuts before they are learned, and no gradient opens it.
    """
    assert tail.bias is not None
    with torch.no_grad():
        tail.weight.mul_(0.1)
        tail.bias.zero_()
        tail.bias[_TAPS // 2 : _TAPS * references : _TAPS] = 1


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


def _enlarged(flow: torch.Tensor, window: Window) -> torch.Tensor:
    """A window, in fours of pixels, of a flow (B, C, h, w) enlarged to 4 h x 4 w, bilinearly."""
    own = reduced(window, _FLOW_CELL)
    seen = grown(own, 1, flow.shape[2:])
    enlarged = F.interpolate(
        cut(flow, seen), scale_factor=_FLOW_CELL, mode="bilinear", align_corners=False
    )
    return cut(enlarged, scaled(within(own, seen), _FLOW_CELL))


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
