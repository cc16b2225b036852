"""How a method is optimised: parameter groups, learning rate and its schedule."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class OptimRecipe:
    """An optimiser over parameter groups, with a schedule per step: warm-up, then a cosine or drops.

    optimizer: a partial of an optimiser class, waiting for its groups and rate.
    lr: base rate. lr_scaling: factor on it, of the global batch: "none", "linear" (batch / 256), "sqrt".
    weight_decay: of weights. exempt: whether biases and norm parameters are spared it, and LARS' adaptation; false
    decays all alike, as the released code of MoCo, RotNet, lightly. exempt_lr: base rate of those that are spared,
    where it is another than `lr`.
    warmup_epochs: linear, from the first step. final_lr: fraction of the rate that the cosine ends on.
    drops: instead of a cosine, the shares of the training after which the rate is multiplied by `drop`: [0.6, 0.8].
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        lr: float,
        weight_decay: float = 0.0,
        lr_scaling: Literal["none", "linear", "sqrt"] = "none",
        warmup_epochs: float = 0.0,
        final_lr: float = 0.0,
        exempt_lr: float | None = None,
        drops: Sequence[float] = (),
        drop: float = 0.1,
        exempt: bool = True,
    ):
        self.optimizer = optimizer
        self.lr, self.weight_decay, self.lr_scaling = lr, weight_decay, lr_scaling
        self.warmup_epochs, self.final_lr, self.exempt_lr = warmup_epochs, final_lr, exempt_lr
        self.drops, self.drop, self.exempt = tuple(drops), drop, exempt
        if exempt_lr is not None and not exempt:
            raise ValueError(
                f"method.optim.exempt_lr={exempt_lr}: the rate of what is exempt, and method.optim.exempt=false spares "
                "nothing; leave one of them out"
            )
        if not all(0 < share < 1 for share in self.drops):
            raise ValueError(f"method.optim.drops={list(drops)}: shares of the training, each between 0 and 1")

    def effective_lr(self, batch_size: int) -> float:
        """The rate at the top of the schedule for a global batch of `batch_size`."""
        return self.lr * self._scale(batch_size)

    def _scale(self, batch_size: int) -> float:
        return {"none": 1.0, "linear": batch_size / 256, "sqrt": math.sqrt(batch_size / 256)}[self.lr_scaling]

    def build(
        self, module: nn.Module, batch_size: int, total_steps: int, steps_per_epoch: int
    ) -> tuple[Optimizer, LambdaLR]:
        """The optimiser of `module`'s trainable parameters and its schedule over `total_steps` updates."""
        groups = parameter_groups(module.named_parameters(), self.weight_decay, self.exempt)
        if self.exempt and "always_adapt" in getattr(self.optimizer, "keywords", {}):
            groups[1]["always_adapt"] = False  # timm's LARS: adapts every group that says so
        if self.exempt_lr is not None:
            groups[1]["lr"] = self.exempt_lr * self._scale(batch_size)
        optimizer = self.optimizer([g for g in groups if g["params"]], lr=self.effective_lr(batch_size))
        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        schedule = LambdaLR(optimizer, lambda step: self.factor(step, total_steps, warmup_steps))
        return optimizer, schedule

    def factor(self, step: int, total_steps: int, warmup_steps: int) -> float:
        """Factor on the rate at update `step`: rises linearly over the warm-up, then half a cosine, or drops."""
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if self.drops:
            return float(self.drop ** sum(step >= share * total_steps for share in self.drops))
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, exempt: bool = True
) -> list[dict[str, Any]]:
    """Weights, which decay; then biases and norm parameters (one axis or none), which do not where they are exempt."""
    trainable = [p for _, p in named if p.requires_grad]
    weights = [p for p in trainable if p.ndim > 1]
    others = [p for p in trainable if p.ndim <= 1]
    of_others = 0.0 if exempt else weight_decay
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": of_others}]
