"""What tells configurations apart, by dotted keys."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

METHOD = "method._target_"
OWN = ("method.loss.", "method.task.", "method.head.", "method.predictor.")  # nodes that a method comes with
NAMED = 4  # keys of a node that are named; the table below has them all


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that have not one value; what is null counts as absent."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({canonical(config.get(key)) for config in configs}) > 1]


def telling(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """As few of the keys in which they differ as tell them all apart, the first that help."""
    chosen: list[str] = []
    apart = 1
    for key in differing(configs):
        several = len({tuple(canonical(config.get(k)) for k in (*chosen, key)) for config in configs})
        if several > apart:
            chosen, apart = [*chosen, key], several
    return chosen


def beyond(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which configurations differ beyond the axis that they compare.

    That is the method, with what it comes with, where methods differ; else the one key that differs.
    """
    keys = differing(configs)
    if METHOD in keys:
        return [key for key in keys if key != METHOD and not comes_with_method(key, configs)]
    if any(key.startswith("data.") and key != "data.batch_size" for key in keys):
        keys = [key for key in keys if key != "images"]  # other data is other images
    return keys if len(keys) > 1 else []


def comes_with_method(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a key follows from the method: in a node of its own, or a parameter that other methods have not."""
    values: dict[str, set[str]] = {}
    for config in configs:
        values.setdefault(canonical(config[METHOD]), set()).add(canonical(config.get(key)))
    if any(len(own) > 1 for own in values.values()):
        return False
    if key.startswith(OWN):
        return True
    having = {canonical(config[key]) for config in configs if key in config}
    lacked = any(key not in config for config in configs)
    return key.startswith("method.") and key.count(".") == 1 and lacked and len(having) == 1


def by_node(keys: Sequence[str]) -> str:
    """Keys in words, those of a node together."""
    nodes: dict[str, list[str]] = {}
    for key in keys:
        node, _, rest = key.partition(".")
        if node == "method" and "." in rest:
            node = ".".join(key.split(".")[:2])
        nodes.setdefault(node, []).append(key.removeprefix(f"{node}."))
    parts = []
    for node, own in nodes.items():
        more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
        whole = node if own == [node] else f"{node}.{own[0]}" if len(own) == 1 else f"{node}: {', '.join(own[:NAMED])}"
        parts.append(whole + more)
    return "; ".join(parts)


def canonical(value: Any) -> str:
    """A value as text that is the same for equal ones."""
    return json.dumps(value, sort_keys=True, default=str)
