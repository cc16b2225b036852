"""Whether the parts of a method fit each other: loss, task, head, and what the backbone is shown."""

import inspect
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["views", "queue", "targets", "distribution", "values"]

_WORDS: dict[Kind, tuple[str, str]] = {
    "views": ("compares projections of views", "nt_xent"),
    "queue": ("compares queries, keys and a queue", "info_nce"),
    "targets": ("compares answers with classes", "cross_entropy"),
    "distribution": ("compares answers with a distribution at every pixel", "soft_cross_entropy"),
    "values": ("compares answers with values at every pixel", "squared_error"),
}


def check_loss(loss: Callable[..., Tensor], *kinds: Kind, views: int = 2) -> Kind:
    """Refuse a loss of another kind than these, told by the names of what it takes; return its kind.

    One that takes none of `queue`, `targets`, `distribution` and `values` compares views, one name a view.
    views: how many projections the method hands over. Raises ValueError.
    """
    parameters = inspect.signature(loss).parameters
    name = getattr(getattr(loss, "func", loss), "__name__", "it")
    found: Kind = next((word for word in _WORDS if word in parameters), "views")
    if found not in kinds:
        needed = " or ".join(_WORDS[kind][0] for kind in kinds)
        options = " or ".join(f"loss={_WORDS[kind][1]}" for kind in kinds)
        raise ValueError(
            f"method.loss: {name} {_WORDS[found][0]}, and this method needs one that {needed}: set {options}"
        )
    if found != "views":
        return found
    if views < 2:
        raise ValueError(f"method.views.count={views}: there is nothing to compare; set method.views.count=2 or more")
    taken = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if not any_number and len(taken) != views:
        raise ValueError(
            f"method.loss: {name} compares {len(taken)} views, and method.views.count={views}: "
            f"set method.views.count={len(taken)}, or loss=nt_xent, which takes any number"
        )
    return found


def another_task(task: nn.Module, option: str) -> ValueError:
    """The refusal of a task that does not promise what a method needs."""
    return ValueError(
        f"method.task: {type(task).__name__} does not ask what this method answers: set task={option}, or the method "
        "of that task"
    )


def check_sizes(backbone: nn.Module, sizes: Iterable[int]) -> None:
    """Refuse a backbone that images of these sides cannot pass. Raises ValueError."""
    twin = deepcopy(backbone).to("meta")  # shapes alone: no memory, no arithmetic
    for size in dict.fromkeys(sizes):
        try:
            with torch.no_grad():
                twin(torch.empty(2, 3, size, size, device="meta"))
        except NotImplementedError:  # an operation that does not work on shapes alone: the first step will tell
            return
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(
                f"method.backbone: {type(backbone).__name__} cannot take the images of {size} px that this method "
                f"shows it ({str(error).splitlines()[0]}): set data.store_size, or the sizes of method.views or "
                "method.task, to what it takes, or another backbone, such as backbone=resnet18"
            ) from None


def check_head(head: Callable[..., nn.Module], dense: bool) -> None:
    """Refuse a head that answers once an image where every pixel asks, and the other way round. Raises ValueError."""
    answers_pixels = "stage_channels" in inspect.signature(head).parameters
    name = getattr(getattr(head, "func", head), "__name__", "it")
    if answers_pixels != dense:
        found, needed = ("every pixel", "every image") if answers_pixels else ("every image", "every pixel")
        option = "upsampler" if dense else "linear"
        raise ValueError(
            f"method.head: {name} answers once for {found}, and this method asks for {needed}: set head={option}"
        )
