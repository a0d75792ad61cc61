"""KeDuSR as it was published: its own code from a checkout, and its way with our modules."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from dualsr_cli.networks import Inputs
from dualsr_cli.networks.blocks import warp
from dualsr_cli.networks.kedusr import KeDuSR, high_band, upsampled_flow

_TILE, _AROUND = 128, 8  # LR pixels


class KeDuSRWay:
    """Its tiles, its products and its fold, by plain operators on maps of single features."""

    def __init__(self, network: Any) -> None:
        assert isinstance(network, KeDuSR)
        self._network = network

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        network = self._network
        lr, center, ref = (_bgr(image) for image in (inputs.lr, inputs.lr_center(), inputs.ref))
        lr, size = _padded(lr)
        features = network.upsample(network.SISR(lr))
        seen = network.lr_nearby_encoder(network.upsample_lr_nearby(network.lr_nearby_head(center)))
        flow = upsampled_flow(network.spynet, center, ref)
        value = self._aligned(network.ref_encoder(network.ref_head(ref)), seen, flow)
        height, width = (side - 2 * _AROUND for side in lr.shape[2:])
        sr = lr.new_empty(1, 3, 2 * height, 2 * width)
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                inside = _tile(top, left, 1)
                part = self._tile(lr[inside], center, value, features[_tile(top, left, 2)])
                rows, columns = (
                    slice(2 * top, 2 * (top + _TILE)),
                    slice(2 * left, 2 * (left + _TILE)),
                )
                edge = 2 * _AROUND
                sr[:, :, rows, columns] = part[:, :, edge:-edge, edge:-edge]
        return _bgr(sr)[:, :, : 2 * size[0], : 2 * size[1]]

    def _aligned(
        self, features: torch.Tensor, center: torch.Tensor, flow: torch.Tensor
    ) -> torch.Tensor:
        from torchvision.ops import deform_conv2d

        align = self._network.Ref_align
        guide = torch.cat([warp(features, flow), center, flow], dim=1)
        for conv in (align.offset_conv1, align.offset_conv2):
            guide = F.leaky_relu(conv(guide), 0.1)
        rows, columns, mask = align.dcnpack.conv_offset(guide).chunk(3, dim=1)
        offset = 15 * torch.cat([rows, columns], dim=1).tanh()
        offset = offset + flow.flip(1).repeat(1, offset.shape[1] // 2, 1, 1)
        convolved = deform_conv2d(
            features,
            offset,
            align.dcnpack.weight,
            align.dcnpack.bias,
            padding=1,
            mask=mask.sigmoid(),
        )
        return F.leaky_relu(convolved, 0.1)

    def _tile(
        self,
        lr: torch.Tensor,
        center: torch.Tensor,
        value: torch.Tensor,
        features: torch.Tensor,
    ) -> torch.Tensor:
        network = self._network
        maps = [network.feature_match(image) for image in (lr, center)]
        queries, keys = (
            F.normalize(F.unfold(F.pad(each, (1, 1, 1, 1), mode="reflect"), 3), dim=1)
            for each in maps
        )
        confidence, index = torch.bmm(keys.transpose(1, 2), queries).max(dim=1)
        values = F.unfold(F.pad(value, (2, 3, 2, 3), mode="reflect"), 9, stride=4)
        chosen = values.gather(2, index[:, None].expand(-1, values.shape[1], -1))
        size = features.shape[2:]
        high = high_band(F.fold(chosen, size, 9, padding=4, stride=4) / (81 / 16))
        confidence = confidence.view(1, 1, *maps[0].shape[2:])
        confidence = F.interpolate(confidence, scale_factor=4, mode="bicubic")
        detail = 2 * network.alpha * high * network.alphaConf2X(confidence)
        fused = network.fusion_tail(network.AdaFuison(torch.cat([detail, features], dim=1)))
        sr: torch.Tensor = network.decoder_tail(network.decoder(fused) + features)
        return sr


def published_kedusr(folder: str, network: Any) -> Callable[[Inputs], torch.Tensor]:
    """The published code with the weights of `network`; run as its test script runs it.

    It asks for a module that Python no longer has and for two files of weights, which it goes
    without here.
    """
    import torchvision

    version = types.ModuleType("distutils.version")
    version.LooseVersion = lambda text: [int(part) for part in text.split("+")[0].split(".")]
    modules = {"distutils": types.ModuleType("distutils"), "distutils.version": version}
    vgg = types.SimpleNamespace(
        features=torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    )
    sys.path.insert(0, folder)
    with (
        patch.dict(sys.modules, modules),
        patch.object(torchvision.models, "vgg16", lambda **_: vgg),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        from models.archs import KeDuSR_arch, spynet

        class Untrained(spynet.SpyNet):
            def __init__(self, load_path: str | None = None) -> None:
                super().__init__(None)

        with patch.object(KeDuSR_arch, "SpyNet", Untrained):
            theirs = KeDuSR_arch.KeDuSR(types.SimpleNamespace(chunk_size=_TILE))
    theirs.load_state_dict(network.state_dict())
    theirs.eval().to(network.alpha.device)

    def run(inputs: Inputs) -> torch.Tensor:
        lr, size = _padded(_bgr(inputs.lr))
        sr = theirs(lr, _bgr(inputs.lr_center()), _bgr(inputs.ref))
        return _bgr(sr)[:, :, : 2 * size[0], : 2 * size[1]]

    return run


def _padded(lr: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Whole tiles, with what is around them, and the size that is wanted."""
    height, width = lr.shape[2:]
    lr = F.pad(lr, (0, -width % _TILE, 0, -height % _TILE), mode="reflect")
    return F.pad(lr, (_AROUND,) * 4, mode="replicate"), (height, width)


def _tile(top: int, left: int, scale: int) -> tuple[slice, ...]:
    side = scale * (_TILE + 2 * _AROUND)
    top, left = scale * top, scale * left
    return slice(None), slice(None), slice(top, top + side), slice(left, left + side)


def _bgr(image: torch.Tensor) -> torch.Tensor:
    return image.flip(1)
