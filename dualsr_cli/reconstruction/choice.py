"""Which model reconstructs a pair: the one that was asked for, or the one that suits it."""

from __future__ import annotations

from typing import cast

from dualsr_cli.alignment import AlignedPair
from dualsr_cli.networks import DualSR
from dualsr_cli.reconstruction.detail_transfer import Agreement
from dualsr_cli.reconstruction.restore import Restorer, load_restorer, network_center

DETAIL_TRANSFER = "detail-transfer"
"""The model that needs no weights."""

AUTO = "auto"
"""_DEBLURRING where the wide lens blurs, detail transfer where the photos hardly agree, else mostly
_ENLARGING. That keeps the wide photo's noise: both networks draw some of what the tele photo shows,
without it, and where much of what _ENLARGING draws is not there, the other is taken if it comes
nearer to the tele photo, else only if it comes nearer by far.
"""

_DEBLURRING = "dualsr"
"""The network that aims at the tele lens's sharpness."""

_ENLARGING = "dualsr-sharp"
"""The network for wide photos that are sharp at their pixels."""

# Of halved photos of City100, whose tele photos show more than their own truth, 0.9 and more of
# what _ENLARGING draws is there, and _DEBLURRING comes nearer at most 1.2 times; of simulated noisy
# photos mostly 0.7 and less is there, or it comes nearer 1.9 times.
_NOISY = 0.8
_FAR = 1.5

_MOST = 1024  # wide pixels along each side of what is tried


def networks_of(model: str) -> tuple[str, ...]:
    """The networks that a model may take, by their names; none for DETAIL_TRANSFER."""
    return {AUTO: (_DEBLURRING, _ENLARGING), DETAIL_TRANSFER: ()}.get(model, (model,))


def restorer_for(
    model: str, aligned: AlignedPair, agreement: Agreement, device: str, precision: str = "auto"
) -> Restorer | None:
    """The network that reconstructs a pair, loaded once; None where detail transfer does."""
    if model == DETAIL_TRANSFER:
        return None
    if model != AUTO:
        return load_restorer(model, device, precision)
    if agreement.lens_blurs:
        return load_restorer(_DEBLURRING, device, precision)
    if not agreement.agrees:
        return None
    deblurring, enlarging = (load_restorer(name, device, precision) for name in networks_of(AUTO))
    center = network_center(aligned, enlarging.network.scale, _MOST)
    center = center.to(enlarging.device, enlarging.dtype)
    kept, undone = (
        cast(DualSR, restorer.network).trial(center) for restorer in (enlarging, deblurring)
    )
    enough = kept.near if kept.factor < _NOISY else _FAR * kept.near
    return deblurring if undone.near > enough else enlarging
