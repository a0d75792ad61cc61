"""What one stage learns with: losses, optimisers, learning rates, gradients."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs, Outputs
from dualsr_cli.training._batches import part
from dualsr_cli.training._losses_adversarial import RelativisticGAN
from dualsr_cli.training.forwards import FORWARDS
from dualsr_cli.training.losses import build_loss
from dualsr_cli.training.recipe import ALL, Stage

_SETTLED = 100  # iterations after which a loss is taken for what it is
_DIVERGED = 10.0  # times that loss: no training comes back from there
_DISCRIMINATOR_BETAS = (0.0, 0.9)  # as KeDuSR published


class Learner:
    """One stage's way from a batch to better weights.

    It trains the parts of `network` that the stage names, and no others take gradients. fixed:
    names of the parameters that the network itself does not train, such as the mean colours; they
    are trained only where a part is named that has no others.
    """

    def __init__(
        self,
        stage: Stage,
        network: nn.Module,
        fixed: set[str],
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        """Raises UsageError, and InputError where a loss has no weights to start from."""
        if stage.forward not in FORWARDS:
            raise UsageError(
                f"there is no forward {stage.forward!r}: choose among {', '.join(FORWARDS)}"
            )
        self.stage, self.network, self.forward = stage, network, FORWARDS[stage.forward]
        self.device, self.precision = device, precision
        self.terms = [
            (term, build_loss(term.loss, term.settings).to(device)) for term in stage.losses
        ]
        groups = _parameter_groups(network, stage.rates, fixed)
        self.optimiser = torch.optim.Adam(groups, betas=(stage.betas[0], stage.betas[1]))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.adversaries = {
            number: (loss, torch.optim.Adam(loss.parameters(), loss.rate, _DISCRIMINATOR_BETAS))
            for number, (_, loss) in enumerate(self.terms)
            if isinstance(loss, RelativisticGAN)
        }
        self.mean, self.settled = math.nan, math.nan  # of the loss: lately, and early on

    @property
    def labels(self) -> list[str]:
        """Of the losses, in the order of `learn`'s sums; their weighted sum follows them."""
        return [self.stage.label(number) for number in range(len(self.terms))] + ["loss"]

    def begin(self, iteration: int) -> float:
        """Set rates, and gradients to 0. Returns the schedule's factor times the highest rate."""
        factor = self.stage.schedule.at(iteration, self.stage.iterations)
        for group in self.optimiser.param_groups:
            group["lr"] = factor * group["rate"]
        for parameter in self._parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.zero_()
        return factor * max(self.stage.rates.values())

    def learn(self, inputs: Inputs, iteration: int) -> tuple[Outputs, torch.Tensor]:
        """Add these samples' share of the batch's gradients.

        Returns what the network gave, and its share of the mean of each of `labels`.
        """
        share = len(inputs.lr) / self.stage.batch
        with torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        ):
            outputs = self.forward(self.network, inputs)
        maps = {name: values.float() for name, values in outputs.maps.items()}
        outputs = Outputs(outputs.sr.float(), maps)
        values = torch.zeros(len(self.terms) + 1, device=self.device)
        total = torch.zeros((), device=self.device)
        for number, (term, loss) in enumerate(self.terms):
            if iteration >= term.begin:
                value = loss(outputs, inputs)
                total = total + term.weight * value
                values[number] = value.detach()
        values[-1] = total.detach()
        torch.autograd.backward(self.scaler.scale(total * share))
        for number, (adversary, _) in self.adversaries.items():
            if iteration >= self.terms[number][0].begin:
                torch.autograd.backward(adversary.discriminate(outputs, inputs) * share)
        return outputs, values * share

    def gradients(self) -> list[torch.Tensor]:
        """Of all that is trained."""
        return [parameter.grad for parameter in self._parameters() if parameter.grad is not None]

    def clip(self) -> tuple[float, bool]:
        """The norm of the network's gradients before they are clipped, and whether all is finite.

        With fp16 infinite gradients are common and their step is left out, until the scale is used
        up.
        """
        self.scaler.unscale_(self.optimiser)
        most = self.stage.clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(_of(self.optimiser), most))
        other = [
            float(torch.nn.utils.get_total_norm([p.grad for p in _of(o) if p.grad is not None]))
            for _, o in self.adversaries.values()
        ]
        scaled = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        return norm, all(map(math.isfinite, other)) and (math.isfinite(norm) or scaled)

    def update(self, iteration: int) -> None:
        """One step of the optimisers."""
        self.scaler.step(self.optimiser)
        self.scaler.update()
        for number, (_, optimiser) in self.adversaries.items():
            if iteration >= self.terms[number][0].begin:
                optimiser.step()

    def diverged(self, loss: float, iteration: int) -> bool:
        """Whether the loss has lately been far above what it was early in the stage."""
        lately = iteration + 1
        for term, _ in self.terms:
            if iteration >= term.begin:
                lately = min(lately, iteration - term.begin + 1)
        self.mean = loss if lately == 1 else 0.98 * self.mean + 0.02 * loss
        if lately == _SETTLED:
            self.settled = self.mean
        return lately > _SETTLED and self.mean > _DIVERGED * self.settled

    def fitting(self, inputs: Inputs, iteration: int) -> int:
        """How many of these samples, which did not fit the memory, do; found by halving."""
        count = len(inputs.lr) // 2
        while count:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                self.learn(part(inputs, count), iteration)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            else:
                return count
            count //= 2
        return 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "adversaries": {
                str(number): {"weights": loss.state_dict(), "optimiser": optimiser.state_dict()}
                for number, (loss, optimiser) in self.adversaries.items()
            },
            "loss": [self.mean, self.settled],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises UsageError for the state of another stage."""
        try:
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
            for number, (loss, optimiser) in self.adversaries.items():
                loss.load_state_dict(state["adversaries"][str(number)]["weights"])
                optimiser.load_state_dict(state["adversaries"][str(number)]["optimiser"])
            self.mean, self.settled = state["loss"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"the stage {self.stage.name} has other parts or losses than when this training "
                "was stopped: train in another folder"
            ) from error

    def _parameters(self) -> list[nn.Parameter]:
        optimisers = [self.optimiser, *(optimiser for _, optimiser in self.adversaries.values())]
        return [parameter for optimiser in optimisers for parameter in _of(optimiser)]


def out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that memory, of a GPU or the machine, is used up."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return bool(re.search(r"out of memory|can't allocate memory|not enough memory", str(error)))


def _of(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _parameter_groups(
    network: nn.Module, rates: Mapping[str, float], fixed: set[str]
) -> list[dict[str, Any]]:
    """One for each part that is trained; of two names the one that tells more counts.

    Sets which parameters take gradients. Raises UsageError for a part that is none.
    """
    named: dict[str, list[tuple[str, nn.Parameter]]] = {part: [] for part in rates}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(False)
        parts = [part for part in rates if f"{name}.".startswith(f"{part}.")]
        if part := max(parts, key=len, default=ALL if ALL in rates else ""):
            named[part].append((name, parameter))
    groups = []
    for part, rate in rates.items():
        free = [parameter for name, parameter in named[part] if name not in fixed]
        chosen = free or [parameter for _, parameter in named[part] if part != ALL]
        if not chosen:
            raise UsageError(f"the network has no part {part!r} that could be trained")
        for parameter in chosen:
            parameter.requires_grad_(True)
        groups.append({"params": chosen, "lr": rate, "rate": rate})
    return groups
