"""What to train on: device, precision and memory format, picked where they are left to us."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Hardware(NamedTuple):
    """A choice that stands; `str()` of it is what the user is told."""

    accelerator: str  # cpu, gpu or mps
    devices: int  # of this machine
    precision: str  # Lightning's name
    memory_format: str  # channels_last or contiguous

    def __str__(self) -> str:
        count = f"{self.devices} x " if self.devices > 1 else ""
        return f"{count}{self.accelerator}, {self.precision}, {self.memory_format}"

    @property
    def device(self) -> torch.device:
        """The device of this process when it is the only one."""
        return torch.device({"cpu": "cpu", "gpu": "cuda:0", "mps": "mps"}[self.accelerator])  # Lightning wants a number


def pick(
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: str = "auto",
    memory_format: str = "auto",
    node: str = "trainer.",
) -> Hardware:
    """Settles every "auto": a GPU before the CPU, all GPUs, bfloat16 where it is fast, channels-last but on mps.

    node: where the user has these keys. Raises ValueError for an accelerator that is not there, or not so often.
    """
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, available in there.items() if available)
    if not there[accelerator]:
        found = ", ".join(name for name, available in there.items() if available)
        raise ValueError(f"{node}accelerator={accelerator}: not on this machine; there is {found}")
    if devices == "auto":
        if accelerator == "cpu":
            raise ValueError("trainer.devices=auto counts GPUs, and there is none: set trainer.devices=2, or as many")
        devices = torch.cuda.device_count() if accelerator == "gpu" else 1
    devices = int(devices)
    most = {"gpu": torch.cuda.device_count(), "mps": 1, "cpu": 1024}[accelerator]
    if not 1 <= devices <= most:
        raise ValueError(f"trainer.devices={devices}: from 1 to {most} here with trainer.accelerator={accelerator}")
    if precision == "auto":
        precision = "bf16-mixed" if fast_bfloat16(accelerator) else "32-true"
    if memory_format == "auto":
        memory_format = "contiguous" if accelerator == "mps" else "channels_last"  # docs/performance.md
    return Hardware(accelerator, devices, precision, memory_format)


def fast_bfloat16(accelerator: str) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if accelerator == "gpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return accelerator == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, torch computes on so many threads of the CPU; their number is in the bits of what it computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
