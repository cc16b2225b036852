"""From a configuration node to the object it describes."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


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
