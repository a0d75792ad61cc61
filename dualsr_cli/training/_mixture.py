"""Several sources of samples as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualsr_cli.networks import Inputs
from dualsr_cli.training._batches import Source


class Mixture:
    """A data source: each sample is one of one of the sources, which is drawn by its share.

    Which, is the same for the same seeds and index. Samples of all sources have the same tensors.
    """

    def __init__(self, sources: Sequence[Source], shares: Sequence[float], seed: int = 0) -> None:
        """shares: above 0, of any sum."""
        self._sources = sources
        self._shares = np.array(shares) / sum(shares)
        self._seed = seed

    def __len__(self) -> int:
        return sum(map(len, self._sources))

    def sample(self, index: int, epoch_seed: int) -> Inputs:
        """A batch of one."""
        rng = np.random.default_rng([self._seed, epoch_seed, index])
        source = self._sources[rng.choice(len(self._sources), p=self._shares)]
        return source.sample(int(rng.integers(len(source))), epoch_seed)
