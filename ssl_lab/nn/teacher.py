"""A slower copy of the networks that learn."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """The exponential moving average of some networks' parameters, run one after the other, without gradient.

    Buffers are the teacher's own: its batch norm sees its own batches. Tarvainen and Valpola 2017 (arXiv 1703.01780);
    MoCo's momentum encoder (arXiv 1911.05722, eq. 2).
    """

    def __init__(self, *students: nn.Module):
        super().__init__()
        self.networks = nn.Sequential(*(deepcopy(student) for student in students)).requires_grad_(False)

    @torch.no_grad()
    def forward(self, inputs: Any) -> Tensor:
        return self.networks(inputs)  # type: ignore[no-any-return]  # nn.Sequential returns Any

    @torch.no_grad()
    def move(self, students: Iterable[nn.Module], momentum: float) -> None:
        """teacher <- momentum x teacher + (1 - momentum) x student, parameter by parameter."""
        mine: list[Tensor] = list(self.networks.parameters())
        theirs: list[Tensor] = [parameter for student in students for parameter in student.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - momentum)

    @torch.no_grad()
    def copy(self, students: Iterable[nn.Module]) -> None:
        """Begin again as the students stand, buffers included."""
        for network, student in zip(self.networks, students, strict=True):
            network.load_state_dict(student.state_dict())
