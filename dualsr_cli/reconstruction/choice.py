"""Which model reconstructs a pair: the one that was asked for, or the one that suits it."""

from __future__ import annotations

from typing import cast

from dualsr_cli.alignment import AlignedPair
from dualsr_cli.errors import UsageError
from dualsr_cli.networks import DualSR
from dualsr_cli.reconstruction.detail_transfer import Agreement
from dualsr_cli.reconstruction.restore import (
    Restorer,
    load_restorer,
    network_center,
    references_of,
)

DETAIL_TRANSFER = "detail-transfer"
"""The model that needs no weights."""

AUTO = "auto"
"""_DEBLURRING where the wide lens blurs, detail transfer where the photos hardly agree or both are
soft, else mostly _ENLARGING. That keeps what noise and a little softness do to a wide photo: both
networks draw a part of what the tele photo shows, without it, and where what _DEBLURRING draws
comes so much nearer to it that it cannot be chance, that one is taken.
"""

_DEBLURRING = "dualsr"
"""The network that aims at the tele lens's sharpness."""

_ENLARGING = "dualsr-sharp"
"""The network for wide photos that are sharp at their pixels."""

# Photos that are sharp at their pixels mostly have a fineness (see `Agreement`) of 1.3 and more;
# simulated noisy ones, most of them JPEG files, 0.9 to 1.5. What _DEBLURRING draws is 0.08 to 0.3
# of what such photos lack, and 1.4 times and more of what _ENLARGING draws, of sharp ones at most
# 1.3 times. Beside damaged tele photos that is up to 2 where the wide photo has the tele's
# contrast, and up to 3.4 where it is fine; of noisy photos like these it is 2.4, and 20 and more,
# and their correlation is below 0.85. Where noise drowns the finest band, _DEBLURRING draws 0.025
# to 0.1, three times and more of what _ENLARGING draws; of other photos that look alike up to
# 0.016, at most 1.4 times.
_SHARP = 1.3
_QUIET = 0.85
_NEAR = 0.06
_MORE = 1.35
_NEAR_IN_NOISE, _MORE_IN_NOISE = 0.02, 2.0
_MOST = 512  # wide pixels along each side of what is tried


def networks_of(model: str) -> tuple[str, ...]:
    """The networks that a model may take, by their names; none for DETAIL_TRANSFER."""
    return {AUTO: (_DEBLURRING, _ENLARGING), DETAIL_TRANSFER: ()}.get(model, (model,))


def photo_restorer(model: str, device: str, precision: str = "auto") -> Restorer:
    """A network for two photos, loaded once. Raises UsageError, also for one that takes more."""
    restorer = load_restorer(model, device, precision)
    taken = references_of(restorer)
    if taken != 1:
        raise UsageError(
            f"{model} takes {taken} tele photos at a time: it is for clips, choose another model"
        )
    return restorer


def restorer_for(
    model: str, aligned: AlignedPair, agreement: Agreement, device: str, precision: str = "auto"
) -> Restorer | None:
    """The network that reconstructs a pair, loaded once; None where detail transfer does."""
    if model == DETAIL_TRANSFER:
        return None
    if model != AUTO:
        return photo_restorer(model, device, precision)
    if agreement.lens_blurs:
        return load_restorer(_DEBLURRING, device, precision)
    if agreement.soft or not (agreement.agrees or agreement.drowned):
        return None
    deblurring, enlarging = (load_restorer(name, device, precision) for name in networks_of(AUTO))
    if agreement.fineness > _SHARP and agreement.correlation[0] > _QUIET:
        return enlarging
    center = network_center(aligned, enlarging.network.scale, _MOST)

    def nearness(restorer: Restorer) -> float:
        network = cast(DualSR, restorer.network)
        return network.nearness(center.to(restorer.device, restorer.dtype))

    otherwise, least, more = None, _NEAR_IN_NOISE, _MORE_IN_NOISE
    if agreement.agrees:
        # More is asked for, the more speaks for a sharp photo: the tele's contrast, and fineness.
        alike, fine = max(agreement.contrast[0], 1.0), max(agreement.fineness / _SHARP, 1.0)
        otherwise, least, more = enlarging, _NEAR, _MORE * alike**6 * fine**4
    undone = nearness(deblurring)
    if undone > least and undone > more * nearness(enlarging):
        return deblurring
    return otherwise
