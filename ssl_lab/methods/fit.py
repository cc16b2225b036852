"""Whether a loss asks for what a method hands it."""

import inspect
from collections.abc import Callable
from typing import Literal

from torch import Tensor

Kind = Literal["views", "queue", "targets"]

_WORDS: dict[str, tuple[str, str]] = {
    "views": ("compares projections of views", "nt_xent"),
    "queue": ("compares queries, keys and a queue", "info_nce"),
    "targets": ("compares answers with targets", "cross_entropy"),
}


def check_loss(loss: Callable[..., Tensor], kind: Kind, views: int = 2) -> None:
    """Refuse a loss of another kind, told by the names of what it takes: `targets`, `queue`, or else one name a view.

    views: how many projections the method hands over. Raises ValueError.
    """
    parameters = inspect.signature(loss).parameters
    name = getattr(getattr(loss, "func", loss), "__name__", "it")
    found = next((word for word in ("targets", "queue") if word in parameters), "views")
    if found != kind:
        raise ValueError(
            f"method.loss: {name} {_WORDS[found][0]}, and this method needs one that {_WORDS[kind][0]}: "
            f"set loss={_WORDS[kind][1]}"
        )
    if kind != "views":
        return
    if views < 2:
        raise ValueError(f"method.views.count={views}: there is nothing to compare; set method.views.count=2 or more")
    taken = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if not any_number and len(taken) != views:
        raise ValueError(
            f"method.loss: {name} compares {len(taken)} views, and method.views.count={views}: "
            f"set method.views.count={len(taken)}, or loss=nt_xent, which takes any number"
        )
