"""A GPU that is none: its tensors compute on the processor, say that they are elsewhere, and refuse to meet others.

What a machine without a GPU can still show of code for one: that all it needs is brought there, and where it waits for
an answer. They call themselves `meta`, the one other device that every build of torch lets pass.
"""

import functools
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")
aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
ASKED = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.bincount.default}


class Pretended(Tensor):
    """A tensor of the processor, `inner`, in the clothes of a GPU's."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Pretended":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Watched(TorchDispatchMode):
    """Sees what is made on the GPU, and notes in `waits` the lines that need an answer of it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if waits(func, args, kwargs):
            ours = [line for line in traceback.extract_stack() if "/ssl_lab/" in line.filename]
            self.waits.append(f"{func} at {ours[-1].filename}:{ours[-1].lineno}" if ours else str(func))
        return run(func, args, kwargs)


class Constants(TorchFunctionMode):
    """torch.tensor and its like, which make on `meta` what has no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and there(kwargs.get("device")):
            return Pretended(torch.tensor(*args, **kwargs | {"device": "cpu"}))
        if func is Tensor.new_tensor and isinstance(args[0], Pretended):
            return Pretended(torch.tensor(*args[1:], **{"dtype": args[0].dtype} | kwargs))
        return func(*args, **kwargs)


def there(device: Any) -> bool:
    return device is not None and torch.device(device) == GPU


def waits(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether the processor cannot go on before the GPU has answered."""
    if not any(isinstance(leaf, Pretended) for leaf in tree_leaves(args)):
        return False
    leaves = func in MOVES and not there(kwargs.get("device", GPU if isinstance(args[0], Pretended) else "cpu"))
    chosen = func in INDEXED and any(x.dtype == torch.bool for x in tree_leaves(args[1]) if isinstance(x, Tensor))
    return func in ASKED or leaves or chosen


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """What the operation gives, on the GPU where it was asked for there or had arguments there."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    others = [tuple(x.shape) for x in tensors if not isinstance(x, Pretended) and x.dim()]
    if ours and others and func not in MOVES and not (func in INDEXED and isinstance(args[0], Pretended)):
        raise RuntimeError(f"{func}: of the GPU and of the processor, {others}")
    args, kwargs = tree_map(lambda x: x.inner if isinstance(x, Pretended) else x, (args, kwargs))
    to = kwargs.get("device")
    made = func(*args, **kwargs | ({"device": torch.device("cpu")} if there(to) else {}))
    if not there(to) and (not ours or to is not None):
        return made
    known = {id(tensor.inner): tensor for tensor in ours}  # what was changed in place stays who it is

    def dressed(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return known[id(x)] if id(x) in known else Pretended(x)

    return tree_map(dressed, made)


def send(module: nn.Module) -> None:
    """All parameters and buffers to the GPU, in place."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(Pretended(value.detach()), requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = Pretended(value)


@contextmanager
def pretended_gpu() -> Iterator[list[str]]:
    """Within, `meta` is the GPU; gives the lines that waited for it."""
    autocast = torch.autocast.__init__

    @functools.wraps(autocast)
    def known(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        autocast(self, "cpu" if device_type == GPU.type else device_type, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.autocast, "__init__", known))
        stack.enter_context(patch.object(torch, "inference_mode", torch.no_grad))  # its tensors cannot be dressed
        watched = stack.enter_context(Watched())
        stack.enter_context(Constants())
        yield watched.waits
