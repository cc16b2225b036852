"""From a configuration node to the object it describes."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from ssl_lab.say import near
from ssl_lab.signatures import PACKAGE


def build(node: Mapping[str, Any], **given: Any) -> Any:
    """Call a node's `_target_` with its keywords and with `given`, which Hydra leaves untouched.

    An error of a part inside comes out as that part raised it.
    """
    try:
        target = instantiate(node, _convert_="all", _partial_=True)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            raise type(error.__cause__)(f"{error.__cause__} (while building {node['_target_']})") from error
        raise
    return target if node.get("_partial_") and not given else target(**given)


def check_keywords(config: Mapping[str, Any]) -> None:
    """Refuse what the parts of other packages in a configuration do not take; a partial would say so much later.

    Imports those packages; our own parts are checked without (`config.py`). Raises ValueError with all problems.
    """
    problems = [problem for key, node in config.items() for problem in _keyword_problems(node, key)]
    if problems:
        raise ValueError("\n".join(problems))


def _keyword_problems(node: Any, key: str) -> Iterator[str]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        yield from _keyword_problems(value, f"{key}.{name}" if isinstance(node, Mapping) else f"{key}[{name}]")
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    if not target or target.startswith(f"{PACKAGE.name}."):
        return
    try:
        parameters = inspect.signature(get_object(target)).parameters
    except (ImportError, AttributeError, ValueError) as error:
        yield f"{key}._target_={target}: cannot be imported ({error})"
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in node:
        if not name.startswith("_") and name not in parameters:
            yield f"{key}.{name}: {target} takes no such key; {near(name, list(parameters))}"
