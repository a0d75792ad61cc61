"""Samples in other colours: more scenes than there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dualsr_cli.networks import Inputs
from dualsr_cli.training._batches import Source

_KEPT = (0.6, 1.0)
"""How much of a sample's own colours is left, least and most."""


class Recoloured:
    """A data source: another's samples, a share of them in other colours, all pictures alike.

    Red and blue change places in half of them, and a colour is mixed with all pixels: what lens and
    sensor do to a picture stays as it was, but for less noise. Green keeps its place, since sensors
    see it best. (Yoo et al., Rethinking Data Augmentation for Image Super-resolution, 2020.)
    """

    def __init__(self, source: Source, share: float, seed: int = 0) -> None:
        """share: 0..1, of the samples."""
        self._source = source
        self._share = share
        self._seed = seed

    def __len__(self) -> int:
        return len(self._source)

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        """A batch of one, the same for the same seeds and index."""
        inputs = self._source.sample(index, epoch_seed)
        rng = np.random.default_rng([self._seed, epoch_seed, index, 1])
        if rng.random() >= self._share:
            return inputs
        order = [2, 1, 0] if rng.random() < 0.5 else [0, 1, 2]
        kept = rng.uniform(*_KEPT)
        colour = torch.from_numpy(rng.random((1, 3, 1, 1), np.float32)) * (1 - kept)

        def recoloured(image: torch.Tensor) -> torch.Tensor:
            return image[:, order] * kept + colour

        return replace(
            inputs,
            lr=recoloured(inputs.lr),
            ref=recoloured(inputs.ref),
            hr=None if inputs.hr is None else recoloured(inputs.hr),
            more_refs=tuple(map(recoloured, inputs.more_refs)),
            center=None if inputs.center is None else recoloured(inputs.center),
        )
